"""The types of the public API, held by mypy --strict: right use is accepted, misuse is rejected."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.lowest import pyproject

pytest.importorskip("mypy", reason="mypy is in the dependency group lint")

ROOT = Path(__file__).parents[2]
API = Path(__file__).with_name("api.py")
MISUSE = re.compile(r"  # type: ignore\[(?P<code>[a-z-]+)\]$")


def mypy(source: Path, *options: str) -> str:
    """What ``mypy --strict`` says of one file or directory."""
    quiet = ["--no-error-summary", "--no-pretty", "--hide-error-context"]
    command = [sys.executable, "-m", "mypy", "--strict", *quiet, *options, str(source)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert ran.stderr == ""
    return ran.stdout


def test_right_use_is_accepted_and_every_marked_misuse_is_an_error() -> None:
    # Strict includes --warn-unused-ignores: a misuse that is accepted is an error too.
    assert mypy(API) == ""


def test_without_the_marks_exactly_the_marked_lines_are_rejected(tmp_path: Path) -> None:
    lines = API.read_text().splitlines()
    marked = {(number, found["code"]) for number, line in enumerate(lines, 1) if (found := MISUSE.search(line))}
    unmarked = tmp_path / "unmarked.py"
    unmarked.write_text("\n".join(MISUSE.sub("", line) for line in lines) + "\n")

    reported = re.findall(r":(\d+): error: .*\[([a-z-]+)\]$", mypy(unmarked), re.MULTILINE)

    assert marked
    assert {(int(number), code) for number, code in reported} == marked


@pytest.mark.slow
def test_the_package_is_typed_for_the_oldest_python_too() -> None:
    oldest = pyproject()["project"]["requires-python"].removeprefix(">=")
    assert mypy(ROOT / "src", "--python-version", oldest) == ""
