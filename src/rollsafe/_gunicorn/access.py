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

Line = Callable[[Any, Any, Mapping[str, Any], timedelta, float], str]
"""(response, request, environ, duration, seconds since the epoch) -> the line, as gunicorn makes it; control characters
are not escaped."""

# "%%", or a conversion that names its atom (printf-style formatting with a mapping). gunicorn handles anything else.
_CONVERSION = re.compile(r"%(?:%|\((?P<atom>[^()]*)\)(?P<how>[#0\- +]*\d*(?:\.\d*)?[hlL]?[diouxXeEfFgGcrsa]))")
_HEADER = re.compile(r"\{(?P<name>.*)\}(?P<kind>[ioe])", re.DOTALL)
_UVICORN = "uvicorn.access"
_TIME_FORMAT = "[%d/%b/%Y:%H:%M:%S %z]"

_LINE = """
def line(response, request, environ, duration, now):
    get = environ.get
    text = f{plain!r}
    if text.count(QUOTE) == {quotes}:
        return text
    values = ({values})
    return by_place % tuple([value.replace(QUOTE, ESCAPED) if isinstance(value, str) else value for value in values])
"""
# The value of each atom, before quotes are escaped. An f-string of Python 3.11 can have no quotes in an expression, so
# each text in them has a name.
_ATOMS = {
    "h": "get(REMOTE_ADDR, DASH)",
    "t": "time_of(now)",
    "r": "REQUEST_LINE % (environ[REQUEST_METHOD], environ[RAW_URI], environ[SERVER_PROTOCOL])",
    "s": "(codes.get(response.status) or code_of(response.status))",
    "m": "get(REQUEST_METHOD)",
    "U": "get(PATH_INFO)",
    "q": "get(QUERY_STRING)",
    "H": "get(SERVER_PROTOCOL)",
    "b": "(DASH if getattr(response, SENT, None) is None else str(response.sent))",
    "B": "getattr(response, SENT, None)",
    "f": "get(HTTP_REFERER, DASH)",
    "a": "get(HTTP_USER_AGENT, DASH)",
    "T": "duration.seconds",
    "D": "(duration.seconds * 1000000 + duration.microseconds)",
    "M": "(duration.seconds * 1000 + duration.microseconds // 1000)",
    "L": "SECONDS % (duration.seconds, duration.microseconds)",
    "p": "PROCESS % getpid()",
    "u": "(user(environ) or DASH)",
}
_PLAIN_ATOMS = {"r": "{environ[REQUEST_METHOD]!s} {environ[RAW_URI]!s} {environ[SERVER_PROTOCOL]!s}"}
"""The parts of the f-string for atoms that are made of several values."""
_HEADERS = {
    "i": "last(getattr(request, HEADERS, request), {name})",
    "o": "last(response.headers, {name})",
    "e": "last(environ, {name})",
}
_KEYS = (
    "HTTP_AUTHORIZATION", "HTTP_REFERER", "HTTP_USER_AGENT", "PATH_INFO", "QUERY_STRING", "RAW_URI", "REMOTE_ADDR",
    "REQUEST_METHOD", "SERVER_PROTOCOL",
)  # fmt: skip
_NAMES = {
    **{key: key for key in _KEYS},
    "DASH": "-",
    "ESCAPED": '\\"',
    "HEADERS": "headers",
    "PROCESS": "<%s>",
    "QUOTE": '"',
    "REQUEST_LINE": "%s %s %s",
    "SECONDS": "%d.%06d",
    "SENT": "sent",
}
# How many texts of statuses are kept. An application may make up texts.
_KNOWN_STATUSES = 200


def compile_format(
    access_log_format: str, user: Callable[[Mapping[str, Any]], str | None], *, by_header: bool = False
) -> Line | None:
    """The function that makes the lines of a format; None if the format has a conversion that names no atom.

    A line that it cannot make is an exception.

    Args:
        access_log_format: As gunicorn's setting.
        user: Gives the user name of an environ, or None.
        by_header: Whether `user` gives None without the header Authorization.
    """
    if "%" in _CONVERSION.sub("", access_log_format):
        return None
    names: dict[str, Any] = {"__builtins__": {}, **_NAMES, "codes": _codes, "code_of": _code_of, "time_of": _time_of}
    names |= {"user": user, "last": _last, "getpid": os.getpid}
    names |= {each.__name__: each for each in (getattr, isinstance, str, tuple)}
    plain, values, end, quotes = "", "", 0, 0
    for match in _CONVERSION.finditer(access_log_format):
        literal = access_log_format[end : match.start()] + ("%" if match["how"] is None else "")
        end, quotes = match.end(), quotes + literal.count('"')
        plain += _braces_doubled(literal)
        if match["how"] is not None:
            value = _value_of(match["atom"], names)
            if match["atom"] == "u" and by_header:
                value = f"({value} if HTTP_AUTHORIZATION in environ else DASH)"
            values += f"{value}, "
            if match["how"] != "s":
                names[how := f"how{len(names)}"] = f"%{match['how']}"
                plain += f"{{{how} % ({value},)}}"
            else:
                plain += _PLAIN_ATOMS.get(match["atom"], f"{{{value}!s}}")
    rest = access_log_format[end:]
    names["by_place"] = _CONVERSION.sub(lambda match: f"%{match['how'] or '%'}", access_log_format)
    plain, quotes = plain + _braces_doubled(rest), quotes + rest.count('"')
    try:
        exec(_LINE.format(plain=plain, quotes=quotes, values=values), names)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        # Too many atoms to compile.
        return None
    line: Line = names["line"]
    return line


def _value_of(atom: str, names: dict[str, Any]) -> str:
    """The expression for the value of an atom; a name in it is added to `names`. An unknown atom is a dash."""
    header = _HEADER.fullmatch(atom.lower())
    if atom == "u" or header is None:
        return _ATOMS.get(atom, "DASH")
    names[name := f"header{len(names)}"] = header["name"]
    return _HEADERS[header["kind"]].format(name=name)


def _braces_doubled(literal: str) -> str:
    """A text as a part of an f-string."""
    return literal.replace("{", "{{").replace("}", "}}")


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


# The status codes of texts such as "200 OK".
_codes: dict[object, str] = {}


def _code_of(status: object) -> object:
    """The status code of a status line, or the server's own object for a status."""
    if not isinstance(status, str):
        return status
    code = status.split(None, 1)[0]
    if type(status) is str and len(_codes) < _KNOWN_STATUSES:
        _codes[status] = code
    return code


# The text of one second. Key and text are one tuple, which is read and replaced as a whole, so threads mix no two.
_second: tuple[int, str] = (-1, "")


def _time_of(now: float) -> str:
    """The moment of the line, in local time."""
    global _second
    second = int(now)
    known, text = _second
    if known != second:
        text = time.strftime(_TIME_FORMAT, time.localtime(second))
        _second = (second, text)
    return text


def _last(headers: Any, name: str) -> Any:
    """The last value under `name` (in lower case, as gunicorn compares it) in pairs or a mapping; a dash for none."""
    found: Any = "-"
    for key, value in getattr(headers, "items", lambda: headers)():
        if key.lower() == name:
            found = value
    return found
