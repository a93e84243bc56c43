"""What the guide shows for jobs of other users than the server's: all write one file, and every line is counted."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gunicorn_setup import suffix_of
from tests.support.oracle import LINE_FORMAT, audit
from tests.support.scene import BYSTANDER, INTRUDER
from tests.support.servers import Clients, Server, backups, server_environment
from tests.support.stacks import documented

SHOPLOG = 54_323
"""The common group."""
LINES = 300
ROLLOVERS = 3
SETTLED = '"midnight", tz="Europe/Paris", backupCount=14'

BECOME = """
import os, sys
# A user to whom nobody has given a right to read the interpreter imports nothing later.
import hashlib, logging.config, zoneinfo
from rollsafe import LineFormatter, SafeTimedRotatingFileHandler
from tests.support.oracle import make_line

code, stream, user, group = open(sys.argv[1]).read(), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
os.umask(0o022)
if user:
    os.setgroups([group])
    os.setgid(user)
    os.setuid(user)
os.chdir("/")
exec(code)
for number in range(int(sys.argv[5])):
    logging.getLogger("shop.jobs").info(make_line(stream, number, 200))
"""


@pytest.fixture
def top() -> Iterator[Path]:
    """A directory that other users may enter; pytest's own is closed to them."""
    if os.geteuid() != 0:
        pytest.skip("only root can become other users: run it as root, or in a container")
    path = Path(tempfile.mkdtemp(prefix="rollsafe-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def make_logs(path: Path) -> None:
    """The directory that `install` makes on the page."""
    path.mkdir()
    os.chown(path, INTRUDER, SHOPLOG)
    path.chmod(0o2770)


def run_job(job: Path, stream: str, user: int) -> None:
    """Run the job as a user, who is in the common group unless it is root."""
    ran = subprocess.run(
        [sys.executable, "-c", BECOME, str(job), stream, str(user), str(SHOPLOG), str(LINES)],
        env=server_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.slow
def test_jobs_of_another_user_and_of_root_write_the_servers_file(top: Path) -> None:
    logs, run = top / "logs", top / "run"
    make_logs(logs)
    run.mkdir()
    os.chown(run, INTRUDER, INTRUDER)
    here = {"/var/log/shop": str(logs), "www-data": str(INTRUDER), "shoplog": str(SHOPLOG)}
    job, config = documented("cron.md", "python job.py"), documented("cron.md", "python gunicorn.conf.py")
    for old, new in here.items():
        job, config = job.replace(old, new), config.replace(old, new)
    assert job.count(SETTLED) == config.count(SETTLED) == 1
    job, config = job.replace(SETTLED, '"S"'), config.replace(SETTLED, f'"S", format={LINE_FORMAT!r}')
    job = job.replace("%(asctime)s [%(process)d] [%(levelname)s] %(name)s: %(message)s", LINE_FORMAT)
    job = job.partition("\nlogging.getLogger")[0]
    (top / "job.py").write_text(job, encoding="utf-8")
    # The workers may not be allowed to read the application.
    config = f"import hashlib\npreload_app = True\numask = 0o022\n{config}"
    live = logs / "app.log"
    written: dict[str, int] = {}
    with Server(run, config) as server, Clients(server, pause=0.002) as clients:
        rounds = 0
        while len(backups(live)) < ROLLOVERS or rounds < ROLLOVERS:
            for user in (BYSTANDER, 0):
                stream = f"job{rounds}of{user}"
                run_job(top / "job.py", stream, user)
                written[stream] = LINES
            rounds += 1

    report = audit(live, {**clients.acknowledged, **written}, suffix_of)
    made = [path.stat() for path in [*backups(live), live, logs / ".app.log.lock"]]
    assert clients.refused == []
    assert report.flawless, report
    assert server.output == ""
    assert {stat.S_IMODE(each.st_mode) for each in made} == {0o660}
    assert {each.st_gid for each in made} == {SHOPLOG}


OPEN_WHILE_IT_IS_MADE = """
import logging, os, sys
from rollsafe import SafeTimedRotatingFileHandler
from rollsafe._live import live_path

live, user, content = sys.argv[1], int(sys.argv[2]), sys.argv[3]
os.setgid(user)
os.setuid(user)
pauses = []

def set_mode(pause):
    pauses.append(pause)
    if len(pauses) == 3:
        os.chmod(live, 0o600)

live_path.sleep = set_mode
# Not even its owner may open it again.
descriptor = os.open(live, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o000)
os.write(descriptor, content.encode())
handler = SafeTimedRotatingFileHandler(live, delay=True)
handler.handleError = lambda record: print("reported")
handler.handle(logging.makeLogRecord({"msg": "text"}))
os.chmod(live, 0o600)
print(len(pauses), open(live).read().strip())
"""


@pytest.mark.parametrize(("content", "printed"), [("", "3 text\n"), ("a line\n", "reported\n0 a line\n")])
def test_a_user_who_comes_while_another_one_makes_the_file_waits_for_its_mode(
    content: str, printed: str, top: Path
) -> None:
    """`open` makes a file with the mode that the umask leaves, and its maker sets mode and owner after that."""
    make_logs(top / "logs")
    ran = subprocess.run(
        [sys.executable, "-c", OPEN_WHILE_IT_IS_MADE, str(top / "logs" / "app.log"), str(INTRUDER), content],
        env=server_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ran.stdout, ran.stderr) == (printed, "")
