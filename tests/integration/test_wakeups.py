"""All workers wake up at one boundary: one of them renames, and the others wait no longer for its lock."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from rollsafe import SafeTimedRotatingFileHandler
from rollsafe._files.lock_handles import ROLLOVER_BYTE
from rollsafe._files.renames import rename_new
from rollsafe._live import bounded_lock, rollover
from tests.support.crew import Crew, log_lines, stop_myself
from tests.support.load import suffix_of_seconds
from tests.support.logs import boundary_ahead
from tests.support.oracle import LINE_FORMAT, audit
from tests.support.servers import backups, wait_until

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs proc(5) to see who is stopped")

WORKERS = 8
LOCK_TIMEOUT_S = 40.0
"""Seconds that a worker would wait for the lock, rather than half a one, which a busy machine may take for anything."""


class Worker:
    """One of those that wake up. It stops itself when it has renamed and is about to give the lock back.

    It renames only when all others are waiting for the lock that it holds.
    """

    def __init__(self, live: Path, scratch: Path, stream: str, length: int) -> None:
        bounded_lock.LOCK_WAIT_S = LOCK_TIMEOUT_S
        self._live, self._scratch, self._stream = live, scratch, stream
        self._lock = fcntl.lockf
        self._renames = 0
        self._tries = 0
        self._reported: list[str] = []
        fcntl.lockf = self._note_try  # type: ignore[assignment]
        vars(rollover)["rename_new"] = self._note_rename
        self._handler = make_handler(live, length)
        self._handler.handleError = self._note_report  # type: ignore[method-assign]
        lock = self._handler._live.rollover.lock
        lock.release = partial(self._stop_before, lock.release)  # type: ignore[method-assign]

    def work(self, boundary: int) -> None:
        """Log a line before the boundary and one after it."""
        log_lines(self._handler, self._stream, range(1))
        while (left := boundary - time.time()) > 0:
            time.sleep(left)
        log_lines(self._handler, self._stream, range(1, 2))
        self._handler.close()
        told = {"renames": self._renames, "tries": self._tries, "reported": self._reported}
        (self._scratch / f"{self._stream}.told").write_text(json.dumps(told))

    def _note_try(self, descriptor: int, command: int, length: int, start: int) -> None:
        """Stand in for fcntl.lockf, and count the tries."""
        if command & fcntl.LOCK_EX and start == ROLLOVER_BYTE and (self._scratch / "rolled").exists():
            self._tries += 1
        try:
            self._lock(descriptor, command, length, start)
        except OSError:
            (self._scratch / f"{self._stream}.waits").touch()
            raise

    def _note_rename(self, source: str, target: str) -> bool:
        """Stand in for `rename_new`, and count the renames."""
        wait_until(lambda: len(list(self._scratch.glob("*.waits"))) == WORKERS - 1, "all others wait for the lock")
        renamed = rename_new(source, target)
        self._renames += renamed
        return renamed

    def _stop_before(self, release: Callable[[], None]) -> None:
        """Stand in for the lock's `release`, and stop before it."""
        if self._renames and not (self._scratch / "rolled").exists():
            (self._scratch / "rolled").touch()
            stop_myself()
        release()

    def _note_report(self, record: logging.LogRecord) -> None:
        """Stand in for `handleError`, and keep the report."""
        self._reported.append(record.getMessage())


def make_handler(live: Path, length: int) -> SafeTimedRotatingFileHandler:
    """A handler with intervals of `length` seconds."""
    handler = SafeTimedRotatingFileHandler(live, when="S", interval=length, utc=True)
    handler.setFormatter(logging.Formatter(LINE_FORMAT))
    return handler


def test_of_all_that_wake_up_at_a_boundary_one_renames_and_none_waits_on(tmp_path: Path) -> None:
    live, scratch = tmp_path / "logs" / "app.log", tmp_path / "scratch"
    live.parent.mkdir()
    scratch.mkdir()
    boundary, length = boundary_ahead()
    # The lock file then notes the interval of the live file, so no worker takes the lock to find it out.
    first = make_handler(live, length)
    log_lines(first, "first", range(1))
    first.close()
    streams = [f"worker{number}" for number in range(WORKERS)]
    with Crew() as crew:
        workers = [crew.start(partial(wake_up, live, scratch, stream, length, boundary)) for stream in streams]
        wait_until(lambda: any(worker.stopped or worker.ended for worker in workers), "one has renamed")
        (winner,) = (worker for worker in workers if worker.stopped)
        # The lock is held, and stays held.
        for worker in workers:
            if worker is not winner:
                worker.join()
        assert winner.stopped
        winner.go_on()
        winner.join()
    told: list[dict[str, Any]] = [json.loads((scratch / f"{stream}.told").read_text()) for stream in streams]
    assert sorted(one["renames"] for one in told) == [0] * (WORKERS - 1) + [1]
    # One at the end of the pause that each was in; then it has seen that the path names another file. And one, after it
    # has turned to that file, to find out whether a late line could take the lock to open the backup.
    assert max(one["tries"] for one in told) <= 2, told
    assert [one["reported"] for one in told] == [[]] * WORKERS
    assert len(backups(live)) == 1
    report = audit(live, {"first": 1, **dict.fromkeys(streams, 2)}, suffix_of_seconds(length))
    assert report.flawless, f"{report}\n{report.examples}"


def wake_up(live: Path, scratch: Path, stream: str, length: int, boundary: int) -> None:
    """The work of each process."""
    Worker(live, scratch, stream, length).work(boundary)
