"""Logs that two hosts write on GlusterFS."""

from __future__ import annotations

import logging
import multiprocessing
import random
import time
from functools import partial
from pathlib import Path

import pytest

from rollsafe import SafeTimedRotatingFileHandler
from tests.support.crew import Crew, WatchedHandler
from tests.support.hosts import Volume, gluster, tidy_archives
from tests.support.load import Plan, run_load, suffix_of_seconds
from tests.support.oracle import LINE_FORMAT, Report, audit, make_line
from tests.support.servers import wait_until

# What GlusterFS needs to show a renamed file to the other hosts at once: docs/reference/file-systems.md.
GLUSTER_OPTIONS = (["performance.stat-prefetch=off"], ["--direct-io-mode=enable"])


class OnHost:
    """Makes the handlers of the processes of two hosts in turn."""

    def __init__(self, volume: Volume, lock_writes: bool | None) -> None:
        self._volume = volume
        self._lock_writes = lock_writes
        self._made = multiprocessing.Value("i", 0)

    def __call__(self) -> logging.Handler:
        with self._made.get_lock():
            mount = self._volume.mounts[self._made.value % 2]
            self._made.value += 1
        return SafeTimedRotatingFileHandler(mount / "app.log", when="S", utc=True, lock_writes=self._lock_writes)


# Few lines: while others have the lock they wait in memory, whose size is bounded, also on a busy machine.
MODEST = Plan(seconds=6, rate=50, sizes=(*(60, 200, 1000, 9000) * 12, 150_000))
# Many long ones, which the client sends in several parts.
GREEDY = Plan(seconds=6, rate=100, sizes=(60, 200, 1000, 9000, 200_000))


def load_from_two_hosts(volume: Volume, plan: Plan, lock_writes: bool | None) -> Report:
    """Two processes on each of two hosts, a rollover each second."""
    load = run_load(OnHost(volume, lock_writes), volume.mounts[0] / "app.log", plan)
    report = audit(volume.store / "app.log", load.acknowledged, suffix_of_seconds(1))
    print(report)
    return report


@pytest.mark.slow
def test_two_hosts_share_a_log_on_glusterfs_and_every_line_is_there_once_whole_and_in_its_file() -> None:
    with gluster(*GLUSTER_OPTIONS) as volume:
        report = load_from_two_hosts(volume, MODEST, lock_writes=None)
    assert report.flawless, f"{report}\n{report.examples}"
    assert report.files > 4


@pytest.mark.slow
def test_two_hosts_that_compress_and_log_late_lines_lose_none_on_glusterfs() -> None:
    lines = 250

    def work(mount: Path, stream: str) -> None:
        handler = WatchedHandler(mount / "app.log", when="S", utc=True, compress="gz")
        handler.setFormatter(logging.Formatter(LINE_FORMAT))
        chance = random.Random(stream)
        for number in range(lines):
            record = logging.makeLogRecord({"msg": make_line(stream, number, 200)})
            # Of an interval that is over, archived by now perhaps.
            record.created -= chance.choice((0, 0, chance.uniform(0, 6)))
            handler.handle(record)
            time.sleep(0.02)

        def all_written() -> bool:
            handler.flush()
            return not handler._writer.pending.waits

        wait_until(all_written, "the lines that wait are written")
        wait_until(lambda: len(list(mount.glob("*.gz"))) > 3, "backups are compressed")
        handler.close()
        # On a busy machine another host may have the lock for longer than a line waits for it.
        assert all("could not be locked within" in report for report in handler.reported), handler.reported

    with gluster(*GLUSTER_OPTIONS) as volume, Crew() as crew:
        children = [crew.start(partial(work, volume.mounts[number % 2], f"w{number}")) for number in range(4)]
        for child in children:
            child.join()
        tidy_archives(volume.store)
        report = audit(volume.store / "app.log", {f"w{number}": lines for number in range(4)}, suffix_of_seconds(1))
        archives = len(list(volume.store.glob("*.gz")))
    assert report.flawless, f"{report}\n{report.examples}"
    assert archives > 3


@pytest.mark.slow
def test_on_glusterfs_as_it_comes_every_line_is_there_once_and_whole_but_not_always_in_its_file() -> None:
    with gluster() as volume:
        report = load_from_two_hosts(volume, MODEST, lock_writes=None)
    assert not report.faults().keys() - {"misfiled"}, f"{report}\n{report.examples}"


@pytest.mark.slow
def test_without_the_lock_two_hosts_tear_each_others_lines_on_glusterfs() -> None:
    with gluster(*GLUSTER_OPTIONS) as volume:
        report = load_from_two_hosts(volume, GREEDY, lock_writes=False)
    assert report.torn + report.lost > 0, f"the test of the lock proves nothing: {report}"
