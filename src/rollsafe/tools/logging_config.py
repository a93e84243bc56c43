"""A logging configuration as a dictionary for `dictConfig`, whatever program reads it and from whatever file.

It becomes a list of handlers, each with its class, its file, its options and its loggers. No handler is made of it, and
no log file is opened.
"""

from __future__ import annotations

import contextlib
import logging.config
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rollsafe._arguments import with_host_name
from rollsafe._options import OPTIONS
from rollsafe._settings import Settings
from rollsafe.errors import ConfigurationError
from rollsafe.handlers import SafeTimedRotatingFileHandler

ROOT = "root"
LATER_WORK = (
    *("backupCount", "max_age", "max_total_bytes", "min_free_bytes"),
    *("compress", "compress_level", "on_rollover"),
)
"""The options for which a handler of ours has a thread that works on its backups later."""


@dataclass(frozen=True, kw_only=True)
class ConfiguredHandler:
    """One handler of a logging configuration.

    Attributes:
        name: Its key in `handlers`, or the flag for which gunicorn makes it.
        kind: Its class, or the function that makes it; None if that cannot be imported.
        path: Absolute path of its file, None if it has none.
        options: The arguments of its class.
        loggers: The names of the loggers that have it; "root" is the root logger.
        spelling: Its class as the configuration names it.
    """

    name: str
    kind: Any
    path: str | None
    options: Mapping[str, Any]
    loggers: tuple[str, ...]
    of_flag: bool = False
    """Whether gunicorn makes it for a flag, without a logging configuration."""
    spelling: str = ""

    @property
    def is_ours(self) -> bool:
        """Whether it is a SafeTimedRotatingFileHandler."""
        return self.is_a(SafeTimedRotatingFileHandler)

    def is_a(self, kind: type[logging.Handler]) -> bool:
        """Whether it is of a class."""
        return isinstance(self.kind, type) and issubclass(self.kind, kind)

    @property
    def class_name(self) -> str:
        """The name of its class."""
        return getattr(self.kind, "__name__", None) or self.spelling.rpartition(".")[2] or "unknown class"

    @property
    def settings(self) -> Settings:
        """The settings that a handler of ours would write into the lock file, without those that are invalid."""
        accepted = {}
        for name, value in self.options.items():
            # No check depends on the encoding.
            if name in OPTIONS and name != "encoding":
                with contextlib.suppress(ConfigurationError):
                    accepted[name] = OPTIONS[name].check(name, value)
        return Settings.of(accepted)


@dataclass(frozen=True, kw_only=True)
class LogConfig:
    """A logging configuration, and the process that will use it.

    Attributes:
        path: The file, or the name of the module.
        program: The program that reads it: "gunicorn" or "Django"; "" if that is not known.
        logging: The dictionary for `logging.config.dictConfig`; empty if there is none.
        handlers: The handlers of it that a logger has.
        application: The application to serve ("module:name"), if it is named.
        search: The path on which modules are found.
        directory: The working directory of the process.
        environment: The variables that the process sets for itself.
        is_read: Whether the program reads it; Django does not if LOGGING_CONFIG is None.
    """

    path: str
    program: str
    logging: Mapping[str, Any]
    handlers: tuple[ConfiguredHandler, ...]
    application: str | None
    search: tuple[str, ...]
    directory: str
    environment: Mapping[str, str]
    is_read: bool = True


def config_of(path: str, program: str, logging_config: Any, *, is_read: bool = True) -> LogConfig:
    """The configuration of a process that is started here, in this directory.

    Raises:
        ConfigurationError: It is no dictionary that dictConfig takes.
    """
    if not isinstance(logging_config, dict):
        raise ConfigurationError(
            f"the logging configuration of {path!r} is a {type(logging_config).__name__}; give a dictionary for"
            " logging.config.dictConfig"
        )
    return LogConfig(
        path=path,
        program=program,
        logging=logging_config,
        handlers=tuple(handlers_of(logging_config, path, os.path.abspath)),
        application=None,
        search=tuple(sys.path),
        directory=os.getcwd(),
        environment={},
        is_read=is_read,
    )


def handlers_of(config: Mapping[str, Any], source: str, absolute: Callable[[Any], str]) -> list[ConfiguredHandler]:
    """The handlers that a logger has.

    Args:
        config: For dictConfig.
        source: The file that has it, for the sentence of an error.
        absolute: Makes a path absolute as the process does that uses it.

    Raises:
        ConfigurationError: It is none that dictConfig takes.
    """
    try:
        return list(_handlers(config, absolute))
    except (AttributeError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"the logging configuration of {source!r} is none that dictConfig takes: {error}"
        ) from error


def with_full_paths(options: Mapping[str, Any], absolute: Callable[[Any], str]) -> dict[str, Any]:
    """The options of a handler with the full path of its `archive_dir`."""
    directory = options.get("archive_dir")
    return {**options, "archive_dir": os.path.realpath(absolute(directory))} if directory else dict(options)


def enter(config: LogConfig) -> None:
    """Give this process the working directory, environment and module path of the process that logs."""
    os.environ.update(config.environment)
    time.tzset()
    # A server enters it before it becomes another user, who may not be allowed to.
    with contextlib.suppress(PermissionError):
        os.chdir(config.directory)
    sys.path[:] = config.search


def loggers_of(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The settings of each logger that a configuration names; "root" is the root logger."""
    loggers = dict(config.get("loggers") or {})
    # "root" among the loggers is the root logger too, and dictConfig configures it last (since Python 3.9).
    return {**loggers, ROOT: config.get("root") or loggers.get(ROOT) or {}}


def _handlers(config: Mapping[str, Any], absolute: Callable[[Any], str]) -> list[ConfiguredHandler]:
    """The handlers that a logger has."""
    having: dict[str, list[str]] = {}
    for logger, settings in loggers_of(config).items():
        for key in settings.get("handlers") or ():
            having.setdefault(key, []).append(logger)
    _add_those_behind(config.get("handlers") or {}, having)
    # It reads "ext://" and "cfg://" in values as dictConfig does.
    configurator = logging.config.BaseConfigurator(dict(config))
    found = []
    for key, raw in (config.get("handlers") or {}).items():
        options = {name: _converted(configurator, value) for name, value in raw.items()}
        kind = spelling = options.get("()", options.get("class"))
        if isinstance(kind, str):
            try:
                kind = configurator.resolve(kind)
            except (ValueError, ImportError):
                kind = None
        if key in having:
            path = options.get("filename")
            made_with = {name: value for name, value in options.items() if name not in ("class", "()")}
            if path and isinstance(kind, type) and issubclass(kind, SafeTimedRotatingFileHandler):
                path = with_host_name(path)
            found.append(
                ConfiguredHandler(
                    name=key,
                    kind=kind,
                    path=absolute(path) if path else None,
                    options=with_full_paths(made_with, absolute),
                    loggers=tuple(having[key]),
                    spelling=spelling if isinstance(spelling, str) else "",
                )
            )
    return found


def _add_those_behind(handlers: Mapping[str, Any], having: dict[str, list[str]]) -> None:
    """Give the handlers behind another one its loggers: those of a QueueHandler, the target of a MemoryHandler."""
    waiting = [key for key in having if key in handlers]
    while waiting:
        front = waiting.pop()
        behind = handlers[front].get("handlers") or ()
        target = handlers[front].get("target")
        for key in [*behind, *([target] if isinstance(target, str) else ())]:
            if key in handlers and not set(having[front]) <= set(having.setdefault(key, [])):
                having[key] += [logger for logger in having[front] if logger not in having[key]]
                waiting.append(key)


def _converted(configurator: Any, value: Any) -> Any:
    """A value with what "ext://" and "cfg://" refer to; the value itself if that cannot be found."""
    if isinstance(value, str):
        with contextlib.suppress(Exception):
            return configurator.convert(value)
    return value
