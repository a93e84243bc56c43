"""How a process of root reaches a directory: name by name, by descriptors, through no link of another user."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import Final

from rollsafe._background import close
from rollsafe.errors import NotOurs

# O_PATH, of Linux, needs only the permission to search the directory, as a path does (open(2)).
SEARCH: Final = getattr(os, "O_PATH", os.O_RDONLY)
_DIRECTORY: Final = SEARCH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# The errors of openat(2) with these flags for a link: of Linux, macOS and OpenBSD, FreeBSD, NetBSD.
_LINK: Final = (errno.ENOTDIR, errno.ELOOP, errno.EMLINK, getattr(errno, "EFTYPE", errno.ELOOP))
MOST_LINKS: Final = 40
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def is_kept_by_root(directory: os.stat_result, status: os.stat_result) -> bool:
    """Whether only root can have put the file of this `status` into a directory, and only root can replace it.

    In a sticky directory other users can make files, but cannot rename or remove those of root.
    """
    if directory.st_uid != 0:
        return False
    return not directory.st_mode & _OTHERS_WRITE or bool(directory.st_mode & stat.S_ISVTX and status.st_uid == 0)


def _parts(path: str) -> list[str]:
    """The names of a path, the last one first."""
    return [part for part in path.split("/") if part not in ("", ".")][::-1]


class Walk:
    """A walk from "/" down to a directory, with an openat(2) for each name.

    Attributes:
        descriptor: The directory that was reached, open.
        status: Its status.
        path: Its path without links.
        settled: Whether root alone decides that this path leads there.
    """

    def __init__(self) -> None:
        self.descriptor = -1
        self.path = "/"
        self.settled = True
        self._links = 0

    def _begin(self) -> None:
        """Go to "/"."""
        self._turn_to(os.open("/", _DIRECTORY))
        self.path = "/"
        self.settled = True

    def _turn_to(self, descriptor: int) -> None:
        """Take an open directory as the one that was reached."""
        self.close()
        self.descriptor = descriptor
        self.status = os.fstat(descriptor)

    def close(self) -> None:
        """Close the directory."""
        left, self.descriptor = self.descriptor, -1
        if left >= 0:
            # It is closed even if there is an error (close(2), "Dealing with error returns"), and nothing was written.
            with suppress(OSError):
                close(left)

    def go(self, path: str) -> None:
        """Go to a directory by its full path, which may contain links.

        Raises:
            NotOurs: One of them is not followed.
            OSError: There is no such directory, or it may not be entered.
        """
        self._begin()
        parts = _parts(path)
        while parts:
            part = parts.pop()
            try:
                below = os.open(part, _DIRECTORY, dir_fd=self.descriptor)
            except OSError as error:
                target = self.target_of(part) if error.errno in _LINK else None
                if target is None:
                    error.filename = os.path.join(self.path, part)
                    raise
                parts += _parts(target)
                if target.startswith("/"):
                    self._begin()
                continue
            above = self.status
            self._turn_to(below)
            if part == "..":
                # One of the directories of the walk, or "/" itself.
                self.path = os.path.dirname(self.path)
            else:
                self.path = os.path.join(self.path, part)
                self.settled = self.settled and is_kept_by_root(above, self.status)

    def target_of(self, name: str) -> str | None:
        """The target of a link in the directory; None if the name is not that of a link.

        Raises:
            NotOurs: The link is not followed.
        """
        try:
            status = os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
            if not stat.S_ISLNK(status.st_mode):
                return None
            target = os.readlink(name, dir_fd=self.descriptor)
        except OSError:
            return None
        path = os.path.join(self.path, name)
        self._links += 1
        if self._links > MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if not (self.settled and is_kept_by_root(self.status, status)):
            raise NotOurs(
                errno.ELOOP,
                "is a symbolic link in a directory that another user may write, so root does not follow it; remove"
                " it, or give the path that it leads to",
                path,
            )
        return target

    def resolve(self, path: str) -> str:
        """The path without links; parts that do not exist stay as they are."""
        rest: list[str] = []
        while True:
            directory, name = os.path.split(path)
            try:
                self.go(directory)
            except (FileNotFoundError, NotADirectoryError):
                if directory == "/":
                    raise
                path = directory
                rest.append(name)
                continue
            target = self.target_of(name) if name not in ("", "..") else None
            if target is None:
                return os.path.normpath(os.path.join(self.path, name, *rest[::-1]))
            path = os.path.join(self.path, target)
