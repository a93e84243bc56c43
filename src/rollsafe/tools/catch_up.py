"""The backups that rsyslog has missed because it was stopped during rollovers.

rsyslog reads a file by its path, so it never returns to a file that was renamed meanwhile. But it keeps its position by
the file's inode, and finds it again under any name, so its configuration only has to name the backups that it missed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from math import inf

from rollsafe.errors import LogFileError
from rollsafe.tools.catalog import Log

_STATE = "imfile-state:"

File = tuple[str, int, float]
"""Full path, inode, and the start of its interval (seconds since the epoch)."""


def unread_backups(log: Log, state: str) -> list[str]:
    """Full paths of the plain backups of `log` that an rsyslog, which is stopped now, has not read to their end.

    Args:
        log: As it is on disk.
        state: The working directory of rsyslog.

    Raises:
        LogFileError: The directory cannot be read.
    """
    files = []
    for file in log.files:
        if not file.extension and file.interval is not None:
            try:
                files.append((file.path, os.stat(file.path).st_ino, file.interval.start))
            except FileNotFoundError:
                continue
    return unread(files, log.live, _places(state))


def unread(files: Sequence[File], live: str, places: Mapping[int, float]) -> list[str]:
    """The paths of those of `files` that are backups which rsyslog still has to read, oldest first.

    When rsyslog ends, it saves its positions in the files that it has open. So there is a position in the live file of
    that moment, which may be a backup by now, and none in any later file.

    Args:
        files: Plain backups, and the live file if there is one.
        live: The path of the live file.
        places: Inode -> when the position in it was saved, seconds since the epoch.
    """
    # A position that was saved before the file was made is one in an older file with the same inode number.
    known = [number for number, (_, inode, start) in enumerate(files) if places.get(inode, -inf) >= start]
    return [path for path, _, _ in files[known[-1] :] if path != live] if known else []


def _places(state: str) -> dict[int, float]:
    """Inode -> when rsyslog has saved a position in that file."""
    places: dict[int, float] = {}
    try:
        for entry in os.scandir(state):
            inode = entry.name.removeprefix(_STATE).partition(":")[0]
            if entry.name.startswith(_STATE) and inode.isdigit():
                places[int(inode)] = max(places.get(int(inode), -inf), entry.stat().st_mtime)
    except OSError as error:
        raise LogFileError(f"the places that rsyslog has reached cannot be read in {state!r}: {error}") from error
    return places
