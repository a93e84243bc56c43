"""The ids of requests in WSGI and ASGI applications: which are taken over, which lines have them, and until when."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.util import FileWrapper, setup_testing_defaults

import pytest

from rollsafe import ConfigurationError, LineFormatter
from rollsafe.request_ids import ASGIMiddleware, RequestFields, WSGIMiddleware, request_id

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
FORMAT = "%(request_id)s %(trace_id)s %(parent_id)s %(request_method)s %(request_path)s %(remote_addr)s %(message)s"


class Lines(logging.Handler):
    """A handler with the filter, which keeps its lines."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.addFilter(RequestFields())
        self.setFormatter(LineFormatter(FORMAT))

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What the logger "shop" has written."""
    logger, handler = logging.getLogger("shop"), Lines()
    logger.addHandler(handler)
    logger.setLevel("INFO")
    yield handler.lines
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def log(message: str) -> None:
    """A line of the application."""
    logging.getLogger("shop").info(message)


def call(
    application: Callable[..., Iterable[bytes]], path: str = "/orders", **environ: Any
) -> tuple[dict[str, list[str]], list[bytes]]:
    """Ask a WSGI application as a server does; the headers and the parts of its answer."""
    headers: dict[str, list[str]] = {}

    def start_response(status: str, given: list[tuple[str, str]], exc_info: Any = None) -> Any:
        for name, value in given:
            headers.setdefault(name, []).append(value)

    complete: dict[str, Any] = {"REMOTE_ADDR": "203.0.113.7", "PATH_INFO": path}
    setup_testing_defaults(complete)
    body = application(complete | environ, start_response)
    try:
        return headers, list(body)
    finally:
        getattr(body, "close", lambda: None)()


def shop(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """An application that logs one line and answers with the id."""
    log("looked up")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [request_id().encode()]


def test_a_line_has_the_fields_of_its_request_and_the_client_gets_the_id(lines: list[str]) -> None:
    log("before")
    headers, body = call(WSGIMiddleware(shop), HTTP_X_REQUEST_ID="abc-1", HTTP_TRACEPARENT=f"00-{TRACE}-{PARENT}-01")
    log("after")
    assert headers["X-Request-ID"] == ["abc-1"]
    assert body == [b"abc-1"]
    assert lines == [
        "- - - - - - before",
        f"abc-1 {TRACE} {PARENT} GET /orders 203.0.113.7 looked up",
        "- - - - - - after",
    ]


@pytest.mark.parametrize("given", ["", "x" * 129, "x" * 10_240, "two words", 'quo"te', "a,b", "na\u00efve", "a\tb"])
def test_an_unacceptable_id_is_replaced(given: str) -> None:
    headers, body = call(WSGIMiddleware(shop), HTTP_X_REQUEST_ID=given)
    assert re.fullmatch("[0-9a-f]{32}", headers["X-Request-ID"][0])
    assert body == [headers["X-Request-ID"][0].encode()]


@pytest.mark.parametrize(
    "given",
    [
        pytest.param("", id="empty"),
        pytest.param(f"00-{TRACE.upper()}-{PARENT}-01", id="upper case"),
        pytest.param(f"00-{'0' * 32}-{PARENT}-01", id="no trace"),
        pytest.param(f"00-{TRACE}-{'0' * 16}-01", id="no parent"),
        pytest.param(f"ff-{TRACE}-{PARENT}-01", id="the version that is none"),
        pytest.param(f"00-{TRACE}-{PARENT}-01-more", id="more than version 00 has"),
        pytest.param(f"01-{TRACE}-{PARENT}-01.more", id="more, and no dash before it"),
        pytest.param(f"00-{TRACE}-{PARENT}", id="no flags"),
        pytest.param(f" 00-{TRACE}-{PARENT}-01", id="a space before it"),
        pytest.param(f"00-{TRACE}-{PARENT}-01\n", id="a newline behind it"),
        pytest.param(f"00-{TRACE}-{PARENT}-01,00-{TRACE}-{PARENT}-01", id="two headers"),
        pytest.param("00-" + "a" * 10_240, id="10 KB"),
    ],
)
def test_a_traceparent_that_is_none_gives_a_dash(lines: list[str], given: str) -> None:
    call(WSGIMiddleware(shop), HTTP_X_REQUEST_ID="abc-1", HTTP_TRACEPARENT=given)
    assert lines == ["abc-1 - - GET /orders 203.0.113.7 looked up"]


@pytest.mark.parametrize(
    "given", [f"00-{TRACE}-{PARENT}-00", f"cc-{TRACE}-{PARENT}-09", f"cc-{TRACE}-{PARENT}-01-what"]
)
def test_a_traceparent_of_any_version_is_read(lines: list[str], given: str) -> None:
    call(WSGIMiddleware(shop), HTTP_X_REQUEST_ID="abc-1", HTTP_TRACEPARENT=given)
    assert lines == [f"abc-1 {TRACE} {PARENT} GET /orders 203.0.113.7 looked up"]


def test_the_header_may_be_another_one(lines: list[str]) -> None:
    application = WSGIMiddleware(shop, header="X-Amzn-Trace-Id")
    headers, _ = call(application, HTTP_X_AMZN_TRACE_ID="Root=1-67891233", HTTP_X_REQUEST_ID="abc-1")
    assert (headers.get("X-Amzn-Trace-Id"), headers.get("X-Request-ID")) == (["Root=1-67891233"], None)
    assert lines[0].startswith("Root=1-67891233 ")


@pytest.mark.parametrize("header", ["", "X Request", "X-Request-ID:", "X\r\nForged", b"X-Request-ID", None])
def test_a_header_that_has_no_name_is_refused_at_once(header: Any) -> None:
    for middleware in (WSGIMiddleware, ASGIMiddleware):
        with pytest.raises(ConfigurationError, match="is no name of a header; give one such as"):
            middleware(shop, header=header)  # type: ignore[arg-type]


def test_a_header_that_the_application_sets_itself_stays(lines: list[str]) -> None:
    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [("x-request-id", "its own")])
        return []

    headers, _ = call(WSGIMiddleware(application))
    assert headers == {"x-request-id": ["its own"]}


def test_a_body_that_is_made_while_it_is_sent_belongs_to_the_request(lines: list[str]) -> None:
    closed = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            log("first part")
            yield b"1"
            log("second part")
            yield b"2"

        def close(self) -> None:
            log("closed")
            closed.append(True)

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Body:
        start_response("200 OK", [])
        return Body()

    _, parts = call(WSGIMiddleware(application), HTTP_X_REQUEST_ID="abc-1")
    log("after")
    assert (parts, closed) == ([b"1", b"2"], [True])
    assert [line.split()[0] for line in lines] == ["abc-1", "abc-1", "abc-1", "-"]


def test_responses_that_are_sent_by_turns_in_one_thread_keep_their_ids(lines: list[str]) -> None:
    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response("200 OK", [])
        for part in b"1", b"2":
            log("a part")
            yield part

    bodies = []
    for number in "first", "second":
        environ: dict[str, Any] = {"HTTP_X_REQUEST_ID": number}
        setup_testing_defaults(environ)
        bodies.append(iter(WSGIMiddleware(application)(environ, lambda *_: None)))
    for _ in range(2):
        for body in bodies:
            next(body)
    assert [line.split()[0] for line in lines] == ["first", "second", "first", "second"]
    # No one has closed them.
    assert request_id() == "-"


def test_an_application_that_raises_ends_its_request(lines: list[str]) -> None:
    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        call(WSGIMiddleware(application), HTTP_X_REQUEST_ID="abc-1")
    assert request_id() == "-"


def test_a_file_that_the_server_sends_by_itself_is_handed_on_as_it_is(tmp_path: Any) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    with path.open("rb") as file:
        for wrapper in (FileWrapper, lambda file, size=0: file):
            made = wrapper(file)

            def application(environ: dict[str, Any], start_response: Callable[..., Any], made: Any = made) -> Any:
                start_response("200 OK", [])
                return made

            environ: dict[str, Any] = {"wsgi.file_wrapper": wrapper}
            setup_testing_defaults(environ)
            assert WSGIMiddleware(application)(environ, lambda *_: None) is made


def test_a_path_has_that_of_its_application_and_is_text(lines: list[str]) -> None:
    call(WSGIMiddleware(shop), path="/caf\xc3\xa9\n\xff", SCRIPT_NAME="/shop", HTTP_X_REQUEST_ID="abc-1")
    assert lines == ["abc-1 - - GET /shop/caf\u00e9\\n\ufffd 203.0.113.7 looked up"]


def test_a_field_that_a_record_has_already_stays(lines: list[str]) -> None:
    logging.getLogger("shop").info("from a job", extra={"request_id": "job-9"})
    assert lines == ["job-9 - - - - - from a job"]


def test_a_request_inside_another_one_has_the_same_id(lines: list[str]) -> None:
    def outer(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        inside = [*WSGIMiddleware(shop)(environ, start_response)]
        log("back")
        return inside

    headers, _ = call(WSGIMiddleware(outer))
    assert len(headers["X-Request-ID"]) == 1
    assert {line.split()[0] for line in lines} == set(headers["X-Request-ID"])


# ASGI.


def ask(application: Callable[..., Any], scope: dict[str, Any], message: dict[str, Any]) -> list[dict[str, Any]]:
    """Have an ASGI application serve one connection, whose answer is one message; what it has sent."""
    sent: list[dict[str, Any]] = []

    async def send(given: dict[str, Any]) -> None:
        sent.append(given)
        log("sent")

    async def receive() -> dict[str, Any]:
        return {}

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        log("looked up")
        await asyncio.gather(asyncio.to_thread(log, "in a thread"), asyncio.create_task(_log_later()))
        await send(message)

    contextvars.copy_context().run(asyncio.run, application(app)(scope, receive, send))
    log("after")
    return sent


async def _log_later() -> None:
    """A line of a task of its own."""
    await asyncio.sleep(0)
    log("in a task")


def http_scope(*headers: tuple[bytes, bytes], kind: str = "http") -> dict[str, Any]:
    """The scope of a request."""
    scope = {"type": kind, "path": "/orders", "client": ("203.0.113.7", 4711), "headers": headers}
    return scope | ({"method": "GET"} if kind == "http" else {})


@pytest.mark.parametrize(("kind", "method"), [("http", "GET"), ("websocket", "-")])
def test_each_line_of_an_asgi_request_has_its_fields(lines: list[str], kind: str, method: str) -> None:
    trace = (b"traceparent", f"00-{TRACE}-{PARENT}-01".encode())
    start = "http.response.start" if kind == "http" else "websocket.accept"
    (sent,) = ask(ASGIMiddleware, http_scope((b"x-request-id", b"abc-1"), trace, kind=kind), {"type": start})
    assert sent == {"type": start, "headers": [(b"x-request-id", b"abc-1")]}
    prefix = f"abc-1 {TRACE} {PARENT} {method} /orders 203.0.113.7"
    assert sorted(lines) == sorted(
        [*(f"{prefix} {text}" for text in ("looked up", "in a thread", "in a task", "sent")), "- - - - - - after"]
    )


@pytest.mark.parametrize(
    "headers",
    [[], [(b"x-request-id", b"two words")], [(b"x-request-id", b"a"), (b"x-request-id", b"b")]],
    ids=["none", "unacceptable", "two"],
)
def test_an_asgi_request_without_an_acceptable_id_is_given_one(headers: list[tuple[bytes, bytes]]) -> None:
    (sent,) = ask(ASGIMiddleware, http_scope(*headers), {"type": "http.response.start", "headers": []})
    ((name, value),) = sent["headers"]
    assert name == b"x-request-id"
    assert re.fullmatch(b"[0-9a-f]{32}", value)


def test_the_other_messages_and_the_lifespan_pass_unchanged(lines: list[str]) -> None:
    body = {"type": "http.response.body", "body": b""}
    assert ask(ASGIMiddleware, http_scope(), body) == [body]
    lines.clear()
    startup = {"type": "lifespan.startup.complete"}
    assert ask(ASGIMiddleware, {"type": "lifespan"}, startup) == [startup]
    assert {line.split()[0] for line in lines} == {"-"}
