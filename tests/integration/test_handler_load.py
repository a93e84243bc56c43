"""Promises P1 to P3 and P6 under load: every acknowledged line once, whole, in the file of its interval."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from rollsafe import SafeTimedRotatingFileHandler
from rollsafe._live import bounded_lock
from tests.support.load import Plan, run_load, suffix_of_seconds, torture_plans
from tests.support.oracle import audit

SECONDS = 3.6
LEAST_ROLLOVERS = 3
# On a busy machine the holder of the lock may not run for half a second. test_bounded_lock.py and test_stopped.py
# have what lines do then.
LOCK_TIMEOUT_S = 30.0
PLANS = {
    **torture_plans(SECONDS),
    "two handlers on one path": Plan(seconds=SECONDS, threads=2, handlers=2, rate=3000),
    "handler before fork, 3 kills and 3 stops a second": Plan(
        seconds=SECONDS, handler_made="before fork", kills_per_second=3, stops_per_second=3, rate=3000
    ),
    "spawned processes": Plan(seconds=SECONDS, start="spawn", rate=3000),
}


@pytest.fixture(autouse=True)
def long_lock_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a line wait for the lock, however long its holder is kept from running."""
    monkeypatch.setattr(bounded_lock, "LOCK_WAIT_S", LOCK_TIMEOUT_S)


class Maker:
    """A picklable function that makes the handler under test, in a process of the load."""

    def __init__(self, live: Path, delay: bool = False) -> None:
        self.live = live
        self.delay = delay

    def __call__(self) -> logging.Handler:
        # Again, for a process that was spawned.
        bounded_lock.LOCK_WAIT_S = LOCK_TIMEOUT_S
        return SafeTimedRotatingFileHandler(self.live, when="S", utc=True, delay=self.delay)


def assert_flawless(make_handler: Callable[[], logging.Handler], live: Path, plan: Plan) -> None:
    """Run a plan; no line may be missing, and it must have been a test of rollovers at all."""
    load = run_load(make_handler, live, plan)
    report = audit(live, load.acknowledged, suffix_of_seconds(1), kills=load.kills)
    assert report.flawless, f"{report}\n{report.examples}"
    assert load.errors == 0
    assert report.files - 1 >= LEAST_ROLLOVERS
    assert load.lines > 0


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
def test_nothing_is_lost_doubled_torn_or_misfiled(tmp_path: Path, plan: Plan) -> None:
    live = tmp_path / "app.log"
    assert_flawless(Maker(live), live, plan)


def test_nothing_is_lost_by_handlers_that_open_their_file_late(tmp_path: Path) -> None:
    live = tmp_path / "app.log"
    assert_flawless(Maker(live, delay=True), live, Plan(seconds=SECONDS, kills_per_second=2, rate=3000))
