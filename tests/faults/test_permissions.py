"""Promise P7 when gunicorn's arbiter is root and its workers are not (SERVERS: setuid follows post_fork)."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from tests.support.gunicorn_setup import suffix_of
from tests.support.oracle import LINE_FORMAT, audit
from tests.support.servers import Clients, Server, backups, wait_until

pytest.importorskip("gunicorn", reason="gunicorn is not installed: pip install rollsafe[gunicorn]")
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

ROLLOVERS = 4
CONFIG = f"""
import hashlib  # on 3.13 a worker imports it after it has become nobody

from rollsafe.gunicorn import post_fork, rotating_logs

user, group = "nobody", "nogroup"
preload_app = True  # the interpreter may lie in root's home, where nobody cannot import from
logconfig_dict = rotating_logs("logs", when="S", format="{LINE_FORMAT}", access_format="{LINE_FORMAT}")
"""


def seconds_of(live: Path) -> set[bytes]:
    """The seconds in which the lines of the live file were created."""
    return {line.partition(b".")[0] for line in live.read_bytes().split(b"\n")[:-1] if line}


def test_workers_that_are_nobody_roll_in_a_directory_that_nobody_may_write(public_directory: Path) -> None:
    logs = public_directory / "logs"
    nobody = pwd.getpwnam("nobody")
    # Workers report that they have booted there, and roll in logs.
    os.chown(public_directory, nobody.pw_uid, nobody.pw_gid)
    os.chown(logs, nobody.pw_uid, nobody.pw_gid)
    with Server(public_directory, CONFIG) as server, Clients(server) as clients:
        wait_until(lambda: len(backups(logs / "app.log")) >= ROLLOVERS, "rollovers")

    report = audit(logs / "app.log", clients.acknowledged, suffix_of)
    assert report.flawless, report
    assert server.output == "", "an outage was reported"
    error_lines = "".join(path.read_text() for path in [*backups(logs / "error.log"), logs / "error.log"])
    assert error_lines.count("Worker exiting") == len(list(public_directory.glob("booted-*")))
    for name in ("app.log", "access.log", "error.log", ".app.log.lock", ".access.log.lock", ".error.log.lock"):
        assert (logs / name).stat().st_uid == nobody.pw_uid, name


def test_where_nobody_may_not_rename_lines_go_on_and_it_is_said_with_the_remedy(public_directory: Path) -> None:
    logs = public_directory / "logs"
    nobody = pwd.getpwnam("nobody")
    os.chown(public_directory, nobody.pw_uid, nobody.pw_gid)
    with Server(public_directory, CONFIG) as server, Clients(server) as clients:
        wait_until(lambda: "was refused" in (public_directory / "output.txt").read_text(), "a refused rollover")
        # Each of the next seconds it is refused again.
        wait_until(lambda: len(seconds_of(logs / "app.log")) >= 4, "lines of four seconds in one file")
        clients.wait_for(more=50)

    report = audit(logs / "app.log", clients.acknowledged, suffix_of)
    assert (report.lost, report.doubled, report.torn) == (0, 0, 0), report
    assert report.lines >= sum(map(len, clients.acknowledged.values())) > 0
    said = server.output.count("the rollover of " + str(logs / "app.log") + " was refused")
    assert 1 <= said <= 4, "once in each worker"
    assert f"give user {nobody.pw_uid} write permission on {str(logs)!r}" in server.output
