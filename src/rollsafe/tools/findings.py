"""The findings of a check, and the log that it is about."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass

from rollsafe._settings import Settings
from rollsafe.tools.catalog import Log
from rollsafe.tools.trials import User

OK, WARNING, ERROR = "ok", "warning", "error"
LEVELS = (OK, WARNING, ERROR)
"""From good to bad; the index of the worst one is the exit code."""


@dataclass(frozen=True)
class Finding:
    """One result of a check.

    Attributes:
        level: One of LEVELS.
        about: The name of the check, in one or two words.
        where: The path, logger or setting that it is about.
        what: The fact that was found.
        why: Why it matters; "" if all is well.
        remedy: What to do; "" if all is well.
    """

    level: str
    about: str
    where: str
    what: str
    why: str = ""
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Target:
    """A log to check.

    Attributes:
        live: Full path of the live file.
        settings: Its settings; None if they are not known.
        user: The user who will write; None is the user who checks.
        handed_over: Whether live file and lock file are given to that user when the server starts.
        log: The log as it is on disk, None if it does not exist yet.
    """

    live: str
    settings: Settings | None
    user: User | None = None
    handed_over: bool = False
    log: Log | None = None

    @property
    def directory(self) -> str:
        """The directory of the live file."""
        return os.path.dirname(self.live)

    @property
    def backup_directory(self) -> str:
        """The directory of the backups."""
        return (self.settings.archive_dir if self.settings else None) or self.directory
