"""A subclass, or the application, may set `baseFilename`, as with the standard library's handler: lines go there."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.crew import WatchedHandler
from tests.support.logs import Make, log, wait_for_second_after


class Dated(WatchedHandler):
    """The file that is written carries a number, as others have the date in it."""

    number = 0
    calls_super = False

    def doRollover(self) -> None:
        self.number += 1
        path = Path(self.baseFilename).with_name(f"app.{self.number}.log")
        if self.calls_super:
            self.baseFilename = str(path)
            super().doRollover()
            return
        self.stream.close()
        self.stream = None
        self.baseFilename = str(path)
        self.stream = self._open()
        self.rolloverAt = self.computeRollover(time.time())


class DatedBySuper(Dated):
    """The same, which leaves the opening to the base class."""

    calls_super = True


def texts(live: Path) -> dict[str, str]:
    """What each file holds."""
    return {path.name: path.read_text() for path in live.parent.iterdir() if path.name[0] != "." and path.is_file()}


@pytest.mark.parametrize("kind", [Dated, DatedBySuper])
@pytest.mark.parametrize("arguments", [{}, {"compress": "gz", "backupCount": 3}, {"lock_writes": True}], ids=str)
def test_an_override_that_names_the_next_file_in_doRollover_loses_nothing(
    live: Path, make: Make, kind: type[Dated], arguments: dict[str, Any]
) -> None:
    handler = make(live, kind=kind, when="S", **arguments)
    for number in range(3):
        wait_for_second_after(log(handler, f"line {number}"))
    log(handler, "line 3")
    log(handler, "line 4")
    found = texts(live)
    assert sorted("".join(found.values()).splitlines()) == [f"line {number}" for number in range(5)]
    assert found["app.log"] == "line 0\n"
    assert found["app.1.log"] == "line 1\n"
    assert not [name for name in found if name.count(".") > 2], "nothing was renamed"


def test_lines_go_to_the_file_that_baseFilename_names_from_then_on(live: Path, make: Make, tmp_path: Path) -> None:
    handler = make(live, when="H")
    log(handler, "here")
    (tmp_path / "elsewhere").mkdir()
    handler.baseFilename = str(tmp_path / "elsewhere" / "other.log")
    log(handler, "there")
    assert texts(live)["app.log"] == "here\n"
    assert texts(tmp_path / "elsewhere" / "x") == {"other.log": "there\n"}
    assert handler.baseFilename == str(tmp_path / "elsewhere" / "other.log")
    handler.doRollover()
    log(handler, "after a rollover")
    assert len(texts(tmp_path / "elsewhere" / "x")) == 2
    assert list(texts(live)) == ["app.log"]


def test_a_relative_path_is_made_absolute_and_the_same_path_changes_nothing(
    live: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = make(live, when="H")
    log(handler, "one")
    file = handler._file
    handler.baseFilename = str(live)
    log(handler, "two")
    assert handler._file is file
    monkeypatch.chdir(live.parent)
    handler.baseFilename = "other.log"
    assert handler.baseFilename == str(live.with_name("other.log"))
    log(handler, "three")
    assert texts(live) == {"app.log": "one\ntwo\n", "other.log": "three\n"}


def test_a_file_that_cannot_be_opened_keeps_the_lines_until_it_can(live: Path, make: Make, tmp_path: Path) -> None:
    handler = make(live, when="H")
    log(handler, "one")
    handler.baseFilename = str(tmp_path / "missing" / "app.log")
    log(handler, "two")
    handler.take_reports()
    (tmp_path / "missing").mkdir(exist_ok=True)
    handler.flush()
    log(handler, "three")
    handler.close()
    handler.take_reports()
    lines = [path.read_text().splitlines() for path in tmp_path.rglob("app.log")]
    assert sorted(line for each in lines for line in each) == ["one", "three", "two"]
