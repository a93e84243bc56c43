"""The logs that `rollsafe ship` finds in configurations and directories, and what it says of the others."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rollsafe import ConfigurationError, LineFormatter, SafeTimedRotatingFileHandler
from rollsafe._preset import LINE_FORMAT
from rollsafe.errors import LogFileError
from rollsafe.tools.catalog import logs_at
from rollsafe.tools.line_kinds import format_in
from rollsafe.tools.ship_sources import logs_of
from rollsafe.tools.shippers.line_formats import CELERY
from rollsafe.tools.shippers.line_times import DEFAULT, ISO, LineTime
from rollsafe.tools.shippers.logs import ShippedLog
from rollsafe.tools.shipping import printed_configuration

PRESET = """
from rollsafe.gunicorn import rotating_logs
logconfig_dict = rotating_logs("logs", {arguments})
{more}
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TZ", raising=False)
    yield
    # Reading Django's settings sets it.
    os.environ.pop("TZ", None)
    time.tzset()


def logs_by_name(path: str) -> dict[str, ShippedLog]:
    """The logs that are found."""
    return {log.name: log for log in logs_of(path)[0]}


def preset(tmp_path: Path, arguments: str = "", more: str = "") -> str:
    """The path of a gunicorn.conf.py."""
    (tmp_path / "gunicorn.conf.py").write_text(PRESET.format(arguments=arguments, more=more))
    return "gunicorn.conf.py"


def dictionary(tmp_path: Path, formatter: dict[str, Any], **handler: Any) -> str:
    """The path of a logging configuration with one handler."""
    given = {"class": "rollsafe.SafeTimedRotatingFileHandler", "filename": "app.log", "formatter": "it", **handler}
    config = {
        "version": 1,
        "formatters": {"it": formatter},
        "handlers": {"app": given},
        "root": {"handlers": ["app"]},
    }
    (tmp_path / "logging.json").write_text(json.dumps(config))
    return "logging.json"


def test_the_name_of_the_host_is_in_the_path(tmp_path: Path) -> None:
    path = dictionary(tmp_path, {"format": "%(message)s"}, filename="app-{hostname}.log")
    assert logs_by_name(path)["app"].path == str(tmp_path / f"app-{os.uname().nodename}.log")


def test_the_name_of_the_host_is_in_the_path_of_a_flag(tmp_path: Path) -> None:
    code = "from rollsafe.gunicorn import rotating_logger\nlogger_class = rotating_logger(when='h')\n"
    (tmp_path / "gunicorn.conf.py").write_text(f"{code}errorlog = 'error-{{hostname}}.log'\naccesslog = 'access.log'\n")
    logs = logs_by_name("gunicorn.conf.py")
    assert logs["errorlog"].path == str(tmp_path / f"error-{os.uname().nodename}.log")
    line, access = logs["errorlog"].line, logs["accesslog"].line
    assert line is not None
    assert line.time == LineTime("asctime", "[%Y-%m-%d %H:%M:%S %z]")
    assert access is not None
    assert "status" in access.fields


def test_the_backups_of_a_link_are_beside_its_target(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "app.log").symlink_to("there/app.log")
    assert logs_by_name(dictionary(tmp_path, {}))["app"].path == str(tmp_path / "there" / "app.log")


def test_the_archive_dir_is_known(tmp_path: Path) -> None:
    logs = logs_by_name(preset(tmp_path, "archive_dir='logs/old'"))
    assert {log.archive_dir for log in logs.values()} == {str(tmp_path / "logs" / "old")}


def test_stamps_leave_the_access_line_its_fields_and_its_time(tmp_path: Path) -> None:
    line = logs_by_name(preset(tmp_path, "stamps=True"))["access"].line
    assert line is not None
    assert line.fields[-3:] == ("referer", "user_agent", "stamp")
    assert line.time is not None
    assert line.time.field == "time"


def test_what_goes_to_no_file_of_ours_is_said_so(tmp_path: Path) -> None:
    more = """
logconfig_dict["handlers"]["plain"] = {"class": "logging.FileHandler", "filename": "plain.log", "delay": True}
logconfig_dict["handlers"]["other"] = {"class": "no.such.Handler"}
logconfig_dict["handlers"]["null"] = {"class": "rollsafe.SafeTimedRotatingFileHandler", "filename": "/dev/null"}
logconfig_dict["root"]["handlers"] += ["plain", "other", "null"]
"""
    logs, left_out = logs_of(preset(tmp_path, "app=None", more))
    assert [log.name for log in logs] == ["access", "error"]
    told = dict(left_out)
    assert told["console"] == "it writes to standard output, and no file has its lines"
    assert "rollsafe does not rotate" in told["plain"]
    assert "cannot be imported" in told["other"]
    assert "no regular file" in told["null"]


def test_lines_of_an_unknown_formatter_are_known_by_what_is_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import logging, json\n"
        "class Mine(logging.Formatter):\n"
        "    def format(self, record):\n"
        "        return json.dumps({'ts': '2026-11-25T10:00:00.5Z', 'level': 'info', 'event': record.getMessage()})\n"
    )
    path = dictionary(tmp_path, {"()": "mine.Mine"})
    (log,), _ = logs_of(path)
    assert log.line is None
    assert any("fields, level and time" in sentence for sentence in log.left_out)
    (tmp_path / "app.log").write_text('{"ts": "2026-11-25T10:00:00.5Z", "level": "info", "event": "x"}\n')
    (log,), _ = logs_of(path)
    assert log.line is not None
    assert (log.line.is_json, log.line.time, log.line.level) == (True, LineTime("ts", ISO), "level")


@pytest.mark.parametrize(
    ("formatter", "time", "told"),
    [
        ({"()": "rollsafe.LineFormatter", "fmt": LINE_FORMAT, "tz": "Asia/Kolkata"}, ("Asia/Kolkata", DEFAULT), ""),
        ({"()": "rollsafe.LineFormatter", "fmt": LINE_FORMAT, "datefmt": "%H:%M"}, None, "the time of a line"),
        ({"format": LINE_FORMAT}, (None, DEFAULT), "several lines are one record"),
        ({"format": "%(message)s"}, None, "tells nothing"),
        ({"format": "a\n%(levelname)s %(message)s"}, None, "tells nothing"),
        ({"()": "no.such.Formatter"}, None, "cannot be imported"),
        ({}, None, "tells nothing"),
        (
            {"()": "rollsafe.json_lines.JSONFormatter", "fmt": "%(asctime)s %(levelname)s %(message)s"},
            (None, ISO),
            "",
        ),
        ({"()": "pythonjsonlogger.json.JsonFormatter", "fmt": "%(asctime)s %(message)s"}, (None, DEFAULT), ""),
        (
            {"()": "rollsafe.json_lines.JSONFormatter", "fmt": ["asctime"], "rename_fields": {"asctime": "at"}},
            (None, ISO),
            "",
        ),
        ({"()": "rollsafe.json_lines.JSONFormatter", "fmt": "%(message)s"}, None, "its format has none"),
        ({"()": "uvicorn.logging.DefaultFormatter", "fmt": "%(levelprefix)s %(message)s"}, None, "the time of a line"),
    ],
)
def test_a_formatter_tells_how_its_lines_are_made(
    tmp_path: Path, formatter: dict[str, Any], time: tuple[str | None, str] | None, told: str
) -> None:
    (log,), _ = logs_of(dictionary(tmp_path, formatter))
    found = None if log.line is None or log.line.time is None else (log.line.time.zone, log.line.time.layout)
    assert found == time
    assert told in " ".join(log.left_out)
    assert bool(told) or not log.left_out


def test_the_local_time_of_django_is_that_of_its_settings(tmp_path: Path) -> None:
    (tmp_path / "settings.py").write_text(
        "SECRET_KEY = 'x'\nUSE_TZ = True\nTIME_ZONE = 'Australia/Sydney'\nINSTALLED_APPS = []\nLOGGING = "
        + repr(json.loads((tmp_path / dictionary(tmp_path, {"format": LINE_FORMAT})).read_text()))
    )
    text = printed_configuration("otel", "settings.py")
    assert 'location: "Australia/Sydney"' in text


def test_the_local_time_of_gunicorn_is_that_of_its_raw_env(tmp_path: Path) -> None:
    path = preset(tmp_path, "access=None, error=None", "raw_env = ['TZ=America/Lima']")
    line = logs_by_name(path)["app"].line
    assert line is not None
    assert line.time is not None
    assert line.time.zone == "America/Lima"


def test_the_lines_of_uvicorns_workers_are_known(tmp_path: Path) -> None:
    line = logs_by_name(preset(tmp_path, "", "worker_class = 'uvicorn_worker.UvicornWorker'"))["access"].line
    assert line is not None
    assert line.fields == ("asctime", "process", "remote_addr", "request", "status")


def test_two_handlers_of_one_file_are_one_log(tmp_path: Path) -> None:
    more = """
logconfig_dict["handlers"]["error"]["filename"] = logconfig_dict["handlers"]["access"]["filename"]
"""
    logs = logs_by_name(preset(tmp_path, "", more))
    assert logs.keys() == {"access", "app"}
    assert "different formats" in " ".join(logs["access"].left_out)


def test_names_are_unique_and_in_ascii(tmp_path: Path) -> None:
    handlers = {
        name: {"class": "rollsafe.SafeTimedRotatingFileHandler", "filename": f"{number}.log"}
        for number, name in enumerate(["a-b", "a.b", "rollsafe", "x_parsed", "1", "größe"])
    }
    config = {"version": 1, "handlers": handlers, "root": {"handlers": list(handlers)}}
    (tmp_path / "logging.json").write_text(json.dumps(config))
    assert list(logs_by_name("logging.json")) == ["a_b", "a_b_2", "log_rollsafe", "log_x", "log_1", "gr__e"]


def test_a_log_beside_another_whose_name_it_continues_is_told_apart(tmp_path: Path) -> None:
    for name in ("app.log", "app.log.err"):
        SafeTimedRotatingFileHandler(tmp_path / name).close()
    logs = logs_by_name(".")
    assert logs["app"].nested == (str(tmp_path / "app.log.err"),)


def write(path: Path, formatter: logging.Formatter, **options: Any) -> None:
    """Log a few lines."""
    handler = SafeTimedRotatingFileHandler(path, when="midnight", interval=30, **options)
    handler.setFormatter(formatter)
    for number in range(3):
        handler.handle(logging.makeLogRecord({"name": "shop", "levelname": "INFO", "msg": f"line {number}"}))
    handler.close()


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", None])
@pytest.mark.parametrize("stamps", ["", " %(stamp)s"])
def test_the_lines_of_a_directory_show_their_format(tmp_path: Path, zone: str | None, stamps: str) -> None:
    write(tmp_path / "app.log", LineFormatter(LINE_FORMAT + stamps, tz=zone), tz=zone)
    (log,), left_out = logs_of(str(tmp_path))
    assert log.line is not None
    assert log.line.time == LineTime("asctime", DEFAULT, zone)
    assert ("stamp" in log.line.fields) is bool(stamps)
    assert (log.left_out, left_out) == ((), [])


def test_a_time_that_does_not_agree_with_the_file_is_not_read(tmp_path: Path) -> None:
    write(tmp_path / "app.log", LineFormatter(LINE_FORMAT, tz="Asia/Kolkata"), utc=True)
    (log,), _ = logs_of("app.log")
    assert log.line is not None
    assert log.line.time is None
    assert "does not agree" in " ".join(log.left_out)


def test_the_lock_file_tells_archive_dir_size_and_encoding(tmp_path: Path) -> None:
    options = {"archive_dir": tmp_path / "old", "maxBytes": 1000, "encoding": "latin-1"}
    write(tmp_path / "app.log", LineFormatter("%(message)s"), **options)
    (log,), _ = logs_of(str(tmp_path))
    assert (log.archive_dir, log.by_size, log.line) == (str(tmp_path / "old"), True, None)
    assert "latin-1" in " ".join(log.left_out)


def test_lines_of_celery_are_recognised(tmp_path: Path) -> None:
    celery = pytest.importorskip("rollsafe.celery", reason="Celery is not installed")
    assert celery.LINE_FORMAT == CELERY
    write(tmp_path / "celery.log", LineFormatter(CELERY, defaults={"task_name": "a.b", "task_id": "1-2"}))
    (log,), _ = logs_of(str(tmp_path))
    assert log.line is not None
    assert log.line.fields[3:5] == ("task_name", "task_id")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "no end",
        "[1]\n",
        "{}\n{\n",
        '{"a": 1}\ntext\n',
        "\x00\xff\n",
        '{"asctime": 5}\n' * 3,
        "{" * 9999 + "\n",
    ],
)
def test_any_content_is_looked_at_without_an_error(tmp_path: Path, text: str) -> None:
    SafeTimedRotatingFileHandler(tmp_path / "app.log").close()
    (tmp_path / "app.log").write_bytes(text.encode("latin-1"))
    (log,), _ = logs_of(str(tmp_path))
    assert log.line is None or log.line.is_json


def test_nothing_but_a_regular_file_is_looked_at(tmp_path: Path) -> None:
    write(tmp_path / "app.log", LineFormatter(LINE_FORMAT))
    (log,) = logs_at(["app.log"])
    (tmp_path / "app.log").unlink()
    os.mkfifo(tmp_path / "app.log")
    assert format_in(log) is None
    with pytest.raises(LogFileError):
        logs_of("app.log")


def test_a_configuration_that_django_does_not_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "settings.py").write_text(
        "SECRET_KEY = 'x'\nINSTALLED_APPS = []\nLOGGING_CONFIG = None\nLOGGING = {}\n"
    )
    with pytest.raises(ConfigurationError, match="does not read the logging configuration"):
        printed_configuration("otel", "settings.py")
