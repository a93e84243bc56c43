"""The way of a line to a file that several hosts write, on a local file system; tests/hosts has real ones."""

from __future__ import annotations

import logging
import multiprocessing
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rollsafe import ConfigurationError, FileLock, SafeTimedRotatingFileHandler
from tests.support.crew import Child, WatchedHandler, lock_path, log_lines, suffix_of_day
from tests.support.load import Plan, run_load, suffix_of_seconds
from tests.support.oracle import LINE_FORMAT, audit

# What GlusterFS needs to show a renamed file to the other hosts at once: docs/reference/file-systems.md.
GLUSTER_OPTIONS = (["performance.stat-prefetch=off"], ["--direct-io-mode=enable"])


@pytest.fixture
def shared(live: Path) -> Iterator[WatchedHandler]:
    """A handler that treats a local file as a shared one."""
    handler = WatchedHandler(live, when="D", utc=True, lock_writes=True)
    handler.setFormatter(logging.Formatter(LINE_FORMAT))
    yield handler
    handler.close()


def test_a_local_file_is_written_without_the_lock_and_one_can_ask_for_it(live: Path) -> None:
    for asked, locks in ((None, False), (True, True), (False, False)):
        handler = SafeTimedRotatingFileHandler(live, lock_writes=asked)
        assert handler.lock_writes is locks
        handler.close()


def test_something_else_than_a_truth_value_is_refused(live: Path) -> None:
    with pytest.raises(ConfigurationError, match="lock_writes='auto' must be True, False, or None"):
        SafeTimedRotatingFileHandler(live, lock_writes="auto")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "plan",
    [
        Plan(seconds=3.2, rate=100, sizes=(60, 200, 9000)),
        Plan(seconds=3.2, threads=2, rate=100, kills_per_second=2, handler_made="before fork"),
    ],
    ids=["mixed sizes", "2 kills a second"],
)
def test_nothing_is_lost_doubled_torn_or_misfiled_where_each_line_takes_the_lock(
    live: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine the lock may take longer than the bound; lines then wait in memory, and go with their process.
    monkeypatch.setattr("rollsafe._live.bounded_lock.LOCK_WAIT_S", plan.patience)
    load = run_load(lambda: SafeTimedRotatingFileHandler(live, when="S", utc=True, lock_writes=True), live, plan)
    report = audit(live, load.acknowledged, suffix_of_seconds(1), kills=load.kills)
    assert report.flawless, f"{report}\n{report.examples}"
    assert report.files > 3


def hold(live: Path, work: Callable[[], None]) -> None:
    """Do `work` while another process holds the lock."""
    ready, go = multiprocessing.Event(), multiprocessing.Event()

    def hold_until_told() -> None:
        with FileLock(lock_path(live)):
            ready.set()
            go.wait()

    holder = Child(hold_until_told)
    try:
        assert ready.wait(120)
        work()
        go.set()
        holder.join()
    finally:
        holder.end()


def test_lines_wait_in_memory_while_another_host_holds_the_lock_and_are_written_once_it_is_free(
    live: Path, shared: WatchedHandler
) -> None:
    log_lines(shared, "w", range(1))

    def log_in_vain() -> None:
        log_lines(shared, "w", range(1, 20))
        assert len(live.read_bytes().splitlines()) == 1, "a line was written without the lock"

    hold(live, log_in_vain)
    log_lines(shared, "w", range(20, 21))
    shared.flush()
    report = audit(live, {"w": 21}, suffix_of_day)
    assert report.flawless, f"{report}\n{report.examples}"
    assert len(shared.reported) == 1
    assert "could not be locked within" in shared.reported[0]


def test_a_fragment_of_a_line_that_a_dead_writer_left_spoils_no_other(live: Path, shared: WatchedHandler) -> None:
    log_lines(shared, "w", range(2))
    with live.open("ab") as file:
        file.write(b"a line of another host, whose plug was pu")
    log_lines(shared, "w", range(2, 4))
    report = audit(live, {"w": 4}, suffix_of_day)
    assert (report.faults(), report.lines) == ({"torn": 1}, 4), f"{report}\n{report.examples}"


class StayingHandler(WatchedHandler):
    """It never rolls over, so that it cannot leave a full file either."""

    def doRollover(self) -> None:
        """Stay."""


def test_of_lines_that_are_cut_short_together_none_is_written_twice(live: Path) -> None:
    def work() -> None:
        handler = StayingHandler(live, when="D", utc=True, lock_writes=True)
        handler.setFormatter(logging.Formatter(LINE_FORMAT))
        log_lines(handler, "w", range(1))
        size = live.stat().st_size
        hold(live, lambda: log_lines(handler, "w", range(1, 10)))
        usual = resource.getrlimit(resource.RLIMIT_FSIZE)
        # Room for three lines and a half.
        resource.setrlimit(resource.RLIMIT_FSIZE, (size * 9 // 2, usual[1]))
        handler.flush()
        assert len(live.read_bytes().splitlines()) == 5
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
        handler.close()
        assert len(handler.reported) == 1, handler.reported

    Child(work).join()
    report = audit(live, {"w": 10}, suffix_of_day, full_disk=True)
    assert (report.faults(), report.lines, report.blanked) == ({}, 10, 1), f"{report}\n{report.examples}"


def test_a_handler_follows_a_file_that_another_host_renames_just_before_its_line(
    live: Path, shared: WatchedHandler
) -> None:
    log_lines(shared, "w", range(1))
    acquire = shared._live.rollover.lock.acquire

    def rename_first(timeout: float | None = None, give_up: Callable[[], bool] | None = None) -> bool:
        shared._live.rollover.lock.acquire = acquire  # type: ignore[method-assign]
        live.rename(live.with_name("app.log.2000-01-01"))
        return acquire(timeout, give_up)

    shared._live.rollover.lock.acquire = rename_first  # type: ignore[method-assign]
    log_lines(shared, "w", range(1, 2))
    assert len(live.read_bytes().splitlines()) == 1
    assert not shared.reported
