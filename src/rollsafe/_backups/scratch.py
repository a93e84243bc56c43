"""Scratch directories: one process alone makes an archive in each of them, beside the backups.

No other process knows its name. So two processes that compress one backup, because the lock of the election was lost,
neither write to the same file nor remove each other's drafts. No other user may enter it. So even if another user may
write the directory of the backups, that user cannot put a link where a function of the application is about to write.
The directory is locked as long as its process lives, so other processes can see which ones a killed process has left.
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

from rollsafe._background import close
from rollsafe._files.places import Place, is_root, place_of
from rollsafe.errors import NotOurs

_ENDING: Final = ".tmp"
_NAME: Final = re.compile(rf"\.(.+)\.[0-9a-f]{{16}}{re.escape(_ENDING)}")
_OPEN_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# The errors of flock(2) for a file that another process has locked. Others mean that it cannot be locked here.
_LOCKED: Final = (errno.EWOULDBLOCK, errno.EACCES)
# The errors of link(2) if the file system has no hard links, if this process may not make one
# (fs.protected_hardlinks), or if the file has too many.
NO_LINKS: Final = (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)

# The descriptors that are open here now. A forked child closes them, because otherwise it would keep their locks.
_open: set[int] = set()


class Taken(Exception):
    """Another process works on the file at the moment."""


@contextmanager
def opened(descriptor: int) -> Iterator[int]:
    """A descriptor that is closed at the end, here and in each child that is forked meanwhile."""
    _open.add(descriptor)
    try:
        yield descriptor
    finally:
        # Not in the reverse order: a child that is forked in between would close another file that has the number.
        _open.discard(descriptor)
        close(descriptor)


@contextmanager
def claimed(descriptor: int) -> Iterator[bool]:
    """Keep other processes of this program off an open file, or a directory; yields whether that is possible.

    By flock(2), because the lock of the election can be lost: a person removes the lock file, or the application opens
    and closes it, as an upload of the whole directory does (fcntl(2), "Record locks"). A lock of flock(2) is lost only
    with its descriptor. Some network file systems have no such lock; then the election has to suffice.

    Raises:
        Taken: Another process works on it.
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
        # The close would not suffice: a child that was forked meanwhile may still have the file open.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)


class Scratch:
    """A scratch directory.

    Attributes:
        path: Its path, for names that the application gets.
        descriptor: The open directory, for `dir_fd`.
    """

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor

    def create(self, name: str) -> int:
        """Make a file, open to read and to write."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, 0o600, dir_fd=self.descriptor)

    def open(self, name: str) -> int:
        """Open a file that the application has made there, to read."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(name, flags, dir_fd=self.descriptor)

    def take_in(self, source: int, place: Place) -> str:
        """Give the open file `source`, which `place` names, the same name here; returns its path.

        If there are no hard links, it is copied, because the application may do to it what it likes.
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
    """A new, empty scratch directory beside `place`, which is removed at the end with all that is in it."""
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
                # The owner of the directory above may replace ours by another one, or by a link, at any time.
                path = f"/proc/{os.getpid()}/fd/{descriptor}"
            scratch = Scratch(path, descriptor)
            with claimed(descriptor):
                try:
                    yield scratch
                finally:
                    # A later pass removes what cannot be removed now.
                    with suppress(OSError):
                        scratch.clear()
    finally:
        with suppress(OSError):
            os.rmdir(own.name, dir_fd=own.dir_fd)


def made_for(name: str) -> str | None:
    """The name of the archive for which a directory of this name is made; None if it is no scratch directory."""
    found = _NAME.fullmatch(name)
    return found[1] if found else None


def clear_leftover(path: str, names: frozenset[str]) -> None:
    """Remove a scratch directory that a killed process has left, and the files of these names in it.

    Raises:
        Taken: Its process lives.
        OSError: It could not be removed; other files are in it (ENOTEMPTY).
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
    """In a forked child: close the descriptors of the parent."""
    while _open:
        with suppress(OSError):
            close(_open.pop())


os.register_at_fork(after_in_child=_close_inherited)
