"""Checks of the handlers of a configuration: their classes, their files, and which of them share a file."""

from __future__ import annotations

import logging.handlers
import os
import shlex
from collections import defaultdict
from collections.abc import Iterator

from rollsafe.tools.configs import ServerConfig
from rollsafe.tools.findings import ERROR, WARNING, Finding
from rollsafe.tools.logging_config import ConfiguredHandler, LogConfig
from rollsafe.tools.logrotate import rules

_OURS = "rollsafe.SafeTimedRotatingFileHandler"


def check_handlers(config: LogConfig) -> Iterator[Finding]:
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
            " which you give here too, after --"
            if isinstance(config, ServerConfig)
            else f'give a handler "class": "{_OURS}", and put its name into the handlers of a logger',
        )
    by_path: defaultdict[str, list[ConfiguredHandler]] = defaultdict(list)
    for handler in config.handlers:
        if handler.path:
            by_path[os.path.realpath(handler.path)].append(handler)
    for path, handlers in by_path.items():
        differ = len({handler.settings for handler in handlers if handler.is_ours}) > 1
        if len(handlers) > 1 and (differ or not all(handler.is_ours for handler in handlers)):
            names = " and ".join(f"{handler.name} ({handler.class_name})" for handler in handlers)
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
        if not handler.is_ours:
            yield from _check_other_handler(config, handler)
    if not isinstance(config, ServerConfig):
        yield from _check_relative_paths(config)


def _check_other_handler(config: LogConfig, handler: ConfiguredHandler) -> Iterator[Finding]:
    """Check a handler of another package: does it rotate, and is the directory of its file there."""
    where = handler.path or handler.name
    workers = config.server.workers if isinstance(config, ServerConfig) else None
    if _is_concurrent(handler):
        yield Finding(
            WARNING,
            "handlers",
            where,
            f"handler {handler.name} is a {handler.class_name}, which rotates under a lock",
            "each line waits for the lock, lines near a rollover go to the wrong file, and a process that is killed"
            " while it compresses leaves half an archive",
            f'use "{_OURS}": use_gzip=True is compress="gz" there, and chmod is permissions',
        )
    elif handler.is_a(logging.handlers.BaseRotatingHandler) and workers != 1:
        yield Finding(
            ERROR if workers else WARNING,
            "handlers",
            where,
            f"handler {handler.name} is a {handler.class_name}, "
            + (f"in {workers} workers" if workers else "which one process alone may use"),
            "each worker rotates the file on its own: most lines of a rollover are lost or in a wrong file",
            f'use "{_OURS}"{_differences(handler)}',
        )
    elif handler.is_a(logging.handlers.WatchedFileHandler):
        found = [rule for rule in rules() if handler.path and rule.matches(os.path.realpath(handler.path))]
        for rule in found[:1]:
            yield Finding(
                WARNING,
                "handlers",
                where,
                f"handler {handler.name} is a {handler.class_name}, and {rule.source} rotates its file",
                "lines go into the file of the day on which logrotate comes, and with copytruncate some are lost",
                f'use "{_OURS}", and remove the file from {rule.source}',
            )
    if isinstance(stream := handler.options.get("stream"), str):
        yield Finding(
            ERROR,
            "handlers",
            where,
            f"stream={stream!r} of handler {handler.name} is a text and no stream",
            "each line is lost",
            f'write "stream": "ext://{stream}"' if "." in stream else 'write "stream": "ext://sys.stdout"',
        )
    if handler.path and not os.path.isdir(directory := os.path.dirname(handler.path)):
        yield Finding(
            ERROR,
            "handlers",
            where,
            f"the directory of handler {handler.name} does not exist",
            "its class does not make it, and the process does not start",
            f"make it, and give it to the user who writes: mkdir -p {shlex.quote(directory)}",
        )


def _is_concurrent(handler: ConfiguredHandler) -> bool:
    """Whether a handler is one of concurrent-log-handler, which may not be installed here."""
    module = str(getattr(handler.kind, "__module__", "") or handler.spelling)
    return module.startswith(("concurrent_log_handler", "cloghandler")) or handler.class_name in (
        "ConcurrentRotatingFileHandler",
        "ConcurrentTimedRotatingFileHandler",
    )


def _differences(handler: ConfiguredHandler) -> str:
    """The arguments of a handler of the standard library that are others with ours."""
    if handler.is_a(logging.handlers.RotatingFileHandler):
        return ' with when="midnight"; maxBytes and backupCount keep their meaning, and mode has to go'
    return " with the same arguments"


def _check_relative_paths(config: LogConfig) -> Iterator[Finding]:
    """Check that the path of each file is a full one, because the process may start in another directory."""
    for handler in config.handlers:
        given = (config.logging.get("handlers") or {}).get(handler.name, {}).get("filename")
        if (
            handler.path
            and isinstance(given, (str, os.PathLike))
            and "://" not in str(given)
            and not os.path.isabs(given)
        ):
            yield Finding(
                WARNING,
                "handlers",
                handler.path,
                f"filename={os.fspath(given)!r} of handler {handler.name} is relative to the directory in which the"
                " process starts",
                "a server, a cron job and a shell write different files, or do not start",
                "give the full path"
                + (f", such as BASE_DIR / {os.fspath(given)!r}" if config.program == "Django" else f": {handler.path}"),
            )
