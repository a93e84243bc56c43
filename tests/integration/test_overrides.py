"""A method that the application replaces is called, whenever it does so: a redaction must not be passed over."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rollsafe import LineFormatter, SafeTimedRotatingFileHandler

Override = Callable[[pytest.MonkeyPatch, SafeTimedRotatingFileHandler], None]


def redact(*_: Any) -> str:
    """Stands for `format` of a handler or a formatter."""
    return "redacted"


OVERRIDES: dict[str, Override] = {
    "handler.format": lambda patch, handler: patch.setattr(handler, "format", redact),
    "Handler.format": lambda patch, handler: patch.setattr(SafeTimedRotatingFileHandler, "format", redact),
    "logging.Handler.format": lambda patch, handler: patch.setattr(logging.Handler, "format", redact),
    "formatter.format": lambda patch, handler: patch.setattr(handler.formatter, "format", redact),
    "LineFormatter.format": lambda patch, handler: patch.setattr(LineFormatter, "format", redact),
    "logging.Formatter.format": lambda patch, handler: patch.setattr(logging.Formatter, "format", redact),
    "formatter.formatMessage": lambda patch, handler: patch.setattr(handler.formatter, "formatMessage", redact),
    "Formatter.formatMessage": lambda patch, handler: patch.setattr(logging.Formatter, "formatMessage", redact),
    "formatter._style._fmt": lambda patch, handler: patch.setattr(handler.formatter._style, "_fmt", "redacted"),  # type: ignore[union-attr]
}


@pytest.fixture
def handler(tmp_path: Path) -> Iterator[SafeTimedRotatingFileHandler]:
    handler = SafeTimedRotatingFileHandler(tmp_path / "app.log", when="midnight")
    handler.setFormatter(LineFormatter("%(message)s"))
    yield handler
    handler.close()


def log(handler: logging.Handler, message: str) -> None:
    handler.handle(logging.LogRecord("shop", logging.INFO, __file__, 1, message, None, None))


@pytest.mark.parametrize("name", OVERRIDES)
def test_a_method_that_is_replaced_after_the_first_line_is_called_for_the_next(
    name: str, handler: SafeTimedRotatingFileHandler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log(handler, "before")
    OVERRIDES[name](monkeypatch, handler)
    log(handler, "secret")
    monkeypatch.undo()
    log(handler, "after")
    assert (tmp_path / "app.log").read_text().splitlines() == ["before", "redacted", "after"]


def test_a_lock_that_is_taken_away_is_made_again(handler: SafeTimedRotatingFileHandler, tmp_path: Path) -> None:
    class Lockless(SafeTimedRotatingFileHandler):
        def createLock(self) -> None:
            self.lock = None

    lockless = Lockless(tmp_path / "lockless.log", when="midnight")
    log(lockless, "line")
    lockless.close()
    assert (tmp_path / "lockless.log").read_text() == "line\n"
