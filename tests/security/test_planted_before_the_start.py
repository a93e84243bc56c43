"""Who owns the log directory puts something in the way before gunicorn is started again by root."""

from __future__ import annotations

import signal

import pytest

from tests.support.oracle import audit
from tests.support.planted import PLANTED
from tests.support.scene import INTRUDER, Scene, as_user
from tests.support.servers import Clients, Server, backups, wait_until

pytest.importorskip("gunicorn", reason="gunicorn is not installed: pip install rollsafe[gunicorn]")

LIVE = ("app.log", "error.log")
ROLLOVERS = 2


@pytest.mark.parametrize("name", LIVE)
@pytest.mark.parametrize("what", PLANTED)
def test_in_place_of_a_live_file_it_is_refused_by_a_sentence_that_names_it(scene: Scene, what: str, name: str) -> None:
    PLANTED[what](scene.logs / name, scene)
    said = scene.refused_start(scene.config())
    scene.assert_untouched()
    assert str(scene.logs / name) in said
    assert "Traceback" not in said.partition("LogFileError")[2]


@pytest.mark.parametrize("what", PLANTED)
def test_in_place_of_a_lock_file_it_is_left_alone_and_logging_goes_on(scene: Scene, what: str) -> None:
    for name in LIVE:
        PLANTED[what](scene.logs / f".{name}.lock", scene)
        if what == "a hard link":
            break  # a file with three names would be refused for another reason
    with Server(scene.run, scene.config()) as server, Clients(server) as clients:
        clients.wait_for(more=50)
        for path in scene.logs.glob(".*.lock"):
            if not path.is_file() or path.is_symlink() or path.stat().st_nlink > 1:
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        wait_until(lambda: len(backups(scene.logs / "app.log")) >= ROLLOVERS, "rollovers")
    scene.assert_untouched()
    report = audit(scene.logs / "app.log", clients.acknowledged, lambda created: "")
    assert (report.lost, report.doubled, report.torn) == (0, 0, 0), report


def test_a_link_to_the_directory_is_refused(scene: Scene) -> None:
    inner = scene.logs / "gunicorn"
    as_user(lambda: inner.symlink_to(scene.etc))
    scene.logs = inner
    said = scene.refused_start(scene.config())
    scene.assert_untouched()
    assert f"{str(inner)!r}" in said
    assert "is a symbolic link in a directory that another user may write" in said


def test_a_link_of_roots_in_its_own_directory_is_followed(scene: Scene) -> None:
    volume = scene.top / "volume"
    scene.logs.rename(volume)
    scene.logs.symlink_to(volume)
    with Server(scene.run, scene.config()) as server, Clients(server) as clients:
        wait_until(lambda: len(backups(volume / "app.log")) >= ROLLOVERS, "rollovers")
    assert server.output == ""
    report = audit(volume / "app.log", clients.acknowledged, lambda created: "")
    assert (report.lost, report.doubled, report.torn) == (0, 0, 0), report
    assert {path.stat().st_uid for path in volume.iterdir()} == {INTRUDER}


def test_a_file_of_roots_that_the_second_user_moves_there_is_not_given_away(scene: Scene) -> None:
    """Who owns a directory may rename what is in it, root's files too."""
    secret = scene.logs / "secret"
    secret.write_text("root's\n")
    secret.chmod(0o600)
    as_user(lambda: secret.rename(scene.logs / "error.log"))
    config = scene.config("when='H'")
    with Server(scene.run, config) as server:
        server.signal(signal.SIGUSR1)
    status = (scene.logs / "error.log").stat()
    assert (status.st_uid, status.st_mode & 0o777) == (0, 0o600)
    assert "cannot be given to user" in (scene.logs / "error.log").read_text()
