"""Writing to a file that other hosts write too: under the lock, and to the server before it is released."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable
from io import FileIO

from rollsafe.bounded_lock import BoundedLock
from rollsafe.events import count_event
from rollsafe.file_limit import FileLimit
from rollsafe.fragments import AppendedFile, ends_in_fragment
from rollsafe.live_path import LivePath
from rollsafe.locks import identity_of
from rollsafe.open_file import OpenFile
from rollsafe.schedule import Interval


class LiveFileMoved(Exception):
    """The path does not name the file any more that the caller has open: another host has rolled."""


class NoPart(Exception):
    """There can be no further backup of an interval."""


class SharedFile:
    """The live file and its backups, as several hosts write them.

    Args:
        live: The live file.
        lock: The rollover lock.
        open_part: Opens the backup of an interval that takes late lines; called under the lock.
        file_limit: Told of a file that can grow no further.

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

    def append(self, file: OpenFile, lines: list[bytes], end: bytes) -> int:
        """Write `lines` into the live file, which is shared: under the lock, and to the server before it is released.

        The file is opened for this alone, because opening and closing is what makes a client of a network file
        system look at the server and send what it has (nfs(5), "Close-to-open cache consistency").
        `end` is what ends each line.

        Returns:
            How many lines are written wholly; fewer than all where a write was cut short.

        Raises:
            LockBusy: The lock was not free within the bound.
            LiveFileMoved: The path names another file than `file`.
            OSError: Nothing could be written.
        """

        def write() -> int:
            with self._live.open_stream() as stream:
                if identity_of(os.fstat(stream.fileno())) != file.identity:
                    raise LiveFileMoved(f"{self._live.path} names another file each time it is opened")
                return self._write_through(stream, lines, end)

        self.appended = 0
        return self._lock.run(write, self._lock.refuse)

    def append_late(self, interval: Interval, lines: list[bytes], end: bytes) -> int:
        """Write `lines` into a backup of `interval`, as `append` does.

        Raises:
            LockBusy: The lock was not free within the bound.
            NoPart: There can be no backup for them.
            OSError: Nothing could be written.
        """

        def write() -> int:
            try:
                stream = self._open_part(interval)
            except Exception as error:  # a namer may raise anything
                raise NoPart(str(error)) from error
            with stream:
                return self._write_through(stream, lines, end)

        self.appended = 0
        return self._lock.run(write, self._lock.refuse)

    def _write_through(self, stream: FileIO, lines: list[bytes], end: bytes) -> int:
        """Write `lines` and see them to the server; returns how many are there.

        Nobody else writes under the lock, so a write that was cut short is continued, and the next one tells why: a
        full disk (ENOSPC), or a file that can grow no further (EFBIG).

        A fragment of a line that a killed writer or a full disk has left is cut off first, if lines of ours end in a
        newline at all.
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
                # Not by what was returned: a signal handler may have raised just then, or now.
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
        """Overwrite the beginning of a line that stands at the end of the file, as the rest of it was refused."""
        whole = start + b"".join(lines[: self.appended])
        fragment = (start + b"".join(lines))[len(whole) : os.fstat(stream.fileno()).st_size - before]
        file = AppendedFile(stream)
        if fragment and file.has(before + len(whole), fragment):
            file.blank(before + len(whole), fragment, end)

    def _count_appended(self, stream: FileIO, before: int, start: bytes, lines: list[bytes]) -> None:
        """Find out how many of `lines` are written wholly: nobody else writes under the lock."""
        written = max(0, os.fstat(stream.fileno()).st_size - before)
        # Where each line ends, as long as it is not behind what is written.
        ends = itertools.accumulate(map(len, lines), initial=len(start))
        self.appended = sum(end <= written for end in ends) - 1 if written >= len(start) else 0
        count_event("bytes", self._live.path, written)
