"""A rotator of the application: called once for each rolled file, and never for a name that there is.

In the standard library it gets the live file, which is opened anew afterwards whatever it has left. Here it gets a file
that nobody writes any more.
"""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rollsafe._backups import failures
from tests.support.logs import Make, log
from tests.support.servers import wait_until

pytestmark = pytest.mark.usefixtures("hurry")

CONTENT = "of an earlier run\n"


@pytest.fixture
def usual() -> dict[str, Any]:
    """Hours in UTC."""
    return {"when": "H", "utc": True}


@pytest.fixture
def rolled(live: Path) -> Path:
    """A file that awaits its rotator."""
    path = live.with_name("app.log.2020-01-01_00.rolled")
    path.write_text(CONTENT)
    return path


class Rotator:
    """A rotator that counts its calls."""

    def __init__(self, act: Callable[[str, str], object]) -> None:
        self.called_for: list[str] = []
        self._act = act

    def __call__(self, source: str, dest: str) -> None:
        self.called_for.append(os.path.basename(dest))
        self._act(source, dest)


def copy_and_truncate(source: str, dest: str) -> None:
    shutil.copyfile(source, dest)
    open(source, "w").close()


def compress(source: str, dest: str) -> None:
    """As the recipes have it."""
    with open(source, "rb") as lines, gzip.open(f"{dest}.gz", "wb") as archive:
        shutil.copyfileobj(lines, archive)
    os.remove(source)


def compress_and_keep(source: str, dest: str) -> None:
    with open(source, "rb") as lines, gzip.open(f"{dest}.gz", "wb") as archive:
        shutil.copyfileobj(lines, archive)


def do_nothing(source: str, dest: str) -> None:
    pass


def contents(live: Path) -> dict[str, str]:
    """What each backup holds, by what its name has after the live file's."""
    return {
        path.name.removeprefix("app.log."): (
            gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
        )
        for path in live.parent.glob("app.log.*")
    }


@pytest.mark.parametrize(
    ("act", "left"),
    [
        (copy_and_truncate, {"2020-01-01_00": CONTENT}),
        (shutil.copyfile, {"2020-01-01_00": CONTENT}),
        (os.rename, {"2020-01-01_00": CONTENT}),
        (os.link, {"2020-01-01_00": CONTENT}),
        (compress, {"2020-01-01_00.gz": CONTENT}),
        (compress_and_keep, {"2020-01-01_00": CONTENT, "2020-01-01_00.gz": CONTENT}),
        (do_nothing, {"2020-01-01_00": CONTENT}),
    ],
)
def test_whatever_a_rotator_leaves_it_is_called_once_and_the_backup_is_whole(
    live: Path, make: Make, rolled: Path, act: Callable[[str, str], object], left: dict[str, str]
) -> None:
    rotator = Rotator(act)
    handler = make()
    handler.rotator = rotator
    log(handler, "first")
    wait_until(lambda: not rolled.exists(), "what it was called for is gone")
    assert contents(live) == left
    # What is still to be done would be done now.
    handler.doRollover()
    wait_until(lambda: len(rotator.called_for) == 2, "it is called for the next one")
    assert rotator.called_for[0] == "app.log.2020-01-01_00"
    assert rotator.called_for[1] != rotator.called_for[0]


def test_it_is_not_called_for_a_name_that_there_is_and_that_is_said_once(
    live: Path, make: Make, rolled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "_RETRY_S", 0.01)
    foreign = rolled.with_suffix("")
    foreign.write_text("another program's\n")
    rotator = Rotator(os.rename)
    handler = make()
    handler.rotator = rotator
    log(handler, "first")
    wait_until(lambda: bool(handler.reported), "it is said")
    for turn in range(3):
        handler.doRollover()
        log(handler, f"line {turn}")
        wait_until(lambda turn=turn: len(rotator.called_for) == turn + 1, "it is called for others")  # type: ignore[misc]
    assert foreign.name not in rotator.called_for
    assert (foreign.read_text(), rolled.read_text()) == ("another program's\n", CONTENT)
    (report,) = handler.take_reports()
    assert "FileExistsError" in report


def test_one_that_fails_after_a_part_of_its_work_costs_neither_its_source_nor_what_it_has_made(
    live: Path, make: Make, rolled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "_RETRY_S", 0.01)

    def fail(source: str, dest: str) -> None:
        Path(dest).write_text("a part")
        raise OSError("no space")

    handler = make()
    handler.rotator = rotator = Rotator(fail)
    log(handler, "first")
    wait_until(lambda: bool(handler.take_reports()), "it is said")
    handler.rotator = os.rename
    handler.doRollover()
    wait_until(lambda: len(contents(live)) == 3, "the next one is rotated")
    assert rotator.called_for == ["app.log.2020-01-01_00"]
    assert rolled.read_text() == CONTENT
    assert rolled.with_suffix("").read_text() == "a part"
    handler.take_reports()


def test_a_line_that_comes_after_the_copy_is_kept(live: Path, make: Make, rolled: Path) -> None:
    def copy_late(source: str, dest: str) -> None:
        shutil.copyfile(source, dest)
        with open(source, "a") as file:
            file.write("late\n")

    handler = make()
    handler.rotator = Rotator(copy_late)
    log(handler, "first")
    wait_until(lambda: bool(handler.reported), "it is said")
    assert rolled.read_text() == CONTENT + "late\n"
    (report,) = handler.take_reports()
    assert "has got lines since it was copied" in report
