"""Printed configurations: the command prints them, and the shippers that are here accept them."""

from __future__ import annotations

import logging
import subprocess
from pathlib import Path

import pytest
import yaml

from rollsafe import LineFormatter, SafeTimedRotatingFileHandler
from rollsafe._preset import LINE_FORMAT
from rollsafe.tools.shippers.line_formats import COMBINED, json_format, text_format
from rollsafe.tools.shippers.logs import ShippedLog
from rollsafe.tools.shipping import ENGINES, configuration
from tests.support.commands import run
from tests.support.hosts import require_rsyslog

LOGS = [
    ShippedLog("app", "/srv/logs/app.log", text_format(LINE_FORMAT)),
    ShippedLog("access", "/srv/logs/access.log", text_format("%(message)s", access=COMBINED)),
    ShippedLog("json", "/srv/logs/json.log", json_format(["message"], None, None)),
]
CONFIG = """
from rollsafe.gunicorn import rotating_logs
logconfig_dict = rotating_logs("logs", error=None, json=True, compress="gz")
"""


@pytest.mark.parametrize("by_size", [False, True], ids=["polling", "inotify"])
def test_rsyslog_accepts_its_configuration(tmp_path: Path, by_size: bool) -> None:
    require_rsyslog()
    logs = [*LOGS, ShippedLog("big", "/srv/logs/big.log", by_size=by_size)]
    path = tmp_path / "rsyslog.conf"
    for scheme in ENGINES["rsyslog"].schemes:
        path.write_text(configuration("rsyslog", logs, f"{scheme}://127.0.0.1:2514", str(tmp_path)))
        checked = subprocess.run(["rsyslogd", "-N1", "-f", path], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr
        assert "error" not in checked.stderr.lower().replace("error.log", "")


@pytest.mark.parametrize("engine", ENGINES)
def test_the_command_prints_a_configuration_for_the_logs_of_a_gunicorn_conf_py(tmp_path: Path, engine: str) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(CONFIG)
    ran = run("ship", engine, "gunicorn.conf.py", directory=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    for name in ("access.log", "app.log"):
        assert str(tmp_path / "logs" / name) in ran.stdout
    assert "error.log" not in ran.stdout
    assert "error_console: it writes to standard error" in ran.stdout
    if engine != "rsyslog":
        assert "json" in ran.stdout


def test_the_command_takes_a_log_directory(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    handler = SafeTimedRotatingFileHandler(tmp_path / "logs" / "app.log", when="midnight", utc=True)
    handler.setFormatter(LineFormatter(LINE_FORMAT, tz="UTC"))
    handler.handle(logging.makeLogRecord({"name": "shop", "levelname": "INFO", "msg": "started"}))
    handler.close()
    ran = run("ship", "otel", "logs", directory=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    (receiver,) = yaml.safe_load(ran.stdout)["receivers"].values()
    assert receiver["include"] == [f"{tmp_path}/logs/app.log", f"{tmp_path}/logs/app.log.*"]
    (parser,) = receiver["operators"]
    assert (parser["type"], parser["timestamp"]["location"]) == ("regex_parser", "UTC")


def test_what_an_application_prints_is_not_in_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(f"print('chatter')\n{CONFIG}")
    ran = run("ship", "otel", directory=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "chatter" not in ran.stdout


def test_the_arguments_of_gunicorn_count(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(CONFIG)
    ran = run("ship", "otel", "gunicorn.conf.py", "--", "--chdir", "/nowhere", directory=tmp_path)
    assert (ran.returncode, "/nowhere" in ran.stderr) == (2, True)


@pytest.mark.parametrize("path", ["nothing.log", "nothing.py", "empty"])
def test_what_is_no_log_is_refused_with_a_sentence(tmp_path: Path, path: str) -> None:
    (tmp_path / "empty").mkdir()
    ran = run("ship", "otel", path, directory=tmp_path)
    assert ran.returncode == 2
    assert ran.stderr.startswith(f"rollsafe: '{path}'")
    assert "understands" in ran.stderr


def test_catching_up_is_for_rsyslog_only(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(CONFIG)
    ran = run("ship", "vector", "gunicorn.conf.py", "--catch-up", directory=tmp_path)
    assert ran.returncode == 2
    assert "--catch-up is for rsyslog" in ran.stderr


def test_catching_up_needs_no_line_that_was_logged_before(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(CONFIG)
    command = ["ship", "rsyslog", "gunicorn.conf.py", "--catch-up", "--state"]
    ran = run(*command, str(tmp_path), directory=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.count("input(") == 2
    ran = run(*command, str(tmp_path / "nowhere"), directory=tmp_path)
    assert ran.returncode == 0
    (tmp_path / "logs" / "app.log").touch()
    ran = run(*command, str(tmp_path / "nowhere"), directory=tmp_path)
    assert (ran.returncode, "the places that rsyslog has reached" in ran.stderr) == (2, True)
