"""How the lines of a handler are made, by the logging configuration that has the handler and its formatter."""

from __future__ import annotations

import logging.config
import os
import time
import zoneinfo
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from rollsafe._lines.formats import parts_of
from rollsafe._settings import UNNAMED, name_of_zone
from rollsafe.formatters import LineFormatter
from rollsafe.tools.configs import ServerConfig
from rollsafe.tools.logging_config import ConfiguredHandler, LogConfig
from rollsafe.tools.shippers.line_formats import LEVEL, LineFormat, json_format, text_format
from rollsafe.tools.shippers.line_times import DEFAULT, ISO, LineTime, readable_layout

ACCESS_LOGGER: Final = "gunicorn.access"
# The modules whose formatters make lines by their format.
_KNOWN: Final = ("logging", "rollsafe.formatters", "rollsafe._gunicorn.access", "uvicorn.logging")
_JSON: Final = "pythonjsonlogger"
_OURS: Final = "rollsafe.json_lines"
# Of the error log that gunicorn makes for its flag (gunicorn.glogging.Logger).
_ERROR_FORMAT: Final = r"%(asctime)s [%(process)d] [%(levelname)s] %(message)s"
_ERROR_TIMES: Final = "[%Y-%m-%d %H:%M:%S %z]"

# The access line of uvicorn's workers, in the words of gunicorn's access_log_format.
_OF_UVICORN: Final = '%(h)s - "%(r)s" %(s)s'

Told = tuple[LineFormat | None, list[str]]
"""How the lines are made, and sentences that say what of a line cannot be taken apart."""


class UnknownFormatter(Exception):
    """It cannot be known from the configuration what a formatter makes; the sentence says why."""


def configured_line(config: LogConfig, handler: ConfiguredHandler, zone: str | None) -> Told:
    """How the lines of a handler are made.

    Args:
        config: The configuration.
        handler: One of its handlers.
        zone: The zone of times for which a formatter has no zone of its own; None for that of the machine.

    Raises:
        UnknownFormatter: The formatter is none that is known.
    """
    access = _access_format(config, handler)
    if handler.of_flag:
        return _line_of_flag(config, handler, zone, access)
    key = handler.options.get("formatter")
    formatter = (config.logging.get("formatters") or {}).get(key) or {}
    maker = _resolved(formatter.get("()", formatter.get("class", logging.Formatter)))
    if not isinstance(maker, type):
        raise UnknownFormatter(f"its formatter {key!r} is made by a function")
    fmt, datefmt = formatter.get("fmt", formatter.get("format")), formatter.get("datefmt")
    style = formatter.get("style", "%")
    zone = _zone_of(maker, formatter, zone)
    if any(_package_of(base) == _JSON for base in maker.__mro__):
        return _json_line(maker, formatter, fmt, style, datefmt, zone)
    if _maker_of(maker, "format") not in _KNOWN or _maker_of(maker, "formatMessage") not in _KNOWN:
        raise UnknownFormatter(f"the lines of {maker.__module__}.{maker.__qualname__} are not known")
    escapes = issubclass(maker, LineFormatter) and bool(formatter.get("escape", True))
    if _maker_of(maker, "formatTime") not in _KNOWN or (datefmt is None and _has_own_times(maker)):
        datefmt = ""
    return _text_line(_with_time(fmt or "%(message)s", access), style, datefmt, zone, access, escapes)


def local_zone(config: LogConfig, before: str | None) -> str | None:
    """The zone of the local time of the process that logs, None for that of the machine.

    Args:
        config: The configuration.
        before: The variable TZ before the configuration was read: Django sets it by its TIME_ZONE.
    """
    variable = config.environment.get("TZ", os.environ.get("TZ"))
    if variable is None or variable == before:
        return None
    with suppress(zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return _name_of(zoneinfo.ZoneInfo(variable.removeprefix(":")).key)
    return UNNAMED


def _name_of(zone: str) -> str:
    """A zone by the name under which all shippers know it."""
    return "UTC" if zone in ("Etc/UTC", "Etc/UCT", "UCT", "Zulu", "Etc/Zulu") else zone


def _access_format(config: LogConfig, handler: ConfiguredHandler) -> str | None:
    """The access_log_format that makes the messages of a handler; None if something else makes them."""
    if not isinstance(config, ServerConfig) or handler.loggers != (ACCESS_LOGGER,):
        return None
    if "uvicorn" in str(config.server.worker_class_str).lower():
        return _OF_UVICORN
    return str(config.server.access_log_format)


def _with_time(fmt: Any, access: str | None) -> Any:
    """The format with what our formatters put before a line of uvicorn's workers, which has no time."""
    if access is not _OF_UVICORN or not isinstance(fmt, str) or "asctime" in fmt or "created" in fmt:
        return fmt
    return f"%(asctime)s [%(process)d] {fmt}"


def _line_of_flag(config: LogConfig, handler: ConfiguredHandler, zone: str | None, access: str | None) -> Told:
    """The lines of a handler that gunicorn makes for `--access-logfile` or `--error-logfile`."""
    maker = config.server.logger_class if isinstance(config, ServerConfig) else None
    if access is not None:
        fmt = str(getattr(maker, "access_fmt", "%(message)s"))
        return _text_line(_with_time(fmt, access), "%", None, zone, access, True)
    fmt, datefmt = getattr(maker, "error_fmt", _ERROR_FORMAT), getattr(maker, "datefmt", _ERROR_TIMES)
    return _text_line(str(fmt), "%", datefmt, zone, None, False)


def _text_line(fmt: Any, style: str, datefmt: str | None, zone: str | None, access: str | None, escapes: bool) -> Told:
    """The lines of a formatter that makes no JSON."""
    line = text_format(fmt, style, datefmt, zone, access=access, escapes=escapes) if isinstance(fmt, str) else None
    if line is None:
        return None, [f"fields of a line; the format {fmt!r} tells nothing about them"]
    told = []
    if line.time is None:
        told.append(
            f"the time of a line; the datefmt {datefmt!r} gives none that a shipper reads"
            if datefmt and "asctime" in line.fields
            else "the time of a line; its format has none that a shipper reads"
        )
    if not escapes and access is None:
        told.append("that several lines are one record: its formatter writes a traceback as several lines")
    return _without_unknown_zone(line, told)


def _json_line(
    maker: type, formatter: Mapping[str, Any], fmt: Any, style: str, datefmt: str | None, zone: str | None
) -> Told:
    """The lines of python-json-logger, and of our formatter that builds on it."""
    renamed = formatter.get("rename_fields") or {}
    names = [renamed.get(name, name) for name in _json_fields(fmt, style)]
    names += formatter.get("static_fields") or {}
    time, level = renamed.get("asctime", "asctime"), renamed.get(LEVEL, LEVEL)
    told = []
    found = None
    if time in names:
        is_ours = _maker_of(maker, "formatTime") == _OURS
        layout = (ISO if is_ours else DEFAULT) if datefmt is None else readable_layout(datefmt)
        if layout is not None and (is_ours or _maker_of(maker, "formatTime") in _KNOWN):
            found = LineTime(time, layout, zone)
        else:
            told.append(f"the time of a line; the datefmt {datefmt!r} gives none that a shipper reads")
    elif isinstance(formatter.get("timestamp"), bool | str) and formatter["timestamp"]:
        stamp = formatter["timestamp"]
        found = LineTime(stamp if isinstance(stamp, str) else "timestamp", ISO)
        names.append(found.field)
    else:
        told.append("the time of a line; its format has none")
    line = json_format(names, found, level if level in names else None)
    return _without_unknown_zone(line, told)


def _json_fields(fmt: Any, style: str) -> Iterator[str]:
    """The fields that a format of python-json-logger names: a text, or a list of names."""
    if isinstance(fmt, str) and style == ",":
        yield from (name.strip() for name in fmt.split(",") if name.strip())
    elif isinstance(fmt, str):
        with suppress(ValueError, KeyError):
            yield from (part[0] for part in parts_of(fmt, style) if not isinstance(part, str))
    elif isinstance(fmt, Sequence):
        yield from (name for name in fmt if isinstance(name, str))
    else:
        yield "message"


def _without_unknown_zone(line: LineFormat, told: list[str]) -> Told:
    """The same, without a time whose zone has no name."""
    if line.time is None or line.time.zone != UNNAMED or line.time.has_offset:
        return line, told
    return replace(line, time=None), [*told, "the time of a line; its zone has no name that a shipper knows"]


def _resolved(maker: Any) -> Any:
    """The class that a configuration names."""
    if not isinstance(maker, str):
        return maker
    try:
        return logging.config.BaseConfigurator({}).resolve(maker)
    except (ValueError, ImportError, AttributeError) as error:
        raise UnknownFormatter(f"its formatter {maker!r} cannot be imported here") from error


def _maker_of(kind: type, method: str) -> str:
    """The module of the class from which a class has a method."""
    return next((base.__module__ for base in kind.__mro__ if method in base.__dict__), "")


def _package_of(kind: type) -> str:
    """The top package of a class."""
    return kind.__module__.partition(".")[0]


def _has_own_times(kind: type[Any]) -> bool:
    """Whether a class writes `asctime` in another form than `logging` does."""
    return any(
        getattr(kind, name, None) != getattr(logging.Formatter, name)
        for name in ("default_time_format", "default_msec_format")
    )


def _zone_of(maker: type[Any], formatter: Mapping[str, Any], zone: str | None) -> str | None:
    """The zone of the times of a formatter."""
    given = formatter.get("tz")
    if given is not None:
        name = name_of_zone(given, utc=False)
        return None if name is None else _name_of(name)
    converter: Callable[..., Any] | None = getattr(maker, "converter", None)
    return "UTC" if converter is time.gmtime else zone
