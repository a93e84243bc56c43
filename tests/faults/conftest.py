"""What tests of several modules here begin with."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """The live file of a test, in a directory of its own."""
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs" / "app.log"
