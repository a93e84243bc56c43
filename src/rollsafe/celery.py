"""For Celery: workers and beat log to a rotating file, with the name and the id of the task on each line.

Celery opens one file for each of three loggers. `install` puts one handler of ours in the place of all three, by
Celery's own signals. Everything else stays Celery's: levels, redirected standard streams, `--detach`, the root logger.
"""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from celery import signals
from celery.app.defaults import DEFAULT_PROCESS_LOG_FMT, DEFAULT_TASK_LOG_FMT
from celery.app.log import Logging, TaskFormatter
from celery.utils.log import ColorFormatter, get_multiprocessing_logger

from rollsafe._arguments import make_directory_of
from rollsafe._celery.task_fields import ByTask, TaskFields
from rollsafe._celery.time_limits import TaskHandler, hold_back
from rollsafe._options import OPTIONS, PRESET, zone_of
from rollsafe.errors import ConfigurationError, LogFileError
from rollsafe.formatters import LineFormatter
from rollsafe.handlers import SafeTimedRotatingFileHandler, watch_logs

__all__ = ["TaskFields", "install"]

LINE_FORMAT = "%(asctime)s [%(process)d] [%(levelname)s] %(task_name)s[%(task_id)s] %(name)s: %(message)s"
# Which process it is, as Celery writes it in `-f`; but what it would stand for is not known in `filename`.
_NODE = re.compile(r"%[nhdpiI]")

_log = logging.getLogger("rollsafe.celery")


def install(
    filename: str | os.PathLike[str] | None = None,
    *,
    format: str | None = None,
    datefmt: str | None = None,
    defaults: Mapping[str, Any] | None = None,
    **rotation: Any,
) -> None:
    """Have the log of Celery's processes rotate safely: workers, with any pool, and beat, several in one file.

    Call it in the module that makes the Celery application. It takes effect when Celery sets up logging, so in a
    process that only sends tasks it does nothing. A second call does nothing more.

    `--logfile` (`-f`) names the file, with `%n`, `%I` and the like as ever; without it, `filename` does. `--loglevel`,
    `worker_redirect_stdouts`, `worker_hijack_root_logger` and `--detach` keep their meaning.

    Args:
        filename: The live file of a process that is started without `-f`, instead of standard error; its directory is
            made if it is missing. None leaves such a process on standard error.
        format: Format (%-style) of the lines, with the fields of `TaskFields`. None is `worker_task_log_format` in
            tasks and `worker_log_format` elsewhere, if the application sets either; else a format with the task's name
            and id on each line.
        datefmt: As for `logging.Formatter`. None is `worker_log_datefmt`, where Celery has that.
        defaults: Values for fields of the format that not every record has, as for `LineFormatter`.
        rotation: Options of `SafeTimedRotatingFileHandler`; the default of `when` is "midnight", that of `encoding`
            "utf-8". The times of the lines are in the zone of `tz` or `utc`.

    Raises:
        ConfigurationError: An argument cannot work or is unknown; also a `ValueError`.

    Warns:
        RuntimeWarning: A second call has other arguments than the first one, which counts; or Celery has set up logging
            already.
    """
    global _installed
    wanted = _Installed(_checked_filename(filename), format, datefmt, defaults, rotation)
    if _installed is not None:
        if wanted != _installed:
            warnings.warn(
                "rollsafe.celery.install was called before with other arguments, and those count; call it once",
                RuntimeWarning,
                stacklevel=2,
            )
        return
    wanted.check()
    if Logging.already_setup:
        warnings.warn(
            "rollsafe.celery.install has no effect, as Celery has set up logging in this process already;"
            " call it in the module that makes the Celery application",
            RuntimeWarning,
            stacklevel=2,
        )
    _installed = wanted
    signals.after_setup_logger.connect(_follow_logger)
    signals.after_setup_task_logger.connect(_follow_task_logger)
    signals.task_prerun.connect(hold_back)
    signals.worker_process_shutdown.connect(_end_child)
    for started in (signals.celeryd_after_setup, signals.beat_init):
        started.connect(_start)


@dataclass
class _Installed:
    """The arguments of `install`, and the handler that they have led to in this process."""

    filename: str | None
    format: str | None
    datefmt: str | None
    defaults: Mapping[str, Any] | None
    rotation: dict[str, Any]
    path: str = field(default="", compare=False)
    """The path of the file as it was given; that of the handler has links followed."""
    handler: SafeTimedRotatingFileHandler | None = field(default=None, compare=False)
    formatter: logging.Formatter | None = field(default=None, compare=False)
    """The formatter that the handler was given here; a receiver of the application may have given it another."""
    uses_default: bool = field(default=False, compare=False)
    """Whether the formatter is that of LINE_FORMAT."""

    def check(self) -> None:
        """Raise a ConfigurationError for what cannot work, before there is a file."""
        try:
            # Of these, the check would make a directory, beside a file that is not the log.
            rotation = {name: value for name, value in self.rotation.items() if name != "archive_dir"}
            SafeTimedRotatingFileHandler(os.devnull, **PRESET | rotation | {"delay": True}).close()
        except TypeError as error:
            known = ", ".join(OPTIONS)
            raise ConfigurationError(
                f"rollsafe.celery.install: {error}; the options of rotation are {known}"
            ) from error
        self.line_formatter(LINE_FORMAT if self.format is None else self.format, None)

    def line_formatter(self, fmt: str, datefmt: str | None) -> LineFormatter:
        """A formatter for this format."""
        zone = zone_of(self.rotation.get("tz"), self.rotation.get("utc"))
        return LineFormatter(fmt, self.datefmt or datefmt, defaults=self.defaults, tz=zone)

    def handler_for(self, path: str) -> SafeTimedRotatingFileHandler:
        """The handler of this file; another file than before (`%I` in a child of the pool) has another handler."""
        path = os.path.abspath(path)
        if self.handler is not None:
            if self.path == path:
                return self.handler
            self.handler.close()
            self.handler = None
        self.handler, self.path = TaskHandler(path, **PRESET | self.rotation), path
        self.handler.addFilter(TaskFields())
        return self.handler


_installed: _Installed | None = None


def _checked_filename(filename: str | os.PathLike[str] | None) -> str | None:
    """The path as text, or a ConfigurationError."""
    if filename is None:
        return None
    try:
        text = os.fsdecode(filename)
    except TypeError as error:
        raise ConfigurationError(
            f"filename={filename!r} is no path; give one such as 'logs/celery.log', or None to go by Celery's -f"
        ) from error
    if found := _NODE.search(text):
        raise ConfigurationError(f"filename={text!r}: only Celery's -f replaces {found[0]}; give such a file there")
    return text


def _follow_logger(
    logger: logging.Logger, logfile: Any = None, format: str = DEFAULT_PROCESS_LOG_FMT, **_: Any
) -> None:
    """After Celery has set up the root logger: give it our handler, and billiard's logger too."""
    assert _installed is not None
    path = logfile or _installed.filename
    if path is None or hasattr(path, "write"):
        return
    former = _installed.handler
    try:
        if not logfile:
            make_directory_of(path, f"filename={path!r}")
        handler = _installed.handler_for(os.fspath(path))
    except (ConfigurationError, LogFileError, TypeError) as error:
        # Celery would only log what a receiver raises, with its traceback.
        _log.error("the log of Celery does not rotate: %s", error)
        return
    replaced = _put(handler, logger, former)
    _put(handler, get_multiprocessing_logger(), former)
    own = _formatter_of(replaced, format, DEFAULT_PROCESS_LOG_FMT)
    _installed.uses_default = own is None
    _set_formatter(own or _installed.line_formatter(LINE_FORMAT, _datefmt_of(replaced)))


def _follow_task_logger(logger: logging.Logger, format: str = DEFAULT_TASK_LOG_FMT, **_: Any) -> None:
    """After Celery has set up the logger of tasks: give it the same handler, and the handler the format for tasks."""
    assert _installed is not None
    handler, outside = _installed.handler, _installed.formatter
    if handler is None or outside is None:
        return
    replaced = _put(handler, logger, None)
    if handler.formatter is not outside:
        return
    inside = _formatter_of(replaced, format, DEFAULT_TASK_LOG_FMT)
    if inside is None and not _installed.uses_default:
        inside = _installed.line_formatter(format, _datefmt_of(replaced))
    if inside is not None and _installed.format is None:
        _set_formatter(ByTask(outside, inside))


def _set_formatter(formatter: logging.Formatter) -> None:
    """Give the handler a formatter, and remember which."""
    assert _installed is not None
    assert _installed.handler is not None
    _installed.formatter = formatter
    _installed.handler.setFormatter(formatter)


def _formatter_of(replaced: logging.Handler | None, fmt: str, default: str) -> logging.Formatter | None:
    """What the application wants instead of our format: its own formatter or its own format; None if nothing."""
    assert _installed is not None
    if _installed.format is not None:
        return _installed.line_formatter(_installed.format, _datefmt_of(replaced))
    given = replaced.formatter if replaced is not None else None
    if given is not None and (type(given) not in (ColorFormatter, TaskFormatter) or given._fmt != fmt):
        # A receiver that was called before ours has set it.
        return given
    return None if fmt == default else _installed.line_formatter(fmt, _datefmt_of(replaced))


def _datefmt_of(replaced: logging.Handler | None) -> str | None:
    """The format of times that Celery has given its handler."""
    formatter = replaced.formatter if replaced is not None else None
    return formatter.datefmt if formatter is not None else None


def _put(
    handler: SafeTimedRotatingFileHandler, logger: logging.Logger, former: logging.Handler | None
) -> logging.Handler | None:
    """Put our handler on a logger, in the place of Celery's; returns Celery's.

    If the application has a rollsafe handler of the same file there, it stays alone, as lines would be doubled.
    """
    replaced = None
    place = len(logger.handlers)
    for each in logger.handlers[:]:
        if each is handler:
            continue
        if isinstance(each, SafeTimedRotatingFileHandler) and each is not former:
            if each.baseFilename == handler.baseFilename:
                return None
        elif each is former or _is_of_celery(each, handler):
            place = min(place, logger.handlers.index(each))
            logger.removeHandler(each)
            each.close()
            replaced = each
    if handler not in logger.handlers:
        logger.addHandler(handler)
        # Receivers of the application may expect it where Celery puts its own.
        logger.handlers.insert(place, logger.handlers.pop())
    return replaced


def _is_of_celery(other: logging.Handler, handler: SafeTimedRotatingFileHandler) -> bool:
    """Whether Celery has made a handler for the same lines: for the file of `-f`, or else for standard error."""
    assert _installed is not None
    if isinstance(other, logging.FileHandler):
        return _installed.path == other.baseFilename or os.path.realpath(other.baseFilename) == handler.baseFilename
    return type(other) is logging.StreamHandler and isinstance(other.formatter, ColorFormatter)


def _end_child(**_: Any) -> None:
    """In a child of the pool that ends: write the lines that wait in memory, as it leaves by os._exit."""
    if _installed is not None and _installed.handler is not None:
        _installed.handler.close()


def _start(**_: Any) -> None:
    """In a worker or beat that has set up logging: have a quiet log rolled, or say why `install` has no effect."""
    assert _installed is not None
    if _installed.handler is not None:
        watch_logs()
    elif signals.setup_logging.receivers:
        _log.warning(
            "rollsafe.celery.install has no effect, as a receiver of Celery's signal setup_logging sets up logging;"
            " give it a rollsafe.SafeTimedRotatingFileHandler with the filter rollsafe.celery.TaskFields"
        )
