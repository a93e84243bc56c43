"""The decision about retention: pure, one reason for each file that goes."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollsafe import ConfigurationError
from rollsafe._backups.clocks import ClockWitness, clock_agrees, settling_time
from rollsafe._backups.names import Names, recognisers_of
from rollsafe._backups.recognition import Inventory, put_in_order, recognise
from rollsafe._backups.retention import Limits, Stored, select_expired
from rollsafe._options import checked_age, checked_size
from rollsafe.schedule import Schedule

DAY = 86400.0
NOW = 100 * DAY


def backups(*sizes: int) -> list[Stored]:
    """Backups of the last days, today's last."""
    return [
        Stored((f"app.log.{number}",), NOW - (len(sizes) - 1 - number) * DAY, size) for number, size in enumerate(sizes)
    ]


def take_inventory(files: Iterable[str], recognisers: list[Names], now: float) -> Inventory:
    """The backups of a log, by their names."""
    found, uncertain = recognise(files, recognisers, now)
    return Inventory(put_in_order(found, now), tuple(uncertain))


def gone(stored: list[Stored], limits: Limits, free: float = inf) -> list[int]:
    """The numbers of the backups that go."""
    return [int(removal.backup.paths[0].rpartition(".")[2]) for removal in select_expired(stored, limits, NOW, free)]


@pytest.mark.parametrize(
    ("limits", "numbers"),
    [
        (Limits(), []),
        (Limits(count=3), [0, 1]),
        (Limits(count=9), []),
        (Limits(max_age=3 * DAY), [0]),
        (Limits(max_age=3 * DAY - 1), [0, 1]),
        (Limits(max_total_bytes=25), [0, 1, 2]),
        (Limits(max_total_bytes=30), [0, 1]),
        (Limits(max_total_bytes=0), []),
        (Limits(min_free_bytes=1020), [0, 1]),
        (Limits(min_free_bytes=1000), []),
        (Limits(min_free_bytes=1 << 60), [0, 1, 2, 3, 4]),
        (Limits(count=4, max_total_bytes=30, min_free_bytes=1021), [0, 1, 2]),
    ],
)
def test_the_oldest_that_exceed_any_limit_go(limits: Limits, numbers: list[int]) -> None:
    assert gone(backups(10, 10, 10, 10, 10), limits, free=1000) == numbers


def test_what_goes_for_one_limit_is_not_counted_for_the_next() -> None:
    assert gone(backups(50, 10, 10), Limits(count=2, max_total_bytes=20)) == [0]
    assert gone(backups(50, 10, 10), Limits(count=2, min_free_bytes=1050), free=1000) == [0]


def test_backups_without_a_line_go_before_any_with_lines_and_only_where_they_exceed_the_count() -> None:
    """As a handler leaves that is made in one interval and has its first line in the next."""
    stored = [backup.replace(is_empty=not backup.size) for backup in backups(10, 0, 10, 10, 0)]
    assert gone(stored, Limits(count=5)) == []
    assert gone(stored, Limits(count=4)) == [1]
    assert gone(stored, Limits(count=3)) == [1, 4]
    assert gone(stored, Limits(count=1)) == [0, 1, 2, 4]
    assert select_expired(stored, Limits(count=4), NOW)[0].reason == "one without a line of 5 backups, backupCount=4"


def test_a_small_old_backup_does_not_outlive_a_large_newer_one() -> None:
    assert gone(backups(1, 100, 10), Limits(max_total_bytes=50)) == [0, 1]


def test_a_backup_whose_name_tells_no_time_has_no_age() -> None:
    assert select_expired([Stored(("app.log.one",), None)], Limits(max_age=1.0), NOW) == []


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(count=1), "one of 2 backups, backupCount=1"),
        (Limits(max_age=3600.0), "its interval ended 1 day, 0:00:00 ago, max_age=1:00:00"),
        (Limits(max_total_bytes=15), "with the later ones 20 bytes, max_total_bytes=15"),
        (Limits(min_free_bytes=8), "5 bytes would be free, min_free_bytes=8"),
    ],
)
def test_each_removal_has_its_reason(limits: Limits, reason: str) -> None:
    assert [removal.reason for removal in select_expired(backups(10, 10), limits, NOW, free=5)] == [reason]


@given(
    sizes=st.lists(st.integers(0, 100), max_size=8),
    count=st.integers(0, 9),
    age=st.none() | st.floats(1, 9 * DAY),
    total=st.none() | st.integers(0, 400),
    floor=st.none() | st.integers(0, 400),
    free=st.integers(0, 400),
)
def test_what_goes_is_always_older_than_what_stays_and_no_limit_is_exceeded_by_what_stays(
    sizes: list[int], count: int, age: float | None, total: int | None, floor: int | None, free: int
) -> None:
    stored = backups(*sizes)
    numbers = gone(stored, Limits(count, age, total, floor), free)
    assert numbers == list(range(len(numbers)))
    stays = stored[len(numbers) :]
    assert not count or len(stays) <= count
    assert age is None or all(NOW - (backup.end or 0) <= age for backup in stays)
    assert not total or sum(backup.size for backup in stays) <= total
    assert floor is None or not stays or free + sum(sizes[: len(numbers)]) >= floor


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("30 days", 30 * DAY),
        ("1 day", DAY),
        ("1.5h", 5400.0),
        ("2 Weeks", 14 * DAY),
        ("90 min", 5400.0),
        ("10s", 10.0),
        (datetime.timedelta(days=2), 2 * DAY),
    ],
)
def test_an_age_is_a_timedelta_or_text(value: Any, seconds: float | None) -> None:
    assert checked_age(value) == seconds


@pytest.mark.parametrize("value", ["", "days", "30", 30, "-1 day", "0 days", "1 month", datetime.timedelta(0), True])
def test_what_is_no_age_is_refused_with_the_remedy(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="'30 days'"):
        checked_age(value)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (None, None),
        (0, 0),
        (4096, 4096),
        ("2 GiB", 2 << 30),
        ("1.5kB", 1500),
        ("10 MB", 10**7),
        ("7 b", 7),
        ("1TiB", 1 << 40),
    ],
)
def test_a_size_is_a_number_or_text(value: Any, size: int | None) -> None:
    assert checked_size("max_total_bytes", value) == size


@pytest.mark.parametrize("value", ["", "2", "GiB", "2 G", -1, True, 1.5, "-2 GiB"])
def test_what_is_no_size_is_refused_with_the_remedy(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"min_free_bytes=.*'2 GiB'"):
        checked_size("min_free_bytes", value)


# The inventory: which files limits are about.


def inventory(*files: str, now: float = 1_795_000_000.0, when: str = "MIDNIGHT", **schedule: Any) -> Inventory:
    """What is found of /logs/app.log, whose backups have the suffix that was asked for, on 2026-11-18."""
    own = Names("/logs/app.log", Schedule(when, tz="UTC", **schedule))
    return take_inventory(files, recognisers_of(own, "/logs/app.log", "UTC"), now)


def names_of(stored: Inventory) -> list[str]:
    """The names of the backups that are certain, oldest first."""
    return [name for backup in stored.certain for name in backup.paths]


def test_backups_of_the_log_are_counted_oldest_first_and_what_is_foreign_is_not_there() -> None:
    found = inventory("app.log", "app.log.2026-11-17", "app.log.2026-11-16.gz", "app.log.old", "b.log.2026-11-16", "x")
    assert names_of(found) == ["app.log.2026-11-16.gz", "app.log.2026-11-17"]
    assert found.uncertain == ()
    assert [backup.end for backup in found.certain] == [1794873600.0, 1794960000.0]


@pytest.mark.parametrize(
    ("when", "suffix", "names"),
    [
        ("MIDNIGHT", "%m-%d", ["app.log.01-01", "app.log.12-31", "app.log.02-29.gz"]),
        ("MIDNIGHT", "%d", ["app.log.01", "app.log.31"]),
        ("S", "%H-%M-%S", ["app.log.23-59-59", "app.log.00-00-00.1"]),
        ("H", "%Y-%m-%d", ["app.log.2026-11-17", "app.log.2026-11-17.23", "app.log.2020-01-01.rolled"]),
        ("MIDNIGHT", "%Y-%m", ["app.log.2026-11", "app.log.2020-01.30"]),
        ("MIDNIGHT", "%a", ["app.log.Mon", "app.log.Tue.7"]),
        ("MIDNIGHT", "old", ["app.log.old", "app.log.old.1"]),
    ],
)
def test_a_backup_whose_name_is_that_of_several_intervals_is_uncertain(
    when: str, suffix: str, names: list[str]
) -> None:
    found = inventory(*names, "app.log.foreign", when=when, suffix=suffix)
    assert (found.certain, found.uncertain) == ((), tuple(sorted(names)))


def test_a_backup_of_the_future_is_uncertain_and_crowds_nothing_out() -> None:
    found = inventory("app.log.2036-01-01", "app.log.2026-11-17", "app.log.2026-11-18", "app.log.2026-11-19")
    assert names_of(found) == ["app.log.2026-11-17", "app.log.2026-11-18"]
    assert found.uncertain == ("app.log.2026-11-19", "app.log.2036-01-01")


def test_a_backup_that_was_made_before_the_clock_was_set_has_no_age_and_is_the_oldest() -> None:
    found = inventory("app.log.1970-01-01", "app.log.2026-11-17")
    assert [backup.end for backup in found.certain] == [None, 1794960000.0]
    assert [backup.end for backup in inventory("app.log.1970-01-01", now=5 * DAY).certain] == [DAY]


def test_a_name_that_no_rollover_makes_and_that_looks_like_ours_is_uncertain() -> None:
    names = ["app.log.2026-02-30", "app.log.2026-13-01.gz", "app.log.0000-00-00.2"]
    found = inventory(*names, "app.log.2026-02-30.bak", "app.log.2026-02-30.gz.tmp", "app.log.x.2026-02-30")
    assert (found.certain, found.uncertain) == ((), tuple(sorted(names)))


def test_the_end_of_another_handlers_backup_is_the_beginning_of_the_next_one() -> None:
    # Weeks, or six hours each: their names tell the beginning only.
    found = inventory("app.log.2026-11-10_06", "app.log.2026-11-10_12", "app.log.2026-11-16", "app.log.2026-11-17_00")
    assert [(backup.paths[0][-2:], backup.end) for backup in found.certain] == [
        ("06", 1794312000.0),
        ("12", 1794787200.0),
        ("16", 1794873600.0),
        ("00", None),
    ]


def test_a_live_file_whose_name_looks_like_a_backup_is_none() -> None:
    found = inventory("app.log.2026-11-17", ".app.log.2026-11-17.lock", "app.log.2026-11-16")
    assert names_of(found) == ["app.log.2026-11-16"]
    assert found.uncertain == ()


def test_an_archive_and_the_file_that_it_was_made_of_are_one_backup() -> None:
    found = inventory("app.log.2026-11-17", "app.log.2026-11-17.gz", "app.log.2026-11-17.1.rolled")
    assert [backup.paths for backup in found.certain] == [
        ("app.log.2026-11-17", "app.log.2026-11-17.gz"),
        ("app.log.2026-11-17.1.rolled",),
    ]


def test_what_only_the_applications_pattern_calls_a_backup_is_the_oldest_and_has_no_age() -> None:
    own = Names("/logs/app.log", Schedule("MIDNIGHT", tz="UTC"), extMatch=re.compile(r"v\d+|\d{4}-\d{2}-\d{2}"))
    found = take_inventory(["app.log.2026-11-17", "app.log.v2"], [own], 1_795_000_000.0)
    assert [(backup.paths[0], backup.end) for backup in found.certain] == [
        ("app.log.v2", None),
        ("app.log.2026-11-17", 1794960000.0),
    ]


# The clock.


@pytest.mark.parametrize(
    ("ages", "agrees"),
    [
        ([], True),
        ([5 * DAY], False),  # the newest lies further away
        ([5 * DAY, 0], False),  # and a file of this moment is of the same clock
        ([5 * DAY, 60], False),
        ([5 * DAY, 3600], True),
        ([5 * DAY, 4 * DAY], False),
        ([5 * DAY, 3 * DAY], True),
        ([0], True),  # nothing speaks against it
        ([60, 3600, 2 * DAY], True),
        ([-10 * 365 * DAY, 0], True),
        ([-10 * 365 * DAY, 5 * DAY], False),
        ([NOW + 20_000 * DAY - 1, 0], True),  # a time stamp of 1970 says nothing
    ],
)
def test_files_bear_out_a_clock_if_they_were_written_within_the_age_but_not_in_the_last_minutes(
    ages: list[float], agrees: bool
) -> None:
    now = NOW + 20_000 * DAY
    assert clock_agrees([now - age for age in ages], now, max_age=3 * DAY) is agrees


def test_short_ages_need_a_short_proof() -> None:
    now = NOW + 20_000 * DAY
    assert settling_time(10.0) == 5.0
    assert clock_agrees([now - 20, now - 5], now, max_age=10.0)
    assert not clock_agrees([now - 20, now - 4], now, max_age=10.0)


def test_a_clock_is_steady_since_it_was_set() -> None:
    witness = ClockWitness(1000.0, 50.0)
    assert witness.steady_for(1010.0, 60.0) == 10.0
    assert witness.steady_for(1612.0, 650.0) == 600.0, "drawn by NTP, not set"
    assert witness.steady_for(10**9, 651.0) == 0.0
    assert witness.steady_for(10**9 + 5.0, 656.0) == 5.0
    assert witness.steady_for(1620.0, 660.0) == 0.0
