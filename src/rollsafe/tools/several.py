"""Logs of several directories, such as those of several hosts, each file once.

One file can have several names: a directory is given twice, by a link, as a bind mount, or together with the directory
around it; a backup has a hard link in a snapshot. Device and inode tell; copies are different files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator

from rollsafe._files.identity import Identity, identity_of
from rollsafe._files.lock_files import live_name_of
from rollsafe.tools.catalog import Log, lives_in, logs_at

# Levels of directories below one that holds no log: a host, and a service of it.
_DEPTH = 2
# The end of the names that are taken for live files in a copy without its hidden lock files.
_LIVE_ENDING = ".log"


def logs_of_hosts(paths: Iterable[str | os.PathLike[str]], complain: Callable[[str], None]) -> list[Log]:
    """The logs of `paths` as `logs_at` finds them, each once; a directory without a log stands for those in it.

    In a directory without lock files (a copy that lacks hidden files), files whose names end in ".log" are logs, too.

    Args:
        paths: Directories, live files, or single backups.
        complain: Called with a sentence about each directory below them that cannot be read or holds no log.

    Raises:
        LogFileError: A path does not exist, or there is no log at it.
        OSError: A path cannot be inspected.
    """
    found: dict[tuple[Identity | str, str], Log] = {}
    search = _Search(complain)
    for log in logs_at([each for path in paths for each in search.paths(os.fspath(path))]):
        found.setdefault((_directory_of(log), log.name), log)
    return list(found.values())


def lives_of_hosts(paths: Iterable[str | os.PathLike[str]]) -> set[str]:
    """The live files that `logs_of_hosts` finds now, without a look at their backups; also those given as files.

    Raises:
        OSError: A path cannot be inspected.
    """
    search = _Search(lambda sentence: None)
    lives: set[str] = set()
    for given in paths:
        for path in map(os.path.realpath, search.paths(os.fspath(given))):
            lives.update(lives_in(path) if os.path.isdir(path) else (path,))
    return lives


class Claims:
    """Which name of a file counts, if it has several: the first that was asked about, as long as it is one.

    Args:
        logs: The files of these are asked about first: of logs with a lock file, which tells their intervals, then of
            those that were inferred from names.
    """

    def __init__(self, logs: Iterable[Log] = ()) -> None:
        self._paths: dict[Identity, str] = {}
        for log in sorted(logs, key=lambda log: not log.told):
            for file in log.files:
                self.take(file.path)

    def take(self, path: str) -> bool:
        """Whether the file is to be read by this name; also if it has none any more, which the reader will see."""
        try:
            identity = identity_of(os.stat(path))
        except OSError:
            return True
        other = self._paths.get(identity)
        # A file that was removed may have left its inode number to another one.
        if other is not None and other != path and is_file_at(identity, other):
            return False
        self._paths[identity] = path
        return True


def is_file_at(identity: Identity, path: str) -> bool:
    """Whether the file of this identity has the name `path`."""
    try:
        return identity_of(os.stat(path)) == identity
    except OSError:
        return False


def _directory_of(log: Log) -> Identity | str:
    """The directory of a live file, the same by each of its paths; its path if it cannot be inspected."""
    directory = os.path.dirname(log.live)
    try:
        return identity_of(os.stat(directory))
    except OSError:
        return directory


class _Search:
    """Looks for logs below directories that hold none themselves; into each directory once, as links lead anywhere."""

    def __init__(self, complain: Callable[[str], None]) -> None:
        self._complain = complain
        self._seen: set[str] = set()

    def paths(self, path: str) -> list[str]:
        """`path`, or what is found in it, if it is a directory that holds no log itself."""
        full = os.path.realpath(path)
        self._seen.clear()
        return list(self._in(full, _DEPTH) if os.path.isdir(full) else ()) or [path]

    def _in(self, directory: str, depth: int) -> Iterator[str]:
        """A directory and its unnamed live files if it holds a log, else those of the directories in it."""
        self._seen.add(directory)
        named = set(lives_in(directory))
        names = _names_in(directory)
        unnamed = []
        if not any(map(live_name_of, os.listdir(directory))):
            unnamed = [path for path in names if path.endswith(_LIVE_ENDING) and os.path.isfile(path)]
        yield from (path for path in unnamed if path not in named)
        if named:
            yield directory
        elif not unnamed and depth > 0:
            for path in map(os.path.realpath, filter(os.path.isdir, names)):
                if path not in self._seen:
                    yield from self._below(path, depth - 1)

    def _below(self, directory: str, depth: int) -> Iterator[str]:
        """What is found in a directory that was not given itself, so that the others do not depend on it."""
        try:
            names = _names_in(directory)
            found = list(self._in(directory, depth))
        except OSError as error:
            self._complain(f"{error.filename!r} cannot be read: {error.strerror}; its logs are left out")
            return
        if not found and not (depth > 0 and all(map(os.path.isdir, names))):
            self._complain(f"{directory!r} holds no log, so it is left out")
        yield from found


def _names_in(directory: str) -> list[str]:
    """The paths in a directory, without the hidden ones."""
    return sorted(os.path.join(directory, name) for name in os.listdir(directory) if not name.startswith("."))
