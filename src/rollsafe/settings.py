"""What a handler says of itself in the lock file, so that the command line tools need no configuration. Pure."""

from __future__ import annotations

import dataclasses
import datetime
import json
import zoneinfo
from dataclasses import dataclass
from functools import lru_cache

from rollsafe.errors import ConfigurationError
from rollsafe.schedule import Schedule

# Stands for a zone that has no name, and a schedule that only the application can compute.
UNNAMED = "unnamed"


@dataclass(frozen=True)
class Settings:
    """The settings of one live file. A reader ignores what it does not know, and takes defaults for what is missing."""

    when: str = "H"
    interval: int = 1
    """How many of `when`."""
    atTime: str | None = None
    """ISO 8601 time of day."""
    tz: str | None = None
    """A zone's name; None for the local zone, UNNAMED for one that has no name."""
    suffix: str | None = None
    """The strftime format of backup names; None for the default of `when`."""
    namer: bool = False
    """Whether a namer of the application makes the names of backups."""
    encoding: str = "utf-8"
    backupCount: int = 0
    maxBytes: int = 0
    max_age: float | None = None
    """Seconds."""
    max_total_bytes: int | None = None
    min_free_bytes: int | None = None
    archive_dir: str | None = None
    """Full path of the directory of the backups; None for that of the live file."""
    extension: str = ""
    """What archives have behind the names of backups, if it is none of the usual ones."""
    compress: bool = False
    """Whether backups become archives."""

    # Asked at each rollover by each worker, and nearly always the same.
    @lru_cache(maxsize=64)  # noqa: B019  # frozen: what is kept is small and equal settings are one
    def line(self) -> bytes:
        """The settings as one line of JSON, without newline; what has its default is left out."""
        changed = {
            field.name: value
            for field in dataclasses.fields(self)
            if (value := getattr(self, field.name)) != field.default or field.name == "when"
        }
        return json.dumps(changed, separators=(",", ":")).encode()

    @classmethod
    def read(cls, line: bytes) -> Settings | None:
        """The settings that `line` tells, None if it tells none."""
        try:
            told = json.loads(line)
            known = {field.name: told[field.name] for field in dataclasses.fields(cls) if field.name in told}
            return cls(**known) if known else None
        except (ValueError, TypeError):
            return None

    def schedule(self) -> Schedule:
        """The intervals of these settings.

        Raises:
            ConfigurationError: The zone has no name, or is not known here.
        """
        if self.tz == UNNAMED:
            raise ConfigurationError("the handler's tz is an object without a name; use a zone such as 'Europe/Paris'")
        at_time = datetime.time.fromisoformat(self.atTime) if self.atTime else None
        return Schedule(self.when, self.interval, at_time, self.zone(), self.suffix)

    def zone(self) -> datetime.tzinfo | str | None:
        """The zone as `Schedule` takes it; only if it has a name."""
        return datetime.timezone.utc if self.tz == "UTC" else self.tz


def name_of_zone(tz: str | datetime.tzinfo | None, utc: bool) -> str | None:
    """The name under which `Settings` keeps a zone."""
    if utc or tz is datetime.timezone.utc:
        return "UTC"
    if tz is None or isinstance(tz, str):
        return tz
    return tz.key if isinstance(tz, zoneinfo.ZoneInfo) and tz.key else UNNAMED
