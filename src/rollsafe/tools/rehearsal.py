"""A trial of the handlers of a logging configuration: each gets one record, to find formats and options that lose it.

Only a record shows whether a format works, because its fields may come from a filter, from `defaults`, or from a record
factory of the application. So a process of its own imports the application, and makes the formatters and filters, and
each handler of ours, with a temporary file.
"""

from __future__ import annotations

import importlib
import logging
import logging.config
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from rollsafe._lines.missing import MissingField
from rollsafe.tools import trials
from rollsafe.tools.logging_config import LATER_WORK, ROOT, ConfiguredHandler, LogConfig, enter
from rollsafe.tools.trials import User

# A filter may pass only one level.
_LEVELS = (logging.INFO, logging.ERROR, logging.DEBUG)
_PLAIN = "rollsafe check"
_ANY_CHARACTER = "rollsafe check: \u00e9 \u20ac \U0001f600"

# The names of the access log formats of gunicorn (gunicorn.glogging.Logger.atoms) and hypercorn (AccessLogAtoms).
_ATOMS = (*"hlutrRsSmUqHbBfaTDMLp", "st")


UNMADE, FIELD, DASH, ENCODING = "unmade", "field", "dash", "encoding"
"""The faults of a handler: it cannot be made, no record fits its format, it writes a dash for a field that a record
lacks, its encoding lacks characters."""

WHOLE = ""
"""The name for a fault of the configuration as a whole."""

Fault = tuple[str, str]
"""One of the four, and a sentence about it."""


def faults(config: LogConfig, user: User | None = None) -> dict[str, Fault]:
    """Name of a handler -> why it would lose or deface a line; only the handlers with such a fault, and WHOLE.

    Args:
        config: The configuration.
        user: The user that the workers become; None is this user.

    Raises:
        TrialFailed: It could not be tried.
    """

    def attempt() -> dict[str, Fault]:
        enter(config)
        if config.application:
            # `loggers_after_import` reports why it cannot be imported.
            with suppress(BaseException):
                _import(config.application)
        found = dict(_faults(config))
        refusal = _refusal(config) if config.logging and all(kind != UNMADE for kind, _ in found.values()) else None
        return {**found, WHOLE: (UNMADE, refusal)} if refusal else found

    found = trials.in_child(attempt, user, quiet=True)
    return {name: (kind, text) for name, (kind, text) in found.items()}


def loggers_after_import(config: LogConfig, loggers: Sequence[str], user: User | None = None) -> dict[str, str]:
    """The configured loggers that importing the application changes: name -> "disabled" or "replaced".

    Args:
        config: The configuration; it names an application.
        loggers: Names; "root" is the root logger.
        user: As for `faults`.

    Raises:
        TrialFailed: It could not be imported.
    """

    def attempt() -> dict[str, str]:
        enter(config)
        marks = {name: logging.NullHandler() for name in loggers}
        for name, mark in marks.items():
            _logger(name).addHandler(mark)
        assert config.application
        _import(config.application)
        changed = {}
        for name, mark in marks.items():
            if _logger(name).disabled:
                changed[name] = "disabled"
            elif mark not in _logger(name).handlers:
                changed[name] = "replaced"
        return changed

    return dict(trials.in_child(attempt, user, quiet=True))


def _import(application: str) -> None:
    """Import the module of an application that is named as for gunicorn, "module:name"."""
    importlib.import_module(application.partition(":")[0])


def _logger(name: str) -> logging.Logger:
    """The logger of a name; "root" is the root logger."""
    return logging.getLogger(None if name == ROOT else name)


def _faults(config: LogConfig) -> Iterator[tuple[str, Fault]]:
    """The faults; for a process that may be changed."""
    configurator = logging.config.DictConfigurator(dict(config.logging))
    unmade = dict(_make_parts(configurator))
    for handler in config.handlers:
        options = configurator.config.get("handlers", {}).get(handler.name)
        if options is None or handler.of_flag:
            continue  # the server formats its lines itself
        if handler.kind is None:
            yield handler.name, (UNMADE, f"its class {options.get('()', options.get('class'))!r} cannot be imported")
            continue
        missing = [
            unmade.get(part, f"it names {part[0][:-1]} {part[1]!r}, and the configuration has none of that name")
            for part in _parts_of(options)
            if part in unmade or part[1] not in (configurator.config.get(part[0]) or {})
        ]
        if missing:
            yield handler.name, (UNMADE, missing[0])
            continue
        # A thread of a closed handler may still be running.
        with tempfile.TemporaryDirectory(prefix="rollsafe-check-", ignore_cleanup_errors=True) as place:
            try:
                made = _made(configurator, handler, options, os.path.join(place, "probe.log"))
            except Exception as error:
                yield handler.name, (UNMADE, f"it cannot be made: {error}")
                continue
            for logger in handler.loggers:
                fault = _fault_of(made, configurator, logger)
                if fault:
                    yield handler.name, fault
                    break
            made.close()


def _refusal(config: LogConfig) -> str | None:
    """Why dictConfig refuses a configuration, None if it takes it; it is given one whose handlers do nothing."""
    configurator: Any = logging.config.BaseConfigurator(dict(config.logging))
    harmless = {}
    for name, options in (config.logging.get("handlers") or {}).items():
        kept = {key: options[key] for key in ("level", "formatter", "filters") if key in options}
        kind = options.get("()", options.get("class"))
        try:
            usable = kind is not None and (not isinstance(kind, str) or configurator.resolve(kind) is not None)
        except (ValueError, ImportError, AttributeError):
            usable = False
        # dictConfig itself says what is wrong with a class that it cannot import.
        harmless[name] = {**kept, "()": logging.NullHandler} if usable else {"class": kind}
    try:
        logging.config.DictConfigurator({**config.logging, "handlers": harmless}).configure()
    except Exception as error:
        causes = [str(each) for each in (error, error.__cause__) if each is not None]
        return f"dictConfig refuses the configuration: {': '.join(causes)}"
    return None


def _make_parts(configurator: Any) -> Iterator[tuple[tuple[str, str], str]]:
    """Make formatters and filters in place; returns (kind, name) -> why, for those that cannot be made."""
    for kind, make in (("formatters", configurator.configure_formatter), ("filters", configurator.configure_filter)):
        parts = configurator.config.get(kind) or {}
        for name in parts:
            try:
                parts[name] = make(parts[name])
            except Exception as error:
                yield (kind, name), f"its {kind[:-1]} {name!r} cannot be made: {error}"


def _parts_of(options: Any) -> list[tuple[str, str]]:
    """The formatter and the filters that a handler names."""
    named = [("formatters", options["formatter"])] if options.get("formatter") else []
    return named + [("filters", each) for each in options.get("filters") or () if isinstance(each, str)]


def _made(configurator: Any, handler: ConfiguredHandler, options: Any, path: str) -> logging.Handler:
    """A handler of ours as configured, but with another file; for any other handler, one that formats and filters."""
    if handler.is_ours:
        elsewhere = {**options, "filename": path, "archive_dir": None, "delay": True}
        made: logging.Handler = configurator.configure_handler(dict(elsewhere))
        # The thread of a handler that takes records would make its lock file again after the temporary directory is
        # removed. A subclass may insist on an option.
        with suppress(Exception):
            idle = {name: value for name, value in elsewhere.items() if name not in LATER_WORK}
            made, full = configurator.configure_handler(idle), made
            full.close()
        return made
    made = logging.Handler()
    if options.get("formatter"):
        made.setFormatter(configurator.config["formatters"][options["formatter"]])
    configurator.add_filters(made, options.get("filters") or ())
    # `emit` of most handlers does the same.
    made.emit = made.format  # type: ignore[assignment]  # what it returns is not looked at
    return made


def _fault_of(handler: logging.Handler, configurator: Any, logger: str) -> Fault | None:
    """The fault that a record of a logger shows, None if there is none."""
    for text, failed in ((_PLAIN, False), (_PLAIN, True), (_ANY_CHARACTER, False)):
        for level in _LEVELS:
            record = _record(logger, level, text, failed=failed)
            try:
                if not (_passes_logger(record, configurator, logger) and handler.filter(record)):
                    continue
                _emit(handler, record)
            except MissingField as error:
                return DASH, f"a record of logger {logger} gets a dash: {error}"
            except Exception as error:
                kind = ENCODING if isinstance(error, UnicodeError) else FIELD
                return kind, f"a record of logger {logger} is lost: {error}"
            break
    return None


def _record(logger: str, level: int, text: str, *, failed: bool) -> logging.LogRecord:
    """A record as a logger makes it, with an exception if something `failed`."""
    try:
        raise RuntimeError(text)
    except RuntimeError:
        error = sys.exc_info() if failed else None
    message, arguments = _contents(logger, text)
    return _logger(logger).makeRecord(logger, level, __file__, 0, message, arguments, error, "check")


def _contents(logger: str, text: str) -> tuple[str, tuple[Any, ...]]:
    """Message and arguments as the server gives them to its logger, because formatters of access lines read those."""
    if logger == "uvicorn.access":
        return '%s - "%s %s HTTP/%s" %d', ("127.0.0.1:8000", "GET", f"/{text}", "1.1", 200)
    if logger in ("gunicorn.access", "hypercorn.access"):
        return "%(r)s", ({**dict.fromkeys(_ATOMS, "-"), "r": text},)
    return text, ()


def _passes_logger(record: logging.LogRecord, configurator: Any, logger: str) -> bool:
    """Whether the filters of the logger pass the record; those of the root see only the records of the root itself."""
    configured = (configurator.config.get("loggers") or {}).get(logger) or {}
    filterer = logging.Filterer()
    configurator.add_filters(filterer, configured.get("filters") or ())
    return bool(filterer.filter(record))


def _emit(handler: logging.Handler, record: logging.LogRecord) -> None:
    """Emit a record, and raise the error that the handler would only report."""
    failures: list[BaseException] = []

    def fail(record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        failures.append(error or RuntimeError("handleError was called"))

    handler.handleError = fail  # type: ignore[method-assign]  # it would go to standard error
    handler.acquire()
    try:
        handler.emit(record)
    finally:
        handler.release()
    if failures:
        raise failures[0]
