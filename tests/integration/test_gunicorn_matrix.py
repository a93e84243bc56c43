"""Everything that gunicorn does to its workers and its log files, done under load, the lines counted afterwards."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gunicorn_setup import (
    FLAGS,
    FLAGS_FORMAT,
    INHERIT_SOCKETS,
    ROLLOVERS,
    WORKERS,
    audit_both,
    audit_flags,
    config,
    error_log,
    suffix_of,
    wait_for_rollovers,
)
from tests.support.needs import require_package
from tests.support.oracle import Report, audit
from tests.support.servers import Clients, Server, backups, datagrams, wait_until

pytest.importorskip("gunicorn", reason="gunicorn is not installed: pip install rollsafe[gunicorn]")

slow = pytest.mark.slow
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

# Other servers than gunicorn's own write lines of another form.
UVICORN_LINE = re.compile(
    rb'(?P<created>\d+\.\d+) 127\.0\.0\.1:\d+ - "GET /line/(?P<stream>\w+)/(?P<number>\d+)/\d+ HTTP/1\.1" 200'
)
TORNADO_LINE = re.compile(rb"\d+\.\d+ 200 GET /line/\S+ \(127\.0\.0\.1\) .*")

# What asyncio says, through the root logger, of connections that are open when gunicorn's dirty arbiter ends.
ASYNCIO_LINE = re.compile(rb"\d+\.\d+ Exception in callback .*")


def assert_flawless(*reports: Report) -> None:
    """No report found a fault."""
    for report in reports:
        assert report.flawless, report
        assert report.lines > 0, report


# Worker classes.


def matrix() -> Iterator[object]:
    """Every worker class but those of `test_gunicorn`, with and without preload; two of them are not slow."""
    for worker_class in ("gevent", "asgi", "tornado", "uvicorn_worker.UvicornWorker"):
        for preload in (False, True):
            fast = not preload and worker_class in ("gevent", "asgi")
            marks = () if fast else (slow,)
            yield pytest.param(worker_class, preload, marks=marks, id=f"{worker_class}{', preload' * preload}")


@pytest.mark.parametrize(("worker_class", "preload_app"), list(matrix()))
def test_every_worker_class_keeps_every_line(tmp_path: Path, worker_class: str, preload_app: bool) -> None:
    require_package(worker_class.partition(".")[0] if worker_class != "asgi" else "gunicorn.workers.gasgi")
    logs = tmp_path / "logs"
    callable_ = "application" if worker_class in ("gevent", "tornado") else "asgi"
    settings = config(worker_class=worker_class, preload_app=preload_app)
    names = ["app.log"] if worker_class == "tornado" else ["app.log", "access.log"]
    with (
        Server(tmp_path, settings, app=f"tests.support.apps:{callable_}", workers=WORKERS) as server,
        Clients(server) as clients,
    ):
        wait_until(lambda: clients.answering == server.workers, "an answer from every worker")
        wait_for_rollovers(logs, ROLLOVERS, names)

    assert clients.refused == []
    assert_flawless(audit(logs / "app.log", clients.acknowledged, suffix_of, notices=TORNADO_LINE))
    if worker_class.startswith("uvicorn"):
        assert_flawless(audit(logs / "access.log", clients.acknowledged, suffix_of, pattern=UVICORN_LINE))
    elif worker_class != "tornado":
        assert_flawless(audit_both(logs, clients)[1])
    assert server.output == ""


@slow
def test_dirty_workers_keep_every_line(tmp_path: Path) -> None:
    pytest.importorskip("gunicorn.dirty", reason="this gunicorn has no dirty workers")
    logs = tmp_path / "logs"
    # With Python 3.13 gunicorn's dirty arbiter, once it had a client, ends only by this (with any logger).
    settings = config(dirty_apps=["tests.support.dirty:Lines"], dirty_workers=2, graceful_timeout=3)
    with Server(tmp_path, settings, workers=2) as server, Clients(server, action="dirty_line") as clients:
        wait_until(lambda: len(clients.answering) == 2, "an answer from both dirty workers")
        wait_for_rollovers(logs, ROLLOVERS, ["app.log"])
        assert not clients.answering & server.workers

    assert clients.refused == []
    assert_flawless(audit(logs / "app.log", clients.acknowledged, suffix_of, notices=ASYNCIO_LINE))
    assert server.output == ""


# Workers come and go.


@slow
def test_recycled_workers_keep_every_line(tmp_path: Path) -> None:
    settings = config(max_requests=40, max_requests_jitter=20)
    with Server(tmp_path, settings, workers=WORKERS) as server, Clients(server) as clients:
        server.wait_for_boots(4 * WORKERS)
        wait_for_rollovers(tmp_path / "logs", ROLLOVERS)

    assert clients.refused == []
    assert_flawless(*audit_both(tmp_path / "logs", clients))
    assert "Autorestarting worker after current request." in error_log(tmp_path)
    assert server.output == ""


ABORT_LOGS = """
import logging
from tests.support.oracle import make_line

def worker_abort(worker):
    logging.getLogger("hook").info(make_line(f"aborted{worker.pid}", 0, 60))

"""


@slow
@pytest.mark.parametrize("deaf", ["deaf", "hearing"])
def test_a_worker_that_times_out_loses_nothing(tmp_path: Path, deaf: str) -> None:
    # SIGABRT reaches a worker that hears, and its hook logs in the signal handler; one that does not is killed.
    settings = ABORT_LOGS + config(timeout=1)
    with Server(tmp_path, settings, workers=WORKERS) as server, Clients(server, count=2) as clients:
        for number in (0, 1):
            server.ask_in_vain(f"/hang/hanging/{number}/{deaf}")
            server.wait_for_boots(WORKERS + number + 1)
            wait_for_rollovers(tmp_path / "logs", 1)
    clients.acknowledged["hanging"] |= {0, 1}

    app = audit(tmp_path / "logs" / "app.log", clients.acknowledged, suffix_of)
    assert_flawless(app)
    assert app.unacknowledged == 1 + (2 if deaf == "hearing" else 0), "the server's readiness, and the hook's lines"
    assert error_log(tmp_path).count("WORKER TIMEOUT") == 2
    assert ("SIGKILL" in error_log(tmp_path)) == (deaf == "deaf")


@slow
def test_workers_are_added_and_taken_away(tmp_path: Path) -> None:
    with Server(tmp_path, config(), workers=2) as server, Clients(server) as clients:
        for more in (1, 2):
            server.signal(signal.SIGTTIN)
            server.wait_for_boots(2 + more)
            wait_for_rollovers(tmp_path / "logs", 1)
        for fewer in (3, 2, 1):
            server.signal(signal.SIGTTOU)
            wait_until(lambda left=fewer: len(server.workers) == left, f"{fewer} workers")  # type: ignore[misc]
            wait_for_rollovers(tmp_path / "logs", 1)

    assert_flawless(*audit_both(tmp_path / "logs", clients))
    assert server.output == ""


# Signals to the arbiter.


@slow
def test_a_storm_of_usr1_loses_nothing(tmp_path: Path) -> None:
    with Server(tmp_path, config(), workers=WORKERS) as server, Clients(server) as clients:
        for _ in range(10):
            for _ in range(20):
                server.signal(signal.SIGUSR1)
                clients.wait_for(more=1)
            for worker in server.workers:
                os.kill(worker, signal.SIGUSR1)
        wait_for_rollovers(tmp_path / "logs", 1)

    assert clients.refused == []
    assert_flawless(*audit_both(tmp_path / "logs", clients))
    assert server.output == ""


@slow
def test_hup_with_a_changed_configuration_loses_nothing(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    with Server(tmp_path, config(), workers=2) as server, Clients(server) as clients:
        wait_for_rollovers(logs, 1)
        server.configure(
            config('"logs", when="S", backupCount=1000, level="DEBUG"', loglevel="debug", preload_app=True)
        )
        server.signal(signal.SIGHUP)
        server.wait_for_boots(4)
        wait_for_rollovers(logs, 2)

    assert clients.refused == []
    assert_flawless(*audit_both(logs, clients))
    assert error_log(tmp_path).count("Booting worker") == 4
    assert server.output == ""


@slow
def test_two_arbiters_write_during_an_upgrade(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    settings = INHERIT_SOCKETS + config(pidfile="gunicorn.pid")
    with Server(tmp_path, settings, workers=2) as server, Clients(server) as clients:
        wait_for_rollovers(logs, 1)
        server.signal(signal.SIGUSR2)
        server.wait_for_boots(4)
        wait_until(lambda: len(clients.answering) == 4, "answers from the workers of both arbiters")
        wait_for_rollovers(logs, ROLLOVERS)
        server.follow_upgrade()
        wait_for_rollovers(logs, 2)

    assert_flawless(*audit_both(logs, clients))
    assert error_log(tmp_path).count("Booting worker") == 4
    assert error_log(tmp_path).count("Worker exiting") == 4


# Settings of the command line beside the preset.


@pytest.mark.parametrize("logger_class", ["simple", pytest.param("rollsafe.gunicorn.Logger", marks=slow)])
def test_the_flags_work_beside_the_preset(tmp_path: Path, logger_class: str) -> None:
    logs = tmp_path / "logs"
    line = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s and %({x-missing}i)s'
    with datagrams() as (address, received):
        arguments = ["--log-level", "debug", "--access-logformat", line, "--statsd-host", address]
        settings = config(logger_class=logger_class)
        with Server(tmp_path, settings, workers=WORKERS, arguments=arguments) as server, Clients(server) as clients:
            wait_for_rollovers(logs, ROLLOVERS)

    asked = clients.answered + len(clients.refused) + 1
    counts = Counter(metric.partition(":")[0] for metric in received)
    assert clients.refused == []
    assert_flawless(*audit_both(logs, clients))
    assert b" 200 and -\n" in (logs / "access.log").read_bytes()
    assert "Arbiter booted" in error_log(tmp_path)
    assert counts["gunicorn.requests"] == counts["gunicorn.request.duration"] == asked
    assert counts["gunicorn.request.status.200"] == asked
    assert counts["gunicorn.workers"] > 0
    assert server.output == ""


@slow
def test_output_is_captured_in_a_file_that_is_never_rotated(tmp_path: Path) -> None:
    settings = config('"logs", when="S", error=None', capture_output=True, errorlog="captured.log")
    with Server(tmp_path, settings, workers=WORKERS) as server, Clients(server) as clients:
        for number in range(3):
            wait_for_rollovers(tmp_path / "logs", 1)
            server.get(f"/say/word{number}")

    assert clients.refused == []
    assert_flawless(*audit_both(tmp_path / "logs", clients, re.compile(rb'.*"GET /say/word\d HTTP/1\.1" 200 .*')))
    assert backups(tmp_path / "captured.log") == []
    assert (tmp_path / "captured.log").read_text().count("Booting worker") == WORKERS
    assert re.findall(r"^word\d$", (tmp_path / "captured.log").read_text(), re.MULTILINE) == ["word0", "word1", "word2"]
    assert server.output == ""


# The flags themselves rotate.


@pytest.mark.parametrize(
    "worker_class", ["sync", *(pytest.param(name, marks=slow) for name in ("gthread", "gevent", "asgi"))]
)
def test_the_files_of_the_flags_keep_every_line_whole_once_in_its_own_file(tmp_path: Path, worker_class: str) -> None:
    settings = FLAGS + f"threads = {4 if worker_class == 'gthread' else 1}\n"
    arguments = ["--access-logfile", "access.log", "--error-logfile", "error.log", "--access-logformat", FLAGS_FORMAT]
    arguments += ["--log-level", "debug", "--worker-class", worker_class]
    app = f"tests.support.apps:{'asgi' if worker_class == 'asgi' else 'application'}"
    with (
        Server(tmp_path, settings, app=app, workers=WORKERS, arguments=arguments) as server,
        Clients(server) as clients,
    ):
        wait_for_rollovers(tmp_path, ROLLOVERS, ["access.log", "error.log"])

    assert clients.refused == []
    assert_flawless(audit_flags(tmp_path / "access.log", clients))
    error = "".join(path.read_text() for path in [*backups(tmp_path / "error.log"), tmp_path / "error.log"])
    assert error.count("Booting worker") == error.count("Worker exiting") == WORKERS


@slow
@pytest.mark.parametrize("raw", [False, True], ids=["environment", "raw_env"])
def test_the_environment_sets_the_rotation_of_the_flags(tmp_path: Path, raw: bool) -> None:
    arguments = ["--logger-class", "rollsafe.gunicorn.Logger", "--access-logfile", "access.log"]
    arguments += ["--access-logformat", FLAGS_FORMAT, *(["--env", "ROLLSAFE_WHEN=S"] if raw else [])]
    environment = {"ROLLSAFE_WHEN": "h" if raw else "S", "ROLLSAFE_BACKUP_COUNT": "100"}
    with Server(tmp_path, "", arguments=arguments, environment=environment) as server, Clients(server) as clients:
        wait_for_rollovers(tmp_path, ROLLOVERS, ["access.log"])

    assert clients.refused == []
    assert_flawless(audit_flags(tmp_path / "access.log", clients))


@slow
def test_the_files_of_the_flags_survive_hup_and_usr1(tmp_path: Path) -> None:
    arguments = ["--access-logfile", "access.log", "--error-logfile", "error.log", "--access-logformat", FLAGS_FORMAT]
    with Server(tmp_path, FLAGS, workers=2, arguments=arguments) as server, Clients(server) as clients:
        for signals, number in enumerate([signal.SIGUSR1, signal.SIGHUP] * 2, 1):
            server.signal(number)
            server.wait_for_boots(2 + 2 * (signals // 2))
            wait_for_rollovers(tmp_path, 1, ["access.log"])
        server.configure(FLAGS.replace('"S"', '"h"'))
        before = len(list(tmp_path.glob("booted-*")))
        server.signal(signal.SIGHUP)
        server.wait_for_boots(before + 2)
        wait_until(lambda: clients.answering >= server.workers, "answers from the new workers")
        # The new configuration has hours: nobody rolls any more.
        known = backups(tmp_path / "access.log")
        clients.wait_for(more=200)
        assert len(backups(tmp_path / "access.log")) <= len(known) + 1

    assert clients.refused == []
    report = audit_flags(tmp_path / "access.log", clients)
    assert (report.lost, report.doubled, report.torn) == (0, 0, 0), report


@slow
@only_root
@pytest.mark.parametrize("theirs", [True, False], ids=["their directory", "root's directory"])
def test_the_files_of_the_flags_belong_to_the_workers_user(theirs: bool) -> None:
    nobody = pwd.getpwnam("nobody")
    directory = Path(tempfile.mkdtemp(prefix="rollsafe-"))
    try:
        directory.chmod(0o755)
        (directory / "logs").mkdir()
        os.chown(directory, nobody.pw_uid, nobody.pw_gid)
        if theirs:
            os.chown(directory / "logs", nobody.pw_uid, nobody.pw_gid)
        # The interpreter may lie in root's home, where nobody cannot import from.
        settings = FLAGS + 'import hashlib\nuser, group = "nobody", "nogroup"\npreload_app = True\n'
        arguments = ["--access-logfile", "logs/access.log", "--access-logformat", FLAGS_FORMAT]
        with Server(directory, settings, arguments=arguments) as server, Clients(server) as clients:
            if theirs:
                wait_for_rollovers(directory / "logs", ROLLOVERS, ["access.log"])
            else:
                wait_until(lambda: "give user" in (directory / "output.txt").read_text(), "a refused rollover")
            clients.wait_for(more=50)
        report = audit_flags(directory / "logs" / "access.log", clients)
        assert (report.lost, report.doubled, report.torn) == (0, 0, 0), report
        assert report.flawless or not theirs, report
        assert (directory / "logs" / "access.log").stat().st_uid == nobody.pw_uid
    finally:
        shutil.rmtree(directory)


@pytest.mark.parametrize("where", ["preset", "flags"])
def test_a_request_for_a_second_line_makes_one_line(tmp_path: Path, where: str) -> None:
    forging = "%(U)s|%({x-name}i)s|%(a)s"
    if where == "preset":
        settings = config('"logs", when="h"', logger_class="rollsafe.gunicorn.Logger")
    else:
        settings = FLAGS.replace('"S"', '"h"') + 'accesslog = "logs/access.log"\n'
        (tmp_path / "logs").mkdir()
    arguments = ["--access-logformat", forging]
    with Server(tmp_path, settings, workers=1, arguments=arguments) as server:
        connection = server.connect()
        connection.request("GET", "/say/a%0aforged%0d%1b%e2%80%a8", headers={"X-Name": "a\tb"})
        connection.getresponse().read()
        connection.close()
    lines = (tmp_path / "logs" / "access.log").read_bytes().decode().splitlines()
    assert len(lines) == 2
    assert lines[1].endswith(r"/say/a\nforged\r\x1bâ\x80¨|a\tb|-")
