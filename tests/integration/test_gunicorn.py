"""The adapter on real gunicorn servers: lines counted under load, and the settings that must keep working."""

from __future__ import annotations

import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.gunicorn_setup import (
    HOOKS,
    ROLLOVERS,
    WORKERS,
    audit_both,
    config,
    error_log,
    wait_for_rollovers,
)
from tests.support.needs import require_package
from tests.support.servers import GUNICORN, ROOT, Clients, Server, get, server_environment, wait_until

pytest.importorskip("gunicorn", reason="gunicorn is not installed: pip install rollsafe[gunicorn]")

LOCK_FILE = ".app.log.lock"


@pytest.mark.parametrize("preload_app", [False, True], ids=["no preload", "preload"])
@pytest.mark.parametrize("worker_class", ["sync", "gthread"])
def test_every_line_is_kept_whole_once_in_its_own_file(tmp_path: Path, worker_class: str, preload_app: bool) -> None:
    logs = tmp_path / "logs"
    settings = config(worker_class=worker_class, preload_app=preload_app, threads=2 if worker_class == "gthread" else 1)
    with Server(tmp_path, settings, workers=WORKERS) as server, Clients(server) as clients:
        wait_until(lambda: clients.answering == server.workers, "an answer from every worker")
        wait_for_rollovers(logs, ROLLOVERS)

    app, access = audit_both(logs, clients)
    assert clients.refused == []
    assert app.flawless, app
    assert access.flawless, access
    assert server.output == ""


@pytest.mark.parametrize(
    ("number", "new_workers"), [(signal.SIGUSR1, 0), (signal.SIGHUP, WORKERS)], ids=["USR1", "HUP"]
)
def test_a_signal_under_load_loses_nothing(tmp_path: Path, number: signal.Signals, new_workers: int) -> None:
    logs = tmp_path / "logs"
    with Server(tmp_path, config(), workers=WORKERS) as server, Clients(server) as clients:
        for signals in range(1, ROLLOVERS + 1):
            server.signal(number)
            clients.wait_for(more=50)
            server.wait_for_boots(WORKERS + signals * new_workers)
            wait_for_rollovers(logs, 1)

    app, access = audit_both(logs, clients)
    assert clients.refused == []
    assert app.flawless, app
    assert access.flawless, access
    assert error_log(tmp_path).count(f"Handling signal: {number.name[3:].lower()}") == ROLLOVERS
    assert server.output == ""


@pytest.mark.parametrize("hook", HOOKS)
def test_the_hook_gives_each_worker_a_lock_handle_of_its_own(tmp_path: Path, hook: str) -> None:
    with Server(tmp_path, config('"logs", when="h"', hook=hook) + ARBITER_OPENS_LOCK, workers=WORKERS) as server:
        lock_file = tmp_path / "logs" / LOCK_FILE
        opened_by_hook = {pid: lock_positions(pid, lock_file) for pid in server.workers}
        marked = mark_locks_of(server)
        positions = {pid: lock_positions(pid, lock_file) for pid in {server.arbiter, *marked}}

    assert opened_by_hook == {pid: [0] for pid in marked}
    assert positions == {server.arbiter: [0]} | {pid: [pid] for pid in marked}
    own_hook_lines = error_log(tmp_path).count("the user's own hook ran in")
    assert own_hook_lines == (0 if hook == "used directly" else WORKERS)


ARBITER_OPENS_LOCK = f"""
from rollsafe import FileLock

arbiter_lock = FileLock("logs/{LOCK_FILE}")

def on_starting(server):
    with arbiter_lock:
        pass
"""


def mark_locks_of(server: Server) -> set[int]:
    """Let every worker mark its descriptors of the lock file; their process ids."""
    marked: set[int] = set()

    def all_marked() -> bool:
        # Several requests at once, so that an idle worker takes one of them.
        with ThreadPoolExecutor(WORKERS) as pool:
            marked.update(int(pid) for pid in pool.map(server.get, [f"/mark_lock/{LOCK_FILE}"] * 4 * WORKERS))
        return marked == server.workers

    wait_until(all_marked, "an answer from every worker")
    return marked


def lock_positions(pid: int, lock_file: Path) -> list[int]:
    """The file positions of a process's descriptors of the lock file (proc(5), /proc/PID/fdinfo)."""
    descriptors = [entry for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.exists() and entry.samefile(lock_file)]
    infos = [Path(f"/proc/{pid}/fdinfo/{entry.name}").read_text(encoding="ascii") for entry in descriptors]
    return [int(info.split("pos:")[1].split()[0]) for info in infos]


def test_a_lock_held_by_one_worker_excludes_the_others(tmp_path: Path) -> None:
    with Server(tmp_path, config('"logs", when="h"')) as server, ThreadPoolExecutor(1) as pool:
        try:
            holder = pool.submit(server.get, f"/hold_lock/{LOCK_FILE}", 120.0)
            wait_until((tmp_path / "held").exists, "a worker that holds the lock")
            while_held = {server.get(f"/try_lock/{LOCK_FILE}") for _ in range(3)}
        finally:
            (tmp_path / "release").touch()
        holder.result()
        afterwards = server.get(f"/try_lock/{LOCK_FILE}")

    assert while_held == {"refused"}
    assert afterwards == "acquired"


@pytest.mark.parametrize("level", ["debug", "info"])
def test_log_level_of_the_command_line_is_honoured(tmp_path: Path, level: str) -> None:
    with Server(tmp_path, config(), arguments=["--log-level", level]):
        pass
    assert ("Arbiter booted" in error_log(tmp_path)) == (level == "debug")


def test_access_logformat_of_the_command_line_is_honoured(tmp_path: Path) -> None:
    settings = 'from rollsafe.gunicorn import rotating_logs\nlogconfig_dict = rotating_logs("logs")\n'
    with Server(tmp_path, settings, arguments=["--access-logformat", "%(m)s %(U)s gave %(s)s"]):
        pass
    assert (tmp_path / "logs/access.log").read_text(encoding="utf-8") == "GET /line/ready/0/60 gave 200\n"


@pytest.mark.parametrize("absent", ["access", "error", "app"])
def test_a_log_that_is_not_wanted_is_left_out_and_the_others_are_written(tmp_path: Path, absent: str) -> None:
    with Server(tmp_path, config(f'"logs", {absent}=None')):
        pass
    written = {path.stem for path in (tmp_path / "logs").glob("*.log") if path.stat().st_size}
    assert written == {"access", "error", "app"} - {absent}


@pytest.mark.parametrize(
    ("preset", "named"),
    [
        ('"logs", when="fortnight"', ["when", "'fortnight'"]),
        ('"logs", interval=0', ["interval", "0"]),
        ('"logs", backupCount=-1', ["backupCount", "-1"]),
        ('"logs", tz="Europe/Atlantis"', ["tz", "Europe/Atlantis"]),
        ('"logs", encoding="utf-9"', ["encoding", "'utf-9'"]),
        ('"logs", level="LOUD"', ["level", "'LOUD'"]),
        ('"logs", access="app.log"', ["access", "app.log"]),
        ('"gunicorn.conf.py/logs"', ["directory", "gunicorn.conf.py/logs"]),
    ],
)
def test_a_wrong_argument_ends_the_start_with_a_sentence(tmp_path: Path, preset: str, named: list[str]) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(config(preset), encoding="utf-8")
    result = subprocess.run(
        [*GUNICORN, "--check-config", "tests.support.apps:application"],
        cwd=tmp_path,
        env=server_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    sentence = result.stderr.strip().splitlines()[-1]
    assert result.returncode == 1
    assert [word for word in named if word not in sentence] == [], result.stderr
    assert "dictConfig" not in result.stderr
    assert "Unable to configure" not in result.stderr


def test_the_arbiter_holds_no_file_open_that_only_workers_write(tmp_path: Path) -> None:
    with Server(tmp_path, config('"logs", when="D"')) as server:
        held = {os.path.basename(os.readlink(entry)) for entry in Path(f"/proc/{server.arbiter}/fd").iterdir()}
    assert {"app.log", "access.log", "error.log"} & held == {"error.log"}


def test_the_reference_configuration_serves_the_example_application(tmp_path: Path) -> None:
    reference = (ROOT / "gunicorn.conf.py").read_text(encoding="utf-8")
    with Server(tmp_path, reference, app="example_app.app:app", ready="/orders/anna/17") as server:
        server.get("/stock")
        status, _ = get(server.connect(), "/boom")

    lines = (tmp_path / "logs" / "app.log").read_text(encoding="utf-8").splitlines()
    expected = ["order 17 of anna looked up", "the stock has not been counted", "ZeroDivisionError"]
    assert status == 500
    assert [words in line for words, line in zip(expected, lines, strict=True)] == [True, True, True]


def test_right_arguments_are_accepted_by_check_config(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(config(), encoding="utf-8")
    command = [*GUNICORN, "--check-config", "tests.support.apps:application"]
    result = subprocess.run(command, cwd=tmp_path, env=server_environment(), timeout=120, check=False)
    assert result.returncode == 0


WAITS_FOR_REQUESTS = """
from pathlib import Path

def compress(source_path, target_path):
    # Ends when this very worker has answered while it works, or gives up.
    import time
    from gevent.monkey import get_original
    sleep = get_original("time", "sleep")
    Path("begun").touch()
    for _ in range(3000):
        if Path("answered").exists():
            Path(target_path).write_text("an archive")
            return
        sleep(0.01)
"""


def test_a_gevent_worker_goes_on_answering_while_it_compresses(tmp_path: Path) -> None:
    require_package("gevent")
    settings = WAITS_FOR_REQUESTS + config('"logs", when="S", compress=compress', worker_class="gevent")
    with Server(tmp_path, settings, workers=1) as server, Clients(server) as clients:
        wait_until((tmp_path / "begun").exists, "the only worker compresses")
        clients.wait_for(more=20)
        (tmp_path / "answered").touch()
        wait_until(lambda: bool(list((tmp_path / "logs").glob("*.archive"))), "an archive is made")
    assert clients.refused == []
    assert server.output == ""
