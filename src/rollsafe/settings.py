"""What a handler says of itself in the lock file, so that the command line tools need no configuration. Pure."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import re
import zoneinfo
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from rollsafe.errors import ConfigurationError
from rollsafe.schedule import Schedule

# Stands for a zone that has no name, and a schedule that only the application can compute.
UNNAMED = "unnamed"

# Seconds; more than the calendar has.
_LONGEST_AGE: Final = 1e12
# A key as zoneinfo takes it. No control characters: the tools show it.
_ZONE: Final = re.compile(r"[A-Za-z0-9_+./-]{1,255}")


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
        """The settings that `line` tells, None if it tells none, or one that no handler has. Never raises.

        What is not known is ignored: a later version may tell more.
        """
        try:
            told = json.loads(line.decode())
        except (ValueError, RecursionError):  # no UTF-8, no JSON, or an int of thousands of digits; nested too deep
            return None
        if not isinstance(told, dict):
            return None
        known = {field.name: told[field.name] for field in dataclasses.fields(cls) if field.name in told}
        if not known or not all(_CHECKS[name](value) for name, value in known.items()):
            return None
        settings = cls(**known)
        return settings if settings._make_intervals() else None

    def _make_intervals(self) -> bool:
        """Whether there is such a schedule, in whatever zone: that may have no name, or not be known here."""
        try:
            dataclasses.replace(self, tz=None).schedule().interval(0)
        except (ConfigurationError, ValueError, OverflowError, OSError):
            return False
        return True

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


def _is_count(value: object) -> bool:
    """Whether it is a number of files or bytes."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def _is_limit(value: object) -> bool:
    """Whether it is a number of bytes, or none."""
    return value is None or _is_count(value)


def _is_age(value: object) -> bool:
    """Whether it is a number of seconds, or none; JSON as Python reads it has NaN and Infinity."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return value is None or (number and 0 < value < _LONGEST_AGE)  # type: ignore[operator]  # it is a number


def _is_text(value: object) -> bool:
    """Whether it is a text that file names can have, or none."""
    if value is None:
        return True
    try:
        return isinstance(value, str) and b"\0" not in os.fsencode(value)
    except ValueError:  # half of a surrogate pair
        return False


def _is_path(value: object) -> bool:
    """Whether it is a full path, or none."""
    return value is None or (_is_text(value) and isinstance(value, str) and os.path.isabs(value))


def _is_zone(value: object) -> bool:
    """Whether it looks like the name of a zone, or is none."""
    return value is None or (isinstance(value, str) and _ZONE.fullmatch(value) is not None)


def _is_encoding(value: object) -> bool:
    """Whether it is an encoding of text."""
    try:
        return isinstance(value, str) and "".encode(value) == b""
    except (ValueError, LookupError):
        return False


def _is_extension(value: object) -> bool:
    """Whether archives may end in it."""
    return isinstance(value, str) and (value == "" or (value.startswith(".") and "/" not in value and _is_text(value)))


def _is_bool(value: object) -> bool:
    """Whether it is a yes or a no."""
    return isinstance(value, bool)


_CHECKS: Final[dict[str, Callable[[object], bool]]] = {
    "when": lambda value: isinstance(value, str),
    "interval": _is_count,
    "atTime": _is_text,
    "tz": _is_zone,
    "suffix": _is_text,
    "namer": _is_bool,
    "encoding": _is_encoding,
    "backupCount": _is_count,
    "maxBytes": _is_count,
    "max_age": _is_age,
    "max_total_bytes": _is_limit,
    "min_free_bytes": _is_limit,
    "archive_dir": _is_path,
    "extension": _is_extension,
    "compress": _is_bool,
}
"""By the name of a setting: whether a handler may have noted a value. `Settings.read` asks `Schedule` too."""


def name_of_zone(tz: str | datetime.tzinfo | None, utc: bool) -> str | None:
    """The name under which `Settings` keeps a zone."""
    if utc or tz is datetime.timezone.utc:
        return "UTC"
    if tz is None or isinstance(tz, str):
        return tz
    return tz.key if isinstance(tz, zoneinfo.ZoneInfo) and tz.key else UNNAMED
