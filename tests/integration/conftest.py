"""What tests of single handlers begin and end with."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rollsafe import FileLock
from rollsafe._backups import maintenance_pass, watch
from tests.support.clock import StandingClock
from tests.support.crew import WatchedHandler
from tests.support.logs import Make


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """The live file of a test."""
    return tmp_path / "app.log"


@pytest.fixture
def lines() -> bytes:
    """What `source` holds; a module may have its own."""
    return b"a line of a log\n" * 1000


@pytest.fixture
def source(tmp_path: Path, lines: bytes) -> Path:
    """A backup."""
    path = tmp_path / "app.log.2026-11-24"
    path.write_bytes(lines)
    path.chmod(0o640)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    return path


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[FileLock]:
    """The lock of `live`."""
    lock = FileLock(tmp_path / ".app.log.lock")
    yield lock
    lock.close()


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """The maintenance thread waits hardly at all until a backup is quiet: nobody else writes here."""
    monkeypatch.setattr(maintenance_pass, "QUIET_S", 0.1)
    monkeypatch.setattr(maintenance_pass, "UNUSED_S", 0.15)


@pytest.fixture
def looks_often(_only_lines_roll: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs for which no line comes are looked at often."""
    monkeypatch.setattr(watch, "_SHORTEST_PAUSE_S", 0.05)
    monkeypatch.setattr(watch, "_LONGEST_PAUSE_S", 0.2)


@pytest.fixture
def standing_clock(monkeypatch: pytest.MonkeyPatch) -> StandingClock:
    """The wall clock of the test; see there."""
    return StandingClock(monkeypatch)


@pytest.fixture
def usual() -> dict[str, Any]:
    """The arguments that `make` gives unless the test gives others; a module may have its own."""
    return {"when": "S", "utc": True}


@pytest.fixture
def make(live: Path, usual: dict[str, Any]) -> Iterator[Make]:
    """Makes handlers of `live`, and closes them; a report that the test does not take is a failure."""
    made: list[WatchedHandler] = []

    def make_handler(
        path: Path = live, /, kind: type[WatchedHandler] = WatchedHandler, **arguments: Any
    ) -> WatchedHandler:
        handler = kind(path, **(usual | arguments))
        made.append(handler)
        return handler

    yield make_handler
    for handler in made:
        handler.close()
    assert [text for handler in made for text in handler.reported] == []
