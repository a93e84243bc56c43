"""When a quiet log is looked at: one second after a boundary, and once a minute."""

from __future__ import annotations

import threading
import time
from math import inf
from pathlib import Path

import pytest

from rollsafe import SafeTimedRotatingFileHandler
from rollsafe._backups import watch
from rollsafe._backups.watch import Watch

HOUR = 3600
NOW = 1_790_000_000 // HOUR * HOUR


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watch:
    """The watch of a handler with intervals of an hour."""
    monkeypatch.setattr(watch, "_SHORTEST_PAUSE_S", 2.0)
    monkeypatch.setattr(watch, "_LONGEST_PAUSE_S", 60.0)
    handler = SafeTimedRotatingFileHandler(tmp_path / "app.log", when="H", utc=True, backupCount=1, delay=True)
    return handler._live.maintenance.watch


@pytest.mark.parametrize(
    ("since_boundary", "pause"), [(0, 60), (1800, 60), (3541, 60), (3590, 11), (3599.5, 2), (3599.99, 2)]
)
def test_the_next_look_is_one_second_after_the_boundary_but_within_two_seconds_and_a_minute(
    watched: Watch, monkeypatch: pytest.MonkeyPatch, since_boundary: float, pause: float
) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW + since_boundary)
    watched.look(1000.0)
    assert watched.look_at == pytest.approx(1000.0 + pause)


def test_the_first_look_leaves_the_application_time_to_set_up_its_handler(watched: Watch) -> None:
    assert not watched.is_due(1000.0)
    assert watched.look_at == 1002.0
    assert not watched.is_due(1001.9)
    assert watched.is_due(1002.0)


def test_a_handler_that_was_closed_or_wants_nothing_done_is_not_looked_at(watched: Watch) -> None:
    handler = watched._handler
    handler.backupCount = 0
    assert not watched.is_due(1000.0)
    assert watched.look_at == inf
    handler.backupCount = 1
    assert not watched.is_due(1000.0)
    watched.look_at = inf
    handler._closed = True
    assert not watched.is_due(1000.0)
    assert watched.look_at == inf


def test_a_look_waits_for_no_thread_that_logs(watched: Watch) -> None:
    handler = watched._handler
    assert isinstance(handler, SafeTimedRotatingFileHandler)
    looks: list[bool] = []
    assert handler.lock
    with handler.lock:
        looker = threading.Thread(target=lambda: looks.append(handler._look(rolls=True)), daemon=True)
        looker.start()
        looker.join(120)
        assert looks == [False]


def test_looks_that_fail_are_reported_once_until_one_succeeds(watched: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    reports: list[str] = []
    monkeypatch.setattr(watched._duties, "report", lambda sentence, error: reports.append(f"{sentence}: {error}"))

    def fail(*, rolls: bool) -> bool:
        raise OSError(f"refused, rolls={rolls}")

    with monkeypatch.context() as failing:
        failing.setattr(watched._handler, "_look", fail)
        watched.look(1000.0)
        watched.look(1060.0)
        assert len(reports) == 1
        assert "has failed: refused, rolls=False" in reports[0]
    watched.look(1120.0)
    monkeypatch.setattr(watched._handler, "_look", fail)
    watched.look(1180.0)
    assert len(reports) == 2
