"""The fields of the current request on each line, and the id that the client gets."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping

from flask import Request, Response, current_app, has_request_context, request

from rollsafe._options import variable_of
from rollsafe._requests import HEADER, OUTSIDE, TRACE_VARIABLE, id_in_environ, trace_of

HEADER_KEY = variable_of("request_id_header")

_STYLE = re.compile(r"\x1b\[[0-9;]*m")


def request_id() -> str:
    """The id of the current request; "-" outside requests."""
    return _id_of(request) if has_request_context() else OUTSIDE


class RequestFields(logging.Filter):
    """A filter for handlers that gives each record the fields of the request in which it is logged.

    `request_id`; `trace_id` and `parent_id`, from the request's `traceparent` (https://www.w3.org/TR/trace-context/);
    `request_method`, `request_path`, `request_endpoint` and `remote_addr`. Each is "-" outside requests, and where the
    request does not have it. A field that a record has already (through `extra`) stays. No record is rejected.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Complete `record`; always True."""
        here = request if has_request_context() else None
        for name, value_of in FIELDS.items():
            if not hasattr(record, name):
                setattr(record, name, OUTSIDE if here is None else value_of(here) or OUTSIDE)
        if record.name == "werkzeug":
            # The development server colours its lines even if they go to a file.
            record.msg, record.args = _STYLE.sub("", record.getMessage()), ()
        return True


def _id_of(this: Request) -> str:
    """The id of a request, which the first call makes and keeps in the environment of the request."""
    return id_in_environ(this.environ, _header())


def _header() -> str:
    """The header of the id, by the configuration of the application that serves the request."""
    return str(current_app.config.get(HEADER_KEY, HEADER))


FIELDS: Mapping[str, Callable[[Request], str | None]] = {
    "request_id": _id_of,
    "trace_id": lambda this: trace_of(this.environ.get(TRACE_VARIABLE))[0],
    "parent_id": lambda this: trace_of(this.environ.get(TRACE_VARIABLE))[1],
    "request_method": lambda this: this.method,
    "request_path": lambda this: this.path,
    "request_endpoint": lambda this: this.endpoint,
    "remote_addr": lambda this: this.remote_addr,
}


def answer_id(response: Response) -> Response:
    """Tell the client the id of its request."""
    response.headers[_header()] = request_id()
    return response
