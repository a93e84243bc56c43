"""Zones and times for the tests of schedule and names: every zone of zoneinfo, mostly near a change of its clock."""

from __future__ import annotations

import datetime
import zoneinfo
from functools import cache
from zoneinfo import ZoneInfo

from hypothesis import settings
from hypothesis import strategies as st

from rollsafe.schedule import Interval, Schedule

ZONES = sorted(zoneinfo.available_timezones())
YEARS = range(1970, 2101)
HOUR = 3600
DAY = 24 * HOUR
UNIT_SECONDS = {"S": 1, "M": 60, "H": HOUR, "D": DAY, "MIDNIGHT": DAY} | {f"W{day}": 7 * DAY for day in range(7)}

reproducible = settings(derandomize=True, database=None)


def offset_at(zone: datetime.tzinfo, t: int) -> int:
    """The zone's UTC offset at an instant, seconds."""
    offset = datetime.datetime.fromtimestamp(t, zone).utcoffset()
    assert offset is not None
    return int(offset.total_seconds())


@cache
def changes(zone_name: str, year: int) -> tuple[int, ...]:
    """The instants in a year at which the zone's UTC offset changes, found by looking every two days.

    Since 1970 no offset of the tz database lasted less than six days.
    """
    zone = ZoneInfo(zone_name)
    found = []
    begin = int(datetime.datetime(year, 1, 1, tzinfo=datetime.timezone.utc).timestamp())
    for before in range(begin, begin + 366 * DAY, 2 * DAY):
        low, high = before, before + 2 * DAY
        if offset_at(zone, low) != offset_at(zone, high):
            while high - low > 1:
                middle = (low + high) // 2
                if offset_at(zone, middle) == offset_at(zone, before):
                    low = middle
                else:
                    high = middle
            found.append(high)
    return tuple(found)


@st.composite
def places(draw: st.DrawFn) -> tuple[str, int]:
    """A zone and an instant of 1970 to 2100, that of a change of the zone's clock if the year has one."""
    zone_name = draw(st.sampled_from(ZONES))
    year = draw(st.integers(YEARS[0], YEARS[-1]))
    begin = int(datetime.datetime(year, 1, 1, tzinfo=datetime.timezone.utc).timestamp())
    return zone_name, draw(st.sampled_from(changes(zone_name, year) or (begin + draw(st.integers(0, 365 * DAY)),)))


@st.composite
def schedules(draw: st.DrawFn, zone_name: str) -> Schedule:
    """Any schedule with its default suffixes in the zone."""
    when = draw(st.sampled_from(sorted(UNIT_SECONDS)))
    interval = draw(st.one_of(st.sampled_from((1, 1, 2, 3, 6, 12, 24)), st.integers(1, 400)))
    daily = UNIT_SECONDS[when] >= DAY
    return Schedule(when, interval, draw(st.none() | st.times()) if daily else None, zone_name)


def intervals_between(schedule: Schedule, begin: float, end: float) -> list[Interval]:
    """The intervals that start in [begin, end), each found from the end of the one before."""
    intervals = []
    interval = schedule.interval(begin)
    while interval.start < end:
        if interval.start >= begin:
            intervals.append(interval)
        interval = schedule.interval(interval.end)
    return intervals
