"""Files by path, in directories that another user may write.

A user who may write a directory decides which file each name in it means, and may change that between any two steps of
this process: to a link, a hard link of another file, a FIFO, or to a link in the place of a directory. A process of
root that trusts the path then opens, gives away or overwrites a file of another user. So a process of root

- walks a path from "/" by descriptors, and follows a link only if root alone can have put it there;
- uses the last name relative to the open directory (`dir_fd`), and asks the descriptor which file was opened;
- makes files only by O_EXCL, and opens none by O_CREAT: Linux refuses that even to root for a file of another user in a
  sticky directory (fs.protected_regular in proc_sys_fs(5)), and O_CREAT hides whether the file is new.

A process of another user takes the path as it is: the kernel lets it do only what that user may do anyway, and has
settings of its own for the links and FIFOs of other users (fs.protected_symlinks, fs.protected_fifos).

Processes of all users open with O_NONBLOCK: otherwise the open(2) of a FIFO without a reader would never return
(fifo(7)).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Final

from rollsafe._files.walk import SEARCH, Walk, is_kept_by_root
from rollsafe._values import Value
from rollsafe.errors import NotOurs

_KINDS: Final = {
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def is_root() -> bool:
    """Whether this process may do what no other user may, and so has to be careful with paths."""
    return os.geteuid() == 0


class Looks(Value):
    """Owner, group and mode that a file is to have; None for those that it gets when this process makes it."""

    uid: int | None = None
    gid: int | None = None
    mode: int | None = None

    def give_to(self, descriptor: int) -> None:
        """Give them to a file that this process has made itself, as far as it may.

        Never to another file, because its content may belong to any user. Root may give the file to any user, another
        user may give it to any group of that user (chown(2)).
        """
        made = os.fstat(descriptor)
        mode = stat.S_IMODE(made.st_mode) if self.mode is None else self.mode
        uid = made.st_uid if self.uid is None or not is_root() else self.uid
        gid = made.st_gid if self.gid is None else self.gid
        if (uid, gid) != (made.st_uid, made.st_gid):
            try:
                os.fchown(descriptor, uid, gid)
            except OSError:
                # Not a member of that group. Then the group that the file has may do only what all users may.
                mode &= ~stat.S_IRWXG | (mode & stat.S_IRWXO) << 3
        if mode != stat.S_IMODE(os.fstat(descriptor).st_mode):
            # A file system may have no modes (FAT).
            with suppress(OSError):
                os.fchmod(descriptor, mode)


class Place(Value):
    """A name in a directory.

    Attributes:
        path: The full path.
        name: The path for a call with `dir_fd`.
        dir_fd: The directory, open. None if this is no process of root: then `name` is the full path.
        directory: The status of the directory; None if this is no process of root.
        settled: Whether root alone decides which directory that is.
    """

    path: str
    name: str
    dir_fd: int | None = None
    directory: os.stat_result | None = None
    settled: bool = True

    def is_safe(self, status: os.stat_result) -> bool:
        """Whether only root can have put the file of this `status` there; always true if this is no process of root."""
        return self.directory is None or (self.settled and is_kept_by_root(self.directory, status))

    def is_known(self, status: os.stat_result) -> bool:
        """Whether a change of the mode of the file of this `status` can give access only to this log.

        If another user may rename files there, a file of root under this name may be a secret that was moved there.
        """
        return self.directory is None or self.is_safe(status) or 0 != status.st_uid == self.directory.st_uid

    def is_sticky(self) -> bool:
        """Whether users make files there and may not touch the files of each other, as in /tmp."""
        return self.directory is not None and bool(self.directory.st_mode & stat.S_ISVTX)

    def check(self, status: os.stat_result, owner: int | None = None) -> None:
        """Raise NotOurs unless the file of this `status` may be written under this name.

        Args:
            status: Of the open file.
            owner: A user other than root to whom this program has given the file.
        """
        if not stat.S_ISREG(status.st_mode):
            raise NotOurs(errno.EPERM, f"is {kind_of(status)} and no regular file; remove it", self.path)
        if self.directory is None or self.is_safe(status):
            return
        keeper = self.directory.st_uid
        if status.st_nlink > 1 and (keeper == 0 or status.st_uid != keeper):
            raise NotOurs(
                errno.EPERM,
                f"has {status.st_nlink} names (hard links) in a directory that another user may write, so root leaves"
                " it alone; remove this one",
                self.path,
            )
        if self.is_sticky() and status.st_uid not in (0, keeper, owner):
            raise NotOurs(
                errno.EPERM,
                f"belongs to user {status.st_uid}, who may have put it into this directory of everybody, so root leaves"
                " it alone; remove it, or log into a directory of your own",
                self.path,
            )

    def check_special(self, status: os.stat_result) -> None:
        """Raise NotOurs unless the special file of this `status` may be written under this name."""
        if not self.is_safe(status):
            raise NotOurs(
                errno.EPERM,
                f"is {kind_of(status)} in a directory that another user may write, so root leaves it alone; remove it",
                self.path,
            )

    def looks(self) -> Looks:
        """Owner and group for the first file of its kind here: users who may write the directory may write it too."""
        directory = self.directory or os.stat(os.path.dirname(self.path))
        if directory.st_uid != 0:
            return Looks(directory.st_uid, directory.st_gid if directory.st_mode & stat.S_IWGRP or is_root() else None)
        return Looks(gid=directory.st_gid if directory.st_mode & stat.S_IWGRP else None)

    def check_gift(self, status: os.stat_result, uid: int, gid: int) -> None:
        """Raise NotOurs if it could reveal a secret to give the open file of this `status` to a user.

        For a file that this process has not made, and that another user may have put there. A file that the receiver
        may read anyway is no secret; a file that has another name may belong to another user.
        """
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            names = f"has {status.st_nlink} names (hard links)"
            what = names if stat.S_ISREG(status.st_mode) else f"is {kind_of(status)}"
            raise NotOurs(errno.EPERM, f"{what}, so it is not given away", self.path)
        readable = (
            (uid and status.st_uid == uid)
            or status.st_mode & stat.S_IROTH
            or (status.st_gid == gid and status.st_mode & stat.S_IRGRP)
        )
        if not readable and not self.is_safe(status):
            raise NotOurs(
                errno.EPERM,
                f"belongs to user {status.st_uid} in a directory that another user may write, who may have put it"
                " there",
                self.path,
            )

    def beside(self, name: str) -> Place:
        """Another name in the same directory."""
        path = os.path.join(os.path.dirname(self.path), name)
        return self.replace(path=path, name=path if self.dir_fd is None else name)

    def status(self) -> os.stat_result:
        """The status of the file, without following a link."""
        return os.stat(self.name, dir_fd=self.dir_fd, follow_symlinks=False)

    def open(self, flags: int, mode: int = 0o666, owner: int | None = None) -> int:
        """Open the regular file that is there; see `check`.

        Only a process of another user than root passes O_CREAT on to the kernel, which has a rule about that flag and
        files of other users in sticky directories. Call `create` first if the file may be missing.

        Raises:
            NotOurs: It is not to be used.
            OSError: It is a link (ELOOP), it is missing, or it may not be opened.
        """
        if self.dir_fd is not None:
            flags &= ~os.O_CREAT
        return self._opened(flags, mode, owner)

    def create(self, flags: int, mode: int = 0o666) -> int:
        """Make a file and open it.

        Raises:
            FileExistsError: The name is taken.
            OSError: It cannot be made.
        """
        return self._opened(flags | os.O_CREAT | os.O_EXCL, mode, None)

    def _opened(self, flags: int, mode: int, owner: int | None) -> int:
        """Open a file and check it."""
        flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(self.name, flags, mode, dir_fd=self.dir_fd)
        except OSError as error:
            if error.errno == errno.ENXIO:
                # A FIFO without a reader, or a socket (open(2)).
                self.check(self.status(), owner)
            error.filename = self.path
            raise
        try:
            self.check(os.fstat(descriptor), owner)
            os.set_blocking(descriptor, True)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


@contextmanager
def place_of(path: str) -> Iterator[Place]:
    """The place of a path, for a few steps. If this is a process of root, the directory is open meanwhile.

    Raises:
        NotOurs: A link leads there that another user may have put in the way.
        OSError: The directory cannot be reached.
    """
    if not is_root():
        yield Place(path, path)
        return
    directory, name = os.path.split(os.path.abspath(path))
    with closing(Walk()) as walk:
        walk.go(directory)
        yield Place(os.path.join(walk.path, name), name, walk.descriptor, walk.status, walk.settled)


@contextmanager
def places_of(path: str, other: str) -> Iterator[tuple[Place, Place]]:
    """The places of two paths; see `place_of`. If they are in one directory, as is usual, the walk is made once."""
    with place_of(path) as place:
        directory, name = os.path.split(other)
        if directory == os.path.dirname(path):
            yield place, place.beside(name)
            return
        with place_of(other) as another:
            yield place, another


@contextmanager
def open_directory(path: str) -> Iterator[int]:
    """A directory, open for calls with `dir_fd`: it stays the same for several steps, even if it is renamed.

    Raises:
        NotOurs: A link leads there that another user may have put in the way.
        OSError: It cannot be reached.
    """
    if not is_root():
        descriptor = os.open(path, SEARCH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)
        return
    with closing(Walk()) as walk:
        walk.go(os.path.abspath(path))
        yield walk.descriptor


def make_directory(path: str, like: os.stat_result | None) -> None:
    """Make a directory, and those above it that are missing, unless it exists.

    Args:
        path: The full path.
        like: A status whose owner, group and mode it gets. None for the usual mode, and the owner of the directory
            above.

    Raises:
        NotOurs: The name is taken by another file, or another user has put a link in the way.
        OSError: It cannot be made.
    """
    path = resolved(path)
    try:
        with place_of(path) as place:
            _make_directory_at(place, like)
    except FileNotFoundError:
        make_directory(os.path.dirname(path), like)
        with place_of(path) as place:
            _make_directory_at(place, like)


def _make_directory_at(place: Place, like: os.stat_result | None) -> None:
    """Make a directory in one that exists."""
    try:
        # Closed to other users until it has its owner: only the directory that was made here may be given away below.
        os.mkdir(place.name, 0o777 if like is None else 0o700, dir_fd=place.dir_fd)
    except FileExistsError:
        status = place.status()
        if not stat.S_ISDIR(status.st_mode):
            raise NotOurs(errno.EEXIST, f"is {kind_of(status)} and no directory", place.path) from None
        return
    looks = place.looks() if like is None else Looks(like.st_uid, like.st_gid, like.st_mode & 0o7777)
    descriptor = os.open(place.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place.dir_fd)
    try:
        # A user who may write the directory above may have put another one in its place.
        if os.fstat(descriptor).st_uid == os.geteuid() and not os.listdir(descriptor):
            looks.give_to(descriptor)
    finally:
        os.close(descriptor)


def resolved(path: str) -> str:
    """The full path without links, as `os.path.realpath`; a process of root refuses links of other users.

    Raises:
        NotOurs: One of the links may have been put there by another user.
        OSError: A directory cannot be entered.
    """
    if not is_root():
        return os.path.realpath(path)
    with closing(Walk()) as walk:
        return walk.resolve(os.path.abspath(path))


def open_file(path: str, flags: int) -> int:
    """Open the regular file that `path` names, to read or to write it, if it exists.

    Raises:
        NotOurs: It is not to be used.
        OSError: It is a link (ELOOP), it is missing, or it may not be opened.
    """
    with place_of(path) as place:
        return place.open(flags & ~os.O_CREAT)


def kind_of(status: os.stat_result) -> str:
    """The kind of a file that is no regular one, in words."""
    return _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
