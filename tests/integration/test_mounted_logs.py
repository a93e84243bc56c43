"""Logs where no rename works though stat(2) sees no reason: mounts of one file system, and a file mounted by itself."""

from __future__ import annotations

import logging
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from rollsafe import SafeTimedRotatingFileHandler
from rollsafe._files.renames import is_mount_point
from rollsafe.errors import LogFileError
from rollsafe.tools.catalog import logs_at
from rollsafe.tools.checks import check_config, check_logs
from rollsafe.tools.configs import read_config
from rollsafe.tools.findings import ERROR, OK, Finding
from tests.support.crew import WatchedHandler
from tests.support.logs import write_log
from tests.support.mounts import enter_own_namespace, mount, run
from tests.support.needs import needs_command


@pytest.fixture
def mounts() -> Iterator[ExitStack]:
    """A stack of mounts, taken down at the end."""
    enter_own_namespace()
    with ExitStack() as stack:
        yield stack


def bind(source: Path, target: Path, mounts: ExitStack) -> Path:
    """Mount a directory or a file a second time."""
    mount("--bind", str(source), str(target))
    mounts.callback(run, "umount", "--lazy", str(target))
    return target


@pytest.fixture
def apart(tmp_path: Path, mounts: ExitStack) -> tuple[Path, Path]:
    """Two directories of one file system, each mounted by itself."""
    found = []
    for name in ("logs", "old"):
        for place in (tmp_path / "disk" / name, tmp_path / name):
            place.mkdir(parents=True)
        found.append(bind(tmp_path / "disk" / name, tmp_path / name, mounts))
    assert found[0].stat().st_dev == found[1].stat().st_dev
    return found[0], found[1]


def test_an_archive_dir_on_another_mount_of_the_same_file_system_is_refused(apart: tuple[Path, Path]) -> None:
    logs, old = apart
    with pytest.raises(LogFileError, match=rf"archive_dir={str(old)!r} is on .* or another mount of it, .*; give a"):
        WatchedHandler(logs / "app.log", archive_dir=old)
    assert not [*logs.iterdir(), *old.iterdir()]


def test_an_archive_dir_below_the_same_mount_is_taken(apart: tuple[Path, Path]) -> None:
    logs, _ = apart
    write_log(logs / "app.log", archive_dir=logs / "old")
    assert len([*(logs / "old").iterdir()]) == 2


def mounted_file(tmp_path: Path, mounts: ExitStack) -> Path:
    """A live file that is mounted by itself."""
    (tmp_path / "logs").mkdir()
    live = tmp_path / "logs" / "app.log"
    (tmp_path / "source").touch()
    live.touch()
    return bind(tmp_path / "source", live, mounts)


def test_a_live_file_that_is_mounted_by_itself_is_refused(tmp_path: Path, mounts: ExitStack) -> None:
    live = mounted_file(tmp_path, mounts)
    assert is_mount_point(str(live))
    with pytest.raises(LogFileError, match=r"is mounted by itself, as by docker run .*; mount its directory"):
        SafeTimedRotatingFileHandler(live)


def test_what_is_no_mount_point_is_none(tmp_path: Path) -> None:
    (tmp_path / "app.log").touch()
    (tmp_path / "link").symlink_to("/proc/version")
    assert not any(map(is_mount_point, (f"{tmp_path}/app.log", f"{tmp_path}/link", f"{tmp_path}/none")))


def test_one_that_is_mounted_later_takes_all_lines_and_that_is_said_once(tmp_path: Path, mounts: ExitStack) -> None:
    (tmp_path / "logs").mkdir()
    live = tmp_path / "logs" / "app.log"
    handler = WatchedHandler(live, when="S", utc=True, delay=True)
    (tmp_path / "source").touch()
    live.touch()
    bind(tmp_path / "source", live, mounts)
    handler.handle(logging.makeLogRecord({"msg": "first"}))
    for _ in range(3):
        handler.doRollover()
        handler.handle(logging.makeLogRecord({"msg": "next"}))
    handler.close()
    assert live.read_text() == "first\nnext\nnext\nnext\n"
    assert [bool(re.search("the rollover of .* was refused", report)) for report in handler.reported] == [True]
    assert sorted(os.listdir(live.parent)) == [".app.log.lock", "app.log"]


# And check says so, where handlers were made before the mounts, or are yet to be made.


def rollover_of(findings: list[Finding]) -> Finding:
    """What is said of the rollover of the only log."""
    (found,) = [each for each in findings if each.about == "rollover"]
    return found


def test_check_finds_an_archive_dir_that_is_on_another_mount_by_now(tmp_path: Path, mounts: ExitStack) -> None:
    live = tmp_path / "logs" / "app.log"
    live.parent.mkdir()
    write_log(live, archive_dir=tmp_path / "old", backupCount=3)
    assert rollover_of(check_logs(logs_at([live]))).level == OK
    bind(tmp_path / "old", tmp_path / "old", mounts)
    found = rollover_of(check_logs(logs_at([live])))
    assert (found.level, found.where) == (ERROR, str(live))
    assert "Invalid cross-device link" in found.what
    assert "same mount" in found.remedy
    assert sorted(os.listdir(live.parent)) == [".app.log.lock", "app.log"]


def test_check_finds_a_live_file_that_is_mounted_by_itself(tmp_path: Path, mounts: ExitStack) -> None:
    live = mounted_file(tmp_path, mounts)
    found = rollover_of(check_logs(logs_at([live])))
    assert (found.level, found.where) == (ERROR, str(live))
    assert "mounted by itself" in found.what
    assert "mount its directory instead" in found.remedy


def test_check_finds_both_in_a_configuration(
    tmp_path: Path, mounts: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gunicorn", reason="gunicorn is not installed: pip install rollsafe[gunicorn]")
    monkeypatch.chdir(tmp_path)
    handler = "{'class': 'rollsafe.SafeTimedRotatingFileHandler', 'backupCount': 3, 'filename': %r, 'archive_dir': %r}"
    handlers = f"{{'one': {handler % ('logs/app.log', None)}, 'two': {handler % ('two.log', 'old')}}}"
    Path("gunicorn.conf.py").write_text(
        f"logconfig_dict = {{'loggers': {{}}, 'root': {{'handlers': ['one', 'two']}}, 'handlers': {handlers}}}\n"
    )
    mounted_file(tmp_path, mounts)
    (tmp_path / "old").mkdir()
    bind(tmp_path / "old", tmp_path / "old", mounts)
    found = [each for each in check_config(read_config("gunicorn.conf.py")) if each.about == "rollover"]
    assert [(each.level, each.where) for each in found] == [
        (ERROR, str(tmp_path / "logs" / "app.log")),
        (ERROR, str(tmp_path / "two.log")),
    ]


@needs_command("chattr", package="e2fsprogs")
@pytest.mark.parametrize("attribute", ["a", "i"])
def test_check_finds_a_live_file_with_an_attribute_that_keeps_its_name(attribute: str, tmp_path: Path) -> None:
    live = tmp_path / "app.log"
    write_log(live, backupCount=3)
    changed = subprocess.run(["chattr", f"+{attribute}", str(live)], capture_output=True, text=True)
    if changed.returncode:
        pytest.skip(f"no such attribute here: {changed.stderr.strip()}")
    try:
        found = rollover_of(check_logs(logs_at([live])))
    finally:
        subprocess.run(["chattr", f"-{attribute}", str(live)], check=True)
    assert (found.level, found.what.partition(": ")[2]) == (ERROR, "Operation not permitted")
    assert "lsattr" in found.remedy
