"""Who has the sdist, and the packages of the group `test`, can run the tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.environments import run_well

pytestmark = pytest.mark.dist

SOME = ("package", "public", "reference", "open_file", "flask", "note")
WHERE = """
from pathlib import Path

import rollsafe


def test_where() -> None:
    assert Path(rollsafe.__file__).is_relative_to(Path.cwd())
"""


def test_tests_run_from_it(unpacked: Path) -> None:
    units = unpacked / "tests" / "unit"
    (units / "test_where.py").write_text(WHERE, encoding="utf-8")
    command = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--quiet")
    files = [units / f"test_{name}.py" for name in ("where", *SOME)]
    assert " passed" in run_well(*command, *files, cwd=unpacked)
