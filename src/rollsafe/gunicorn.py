"""For gunicorn.conf.py: a complete `logconfig_dict`, and the hook that gives each worker its own lock handle.

Names imported into gunicorn.conf.py are taken for settings where they have a setting's name, so `__all__` holds only
names that no setting has, and the hook `post_fork`, which is one. The hook `on_reload`, which few need, is imported by
its name.
"""

from __future__ import annotations

import datetime
import logging
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from rollsafe._options import OPTIONS
from rollsafe.arguments import checked_path
from rollsafe.codecs import Compress
from rollsafe.errors import ConfigurationError, LogFileError
from rollsafe.flags import unheeded_flags
from rollsafe.formatters import LineFormatter
from rollsafe.gunicorn_reload import on_reload as on_reload
from rollsafe.handlers import SafeTimedRotatingFileHandler, living_handlers
from rollsafe.locks import renew_handles
from rollsafe.places import NotOurs, make_directory
from rollsafe.records import needless_switches
from rollsafe.schedule import Interval
from rollsafe.stamps import FIELD
from rollsafe.wiring import (
    given_files,
    is_first,
    look_for_neighbours,
    neighbours,
    quarrels,
    removed,
    silenced,
    unheeded_reload,
    unrollable,
    warn,
)

if TYPE_CHECKING:
    from rollsafe.gunicorn_logger import Logger

__all__ = ["Logger", "post_fork", "rotating_logger", "rotating_logs"]

LINE_FORMAT = "%(asctime)s [%(process)d] [%(levelname)s] %(name)s: %(message)s"


def rotating_logs(
    directory: str | os.PathLike[str],
    *,
    when: str = "midnight",
    interval: int = 1,
    backupCount: int = 0,
    utc: bool = False,
    atTime: datetime.time | None = None,
    tz: str | datetime.tzinfo | None = None,
    encoding: str = "utf-8",
    maxBytes: int | str = 0,
    suffix: str | None = None,
    archive_dir: str | os.PathLike[str] | None = None,
    compress: str | Compress | None = None,
    compress_level: int | None = None,
    on_rollover: Callable[[str, Interval], object] | None = None,
    max_age: str | datetime.timedelta | None = None,
    max_total_bytes: int | str | None = None,
    min_free_bytes: int | str | None = None,
    permissions: int | None = None,
    lock_writes: bool | None = None,
    access: str | None = "access.log",
    error: str | None = "error.log",
    app: str | None = "app.log",
    level: int | str = "INFO",
    format: str = LINE_FORMAT,
    access_format: str = "%(message)s",
    datefmt: str | None = None,
    defaults: Mapping[str, Any] | None = None,
    escape: bool = True,
    stamps: bool = False,
    lean_records: bool = False,
    json: bool = False,
) -> dict[str, Any]:
    """A complete `logconfig_dict` for gunicorn: three files in `directory` that rotate safely.

    gunicorn's `--log-level` and `--access-logformat` keep their meaning.

    Args:
        directory: Where the files go; made if it is missing. A relative path is relative to where gunicorn starts.
        when, interval, backupCount, utc, atTime, tz, encoding: As for `SafeTimedRotatingFileHandler`.
        maxBytes, suffix, archive_dir, compress, compress_level, on_rollover, max_age: The same, for each of the files.
        max_total_bytes, min_free_bytes, permissions, lock_writes: The same.
        access: File name for gunicorn's access lines; None for no access lines.
        error: File name for gunicorn's own messages; None leaves them on standard error.
        app: File name for the root logger, where applications and libraries log; None leaves it on standard output.
        level: Level of the root logger.
        format: Format (%-style) of the error and app lines.
        access_format: Format of the access lines around gunicorn's `access_log_format`.
        datefmt: As for `logging.Formatter`.
        defaults: Values for fields of the formats that not every record has, such as `{"otelTraceID": "-"}`: a record
            without the field would be lost. (With `json` it has the field as null, and these are not needed.)
        escape: Escape control characters, so that each record is one line (see `LineFormatter`).
        stamps: End each line with its stream and its number there, by which `rollsafe verify` finds missing lines.
        lean_records: Do not find out for each record where it was logged and by which thread, task and process name:
            the switches of `logging` that make each line cheaper, in the whole process, for every handler. `stack_info`
            gives nothing then. It stays so until gunicorn is restarted; a reload (HUP) does not undo it.
        json: One JSON object a line with the fields of the format, by python-json-logger (extra `json`); those of the
            access lines are `asctime` and `message`.

    Raises:
        ConfigurationError: An argument cannot work; also a `ValueError`.
        LogFileError: The directory or a file in it cannot be written; also an `OSError`.
    """
    given = locals()
    rotation = {name: given[name] for name, option in OPTIONS.items() if option.in_preset}
    names = {"access": access, "error": error, "app": app}
    formats = {"access": access_format, "error": format, "app": format}
    maker: dict[str, Any] = {"()": "rollsafe.LineFormatter", "escape": escape, "defaults": defaults}
    if json:
        maker = {"()": _json_formatter()}
        if access_format == "%(message)s":
            formats["access"] = "%(asctime)s %(message)s"
    if stamps:
        # Standard output and standard error, where a file is not wanted, have no numbers.
        formats = {key: f"{text} %({FIELD})s" if names[key] else text for key, text in formats.items()}
    paths = _paths(directory, names)
    for path in paths.values():
        # dictConfig would bury the reason in "Unable to configure handler"; this says it before.
        handler = SafeTimedRotatingFileHandler(path, delay=True, **rotation)
        checked_path(path, delay=False)
        look_for_neighbours(handler)
        handler.close()
    for text in formats.values():
        LineFormatter(text, datefmt, defaults=defaults)
    filters: dict[str, Any] = {}
    if lean_records:
        # No filter: what the dict makes when it is applied, so that building it changes nothing.
        switches = needless_switches(formats.values())
        filters["lean_records"] = {"()": "rollsafe.records.LeanRecords", "switches": switches}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": filters,
        # gunicorn merges this dict shallowly onto its defaults, so it has to be whole.
        "root": {"level": _checked_level(level), "handlers": ["app" if app else "console"]},
        "loggers": {
            # No level: gunicorn sets --log-level before this is applied, and a level here would undo it.
            "gunicorn.error": {"handlers": ["error" if error else "error_console"], "propagate": False},
            "gunicorn.access": (
                {"handlers": ["access"], "propagate": False}
                if access
                else {"handlers": [], "propagate": False, "level": "CRITICAL"}
            ),
        },
        "handlers": {
            "console": {"class": "logging.StreamHandler", "formatter": "app", "stream": "ext://sys.stdout"},
            "error_console": {"class": "logging.StreamHandler", "formatter": "error", "stream": "ext://sys.stderr"},
            **{
                key: {
                    "class": "rollsafe.SafeTimedRotatingFileHandler",
                    "formatter": key,
                    "filename": path,
                    # The arbiter logs to none of these, and would hold the first day's file open for ever.
                    "delay": key != "error",
                    **rotation,
                }
                for key, path in paths.items()
            },
        },
        "formatters": {key: {**maker, "fmt": text, "datefmt": datefmt} for key, text in formats.items()},
    }


def rotating_logger(**rotation: Any) -> type[Logger]:
    """A `logger_class` for gunicorn: the files of `--access-logfile` and `--error-logfile` rotate safely.

    `logger_class = "rollsafe.gunicorn.Logger"` is the same with the options from the environment (gunicorn's `raw_env`,
    else the process's own): `ROLLSAFE_` and the option in capitals with underscores, such as `ROLLSAFE_BACKUP_COUNT`,
    for `when`, `interval`, `backupCount`, `utc`, `tz`, `maxBytes`, `archive_dir`, `compress`, `max_age`,
    `max_total_bytes`, `min_free_bytes` and `permissions`.

    Args:
        rotation: Options of `SafeTimedRotatingFileHandler` without `filename`; `when` is "midnight" if it is not given.

    Raises:
        ConfigurationError: An option cannot work or is unknown; also a `ValueError`.
    """
    from rollsafe.gunicorn_logger import Logger

    try:
        SafeTimedRotatingFileHandler(os.devnull, **{"delay": True, **rotation}).close()
    except TypeError as error:
        raise ConfigurationError(f"rotating_logger: {error}; give options of SafeTimedRotatingFileHandler") from error
    return type("Logger", (Logger,), {"rotation": rotation, "__doc__": Logger.__doc__})


def __getattr__(name: str) -> Any:
    """`Logger`, which needs gunicorn, when it is asked for."""
    if name == "Logger":
        from rollsafe.gunicorn_logger import Logger

        return Logger
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def post_fork(server: Any, worker: Any) -> None:
    """gunicorn's hook in each new worker, which is still the arbiter's user here.

    Opens this worker's own lock handles, now rather than at the first rollover, and gives log and lock files to the
    `user` and `group` of the configuration, which the worker becomes next. Use it as the hook, or call it from one
    of your own. Each worker gets its own lock handle without it too, because gunicorn logs "Booting worker" before it
    calls the hook.

    The first worker of a configuration also says what is wrong with the wiring of the logs, as a warning in gunicorn's
    error log: now, and when its application is loaded.
    """
    renew_handles()
    if os.geteuid() == 0 and (worker.cfg.uid, worker.cfg.gid) != (0, os.getegid()):
        for handler in living_handlers():
            try:
                handler.hand_over(worker.cfg.uid, worker.cfg.gid)
            except OSError as error:
                server.log.warning(
                    "%s cannot be given to user %s: %s; if it is a log, chown it",
                    handler.baseFilename,
                    worker.cfg.uid,
                    error,
                )
    if is_first(server, worker):
        said: set[str] = set()
        flags = unheeded_flags(worker.cfg, worker.log)
        wrong = [*unheeded_reload(worker), *flags, *unrollable(worker.cfg), *neighbours(), *quarrels(), *silenced()]
        warn(worker.log, wrong, said)
        given = given_files(worker.cfg)
        loaded = worker.cfg.post_worker_init

        def post_worker_init(worker: Any) -> None:
            """Ask again when the application has set up its logging; then the hook of the configuration."""
            warn(worker.log, [*quarrels(), *silenced(), *removed(given)], said)
            loaded(worker)

        worker.cfg.set("post_worker_init", post_worker_init)


def _paths(directory: str | os.PathLike[str], names: dict[str, str | None]) -> dict[str, str]:
    """The path of each file that is wanted, in a directory that exists and may be written."""
    folder = os.path.abspath(os.fspath(directory))
    wanted = {key: name for key, name in names.items() if name is not None}
    for key, name in wanted.items():
        if not isinstance(name, str) or not name or name != os.path.basename(name) or name in (".", ".."):
            raise ConfigurationError(f"{key}={name!r} must be a file name without directory, or None for no file")
    if len(set(wanted.values())) < len(wanted):
        raise ConfigurationError(f"two of {wanted} are the same file; give each its own name")
    try:
        make_directory(folder, None)
    except NotOurs as error:
        raise LogFileError(f"directory={folder!r} cannot be used: {error}") from error
    except OSError as error:
        raise LogFileError(
            f"directory={folder!r} cannot be made: {error.strerror}; make it, or give another"
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise LogFileError(
            f"directory={folder!r} cannot be written by user {os.geteuid()}; rollover renames files in it,"
            " so give that user write permission on it"
        )
    return {key: os.path.join(folder, name) for key, name in wanted.items()}


def _json_formatter() -> str:
    """The name of the class that makes JSON of a record; a ConfigurationError if it is not there."""
    try:
        import pythonjsonlogger.json  # noqa: F401
    except ImportError as error:
        raise ConfigurationError(
            "json=True needs python-json-logger; install it with: pip install 'rollsafe[json]'"
        ) from error
    return "pythonjsonlogger.json.JsonFormatter"


def _checked_level(level: int | str) -> int | str:
    """`level` if `logging` knows it, else a ConfigurationError."""
    if isinstance(level, bool) or not isinstance(level, (int, str)):
        known = False
    else:
        known = isinstance(level, int) or isinstance(logging.getLevelName(level), int)
    if not known:
        raise ConfigurationError(f"level={level!r} is not a logging level; give one such as 'INFO' or 20")
    return level
