"""The adapter on real uWSGI servers: lines counted under load, in every way in which uWSGI makes its processes."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.gunicorn_setup import suffix_of
from tests.support.oracle import Report, audit
from tests.support.other_servers import NO_PYUWSGI, NO_UWSGI, PYUWSGI, UWSGI, Uwsgi
from tests.support.servers import ROOT, Clients, backups, get, wait_until

needs_uwsgi = pytest.mark.skipif(UWSGI is None, reason=NO_UWSGI)

WORKERS = 3
ROLLOVERS = 3
APP = "tests.support.uwsgi_app:application"
READY = "/one/line/ready/0/60"
MULE = str(ROOT / "tests" / "support" / "uwsgi_mule.py")


@pytest.fixture(
    params=[
        pytest.param(PYUWSGI, id="pyuwsgi", marks=pytest.mark.skipif(PYUWSGI is None, reason=NO_PYUWSGI)),
        pytest.param(UWSGI, id="uwsgi", marks=[pytest.mark.slow, needs_uwsgi]),
    ]
)
def program(request: pytest.FixtureRequest) -> str:
    """uWSGI as a wheel, and as users build it."""
    return str(request.param)


def server(program: str | None, directory: Path, *arguments: str, hooks: str = "install", **handler: object) -> Uwsgi:
    """A uWSGI with these arguments, which serves the application with these hooks and arguments of its handler."""
    environment = {"UWSGI_APP_HOOKS": hooks, "UWSGI_APP_HANDLER": json.dumps(handler)}
    return Uwsgi(directory, APP, workers=WORKERS, arguments=arguments, environment=environment, program=program)


def wait_for_rollovers(directory: Path, count: int = ROLLOVERS) -> None:
    """Wait for so many more backups."""
    live = directory / "logs" / "app.log"
    goal = len(backups(live)) + count
    wait_until(lambda: len(backups(live)) >= goal, f"{count} more rollovers")


def audit_app(directory: Path, clients: Clients, kills: int = 0) -> Report:
    """What the oracle says of the application's log."""
    return audit(directory / "logs" / "app.log", clients.acknowledged, suffix_of, kills=kills)


def noted(directory: Path, hook: str) -> set[int]:
    """The processes in which a hook of the application's own has run."""
    return {int(path.name.rpartition("-")[2]) for path in directory.glob(f"{hook}-*")}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--master"],
        pytest.param([], marks=pytest.mark.slow),
        pytest.param(["--master", "--lazy-apps"], marks=pytest.mark.slow),
        pytest.param(["--master", "--enable-threads", "--threads", "2"], marks=pytest.mark.slow),
        pytest.param(["--master", "--py-call-uwsgi-fork-hooks"], marks=pytest.mark.slow),
        pytest.param(["--master", "--max-requests", "50", "--min-worker-lifetime", "1"], marks=pytest.mark.slow),
    ],
    ids=lambda arguments: " ".join(arguments) or "no master",
)
def test_every_line_is_kept_whole_once_in_its_own_file(program: str, tmp_path: Path, arguments: Sequence[str]) -> None:
    with server(program, tmp_path, *arguments) as uwsgi, Clients(uwsgi) as clients:
        wait_for_rollovers(tmp_path)
        processes = WORKERS + ("--max-requests" in arguments)
        wait_until(lambda: len(clients.answering) >= processes, "an answer from every worker")

    report = audit_app(tmp_path, clients)
    assert clients.refused == []
    assert report.flawless, report


@needs_uwsgi
@pytest.mark.slow
def test_applications_in_several_interpreters_of_each_worker_write_the_same_file(tmp_path: Path) -> None:
    # Without --single-interpreter, uWSGI makes one for each application.
    mounts = [f"--mount=/{name}={APP}" for name in ("one", "two")]
    arguments = ["--master", "--processes", str(WORKERS), "--threads", "4", *mounts, "--manage-script-name"]
    environment = {"UWSGI_APP_HANDLER": "{}"}
    with (
        Uwsgi(
            tmp_path, None, workers=WORKERS, arguments=arguments, environment=environment, ready=READY, program=UWSGI
        ) as uwsgi,
        Clients(uwsgi, count=2, action="one/line", name="first") as first,
        Clients(uwsgi, count=2, action="two/line", name="second") as second,
    ):
        wait_for_rollovers(tmp_path, 2 * ROLLOVERS)

    assert first.refused == second.refused == []
    first.acknowledged |= second.acknowledged
    report = audit_app(tmp_path, first)
    assert report.flawless, report


@pytest.mark.slow
@pytest.mark.parametrize("lazy", [[], ["--lazy-apps"]], ids=["imported by the master", "lazy-apps"])
def test_mules_and_spoolers_write_the_same_file(program: str, tmp_path: Path, lazy: list[str]) -> None:
    (tmp_path / "spool").mkdir()
    arguments = ["--master", *lazy, "--mule=" + MULE, "--spooler", "spool", "--spooler-frequency", "1"]
    if lazy:
        arguments += ["--spooler-import", "tests.support.uwsgi_app"]
    asked = range(20)
    with server(program, tmp_path, *arguments) as uwsgi, Clients(uwsgi) as clients:
        for number in asked:
            uwsgi.get(f"/spool/{number}")
        wait_for_rollovers(tmp_path)
        wait_until((tmp_path / "mule-done").exists, "the mule's last line")
        wait_until(lambda: not [path for path in (tmp_path / "spool").iterdir() if path.is_file()], "an empty spool")

    clients.acknowledged["mule"] = set(range(300))
    clients.acknowledged["spooler"] = set(asked)
    report = audit_app(tmp_path, clients)
    assert clients.refused == []
    assert report.flawless, report


# pyuwsgi in a virtual environment starts again with the Python that the environment was made from.
@needs_uwsgi
@pytest.mark.slow
@pytest.mark.parametrize("lazy", [[], ["--lazy-apps"]], ids=["imported by the master", "lazy-apps"])
def test_reloads_under_load_lose_nothing(tmp_path: Path, lazy: list[str]) -> None:
    with server(UWSGI, tmp_path, "--master", *lazy) as uwsgi, Clients(uwsgi) as clients:
        for _ in range(ROLLOVERS):
            uwsgi.wait_until_it_can_be_reloaded()
            before = uwsgi.workers
            uwsgi.signal(signal.SIGHUP)
            wait_until(lambda before=before: len(uwsgi.workers - before) >= WORKERS, "new workers")  # type: ignore[misc]
            # uWSGI gives up when it is told to end while a worker imports.
            wait_until(lambda: clients.answering >= uwsgi.workers, "an answer from each of them")
        wait_for_rollovers(tmp_path)

    report = audit_app(tmp_path, clients)
    assert report.flawless, report


@pytest.mark.slow
def test_killed_workers_lose_nothing_that_was_acknowledged(program: str, tmp_path: Path) -> None:
    with server(program, tmp_path, "--master") as uwsgi, Clients(uwsgi) as clients:
        for _ in range(2 * ROLLOVERS):
            killed = min(uwsgi.workers)
            os.kill(killed, signal.SIGKILL)
            wait_until(lambda killed=killed: killed not in uwsgi.workers, "the death of a worker")  # type: ignore[misc]
            wait_until(lambda: len(uwsgi.workers) >= WORKERS, "another worker in its place")
            clients.wait_for(more=50)
        wait_for_rollovers(tmp_path, 1)

    report = audit_app(tmp_path, clients, kills=2 * ROLLOVERS)
    assert report.flawless, report


@pytest.mark.parametrize(
    "hooks",
    [
        "install decorated",
        pytest.param("decorated install", marks=pytest.mark.slow),
        pytest.param("plain install", marks=pytest.mark.slow),
        pytest.param("install plain", marks=pytest.mark.slow),
    ],
)
def test_the_applications_own_hooks_run_beside_ours(program: str, tmp_path: Path, hooks: str) -> None:
    """Ours is seen by its effect: a worker is not held up by a lock that a thread of the master held at the fork."""
    with server(program, tmp_path, "--master", hooks=hooks + " hold", when="h") as uwsgi:
        expected = set(hooks.split()) - {"install"}
        wait_until(lambda: all(noted(tmp_path, hook) >= uwsgi.workers for hook in expected), "the own hooks")
        uwsgi.get("/line/after/0/60")


def test_backups_are_maintained_by_the_workers_and_no_thread_runs_in_the_master(program: str, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    for second in range(10, 20):
        (logs / f"app.log.2020-01-01_00-00-{second}").touch()
    with server(program, tmp_path, "--master", backupCount=1) as uwsgi:
        # A maintenance thread lives for two seconds at least, because the backups have just been made.
        threads = os.listdir(f"/proc/{uwsgi.arbiter}/task")
        wait_until(lambda: len(list(logs.glob("app.log.2020-*"))) <= 1, "the removal of old backups")
    assert threads == [str(uwsgi.arbiter)]


def test_a_quiet_log_is_rolled_and_compressed_by_the_workers_and_no_thread_runs_in_the_master(
    program: str, tmp_path: Path
) -> None:
    live = tmp_path / "logs" / "app.log"

    def is_finished() -> bool:
        return live.stat().st_size == 0 and bool(backups(live)) and all(path.suffix == ".gz" for path in backups(live))

    # The master logs one line when it imports the application, and one worker another one.
    with server(program, tmp_path, "--master", interval=2, compress="gz") as uwsgi:
        wait_until(is_finished, "the lines are in archives")
        masters = os.listdir(f"/proc/{uwsgi.arbiter}/task")
        wait_until(
            lambda: all(len(os.listdir(f"/proc/{pid}/task")) > 1 for pid in uwsgi.workers),
            "a thread in each worker, though most have never logged",
        )
    assert masters == [str(uwsgi.arbiter)]
    lines = b"".join(gzip.decompress(path.read_bytes()) for path in backups(live) if path.suffix == ".gz")
    assert lines.count(b"\n") == 2


def test_the_reference_configuration_serves_the_example_application(program: str, tmp_path: Path) -> None:
    reference = (ROOT / "example_app" / "uwsgi.ini").read_text(encoding="utf-8")
    # Its address; the socket is inherited here.
    (tmp_path / "uwsgi.ini").write_text(re.sub("(?m)^http-socket = .*$", "", reference), encoding="utf-8")
    with Uwsgi(tmp_path, None, ready="/orders/anna/17", arguments=["--ini", "uwsgi.ini"], program=program) as uwsgi:
        uwsgi.get("/stock")
        status, _ = get(uwsgi.connect(), "/boom")
        workers = len(uwsgi.workers)

    lines = (tmp_path / "logs" / "app.log").read_text(encoding="utf-8").splitlines()
    expected = ["order 17 of anna looked up", "the stock has not been counted", "ZeroDivisionError"]
    assert (status, workers) == (500, 4)
    assert [words in line for words, line in zip(expected, lines, strict=True)] == [True, True, True]
