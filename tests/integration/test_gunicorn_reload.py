"""The hook for a reload, called as an older gunicorn calls it: the logging follows, or goes on as it was."""

from __future__ import annotations

import logging
import os
import signal
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rollsafe import SafeTimedRotatingFileHandler
from rollsafe.gunicorn import on_reload, rotating_logs

pytest.importorskip("gunicorn", reason="gunicorn is not installed: pip install rollsafe[gunicorn]")

from gunicorn.config import Config
from gunicorn.glogging import Logger

pytestmark = pytest.mark.usefixtures("restored_logging")


def configured(logconfig_dict: dict[str, Any]) -> Config:
    """A gunicorn configuration with that logging."""
    cfg = Config()
    cfg.set("logconfig_dict", logconfig_dict)
    return cfg


def test_the_logging_follows_a_configuration_that_gunicorn_has_not_set_up(tmp_path: Path) -> None:
    logger = Logger(configured(rotating_logs(tmp_path, when="h")))
    (before,) = logger.error_log.handlers
    on_reload(SimpleNamespace(log=logger, cfg=configured(rotating_logs(tmp_path, when="W0"))))
    (after,) = logger.error_log.handlers
    assert isinstance(after, SafeTimedRotatingFileHandler)
    assert (after.when, before.stream) == ("W0", None)


def test_logging_that_gunicorn_has_set_up_is_left_alone(tmp_path: Path) -> None:
    cfg = configured(rotating_logs(tmp_path))
    logger = Logger(cfg)
    before = logger.error_log.handlers[:]
    on_reload(SimpleNamespace(log=logger, cfg=cfg))
    assert logger.error_log.handlers == before


def test_logging_that_cannot_be_set_up_leaves_the_former_and_says_why(tmp_path: Path) -> None:
    logger = Logger(configured(rotating_logs(tmp_path, when="h")))
    wrong = rotating_logs(tmp_path, when="W0")
    wrong["handlers"]["error"]["level"] = "LOUD"
    on_reload(SimpleNamespace(log=logger, cfg=configured(wrong)))
    (handler,) = logger.error_log.handlers
    assert isinstance(handler, SafeTimedRotatingFileHandler)
    assert handler.when == "H"
    text = (tmp_path / "error.log").read_text(encoding="utf-8")
    assert text.count("the logging of the reloaded configuration cannot be set up, and the former goes on") == 1
    assert "Unable to configure handler 'error'" in text
    logging.getLogger("shop").warning("a line")
    assert "a line" in (tmp_path / "app.log").read_text(encoding="utf-8")


class Interrupted(Logger):  # type: ignore[misc]  # gunicorn publishes no types
    """A worker ends whenever gunicorn has taken its own handler for the error log."""

    def _set_handler(self, *arguments: Any, **keywords: Any) -> None:
        super()._set_handler(*arguments, **keywords)
        os.kill(os.getpid(), signal.SIGCHLD)


@pytest.mark.parametrize("threads", [0, 1], ids=["alone", "beside another thread"])
def test_a_line_of_a_signal_handler_in_the_middle_of_a_reload_goes_to_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], threads: int
) -> None:
    end = threading.Event()
    others = [threading.Thread(target=end.wait) for _ in range(threads)]
    for other in others:
        other.start()
    logger = Interrupted(configured(rotating_logs(tmp_path, when="h")))

    def on_end(*_: object) -> None:
        logger.error("a worker has ended")

    before = signal.signal(signal.SIGCHLD, on_end)
    try:
        on_reload(SimpleNamespace(log=logger, cfg=configured(rotating_logs(tmp_path, when="W0"))))
    finally:
        kept = signal.signal(signal.SIGCHLD, before)
        end.set()
        for other in others:
            other.join()
    assert "a worker has ended" in (tmp_path / "error.log").read_text(encoding="utf-8")
    assert kept is on_end
    assert "a worker has ended" not in capsys.readouterr().err
