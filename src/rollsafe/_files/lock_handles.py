"""One handle for each lock file and process: all of its locks go through it.

POSIX record locks belong to the process, are not inherited over fork, and work over NFS. The kernel drops all of them
as soon as the process closes *any* descriptor of the file (fcntl(2), "Record locks"). So a process must never open the
lock file a second time: all `FileLock` instances of one path share one handle here, threads exclude each other by a
guard in memory, and a forked child replaces the inherited handles before it locks anything.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
import time

# Not from `threading`, where gevent replaces it: both threads of the operating system and greenlets take this lock.
from _thread import RLock
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rollsafe._files.identity import Identity, identity_of
from rollsafe._files.lock_files import open_lock_file
from rollsafe._files.places import place_of
from rollsafe._files.record_locks import LOCKS_DESCRIPTION, close_descriptor, set_lock

ROLLOVER_BYTE = 0
MAINTENANCE_BYTE = 1

# The longest content of a lock file: settings with a path of 4096 bytes, each of which JSON writes in up to six, and
# some archives (see `note`). No more is read, however large another user has made the file.
NOTE_BYTES = 1 << 16

# The pause between two attempts of `lock_alone`.
_PAUSE_S = 0.01
# How often other processes may make and remove the lock file while we lock it.
_TRIES = 10
# The errors of a useless descriptor: other code has closed it, or the server of an NFS mount has lost the file.
_USELESS = (errno.EBADF, errno.ESTALE)


class Owner:
    """One thread's hold of one byte."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()


class Handle:
    """The only descriptor that this process has of a lock file, and the guards between its threads."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.users = 0
        self.descriptor = -1
        self.identity: Identity | None = None
        # The file that this process, or one that it was forked from, made last.
        self._made: Identity | None = None
        self._new_guards()

    def _new_guards(self) -> None:
        """Make guards that no thread holds."""
        # The owners by byte. `setdefault` and `pop` are one step each. Unlike a lock in memory this records the owner,
        # because a thread that was interrupted just after it took the byte may have to find out whether it did.
        self.owners: dict[int, Owner] = {}
        # Held while the descriptor is opened, used for a lock, and closed. Each byte has its own owner, so without the
        # mutex a thread that finds the lock file removed would close a descriptor that another one has just opened, or
        # is about to lock. Not held over a wait for the lock, nor over a switch of greenlets; re-entrant for signal
        # handlers.
        self.mutex = RLock()

    def open(self) -> int:
        """The descriptor, opened if it is not open yet."""
        with self.mutex:
            if self.descriptor < 0:
                self._open_anew()
            return self.descriptor

    def reopen(self) -> None:
        """Open the file that the path names now, in place of one whose lock excludes no process any more."""
        with self.mutex:
            left, identity = self.descriptor, self.identity
            # Opened before the close, so that no other file gets the old number while another thread may still use it.
            self._open_anew()
            close_descriptor(left, identity)

    def _open_anew(self) -> None:
        """Open the file that the path names, and do not close the one that is open."""
        self.descriptor, is_new = open_lock_file(self.path)
        self.identity = identity_of(os.fstat(self.descriptor))
        if is_new:
            self._made = self.identity

    @property
    def is_made(self) -> bool:
        """Whether this process, or one that it was forked from, made the open file."""
        return self.identity is not None and self.identity == self._made

    def read(self) -> bytes:
        """The first NOTE_BYTES of the file."""
        # Another thread that finds the lock file removed closes the descriptor.
        with self.mutex:
            return os.pread(self.open(), NOTE_BYTES, 0)

    def path_is_current(self) -> bool:
        """Whether the path still names the open file, and the descriptor is still that file's."""
        try:
            opened = os.fstat(self.descriptor)
            named = os.stat(self.path, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (*_USELESS, errno.ENOENT):
                raise
            return False
        return self.identity == identity_of(opened) == identity_of(named)

    def lock(self, byte: int) -> Identity | None:
        """Lock a byte of the file that the path names now, and return the file's identity.

        None if another process has the byte locked, or if others remove the file each time; a later try may succeed.

        Raises:
            OSError: The file cannot be opened or locked.
        """
        useless: OSError | None = None
        for _ in range(_TRIES):
            with self.mutex:
                # Outside the `try`, because EACCES here means that we may not open the file, and there that another
                # process has the lock.
                descriptor = self.open()
                try:
                    set_lock(descriptor, fcntl.F_WRLCK, byte)
                except OSError as error:
                    # POSIX allows either for "locked by another process" (fcntl(2), F_SETLK).
                    if error.errno in (errno.EACCES, errno.EAGAIN):
                        if self.path_is_current():
                            return None
                    elif error.errno not in _USELESS:
                        raise
                    else:
                        useless = error
                else:
                    if self.path_is_current():
                        return self.identity
                # The lock file was removed, or the descriptor is useless: our lock excludes no process any more.
                self.reopen()
        if useless is not None:
            raise OSError(useless.errno, useless.strerror, self.path)
        return None

    def confirm(self, byte: int) -> bool:
        """Whether a byte that we had locked still excludes others; it is locked again if no other process has it."""
        try:
            set_lock(self.descriptor, fcntl.F_WRLCK, byte)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno not in (errno.EACCES, errno.EAGAIN, *_USELESS):
                raise
            return False
        return self.path_is_current()

    def unlock(self, byte: int, identity: Identity | None) -> None:
        """Unlock a byte of the file of this identity, if it is still the open one."""
        with self.mutex, suppress(OSError, ValueError):
            if identity == self.identity:
                set_lock(self.descriptor, fcntl.F_UNLCK, byte)

    def give_back(self, byte: int, owner: Owner, identity: Identity | None) -> None:
        """Unlock a byte if `owner` has it; may be called again after it was interrupted at any point."""
        if self.owners.get(byte) is owner:
            self.unlock(byte, identity)
            self.owners.pop(byte, None)

    def close(self) -> None:
        """Close the descriptor."""
        with self.mutex:
            left, self.descriptor = self.descriptor, -1
            close_descriptor(left, self.identity)

    def forget(self) -> None:
        """Drop the parent's locks and descriptor in a forked child."""
        self._new_guards()
        self.close()


class Handles:
    """The handles of this process by path."""

    def __init__(self) -> None:
        self._by_path: dict[str, Handle] = {}
        # Re-entrant, because a signal handler may log, close or reopen during `get` and `put_back`.
        self._lock = RLock()
        self._inside = 0
        self._dropped: deque[Hold] = deque()
        self._pid = os.getpid()

    def get(self, path: str) -> Handle:
        """Return the handle of `path`, and count one more user of it."""
        with self._changing():
            handle = self._by_path.setdefault(path, Handle(path))
            handle.users += 1
            return handle

    def put_back(self, handle: Handle) -> None:
        """Count one user less; the last one closes the descriptor."""
        with self._changing():
            self._put_back(handle)

    def _put_back(self, handle: Handle) -> None:
        handle.users -= 1
        # A sub-interpreter keeps the handle for the next user.
        if handle.users == 0 and not LOCKS_DESCRIPTION:
            self._by_path.pop(handle.path, None)
            handle.close()

    def drop(self, hold: Hold) -> None:
        """Put back the handle of a `FileLock` that was collected without `close`.

        The garbage collector calls it at any moment and in any thread, even between two steps of `get`. So it waits for
        no lock. If a thread is changing the handles, that thread puts this one back afterwards.
        """
        self._dropped.append(hold)
        if self._lock.acquire(blocking=False):
            try:
                if not self._inside:
                    self._put_back_dropped()
            finally:
                self._lock.release()

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Keep other threads, and the garbage collector in this one, from changing the handles."""
        with self._lock:
            self._inside += 1
            try:
                yield
            finally:
                self._inside -= 1
                if not self._inside:
                    self._put_back_dropped()

    def _put_back_dropped(self) -> None:
        while self._dropped:
            hold = self._dropped.popleft()
            # A lock that was still held stays locked until the process ends, because no code can release it.
            if hold.handle is not None and hold.pid is None:
                self._put_back(hold.handle)

    def check_pid(self) -> None:
        """Notice a fork that ran no at-fork callback (uWSGI forks in C)."""
        if self._pid != os.getpid():
            self.after_fork()

    def after_fork(self) -> None:
        """Replace every inherited handle; a second call in one child does nothing."""
        if self._pid == os.getpid():
            return
        self._pid = os.getpid()
        self._lock = RLock()
        self._inside = 0
        for handle in self._by_path.values():
            handle.forget()


class Hold:
    """The handle that a `FileLock` uses, and the lock if it holds it; it outlives a `FileLock` that is collected."""

    def __init__(self) -> None:
        self.handle: Handle | None = None
        self.pid: int | None = None
        """The process that holds the lock."""
        self.owner: Owner | None = None
        """The thread that holds the lock."""
        self.identity: Identity | None = None
        """The file whose byte is locked."""


handles = Handles()
os.register_at_fork(after_in_child=handles.after_fork)


def renew_handles() -> None:
    """Open this process's own handle of every lock file in use, now rather than at the next rollover.

    For post-fork hooks; may be called again. If a lock file cannot be opened, the next rollover reports it.
    """
    handles.check_pid()
    for handle in list(handles._by_path.values()):
        try:
            handle.open()
        except OSError:
            continue


def read_lock_file(path: str) -> bytes:
    """The first NOTE_BYTES of a lock file, which is not made.

    It reads by the handle of this process if there is one, because closing another descriptor would drop its locks.

    Raises:
        OSError: There is none, or it is no regular file, or it may not be read.
    """
    handles.check_pid()
    # No other thread can get a handle of this path meanwhile, so none is locked when our descriptor is closed.
    with handles._lock:
        handle = handles._by_path.get(path)
        if handle is not None:
            return handle.read()
        # Without O_NONBLOCK the open of a FIFO would wait for its writer (fifo(7)).
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "not a regular file", path)
            return os.pread(descriptor, NOTE_BYTES, 0)
        finally:
            os.close(descriptor)


def lock_alone(path: str, timeout: float) -> int:
    """Lock the rollover byte by a descriptor of its own, which the caller closes to release the lock.

    Only for the end of the interpreter, where a daemon thread may be stopped for good while it holds the mutex of the
    shared handle. The close drops all locks of the process on the file, which does no harm then.

    Raises:
        OSError: There is no lock file, or it was not free within `timeout` seconds (EACCES, EAGAIN).
    """
    with place_of(path) as place:
        descriptor = place.open(os.O_RDWR)
    deadline = time.monotonic() + timeout
    while True:
        try:
            set_lock(descriptor, fcntl.F_WRLCK, ROLLOVER_BYTE)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN) or time.monotonic() >= deadline:
                os.close(descriptor)
                error.filename = path
                raise
            time.sleep(_PAUSE_S)
        else:
            return descriptor
