"""A lock between processes, threads and interpreters, by a file."""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from rollsafe._files.lock_files import lock_mode
from rollsafe._files.lock_handles import MAINTENANCE_BYTE, ROLLOVER_BYTE, Handle, Hold, Owner, handles
from rollsafe._files.places import place_of, resolved
from rollsafe._greenlets import pause

_SHORTEST_PAUSE_S = 0.0002
_LONGEST_PAUSE_S = 0.01


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
        self.path: str = os.path.join(directory, name)
        if byte not in (ROLLOVER_BYTE, MAINTENANCE_BYTE):
            raise ValueError(
                f"byte must be {ROLLOVER_BYTE} (rollover) or {MAINTENANCE_BYTE} (maintenance), not {byte!r}"
            )
        self._byte = byte
        self._hold = Hold()
        # Job frameworks make a handler for each job and drop it without `close`.
        weakref.finalize(self, handles.drop, self._hold).atexit = False

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
        wait = _SHORTEST_PAUSE_S
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
                wait = min(wait, left)
            # Polled, not F_SETLKW, because a blocking wait cannot be bounded and would stop every greenlet of gevent.
            pause(wait)
            wait = min(2 * wait, _LONGEST_PAUSE_S)
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
        handles.check_pid()
        if self._hold.pid is not None:
            self.release()
        self._hold.handle = None
        handles.put_back(handle)

    def read(self) -> bytes:
        """The first NOTE_BYTES of the lock file; holding the lock is not needed."""
        handles.check_pid()
        return self._usable_handle().read()

    def write(self, note: bytes) -> None:
        """Replace the content of the lock file by a note, which must mark its own end; only while the lock is held.

        Raises:
            OSError: The note could not be written wholly.
        """
        handle = self._usable_handle()
        try:
            # Another thread that finds the lock file removed closes the descriptor.
            with handle.mutex:
                descriptor = handle.open()
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
        if stat.S_IMODE(status.st_mode) == lock_mode(mode):
            return
        with place_of(self.path) as place:
            if handle.is_made or place.is_known(status):
                os.fchmod(descriptor, lock_mode(mode))

    def hand_over(self, uid: int, gid: int) -> None:
        """Give the lock file to another user; only root may.

        Raises:
            NotOurs: Another user may have put the file there, and the new owner could read what is not for them.
            OSError: The file cannot be opened, or its owner not be changed (EPERM).
        """
        handles.check_pid()
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

    def _usable_handle(self) -> Handle:
        """The shared handle; after `close` it is taken anew."""
        if self._hold.handle is None:
            self._hold.handle = handles.get(self.path)
        return self._hold.handle

    def _held_by_this_thread(self) -> bool:
        """Whether the calling thread owns the byte, by this or another instance."""
        owner = self._usable_handle().owners.get(self._byte)
        return owner is not None and owner.thread == threading.get_ident()

    def _try(self) -> bool:
        """Take the byte among the threads of this process, then among processes; at once False if it is taken."""
        handles.check_pid()
        handle = self._usable_handle()
        owner = Owner()
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
