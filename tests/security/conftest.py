"""What each test here begins with: root, gunicorn, and the scene."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.scene import Scene


@pytest.fixture(autouse=True)
def only_as_root() -> None:
    """Skip where no second user can be had."""
    if os.geteuid() != 0:
        pytest.skip("only root can become a second user: run it as root, or in a container")


@pytest.fixture
def scene(only_as_root: None) -> Iterator[Scene]:
    """A scene in a directory that others may enter; pytest's own is closed to them."""
    top = Path(tempfile.mkdtemp(prefix="rollsafe-"))
    top.chmod(0o755)
    yield Scene(top)
    shutil.rmtree(top)
