"""The Flask application of the integration tests; FLASK_ROLLSAFE_* in the environment is its configuration."""

from __future__ import annotations

import os

from flask import Flask

import rollsafe.uwsgi
from rollsafe.flask import init_app
from tests.support.oracle import make_line

rollsafe.uwsgi.install()
app = Flask("integration")
app.config.from_prefixed_env()
init_app(app)


@app.get("/line/<stream>/<int:number>/<int:size>")
def line(stream: str, number: int, size: int) -> str:
    """Log one line that checks itself, and answer the process id."""
    app.logger.info(make_line(stream, number, size))
    return str(os.getpid())


@app.get("/boom")
def boom() -> str:
    """Fail."""
    raise ZeroDivisionError("first\nsecond")
