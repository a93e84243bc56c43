"""The kinds of configurations that `rollsafe check` reads: how each is recognised, and what it becomes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from rollsafe.errors import ConfigurationError
from rollsafe.tools.config_kinds import read_any
from rollsafe.tools.logging_config import LogConfig
from rollsafe.tools.trials import in_child

OURS = "rollsafe.SafeTimedRotatingFileHandler"
DICT = (
    f'{{"version": 1, "handlers": {{"file": {{"class": "{OURS}", "filename": "/srv/logs/app.log", "backupCount": 3}}}},'
    ' "root": {"handlers": ["file"]}}'
)
SETTINGS = f"from .base import LEVEL\nTIME_ZONE = 'Asia/Tokyo'\nLOGGING = {DICT}\nLOGGING['root']['level'] = LEVEL\n"
YAML = f"""
version: 1
handlers:
  file: {{class: {OURS}, filename: /srv/logs/app.log, backupCount: 3}}
root: {{handlers: [file]}}
"""
TOML = f"""
version = 1
[handlers.file]
class = "{OURS}"
filename = "/srv/logs/app.log"
backupCount = 3
[root]
handlers = ["file"]
"""
INI = f"""
[loggers]
keys = root
[handlers]
keys = file
[formatters]
keys =
[logger_root]
handlers = file
[handler_file]
class = {OURS}
args = ('/srv/logs/app.log',)
kwargs = {{'backupCount': 3}}
"""


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("DJANGO_SETTINGS_MODULE", "GUNICORN_CMD_ARGS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A Django project as `startproject` makes it, whose programs must not be executed."""
    site = tmp_path / "orchard"
    site.mkdir()
    programs = "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'orchard.settings')\nraise SystemExit\n"
    (tmp_path / "manage.py").write_text(programs)
    (site / "wsgi.py").write_text(programs)
    (site / "__init__.py").touch()
    (site / "base.py").write_text("LEVEL = 'INFO'\n")
    (site / "settings.py").write_text(SETTINGS)
    (site / "production.py").write_text("from .settings import *\nDEBUG = False\n")
    return tmp_path


def read(path: str) -> dict[str, Any]:
    """The program that reads a configuration, and each of its handlers; empty for a log."""

    def attempt() -> dict[str, Any]:
        try:
            return told(read_any(path))
        except ConfigurationError as error:
            return {"refused": str(error)}

    def told(config: LogConfig | None) -> dict[str, Any]:
        if config is None:
            return {}
        handlers = [[each.path, each.is_ours, each.settings.backupCount, *each.loggers] for each in config.handlers]
        return {"program": config.program, "handlers": handlers, "TZ": os.environ.get("TZ"), "read": config.is_read}

    answer: dict[str, Any] = in_child(attempt)
    return answer


THE_HANDLER = [["/srv/logs/app.log", True, 3, "root"]]


@pytest.mark.parametrize(
    ("name", "text", "given"),
    [
        ("log.json", DICT, "log.json"),
        ("log.json", DICT, "json:log.json"),
        ("all.json", f'{{"logging": {DICT}, "server": {{}}}}', "all.json"),
        ("log.yaml", YAML, "log.yaml"),
        ("log.yml", YAML, "log.yml"),
        ("log.ini", INI, "log.ini"),
        ("logging.conf", INI, "logging.conf"),
        ("orchard_log.py", f"CONFIG = {DICT}\n", "orchard_log.py"),
        ("orchard_log.py", f"CONFIG = {DICT}\nOTHER = {{'version': 2}}\n", "orchard_log.py:CONFIG"),
        ("orchard_log.py", f"CONFIG = {DICT}\n", "orchard_log:CONFIG"),
        ("orchard_log.py", f"import logging.config\nlogging.config.dictConfig({DICT})\n", "orchard_log.py"),
    ],
)
def test_a_configuration_becomes_its_handlers_whatever_file_it_is_in(name: str, text: str, given: str) -> None:
    Path(name).write_text(text)
    found = read(given)
    assert (found.get("program"), found.get("handlers")) == ("", THE_HANDLER), found


def test_settings_that_call_file_config_are_read_and_configure_nothing(tmp_path: Path) -> None:
    Path("log.ini").write_text(INI)
    call = "import logging.config\nlogging.config.fileConfig('log.ini', disable_existing_loggers=False)\n"
    Path("settings.py").write_text(f"SECRET_KEY = 'k'\nLOGGING_CONFIG = None\n{call}")
    found = read("settings.py")
    assert (found["handlers"], found["read"]) == (THE_HANDLER, True)


@pytest.mark.parametrize("given", ["log.toml", "toml:log.toml", "hypercorn.toml"])
def test_a_toml_file_is_read_and_so_is_the_one_that_hypercorn_is_given(given: str) -> None:
    if sys.version_info < (3, 11):
        pytest.importorskip("tomli", reason="Python 3.10 has no reader of TOML: pip install tomli")
    Path("log.toml").write_text(TOML)
    Path("hypercorn.toml").write_text('bind = "127.0.0.1:8000"\nlogconfig = "toml:log.toml"\n')
    assert read(given)["handlers"] == THE_HANDLER


@pytest.mark.parametrize(
    "given",
    [
        *(".", "manage.py", "orchard/wsgi.py", "orchard.wsgi", "orchard/settings.py", "orchard.settings"),
        *("orchard.settings:LOGGING", "orchard/production.py", "orchard.production"),
    ],
)
def test_django_is_read_by_whatever_names_its_settings(given: str, project: Path) -> None:
    found = read(given)
    assert found["handlers"] == THE_HANDLER
    assert found["program"] == ("" if ":" in given else "Django")


def test_the_variable_of_django_counts_before_the_settings_that_manage_py_names(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "orchard" / "live.py").write_text(SETTINGS.replace("app.log", "live.log"))
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "orchard.live")
    assert read("manage.py")["handlers"][0][0] == "/srv/logs/live.log"
    assert read("orchard/settings.py")["handlers"] == THE_HANDLER


def test_intervals_are_those_of_the_zone_that_django_gives_its_process(project: Path) -> None:
    pytest.importorskip("django", reason="django is not installed: pip install django")
    assert read("manage.py")["TZ"] == "Asia/Tokyo"


@pytest.mark.parametrize(
    ("more", "is_read"),
    [
        ("", True),
        ("LOGGING_CONFIG = None\n", False),
        ("LOGGING_CONFIG = None\nimport logging.config\nlogging.config.dictConfig(LOGGING)\n", True),
    ],
)
def test_django_reads_its_configuration_unless_it_is_told_not_to(more: str, is_read: bool, project: Path) -> None:
    (project / "orchard" / "settings.py").write_text(SETTINGS + more)
    found = read(".")
    assert (found["handlers"], found["read"]) == (THE_HANDLER, is_read)


def test_a_log_is_no_configuration_whatever_its_name(tmp_path: Path) -> None:
    Path("app.json").write_text('{"message": "a line"}\n')
    Path(".app.json.lock").touch()
    Path("app.log").touch()
    assert [read(name) for name in ("app.json", "app.log", ".", "none", "none.log")] == [{}] * 5


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (
            "a.json",
            "{",
            "'a.json' cannot be read: .*; the command understands a log directory, a live file, a gunicorn",
        ),
        ("a.json", "[1]", "'a.json' is no logging configuration; the command understands"),
        ("a.yaml", "a: [", "'a.yaml' cannot be read"),
        ("a.ini", "[uwsgi]\n", r"no \[loggers\] and \[handlers\]; uWSGI itself configures no logging of Python; the"),
        ("app.py", "print('executed')", "'app.py' has no setting of gunicorn or Django, .*; the command understands"),
        ("manage.py", "", "'manage.py' names no settings; .*DJANGO_SETTINGS_MODULE"),
        ("orchard_a.py", f"A = {DICT}\nB = {DICT}\n", "several dictionaries .* A and B; name one: orchard_a.py:A"),
        ("orchard_b.py", "key = 'version'\n", "has no dictionary for dictConfig, .* MODULE:NAME"),
        ("settings.py", "1 / 0\n", "'settings' cannot be imported: ZeroDivisionError: .*; run the command in"),
        ("settings.py", "raise SystemExit('no key')\n", "'settings' cannot be imported: SystemExit: no key"),
        ("settings.py", "SECRET_KEY = 'k'\nLOGGING = ['a']\n", "is a list; give a dictionary"),
    ],
)
def test_what_cannot_be_understood_is_refused_in_a_sentence(name: str, text: str, words: str, tmp_path: Path) -> None:
    Path(name).write_text(text)
    with pytest.raises(ConfigurationError, match=words):
        raise ConfigurationError(read(name).get("refused", "nothing"))


def test_references_in_values_are_followed(tmp_path: Path) -> None:
    Path("orchard_paths.py").write_text("LOG = '/srv/logs/ext.log'\n")
    Path("log.json").write_text(DICT.replace("/srv/logs/app.log", "ext://orchard_paths.LOG"))
    Path("orchard_log.py").write_text("import json\nCONFIG = json.load(open('log.json'))\n# version\n")
    assert read("orchard_log:CONFIG")["handlers"][0][0] == "/srv/logs/ext.log"
