"""rotating_logs: a dict that dictConfig takes whole, and arguments that fail with one sentence."""

from __future__ import annotations

import datetime
import inspect
import json
import logging
import logging.config
import os
from pathlib import Path
from typing import Any

import pytest

import rollsafe.gunicorn
from rollsafe import ConfigurationError, LineFormatter, SafeTimedRotatingFileHandler
from rollsafe._gunicorn.access_fields import FIELDS
from rollsafe._lines.stamps import STAMP
from rollsafe.errors import LogFileError
from rollsafe.gunicorn import rotating_logs

ATOMS = {
    **{"h": "203.0.113.7", "m": "GET", "U": "/orders", "q": "", "H": "HTTP/1.1", "s": "200", "B": 12},
    **{"L": "0.250000", "f": "-", "a": "curl", "{rollsafe.request_id}e": "abc-1"},
}
"""Some of gunicorn's atoms."""


@pytest.mark.usefixtures("restored_logging")
def test_it_makes_the_directory_and_three_handlers(tmp_path: Path) -> None:
    logging.config.dictConfig(rotating_logs(tmp_path / "var" / "logs", when="h", backupCount=3))
    for name, file in ((None, "app.log"), ("gunicorn.error", "error.log"), ("gunicorn.access", "access.log")):
        (handler,) = (h for h in logging.getLogger(name).handlers if isinstance(h, SafeTimedRotatingFileHandler))
        assert handler.baseFilename == str(tmp_path / "var" / "logs" / file)
        assert (handler.when, handler.backupCount) == ("H", 3)
        assert isinstance(handler.formatter, LineFormatter)


@pytest.mark.usefixtures("restored_logging")
@pytest.mark.parametrize("as_json", [False, True])
def test_defaults_fill_fields_that_not_every_record_has(tmp_path: Path, as_json: bool) -> None:
    config = rotating_logs(
        tmp_path, format="%(otelTraceID)s %(message)s", defaults={"otelTraceID": "none"}, json=as_json
    )
    logging.config.dictConfig(config)
    logging.getLogger("shop").warning("without")
    logging.getLogger("shop").warning("with", extra={"otelTraceID": "4bf9"})
    lines = (tmp_path / "app.log").read_text().splitlines()
    if as_json:
        lines = ["{otelTraceID} {message}".format(**json.loads(line)) for line in lines]
    assert lines == ["none without", "4bf9 with"]


def compress_nothing(source: str, target: str) -> None:
    """A compression of the application's own."""


def note_rollover(path: str, interval: object) -> None:
    """A callback of the application's own."""


# Of each option of the handler, a value that is not its default.
OPTIONS: dict[str, Any] = {
    "when": "W2",
    "interval": 2,
    "backupCount": 7,
    "encoding": "latin-1",
    "utc": True,
    "atTime": datetime.time(4, 30),
    "tz": "Europe/Paris",
    "maxBytes": "1 MiB",
    "suffix": "%Y%m%d",
    "archive_dir": "old",
    "compress": compress_nothing,
    "compress_level": 3,
    "on_rollover": note_rollover,
    "max_age": "30 days",
    "max_total_bytes": "2 GiB",
    "min_free_bytes": "3 GiB",
    "permissions": 0o640,
    "lock_writes": True,
}
# What only works together with another option.
WITH: dict[str, dict[str, Any]] = {"compress_level": {"compress": "gz"}}
# `filename` and `delay` are the preset's own; what `encoding` cannot express is escaped.
NOT_PASSED = {"filename", "delay", "errors"}


def test_the_preset_has_every_option_of_the_handler_and_its_default() -> None:
    of_handler = inspect.signature(SafeTimedRotatingFileHandler).parameters
    of_preset = inspect.signature(rotating_logs).parameters
    assert set(OPTIONS) == set(of_handler) - NOT_PASSED
    assert set(OPTIONS) <= set(of_preset)
    differ = {name for name in OPTIONS if of_preset[name].default != of_handler[name].default}
    assert differ == {"when", "encoding"}
    assert all(OPTIONS[name] != of_preset[name].default for name in OPTIONS)


@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_reaches_each_of_the_handlers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    monkeypatch.chdir(tmp_path)
    config = rotating_logs("logs", **{option: OPTIONS[option], **WITH.get(option, {})})
    got = [config["handlers"][key][option] for key in ("access", "error", "app")]
    assert got == [OPTIONS[option]] * 3


@pytest.mark.usefixtures("restored_logging")
def test_a_file_that_is_not_wanted_is_not_made(tmp_path: Path) -> None:
    logging.config.dictConfig(rotating_logs(tmp_path, access=None, error=None, app="all.log"))
    logging.getLogger().warning("to the root logger")
    logging.getLogger("gunicorn.access").info("to nobody")
    assert {name for name in os.listdir(tmp_path) if not name.startswith(".")} == {"all.log"}
    assert [type(handler) for handler in logging.getLogger("gunicorn.error").handlers] == [logging.StreamHandler]
    assert not logging.getLogger("gunicorn.access").isEnabledFor(logging.INFO)


def test_gunicorns_own_level_is_left_to_gunicorn(tmp_path: Path) -> None:
    assert "level" not in rotating_logs(tmp_path)["loggers"]["gunicorn.error"]


def test_without_an_app_file_the_root_logger_stays_on_standard_output(tmp_path: Path) -> None:
    config = rotating_logs(tmp_path, app=None, level="DEBUG")
    assert config["root"] == {"level": "DEBUG", "handlers": ["console"]}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"when": "fortnight"}, ["when='fortnight'", "MIDNIGHT"]),
        ({"interval": 0}, ["interval=0"]),
        ({"backupCount": -1}, ["backupCount=-1"]),
        ({"tz": "Mars"}, ["tz='Mars'"]),
        ({"encoding": "utf-9"}, ["encoding='utf-9'"]),
        ({"access": "../access.log"}, ["access='../access.log'", "without directory"]),
        ({"error": ""}, ["error=''", "file name"]),
        ({"app": 3}, ["app=3", "file name"]),
        ({"app": "access.log"}, ["access.log", "same file", "its own name"]),
        ({"level": "LOUD"}, ["level='LOUD'", "'INFO'"]),
        ({"level": None}, ["level=None", "'INFO'"]),
        ({"format": "{message}"}, ["fmt='{message}'"]),
        ({"access_format": "%(message"}, ["fmt='%(message'"]),
    ],
)
def test_a_wrong_argument_fails_with_a_sentence(tmp_path: Path, arguments: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        rotating_logs(tmp_path, **arguments)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        LogFileError, match=r"directory='.*file/logs' cannot be made: Not a directory; make it, or give another"
    ):
        rotating_logs(tmp_path / "file" / "logs")


def test_a_directory_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: path != str(tmp_path))
    with pytest.raises(LogFileError, match=r"cannot be written by user .* give that user write permission"):
        rotating_logs(tmp_path)


def test_no_public_name_is_a_gunicorn_setting_except_the_hook() -> None:
    settings = pytest.importorskip("gunicorn.config").KNOWN_SETTINGS
    assert set(rollsafe.gunicorn.__all__) & {setting.name for setting in settings} == {"post_fork"}


@pytest.mark.usefixtures("restored_logging")
def test_stamps_end_the_lines_of_files_and_of_nothing_else(tmp_path: Path) -> None:
    config = rotating_logs(tmp_path, error=None, stamps=True)
    logging.config.dictConfig(config)
    logging.getLogger("gunicorn.access").info("GET /")
    logging.getLogger("shop").info("hello")
    for name in ("access.log", "app.log"):
        assert STAMP.search((tmp_path / name).read_bytes().rstrip(b"\n")[-20:])
    assert "stamp" not in config["formatters"]["error"]["fmt"]


@pytest.mark.usefixtures("restored_logging")
def test_json_is_one_object_a_line_with_the_fields_of_the_format(tmp_path: Path) -> None:
    logging.config.dictConfig(rotating_logs(tmp_path, json=True, stamps=True))
    logging.getLogger("shop").warning("two\nlines, \u2028 \u00e9")
    logging.getLogger("gunicorn.access").info("%(m)s", ATOMS)
    (text,) = (tmp_path / "app.log").read_text(encoding="utf-8").splitlines()
    record = json.loads(text)
    assert list(record) == ["asctime", "process", "levelname", "name", "message", "stamp"]
    assert record["message"] == "two\nlines, \u2028 \u00e9"
    assert STAMP.fullmatch(record["stamp"].encode())
    access = json.loads((tmp_path / "access.log").read_text(encoding="utf-8"))
    assert list(access) == ["asctime", *FIELDS, "stamp"]
    assert datetime.datetime.fromisoformat(access["asctime"]).tzinfo is not None


@pytest.mark.usefixtures("restored_logging")
@pytest.mark.parametrize("as_json", [False, True])
def test_an_access_format_may_name_fields_of_the_request(tmp_path: Path, as_json: bool) -> None:
    logging.config.dictConfig(
        rotating_logs(tmp_path, access_format="%(status)s %(duration)s %(referer)s %(request_id)s", json=as_json)
    )
    logging.getLogger("gunicorn.access").info("%(m)s", ATOMS)
    (line,) = (tmp_path / "access.log").read_text(encoding="utf-8").splitlines()
    if as_json:
        assert json.loads(line) == {"status": 200, "duration": 0.25, "referer": None, "request_id": "abc-1"}
    else:
        assert line == "200 0.25 - abc-1"


@pytest.mark.usefixtures("restored_logging")
@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(("zone", "offset"), [({"tz": "Asia/Kolkata"}, "+05:30"), ({"utc": True}, "+00:00")])
def test_the_zone_of_the_rollovers_is_that_of_the_lines(
    tmp_path: Path, zone: dict[str, Any], offset: str, as_json: bool
) -> None:
    logging.config.dictConfig(
        rotating_logs(tmp_path, format="%(asctime)s", datefmt=None if as_json else "%z", json=as_json, **zone)
    )
    logging.getLogger("shop").warning("here")
    text = (tmp_path / "app.log").read_text(encoding="utf-8").strip()
    assert (json.loads(text)["asctime"] if as_json else f"{text[:3]}:{text[3:]}").endswith(offset)
