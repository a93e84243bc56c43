"""The catalog: which logs a directory holds, told by their lock files or by the names of their backups."""

from __future__ import annotations

import datetime
import itertools
import logging
import os
import time
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from rollsafe import ConfigurationError, SafeTimedRotatingFileHandler
from rollsafe._settings import UNNAMED, Settings
from rollsafe.errors import LogFileError
from rollsafe.tools.catalog import logs_at
from tests.support.logs import HOUR, boundary_ahead, log, touch, write_log
from tests.support.servers import wait_until

NOON = 1_800_014_400.0  # 2027-01-15 12:00 UTC


def test_the_lock_file_tells_the_settings(tmp_path: Path) -> None:
    write_log(tmp_path / "app.log", when="W2", interval=2, atTime=datetime.time(3, 30), backupCount=5, utc=False)
    (log,) = logs_at([tmp_path])
    assert log.told
    assert log.settings == Settings("W2", 2, "03:30:00", None, None, False, log.settings.encoding, 5)
    assert log.schedule().length == 14 * 86400


@pytest.mark.parametrize(
    ("tz", "told"),
    [
        ("Europe/Paris", "Europe/Paris"),
        (ZoneInfo("Asia/Tokyo"), "Asia/Tokyo"),
        (datetime.timezone.utc, "UTC"),
        (datetime.timezone(datetime.timedelta(hours=2)), UNNAMED),
    ],
)
def test_the_lock_file_tells_the_zone_if_it_has_a_name(tz: Any, told: str, tmp_path: Path) -> None:
    write_log(tmp_path / "app.log", utc=False, tz=tz)
    (log,) = logs_at([tmp_path])
    assert log.settings.tz == told


def test_a_zone_without_name_is_refused_only_when_intervals_are_asked_for(tmp_path: Path) -> None:
    write_log(tmp_path / "app.log", utc=False, tz=datetime.timezone(datetime.timedelta(hours=2)))
    (log,) = logs_at([tmp_path])
    assert len(log.files) == 3
    assert {file.interval for file in log.files} == {None}
    with pytest.raises(ConfigurationError, match="without a name"):
        log.schedule()


def test_workers_that_a_reload_ends_leave_the_new_settings_in_the_lock_file(tmp_path: Path) -> None:
    live = tmp_path / "app.log"
    boundary, length = boundary_ahead()
    old, other = (SafeTimedRotatingFileHandler(live, when="S", interval=length, utc=True) for _ in range(2))
    log(other, "opens the file")
    log(old, "opens it too")
    time.sleep(0.002)  # the time at which a handler was made is told in milliseconds
    # Its day began twelve hours ago, and so before the interval of the others.
    noon = datetime.time((datetime.datetime.now(datetime.timezone.utc).hour + 12) % 24)
    new = SafeTimedRotatingFileHandler(live, when="MIDNIGHT", utc=True, atTime=noon)
    log(new, "after the reload")
    wait_until(lambda: time.time() >= boundary, "the boundary")
    for handler, message in ((old, "rolls"), (new, "follows"), (other, "follows and ends")):
        log(handler, message)
        (told,) = logs_at([live])
        assert told.settings.when == "MIDNIGHT", message
        assert len(told.files) == 2
    for handler in (old, other, new):
        handler.close()


def test_settings_that_were_noted_before_the_clock_was_set_back_are_replaced(tmp_path: Path) -> None:
    live = tmp_path / "app.log"
    write_log(live, range(1), when="S")
    lock_file = tmp_path / ".app.log.lock"
    identity, settings, made, *_ = lock_file.read_bytes().split(b"\n")
    lock_file.write_bytes(b"%s\n%s\n%d\n" % (identity, settings, int(made) + 3_600_000))
    write_log(live, range(1), when="D")
    (told,) = logs_at([live])
    assert told.settings.when == "D"


def test_files_are_in_the_order_of_time_and_know_their_intervals(tmp_path: Path) -> None:
    write_log(tmp_path / "app.log")
    (log,) = logs_at([tmp_path / "app.log"])
    intervals = [file.interval for file in log.files]
    assert [file.is_live for file in log.files] == [False, False, True]
    assert all(a and b and a.end == b.start for a, b in itertools.pairwise(intervals))


def test_new_settings_are_told_when_the_file_is_opened_again(tmp_path: Path) -> None:
    write_log(tmp_path / "app.log", range(1), backupCount=3)
    write_log(tmp_path / "app.log", range(1), backupCount=4)
    (log,) = logs_at([tmp_path])
    assert log.settings.backupCount == 4


def test_backups_of_another_when_stay_in_the_log_in_the_order_of_time(tmp_path: Path) -> None:
    write_log(tmp_path / "app.log", range(-96, -93))
    write_log(tmp_path / "app.log", range(-48, 1, 24), when="D")
    (log,) = logs_at([tmp_path])
    assert log.settings.when == "D"
    hours = [f"hour {hour}\n" for hour in (-96, -95, -94, -48, -24, 0)]
    assert [Path(file.path).read_text() for file in log.files] == hours
    # How long an interval was under the settings of that time is not known.
    assert [file.interval is None for file in log.files[:2]] == [True, True]
    assert None not in [file.interval for file in log.files[-2:]]


def test_a_log_without_lock_file_is_inferred_from_its_backups(tmp_path: Path) -> None:
    touch(tmp_path, "app.log", "app.log.2027-01-15_11", "app.log.2027-01-15_10.gz", "app.log.2027-01-15_10.1")
    (log,) = logs_at([tmp_path])
    assert (log.told, log.settings.when) == (False, "H")
    assert [os.path.basename(file.path) for file in log.files] == [
        "app.log.2027-01-15_10.gz",
        "app.log.2027-01-15_10.1",
        "app.log.2027-01-15_11",
        "app.log",
    ]


def test_a_log_with_a_longer_name_is_another_log(tmp_path: Path) -> None:
    touch(tmp_path, "app.log.2027-01-15", "app.log.access.log.2027-01-15")
    assert [(log.name, len(log.files)) for log in logs_at([tmp_path])] == [("app.log", 1), ("app.log.access.log", 1)]


def test_unfinished_files_are_leftovers(tmp_path: Path) -> None:
    touch(tmp_path, "app.log.2027-01-15", "app.log.2027-01-14.gz.tmp", "app.log.2027-01-13.rolled", "notes.tmp")
    (log,) = logs_at([tmp_path])
    assert [os.path.basename(path) for path in log.leftovers] == [
        "app.log.2027-01-13.rolled",
        "app.log.2027-01-14.gz.tmp",
    ]


def test_names_that_a_namer_makes_are_found_by_their_suffix(tmp_path: Path) -> None:
    def namer(name: str) -> str:
        stem, _, suffix = name.rpartition(".log.")
        return f"{stem}-{suffix}.log"

    handler = SafeTimedRotatingFileHandler(tmp_path / "app.log", when="H", utc=True, delay=True)
    handler.namer = namer
    now = datetime.datetime.now().timestamp()
    for hour in (-1, 0):
        handler.handle(logging.makeLogRecord({"msg": "line", "created": now + hour * HOUR}))
    handler.close()
    (log,) = logs_at([tmp_path])
    assert [file.is_live for file in log.files] == [False, True]


def test_what_a_later_version_tells_is_read_as_far_as_it_is_known() -> None:
    assert Settings.read(b'{"when":"D","colour":"red","interval":3}') == Settings("D", 3)


@pytest.mark.parametrize(("name", "words"), [("none", "does not exist"), ("", "holds no log")])
def test_a_path_without_log_is_refused_with_a_sentence(name: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(LogFileError, match=words):
        logs_at([tmp_path / name])


def test_a_live_file_that_is_gone_names_its_log_as_long_as_there_are_backups(tmp_path: Path) -> None:
    touch(tmp_path, "app.log.2026-11-24.gz", "app.log.2026-11-25")
    (log,) = logs_at([tmp_path])
    assert logs_at([log.live]) == [log]


def make_archive(backup: Path) -> None:
    """What an archiver does, in short."""
    os.link(backup, f"{backup}.gz")
    backup.unlink()


def test_an_archive_that_is_made_while_the_directory_is_read_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_log(tmp_path / "app.log")
    backup = min(tmp_path.glob("app.log.*"))
    real = os.listdir
    calls = []

    def listdir(directory: Any) -> list[str]:
        names = real(directory)
        calls.append(directory)
        # Behind the reader: the list has the source, and is looked through when the source is gone.
        if len(calls) == 2:
            make_archive(backup)
        return names

    monkeypatch.setattr("rollsafe.tools.catalog.os.listdir", listdir)
    (log,) = logs_at([tmp_path])
    assert [file.extension for file in log.files] == [".gz", "", ""]


def test_a_backup_that_is_there_plain_and_archived_is_one(tmp_path: Path) -> None:
    write_log(tmp_path / "app.log")
    backup = min(tmp_path.glob("app.log.*"))
    os.link(backup, f"{backup}.gz")
    (log,) = logs_at([tmp_path])
    assert len(log.files) == 4
    assert [file.path for file in log.distinct] == [file.path for file in log.files if not file.extension]


@pytest.mark.parametrize("suffix", ["%Y-%m-%d", "%H"])
def test_a_backup_whose_name_is_that_of_several_intervals_has_none(suffix: str, tmp_path: Path) -> None:
    write_log(tmp_path / "app.log", suffix=suffix)
    (log,) = logs_at([tmp_path])
    *backups, live = log.files
    assert backups
    assert {file.interval for file in backups} == {None}
    assert live.interval is not None
