"""The fields of the current request on each line, and the id that the client gets."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Callable, Mapping

from flask import Request, Response, has_request_context, request

HEADER = "X-Request-ID"
OUTSIDE = "-"

_ENVIRON_KEY = "rollsafe.request_id"
# What identifiers, UUIDs, base64 and trace ids are made of; no quotes, brackets, spaces or commas.
_ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9._~+/=:@-]{1,128}")
_STYLE = re.compile(r"\x1b\[[0-9;]*m")


def request_id() -> str:
    """The id of the current request; "-" outside requests."""
    return _id_of(request) if has_request_context() else OUTSIDE


class RequestFields(logging.Filter):
    """A filter for handlers that gives each record the fields of the request in which it is logged.

    `request_id`, `request_method`, `request_path`, `request_endpoint` and `remote_addr`; each is "-" outside requests.
    A field that a record has already (through `extra`) stays. No record is rejected.
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
    known = this.environ.get(_ENVIRON_KEY)
    if known is None:
        given = this.environ.get("HTTP_X_REQUEST_ID", "")
        known = this.environ[_ENVIRON_KEY] = given if _ACCEPTABLE_ID.fullmatch(given) else uuid.uuid4().hex
    return str(known)


FIELDS: Mapping[str, Callable[[Request], str | None]] = {
    "request_id": _id_of,
    "request_method": lambda this: this.method,
    "request_path": lambda this: this.path,
    "request_endpoint": lambda this: this.endpoint,
    "remote_addr": lambda this: this.remote_addr,
}


def answer_id(response: Response) -> Response:
    """Tell the client the id of its request."""
    response.headers[HEADER] = request_id()
    return response
