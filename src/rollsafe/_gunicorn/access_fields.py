"""The fields of an access line, each with a value of its own, for lines that programs query."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rollsafe._requests import ENVIRON_KEY, OUTSIDE, decoded_path, trace_of

FIELDS = (
    "remote_addr", "method", "path", "query", "protocol", "status", "bytes", "duration", "referer", "user_agent",
    "request_id", "trace_id",
)  # fmt: skip


class AccessFields(logging.Filter):
    """A filter for the handler of access lines that gives each record the fields of its request.

    They come from the arguments of the record: gunicorn's atoms, or those of uvicorn's access line, which has no
    `bytes`, `duration` and headers. A record that is not about a request gets its message as the field `text`, which
    JSON lines then have as well. The filter rejects no record.

    Args:
        names: The fields that are wanted, of `FIELDS`; JSON lines show every field that a record has.
        missing: The value of a field that the record does not tell.
    """

    def __init__(self, names: Iterable[str] = FIELDS, missing: str | None = None) -> None:
        super().__init__()
        self.names = tuple(name for name in names if name in FIELDS)
        self.missing = missing

    def filter(self, record: logging.LogRecord) -> bool:
        """Complete `record`; always True."""
        fields = fields_of(record.args)
        for name in self.names:
            value = fields.get(name)
            record.__dict__.setdefault(name, self.missing if value is None else value)
        if all(value is None for value in fields.values()):
            record.__dict__.setdefault("text", _message_of(record))
        return True


def _message_of(record: logging.LogRecord) -> str:
    """The message; without the arguments if they do not fit, because a filter must not raise."""
    try:
        return record.getMessage()
    except Exception:
        return str(record.msg)


def fields_of(arguments: object) -> dict[str, Any]:
    """The fields that the arguments of an access record tell."""
    if isinstance(arguments, Mapping):
        return _of_atoms(arguments)
    if isinstance(arguments, tuple) and len(arguments) == _UVICORN_ARGUMENTS:
        return _of_uvicorn(*arguments)
    return {}


def _of_atoms(atoms: Mapping[str, Any]) -> dict[str, Any]:
    """The fields in gunicorn's atoms, which have a dash for a value that is missing."""

    def text(atom: str) -> str | None:
        """The value of an atom as it was before gunicorn put a backslash before each quote."""
        value = atoms.get(atom)
        return value.replace('\\"', '"') if isinstance(value, str) and value != OUTSIDE else None

    path = text("U")
    trace, _ = trace_of(text("{traceparent}i"))
    return {
        "remote_addr": text("h"),
        "method": text("m"),
        "path": path and decoded_path(path),
        "query": text("q"),
        "protocol": text("H"),
        "status": number_of(int, atoms.get("s")),
        "bytes": number_of(int, atoms.get("B")),
        "duration": number_of(float, atoms.get("L")),
        "referer": text("f"),
        "user_agent": text("a"),
        # The id that the application has accepted or made, else the one that it has answered or was sent.
        "request_id": text(f"{{{ENVIRON_KEY}}}e") or text("{x-request-id}o") or text("{x-request-id}i"),
        "trace_id": trace if trace != OUTSIDE else None,
    }


# Of the access line of uvicorn: client, method, path with query, version of HTTP, status.
_UVICORN_ARGUMENTS = 5


def _of_uvicorn(client: object, method: object, target: object, version: object, status: object) -> dict[str, Any]:
    """The fields in the arguments of uvicorn's access line; the client is a host with its port, or empty."""
    path, _, query = str(target).partition("?")
    return {
        "remote_addr": str(client).rpartition(":")[0] or None,
        "method": method,
        "path": path,
        "query": query,
        "protocol": f"HTTP/{version}",
        "status": number_of(int, status),
    }


def number_of(kind: Callable[[Any], int | float], value: object) -> int | float | None:
    """The value as a number, None if it is none."""
    try:
        return kind(value)
    except (TypeError, ValueError):
        return None
