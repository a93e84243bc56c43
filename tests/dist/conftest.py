"""The built files, and environments to install them into."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.environments import Environment
from tests.support.servers import ROOT


def _only(pattern: str) -> Path:
    """The only file of that name in the folder that `make dist` builds into."""
    built = sorted((ROOT / "dist").glob(pattern))
    assert len(built) == 1, f"dist/{pattern}: {len(built)} files; make dist builds one"
    return built[0]


@pytest.fixture(scope="session")
def wheel() -> Path:
    """The wheel that was built."""
    return _only("rollsafe-*.whl")


@pytest.fixture(scope="session")
def sdist() -> Path:
    """The sdist that was built."""
    return _only("rollsafe-*.tar.gz")


@pytest.fixture
def unpacked(sdist: Path, tmp_path: Path) -> Path:
    """The directory that comes out of the sdist, new for each test."""
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / sdist.name.removesuffix(".tar.gz")
