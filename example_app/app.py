"""A small shop that logs as any Flask application does; two lines prepare it for every server."""

from __future__ import annotations

import logging

from flask import Flask

import rollsafe.uwsgi
from rollsafe.flask import init_app

logger = logging.getLogger(__name__)

STOCK = 1_000_000


def create_app() -> Flask:
    """The application, with its routes."""
    app = Flask("shop")
    # SHOP_ROLLSAFE_FILENAME and so on (see uwsgi.ini). Under gunicorn, the preset decides where the lines go.
    app.config.from_prefixed_env("SHOP")
    init_app(app)

    @app.get("/")
    def index() -> dict[str, str]:
        return {"service": "shop", "order": "/orders/<client>/<number>"}

    @app.get("/orders/<client>/<int:number>")
    def order(client: str, number: int) -> dict[str, object]:
        app.logger.info("order %d of %s looked up", number, client)
        return {"client": client, "number": number, "state": "sent"}

    @app.get("/stock")
    def stock() -> dict[str, int]:
        return {"stock": count_stock()}

    @app.get("/boom")
    def boom() -> dict[str, float]:
        return {"price": 1 / 0}

    return app


def count_stock() -> int:
    """The number of articles in stock. Code outside Flask logs through the logger of its module."""
    logger.warning("the stock has not been counted since yesterday")
    return STOCK


rollsafe.uwsgi.install()
app = create_app()
