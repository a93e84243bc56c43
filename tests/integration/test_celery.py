"""rollsafe.celery on real workers and a real beat: lines counted, task ids seen, with every pool and option."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("celery", reason="celery is not installed: pip install rollsafe[celery]")

from tests.support.celery_programs import FORMAT, Project, project, text_of
from tests.support.needs import require_package
from tests.support.servers import backups, wait_until

ROTATING: dict[str, Any] = {"format": FORMAT, "when": "S"}
FILENAME: dict[str, Any] = {"filename": "logs/celery.log", **ROTATING}
BEAT = {"beat_schedule": {"tick": {"task": "tick", "schedule": 0.2}}}
TICK = re.compile(r"^\d+\.\d+ tick\[(?P<id>[\w-]{36})\] tick$", re.MULTILINE)


def wait_for_successes(celery: Project, live: Path) -> None:
    """Wait until Celery has logged the success of each task that was sent."""

    def have_succeeded() -> bool:
        text = text_of(live) if live.exists() else ""
        return all(f"[{task}] succeeded in " in text for task in celery.sent)

    wait_until(have_succeeded, f"{len(celery.sent)} tasks succeeded")


def test_a_worker_writes_each_line_once_with_name_and_id_of_its_task(tmp_path: Path) -> None:
    live = tmp_path / "logs" / "celery.log"
    with project(tmp_path, FILENAME) as celery:
        for _ in range(2):
            celery.send("lines", 55, 0.02)
        with celery.worker("-l", "INFO") as worker:
            wait_for_successes(celery, live)
            assert len(worker.children) == 2
            worker.kill()
        report = celery.audit(live)
    assert report.flawless, report
    assert report.lines == 110
    assert len(backups(live)) >= 1
    for task in celery.sent:
        assert f" lines[{task}] Task lines[{task}] received\n" in text_of(live)


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent", "eventlet", "solo"])
def test_no_line_is_lost_with_any_pool(tmp_path: Path, pool: str) -> None:
    if pool in ("gevent", "eventlet"):
        require_package(pool)
    live = tmp_path / "logs" / "celery.log"
    with project(tmp_path, FILENAME) as celery:
        for _ in range(6):
            celery.send("lines", 400, 0.01)
        nested = [celery.send("nested") for _ in range(3)]
        with celery.worker("-l", "INFO", pool=pool, processes=3) as worker:
            wait_for_successes(celery, live)
            assert worker.stop() == 0
        report = celery.audit(live)
    assert report.flawless, report
    assert report.lines == 6 * 400
    assert len(backups(live)) >= 3
    for task in nested:
        said = [line.partition(" ")[2] for line in text_of(live).splitlines() if task in line]
        assert [line for line in said if not re.search(r" Task | printed ", line)] == [
            f"nested[{task}] before {task}",
            f"told[inner-{task}] run at once",
            f"nested[{task}] called",
            f"nested[{task}] after {task}",
        ]
        assert f"nested[{task}] printed {task}" in said


@pytest.mark.slow
@pytest.mark.parametrize("embedded", [False, True], ids=["beat", "worker -B"])
def test_beat_and_several_workers_write_one_file(tmp_path: Path, embedded: bool) -> None:
    live = tmp_path / "all.log"
    with project(tmp_path, ROTATING, settings=BEAT) as celery:
        for _ in range(8):
            celery.send("lines", 300, 0.01)
        common = ("-l", "INFO", "-f", "all.log")
        first = celery.worker(*common, *(["-B"] if embedded else []), name="w1")
        beat = celery.worker(*common, name="w3") if embedded else celery.program("beat", *common, name="beat")
        with first, celery.worker(*common, name="w2"), beat:
            wait_for_successes(celery, live)
            wait_until(lambda: len(backups(live)) >= 4 and len(TICK.findall(text_of(live))) >= 8, "rollovers and ticks")
        report = celery.audit(live)
    assert report.flawless, report
    assert report.lines == 8 * 300
    text = text_of(live)
    assert " -[-] Scheduler: Sending due task tick (tick)\n" in text
    assert sorted(set(re.findall(r"(w\d)@localhost ready\.\n", text))) == (
        ["w1", "w2", "w3"] if embedded else ["w1", "w2"]
    )


@pytest.mark.slow
def test_children_that_end_after_a_few_tasks_lose_nothing_and_leave_the_backups_to_the_others(tmp_path: Path) -> None:
    live = tmp_path / "logs" / "celery.log"
    with project(tmp_path, {**FILENAME, "compress": "gz"}) as celery:
        for _ in range(12):
            celery.send("lines", 100, 0.005)
        pids: set[int] = set()
        with celery.worker("-l", "INFO", "--max-tasks-per-child", "2") as worker:

            def are_done() -> bool:
                pids.update(worker.children)
                done = celery.acknowledged()
                return sum(map(len, done.values())) == 12 * 100 and len(list(live.parent.glob("*.gz"))) >= 3

            wait_until(are_done, "all lines, and archives")
        report = celery.audit(live)
    assert report.flawless, report
    assert report.lines == 12 * 100
    assert len(pids) >= 6


@pytest.mark.slow
def test_the_level_is_that_of_the_command_line(tmp_path: Path) -> None:
    live = tmp_path / "celery.log"
    with project(tmp_path, ROTATING) as celery:
        task = celery.send("nested")
        with celery.worker("-l", "WARNING", "-f", "celery.log"):
            wait_until(lambda: live.exists() and f"printed {task}" in text_of(live), "what the task prints")
    assert "before" not in text_of(live)
    assert " ready." not in text_of(live)


@pytest.mark.slow
def test_each_child_has_a_file_of_its_own_if_the_command_line_says_so(tmp_path: Path) -> None:
    with project(tmp_path, ROTATING) as celery:
        for _ in range(4):
            celery.send("lines", 200, 0.01)
        with celery.worker("-l", "INFO", "-f", "logs-%n%I.log", name="w1"):
            celery.wait_for_lines(200)
            wait_until(lambda: len(list(tmp_path.glob("logs-w1-[12].log.*"))) >= 4, "rollovers of both")
        names = ["logs-w1.log", "logs-w1-1.log", "logs-w1-2.log"]
        reports = [celery.audit(tmp_path / name) for name in names]
    assert [report.faults().keys() - {"lost"} for report in reports] == [set()] * 3, reports
    assert sum(report.lines for report in reports) == 4 * 200
    assert reports[0].lines == 0
    assert all(report.lines for report in reports[1:])
    assert not any(path.name.startswith("logs-w1%") for path in tmp_path.iterdir())


@pytest.mark.slow
def test_a_worker_that_is_restarted_by_a_signal_goes_on_in_the_same_file(tmp_path: Path) -> None:
    live = tmp_path / "celery.log"
    with project(tmp_path, ROTATING) as celery:
        celery.send("lines", 200, 0.01)
        with celery.worker("-l", "INFO", "-f", "celery.log") as worker:
            wait_for_successes(celery, live)
            worker.signal(signal.SIGHUP)
            wait_until(lambda: text_of(live).count("worker@localhost ready.") == 2, "the new start")
            celery.send("lines", 200, 0.01)
            wait_for_successes(celery, live)
        report = celery.audit(live)
    assert report.flawless, report
    assert report.lines == 400


def stop_detached(pidfile: Path) -> None:
    """End a program that has detached itself, and wait for its end."""
    if not pidfile.exists():
        return
    pid = int(pidfile.read_text(encoding="ascii"))
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the end of the detached program")


@pytest.mark.slow
def test_programs_that_detach_themselves_log_to_the_file(tmp_path: Path) -> None:
    live = tmp_path / "celery.log"
    with project(tmp_path, ROTATING, settings=BEAT) as celery:
        celery.send("lines", 200, 0.01)
        common = ("--detach", "-l", "INFO", "-f", "celery.log")
        with celery.program("beat", *common, "--pidfile", "beat.pid", name="beat") as beat:
            assert beat.wait() == 0
            # Until it has a session of its own, the end of the block would kill it.
            wait_until((tmp_path / "beat.pid").exists, "the pid file of beat")
        with celery.worker(*common, "--pidfile", "worker.pid") as worker:
            assert worker.wait() == 0
            wait_until((tmp_path / "worker.pid").exists, "the pid file of the worker")
        try:
            wait_for_successes(celery, live)
            wait_until(lambda: len(TICK.findall(text_of(live))) >= 5, "ticks")
        finally:
            for name in ("beat", "worker"):
                stop_detached(tmp_path / f"{name}.pid")
        report = celery.audit(live)
    assert report.flawless, report
    assert report.lines == 200


@pytest.mark.slow
def test_celery_multi_restarts_workers_that_write_one_file(tmp_path: Path) -> None:
    live = tmp_path / "celery.log"
    with project(tmp_path, ROTATING) as celery:
        common = ("w1", "w2", "-l", "INFO", "-c", "1", "--logfile=celery.log", "--pidfile=%n.pid")
        multi(celery, "start", *common)
        try:
            for _ in range(4):
                celery.send("lines", 150, 0.01)
            wait_for_successes(celery, live)
            multi(celery, "restart", *common)
            for _ in range(4):
                celery.send("lines", 150, 0.01)
            wait_for_successes(celery, live)
        finally:
            multi(celery, "stopwait", *common)
        report = celery.audit(live)
    assert report.flawless, report
    assert report.lines == 8 * 150


def multi(celery: Project, *arguments: str) -> None:
    """Run `celery multi` to its end."""
    with celery.program("multi", *arguments, name=f"multi-{arguments[0]}") as program:
        assert program.wait() == 0
