"""A Flask application."""

from __future__ import annotations

import logging

from flask import Flask

import rollsafe.flask
from rollsafe.flask import RequestFields, init_app, request_id


def create_app() -> Flask:
    app = Flask(__name__)
    app.config.update(ROLLSAFE_FILENAME="logs/app.log", ROLLSAFE_WHEN="midnight", ROLLSAFE_BACKUP_COUNT=14)
    init_app(app)
    rollsafe.flask.init_app(app)

    @app.get("/")
    def index() -> str:
        app.logger.info("hello")
        return f"{request_id()}, {len(request_id())}"

    handler = logging.StreamHandler()
    handler.addFilter(RequestFields())
    logging.getLogger("shop").addHandler(handler)
    return app
