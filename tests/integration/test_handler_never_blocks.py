"""No line is blocked by processes that are stopped in a rollover or wait for it, or by signal handlers that raise."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from rollsafe import FileLock
from rollsafe._live import renewal
from rollsafe._live.open_file import OpenFile
from rollsafe._timing import LEASE_S
from tests.support.clock import StandingClock
from tests.support.crew import Crew, lock_path, stop_myself
from tests.support.logs import Make, log, set_monotonic, suffix_of, wait_for_second_after
from tests.support.servers import wait_until
from tests.support.texts import Boundary, all_lines, backups


def test_nobody_is_in_the_way_of_an_earlier_line_during_the_quiet_moment(
    live: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = make(when="H")
    boundary = handler.rolloverAt
    clock = boundary + 0.001
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        nonlocal clock
        slept.append(seconds)
        # While one thread waits, another one writes a line of the old interval, under the live name.
        thread = threading.Thread(target=log, args=(handler, "in flight", boundary - 0.001))
        thread.start()
        thread.join()
        assert live.read_text() == "in flight\n"
        clock += seconds + 1e-6

    monkeypatch.setattr(time, "time", lambda: clock)
    monkeypatch.setattr(time, "sleep", sleep)
    log(handler, "first of the new hour", boundary + 0.001)
    assert slept == [pytest.approx(renewal.LINGER_S - 0.001, abs=1e-4)]
    assert live.read_text() == "first of the new hour\n"


@pytest.mark.parametrize("ahead", [0.5, 3600, 1e12])
@pytest.mark.parametrize("way", ["handle", "write_line"])
def test_a_record_ahead_of_our_clock_waits_for_nothing(
    live: Path, make: Make, monkeypatch: pytest.MonkeyPatch, ahead: float, way: str
) -> None:
    handler = make(when="H")
    boundary = handler.rolloverAt
    log(handler, "opens the file", boundary - 1800)
    clock = Boundary(boundary - 1800, monkeypatch)
    for _ in range(3):
        if way == "handle":
            log(handler, "ahead", clock.now + ahead)
        else:
            handler.write_line("ahead", clock.now + ahead)
    assert clock.slept == []
    assert live.read_text().splitlines() == ["opens the file", *["ahead"] * 3]


def test_lines_go_on_while_another_process_is_stopped_inside_the_rollover(live: Path, make: Make) -> None:
    handler = make()
    first = log(handler, "first")

    def stop_with_the_lock() -> None:
        with FileLock(lock_path(live)):
            stop_myself()

    with Crew() as crew:
        crew.start(stop_with_the_lock).wait_until_stopped()
        wait_for_second_after(first)
        for number in range(100):
            log(handler, f"line{number}")
        assert all_lines(live) == sorted(["first", *(f"line{number}" for number in range(100))])
        (report,) = handler.take_reports()
        assert "could not be locked within" in report

    def is_made_up_for() -> bool:
        log(handler, "after")
        return suffix_of(first) in backups(live)

    wait_until(is_made_up_for, "the rollover is made up for")
    assert "after\n" in live.read_text()


def test_a_refused_rollover_is_tried_again_with_the_next_lease_and_not_with_each_line(
    live: Path, make: Make, monkeypatch: pytest.MonkeyPatch, standing_clock: StandingClock
) -> None:
    handler = make()
    log(handler, "first")
    standing_clock.go_on(1)
    tick = time.monotonic()
    set_monotonic(monkeypatch, lambda: tick)
    attempts: list[float] = []

    def refuse(file: OpenFile, now: float) -> None:
        attempts.append(now)
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(live))

    monkeypatch.setattr(handler._live.rollover, "roll", refuse)
    for lease in (1, 2):
        for number in range(10):
            log(handler, f"line {number}")
        assert len(attempts) == lease
        standing_clock.go_on(LEASE_S)
    assert len(live.read_text().splitlines()) == 21
    assert len(handler.take_reports()) == 1


def test_a_worker_that_waits_to_roll_goes_on_as_soon_as_another_has_renamed(
    live: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = make(when="H")
    log(handler, "first")
    locked, asked, renamed = (multiprocessing.Event() for _ in range(3))

    def rename_and_keep_the_lock() -> None:
        rollover = handler._live.rollover
        rollover.lock.acquire()
        locked.set()
        assert asked.wait(120)
        assert handler._file.interval is not None
        status = os.lstat(live)
        rollover._rename_live(status, handler._file.interval)
        rollover._create_like(status, time.time())
        renamed.set()
        stop_myself()

    lock = handler._live.rollover.lock
    acquire = lock.acquire

    def wait_for_lock(timeout: float | None = None, *how: Any) -> bool:
        taken = acquire(timeout, *how)
        if not taken and not asked.is_set():
            asked.set()
            assert renamed.wait(120)
        return taken

    with Crew() as crew:
        crew.start(rename_and_keep_the_lock)
        assert locked.wait(120)
        monkeypatch.setattr(lock, "acquire", wait_for_lock)
        handler.rolloverAt = 0.0
        handler._file.expire_lease()
        log(handler, "second")
    assert asked.is_set()
    assert live.read_text() == "second\n"
    assert list(backups(live).values()) == ["first\n"]


def test_a_signal_handler_that_raises_as_soon_as_the_lock_is_taken_leaves_it_free(live: Path, make: Make) -> None:
    class Interrupted:
        """A lock during whose acquisition a signal arrives."""

        def __init__(self, lock: Any) -> None:
            self.lock = lock
            self.release = lock.release

        def acquire(self) -> None:
            self.lock.acquire()
            signal.raise_signal(signal.SIGUSR2)

    handler: Any = make(when="H")
    lock: Any = handler.lock
    handler.lock = Interrupted(lock)
    before = signal.signal(signal.SIGUSR2, lambda *_: sys.exit("as a worker's handler of SIGABRT does"))
    try:
        with pytest.raises(SystemExit):
            log(handler, "never begun")
    finally:
        signal.signal(signal.SIGUSR2, before)
        handler.lock = lock
    taken: list[bool] = []

    def take() -> None:
        taken.append(lock.acquire(blocking=False))
        lock.release()

    other = threading.Thread(target=take)
    other.start()
    other.join()
    assert taken == [True]


@pytest.mark.parametrize(("created", "reports"), [(float("nan"), 0), (-1e20, 1), (1e20, 0), (-1e12, 1)])
def test_a_record_of_an_impossible_time_is_written_and_holds_up_nothing(
    live: Path, make: Make, created: float, reports: int
) -> None:
    handler = make(when="H")
    log(handler, "impossible", created)
    log(handler, "next")
    assert live.read_text() == "impossible\nnext\n"
    assert ["a late line" in report for report in handler.take_reports()] == [True] * reports
