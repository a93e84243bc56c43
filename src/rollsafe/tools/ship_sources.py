"""The descriptions of logs for shippers: from a logging configuration, or from the lock files of a log directory."""

from __future__ import annotations

import codecs
import dataclasses
import logging
import os
import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Final

from rollsafe._backups.codecs import codec_for
from rollsafe.errors import ConfigurationError, LogFileError
from rollsafe.tools.catalog import Log, logs_at
from rollsafe.tools.config_kinds import logs_named, read_any
from rollsafe.tools.configured_lines import UnknownFormatter, configured_line, local_zone
from rollsafe.tools.line_kinds import format_in
from rollsafe.tools.logging_config import ConfiguredHandler, LogConfig
from rollsafe.tools.shippers.line_formats import LineFormat
from rollsafe.tools.shippers.logs import LeftOut, ShippedLog

# Names of parts of the configurations, which no log may have.
_TAKEN: Final = re.compile(r"rollsafe|.*_parsed")

Found = tuple[list[ShippedLog], list[LeftOut]]
"""The logs, and what of a configuration or directory is none."""


def logs_of(path: str, arguments: Sequence[str] = ()) -> Found:
    """The logs of whatever a user names: a log directory, a live file, or a configuration, which may be executed.

    Call it in a process of its own.

    Args:
        path: A path, or the name of a module.
        arguments: Those of gunicorn.

    Raises:
        ConfigurationError: It cannot be read, or is of no kind that is understood.
        LogFileError: It does not exist.
        OSError: It may not be read.
    """
    before = os.environ.get("TZ")
    config = read_any(path, arguments)
    if config is None:
        return _of_lock_files(logs_named(path))
    if not config.is_read:
        raise ConfigurationError(
            f"{config.program} does not read the logging configuration of {path!r} (LOGGING_CONFIG); give the log"
            " directory, or MODULE:NAME of the dictionary that the application gives to dictConfig"
        )
    return of_config(config, local_zone(config, before))


def of_config(config: LogConfig, zone: str | None = None) -> Found:
    """The logs of a logging configuration that our handler writes.

    Args:
        config: The configuration.
        zone: The zone of the local time of the process that logs; None for that of the machine.
    """
    logs: dict[str, ShippedLog] = {}
    left_out = []
    for handler in config.handlers:
        if handler.path is None or not handler.is_ours:
            left_out.append(LeftOut(handler.name, _why_not_ours(handler)))
            continue
        path = os.path.realpath(handler.path)
        if os.path.lexists(path) and not os.path.isfile(path):
            left_out.append(LeftOut(handler.name, f"{path} is no regular file, and nothing is read from it again"))
            continue
        log = _log_of(config, handler, path, zone)
        other = logs.get(path)
        logs[path] = log if other is None else _both(other, log)
    return _with_names(logs.values()), left_out


def _of_lock_files(found: Sequence[Log]) -> Found:
    """The logs of a directory, or of a live file."""
    logs = []
    left_out = []
    for log in found:
        told = [sentence for sentence in (log.untold, log.unread) if sentence]
        left_out += [LeftOut(log.name, sentence) for sentence in told]
        if os.path.lexists(log.live) and not os.path.isfile(log.live):
            left_out.append(LeftOut(log.name, "it is no regular file, and nothing is read from it again"))
            continue
        settings = log.settings
        line = format_in(log)
        logs.append(
            ShippedLog(
                os.path.splitext(log.name)[0],
                log.live,
                line,
                by_size=settings.maxBytes > 0,
                archive_dir=settings.archive_dir,
                archive=settings.extension,
                namer=settings.namer,
                left_out=(*_told_of(line), *_told_of_encoding(settings.encoding)),
            )
        )
    return _with_names(logs), left_out


def _told_of(line: LineFormat | None) -> list[str]:
    """What cannot be taken apart of lines whose format is known by the lines alone."""
    if line is None:
        return [
            "fields, level and time of a line; a lock file tells no format, and the lines have none that is known here"
        ]
    return [] if line.time is not None else ["the time of a line; it does not agree with the last write of the file"]


def _told_of_encoding(encoding: str | None) -> list[str]:
    """What is lost of lines that are no UTF-8."""
    if encoding is None:
        return []
    with suppress(LookupError):
        if codecs.lookup(encoding).name in ("utf-8", "ascii"):
            return []
    return [f"characters that are not ASCII; the lines are in {encoding}, and shippers read UTF-8"]


def _log_of(config: LogConfig, handler: ConfiguredHandler, path: str, zone: str | None) -> ShippedLog:
    """The description of the log of a handler."""
    options = handler.options
    try:
        line, told = configured_line(config, handler, zone)
    except UnknownFormatter as error:
        # The lines that it has written show what it makes.
        line = None
        with suppress(LogFileError, OSError):
            (log,) = logs_at([path])
            line = format_in(log)
        told = [] if line is not None and line.time is not None else [f"the time of a line; {error}"]
        if line is None:
            told = [f"fields, level and time of a line; {error}"]
    archive = ""
    with suppress(ConfigurationError):
        codec = codec_for(options.get("compress"), None)
        archive = codec.extension if codec is not None else ""
    return ShippedLog(
        handler.name,
        path,
        line,
        by_size=handler.settings.maxBytes > 0,
        archive_dir=options.get("archive_dir"),
        archive=archive,
        left_out=(*told, *_told_of_encoding(options.get("encoding"))),
    )


def _both(one: ShippedLog, other: ShippedLog) -> ShippedLog:
    """The description of a log that two handlers write."""
    if one.line == other.line:
        return one
    told = f"fields, level and time of a line; {one.name} and {other.name} write lines of different formats into it"
    return dataclasses.replace(one, line=None, left_out=(told,))


def _why_not_ours(handler: ConfiguredHandler) -> str:
    """Why a handler has no log to ship."""
    if handler.kind is None:
        return f"its class {handler.spelling} cannot be imported here"
    if handler.path is not None:
        return f"rollsafe does not rotate {handler.path}, which a {handler.class_name} writes"
    if handler.is_a(logging.StreamHandler):
        stream: Any = handler.options.get("stream")
        is_output = stream is not None and stream in (sys.stdout, sys.__stdout__)
        is_error = stream is None or stream in (sys.stderr, sys.__stderr__)
        where = "standard output" if is_output else "standard error" if is_error else "a stream"
        return f"it writes to {where}, and no file has its lines"
    return f"a {handler.class_name} writes no file"


def _with_names(logs: Iterable[ShippedLog]) -> list[ShippedLog]:
    """The same logs, each with a name of its own in ASCII, and with the logs whose files look like its backups."""
    named: dict[str, ShippedLog] = {}
    for log in logs:
        base = re.sub(r"[^A-Za-z0-9_]", "_", log.name).strip("_") or "log"
        if base[0].isdigit() or _TAKEN.fullmatch(base):
            base = f"log_{base}".removesuffix("_parsed")
        name, number = base, 1
        while name in named:
            number += 1
            name = f"{base}_{number}"
        named[name] = dataclasses.replace(log, name=name)
    paths = [log.path for log in named.values()]
    return [
        dataclasses.replace(log, nested=tuple(path for path in paths if path.startswith(f"{log.backup_base}.")))
        for log in named.values()
    ]
