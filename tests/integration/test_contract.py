"""What an application may do with a `TimedRotatingFileHandler` or a `Formatter` it may do with ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rollsafe import SafeTimedRotatingFileHandler
from tests.support.logs import Make, log


def test_shouldRollover_needs_no_record(live: Path, make: Make) -> None:
    handler = make(when="H")
    log(handler, "first")
    asks: Any = handler.shouldRollover
    assert asks(None) is False
    handler.rolloverAt = 0.0
    assert asks(None) is True


def test_a_handler_that_takes_the_place_of_FileHandler_is_made_all_the_same(
    live: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("logging.FileHandler", SafeTimedRotatingFileHandler)
    SafeTimedRotatingFileHandler(live).close()
