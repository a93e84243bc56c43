"""The tutorial, done step by step as its reader does it: files saved, commands typed, output compared."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.needs import require_command
from tests.support.servers import ROOT, server_environment, wait_until
from tests.support.snippets import Snippet, snippets_in

STEPS = snippets_in((ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8"), "tutorial.md")
# The port that the tutorial names; the test takes another, which is free.
PORT = "8000"
TIME_LIMIT = 120
PROGRAMS = {"bash": "bash", "curl": "curl", "pkill": "procps"}
"""What the tutorial types, and the package that has it."""


def commands_in(step: Snippet) -> Iterator[tuple[str, list[str]]]:
    """Each command of a console block, and the lines that are shown below it."""
    for part in re.split(r"^\$ ", step.code, flags=re.MULTILINE)[1:]:
        command, *shown = part.splitlines()
        yield command, shown


def without_numbers(line: str) -> str:
    """A line of output with stamps, dates, times and numbers made alike; one that is only a count stays."""
    return line if line.isdigit() else re.sub(r"~\w+\.\d+~|\d[\d,]*", "0", line)


@contextmanager
def terminal(command: str, directory: Path, environment: dict[str, str]) -> Iterator[None]:
    """A terminal of its own, in which the command runs."""
    process = subprocess.Popen(["bash", "-c", f"exec {command}"], cwd=directory, env=environment)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(120)
        finally:
            process.kill()
            process.wait()


def listens(port: str) -> bool:
    """Whether somebody listens on the port."""
    try:
        socket.create_connection(("127.0.0.1", int(port)), timeout=1).close()
    except OSError:
        return False
    return True


def output_of(command: str, directory: Path, environment: dict[str, str]) -> list[str]:
    """What a command that has to succeed prints."""
    ran = subprocess.run(
        ["bash", "-c", command],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, ""), f"$ {command}\n{ran.stdout}{ran.stderr}"
    return ran.stdout.splitlines()


@pytest.mark.slow
def test_every_step_of_the_tutorial_does_what_it_shows(tmp_path: Path) -> None:
    for program, package in PROGRAMS.items():
        require_command(program, package=package)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = server_environment({"PATH": path, "HOME": str(tmp_path)})
    with ExitStack() as terminals:
        for step in STEPS:
            language, _, name = step.info.partition(" ")
            code = step.code.replace(PORT, port)
            if step.not_run is not None:
                continue
            if language == "python":
                (tmp_path / name).write_text(code, encoding="utf-8")
            elif name == "first terminal":
                for command, shown in commands_in(step):
                    assert not shown, f"{step.place}: what runs in the first terminal prints nothing"
                    terminals.enter_context(terminal(command, tmp_path, environment))
                wait_until(lambda: listens(port), f"gunicorn listens on {port}")
            else:
                for command, shown in commands_in(step):
                    got = output_of(command.replace(PORT, port), tmp_path, environment)
                    expected, found = ({*map(without_numbers, lines)} for lines in (shown, got))
                    assert found == expected, f"{step.place}\n$ {command}\n" + "\n".join(got)


def test_the_tutorial_installs_extras_that_exist() -> None:
    extras = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    (wanted,) = re.findall(r'pip install "rollsafe\[([\w,]+)\]"', "".join(step.code for step in STEPS))
    assert set(wanted.split(",")) <= set(extras)
