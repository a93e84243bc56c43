"""The work of a command grows with the number of backups, not with its square, and is little for each of them.

The tests count the calls of Python functions, of ours and of C, because their number is the same in each run.
"""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from rollsafe import SafeTimedRotatingFileHandler
from rollsafe._backups.excess import find_excess
from rollsafe._backups.quiet import QuietFiles
from rollsafe._backups.retention import Limits
from rollsafe.schedule import Schedule
from rollsafe.tools.catalog import logs_at
from rollsafe.tools.prune import removals_by_author
from rollsafe.tools.status import Openers, status_of

screen = pytest.importorskip("rollsafe.tools.screen", reason="the packages of the command are not installed")

# In March, so that the backups cross no change of the clock: a search for that is no work for each file.
NEWEST = 1_773_964_800
LENGTHS = {"M": 60, "H": 3600, "D": 86400}


def make_log(directory: Path, when: str, count: int, *, by: str = "") -> Path:
    """A log with backups of `count` intervals, made by a handler with another `when` if `by` is given."""
    live = directory / "app.log"
    handler = SafeTimedRotatingFileHandler(live, when=when, tz="Europe/Paris", backupCount=1, compress="gz")
    handler.emit(logging.makeLogRecord({"msg": "a line"}))
    handler.close()
    schedule = Schedule(by or when, tz="Europe/Paris")
    for number in range(count):
        suffix = schedule.interval(NEWEST - number * LENGTHS[by or when]).suffix
        live.with_name(f"app.log.{suffix}.gz").touch()
    return live


def show_status(live: Path) -> None:
    """The command `status`."""
    console = screen.Console(file=io.StringIO(), highlight=False)
    screen.show_status(console, [status_of(log, NOBODY) for log in logs_at([live])], NEWEST)


def show_removals(live: Path) -> None:
    """The command `prune --dry-run`."""
    console = screen.Console(file=io.StringIO(), highlight=False)
    (log,) = logs_at([live])
    gone, _ = removals_by_author(log, Limits(1))
    screen.show_removals(console, log, Limits(1), gone, dry_run=True)


def select(live: Path) -> None:
    """What the maintenance of a handler does to find the backups that exceed the limits."""
    handler = SafeTimedRotatingFileHandler(live, when="H", tz="Europe/Paris", backupCount=1, delay=True)
    duties = handler._live.maintenance.duties
    find_excess(duties.listings(), handler._naming.recognisers(), duties.limits(), QuietFiles())
    handler.close()


class Nobody(Openers):
    """No process has a file open: the processes of this machine are not counted."""

    def __init__(self) -> None:
        super().__init__()
        self._open.clear()


NOBODY = Nobody()
MOST: dict[Callable[[Path], None], int] = {
    show_status: 800,
    show_removals: 800,
    select: 400 if sys.version_info >= (3, 11) else 500,
}
"""Calls for each backup; Python 3.10 makes a few more of them than later ones."""


def calls_of(work: Callable[[], object]) -> int:
    """The number of functions that were called."""
    calls = 0

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return calls


@pytest.mark.parametrize(
    ("command", "when", "by"),
    [
        (show_status, "H", ""),
        (show_removals, "D", ""),
        (select, "H", "M"),
        *(
            pytest.param(command, when, by, marks=pytest.mark.slow)
            for command in (show_status, show_removals, select)
            for when, by in (("H", ""), ("D", ""), ("M", ""), ("H", "M"), ("H", "D"))
        ),
    ],
)
def test_the_work_for_each_backup_is_little_and_does_not_grow(
    command: Callable[[Path], None], when: str, by: str, tmp_path: Path
) -> None:
    calls = {}
    for count in (10, 30, 90):
        (tmp_path / str(count)).mkdir()
        live = make_log(tmp_path / str(count), when, count, by=by)
        command(live)
        calls[count] = calls_of(lambda live=live: command(live))  # type: ignore[misc]
    few, many = (calls[30] - calls[10]) / 20, (calls[90] - calls[30]) / 60
    assert many < 1.1 * few
    assert many < MOST[command]
