"""A Flask application with init_app, on every server that may run it: lines counted, ids and fields seen."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.gunicorn_setup import suffix_of
from tests.support.needs import require_package
from tests.support.oracle import audit
from tests.support.other_servers import NO_PYUWSGI, PYUWSGI, FlaskRun, Uwsgi
from tests.support.servers import Clients, Server, ServerProcess, backups, wait_until

pytest.importorskip("flask", reason="flask is not installed: pip install rollsafe[flask]")

APP = "tests.support.flask_app:app"
READY = "/line/ready/0/60"
ROLLOVERS = 3
FORMAT = "%(created).9f %(message)s"
# Flask logs what it could not do beside the lines of the load, and so does its own server.
OTHER = re.compile(rb"\d+\.\d+ (?!\w+ \d+ \d{5}).*")
PRESET = f"""
from rollsafe.gunicorn import post_fork, rotating_logs

logconfig_dict = rotating_logs("logs", when="S", format="{FORMAT}", access=None)
"""


def environment(**settings: str) -> dict[str, str]:
    """The application's configuration: its own file, rolled each second, unless `settings` say otherwise."""
    own = {"FILENAME": "logs/app.log", "WHEN": "S", "FORMAT": FORMAT} | settings
    return {f"FLASK_ROLLSAFE_{key}": value for key, value in own.items()}


def gunicorn(directory: Path, config: str = "", **settings: object) -> Server:
    """A gunicorn for the application."""
    config += "".join(f"{name} = {value!r}\n" for name, value in settings.items())
    return Server(directory, config, app=APP, ready=READY, workers=2, environment=environment())


SERVERS: dict[str, Callable[[Path], ServerProcess]] = {
    "gunicorn sync": lambda directory: gunicorn(directory, worker_class="sync"),
    "gunicorn gthread": lambda directory: gunicorn(directory, worker_class="gthread", threads=2),
    "gunicorn gevent": lambda directory: gunicorn(directory, worker_class="gevent"),
    "gunicorn sync with the preset": lambda directory: gunicorn(directory, PRESET),
    "gunicorn sync with the preset and preload": lambda directory: gunicorn(directory, PRESET, preload_app=True),
    "uWSGI": lambda directory: Uwsgi(directory, APP, workers=2, environment=environment()),
    "flask run": lambda directory: FlaskRun(directory, APP, ready=READY, environment=environment()),
}


def server_for(name: str, directory: Path) -> ServerProcess:
    """The server of that name, or a skip that says what is missing."""
    if name == "uWSGI" and PYUWSGI is None:
        pytest.skip(NO_PYUWSGI)
    if "gevent" in name:
        require_package("gevent")
    return SERVERS[name](directory)


@pytest.mark.slow
@pytest.mark.parametrize("name", SERVERS)
def test_every_line_is_in_the_file_once_on_every_server(tmp_path: Path, name: str) -> None:
    live = tmp_path / "logs" / "app.log"
    with server_for(name, tmp_path) as server, Clients(server, count=2) as clients:
        wait_until(lambda: len(backups(live)) >= ROLLOVERS, f"{ROLLOVERS} rollovers")
        connection = server.connect()
        connection.request("GET", "/boom", headers={"X-Request-ID": "abc-1"})
        answer = connection.getresponse()
        answer.read()
        connection.close()

    report = audit(live, clients.acknowledged, suffix_of, notices=OTHER)
    text = "".join(path.read_text(encoding="utf-8") for path in [*backups(live), live])
    assert clients.refused == []
    assert report.flawless, report
    assert (answer.status, answer.headers["X-Request-ID"]) == (500, "abc-1")
    assert len(re.findall(r"Exception on /boom \[GET\]\\nTraceback.*ZeroDivisionError: first\\nsecond\n", text)) == 1
