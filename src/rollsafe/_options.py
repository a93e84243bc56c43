"""The options of rotation: `Options` at the end of this file is the only list of them.

The gunicorn preset, the variables `ROLLSAFE_*`, the keys of Flask's configuration, the options of `rollsafe write` and
the settings in the note follow this list. Three other places repeat it, because Python and its tools need them: the
signatures of the handler and of the preset, and the fields of `rollsafe._settings.Settings`. tests/unit/test_options.py
compares these places and the reference with the list, so a test fails if a new option is missing somewhere.

The checks here look at values only. `_arguments` asks the file system about paths.
"""

from __future__ import annotations

import _locale
import codecs
import datetime
import math
import os
import re
import sys
from collections.abc import Callable, Container, Mapping
from typing import Any, Final, TypeVar

from rollsafe._backups.codecs import Codec, Compress, codec_for
from rollsafe._durations import EXACT_UNITS, seconds_of
from rollsafe._values import Value, field, fields
from rollsafe.errors import ConfigurationError
from rollsafe.schedule import Interval, Schedule

VARIABLE_PREFIX: Final = "ROLLSAFE_"

_SIZE: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?))?b\s*", re.IGNORECASE)
# Bytes; larger than any file.
_NO_SIZE: Final = 1 << 63

# Python 3.11 gave it a public name.
_encoding_of_locale: Callable[[], str] = getattr(
    _locale, "getencoding" if sys.version_info >= (3, 11) else "_get_locale_encoding"
)

_Called = TypeVar("_Called", bound=Callable[..., object])


def checked_count(argument: str, value: int) -> int:
    """`value` if it is a count, else a ConfigurationError that names `argument`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigurationError(f"{argument}={value!r} must be a whole number, 0 (keep all) or more")
    return value


def checked_flag(argument: str, value: bool) -> bool:
    """`value` if it is True, False, 1 or 0, else a ConfigurationError that names `argument`.

    A text from the environment or from a file of settings is refused, because even "false" would be true.
    """
    if not isinstance(value, int) or value not in (0, 1):
        raise ConfigurationError(f"{argument}={_shortened(value)} must be True or False")
    return bool(value)


def checked_permissions(argument: str, value: int | None) -> int | None:
    """`value` if it is a file mode that lets the owner write, or None, else a ConfigurationError."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 0o777 or not value & 0o200:
        shown = oct(value) if isinstance(value, int) else repr(value)
        raise ConfigurationError(f"{argument}={shown} must be a mode that lets the owner write, such as 0o640, or None")
    return value


def checked_lock_writes(argument: str, value: bool | None) -> bool | None:
    """`value` if it is True, False or None, else a ConfigurationError that names `argument`."""
    if value is not None and not isinstance(value, bool):
        raise ConfigurationError(f"{argument}={value!r} must be True, False, or None to go by the file system")
    return value


def _shortened(value: object) -> str:
    """The text of a value for a message."""
    try:
        shown = repr(value)
    except ValueError:
        # An int of thousands of digits.
        return "..."
    return shown if len(shown) < 80 else f"{shown[:40]}...{shown[-20:]}"


def checked_age(value: str | datetime.timedelta | None) -> float | None:
    """Seconds of `max_age`, None for no limit, else a ConfigurationError."""
    if value is None:
        return None
    seconds = None
    if isinstance(value, datetime.timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, str):
        seconds = seconds_of(value, EXACT_UNITS)
    if seconds is None or not 0 < seconds < math.inf:
        raise ConfigurationError(
            f"max_age={_shortened(value)} is no age; give a positive timedelta, or text such as '30 days', or None for"
            " no limit"
        )
    return seconds


def checked_size(argument: str, value: int | str | None, least: int = 0) -> int | None:
    """Bytes, None for no limit, else a ConfigurationError that names `argument`. kB is 1000 bytes, KiB is 1024.

    Args:
        argument: The name of the argument.
        value: The value that was given.
        least: The smallest size that makes sense.
    """
    if value is None:
        return None
    size = -1
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        power = "kmgt".index(match[2].lower()) + 1 if match[2] else 0
        number = float(match[1]) * (1024 if match[3] else 1000) ** power
        size = int(min(number, _NO_SIZE))
    if not least <= size < _NO_SIZE:
        raise ConfigurationError(
            f"{argument}={_shortened(value)} is no size; give a number of bytes, {least} or more, or text such as"
            " '2 GiB', or None for no limit"
        )
    return size


def checked_callable(argument: str, value: _Called | None) -> _Called | None:
    """`value` if it can be called or is None, else a ConfigurationError that names `argument`."""
    if value is not None and not callable(value):
        raise ConfigurationError(f"{argument}={value!r} cannot be called; give a function, or None")
    return value


def checked_codec(encoding: str | None, errors: str | None) -> tuple[str, str]:
    """The codec and the error handler to encode lines with, or a ConfigurationError."""
    name = _locale_encoding() if encoding is None or encoding == "locale" else encoding
    handler = "backslashreplace" if errors is None else errors
    try:
        codecs.lookup(name)
        codecs.lookup_error(handler)
        once, twice = "line\n".encode(name), "line\nline\n".encode(name)
    except (LookupError, TypeError) as error:
        raise ConfigurationError(
            f"encoding={encoding!r}, errors={errors!r}: {error}; give the name of a text encoding such as 'utf-8'"
        ) from error
    if twice != 2 * once:
        raise ConfigurationError(
            f"encoding={encoding!r} puts a mark before each line; use 'utf-8', or another one without mark"
        )
    # That byte distinguishes a line from a fragment, here and in every other program that reads logs.
    end = once.removeprefix("line".encode(name))
    if end != b"\n":
        raise ConfigurationError(
            f"encoding={encoding!r} ends lines with {end!r}; use one that ends them with b'\\n', such as 'utf-8'"
        )
    return name, handler


def _locale_encoding() -> str:
    """The encoding of the locale, as `locale.getpreferredencoding(False)`."""
    # Not by `locale`, whose tables of aliases take long to import. Nor imported here: a handler is also made by users
    # who may not read the standard library any more (a daemon that has dropped its rights).
    return "utf-8" if sys.flags.utf8_mode else _encoding_of_locale()


class Text(Value):
    """The reading of a variable of the environment."""

    read: Callable[[str], Any]
    """Raises a ValueError for a text that cannot be read."""
    remedy: str = ""
    """A value to give instead; "" if any text can be read."""
    is_flag: bool = False
    """Whether the value is yes or no."""


def _yes_or_no(text: str) -> bool:
    """The flag in a text."""
    if text.lower() not in ("1", "true", "0", "false"):
        raise ValueError(text)
    return text.lower() in ("1", "true")


def zone_of(tz: Any, utc: object) -> Any:
    """The zone that the options `tz` and `utc` name; None is the local one."""
    return datetime.timezone.utc if utc else tz


def number_or_text(text: str) -> int | str:
    """A number of bytes, if the text is one; more than 19 digits are none."""
    return int(text) if re.fullmatch(r"[0-9]{1,19}", text) else text


_ANY: Final = Text(str)
_BYTES: Final = Text(number_or_text)
_WHOLE: Final = Text(int, "give a whole number")
_FLAG: Final = Text(_yes_or_no, "give 1, true, 0 or false", is_flag=True)
_MODE: Final = Text(lambda text: int(text, 8), "give a mode such as 640")


class Option(Value):
    """The properties of an option besides its name, its type and its default."""

    check: Callable[[str, Any], Any]
    """Takes the name and the argument, and returns the value or raises a ConfigurationError."""
    text: Text | None
    """The reading of its variable of the environment; None if it has no variable."""
    is_noted: bool
    """Whether the note has it, for the tools to read."""
    in_preset: bool
    """Whether the gunicorn preset has it, and passes it on to each of its handlers."""


def _option(
    check: Callable[[str, Any], Any] = lambda name, value: value,
    *,
    text: Text | None = None,
    is_noted: bool = False,
    in_preset: bool = True,
) -> dict[str, Option]:
    """The metadata of a field of `Options`. If it has no `check`, a method of `Options` checks it with other fields."""
    return {"option": Option(check, text, is_noted, in_preset)}


def _checked_bound(name: str, value: int | str | None) -> int:
    """The bytes of a size, 0 for no bound."""
    return checked_size(name, value) or 0


def _checked_total(name: str, value: int | str | None) -> int | None:
    """The bytes of a size that is not 0."""
    return checked_size(name, value, least=1)


class Options(Value):
    """The options of one handler, in the order of its parameters; the handler's docstring explains them.

    The types are those of the checked values: `max_age="30 days"` becomes a number of seconds.
    """

    when: str = field(default="h", metadata=_option(text=_ANY, is_noted=True))
    interval: int = field(default=1, metadata=_option(text=_WHOLE, is_noted=True))
    backupCount: int = field(default=0, metadata=_option(checked_count, text=_WHOLE, is_noted=True))
    encoding: str | None = field(default=None, metadata=_option(is_noted=True))
    delay: bool = field(default=False, metadata=_option(checked_flag, in_preset=False))
    # The note names the zone UTC.
    utc: bool = field(default=False, metadata=_option(checked_flag, text=_FLAG))
    atTime: datetime.time | None = field(default=None, metadata=_option(is_noted=True))
    errors: str | None = field(default=None, metadata=_option(in_preset=False))
    tz: str | datetime.tzinfo | None = field(default=None, metadata=_option(text=_ANY, is_noted=True))
    maxBytes: int = field(default=0, metadata=_option(_checked_bound, text=_BYTES, is_noted=True))
    suffix: str | None = field(default=None, metadata=_option(is_noted=True))
    archive_dir: str | os.PathLike[str] | None = field(default=None, metadata=_option(text=_ANY, is_noted=True))
    compress: str | Compress | None = field(default=None, metadata=_option(text=_ANY, is_noted=True))
    compress_level: int | None = field(default=None, metadata=_option(is_noted=True))
    on_rollover: Callable[[str, Interval], object] | None = field(
        default=None, metadata=_option(checked_callable, is_noted=True)
    )
    max_age: float | None = field(
        default=None, metadata=_option(lambda name, value: checked_age(value), text=_ANY, is_noted=True)
    )
    max_total_bytes: int | None = field(default=None, metadata=_option(_checked_total, text=_BYTES, is_noted=True))
    min_free_bytes: int | None = field(default=None, metadata=_option(checked_size, text=_BYTES, is_noted=True))
    permissions: int | None = field(default=None, metadata=_option(checked_permissions, text=_MODE))
    lock_writes: bool | None = field(default=None, metadata=_option(checked_lock_writes))

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Options:
        """The options among the arguments of a constructor, each checked by itself.

        Raises:
            ConfigurationError: One of them cannot work.
        """
        return cls(**{name: option.check(name, given[name]) for name, option in OPTIONS.items()})

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        if self.utc and self.tz is not None:
            raise ConfigurationError(f"utc=True and tz={self.tz!r} exclude each other; give one of them")

    def schedule(self, suffix: str | None) -> Schedule:
        """The intervals, with backups of that suffix; a ConfigurationError if the options do not fit together."""
        return Schedule(self.when, self.interval, self.atTime, zone_of(self.tz, self.utc), suffix)

    def line_codec(self) -> tuple[str, str]:
        """The codec and the error handler to encode lines with, or a ConfigurationError."""
        return checked_codec(self.encoding, self.errors)

    def codec(self) -> Codec | None:
        """The codec that compresses backups, None for none, or a ConfigurationError."""
        return codec_for(self.compress, self.compress_level)


OPTIONS: Final[dict[str, Option]] = {field.name: field.metadata["option"] for field in fields(Options)}

PRESET: Final[dict[str, Any]] = {"when": "midnight", "encoding": "utf-8"}
"""The defaults that differ if rollsafe makes the handlers: in the gunicorn preset, and for Flask."""


def variable_of(name: str) -> str:
    """The variable of the environment, or the key of Flask's configuration, for a parameter of the handler."""
    # backupCount -> ROLLSAFE_BACKUP_COUNT
    return VARIABLE_PREFIX + re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper()


ENVIRONMENT: Final = {name: (variable_of(name), each.text) for name, each in OPTIONS.items() if each.text is not None}


def options_in(text_of: Callable[[str], str | None], given: Container[str]) -> dict[str, Any]:
    """The options that variables set, as the handler takes them, without those that are `given` in another way.

    Args:
        text_of: Returns the text of a variable, None if it is not set. An empty variable counts as not set.
        given: The names of the options to leave out.

    Raises:
        ConfigurationError: The text of a variable cannot be read; the sentence names it.
    """
    options = {}
    for name, (variable, text) in ENVIRONMENT.items():
        value = text_of(variable)
        if value and name not in given:
            try:
                options[name] = text.read(value)
            except ValueError:
                raise ConfigurationError(f"{variable}={value!r} cannot be read; {text.remedy}") from None
    return options
