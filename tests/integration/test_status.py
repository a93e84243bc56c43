"""`rollsafe status` on logs that real processes write, read and lock."""

from __future__ import annotations

import dataclasses
import datetime
import gzip
import json
import os
import re
import time
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from rollsafe._files.lock_handles import MAINTENANCE_BYTE, ROLLOVER_BYTE
from rollsafe._settings import Settings
from rollsafe.locks import FileLock
from rollsafe.tools import words
from rollsafe.tools.catalog import logs_at
from rollsafe.tools.status import Lock, Openers, Status, lock_holder, status_of
from tests.support.commands import HOLDER, process, run
from tests.support.logs import HOUR, write_log
from tests.support.screens import shown

DAY = 86400.0
pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")

WRITER = """
import logging, sys
from rollsafe import SafeTimedRotatingFileHandler
handler = SafeTimedRotatingFileHandler(sys.argv[1], when="H", utc=True)
handler.handle(logging.makeLogRecord({"msg": "line"}))
"""
READER = "import sys; file = open(sys.argv[1])"


def status(live: Path) -> Status:
    """The status of one log now."""
    (log,) = logs_at([live])
    return status_of(log, Openers())


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """A log with two backups, one of them compressed."""
    live = tmp_path / "app.log"
    write_log(live)
    oldest = min(tmp_path.glob("app.log.*"))
    Path(f"{oldest}.gz").write_bytes(gzip.compress(oldest.read_bytes()))
    oldest.unlink()
    return live


def test_files_have_their_intervals_and_sizes_in_the_order_of_time(live: Path) -> None:
    files = status(live).files
    assert [(file.live, file.extension) for file in files] == [(False, ".gz"), (False, ""), (True, "")]
    assert [file.size for file in files] == [os.path.getsize(live.parent / file.name) for file in files]
    starts = [file.start for file in files]
    assert starts == [time.time() // HOUR * HOUR + back * HOUR for back in (-2, -1, 0)]


def test_the_next_rollover_is_the_end_of_the_live_files_interval(live: Path) -> None:
    found = status(live)
    assert found.next_rollover == time.time() // HOUR * HOUR + HOUR
    assert "in 1 h" in shown(found, found.next_rollover - HOUR)
    assert "with the next line, due since" in shown(found, found.next_rollover + 1)


def test_processes_that_have_the_log_open_are_named_with_what_they_do(live: Path) -> None:
    with process(WRITER, live) as writer, process(READER, live) as reader:
        found = {process.pid: process for process in status(live).processes}
    assert (found[writer].writes, found[writer].files) == (True, ("app.log",))
    assert (found[reader].writes, found[reader].files) == (False, ("app.log",))
    assert Path(found[reader].command.split()[0]).name.startswith("python")


def test_a_removed_backup_that_somebody_has_open_is_seen(live: Path) -> None:
    backup = max(live.parent.glob("app.log.*[0-9]"))
    with process(READER, backup) as reader:
        backup.unlink()
        (found,) = status(live).processes
    assert (found.pid, found.files) == (reader, (f"{backup.name} (deleted)",))


@pytest.mark.parametrize(("byte", "other"), [(ROLLOVER_BYTE, MAINTENANCE_BYTE), (MAINTENANCE_BYTE, ROLLOVER_BYTE)])
def test_the_holder_of_a_lock_is_named_and_keeps_it(byte: int, other: int, live: Path) -> None:
    lock_file = live.parent / ".app.log.lock"
    with process(HOLDER, lock_file, byte) as holder:
        assert lock_holder(str(lock_file), byte) == Lock(True, holder)
        assert lock_holder(str(lock_file), other) == Lock(False)
        assert f"held by {holder}" in shown(status(live)).replace("maintained", "held")
        assert not FileLock(lock_file, byte=byte).acquire(timeout=0)
    assert lock_holder(str(lock_file), byte) == Lock(False)


def test_a_log_without_lock_file_is_shown_as_far_as_names_tell(tmp_path: Path) -> None:
    for name in ("app.log", "app.log.2027-01-15_11"):
        (tmp_path / name).touch()
    found = status(tmp_path / "app.log")
    assert (found.from_note, found.next_rollover, found.rollover_lock.held) == (False, None, False)
    assert "by the names of its backups" in shown(found)


def test_what_waits_to_be_tended_is_counted(live: Path) -> None:
    backup = max(live.parent.glob("app.log.*[0-9]"))
    backup.rename(f"{backup}.rolled")
    (live.parent / f"{backup.name}.1.gz.tmp").touch()
    found = status(live)
    assert (found.backlog["awaiting_rotator"], found.backlog["unfinished"]) == (1, 1)
    assert "1 for the rotator of the application, 1 unfinished; no process maintains it now" in shown(found)


def test_what_the_maintenance_thread_has_not_done_yet_is_counted(tmp_path: Path) -> None:
    live = tmp_path / "app.log"
    write_log(live, range(-3, 1))
    lock = tmp_path / ".app.log.lock"
    settings = Settings("H", tz="UTC", compress=True, backupCount=1, max_age=30 * DAY, max_total_bytes=2 << 30)
    lock.write_bytes(lock.read_bytes().partition(b"\n")[0] + b"\n" + settings.line() + b"\n")
    found = status(live)
    assert (found.backlog["uncompressed"], found.backlog["expired"]) == (3, 2)
    assert "3 to compress, 2 to remove; no process maintains it now" in shown(found)
    assert "1 backup, 30 d, 2.0 GiB" in shown(found)


@pytest.mark.parametrize(
    ("at_time", "words"), [(None, "week to the end of Sunday"), ("03:30:00", "week from Sunday at 03:30:00")]
)
def test_a_week_says_when_it_ends(live: Path, at_time: str | None, words: str) -> None:
    lock = live.with_name(".app.log.lock")
    settings = Settings("W6", tz="UTC", atTime=at_time)
    lock.write_bytes(lock.read_bytes().partition(b"\n")[0] + b"\n" + settings.line() + b"\n")
    assert f"{words}, UTC" in shown(status(live))


def test_a_terminal_gets_a_time_line_and_a_pipe_gets_the_files(tmp_path: Path) -> None:
    live = tmp_path / "app.log"
    write_log(live, range(-40, 1))
    min(tmp_path.glob("app.log.*")).unlink()
    sorted(tmp_path.glob("app.log.*"))[-3].unlink()
    picture = shown(status(live), terminal=True)
    assert "█" in picture
    assert "nothing for 1 h" in picture
    assert "16 older" in picture
    assert picture.rstrip().endswith("live")
    plain = shown(status(live))
    assert "█" not in plain
    assert sum("app.log." in line for line in plain.splitlines()) == 38


def test_json_has_an_object_for_each_log(live: Path) -> None:
    write_log(live.parent / "other.log")
    ran = run("status", "--json", str(live.parent))
    assert (ran.returncode, ran.stderr) == (0, "")
    told = json.loads(ran.stdout)
    assert [Path(each["live"]).name for each in told] == ["app.log", "other.log"]
    assert told[0]["size"] == sum(file["size"] for file in told[0]["files"])
    assert told[0]["settings"]["when"] == "H"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.4, "59 s"), (3600, "1 h"), (3661, "1 h 1 min"), (90061, "1 d 1 h")]
)
def test_durations_are_told_in_two_units(seconds: float, text: str) -> None:
    assert words.duration_text(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1536, "1.5 KiB"), (12 << 20, "12 MiB"), (5 << 40, "5.0 TiB")]
)
def test_sizes_are_told_in_binary_units(size: int, text: str) -> None:
    assert words.size_text(size) == text


ZONES = ("UTC", "Asia/Tokyo", "America/New_York", None)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("terminal", [True, False])
def test_all_times_of_a_log_are_of_the_zone_that_names_its_backups(
    zone: str | None, terminal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        live = tmp_path / "app.log"
        write_log(live, range(-3, 1), utc=False, tz=zone)
        found = status(live)
        text = re.sub(r"\x1b\[[0-9;]*m", "", shown(found, terminal=terminal))
        assert f"hour, {zone or 'local time'}\n" in text
        (next_one,) = re.findall(r"next +(\S+ \S+), in", text)
        assert found.next_rollover is not None
        end = datetime.datetime.fromtimestamp(found.next_rollover, ZoneInfo(zone or "Asia/Kolkata"))
        assert next_one == end.strftime("%Y-%m-%d %H:%M:%S")
        for backup in tmp_path.glob("app.log.*"):
            day, hour = backup.name.removeprefix("app.log.").split("_")
            assert f"{day} {hour}:00" in text
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_zone_that_is_not_known_here_is_said_to_be_and_times_are_local(live: Path) -> None:
    found = status(live)
    text = shown(dataclasses.replace(found, settings=Settings("H", tz="Mars/Olympus"), from_note=True))
    assert "Mars/Olympus (not known here: times are local)" in text
