"""Exclusion between processes: one POSIX lock handle per lock file and process.

POSIX record locks belong to the process, are not inherited over fork, and work over NFS. The kernel drops all of them
as soon as the process closes *any* descriptor of the file (fcntl(2), "Record locks"). So a process must never open the
lock file a second time: all `FileLock` instances of one path share one handle here, threads exclude each other by a
guard in memory, and a forked child replaces the inherited handles before it locks anything.

The interpreters of one process (mod_wsgi and uWSGI make one for each application) share nothing of this module, and
POSIX locks do not exclude them from each other. So a sub-interpreter takes the locks of its open file description
(fcntl(2), "Open file description locks"), which exclude POSIX locks, and each other, within one process too. And it
closes no descriptor of a lock file, as that would drop the locks of the main interpreter.

A user who may *read* a file may lock it for reading, for any time, and then no process can lock it for writing
(fcntl(2), F_SETLK). So only users who may write a log may read its lock file.
"""

from __future__ import annotations

import errno
import fcntl
import importlib
import os
import stat
import struct
import sys
import threading
import time
import weakref

# Not from `threading`, where gevent replaces it: both threads of the operating system and greenlets take this lock.
from _thread import RLock
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType

from rollsafe.places import Looks, Place, place_of, resolved

ROLLOVER_BYTE = 0
MAINTENANCE_BYTE = 1

# The longest content of a lock file: settings with a path of 4096 bytes, each of which JSON writes in up to six, and
# some archives (see `note`). No more is read, however large another user has made the file.
NOTE_BYTES = 1 << 16

_SHORTEST_PAUSE_S = 0.0002
_LONGEST_PAUSE_S = 0.01
# How often other processes may make and remove the lock file while we open or lock it.
_TRIES = 10
# The errors of a useless descriptor: other code has closed it, or the server of an NFS mount has lost the file.
_USELESS = (errno.EBADF, errno.ESTALE)

# struct flock of fcntl(2) on Linux, the only system on which we use locks of an open file description.
_FLOCK = "hhqqi4x"


def _is_sub_interpreter() -> bool:
    """Whether this is not the main interpreter of the process."""
    # The modules up to Python 3.12 and from 3.13 on; no public module of these versions says it.
    for name in ("_xxsubinterpreters", "_interpreters"):
        with suppress(ImportError, AttributeError):
            interpreters = importlib.import_module(name)
            return bool(interpreters.get_current() != interpreters.get_main())
    return False


_LOCKS_DESCRIPTION = sys.platform == "linux" and _is_sub_interpreter()

# The name of a lock file is that of its live file between these two.
_BEFORE_LIVE = "."
_BEHIND_LIVE = ".lock"

Identity = tuple[int, int]
"""Device and inode of a file: the same for all its names, and different for each file."""


def identity_of(status: os.stat_result) -> Identity:
    """The identity of a file."""
    return status.st_dev, status.st_ino


def lock_path(live: str) -> str:
    """The lock file of a live file."""
    directory, name = os.path.split(live)
    return os.path.join(directory, f"{_BEFORE_LIVE}{name}{_BEHIND_LIVE}")


def live_name_of(lock_name: str) -> str | None:
    """The name of the live file whose lock file has this name, None if it is no name of a lock file of ours."""
    live = _live_part(lock_name)
    return live if live and lock_name == f"{_BEFORE_LIVE}{live}{_BEHIND_LIVE}" else None


def _live_part(name: str) -> str:
    """The name of a lock file without our additions, if it has them; an application may choose another name."""
    return name.removeprefix(_BEFORE_LIVE).removesuffix(_BEHIND_LIVE)


class _Owner:
    """One thread's hold of one byte."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()


class _Handle:
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
        self.owners: dict[int, _Owner] = {}
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
            _close(left, identity)

    def _open_anew(self) -> None:
        """Open the file that the path names, and do not close the one that is open."""
        self.descriptor, is_new = _open_lock_file(self.path)
        self.identity = identity_of(os.fstat(self.descriptor))
        if is_new:
            self._made = self.identity

    @property
    def is_made(self) -> bool:
        """Whether this process, or one that it was forked from, made the open file."""
        return self.identity is not None and self.identity == self._made

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
                    _set_lock(descriptor, fcntl.F_WRLCK, byte)
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
            _set_lock(self.descriptor, fcntl.F_WRLCK, byte)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno not in (errno.EACCES, errno.EAGAIN, *_USELESS):
                raise
            return False
        return self.path_is_current()

    def unlock(self, byte: int, identity: Identity | None) -> None:
        """Unlock a byte of the file of this identity, if it is still the open one."""
        with self.mutex, suppress(OSError, ValueError):
            if identity == self.identity:
                _set_lock(self.descriptor, fcntl.F_UNLCK, byte)

    def give_back(self, byte: int, owner: _Owner, identity: Identity | None) -> None:
        """Unlock a byte if `owner` has it; may be called again after it was interrupted at any point."""
        if self.owners.get(byte) is owner:
            self.unlock(byte, identity)
            self.owners.pop(byte, None)

    def close(self) -> None:
        """Close the descriptor."""
        with self.mutex:
            left, self.descriptor = self.descriptor, -1
            _close(left, self.identity)

    def forget(self) -> None:
        """Drop the parent's locks and descriptor in a forked child."""
        self._new_guards()
        self.close()


def _set_lock(descriptor: int, kind: int, byte: int) -> None:
    """Lock or unlock one byte without waiting.

    Raises:
        OSError: Another process, or another interpreter of this one, has it locked (EACCES, EAGAIN); or fcntl failed.
    """
    if _LOCKS_DESCRIPTION:
        asked = struct.pack(_FLOCK, kind, os.SEEK_SET, byte, 1, 0)
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, asked)
    elif kind == fcntl.F_UNLCK:
        fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, byte)
    else:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)


def _close(descriptor: int, identity: Identity | None) -> None:
    """Close the descriptor of a lock file, unless its number means another file by now.

    A daemon closes all descriptors that it inherits, and another file may have got the number since.

    A sub-interpreter leaves the descriptor open, because a close would drop the POSIX locks of the main interpreter on
    the file (fcntl(2), "Record locks"). So it keeps one more descriptor after each fork.
    """
    if descriptor < 0 or _LOCKS_DESCRIPTION:
        return
    try:
        status = os.fstat(descriptor)
    except OSError as error:
        if error.errno != errno.ESTALE:
            return
        status = None
    if status is None or identity_of(status) == identity:
        # An error closes it, too (close(2), "Dealing with error returns"), and a lock file has no data to lose.
        with suppress(OSError):
            os.close(descriptor)


def _open_lock_file(path: str) -> tuple[int, bool]:
    """Open a lock file, or make it if it is missing; returns its descriptor, and whether it was made.

    Raises:
        OSError: It can neither be made nor opened.
    """
    with place_of(path) as place:
        for _ in range(_TRIES):
            refusal: OSError | None = None
            try:
                # The umask decides who may write it, and the mode shows that only afterwards. Until then no other user
                # may read it.
                descriptor = place.create(os.O_RDWR, 0o622)
            except FileExistsError:
                pass
            except OSError as error:
                # The making may be refused although the file exists and may be written.
                refusal = error
            else:
                looks = _looks_of(place)
                mode = os.fstat(descriptor).st_mode if looks.mode is None else looks.mode
                looks._replace(mode=_lock_mode(mode)).give_to(descriptor)
                return descriptor, True
            try:
                return place.open(os.O_RDWR | os.O_CREAT, 0o622), False
            except FileNotFoundError:
                # Another process has removed it since, unless its making was refused.
                if refusal is not None:
                    raise refusal from None
    raise FileNotFoundError(errno.ENOENT, "is removed at each attempt; find the program that removes it", path)


def _lock_mode(mode: int) -> int:
    """The mode of a lock file: those who may write a live file of `mode` may read and write it."""
    return (mode & 0o222) * 3


def _looks_of(lock: Place) -> Looks:
    """Owner, group and mode for a new lock file: those of its live file, `app.log` for `.app.log.lock`.

    Without a live file the owner of the directory counts, so that a cron job or a command of root that comes first does
    not lock the service out.
    """
    with suppress(OSError):
        status = lock.beside(_live_part(os.path.basename(lock.path))).status()
        if stat.S_ISREG(status.st_mode):
            return Looks(status.st_uid, status.st_gid, status.st_mode)
    return lock.looks()


class _Handles:
    """The handles of this process by path."""

    def __init__(self) -> None:
        self._by_path: dict[str, _Handle] = {}
        # Re-entrant, because a signal handler may log, close or reopen during `get` and `put_back`.
        self._lock = RLock()
        self._inside = 0
        self._dropped: deque[_Hold] = deque()
        self._pid = os.getpid()

    def get(self, path: str) -> _Handle:
        """Return the handle of `path`, and count one more user of it."""
        with self._changing():
            handle = self._by_path.setdefault(path, _Handle(path))
            handle.users += 1
            return handle

    def put_back(self, handle: _Handle) -> None:
        """Count one user less; the last one closes the descriptor."""
        with self._changing():
            self._put_back(handle)

    def _put_back(self, handle: _Handle) -> None:
        handle.users -= 1
        # A sub-interpreter keeps the handle for the next user.
        if handle.users == 0 and not _LOCKS_DESCRIPTION:
            self._by_path.pop(handle.path, None)
            handle.close()

    def drop(self, hold: _Hold) -> None:
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


_handles = _Handles()
os.register_at_fork(after_in_child=_handles.after_fork)


def renew_handles() -> None:
    """Open this process's own handle of every lock file in use, now rather than at the next rollover.

    For post-fork hooks; may be called again. If a lock file cannot be opened, the next rollover reports it.
    """
    _handles.check_pid()
    for handle in list(_handles._by_path.values()):
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
    _handles.check_pid()
    # No other thread can get a handle of this path meanwhile, so none is locked when our descriptor is closed.
    with _handles._lock:
        handle = _handles._by_path.get(path)
        if handle is not None:
            return os.pread(handle.open(), NOTE_BYTES, 0)
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
            _set_lock(descriptor, fcntl.F_WRLCK, ROLLOVER_BYTE)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN) or time.monotonic() >= deadline:
                os.close(descriptor)
                error.filename = path
                raise
            time.sleep(_LONGEST_PAUSE_S)
        else:
            return descriptor


class _Hold:
    """The handle that a `FileLock` uses, and the lock if it holds it; it outlives a `FileLock` that is collected."""

    def __init__(self) -> None:
        self.handle: _Handle | None = None
        self.pid: int | None = None
        """The process that holds the lock."""
        self.owner: _Owner | None = None
        """The thread that holds the lock."""
        self.identity: Identity | None = None
        """The file whose byte is locked."""


class FileLock:
    """An exclusive lock on one byte of the file `path`, between processes and between the threads of each.

    The file is made when the lock is first taken, and stays. Only users who may write the file that it belongs to
    (`app.log` for `.app.log.lock`) may read it, because a reader could lock it too. All instances of one path in one
    process share one descriptor. A forked child never holds, and never releases, its parent's lock.

    Args:
        path: The lock file. Its directory must exist. A symbolic link (ELOOP), or anything but a regular file, in its
            place is refused.
        byte: The byte of the file to lock; locks of different bytes do not exclude each other.
    """

    def __init__(self, path: str | os.PathLike[str], *, byte: int = ROLLOVER_BYTE) -> None:
        text = os.fspath(path)
        directory, name = os.path.split(os.path.abspath(text))
        # One spelling of the path, because its locks share a handle. If the directory cannot be resolved, opening the
        # file fails.
        with suppress(OSError):
            directory = resolved(directory)
        self.path = os.path.join(directory, name)
        if byte not in (ROLLOVER_BYTE, MAINTENANCE_BYTE):
            raise ValueError(
                f"byte must be {ROLLOVER_BYTE} (rollover) or {MAINTENANCE_BYTE} (maintenance), not {byte!r}"
            )
        self._byte = byte
        self._hold = _Hold()
        # Job frameworks make a handler for each job and drop it without `close`.
        weakref.finalize(self, _handles.drop, self._hold).atexit = False

    @property
    def locked(self) -> bool:
        """Whether this instance holds the lock in this process."""
        return self._hold.pid == os.getpid()

    def excludes(self) -> bool:
        """Whether the held lock still excludes others; to be checked, because its holder can lose it without notice.

        Another user may have removed or replaced its file. And a POSIX lock is dropped when the process closes any
        descriptor of the file (fcntl(2), "Record locks"), as an application does that uploads every file of the
        directory. Then the lock is taken again, unless another process has it by now.
        """
        if not self.locked:
            return False
        handle = self._usable_handle()
        with handle.mutex:
            # Another thread that locks the other byte may have opened a new file by the handle meanwhile.
            return handle.identity == self._hold.identity and handle.confirm(self._byte)

    def acquire(self, timeout: float | None = None, give_up: Callable[[], bool] | None = None) -> bool:
        """Take the lock.

        Args:
            timeout: The longest wait, seconds; 0 tries once, None waits until the lock is free.
            give_up: Called between two tries; if it returns true, the caller needs the lock no longer.

        Returns:
            True if the lock is held; False if the time was up or `give_up` returned true, or at once if this very
            thread already holds it through another instance, because a wait could never end.

        Raises:
            RuntimeError: This thread holds the lock already and `timeout` is None.
            OSError: The lock file cannot be opened (EACCES, ELOOP, EMFILE, ...) or locked (ENOLCK).
        """
        before = self._hold.owner
        try:
            taken = self._acquire(timeout, give_up)
        except BaseException:
            # A signal handler may raise just after the lock was taken.
            if self._hold.owner is not before:
                self.release_if_held()
            raise
        return taken

    def _acquire(self, timeout: float | None, give_up: Callable[[], bool] | None) -> bool:
        """Try until the lock is taken, the time is up, or `give_up` returns true."""
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = _SHORTEST_PAUSE_S
        while not self._try():
            if self._held_by_this_thread():
                if deadline is None:
                    raise RuntimeError(f"this thread holds the lock on {self.path} already; release it first")
                return False
            if give_up is not None and give_up():
                return False
            if deadline is not None:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                pause = min(pause, left)
            # Polled, not F_SETLKW, because a blocking wait cannot be bounded and would stop every greenlet of gevent.
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        return True

    def release(self) -> None:
        """Release the lock. In a forked child of the holder this does nothing, because the lock is the parent's.

        Raises:
            RuntimeError: This instance does not hold the lock.
        """
        hold = self._hold
        if hold.pid is None or hold.handle is None or hold.owner is None:
            raise RuntimeError(f"the lock on {self.path} is not held by this FileLock; acquire it first")
        if hold.pid == os.getpid():
            hold.handle.give_back(self._byte, hold.owner, hold.identity)
        hold.pid = hold.owner = None

    def release_if_held(self) -> None:
        """Release the lock if this thread holds it through this instance; else do nothing.

        For callers that an exception of a signal handler may interrupt between any two calls. If it interrupts this
        method, a second call finishes the release.
        """
        owner = self._hold.owner
        if owner is not None and owner.thread == threading.get_ident():
            self.release()

    def close(self) -> None:
        """Release the lock if it is held, and close the descriptor if no other instance uses it.

        May be repeated; a later `acquire` opens the file again.
        """
        handle = self._hold.handle
        if handle is None:
            return
        _handles.check_pid()
        if self._hold.pid is not None:
            self.release()
        self._hold.handle = None
        _handles.put_back(handle)

    def read(self) -> bytes:
        """The first NOTE_BYTES of the lock file; holding the lock is not needed."""
        _handles.check_pid()
        return os.pread(self._usable_handle().open(), NOTE_BYTES, 0)

    def write(self, note: bytes) -> None:
        """Replace the content of the lock file by a note, which must mark its own end; only while the lock is held.

        Raises:
            OSError: The note could not be written wholly.
        """
        descriptor = self._usable_handle().open()
        try:
            written = os.pwrite(descriptor, note, 0)
            # Only the next write shows why one was cut short: a full disk (ENOSPC), or a full file (EFBIG).
            if written < len(note) and os.pwrite(descriptor, note[written:], written) < len(note) - written:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.ftruncate(descriptor, len(note))
        except OSError as error:
            error.filename = self.path
            raise

    def set_mode(self, mode: int) -> None:
        """Let all who may write a live file of this mode use the lock file; only while the lock is held."""
        handle = self._usable_handle()
        descriptor = handle.open()
        status = os.fstat(descriptor)
        if stat.S_IMODE(status.st_mode) == _lock_mode(mode):
            return
        with place_of(self.path) as place:
            if handle.is_made or place.is_known(status):
                os.fchmod(descriptor, _lock_mode(mode))

    def hand_over(self, uid: int, gid: int) -> None:
        """Give the lock file to another user; only root may.

        Raises:
            NotOurs: Another user may have put the file there, and the new owner could read what is not for them.
            OSError: The file cannot be opened, or its owner not be changed (EPERM).
        """
        _handles.check_pid()
        handle = self._usable_handle()
        descriptor = handle.open()
        status = os.fstat(descriptor)
        if (status.st_uid, status.st_gid) != (uid, gid):
            if not handle.is_made:
                with place_of(self.path) as place:
                    place.check_gift(status, uid, gid)
            os.fchown(descriptor, uid, gid)

    def __enter__(self) -> FileLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path} byte {self._byte}{' locked' if self.locked else ''}>"

    def _usable_handle(self) -> _Handle:
        """The shared handle; after `close` it is taken anew."""
        if self._hold.handle is None:
            self._hold.handle = _handles.get(self.path)
        return self._hold.handle

    def _held_by_this_thread(self) -> bool:
        """Whether the calling thread owns the byte, by this or another instance."""
        owner = self._usable_handle().owners.get(self._byte)
        return owner is not None and owner.thread == threading.get_ident()

    def _try(self) -> bool:
        """Take the byte among the threads of this process, then among processes; at once False if it is taken."""
        _handles.check_pid()
        handle = self._usable_handle()
        owner = _Owner()
        try:
            # Not a lock in memory: gevent patches after the fork, and a lock made before that would stop the whole hub.
            if handle.owners.setdefault(self._byte, owner) is not owner:
                return False
            identity, pid = handle.lock(self._byte), os.getpid()
            if identity is not None:
                self._hold.identity, self._hold.pid, self._hold.owner = identity, pid, owner
                return True
        except BaseException:
            # A signal handler may have raised just after the byte was locked.
            handle.give_back(self._byte, owner, handle.identity)
            raise
        handle.owners.pop(self._byte, None)
        return False
