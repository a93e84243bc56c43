"""Whose the files are that are made again: by root, and by one of several users who share a log by its group."""

from __future__ import annotations

import logging
import os
import signal
import stat
from pathlib import Path

import pytest

from rollsafe import SafeTimedRotatingFileHandler
from tests.support.crew import WatchedHandler
from tests.support.oracle import audit
from tests.support.scene import BYSTANDER, INTRUDER, Scene
from tests.support.servers import Clients, Server, wait_until

pytest.importorskip("gunicorn", reason="gunicorn is not installed: pip install rollsafe[gunicorn]")

GROUP = 54_333


def looks(path: Path) -> tuple[int, int, int]:
    """Owner, group and mode."""
    status = path.stat()
    return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)


@pytest.mark.parametrize("preset", ['"H"', '"H", permissions=0o640'])
@pytest.mark.parametrize("how", ["removed", "moved away"])
def test_what_the_arbiter_makes_again_is_the_workers(scene: Scene, how: str, preset: str) -> None:
    live = scene.logs / "error.log"
    with Server(scene.run, scene.config(f"when={preset}")) as server, Clients(server) as clients:
        before = looks(live)
        workers = server.workers
        if how == "removed":
            live.unlink()
        else:
            live.rename(live.with_name("error.log.old"))
        server.signal(signal.SIGUSR1)
        wait_until(live.exists, "a new error log")
        clients.wait_for(more=20)
        assert server.workers == workers, "a worker has ended"
        assert looks(live) == before
    assert before[:2] == (INTRUDER, INTRUDER)
    assert server.output == ""
    # Each worker says good-bye in the file that the arbiter has made.
    assert live.read_text().count("Worker exiting") == len(workers)
    report = audit(scene.logs / "app.log", clients.acknowledged, lambda created: "")
    assert (report.lost, report.doubled, report.torn) == (0, 0, 0), report


def test_removed_while_nobody_logs_it_is_made_as_it_was(scene: Scene) -> None:
    """The lock file has the owner, and the note the permissions."""
    live = scene.logs / "error.log"
    os.chown(scene.logs, 0, 0)
    scene.logs.chmod(0o777)
    with Server(scene.run, scene.config("when='H', permissions=0o640")):
        pass
    live.unlink()
    scene.logs.chmod(0o755)
    handler = SafeTimedRotatingFileHandler(live, when="H")
    handler.handle(logging.makeLogRecord({"msg": "root's"}))
    handler.close()
    assert looks(live) == (INTRUDER, INTRUDER, 0o640)


def as_member(user: int, groups: list[int], live: Path, text: str, permissions: int | None) -> list[str]:
    """Log a line, roll over, log another one; as a user who is in these groups. The reports."""
    reports = live.parent.parent / f"reports-{user}"
    reports.touch()
    reports.chmod(0o666)
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.umask(0o022)
            os.setgroups(groups)
            os.setgid(user)
            os.setuid(user)
            handler = WatchedHandler(live, when="H", permissions=permissions)
            for line in ("before", "after"):
                handler.handle(logging.makeLogRecord({"msg": f"{text} {line}"}))
                if line == "before":
                    handler.doRollover()
            handler.close()
            reports.write_text("\n".join(handler.reported))
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return reports.read_text().splitlines()


@pytest.mark.parametrize("permissions", [None, 0o664])
@pytest.mark.parametrize("setgid", [0, stat.S_ISGID])
def test_users_who_share_a_log_by_its_group_go_on_sharing_it(
    scene: Scene, permissions: int | None, setgid: int
) -> None:
    os.chown(scene.logs, INTRUDER, GROUP)
    scene.logs.chmod(0o775 | setgid)
    live = scene.logs / "app.log"
    if permissions is None:
        live.touch()
        os.chown(live, INTRUDER, GROUP)
        live.chmod(0o664)
    for user, text in ((INTRUDER, "first"), (BYSTANDER, "second"), (INTRUDER, "third")):
        assert as_member(user, [GROUP], live, text, permissions) == []
        assert looks(live)[1:] == (GROUP, 0o664)
        assert looks(scene.logs / ".app.log.lock")[1:] == (GROUP, 0o660)
    lines = sorted(line for path in scene.logs.glob("app.log*") for line in path.read_text().splitlines())
    assert lines == sorted(f"{text} {line}" for text in ("first", "second", "third") for line in ("before", "after"))
