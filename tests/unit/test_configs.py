"""A gunicorn.conf.py as gunicorn reads it: its log handlers, its settings, and what is refused."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import pytest

from rollsafe import ConfigurationError, SafeTimedRotatingFileHandler
from rollsafe._settings import Settings
from rollsafe.errors import LogFileError
from rollsafe.tools.configs import ServerConfig, read_config

pytest.importorskip("gunicorn", reason="gunicorn is not installed: pip install rollsafe[gunicorn]")

PRESET = """
from rollsafe.gunicorn import post_fork, rotating_logs
logconfig_dict = rotating_logs("logs", when="h", backupCount=3, tz="Europe/Paris", error=None)
"""


@pytest.fixture(autouse=True)
def _no_arguments_from_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GUNICORN_CMD_ARGS", raising=False)
    monkeypatch.chdir(tmp_path)


def read(text: str, *arguments: str) -> ServerConfig:
    """What a configuration says."""
    Path("gunicorn.conf.py").write_text(text, encoding="utf-8")
    return read_config("gunicorn.conf.py", arguments)


def test_the_handlers_of_the_preset_are_told_with_their_files_and_settings(tmp_path: Path) -> None:
    handlers = {handler.name: handler for handler in read(PRESET).handlers}
    assert set(handlers) == {"access", "app", "error_console"}
    app = handlers["app"]
    assert (app.kind, app.is_ours, app.loggers) == (SafeTimedRotatingFileHandler, True, ("root",))
    assert app.path == str(tmp_path / "logs" / "app.log")
    assert app.settings == Settings("H", 1, tz="Europe/Paris", backupCount=3)
    assert (handlers["error_console"].path, handlers["error_console"].is_ours) == (None, False)
    assert not (tmp_path / "logs" / "app.log").exists()


def test_arguments_and_environment_count_as_for_gunicorn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--umask 7 --workers 3")
    config = read("workers = 2\numask = 1\n", "--workers", "4", "shop:app")
    assert (config.server.workers, config.server.umask, config.application) == (4, 7, "shop:app")


def test_files_of_flags_are_plain_or_of_the_logger_class(tmp_path: Path) -> None:
    plain = read("", "--access-logfile", "a.log", "--error-logfile", "/e.log").handlers
    assert [(each.name, each.path, each.kind) for each in plain] == [
        ("accesslog", str(tmp_path / "a.log"), logging.FileHandler),
        ("errorlog", "/e.log", logging.FileHandler),
    ]
    (ours,) = read(
        "from rollsafe.gunicorn import rotating_logger\n"
        "logger_class = rotating_logger(backupCount=2)\naccesslog = 'a.log'\n"
    ).handlers
    assert (ours.is_ours, ours.settings) == (True, Settings("MIDNIGHT", backupCount=2))


def test_a_json_file_is_read_and_gunicorns_defaults_are_below_it(tmp_path: Path) -> None:
    (tmp_path / "log.json").write_text(
        '{"handlers": {"file": {"class": "logging.FileHandler", "filename": "j.log"}}, "root": {"handlers": ["file"]}}'
    )
    config = read("logconfig_json = 'log.json'\n")
    assert [handler.path for handler in config.handlers] == [str(tmp_path / "j.log")]
    assert config.logging["disable_existing_loggers"] is False


def test_a_class_that_cannot_be_imported_is_no_handler_of_ours() -> None:
    config = read(
        "logconfig_dict = {'handlers': {'x': {'class': 'no.such.Handler'}}, 'root': {'handlers': ['x']},"
        " 'loggers': {}}\n"
    )
    assert [(handler.kind, handler.is_ours) for handler in config.handlers] == [(None, False)]


def test_nothing_of_this_process_is_changed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    before = (os.getcwd(), sys.argv, sys.path[:])
    read(f"chdir = {str(tmp_path / 'elsewhere')!r}\n")
    assert (os.getcwd(), sys.argv, sys.path) == before


@pytest.mark.parametrize(
    ("text", "arguments", "words"),
    [
        ("workers = 'many'\n", (), "workers|many"),
        ("1 / 0\n", (), "ZeroDivisionError"),
        ("user = 'no-such-user'\n", (), "no-such-user"),
        ("", ("--nonsense",), "nonsense"),
        (
            "from rollsafe.gunicorn import rotating_logs\nlogconfig_dict = rotating_logs('x', when='y')\n",
            (),
            "when='y'",
        ),
    ],
)
def test_what_gunicorn_refuses_is_refused_in_a_sentence(text: str, arguments: tuple[str, ...], words: str) -> None:
    with pytest.raises(ConfigurationError, match=f"gunicorn refuses 'gunicorn.conf.py'.*({words})"):
        read(text, *arguments)


def test_a_file_that_is_missing_is_refused() -> None:
    with pytest.raises(LogFileError, match="does not exist"):
        read_config("none.py")
