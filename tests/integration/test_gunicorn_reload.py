"""The hook for a reload, called as an older gunicorn calls it: the logging follows, or goes on as it was."""

from __future__ import annotations

import logging
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
