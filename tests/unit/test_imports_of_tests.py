"""What several tests need is in tests/support: no test module imports another, nor does anything else import one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HERE = Path(__file__)
FILES = [
    path
    for folder in ("tests", "bench", "example_app")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path != HERE
]
IMPORT = re.compile(
    r"^\s*(?:from (?P<origin>tests\b[\w.]*) import (?P<names>[^\n]*)|import (?P<module>tests\b[\w.]*))", re.MULTILINE
)


def imported_tests(source: str) -> set[str]:
    """The modules of tests that a file imports, in programs for other processes too."""
    found = set()
    for match in IMPORT.finditer(source):
        names = re.findall(r"\w+", match["names"]) if match["origin"] else []
        found |= {match["module"] or match["origin"], *(f"{match['origin']}.{name}" for name in names)}
    return {name for name in found if re.search(r"\.test_\w+$", name)}


def test_a_test_module_is_imported_only_by_a_program_of_its_own() -> None:
    assert FILES
    others = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in FILES
        for name in sorted(imported_tests(path.read_text(encoding="utf-8")))
        if name != ".".join(path.relative_to(ROOT).with_suffix("").parts)
    ]
    assert others == []


@pytest.mark.parametrize(
    ("source", "tests"),
    [
        ("from tests.test_docs import run", {"tests.test_docs"}),
        ("from tests import test_docs", {"tests.test_docs"}),
        ("import tests.unit.test_names", {"tests.unit.test_names"}),
        ("from tests.support.servers import Server", set()),
    ],
)
def test_every_form_of_import_is_seen(source: str, tests: set[str]) -> None:
    assert imported_tests(source) >= tests
    assert bool(imported_tests(source)) == bool(tests)
