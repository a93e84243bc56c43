"""`rollsafe roll`: a rollover by hand, beside the processes that log, or after their end."""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rollsafe._backups import watch
from rollsafe._files.lock_handles import MAINTENANCE_BYTE, ROLLOVER_BYTE
from rollsafe._files.note import Note, read_note
from rollsafe._settings import Settings
from rollsafe.handlers import watch_logs
from rollsafe.schedule import Interval
from rollsafe.tools import roll as roll_module
from rollsafe.tools.catalog import logs_at
from tests.support.commands import HOLDER, process, run
from tests.support.crew import Maker, WatchedHandler, Writers, lock_path
from tests.support.load import suffix_of_seconds
from tests.support.logs import Make, log, suffix_of, wait_for_second_after
from tests.support.oracle import audit
from tests.support.servers import backups, server_environment, wait_until


def leave_log(live: Path, line: str = "first", **arguments: Any) -> str:
    """A log whose last process has ended, and whose interval is over; returns the suffix of its interval."""
    # Without `delay`: a file that is opened in the second after that of its first line would get no line.
    handler = WatchedHandler(live, **({"when": "S", "utc": True} | arguments))
    created = log(handler, line)
    handler.close()
    wait_for_second_after(created)
    return suffix_of(created)


def long_interval() -> int:
    """A number of seconds whose present multiple began before, and lasts for a quarter of an hour at least."""
    now = int(time.time())
    return next(length for length in range(3600, 20_000) if 60 < now % length < length - 900)


def note_of(live: Path) -> Note:
    """The note in the lock file."""
    note = read_note(str(live))
    assert note is not None
    return note


def settings_of(live: Path) -> Settings:
    """The settings in the note."""
    settings = note_of(live).parse_settings()
    assert settings is not None
    return settings


def names_beside(live: Path) -> set[str]:
    """The names in the directory, but for lock files."""
    return {path.name for path in live.parent.iterdir() if not path.name.endswith(".lock")}


def test_a_live_file_whose_interval_is_over_is_rolled_and_finished(live: Path) -> None:
    suffix = leave_log(live, compress="gz", compress_level=9, backupCount=2, permissions=0o640)
    old = [live.with_name(f"app.log.2020-01-01_00-00-0{number}.gz") for number in range(2)]
    for path in old:
        path.write_bytes(gzip.compress(b"old\n"))
    before = note_of(live)
    ran = run("roll", str(live))
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == f"{live}: rolled to app.log.{suffix}; 1 backup compressed; 1 backup removed\n"
    archive = live.with_name(f"app.log.{suffix}.gz")
    assert gzip.decompress(archive.read_bytes()) == b"first\n"
    assert names_beside(live) == {"app.log", old[1].name, archive.name}
    assert live.read_bytes() == b""
    assert stat.S_IMODE(live.stat().st_mode) == 0o640
    after = note_of(live)
    assert (after.settings, after.made) == (before.settings, before.made)
    assert after.identity == (live.stat().st_dev, live.stat().st_ino)
    assert run("roll", str(live)).stdout == f"{live}: not rolled: it is empty\n"


def test_in_the_middle_of_an_interval_only_now_rolls_and_the_next_part_gets_a_number(live: Path) -> None:
    leave_log(live, interval=long_interval())
    ran = run("roll", str(live.parent))
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "is not over" in ran.stdout
    assert backups(live) == []
    assert run("roll", "--now", str(live)).returncode == 0
    (first,) = backups(live)
    assert run("roll", "--now", str(live)).stdout == f"{live}: not rolled: it is empty\n"
    handler = WatchedHandler(live, when="S", utc=True, interval=settings_of(live).interval)
    log(handler, "second")
    assert run("roll", "--now", str(live)).returncode == 0
    assert [path.name for path in backups(live)] == [first.name, f"{first.name}.1"]
    # Without a lease, with which a line may still go to the file that was rolled a moment ago.
    handler._file.expire_lease()
    log(handler, "third")
    handler.doRollover()
    handler.close()
    assert [path.read_text() for path in backups(live)] == ["first\n", "second\n", "third\n"]
    assert backups(live)[-1].name == f"{first.name}.2"


def test_each_log_of_a_directory_is_rolled_and_one_that_cannot_be_does_not_keep_the_others(live: Path) -> None:
    other = live.with_name("b.log")
    leave_log(other)
    suffix = leave_log(live)
    (live.parent / "foreign.log.2026-01-01").write_text("of another handler\n")
    ran = run("roll", str(live.parent))
    assert ran.returncode == 1
    assert [line.partition(": ")[0] for line in ran.stdout.splitlines()] == [str(live), str(other)]
    assert len(ran.stderr.splitlines()) == 1
    assert "foreign.log.lock' says how" in ran.stderr
    assert live.with_name(f"app.log.{suffix}").read_text() == "first\n"
    assert len(backups(other)) == 1


def test_what_a_namer_names_is_left_to_the_application(live: Path) -> None:
    handler = WatchedHandler(live, when="S", utc=True)
    # When the file is open and its note is written.
    handler.namer = lambda default: default.replace("app.log", "app-log")
    wait_for_second_after(log(handler, "first"))
    handler.close()
    ran = run("roll", str(live))
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "only the application knows it" in ran.stderr
    assert names_beside(live) == {"app.log"}


def test_a_log_whose_backups_may_belong_to_another_one_is_not_rolled(live: Path) -> None:
    old = live.parent / "old"
    leave_log(live, archive_dir=old)
    old.mkdir(exist_ok=True)
    # Another log of that name is now where the backups go.
    shutil.copy(live, old / live.name)
    before = note_of(live)
    ran = run("roll", "--now", str(live))
    assert (ran.returncode, "nothing tells them apart" in ran.stderr) == (1, True), ran.stderr
    assert (live.read_text(), note_of(live)) == ("first\n", before)


def test_a_path_that_does_not_exist_is_an_error_of_usage(live: Path) -> None:
    assert run("roll", str(live)).returncode == 2
    assert list(live.parent.iterdir()) == []


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("compress", [None, "gz"])
def test_the_process_of_the_application_finishes_what_only_it_can(
    live: Path, make: Make, monkeypatch: pytest.MonkeyPatch, compress: str | None
) -> None:
    told: list[str] = []

    def tell(path: str, interval: Interval) -> None:
        told.append(os.path.basename(path))

    handler = make(compress=compress, on_rollover=tell)
    created = log(handler, "first")
    wait_for_second_after(created)
    wait_until(lambda: handler._live.maintenance.is_idle, "the first pass is over")
    name = f"app.log.{suffix_of(created)}"
    ran = run("roll", str(live))
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "the application calls on_rollover" in ran.stdout
    assert names_beside(live) == {"app.log", name if compress else f"{name}.rolled"}
    monkeypatch.setattr(watch, "_SHORTEST_PAUSE_S", 0.05)
    monkeypatch.setattr(watch, "_LONGEST_PAUSE_S", 0.05)
    handler._live.maintenance.watch.stop()
    watch_logs()
    final = f"{name}.gz" if compress else name
    wait_until(lambda: names_beside(live) == {"app.log", final}, "it is finished")
    assert told == [final]


@pytest.mark.slow
def test_a_backup_without_a_line_is_removed_and_not_compressed(live: Path) -> None:
    suffix = leave_log(live, compress="gz")
    empty = live.with_name("app.log.2020-01-01_00-00-00")
    empty.touch()
    os.utime(empty, (0, 0))
    ran = run("roll", str(live))
    assert (ran.returncode, ran.stderr) == (0, "")
    assert names_beside(live) == {"app.log", f"app.log.{suffix}.gz"}


def test_the_file_is_rolled_even_if_its_compression_cannot_be_made_here(live: Path) -> None:
    suffix = leave_log(live, compress="gz")
    note = note_of(live)
    settings = note.settings.replace(b'"codec":"gz"', b'"codec":"gz","compress_level":99')
    lock_path(live).write_bytes(note.replace(settings=settings).content())
    ran = run("roll", str(live))
    assert ran.returncode == 1
    assert ran.stdout == f"{live}: rolled to app.log.{suffix}\n"
    assert "compress_level=99 is no level" in ran.stderr
    assert live.with_name(f"app.log.{suffix}").read_text() == "first\n"


def test_two_commands_at_once_roll_once(live: Path) -> None:
    suffix = leave_log(live, compress="gz")
    commands = [
        subprocess.Popen(
            [sys.executable, "-m", "rollsafe.cli", "roll", str(live)],
            env=server_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    outputs = [command.communicate(timeout=120) for command in commands]
    assert [command.returncode for command in commands] == [0, 0, 0], outputs
    assert sum(f"rolled to app.log.{suffix}" in output for output, _ in outputs) == 1, outputs
    assert names_beside(live) == {"app.log", f"app.log.{suffix}.gz"}


def test_beside_processes_that_log_no_line_is_lost_doubled_torn_or_misplaced(tmp_path: Path) -> None:
    live = tmp_path / "logs" / "app.log"
    live.parent.mkdir()
    make = Maker(live)
    with Writers(make, tmp_path / "scratch", count=3) as writers:
        for _ in range(4):
            ran = run("roll", "--now", str(live))
            assert (ran.returncode, ran.stderr) == (0, "")
            assert "rolled" in ran.stdout
    report = audit(live, writers.acknowledged, suffix_of_seconds(1))
    assert report.flawless, f"{report}\n{report.examples}"
    assert list(writers.reported.values()) == [[]] * 3


def test_a_lock_that_another_process_holds_is_named_and_nothing_is_done(live: Path) -> None:
    leave_log(live)
    with process(HOLDER, lock_path(live), ROLLOVER_BYTE):
        ran = run("roll", str(live))
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "could not be locked" in ran.stderr
    assert backups(live) == []


def test_while_another_process_maintains_the_backups_the_file_is_rolled_and_the_rest_is_left(
    live: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roll_module, "LOCK_TIMEOUT", 0.1)
    leave_log(live, compress="gz")
    with process(HOLDER, lock_path(live), MAINTENANCE_BYTE):
        outcome = roll_module.roll(logs_at([live])[0], pytest.fail)
    assert outcome.backup == str(backups(live)[0])
    assert outcome.left == ["another process maintains the backups, and does the rest"]
