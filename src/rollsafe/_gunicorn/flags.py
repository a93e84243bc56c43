"""Sentences about gunicorn's logging settings that have no effect because of other settings.

A logging configuration silently takes off every handler that gunicorn has made for its flags (dictConfig does that to
each logger that it names). So this module looks at the handlers, not at the settings: a flag has an effect if records
of its logger reach the file that it names, by whatever handler.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import sys
from collections.abc import Iterator
from typing import Any

from rollsafe._gunicorn.wiring import attached
from rollsafe._options import ENVIRONMENT
from rollsafe.handlers import SafeTimedRotatingFileHandler

# gunicorn reads the first one that is given; the name of each in sentences.
_CONFIGURATIONS = {
    "logconfig_dict": "logconfig_dict (rotating_logs)",
    "logconfig_json": "--log-config-json",
    "logconfig": "--log-config",
}
_ACCESS, _ERROR = "gunicorn.access", "gunicorn.error"


def ignored_flags(cfg: Any, log: Any) -> Iterator[str]:
    """The settings in `cfg` that have no effect on gunicorn's logger `log`."""
    given = [setting for setting in _CONFIGURATIONS if getattr(cfg, setting)]
    for setting in given[1:]:
        yield (
            f"{_CONFIGURATIONS[setting]} {getattr(cfg, setting)!r} is not read, because {_CONFIGURATIONS[given[0]]}"
            " comes before it; leave out one of the two"
        )
    if given:
        yield from _replaced_handlers(cfg, _CONFIGURATIONS[given[0]])
    yield from _vain_capture(cfg)
    yield from _vain_metrics(cfg, log)
    yield from _vain_rotation(cfg)


def _replaced_handlers(cfg: Any, replacing: str) -> Iterator[str]:
    """Flags whose handlers the logging configuration has taken off."""
    # gunicorn's default for --error-logfile is `-`.
    errorlog = None if cfg.errorlog == "-" or _captures(cfg) else cfg.errorlog
    for flag, output, name in (("--access-logfile", cfg.accesslog, _ACCESS), ("--error-logfile", errorlog, _ERROR)):
        if output is not None and not _is_written(name, output):
            yield (
                f"{flag} {output!r} is not written, because {replacing} gives {name} another handler; leave out one of"
                " the two, or put a handler for it into the logging configuration"
            )
    if cfg.syslog:
        names = [_ERROR] if cfg.disable_redirect_access_to_syslog else [_ACCESS, _ERROR]
        missing = [name for name in names if not _reaches(name, logging.handlers.SysLogHandler)]
        if missing:
            yield (
                f"--log-syslog sends nothing of {' and '.join(missing)}, because {replacing} gives"
                f" {'them other handlers' if len(missing) > 1 else 'it another handler'}; leave it out, or put a"
                " logging.handlers.SysLogHandler into the logging configuration"
            )


def _vain_capture(cfg: Any) -> Iterator[str]:
    """--capture-output that captures nothing, or captures into a file that a rollover renames."""
    if cfg.capture_output and not _captures(cfg):
        yield (
            "--capture-output does nothing without --error-logfile; give that a file of its own without rotation,"
            " or leave --capture-output out"
        )
    rotated = {os.path.realpath(handler.baseFilename) for _, handler in attached()}
    if _captures(cfg) and os.path.realpath(cfg.errorlog) in rotated:
        yield (
            f"--capture-output puts standard output into {cfg.errorlog!r}, which is rotated, so it continues in the"
            " backups; give --error-logfile a file that the preset does not have"
        )


def _vain_metrics(cfg: Any, log: Any) -> Iterator[str]:
    """An address for metrics, if the logger sends none."""
    if cfg.statsd_host is None:
        return
    from gunicorn.instrument.statsd import Statsd

    if not isinstance(log, Statsd):
        yield (
            f"--statsd-host has no effect, because logger_class is {type(log).__module__}.{type(log).__qualname__},"
            " which sends no metrics; use rollsafe.gunicorn.Logger or a subclass of"
            " gunicorn.instrument.statsd.Statsd"
        )


def _vain_rotation(cfg: Any) -> Iterator[str]:
    """Options of rotation for the flags' files, if no such file is rotated."""
    for name, output in ((_ACCESS, cfg.accesslog), (_ERROR, cfg.errorlog)):
        if output not in (None, "-") and _is_written(name, output, SafeTimedRotatingFileHandler):
            return
    rotation = getattr(cfg.settings["logger_class"].get(), "rotation", None) or {}
    given = [f"rotating_logger({', '.join(f'{key}={value!r}' for key, value in rotation.items())})"] if rotation else []
    variables = [variable for variable, _ in ENVIRONMENT.values()]
    given += [variable for variable in variables if cfg.env.get(variable, os.environ.get(variable))]
    if given:
        yield (
            f"{' and '.join(given)} {'have' if len(given) > 1 else 'has'} no effect, because"
            " neither --access-logfile nor --error-logfile names a file that rollsafe.gunicorn.Logger rotates; give"
            " the options to rotating_logs, or the flags a file"
        )


def _captures(cfg: Any) -> bool:
    """Whether gunicorn redirects the standard streams to the file of --error-logfile."""
    return bool(cfg.capture_output) and cfg.errorlog != "-"


def _reaches(name: str, kind: type[logging.Handler]) -> bool:
    """Whether records of a logger reach a handler of that kind."""
    return any(isinstance(handler, kind) for handler in _handlers_of(name))


def _is_written(name: str, output: str, kind: type[logging.StreamHandler[Any]] = logging.StreamHandler) -> bool:
    """Whether records of a logger are written to the output that a flag names: a file, or `-` for a standard stream."""
    for handler in _handlers_of(name):
        if isinstance(handler, logging.FileHandler):
            same = os.path.realpath(handler.baseFilename) == os.path.realpath(output)
        else:
            same = output == "-" and getattr(handler, "stream", None) in (sys.stdout, sys.stderr)
        if same and isinstance(handler, kind):
            return True
    return False


def _handlers_of(name: str) -> Iterator[logging.Handler]:
    """The handlers that records of a logger reach, found in the way of `Logger.callHandlers`."""
    logger: logging.Logger | None = logging.getLogger(name)
    while logger is not None:
        yield from logger.handlers
        logger = logger.parent if logger.propagate else None
