"""Fixtures that tests of several directories use."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def public_directory() -> Iterator[Path]:
    """A directory that other users may enter, with `logs` in it; pytest's own is closed to them."""
    directory = Path(tempfile.mkdtemp(prefix="rollsafe-"))
    directory.chmod(0o755)
    (directory / "logs").mkdir()
    yield directory
    shutil.rmtree(directory)
