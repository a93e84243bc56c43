"""`rollsafe check` finds faults of file systems, of clocks, and of time zones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rollsafe._settings import Settings
from rollsafe.tools.check_directories import check_clock, check_file_system
from rollsafe.tools.findings import ERROR, OK, WARNING, Finding, Target
from tests.support.faulty_fs import mounted
from tests.support.findings import PRESET, bad, of_config, of_log, the_only
from tests.support.logs import write_log
from tests.support.servers import server_environment


def file_system(directory: Path, fault: str) -> list[Finding]:
    """What is found on a file system with a fault."""
    with mounted(directory, fault) as point:
        target = Target(str(point / "app.log"), None)
        return [*check_file_system(str(point)), *check_clock(str(point), target)]


def test_a_sound_file_system_in_user_space_is_sound(tmp_path: Path) -> None:
    assert bad(file_system(tmp_path, "none")) == []


@pytest.mark.parametrize(
    ("fault", "about", "level", "words"),
    [
        ("short writes", "append", ERROR, "were lost or torn"),
        ("no locks", "lock", ERROR, "No locks available"),
        ("deaf locks", "lock", ERROR, "two processes had the lock at once"),
        ("other clock", "clock", WARNING, "3600 s ahead"),
        ("sshfs", "file system", WARNING, "its locks may hold on one host only"),
        ("glusterfs", "file system", WARNING, "each line is written under the lock"),
    ],
)
def test_a_fault_of_a_file_system_is_found(fault: str, about: str, level: str, words: str, tmp_path: Path) -> None:
    found = the_only(file_system(tmp_path, fault))
    assert (found.about, found.level) == (about, level)
    assert words in found.what


def test_a_file_of_the_future_is_found(live: Path) -> None:
    later = time.time() + 7200
    os.utime(live, (later, later))
    found = the_only(of_log(live))
    assert (found.about, found.where) == ("clock", str(live))


def test_a_directory_that_is_missing_is_found(tmp_path: Path) -> None:
    found = the_only(
        of_config(
            "logconfig_dict = {'loggers': {}, 'root': {'handlers': ['file']}, 'handlers': {'file': {"
            "'class': 'rollsafe.SafeTimedRotatingFileHandler', 'filename': 'none/app.log', 'backupCount': 3}}}"
        )
    )
    assert (found.about, found.where) == ("directory", str(tmp_path / "none"))


@pytest.mark.parametrize(("tz", "level"), [("Mars/Olympus", ERROR), ("unnamed", WARNING)])
def test_a_zone_that_is_not_known_here_is_found(tz: str, level: str, live: Path) -> None:
    lock = live.parent / ".app.log.lock"
    identity = lock.read_bytes().partition(b"\n")[0]
    lock.write_bytes(identity + b"\n" + Settings("H", tz=tz, backupCount=7).line() + b"\n")
    found = the_only(of_log(live))
    assert (found.about, found.level) == ("zone", level)


@pytest.mark.parametrize(
    ("variable", "level"),
    [("Europe/Pari", ERROR), ("Europe/Paris", OK), (":Asia/Tokyo", OK), ("EST5EDT,M3.2.0,M11.1.0", OK), ("UTC", OK)],
)
def test_a_zone_in_the_environment_that_does_not_exist_is_found(variable: str, level: str, live: Path) -> None:
    live.unlink()
    (live.parent / ".app.log.lock").unlink()
    write_log(live, utc=False, backupCount=7)
    command = [sys.executable, "-m", "rollsafe.cli", "check", "--json", str(live)]
    ran = subprocess.run(command, env=server_environment({"TZ": variable}), capture_output=True, text=True)
    levels = {reported["about"]: reported["level"] for reported in json.loads(ran.stdout)}
    assert levels["zone"] == level


@pytest.mark.parametrize(("variable", "level"), [("Europe/Pari", ERROR), ("Asia/Tokyo", OK)])
def test_a_zone_that_the_configuration_sets_for_the_server_counts(
    variable: str, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Europe/Paris" if level == ERROR else "Nowhere/Atall")
    found = [each for each in of_config(PRESET + f"raw_env = ['TZ={variable}']\n") if each.about == "zone"]
    assert {each.level for each in found} == {level}
    assert level == ERROR or "JST" in found[0].what
    assert os.environ["TZ"] != variable
