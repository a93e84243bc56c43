"""What is wrong with the wiring of gunicorn's logs is said in one sentence, once, where somebody reads it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.integration.gunicorn_setup import config, error_log
from tests.integration.servers import Server

pytest.importorskip("gunicorn", reason="gunicorn is not installed: pip install rollsafe[gunicorn]")

WORKERS = 3

SILENCING = """
import logging.config

logging.config.dictConfig({"version": 1, "root": {"level": "INFO"}})
"""
QUARRELLING = """
import logging
from rollsafe import SafeTimedRotatingFileHandler

logging.getLogger("shop").addHandler(SafeTimedRotatingFileHandler("logs/app.log", when="h"))
"""
HARMLESS = """
import logging.config
from rollsafe import SafeTimedRotatingFileHandler

logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})
logging.getLogger("shop").addHandler(SafeTimedRotatingFileHandler("logs/app.log", when="S"))
"""


def said(
    directory: Path, setup: str = "", settings: str = "", arguments: tuple[str, ...] = (), reload: bool = False
) -> str:
    """All of the error log of a server whose application sets up its logging by `setup`."""
    (directory / "wired.py").write_text(f"{setup}\nfrom tests.integration.apps import application\n", encoding="utf-8")
    with Server(
        directory, settings or config(), app="wired:application", workers=WORKERS, arguments=arguments
    ) as server:
        if reload:
            server.signal(signal.SIGHUP)
            server.wait_for_boots(2 * WORKERS)
    return error_log(directory) if (directory / "logs" / "error.log").exists() else ""


@pytest.mark.parametrize("preload_app", [False, True], ids=["no preload", "preload"])
def test_an_application_that_switches_gunicorns_loggers_off_is_told(tmp_path: Path, preload_app: bool) -> None:
    text = said(tmp_path, SILENCING, config(preload_app=preload_app))
    assert text.count("gunicorn.access and gunicorn.error were switched off") == 1
    assert text.count("give the application's configuration 'disable_existing_loggers': False") == 1


def test_two_rotations_of_one_file_are_told(tmp_path: Path) -> None:
    text = said(tmp_path, QUARRELLING)
    assert text.count("has two rotations") == 1
    assert f"{str(tmp_path / 'logs' / 'app.log')!r} has two rotations, of root (when='S'" in text
    assert "and shop (when='H'" in text


def test_log_files_that_the_preset_leaves_empty_are_told_once_for_each_configuration(tmp_path: Path) -> None:
    arguments = ("--access-logfile", "a.log", "--error-logfile", "e.log")
    text = said(tmp_path, arguments=arguments, reload=True)
    assert text.count("--access-logfile 'a.log' is not written") == 2
    assert text.count("--error-logfile 'e.log' is not written") == 2
    assert (tmp_path / "a.log").read_text() == ""


def test_output_that_is_captured_in_a_rotated_file_is_told(tmp_path: Path) -> None:
    text = said(tmp_path, settings=config(capture_output=True, errorlog="logs/error.log"))
    assert text.count("give --error-logfile a file that the preset does not have") == 1


def test_harmless_wiring_is_not_spoken_of(tmp_path: Path) -> None:
    text = said(tmp_path, HARMLESS, config(capture_output=True, errorlog="captured.log"))
    assert [words for words in ("switched off", "rotations", "not written", "rotated") if words in text] == []
    assert text.count("Booting worker") == WORKERS


@pytest.mark.parametrize("when", ["S", "h"])
@pytest.mark.parametrize("by", ["preset", "flags"])
def test_another_server_that_rolls_the_same_files_at_other_times_is_told(tmp_path: Path, when: str, by: str) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    live = first / "logs" / "access.log"
    if by == "preset":
        settings = config(f'"{first}/logs", when="{when}"')
    else:
        settings = f"""
from rollsafe.gunicorn import post_fork, rotating_logger

logger_class = rotating_logger(when="{when}")
accesslog, errorlog = "{live}", "logs/error.log"
"""
        (second / "logs").mkdir()
    with Server(first, config(), workers=1) as server:
        text = said(second, settings=settings) + error_log(first)
        (worker,) = server.workers
    told = f"{str(live)!r} is also written by process {worker} ("
    assert text.count(told) == (0 if when == "S" else 1)
    assert text.count("with when='S', interval=1, while ours has when='H', interval=1") == (
        0 if when == "S" else 1 if by == "flags" else 3
    )
