"""The formatters of access lines: those of gunicorn stay as they are, those of uvicorn's workers get a time."""

from __future__ import annotations

import logging
import logging.config
import re
from pathlib import Path
from typing import Any

import pytest

from rollsafe._gunicorn.access import AccessFormatter, AccessLineFormatter
from rollsafe.gunicorn import rotating_logs

UVICORN = {"name": "uvicorn.access", "msg": '%s - "%s" %d', "args": ("127.0.0.1:4711", "GET / HTTP/1.1", 200)}
GUNICORN = {"name": "gunicorn.access", "msg": '127.0.0.1 - - [29/Nov/2026:15:00:00 +0000] "GET / HTTP/1.1" 200 -'}
TIMED = r'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} \[\d+\] 127\.0\.0\.1:4711 - "GET / HTTP/1.1" 200'


@pytest.mark.parametrize("kind", [AccessFormatter, AccessLineFormatter])
def test_only_a_line_of_uvicorn_gets_a_time(kind: type[logging.Formatter]) -> None:
    formatter = kind("%(message)s")
    assert re.fullmatch(TIMED, formatter.format(logging.makeLogRecord(UVICORN)))
    assert formatter.format(logging.makeLogRecord(GUNICORN)) == GUNICORN["msg"]


@pytest.mark.parametrize("kind", [AccessFormatter, AccessLineFormatter])
def test_a_format_that_has_a_time_is_left_alone(kind: type[logging.Formatter]) -> None:
    text = kind("%(asctime)s|%(message)s", "%H:%M").format(logging.makeLogRecord(UVICORN))
    assert re.fullmatch(r'\d\d:\d\d\|127\.0\.0\.1:4711 - "GET / HTTP/1.1" 200', text)
    text = kind("%(created).3f|%(message)s").format(logging.makeLogRecord(UVICORN))
    assert re.fullmatch(r'\d+\.\d{3}\|127\.0\.0\.1:4711 - "GET / HTTP/1.1" 200', text)


@pytest.mark.usefixtures("restored_logging")
@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({}, TIMED),
        ({"datefmt": "%H:%M"}, r"\d\d:\d\d \[\d+\] 127.*"),
        ({"stamps": True}, TIMED + r" ~\w+\.1~"),
        ({"access_format": "%(levelname)s %(asctime)s %(message)s"}, r"INFO \d{4}-.* 127.*"),
        ({"json": True}, r'\{"asctime": "\d{4}-.*", "remote_addr": null, .*"text": "127.*"\}'),
    ],
)
def test_the_preset_gives_uvicorns_lines_a_time(options: dict[str, Any], line: str, tmp_path: Path) -> None:
    logging.config.dictConfig(rotating_logs(tmp_path, **options))
    access = logging.getLogger("gunicorn.access")
    access.handle(logging.makeLogRecord({"levelname": "INFO", "levelno": logging.INFO, **UVICORN}))
    (text,) = (tmp_path / "access.log").read_text().splitlines()
    assert re.fullmatch(line, text)
