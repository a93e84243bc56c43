"""The files of a directory of backups, looked at once for all that one pass does with them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final, TypeVar

from rollsafe._background import is_only_thread, sleep
from rollsafe._backups.names import ROLLED_EXTENSION, UNANNOUNCED_EXTENSION, Names
from rollsafe._backups.scratch import made_for

# Seconds of work on files until other threads get a turn, and seconds of that turn: a directory may have thousands.
_WORK_S: Final = 0.0001
_TURN_S: Final = 0.0005
# The most directories of one log that are looked into. With one for each day, they are of more than ten years.
_MOST_DIRECTORIES: Final = 4000

_Thing = TypeVar("_Thing")


class Listing:
    """The regular files, and the scratch directories, in one directory of backups.

    Attributes:
        directory: Its path.
        names: The names of the backups there.
        files: The names of the regular files, sorted.
    """

    def __init__(self, directory: str, names: Names) -> None:
        self.directory = directory
        self.names = names
        self.files: list[str] = []
        self._inodes: dict[str, int] = {}
        self._scratch: list[str] = []
        with os.scandir(directory) as entries:
            for entry in slowly(entries):
                if entry.is_file(follow_symlinks=False):
                    self.files.append(entry.name)
                    self._inodes[entry.name] = entry.inode()
                elif made_for(entry.name) and entry.is_dir(follow_symlinks=False):
                    self._scratch.append(entry.name)
        self.files.sort()

    def path(self, name: str) -> str:
        """The path of a file in the directory."""
        return os.path.join(self.directory, name)

    def paths(self) -> set[str]:
        """The paths of all that is listed."""
        return {self.path(name) for name in (*self.files, *self._scratch)}

    def is_unfinished(self, compresses: bool) -> bool:
        """Whether a pass has anything to complete here."""
        leftovers = any(self.rolled()) or any(self.unannounced()) or any(self.scratch())
        return leftovers or (compresses and any(self.plain()))

    def rolled(self) -> Iterator[str]:
        """The paths of the rolled files, which wait for the application."""
        for name in self.files:
            if name.endswith(ROLLED_EXTENSION) and self.names.parse(name.removesuffix(ROLLED_EXTENSION)):
                yield self.path(name)

    def unannounced(self) -> Iterator[str]:
        """The second names of archives of which the application was not notified."""
        for name in self.files:
            if name.endswith(UNANNOUNCED_EXTENSION):
                final = name.removesuffix(UNANNOUNCED_EXTENSION)
                backup = self.names.parse(final)
                if backup and backup.extension and self._inodes.get(final) == self._inodes[name]:
                    yield self.path(name)

    def scratch(self) -> Iterator[tuple[str, frozenset[str]]]:
        """The paths of the scratch directories, each with the names of the files that may be in it."""
        for name in self._scratch:
            archive = made_for(name) or ""
            backup = self.names.parse(archive)
            if backup and backup.extension:
                yield self.path(name), frozenset((archive, archive.removesuffix(backup.extension)))

    def plain(self) -> Iterator[tuple[str, int]]:
        """The paths of the backups that are no archives, each with its inode number."""
        others = tuple(extension for extension in self.names.extensions if extension)
        others += (UNANNOUNCED_EXTENSION, ROLLED_EXTENSION)
        for name in slowly(name for name in self.files if not name.endswith(others)):
            if self.names.parse(name):
                yield self.path(name), self._inodes[name]


def directories_below(root: str, levels: int) -> list[str]:
    """The directories `levels` below another one, without following links; if they are many, the last ones by name."""
    found = [root]
    for _ in range(levels):
        below: list[str] = []
        for directory in found:
            with suppress(OSError), os.scandir(directory) as entries:
                below += [entry.path for entry in slowly(entries) if entry.is_dir(follow_symlinks=False)]
        found = sorted(below)[-_MOST_DIRECTORIES:]
    return found


def slowly(things: Iterable[_Thing]) -> Iterator[_Thing]:
    """The same things, with turns for other threads in between, if there are any (a command has none)."""
    if is_only_thread():
        yield from things
        return
    since = time.monotonic()
    for thing in things:
        yield thing
        if time.monotonic() - since > _WORK_S:
            sleep(_TURN_S)
            since = time.monotonic()
