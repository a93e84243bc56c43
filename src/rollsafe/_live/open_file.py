"""A log file that this process has open, and the states of its lease.

While a lease lasts, lines are written without a look at the path. These are the states, and the methods that lead from
one to another:

    UNLEASED   The path is checked before and after each line.
    LEASED     A record created in [start, lease_expires) may be written. Its write is checked if it took very long.
    EXPIRED    The path is checked before the next line.
    LATE       It is not the live file. A late line may go into it until `forget_at`.
    CLOSED

    (opened) -> UNLEASED                        __init__
    UNLEASED | LEASED | EXPIRED -> LEASED       grant_lease
    LEASED -> EXPIRED                           expire_lease, and the time
    UNLEASED | LEASED | EXPIRED -> UNLEASED     end_lease
    UNLEASED | LEASED | EXPIRED | LATE -> LATE  retire
    any -> CLOSED                               close

Only these methods assign `lease_expires`, `recheck_after` and `forget_at`. A file that other hosts write too is never
LEASED. It is open for reading only, and each of its lines is written under the lock, to the same file opened again (see
`shared`).
"""

from __future__ import annotations

import enum
import errno
import fcntl
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from io import FileIO
from math import inf

from rollsafe._files.identity import Identity, identity_of
from rollsafe._live.fragments import AppendedFile
from rollsafe._live.streams import LogStream
from rollsafe._timing import GRACE_S, LEASE_S
from rollsafe.schedule import Interval

# Marks a live file that is about to be rolled for its size; Linux ignores this bit of a regular file (inode(7)).
FULL = stat.S_ISVTX

# Files whose descriptors other code has closed, so that their numbers may mean other files now. The objects are kept,
# because the garbage collector would close those files.
_abandoned: list[FileIO] = []


class NoRoom(Exception):
    """A line would make the file larger than it may be."""


class State(enum.Enum):
    """The states of an open file, as the tests see them."""

    UNLEASED = enum.auto()
    LEASED = enum.auto()
    EXPIRED = enum.auto()
    LATE = enum.auto()
    CLOSED = enum.auto()


class OpenFile(AppendedFile):
    """A log file that this process has open for appending, with its interval and its lease.

    Attributes:
        append: Writes bytes to `stream`, one write(2) a call.
        write: Writes like `append`, but raises NoRoom for a line that would pass the bound of the file, if it has one.
        tell: As `AppendedFile.tell`; 0 for a file that is never rolled, because a pipe has no offset (ESPIPE).
        interval: The interval of its lines; None for a file that is never rolled (a device, a FIFO, a terminal).
        start, lease_expires: A record created in [start, lease_expires) may be written without a look at the path.
            Seconds since the epoch.
        recheck_after: A write that returns later than this is checked. Seconds of the monotonic clock.
        forget_at: When a file that is no longer the live file is closed. Seconds of the monotonic clock.
        shared: Whether other hosts write it too; then it is never leased, and each line is written under the lock.
        serial: The last number that the ledger of archives had given when the file was opened; 0 if it is not known.
    """

    __slots__ = (
        "_bound",
        "_path",
        "append",
        "forget_at",
        "identity",
        "interval",
        "lease_expires",
        "recheck_after",
        "serial",
        "shared",
        "start",
        "write",
    )

    def __init__(
        self,
        stream: FileIO,
        identity: Identity,
        interval: Interval | None,
        *,
        write: Callable[[bytes], int | None] | None = None,
        shared: bool = False,
        serial: int = 0,
    ) -> None:
        super().__init__(stream)
        self.append = self.write = write or write_of(stream)
        self._bound = inf
        if interval is None:
            self.tell = int
        self.identity = identity
        self.interval = interval
        self.start = interval.start if interval else -inf
        self.lease_expires = -inf
        self.recheck_after = -inf
        self.forget_at = inf
        self.shared = shared
        self.serial = serial

    @property
    def end(self) -> float:
        """The end of its interval, seconds since the epoch; infinity for a file that is never rolled."""
        return self.interval.end if self.interval else inf

    def rename_interval(self, interval: Interval) -> None:
        """Give its interval, which stays the same time, the suffix that the application has set."""
        self.interval = interval

    def holds(self, created: float) -> bool:
        """Whether a record created at `created` belongs in this file."""
        return self.start <= created < self.end

    def bind(self, bound: float, path: str) -> None:
        """Have `write` refuse a line that would make the file larger than `bound` bytes; infinity is no bound.

        With a bound it also refuses each line once the file is marked as full, or once `path` names another file.
        """
        self._path = path
        if bound != self._bound:
            self._bound = bound
            self.write = self.append if bound == inf else self._write_within

    def has_room(self, more: int, bound: float) -> bool:
        """Whether the file stays within `bound` bytes if it grows by `more`; an empty file has room for any line."""
        return has_room(os.fstat(self.stream.fileno()), more, bound)

    def fits(self, more: int) -> bool:
        """Whether the file stays within its own bound, if it has one, when it grows by `more` bytes."""
        return self._bound == inf or self.has_room(more, self._bound)

    def _write_within(self, line: bytes) -> int | None:
        """Append a line that fits."""
        status = os.lstat(self._path)
        if identity_of(status) != self.identity or not has_room(status, len(line), self._bound):
            raise NoRoom
        return self.append(line)

    def mark_full(self) -> None:
        """Mark the file as full by its mode, which each process reads before it writes a line."""
        with suppress(OSError):
            descriptor = self.stream.fileno()
            status = os.fstat(descriptor)
            if identity_of(status) == self.identity:
                os.fchmod(descriptor, stat.S_IMODE(status.st_mode) | FULL)

    def grant_lease(self, now: float, tick: float, until: float) -> None:
        """Allow writing for LEASE_S seconds, for records created before `until`.

        `until` is the end of the interval, or infinity if the rollover was refused or another process is stuck in it.
        `now` and `tick` (monotonic) must be read before the look at the path, as the process may be stopped after it.
        """
        self.lease_expires = -inf if self.shared else min(until, now + LEASE_S)
        self.recheck_after = tick + LEASE_S + GRACE_S

    def expire_lease(self) -> None:
        """Have the path checked before the next line. One assignment only, because a signal handler may raise."""
        self.lease_expires = -inf

    def end_lease(self) -> None:
        """Have the path checked before and after each line."""
        self.lease_expires = self.recheck_after = -inf

    def retire(self, forget_at: float) -> None:
        """Keep it only for late lines, until `forget_at` (seconds of the monotonic clock)."""
        self.lease_expires = -inf
        self.forget_at = forget_at

    def was_leased(self) -> bool:
        """Whether it ever had a lease."""
        return self.recheck_after > -inf

    def state(self, now: float) -> State:
        """The state at `now`, seconds since the epoch."""
        if self.stream.closed:
            return State.CLOSED
        if self.forget_at < inf:
            return State.LATE
        if not self.was_leased():
            return State.UNLEASED
        return State.LEASED if now < self.lease_expires else State.EXPIRED

    def assert_consistent(self) -> None:
        """Raise AssertionError if the attributes fit no state; for the tests."""
        assert not (self.shared and self.lease_expires > -inf), "each line of a shared file takes the lock"
        assert not (self.forget_at < inf and self.lease_expires > -inf), "a file for late lines has no lease"
        assert self.was_leased() or self.lease_expires == -inf, "a lease without a time to check the write"

    def is_open(self) -> bool:
        """Whether our descriptor is still this file's; yes, too, if fstat(2) fails for a reason that proves nothing."""
        try:
            return identity_of(os.fstat(self.stream.fileno())) == self.identity
        except ValueError:
            return False
        except OSError as error:
            return error.errno not in (errno.EBADF, errno.ESTALE)

    def is_taken(self) -> bool:
        """Whether the number of its descriptor means another file by now, and our lines may be in that."""
        if self.shared:
            # No line is written to the descriptor that is held between lines.
            return False
        try:
            descriptor = self.stream.fileno()
            can_be_written = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
            return can_be_written and identity_of(os.fstat(descriptor)) != self.identity
        except (OSError, ValueError):
            return False

    def has_name(self) -> bool:
        """Whether the file is open and still linked."""
        try:
            return self.is_open() and os.fstat(self.stream.fileno()).st_nlink > 0
        except OSError:
            return True

    def close(self) -> None:
        """Close it, unless the number of its descriptor means another file by now."""
        self.expire_lease()
        self.blank_left()
        if self.stream.closed or self.is_open():
            # Each write was checked, so only on a network file system can close(2) report anything new.
            with suppress(OSError):
                self.stream.close()
        else:
            _abandoned.append(self.stream)


def write_of(stream: FileIO) -> Callable[[bytes], int | None]:
    """The function that writes bytes to a stream by one write(2), without Python code in between."""
    return stream.write_bytes if isinstance(stream, LogStream) else stream.write


def has_room(status: os.stat_result, more: int, bound: float) -> bool:
    """Whether a file stays within `bound` bytes if it grows by `more` bytes, and is not marked as full."""
    return status.st_size == 0 or (status.st_size + more <= bound and not status.st_mode & FULL)


def mode_of(status: os.stat_result) -> int:
    """The permissions of a file, without the mark of a full one."""
    # Without setuid and setgid, too: a file whose owner cannot be changed would run as us.
    return status.st_mode & 0o777


# Means that no file is open: it never has a lease, and a write to it fails.
NOWHERE = OpenFile(FileIO(os.devnull, "w"), (-1, -1), None)
NOWHERE.stream.close()
