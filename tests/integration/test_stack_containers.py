"""What the guide shows for containers: a user without a name, a read-only root, and two of them on one volume."""

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

from tests.support.containers import USER, VOLUME, Container, container_command
from tests.support.gunicorn_setup import suffix_of
from tests.support.oracle import LINE_FORMAT, audit, read_line
from tests.support.servers import Clients, backups, server_environment, wait_until
from tests.support.stacks import documented

pytestmark = pytest.mark.slow

ROLLOVERS = 4
SETTLED = 'when="midnight", backupCount=14'


@pytest.fixture
def top() -> Iterator[Path]:
    """A directory that other users may enter; pytest's own is closed to them."""
    path = Path(tempfile.mkdtemp(prefix="rollsafe-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def volume_in(top: Path) -> Path:
    """The directory that the Dockerfile makes."""
    dockerfile = documented("containers.md", "dockerfile Dockerfile")
    assert f"install --directory --group 0 --mode 2770 {VOLUME}\n" in dockerfile
    volume = top / "volume"
    volume.mkdir()
    os.chown(volume, 0, 0)
    volume.chmod(0o2770)
    return volume


def config(rotation: str = SETTLED) -> str:
    """The documented configuration, with another rotation; the test has the socket."""
    text = documented("containers.md", "python gunicorn.conf.py")
    assert text.count(SETTLED) == text.count('bind = "0.0.0.0:8000"\n') == 1
    return text.replace('bind = "0.0.0.0:8000"\n', "").replace(SETTLED, rotation)


def test_two_containers_write_the_files_of_one_volume(top: Path) -> None:
    volume = volume_in(top)
    live = volume / "app.log"
    places = [top / name for name in ("one", "two")]
    for place in places:
        place.mkdir()
    rotated = config(f'when="S", compress="gz", format={LINE_FORMAT!r}')
    one = Container(places[0], rotated, volume, "one")
    two = Container(places[1], rotated, volume, "two", user=USER + 1, ready="/line/prepared/0/60")
    with one, two, Clients(one, 2, name="one") as to_one, Clients(two, 2, name="two") as to_two:
        wait_until(lambda: len(backups(live)) >= ROLLOVERS, f"{ROLLOVERS} rollovers")
        wait_until(lambda: any(path.suffix == ".gz" for path in backups(live)), "an archive")
        wait_until(lambda: len(to_one.answering) == len(to_two.answering) == 2, "an answer of each worker")

    assert to_one.refused == to_two.refused == []
    assert to_one.answering & to_two.answering, "process ids that both containers have"
    report = audit(live, {**to_one.acknowledged, **to_two.acknowledged, "ready": 1, "prepared": 1}, suffix_of)
    assert report.flawless, report
    assert (one.status, two.status) == (0, 0)
    for container, clients in ((one, to_one), (two, to_two)):
        shown = container.output.splitlines(keepends=True)
        whole = [line for line in shown if read_line(line.encode()) is not None]
        assert len(whole) == clients.answered + 1
        assert any("Starting gunicorn" in line for line in shown)
        assert not any("Error" in line or "Traceback" in line for line in shown)
    made = [path.stat() for path in volume.iterdir()]
    assert {stat.S_IMODE(each.st_mode) for each in made} == {0o660}
    assert {each.st_uid for each in made} == {USER, USER + 1}


def test_a_failed_start_shows_on_standard_error(top: Path) -> None:
    volume = volume_in(top)
    place = top / "one"
    place.mkdir()
    (place / "gunicorn.conf.py").write_text(config(), encoding="utf-8")
    command = [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", "no_such_module:app"]
    ran = subprocess.run(
        container_command(place, "one", volume, command),
        cwd=place,
        env=server_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode != 0
    assert "No module named 'no_such_module'" in ran.stderr
    assert "No module named 'no_such_module'" in (volume / "error.log").read_text(encoding="utf-8")


def test_a_volume_that_the_user_may_not_write_is_named(top: Path) -> None:
    volume = volume_in(top)
    volume.chmod(0o755)
    place = top / "one"
    place.mkdir()
    (place / "gunicorn.conf.py").write_text(config(), encoding="utf-8")
    command = [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", "tests.support.apps:application"]
    ran = subprocess.run(
        container_command(place, "one", volume, command),
        cwd=place,
        env=server_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode != 0
    assert f"directory='{VOLUME}' cannot be written by user {USER}" in ran.stderr


@pytest.mark.parametrize("logs", ["logs", "made/logs"])
def test_a_read_only_place_is_named_with_the_remedy(logs: str, top: Path) -> None:
    """Also systemd's `ProtectSystem=` makes the file system read-only."""
    place = top / "one"
    (place / "logs").mkdir(parents=True)
    (place / "logs").chmod(0o777)
    command = [sys.executable, "-c", f"from rollsafe.gunicorn import rotating_logs; rotating_logs({logs!r})"]
    ran = subprocess.run(
        container_command(place, "one", volume_in(top), command),
        cwd=place,
        env=server_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode != 0
    assert "ead-only file system; log where this process may write: on a volume of the container" in ran.stderr
