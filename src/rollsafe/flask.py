"""For Flask applications: one rotating log file by configuration, and request fields on every line."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from flask import Flask
from flask.logging import default_handler

from rollsafe._arguments import make_directory_of
from rollsafe._environment import unseen_variables
from rollsafe._flask.fields import FIELDS, HEADER_KEY, RequestFields, answer_id, request_id
from rollsafe._flask.files import FILENAME, HANDLER_NAME, OwnLines, open_files, other_files
from rollsafe._options import OPTIONS, PRESET, VARIABLE_PREFIX, variable_of, zone_of
from rollsafe._requests import HEADER, OUTSIDE, checked_header
from rollsafe.errors import ConfigurationError
from rollsafe.formatters import LineFormatter
from rollsafe.handlers import SafeTimedRotatingFileHandler

__all__ = ["RequestFields", "init_app", "request_id"]

LINE_FORMAT = "%(asctime)s [%(process)d] [%(levelname)s] [%(request_id)s] %(name)s: %(message)s"

_HANDLER_KEYS = {variable_of(name): name for name in ("filename", *OPTIONS)}
_FORMAT, _DATEFMT, _DEFAULTS, _LEVEL = map(variable_of, ("format", "datefmt", "defaults", "level"))
_KEYS = (*_HANDLER_KEYS, _FORMAT, _DATEFMT, _DEFAULTS, _LEVEL, HEADER_KEY)


def init_app(app: Flask) -> None:
    """Write the records of `app` and its libraries to a rotating file, and give each request an id.

    Call it when `app.config` is complete, and after you set up logging if you do that yourself. It reads these keys of
    `app.config`, and refuses any other key that begins with `ROLLSAFE_`:

    - ROLLSAFE_FILENAME: the live file; its directory is made if it is missing. Without this key no file is opened, and
      records go to the handlers of the root logger (with the gunicorn preset, to its app.log). If the root logger has a
      rollsafe handler already, that handler is used, and no line is written twice.
    - ROLLSAFE_WHEN ("midnight"), ROLLSAFE_BACKUP_COUNT, ROLLSAFE_TZ, ...: every other parameter of
      `SafeTimedRotatingFileHandler`, in upper case with underscores.
    - ROLLSAFE_FORMAT, ROLLSAFE_DATEFMT, ROLLSAFE_DEFAULTS: as for `LineFormatter`, with the fields of `RequestFields`.
      The times of the lines are in the zone of ROLLSAFE_TZ or ROLLSAFE_UTC.
    - ROLLSAFE_LEVEL: the level of the root logger, by default "INFO" if a file is opened. If several applications set
      it, the lowest level counts.
    - ROLLSAFE_REQUEST_ID_HEADER: the header of the request's id, "X-Request-ID".

    Several applications in one process each have their own file. A record of an application's logger goes to that
    application's file. Any other record goes to the file of the application in whose context it is logged; else to that
    of the application whose name begins the name of the logger; else to that of the last application.

    Each response has the request's id in that header. It is the one of the request's own header, if that has 1 to 128
    letters, digits and `._~+/=:@-`; otherwise it is a new one.

    Raises:
        ConfigurationError: A key is unknown or its value cannot work (a `ValueError`).
        LogFileError: The file cannot be logged to (also an `OSError`).

    Warns:
        RuntimeWarning: ROLLSAFE_FILENAME is not used, because the root logger writes to another rollsafe file already,
            or because uWSGI has set it too late for `app.config`; another application has the same name and another
            file, or the same file and other settings; or `app.config` has changed since the first call for `app`, which
            counts.
    """
    settings = {key: value for key, value in app.config.items() if key.startswith(VARIABLE_PREFIX)}
    if HANDLER_NAME in app.extensions:
        if app.extensions[HANDLER_NAME] != settings:
            warnings.warn(
                f"app.config, {VARIABLE_PREFIX}*, has changed since init_app was called for {app.name!r};"
                " the change has no effect",
                RuntimeWarning,
                stacklevel=2,
            )
        return
    if unknown := settings.keys() - set(_KEYS):
        raise ConfigurationError(f"app.config has {', '.join(sorted(unknown))}; known are {', '.join(_KEYS)}")
    checked_header(settings.get(HEADER_KEY, HEADER), HEADER_KEY)
    logger = logging.getLogger(app.name)
    opens = settings.get(FILENAME) is not None
    if opens:
        _log_to_file(app, logger, settings)
    else:
        _warn_of_unseen_settings()
    if opens or _LEVEL in settings:
        _set_level(app, settings.get(_LEVEL, "INFO"))
    for handler in _chain(logger):
        if not any(isinstance(each, RequestFields) for each in handler.filters):
            handler.addFilter(RequestFields())
    app.after_request(answer_id)
    app.extensions[HANDLER_NAME] = settings


def _warn_of_unseen_settings() -> None:
    """Warn of settings that uWSGI's `env =` has set after Python had read its environment; pyuwsgi does that."""
    if "uwsgi" not in sys.modules:
        return
    if names := sorted(os.fsdecode(name) for name in unseen_variables() if VARIABLE_PREFIX.encode() in name):
        warnings.warn(
            f"{', '.join(names)} came into the environment after Python had read it (pyuwsgi does that), so app.config"
            " lacks them; call rollsafe.uwsgi.install() before app.config is filled",
            RuntimeWarning,
            stacklevel=3,
        )


def _chain(logger: logging.Logger) -> Iterator[logging.Handler]:
    """The handlers that get the records of `logger`."""
    here: logging.Logger | None = logger
    while here is not None:
        yield from here.handlers
        here = here.parent if here.propagate else None


def _log_to_file(app: Flask, logger: logging.Logger, settings: Mapping[str, Any]) -> None:
    """Give the root logger a handler for the file, unless the records of `logger` go to a rollsafe file already."""
    path = _path(settings[FILENAME])
    for handler in _chain(logger):
        if isinstance(handler, SafeTimedRotatingFileHandler) and handler.name != HANDLER_NAME:
            if os.path.realpath(path) != handler.baseFilename:
                warnings.warn(
                    f"{FILENAME}={path!r} is not used: logging is set up already, and goes to"
                    f" {handler.baseFilename!r}; leave one of the two out",
                    RuntimeWarning,
                    stacklevel=3,
                )
            return
    make_directory_of(path, f"{FILENAME}={path!r}")
    arguments = {_HANDLER_KEYS[key]: value for key, value in settings.items() if key in _HANDLER_KEYS}
    given = settings.get(_DEFAULTS, {})
    of_file = {key: value for key, value in settings.items() if key not in (FILENAME, _LEVEL, HEADER_KEY)}
    same, gone = other_files(app, os.path.realpath(path), of_file)
    try:
        formatter = LineFormatter(
            settings.get(_FORMAT, LINE_FORMAT),
            settings.get(_DATEFMT),
            defaults={**dict.fromkeys(FIELDS, OUTSIDE), **given} if isinstance(given, Mapping) else given,
            tz=zone_of(arguments.get("tz"), arguments.get("utc")),
        )
        new = SafeTimedRotatingFileHandler(**PRESET | arguments)
    except ConfigurationError as error:
        raise ConfigurationError(f"app.config, {VARIABLE_PREFIX}*: {error}") from error
    new.setFormatter(formatter)
    new.addFilter(OwnLines([*same, app], of_file))
    new.name = HANDLER_NAME
    root = logging.getLogger()
    root.addHandler(new)
    for old in gone:
        root.removeHandler(old)
        old.close()
    # Flask's own handler is there if `app.logger` was used before.
    logger.removeHandler(default_handler)


def _path(filename: Any) -> str:
    """The absolute path of the live file."""
    try:
        return os.path.abspath(os.fsdecode(filename))
    except TypeError as error:
        raise ConfigurationError(f"{FILENAME}={filename!r} is no path; give one such as 'logs/app.log'") from error


def _set_level(app: Flask, level: int | str) -> None:
    """Set the level of the root logger, to the lowest one that an application with a file asks for."""
    try:
        lowest = logging.Logger(app.name, level).level
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{_LEVEL}={level!r} is not a logging level; give one such as 'INFO' or 20") from error
    others = {other for _, own in open_files() for other in own.apps() if other is not app}
    for other in others:
        lowest = min(lowest, logging.Logger(other.name, other.extensions[HANDLER_NAME].get(_LEVEL, "INFO")).level)
    logging.getLogger().setLevel(lowest)
