"""No line waits for the rollover lock longer than a bound, and who has waited in vain is patient again in time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rollsafe import FileLock
from rollsafe._live import events
from rollsafe._live.bounded_lock import LOCK_WAIT_S, BoundedLock
from tests.support.crew import Child, Crew, lock_path, stop_myself
from tests.support.logs import Make, log, suffix_of


@pytest.fixture
def bounded(live: Path) -> Iterator[BoundedLock]:
    lock = BoundedLock(str(live), shared=False)
    yield lock
    lock.close()


@contextmanager
def holder(live: Path) -> Iterator[Child]:
    """A process that is stopped while it holds the lock."""

    def hold() -> None:
        with FileLock(lock_path(live)):
            stop_myself()

    with Crew() as crew:
        child = crew.start(hold)
        child.wait_until_stopped()
        yield child


@contextmanager
def freed_at_the_first_wait(holding: Child) -> Iterator[list[str]]:
    """Let the holder go on, and come to its end, as soon as a process has found the lock busy."""
    waits: list[str] = []

    def free(event: str, path: str, count: int) -> None:
        if event == "lock_waits":
            waits.append(path)
            if len(waits) == 1:
                holding.go_on()
                holding.join()

    events.listen(free)
    try:
        yield waits
    finally:
        events._listeners.remove(free)


def test_the_bound_is_waited_once_and_any_success_clears_that(live: Path, bounded: BoundedLock) -> None:
    with holder(live) as holding:
        assert not bounded.take()
        assert bounded.lock_timeout == 0.0
        bounded.retry()
        assert bounded.lock_timeout == 0.0
        holding.go_on()
        holding.join()
        assert bounded.take()
        bounded.release()
    assert bounded.lock_timeout == LOCK_WAIT_S


def test_it_is_tried_again_without_a_purpose(live: Path, bounded: BoundedLock) -> None:
    with holder(live) as holding:
        assert not bounded.take()
        holding.go_on()
        holding.join()
        bounded.retry()
    assert bounded.lock_timeout == LOCK_WAIT_S
    assert not bounded.locked


def test_who_gives_up_has_not_waited_in_vain(live: Path, bounded: BoundedLock) -> None:
    with holder(live):
        assert not bounded.take(lambda: True)
    assert bounded.lock_timeout == LOCK_WAIT_S


def test_who_finds_that_nobody_needs_the_lock_any_more_does_not_take_it(live: Path, bounded: BoundedLock) -> None:
    with holder(live) as holding, freed_at_the_first_wait(holding):
        assert not bounded.take(lambda: True)


def test_a_signal_handler_inside_the_critical_section_has_not_waited_in_vain(bounded: BoundedLock) -> None:
    assert bounded.take()
    assert not bounded.take()
    bounded.release()
    assert bounded.lock_timeout == LOCK_WAIT_S


@pytest.mark.parametrize("to_roll", [True, False])
def test_only_a_rollover_waits_a_little_after_one_wait_in_vain(live: Path, bounded: BoundedLock, to_roll: bool) -> None:
    with holder(live) as holding:
        bounded.lock_timeout = 0.0
        with freed_at_the_first_wait(holding) as waits:
            assert bounded.take(to_roll=to_roll) is to_roll
        assert waits == [str(live)]
        if to_roll:
            bounded.release()


def test_a_lock_that_was_busy_for_a_late_line_misplaces_nothing_at_the_next_boundary(live: Path, make: Make) -> None:
    handler = make(when="H")
    log(handler, "first")
    hour = time.time() // 3600 * 3600
    with holder(live) as holding:
        log(handler, "late", hour - 36000)
        (report,) = handler.take_reports()
        assert "a late line" in report
        # The same lock is busy still when the next interval begins, but only for a moment.
        handler._file.interval = handler._naming.interval_at(hour - 3600)
        handler._file.lease_expires = handler.rolloverAt = hour
        with freed_at_the_first_wait(holding):
            log(handler, "new")
    assert live.read_text() == "new\n"
    backup = live.with_name(f"app.log.{suffix_of(hour - 3600, 'H')}")
    assert backup.read_text().splitlines() == ["first", "late"]


def test_a_process_that_has_waited_in_vain_waits_again_once_the_lock_was_free(live: Path, make: Make) -> None:
    handler = make(when="H")
    log(handler, "first")
    with holder(live):
        log(handler, "late", time.time() - 36000)
        assert len(handler.take_reports()) == 1
    handler._file.expire_lease()
    log(handler, "renews the lease")
    assert handler._live.rollover.lock.lock_timeout == LOCK_WAIT_S
    assert not handler._live.rollover.lock.locked
