"""What is kept and what goes; where backups are and what they are called."""

from __future__ import annotations

import datetime
import errno
import gzip
import os
import stat
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from rollsafe import ConfigurationError
from rollsafe.errors import LogFileError
from rollsafe.schedule import Schedule
from rollsafe.tools.catalog import logs_at
from tests.support.commands import run
from tests.support.crew import WatchedHandler, lock_path
from tests.support.logs import DAY, Make, backup_of, log, suffix_of, wait_for_second_after
from tests.support.servers import wait_until


@pytest.fixture
def live(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs" / "app.log"


@pytest.fixture
def usual() -> dict[str, Any]:
    """Backups of hours."""
    return {"when": "H", "utc": True}


def roll(handler: WatchedHandler) -> None:
    """Have the handler roll over, and so maintain the backups."""
    log(handler, "now")
    handler.doRollover()


def maintain(handler: WatchedHandler) -> None:
    """Do rounds over the backups until there is nothing left to do."""
    while (wait := handler._live.maintenance.make_pass()) is not None:
        time.sleep(wait)


def test_max_age_goes_by_the_name_of_a_backup_and_not_by_its_time_stamp(live: Path, make: Make) -> None:
    young, old = backup_of(live, 2), backup_of(live, 4, ".gz")
    os.utime(young, (1, 1))
    roll(make(max_age="3 days"))
    wait_until(lambda: not old.exists(), "the old backup is removed")
    assert young.exists()


def test_a_backup_is_removed_with_its_second_name_and_without_other_files(live: Path, make: Make) -> None:
    old = backup_of(live, 4, ".gz")
    second, foreign = Path(f"{old}.tmp"), Path(f"{old.with_suffix('')}.xz.tmp")
    os.link(old, second)
    foreign.touch()
    roll(make(max_age="3 days"))
    wait_until(lambda: not old.exists(), "the old backup is removed")
    assert not second.exists()
    assert foreign.exists()


def test_max_age_may_be_a_timedelta(live: Path, make: Make) -> None:
    old = backup_of(live, 4)
    assert make(max_age=datetime.timedelta(days=3)).getFilesToDelete() == [str(old)]


def test_the_age_of_a_backup_counts_from_the_end_of_its_interval(live: Path, make: Make) -> None:
    interval_ended_a_day_ago = backup_of(live, 1 + 1 / 24)
    assert make(max_age="25 hours").getFilesToDelete() == []
    assert make(max_age="22 hours").getFilesToDelete() == [str(interval_ended_a_day_ago)]


def test_max_total_bytes_keeps_the_newest_that_fit(live: Path, make: Make) -> None:
    backups = [backup_of(live, days, size=1000) for days in (4, 3, 2, 1)]
    roll(make(max_total_bytes="2.5 kB"))
    wait_until(lambda: not any(path.exists() for path in backups[:2]), "the older ones are removed")
    assert all(path.exists() for path in backups[2:])


def test_min_free_bytes_takes_all_backups_and_never_the_live_file(live: Path, make: Make) -> None:
    backups = [backup_of(live, days) for days in (2, 1)]
    handler = make(min_free_bytes="1000 TiB")
    roll(handler)
    log(handler, "after")
    wait_until(lambda: not any(path.exists() for path in backups), "the backups are removed")
    wait_until(lambda: not list(live.parent.glob("app.log.*")), "that of this moment too")
    assert live.read_text() == "after\n"


@pytest.mark.parametrize("compress", [None, "gz"])
def test_a_rollover_of_an_empty_live_file_takes_no_place_of_a_backup_with_lines(
    live: Path, make: Make, compress: str | None
) -> None:
    """A handler that has its first line in the interval after its own, and workers that roll at their start."""
    kept = [backup_of(live, days) for days in (2, 1)]
    handler = make(backupCount=2, compress=compress)
    for _ in range(3):
        handler.doRollover()
    wait_until(lambda: handler._live.maintenance.is_idle, "the backups are maintained")
    left = [path for path in live.parent.iterdir() if path != live and not path.name.startswith(".")]
    assert sorted(path.name.removesuffix(".gz") for path in left) == sorted(path.name for path in kept)


class FullUntilBackupsGo(WatchedHandler):
    """Its live file cannot be opened after a rollover as long as there is an old backup, as on a full disk."""

    old: Path

    def _open(self) -> Any:
        if self._rolls_over and self.old.exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super()._open()

    _rolls_over = False

    def doRollover(self) -> None:
        self._rolls_over = True
        super().doRollover()


def test_old_backups_go_though_the_new_file_cannot_be_opened_before_they_do(live: Path) -> None:
    FullUntilBackupsGo.old = backup_of(live, 3)
    handler = FullUntilBackupsGo(live, when="H", utc=True, backupCount=1)
    log(handler, "first")
    with suppress(OSError):
        handler.doRollover()
    wait_until(lambda: not handler.old.exists(), "the old backup is removed")
    log(handler, "second")
    handler.close()
    assert live.read_text() == "second\n"


def test_backups_of_a_handler_with_other_settings_are_counted(live: Path, make: Make) -> None:
    names = [
        "app.log.2020-01-01_00-00-00.xz",
        "app.log.2020-01-02.gz",
        "app.log.2020-01-02.1.zst",
        "app.log.2020-01-03_05",
        "app.log.2020-01-03_05-30",
    ]
    paths = [live.with_name(name) for name in names]
    for path in paths:
        path.touch()
    handler = make(when="midnight", backupCount=2, tz=None, utc=False)
    assert handler.getFilesToDelete() == [str(path) for path in paths[:3]]


def test_what_is_not_ours_is_never_touched(live: Path, make: Make) -> None:
    foreign = [
        "app.log.access.log.2020-01-01_00",
        "app.log.2020-01-01_00.bak",
        "app.log.2020-01-01_00.gz.old",
        "app.log.2020-13-01_00",
        "app.log.2020-01-01_00.0",
        "app.log.2020-01-01_00.01",
        "app.log.old",
        "app.log.gz",
        "xapp.log.2020-01-01_00",
    ]
    for name in foreign:
        live.with_name(name).touch()
    live.with_name("app.log.2020-01-01_01").mkdir()
    live.with_name("app.log.2020-01-01_02").symlink_to(live.parent / "app.log.old")
    ours = backup_of(live, 100)
    roll(make(backupCount=1, max_age="1 day", max_total_bytes=1, compress="gz"))
    wait_until(lambda: not ours.exists(), "our backup is removed")
    left = {path.name for path in live.parent.iterdir()}
    assert {*foreign, "app.log.2020-01-01_01", "app.log.2020-01-01_02"} <= left


def test_two_logs_with_a_common_prefix_keep_their_own_backups(live: Path, make: Make) -> None:
    other = live.with_name("app.log.access.log")
    backups = [backup_of(path, days) for path in (live, other) for days in (3, 2)]
    handlers = make(backupCount=2), make(other, backupCount=2)
    for handler in handlers:
        roll(handler)
    wait_until(lambda: not any(path.exists() for path in backups[::2]), "the oldest of each is removed")
    assert all(path.exists() for path in backups[1::2])


# Names and places.


def test_suffix_is_the_format_of_backup_names(live: Path, make: Make) -> None:
    handler = make(suffix="%Y%m%dT%H")
    created = log(handler, "first")
    handler.doRollover()
    expected = live.with_name(f"app.log.{time.strftime('%Y%m%dT%H', time.gmtime(created))}")
    assert expected.read_text() == "first\n"
    assert [file.path for file in logs_at([live])[0].files if not file.is_live] == [str(expected)]


def test_a_suffix_that_no_file_name_can_have_is_refused(live: Path) -> None:
    with pytest.raises(ConfigurationError, match="suffix='%Y/%m'"):
        WatchedHandler(live, suffix="%Y/%m")


def test_archive_dir_is_made_and_takes_the_backups_and_retention_goes_there(live: Path, make: Make) -> None:
    folder = live.parent / "old" / "ones"
    handler = make(archive_dir=folder, compress="gz", backupCount=1)
    aged = folder / "app.log.2020-01-01_00"
    aged.touch()
    beside = live.with_name("app.log.2020-01-01_00")
    beside.touch()
    created = log(handler, "first")
    handler.doRollover()
    final = folder / f"app.log.{suffix_of(created, 'H')}.gz"
    wait_until(lambda: final.exists() and not aged.exists(), "the backup is archived there, the old one removed")
    assert gzip.decompress(final.read_bytes()) == b"first\n"
    assert beside.exists()
    wait_until(lambda: [path.name for path in folder.iterdir()] == [final.name], "nothing else is left there")
    assert [file.path for file in logs_at([live])[0].files if not file.is_live][-1] == str(final)


def test_an_archive_dir_that_is_made_has_owner_and_mode_of_the_directory_of_the_live_file(
    live: Path, make: Make
) -> None:
    live.parent.chmod(0o2770)
    if os.geteuid() == 0:
        os.chown(live.parent, 65534, 65534)
    make(archive_dir=live.parent / "old" / "ones")
    for folder in (live.parent / "old", live.parent / "old" / "ones"):
        made, model = folder.stat(), live.parent.stat()
        assert (made.st_uid, made.st_gid, made.st_mode) == (model.st_uid, model.st_gid, model.st_mode)


def test_archive_dir_on_another_file_system_is_refused_with_a_sentence(live: Path) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == live.parent.stat().st_dev:
        pytest.skip("needs a second file system at /dev/shm")
    with pytest.raises(LogFileError, match="is on another file system than"):
        WatchedHandler(live, archive_dir=other)


def test_archive_dir_that_cannot_be_made_is_refused(live: Path) -> None:
    (live.parent / "file").touch()
    with pytest.raises(LogFileError, match=r"archive_dir=.* cannot be made"):
        WatchedHandler(live, archive_dir=live.parent / "file" / "below")


def test_hostname_in_filename_is_replaced(live: Path, make: Make) -> None:
    handler = make(live.with_name("app-{hostname}.log"))
    log(handler, "first")
    assert live.with_name(f"app-{os.uname().nodename}.log").read_text() == "first\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files to other groups")
def test_a_group_shared_directory_keeps_group_and_mode_of_every_file(live: Path, make: Make) -> None:
    group = 65534
    os.chown(live.parent, -1, group)
    live.parent.chmod(0o2775)
    handler = make(compress="gz", permissions=0o660)
    log(handler, "first")
    handler.doRollover()
    log(handler, "second")
    wait_until(lambda: bool(list(live.parent.glob("*.gz"))) and not list(live.parent.glob("*.tmp")), "it is archived")
    files = list(live.parent.iterdir())
    assert len(files) == 3
    assert {(path.stat().st_gid, stat.S_IMODE(path.stat().st_mode)) for path in files} == {(group, 0o660)}


# Suffixes.


@pytest.mark.parametrize(
    ("when", "suffix"), [("H", "%F_%H"), ("MIDNIGHT", "%-d.%-m.%Y"), ("MIDNIGHT", "%F"), ("W0", "%G-W%V"), ("D", "%s")]
)
def test_backups_are_maintained_whatever_strftime_writes_if_it_tells_the_interval(
    live: Path, make: Make, when: str, suffix: str
) -> None:
    schedule = Schedule(when, tz="UTC", suffix=suffix)
    interval = schedule.interval(time.time())
    backups: list[Path] = []
    for _ in range(4):
        interval = schedule.interval(interval.start - 1)
        backups.insert(0, live.with_name(f"app.log.{interval.suffix}"))
        backups[0].write_bytes(b"a line\n")
    handler = make(when=when, suffix=suffix, backupCount=2, compress="gz", delay=True)
    assert handler.getFilesToDelete() == [str(path) for path in backups[:2]]
    log(handler, "now")
    archives = [Path(f"{path}.gz") for path in backups[2:]]
    wait_until(lambda: sorted(live.parent.glob("app.log.*")) == sorted(archives), "two are archived, two are gone")
    (found,) = logs_at([live])
    assert [(file.path, file.interval is not None) for file in found.files[:-1]] == [
        (str(path), True) for path in archives
    ]


@pytest.mark.parametrize(
    ("when", "suffix"),
    [
        ("MIDNIGHT", "%m-%d"),
        ("MIDNIGHT", "%d"),
        ("MIDNIGHT", "%Y-%m"),
        ("MIDNIGHT", "old"),
        ("H", "%H"),
        ("H", "%Y-%m-%d"),
        ("S", "%H-%M-%S"),
        ("W0", "%V"),
    ],
)
def test_no_limit_removes_what_may_be_the_newest(live: Path, make: Make, when: str, suffix: str) -> None:
    schedule = Schedule(when, tz="UTC", suffix=suffix)
    last = schedule.interval(schedule.interval(time.time()).start - 1)
    backup = live.with_name(f"app.log.{last.suffix}")
    further = Path(f"{backup}.1")
    for path in (backup, further):
        path.write_bytes(b"a line\n")
    handler = make(
        when=when,
        suffix=suffix,
        backupCount=1,
        max_age="1 second",
        max_total_bytes=1,
        min_free_bytes="99 TiB",
        delay=True,
    )
    assert handler.getFilesToDelete() == []
    log(handler, "now")
    handler.doRollover()
    handler.close()
    maintain(handler)
    assert backup.exists()
    assert further.exists()


def test_backups_whose_names_tell_no_interval_are_archived_with_a_notification(live: Path, make: Make) -> None:
    notified: list[tuple[str, float]] = []
    handler = make(
        when="MIDNIGHT",
        suffix="%m-%d",
        compress="gz",
        on_rollover=lambda path, interval: notified.append((path, interval.start)),
        delay=True,
    )
    schedule = Schedule("MIDNIGHT", tz="UTC", suffix="%m-%d")
    last = schedule.interval(schedule.interval(time.time()).start - 1)
    backup = live.with_name(f"app.log.{last.suffix}")
    backup.write_bytes(b"a line\n")
    # Its last line came after its end.
    os.utime(backup, (last.end + 1, last.end + 1))
    log(handler, "now")
    wait_until(lambda: notified == [(f"{backup}.gz", last.start)], "it is notified of the archive, with the year")
    assert not backup.exists()


# The clock.


def written_then(live: Path, days: float) -> Path:
    """A backup that is `days` old, and was last written then."""
    path = backup_of(live, days)
    os.utime(path, (time.time() - days * DAY,) * 2)
    return path


def test_a_clock_that_is_far_ahead_when_a_process_starts_removes_nothing(live: Path, make: Make) -> None:
    # To the handler it is as if it were ten years later than when the files were written.
    days = [written_then(live, 3650 + day) for day in range(5)]
    handler = make(max_age="30 days")
    assert handler.getFilesToDelete() == []
    roll(handler)
    maintain(handler)
    assert all(path.exists() for path in days)
    shown = run("prune", "--dry-run", "--max_age", "30 days", str(live))
    assert "the clock may be wrong" in shown.stdout
    # Once files of ten minutes bear the clock out, the others are old.
    written_then(live, 1 / 24)
    assert handler.getFilesToDelete() == [str(path) for path in days[::-1]]


def test_a_clock_that_jumps_ahead_for_seconds_removes_nothing(
    live: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time
    days = [written_then(live, day) for day in range(1, 5)]
    handler = make(max_age="30 days", when="S")
    log(handler, "before")
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: real() + 10 * 365 * DAY)
        for _ in range(3):
            log(handler, "in ten years")
            wait_for_second_after(time.time())
        assert handler.getFilesToDelete() == []
    log(handler, "after")
    maintain(handler)
    assert handler.getFilesToDelete() == []
    assert all(path.exists() for path in days)


def test_backups_of_the_future_crowd_nothing_out_of_a_count(live: Path, make: Make) -> None:
    future = [backup_of(live, -days) for days in (3650, 3651, 3652)]
    days = [backup_of(live, day) for day in (3, 2, 1)]
    handler = make(backupCount=2, max_total_bytes=20)
    assert handler.getFilesToDelete() == [str(days[0])]
    roll(handler)
    wait_until(lambda: not days[0].exists(), "the oldest is removed")
    assert all(path.exists() for path in [*future, days[2]])


@pytest.mark.parametrize("has_note", [True, False])
def test_lines_of_a_boot_before_the_clock_is_set_go_beside_and_the_live_file_stays(
    live: Path, make: Make, monkeypatch: pytest.MonkeyPatch, has_note: bool
) -> None:
    real = time.time
    booted = real()

    def boot() -> None:
        handler = make(when="MIDNIGHT", backupCount=2)
        log(handler, "in 1970")
        handler.close()

    def uptime() -> float:
        return real() - booted + 20

    days = [backup_of(live, 1), backup_of(live, 2)]
    names = [live.with_name(f"app.log.{path.name[8:18]}") for path in days]
    for path, name in zip(days, names, strict=True):
        path.rename(name)
    handler = make(when="MIDNIGHT", backupCount=2)
    log(handler, "before")
    handler.close()
    for _ in range(3):
        if not has_note:
            lock_path(live).unlink()
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", uptime)
            boot()
    handler = make(when="MIDNIGHT", backupCount=3)
    log(handler, "after")
    maintain(handler)
    assert live.read_text() == "before\nafter\n"
    assert live.with_name("app.log.1970-01-01").read_text() == "in 1970\n" * 3
    assert all(name.exists() for name in names)


# Two logs of one name.


def test_a_second_log_of_one_name_in_one_archive_dir_is_refused(tmp_path: Path, make: Make) -> None:
    lives = [tmp_path / folder / "app.log" for folder in "abc"]
    for live in lives:
        live.parent.mkdir()
    first = make(lives[0], archive_dir=tmp_path / "old")
    with pytest.raises(ConfigurationError, match=f"has the backups of '{lives[0]}'"):
        WatchedHandler(lives[1], archive_dir=tmp_path / "old")
    make(lives[0], archive_dir=tmp_path / "old")
    make(lives[1].with_name("web.log"), archive_dir=tmp_path / "old")
    make(lives[1], archive_dir=tmp_path / "older")
    log(make(lives[2]), "a live file")
    with pytest.raises(ConfigurationError, match=f"has the backups of '{lives[2]}'"):
        WatchedHandler(lives[0], archive_dir=lives[2].parent)
    log(first, "goes on")


SECOND_LOG = """
import sys
from rollsafe import SafeTimedRotatingFileHandler
SafeTimedRotatingFileHandler(sys.argv[1], archive_dir=sys.argv[2])
"""


def test_a_second_log_of_one_name_is_refused_in_another_process_too(tmp_path: Path, make: Make) -> None:
    lives = [tmp_path / folder / "app.log" for folder in "ab"]
    for live in lives:
        live.parent.mkdir()
    old = tmp_path / "old"
    log(make(lives[0], archive_dir=old), "line")

    def second() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", SECOND_LOG, str(lives[1]), str(old)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    ran = second()
    assert ran.returncode == 1
    assert f"archive_dir={str(old)!r} has the backups of {str(lives[0])!r}" in ran.stderr
    # The first log is moved away, or has its backups somewhere else.
    log(make(lives[0]), "line")
    lives[0].parent.rename(tmp_path / "moved")
    assert second().returncode == 0


def test_backups_that_have_become_another_logs_are_left_alone(tmp_path: Path, make: Make) -> None:
    lives = [tmp_path / folder / "app.log" for folder in "ab"]
    for live in lives:
        live.parent.mkdir()
    old = tmp_path / "old"
    late = make(lives[0], archive_dir=old, backupCount=1, compress="gz", delay=True)
    command = [sys.executable, "-c", SECOND_LOG, str(lives[1]), str(old)]
    subprocess.run(command, timeout=120, check=True)
    theirs = [backup_of(old / "app.log", day) for day in (3, 2, 1)]
    roll(late)
    wait_until(lambda: late.reported != [], "it is said")
    assert "are left alone" in late.take_reports()[0]
    late.close()
    maintain(late)
    assert all(path.exists() for path in theirs)
    ran = run("prune", "--backupCount", "1", str(lives[0]))
    assert (ran.returncode, "nothing tells them apart" in ran.stderr) == (2, True)
    assert all(path.exists() for path in theirs)


# Namers.


def test_backups_in_directories_by_month_are_maintained_wherever_they_are(live: Path, make: Make) -> None:
    def namer(default: str) -> str:
        folder, name = os.path.split(default)
        month = os.path.join(folder, name.split(".")[2][:7])
        os.makedirs(month, exist_ok=True)
        return os.path.join(month, name)

    def backup(day: str, extension: str = "") -> Path:
        path = live.parent / day[:7] / f"app.log.{day}{extension}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"a line\n")
        return path

    days = ["2020-01-30", "2020-01-31", "2020-02-01", "2020-03-01"]
    old = [backup(day) for day in days]
    misplaced = live.parent / "2020-02" / "app.log.2020-01-29"
    misplaced.write_bytes(b"not here\n")
    (live.parent / "linked").symlink_to(live.parent / "2020-01")
    before = {path.name for path in live.parent.iterdir()}
    handler = make(when="MIDNIGHT", backupCount=3, compress="gz", delay=True)
    handler.namer = namer
    assert handler.getFilesToDelete() == [str(old[0])]
    created = log(handler, "first")
    month = time.strftime("%Y-%m", time.gmtime(created))
    assert {path.name for path in live.parent.iterdir()} - before <= {".app.log.lock", "app.log", month}
    handler.doRollover()
    kept = [Path(f"{path}.gz") for path in old[2:]]
    today = time.strftime("%Y-%m-%d", time.gmtime(created))
    new = live.parent / month / f"app.log.{today}.gz"
    wait_until(
        lambda: sorted(live.parent.glob("2*/*")) == sorted([*kept[1:], new, misplaced, kept[0]]),
        "all months are maintained",
    )


def test_a_relative_name_is_one_in_the_working_directory(
    live: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(live.parent)
    handler = make(when="H", backupCount=1, compress="gz", delay=True)
    handler.namer = lambda default: os.path.join("old", os.path.basename(default))
    (live.parent / "old").mkdir()
    aged = live.parent / "old" / "app.log.2020-01-01_00"
    aged.write_bytes(b"a line\n")
    created = log(handler, "first")
    handler.doRollover()
    final = live.parent / "old" / f"app.log.{suffix_of(created, 'H')}.gz"
    wait_until(lambda: list((live.parent / "old").iterdir()) == [final], "the new one is archived, the old one removed")
