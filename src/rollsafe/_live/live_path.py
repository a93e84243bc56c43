"""The path of the live file: this module opens the file, makes it, and sets its owner.

A live file has the owner, group and mode of the one before it, as far as this process may give them.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from io import FileIO
from typing import Final, Protocol

from rollsafe._background import sleep
from rollsafe._files.identity import Identity, identity_of
from rollsafe._files.places import Looks, Place, place_of
from rollsafe._files.special_files import is_special, open_special
from rollsafe._live.bounded_lock import BoundedLock, LockBusy
from rollsafe._live.live_note import LiveNote
from rollsafe._live.open_file import OpenFile, mode_of
from rollsafe._live.streams import LogStream

# Each write(2) returns when its bytes are stored. A system without the flag has fsync(2).
_STORED: Final = getattr(os, "O_DSYNC", 0)

Call = Callable[[int, int], int]


class Way(Protocol):
    """Opens a file by a call that takes flags and mode, for what it is used for."""

    def __call__(self, call: Call, flags: int, mode: int = ...) -> int:
        """Return the descriptor."""


# How often other processes may make and roll the live file while we open it.
_TRIES = 10
# Seconds before each further try to open a file that another user's process is about to give its mode.
_MAKING_S = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032)


class LivePath:
    """The path of the live file.

    Args:
        path: Full path.
        lock: The rollover lock, whose file has the owner of the live file.
        note: The note about the live file.
        permissions: Mode of the live and the lock file; None keeps the mode of the live file.
        shared: Other hosts write and rename it on their own mounts of the file system, so caches cannot be trusted.

    Attributes:
        to_append: How a file is opened that is appended to: the live file, or a backup.
    """

    def __init__(
        self, path: str, lock: BoundedLock, note: LiveNote, *, permissions: int | None = None, shared: bool = False
    ) -> None:
        self.path = path
        # Checked once: a FIFO that replaces a regular file later is a mistake, or another user's trick.
        self.is_special = is_special(path)
        self._lock = lock
        self._note = note
        self._permissions = permissions
        self._shared = shared
        self.to_append: Way = open_to_append_through if shared else open_to_read_too
        self._to_hold: Way = open_to_read if shared else open_to_read_too
        # The live file that this process had open last, and its status.
        self._live: FileIO | None = None
        self._before: os.stat_result | None = None
        # The file that this process, or the one that it was forked from, made last.
        self._made_file: Identity | None = None

    def open_stream(self) -> LogStream:
        """Open the live file to keep it open, or make it if it is missing: unbuffered, O_APPEND, O_CLOEXEC.

        A file of several hosts is opened for reading only; see `open_to_read`.

        Raises:
            NotOurs: The path names no file of this log, but a FIFO or a hard link that took its place.
            OSError: It cannot be opened; a symbolic link that took its place is refused (ELOOP).
        """
        stream = LogStream(self.path, "a", opener=partial(self._opener, self._to_hold))
        if self._shared and not self.is_special:
            stream.write_bytes = self._write_under_lock
        return stream

    def held(self, stream: FileIO | None) -> FileIO | None:
        """The stream itself, or one that is open for reading only in its place, if other hosts write the file too.

        An overridden `_open` returns one that is open for writing, or the application assigns it.
        """
        if not self._shared or self.is_special or stream is None or not _can_be_written(stream):
            return stream
        status = os.fstat(stream.fileno())
        ours = self.open_stream() if stat.S_ISREG(status.st_mode) else stream
        if identity_of(os.fstat(ours.fileno())) != identity_of(status):
            ours.close()
            return stream
        if ours is not stream:
            stream.close()
        return ours

    def _write_under_lock(self, text: bytes) -> int:
        """Append text that an overridden `_open` writes to its stream, such as a header.

        Raises:
            OSError: It could not be written, or the lock was not free within the bound (EAGAIN).
        """

        def write() -> int:
            with self.open_to_append() as stream:
                return stream.write(text)

        try:
            return self._lock.run(write, self._lock.refuse)
        except LockBusy as error:
            raise OSError(errno.EAGAIN, str(error), self.path) from error

    def open_to_append(self) -> LogStream:
        """Open the live file for lines that are written at once; if other hosts write it too, only under the lock.

        Raises:
            NotOurs, OSError: As `open_stream`.
        """
        return LogStream(self.path, "a", opener=partial(self._opener, self.to_append))

    def open_existing(self) -> LogStream:
        """Open the live file to keep it open, and do not make it.

        Raises:
            NotOurs, OSError: As `open_stream`.
        """
        return LogStream(self.path, "a", opener=partial(open_existing, self._to_hold))

    def open_backup(self, path: str) -> FileIO:
        """Open a backup to append to it.

        Raises:
            NotOurs, OSError: It cannot be opened.
        """
        return FileIO(path, "a", opener=partial(open_existing, self.to_append))

    def _opener(self, way: Way, path: str, flags: int) -> int:
        """Open a file that is never rolled as it is; else make the live file, or open the one that exists.

        It tries to make the file first, by O_EXCL, because the process that makes a file has to set its owner and mode.
        On a network file system O_EXCL also makes the client ask the server what the name means now (LOOKUP_EXCL of NFS
        and FUSE in Linux), while its cache answers a plain open.
        """
        if self.is_special:
            return open_special(path, flags)
        pauses = iter(_MAKING_S)
        with place_of(path) as place:
            for _ in range(_TRIES):
                refusal: OSError | None = None
                try:
                    return self._make(place, flags, way)
                except FileExistsError:
                    pass
                except OSError as error:
                    # The making may be refused although the file exists and may be written.
                    refusal = error
                try:
                    return way(place.open, flags)
                except FileNotFoundError:
                    # Another process has rolled it since, unless its making was refused.
                    if refusal is not None:
                        raise refusal from None
                except PermissionError:
                    # open(2) makes a file with the mode that the umask leaves, and `give_to` sets mode and owner after
                    # that. A process of another user can come in between.
                    pause = next(pauses, None)
                    if pause is None or not _is_empty(place):
                        raise
                    sleep(pause)
        raise FileNotFoundError(errno.ENOENT, "is removed at each attempt; find the program that removes it", path)

    def open_new(self, path: str, flags: int) -> int:
        """Make a file with owner, group and mode of the live file; an opener that refuses a file that exists."""
        with place_of(path) as place:
            return self._make(place, flags, self.to_append)

    def _make(self, place: Place, flags: int, way: Way) -> int:
        """Make the live file or a backup, with owner, group and mode of the live file before it, as far as we may.

        They are set at once. gunicorn's arbiter, which is root, also makes the live file after its removal, and a file
        that only root may write would end the workers.
        """
        looks = self._looks(place)
        descriptor = way(place.create, flags, 0o666 if looks.mode is None else looks.mode)
        try:
            looks.give_to(descriptor)
            self._made_file = identity_of(os.fstat(descriptor))
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _looks(self, place: Place) -> Looks:
        """Owner, group and mode for a new file: those of the last live file of this process, else those on record.

        On record are the mode in the note, and owner and group of the lock file. A lock file of another user does not
        count in a directory where every user may make files.
        """
        model = self._remembered()
        if model is not None:
            looks = Looks(model.st_uid, model.st_gid, mode_of(model) & 0o666)
        else:
            note = self._note.read()
            looks = place.looks().replace(mode=note.mode & 0o666 if note and note.mode else None)
            with suppress(OSError):
                lock = place.beside(os.path.basename(self._lock.path))
                status = lock.status()
                if stat.S_ISREG(status.st_mode) and (lock.is_safe(status) or not lock.is_sticky()):
                    looks = looks.replace(uid=status.st_uid, gid=status.st_gid)
        return looks if self._permissions is None else looks.replace(mode=self._permissions)

    def _remembered(self) -> os.stat_result | None:
        """The status of the last live file of this process, with or without a name: now, or when it was closed.

        The present status counts, because a worker gives the file away after the arbiter has opened it (`hand_over`).
        """
        if self._live is not None and not self._live.closed:
            with suppress(OSError):
                status = os.fstat(self._live.fileno())
                if self._before is not None and identity_of(status) == identity_of(self._before):
                    self._before = status
        return self._before

    def remember(self, stream: FileIO) -> None:
        """Have the next live file that this process makes get owner, group and mode of this one."""
        self._live = stream
        self._before = os.fstat(stream.fileno())

    def create_like(self, old: os.stat_result) -> LogStream:
        """Open the live file after a rollover; if it is made now, it gets owner, group and mode of the `old` one."""
        self._live, self._before = None, old
        return self.open_stream()

    def apply_permissions(self, stream: FileIO, status: os.stat_result) -> None:
        """Give the open live file the `permissions` of the handler; a file of another user keeps its own."""
        if self._permissions is None or stat.S_IMODE(status.st_mode) == self._permissions:
            return
        with suppress(OSError), place_of(self.path) as place:
            if identity_of(status) == self._made_file or place.is_known(status):
                os.fchmod(stream.fileno(), self._permissions)

    def hand_over(self, file: OpenFile, uid: int, gid: int) -> None:
        """Give the open live file and the lock file to a user; only root may.

        Raises:
            NotOurs: Another user may have put the file there, and the new owner could read what is not for them.
            OSError: The owner could not be changed.
        """
        descriptor = file.stream.fileno()
        status = os.fstat(descriptor)
        if (status.st_uid, status.st_gid) != (uid, gid):
            if identity_of(status) != self._made_file:
                with place_of(self.path) as place:
                    place.check_gift(status, uid, gid)
            os.fchown(descriptor, uid, gid)
            self.remember(file.stream)
        self._lock.hand_over(uid, gid)

    def is_live(self, file: OpenFile) -> bool:
        """Whether the path names `file`, by one stat(2); an error that proves nothing (EACCES) counts as yes."""
        try:
            return identity_of(os.lstat(self.path)) == file.identity
        except OSError as error:
            return error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)

    def status(self) -> os.stat_result:
        """The status of the file that the path names; on a file system of several hosts the server's answer."""
        if self._shared:
            with self.open_stream() as stream:
                return os.fstat(stream.fileno())
        return os.lstat(self.path)

    def forget(self) -> None:
        """Keep the status of the live file, but not the file, which the caller is about to close."""
        self._remembered()
        self._live = None


def _can_be_written(stream: FileIO) -> bool:
    """Whether a descriptor is open for writing."""
    return fcntl.fcntl(stream.fileno(), fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY


def _is_empty(place: Place) -> bool:
    """Whether a regular file without contents is there."""
    with suppress(OSError):
        status = place.status()
        return stat.S_ISREG(status.st_mode) and status.st_size == 0
    return False


def open_to_read_too(call: Call, flags: int, mode: int = 0o666) -> int:
    """Open a file for reading, too, where that is permitted, so that the text before a line can be checked."""
    try:
        return call(flags & ~os.O_WRONLY | os.O_RDWR, mode)
    except PermissionError:
        return call(flags, mode)


def open_to_append_through(call: Call, flags: int, mode: int = 0o666) -> int:
    """Open a file to append to it, and have each write(2) return when the server has stored the bytes (O_DSYNC).

    With O_DSYNC the NFS client of Linux sends the very bytes of a write. Otherwise it extends a small write to the
    whole page of its cache (`nfs_can_extend_write` in fs/nfs/write.c), which may be older than the lines that another
    host has appended since: those were overwritten by zeros (measured).
    """
    return open_to_read_too(call, flags | _STORED, mode)


def open_to_read(call: Call, flags: int, mode: int = 0o666) -> int:
    """Open a file for reading only, if it may be read at all.

    While a process of a host has a file open for writing, the NFS client of Linux takes each change of the file for one
    of that host, and does not drop what it has in its cache (`nfs_update_inode` in fs/nfs/inode.c).
    """
    try:
        return call(flags & ~os.O_ACCMODE | os.O_RDONLY, mode)
    except PermissionError:
        return call(flags, mode)


def open_existing(way: Way, path: str, flags: int) -> int:
    """Open a file that exists."""
    with place_of(path) as place:
        return way(place.open, flags & ~os.O_CREAT)
