"""What the how-to guides show for Django and FastAPI, with the real framework on a real server: lines counted.

Only what the oracle needs is changed: a rollover each second, and the format of its lines.
"""

from __future__ import annotations

import datetime
import http.client
import json
import re
from contextlib import closing
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.support.gunicorn_setup import suffix_of
from tests.support.oracle import LINE_FORMAT, audit
from tests.support.other_servers import Uvicorn
from tests.support.servers import Clients, Server, ServerProcess, backups, get, wait_until
from tests.support.stacks import OTHER_LINES, documented, everything

READY = "/line/ready/0/60"
ROLLOVERS = 3
BEFORE_DJANGO = """
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent
TIME_ZONE = "Europe/Paris"

"""
DJANGO = f"""
SECRET_KEY = "only for this test"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "urls"
LOGGING["handlers"]["file"]["when"] = "S"
LOGGING["formatters"]["line"]["fmt"] = "{LINE_FORMAT}"
"""

DJANGO_URLS = """
import logging
import os

from django.http import HttpResponse
from django.urls import path

from tests.support.oracle import make_line

logger = logging.getLogger("shop.views")


def line(request, stream, number, size):
    logger.info(make_line(stream, number, size))
    return HttpResponse(str(os.getpid()))


def boom(request):
    raise ZeroDivisionError("first\\nsecond")


urlpatterns = [path("line/<stream>/<int:number>/<int:size>", line), path("boom", boom)]
"""

DJANGO_WSGI = """
import os

os.environ["DJANGO_SETTINGS_MODULE"] = "settings"

from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
"""

FASTAPI = """
import logging
import os

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

from tests.support.oracle import make_line

app = FastAPI()
logger = logging.getLogger("shop")


@app.get("/line/{stream}/{number}/{size}", response_class=PlainTextResponse)
def line(stream: str, number: int, size: int) -> str:
    logger.info(make_line(stream, number, size))
    return str(os.getpid())


@app.get("/boom")
def boom() -> str:
    raise ZeroDivisionError("first\\nsecond")
"""

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
IDS_FORMAT = "[%(request_id)s %(trace_id)s %(request_path)s] %(name)s: %(message)s"
DJANGO_IDS = f"""
LOGGING["filters"] = {{"request": {{"()": "rollsafe.request_ids.RequestFields"}}}}
LOGGING["handlers"]["file"] |= {{"filters": ["request"], "when": "midnight"}}
LOGGING["formatters"]["line"]["fmt"] = "{IDS_FORMAT}"
"""


def suffix_in_paris(created: float) -> str:
    """The backup suffix of when="S" in the zone of the documented settings."""
    return datetime.datetime.fromtimestamp(created, ZoneInfo("Europe/Paris")).strftime("%Y-%m-%d_%H-%M-%S")


def test_django_on_gunicorn_as_documented(tmp_path: Path) -> None:
    pytest.importorskip("django", reason="django is not installed: pip install django")
    settings = BEFORE_DJANGO + documented("django.md", "python settings.py") + DJANGO
    (tmp_path / "settings.py").write_text(settings, encoding="utf-8")
    (tmp_path / "urls.py").write_text(DJANGO_URLS, encoding="utf-8")
    (tmp_path / "wsgi.py").write_text(DJANGO_WSGI, encoding="utf-8")
    config = documented("django.md", "python gunicorn.conf.py")
    live = tmp_path / "logs" / "app.log"
    with Server(tmp_path, config, app="wsgi:application", ready=READY) as server, Clients(server) as clients:
        wait_until(lambda: len(backups(live)) >= ROLLOVERS, f"{ROLLOVERS} rollovers")
        with closing(server.connect()) as connection:
            status, _ = get(connection, "/boom")

    report = audit(live, clients.acknowledged, suffix_in_paris, notices=OTHER_LINES)
    assert clients.refused == []
    assert report.flawless, report
    assert status == 500
    assert len(re.findall(r"Internal Server Error: /boom\\nTraceback.*first\\nsecond\n", everything(live))) == 1
    assert {path.name for path in live.parent.glob("*.log")} == {"app.log", "access.log", "error.log"}
    assert len((live.parent / "access.log").read_text(encoding="utf-8").splitlines()) == clients.answered + 2


@pytest.mark.slow
def test_fastapi_on_several_workers_of_uvicorn_as_documented(tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="fastapi is not installed: pip install fastapi")
    pytest.importorskip("uvicorn", reason="uvicorn is not installed: pip install uvicorn")
    configuration: dict[str, Any] = json.loads(documented("fastapi.md", "json log_config.json"))
    for handler in configuration["handlers"].values():
        handler["when"] = "S"
    configuration["formatters"]["line"]["fmt"] = LINE_FORMAT
    (tmp_path / "log_config.json").write_text(json.dumps(configuration), encoding="utf-8")
    (tmp_path / "shop.py").write_text(FASTAPI, encoding="utf-8")
    live = tmp_path / "logs" / "app.log"
    live.parent.mkdir()
    uvicorn = Uvicorn(tmp_path, "shop:app", ready=READY, arguments=["--log-config", "log_config.json"])
    with uvicorn as server, Clients(server) as clients:
        wait_until(lambda: len(clients.answering) == 2, "an answer from both workers")
        wait_until(lambda: len(backups(live)) >= ROLLOVERS, f"{ROLLOVERS} rollovers")
        with closing(server.connect()) as connection:
            status, _ = get(connection, "/boom")

    report = audit(live, clients.acknowledged, suffix_of, notices=OTHER_LINES)
    access = re.findall(r'"GET /line/\w+/\d+/\d+ HTTP/1.1" 200\n', everything(live.parent / "access.log"))
    assert clients.refused == []
    assert report.flawless, report
    assert status == 500
    assert len(re.findall(r"Exception in ASGI application\\n.*first\\nsecond\n", everything(live))) == 1
    assert len(access) == clients.answered + 1


def ask(server: ServerProcess, path: str, number: str, trace: str = TRACEPARENT) -> tuple[int, str | None]:
    """Send a request with ids; the status and the id of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    connection.request("GET", path, headers={"X-Request-ID": number, "traceparent": trace})
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status, response.headers["X-Request-ID"]


def wait_for_line(path: Path, pattern: str) -> None:
    """Wait until a whole line of the log matches."""
    wait_until(lambda: re.search(rf"(?m)^{pattern}$", everything(path)) is not None, pattern)


@pytest.mark.slow
def test_django_logs_each_line_with_the_ids_also_those_outside_of_its_middlewares(tmp_path: Path) -> None:
    pytest.importorskip("django", reason="django is not installed: pip install django")
    settings = BEFORE_DJANGO + documented("django.md", "python settings.py") + DJANGO + DJANGO_IDS
    (tmp_path / "settings.py").write_text(settings, encoding="utf-8")
    (tmp_path / "urls.py").write_text(DJANGO_URLS, encoding="utf-8")
    wsgi = documented("request-ids.md", "python wsgi.py")
    (tmp_path / "wsgi.py").write_text(f'import os\nos.environ["DJANGO_SETTINGS_MODULE"] = "settings"\n{wsgi}')
    config = documented("request-ids.md", "python gunicorn.conf.py")
    logs = tmp_path / "logs"
    config = config.replace('rotating_logs("logs")', 'rotating_logs("logs", app=None)')
    with Server(tmp_path, config, app="wsgi:application", ready=READY) as server:
        assert ask(server, "/line/stream/1/60", "ok-1") == (200, "ok-1")
        assert ask(server, "/missing", "missing-1") == (404, "missing-1")
        assert ask(server, "/boom", "boom-1", "00-none-at-all-01") == (500, "boom-1")
        wait_for_line(logs / "app.log", rf"\[ok-1 {TRACE} /line/stream/1/60\] shop.views: .*")
        wait_for_line(logs / "app.log", rf"\[missing-1 {TRACE} /missing\] django.request: Not Found: /missing")
        wait_for_line(logs / "app.log", r"\[boom-1 - /boom\] django.request: Internal Server Error: /boom\\nTrace.*")
        wait_for_line(logs / "access.log", rf'127\.0\.0\.1 "GET /missing .*" 404 .* \[missing-1\] \[{TRACEPARENT}\]')


@pytest.mark.slow
def test_uvicorn_logs_each_line_with_the_ids_also_its_access_line(tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="fastapi is not installed: pip install fastapi")
    pytest.importorskip("uvicorn", reason="uvicorn is not installed: pip install uvicorn")
    configuration = json.loads(documented("fastapi.md", "json log_config.json"))
    configuration["filters"] = {"request": {"()": "rollsafe.request_ids.RequestFields"}}
    for name in ("app", "access"):
        configuration["handlers"][name]["filters"] = ["request"]
        configuration["handlers"][name]["formatter"] = "line"
    configuration["formatters"]["line"]["fmt"] = IDS_FORMAT
    (tmp_path / "log_config.json").write_text(json.dumps(configuration), encoding="utf-8")
    middleware = "\nfrom rollsafe.request_ids import ASGIMiddleware\napp = ASGIMiddleware(app)\n"
    (tmp_path / "shop.py").write_text(FASTAPI + middleware, encoding="utf-8")
    logs = tmp_path / "logs"
    logs.mkdir()
    uvicorn = Uvicorn(tmp_path, "shop:app", ready=READY, arguments=["--log-config", "log_config.json"])
    with uvicorn as server:
        assert ask(server, "/line/stream/1/60", "ok-1") == (200, "ok-1")
        assert ask(server, "/boom", "boom-1")[0] == 500
        # FastAPI runs the function of the path in a thread.
        wait_for_line(logs / "app.log", rf"\[ok-1 {TRACE} /line/stream/1/60\] shop: .*")
        wait_for_line(logs / "access.log", rf'\[ok-1 {TRACE} /line/stream/1/60\] uvicorn.access: .* "GET .*" 200')
