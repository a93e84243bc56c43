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
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rollsafe._options import OPTIONS, PRESET
from rollsafe._settings import Settings
from rollsafe.errors import ConfigurationError, LogFileError
from rollsafe.handlers import SafeTimedRotatingFileHandler
from rollsafe.tools.ini_logging import as_dictionary

ROOT = "root"


@dataclass(frozen=True, kw_only=True)
class ConfiguredHandler:
    """One handler of a logging configuration.

    Attributes:
        name: Its key in `handlers`, or the flag for which gunicorn makes it.
        kind: Its class, or the function that makes it; None if that cannot be imported.
        path: Absolute path of its file, None if it has none.
        options: The arguments of its class.
        loggers: The names of the loggers that have it; "root" is the root logger.
    """

    name: str
    kind: Any
    path: str | None
    options: Mapping[str, Any]
    loggers: tuple[str, ...]
    of_flag: bool = False
    """Whether gunicorn makes it for a flag, without a logging configuration."""

    @property
    def is_ours(self) -> bool:
        """Whether it is a SafeTimedRotatingFileHandler."""
        return isinstance(self.kind, type) and issubclass(self.kind, SafeTimedRotatingFileHandler)

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
class ServerConfig:
    """The contents of a gunicorn.conf.py.

    Attributes:
        path: The file.
        server: gunicorn's own Config, with all its settings: `server.user`, `server.uid`, `server.accesslog`.
        logging: The configuration that gunicorn gives to `logging.config.dictConfig`; empty if it does not.
        handlers: The handlers of it that a logger has, then those of `--access-logfile` and `--error-logfile`.
        application: The application to serve ("module:name"), if it is named.
        search: The path on which modules are found after the file was executed.
        given: The names of the settings that the file, the arguments or the environment set, even to their defaults.
    """

    path: str
    server: Any
    logging: Mapping[str, Any]
    handlers: tuple[ConfiguredHandler, ...]
    application: str | None
    search: tuple[str, ...]
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
        try:
            handlers = tuple(_handlers(server, logging_config))
        except (AttributeError, TypeError) as error:
            raise ConfigurationError(
                f"the logging configuration of {name!r} is none that dictConfig takes: {error}"
            ) from error
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
        server=server,
        logging=logging_config,
        handlers=handlers,
        application=application,
        search=tuple(filter(None, found_in)),
        given=frozenset(given),
    )


def enter(config: ServerConfig) -> None:
    """Give this process the working directory, environment and module path that gunicorn gives its own."""
    os.environ.update(config.server.env)
    time.tzset()
    os.chdir(config.server.chdir)
    sys.path[:] = config.search


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


def _handlers(server: Any, config: Mapping[str, Any]) -> list[ConfiguredHandler]:
    """The handlers that a logger has."""
    having: dict[str, list[str]] = {}
    named = {ROOT: config.get("root") or {}, **(config.get("loggers") or {})}
    for logger, settings in named.items():
        for key in settings.get("handlers") or ():
            having.setdefault(key, []).append(logger)
    resolve = logging.config.BaseConfigurator({}).resolve
    found = []
    for key, options in (config.get("handlers") or {}).items():
        kind = options.get("()", options.get("class"))
        if isinstance(kind, str):
            try:
                kind = resolve(kind)
            except (ValueError, ImportError):
                kind = None
        if key in having:
            path = options.get("filename")
            made_with = {name: value for name, value in options.items() if name not in ("class", "()")}
            found.append(
                ConfiguredHandler(
                    name=key,
                    kind=kind,
                    path=_absolute(server, path) if path else None,
                    options=_with_full_paths(server, made_with),
                    loggers=tuple(having[key]),
                )
            )
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
                    path=_absolute(server, path),
                    options=_with_full_paths(server, options),
                    loggers=(logger,),
                    of_flag=True,
                )
            )
    return found


def _with_full_paths(server: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a handler with the full path of its `archive_dir`."""
    directory = options.get("archive_dir")
    return {**options, "archive_dir": os.path.realpath(_absolute(server, directory))} if directory else dict(options)


def _absolute(server: Any, path: Any) -> str:
    """The path of a log file as gunicorn's processes see it."""
    return os.path.join(str(server.chdir), os.fspath(path))
