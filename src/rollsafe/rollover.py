"""The steps under the lock: open the live file, tell its interval, give it its backup name.

The rename of the live file is the single commit point. The only other thing kept between processes is a note in
the lock file (device and inode of the live file, start of its interval); it is a hint that is believed only where
it fits the file, so that losing it, or dying before writing it, costs nothing.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from io import FileIO
from math import inf

from rollsafe.locks import GRACE, LEASE, FileLock
from rollsafe.names import EXTENSIONS, ROLLED_EXTENSION
from rollsafe.schedule import Interval

# Seconds that the file of the interval before is kept open for lines that arrive late.
LATE = 5.0

Identity = tuple[int, int]


class LockBusy(Exception):
    """The lock could not be had within the bound: another process is stopped or stuck in a rollover."""


class OpenFile:
    """A log file that this process has open for appending, and what it may still be used for.

    Attributes:
        stream: The unbuffered file.
        write: `stream.write`, one write(2) a call.
        interval: The interval whose lines it holds; None for what is never rolled (a device, a FIFO, a terminal).
        start, due: A record created in [start, due) may be written without another look. Seconds since the epoch.
        look_after: A write that returns later than this is looked after. Seconds of the monotonic clock.
        ends_in_fragment: Our last write into it was cut short.
        forget_at: When a file that is no longer the live file is closed. Seconds of the monotonic clock.
    """

    __slots__ = (
        "due",
        "ends_in_fragment",
        "forget_at",
        "identity",
        "interval",
        "look_after",
        "start",
        "stream",
        "write",
    )

    def __init__(self, stream: FileIO, identity: Identity, interval: Interval | None) -> None:
        self.stream = stream
        self.write: Callable[[bytes], int | None] = stream.write
        self.identity = identity
        self.interval = interval
        self.start = interval.start if interval else -inf
        self.due = -inf
        self.look_after = -inf
        self.forget_at = inf
        self.ends_in_fragment = False

    @property
    def end(self) -> float:
        """The end of its interval, seconds since the epoch; infinity for what is never rolled."""
        return self.interval.end if self.interval else inf

    def holds(self, created: float) -> bool:
        """Whether a record created at `created` belongs in this file."""
        return self.start <= created < self.end

    def blank(self, fragment: bytes) -> bool:
        """Overwrite `fragment`, which our last write has left, by an empty line; False if it was not found there.

        In place, so a line that another process has appended meanwhile is cut off from it too, and no space is
        needed. Our own bytes are the only ones touched: O_APPEND leaves the offset at their end (write(2)); should a
        fork share the offset, what is read there differs and nothing is done.
        """
        end = os.lseek(self.stream.fileno(), 0, os.SEEK_CUR)
        start = end - len(fragment)
        try:
            # A second description: pwrite(2) on one with O_APPEND appends (its "Bugs").
            other = os.open(f"/dev/fd/{self.stream.fileno()}", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            if start < 0 or os.pread(other, len(fragment), start) != fragment:
                return False
            blank = re.sub(rb"[^\n]", b" ", fragment[:-1]) + b"\n"
            return os.pwrite(other, blank, start) == len(blank)
        except OSError:
            return False
        finally:
            os.close(other)

    def lease(self, now: float, until: float) -> None:
        """Allow writing for LEASE seconds from `now`, for records created before `until`."""
        self.due = min(until, now + LEASE)
        self.look_after = time.monotonic() + LEASE + GRACE


def identity_of(status: os.stat_result) -> Identity:
    """What tells two files apart, whatever their names."""
    return status.st_dev, status.st_ino


def never_rolled(path: str, status: os.stat_result) -> bool:
    """Whether `path` is to be written and otherwise left alone: /dev/null, /dev/stdout, a FIFO, a terminal.

    /dev/stdout is a link that may lead to a regular file (a shell's redirection); renaming it would rename the link.
    """
    if not stat.S_ISREG(status.st_mode):
        return True
    return path.startswith(("/dev/", "/proc/")) and os.path.islink(path)


class Rollover:
    """What one handler does under the lock of its live file.

    Args:
        path: The live file.
        interval_at: The interval that holds an instant (seconds since the epoch).
        backup_path: (suffix, sequence) -> full path of that backup.
        rename: How the live file gets its backup name: (source, target).
    """

    def __init__(
        self,
        path: str,
        interval_at: Callable[[float], Interval],
        backup_path: Callable[[str, int], str],
        rename: Callable[[str, str], None] = os.rename,
    ) -> None:
        self.path = path
        directory, name = os.path.split(path)
        self.lock = FileLock(os.path.join(directory, f".{name}.lock"))
        # Only a path such as /dev/stdout is still a link here; others were followed when the handler was made.
        self._no_follow = 0 if os.path.islink(path) else os.O_NOFOLLOW
        self._interval_at = interval_at
        self._backup_path = backup_path
        self._rename = rename

    def open_stream(self) -> FileIO:
        """Open the live file as it is, made if it is missing: unbuffered, O_APPEND, O_CLOEXEC.

        A symbolic link that takes its place later is refused (ELOOP): it leads to a file that is not ours.
        """
        return open(self.path, "ab", buffering=0, opener=self._opener)

    def _opener(self, path: str, flags: int) -> int:
        """open(2) with this file's flags."""
        return os.open(path, flags | self._no_follow, 0o666)

    def open(self, now: float, patience: float, stream: FileIO | None = None) -> OpenFile:
        """Open the live file (or take `stream`, which is open on it) and tell which interval it belongs to.

        Raises:
            OSError: The file cannot be opened.
        """
        stream = stream or self.open_stream()
        status = os.fstat(stream.fileno())
        if never_rolled(self.path, status):
            return OpenFile(stream, identity_of(status), None)
        return OpenFile(stream, identity_of(status), self._interval_of(stream, now, patience))

    def is_live(self, file: OpenFile) -> bool:
        """Whether the path still names `file`; one stat(2)."""
        try:
            return identity_of(os.lstat(self.path)) == file.identity
        except FileNotFoundError:
            return False

    def is_linked(self, file: OpenFile, patience: float) -> bool:
        """Whether `file` still has a name, asked under the lock.

        Under the lock, because an archive is made final under it: a line written before the answer is either seen
        by the archiver or known to be in a file that is gone.
        """
        locked = self.lock.acquire(patience)
        try:
            return os.fstat(file.stream.fileno()).st_nlink > 0
        finally:
            if locked:
                self.lock.release()

    def roll(self, file: OpenFile, now: float, patience: float) -> str | None:
        """Rename the live file to the backup name of the interval of `file`, if the path still names `file`.

        Returns:
            The path of the backup; None when another process was first, or the file was empty and is gone.

        Raises:
            LockBusy: The lock was not free within `patience` seconds.
            OSError: The rename or the lock was refused.
        """
        assert file.interval is not None, "a file without an interval is never rolled"
        if not self.lock.acquire(patience):
            raise LockBusy(f"{self.lock.path}: held by another process for more than {patience} s")
        try:
            try:
                status = os.lstat(self.path)
            except FileNotFoundError:
                return None
            if identity_of(status) != file.identity:
                return None
            if status.st_size == 0 and now > file.end + LATE:
                # Nobody logged in all that interval: an empty backup would only push a full one out of retention.
                os.unlink(self.path)
                with suppress(OSError):
                    self._create_like(status, max(now, file.end))
                return None
            target = self._backup_path(file.interval.suffix, self._free_sequence(file.interval))
            self._rename(self.path, target)
            # The rollover is done. Whoever opens the live file next meets the same error again, and reports it.
            with suppress(OSError):
                self._create_like(status, max(now, file.end))
            return target
        finally:
            self.lock.release()

    def open_piece(self, interval: Interval, patience: float) -> OpenFile:
        """Open a backup of `interval` for lines that come after its rollover: its last one, or else a new one.

        Raises:
            LockBusy: The lock was not free within `patience` seconds.
            OSError: The file cannot be opened.
        """
        if not self.lock.acquire(patience):
            raise LockBusy(f"{self.lock.path}: held by another process for more than {patience} s")
        try:
            free = self._free_sequence(interval)
            last = self._backup_path(interval.suffix, free - 1)
            if free > interval.fold and _is_plain_file(last):
                stream = open(last, "ab", buffering=0)
            else:
                stream = open(self._backup_path(interval.suffix, free), "ab", buffering=0, opener=_open_new)
            return OpenFile(stream, identity_of(os.fstat(stream.fileno())), interval)
        finally:
            self.lock.release()

    def close(self) -> None:
        """Let go of the lock file."""
        self.lock.close()

    def _create_like(self, old: os.stat_result, now: float) -> None:
        """Make the new live file with the mode and owner of the old one, and note whose interval it is."""
        with self.open_stream() as stream:
            new = os.fstat(stream.fileno())
            if stat.S_IMODE(new.st_mode) != stat.S_IMODE(old.st_mode):
                os.fchmod(stream.fileno(), stat.S_IMODE(old.st_mode))
            if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid) and os.geteuid() == 0:
                os.fchown(stream.fileno(), old.st_uid, old.st_gid)
            if new.st_size == 0:
                self._note(new, self._interval_at(now))

    def _interval_of(self, stream: FileIO, now: float, patience: float) -> Interval:
        """The interval that the live file belongs to: the noted one, else that of its last write, else now's."""
        status = os.fstat(stream.fileno())
        noted = self._noted_interval(status)
        if noted is not None:
            return noted
        locked = self._lock_if_allowed(patience)
        try:
            status = os.fstat(stream.fileno())
            interval = self._noted_interval(status)
            if interval is None:
                interval = self._interval_at(min(status.st_mtime, now) if status.st_size else now)
                if locked:
                    self._note(status, interval)
            return interval
        finally:
            if locked:
                self.lock.release()

    def _lock_if_allowed(self, patience: float) -> bool:
        """Take the lock; False where it is busy or refused, which a reader of the note can live with."""
        try:
            return self.lock.acquire(patience)
        except OSError:
            return False

    def _note(self, status: os.stat_result, interval: Interval) -> None:
        """Write into the lock file which interval the live file belongs to."""
        self.lock.write(b"%d %d %d\n" % (status.st_dev, status.st_ino, int(interval.start)))

    def _noted_interval(self, status: os.stat_result) -> Interval | None:
        """The noted interval, if the note is about this file and its last write was then or just after.

        Without the note, a process that starts just after the boundary would take a file of the old interval, to
        which somebody has just written a late line, for one of the new interval.
        """
        try:
            device, inode, start = map(int, self.lock.read().split())
        except (OSError, ValueError):
            return None
        if (device, inode) != identity_of(status):
            return None
        interval = self._interval_at(start)
        # On both sides: the kernel stamps files with a clock that is up to 10 ms behind (CLOCK_REALTIME_COARSE).
        return interval if interval.start - LATE <= status.st_mtime < interval.end + LATE else None

    def _free_sequence(self, interval: Interval) -> int:
        """The first sequence number of `interval` whose name nothing has, archived or not."""
        sequence = interval.fold
        while any(
            os.path.lexists(self._backup_path(interval.suffix, sequence) + extension)
            for extension in (*EXTENSIONS, ROLLED_EXTENSION)
        ):
            sequence += 1
        return sequence


def _is_plain_file(path: str) -> bool:
    """Whether `path` is a regular file and no link."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def _open_new(path: str, flags: int) -> int:
    """An opener that refuses a file that exists."""
    return os.open(path, flags | os.O_EXCL, 0o666)
