"""A schedule that remembers gives the answers of the schedule that it was made of, in every zone and order."""

from __future__ import annotations

import datetime
import time
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollsafe._backups.names import Names
from rollsafe._remembering import RememberingSchedule, remembering
from rollsafe.schedule import Schedule
from tests.support.zones import DAY, HOUR, changes, places, reproducible, schedules


def answers(schedule: Schedule, t: float) -> tuple[object, ...]:
    """All that names ask a schedule about the interval of an instant."""
    interval = schedule.interval(t)
    instants = schedule.instants(interval.suffix)
    return interval, instants, schedule.certain_instants(interval.suffix), schedule.has(interval.suffix)


@settings(reproducible, max_examples=12)
@given(places(), st.lists(st.floats(-9 * DAY, 9 * DAY), min_size=1, max_size=5), st.data())
def test_the_answers_are_the_same_in_any_order(
    place: tuple[str, int], around: list[float], data: st.DataObject
) -> None:
    zone_name, change = place
    exact = data.draw(schedules(zone_name))
    schedule = remembering(exact)
    for shift in around:
        assert answers(schedule, change + shift) == answers(exact, change + shift)


@pytest.mark.parametrize(
    ("zone_name", "year", "when"),
    [
        ("Europe/Paris", 2026, "H"),
        ("Australia/Lord_Howe", 2026, "M"),
        ("America/Havana", 2026, "D"),
        ("Pacific/Apia", 2011, "D"),
        ("America/St_Johns", 1988, "W6"),
    ],
)
def test_each_hour_around_a_change_is_as_without_memory(zone_name: str, year: int, when: str) -> None:
    exact = Schedule(when, tz=zone_name)
    schedule = remembering(exact)
    for change in changes(zone_name, year):
        for t in range(change - 4 * DAY, change + 4 * DAY, 23 * HOUR // 2):
            assert answers(schedule, t) == answers(exact, t)


@pytest.mark.parametrize("zone_name", ["UTC", "Europe/Paris"])
@pytest.mark.parametrize("suffix", ["%Y-%m", "%m-%d", "%Y-%m-%d", "%G-W%V", "%H-%M", "%s"])
def test_other_formats_are_as_without_memory(zone_name: str, suffix: str) -> None:
    exact = Schedule("H", tz=zone_name, suffix=suffix)
    schedule = remembering(exact)
    for t in range(1_774_000_000, 1_774_000_000 + 60 * DAY, 5 * DAY // 2):
        assert answers(schedule, t) == answers(exact, t)


def test_the_ends_of_the_calendar_are_as_without_memory() -> None:
    exact = Schedule("D", tz="Europe/Paris")
    schedule = remembering(exact)
    for suffix in ("0001-01-01", "0001-01-02", "0001-01-04", "9999-12-28", "9999-12-31", "2026-02-30", "", "x"):
        assert schedule.instants(suffix) == exact.instants(suffix)
        assert schedule.certain_instants(suffix) == exact.certain_instants(suffix)
        assert schedule.has(suffix) == exact.has(suffix)


def test_it_remembers_no_more_than_it_is_meant_to() -> None:
    schedule = RememberingSchedule(Schedule("M", tz="Europe/Paris"), 10)
    for minute in range(30):
        answers(schedule, 1_774_000_000 + 60 * minute)
    memories = [value for value in vars(schedule).values() if isinstance(value, dict)]
    assert memories
    assert all(len(memory) <= 10 for memory in memories)


def test_days_of_years_look_at_the_zone_a_few_times_each() -> None:
    zone = Counted("Europe/Paris")
    schedule = remembering(Schedule("D", tz=zone))
    zone.looks = 0
    for day in range(400):
        answers(schedule, 1_600_000_000 + day * DAY)
    # One for the offset and one for the suffix of each day, and a search within the days of the three changes.
    assert 800 < zone.looks < 900


def test_names_ask_one_that_remembers_and_new_ones_follow_tzset() -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        schedule = Schedule("D")
        for zone_name, start in (("Asia/Tokyo", -9 * HOUR), ("America/New_York", 5 * HOUR)):
            monkeypatch.setenv("TZ", zone_name)
            time.tzset()
            names = Names("/logs/app.log", schedule)
            backup = names.parse("app.log.1970-01-01")
            assert backup is not None
            interval = names.interval(backup)
            assert interval is not None
            assert interval.start == start
    time.tzset()


def test_the_names_of_each_directory_share_what_is_remembered() -> None:
    schedule = remembering(Schedule("D"))
    assert remembering(schedule) is schedule


class Counted(datetime.tzinfo):
    """A zone that counts how often it is asked for the time."""

    def __init__(self, name: str) -> None:
        self._zone = ZoneInfo(name)
        self.looks = 0

    def fromutc(self, moment: datetime.datetime) -> datetime.datetime:
        self.looks += 1
        return self._zone.fromutc(moment.replace(tzinfo=self._zone)).replace(tzinfo=self)

    def utcoffset(self, moment: datetime.datetime | None) -> datetime.timedelta | None:
        return self._zone.utcoffset(moment)

    def dst(self, moment: datetime.datetime | None) -> datetime.timedelta | None:
        return self._zone.dst(moment)

    def tzname(self, moment: datetime.datetime | None) -> str | None:
        return self._zone.tzname(moment)


class Oddly(datetime.tzinfo):
    """A zone whose clock is set forward by 5 h at an instant, and back by half an hour 26 h later."""

    def fromutc(self, moment: datetime.datetime) -> datetime.datetime:
        since = moment.replace(tzinfo=None) - datetime.datetime(2026, 3, 10, 11)
        hours = 0.0 if since < datetime.timedelta(0) else 5.0 if since < datetime.timedelta(hours=26) else 4.5
        return moment + datetime.timedelta(hours=hours)

    def utcoffset(self, moment: datetime.datetime | None) -> None:
        """A schedule does not ask."""

    dst = utcoffset

    def tzname(self, moment: datetime.datetime | None) -> str:
        return "odd"


@pytest.mark.parametrize("when", ["H", "D"])
def test_offsets_that_last_little_more_than_a_day_are_all_seen(when: str) -> None:
    exact = Schedule(when, tz=Oddly())
    schedule = remembering(exact)
    begin = 1_772_900_000
    for t in [*range(begin, begin + 5 * DAY, 5 * HOUR), *range(begin + 5 * DAY, begin, -7 * HOUR)]:
        assert answers(schedule, t) == answers(exact, t)
