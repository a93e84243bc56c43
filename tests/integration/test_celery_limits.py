"""rollsafe.celery when tasks are interrupted, and processes of the pool killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

pytest.importorskip("celery", reason="celery is not installed: pip install rollsafe[celery]")

from tests.support.celery_app import LAST
from tests.support.celery_programs import FORMAT, Program, Project, project, text_of
from tests.support.servers import backups, wait_until

ROTATING = {"filename": "celery.log", "format": FORMAT, "when": "S"}


@pytest.mark.slow
def test_a_soft_time_limit_ends_each_task_and_loses_no_line(tmp_path: Path) -> None:
    live = tmp_path / "celery.log"
    with project(tmp_path, ROTATING) as celery:
        # Nearly all of the time of such a task passes inside logging calls.
        for _ in range(16):
            celery.send("endless", soft_time_limit=0.3)
        with celery.worker("-l", "INFO") as worker:
            wait_until(lambda: celery.have_logged(LAST), "the end of all tasks", 240)
            assert worker.stop() == 0
        report = celery.audit(live)
    assert report.flawless, report
    assert len(backups(live)) >= 2


@pytest.mark.slow
def test_a_hard_time_limit_loses_no_line(tmp_path: Path) -> None:
    live = tmp_path / "celery.log"
    with project(tmp_path, ROTATING) as celery:
        for _ in range(6):
            celery.send("endless", 0.001, time_limit=1)
        with celery.worker("-l", "INFO"):
            wait_until(
                lambda: live.exists() and text_of(live).count("] Hard time limit (1s) exceeded") == 6, "all limits", 240
            )
        report = celery.audit(live, kills=6)
    assert report.flawless, report
    assert len(backups(live)) >= 2


@pytest.mark.slow
def test_killed_processes_of_the_pool_lose_no_line(tmp_path: Path) -> None:
    live = tmp_path / "celery.log"
    kills = 8
    with project(tmp_path, ROTATING) as celery:
        with celery.worker("-l", "INFO", processes=3) as worker:
            for _ in range(kills):
                tasks = [celery.send("endless", 0.01), *(celery.send("lines", 100, 0.01) for _ in range(2))]
                before = worker.children
                # Not one without a task: it may hold the lock of the queue of billiard's pool, which never forgets it.
                os.kill(celery.process_of(tasks[0]), signal.SIGKILL)
                wait_for_another(worker, before)
                wait_for_ends(celery, tasks[1:], 100)
            wait_until(lambda: len(backups(live)) >= 3, "rollovers")
        report = celery.audit(live, kills=kills)
    assert report.flawless, report
    assert report.lines >= kills * 2 * 100


def wait_for_another(worker: Program, before: set[int]) -> None:
    """Wait until a process of the pool has been replaced."""
    wait_until(lambda: len(worker.children - before) >= 1, "a new process")


def wait_for_ends(celery: Project, tasks: list[str], lines: int) -> None:
    """Wait until these tasks have logged so many lines."""
    wait_until(lambda: all(len(celery.acknowledged().get(task, ())) == lines for task in tasks), "the other tasks")
