"""Which of our handlers are attached to loggers, and which of them the application has taken off or switched off."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from rollsafe._arguments import checked_path
from rollsafe.errors import LogFileError
from rollsafe.handlers import SafeTimedRotatingFileHandler, living_handlers


def disabled_loggers() -> Iterator[str]:
    """A sentence if a configuration of the application has switched off gunicorn's loggers."""
    names = [name for name in ("gunicorn.access", "gunicorn.error") if logging.getLogger(name).disabled]
    if names:
        yield (
            f"{' and '.join(names)} {'were' if len(names) > 1 else 'was'} switched off, as a dictConfig or fileConfig"
            " does to loggers that it does not name; give the application's configuration"
            " 'disable_existing_loggers': False"
        )


def configured_files(cfg: Any) -> dict[str, str]:
    """The live files that gunicorn's settings give to loggers, each with the name of a logger.

    Call it before the application is loaded. With `preload_app` that is too late for the handlers that the application
    has taken off, so this reads the settings as well.
    """
    config = cfg.logconfig_dict or {}
    files = {handler.baseFilename: name for name, handler in attached()}
    for name, logger in {"root": config.get("root"), **config.get("loggers", {})}.items():
        for key in (logger or {}).get("handlers", ()):
            options = config.get("handlers", {}).get(key, {})
            if options.get("class") == "rollsafe.SafeTimedRotatingFileHandler":
                with suppress(LogFileError):
                    files.setdefault(checked_path(options["filename"], delay=True), name)
    return files


def removed_handlers(given: Mapping[str, str]) -> Iterator[str]:
    """The files of `given` whose handlers the application has taken off the loggers and closed.

    A handler that is still open may serve another handler, such as a queue's.
    """
    kept = {handler.baseFilename for handler in living_handlers() if not getattr(handler, "_closed", False)}
    kept |= {handler.baseFilename for _, handler in attached()}
    for path, name in given.items():
        if path not in kept:
            yield (
                f"{path!r} is not written any more, because the application has taken its handler off {name}, as a"
                " dictConfig, fileConfig or basicConfig(force=True) that names this logger does; leave the logger out"
                " there, or give it a handler of this file there"
            )


def attached() -> Iterator[tuple[str, SafeTimedRotatingFileHandler]]:
    """Our handlers that records reach, each with the name of its logger."""
    loggers = [logging.root, *map(logging.getLogger, tuple(logging.root.manager.loggerDict))]
    for logger in loggers:
        for handler in logger.handlers:
            if isinstance(handler, SafeTimedRotatingFileHandler):
                yield logger.name, handler
