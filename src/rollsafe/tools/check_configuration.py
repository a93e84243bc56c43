"""Checks of a gunicorn.conf.py: its handlers, flags and loggers, and a record for each handler."""

from __future__ import annotations

import logging.handlers
import os
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from rollsafe.tools import rehearsal
from rollsafe.tools.configs import ROOT, ConfiguredHandler, ServerConfig
from rollsafe.tools.findings import ERROR, OK, WARNING, Finding
from rollsafe.tools.trials import TrialFailed, User, tried_as, user_name, user_of
from rollsafe.tools.words import plural


def check_handlers(config: ServerConfig) -> Iterator[Finding]:
    """Check that the handlers of a configuration are ours, and that no two of them write one file."""
    ours = [handler for handler in config.handlers if handler.is_ours]
    if not ours:
        yield Finding(
            ERROR,
            "handlers",
            config.path,
            "no logger has a handler of rollsafe",
            "none of the promises of rollsafe holds",
            'logconfig_dict = rotating_logs("logs"); or logger_class = "rollsafe.gunicorn.Logger" and --access-logfile,'
            " which you give here too, after --",
        )
    by_path: defaultdict[str, list[ConfiguredHandler]] = defaultdict(list)
    for handler in config.handlers:
        if handler.path:
            by_path[os.path.realpath(handler.path)].append(handler)
    for path, handlers in by_path.items():
        differ = len({handler.settings for handler in handlers if handler.is_ours}) > 1
        if len(handlers) > 1 and (differ or not all(handler.is_ours for handler in handlers)):
            names = " and ".join(f"{handler.name} ({_class_name(handler)})" for handler in handlers)
            yield Finding(
                ERROR,
                "handlers",
                path,
                f"it has several handlers: {names}",
                "each rolls it over in its own way, or continues in the file that another one has renamed",
                "give each its own file, or all loggers the same handler",
            )
    by_backups: defaultdict[str, set[str]] = defaultdict(set)
    for handler in ours:
        if handler.path and handler.settings and handler.settings.archive_dir:
            path = os.path.realpath(handler.path)
            directory = os.path.realpath(handler.settings.archive_dir)
            by_backups[os.path.join(directory, os.path.basename(path))].add(path)
    for backup, paths in by_backups.items():
        if len(paths) > 1:
            yield Finding(
                ERROR,
                "handlers",
                os.path.dirname(backup),
                f"it is the archive_dir of several logs of one name: {' and '.join(sorted(paths))}",
                "their backups have the same names, and the second handler is refused when the server starts",
                "give each log an archive_dir or a name of its own",
            )
    for handler in config.handlers:
        kind = handler.kind
        rotates = isinstance(kind, type) and issubclass(kind, logging.handlers.BaseRotatingHandler)
        if rotates and not handler.is_ours and config.server.workers > 1:
            yield Finding(
                ERROR,
                "handlers",
                handler.path or handler.name,
                f"handler {handler.name} is a {_class_name(handler)}, in {config.server.workers} workers",
                "each worker rotates the file on its own: most lines of a rollover are lost or in a wrong file",
                'use "rollsafe.SafeTimedRotatingFileHandler"',
            )


def check_flags(config: ServerConfig) -> Iterator[Finding]:
    """Check that no settings of gunicorn conflict."""
    server = config.server
    yield from _replaced_outputs(config)
    if server.capture_output and server.errorlog == "-":
        yield Finding(
            WARNING,
            "flags",
            "--capture-output",
            "it does nothing without --error-logfile",
            "the output of the application goes to standard output and error, as it does without the flag",
            "give --error-logfile a file of its own without rotation, or leave --capture-output out",
        )
    if server.capture_output and server.errorlog != "-":
        path = os.path.realpath(os.path.join(server.chdir, server.errorlog))
        if any(handler.is_ours and os.path.realpath(handler.path or "") == path for handler in _beside(config)):
            yield Finding(
                ERROR,
                "flags",
                "--capture-output",
                f"standard output and error go to {path}, which is rotated",
                "they stay on the file after its rollover, so the output goes to a backup, and is not in its archive",
                "give --error-logfile a file of its own",
            )
    given = [name for name in ("logconfig_dict", "logconfig_json", "logconfig") if getattr(server, name)]
    if len(given) > 1:
        yield Finding(
            WARNING,
            "flags",
            " and ".join(given),
            f"only {given[0]} counts",
            "gunicorn reads the first of logconfig_dict, logconfig_json and logconfig that is given",
            f"leave out {', '.join(given[1:])}",
        )
    changes_user = (server.uid, server.gid) != (os.geteuid(), os.getegid())
    is_default = getattr(server.post_fork, "__module__", "").startswith("gunicorn.")
    if changes_user and is_default and any(handler.is_ours for handler in config.handlers):
        yield Finding(
            ERROR,
            "flags",
            "post_fork",
            f"workers become user {user_name(User(server.uid, server.gid))}, and the hook of rollsafe is missing",
            "log and lock files stay the property of the user who starts gunicorn, and workers cannot write them",
            "from rollsafe.gunicorn import post_fork",
        )


def _replaced_outputs(config: ServerConfig) -> Iterator[Finding]:
    """Find the flags whose handlers the logging configuration replaces without one for the same output.

    The running server reports the same about its handlers; see `flags`.
    """
    server = config.server
    captures = server.capture_output and server.errorlog != "-"
    asked = [("--access-logfile", server.accesslog, "gunicorn.access")] if server.accesslog else []
    # gunicorn's default for --error-logfile is `-`.
    if not captures and (server.errorlog != "-" or "errorlog" in config.given):
        asked.append(("--error-logfile", server.errorlog, "gunicorn.error"))
    for flag, output, logger in asked:
        reached = config.handlers_of(logger)
        if reached is None or any(_writes(handler, output, config) for handler in reached):
            continue
        yield Finding(
            WARNING,
            "flags",
            flag,
            f"{flag} {output} together with a logging configuration",
            f"no line goes there: {logger} gets the handlers of the configuration instead"
            + ("" if output == "-" else ", and the file stays empty"),
            f"leave {flag} out, or put a handler for it into the logging configuration (with logger_class = "
            '"rollsafe.gunicorn.Logger" instead of a configuration, the flags rotate by themselves)',
        )
    if server.syslog:
        loggers = ["gunicorn.error"] + ["gunicorn.access"] * (not server.disable_redirect_access_to_syslog)
        silent = [
            logger
            for logger in loggers
            if (reached := config.handlers_of(logger)) is not None
            and not any(_is_kind(handler, logging.handlers.SysLogHandler) for handler in reached)
        ]
        if silent:
            yield Finding(
                WARNING,
                "flags",
                "--log-syslog",
                "--log-syslog together with a logging configuration",
                f"nothing of {' and '.join(silent)} is sent: the handlers of the configuration replace its own",
                "leave --log-syslog out, or put a logging.handlers.SysLogHandler into the logging configuration",
            )


def _writes(handler: ConfiguredHandler, output: str, config: ServerConfig) -> bool:
    """Whether a handler writes to the output that a flag names: a file, or `-` for a standard stream."""
    if output != "-":
        return os.path.realpath(handler.path or "") == os.path.realpath(os.path.join(config.server.chdir, output))
    return _is_kind(handler, logging.StreamHandler) and not _is_kind(handler, logging.FileHandler)


def _is_kind(handler: ConfiguredHandler, kind: type[logging.Handler]) -> bool:
    """Whether a handler is of a class."""
    return isinstance(handler.kind, type) and issubclass(handler.kind, kind)


def _beside(config: ServerConfig) -> list[ConfiguredHandler]:
    """The handlers that the logging configuration makes, not the flags."""
    return [handler for handler in config.handlers if not handler.of_flag]


def check_loggers(config: ServerConfig) -> Iterator[Finding]:
    """Check that neither the configuration nor the application disables loggers or removes their handlers."""
    if config.logging.get("disable_existing_loggers") is True:
        yield Finding(
            WARNING,
            "loggers",
            "disable_existing_loggers",
            "the logging configuration disables every logger that exists and that it does not name",
            "loggers that were made before write nothing, and nothing reports that",
            "'disable_existing_loggers': False",
        )
    if config.application is None:
        return
    names = sorted({logger for handler in config.handlers if handler.is_ours for logger in handler.loggers})
    if not names:
        return
    try:
        changed = rehearsal.loggers_after_import(config, names, _loads_as(config))
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


_REMEDIES = {
    rehearsal.UNMADE: ("gunicorn does not start with it", "give it what its class takes"),
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


def check_records(config: ServerConfig) -> Iterator[Finding]:
    """Check that each handler can be made and takes a record. It is tried, because a format alone does not tell."""
    try:
        faults = rehearsal.faults(config, _loads_as(config))
    except TrialFailed as error:
        yield Finding(
            WARNING,
            "records",
            config.path,
            f"no record could be tried: {error}",
            "a handler with a format that no record fits loses every line",
            "run the check where the server runs",
        )
        return
    for handler in config.handlers:
        if handler.name in faults:
            kind, what = faults[handler.name]
            where = handler.path or handler.name
            level = WARNING if kind == rehearsal.DASH else ERROR
            yield Finding(level, "records", where, f"handler {handler.name}: {what}", *_REMEDIES[kind])
    if not faults:
        yield Finding(OK, "records", config.path, f"each of {plural(len(config.handlers), 'handler')} took a record")


def workers_of(config: ServerConfig) -> User | None:
    """The user that the workers become, None if they stay this user; see gunicorn.util.set_owner_process."""
    server = config.server
    if (server.uid, server.gid) == (os.geteuid(), os.getegid()):
        return None
    return user_of(server.uid, server.gid, with_groups=server.initgroups)


def _loads_as(config: ServerConfig) -> User | None:
    """The user that loads the application: with preload_app, the one of gunicorn's arbiter."""
    return None if config.server.preload_app else tried_as(workers_of(config))


def _class_name(handler: ConfiguredHandler) -> str:
    """The name of a handler's class."""
    kind: Any = handler.kind
    return getattr(kind, "__name__", None) or "unknown class"
