"""`rollsafe check` tries each step of a handler beside its log, with its own options, and calls no function of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rollsafe import SafeTimedRotatingFileHandler
from rollsafe._backups import codecs
from rollsafe.tools import steps
from rollsafe.tools.logging_config import config_of
from rollsafe.tools.steps import Steps
from rollsafe.tools.trials import TrialFailed, User
from tests.support.findings import NOBODY, as_root

ALL = ["append", "lock", "rename", "new live file", "compress", "remove"]


def tried(directory: Path, user: User | None = None, **options: Any) -> Steps | None:
    """What becomes of the steps of one handler."""
    made = {"()": SafeTimedRotatingFileHandler, "filename": str(directory / "app.log"), "backupCount": 1, **options}
    config = config_of("test", "", {"version": 1, "handlers": {"file": made}, "root": {"handlers": ["file"]}})
    (handler,) = config.handlers
    return steps.try_steps(config, handler, str(directory), user)


@pytest.mark.parametrize("options", [{}, {"encoding": "ascii", "permissions": 0o600}, {"when": "s", "maxBytes": 1}])
def test_every_step_is_taken_and_nothing_is_left(options: dict[str, Any], tmp_path: Path) -> None:
    options = {"compress": "xz", "compress_level": 0, **options}
    (tmp_path / "app.log").write_text("a line of the user\n")
    found = tried(tmp_path, **options)
    assert found == Steps(ALL, None, "", [])
    assert os.listdir(tmp_path) == ["app.log"]
    assert (tmp_path / "app.log").read_text() == "a line of the user\n"


def test_functions_of_the_application_are_not_called(tmp_path: Path) -> None:
    def called(*arguments: object) -> None:
        (tmp_path / "called").touch()

    options: dict[str, Any] = {"on_rollover": called, "compress": called, ".": {"rotator": called}}
    found = tried(tmp_path, **options)
    assert found == Steps(
        [step for step in ALL if step != "compress"], None, "", ["on_rollover", "compress", "rotator"]
    )
    assert os.listdir(tmp_path) == []


def test_a_handler_that_cannot_be_made_takes_no_step(tmp_path: Path) -> None:
    assert tried(tmp_path, when="fortnight") is None
    assert os.listdir(tmp_path) == []


def _refuse(*arguments: Any, **options: Any) -> Any:
    raise OSError(28, "No space left on device", "there")


@pytest.mark.parametrize(
    ("step", "break_it"),
    [
        ("append", lambda patch: patch.setattr(SafeTimedRotatingFileHandler, "write_line", _refuse)),
        ("lock", lambda patch: patch.setattr(steps, "FileLock", _refuse)),
        ("rename", lambda patch: patch.setattr(SafeTimedRotatingFileHandler, "doRollover", lambda self: None)),
        ("compress", lambda patch: patch.setattr(codecs.StreamCodec, "write", _refuse)),
        ("remove", lambda patch: patch.setattr(steps._Trial, "_remove", _refuse)),
    ],
)
def test_the_step_that_fails_is_named_and_nothing_is_left(
    step: str, break_it: Callable[[pytest.MonkeyPatch], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_it(monkeypatch)
    found = tried(tmp_path, compress="gz")
    monkeypatch.undo()
    assert found is not None
    assert (found.done, found.failed) == (ALL[: ALL.index(step)], step)
    assert ("No space left" in found.reason) == (step != "rename")
    assert os.listdir(tmp_path) == []


@as_root
def test_the_steps_are_those_of_the_user_who_writes(public_directory: Path) -> None:
    place = public_directory / "logs"
    place.mkdir(exist_ok=True)
    os.chown(place, NOBODY.uid, NOBODY.gid)
    place.chmod(0o700)
    found = tried(place, NOBODY)
    assert found is not None
    assert found.failed is None
    place.chmod(0o500)
    with pytest.raises(TrialFailed, match="Permission denied"):
        tried(place, NOBODY)
