"""`rollsafe check` as a command: a sound log, exit codes, arguments, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rollsafe.tools import trials
from rollsafe.tools.findings import WARNING
from tests.support.commands import run
from tests.support.findings import PRESET, bad, of_config, of_log, with_backups_of
from tests.support.servers import server_environment


def test_all_is_well_with_a_sound_log_and_a_sound_configuration(live: Path) -> None:
    findings = of_log(live)
    assert bad(findings) == []
    assert {finding.about for finding in findings} == {
        "file system",
        "append",
        "lock",
        "permission",
        "rollover",
        "clock",
        "zone",
        "logrotate",
        "space",
    }
    assert bad(of_config(PRESET)) == []


def test_nothing_is_left_behind(live: Path) -> None:
    before = sorted(os.listdir(live.parent))
    of_log(live)
    assert sorted(os.listdir(live.parent)) == before


@pytest.mark.parametrize(
    ("retention", "size", "code"), [({"backupCount": 7}, 5, 0), ({}, 5, 1), ({"backupCount": 100}, 1 << 43, 2)]
)
def test_the_exit_code_is_that_of_the_worst(retention: dict[str, int], size: int, code: int, live: Path) -> None:
    try:
        with_backups_of(live, size, **retention)
    except OSError as error:
        pytest.skip(f"no file of {size} bytes can be made here: {error}")
    ran = run("check", str(live.parent))
    assert (ran.returncode, ran.stderr) == (code, "")
    assert ("why" in ran.stdout) == ("remedy" in ran.stdout) == (code > 0)


def test_arguments_of_gunicorn_follow_after_two_dashes(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(PRESET)
    environment = server_environment()
    command = [sys.executable, "-m", "rollsafe.cli", "check", "--json"]
    ran = subprocess.run([*command, "gunicorn.conf.py"], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout
    flags = ["gunicorn.conf.py", "--", "--access-logfile", "a.log"]
    ran = subprocess.run([*command, *flags], env=environment, capture_output=True, text=True)
    assert ran.returncode == 1
    assert [reported["what"] for reported in json.loads(ran.stdout) if reported["level"] == WARNING] == [
        "--access-logfile a.log together with a logging configuration"
    ]


def test_an_answer_of_a_process_may_be_larger_than_a_pipe() -> None:
    assert trials.in_child(lambda: "x" * 300_000) == "x" * 300_000


def test_a_program_that_a_process_has_started_does_not_hold_up_its_answer() -> None:
    def attempt() -> int:
        child = os.fork()
        if child == 0:
            time.sleep(300)
            os._exit(0)
        return child

    child = trials.in_child(attempt, timeout=200)
    os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["none.py"], "does not exist"), (["none"], "does not exist"), ([".", "--", "-w", "2"], "is no gunicorn.conf.py")],
)
def test_a_target_that_cannot_be_checked_is_refused_in_a_sentence(arguments: list[str], words: str) -> None:
    ran = run("check", *arguments)
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (2, "", 1)
    assert words in ran.stderr
