"""An ASGI application: Starlette's, and one made by hand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware

from rollsafe.request_ids import ASGIMiddleware

app = Starlette(middleware=[Middleware(ASGIMiddleware, header="X-Request-ID")])
app.add_middleware(ASGIMiddleware)
wrapped = ASGIMiddleware(app)


async def shop(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None:
    await wrapped(scope, receive, send)


application = ASGIMiddleware(shop)
