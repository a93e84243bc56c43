"""The command and other programs in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.servers import server_environment

ROOT = Path(__file__).parents[2]

HOLDER = """
import sys
from rollsafe import FileLock
lock = FileLock(sys.argv[1], byte=int(sys.argv[2]))
assert lock.acquire(timeout=120)
"""
STAY = '\nprint("ready", flush=True)\nsys.stdin.read()\n'


def run(*arguments: str, directory: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "rollsafe.cli", *arguments],
        cwd=directory,
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@contextmanager
def process(code: str, *arguments: object) -> Iterator[int]:
    """A process that has run `code` and stays; its id."""
    with subprocess.Popen(
        [sys.executable, "-c", code + STAY, *map(str, arguments)],
        env=server_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout
        try:
            assert child.stdout.readline() == b"ready\n"
            yield child.pid
        finally:
            child.kill()
