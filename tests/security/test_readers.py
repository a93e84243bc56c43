"""Who may only read a log cannot hold up those who write it."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rollsafe import FileLock
from rollsafe.tools.catalog import logs_at
from rollsafe.tools.reading import open_log
from rollsafe.tools.status import Openers, status_of
from tests.support.oracle import audit
from tests.support.scene import BYSTANDER, INTRUDER, Scene, as_user
from tests.support.screens import shown
from tests.support.servers import Clients, Server, backups, wait_until

pytest.importorskip("gunicorn", reason="gunicorn is not installed: pip install rollsafe[gunicorn]")

ROLLOVERS = 3


@contextmanager
def holding(act: Callable[[], object], user: int) -> Iterator[None]:
    """A process of another user that has done something, and goes on to exist."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            as_user_here(user)
            act()
            os.write(writer, b".")
            signal.pause()
        finally:
            os._exit(1)
    os.close(writer)
    try:
        assert os.read(reader, 1) == b".", "the second user could not do it"
        yield
    finally:
        os.close(reader)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def as_user_here(user: int) -> None:
    """Become another user, for good."""
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)


def lock_all_that_can_be_read(directory: Path) -> None:
    """Take each lock that a reader can take, on each file that there is."""
    for name in os.listdir(directory):
        try:
            descriptor = os.open(directory / name, os.O_RDONLY)
        except PermissionError:
            continue
        fcntl.lockf(descriptor, fcntl.LOCK_SH)
        fcntl.flock(descriptor, fcntl.LOCK_EX)


@pytest.mark.parametrize(
    "permissions", ["0o644", *(pytest.param(other, marks=pytest.mark.slow) for other in ("None", "0o640", "0o664"))]
)
def test_who_may_read_everything_and_locks_it_stops_no_rollover(scene: Scene, permissions: str) -> None:
    config = scene.config(f'when="S", backupCount=3, permissions={permissions}')
    with Server(scene.run, config) as server, Clients(server) as clients:
        clients.wait_for(more=20)
        with holding(lambda: lock_all_that_can_be_read(scene.logs), BYSTANDER):
            live = scene.logs / "app.log"
            last = max(backups(live), default=live)
            wait_until(lambda: sum(path > last for path in backups(live)) >= ROLLOVERS, "rollovers")
            newer = max(backups(live))
            wait_until(lambda: newer not in backups(live), "retention")
    assert server.output == ""
    report = audit(live, clients.acknowledged, lambda created: "")
    assert (report.doubled, report.torn) == (0, 0), report


@pytest.mark.parametrize(("mode", "expected"), [(0o644, 0o600), (0o640, 0o600), (0o664, 0o660), (0o666, 0o666)])
def test_the_lock_file_is_for_those_who_may_write_the_log(scene: Scene, mode: int, expected: int) -> None:
    live, path = scene.logs / "app.log", scene.logs / ".app.log.lock"
    live.touch()
    live.chmod(mode)
    os.chown(live, INTRUDER, BYSTANDER)
    with FileLock(path):
        status = path.stat()
    assert (status.st_mode & 0o777, status.st_uid, status.st_gid) == (expected, INTRUDER, BYSTANDER)


@pytest.mark.parametrize(("mask", "expected"), [(0o022, 0o600), (0o002, 0o660), (0, 0o666), (0o077, 0o600)])
def test_without_a_log_the_umask_tells_who_that_is(scene: Scene, mask: int, expected: int) -> None:
    path = scene.logs / ".other.lock"

    def make() -> None:
        os.umask(mask)
        with FileLock(path):
            pass

    as_user(make)
    assert path.stat().st_mode & 0o777 == expected


def test_a_third_user_sees_the_lines_and_is_told_why_not_the_settings(scene: Scene) -> None:
    with Server(scene.run, scene.config("when='S', backupCount=5")) as server, Clients(server):
        wait_until(lambda: len(backups(scene.logs / "app.log")) >= 2, "rollovers")

    # As root first: who cannot read this repository can import nothing of it later.
    (log,) = logs_at([scene.logs / "app.log"])
    assert log.told
    assert "not shown" not in shown(status_of(log, Openers()))

    def look() -> None:
        (log,) = logs_at([scene.logs / "app.log"])
        assert not log.told
        assert len(log.files) >= 3
        said = shown(status_of(log, Openers()))
        assert "only users who may write the log may read its lock file" in " ".join(said.split())
        assert "shown only to users who may write the log" in said
        for file in log.files:
            with open_log(file.path) as stream:
                assert stream.read()

    as_user(look, BYSTANDER)
