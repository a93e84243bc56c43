"""The settings that a handler writes into the lock file, so that the command line tools need no configuration. Pure.

The fields of `Settings` are the options with `Option.is_noted`, and some facts that are no options.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from rollsafe._options import OPTIONS
from rollsafe._values import Value, field, fields
from rollsafe.errors import ConfigurationError
from rollsafe.schedule import Schedule

# The name of a zone that has no name: only the application can compute the schedule.
UNNAMED = "unnamed"

# Seconds; longer than the calendar.
_LONGEST_AGE: Final = 1e12
# The built-in ways to compress, and the bound of their levels.
_CODECS: Final = ("gz", "zst", "xz")
_MOST_LEVEL: Final = 1 << 20
# A key as zoneinfo takes it. No control characters: the tools show it.
_ZONE: Final = re.compile(r"[A-Za-z0-9_+./-]{1,255}")


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


def _is_name(value: object) -> bool:
    """Whether it is a text; `Schedule` decides whether it is valid."""
    return isinstance(value, str)


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


def _is_codec(value: object) -> bool:
    """Whether it is a built-in way to compress, or none."""
    return value is None or value in _CODECS


def _is_level(value: object) -> bool:
    """Whether it may be a level of compression, or is none."""
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < _MOST_LEVEL)


def _is_bool(value: object) -> bool:
    """Whether it is a yes or a no."""
    return isinstance(value, bool)


def _checked_by(is_possible: Callable[[object], bool]) -> dict[str, Any]:
    """The metadata of a field: the check of a value in a note. `Settings.read` also asks `Schedule`."""
    return {"is_possible": is_possible}


class Settings(Value):
    """The settings of one live file. A reader ignores what it does not know, and takes defaults for what is missing."""

    when: str = field(default="H", metadata=_checked_by(_is_name))
    interval: int = field(default=1, metadata=_checked_by(_is_count))
    """The number of units of `when`."""
    atTime: str | None = field(default=None, metadata=_checked_by(_is_text))
    """ISO 8601 time of day."""
    tz: str | None = field(default=None, metadata=_checked_by(_is_zone))
    """A zone's name; None for the local zone, UNNAMED for one that has no name."""
    suffix: str | None = field(default=None, metadata=_checked_by(_is_text))
    """The strftime format of backup names; None for the default of `when`."""
    namer: bool = field(default=False, metadata=_checked_by(_is_bool))
    """Whether a namer of the application makes the names of backups."""
    encoding: str = field(default="utf-8", metadata=_checked_by(_is_encoding))
    backupCount: int = field(default=0, metadata=_checked_by(_is_count))
    maxBytes: int = field(default=0, metadata=_checked_by(_is_count))
    max_age: float | None = field(default=None, metadata=_checked_by(_is_age))
    """Seconds."""
    max_total_bytes: int | None = field(default=None, metadata=_checked_by(_is_limit))
    min_free_bytes: int | None = field(default=None, metadata=_checked_by(_is_limit))
    archive_dir: str | None = field(default=None, metadata=_checked_by(_is_path))
    """Full path of the directory of the backups; None for that of the live file."""
    extension: str = field(default="", metadata=_checked_by(_is_extension))
    """The extension of archives, if it is none of the usual ones."""
    compress: bool = field(default=False, metadata=_checked_by(_is_bool))
    """Whether backups become archives."""
    codec: str | None = field(default=None, metadata=_checked_by(_is_codec))
    """The built-in way to compress them; None if there is none, or if a function of the application does it."""
    compress_level: int | None = field(default=None, metadata=_checked_by(_is_level))
    on_rollover: bool = field(default=False, metadata=_checked_by(_is_bool))
    """Whether the application is called for each final backup."""
    rotator: bool = field(default=False, metadata=_checked_by(_is_bool))
    """Whether the application is called for each rolled file."""

    # Each worker asks at each rollover, and the answer is nearly always the same.
    @lru_cache(maxsize=64)  # noqa: B019  # frozen: what is kept is small and equal settings are one
    def line(self) -> bytes:
        """The settings as one line of JSON, without newline and without those that have their default."""
        changed = {
            each.name: value
            for each in fields(Settings)
            if (value := getattr(self, each.name)) != each.default or each.name == "when"
        }
        return json.dumps(changed, separators=(",", ":")).encode()

    @classmethod
    def of(
        cls, options: Mapping[str, Any], *, namer: bool = False, rotator: bool = False, extension: str = ""
    ) -> Settings:
        """The settings that a handler with these options writes into the note.

        Args:
            options: By name, as `Options` has them after its checks; the others have their defaults.
            namer: Whether the application has a namer.
            rotator: Whether it does more than rename a rolled file.
            extension: The extension of archives, if it is none of the usual ones.
        """
        noted = {name: value for name, value in options.items() if name in OPTIONS and OPTIONS[name].is_noted}
        noted["tz"] = name_of_zone(options.get("tz"), bool(options.get("utc")))
        compress = options.get("compress")
        noted["compress"] = compress is not None
        noted["codec"] = compress if isinstance(compress, str) else None
        noted["on_rollover"] = options.get("on_rollover") is not None
        if "when" in noted:
            noted["when"] = str(noted["when"]).upper()
        if noted.get("atTime") is not None:
            noted["atTime"] = noted["atTime"].isoformat()
        return cls(**noted, namer=namer, rotator=rotator, extension=extension)

    @classmethod
    def read(cls, line: bytes) -> Settings | None:
        """The settings in `line`; None if it has none, or has a value that no handler can have. Never raises.

        Unknown settings are ignored, because a later version may write more.
        """
        try:
            told = json.loads(line.decode())
        except (ValueError, RecursionError):  # no UTF-8, no JSON, or an int of thousands of digits; nested too deep
            return None
        if not isinstance(told, dict):
            return None
        known = {name: told[name] for name in _CHECKS if name in told}
        if not known or not all(_CHECKS[name](value) for name, value in known.items()):
            return None
        settings = cls(**known)
        return settings if settings._make_intervals() else None

    def _make_intervals(self) -> bool:
        """Whether they make a schedule; the zone is left out, because it may have no name or be unknown here."""
        try:
            self.replace(tz=None).schedule().interval(0)
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
        """The zone as `Schedule` takes it, if it has a name."""
        return datetime.timezone.utc if self.tz == "UTC" else self.tz


_CHECKS: Final = {each.name: each.metadata["is_possible"] for each in fields(Settings)}


def name_of_zone(tz: str | datetime.tzinfo | None, utc: bool) -> str | None:
    """The name under which `Settings` keeps a zone."""
    if utc or tz is datetime.timezone.utc:
        return "UTC"
    if tz is None or isinstance(tz, str):
        return tz
    # A zone of `zoneinfo` is given only where that was imported.
    zoneinfo = sys.modules.get("zoneinfo")
    return tz.key if zoneinfo is not None and isinstance(tz, zoneinfo.ZoneInfo) and tz.key else UNNAMED
