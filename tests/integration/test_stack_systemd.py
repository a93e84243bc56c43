"""What the guide shows for systemd and supervisor: the unit is checked, and its restrictions are applied by hand."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.containers import USER, VOLUME, Container
from tests.support.gunicorn_setup import suffix_of
from tests.support.needs import needs_command, require_command
from tests.support.oracle import LINE_FORMAT, audit
from tests.support.servers import Clients, ServerProcess, backups, get, wait_until
from tests.support.stacks import OTHER_LINES, documented

pytestmark = pytest.mark.slow

ROLLOVERS = 3
SETTLED = 'when="midnight", backupCount=14'
GUNICORN = "/srv/shop/.venv/bin/gunicorn"


@pytest.fixture
def top() -> Iterator[Path]:
    """A directory that other users may enter; pytest's own is closed to them."""
    path = Path(tempfile.mkdtemp(prefix="rollsafe-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def config() -> str:
    """The documented configuration, with a rollover each second."""
    text = documented("systemd.md", "python gunicorn.conf.py")
    assert text.count(SETTLED) == 1
    return text.replace(SETTLED, f'when="S", format={LINE_FORMAT!r}')


def setting(unit: str, name: str) -> str:
    """The value of a line of the unit."""
    (value,) = re.findall(rf"(?m)^{name}=(.*)$", unit)
    return str(value)


@needs_command("systemd-analyze", package="systemd")
def test_the_unit_is_a_valid_one(tmp_path: Path) -> None:
    unit = documented("systemd.md", "ini shop.service")
    assert GUNICORN in unit
    # It checks that the program exists.
    unit = unit.replace(GUNICORN, "/usr/bin/env")
    (tmp_path / "shop.service").write_text(unit, encoding="utf-8")
    command = [require_command("systemd-analyze", package="systemd"), "verify", "./shop.service"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


@pytest.mark.parametrize("variant", ["as documented", "DynamicUser", "LimitFSIZE"])
def test_gunicorn_within_the_limits_of_the_unit(variant: str, top: Path) -> None:
    unit = documented("systemd.md", "ini shop.service")
    assert (setting(unit, "ProtectSystem"), setting(unit, "KillMode")) == ("strict", "mixed")
    place, volume, logs = top / "shop", top / "volume", VOLUME
    place.mkdir()
    volume.mkdir()
    directory = volume
    if variant == "DynamicUser":
        directory = volume / "private" / "shop"
        directory.mkdir(parents=True)
        (volume / "link").symlink_to("private/shop")
        logs = f"{VOLUME}/link"
    os.chown(directory, USER, 0)
    limit = ["prlimit", "--fsize=400000"] if variant == "LimitFSIZE" else []
    shell = ["sh", "-c", f'umask {setting(unit, "UMask")}; exec "$@"', "sh"]
    before = [*limit, *shell, "env", f"LOGS_DIRECTORY={logs}"]
    live = directory / "app.log"
    # gunicorn's heartbeats, for which systemd's PrivateTmp makes a /tmp.
    more = 'worker_tmp_dir = "/dev/shm"\ncontrol_socket_disable = True\n'
    server = Container(place, config() + more, volume, "host", before=before)
    with server, Clients(server) as clients:
        wait_until(lambda: len(clients.answering) == 4, "an answer of each worker")
        wait_until(lambda: len(backups(live)) >= ROLLOVERS, f"{ROLLOVERS} rollovers")

    # The line that reaches the limit leaves a blank one, and stands whole in the next part.
    is_cut = variant == "LimitFSIZE"
    report = audit(live, {**clients.acknowledged, "ready": 1}, suffix_of, full_disk=is_cut)
    made = [path.stat() for path in [*backups(live), live]]
    assert clients.refused == []
    assert report.flawless, report
    assert server.status == 0
    assert "Starting gunicorn" in server.output
    assert "Logging error" not in server.output
    assert {stat.S_IMODE(each.st_mode) for each in made} == {0o640}
    if is_cut:
        assert max(each.st_size for each in made) <= 400_000
        assert any(re.search(r"_\d\d-\d\d-\d\d\.\d+$", path.name) for path in backups(live))


class Supervised(ServerProcess):
    """A supervisord that runs gunicorn as the guide shows; both listen nowhere but for this test."""

    def _command(self, listener: int) -> Sequence[str]:
        program = documented("systemd.md", "ini shop.conf")
        for old, new in {
            GUNICORN: f"{sys.executable} -m gunicorn --bind 127.0.0.1:{self.port}",
            "shop:app": "tests.support.apps:application",
            "directory=/srv/shop": f"directory={self.directory}",
            "user=www-data": f"user={os.geteuid()}",
            "/var/log/shop": str(self.directory / "logs"),
            "/var/log/supervisor": str(self.directory),
        }.items():
            assert old in program
            program = program.replace(old, new)
        own = f"[supervisord]\nnodaemon=true\nlogfile={self.directory}/supervisord.log\n"
        own += f"pidfile={self.directory}/supervisord.pid\nchildlogdir={self.directory}\n\n"
        (self.directory / "supervisord.conf").write_text(own + program, encoding="utf-8")
        # gunicorn makes the socket itself, so that of the test is closed first.
        give_way = "import os, sys; os.closerange(3, 256); os.execv(sys.argv[1], sys.argv[1:])"
        supervisord = require_command("supervisord", package="supervisor")
        return [sys.executable, "-c", give_way, supervisord, "-c", "supervisord.conf"]

    def _wait_until_listening(self) -> None:
        def listening() -> bool:
            connection = self.connect()
            try:
                get(connection, "/say/up")
            except OSError:
                return False
            finally:
                connection.close()
            return True

        wait_until(listening, "gunicorn answers")


@needs_command("supervisord", package="supervisor")
def test_supervisor_starts_gunicorn_again_and_the_files_go_on(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "gunicorn.conf.py").write_text(config() + "control_socket_disable = True\n", encoding="utf-8")
    live = tmp_path / "logs" / "app.log"
    with Supervised(tmp_path, ready="/line/ready/0/60") as server:
        with Clients(server, name="first") as first:
            wait_until(lambda: len(backups(live)) >= ROLLOVERS, f"{ROLLOVERS} rollovers")
        (arbiter,) = server.workers
        # Without a request the orphaned workers see that, end, and give the socket back.
        os.kill(arbiter, signal.SIGKILL)
        wait_until(lambda: len(server.workers) == 1 and server.workers != {arbiter}, "another arbiter")
        server._wait_until_listening()
        with Clients(server, name="second") as second:
            second.wait_for(100)

    assert first.refused == second.refused == []
    report = audit(live, {**first.acknowledged, **second.acknowledged, "ready": 1}, suffix_of, notices=OTHER_LINES)
    started = (tmp_path / "shop.log").read_text(encoding="utf-8")
    assert report.flawless, report
    assert started.count("Starting gunicorn") > 1
    assert "Shutting down: Master" in started
    assert "Logging error" not in started
    assert {stat.S_IMODE(path.stat().st_mode) for path in [*backups(live), live]} == {0o640}
