"""What C code has put into the environment of the process after Python copied it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator

import pytest

from rollsafe import _environment as environment
from rollsafe._environment import unseen_variables

NAME = "UNSEEN_ROLLSAFE_FILENAME"


@pytest.fixture(autouse=True)
def nothing_else_is_unseen() -> None:
    """C code of the test process has set some already: readline sets LINES and COLUMNS."""
    os.environb.update(unseen_variables())


@pytest.fixture
def unseen() -> Iterator[str]:
    """A variable that C has and Python has not, as after uWSGI's `env =` in pyuwsgi."""
    library = ctypes.CDLL(None)
    library.setenv(NAME.encode(), b"logs/app.log=1", 1)
    yield NAME
    library.unsetenv(NAME.encode())
    os.environ.pop(NAME, None)


def test_what_python_knows_is_not_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEEN", "1")
    monkeypatch.delenv("SEEN")
    monkeypatch.setenv("SEEN_TOO", "1")
    assert unseen_variables() == {}


def test_what_c_has_set_is_found_once(unseen: str) -> None:
    assert unseen_variables() == {unseen.encode(): b"logs/app.log=1"}
    os.environb.update(unseen_variables())
    assert unseen_variables() == {}
    assert os.environ[unseen] == "logs/app.log=1"


def test_what_c_has_changed_is_found(unseen: str) -> None:
    os.environb.update(unseen_variables())
    ctypes.CDLL(None).setenv(unseen.encode(), b"other", 1)
    assert unseen_variables() == {unseen.encode(): b"other"}


def test_without_ctypes_nothing_is_found(unseen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "ctypes", None)
    assert unseen_variables() == {}
