"""The ids of a request: its own, and that of its trace by the W3C standard. It knows no framework and no server.

The rules of `traceparent` are those of https://www.w3.org/TR/trace-context/#traceparent-header: lower-case hexadecimal
digits; no version ff; no trace id and no parent id of zeros only; a later version than 00 may have more behind a dash.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from typing import Any

from rollsafe.errors import ConfigurationError

HEADER = "X-Request-ID"
OUTSIDE = "-"
"""The value of each field outside requests, and of one that the request does not have."""
ENVIRON_KEY = "rollsafe.request_id"
"""The key of the WSGI environ under which the id of the request is kept."""
TRACE_VARIABLE = "HTTP_TRACEPARENT"

# What identifiers, UUIDs, base64 and trace ids are made of; no quotes, brackets, spaces or commas.
_ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9._~+/=:@-]{1,128}")
# A token of RFC 9110, section 5.6.2.
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_TRACE = re.compile(
    r"(?P<version>(?!ff)[0-9a-f]{2})-(?P<trace>(?!0{32})[0-9a-f]{32})-(?P<parent>(?!0{16})[0-9a-f]{16})-[0-9a-f]{2}"
    r"(?P<more>-.*)?"
)


def checked_header(name: object, argument: str) -> str:
    """The name of a header.

    Raises:
        ConfigurationError: `name` is none. The sentence begins with `argument`.
    """
    if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
        raise ConfigurationError(f"{argument}={name!r} is no name of a header; give one such as {HEADER!r}")
    return name


def variable_of_header(name: str) -> str:
    """The key of a request header in the WSGI environ (PEP 3333)."""
    return "HTTP_" + name.upper().replace("-", "_")


def id_from(given: object) -> str:
    """The id of a request that came with `given` in its header: the same if it is acceptable, else a new one."""
    if isinstance(given, str) and _ACCEPTABLE_ID.fullmatch(given):
        return given
    return uuid.uuid4().hex


def id_in_environ(environ: Any, header: str) -> str:
    """The id of the request of a WSGI environ; the first call makes it and keeps it there."""
    known = environ.get(ENVIRON_KEY)
    if not isinstance(known, str):
        known = environ[ENVIRON_KEY] = id_from(environ.get(variable_of_header(header)))
    return known


def trace_of(given: object) -> tuple[str, str]:
    """The trace id and the parent id of a `traceparent`; `OUTSIDE` twice if it is missing or breaks the rules."""
    found = _TRACE.fullmatch(given) if isinstance(given, str) else None
    if found is None or (found["version"] == "00" and found["more"]):
        return OUTSIDE, OUTSIDE
    return found["trace"], found["parent"]


def fields_of(environ: Mapping[str, Any], header: str) -> dict[str, str]:
    """The fields of the request of a WSGI environ."""
    trace, parent = trace_of(environ.get(TRACE_VARIABLE))
    return {
        "request_id": id_in_environ(environ, header),
        "trace_id": trace,
        "parent_id": parent,
        "request_method": environ.get("REQUEST_METHOD") or OUTSIDE,
        "request_path": path_of(environ),
        "remote_addr": environ.get("REMOTE_ADDR") or OUTSIDE,
    }


def path_of(environ: Mapping[str, Any]) -> str:
    """The path of a WSGI request, with that of its application."""
    return decoded_path(f"{environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}") or "/"


def decoded_path(path: str) -> str:
    """The text of a path in a WSGI environ, which has each byte as one character (PEP 3333)."""
    return path.encode("latin-1", "replace").decode("utf-8", "replace")
