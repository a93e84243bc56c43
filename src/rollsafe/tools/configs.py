"""A gunicorn.conf.py as gunicorn reads it, and the log handlers that gunicorn makes of it. The file is executed.

Nothing is logged, and no log file is opened.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import logging.config
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from rollsafe._arguments import with_host_name
from rollsafe._options import PRESET
from rollsafe.errors import ConfigurationError, LogFileError
from rollsafe.handlers import SafeTimedRotatingFileHandler
from rollsafe.tools.ini_logging import as_dictionary
from rollsafe.tools.logging_config import ROOT, ConfiguredHandler, LogConfig, handlers_of, with_full_paths


@dataclass(frozen=True, kw_only=True)
class ServerConfig(LogConfig):
    """The contents of a gunicorn.conf.py.

    Its handlers are those that a logger has, then those of `--access-logfile` and `--error-logfile`.

    Attributes:
        server: gunicorn's own Config, with all its settings: `server.user`, `server.uid`, `server.accesslog`.
        given: The names of the settings that the file, the arguments or the environment set, even to their defaults.
    """

    server: Any
    given: frozenset[str]

    def handlers_of(self, logger: str) -> list[ConfiguredHandler] | None:
        """The handlers that records of one of gunicorn's loggers reach, by the logging configuration.

        None if it does not name the logger, which then keeps the handlers that gunicorn has made for its flags.
        """
        settings = (self.logging.get("loggers") or {}).get(logger)
        if settings is None:
            return None
        # gunicorn has switched propagation off, and a configuration that does not mention it leaves it off.
        wanted = {logger, ROOT} if settings.get("propagate") else {logger}
        return [handler for handler in self.handlers if not handler.of_flag and wanted & set(handler.loggers)]


def read_config(path: str | os.PathLike[str], arguments: Sequence[str] = ()) -> ServerConfig:
    """Read a gunicorn.conf.py, with the other arguments that gunicorn is started with besides `--config`.

    GUNICORN_CMD_ARGS counts too. The working directory is the same afterwards.

    Raises:
        ConfigurationError: gunicorn is not installed, or refuses the file or the arguments.
        LogFileError: The file does not exist.
    """
    name = os.fspath(path)
    if not os.path.isfile(name):
        raise LogFileError(f"{name!r} does not exist; give the path of a gunicorn.conf.py")
    try:
        from gunicorn.app.base import Application
        from gunicorn.glogging import CONFIG_DEFAULTS
    except ImportError as error:
        raise ConfigurationError(
            f"{name!r} cannot be read without gunicorn; install it with: pip install 'rollsafe[gunicorn]'"
        ) from error

    directory = os.getcwd()
    given: set[str] = set()

    class Reader(Application):  # type: ignore[misc]  # gunicorn publishes no types
        """Loads the configuration and no application."""

        application: str | None = None

        def load_default_config(self) -> None:
            """Set gunicorn's defaults; that of `chdir` is the working directory at the import of gunicorn."""
            super().load_default_config()
            self.cfg.set("chdir", directory)
            make = self.cfg.set

            def note(name: str, value: Any) -> None:
                given.add(name)
                make(name, value)

            self.cfg.set = note

        def init(self, parser: Any, opts: Any, args: list[str]) -> None:
            """Remember the application on the command line."""
            self.application = args[0] if args else None

        def load(self) -> None:
            """Serve no application."""

    said = io.StringIO()
    argv, path_before = sys.argv, sys.path[:]
    sys.argv = ["gunicorn", "--config", name, *arguments]
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            reader = Reader()
        server = reader.cfg
        server.user, server.group  # noqa: B018  # gunicorn refuses an unknown user when the setting is read
        # While modules are found on the path of the configuration, which may name its own classes.
        logging_config = _logging_of(server, CONFIG_DEFAULTS)
        handlers = [*handlers_of(logging_config, name, partial(_absolute, server)), *_handlers_of_flags(server)]
        found_in = tuple(dict.fromkeys((str(server.chdir), *(server.pythonpath or "").split(","), *sys.path)))
    except SystemExit as error:
        sentence = next((line for line in reversed(said.getvalue().splitlines()) if line.strip()), "")
        raise ConfigurationError(f"gunicorn refuses {name!r}: {sentence.removeprefix('Error: ')}") from error
    finally:
        sys.argv = argv
        sys.path[:] = path_before
        os.chdir(directory)
    application = reader.application or getattr(server, "wsgi_app", None)
    return ServerConfig(
        path=name,
        program="gunicorn",
        server=server,
        logging=logging_config,
        handlers=tuple(handlers),
        application=application,
        directory=str(server.chdir),
        environment=server.env,
        search=tuple(filter(None, found_in)),
        given=frozenset(given),
    )


def _logging_of(server: Any, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The dict that gunicorn gives to dictConfig: the defaults, replaced by key (gunicorn.glogging.Logger.setup)."""
    if server.logconfig_dict:
        return {**defaults, **server.logconfig_dict}
    if server.logconfig_json and os.path.exists(server.logconfig_json):
        try:
            with open(server.logconfig_json, encoding="utf-8") as file:
                return {**defaults, **json.load(file)}
        except (ValueError, TypeError) as error:
            raise ConfigurationError(f"logconfig_json={server.logconfig_json!r} is no JSON object: {error}") from error
    if server.logconfig:
        if not os.path.exists(server.logconfig):
            raise ConfigurationError(f"logconfig={server.logconfig!r} does not exist, and gunicorn does not start then")
        here = {**defaults, "__file__": server.logconfig, "here": os.path.dirname(server.logconfig)}
        return as_dictionary(server.logconfig, here, logging.config.BaseConfigurator({}).resolve)
    return {}


def _handlers_of_flags(server: Any) -> list[ConfiguredHandler]:
    """The handlers that gunicorn makes for its flags."""
    found = []
    for flag, logger, path in (
        ("accesslog", "gunicorn.access", server.accesslog),
        ("errorlog", "gunicorn.error", server.errorlog),
    ):
        if path and path != "-":
            rotation = getattr(server.logger_class, "rotation", None)
            kind = logging.FileHandler if rotation is None else SafeTimedRotatingFileHandler
            options = {} if rotation is None else {"when": PRESET["when"], **rotation}
            found.append(
                ConfiguredHandler(
                    name=flag,
                    kind=kind,
                    path=_absolute(server, path if rotation is None else with_host_name(path)),
                    options=with_full_paths(options, partial(_absolute, server)),
                    loggers=(logger,),
                    of_flag=True,
                )
            )
    return found


def _absolute(server: Any, path: Any) -> str:
    """The path of a log file as gunicorn's processes see it."""
    return os.path.join(str(server.chdir), os.fspath(path))
