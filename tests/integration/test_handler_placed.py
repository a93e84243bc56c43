"""Every line is placed in the file of its own interval: rollovers, quiet moments, late lines, wrong clocks."""

from __future__ import annotations

import datetime
import logging
import os
import time
from pathlib import Path

import pytest

from rollsafe._files import renames
from rollsafe._live import renewal, rollover
from rollsafe._timing import GRACE_S, LEASE_S
from tests.support.logs import Make, log, suffix_of, wait_for_second_after
from tests.support.servers import wait_until
from tests.support.texts import Boundary, all_lines, backups


def test_a_rollover_names_the_backup_after_its_interval(live: Path, make: Make) -> None:
    handler = make()
    first = log(handler, "first")
    wait_for_second_after(first)
    log(handler, "second")
    assert backups(live) == {suffix_of(first): "first\n"}
    assert live.read_text() == "second\n"


def test_a_handler_silent_for_two_intervals_names_the_old_file_after_its_own_interval(live: Path, make: Make) -> None:
    handler = make()
    first = log(handler, "first")
    wait_for_second_after(first + 2)
    log(handler, "second")
    assert backups(live) == {suffix_of(first): "first\n"}


def test_a_handler_silent_while_others_rolled_does_not_roll_again(live: Path, make: Make) -> None:
    silent, busy = make(), make()
    first = log(silent, "first")
    wait_for_second_after(first)
    second = log(busy, "second")
    wait_for_second_after(second)
    log(busy, "third")
    log(silent, "fourth")
    files = backups(live)
    assert files[suffix_of(first)] == "first\n"
    assert files[suffix_of(second)] == "second\n"
    assert "third\n" in (live.read_text() + "".join(files.values()))
    assert all_lines(live) == ["first", "fourth", "second", "third"]


def test_a_file_left_by_an_earlier_run_is_rolled_at_the_first_line_to_the_interval_of_its_last_write(
    live: Path, make: Make
) -> None:
    live.write_text("left over\n")
    last_write = time.time() - 7200
    os.utime(live, (last_write, last_write))
    log(make(when="H"), "first of the new run")
    assert backups(live) == {suffix_of(last_write, "H"): "left over\n"}
    assert live.read_text() == "first of the new run\n"


def test_a_fresh_file_is_continued_at_start(live: Path, make: Make) -> None:
    make(when="H").close()
    live.write_text("of this hour\n")
    log(make(when="H"), "continued")
    assert live.read_text() == "of this hour\ncontinued\n"


def test_a_process_that_starts_just_after_the_boundary_is_not_deceived_by_a_late_line(live: Path, make: Make) -> None:
    old = make()
    first = log(old, "first")
    wait_for_second_after(first)

    def is_written_late() -> bool:
        """A line in flight: created before the boundary, written after it, before any process rolled."""
        log(old, "late", first)
        # The kernel stamps files with a clock that is up to 10 ms behind.
        return live.stat().st_mtime >= int(first) + 1

    wait_until(is_written_late, "the file is of the new second by its time stamp")
    new = make()
    log(new, "second")
    assert set(backups(live)[suffix_of(first)].splitlines()) == {"first", "late"}
    assert "first" not in live.read_text()


def test_the_quiet_moment_is_a_small_share_of_the_interval(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = make(when="S", interval=1)
    clock = Boundary(handler.rolloverAt, monkeypatch)
    log(handler, "first of the new second", clock.now)
    assert clock.slept == [pytest.approx(renewal.LINGER_SHARE * 1.0 - 0.001, abs=1e-4)]


def test_another_process_whose_lock_excludes_nobody_may_rename_first(
    live: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename_new = renames.rename_new

    def rename_second(source: str, target: str) -> bool:
        os.rename(source, target)
        return rename_new(source, f"{target}.1")

    handler = make(when="H", utc=True)
    log(handler, "first")
    monkeypatch.setattr(rollover, "rename_new", rename_second)
    handler.doRollover()
    log(handler, "second")
    assert handler.reported == []
    assert list(backups(live).values()) == ["first\n"]
    assert live.read_text() == "second\n"


def test_a_record_far_ahead_rolls_nothing_over_in_the_last_moment_of_an_interval(
    live: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = make(when="H")
    boundary = handler.rolloverAt
    Boundary(boundary - 0.5, monkeypatch)
    log(handler, "milliseconds", boundary * 1000)
    log(handler, "in its last moment", boundary - 0.4)
    assert (live.read_text(), backups(live)) == ("milliseconds\nin its last moment\n", {})


@pytest.mark.parametrize("way", ["handle", "emit", "flush"])
@pytest.mark.parametrize("delay", [True, False])
def test_nobody_renames_in_the_quiet_moment_however_its_first_line_comes(
    live: Path, make: Make, monkeypatch: pytest.MonkeyPatch, delay: bool, way: str
) -> None:
    before = make(when="H")
    boundary = before.rolloverAt
    log(before, "of the old hour")
    before.close()
    os.utime(live, (boundary - 1, boundary - 1))
    handler = make(when="H", delay=delay)
    clock = Boundary(boundary, monkeypatch)
    renamed: list[float] = []
    rename_new = renames.rename_new

    def rename_and_note(source: str, target: str) -> bool:
        renamed.append(clock.now - boundary)
        return rename_new(source, target)

    monkeypatch.setattr(rollover, "rename_new", rename_and_note)
    record = logging.makeLogRecord({"msg": "of the new hour", "created": clock.now})
    if way == "flush":
        handler._writer.pending.add(b"of the new hour\n", clock.now)
        handler.flush()
    else:
        getattr(handler, way)(record)
    assert len(renamed) == 1
    assert renamed[0] >= renewal.LINGER_S
    assert live.read_text() == "of the new hour\n"


def test_a_late_line_goes_to_the_file_of_its_interval(live: Path, make: Make) -> None:
    handler = make()
    first = log(handler, "first")
    wait_for_second_after(first)
    log(handler, "second")
    log(handler, "late", first)
    assert backups(live)[suffix_of(first)] == "first\nlate\n"


def test_a_line_later_than_its_file_is_kept_open_goes_to_the_backup_of_its_interval(live: Path, make: Make) -> None:
    handler = make(when="H")
    two_hours_ago = time.time() - 7200
    backup = live.with_name(f"app.log.{suffix_of(two_hours_ago, 'H')}")
    backup.write_text("rolled long ago\n")
    log(handler, "very late", two_hours_ago)
    log(handler, "very late too", two_hours_ago)
    assert backups(live) == {suffix_of(two_hours_ago, "H"): "rolled long ago\nvery late\nvery late too\n"}
    assert live.read_text() == ""


def test_a_line_whose_backup_is_archived_goes_to_a_new_part_of_its_interval(live: Path, make: Make) -> None:
    handler = make(when="H")
    two_hours_ago = time.time() - 7200
    suffix = suffix_of(two_hours_ago, "H")
    live.with_name(f"app.log.{suffix}.gz").write_bytes(b"archive")
    log(handler, "very late", two_hours_ago)
    assert backups(live) == {f"{suffix}.gz": "archive", f"{suffix}.1": "very late\n"}


def test_a_record_from_a_clock_far_ahead_does_not_roll(live: Path, make: Make) -> None:
    handler = make(when="H")
    log(handler, "ahead", time.time() + 7200)
    assert backups(live) == {}
    assert live.read_text() == "ahead\n"


def test_write_line_is_placed_by_its_moment_as_a_record_is(live: Path, make: Make) -> None:
    handler = make()
    first = log(handler, "a record")
    handler.write_line("a line", first)
    wait_for_second_after(first)
    second = time.time()
    handler.write_line("of the next second", second)
    handler.write_line("late", first)
    assert backups(live) == {suffix_of(first): "a record\na line\nlate\n"}
    assert live.read_text() == "of the next second\n"


def test_write_line_waits_for_the_quiet_moment(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = make()
    clock = Boundary(handler.rolloverAt, monkeypatch)
    handler.write_line("first of the new second", clock.now)
    assert clock.slept == [pytest.approx(renewal.LINGER_SHARE * 1.0 - 0.001, abs=1e-4)]


def test_a_wall_clock_set_back_does_not_prolong_the_lease(
    live: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A zone where it is about noon: the clock is set back within the interval at any hour.
    noon = datetime.timezone(datetime.timedelta(hours=12 - time.gmtime().tm_hour))
    handler = make(when="midnight", utc=False, tz=noon)
    log(handler, "before")
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 60)
    live.rename(live.with_name("moved"))
    until = time.monotonic() + LEASE_S + GRACE_S
    wait_until(lambda: time.monotonic() > until, "lease and grace are over")
    log(handler, "noticed after this")
    log(handler, "after")
    assert live.read_text() == "after\n"
