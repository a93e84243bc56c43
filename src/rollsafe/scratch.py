"""A directory of one process alone, beside the backups, in which an archive is made.

No other process knows its name, so two that compress one backup, because the lock of the election was lost, do not
write into one file, nor clear each other's drafts. Nobody else may enter it, so in a directory that another user may
write no link can be put where a compression of the application is about to write. It is locked as long as its process
lives: what a killed one has left is told from one in use.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from rollsafe.background import close
from rollsafe.places import NotOurs, Place, is_root, place_of

_ENDING: Final = ".tmp"
_NAME: Final = re.compile(rf"\.(.+)\.[0-9a-f]{{16}}{re.escape(_ENDING)}")
_OPEN_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# What flock(2) says of a file that another one has locked. Any other error means that it cannot be locked here.
_LOCKED: Final = (errno.EWOULDBLOCK, errno.EACCES)
# What link(2) says where there are no hard links, or not for us (fs.protected_hardlinks), or not one more.
NO_LINKS: Final = (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)

# The descriptors that are open here now. A forked child closes them: with them it would hold what is locked by them.
_open: set[int] = set()


class Taken(Exception):
    """Another process is at the file just now."""


@contextmanager
def opened(descriptor: int) -> Iterator[int]:
    """A descriptor that is closed at the end, here and in each child that is forked meanwhile."""
    _open.add(descriptor)
    try:
        yield descriptor
    finally:
        # Not the other way round: a child that is forked in between would close what has got the number since.
        _open.discard(descriptor)
        close(descriptor)


@contextmanager
def claimed(descriptor: int) -> Iterator[bool]:
    """Keep other processes of this program off an open file, or a directory, as long as we are at it.

    By flock(2), because the lock of the election can be lost under us: somebody removes the lock file, or the
    application opens and closes it, as an upload of the whole directory does (fcntl(2), "Record locks"). This lock goes
    with the descriptor only. Where there is no such lock (some network file systems), the election has to do, and what
    is yielded is False.

    Raises:
        Taken: Another process is at it.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _LOCKED:
            raise Taken from error
        yield False
        return
    try:
        yield True
    finally:
        # Not left to the close: a child that was forked meanwhile may have the file open still.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)


class Scratch:
    """The directory.

    Attributes:
        path: What the application may be given to name files in it.
        descriptor: For `dir_fd`.
    """

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor

    def create(self, name: str) -> int:
        """Make a file, open to read and to write."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, 0o600, dir_fd=self.descriptor)

    def open(self, name: str) -> int:
        """Open what somebody has made there, to read; it is to be a regular file."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(name, flags, dir_fd=self.descriptor)

    def take_in(self, source: int, place: Place) -> str:
        """Give the open file `source`, which `place` names, the same name here; returns its path.

        Where there are no hard links it is copied: the application may do to it what it likes.
        """
        name = os.path.basename(place.path)
        try:
            os.link(place.name, name, src_dir_fd=place.dir_fd, dst_dir_fd=self.descriptor, follow_symlinks=False)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            with opened(self.create(name)) as copy:
                os.lseek(source, 0, os.SEEK_SET)
                while chunk := os.read(source, 1 << 20):
                    rest = memoryview(chunk)
                    while rest:
                        rest = rest[os.write(copy, rest) :]
        return os.path.join(self.path, name)

    def clear(self) -> None:
        """Remove all that is in it."""
        _clear(self.descriptor)


@contextmanager
def scratch_beside(place: Place) -> Iterator[Scratch]:
    """A new, empty directory beside `place`, which is removed with all that is in it."""
    name = f".{os.path.basename(place.path)}.{os.urandom(8).hex()}{_ENDING}"
    own = place.beside(name)
    os.mkdir(own.name, 0o700, dir_fd=own.dir_fd)
    try:
        with opened(os.open(own.name, _OPEN_DIRECTORY, dir_fd=own.dir_fd)) as descriptor:
            status = os.fstat(descriptor)
            path = own.path
            if not own.is_safe(status):
                if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
                    raise NotOurs(errno.EPERM, "is not the directory that was made there", own.path)
                # Its owner may put another directory, or a link, in the place of ours at any time.
                path = f"/proc/{os.getpid()}/fd/{descriptor}"
            scratch = Scratch(path, descriptor)
            with claimed(descriptor):
                try:
                    yield scratch
                finally:
                    # What cannot be removed now is removed in a later round.
                    with suppress(OSError):
                        scratch.clear()
    finally:
        with suppress(OSError):
            os.rmdir(own.name, dir_fd=own.dir_fd)


def made_for(name: str) -> str | None:
    """The name of the archive for which there may be such a directory of this name, None if it is none."""
    found = _NAME.fullmatch(name)
    return found[1] if found else None


def clear_leftover(path: str, names: frozenset[str]) -> None:
    """Remove what a killed process has left; it may be emptied of files of these names only.

    Raises:
        Taken: Its process lives.
        OSError: It could not be removed; something else is in it (ENOTEMPTY).
    """
    with place_of(path) as place:
        with opened(os.open(place.name, _OPEN_DIRECTORY, dir_fd=place.dir_fd)) as descriptor, claimed(descriptor):
            status = os.fstat(descriptor)
            if status.st_uid != os.geteuid() and not is_root():
                raise Taken
            for name in names.intersection(os.listdir(descriptor)):
                os.unlink(name, dir_fd=descriptor)
        os.rmdir(place.name, dir_fd=place.dir_fd)


def _clear(directory: int) -> None:
    """Remove all that is in an open directory."""
    for name in os.listdir(directory):
        if stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            with opened(os.open(name, _OPEN_DIRECTORY, dir_fd=directory)) as below:
                _clear(below)
            os.rmdir(name, dir_fd=directory)
        else:
            os.unlink(name, dir_fd=directory)


def _close_inherited() -> None:
    """In a forked child: close what the parent has open."""
    while _open:
        with suppress(OSError):
            close(_open.pop())


os.register_at_fork(after_in_child=_close_inherited)
