"""Every supported version of gunicorn and of Python: found or installed once, and kept in build/versions.

Wheels only. One virtual environment for each Python holds what its worker classes need; one directory for each gunicorn
holds gunicorn alone, which is the same for every Python, and comes first on its PYTHONPATH.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from tests.support.servers import ROOT, server_environment

PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
NEWEST = "newest"
# The last release of each minor version. When the newest one has a successor, name it here before NEWEST.
# Not 24.0, which pyproject.toml excludes: its arbiter takes no notice of a worker that ends ("Unhandled signal: cld"),
# whatever logs, and replaces none until its timeout.
GUNICORNS = ("22.0", "23.0", "24.1", "25.0", "25.1", "25.2", "25.3", "26.0", "26.1", "26.2", NEWEST)
INSTALL_SECONDS = 300

_CACHE = ROOT / "build" / "versions"


class Missing(Exception):
    """A version cannot be had here; the message says why, and what would help."""


@cache
def interpreter(version: str) -> Path:
    """The interpreter of that minor version in a virtual environment of its own.

    Raises:
        Missing: There is no such Python here.
    """
    home = _CACHE / f"python{version}"
    python = home / "bin" / "python"
    with _being_made(home) as absent:
        if absent:
            # Without pip: Debian's python3 has ensurepip in a package of its own, and ours can install into it.
            _run([str(find_interpreter(version)), "-m", "venv", "--without-pip", str(home)])
    return python


@cache
def with_packages(version: str, *requirements: str) -> Path:
    """The same interpreter with those packages.

    Raises:
        Missing: There is no such Python here, or no wheel for it.
    """
    python = interpreter(version)
    stamp = _CACHE / f"python{version}" / "-".join(["installed", *requirements])
    with _being_made(stamp) as absent:
        if absent:
            _pip("--python", str(python), "install", *requirements)
            stamp.touch()
    return python


@cache
def gunicorn(version: str) -> Path:
    """A directory with the last release of that minor version of gunicorn, or with the newest gunicorn, and no more.

    Raises:
        Missing: It cannot be installed.
    """
    home = _CACHE / f"gunicorn{version}"
    with _being_made(home) as absent:
        if absent:
            # `packaging` is what gunicorn 22 to 26.0 need of others, and pure.
            pin = "" if version == NEWEST else f"=={version}.*"
            _pip("install", "--target", str(home), f"gunicorn{pin}", "packaging")
    return home


def environment_of(gunicorn_home: Path) -> dict[str, str]:
    """The environment in which a Python finds that gunicorn, and the modules of this repository."""
    paths = [str(gunicorn_home), server_environment()["PYTHONPATH"]]
    # Old packages on a new Python warn of themselves.
    return {"PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "ignore"}


def find_interpreter(version: str) -> Path:
    """An interpreter of that minor version: the one that runs, one on the PATH, or one of pyenv's.

    Raises:
        Missing: There is none.
    """
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return Path(sys.executable)
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [*(root / "versions").glob(f"{version}.*/bin/python{version}")]
    on_path = shutil.which(f"python{version}")
    # One of pyenv's shims may stand for a version that is not chosen here, and then fails.
    for candidate in [*([Path(on_path)] if on_path else []), *sorted(candidates)]:
        probe = subprocess.run([candidate, "-c", "import venv"], capture_output=True, check=False)
        if probe.returncode == 0:
            return candidate
    raise Missing(f"Python {version} is not here: install the package python{version}, or pyenv install {version}")


@contextmanager
def _being_made(path: Path) -> Iterator[bool]:
    """Whether `path` is absent, while no other test process looks or makes it; taken away if that fails half-way."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / f".{path.name}.making").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        absent = not path.exists()
        try:
            yield absent
        except BaseException:
            if absent and path.is_dir():
                shutil.rmtree(path)
            raise


def _pip(*arguments: str) -> None:
    _run([sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments, "--only-binary=:all:"])


def _run(command: Sequence[str]) -> None:
    """Run a command that installs something."""
    ran = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    if ran.returncode:
        last = [line for line in (ran.stderr or ran.stdout).splitlines() if line.strip()][-1:]
        raise Missing(f"{' '.join(command[1:])} failed: {' '.join(last)}")
