"""Directories that root makes, or goes through, where a second user may put others in their place."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rollsafe import SafeTimedRotatingFileHandler
from rollsafe._files.places import make_directory
from rollsafe.errors import LogFileError
from rollsafe.gunicorn import rotating_logs
from tests.support.crew import WatchedHandler
from tests.support.scene import BYSTANDER, INTRUDER, Scene, as_user


def owner_and_mode(path: Path) -> tuple[int, int, int]:
    """Of a directory."""
    status = path.stat()
    return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)


def after(monkeypatch: pytest.MonkeyPatch, call: str, act: Callable[[], object]) -> None:
    """Have the second user act just after root's first call of that name."""
    real = getattr(os, call)

    def step(*arguments: Any, **keywords: Any) -> Any:
        monkeypatch.setattr(os, call, real)
        result = real(*arguments, **keywords)
        as_user(act)
        return result

    monkeypatch.setattr(os, call, step)


def test_the_archive_directory_is_as_that_of_the_log(scene: Scene) -> None:
    os.chown(scene.logs, INTRUDER, BYSTANDER)
    scene.logs.chmod(0o2770)
    for name in ("old", "one/two"):
        SafeTimedRotatingFileHandler(scene.logs / "app.log", delay=True, archive_dir=scene.logs / name)
    for name in ("old", "one", "one/two"):
        assert owner_and_mode(scene.logs / name) == (INTRUDER, BYSTANDER, 0o2770)


@pytest.mark.parametrize("there", ["link", "directory of root's", "FIFO"])
def test_one_that_is_swapped_in_the_moment_of_its_making_is_not_given_away(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, there: str
) -> None:
    old, private = scene.logs / "old", scene.logs / "private"
    private.mkdir(mode=0o700)
    (private / "secret").write_text("root's")

    def swap() -> None:
        old.rename(scene.logs / "made")
        if there == "link":
            old.symlink_to(scene.etc)
        elif there == "FIFO":
            os.mkfifo(old)
        else:
            private.rename(old)

    after(monkeypatch, "mkdir", swap)
    if there == "directory of root's":
        SafeTimedRotatingFileHandler(scene.logs / "app.log", delay=True, archive_dir=old)
        assert owner_and_mode(old) == (0, 0, 0o700)
    else:
        with pytest.raises(LogFileError, match=str(old)):
            SafeTimedRotatingFileHandler(scene.logs / "app.log", delay=True, archive_dir=old)
    scene.assert_untouched()
    assert not list(scene.etc.glob(".rollsafe*"))


def test_a_planted_link_is_refused(scene: Scene) -> None:
    old = scene.logs / "old"
    as_user(lambda: old.symlink_to(scene.etc))
    with pytest.raises(LogFileError, match=rf"archive_dir={str(old)!r} cannot be used: .* is a symbolic link in"):
        SafeTimedRotatingFileHandler(scene.logs / "app.log", delay=True, archive_dir=old)
    with pytest.raises(LogFileError, match=rf"old/deeper' cannot be used: {str(old)!r} is a symbolic link in"):
        SafeTimedRotatingFileHandler(scene.logs / "app.log", delay=True, archive_dir=old / "deeper")
    scene.assert_untouched()


def test_the_log_directory_that_the_preset_makes_belongs_to_the_owner_of_the_one_above(scene: Scene) -> None:
    rotating_logs(scene.logs / "gunicorn")
    assert owner_and_mode(scene.logs / "gunicorn")[:2] == (INTRUDER, INTRUDER)
    rotating_logs(scene.etc / "gunicorn")
    assert owner_and_mode(scene.etc / "gunicorn")[:2] == (0, 0)


def test_a_link_of_roots_to_the_log_directory_is_followed(scene: Scene) -> None:
    (scene.top / "link").symlink_to("logs")
    handlers = rotating_logs(scene.top / "link")["handlers"]
    assert {Path(handler["filename"]).name for handler in handlers.values() if "filename" in handler} == {
        "access.log",
        "error.log",
        "app.log",
    }


@pytest.mark.parametrize("which", ["the log directory", "archive_dir"])
@pytest.mark.parametrize("renameat2", [True, False])
def test_no_rollover_goes_through_a_directory_that_was_swapped_for_a_link(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, which: str, renameat2: bool
) -> None:
    if not renameat2:
        monkeypatch.setattr("rollsafe._files.renames._renameat2", None)
    inner = scene.logs / "inner"
    as_user(inner.mkdir)
    place = inner / "old" if which == "archive_dir" else inner
    handler = WatchedHandler(inner / "app.log", when="H", utc=True, archive_dir=inner / "old")
    handler.handle(logging.makeLogRecord({"msg": "first"}))
    as_user(lambda: place.rename(scene.logs / "moved"))
    as_user(lambda: place.symlink_to(scene.etc))
    handler.doRollover()
    handler.handle(logging.makeLogRecord({"msg": "second"}))
    scene.assert_untouched()
    assert "symbolic link in a directory that another user may write" in "".join(handler.take_reports())
    as_user(place.unlink)
    as_user(lambda: (scene.logs / "moved").rename(place))
    handler.doRollover()
    handler.handle(logging.makeLogRecord({"msg": "third"}))
    handler.close()
    assert handler.reported == []
    lines = [path.read_text() for path in (*(inner / "old").iterdir(), inner / "app.log")]
    assert lines == ["first\nsecond\n", "third\n"]


def test_an_existing_directory_is_left_as_it_is(scene: Scene) -> None:
    make_directory(str(scene.etc), os.stat(scene.logs))
    make_directory(str(scene.etc), None)
    scene.assert_untouched()


def test_a_host_name_that_is_a_path_is_refused(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    class Named:
        nodename = "../etc/shadow"

    monkeypatch.setattr(os, "uname", Named)
    with pytest.raises(LogFileError, match=r"the name of this host, '\.\./etc/shadow', can be no part of a file name"):
        SafeTimedRotatingFileHandler(scene.logs / "{hostname}", delay=True)
