"""ASGI applications: Starlette's, Django's, one with the types of asgiref, and one made by hand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from asgiref.typing import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, Scope
from django.core.asgi import get_asgi_application
from starlette.applications import Starlette
from starlette.middleware import Middleware

from rollsafe.request_ids import ASGIMiddleware

app = Starlette(middleware=[Middleware(ASGIMiddleware, header="X-Request-ID")])
app.add_middleware(ASGIMiddleware)
wrapped = ASGIMiddleware(app)
django = ASGIMiddleware(get_asgi_application())


async def shop(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None:
    await wrapped(scope, receive, send)


async def books(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    await django(scope, receive, send)


application = ASGIMiddleware(shop)
strict: ASGI3Application = ASGIMiddleware(books)
