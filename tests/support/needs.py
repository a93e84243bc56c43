"""What tests need of the system: where it is missing they are skipped, and the reason names Debian's package.

`tests/packages.txt` lists the packages; CONTRIBUTING.md and .ci/run install those.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

import pytest

PACKAGES = frozenset((Path(__file__).parents[1] / "packages.txt").read_text(encoding="ascii").split())
ALWAYS_THERE = frozenset({"bash", "coreutils", "mount", "util-linux"})
"""Packages without which there is no Debian; other systems may lack what is in them."""

needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs the /proc of Linux")


def find_command(*names: str) -> str | None:
    """Where the first of these commands is that is installed; None if none is."""
    # Debian's users have no sbin on their PATH.
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])
    return next(filter(None, (shutil.which(name, path=path) for name in names)), None)


def require_package(name: str) -> None:
    """Skip the test that runs unless a package of Python is installed.

    It is not imported here: gevent and eventlet change the threads of a process that has only imported them.
    """
    if importlib.util.find_spec(name) is None:
        pytest.skip(_is_not_installed(name))


def needs_package(name: str) -> pytest.MarkDecorator:
    """Skip a test unless a package of Python is installed, as `require_package` does."""
    return pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=_is_not_installed(name))


def _is_not_installed(name: str) -> str:
    """The reason to skip a test for want of a package, or of a module in it."""
    return f"{name} is not installed: pip install {name.partition('.')[0]}"


def is_missing(what: str, package: str) -> str:
    """The reason to skip a test for want of `what`, which `package` has."""
    assert package in PACKAGES | ALWAYS_THERE, f"add {package} to tests/packages.txt and to CONTRIBUTING.md"
    return f"{what} is missing: apt-get install {package}"


def needs_command(*names: str, package: str) -> pytest.MarkDecorator:
    """Skip a test unless one of these commands is installed."""
    return pytest.mark.skipif(find_command(*names) is None, reason=is_missing(names[0], package))


def require_command(*names: str, package: str) -> str:
    """Where one of these commands is; skips the test that runs if none is installed."""
    command = find_command(*names)
    if command is None:
        pytest.skip(is_missing(names[0], package))
    return command


def require_file(directory: str, pattern: str, *, package: str) -> Path:
    """The first file of `directory` that fits the pattern; skips the test that runs if there is none."""
    found = sorted(Path(directory).glob(pattern))
    if not found:
        pytest.skip(is_missing(f"{directory}/{pattern}", package))
    return found[0]
