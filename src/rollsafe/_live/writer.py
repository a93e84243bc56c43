"""The slow path of a line: all that one write(2) under a lease cannot do.

A line takes it at a boundary, after the end of a lease, if its write was cut short or took too long, and if it may
stand behind a fragment. It waits in `PendingLines` until it is known to be whole in the file of its interval.

    `take`           finds out what became of a line that was written, or queues it
    `write_pending`  renews the lease (`Renewal`), then writes all lines that wait by `_place_first`: each by itself; to
                     a file that other hosts write too, under the lock and several together
"""

from __future__ import annotations

import bisect
import errno
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any, Protocol

from rollsafe._backups.naming import BackupNaming
from rollsafe._lines.encoder import LineEncoder, own_record, without_arguments
from rollsafe._live.bounded_lock import LOCK_WAIT_S, LockBusy
from rollsafe._live.events import count_event
from rollsafe._live.live_file import LiveFile
from rollsafe._live.open_file import NOWHERE, NoRoom, OpenFile
from rollsafe._live.pending import PendingLines, joined
from rollsafe._live.renewal import Renewal
from rollsafe._live.shared import LiveFileMoved, stored_in
from rollsafe._reports import Reports

# Seconds between attempts to write while writing fails.
RETRY_S = 0.25
# Bytes of memory for the lines that wait meanwhile.
PENDING_BYTES = 1 << 20
# For how long a process with many lines writes to a file of several hosts before it gives way to the others, several of
# which may wait for the lock, for LOCK_WAIT_S.
TURN_S = 0.05
# How often one line follows a shared live file that other hosts roll before it waits.
_MOVES = 3
# How often one line is written again because it stands behind a fragment, before it begins with a newline.
_GLUED = 3

# A line of a block.
_LINE = re.compile(rb"[^\n]*\n")

_monotonic = time.monotonic


class Writing(Protocol):
    """The handler, as the slow path sees it."""

    stream: Any
    maxBytes: int
    _file: OpenFile

    @property
    def baseFilename(self) -> str:
        """The path of the live file."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Report the exception that is being handled."""


class Writer:
    """The slow path of one handler. The handler's lock is held by the thread that calls it.

    Args:
        handler: The handler whose lines are written.
        encoder: Makes the handler's own lines.
        naming: Knows the intervals.
        live: The live file.
        renewal: Renews its lease.
        reports: Reports refused steps.

    Attributes:
        pending: The lines that wait.
        takes_blocks: Whether each line of the text that it is given stands for itself (`rollsafe write`). Otherwise the
            text is one line, whose newlines belong to it, and it is written wholly or not at all.
    """

    def __init__(
        self,
        handler: Writing,
        encoder: LineEncoder,
        naming: BackupNaming,
        live: LiveFile,
        renewal: Renewal,
        reports: Reports,
    ) -> None:
        self.pending = PendingLines(PENDING_BYTES)
        self.takes_blocks = False
        self._handler = handler
        self._encoder = encoder
        self._naming = naming
        self._live = live
        self._renewal = renewal
        self._reports = reports
        self._pid = os.getpid()
        # Process and thread that are at work here. A signal handler of that thread may log, and come here again.
        self._owner: tuple[int, int] | None = None

    def take(self, record: logging.LogRecord, line: bytes, file: OpenFile, written: int | None) -> None:
        """Find out what became of a line that was written, or queue one that was not; then write all queued lines.

        Args:
            record: The record of the line.
            line: The whole line, with its end.
            file: The file that it was to be written into.
            written: The bytes that were written, None if the write was refused or not tried.
        """
        if sys.is_finalizing():
            if written != len(line):
                self.pending.add(line, record.created)
            self.write_pending(record)
            return
        self.check_pid()
        me = (os.getpid(), threading.get_ident())
        # A signal handler that logs inside the slow path only queues its line. The interrupted call writes it.
        is_nested = self._owner == me
        self._owner = me
        waits = False
        try:
            rest = line if written is None else self._unwritten(file, line, written)
            if len(rest) < len(line) and not (
                self._live.keeps(file) and (rest or not self._blank_if_glued(file, line))
            ):
                rest = line
            if rest:
                waits = self._queue(rest, record.created)
        except BaseException as error:
            # The application's namer has raised, or a signal handler, perhaps before the line was queued.
            if not self.pending.holds(line) and not (written is not None and file.has_written(line)):
                waits = self._queue(line, record.created)
            if not isinstance(error, Exception):
                self._handler._file.expire_lease()
                raise
            self._handler.handleError(without_arguments(record))
        finally:
            if not is_nested:
                self._owner = None
        if not is_nested:
            self.write_pending(record)
        if waits and self.pending.failing:
            count_event("spilled", self._handler.baseFilename)

    def leave(self, record: logging.LogRecord) -> None:
        """Queue a line of an event loop, which cannot wait for the greenlet that has the handler's lock.

        That greenlet writes it if it is at work here, and else the next line does.
        """
        line = self._encoder.encode_again(record)
        if line is not None:
            self._queue(line, record.created)

    def _queue(self, line: bytes, created: float) -> bool:
        """Have a line wait to be written; False if it does not fit."""
        fits = True
        # From here on, a line of a block is a line like any other.
        for each in _LINE.findall(line) if self.takes_blocks else [line]:
            if not self.pending.add(each, created):
                count_event("dropped", self._handler.baseFilename)
                fits = False
        return fits

    def write_pending(self, record: logging.LogRecord, *, now: bool = False) -> None:
        """Renew the lease and write the lines that wait; RETRY_S seconds after a failure at the earliest, or `now`."""
        if sys.is_finalizing():
            self._write_at_the_end(record)
            return
        moves = 0
        refused: object = None
        interruption: Exception | None = None
        while self.pending.waits and (now or not self.pending.failing or _monotonic() >= self.pending.retry_at):
            self._owner = (os.getpid(), threading.get_ident())
            try:
                self._renewal.renew(record, self.pending)
                self._queue_reports()
                self._live.run(self._write_all)
            except Exception as error:
                # If other code has closed the file (uWSGI's spooler was seen to do it), open the path again at once.
                file = self._handler._file
                moved = isinstance(error, LiveFileMoved) or (file is not NOWHERE and not file.is_open())
                # An exception of a signal handler is no failure of the write either.
                if not isinstance(error, OSError | LiveFileMoved | LockBusy | NoRoom):
                    interruption = error
                if isinstance(error, OSError) and error.errno == errno.EFBIG:
                    # Go on as long as another file is full, or another line waits.
                    before = refused
                    refused = self._live.rollover.file_limit.reached, tuple(self.pending.lines)[:1]
                    if refused != before:
                        continue
                moves += 1
                if moves > _MOVES or not (moved or interruption is error):
                    self._fail(record)
                    return
                if moved:
                    self._live.retire()
            except BaseException:
                # The next line writes those that wait.
                self._handler._file.expire_lease()
                raise
            finally:
                # A signal handler may have queued a line until here: hence the loop.
                self._owner = None
        if interruption is not None:
            path = self._handler.baseFilename
            self._reports.report(f"an exception interrupted the writing of lines to {path}", interruption)

    def flush(self) -> None:
        """Try to write the lines that wait."""
        self.check_pid()
        if self._owner is None:
            self._flush_stream()
            self._queue_reports()
            self.write_pending(own_record("rollsafe could not write the lines that wait"), now=True)

    def is_interrupted(self) -> bool:
        """Whether this call is a signal handler's, inside the slow path of the same thread."""
        return self._owner == (os.getpid(), threading.get_ident())

    def report_waiting(self) -> None:
        """Report the lines that an exit would lose now."""
        if self.pending.waits and self._handler._file.shared:
            # Each line needs the lock, which is mostly busy because other processes write: wait for it once more.
            self._live.rollover.lock.lock_timeout = LOCK_WAIT_S
            self.flush()
        if self.pending.waits:
            waiting = f"{len(self.pending.lines)} lines for {self._handler.baseFilename} still wait in memory"
            dropped = f"; {self.pending.dropped} more were dropped before" if self.pending.dropped else ""
            self._reports.report(f"{waiting}, and are lost if the process ends now{dropped}", None)

    def look(self, *, rolls: bool) -> bool:
        """Close files that were rolled; whether the live file is over, after it was rolled if `rolls`.

        Called by the thread of the maintenance, with the handler's lock.
        """
        if self._owner is not None:
            return False
        self.check_pid()
        self._live.close_rolled_files()
        self._live.rollover.note_settings(self._handler._file)
        return self._renewal.roll_if_over() if rolls else self._renewal.is_over()

    def check_pid(self) -> None:
        """After a fork: the parent writes the lines that waited in it."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._owner = None
            self.pending = PendingLines(PENDING_BYTES)
            self._reports.drop_unseen()
            self._live.after_fork()
            self._renewal.rolling_at = None

    def _flush_stream(self) -> None:
        """Write the text that waits in `stream` for the end of its line, or in a text file that was assigned to it."""
        stream = self._handler.stream
        if stream is None or stream.closed:
            return
        try:
            stream.flush()
        except Exception as error:
            if stream.closed:
                # A signal handler that closes the handler (gunicorn's USR1) came in between, and has flushed it.
                return
            path = self._handler.baseFilename
            self._reports.report(f"text that was written to the stream of {path} is lost", error)

    def _write_at_the_end(self, record: logging.LogRecord) -> None:
        """Append the lines that wait to the live file, whatever their interval, while the interpreter ends.

        A line that is logged in `__del__` then cannot take the slow path: modules cannot be imported, time zones are
        destroyed (SIGSEGV was seen), and a daemon thread may be stopped for good while it holds a lock in memory.
        """
        try:
            while self.pending.lines:
                entry = self.pending.lines[0]
                self._live.rollover.append_at_the_end(entry[0])
                self.pending.remove(entry)
        except Exception:
            self._handler.handleError(without_arguments(record))

    def _queue_reports(self) -> None:
        """Queue the reports that no one could see as lines of the log."""
        while (report := self._reports.take_unseen()) is not None:
            self.pending.add(self._encoder.own_line(report), time.time())

    def _write_all(self) -> None:
        """Write the lines that wait, oldest first; after an error, or a while with the lock, the rest waits on."""
        pending = self.pending
        is_first = True
        give_way_at = _monotonic() + TURN_S
        while pending.lines:
            file = self._handler._file
            if not is_first and not (
                file.fits(len(pending.lines[0][0])) and (not file.shared or _monotonic() < give_way_at)
            ):
                # The rest after one more rollover, or after the other processes that wait for the lock.
                return
            is_first = False
            self._place_first()
        if pending.dropped:
            dropped = pending.dropped
            line = self._encoder.own_line(f"{dropped} lines were dropped because the log could not be written")
            pending.put_count(line, time.time(), dropped)
            self._place_first()
        pending.record_success()

    def _place_first(self) -> None:
        """Write the line that waits first into the file of its interval; it waits on unless it is there.

        Into a file of several hosts as many lines as belong to it, by one write(2).

        Raises:
            OSError: They could not be written, or not wholly.
            LiveFileMoved: Another host has rolled the file that is open.
        """
        pending = self.pending
        file = self._live.file_of(pending.lines[0][1])
        # The lock and the round trip of each write(2) cost more than a line.
        takes = self._live.rollover.shared_file.takes
        entries = pending.run_for(lambda created: takes(file, created)) if file.shared else [pending.lines[0]]
        end = self._encoder.end
        if file.shared and end.endswith(b"\n"):
            file.look_for_fragment()
        text, ends, before = b"", [0], file.end_of_written()
        try:
            # The last attempt begins with a newline of its own, as another program may print without newlines.
            for start in (*[b""] * _GLUED, end):
                file.blank_left()
                # Twice, because only the write after a short one raises the cause: a full disk, or a full file.
                for _ in range(2):
                    begin, before = end if file.ends_in_fragment else start, file.end_of_written()
                    text, ends = joined(begin, entries)
                    # The renewal has made room, if it could: no bound for this line.
                    written = file.append(text) if self._handler.maxBytes else file.write(text)
                    rest = self._unwritten(file, text, written, ends)
                    if not rest or file.interval is None:
                        break
                    entries = self._drop_written(file, entries, ends, len(text) - len(rest))
                if rest:
                    if file.interval is None:
                        pending.remove(entries[0])
                        pending.put_first(rest, entries[0][1])
                    sentence = f"only {written} of {len(text)} bytes were written"
                    raise OSError(errno.ENOSPC, sentence, self._handler.baseFilename)
                if file.shared:
                    # For a system or a file system without O_DSYNC; the NFS client has nothing left to send.
                    os.fsync(file.stream.fileno())
                kept = self._live.keeps(file)
                if not kept or not self._blank_if_glued(file, text[len(begin) :]):
                    break
            if kept:
                self._drop_written(file, entries, ends, len(text))
        except BaseException as error:
            # The line counts as logged, so an exception of a signal handler, before the write(2) or after it, must
            # neither lose it nor have it written twice.
            if file.shared:
                entries = self._drop_written(file, entries, ends, stored_in(file, before, text))
            if isinstance(error, OSError) and error.errno == errno.EFBIG and entries:
                # The next one goes to another file.
                self._live.rollover.file_limit.record(file.stream, entries[0][0])
                self._live.late.discard(file)
                self._drop_if_too_long(error)
            elif not file.shared and file.has_written(text, before):
                pending.remove(entries[0])
            raise
        if not kept:
            self._live.discard(file)

    def _drop_written(
        self, file: OpenFile, entries: list[tuple[bytes, float]], ends: list[int], written: int
    ) -> list[tuple[bytes, float]]:
        """Remove the lines that end within the first `written` bytes; returns the others.

        Args:
            file: The file; if it is one of several hosts, they are counted here.
            entries: The lines that were written together.
            ends: The offset at which each of them begins, and that at which the last one ends.
            written: So many bytes are there.
        """
        count = max(bisect.bisect_right(ends, written) - 1, 0)
        self.pending.remove_all(entries[:count])
        if file.shared and count:
            count_event("lines", self._handler.baseFilename, count)
            count_event("bytes", self._handler.baseFilename, ends[count] - ends[0])
        return entries[count:]

    def _drop_if_too_long(self, error: OSError) -> None:
        """Drop and count the line that waits first if it is longer than any file may be, as it would stop the rest."""
        entry, limit = self.pending.lines[0], self._live.rollover.file_limit.limit
        if 0 < limit < len(entry[0]):
            self.pending.drop_first()
            count_event("dropped", self._handler.baseFilename)
            sentence = f"a line of {len(entry[0])} bytes, with a limit of {limit} for a file,"
            self._reports.report_once(sentence, error)

    def _unwritten(self, file: OpenFile, line: bytes, written: int | None, ends: Sequence[int] = ()) -> bytes:
        """The bytes of `line` that are still to be written: none, or all of them, because a fragment is blanked.

        Of a block, or of several lines with these `ends`, those that were written wholly stay.
        """
        while file.interval is None and written is not None and written < len(line):
            # A pipe or terminal may take a long line in parts (write(2), EINTR); go on with the rest.
            line = line[written:]
            try:
                written = file.write(line)
            except OSError:
                written = None
        if written == len(line):
            file.was_completed()
            return b""
        file.expire_lease()
        whole = 0
        if written and ends:
            whole = max(end for end in (0, *ends[1:]) if end <= written)
        elif written and self.takes_blocks:
            whole = line.rfind(b"\n", 0, written) + 1
        if written and written > whole:
            file.was_cut_short(line[whole:written], self._encoder.end)
        return line[whole:]

    def _blank_if_glued(self, file: OpenFile, line: bytes) -> bool:
        """Blank a line that stands behind a fragment; True if it did, and has to be written again.

        If our own lines do not end in a newline, a fragment cannot be told from a line.
        """
        end = self._encoder.end
        if file.interval is None or file.stream.closed or file.shared or not end.endswith(b"\n"):
            # Where each write takes the lock, `look_for_fragment` has told before it.
            return False
        start = file.glued_at(line)
        if start is None:
            return False
        file.expire_lease()
        file.blank(start, line, end)
        return not file.has(start, line)

    def _fail(self, record: logging.LogRecord) -> None:
        """Keep the lines after a failure, try again later, and report it once."""
        self._handler._file.expire_lease()
        if self.pending.record_failure(_monotonic() + RETRY_S):
            self._handler.handleError(without_arguments(record))
