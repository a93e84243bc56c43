"""What a check returns, and the log that it is about."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass

from rollsafe.settings import Settings
from rollsafe.tools.catalog import Log
from rollsafe.tools.trials import User

OK, WARNING, ERROR = "ok", "warning", "error"
LEVELS = (OK, WARNING, ERROR)
"""From good to bad; the place of the worst is the exit code."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: One of LEVELS.
        about: Which check, in one or two words.
        where: The path, logger or setting that it is about.
        what: What is so.
        why: Why it matters; "" where all is well.
        remedy: What to do; "" where all is well.
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
    """A log that is to be checked.

    Attributes:
        live: Full path of the live file.
        settings: Its settings; None if nothing tells them.
        user: Who will write; None is the user who checks.
        handed_over: Whether live and lock file are given to that user when the server starts.
        log: What is there already, None for nothing.
    """

    live: str
    settings: Settings | None
    user: User | None = None
    handed_over: bool = False
    log: Log | None = None

    @property
    def directory(self) -> str:
        """Where the live file is."""
        return os.path.dirname(self.live)

    @property
    def backup_directory(self) -> str:
        """Where the backups are."""
        return (self.settings.archive_dir if self.settings else None) or self.directory
