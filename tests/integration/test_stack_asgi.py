"""What the guides show for hypercorn, granian and uvicorn's workers, with the real servers: every line counted."""

from __future__ import annotations

import datetime
import json
import re
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.asgi_servers import DocumentedServer
from tests.support.gunicorn_setup import suffix_of
from tests.support.oracle import LINE_FORMAT, audit
from tests.support.servers import Clients, Server, backups, get, wait_until
from tests.support.stacks import OTHER_LINES, documented, everything

pytestmark = pytest.mark.slow

READY = "/line/ready/0/60"
ROLLOVERS = 3

APPLICATION = """
from tests.support.apps import asgi


async def app(scope, receive, send):
    if scope.get("path") == "/boom":
        raise ZeroDivisionError("first\\nsecond")
    if scope.get("path") == "/up":
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})
        return
    await asgi(scope, receive, send)
"""
BIND = {"hypercorn": "--bind 127.0.0.1:{port}", "granian": "--host 127.0.0.1 --port {port}"}
ACCESS = {
    "hypercorn": r'127\.0\.0\.1:\d+ "GET /line/\w+/\d+/\d+ [\d.]+" 200 \d+ [\d.]+',
    "granian": r'127\.0\.0\.1 "GET /line/\w+/\d+/\d+ HTTP/1.1" 200 [\d.]+',
}
OTHER_ACCESS = re.compile(rb'[\d-]+ [\d:]+,\d{3} \[\d+\] 127\.0\.0\.1:\d+ - "GET /say/ready HTTP/1.1" 200')


def local_time(text: bytes) -> float:
    """The time of a line of `LineFormatter`."""
    return datetime.datetime.fromisoformat(text.decode().replace(",", ".")).timestamp()


@pytest.mark.parametrize("name", ["hypercorn", "granian"])
def test_several_workers_as_documented(name: str, tmp_path: Path) -> None:
    pytest.importorskip(name, reason=f"{name} is not installed: pip install {name}")
    configuration = json.loads(documented("asgi-servers.md", "json log_config.json"))
    for handler in configuration["handlers"].values():
        # The load makes more than the documented number of files.
        handler |= {"when": "S", "backupCount": 0}
    configuration["formatters"]["line"]["fmt"] = LINE_FORMAT
    (tmp_path / "log_config.json").write_text(json.dumps(configuration), encoding="utf-8")
    (tmp_path / "shop.py").write_text(APPLICATION, encoding="utf-8")
    make, command = documented("asgi-servers.md", f"sh {name}").strip().split("\n")
    assert make == "mkdir -p logs"
    live = tmp_path / "logs" / "app.log"
    live.parent.mkdir()
    with DocumentedServer(tmp_path, command, BIND[name], ready=READY) as server, Clients(server) as clients:
        wait_until(lambda: len(clients.answering) > 1, "answers from two workers")
        wait_until(lambda: len(backups(live)) >= ROLLOVERS, f"{ROLLOVERS} rollovers")
        with closing(server.connect()) as connection:
            status, _ = get(connection, "/boom")

    report = audit(live, clients.acknowledged, suffix_of, notices=OTHER_LINES)
    access = everything(live.parent / "access.log").splitlines()
    timed = re.compile(rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d,\d{{3}} \[\d+\] {ACCESS[name]}")
    assert clients.refused == []
    assert report.flawless, report
    assert status == 500
    assert len(re.findall(r"\\nTraceback .*first\\nsecond\n", everything(live))) == 1
    assert len([line for line in access if timed.fullmatch(line)]) == clients.answered + 1
    assert [line for line in access if not timed.fullmatch(line) and not re.search(r'"GET /(boom|up) ', line)] == []
    assert server.output == ""


@pytest.mark.parametrize("way", ["preset", "flags"])
def test_access_lines_of_uvicorns_workers_have_a_time(way: str, tmp_path: Path) -> None:
    pytest.importorskip("uvicorn_worker", reason="uvicorn-worker is not installed: pip install uvicorn-worker")
    config = "from rollsafe.gunicorn import post_fork, rotating_logger, rotating_logs\n"
    config += 'worker_class = "uvicorn_worker.UvicornWorker"\n'
    config += {
        "preset": 'logconfig_dict = rotating_logs("logs", when="S")\n',
        "flags": 'logger_class = rotating_logger(when="S")\naccesslog = "logs/access.log"\n',
    }[way]
    live = tmp_path / "logs" / "access.log"
    live.parent.mkdir()
    server = Server(tmp_path, config, app="tests.support.apps:asgi", ready="/say/ready")
    with server, Clients(server) as clients:
        wait_until(lambda: len(backups(live)) >= ROLLOVERS, f"{ROLLOVERS} rollovers")

    line = re.compile(
        rb"(?P<created>[\d-]+ [\d:]+,\d{3}) \[\d+\] 127\.0\.0\.1:\d+ - "
        rb'"GET /line/(?P<stream>\w+)/(?P<number>\d+)/\d+ HTTP/1.1" 200'
    )
    report = audit(live, clients.acknowledged, suffix_of, pattern=line, moment=local_time, notices=OTHER_ACCESS)
    assert clients.refused == []
    assert report.flawless, report
    assert report.notices == 1
