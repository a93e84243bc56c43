"""JSON access lines of a real gunicorn: one for each request, each part of it in a field of its own."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.support.servers import Clients, Server, backups, wait_until

READY = "/line/ready/0/60"
CONFIG = """
from rollsafe.gunicorn import post_fork, rotating_logs

workers = 3
logconfig_dict = rotating_logs("logs", when="S", tz="Asia/Kolkata", json=True, app=None)
"""


@pytest.mark.slow
def test_each_request_has_one_line_whose_fields_tell_it(tmp_path: Path) -> None:
    pytest.importorskip("pythonjsonlogger", reason="python-json-logger is not installed: pip install rollsafe[json]")
    live = tmp_path / "logs" / "access.log"
    with Server(tmp_path, CONFIG, ready=READY) as server, Clients(server) as clients:
        wait_until(lambda: len(backups(live)) >= 3, "3 rollovers")

    lines = [line for path in [*backups(live), live] for line in read(path)]
    assert clients.refused == []
    paths = [line["path"] for line in lines]
    asked = [f"/line/{stream}/{number}/" for stream, numbers in clients.acknowledged.items() for number in numbers]
    assert sorted(path.rpartition("/")[0] + "/" for path in paths if path != READY) == sorted(asked)
    for line in lines:
        assert (line["method"], line["status"], line["query"], line["remote_addr"]) == ("GET", 200, "", "127.0.0.1")
        assert line["duration"] > 0
        assert line["bytes"] > 0
        assert "text" not in line


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a file, each of which belongs to the second of its name."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        moment = datetime.datetime.fromisoformat(line["asctime"])
        assert moment.utcoffset() == datetime.timedelta(hours=5, minutes=30)
        if path.suffix != ".log":
            here = moment.astimezone(ZoneInfo("Asia/Kolkata"))
            assert here.strftime("%Y-%m-%d_%H-%M-%S") in path.name
    return lines
