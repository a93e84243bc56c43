"""The path of the live file: how it is opened and made there, and whose it is.

A live file looks like the one before it: owner, group and mode, as far as this process may give them.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from io import FileIO

from rollsafe.live_note import LiveNote
from rollsafe.locks import FileLock, Identity, identity_of
from rollsafe.open_file import OpenFile, mode_of
from rollsafe.places import Looks, Place, place_of
from rollsafe.special_files import is_special, open_special
from rollsafe.streams import LogStream

# How often the live file may be made and rolled by others while we open it.
_TRIES = 10


class LivePath:
    """The path of the live file.

    Args:
        path: Full path.
        lock: The rollover lock, whose file has the owner of the live file.
        note: The note about the live file.
        permissions: Mode of the live and the lock file; None follows the live file's.
        shared: Other hosts rename it on their mounts of the file system, whose caches are not to be trusted.
    """

    def __init__(
        self, path: str, lock: FileLock, note: LiveNote, *, permissions: int | None = None, shared: bool = False
    ) -> None:
        self.path = path
        # Asked once: a FIFO that takes the place of a regular file later is somebody's trick or mistake.
        self.is_special = is_special(path)
        self._lock = lock
        self._note = note
        self._permissions = permissions
        self._shared = shared
        # The live file that was open last, and what it looked like.
        self._live: FileIO | None = None
        self._before: os.stat_result | None = None
        # The file that this process, or the one that it was forked from, has made last.
        self._made_file: Identity | None = None

    def open_stream(self) -> LogStream:
        """Open the live file as it is, made if it is missing: unbuffered, O_APPEND, O_CLOEXEC.

        Raises:
            NotOurs: What is there now is no file of this log: a FIFO or a hard link that took its place.
            OSError: It cannot be opened; a symbolic link that took its place is refused (ELOOP).
        """
        return LogStream(self.path, "a", opener=self._opener)

    def _opener(self, path: str, flags: int) -> int:
        """Open what is never rolled as it is; else make the live file, or open the one that is there.

        The making is tried first, by O_EXCL: who has made a file has to fit it out. On a network file system that also
        makes the client ask the server what the name means now (LOOKUP_EXCL of NFS and FUSE in Linux), where a plain
        open is answered from its cache.
        """
        if self.is_special:
            return open_special(path, flags)
        with place_of(path) as place:
            for _ in range(_TRIES):
                refusal: OSError | None = None
                try:
                    return self._make(place, flags)
                except FileExistsError:
                    pass
                except OSError as error:
                    # Of the making, which may be refused though the file is there and may be written.
                    refusal = error
                try:
                    return open_to_read_too(place.open, flags)
                except FileNotFoundError:
                    # Rolled by another process since, if its making was not refused.
                    if refusal is not None:
                        raise refusal from None
        raise FileNotFoundError(errno.ENOENT, "comes and goes whenever it is opened", path)

    def open_new(self, path: str, flags: int) -> int:
        """An opener that refuses a file that exists."""
        with place_of(path) as place:
            return self._make(place, flags)

    def _make(self, place: Place, flags: int) -> int:
        """Make the live file or a backup, with owner, group and mode of the live file before it, as far as we may.

        Whoever makes it does so at once. gunicorn's arbiter, which is root, makes the live file again after its
        removal too, and one that only root may write ends the workers.
        """
        looks = self._looks(place)
        descriptor = open_to_read_too(place.create, flags, 0o666 if looks.mode is None else looks.mode)
        try:
            looks.give_to(descriptor)
            self._made_file = identity_of(os.fstat(descriptor))
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _looks(self, place: Place) -> Looks:
        """What the new file is to look like: the live file that this process has had open, else what is noted of it.

        The lock file has its owner. Where everybody may make files, it may be anybody's.
        """
        model = self._remembered()
        if model is not None:
            looks = Looks(model.st_uid, model.st_gid, mode_of(model) & 0o666)
        else:
            note = self._note.read()
            looks = place.looks()._replace(mode=note.mode & 0o666 if note and note.mode else None)
            with suppress(OSError):
                lock = place.beside(os.path.basename(self._lock.path))
                status = lock.status()
                if stat.S_ISREG(status.st_mode) and (lock.is_safe(status) or not lock.is_sticky()):
                    looks = looks._replace(uid=status.st_uid, gid=status.st_gid)
        return looks if self._permissions is None else looks._replace(mode=self._permissions)

    def _remembered(self) -> os.stat_result | None:
        """The live file that this process has had open last, as it is now, named or not, or as it was when closed.

        As it is now, because a worker gives it away after the arbiter has opened it (see `hand_over`).
        """
        if self._live is not None and not self._live.closed:
            with suppress(OSError):
                status = os.fstat(self._live.fileno())
                if self._before is not None and identity_of(status) == identity_of(self._before):
                    self._before = status
        return self._before

    def remember(self, stream: FileIO) -> None:
        """Have the next live file that this process makes look like this one."""
        self._live = stream
        self._before = os.fstat(stream.fileno())

    def create_like(self, old: os.stat_result) -> LogStream:
        """Open the live file after a rollover; if it is made now, it looks like the `old` one."""
        self._live, self._before = None, old
        return self.open_stream()

    def permit(self, stream: FileIO, status: os.stat_result) -> None:
        """Give the open live file the permissions that were asked for; somebody else's keeps its own."""
        if self._permissions is None or stat.S_IMODE(status.st_mode) == self._permissions:
            return
        with suppress(OSError), place_of(self.path) as place:
            if identity_of(status) == self._made_file or place.is_known(status):
                os.fchmod(stream.fileno(), self._permissions)

    def hand_over(self, file: OpenFile, uid: int, gid: int) -> None:
        """Give the open live file and the lock file to a user; only root may.

        Raises:
            NotOurs: Another user may have put the file there, and who gets it could read what is not for them.
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
        """Whether the path names `file`; one stat(2). Not being allowed to look proves nothing, and counts as yes."""
        try:
            return identity_of(os.lstat(self.path)) == file.identity
        except OSError as error:
            return error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)

    def status(self) -> os.stat_result:
        """What the path names, by the server's knowledge if other hosts rename it too."""
        if self._shared:
            with self.open_stream() as stream:
                return os.fstat(stream.fileno())
        return os.lstat(self.path)

    def forget(self) -> None:
        """Keep what the live file looks like, but not the file, which is about to be closed."""
        self._remembered()
        self._live = None


def open_to_read_too(way: Callable[[int, int], int], flags: int, mode: int = 0o666) -> int:
    """Open a file in a way that allows to look what stands before a line, where that is permitted."""
    try:
        return way(flags & ~os.O_WRONLY | os.O_RDWR, mode)
    except PermissionError:
        return way(flags, mode)
