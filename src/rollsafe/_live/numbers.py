"""The numbers of the backups of one interval."""

from __future__ import annotations

import os

from rollsafe._backups.names import ROLLED_EXTENSION
from rollsafe._backups.naming import BackupNaming
from rollsafe._live.live_note import LiveNote
from rollsafe.schedule import Interval


class BackupNumbers:
    """Which number the next backup of an interval gets; to be asked under the lock.

    Args:
        naming: The names of the backups.
        note: The note about the live file.
        by_size: Files are also rolled for their size, so that an interval has several, numbered in the order of time.
        shared: Other hosts make backups, too.
    """

    def __init__(self, naming: BackupNaming, note: LiveNote, *, by_size: bool, shared: bool) -> None:
        self._naming = naming
        self._note = note
        self._by_size = by_size
        self._shared = shared
        self._taken_extensions = (*naming.names().extensions, ROLLED_EXTENSION)

    def next(self, status: os.stat_result, interval: Interval) -> int:
        """The first number to try for a backup: the noted one, or the one above the highest that exists.

        The first free number would not do: retention frees the lowest ones, and numbers must rise with time.
        """
        noted = self._note.number(status, interval)
        return max(interval.fold, self.above(interval) if noted is None else noted)

    def above(self, interval: Interval) -> int:
        """The number above the highest that a backup of the interval has; 0 if files are rolled for the time alone.

        Then no file is rolled twice in one interval, and the first free number will do.
        """
        return self._naming.last_number(interval.suffix) + 1 if self._by_size else 0

    def free(self, interval: Interval, sequence: int = 0) -> int:
        """The first number, from `sequence` on, with a free name for the backup and for its archive.

        Raises:
            ValueError: No number is free, because the namer gives the same name for each.
        """
        sequence = max(sequence, interval.fold)
        path = self._naming.path(interval.suffix, sequence)
        if self._shared:
            self._refresh(os.path.dirname(path))
        while any(os.path.lexists(path + extension) for extension in self._taken_extensions):
            sequence += 1
            taken, path = path, self._naming.path(interval.suffix, sequence)
            if path == taken:
                raise ValueError(f"{path!r} exists and the namer gives it for every number; let it keep the `.1`")
        return sequence

    def _refresh(self, directory: str) -> None:
        """Have the client of a network file system ask the server for the names in a directory.

        Its cache shows a name for up to half a minute after another host has renamed or removed the file. To open the
        directory makes it ask whether the directory has changed (nfs(5), "Directory entry caching").
        """
        try:
            os.close(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except OSError:
            return
