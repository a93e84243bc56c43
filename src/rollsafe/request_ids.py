"""An id for each request, on each line that is logged while it is served, in any WSGI or ASGI application.

`WSGIMiddleware` and `ASGIMiddleware` need no framework and no server. They wrap the whole application, so lines that a
framework logs outside its own middlewares have the id, too: Django logs a response of 404 or 500 there.

For Flask alone, `rollsafe.flask.init_app` does the same.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from rollsafe._requests import HEADER, OUTSIDE, checked_header, fields_of, id_from, trace_of

__all__ = ["ASGIMiddleware", "RequestFields", "WSGIMiddleware", "request_id"]

_NO_REQUEST: Mapping[str, str] = dict.fromkeys(fields_of({}, HEADER), OUTSIDE)

# The fields of the request that this thread, greenlet or task serves. A thread or a task that it starts by
# `asyncio.to_thread`, `asyncio.create_task` or asgiref's `sync_to_async` has them too, as those copy the context.
_fields: ContextVar[Mapping[str, str]] = ContextVar("rollsafe_request", default=_NO_REQUEST)

# Starlette, django-stubs and asgiref each have another type for the scope, and none accepts that of the others.
_Scope = Any
_Receive = Callable[[], Awaitable[Any]]
_Send = Callable[[Any], Awaitable[None]]


def request_id() -> str:
    """The id of the request that is being served, to pass it to other services; "-" outside requests."""
    return _fields.get()["request_id"]


class RequestFields(logging.Filter):
    """A filter for handlers that gives each record the fields of the request in which it is logged.

    `request_id`; `trace_id` and `parent_id`, from the request's `traceparent` (https://www.w3.org/TR/trace-context/);
    `request_method`, `request_path`, `remote_addr`. Each is "-" outside requests, and where the request does not have
    it. A field that a record has already (through `extra`) stays. The filter rejects no record.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Complete `record`; always True."""
        present = record.__dict__
        for name, value in _fields.get().items():
            present.setdefault(name, value)
        return True


class WSGIMiddleware:
    """A WSGI application that gives each request of another one its fields, and tells the client the request's id.

    The lines of a response body that is made while it is sent have the fields as well.

    Args:
        application: The WSGI application.
        header: The header of the request's id, in the request and in the response. An id that the request brings is
            taken over if it has 1 to 128 letters, digits and `._~+/=:@-`; otherwise it is replaced by a new one.

    Raises:
        ConfigurationError: `header` is no name of a header (a `ValueError`).
    """

    def __init__(self, application: Callable[..., Iterable[bytes]], header: str = HEADER) -> None:
        self._application = application
        self._header = checked_header(header, "header")

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve one request."""
        header = self._header
        fields = fields_of(environ, header)

        def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            """Add the id to the headers, unless the application has done that itself."""
            if not any(name.lower() == header.lower() for name, _ in headers):
                headers = [*headers, (header, fields["request_id"])]
            return start_response(status, headers, *exc_info)

        body: Iterable[bytes] = _within(fields, self._application, environ, start)
        return body if _is_complete(body, environ.get("wsgi.file_wrapper")) else _Body(body, fields)


def _within(fields: Mapping[str, str], call: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function with these fields."""
    before = _fields.get()
    _fields.set(fields)
    try:
        return call(*arguments)
    finally:
        _fields.set(before)


def _is_complete(body: Iterable[bytes], file_wrapper: object) -> bool:
    """Whether no code of the application makes the body: a list, or a file, which the server sends by sendfile(2).

    gunicorn recognises the file by the class of its `wsgi.file_wrapper`. uWSGI's is a function, which returns the file.
    """
    is_wrapped = isinstance(file_wrapper, type) and isinstance(body, file_wrapper)
    return is_wrapped or isinstance(body, list | tuple) or hasattr(body, "read")


class _Body:
    """The body of a response that is made while it is sent.

    The fields are set for each part anew: a server may ask for the parts of several responses by turns in one thread,
    or for those of one in several threads, and may not call `close`.

    Args:
        body: The application's.
        fields: The fields of its request.
    """

    def __init__(self, body: Iterable[bytes], fields: Mapping[str, str]) -> None:
        self._body = body
        self._fields = fields
        self._parts: Iterator[bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        """The body itself."""
        return self

    def __next__(self) -> bytes:
        """The next part."""
        if self._parts is None:
            self._parts = _within(self._fields, iter, self._body)
        part: bytes = _within(self._fields, next, self._parts)
        return part

    def close(self) -> None:
        """Close the application's body; the server calls it in any case (PEP 3333)."""
        close = getattr(self._body, "close", None)
        if close is not None:
            _within(self._fields, close)


class ASGIMiddleware:
    """An ASGI application that gives each request of another one its fields, and tells the client the request's id.

    uvicorn logs its access line while the response is sent, so that line has the fields as well, and so has each
    message of a WebSocket.

    Args:
        app: The ASGI application; Starlette and FastAPI call the parameter by this name (`add_middleware`).
        header: As for `WSGIMiddleware`.

    Raises:
        ConfigurationError: `header` is no name of a header (a `ValueError`).
    """

    def __init__(self, app: Callable[..., Awaitable[None]], header: str = HEADER) -> None:
        self._app = app
        self._header = checked_header(header, "header")
        self._key = self._header.lower().encode()

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Serve one connection: a request, a WebSocket, or the lifespan of the server."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        fields = self._fields_of(scope)
        answer = (self._key, fields["request_id"].encode())

        async def send_with_id(message: Any) -> None:
            """Add the id to the headers, unless the application has done that itself."""
            if message["type"] in ("http.response.start", "websocket.accept"):
                headers = list(message.get("headers") or ())
                if not any(bytes(name).lower() == self._key for name, _ in headers):
                    message = {**message, "headers": [*headers, answer]}
            await send(message)

        before = _fields.get()
        _fields.set(fields)
        try:
            await self._app(scope, receive, send_with_id)
        finally:
            _fields.set(before)

    def _fields_of(self, scope: _Scope) -> dict[str, str]:
        """The fields of a connection. A header that came twice is joined, as by WSGI servers, and then not accepted."""
        given: dict[bytes, str] = {}
        for name, value in scope.get("headers") or ():
            if name in (self._key, b"traceparent"):
                text = bytes(value).decode("latin-1")
                given[bytes(name)] = f"{given[name]},{text}" if name in given else text
        trace, parent = trace_of(given.get(b"traceparent"))
        client = scope.get("client")
        return {
            "request_id": id_from(given.get(self._key)),
            "trace_id": trace,
            "parent_id": parent,
            "request_method": scope.get("method") or OUTSIDE,
            "request_path": scope.get("path") or OUTSIDE,
            "remote_addr": str(client[0]) if client else OUTSIDE,
        }
