"""Backups that await a rotator or `on_rollover`: limits hold for them too, and none waits for ever."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from rollsafe import FileLock
from rollsafe._backups import maintenance_pass
from rollsafe._backups.failures import Failures
from rollsafe._backups.ledger import Ledger
from rollsafe._backups.listing import Listing
from rollsafe._backups.maintenance_pass import MaintenancePass
from rollsafe._backups.names import Names
from rollsafe._backups.quiet import QuietFiles
from rollsafe._backups.retention import Limits
from rollsafe.schedule import Interval, Schedule
from rollsafe.tools.catalog import logs_at
from rollsafe.tools.prune import removals, remove
from tests.support.logs import Make, log, read_archive
from tests.support.servers import wait_until

pytestmark = pytest.mark.usefixtures("hurry")


@pytest.fixture
def usual() -> dict[str, Any]:
    """Hours in UTC."""
    return {"when": "H", "utc": True}


def waiting(live: Path, hour: int, size: int = 10) -> Path:
    """A file that awaits the application."""
    path = live.with_name(f"app.log.2020-01-01_{hour:02}.rolled")
    path.write_bytes(b"x" * (size - 1) + b"\n")
    return path


def names_beside(live: Path) -> list[str]:
    """The names of all backups."""
    return sorted(path.name for path in live.parent.glob("app.log.*"))


class Failing:
    """A rotator, or `on_rollover`, that never works."""

    def __init__(self) -> None:
        self.called_for: list[str] = []

    def __call__(self, path: str, other: str | Interval) -> None:
        self.called_for.append(os.path.basename(path).removesuffix(".rolled"))
        raise ConnectionError("no network")


@pytest.mark.parametrize("called", ["rotator", "on_rollover"])
def test_what_keeps_failing_does_not_keep_more_backups_than_the_limits_allow(
    live: Path, make: Make, called: str
) -> None:
    for hour in range(4):
        waiting(live, hour)
    failing = Failing()
    handler = make(backupCount=2)
    setattr(handler, called, failing)
    log(handler, "first")

    def are_gone() -> bool:
        return not [name for name in names_beside(live) if "_00" in name or "_01" in name]

    wait_until(are_gone, "the older ones are removed")
    assert {name.removesuffix(".rolled")[-3:] for name in names_beside(live)} == {"_02", "_03"}
    assert {name[-3:] for name in failing.called_for} == {"_00", "_01", "_02", "_03"}, "each had its turn"
    assert handler.take_reports()


def test_no_backup_is_removed_before_the_application_was_notified_of_it(live: Path, make: Make) -> None:
    for hour in range(3):
        waiting(live, hour)
    notified: list[str] = []
    log(make(backupCount=1, on_rollover=lambda path, interval: notified.append(path[-3:])), "first")
    wait_until(lambda: len(notified) == 3, "it is notified of all three")
    assert notified == ["_00", "_01", "_02"]


def test_a_backup_whose_time_comes_during_the_call_for_another_has_its_turn_first(live: Path) -> None:
    early, other = waiting(live, 0), waiting(live, 1)
    quiet, failures = QuietFiles(), Failures()
    lock = FileLock(live.with_name(".app.log.lock"))
    reported: list[str] = []

    def next_pass() -> MaintenancePass:
        files = Listing(str(live.parent), Names(str(live), Schedule("H", tz="UTC")))
        return MaintenancePass([files], quiet, failures, lambda sentence, error: reported.append(sentence))

    next_pass().release(Ledger(lock), lambda path: None)
    time.sleep(0.3)
    os.utime(early, (1, 1))
    now = next_pass()
    # The call for the other one takes its time.
    now.release(Ledger(lock), lambda path: time.sleep(0.3))
    now.remove_unclaimed([str(early)])
    lock.close()
    assert not other.exists()
    assert early.exists()
    assert reported == []


def test_two_names_of_one_file_are_one_backup_whose_bytes_count_once(live: Path, make: Make) -> None:
    for hour in range(2):
        path = waiting(live, hour, 100)
        os.link(path, path.with_suffix(""))
    handler = make(max_total_bytes=200, delay=True)
    assert handler.getFilesToDelete() == []
    handler.max_total_bytes = 199
    first = live.with_name("app.log.2020-01-01_00")
    assert handler.getFilesToDelete() == [str(first), f"{first}.rolled"]


def test_an_expired_file_goes_with_both_its_names(live: Path, make: Make) -> None:
    path = waiting(live, 0)
    os.link(path, path.with_suffix(""))
    handler = make(max_age="1 day")
    handler.on_rollover = Failing()
    log(handler, "first")
    wait_until(lambda: names_beside(live) == [], "both names are gone")
    assert handler.take_reports()


def test_an_expired_archive_goes_with_its_second_name(live: Path, make: Make) -> None:
    archive = live.with_name("app.log.2020-01-01_00.gz")
    archive.write_bytes(b"an archive")
    os.link(archive, f"{archive}.tmp")
    handler = make(max_age="1 day", compress="gz", on_rollover=Failing())
    log(handler, "first")
    wait_until(lambda: names_beside(live) == [], "both names are gone")
    assert handler.take_reports()


def test_an_expired_archive_is_removed_only_after_the_application_was_notified_of_it(
    live: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance_pass, "QUIET_S", 0.0)
    archive = live.with_name("app.log.2020-01-01_00.gz")
    archive.write_bytes(b"an archive")
    os.link(archive, f"{archive}.tmp")
    found: list[bool] = []
    log(make(max_age="1 day", compress="gz", on_rollover=lambda path, _: found.append(os.path.exists(path))), "first")
    wait_until(lambda: names_beside(live) == [], "both names are gone")
    assert found == [True]


def test_what_waits_for_settings_that_are_no_more_gets_its_final_name(live: Path, make: Make) -> None:
    path = waiting(live, 0)
    log(make(backupCount=9), "first")
    wait_until(lambda: names_beside(live) == [path.with_suffix("").name], "it is final")


def test_what_waits_for_settings_that_are_no_more_is_compressed(live: Path, make: Make) -> None:
    path = waiting(live, 0)
    log(make(compress="gz"), "first")
    wait_until(lambda: names_beside(live) == [path.with_suffix(".gz").name], "it is compressed")
    assert read_archive(path.with_suffix(".gz")) == b"xxxxxxxxx\n"


def test_a_name_that_no_rollover_makes_is_no_backup_that_waits(live: Path, make: Make) -> None:
    live.with_name("app.log.2020-01-01_00.gz.rolled").touch()
    live.with_name("app.log.2020-01-01_00.copy.rolled").touch()
    assert make(max_age="1 day", delay=True).getFilesToDelete() == []


def test_prune_removes_what_waits_too(live: Path, make: Make) -> None:
    handler = make()
    log(handler, "first")
    handler.close()
    paths = [waiting(live, hour) for hour in range(2)]
    os.link(paths[0], paths[0].with_suffix(""))
    found = logs_at([live])[0]
    limits = Limits(max_age=time.time() - 1_600_000_000)
    assert [removal.backup.size for removal in removals(found, limits)] == [10, 10]
    complaints: list[str] = []
    assert len(remove(found, limits, complaints.append)) == 2
    assert (names_beside(live), complaints) == ([], [])
