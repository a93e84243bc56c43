"""Intervals tile the time line in every zone and year, and are where a slow, literal reading of the rules puts them."""

from __future__ import annotations

import datetime
import importlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from logging.handlers import TimedRotatingFileHandler
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollsafe.errors import ConfigurationError
from rollsafe.schedule import Interval, Schedule
from tests.support.zones import (
    DAY,
    HOUR,
    YEARS,
    ZONES,
    changes,
    intervals_between,
    offset_at,
    places,
    reproducible,
    schedules,
)

UTC = datetime.timezone.utc


class TransitionsOnly(datetime.tzinfo):
    """As pytz's zones: fromutc is right, but the utcoffset of the result knows nothing of fold."""

    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone

    def fromutc(self, dt: datetime.datetime) -> datetime.datetime:
        right = dt.replace(tzinfo=UTC).astimezone(self._zone)
        return right.replace(tzinfo=self, fold=0)

    def utcoffset(self, dt: datetime.datetime | None) -> datetime.timedelta | None:
        return None if dt is None else dt.replace(tzinfo=self._zone, fold=0).utcoffset()

    def dst(self, dt: datetime.datetime | None) -> datetime.timedelta | None:
        return None

    def tzname(self, dt: datetime.datetime | None) -> str | None:
        return None


class SetBack(datetime.tzinfo):
    """A zone whose offset changes once, at an instant."""

    def __init__(self, at: int, before: int, after: int) -> None:
        self._at, self._before, self._after = at, before, after

    def fromutc(self, dt: datetime.datetime) -> datetime.datetime:
        t = dt.replace(tzinfo=UTC).timestamp()
        return dt + datetime.timedelta(seconds=self._before if t < self._at else self._after)

    def utcoffset(self, dt: datetime.datetime | None) -> datetime.timedelta | None:
        return datetime.timedelta(seconds=self._after)

    def dst(self, dt: datetime.datetime | None) -> datetime.timedelta | None:
        return None

    def tzname(self, dt: datetime.datetime | None) -> str | None:
        return None


def instant(zone_name: str, year: int, month: int, day: int, hour: int = 0, minute: int = 0, *, fold: int = 0) -> int:
    """The instant at which the zone's wall clock reads this."""
    return int(datetime.datetime(year, month, day, hour, minute, tzinfo=ZoneInfo(zone_name), fold=fold).timestamp())


def walk(schedule: Schedule, t: float, count: int) -> list[tuple[str, int, float]]:
    """(suffix, fold, minutes) of `count` intervals from the one that holds t."""
    seen = []
    for _ in range(count):
        interval = schedule.interval(t)
        seen.append((interval.suffix, interval.fold, (interval.end - interval.start) / 60))
        t = interval.end
    return seen


# The literal reading of the rules, one minute after the other.


@lru_cache
def wall_clock(zone_name: str, begin: int, end: int) -> list[int]:
    """The wall clock at each minute of [begin, end), seconds."""
    zone = ZoneInfo(zone_name)
    return [t + offset_at(zone, t) for t in range(begin, end, 60)]


def literal_starts(zone_name: str, unit: str, interval: int, first_edge: int, begin: int, end: int) -> list[float]:
    """The starts of hours or days in [begin, end), where the zone changes its clock only at whole minutes."""
    period = interval * (HOUR if unit == "H" else DAY)
    early = begin - 30 * HOUR  # no wall clock of 1970 or later was set back by more than that
    starts = []
    block, reached = None, -math.inf
    for t, wall in zip(range(early, end, 60), wall_clock(zone_name, early, end), strict=True):
        reached = max(reached, wall)
        counted = (wall if unit == "H" else reached) - first_edge
        begins_here = counted // period != block or (unit == "H" and counted % period == 0)
        if begins_here and t >= begin:
            starts.append(float(t))
        block = counted // period
    return starts


def literal_folds(zone: datetime.tzinfo, suffix_format: str, starts: list[float]) -> list[int]:
    """For each start, whether one before has its suffix."""
    suffixes = [datetime.datetime.fromtimestamp(t, zone).strftime(suffix_format) for t in starts]
    return [int(suffix in suffixes[:index]) for index, suffix in enumerate(suffixes)]


def has_whole_minutes(zone: datetime.tzinfo, t: int) -> bool:
    """Whether the literal reading can be used around t."""
    return t % 60 == 0 and all(offset_at(zone, t + days * DAY) % 60 == 0 for days in (-6, 6))


def assert_literal(zone_name: str, when: str, interval: int, at_time: datetime.time | None, around: int) -> None:
    """For some intervals on either side of `around`, the schedule has the starts and folds of the literal reading."""
    zone = ZoneInfo(zone_name)
    schedule = Schedule(when, interval, at_time, zone_name)
    first_edge = 0 if at_time is None else at_time.hour * HOUR + at_time.minute * 60
    width = min(4 * interval + 4, 30) * HOUR if when == "H" else 30 * HOUR
    begin, end = around - width, around + width
    starts = literal_starts(zone_name, when, interval, first_edge, begin, end)
    intervals = intervals_between(schedule, begin, end)
    assert [interval.start for interval in intervals] == starts
    assert [interval.fold for interval in intervals] == literal_folds(zone, schedule.suffix_format, starts)


@settings(reproducible, max_examples=25)
@given(places(), st.sampled_from((1, 1, 2, 5, 6, 24)))
def test_hours_begin_where_the_literal_reading_puts_them(place: tuple[str, int], interval: int) -> None:
    zone_name, t = place
    t -= t % 60
    if has_whole_minutes(ZoneInfo(zone_name), t):
        assert_literal(zone_name, "H", interval, None, t)


@settings(reproducible, max_examples=25)
@given(places(), st.sampled_from((1, 1, 2)), st.integers(0, 1439))
def test_days_begin_where_the_literal_reading_puts_them(place: tuple[str, int], interval: int, minute: int) -> None:
    zone_name, t = place
    t -= t % 60
    if has_whole_minutes(ZoneInfo(zone_name), t):
        assert_literal(zone_name, "D", interval, datetime.time(minute // 60, minute % 60), t)


ODD_CHANGES = [
    ("Europe/Paris", 2026),
    ("Australia/Lord_Howe", 2026),
    ("America/St_Johns", 1999),
    ("America/St_Johns", 1988),  # two hours at once
    ("America/Havana", 2026),
    ("Pacific/Apia", 2011),
    ("Pacific/Kwajalein", 1993),
    ("Africa/Cairo", 2024),
    ("America/Nuuk", 2024),
    ("Antarctica/Troll", 2026),
    ("Antarctica/Casey", 2010),
    ("Asia/Pyongyang", 2018),
    ("America/Caracas", 2007),
    ("Europe/Lisbon", 1992),
]


@pytest.mark.parametrize(("zone_name", "year"), ODD_CHANGES)
@pytest.mark.parametrize(
    ("when", "interval", "at_time"),
    [("H", 1, None), ("H", 6, None), ("D", 1, None), ("D", 1, datetime.time(23, 30)), ("D", 1, datetime.time(2, 30))],
)
def test_odd_changes_of_the_clock_agree_with_the_literal_reading(
    zone_name: str, year: int, when: str, interval: int, at_time: datetime.time | None
) -> None:
    assert changes(zone_name, year)
    for change in changes(zone_name, year):
        assert_literal(zone_name, when, interval, at_time, change)


# The rules for every schedule, zone and year.


@settings(reproducible, max_examples=80)
@given(places(), st.floats(-30, 30), st.data())
def test_intervals_tile_the_time_line(place: tuple[str, int], hours: float, data: st.DataObject) -> None:
    zone_name, change = place
    schedule = data.draw(schedules(zone_name))
    t = change + hours * HOUR
    interval = schedule.interval(t)
    assert interval.start <= t < interval.end
    assert interval.start.is_integer()
    assert interval.end.is_integer()
    share = data.draw(st.floats(0, 1, exclude_max=True))
    inside = min(interval.start + share * (interval.end - interval.start), interval.end - 1)
    for same in (interval.start, inside, interval.end - 1, math.nextafter(interval.end, -math.inf)):
        assert schedule.interval(same) == interval
    assert schedule.interval(interval.end).start == interval.end
    assert schedule.interval(interval.start - 1).end == interval.start


@settings(reproducible, max_examples=80)
@given(places(), st.floats(-30, 30), st.data())
def test_a_suffix_parses_back_to_its_interval(place: tuple[str, int], hours: float, data: st.DataObject) -> None:
    zone_name, change = place
    schedule = data.draw(schedules(zone_name))
    interval = schedule.interval(change + hours * HOUR)
    instants = schedule.instants(interval.suffix)
    assert interval.start in instants
    assert list(instants) == sorted(set(instants))
    assert interval.fold == (interval.start > instants[0])
    for start in instants:
        assert schedule.interval(start).start == start
        assert schedule.interval(start).suffix == interval.suffix


def test_hours_tile_a_change_of_the_clock_in_every_zone() -> None:
    for index, zone_name in enumerate(ZONES):
        year = YEARS[index % len(YEARS)]
        schedule = Schedule("H", tz=zone_name)
        for change in changes(zone_name, year)[-1:]:
            before, after = schedule.interval(change - 1), schedule.interval(change)
            assert before.start < change <= before.end, zone_name
            assert after.start <= change < after.end, zone_name
            assert before == after or before.end == after.start == change, zone_name


@settings(reproducible, max_examples=50)
@given(st.sampled_from(("S", "M")), st.integers(1, 5000), st.integers(0, 4 * 10**9), st.sampled_from(ZONES))
def test_seconds_and_minutes_are_aligned_to_the_epoch(when: str, interval: int, t: int, zone_name: str) -> None:
    seconds = interval * {"S": 1, "M": 60}[when]
    found = Schedule(when, interval, tz=zone_name).interval(t)
    assert found.start % seconds == 0
    assert found.end - found.start == seconds


@pytest.mark.parametrize("zone_name", ["Europe/Paris", "Asia/Kolkata", "America/St_Johns"])
@pytest.mark.parametrize("weekday", range(7))
def test_weeks_begin_on_their_weekday(zone_name: str, weekday: int) -> None:
    schedule = Schedule(f"w{weekday}", atTime=datetime.time(13, 45, 10), tz=zone_name)
    for week in intervals_between(schedule, instant(zone_name, 2026, 1, 1), instant(zone_name, 2026, 12, 1)):
        wall = datetime.datetime.fromtimestamp(week.start, ZoneInfo(zone_name))
        assert wall.weekday() == weekday
        assert wall.time() == datetime.time(13, 45, 10)


@pytest.mark.parametrize("zone_name", ["Europe/Paris", "Asia/Kolkata", "America/St_Johns"])
@pytest.mark.parametrize("weekday", range(7))
def test_weeks_without_a_time_begin_at_the_midnight_that_ends_their_weekday(zone_name: str, weekday: int) -> None:
    schedule = Schedule(f"W{weekday}", tz=zone_name)
    for week in intervals_between(schedule, instant(zone_name, 2026, 1, 1), instant(zone_name, 2026, 12, 1)):
        wall = datetime.datetime.fromtimestamp(week.start, ZoneInfo(zone_name))
        assert wall.weekday() == (weekday + 1) % 7
        assert wall.time() == datetime.time()


def test_a_week_to_sunday_ends_as_monday_begins_and_its_backup_has_the_date_of_its_first_day() -> None:
    sunday = instant("Europe/Paris", 2026, 11, 29, 12)
    monday = instant("Europe/Paris", 2026, 11, 30)
    week = Schedule("W6", tz="Europe/Paris").interval(sunday)
    assert (week.start, week.end) == (instant("Europe/Paris", 2026, 11, 23), monday)
    assert week.suffix == "2026-11-23"
    at_midnight = Schedule("W6", atTime=datetime.time(0), tz="Europe/Paris").interval(sunday)
    assert (at_midnight.start, at_midnight.suffix) == (instant("Europe/Paris", 2026, 11, 29), "2026-11-29")


@pytest.mark.parametrize("when", ["midnight", *(f"W{day}" for day in range(7))])
@pytest.mark.parametrize("at_time", [None, datetime.time(0), datetime.time(13, 45, 10)])
def test_days_and_weeks_roll_over_and_name_as_the_standard_library(
    when: str, at_time: datetime.time | None, tmp_path: Path
) -> None:
    handler = TimedRotatingFileHandler(tmp_path / "app.log", when, atTime=at_time, delay=True, utc=True)
    schedule = Schedule(when, atTime=at_time, tz=UTC)
    # Not a whole second: CPython before 3.11.9 and 3.12.3 rolls over at once where its time is exactly `atTime`.
    for t in range(1_790_000_000, 1_790_000_000 + 16 * DAY, 3571):
        interval = schedule.interval(t + 0.5)
        assert interval.end == math.floor(handler.computeRollover(t + 0.5))  # type: ignore[arg-type]
        begun = time.gmtime(interval.end - handler.interval)
        assert interval.suffix == time.strftime(handler.suffix, begun)


def test_several_weeks_are_counted_from_the_first_rollover_of_1970() -> None:
    at_midnight = Schedule("W0", 2, atTime=datetime.time(0), tz=UTC)
    first_monday = 4 * DAY
    assert at_midnight.interval(first_monday).start == first_monday
    assert at_midnight.interval(first_monday).end == first_monday + 14 * DAY
    assert at_midnight.interval(first_monday + 1400 * DAY).start == first_monday + 1400 * DAY
    at_its_end = Schedule("W0", 2, tz=UTC)
    assert at_its_end.interval(first_monday).end == first_monday + DAY
    assert at_its_end.interval(first_monday + DAY).end == first_monday + 15 * DAY
    # 1970-01-01 was a Thursday, as whose end weeks to Thursday of one process after the other begin.
    assert Schedule("W3", 2, tz=UTC).interval(DAY).start == DAY
    assert Schedule("W2", 2, tz=UTC).interval(0).start == 0


def test_several_days_are_counted_from_1970_on_the_wall_clock() -> None:
    schedule = Schedule("D", 3, datetime.time(6), tz="Asia/Kolkata")
    blocks = intervals_between(schedule, instant("Asia/Kolkata", 1970, 1, 1), instant("Asia/Kolkata", 1970, 1, 12))
    assert [block.start for block in blocks] == [instant("Asia/Kolkata", 1970, 1, day, 6) for day in (1, 4, 7, 10)]


def test_midnight_and_d_are_the_same() -> None:
    t = instant("Europe/Paris", 2026, 7, 14, 12)
    assert Schedule("D", tz="Europe/Paris").interval(t) == Schedule("midnight", tz="Europe/Paris").interval(t)


# Nights that people know.


def test_paris_has_two_two_o_clock_hours_in_autumn() -> None:
    assert walk(Schedule("H", tz="Europe/Paris"), instant("Europe/Paris", 2026, 10, 25, 1), 4) == [
        ("2026-10-25_01", 0, 60),
        ("2026-10-25_02", 0, 60),
        ("2026-10-25_02", 1, 60),
        ("2026-10-25_03", 0, 60),
    ]


def test_paris_has_no_two_o_clock_hour_in_spring() -> None:
    assert walk(Schedule("H", tz="Europe/Paris"), instant("Europe/Paris", 2026, 3, 29, 1), 2) == [
        ("2026-03-29_01", 0, 60),
        ("2026-03-29_03", 0, 60),
    ]


def test_blocks_of_hours_grow_and_shrink_by_the_change_inside_them() -> None:
    schedule = Schedule("H", 6, tz="Europe/Paris")
    assert walk(schedule, instant("Europe/Paris", 2026, 10, 25), 2) == [
        ("2026-10-25_00", 0, 420),
        ("2026-10-25_06", 0, 360),
    ]
    assert walk(schedule, instant("Europe/Paris", 2026, 3, 29), 1) == [("2026-03-29_00", 0, 300)]


@pytest.mark.parametrize(("when", "minutes"), [("M", 1), ("S", 1 / 60)])
def test_minutes_and_seconds_of_the_repeated_hour_are_folded(when: str, minutes: float) -> None:
    schedule = Schedule(when, tz="Europe/Paris")
    first = schedule.interval(instant("Europe/Paris", 2026, 10, 25, 2, 30))
    second = schedule.interval(instant("Europe/Paris", 2026, 10, 25, 2, 30, fold=1))
    assert first.suffix == second.suffix
    assert (first.fold, second.fold) == (0, 1)
    assert (first.end - first.start) / 60 == pytest.approx(minutes)
    assert schedule.instants(first.suffix) == (first.start, second.start)
    after = schedule.interval(instant("Europe/Paris", 2026, 10, 25, 3))
    assert (after.suffix[:13], after.fold) == ("2026-10-25_03", 0)


def test_lord_howe_repeats_half_of_the_hour_before_in_autumn_as_one_interval() -> None:
    assert walk(Schedule("H", tz="Australia/Lord_Howe"), instant("Australia/Lord_Howe", 2026, 4, 5, 1), 2) == [
        ("2026-04-05_01", 0, 90),
        ("2026-04-05_02", 0, 60),
    ]


def test_lord_howe_has_half_an_hour_at_two_in_spring() -> None:
    assert walk(Schedule("H", tz="Australia/Lord_Howe"), instant("Australia/Lord_Howe", 2026, 10, 4, 1), 3) == [
        ("2026-10-04_01", 0, 60),
        ("2026-10-04_02", 0, 30),
        ("2026-10-04_03", 0, 60),
    ]


def test_st_johns_goes_back_over_midnight() -> None:
    evening = instant("America/St_Johns", 1999, 10, 30, 23)
    assert walk(Schedule("H", tz="America/St_Johns"), evening, 5) == [
        ("1999-10-30_23", 0, 60),
        ("1999-10-31_00", 0, 1),
        ("1999-10-30_23", 1, 59),
        ("1999-10-31_00", 1, 60),
        ("1999-10-31_01", 0, 60),
    ]
    assert walk(Schedule("D", tz="America/St_Johns"), evening, 3) == [
        ("1999-10-30", 0, 1440),
        ("1999-10-31", 0, 1500),
        ("1999-11-01", 0, 1440),
    ]


def test_havana_repeats_its_midnight_and_has_one_day_of_25_hours() -> None:
    schedule = Schedule("D", tz="America/Havana")
    assert walk(schedule, instant("America/Havana", 2024, 11, 2, 12), 3) == [
        ("2024-11-02", 0, 1440),
        ("2024-11-03", 0, 1500),
        ("2024-11-04", 0, 1440),
    ]
    assert schedule.instants("2024-11-03") == (instant("America/Havana", 2024, 11, 3),)


def test_samoa_skips_a_day() -> None:
    schedule = Schedule("D", tz="Pacific/Apia")
    assert walk(schedule, instant("Pacific/Apia", 2011, 12, 29, 12), 3) == [
        ("2011-12-29", 0, 1440),
        ("2011-12-31", 0, 1440),
        ("2012-01-01", 0, 1440),
    ]
    assert schedule.instants("2011-12-30") == ()


def test_cairo_skips_a_midnight_and_the_day_begins_at_one() -> None:
    schedule = Schedule("D", tz="Africa/Cairo")
    assert walk(schedule, instant("Africa/Cairo", 2024, 4, 25, 12), 2) == [
        ("2024-04-25", 0, 1440),
        ("2024-04-26", 0, 1380),
    ]
    assert schedule.instants("2024-04-26") == (instant("Africa/Cairo", 2024, 4, 26, 1),)


def test_nuuk_skips_half_past_eleven_and_two_days_bear_one_date() -> None:
    schedule = Schedule("D", 1, datetime.time(23, 30), "America/Nuuk")
    assert walk(schedule, instant("America/Nuuk", 2024, 3, 30, 12), 3) == [
        ("2024-03-29", 0, 1410),
        ("2024-03-31", 0, 1410),
        ("2024-03-31", 1, 1440),
    ]


def test_hours_of_kolkata_begin_at_half_past_in_utc() -> None:
    interval = Schedule("H", tz="Asia/Kolkata").interval(instant("Asia/Kolkata", 2026, 7, 1, 9, 59))
    assert interval.start % HOUR == HOUR / 2
    assert interval.suffix == "2026-07-01_09"


def test_liberia_of_1970_is_44_minutes_and_a_half_behind() -> None:
    assert Schedule("H", tz="Africa/Monrovia").interval(0) == Interval(-930.0, 2670.0, "1969-12-31_23", 0)
    assert Schedule("M", tz="Africa/Monrovia").interval(0) == Interval(0.0, 60.0, "1969-12-31_23-15", 0)
    assert Schedule("D", tz="Africa/Monrovia").interval(2670) == Interval(2670.0, 89070.0, "1970-01-01", 0)


@pytest.mark.parametrize("t", [-1, -86401.5, 2**31, 2**32 + 0.5, 4_102_444_800, 200_000_000_000])
@pytest.mark.parametrize("tz", [None, UTC, "Europe/Paris"])
@pytest.mark.parametrize("when", ["S", "M", "H", "D", "W6"])
def test_instants_before_1970_and_after_2038_have_intervals(
    when: str, tz: datetime.tzinfo | str | None, t: float
) -> None:
    interval = Schedule(when, tz=tz).interval(t)
    assert interval.start <= t < interval.end
    assert Schedule(when, tz=tz).instants(interval.suffix) == (interval.start,)


@pytest.mark.parametrize("t", [1e20, -1e20, math.nan, math.inf])
@pytest.mark.parametrize("tz", [None, UTC, "Europe/Paris"])
def test_instants_without_a_date_are_refused(tz: datetime.tzinfo | str | None, t: float) -> None:
    with pytest.raises((OverflowError, ValueError, OSError)):
        Schedule("D", tz=tz).interval(t)


@pytest.mark.parametrize("when", ["H", "D", "W0"])
def test_an_interval_of_any_length_works(when: str) -> None:
    interval = Schedule(when, 10**12, tz="Europe/Paris").interval(10**9)
    assert interval.start < 10**9 < interval.end


# Zones of every kind.


def test_a_fixed_offset_is_a_zone() -> None:
    tz = datetime.timezone(datetime.timedelta(hours=5, minutes=45, seconds=30))
    assert Schedule("H", tz=tz).interval(0) == Interval(-2730.0, 870.0, "1970-01-01_05", 0)


def test_a_tzinfo_that_ignores_fold_gives_the_same_intervals() -> None:
    zone = ZoneInfo("Europe/Paris")
    t = instant("Europe/Paris", 2026, 10, 25, 1)
    assert walk(Schedule("H", tz=TransitionsOnly(zone)), t, 4) == walk(Schedule("H", tz=zone), t, 4)


def test_minutes_that_share_a_suffix_after_a_set_back_of_seconds_are_folded() -> None:
    schedule = Schedule("M", tz=SetBack(at=30, before=10, after=-49))
    assert walk(schedule, 0, 2) == [("1970-01-01_00-00", 0, 1), ("1970-01-01_00-00", 1, 1)]
    assert schedule.instants("1970-01-01_00-00") == (0.0, 60.0)


def test_a_set_back_in_mid_hour_begins_the_earlier_hour_again() -> None:
    at = 2 * HOUR + 900
    assert walk(Schedule("H", tz=SetBack(at, before=0, after=-1800)), HOUR, 5) == [
        ("1970-01-01_01", 0, 60),
        ("1970-01-01_02", 0, 15),
        ("1970-01-01_01", 1, 15),
        ("1970-01-01_02", 1, 60),
        ("1970-01-01_03", 0, 60),
    ]


def test_a_set_back_to_the_full_hour_itself_begins_an_hour() -> None:
    assert walk(Schedule("H", tz=SetBack(2 * HOUR + 1800, before=0, after=-1800)), 2 * HOUR, 3) == [
        ("1970-01-01_02", 0, 30),
        ("1970-01-01_02", 1, 60),
        ("1970-01-01_03", 0, 60),
    ]


SetLocalZone = Callable[[str], None]


@pytest.fixture
def set_local_zone() -> Iterator[SetLocalZone]:
    """Sets TZ for the process; afterwards it is as it was."""
    with pytest.MonkeyPatch.context() as monkeypatch:

        def set_zone(name: str) -> None:
            monkeypatch.setenv("TZ", name)
            time.tzset()

        yield set_zone
    time.tzset()


@pytest.mark.parametrize("zone_name", ["Europe/Paris", "Australia/Lord_Howe", "America/St_Johns", "Pacific/Apia"])
@pytest.mark.parametrize("when", ["M", "H", "D", "W4"])
def test_local_time_has_the_intervals_of_the_zone_of_that_name(
    set_local_zone: SetLocalZone, when: str, zone_name: str
) -> None:
    set_local_zone(zone_name)
    local, named = Schedule(when), Schedule(when, tz=zone_name)
    for change in changes(zone_name, 2011):
        for t in range(change - 2 * DAY, change + 2 * DAY, 5 * HOUR // 2):
            interval = local.interval(t)
            assert interval == named.interval(t)
            assert local.instants(interval.suffix) == named.instants(interval.suffix)


def test_local_time_follows_tzset(set_local_zone: SetLocalZone) -> None:
    schedule = Schedule("D")
    set_local_zone("Asia/Tokyo")
    assert schedule.interval(0).suffix == "1970-01-01"
    assert schedule.interval(0).start == -9 * HOUR
    set_local_zone("America/New_York")
    assert schedule.interval(0).suffix == "1969-12-31"
    assert schedule.interval(0).start == -19 * HOUR


# Suffixes.


@pytest.mark.parametrize(
    ("when", "suffix", "length"),
    [
        ("s", "2026-07-14_12-34-56", 1),
        ("m", "2026-07-14_12-34", 60),
        ("h", "2026-07-14_12", 3600),
        ("d", "2026-07-14", 86400),
        ("MidNight", "2026-07-14", 86400),
        ("w1", "2026-07-08", 604800),
    ],
)
def test_defaults_are_those_of_the_standard_library(when: str, suffix: str, length: int) -> None:
    schedule = Schedule(when, tz=UTC)
    t = datetime.datetime(2026, 7, 14, 12, 34, 56, tzinfo=UTC).timestamp()
    assert schedule.interval(t).suffix == suffix
    assert schedule.length == length
    assert Schedule(when, 3).length == 3 * length
    assert schedule.when == when.upper()


@pytest.mark.parametrize(
    "suffix",
    ["", "x", "2026-13-45", "2026-7-4", "2026-07-04 ", "02026-07-04", "2026-07-04_12", "0000-00-00", "\0", "\udcff"],
)
def test_text_that_no_interval_writes_names_no_instants(suffix: str) -> None:
    assert Schedule("D", tz="Europe/Paris").instants(suffix) == ()


@pytest.mark.parametrize("suffix", ["2026-10-25_01", "2026-03-29_02", "0001-01-01_00", "9999-12-31_23"])
def test_a_date_at_which_no_interval_begins_names_no_instants(suffix: str) -> None:
    assert Schedule("H", 24 * 365 * 9000, tz="Europe/Paris").instants(suffix) == ()
    assert Schedule("H", 2, tz="Europe/Paris").instants(suffix)[1:] == ()


def test_the_skipped_hour_names_no_instants() -> None:
    assert Schedule("H", tz="Europe/Paris").instants("2026-03-29_02") == ()


@settings(reproducible, max_examples=100)
@given(st.text("0123456789-_ T\0\u0664", max_size=25), st.sampled_from(("S", "H", "W3")))
def test_instants_takes_any_text(text: str, when: str) -> None:
    schedule = Schedule(when, tz="Europe/Paris")
    assert all(schedule.interval(t).suffix == text for t in schedule.instants(text))


def test_a_format_of_the_users_is_written_and_read() -> None:
    schedule = Schedule("H", tz="Europe/Paris", suffix="%Y%m%dT%H%z")
    first, second = (schedule.interval(instant("Europe/Paris", 2026, 10, 25, 2, fold=fold)) for fold in (0, 1))
    assert (first.suffix, second.suffix) == ("20261025T02+0200", "20261025T02+0100")
    assert (first.fold, second.fold) == (0, 0)
    assert schedule.instants(second.suffix) == (second.start,)


def test_a_coarse_format_is_folded_only_where_the_clock_was_set_back() -> None:
    schedule = Schedule("H", tz="Europe/Paris", suffix="%Y-%m-%d")
    midnight = instant("Europe/Paris", 2026, 10, 25)
    assert [fold for _, fold, _ in walk(schedule, midnight, 6)] == [0, 0, 0, 1, 0, 0]
    assert schedule.instants("2026-10-25")[0] == midnight


# Arguments that cannot work.


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        *[({"when": when}, "when") for when in ("", "x", "W", "W7", "W10", "HH", "W\u0663", "midnight ", None, 1)],
        *[({"interval": interval}, "interval") for interval in (0, -1, 1.0, "1", True, None)],
        *[({"when": "D", "atTime": at_time}, "atTime") for at_time in ("03:00", 3, datetime.time(3, tzinfo=UTC))],
        *[({"when": when, "atTime": datetime.time()}, "atTime") for when in ("S", "M", "H")],
        *[({"tz": tz}, "tz") for tz in ("Mars/Base", "", "America", "/etc/localtime", "../x", "a\0b", "\udcff")],
        *[({"tz": tz}, "tz") for tz in ("x" * 999, 1, UTC.utcoffset(None), datetime.tzinfo())],  # type: ignore[abstract]
        *[({"suffix": suffix}, "suffix") for suffix in ("", "%Y/%m", "%Y\0", "%D", 1)],
    ],
)
def test_an_argument_that_cannot_work_is_named_with_its_value(arguments: dict[str, object], name: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        Schedule(**arguments)  # type: ignore[arg-type]
    assert str(error.value).startswith(f"{name}={arguments[name]!r} ")


def test_an_unknown_zone_says_where_zones_come_from() -> None:
    with pytest.raises(ConfigurationError, match="tzdata"):
        Schedule(tz="Mars/Base")


@pytest.mark.parametrize("when", ["S", "M", "H", "D", "MIDNIGHT", "W3"])
def test_default_suffixes_are_read_without_the_lock_of_strptime(when: str) -> None:
    """A child of a fork inherits that lock as it is, and a thread of the parent may have held it."""
    schedule = Schedule(when, tz=UTC)
    start = schedule.interval(1_700_000_000.0).start
    read: list[tuple[float, ...]] = []
    suffix = schedule.interval(start).suffix
    thread = threading.Thread(target=lambda: read.append(schedule.instants(suffix)), daemon=True)
    # Private, and what every strptime takes.
    with importlib.import_module("_strptime")._cache_lock:
        thread.start()
        thread.join(30)
    assert read == [(start,)]
