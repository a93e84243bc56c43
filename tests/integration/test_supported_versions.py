"""Every supported gunicorn and Python: real workers under load through rollovers and signals, every line counted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rollsafe.gunicorn import rotating_logs
from tests.support.gunicorn_setup import (
    FLAGS,
    FLAGS_FORMAT,
    INHERIT_SOCKETS,
    audit_both,
    audit_flags,
    config,
    error_log,
    wait_for_rollovers,
)
from tests.support.oracle import LINE_FORMAT
from tests.support.servers import SIGNAL_WHILE_LOOP_CLOSES, Clients, Server, backups, datagrams, wait_until
from tests.support.versions import (
    GUNICORNS,
    NEWEST,
    PYTHONS,
    Missing,
    environment_of,
    gunicorn,
    interpreter,
    with_packages,
)

pytestmark = pytest.mark.slow

WORKERS = 2
# A pause after each answer: what counts here is that signals and boundaries fall between lines, not how many there are.
PAUSE = 0.01


@dataclass(frozen=True)
class Way:
    """One way to log from gunicorn: a worker class, and what makes its files."""

    worker_class: str
    by: str
    """preset, preset and logger_class, or flags."""
    package: str | None = None
    """What the worker class needs."""
    module: str | None = None
    """The module of gunicorn that not every version has."""

    def __str__(self) -> str:
        return f"{self.worker_class}, {self.by}"

    @property
    def settings(self) -> str:
        """The gunicorn.conf.py."""
        # gunicorn 25's asgi worker waits to the end for connections that are kept alive.
        own: dict[str, Any] = {
            "graceful_timeout": 2,
            "worker_class": self.worker_class,
            "threads": 2 if self.worker_class == "gthread" else 1,
        }
        if self.by == "flags":
            return FLAGS + "".join(f"{name} = {value!r}\n" for name, value in own.items())
        logger = {} if self.by == "preset" else {"logger_class": "rollsafe.gunicorn.Logger"}
        return config(**own, **logger)


WAYS = (
    Way("sync", "preset"),
    Way("gthread", "flags"),
    Way("gevent", "preset and logger_class", package="gevent"),
    Way("eventlet", "preset", package="eventlet", module="gunicorn/workers/geventlet.py"),
    Way("asgi", "preset", module="gunicorn/workers/gasgi.py"),
)


def cells() -> Iterator[object]:
    """Each gunicorn on Python 3.10 and 3.13, and the newest gunicorn on each Python."""
    for version in GUNICORNS:
        for python in PYTHONS if version == NEWEST else ("3.10", "3.13"):
            yield pytest.param(version, python, id=f"gunicorn {version}, Python {python}")


def had(python: str, version: str) -> tuple[Path, Path]:
    """That Python, and the directory of that gunicorn; skips the test where one of them cannot be had."""
    try:
        return interpreter(python), gunicorn(version)
    except Missing as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize(("version", "python"), list(cells()))
def test_every_line_is_kept_through_rollovers_and_signals(tmp_path: Path, version: str, python: str) -> None:
    executable, home = had(python, version)
    ways = [way for way in WAYS if way.module is None or (home / way.module).exists()]
    for way in ways:
        if way.package:
            with_packages(python, way.package)
    with ThreadPoolExecutor(len(ways)) as pool:
        runs = {way: pool.submit(under_load, way, tmp_path / way.worker_class, executable, home) for way in ways}
    assert {str(way): run.result() for way, run in runs.items() if run.result()} == {}


def under_load(way: Way, directory: Path, python: Path, home: Path) -> list[str]:
    """What is wrong with the logs of a server that was reloaded, reopened and robbed of a worker."""
    directory.mkdir()
    logs = directory if way.by == "flags" else directory / "logs"
    names = ["access.log"] if way.by == "flags" else ["app.log", "access.log"]
    flags = ["--access-logfile", "access.log", "--error-logfile", "error.log", "--access-logformat", FLAGS_FORMAT]
    app = f"tests.support.apps:{'asgi' if way.worker_class == 'asgi' else 'application'}"
    arguments = flags if way.by == "flags" else ()
    environment = environment_of(home)
    with (
        Server(
            directory,
            way.settings,
            app=app,
            workers=WORKERS,
            arguments=arguments,
            environment=environment,
            python=python,
        ) as server,
        Clients(server, count=2, pause=PAUSE) as clients,
    ):
        wait_until(lambda: clients.answering >= server.workers, "an answer from every worker")
        server.signal(signal.SIGUSR1)
        wait_for_rollovers(logs, 1, names)
        server.signal(signal.SIGHUP)
        server.wait_for_boots(2 * WORKERS)
        wait_for_rollovers(logs, 1, names)
        os.kill(max(server.workers), signal.SIGTERM)
        server.wait_for_boots(2 * WORKERS + 1)
        server.signal(signal.SIGUSR1)
        clients.wait_for(more=20)
        wait_for_rollovers(logs, 1, names)

    reports = [audit_flags(logs / "access.log", clients)] if way.by == "flags" else audit_both(logs, clients)
    wrong = [str(report) for report in reports if not report.flawless or not report.lines]
    wrong += [server.output] if server.output else []
    return wrong


@pytest.mark.parametrize("python", PYTHONS)
def test_what_asyncio_says_of_a_signal_while_it_closes_its_loop_is_taken_for_that_alone(python: str) -> None:
    code = """
import asyncio, os, signal
loop = asyncio.new_event_loop()
loop.add_signal_handler(signal.SIGUSR1, print)
close_pipe = loop._close_self_pipe
loop._close_self_pipe = lambda: (close_pipe(), os.kill(os.getpid(), signal.SIGUSR1))
loop.close()
"""
    try:
        executable = interpreter(python)
    except Missing as reason:
        pytest.skip(str(reason))
    said = subprocess.run([executable, "-c", code], check=True, capture_output=True, text=True, timeout=120).stderr
    assert SIGNAL_WHILE_LOOP_CLOSES.fullmatch(said), said
    assert not SIGNAL_WHILE_LOOP_CLOSES.search(said.replace("[Errno 9] Bad file descriptor", "[Errno 11]"))


@pytest.mark.parametrize(("version", "preload_app"), [("22.0", False), ("25.0", True)])
def test_two_arbiters_write_during_an_upgrade(tmp_path: Path, version: str, preload_app: bool) -> None:
    # On the newest it is among the tests of the gunicorn that is installed.
    executable, home = had(PYTHONS[0], version)
    settings = INHERIT_SOCKETS + config(pidfile="gunicorn.pid", preload_app=preload_app)
    with (
        Server(tmp_path, settings, workers=2, environment=environment_of(home), python=executable) as server,
        Clients(server, count=2, pause=PAUSE) as clients,
    ):
        wait_for_rollovers(tmp_path / "logs", 1)
        server.signal(signal.SIGUSR2)
        server.wait_for_boots(4)
        wait_until(lambda: len(clients.answering) == 4, "answers from the workers of both arbiters")
        wait_for_rollovers(tmp_path / "logs", 2)
        server.follow_upgrade()
        wait_for_rollovers(tmp_path / "logs", 1)

    for report in audit_both(tmp_path / "logs", clients):
        assert report.flawless, report
        assert report.lines > 0, report


# The last version whose arbiter leaves the logging as it was, the first that sets it up again, and both ends.
RELOADING = ("22.0", "26.0", "26.1", NEWEST)
UNHEEDED = "does not set up logging again on a reload"


def settings_of(by: str, when: str, hook: bool) -> str:
    """A gunicorn.conf.py whose files roll over by that `when`."""
    if by == "flags":
        settings = FLAGS.replace('"S"', f'"{when}"') + 'accesslog, errorlog = "logs/access.log", "logs/error.log"\n'
    else:
        settings = config(f'"logs", when="{when}", compress=compress', logger_class="rollsafe.gunicorn.Logger")
        settings = "def compress(source, target):\n    raise NotImplementedError\n\n" + settings
    return settings + "from rollsafe.gunicorn import on_reload\n" * hook


@pytest.mark.parametrize("hook", [True, False], ids=["hook", "no hook"])
@pytest.mark.parametrize("by", ["preset", "flags"])
@pytest.mark.parametrize("version", RELOADING)
def test_a_rotation_that_a_reload_changes_counts_or_the_error_log_says_that_it_does_not(
    tmp_path: Path, version: str, by: str, hook: bool
) -> None:
    executable, home = had(PYTHONS[0], version)
    logs = tmp_path / "logs"
    logs.mkdir()
    heeded = hook or version not in RELOADING[:2]
    with datagrams() as (address, received):
        syslog = ["--log-syslog", "--log-syslog-to", f"udp://{address}"] if by == "flags" else []
        with Server(
            tmp_path,
            settings_of(by, "h", hook),
            workers=2,
            arguments=syslog,
            environment=environment_of(home),
            python=executable,
        ) as server:
            server.signal(signal.SIGHUP)
            server.wait_for_boots(4)
            assert UNHEEDED not in error_log(tmp_path), "nothing was changed"
            server.configure(settings_of(by, "S", hook))
            server.signal(signal.SIGHUP)
            server.wait_for_boots(6)
            if heeded:
                with Clients(server, count=2, pause=PAUSE):
                    wait_for_rollovers(logs, 2, ["access.log"])
                # The arbiter's own lines too.
                server.signal(signal.SIGUSR1)
                wait_until(lambda: bool(backups(logs / "error.log")), "a rollover of the error log")

    assert error_log(tmp_path).count(UNHEEDED) == (0 if heeded else 1)
    assert "two rotations" not in error_log(tmp_path)
    assert heeded or backups(logs / "access.log") == []
    # Handlers that gunicorn makes beside ours are there once after any number of reloads.
    assert sum("Booting worker" in line for line in received) == (6 if syslog else 0)


@pytest.mark.parametrize("hook", [True, False], ids=["hook", "no hook"])
@pytest.mark.parametrize("version", RELOADING)
def test_an_edited_file_of_logging_settings_counts_or_the_error_log_says_that_it_does_not(
    tmp_path: Path, version: str, hook: bool
) -> None:
    executable, home = had(PYTHONS[0], version)
    logs = tmp_path / "logs"
    logs.mkdir()
    heeded = hook or version not in RELOADING[:2]

    def write(when: str) -> None:
        written = rotating_logs(logs, when=when, format=LINE_FORMAT, access_format=LINE_FORMAT)
        (tmp_path / "log.json").write_text(json.dumps(written), encoding="utf-8")

    write("h")
    with Server(
        tmp_path,
        "from rollsafe.gunicorn import " + "on_reload, " * hook + "post_fork\n",
        workers=2,
        arguments=["--log-config-json", "log.json"],
        environment=environment_of(home),
        python=executable,
    ) as server:
        write("S")
        server.signal(signal.SIGHUP)
        server.wait_for_boots(4)
        if heeded:
            with Clients(server, count=2, pause=PAUSE):
                wait_for_rollovers(logs, 2, ["access.log"])

    assert error_log(tmp_path).count(UNHEEDED) == (0 if heeded else 1)
    assert heeded or backups(logs / "access.log") == []
