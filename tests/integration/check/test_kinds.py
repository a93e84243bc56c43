"""`rollsafe check` on configurations of Django, uvicorn and others: the faults that people meet there."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest

from rollsafe.errors import ConfigurationError, LogFileError
from rollsafe.tools import logrotate
from rollsafe.tools.checks import check_path
from rollsafe.tools.findings import ERROR, OK, WARNING, Finding
from tests.support.commands import run
from tests.support.findings import bad
from tests.support.stacks import documented

OURS = "rollsafe.SafeTimedRotatingFileHandler"


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    """A sound configuration."""
    (tmp_path / "logs").mkdir()
    file = {
        "class": OURS,
        "filename": str(tmp_path / "logs" / "app.log"),
        "backupCount": 3,
        "formatter": "line",
        "compress": "gz",
        "compress_level": 1,
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": "rollsafe.LineFormatter", "fmt": "%(asctime)s %(message)s"}},
        "handlers": {"file": file},
        "root": {"handlers": ["file"]},
    }


def of(config: dict[str, Any]) -> list[Finding]:
    """The findings about a configuration that uvicorn is given by --log-config."""
    Path("log.json").write_text(json.dumps(config))
    return check_path("log.json")


def test_all_is_well_with_a_sound_configuration_and_each_step_was_tried(config: dict[str, Any]) -> None:
    findings = of(config)
    assert bad(findings) == []
    (steps,) = [each for each in findings if each.about == "steps"]
    assert steps.what == "handler file: append, lock, rename, new live file, compress, remove"
    assert os.listdir("logs") == []


def changed(config: dict[str, Any], name: str, **options: Any) -> dict[str, Any]:
    """The configuration with a handler changed or added, and attached to the root logger."""
    made = copy.deepcopy(config)
    made["handlers"].setdefault(name, {}).update(options)
    made["root"]["handlers"] = sorted({name, *made["root"]["handlers"]})
    return made


@pytest.mark.parametrize(
    ("options", "about", "level", "words", "remedy"),
    [
        (
            {"class": "logging.handlers.TimedRotatingFileHandler"},
            "handlers",
            WARNING,
            "handler sql is a TimedRotatingFileHandler, which one process alone may use",
            f'use "{OURS}" with the same arguments',
        ),
        (
            {"class": "logging.handlers.RotatingFileHandler"},
            "handlers",
            WARNING,
            "handler sql is a RotatingFileHandler",
            "maxBytes and backupCount keep their meaning",
        ),
        (
            {"class": "concurrent_log_handler.ConcurrentRotatingFileHandler"},
            "handlers",
            WARNING,
            "handler sql is a ConcurrentRotatingFileHandler, which rotates under a lock",
            'use_gzip=True is compress="gz"',
        ),
        (
            {"class": "logging.FileHandler", "filename": "/no/such/directory/sql.log"},
            "handlers",
            ERROR,
            "the directory of handler sql does not exist",
            "mkdir -p /no/such/directory",
        ),
        (
            {"class": "logging.StreamHandler", "stream": "sys.stdout"},
            "handlers",
            ERROR,
            "stream='sys.stdout' of handler sql is a text and no stream",
            'write "stream": "ext://sys.stdout"',
        ),
        (
            {"class": "logging.FileHandler", "filename": "sql.log"},
            "handlers",
            WARNING,
            "filename='sql.log' of handler sql is relative",
            "give the full path",
        ),
        (
            {"class": OURS, "filename": "LOGS/app.log", "when": "midnight"},
            "handlers",
            ERROR,
            "it has several handlers: file (SafeTimedRotatingFileHandler) and sql (SafeTimedRotatingFileHandler)",
            "give each its own file",
        ),
        (
            {"class": "logging.FileHandler", "formatter": "long"},
            "records",
            ERROR,
            "handler sql: it names formatter 'long', and the configuration has none of that name",
            "give it what its class takes",
        ),
        (
            {"class": "shop.logs.NoSuchHandler"},
            "records",
            ERROR,
            "its class 'shop.logs.NoSuchHandler' cannot be imported",
            "give it what its class takes",
        ),
        (
            {"class": OURS, "filename": "LOGS/sql.log", "filters": ["request"]},
            "records",
            ERROR,
            "handler sql: it names filter 'request', and the configuration has none of that name",
            "give it what its class takes",
        ),
    ],
)
def test_a_fault_of_a_handler_is_found_with_its_remedy(
    options: dict[str, Any], about: str, level: str, words: str, remedy: str, config: dict[str, Any], tmp_path: Path
) -> None:
    options = {"filename": "LOGS/sql.log", **options}
    options["filename"] = options["filename"].replace("LOGS", str(tmp_path / "logs"))
    found = [each for each in bad(of(changed(config, "sql", **options))) if words in each.what]
    assert [(each.about, each.level) for each in found] == [(about, level)]
    assert remedy in found[0].remedy


def test_a_line_that_would_be_lost_is_told_with_the_field_that_its_record_lacks(
    config: dict[str, Any], tmp_path: Path
) -> None:
    config["formatters"]["id"] = {"format": "%(request_id)s %(message)s"}
    config["handlers"]["file"]["formatter"] = "id"
    config = changed(config, "sql", **{"class": "logging.FileHandler", "filename": f"{tmp_path}/b.log"})
    config["handlers"]["sql"]["formatter"] = "id"
    found = {os.path.basename(each.where): each for each in bad(of(config)) if each.about == "records"}
    assert {name: each.level for name, each in found.items()} == {"app.log": WARNING, "b.log": ERROR}
    assert all("'request_id'" in each.what for each in found.values())
    assert "lost" in found["b.log"].why


def test_loggers_of_the_server_that_are_silenced_are_named(config: dict[str, Any]) -> None:
    del config["disable_existing_loggers"]
    config["loggers"] = {"uvicorn": {"handlers": ["file", "none"]}, "gunicorn.error": {}}
    found = {each.where: each for each in bad(of(config))}
    assert set(found) == {"disable_existing_loggers", "uvicorn"}
    assert "such as gunicorn.access, django.request in" in found["disable_existing_loggers"].what
    assert "it names the handler 'none'" in found["uvicorn"].what


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"version": 2}, "dictConfig refuses the configuration: Unsupported version: 2"),
        ({"root": {"handlers": ["file"], "level": "LOUD"}}, "Unable to configure root logger: Unknown level: 'LOUD'"),
        ({"handlers": {"unused": {"class": "shop.Handler"}}}, "Unable to configure handler 'unused': Cannot resolve"),
        (
            {"formatters": {"unused": {"()": "shop.Formatter"}}},
            "Unable to configure formatter 'unused': Cannot resolve",
        ),
    ],
)
def test_a_configuration_that_dict_config_refuses_is_found_with_the_cause(
    wrong: dict[str, Any], words: str, config: dict[str, Any]
) -> None:
    for key, value in wrong.items():
        if key in ("handlers", "formatters"):
            config[key].update(value)
        else:
            config[key] = value
    (found,) = bad(of(config))
    assert (found.about, found.level, found.where) == ("records", ERROR, "log.json")
    assert words in found.what


def test_handlers_behind_a_memory_handler_are_checked(config: dict[str, Any]) -> None:
    config["handlers"]["memory"] = {"class": "logging.handlers.MemoryHandler", "capacity": 100, "target": "file"}
    config["root"]["handlers"] = ["memory"]
    findings = of(config)
    assert bad(findings) == []
    assert [each.level for each in findings if each.about == "steps"] == [OK]


def test_the_configuration_that_uvicorn_documents_needs_only_a_handler_of_ours(config: dict[str, Any]) -> None:
    uvicorn = pytest.importorskip("uvicorn.config", reason="uvicorn is not installed: pip install uvicorn")
    documented = copy.deepcopy(uvicorn.LOGGING_CONFIG)
    assert [each.what for each in bad(of(documented))] == ["no logger has a handler of rollsafe"]
    path = config["handlers"]["file"]["filename"]
    documented["handlers"]["access"] = {"class": OURS, "filename": path, "formatter": "access", "backupCount": 3}
    findings = of(documented)
    assert bad(findings) == []
    assert [each.what for each in findings if each.about == "records"] == ["each of 2 handlers took a record"]


@pytest.mark.parametrize("page", ["fastapi.md", "asgi-servers.md"])
def test_the_documented_configurations_of_asgi_servers_are_sound_but_for_their_relative_paths(page: str) -> None:
    Path("logs").mkdir()
    Path("log_config.json").write_text(documented(page, "json log_config.json"))
    findings = check_path("log_config.json")
    assert {each.what.partition("' of handler ")[0] for each in bad(findings)} == {
        "filename='logs/app.log",
        "filename='logs/access.log",
    }
    assert len([each for each in findings if each.about == "steps" and each.level == OK]) == 2


def test_the_documented_settings_of_django_are_sound(tmp_path: Path) -> None:
    start = f"from pathlib import Path\nBASE_DIR = Path({str(tmp_path)!r})\nTIME_ZONE = 'UTC'\nSECRET_KEY = 'k'\n"
    Path("settings.py").write_text(start + documented("django.md", "python settings.py"))
    findings = check_path("settings.py")
    assert bad(findings) == []
    assert [each.where for each in findings if each.about == "steps"] == [str(tmp_path / "logs" / "app.log")]


@pytest.mark.parametrize(("pattern", "found"), [("*.log", 1), ("*.txt", 0)])
def test_a_watched_file_that_logrotate_rotates_is_found(
    pattern: str, found: int, config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("rules").write_text(f"{tmp_path}/other/{pattern} {{\n daily\n}}\n")
    Path("other").mkdir()
    monkeypatch.setattr(logrotate, "PLACES", (str(tmp_path / "rules"),))
    watched = {"class": "logging.handlers.WatchedFileHandler", "filename": str(tmp_path / "other" / "sql.log")}
    faults = bad(of(changed(config, "sql", **watched)))
    assert [each.about for each in faults] == ["handlers"] * found
    assert all("is a WatchedFileHandler, and" in each.what and OURS in each.remedy for each in faults)


def test_django_that_reads_no_logging_is_found_by_the_command(config: dict[str, Any], tmp_path: Path) -> None:
    Path("settings.py").write_text(f"SECRET_KEY = 'k'\nLOGGING_CONFIG = None\nLOGGING = {config!r}\n")
    ran = run("check", "--json", "settings.py", directory=tmp_path)
    reported = [Finding(**each) for each in json.loads(ran.stdout)]
    assert (ran.returncode, ran.stderr) == (1, "")
    assert [(each.about, each.where) for each in bad(reported)] == [("loggers", "LOGGING_CONFIG")]
    assert any(each.about == "steps" and each.level == OK for each in reported)


@pytest.mark.parametrize(
    ("path", "arguments", "words"),
    [
        ("log.json", ["-w", "2"], "'log.json' is no gunicorn.conf.py, so no arguments may follow it"),
        ("nosuch.settings", [], "'nosuch.settings' does not exist; the command understands a log directory, "),
    ],
)
def test_what_cannot_be_checked_is_refused_in_a_sentence(path: str, arguments: list[str], words: str) -> None:
    Path("log.json").write_text("{}")
    with pytest.raises((ConfigurationError, LogFileError), match=words):
        check_path(path, arguments)
