"""The intervals of one handler and the names of their backups.

The module `names` has the rules, which touch no file. `BackupNaming` applies what the application may set at any
moment: `namer`, `suffix`, `extMatch`, an overridden `computeRollover`.
"""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Callable
from typing import Any, Protocol

from rollsafe._backups.listing import directories_below
from rollsafe._backups.names import ROLLED_EXTENSION, Names, recognisers_of, spread_of
from rollsafe._backups.ownership import other_owner
from rollsafe.schedule import Interval, Schedule


class Named(Protocol):
    """The part of a handler that its naming uses; most names are the standard library's."""

    interval: int
    utc: bool
    tz: str | datetime.tzinfo | None
    archive_dir: str | None

    @property
    def baseFilename(self) -> str:
        """The live file."""

    def rotation_filename(self, default_name: str) -> str:
        """The name that `namer` makes of a default name."""

    def computeRollover(self, currentTime: float) -> float:
        """The end of the interval that holds an instant."""

    def _replaces(self, name: str) -> bool:
        """Whether the application has replaced one of our methods."""


class BackupNaming:
    """The intervals and the backup names of one handler.

    Args:
        handler: Its attributes are read anew at each use.
        schedule_of: Makes the schedule for a suffix format, None for the default; raises ConfigurationError.
        suffix: The suffix format to begin with.
        extension: The extension of an archive, "" without compression.

    Attributes:
        schedule: The intervals, and the suffix of their backups.
        ext_match: The application's `extMatch`, None if it has set none.
        base: The full path of a backup without its suffix.
    """

    def __init__(
        self,
        handler: Named,
        schedule_of: Callable[[str | None], Schedule],
        *,
        suffix: str | None,
        extension: str,
    ) -> None:
        self.schedule = schedule_of(suffix)
        self.ext_match: re.Pattern[str] | None = None
        self.base = ""
        self._handler = handler
        self._schedule_of = schedule_of
        self._extension = extension

    def set_path(self, path: str) -> None:
        """Name the backups of another live file."""
        self.base = backup_base_of(path, self._handler.archive_dir)

    def set_suffix(self, suffix: str) -> None:
        """Name backups with another suffix from now on. Raises ConfigurationError if it identifies no interval."""
        self.schedule = self._schedule_of(suffix)

    def interval_at(self, instant: float) -> Interval:
        """The interval that holds `instant`, by the schedule or by an overridden `computeRollover`."""
        if not self._handler._replaces("computeRollover"):
            return self.schedule.interval(instant)
        end = self._handler.computeRollover(instant)
        start = min(end - self._handler.interval, instant)
        return Interval(start, end, self.schedule.interval(start).suffix, 0)

    def names(self) -> Names:
        """The backup names by the present values of the handler's attributes."""
        return Names(self.base, self.schedule, extMatch=self.ext_match, **self._arguments())

    def recognisers(self) -> list[Names]:
        """The names of this handler's backups, and those it would give with another `when` and the default suffix."""
        zone = datetime.timezone.utc if self._handler.utc else self._handler.tz
        return recognisers_of(self.names(), self.base, zone, **self._arguments())

    def path(self, suffix: str, sequence: int) -> str:
        """Full path of one backup. Raises any exception of the application's namer."""
        return self.names().path(suffix, sequence)

    def last_number(self, suffix: str) -> int:
        """The highest sequence number of a backup of this suffix, -1 if there is none."""
        names = self.names()
        entries = os.listdir(os.path.dirname(names.path(suffix)))
        pending = (name.removesuffix(ROLLED_EXTENSION) for name in entries if suffix in name)
        backups = (backup for name in pending if (backup := names.parse(name)) and backup.suffix == suffix)
        return max((backup.sequence for backup in backups), default=-1)

    def directories(self, now: float) -> list[str]:
        """The directories of backups: first that of backups made at `now`, then those of other dates.

        There are several only if a namer puts each date into a directory of its own.
        """
        suffix = self.interval_at(now).suffix
        here = os.path.dirname(self.path(suffix, 0))
        root, levels = spread_of(here, os.path.dirname(self.base), suffix)
        if not levels:
            return [here]
        others = [directory for directory in directories_below(root, levels) if directory != here]
        return [here, *others] if os.path.isdir(here) or not others else others

    def other_owner(self) -> str | None:
        """The live file of another log that owns the backups by now, None as long as they are ours; see `ownership`."""
        return other_owner(os.path.dirname(self.base), self._handler.baseFilename)

    def _arguments(self) -> dict[str, Any]:
        """The arguments that all `Names` of this handler have in common."""
        return {"namer": self._named, "extension": self._extension}

    def _named(self, default: str) -> str:
        """The application's full path for a backup; the present working directory completes a relative one."""
        path = self._handler.rotation_filename(default)
        return os.path.abspath(path) if isinstance(path, str | os.PathLike) else path


def backup_base_of(path: str, directory: str | None) -> str:
    """The full path of the backups of a live file, without their suffix."""
    return os.path.join(directory or os.path.dirname(path), os.path.basename(path))
