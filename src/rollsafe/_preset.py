"""The preset of the servers: three files that rotate safely, as a dict for `logging.config`.

`logging_config` has the only list of the preset's parameters, and explains them. The function of each adapter takes its
signature, and that part of its docstring, from there.
"""

from __future__ import annotations

import datetime
import functools
import inspect
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

from rollsafe._arguments import checked_path, naming_argument
from rollsafe._backups.codecs import Compress
from rollsafe._files.places import make_directory
from rollsafe._lines.records import needless_switches
from rollsafe._lines.stamps import FIELD
from rollsafe._options import OPTIONS, zone_of
from rollsafe._remedies import READ_ONLY, is_read_only
from rollsafe.errors import ConfigurationError, LogFileError
from rollsafe.formatters import LineFormatter
from rollsafe.handlers import SafeTimedRotatingFileHandler
from rollsafe.schedule import Interval

LINE_FORMAT = "%(asctime)s [%(process)d] [%(levelname)s] %(name)s: %(message)s"

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


class Server(NamedTuple):
    """A server as the preset sees it."""

    name: str
    """Its loggers are `NAME.access` and `NAME.error`."""
    look_at: Callable[[SafeTimedRotatingFileHandler], object] = id
    """Called with a handler of each file, before any handler opens it."""
    access_formatter: str = "rollsafe.LineFormatter"
    """The class of the formatter of the access lines, unless they are JSON."""
    access_fields: tuple[str, ...] = ()
    """The fields that `access_filter` gives the record of an access line; the JSON line has them."""
    access_filter: str = ""
    """The class of that filter, which takes `names` and `missing`."""


def logging_config(
    server: Server,
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
    """The dict for `logging.config` with three files in `directory`.

    Args:
        server: The server that writes two of them.
        directory: Where the files go; made if it is missing. A relative path is relative to where the server starts.
        when, interval, backupCount, utc, atTime, tz, encoding: As for `SafeTimedRotatingFileHandler`.
        maxBytes, suffix, archive_dir, compress, compress_level, on_rollover, max_age: The same, for each of the files.
        max_total_bytes, min_free_bytes, permissions, lock_writes: The same.
        access: File name for the server's access lines; None for no access lines.
        error: File name for the server's own messages; None leaves them on standard error.
        app: File name for the root logger, where applications and libraries log; None leaves it on standard output.
        level: Level of the root logger.
        format: Format (%-style) of the error and app lines.
        access_format: Format of the access lines around what the server's own format makes, which is the message. For
            gunicorn, it may also name single fields of a request: `remote_addr`, `method`, `path`, `query`, `protocol`,
            `status`, `bytes`, `duration` (seconds), `referer`, `user_agent`, `request_id`, `trace_id`.
        datefmt: As for `logging.Formatter`. The times are in the zone of `tz` or `utc`.
        defaults: Values for fields of the formats that not every record has, such as `{"otelTraceID": "-"}`: the line
            of a record without the field would have a dash there, and take longer to make. (With `json`, such a record
            gets null for the field without them.)
        escape: Escape control characters, so that each record is one line (see `LineFormatter`).
        stamps: End each line with its stream and its number there, so that `rollsafe verify` finds missing lines.
        lean_records: Leave out of each record where it was logged, and the names of its thread, task and process. This
            sets the switches of `logging` that make each line cheaper, in the whole process, for every handler.
            `stack_info` gives nothing then. Only a restart of the server undoes it, not a reload of gunicorn (HUP).
        json: Write each line as a JSON object with the fields of the format, by python-json-logger (extra `json`).
            `asctime` is ISO 8601 with the offset. An access line of gunicorn has `asctime` and the fields of the
            request, one of uWSGI `asctime` and `message`, unless `access_format` names others.

    Raises:
        ConfigurationError: An argument cannot work; also a `ValueError`.
        LogFileError: The directory or a file in it cannot be written; also an `OSError`.
    """
    given = locals()
    rotation = {name: given[name] for name, option in OPTIONS.items() if option.in_preset}
    names = {"access": access, "error": error, "app": app}
    formats = {"access": access_format, "error": format, "app": format}
    maker: dict[str, Any] = {"()": "rollsafe.LineFormatter", "escape": escape}
    if json:
        maker = {"()": _json_formatter()}
        if access_format == "%(message)s":
            formats["access"] = " ".join(f"%({name})s" for name in ("asctime", *(server.access_fields or ["message"])))
    maker |= {"defaults": defaults, "tz": zone_of(tz, utc)}
    if stamps:
        # Standard output and standard error, where a file is not wanted, have no numbers.
        formats = {key: f"{text} %({FIELD})s" if names[key] else text for key, text in formats.items()}
    paths = checked_paths(directory, names)
    _check_handlers(paths, rotation, server.look_at)
    for text in formats.values():
        LineFormatter(text, datefmt, defaults=defaults)
    formatters = {key: {**maker, "fmt": text, "datefmt": datefmt} for key, text in formats.items()}
    if not json:
        formatters["access"]["()"] = server.access_formatter
    filters: dict[str, Any] = {}
    if lean_records:
        # This is no filter. dictConfig makes it, so that building the dict changes nothing.
        switches = needless_switches(formats.values())
        filters["lean_records"] = {"()": "rollsafe._lines.records.LeanRecords", "switches": switches}
    named = [name for name in server.access_fields if f"({name})" in formats["access"]]
    if named:
        filters["access_fields"] = {"()": server.access_filter, "names": named, "missing": None if json else "-"}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": filters,
        # gunicorn merges this dict shallowly onto its defaults, so it has to be whole.
        "root": {"level": _checked_level(level), "handlers": ["app" if app else "console"]},
        "loggers": {
            # No level: gunicorn sets --log-level before it applies this dict, and a level here would undo that.
            f"{server.name}.error": {"handlers": ["error" if error else "error_console"], "propagate": False},
            f"{server.name}.access": (
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
                    # The first process logs only to the error log, and would keep the first file of another one open.
                    "delay": key != "error",
                    "filters": ["access_fields"] if named and key == "access" else [],
                    **rotation,
                }
                for key, path in paths.items()
            },
        },
        "formatters": formatters,
    }


def with_parameters_of(
    model: Callable[Concatenate[Server, _Parameters], object],
) -> Callable[[Callable[..., _Result]], Callable[_Parameters, _Result]]:
    """A decorator: the function takes the parameters of `model` without `server`, and its docstring explains them."""
    inherited = inspect.signature(model)
    _, _, explained = inspect.cleandoc(model.__doc__ or "").partition("\nArgs:\n")
    # Of `server`, which is explained in one line.
    explained = explained.partition("\n")[2]

    def decorate(function: Callable[..., _Result]) -> Callable[_Parameters, _Result]:
        signature = inherited.replace(
            parameters=list(inherited.parameters.values())[1:],
            return_annotation=inspect.signature(function).return_annotation,
        )

        @functools.wraps(function)
        def call(*arguments: _Parameters.args, **named: _Parameters.kwargs) -> _Result:
            try:
                given = signature.bind(*arguments, **named)
            except TypeError as error:
                raise TypeError(f"{function.__name__}() {error}") from None
            return function(*given.args, **given.kwargs)

        call.__signature__ = signature  # type: ignore[attr-defined]  # read by inspect
        call.__doc__ = f"{inspect.cleandoc(function.__doc__ or '')}\n\nArgs:\n{explained}"
        return call

    return decorate


def checked_paths(directory: str | os.PathLike[str], names: dict[str, str | None]) -> dict[str, str]:
    """The path of each file that is wanted, in a directory that exists and may be written."""
    folder = os.path.abspath(os.fspath(directory))
    wanted = {key: name for key, name in names.items() if name is not None}
    for key, name in wanted.items():
        if not isinstance(name, str) or not name or name != os.path.basename(name) or name in (".", ".."):
            raise ConfigurationError(f"{key}={name!r} must be a file name without directory, or None for no file")
    if len(set(wanted.values())) < len(wanted):
        raise ConfigurationError(f"two of {wanted} are the same file; give each its own name")
    with naming_argument(f"directory={folder!r}"):
        make_directory(folder, None)
    if is_read_only(folder):
        raise LogFileError(f"directory={folder!r} is on a read-only file system; {READ_ONLY}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise LogFileError(
            f"directory={folder!r} cannot be written by user {os.geteuid()}; rollover renames files in it,"
            " so give that user write permission on it"
        )
    return {key: os.path.join(folder, name) for key, name in wanted.items()}


def _check_handlers(
    paths: Mapping[str, str], rotation: Mapping[str, Any], look_at: Callable[[SafeTimedRotatingFileHandler], object]
) -> None:
    """Raise what is wrong with the handlers of these files: dictConfig would say "Unable to configure handler" only."""
    for path in paths.values():
        handler = SafeTimedRotatingFileHandler(path, delay=True, **rotation)
        checked_path(path, delay=False)
        look_at(handler)
        handler.close()


def _json_formatter() -> str:
    """The name of the class that writes a record as JSON, or a ConfigurationError if it is not installed."""
    try:
        import pythonjsonlogger.json  # noqa: F401
    except ImportError as error:
        raise ConfigurationError(
            "json=True needs python-json-logger; install it with: pip install 'rollsafe[json]'"
        ) from error
    return "rollsafe.json_lines.JSONFormatter"


def _checked_level(level: int | str) -> int | str:
    """`level` if `logging` knows it, else a ConfigurationError."""
    if isinstance(level, bool) or not isinstance(level, (int, str)):
        known = False
    else:
        known = isinstance(level, int) or isinstance(logging.getLevelName(level), int)
    if not known:
        raise ConfigurationError(f"level={level!r} is not a logging level; give one such as 'INFO' or 20")
    return level
