"""The interval that holds an instant: pure arithmetic on time and zone, with the same result in every process.

This module uses two clocks. An *instant* is seconds since the epoch. The *wall clock* at an instant is the time that a
clock on a wall of the zone shows, in seconds since 1970-01-01 00:00 on that wall: the instant plus the UTC offset.

These rules hold in every zone and year:

* Each instant is in exactly one interval.
* ``S`` and ``M`` are aligned to the epoch, whatever the zone.
* ``H``, ``D`` and ``W`` begin at *edges* of the wall clock: each multiple of the interval, counted from 1970-01-01
  00:00 for hours, from 1970-01-01 ``atTime`` for days, and from the first rollover of 1970 for weeks.
* Weeks roll over when those of the standard library do: on their weekday at ``atTime``, and without ``atTime`` at the
  *end* of that day. ``W6`` rolls over as Sunday becomes Monday, and its backup has the date of the Monday on which it
  began; ``W6`` with ``atTime=datetime.time(0)`` rolls over a day earlier, as Sunday begins.
* Hours begin at every instant at which the wall clock reads an edge or jumps across one, so that the two 02:00 hours of
  an autumn night are two intervals. Days and weeks begin only at the first such instant of an edge, so that a midnight
  that the wall clock passes twice ends only one day, and a day that it skips has no interval.
* ``D`` means ``MIDNIGHT``. The standard library counts ``D`` from the start of each process, so no two processes agree.
"""

from __future__ import annotations

import datetime
import math
import time
from bisect import bisect_left
from collections.abc import Iterable
from itertools import pairwise
from typing import Final

from rollsafe._suffixes import reader_of
from rollsafe._values import Value
from rollsafe.errors import ConfigurationError

DAY: Final = 86400
_EPOCH: Final = datetime.datetime(1970, 1, 1)
_SECOND: Final = datetime.timedelta(seconds=1)
# Two days within the range of datetime, so that no zone's wall clock leaves it.
_EARLIEST: Final = (datetime.datetime.min - _EPOCH) // _SECOND + 2 * DAY
_LATEST: Final = (datetime.datetime.max - _EPOCH) // _SECOND - 2 * DAY

# As in CPython's logging.handlers.TimedRotatingFileHandler.__init__.
_UNIT_SECONDS: Final = {"S": 1, "M": 60, "H": 3600, "D": DAY, "W": 7 * DAY}
_SUFFIXES: Final = {
    "S": "%Y-%m-%d_%H-%M-%S",
    "M": "%Y-%m-%d_%H-%M",
    "H": "%Y-%m-%d_%H",
    "D": "%Y-%m-%d",
    "W": "%Y-%m-%d",
}
_UNITS: Final = {"S": "S", "M": "M", "H": "H", "D": "D", "MIDNIGHT": "D"} | {f"W{day}": "W" for day in range(7)}
_EPOCH_WEEKDAY: Final = 3  # 1970-01-01 was a Thursday; 0 is Monday

# Instants to try a suffix with: one in each month of two years (2026-01-15, then every 30.5 days), and several on both
# sides of the new years 2024 (a leap year), 2027 (ISO week 53 of 2026) and 2029.
_MOMENTS: Final = (
    *(1_768_450_000 + month * 2_635_200 for month in range(24)),
    *(year + hours * 3600 for year in (1_704_067_200, 1_798_761_600, 1_861_920_000) for hours in (-40, -13, 0, 13, 40)),
)


class Interval(Value):
    """One interval of a schedule; ``start`` and ``end`` are whole seconds since the epoch."""

    start: float
    """The first instant of the interval."""
    end: float
    """The first instant after it."""
    suffix: str
    """The wall clock at ``start``, as the schedule's ``suffix_format`` writes it."""
    fold: int
    """1 if an earlier interval already has this suffix because the zone's clock was changed, else 0."""

    def __init__(self, start: float, end: float, suffix: str, fold: int) -> None:
        super().__init__(start, end, suffix, fold)


class Schedule:
    """The intervals of ``when`` and ``interval`` in a zone. Immutable, so threads and processes may share it.

    ``when`` and ``suffix`` (a strftime format, None for the default) mean what they mean in the standard library's
    TimedRotatingFileHandler, except that everything is aligned to the clock (see the module's rules). ``atTime`` is the
    wall-clock time, to the second, at which days and weeks begin; None is the midnight that ends the day. ``tz`` is
    None for the process's local zone (``time.localtime``, which follows ``time.tzset``), a zone name for
    :mod:`zoneinfo`, or a tzinfo. Each UTC offset of a zone must last at least a day (the shortest in the tz database
    since 1939 lasted four days).

    Raises ConfigurationError for an argument that cannot work.
    """

    def __init__(
        self,
        when: str = "h",
        interval: int = 1,
        atTime: datetime.time | None = None,
        tz: datetime.tzinfo | str | None = None,
        suffix: str | None = None,
    ) -> None:
        self.when: Final = _checked_when(when)
        self._unit: Final = _UNITS[self.when]
        self._seconds: Final = _UNIT_SECONDS[self._unit] * _checked_interval(interval)
        self.length: Final = float(self._seconds)
        """Nominal seconds of one interval, like the standard library's attribute ``interval``."""
        self._first_edge: Final = _first_edge(self.when, _checked_at_time(atTime, self.when))
        self._tz: Final = checked_tz(tz)
        self.own_suffix: Final = suffix
        """The suffix format that was given, None for the default."""
        self.suffix_format: Final = _checked_suffix(_SUFFIXES[self._unit] if suffix is None else suffix)

    def interval(self, t: float) -> Interval:
        """The interval that holds the instant ``t``, seconds since the epoch.

        Raises OverflowError, ValueError or OSError for an instant that has no calendar date (before year 1, after
        year 9999, not a finite number).
        """
        start, end = self._bounds(math.floor(t))
        return Interval(float(start), float(end), self._suffix(start), self._fold(start))

    def instants(self, suffix: str) -> tuple[float, ...]:
        """The starts, in ascending order, of the intervals that ``suffix`` names; () if it names none. Never raises.

        A suffix names one interval, or several where the wall clock repeats. If the user's format is coarser than the
        interval, a suffix names many intervals; the result then has the first and some others. If the format lacks the
        year, or has another gap (see `suffixes`), a suffix names none.
        """
        wall = reader_of(self.suffix_format).stretch(suffix)
        return () if wall is None else self._starts_of(wall, suffix)

    def certain_instants(self, suffix: str) -> tuple[float, ...]:
        """``instants`` if no other interval has this suffix, else ()."""
        starts = self.instants(suffix)
        if not starts:
            return ()
        try:
            # Intervals with one suffix follow each other, unless the wall clock was set back and repeats.
            walls = [self._wall(int(start)) for start in starts] if len(starts) > 1 else []
            apart = any(later - earlier >= self._seconds for earlier, later in pairwise(walls))
            return () if apart or self._suffix(self._bounds(int(starts[-1]))[1]) == suffix else starts
        except (ValueError, OverflowError, OSError):
            return ()

    def has(self, suffix: str) -> bool:
        """Whether an interval has this suffix, as far as a short search shows. Never raises."""
        reader = reader_of(self.suffix_format)
        if reader.is_dated:
            return bool(self.instants(suffix))
        return any(self._starts_of(wall, suffix) for wall in reader.moments(suffix))

    def tells_intervals(self) -> bool:
        """Whether a suffix identifies its interval; tried for months, the ends of years, and changes of the clock."""
        if self.own_suffix is None:
            return True
        try:
            intervals = [self.interval(moment) for moment in _MOMENTS]
            return all(interval.start in self.certain_instants(interval.suffix) for interval in intervals)
        except (ValueError, OverflowError, OSError):
            return False

    def _starts_of(self, wall_clock: datetime.datetime, suffix: str) -> tuple[float, ...]:
        """The starts, in ascending order, of the intervals with this suffix near a wall clock."""
        try:
            wall = (wall_clock - _EPOCH) // _SECOND
            # A wall clock is less than a day from UTC. Where the suffix is finer, an interval begins within a day.
            starts = self._starts_near(wall, wall - DAY, wall + 2 * DAY)
            return tuple([float(start) for start in sorted(starts) if self._suffix(start) == suffix])
        except (ValueError, OverflowError, OSError):
            return ()

    def _bounds(self, t: int) -> tuple[int, int]:
        """Start and end of the interval that holds ``t``."""
        if self._unit in ("S", "M"):
            start = t - t % self._seconds
            return start, start + self._seconds
        block = (self._wall(t) - self._first_edge) // self._seconds
        lower, upper = self._begins(block), self._begins(block + 1)
        if self._unit != "H":
            # The wall clock may have been set back from a later day, which has begun all the same.
            while upper[0] <= t:
                block += 1
                lower, upper = upper, self._begins(block + 1)
        # The wall clock enters and leaves a block only across the block's two edges, in either direction.
        begins = lower + upper
        return max([b for b in begins if b <= t]), min([b for b in begins if b > t])

    def _begins(self, block: int) -> list[int]:
        """The instants, in ascending order, at which an interval begins at the lower edge of ``block``."""
        crossings = self._crossings(self._first_edge + block * self._seconds)
        return crossings if self._unit == "H" else crossings[:1]

    def _crossings(self, edge: int) -> list[int]:
        """The instants, in ascending order, at which the wall clock reads ``edge`` or jumps across it; at least one."""
        crossings = []
        passed = False
        for first, last, offset in self._spans(edge - DAY, edge + DAY):
            reads = edge - offset
            if passed != (first >= reads) or first == reads:
                crossings.append(first)
            if first < reads < last:
                crossings.append(reads)
            passed = last > reads
        return crossings

    def _fold(self, start: int) -> int:
        """1 if an earlier interval has the suffix of the one at ``start`` because of a change of UTC offset."""
        recently = start - 3 * DAY  # two offsets differ by less than two days, one suffix spans one day at most
        wall, suffix = self._wall(start), self._suffix(start)
        if all(offset == wall - start for _, _, offset in self._spans(recently, start)):
            return 0
        return int(
            any(
                # Intervals that share a suffix because the format is coarse are a whole length apart on the wall clock.
                earlier < start and wall - self._wall(earlier) < self._seconds and self._suffix(earlier) == suffix
                for earlier in self._starts_near(wall, recently, start)
            )
        )

    def _starts_near(self, wall: int, begin: int, end: int) -> set[int]:
        """The starts of the intervals around the instant of each span of [begin, end) that is closest to ``wall``."""
        starts: set[int] = set()
        for first, last, offset in self._spans(begin, end):
            closest = min(max(wall - offset, first), last - 1)
            starts.update(self._bounds(closest))
        return starts

    def _spans(self, begin: int, end: int) -> Iterable[tuple[int, int, int]]:
        """The spans (first, last + 1, offset) of constant UTC offset in [begin, end), which must be whole days."""
        first, offset = begin, self._offset(begin)
        for probe in range(begin, end, DAY):
            if self._offset(probe + DAY) != offset:
                change = self._change_after(probe, offset)
                if change < end:
                    yield first, change, offset
                    first, offset = change, self._offset(change)
        yield first, end, offset

    def _change_after(self, t: int, offset: int) -> int:
        """The instant within a day after ``t`` at which the UTC offset changes from ``offset``."""
        day = range(t + 1, t + DAY + 1)
        return day[bisect_left(day, True, key=lambda later: self._offset(later) != offset)]

    def _wall(self, t: int) -> int:
        """The wall clock at ``t``."""
        return t + self._offset(t)

    def _offset(self, t: int) -> int:
        """The UTC offset at ``t``, seconds; outside the years 1 to 9999 it is that of the nearest of them."""
        t = min(max(t, _EARLIEST), _LATEST)
        if self._tz is None:
            return time.localtime(t).tm_gmtoff
        # The difference of the two clocks, because some tzinfos show the right time but give a wrong offset in a fold.
        return (_zoned(t, self._tz).replace(tzinfo=None) - _EPOCH) // _SECOND - t

    def _suffix(self, t: int) -> str:
        """The wall clock at ``t`` in the suffix format."""
        if self._tz is None:
            return time.strftime(self.suffix_format, time.localtime(t))
        return _zoned(t, self._tz).strftime(self.suffix_format)


def _zoned(t: int, tz: datetime.tzinfo) -> datetime.datetime:
    """The instant ``t`` as a datetime of the zone."""
    return datetime.datetime.fromtimestamp(t, tz)


def _first_edge(when: str, at_time: datetime.time | None) -> int:
    """The wall clock at which block 0 begins."""
    weekday = (int(when[1]) - _EPOCH_WEEKDAY) % 7 if when.startswith("W") else 0
    if at_time is None:
        # CPython's computeRollover counts this case as 24:00 of the weekday, not as 00:00.
        return (weekday + 1) % 7 * DAY if when.startswith("W") else 0
    return weekday * DAY + at_time.hour * 3600 + at_time.minute * 60 + at_time.second


def _checked_when(when: object) -> str:
    """``when`` in upper case."""
    if not isinstance(when, str) or when.upper() not in _UNITS:
        raise ConfigurationError(
            f"when={when!r} is not known; give S, M, H, D, MIDNIGHT, or W0 to W6 (weekly, 0 is Monday), in any case"
        )
    return when.upper()


def _checked_interval(interval: object) -> int:
    """``interval`` if it is a positive int."""
    if not isinstance(interval, int) or isinstance(interval, bool) or interval < 1:
        raise ConfigurationError(f"interval={interval!r} is not a positive int; give how many units of `when` to count")
    return interval


def _checked_at_time(at_time: object, when: str) -> datetime.time | None:
    """``atTime`` if it is a time of day that ``when`` can use, or None."""
    if at_time is None:
        return None
    if not isinstance(at_time, datetime.time):
        raise ConfigurationError(f"atTime={at_time!r} is not a datetime.time; give for example datetime.time(3, 30)")
    if at_time.tzinfo is not None:
        raise ConfigurationError(f"atTime={at_time!r} has a tzinfo; give it without one and name the zone in tz")
    if _UNITS[when] in ("S", "M", "H"):
        raise ConfigurationError(f"atTime={at_time!r} has no meaning with when={when!r}; leave it out, or use D or W0")
    return at_time


def checked_tz(tz: object) -> datetime.tzinfo | None:
    """``tz`` as a tzinfo that can convert a time, or None for the local zone."""
    if tz is None:
        return None
    if isinstance(tz, str):
        # Only now, as most handlers are in the local zone or in UTC.
        import zoneinfo

        try:
            return zoneinfo.ZoneInfo(tz)
        except (KeyError, ValueError, OSError) as error:  # unknown; malformed key or file; a directory ("America")
            raise ConfigurationError(
                f"tz={tz!r} is not a zone that can be loaded ({error}); give a name such as 'Europe/Paris', "
                "and where the system has no zone data install the PyPI package tzdata"
            ) from error
    if not isinstance(tz, datetime.tzinfo):
        raise ConfigurationError(f"tz={tz!r} is neither a zone name nor a tzinfo; give one, or None for local time")
    try:
        _zoned(0, tz)
    except Exception as error:
        raise ConfigurationError(f"tz={tz!r} cannot convert a time ({error!r}); give a zone name or another") from error
    return tz


def _checked_suffix(suffix: object) -> str:
    """``suffix`` if a file name can end in the text that it writes."""
    if not isinstance(suffix, str) or not suffix:
        raise ConfigurationError(f"suffix={suffix!r} is not a strftime format; give one such as '%Y-%m-%d', or None")
    if "\0" in suffix or "/" in suffix or "/" in time.strftime(suffix, time.gmtime(0)):
        raise ConfigurationError(
            f"suffix={suffix!r} writes '/' or NUL, which no file name can hold; use '-' between numbers, as '%Y-%m-%d'"
        )
    return suffix
