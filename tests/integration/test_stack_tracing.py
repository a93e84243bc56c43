"""What the guides show for OpenTelemetry and Sentry, on gunicorn with several workers: every line counted."""

from __future__ import annotations

import datetime
import importlib.util
import json
import re
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.gunicorn_setup import suffix_of
from tests.support.oracle import audit
from tests.support.servers import Clients, Server, backups, get, wait_until
from tests.support.stacks import documented, everything

pytestmark = pytest.mark.slow

READY = "/line/ready/0/60"
ROLLOVERS = 3

APPLICATION = """
import logging
import os
from contextlib import nullcontext
from pathlib import Path

from tests.support.oracle import make_line

logger = logging.getLogger("shop")
span = nullcontext
# PROLOGUE


def application(environ, start_response):
    action, *arguments = environ["PATH_INFO"].strip("/").split("/")
    if action == "line":
        stream, number, size = arguments
        with span():
            logger.info(make_line(stream, int(number), int(size)))
    elif action == "outside":
        logger.info("outside of every span")
    else:
        logger.info("the record before")
        try:
            raise ZeroDivisionError("first\\nsecond")
        except ZeroDivisionError:
            logger.exception("it failed")
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
# Whether the access line of a worker's next request is made without a record.
SHOW_FAST_PATH = """
def pre_request(worker, req):
    fast = worker.log._shortcut.find(worker.log.access_log) is not None
    Path(f"fast-{worker.pid}-{fast}").touch()
"""
FASTER_ACCESS = 'logger_class = "rollsafe.gunicorn.Logger"\n'

OPENTELEMETRY = """
from opentelemetry import trace

logger.info("while the application is loaded")


def span():
    return trace.get_tracer("shop").start_as_current_span("request")
"""
SENTRY = """
import json

import sentry_sdk.transport
from tests.support.servers import ROOT


class Captured(sentry_sdk.transport.Transport):
    def capture_envelope(self, envelope):
        if event := envelope.get_event():
            Path("event.json").write_text(json.dumps(event, default=str))


os.environ["SENTRY_DSN"] = "http://key@localhost/1"
init = sentry_sdk.init
sentry_sdk.init = lambda **options: init(transport=Captured, **options)
"""

SPAN = rb"[0-9a-f]{32} [0-9a-f]{16}"
LINE = rb"(?P<created>[\d-]+ [\d:]+,\d{3}) \[\d+\] \[INFO\]%s shop: (?P<stream>\w+) (?P<number>\d+) \d{5,7} .*"
OTHER = re.compile(rb".* (?:shop|opentelemetry[.\w]*): (?!\w+ \d+ \d{5,7} ).*")


def seconds_of(text: bytes) -> float:
    """The time of a line, which is local."""
    return datetime.datetime.fromisoformat(text.decode().replace(",", ".")).timestamp()


def serve(directory: Path, config: str, application: str, *paths: str) -> tuple[Server, Clients, Path]:
    """Serve an application under load, with a rollover each second, and GET these paths."""
    (directory / "shop.py").write_text(application, encoding="utf-8")
    config = re.sub(r'when="midnight",\s*backupCount=14', 'when="S"', config)
    live = directory / "logs" / "app.log"
    # Sentry's SDK imports eventlet where it is installed, which warns of itself.
    quiet = {"PYTHONWARNINGS": "ignore"}
    server = Server(directory, config + SHOW_FAST_PATH, app="shop:application", ready=READY, environment=quiet)
    with server, Clients(server) as clients:
        wait_until(lambda: len(backups(live)) >= ROLLOVERS, f"{ROLLOVERS} rollovers")
        with closing(server.connect()) as connection:
            for path in paths:
                assert get(connection, path)[0] == 200
    assert clients.refused == []
    access = everything(live.with_name("access.log")).splitlines()
    assert len(access) == clients.answered + 1 + len(paths)
    return server, clients, live


def fast_paths(directory: Path) -> set[str]:
    """Whether the faster access line was in use: "True", "False" or both."""
    return {path.name.rpartition("-")[2] for path in directory.glob("fast-*")}


@pytest.mark.parametrize("cure", ["defaults", "none"])
def test_opentelemetry_as_documented(cure: str, tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.instrumentation.logging", reason="pip install opentelemetry-sdk")
    config = documented("opentelemetry.md", "python gunicorn.conf.py")
    if cure == "none":
        config = config.replace('    defaults={"otelTraceID": "-", "otelSpanID": "-"},\n', "")
    application = APPLICATION.replace("# PROLOGUE", OPENTELEMETRY)
    server, clients, live = serve(tmp_path, FASTER_ACCESS + config, application, "/outside")

    pattern = re.compile(LINE % (rb" \[" + SPAN + rb"\]"))
    report = audit(live, clients.acknowledged, suffix_of, pattern=pattern, moment=seconds_of, notices=OTHER)
    lines = everything(live)
    assert report.flawless, report
    assert len(re.findall(r"\[0 0\] shop: outside of every span\n", lines)) == 1
    assert len(re.findall(r"\[0 0\] shop: while the application is loaded\n", lines)) == 4
    errors = everything(live.with_name("error.log"))
    assert re.search(r"\[- -\] gunicorn.error: Starting gunicorn", errors)
    assert len(re.findall(r"\[- -\] gunicorn.error: Booting worker", errors)) == 4
    assert ("lacks the field 'otelTraceID'" in server.output) is (cure == "none")
    assert fast_paths(tmp_path) == {"False"}


@pytest.mark.parametrize("way", ["documented", "default"])
def test_sentry_as_documented(way: str, tmp_path: Path) -> None:
    # Not imported here: it imports eventlet, which warns at each fork of this process from then on.
    if importlib.util.find_spec("sentry_sdk") is None:
        pytest.skip("sentry-sdk is not installed: pip install sentry-sdk")
    config = documented("sentry.md", "python gunicorn.conf.py")
    init = documented("sentry.md", "python shop_sentry.py")
    if way == "default":
        config, count = re.subn(r'(?ms)^logconfig_dict\["handlers"\].*?^}\n.*?\n', "", config)
        assert count == 1
        init = "import sentry_sdk\n\nsentry_sdk.init()\n"
    (tmp_path / "shop_sentry.py").write_text(init, encoding="utf-8")
    application = APPLICATION.replace("# PROLOGUE", f"{SENTRY}\nimport shop_sentry")
    server, clients, live = serve(tmp_path, config, application, "/boom")

    pattern = re.compile(LINE % b"")
    report = audit(live, clients.acknowledged, suffix_of, pattern=pattern, moment=seconds_of, notices=OTHER)
    event = json.loads((tmp_path / "event.json").read_text(encoding="utf-8"))
    assert report.flawless, report
    assert (event["level"], event["logger"], event["logentry"]["message"]) == ("error", "shop", "it failed")
    assert event["exception"]["values"][0]["value"] == "first\nsecond"
    assert [crumb["message"] for crumb in event["breadcrumbs"]["values"]][-1] == "the record before"
    assert fast_paths(tmp_path) == ({"True"} if way == "documented" else {"False"})
    assert server.output == ""
