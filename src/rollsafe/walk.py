"""How a process of root reaches a directory: name by name, by descriptors, through no link of another user."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import Final

from rollsafe.background import close
from rollsafe.errors import NotOurs

# Permission to search is enough for it, as for a path (open(2)); Linux only.
SEARCH: Final = getattr(os, "O_PATH", os.O_RDONLY)
_DIRECTORY: Final = SEARCH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# What openat(2) with these flags says of a link: Linux, macOS, FreeBSD.
_LINK: Final = (errno.ENOTDIR, errno.ELOOP, errno.EMLINK)
MOST_LINKS: Final = 40
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def is_kept_by_root(directory: os.stat_result, status: os.stat_result) -> bool:
    """Whether in this directory nobody but root can put what has this `status` under a name, or something else later.

    A sticky directory lets others make names, but not take away what is not theirs.
    """
    if directory.st_uid != 0:
        return False
    return not directory.st_mode & _OTHERS_WRITE or bool(directory.st_mode & stat.S_ISVTX and status.st_uid == 0)


def _parts(path: str) -> list[str]:
    """The names of a path, the last one first."""
    return [part for part in path.split("/") if part not in ("", ".")][::-1]


class Walk:
    """A way from "/" down to a directory, an openat(2) for each name.

    Attributes:
        descriptor: The directory that was reached, open.
        status: Its status.
        path: Its path without links.
        settled: Whether no one but root can have had a hand in it.
    """

    def __init__(self) -> None:
        self.descriptor = -1
        self.path = "/"
        self.settled = True
        self._links = 0

    def _begin(self) -> None:
        self._turn_to(os.open("/", _DIRECTORY))
        self.path = "/"
        self.settled = True

    def _turn_to(self, descriptor: int) -> None:
        """Have this directory as the one that was reached."""
        self.close()
        self.descriptor = descriptor
        self.status = os.fstat(descriptor)

    def close(self) -> None:
        """Close the directory."""
        left, self.descriptor = self.descriptor, -1
        if left >= 0:
            # It is closed whatever is said (close(2), "Dealing with error returns"), and nothing was written.
            with suppress(OSError):
                close(left)

    def go(self, path: str) -> None:
        """Go to a directory by its full path, which may have links in it.

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
                # Among the directories that we came through, or "/" itself.
                self.path = os.path.dirname(self.path)
            else:
                self.path = os.path.join(self.path, part)
                self.settled = self.settled and is_kept_by_root(above, self.status)

    def target_of(self, name: str) -> str | None:
        """What a link in the directory says; None if the name is of no link.

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
        """The path without links; what is missing is taken as it is."""
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
