"""CPython's own tests of `logging` pass with our handler and our formatter in the place of its own.

Each exception is a documented choice, and fails here once it is none any more.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.versions import Missing, find_interpreter

PROGRAM = Path(__file__).with_name("cpython_tests.py")
SOURCE = PROGRAM.parents[2] / "src"
VERSIONS = ("3.10", "3.11", "3.12", "3.13")

COUNTED_FROM_1970 = (
    "several days or weeks are counted from 1970 and not from the start of the process, so that all processes agree"
)
GAP = "a day whose atTime the clock skips in spring begins at the skip, and not as much later as was skipped"
FAKED = "a file that the lock file notes as today's stays today's, though its last write is dated up to 5 s before"
EXCEPTIONS = {
    "TimedRotatingFileHandlerTest.test_compute_rollover_MIDNIGHT_local": GAP,
    "TimedRotatingFileHandlerTest.test_compute_rollover_W6_local": GAP,
    "TimedRotatingFileHandlerTest.test_compute_rollover_MIDNIGHT_local_interval": COUNTED_FROM_1970,
    "TimedRotatingFileHandlerTest.test_compute_rollover_W0_interval": COUNTED_FROM_1970,
    "TimedRotatingFileHandlerTest.test_compute_rollover_W6_local_interval": COUNTED_FROM_1970,
    "TimedRotatingFileHandlerTest.test_rollover_at_midnight": FAKED,
    "TimedRotatingFileHandlerTest.test_rollover_at_weekday": FAKED,
    "FileHandlerTest.test_emit_after_closing_in_write_mode": "no mode but appending; a closed handler opens again",
    "FormatterTest.test_format_validate": "the sentence of the error says more",
    "BasicConfigTest.test_encoding_errors_none": "errors=None writes an escape instead of losing the line",
}


@functools.cache
def outcomes(python: str) -> dict[str, str | None]:
    """What each test failed with under an interpreter, None if it passed; skips where the interpreter lacks them."""
    find = "import sys, test; print('libpython%d.%d-testsuite' % sys.version_info[:2]); import test.test_logging"
    found = subprocess.run([python, "-c", find], capture_output=True, text=True)
    if found.returncode != 0:
        package = found.stdout.strip() or "libpython3-testsuite"
        pytest.skip(f"{python} lacks the module test.test_logging; on Debian the package {package} has it")
    ran = subprocess.run(
        [python, str(PROGRAM)],
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    failures: dict[str, str | None] = json.loads(ran.stdout)
    return failures


def test_all_others_pass() -> None:
    found = outcomes(sys.executable)
    assert {name: text for name, text in found.items() if text and name not in EXCEPTIONS} == {}
    assert len(found) > 60


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.xfail(strict=True, reason=why)) for name, why in EXCEPTIONS.items()],
)
def test_exceptions_are_those_that_the_documentation_has(name: str) -> None:
    if name not in outcomes(sys.executable):
        pytest.skip(f"Python {sys.version.split()[0]} has no test of that name")
    text = outcomes(sys.executable)[name]
    assert text is None, text


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_every_supported_version_has_the_same_exceptions(version: str) -> None:
    """The core needs nothing installed, so that any interpreter will do."""
    try:
        python = find_interpreter(version)
    except Missing as missing:
        pytest.skip(str(missing))
    found = outcomes(str(python))
    assert {name for name, text in found.items() if text} == EXCEPTIONS.keys() & found.keys()
