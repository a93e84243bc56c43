"""When a quiet log is looked at: one second after a boundary, and once a minute."""

from __future__ import annotations

import time
from math import inf
from pathlib import Path

import pytest

from rollsafe import SafeTimedRotatingFileHandler
from rollsafe._backups import looks as looks_module
from rollsafe._backups.looks import Looks

HOUR = 3600
NOW = 1_790_000_000 // HOUR * HOUR


@pytest.fixture
def looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Looks:
    """The looks of a handler with intervals of an hour."""
    monkeypatch.setattr(looks_module, "_SHORTEST_PAUSE_S", 2.0)
    monkeypatch.setattr(looks_module, "_LONGEST_PAUSE_S", 60.0)
    handler = SafeTimedRotatingFileHandler(tmp_path / "app.log", when="H", utc=True, backupCount=1, delay=True)
    return handler._live.maintenance.looks


@pytest.mark.parametrize(
    ("since_boundary", "pause"), [(0, 60), (1800, 60), (3541, 60), (3590, 11), (3599.5, 2), (3599.99, 2)]
)
def test_the_next_look_is_one_second_after_the_boundary_but_within_two_seconds_and_a_minute(
    looks: Looks, monkeypatch: pytest.MonkeyPatch, since_boundary: float, pause: float
) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW + since_boundary)
    looks.look(1000.0)
    assert looks.look_at == pytest.approx(1000.0 + pause)


def test_the_first_look_leaves_the_application_time_to_set_up_its_handler(looks: Looks) -> None:
    assert not looks.are_due(1000.0)
    assert looks.look_at == 1002.0
    assert not looks.are_due(1001.9)
    assert looks.are_due(1002.0)


def test_a_handler_that_was_closed_or_wants_nothing_done_is_not_looked_at(looks: Looks) -> None:
    handler = looks._handler
    handler.backupCount = 0
    assert not looks.are_due(1000.0)
    assert looks.look_at == inf
    handler.backupCount = 1
    assert not looks.are_due(1000.0)
    looks.look_at = inf
    handler._closed = True
    assert not looks.are_due(1000.0)
    assert looks.look_at == inf
