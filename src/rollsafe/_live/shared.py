"""Writes to a file that other hosts write, too: under the lock, and stored by the server before its release.

The lines that wait are one write(2), unlike those of a local file: each write may be a round trip to the server.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable
from io import FileIO

from rollsafe._files.identity import identity_of
from rollsafe._live.bounded_lock import BoundedLock
from rollsafe._live.events import count_event
from rollsafe._live.file_limit import FileLimit
from rollsafe._live.fragments import AppendedFile, ends_in_fragment
from rollsafe._live.live_path import LivePath
from rollsafe._live.open_file import OpenFile
from rollsafe.schedule import Interval


class LiveFileMoved(Exception):
    """The path no longer names the file that the caller has open: another host has rolled over."""


class NoPart(Exception):
    """No backup of an interval can be opened for late lines."""


class SharedFile:
    """The live file and its backups, as several hosts write them.

    Args:
        live: The live file.
        lock: The rollover lock.
        open_part: Opens the backup of an interval that takes late lines; called under the lock.
        file_limit: Records a file that can grow no further.

    Attributes:
        appended: How many lines the last `append` has written wholly, also if a signal handler has raised in it.
    """

    def __init__(
        self, live: LivePath, lock: BoundedLock, open_part: Callable[[Interval], FileIO], file_limit: FileLimit
    ) -> None:
        self._live = live
        self._lock = lock
        self._open_part = open_part
        self._file_limit = file_limit
        self.appended = 0

    def append(self, file: OpenFile, lines: list[bytes], end: bytes, late: Interval | None = None) -> int:
        """Write `lines` into the live file, or into a backup of the interval `late`, and have the server store them.

        The file is opened and closed under the lock, because that makes a client of a network file system ask the
        server what is in it, and send what it has (nfs(5), "Close-to-open cache consistency").

        Args:
            file: The live file, as the caller has it open.
            lines: Whole lines.
            end: The bytes that end each line.
            late: The interval of late lines; None for lines of the live file.

        Returns:
            How many lines are written wholly; fewer than all where a write was cut short.

        Raises:
            LockBusy: The lock was not free within the bound.
            LiveFileMoved: The path names another file than `file`.
            NoPart: No backup of `late` can be opened.
            OSError: Nothing could be written.
        """

        def write() -> int:
            with self._open_live(file) if late is None else self._open_late(late) as stream:
                return self._write_through(stream, lines, end)

        self.begin()
        return self._lock.run(write, self._lock.refuse)

    def begin(self) -> None:
        """Count the lines of the next `append` anew; for a caller that an exception may reach before it."""
        self.appended = 0

    def _open_live(self, file: OpenFile) -> FileIO:
        """Open the live file, if the path still names `file`."""
        stream = self._live.open_to_append()
        if identity_of(os.fstat(stream.fileno())) == file.identity:
            return stream
        stream.close()
        raise LiveFileMoved(f"{self._live.path} names another file each time it is opened")

    def _open_late(self, interval: Interval) -> FileIO:
        """Open the backup of an interval for late lines."""
        try:
            return self._open_part(interval)
        except Exception as error:  # a namer may raise anything
            raise NoPart(str(error)) from error

    def _write_through(self, stream: FileIO, lines: list[bytes], end: bytes) -> int:
        """Write `lines` and have the server store them; returns how many are there.

        No other process writes under the lock, so a write that was cut short is continued. The next write then raises
        the cause: a full disk (ENOSPC), or a file that can grow no further (EFBIG).

        If the file ends in the fragment of a killed writer or of a full disk, the lines begin on a new line, provided
        that our lines end in a newline at all.
        """
        start = end if end.endswith(b"\n") and ends_in_fragment(stream) else b""
        before = os.fstat(stream.fileno()).st_size
        rest = start + b"".join(lines)
        try:
            try:
                while rest:
                    rest = rest[stream.write(rest) :]
                os.fsync(stream.fileno())
            finally:
                # By the size of the file, not by what write(2) returned: a signal handler may raise after it.
                try:
                    self._count_appended(stream, before, start, lines)
                except BaseException:
                    self._count_appended(stream, before, start, lines)
                    raise
        except OSError as error:
            self._blank_fragment(stream, before, start, lines, end)
            if error.errno == errno.EFBIG and self.appended < len(lines):
                self._file_limit.record(stream, lines[self.appended])
            raise
        count_event("lines", self._live.path, self.appended)
        return self.appended

    def _blank_fragment(self, stream: FileIO, before: int, start: bytes, lines: list[bytes], end: bytes) -> None:
        """Overwrite the beginning of a line at the end of the file, whose rest was refused."""
        whole = start + b"".join(lines[: self.appended])
        fragment = (start + b"".join(lines))[len(whole) : os.fstat(stream.fileno()).st_size - before]
        file = AppendedFile(stream)
        if fragment and file.has(before + len(whole), fragment):
            file.blank(before + len(whole), fragment, end)

    def _count_appended(self, stream: FileIO, before: int, start: bytes, lines: list[bytes]) -> None:
        """Find out how many of `lines` are written wholly. No other process writes under the lock."""
        written = max(0, os.fstat(stream.fileno()).st_size - before)
        # The place where each line ends.
        ends = itertools.accumulate(map(len, lines), initial=len(start))
        self.appended = sum(end <= written for end in ends) - 1 if written >= len(start) else 0
        count_event("bytes", self._live.path, written)
