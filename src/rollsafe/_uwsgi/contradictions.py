"""Options of uWSGI that contradict the preset, each as one sentence with its remedy. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from rollsafe._uwsgi.loggers import ACCESS, ERROR

_LOGGERS: Final = ("logger",)
_REQUEST_LOGGERS: Final = ("req-logger", "logger-req")
_FILES: Final = ("logto", "logto2", "daemonize", "daemonize2")
_ROTATION: Final = (
    *("log-maxsize", "log-backupname", "log-truncate", "log-reopen"),
    *("touch-logrotate", "touch-logreopen", "logfile-chown", "logfile-chmod"),
)
_STREAMS: Final = ("log-master-stream", "log-master-req-stream")
_BINARY_ENCODERS: Final = ("gzip", "compress")
# With one of these, uWSGI logs some requests even if it is told to log none.
_SOME_REQUESTS: Final = (
    *("log-zero", "log-slow", "log-4xx", "log-5xx", "log-big", "log-sendfile", "log-ioerror"),
    *("route", "route-run", "final-route", "response-route"),
)


def contradictions(options: Mapping[str, Any], files: Mapping[str, str]) -> Iterator[str]:
    """A sentence about each option that keeps the files from getting all that they should.

    Args:
        options: `uwsgi.opt`.
        files: The paths of "access" and "error", as far as they are wanted.
    """
    if "access" in files:
        yield from _wiring(options, _REQUEST_LOGGERS, ACCESS, files["access"])
        if "disable-logging" in options and not any(name in options for name in _SOME_REQUESTS):
            yield f"disable-logging leaves {files['access']!r} without requests; remove it"
    if "error" in files:
        yield from _wiring(options, _LOGGERS, ERROR, files["error"])
    elif any(_target(value) == ERROR for value in values_of(options, *_LOGGERS)):
        yield f"logger = python:{ERROR} throws uWSGI's messages away, because error=None; remove one of the two"
    for name in _FILES:
        for value in values_of(options, name):
            yield f"{name} = {value} gets only what uWSGI says before Python is ready, and is not rotated; remove it"
    for name in _ROTATION:
        if name in options:
            yield f"{name} does nothing to the files of set_up_logs; remove it, and give set_up_logs the rotation"
    for name in _STREAMS:
        if name in options:
            yield f"{name} joins and cuts lines; remove it"
    if "threaded-logger" in options:
        # The thread has no thread state, and PyEval_RestoreThread(NULL) is a fatal error (measured: CPython 3.11).
        yield "threaded-logger ends uWSGI, whose logging thread calls a python: logger in a way that aborts; remove it"
    for name in ("log-encoder", "log-req-encoder"):
        for value in values_of(options, name):
            if value.partition(" ")[0].partition(":")[0] in _BINARY_ENCODERS:
                yield f"{name} = {value} makes bytes that are no text; remove it, and give set_up_logs compress='gz'"


def may_read_requests(options: Mapping[str, Any]) -> bool:
    """Whether uWSGI does nothing to a request but hand it to our logger."""
    others = ("log-req-route", "log-req-encoder", "worker-log-req-encoder", *_STREAMS)
    return [_target(value) for value in values_of(options, *_REQUEST_LOGGERS)] == [ACCESS] and not any(
        name in options for name in others
    )


def may_read_messages(options: Mapping[str, Any]) -> bool:
    """Whether uWSGI does nothing to a message but hand it to our logger."""
    others = ("log-route", "log-encoder", "log-drain", "log-filter", "alarm-log", "log-alarm", *_STREAMS)
    return [_target(value) for value in values_of(options, *_LOGGERS)] == [ERROR] and not any(
        name in options for name in others
    )


def values_of(options: Mapping[str, Any], *names: str) -> list[str]:
    """The values of the options of these names; one that is given repeatedly has a list of them."""
    found = []
    for name in names:
        given = options.get(name, [])
        for value in given if isinstance(given, list) else [given]:
            found.append(value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value))
    return found


def _target(value: str) -> str | None:
    """The logger of Python that a value of `logger` or `req-logger` names; None if it names none."""
    kind, _, name = value.partition(":")
    return name if kind == "python" and name else None


def _wiring(options: Mapping[str, Any], names: tuple[str, ...], logger: str, path: str) -> Iterator[str]:
    """What is wrong if no value of these options names the logger."""
    given = values_of(options, *names)
    if logger in map(_target, given):
        return
    line = f"{names[0]} = python:{logger}"
    python = next((value for value in given if value.rpartition(" ")[2].partition(":")[0] == "python"), None)
    if python is None:
        yield f"{path!r} gets nothing from uWSGI, because its configuration has no line {line}; add it"
    else:
        yield f"{names[0]} = {python} does not write {path!r}; write {line}"
