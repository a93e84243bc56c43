"""A file that other hosts write, too: it is open for writing only while this process holds the lock.

Under the lock its lines go the ordinary way (see `writer`). These rules make that safe on NFS, each measured with two
clients of a kernel server; see docs/explanation/rollover.md:

- Between lines the file is open for reading only, and it is opened anew under the lock, first by O_EXCL (`live_path`).
- What is appended is stored by the server before the lock is released: O_DSYNC, fsync(2), close(2).
- Lines that wait are written together, because each write(2) is a round trip to the server.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from contextlib import suppress
from io import FileIO

from rollsafe._files.identity import identity_of
from rollsafe._files.places import open_file
from rollsafe._live.bounded_lock import BoundedLock
from rollsafe._live.live_path import LivePath
from rollsafe._live.open_file import OpenFile, write_of
from rollsafe.schedule import Interval


class LiveFileMoved(Exception):
    """The path no longer names the file that the caller has open: another host has rolled over."""


class SharedFile:
    """The live file of several hosts, and its backups, while this process may write to them.

    Args:
        live: The live file.
        lock: The rollover lock.
        is_same: Whether the live file of a status is the file that this process has open.

    Attributes:
        opened: The live file, open for writing; None while the lock is not held.
    """

    def __init__(self, live: LivePath, lock: BoundedLock, is_same: Callable[[OpenFile, os.stat_result], bool]) -> None:
        self.opened: OpenFile | None = None
        self._live = live
        self._lock = lock
        self._is_same = is_same

    def takes(self, file: OpenFile, created: float) -> bool:
        """Whether a record of `created` belongs in `file`, or goes there because that is the live file."""
        return file.holds(created) or (file is self.opened and created >= file.start)

    def run(self, held: OpenFile, action: Callable[[], None], close_late: Callable[[], None]) -> None:
        """Call `action` under the lock, while `opened` is the live file.

        Args:
            held: The live file, as this process has it open between lines.
            action: Writes lines.
            close_late: Closes the file for late lines that `action` may have opened.

        Raises:
            LockBusy: The lock was not free within the bound.
            LiveFileMoved: The path names another file than `held`.
            OSError: The file cannot be opened.
        """

        def open_and_act() -> None:
            # The probe and the open make the client of a network file system ask the server what the name means, and
            # what is in the file; the close makes it send what it has (nfs(5), "Close-to-open cache consistency").
            with self._live.open_to_append() as stream:
                status = os.fstat(stream.fileno())
                # Until its interval is over, a file with the number of our inode is ours, or one of the same interval.
                is_over = time.time() >= held.end
                if not (self._is_same(held, status) if is_over else identity_of(status) == held.identity):
                    raise LiveFileMoved(f"{self._live.path} names another file each time it is opened")
                self.opened = open_shared(stream, status, held.interval)
                try:
                    action()
                finally:
                    self.opened = None
                    close_late()

        self._lock.run(open_and_act, self._lock.refuse)


def open_shared(stream: FileIO, status: os.stat_result, interval: Interval | None) -> OpenFile:
    """The open file of a stream that is open for writing under the lock."""
    file = OpenFile(stream, identity_of(status), interval, write=_writing_on(write_of(stream)), shared=True)
    # A process that is suspended under the lock for so long may have lost it (an NFS server drops the locks of a host
    # that it does not hear of): then the line is checked.
    file.grant_lease(time.time(), time.monotonic(), file.end)
    return file


def _writing_on(write: Callable[[bytes], int | None]) -> Callable[[bytes], int]:
    """Go on after a write that was cut short, because no other process writes under the lock."""

    def write_on(text: bytes) -> int:
        written = write(text) or 0
        # The next attempt to write raises the error of one that was refused here.
        with suppress(OSError):
            while written < len(text) and (more := write(text[written:])):
                written += more
        return written

    return write_on


def stored_in(file: OpenFile, before: float, text: bytes) -> int:
    """How many bytes of `text` the file has from the offset `before` on, as the server says; only under the lock.

    For a write that has failed, or was interrupted. An NFS client reports an error of the server although other bytes
    were stored, and its own idea of the size is wrong then. To open the file again makes it ask.
    """
    with suppress(OSError, ValueError, OverflowError):
        descriptor = open_file(os.fsdecode(file.stream.name), os.O_RDONLY)
        try:
            if identity_of(os.fstat(descriptor)) != file.identity:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            there = os.pread(descriptor, len(text), int(before))
        finally:
            os.close(descriptor)
        return len(os.path.commonprefix([there, text]))  # noqa: RUF071  # of bytes, which are no paths
    return len(text) if file.has_written(text, before) else 0
