"""The fields of an access line: from gunicorn's own atoms, and from the arguments of uvicorn's access line."""

from __future__ import annotations

import datetime
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from rollsafe._gunicorn.access_fields import FIELDS, AccessFields, fields_of

# gunicorn's logger, which makes the atoms, gives its loggers handlers.
pytestmark = pytest.mark.usefixtures("restored_logging")

NOTHING = dict.fromkeys(FIELDS)
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def atoms_of(
    environ: dict[str, Any],
    *,
    sent: int | None = 1234,
    microseconds: int = 12345,
    answered: tuple[tuple[str, str], ...] = (),
    status: Any = "200 OK",
) -> Any:
    """The argument of gunicorn's access record, made by gunicorn itself."""
    glogging = pytest.importorskip("gunicorn.glogging", reason="gunicorn is not installed: pip install gunicorn")
    config = pytest.importorskip("gunicorn.config").Config()
    headers = [(key.removeprefix("HTTP_").replace("_", "-"), value) for key, value in environ.items() if "HTTP_" in key]
    response = SimpleNamespace(status=status, sent=sent, headers=list(answered))
    request = SimpleNamespace(headers=headers)
    complete = {"REQUEST_METHOD": "GET", "RAW_URI": "/", "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "203.0.113.7"}
    logger = glogging.Logger(config)
    return glogging.SafeAtoms(
        logger.atoms(response, request, complete | environ, datetime.timedelta(microseconds=microseconds))
    )


def test_each_atom_of_a_request_of_gunicorn_is_a_field() -> None:
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/caf\xc3\xa9",
        "QUERY_STRING": 'a=1&b="x"',
        "HTTP_REFERER": "http://example.com/",
        "HTTP_USER_AGENT": 'Agent "7"',
        "HTTP_TRACEPARENT": f"00-{TRACE}-00f067aa0ba902b7-01",
        "rollsafe.request_id": "abc-1",
    }
    assert fields_of(atoms_of(environ)) == {
        "remote_addr": "203.0.113.7",
        "method": "POST",
        "path": "/caf\u00e9",
        "query": 'a=1&b="x"',
        "protocol": "HTTP/1.1",
        "status": 200,
        "bytes": 1234,
        "duration": 0.012345,
        "referer": "http://example.com/",
        "user_agent": 'Agent "7"',
        "request_id": "abc-1",
        "trace_id": TRACE,
    }


def test_what_a_request_does_not_have_is_none() -> None:
    found = fields_of(atoms_of({"HTTP_TRACEPARENT": "00-none-01"}, sent=None, status="none"))
    assert found == NOTHING | {
        "remote_addr": "203.0.113.7", "method": "GET", "protocol": "HTTP/1.1", "duration": 0.012345
    }  # fmt: skip


@pytest.mark.parametrize(
    ("environ", "answered", "number"),
    [
        ({}, (), None),
        ({"HTTP_X_REQUEST_ID": "sent"}, (), "sent"),
        ({"HTTP_X_REQUEST_ID": "sent"}, (("X-Request-ID", "answered"),), "answered"),
        ({"rollsafe.request_id": "known"}, (("X-Request-ID", "answered"),), "known"),
    ],
)
def test_the_id_is_that_of_the_application_else_the_one_of_a_header(
    environ: dict[str, Any], answered: tuple[tuple[str, str], ...], number: str | None
) -> None:
    assert fields_of(atoms_of(environ, answered=answered))["request_id"] == number


def test_the_arguments_of_uvicorn_are_fields() -> None:
    arguments = ("203.0.113.7:4711", "GET", "/orders?a=1&b=%20", "1.1", 200)
    assert fields_of(arguments) == {
        "remote_addr": "203.0.113.7",
        "method": "GET",
        "path": "/orders",
        "query": "a=1&b=%20",
        "protocol": "HTTP/1.1",
        "status": 200,
    }


def test_a_record_has_the_wanted_fields_and_keeps_what_it_has() -> None:
    record = logging.LogRecord("uvicorn.access", 20, "", 0, "%s", ("203.0.113.7:1", "GET", "/", "1.1", 200), None)
    record.method = "its own"
    assert AccessFields(["method", "status", "bytes", "unknown"]).filter(record) is True
    wanted = {name: record.__dict__.get(name, "absent") for name in ("method", "status", "bytes", "path", "unknown")}
    assert wanted == {"method": "its own", "status": 200, "bytes": None, "path": "absent", "unknown": "absent"}


def test_what_is_missing_may_be_a_dash() -> None:
    record = logging.makeLogRecord({"args": {"s": "200", "q": ""}})
    AccessFields(["status", "query", "bytes"], missing="-").filter(record)
    assert [vars(record)[name] for name in ("status", "query", "bytes")] == [200, "", "-"]


@pytest.mark.parametrize("arguments", [(), None, ("one",), {}, [1, 2], "five5"])
def test_any_other_record_has_none_of_them_and_is_kept(arguments: Any) -> None:
    record = logging.makeLogRecord({"msg": "text", "args": arguments})
    assert AccessFields().filter(record) is True
    assert {name: record.__dict__[name] for name in FIELDS} == NOTHING
    assert vars(record)["text"] == "text"
