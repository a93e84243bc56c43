"""Virtual environments that hold what a user installs, and nothing of the source tree."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

INSTALL_SECONDS = 300


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables of this process without those by which Python finds more than is installed."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "GUNICORN_", "VIRTUAL_"))}
    return kept | dict(extra or {})


def run(
    *command: str | os.PathLike[str],
    cwd: Path,
    environment: Mapping[str, str] | None = None,
    umask: int = -1,
    seconds: float = INSTALL_SECONDS,
) -> subprocess.CompletedProcess[str]:
    """Run a command, with the source tree on no path; both outputs are in `stdout`."""
    return subprocess.run(
        command,
        cwd=cwd,
        env=clean_environment(environment),
        umask=umask,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        check=False,
    )


def run_well(
    *command: str | os.PathLike[str], cwd: Path, environment: Mapping[str, str] | None = None, umask: int = -1
) -> str:
    """What a command writes that must end well."""
    ran = run(*command, cwd=cwd, environment=environment, umask=umask)
    assert ran.returncode == 0, f"{' '.join(map(str, command))} ended with {ran.returncode}\n{ran.stdout}"
    return ran.stdout


class Environment:
    """A virtual environment with nothing in it, not even pip, until something is installed."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.python = home / "bin" / "python"
        home.parent.mkdir(parents=True, exist_ok=True)
        run_well(sys.executable, "-m", "venv", "--without-pip", home, cwd=home.parent)

    def install(self, *arguments: str | os.PathLike[str], cwd: Path | None = None) -> None:
        """`pip install` with these arguments, by the pip of the environment that the tests run in."""
        pip = (sys.executable, "-m", "pip", "--python", self.python, "--disable-pip-version-check")
        run_well(*pip, "install", "--quiet", *arguments, cwd=cwd or self.home)

    def run(self, *arguments: str | os.PathLike[str], cwd: Path) -> str:
        """What Python writes, given these arguments in the directory `cwd`."""
        return run_well(self.python, *arguments, cwd=cwd)

    def command(self, name: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """A program of the environment that has ended."""
        return run(self.home / "bin" / name, *arguments, cwd=cwd)
