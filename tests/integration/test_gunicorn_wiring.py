"""What is wrong with the wiring of gunicorn's logs is said in one sentence, once, where somebody reads it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support.gunicorn_setup import FLAGS, config, error_log
from tests.support.servers import Server

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
    (directory / "wired.py").write_text(f"{setup}\nfrom tests.support.apps import application\n", encoding="utf-8")
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


FORCING = """
import logging

logging.basicConfig(force=True)
"""
OF_ITS_OWN = """
import logging.config

logging.config.dictConfig(
    {
        "version": 1,
        "disable_existing_loggers": False,
        "root": {"handlers": ["own"]},
        "handlers": {"own": {"class": "logging.FileHandler", "filename": "own.log"}},
    }
)
"""
WRAPPING = """
import logging
import logging.handlers

(handler,) = logging.root.handlers
logging.root.handlers[:] = [logging.handlers.MemoryHandler(1, target=handler)]
"""


@pytest.mark.parametrize("preload_app", [False, True], ids=["no preload", "preload"])
@pytest.mark.parametrize(
    ("setup", "told"),
    [(FORCING, 1), (OF_ITS_OWN, 1), (WRAPPING, 0)],
    ids=["basicConfig(force=True)", "dictConfig", "wrapped"],
)
def test_a_file_whose_handler_the_application_takes_off_is_told(
    tmp_path: Path, setup: str, told: int, preload_app: bool
) -> None:
    text = said(tmp_path, setup, config(preload_app=preload_app))
    live = str(tmp_path / "logs" / "app.log")
    assert (
        text.count(f"{live!r} is not written any more, because the application has taken its handler off root") == told
    )
    assert text.count("not written any more") == told


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


INI = """
[loggers]
keys = root
[handlers]
keys =
[formatters]
keys =
[logger_root]
handlers =
"""
# Nothing of gunicorn's own beside ours, in a logger of the user's.
PLAIN_LOGGER = """
from gunicorn.glogging import Logger

class Own(Logger):
    pass

logger_class = Own
"""


@pytest.mark.parametrize(
    ("settings", "arguments", "sentences"),
    [
        ("", ["--access-logfile", "-"], ["--access-logfile '-' is not written, because logconfig_dict"]),
        (
            "",
            ["--log-syslog", "--log-syslog-to", "udp://127.0.0.1:9"],
            ["--log-syslog sends nothing of gunicorn.access and gunicorn.error"],
        ),
        (
            "",
            ["--log-syslog", "--log-syslog-to", "udp://127.0.0.1:9", "--disable-redirect-access-to-syslog"],
            ["--log-syslog sends nothing of gunicorn.error,"],
        ),
        ("", ["--capture-output"], ["--capture-output does nothing without --error-logfile"]),
        ("", ["--log-config", "log.ini"], ["--log-config 'log.ini' is not read, because logconfig_dict"]),
        ("", ["--log-config-json", "log.json"], ["--log-config-json 'log.json' is not read, because logconfig_dict"]),
        (PLAIN_LOGGER, ["--statsd-host", "127.0.0.1:9"], ["--statsd-host has no effect, because logger_class is"]),
        ("", ["--env", "ROLLSAFE_WHEN=h"], ["ROLLSAFE_WHEN has no effect"]),
        (
            "from rollsafe.gunicorn import rotating_logger\nlogger_class = rotating_logger(when='h')\n",
            [],
            ["rotating_logger(when='h') has no effect"],
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) and value else "",
)
def test_each_setting_that_the_preset_makes_vain_is_told_once(
    tmp_path: Path, settings: str, arguments: list[str], sentences: list[str]
) -> None:
    (tmp_path / "log.ini").write_text(INI)
    (tmp_path / "log.json").write_text("{}")
    text = said(tmp_path, settings=settings + config(), arguments=tuple(arguments))
    assert [text.count(sentence) for sentence in sentences] == [1] * len(sentences)
    assert text.count(" is not ") + text.count("nothing") + text.count("no effect") == len(sentences)


HEEDED = """
logconfig_dict["handlers"]["stdout"] = {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}
logconfig_dict["handlers"]["syslog"] = {"class": "logging.handlers.SysLogHandler", "address": ("127.0.0.1", 9)}
logconfig_dict["loggers"]["gunicorn.access"]["handlers"] += ["stdout", "syslog"]
logconfig_dict["loggers"]["gunicorn.error"]["handlers"] += ["syslog"]
"""


def test_flags_whose_handlers_the_configuration_has_are_not_spoken_of(tmp_path: Path) -> None:
    arguments = ("--access-logfile", "-", "--log-syslog", "--log-syslog-to", "udp://127.0.0.1:9")
    text = said(tmp_path, settings=config() + HEEDED, arguments=(*arguments, "--statsd-host", "127.0.0.1:9"))
    assert [words for words in ("not written", "sends nothing", "no effect") if words in text] == []
    assert text.count("Booting worker") == WORKERS


def test_the_rotation_of_files_that_the_flags_name_is_not_spoken_of(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    text = said(tmp_path, settings=FLAGS, arguments=("--error-logfile", "logs/error.log"))
    assert "no effect" not in text
    assert text.count("Booting worker") == WORKERS


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
