"""gunicorn's access lines, compiled: the format is parsed once, and a line computes only the atoms that it names.

gunicorn's documentation of `access_log_format` explains the atoms. This module imports nothing of gunicorn.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from rollsafe.formatters import LineFormatter, escape, has_control

Atom = Callable[[Any, Any, Mapping[str, Any], timedelta, float], Any]
"""(response, request, environ, duration, seconds since the epoch) -> the value, before quotes are escaped."""
Line = Callable[[Any, Any, Mapping[str, Any], timedelta, float], str]
"""The same arguments -> the line, as gunicorn makes it; control characters are not escaped."""

# "%%", or a conversion that names its atom (printf-style formatting with a mapping). gunicorn handles anything else.
_CONVERSION = re.compile(r"%(?:%|\((?P<atom>[^()]*)\)(?P<how>[#0\- +]*\d*(?:\.\d*)?[hlL]?[diouxXeEfFgGcrsa]))")
_HEADER = re.compile(r"\{(?P<name>.*)\}(?P<kind>[ioe])", re.DOTALL)
_UVICORN = "uvicorn.access"
_TIME_FORMAT = "[%d/%b/%Y:%H:%M:%S %z]"


def compile_format(access_log_format: str, user: Callable[[Mapping[str, Any]], str | None]) -> Line | None:
    """The function that makes the lines of a format; None if the format has a conversion that names no atom.

    Args:
        access_log_format: As gunicorn's setting.
        user: Gives the user name of an environ, or None.
    """
    atoms: list[Atom] = []

    def without_name(conversion: re.Match[str]) -> str:
        """The same conversion by position; its atom is added to `atoms`."""
        if conversion["how"] is None:
            return conversion[0]
        atoms.append(_atom(conversion["atom"], user))
        return "%" + conversion["how"]

    if "%" in _CONVERSION.sub("", access_log_format):
        return None
    by_place = _CONVERSION.sub(without_name, access_log_format)

    def line(response: Any, request: Any, environ: Mapping[str, Any], duration: timedelta, now: float) -> str:
        """The line of one request."""
        values = [atom(response, request, environ, duration, now) for atom in atoms]
        return by_place % tuple(
            [value.replace('"', '\\"') if isinstance(value, str) and '"' in value else value for value in values]
        )

    return line


class AccessFormatter(logging.Formatter):
    """A `logging.Formatter` that escapes a line if there is a control character in it, and otherwise leaves it alone.

    So an access line is the one that gunicorn makes, byte for byte, and no client can forge a second one.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The text of `record` as one line."""
        return _start_of(record, self) + one_line(super().format(record))


class AccessLineFormatter(LineFormatter):
    """The formatter of the preset for access lines."""

    def format(self, record: logging.LogRecord) -> str:
        """The text of `record` as one line."""
        return _start_of(record, self) + super().format(record)


def _start_of(record: logging.LogRecord, formatter: logging.Formatter) -> str:
    """Time and process for a line of uvicorn's workers, which write to the handlers of `gunicorn.access`; else nothing.

    `access_log_format` puts a time into the lines of gunicorn, but uvicorn makes its own, and without a time.
    """
    if record.name != _UVICORN or formatter.usesTime() or "created" in (formatter._fmt or ""):
        return ""
    return f"{formatter.formatTime(record, formatter.datefmt)} [{record.process}] "


def one_line(text: str) -> str:
    """`text`, or `escape(text)` if there is a control character or a line separator in it."""
    return escape(text) if has_control(text) else text


def _atom(name: str, user: Callable[[Mapping[str, Any]], str | None]) -> Atom:
    """The function that computes the atom of that name; an unknown atom is a dash."""
    if name == "u":
        return lambda response, request, environ, duration, now: user(environ) or "-"
    header = _HEADER.fullmatch(name.lower())
    if header is not None:
        return _KINDS[header["kind"]](header["name"])
    return _ATOMS.get(name, _dash)


def _dash(response: Any, request: Any, environ: Mapping[str, Any], duration: timedelta, now: float) -> Any:
    """The value of an unknown atom."""
    return "-"


def _status(response: Any, request: Any, environ: Mapping[str, Any], duration: timedelta, now: float) -> Any:
    """The status code of a status line, or the server's own object for a status."""
    status = response.status
    return status.split(None, 1)[0] if isinstance(status, str) else status


def _sent(response: Any, request: Any, environ: Mapping[str, Any], duration: timedelta, now: float) -> Any:
    """The length of the body, or a dash."""
    sent = getattr(response, "sent", None)
    return "-" if sent is None else str(sent)


# The text of one second. Key and text are one tuple, which is read and replaced as a whole, so threads mix no two.
_second: tuple[int, str] = (-1, "")


def _time(response: Any, request: Any, environ: Mapping[str, Any], duration: timedelta, now: float) -> Any:
    """The moment of the line, in local time."""
    global _second
    second = int(now)
    known, text = _second
    if known != second:
        text = time.strftime(_TIME_FORMAT, time.localtime(second))
        _second = (second, text)
    return text


_ATOMS: dict[str, Atom] = {
    "h": lambda response, request, environ, duration, now: environ.get("REMOTE_ADDR", "-"),
    "t": _time,
    "r": lambda response, request, environ, duration, now: (
        f"{environ['REQUEST_METHOD']} {environ['RAW_URI']} {environ['SERVER_PROTOCOL']}"
    ),
    "s": _status,
    "m": lambda response, request, environ, duration, now: environ.get("REQUEST_METHOD"),
    "U": lambda response, request, environ, duration, now: environ.get("PATH_INFO"),
    "q": lambda response, request, environ, duration, now: environ.get("QUERY_STRING"),
    "H": lambda response, request, environ, duration, now: environ.get("SERVER_PROTOCOL"),
    "b": _sent,
    "B": lambda response, request, environ, duration, now: getattr(response, "sent", None),
    "f": lambda response, request, environ, duration, now: environ.get("HTTP_REFERER", "-"),
    "a": lambda response, request, environ, duration, now: environ.get("HTTP_USER_AGENT", "-"),
    "T": lambda response, request, environ, duration, now: duration.seconds,
    "D": lambda response, request, environ, duration, now: duration.seconds * 1000000 + duration.microseconds,
    "M": lambda response, request, environ, duration, now: duration.seconds * 1000 + duration.microseconds // 1000,
    "L": lambda response, request, environ, duration, now: f"{duration.seconds}.{duration.microseconds:06d}",
    "p": lambda response, request, environ, duration, now: f"<{os.getpid()}>",
}


def _request_header(name: str) -> Atom:
    """The atom of a header of the request."""
    return lambda response, request, environ, duration, now: _last(getattr(request, "headers", request), name)


def _response_header(name: str) -> Atom:
    """The atom of a header of the response."""
    return lambda response, request, environ, duration, now: _last(response.headers, name)


def _variable(name: str) -> Atom:
    """The atom of a variable of the environ."""
    return lambda response, request, environ, duration, now: _last(environ, name)


_KINDS = {"i": _request_header, "o": _response_header, "e": _variable}


def _last(headers: Any, name: str) -> Any:
    """The last value under `name` (in lower case, as gunicorn compares it) in pairs or a mapping; a dash for none."""
    found: Any = "-"
    for key, value in getattr(headers, "items", lambda: headers)():
        if key.lower() == name:
            found = value
    return found
