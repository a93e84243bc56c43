"""What the workers' user may not do is said where somebody sees it, with what is to be done about it."""

from __future__ import annotations

import http.client
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rollsafe import FileLock, SafeTimedRotatingFileHandler
from rollsafe._remedies import remedy_for
from tests.support.scene import BYSTANDER, INTRUDER, Scene, as_user
from tests.support.servers import COMMON_SETTINGS, GUNICORN, Server, server_environment, wait_until

pytest.importorskip("gunicorn", reason="gunicorn is not installed: pip install rollsafe[gunicorn]")


class OverSocket(http.client.HTTPConnection):
    """A connection to a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=120)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


@contextmanager
def daemon(scene: Scene, config: str) -> Iterator[Callable[[str], int]]:
    """A gunicorn that has detached itself; the function asks it for a path, and gives the status of the answer."""
    (scene.run / "gunicorn.conf.py").write_text(COMMON_SETTINGS + config, encoding="utf-8")
    pidfile, listener = scene.run / "gunicorn.pid", scene.run / "socket"
    subprocess.run(
        [
            *GUNICORN,
            "--daemon",
            "--pid",
            str(pidfile),
            "--bind",
            f"unix:{listener}",
            "tests.support.apps:application",
        ],
        cwd=scene.run,
        env=server_environment(),
        timeout=120,
        check=True,
    )
    try:
        wait_until(lambda: bool(list(scene.run.glob("booted-*"))), "a worker")

        def ask(path: str) -> int:
            connection = OverSocket(listener)
            connection.request("GET", path)
            status = connection.getresponse().status
            connection.close()
            return status

        yield ask
    finally:
        arbiter = int(pidfile.read_text())
        os.kill(arbiter, signal.SIGTERM)
        wait_until(lambda: not pidfile.exists(), "the end of the daemon")


def test_the_logs_of_a_daemon_say_that_they_cannot_be_rolled_and_why(scene: Scene) -> None:
    os.chown(scene.logs, 0, 0)
    remedy = f"give user {INTRUDER} write permission on {str(scene.logs)!r}"
    with daemon(scene, scene.config()) as ask:
        live = scene.logs / "app.log"

        def said() -> bool:
            assert ask("/line/daemon/0/60") == 200
            time.sleep(0.05)
            return "was refused" in live.read_text()

        wait_until(said, "a refused rollover")
        text = live.read_text()
        assert text.count("was refused") == 1
        assert f"rollsafe: the rollover of {live} was refused; lines go on into the open file; {remedy}" in text
        error_log = (scene.logs / "error.log").read_text()
        assert f"the log files in {str(scene.logs)!r} will not be rolled over" in error_log
        assert f"chown {INTRUDER} {scene.logs}" in error_log
        assert ask("/line/daemon/1/60") == 200
    assert not list(scene.logs.glob("app.log.*"))


def test_where_the_workers_may_rename_nothing_is_said(scene: Scene) -> None:
    with Server(scene.run, scene.config("when='H', archive_dir='old'")):
        pass
    assert "will not be rolled over" not in (scene.logs / "error.log").read_text()


def test_a_directory_for_backups_that_the_workers_may_not_write_is_named(scene: Scene) -> None:
    with Server(scene.run, scene.config(f"when='H', archive_dir={str(scene.etc)!r}")):
        pass
    error_log = (scene.logs / "error.log").read_text()
    assert f"the log files in {str(scene.etc)!r} will not be rolled over" in error_log
    assert f"the log files in {str(scene.logs)!r} will not" not in error_log


def report_of(act: Callable[[SafeTimedRotatingFileHandler], object], live: Path) -> list[str]:
    """The reports of a handler of the second user, as people read them."""
    collected = live.with_name("reports")

    class Collecting(SafeTimedRotatingFileHandler):
        def handleError(self, record: logging.LogRecord) -> None:
            with collected.open("a") as file:
                file.write(f"{record.msg}: {sys.exc_info()[1]}\n")

    def log() -> None:
        handler = Collecting(live, when="H")
        handler.handle(logging.makeLogRecord({"msg": "first"}))
        act(handler)
        handler.handle(logging.makeLogRecord({"msg": "second"}))
        handler.close()

    as_user(log)
    return collected.read_text().splitlines() if collected.exists() else []


def test_a_lock_file_of_roots_is_named_with_its_owner(scene: Scene) -> None:
    live, lock = scene.logs / "app.log", scene.logs / ".app.log.lock"
    lock.touch(0o600)
    (report,) = report_of(lambda handler: handler.doRollover(), live)
    assert f"give user {INTRUDER} write permission on {str(lock)!r}, which belongs to user 0" in report


def test_a_lock_file_that_root_makes_first_belongs_to_those_who_log(scene: Scene) -> None:
    """A cron job, manage.py or `rollsafe prune` that root has run before the service."""
    with FileLock(scene.logs / ".app.log.lock"):
        pass
    handler = SafeTimedRotatingFileHandler(scene.logs / "cron.log", when="H")
    handler.handle(logging.makeLogRecord({"msg": "root's"}))
    handler.close()
    for name in ("app.log", "cron.log"):
        assert report_of(lambda handler: handler.doRollover(), scene.logs / name) == []
    assert {path.stat().st_uid for path in scene.logs.iterdir()} == {INTRUDER}


def test_where_the_live_file_is_another_users_the_lock_file_is_that_users(scene: Scene) -> None:
    os.chown(scene.logs, 0, BYSTANDER)
    live = scene.logs / "app.log"
    live.touch()
    os.chown(live, BYSTANDER, BYSTANDER)
    with FileLock(scene.logs / ".app.log.lock"):
        pass
    assert (scene.logs / ".app.log.lock").stat().st_uid == BYSTANDER


def test_the_remedy_is_what_the_error_names(scene: Scene) -> None:
    sticky = scene.top / "sticky"
    sticky.mkdir()
    sticky.chmod(0o1777)
    (sticky / "app.log").touch(0o644)
    (scene.logs / "mine").touch(0o600)

    def ask() -> None:
        me = f"give user {INTRUDER} write permission on"

        def of(act: Callable[[], object]) -> str:
            try:
                act()
            except PermissionError as error:
                return remedy_for(error)
            raise AssertionError("it was allowed")

        refused = f"{me} {str(scene.secret)!r}, which belongs to user 0"
        assert of(lambda: os.open(scene.secret, os.O_WRONLY)) == refused
        assert of(lambda: os.open(scene.etc / "new", os.O_CREAT)) == f"{me} {str(scene.etc)!r}"
        assert of(lambda: os.rename(scene.secret, scene.logs / "x")) == f"{me} {str(scene.etc)!r}"
        assert of(lambda: os.rename(scene.logs / "mine", scene.etc / "x")) == f"{me} {str(scene.etc)!r}"
        assert (
            of(lambda: os.open(sticky / "app.log", os.O_WRONLY))
            == f"{me} {str(sticky / 'app.log')!r}, which belongs to user 0"
        )
        assert of(lambda: os.rename(sticky / "app.log", sticky / "x")).startswith(
            f"{str(sticky / 'app.log')!r} belongs to user 0, and in a directory like /tmp no other user may rename it"
        )
        assert remedy_for(ValueError("no call")) == ""
        assert remedy_for(PermissionError(13, "of no file")) == ""

    os.chown(scene.logs / "mine", 0, 0)
    as_user(ask)
