"""JSON access lines without a record: the fields of a request, made of the request itself.

They are those that `AccessFields` gives the record of such a line, and `JSONFormatter` makes the same object of them.
This module imports nothing of gunicorn, and needs no python-json-logger.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from rollsafe._gunicorn.access import Line
from rollsafe._gunicorn.access_fields import AccessFields, number_of
from rollsafe._overrides import original
from rollsafe._requests import ENVIRON_KEY, OUTSIDE, decoded_path, trace_of

Fields = Callable[[Any, Any, Mapping[str, Any], timedelta], dict[str, Any]]
"""(response, request, environ, duration) -> the fields by their names."""

_FILTER = original(AccessFields, "filter")
# The attributes of each record of `gunicorn.access` that a format may show besides.
_RECORD = {"name": "gunicorn.access", "levelname": "INFO", "levelno": logging.INFO}

_SOURCE = """
def fields(response, request, environ, duration):
    get = environ.get
    method = get(REQUEST_METHOD)
    if type(method) is not str or method == OUTSIDE:
        raise LookupError(method)
    request_id, trace_id = {ids}
    return {{{pairs}}}
"""
_TEXT = "(value if type(value := get({variable})) is str and value != OUTSIDE else text_of(value))"
_VARIABLES = {
    "remote_addr": "REMOTE_ADDR",
    "query": "QUERY_STRING",
    "protocol": "SERVER_PROTOCOL",
    "referer": "HTTP_REFERER",
    "user_agent": "HTTP_USER_AGENT",
}
_VALUES = {
    **{name: _TEXT.format(variable=variable) for name, variable in _VARIABLES.items()},
    "method": "method",
    "path": (
        "(value if type(value := get(PATH_INFO)) is str and value.isascii() and value != OUTSIDE else path_of(value))"
    ),
    "status": "(codes.get(response.status) or code_of(response.status))",
    "bytes": "(value if type(value := getattr(response, SENT, None)) is int else number_of(int, value))",
    "duration": "(duration.seconds * 1000000 + duration.microseconds) / 1000000",
    "request_id": "request_id",
    "trace_id": "trace_id",
}
_KNOWN = 200
"""How many texts of statuses, and names of headers, are kept. A client may make up names."""


def object_maker(handler: logging.Handler) -> Line | None:
    """The function that makes the JSON access lines of a handler as its filter and its formatter do, or None.

    A line that it cannot make is an exception.
    """
    formatter, filters = handler.formatter, handler.filters
    if len(filters) != 1 or type(filters[0]) is not AccessFields or filters[0].missing is not None:
        return None
    access_fields = filters[0]
    # A subclass has its own way to make an object.
    if "_object_of" not in vars(type(formatter)):
        return None
    object_of: Callable[[dict[str, Any], float], str] = formatter._object_of  # type: ignore[union-attr]
    for more in ({}, _RECORD):
        line = _line_of(access_fields, object_of, compile_fields(access_fields.names, more))
        with suppress(Exception):
            line(SimpleNamespace(status="200 OK", headers=()), (), {"REQUEST_METHOD": "GET"}, timedelta(), 0.0)
            return line
    # The format shows what only a record has.
    return None


def _line_of(access_fields: AccessFields, object_of: Callable[[dict[str, Any], float], str], fields: Fields) -> Line:
    """The function that makes the lines."""

    def line(response: Any, request: Any, environ: Mapping[str, Any], duration: timedelta, now: float) -> str:
        """The line of one request."""
        if access_fields.filter.__func__ is not _FILTER:  # type: ignore[attr-defined]  # of a bound method
            raise NotImplementedError
        return object_of(fields(response, request, environ, duration), now)

    return line


def compile_fields(names: Iterable[str], more: Mapping[str, Any]) -> Fields:
    """The function that makes the fields with these names, and `more` fields that are always the same.

    It raises an exception for what is no request.
    """
    wanted = tuple(names)
    globals_ = {variable: variable for variable in (*_VARIABLES.values(), "REQUEST_METHOD", "PATH_INFO")}
    functions = (LookupError, getattr, int, str, type, text_of, path_of, code_of, number_of, ids_of)
    space: dict[str, Any] = {"__builtins__": {}, **globals_, **{each.__name__: each for each in functions}}
    space |= {"OUTSIDE": OUTSIDE, "SENT": "sent", "codes": _codes}
    pairs = [f"{name!r}: {value!r}" for name, value in more.items()]
    pairs += [f"{name!r}: {_VALUES[name]}" for name in wanted]
    ids = "ids_of(response, request, environ)" if {"request_id", "trace_id"}.intersection(wanted) else "None, None"
    exec(_SOURCE.format(ids=ids, pairs=", ".join(pairs)), space)
    fields: Fields = space["fields"]
    return fields


def text_of(value: object) -> str | None:
    """A value that is a text, or None for any other one and for a dash."""
    return value if isinstance(value, str) and value != OUTSIDE else None


def path_of(value: object) -> str | None:
    """The text of a path in a WSGI environ."""
    path = text_of(value)
    return path and decoded_path(path)


# The status codes of texts such as "200 OK".
_codes: dict[object, int] = {}


def code_of(status: object) -> int | float | None:
    """The status code of a status line."""
    code = number_of(int, status.split(None, 1)[0] if isinstance(status, str) else status)
    if type(status) is str and type(code) is int and len(_codes) < _KNOWN:
        _codes[status] = code
    return code


# Names of headers, as they were sent, that are not wanted.
_others: set[str] = set()


def ids_of(response: Any, request: Any, environ: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The ids of a request and of its trace.

    The id of the request is the one that the application has accepted or made, else the one that it has answered or was
    sent.
    """
    sent = _wanted(getattr(request, "headers", request))
    request_id = text_of(environ.get(ENVIRON_KEY)) or text_of(_wanted(response.headers).get("x-request-id"))
    if not sent:
        return request_id or None, None
    trace, _ = trace_of(text_of(sent.get("traceparent")))
    return request_id or text_of(sent.get("x-request-id")), text_of(trace)


def _wanted(headers: Any) -> dict[str, Any]:
    """The last value of each header that is wanted, by its name in lower case, in pairs or a mapping."""
    pairs = headers if type(headers) is list else getattr(headers, "items", lambda: headers)()
    # Most requests have none of them.
    found = [pair for pair in pairs if pair[0] not in _others]
    return _found(found) if found else {}


def _found(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """The same for pairs whose names may be wanted."""
    found = {}
    for key, value in pairs:
        name = key.lower()
        if name in ("traceparent", "x-request-id"):
            found[name] = value
        elif len(_others) < _KNOWN:
            _others.add(key)
    return found
