"""What the guides show for structlog and loguru, on gunicorn with several workers: every line counted."""

from __future__ import annotations

import datetime
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

import shop_logging
{make_logger}
from tests.support.oracle import make_line


def application(environ, start_response):
    action, *arguments = environ["PATH_INFO"].strip("/").split("/")
    if action == "line":
        stream, number, size = arguments
        logger.info(make_line(stream, int(number), int(size)))
    elif action == "library":
        logging.getLogger("library").warning("a %s", "record", extra={{"order": 7}})
        logger.debug("nobody reads this")
    else:
        try:
            raise ZeroDivisionError("first\\nsecond")
        except ZeroDivisionError:
            logger.exception({failed})
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
STRUCTLOG = APPLICATION.format(
    make_logger='import structlog\n\nlogger = structlog.get_logger("shop")', failed='"it %s", "failed", order=8'
)
LOGURU = APPLICATION.format(make_logger="from loguru import logger\n", failed='"it {}", "failed"')

JSON_LINE = re.compile(
    rb'\{"time": "(?P<created>[^"]+)", "event": "(?P<stream>\w+) (?P<number>\d+) \d{5,7} \w*[^"]*", '
    rb'"level": "info", "logger": "shop"\}'
)
TEXT_LINE = re.compile(
    rb"(?P<created>[\d-]+ [\d:]+,\d{3}) \[\d+\] \[INFO\] shop: (?P<stream>\w+) (?P<number>\d+) \d{5,7} .*"
)
OTHER_JSON = re.compile(rb'\{"time": .*(a record|it failed).*\}')
OTHER_TEXT = re.compile(rb".*: (a record|it failed).*")


def seconds_of(text: bytes) -> float:
    """The time of a line; without an offset, it is local."""
    return datetime.datetime.fromisoformat(text.decode().replace(",", ".")).timestamp()


def serve(directory: Path, page: str, application: str) -> tuple[Clients, Path]:
    """Serve an application with the module and the configuration of a page, under load, with a rollover each second."""
    (directory / "shop_logging.py").write_text(documented(page, "python shop_logging.py"), encoding="utf-8")
    (directory / "shop.py").write_text(application, encoding="utf-8")
    config = documented(page, "python gunicorn.conf.py")
    assert 'when="midnight", backupCount=14' in config
    config = config.replace('when="midnight", backupCount=14', 'when="S"')
    live = directory / "logs" / "app.log"
    server = Server(directory, config, app="shop:application", ready=READY)
    with server, Clients(server) as clients:
        wait_until(lambda: len(backups(live)) >= ROLLOVERS, f"{ROLLOVERS} rollovers")
        with closing(server.connect()) as connection:
            assert get(connection, "/library")[0] == 200
            assert get(connection, "/boom")[0] == 200
    assert server.output == ""
    assert clients.refused == []
    return clients, live


def test_structlog_as_documented(tmp_path: Path) -> None:
    pytest.importorskip("structlog", reason="structlog is not installed: pip install structlog")
    clients, live = serve(tmp_path, "structlog.md", STRUCTLOG)
    report = audit(live, clients.acknowledged, suffix_of, pattern=JSON_LINE, moment=seconds_of, notices=OTHER_JSON)
    assert report.flawless, report
    events = [json.loads(line) for line in everything(live).splitlines() if OTHER_JSON.fullmatch(line.encode())]
    (library,) = (event for event in events if event["event"] == "a record")
    (boom,) = (event for event in events if event["event"] == "it failed")
    assert {"logger": "library", "level": "warning", "order": 7}.items() <= library.items()
    assert {"logger": "shop", "level": "error", "order": 8}.items() <= boom.items()
    assert boom["exception"].endswith("ZeroDivisionError: first\nsecond")
    errors = [json.loads(line) for line in everything(live.with_name("error.log")).splitlines()]
    assert {"gunicorn.error"} == {event["logger"] for event in errors}


def test_loguru_as_documented(tmp_path: Path) -> None:
    pytest.importorskip("loguru", reason="loguru is not installed: pip install loguru")
    clients, live = serve(tmp_path, "loguru.md", LOGURU)
    report = audit(live, clients.acknowledged, suffix_of, pattern=TEXT_LINE, moment=seconds_of, notices=OTHER_TEXT)
    assert report.flawless, report
    lines = everything(live)
    assert len(re.findall(r" \[ERROR\] shop: it failed\\nTraceback .*ZeroDivisionError: first\\nsecond\n", lines)) == 1
    assert len(re.findall(r" \[WARNING\] library: a record\n", lines)) == 1
    assert "nobody reads this" not in lines
