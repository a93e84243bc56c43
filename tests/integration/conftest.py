"""What tests of single handlers begin and end with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.crew import WatchedHandler
from tests.integration.logs import Make


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """The live file of a test."""
    return tmp_path / "app.log"


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
