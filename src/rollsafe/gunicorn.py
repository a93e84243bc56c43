"""For gunicorn.conf.py: a complete `logconfig_dict`, a `logger_class`, and the hooks.

gunicorn takes a name in gunicorn.conf.py for a setting if there is a setting of that name. So `__all__` holds the hook
`post_fork`, and otherwise only names that no setting has. Few need the hook `on_reload`; they import it by its name.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from rollsafe._backups.codecs import Compress
from rollsafe._files.lock_handles import renew_handles
from rollsafe._gunicorn.preset_arguments import check_handlers, checked_level, checked_paths, json_formatter
from rollsafe._gunicorn.reload import on_reload as on_reload
from rollsafe._gunicorn.workers import hand_over_files, is_first, warn_of_faults
from rollsafe._lines.records import needless_switches
from rollsafe._lines.stamps import FIELD
from rollsafe._options import OPTIONS
from rollsafe.errors import ConfigurationError
from rollsafe.formatters import LineFormatter
from rollsafe.handlers import SafeTimedRotatingFileHandler, watch_logs
from rollsafe.schedule import Interval

if TYPE_CHECKING:
    from rollsafe._gunicorn.logger import Logger

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
        access_format: Format of the access lines around gunicorn's `access_log_format`. If it has no time, lines of
            uvicorn's workers get one, because uvicorn's have none.
        datefmt: As for `logging.Formatter`.
        defaults: Values for fields of the formats that not every record has, such as `{"otelTraceID": "-"}`: the line
            of a record without the field would have a dash there, and take longer to make. (With `json`, such a record
            gets null for the field without them.)
        escape: Escape control characters, so that each record is one line (see `LineFormatter`).
        stamps: End each line with its stream and its number there, so that `rollsafe verify` finds missing lines.
        lean_records: Leave out of each record where it was logged, and the names of its thread, task and process. This
            sets the switches of `logging` that make each line cheaper, in the whole process, for every handler.
            `stack_info` gives nothing then. Only a restart of gunicorn undoes it, not a reload (HUP).
        json: Write each line as a JSON object with the fields of the format, by python-json-logger (extra `json`);
            the fields of an access line are `asctime` and `message`.

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
        maker = {"()": json_formatter()}
        if access_format == "%(message)s":
            formats["access"] = "%(asctime)s %(message)s"
    if stamps:
        # Standard output and standard error, where a file is not wanted, have no numbers.
        formats = {key: f"{text} %({FIELD})s" if names[key] else text for key, text in formats.items()}
    paths = checked_paths(directory, names)
    check_handlers(paths, rotation)
    for text in formats.values():
        LineFormatter(text, datefmt, defaults=defaults)
    formatters = {key: {**maker, "fmt": text, "datefmt": datefmt} for key, text in formats.items()}
    if not json:
        # It adds the time to the lines of uvicorn's workers.
        formatters["access"]["()"] = "rollsafe._gunicorn.access.AccessLineFormatter"
    filters: dict[str, Any] = {}
    if lean_records:
        # This is no filter. dictConfig makes it, so that building the dict changes nothing.
        switches = needless_switches(formats.values())
        filters["lean_records"] = {"()": "rollsafe._lines.records.LeanRecords", "switches": switches}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": filters,
        # gunicorn merges this dict shallowly onto its defaults, so it has to be whole.
        "root": {"level": checked_level(level), "handlers": ["app" if app else "console"]},
        "loggers": {
            # No level: gunicorn sets --log-level before it applies this dict, and a level here would undo that.
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
                    # The arbiter logs only to the error log, and would keep the first file of another one open.
                    "delay": key != "error",
                    **rotation,
                }
                for key, path in paths.items()
            },
        },
        "formatters": formatters,
    }


def rotating_logger(**rotation: Any) -> type[Logger]:
    """A `logger_class` for gunicorn: the files of `--access-logfile` and `--error-logfile` rotate safely.

    `logger_class = "rollsafe.gunicorn.Logger"` takes the options from the environment instead (gunicorn's `raw_env`,
    else the process's own): `ROLLSAFE_` and the option in capitals with underscores, such as `ROLLSAFE_BACKUP_COUNT`,
    for `when`, `interval`, `backupCount`, `utc`, `tz`, `maxBytes`, `archive_dir`, `compress`, `max_age`,
    `max_total_bytes`, `min_free_bytes` and `permissions`.

    Args:
        rotation: Options of `SafeTimedRotatingFileHandler` without `filename`; the default of `when` is "midnight".

    Raises:
        ConfigurationError: An option cannot work or is unknown; also a `ValueError`.
    """
    from rollsafe._gunicorn.logger import Logger

    try:
        SafeTimedRotatingFileHandler(os.devnull, **{"delay": True, **rotation}).close()
    except TypeError as error:
        raise ConfigurationError(f"rotating_logger: {error}; give options of SafeTimedRotatingFileHandler") from error
    return type("Logger", (Logger,), {"rotation": rotation, "__doc__": Logger.__doc__})


def __getattr__(name: str) -> Any:
    """Import `Logger` on demand, because it needs gunicorn."""
    if name == "Logger":
        from rollsafe._gunicorn.logger import Logger

        return Logger
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def post_fork(server: Any, worker: Any) -> None:
    """gunicorn's hook in each new worker, which still has the arbiter's user. Use it, or call it from your own.

    It opens this worker's own lock handles, and gives log and lock files to the `user` and `group` of the
    configuration, which the worker becomes next. It also has the logs rolled although the worker may log nothing.
    (Without the hook, both come with the first line of each worker.)

    The first worker of a configuration also warns in gunicorn's error log of faults in the wiring of the logs: now, and
    again when its application is loaded.
    """
    renew_handles()
    hand_over_files(server, worker)
    watch_logs()
    if is_first(server, worker):
        warn_of_faults(worker)
