"""A log file that this process has open, and the states of its lease.

A lease permits lines without a look at the path. Each state, and each method that leads to another:

    UNLEASED   No line may be written without a look before it and one after it.
    LEASED     A record created in [start, lease_expires) may be written. Its write is checked if it took very long.
    EXPIRED    The next line looks at the path before it is written.
    LATE       It is not the live file. A late line may go into it until `forget_at`.
    CLOSED

    (opened) -> UNLEASED                        __init__
    UNLEASED | LEASED | EXPIRED -> LEASED       grant_lease
    LEASED -> EXPIRED                           expire_lease, and the time
    UNLEASED | LEASED | EXPIRED -> UNLEASED     end_lease
    UNLEASED | LEASED | EXPIRED | LATE -> LATE  retire
    any -> CLOSED                               close

Only these methods assign `lease_expires`, `recheck_after` and `forget_at`. A file that other hosts write too is never
LEASED: each of its lines is written under the lock.
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

from rollsafe.fragments import AppendedFile
from rollsafe.locks import Identity, identity_of
from rollsafe.schedule import Interval
from rollsafe.streams import LogStream
from rollsafe.timing import GRACE_S, LEASE_S

# Marks a live file that is about to be rolled for its size; Linux ignores this bit of a regular file (inode(7)).
FULL = stat.S_ISVTX

# Files whose descriptor was closed under us, and may be another file's now: kept, so that nothing closes it.
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
    """A log file that this process has open for appending, and what it may still be used for.

    Attributes:
        append: Writes bytes to `stream`, one write(2) a call.
        write: The same, but NoRoom is raised for a line that would pass the bound of the file, if it has one.
        tell: As `AppendedFile.tell`; 0 for what is never rolled, because a pipe has no offset (ESPIPE).
        interval: The interval whose lines it holds; None for what is never rolled (a device, a FIFO, a terminal).
        start, lease_expires: A record created in [start, lease_expires) may be written without another look. Seconds
            since the epoch.
        recheck_after: A write that returns later than this is checked. Seconds of the monotonic clock.
        forget_at: When a file that is no longer the live file is closed. Seconds of the monotonic clock.
        shared: Other hosts write it too: never leased, each line is written under the lock.
        serial: The last number that the ledger of archives had given when it was opened; 0 if that is not known.
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
        """The end of its interval, seconds since the epoch; infinity for what is never rolled."""
        return self.interval.end if self.interval else inf

    def holds(self, created: float) -> bool:
        """Whether a record created at `created` belongs in this file."""
        return self.start <= created < self.end

    def bind(self, bound: float, path: str) -> None:
        """Have `write` refuse what would make the file larger than `bound` bytes; infinity for no bound.

        And what would go into a file that is marked as full, or that `path` does not name any more.
        """
        self._path = path
        if bound != self._bound:
            self._bound = bound
            self.write = self.append if bound == inf else self._write_within

    def has_room(self, more: int, bound: float) -> bool:
        """Whether so many bytes more would keep it within `bound` bytes; an empty file has room for any line."""
        return has_room(os.fstat(self.stream.fileno()), more, bound)

    def fits(self, more: int) -> bool:
        """Whether so many bytes more would keep it within its own bound, which may have been lifted."""
        return self._bound == inf or self.has_room(more, self._bound)

    def _write_within(self, line: bytes) -> int | None:
        """Append a line that fits."""
        status = os.lstat(self._path)
        if identity_of(status) != self.identity or not has_room(status, len(line), self._bound):
            raise NoRoom
        return self.append(line)

    def mark_full(self) -> None:
        """Have no process begin another line in this file: each looks at the mode before it writes."""
        with suppress(OSError):
            descriptor = self.stream.fileno()
            status = os.fstat(descriptor)
            if identity_of(status) == self.identity:
                os.fchmod(descriptor, stat.S_IMODE(status.st_mode) | FULL)

    def grant_lease(self, now: float, tick: float, until: float) -> None:
        """Allow writing for LEASE_S seconds, for records created before `until`.

        That is the end of the interval, or infinity where the rollover was refused or another process is stuck in it.
        `now` and `tick` (monotonic) are from before the look at the path: the process may be stopped after it.
        """
        self.lease_expires = -inf if self.shared else min(until, now + LEASE_S)
        self.recheck_after = tick + LEASE_S + GRACE_S

    def expire_lease(self) -> None:
        """Have the next line look at the path before it is written. One assignment: a signal handler may raise."""
        self.lease_expires = -inf

    def end_lease(self) -> None:
        """Allow no line without a look before it and one after it."""
        self.lease_expires = self.recheck_after = -inf

    def retire(self, forget_at: float) -> None:
        """Keep it for late lines alone, until `forget_at` (seconds of the monotonic clock)."""
        self.lease_expires = -inf
        self.forget_at = forget_at

    def was_leased(self) -> bool:
        """Whether lines were ever allowed in it."""
        return self.recheck_after > -inf

    def state(self, now: float) -> State:
        """Its state at `now`, seconds since the epoch."""
        if self.stream.closed:
            return State.CLOSED
        if self.forget_at < inf:
            return State.LATE
        if not self.was_leased():
            return State.UNLEASED
        return State.LEASED if now < self.lease_expires else State.EXPIRED

    def assert_consistent(self) -> None:
        """Raise AssertionError if what is assigned belongs to no state; for the tests."""
        assert not (self.shared and self.lease_expires > -inf), "each line of a shared file takes the lock"
        assert not (self.forget_at < inf and self.lease_expires > -inf), "a file for late lines has no lease"
        assert self.was_leased() or self.lease_expires == -inf, "a lease without a time to check the write"

    def is_open(self) -> bool:
        """Whether our descriptor is still this file's, as far as fstat(2) can tell; its failing proves nothing."""
        try:
            return identity_of(os.fstat(self.stream.fileno())) == self.identity
        except ValueError:
            return False
        except OSError as error:
            return error.errno not in (errno.EBADF, errno.ESTALE)

    def is_taken(self) -> bool:
        """Whether the number of its descriptor means another file by now, which can be written."""
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
            # Each write was checked; what close(2) reports is only news on network file systems.
            with suppress(OSError):
                self.stream.close()
        else:
            _abandoned.append(self.stream)


def write_of(stream: FileIO) -> Callable[[bytes], int | None]:
    """What writes bytes to a stream, one write(2) a call, with no step of Python in between."""
    return stream.write_bytes if isinstance(stream, LogStream) else stream.write


def has_room(status: os.stat_result, more: int, bound: float) -> bool:
    """Whether so many bytes more would keep a file within `bound` bytes, and it is not about to be rolled."""
    return status.st_size == 0 or (status.st_size + more <= bound and not status.st_mode & FULL)


def mode_of(status: os.stat_result) -> int:
    """The permissions of a file, without the mark of a full one."""
    # Nor any other of the bits beyond: a file whose owner cannot be changed would be run as us.
    return status.st_mode & 0o777


# Stands for "no file is open": it never has a lease, and a write to it fails.
NOWHERE = OpenFile(FileIO(os.devnull, "w"), (-1, -1), None)
NOWHERE.stream.close()
