"""Checks of a logging configuration: its handlers and loggers, and a record for each handler."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from rollsafe.tools import rehearsal, steps
from rollsafe.tools.findings import ERROR, OK, WARNING, Finding, Target
from rollsafe.tools.logging_config import ROOT, ConfiguredHandler, LogConfig, loggers_of
from rollsafe.tools.trials import TrialFailed, User, tried_as, user_name
from rollsafe.tools.words import plural

# The loggers that servers and Django make before the application configures logging.
_OF_SERVERS = ("gunicorn.error", "gunicorn.access", "uvicorn.error", "uvicorn.access", "django.request")


def check_loggers(config: LogConfig, user: User | None) -> Iterator[Finding]:
    """Check that neither the configuration nor the application disables loggers or removes their handlers."""
    if not config.is_read:
        yield Finding(
            WARNING,
            "loggers",
            "LOGGING_CONFIG",
            "LOGGING_CONFIG is None, and the settings give LOGGING to no dictConfig",
            "Django then configures no logging, so nothing reaches the handlers of LOGGING",
            "leave LOGGING_CONFIG out, or call logging.config.dictConfig(LOGGING)",
        )
    if config.logging:
        yield from _check_names(config)
    if config.logging and config.logging.get("disable_existing_loggers", True):
        silenced = [logger for logger in _OF_SERVERS if not _is_named(logger, config.logging)]
        yield Finding(
            WARNING,
            "loggers",
            "disable_existing_loggers",
            "the logging configuration disables every logger that exists and that it does not name"
            + (f", such as {', '.join(silenced)} in a process of that server" if silenced else ""),
            "loggers that were made before write nothing, and nothing reports that",
            "'disable_existing_loggers': False (without the key, it is True)",
        )
    if config.application is None:
        return
    names = sorted({logger for handler in config.handlers if handler.is_ours for logger in handler.loggers})
    if not names:
        return
    try:
        changed = rehearsal.loggers_after_import(config, names, user)
    except TrialFailed as error:
        yield Finding(
            WARNING,
            "loggers",
            config.application,
            f"it could not be imported: {error}",
            "its effect on the loggers could not be tried",
            "run the check where the application can be imported, with its environment",
        )
        return
    for name, what in sorted(changed.items()):
        yield Finding(
            ERROR,
            "loggers",
            name,
            f"importing {config.application} leaves it {'disabled' if what == 'disabled' else 'without its handler'}",
            "its lines reach no file of rollsafe",
            "in the application's dictConfig: 'disable_existing_loggers': False, and leave this logger out"
            if what == "disabled" or name != ROOT
            else "let the application leave the root logger to the server's configuration"
            " (no root in its dictConfig, no basicConfig(force=True))",
        )
    if not changed:
        yield Finding(OK, "loggers", config.application, "importing it leaves the loggers as they are configured")


def _check_names(config: LogConfig) -> Iterator[Finding]:
    """Check that each handler that a logger names is there."""
    handlers = config.logging.get("handlers") or {}
    named = {key: logger for logger, each in loggers_of(config.logging).items() for key in each.get("handlers") or ()}
    for key, logger in named.items():
        if key not in handlers:
            yield Finding(
                ERROR,
                "loggers",
                logger,
                f"it names the handler {key!r}, and the configuration has none of that name",
                "dictConfig refuses the configuration, and the process does not start",
                f"add {key!r} to 'handlers', or take it off the logger",
            )


def _is_named(logger: str, config: Mapping[str, Any]) -> bool:
    """Whether a configuration names a logger, or one above it, which keeps those below it enabled."""
    names = config.get("loggers") or {}
    return any(logger == name or logger.startswith(f"{name}.") for name in names)


_REMEDIES = {
    rehearsal.UNMADE: ("the process does not start with it", "give it what its class takes"),
    rehearsal.FIELD: (
        "every record that lacks it is lost",
        "give the formatter defaults={...} with a value for it, as rotating_logs and LineFormatter take, or the handler"
        " a filter that sets it",
    ),
    rehearsal.DASH: (
        "each line of a record that lacks it has a dash there, and takes several times as long to make",
        "give the formatter defaults={...} with a value for it, or the handler a filter that sets it",
    ),
    rehearsal.ENCODING: (
        "a line with such a character is lost",
        'leave errors out, which writes such characters as escapes, or give encoding="utf-8"',
    ),
}


def check_records(config: LogConfig, user: User | None) -> Iterator[Finding]:
    """Check that each handler can be made and takes a record. It is tried, because a format alone does not tell."""
    try:
        faults = rehearsal.faults(config, user)
    except TrialFailed as error:
        yield Finding(
            WARNING,
            "records",
            config.path,
            f"no record could be tried: {error}",
            "a handler with a format that no record fits loses every line",
            "run the check where the application runs",
        )
        return
    for handler in config.handlers:
        if handler.name in faults:
            kind, what = faults[handler.name]
            where = handler.path or handler.name
            level = WARNING if kind == rehearsal.DASH else ERROR
            yield Finding(level, "records", where, f"handler {handler.name}: {what}", *_REMEDIES[kind])
    if rehearsal.WHOLE in faults and not list(_check_names(config)):
        what = faults[rehearsal.WHOLE][1]
        remedy = "correct what the sentence names; the page of logging.config describes all keys"
        yield Finding(ERROR, "records", config.path, what, "the process does not start with it", remedy)
    if not faults:
        yield Finding(OK, "records", config.path, f"each of {plural(len(config.handlers), 'handler')} took a record")


_WHY = {
    steps.APPEND: "no line can be written",
    steps.LOCK: "without the lock no process may roll over, and the live file only grows",
    steps.RENAME: "no rollover can be made, and the live file only grows",
    steps.NEW_FILE: "lines after a rollover wait in memory, and are lost when the process ends",
    steps.COMPRESS: "backups stay as they are, and take more space",
    steps.REMOVE: "no limit removes a backup, and the disk fills up sooner or later",
}


def check_steps(config: LogConfig, handler: ConfiguredHandler, target: Target) -> Iterator[Finding]:
    """Check that a handler can take each step, from its first line to the removal of a backup, beside its log."""
    try:
        found = steps.try_steps(config, handler, target.directory, tried_as(target.user))
    except TrialFailed as error:
        yield Finding(
            WARNING,
            "steps",
            target.live,
            f"handler {handler.name}: its steps could not be tried: {error}",
            "only a trial shows whether lines, rollovers and archives work with its options",
            "run the check where the application runs, as its user or as root",
        )
        return
    if found is None:
        return  # `check_records` says why it cannot be made
    uncalled = "".join(f"; {name} was not called" for name in found.not_called)
    if found.failed is not None:
        who = user_name(target.user)
        yield Finding(
            ERROR,
            "steps",
            target.live,
            f"handler {handler.name}: user {who} cannot take the step {found.failed!r}: {found.reason}",
            _WHY[found.failed],
            "give another compress or compress_level, or more space and memory"
            if found.failed == steps.COMPRESS
            else f"find out what refuses it in {shlex.quote(target.directory)}: another user, a quota, a security"
            " module, an option of the mount",
        )
        return
    yield Finding(OK, "steps", target.live, f"handler {handler.name}: {', '.join(found.done)}{uncalled}")
