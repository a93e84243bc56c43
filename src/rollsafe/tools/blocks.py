"""The handler of `rollsafe write`: it takes blocks of whole lines as bytes, and drops nothing."""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from math import inf
from typing import Any

from rollsafe._lines.encoder import own_record
from rollsafe._live.pending import PendingLines
from rollsafe.errors import LogFileError
from rollsafe.handlers import SafeTimedRotatingFileHandler

# Bytes that one write(2) to a FIFO keeps together (pipe(7), PIPE_BUF), as other processes may write to it, too.
_ATOMIC = 4096
# The refusals at the start that may end by themselves. Any other one ends the command before it has read anything.
_PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN}


class BlockHandler(SafeTimedRotatingFileHandler):
    """A handler for the output of another program: blocks of whole lines, which are written as they are.

    Any number of lines may wait for a file that cannot be written; its caller reads no more until they are written.

    Args:
        filename: The live file.
        complain: Takes one sentence about what went wrong.
        options: The options of the handler.

    Raises:
        ConfigurationError, LogFileError: As for the handler.
    """

    def __init__(self, filename: str, complain: Callable[[str], None], **options: Any) -> None:
        self._complain = complain
        super().__init__(filename, **options)
        self._writer.takes_blocks = True
        self._writer.pending = PendingLines(inf)
        self._record = own_record("")

    def write_block(self, block: bytes, created: float) -> None:
        """Write whole lines that were read at `created` (seconds since the epoch), as many as possible by one write(2).

        Those that cannot be written wait; see `waiting`.
        """
        if created >= self.rolloverAt:
            self._renewal.wait_for_quiet()
        self._record.created = created
        with self._own_lock():
            file = self._file
            if not file.start <= created < file.lease_expires and not self.lock_writes:
                # The slow path writes line by line, so it gets one line, and renews the lease for the others.
                first = block.find(b"\n") + 1
                self._append(block[:first], created, self._record)
                block = block[first:]
                if not block:
                    return
            is_special = file.interval is None and not file.stream.closed
            for part in _parts(block, _ATOMIC) if is_special else [block]:
                self._append(part, created, self._record)

    @property
    def waiting(self) -> tuple[int, int]:
        """How many lines, and how many bytes of them, wait to be written."""
        lines = self._writer.pending.lines
        return len(lines), sum(len(line) for line, _ in lines)

    def is_waiting(self) -> bool:
        """Whether a line waits to be written."""
        return bool(self._writer.pending.lines)

    def give_up(self) -> None:
        """Drop the lines that wait."""
        self._writer.pending = PendingLines(inf)

    def look_again(self) -> None:
        """Look at the path before the next line, and open the file that it names then."""
        with self._own_lock():
            self._file.expire_lease()

    def roll_if_over(self) -> float:
        """Roll the live file over if its interval is over and it is not empty, though no line has come.

        Returns:
            When to call this again; seconds since the epoch.
        """
        with self._own_lock():
            now = time.time()
            if now >= self.rolloverAt:
                self._renewal.wait_for_quiet()
                # The next line meets the same error, and reports it.
                with suppress(Exception):
                    self._writer.look(rolls=True)
            if now < self.rolloverAt:
                return self.rolloverAt
            try:
                return self._naming.interval_at(now).end
            except Exception:  # a time zone may have been removed
                return inf

    def handleError(self, record: Any) -> None:
        """Say in one sentence what went wrong."""
        error = sys.exc_info()[1]
        if record.name == self._record.name and record.getMessage():
            sentence = record.getMessage()
            self._complain(sentence if sentence == str(error) else f"{sentence}: {error}")
            return
        path, cause = self.baseFilename, str(error)
        if isinstance(error, OSError) and error.strerror is not None:
            path, cause = error.filename or path, error.strerror
        self._complain(f"{path!r}: {cause}; the program waits until its lines can be written")


def opened(filename: str, complain: Callable[[str], None], options: dict[str, Any]) -> BlockHandler:
    """Make the handler; where its file cannot be opened for a reason that may pass, the first line tries again.

    Raises:
        ConfigurationError, LogFileError: As for the handler.
    """
    try:
        return BlockHandler(filename, complain, **options)
    except LogFileError as error:
        cause = error.__cause__
        if not isinstance(cause, OSError) or cause.errno not in _PASSING:
            raise
    return BlockHandler(filename, complain, **options, delay=True)


def _parts(block: bytes, most: int) -> Iterator[bytes]:
    """Cut whole lines into parts of whole lines, of `most` bytes at the most unless one line is longer."""
    start = 0
    while len(block) - start > most:
        end = block.rfind(b"\n", start, start + most) + 1 or block.index(b"\n", start) + 1
        yield block[start:end]
        start = end
    if start < len(block):
        yield block[start:]
