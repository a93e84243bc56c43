"""What a suffix tells: which formats come back to their interval, at every turn of the calendar."""

from __future__ import annotations

import datetime
import locale
import threading
from collections.abc import Iterator
from importlib import import_module

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollsafe._suffixes import reader_of
from rollsafe.schedule import Schedule
from tests.support.needs import is_missing
from tests.support.zones import reproducible

UTC = datetime.timezone.utc
PARIS = "Europe/Paris"
YEARS = range(2023, 2030)

# (when, formats whose suffixes tell the interval)
TELLING = {
    "S": ["%F_%T", "%Y%m%d%H%M%S", "%c", "%Y-%m-%d_%I-%M-%S%p", "%y%j-%H%M%S"],
    "M": ["%F_%R", "%Y-%-m-%-d_%-H.%-M", "%d.%m.%y %H:%M"],
    "H": ["%F-%H", "%FT%H%z", "%F %k", "%F %l%p", "%Y-%m-%d-%I%p", "%G-W%V-%u_%H"],
    "MIDNIGHT": [
        "%F",
        "%Y-%-m-%-d",
        "%-d.%-m.%Y",
        "%e-%b-%Y",
        "%A, %d %B %Y",
        "%^a %d %#b %Y",
        "%Y.%j",
        "%Y%-j",
        "%G-W%V-%u",
        "%G-W%V-%a",
        "%Y-W%W-%w",
        "%Y-W%U-%A",
        "%C%y%m%d",
        "%y%m%d",
        "%s",
        "%EY-%Om-%Od",
        "%Y-%m-%d_%H-%M-%S",
    ],
    "W0": ["%F", "%G-W%V", "%Y-W%W", "%Y-W%U", "%Y-%m-%d"],
    "W3": ["%F", "%G-W%V", "%Y-W%W", "%Y-W%U", "%b %-d %Y"],
}
# (when, formats whose suffixes are those of several intervals, or cannot be read back for certain)
NOT_TELLING = {
    "S": ["%H-%M-%S", "%F_%H-%M", "%F_%I-%M-%S", "%T", "%F %S", "%-H%-M%-S", "%r"],
    "M": ["%F_%H", "%H-%M", "%F-%M"],
    "H": ["%F", "%H", "%m-%d_%H", "%F-%I", "%Y-%m"],
    "MIDNIGHT": [
        "%m-%d",
        "%d",
        "%a",
        "%Y-%m",
        "%Y",
        "%G-W%V",
        "%Y-W%W",
        "%Y-%d",
        "%Y-%a",
        "%b",
        "%j",
        "%H",
        "%p",
        "old",
    ],
    "W0": ["%V", "%W", "%Y-%V", "%m-%d", "%Y-%m", "%Y", "%a", "%B"],
}


def pairs(formats: dict[str, list[str]]) -> list[tuple[str, str]]:
    """(when, format) of a table."""
    return [(when, text) for when, texts in formats.items() for text in texts]


@pytest.mark.parametrize(("when", "text"), pairs(TELLING))
def test_a_format_that_is_dated_and_fine_enough_tells_its_interval(when: str, text: str) -> None:
    for zone in (UTC, None if text == "%s" else PARIS):
        schedule = Schedule(when, tz=zone, suffix=text)
        assert schedule.tells_intervals()
        for year in YEARS:
            for month, day, hour in ((1, 1, 0), (3, 1, 0), (6, 15, 12), (12, 31, 23)):
                moment = datetime.datetime(year, month, day, hour, 59, 30, tzinfo=UTC).timestamp()
                interval = schedule.interval(moment)
                assert schedule.certain_instants(interval.suffix) == (interval.start,)
                assert schedule.has(interval.suffix)


@pytest.mark.parametrize(("when", "text"), pairs(NOT_TELLING))
def test_a_format_that_is_of_several_intervals_tells_none(when: str, text: str) -> None:
    for zone in (UTC, PARIS):
        schedule = Schedule(when, tz=zone, suffix=text)
        assert not schedule.tells_intervals()
        for year in YEARS:
            for month, day in ((1, 4), (6, 15), (11, 11), (12, 29)):
                suffix = schedule.interval(datetime.datetime(year, month, day, 15, 4, 5, tzinfo=UTC).timestamp()).suffix
                assert schedule.certain_instants(suffix) == ()
                assert schedule.has(suffix), "it is a suffix of ours all the same"


def test_a_number_without_a_fixed_width_next_to_another_one_is_not_read() -> None:
    schedule = Schedule("MIDNIGHT", tz=UTC, suffix="%Y-%-d%-m")
    first, second = (
        schedule.interval(datetime.datetime(2026, *day, tzinfo=UTC).timestamp()) for day in ((1, 11), (11, 1))
    )
    assert first.suffix == second.suffix == "2026-111"
    assert not schedule.tells_intervals()
    assert schedule.certain_instants("2026-111") == ()


def test_the_suffix_of_the_hour_that_autumn_repeats_tells_both() -> None:
    schedule = Schedule("H", tz=PARIS, suffix="%F_%H")
    night = datetime.datetime(2026, 10, 25, 0, tzinfo=UTC).timestamp()
    assert schedule.certain_instants("2026-10-25_02") == (night, night + 3600)
    day = Schedule("H", tz=PARIS, suffix="%F")
    assert day.instants("2026-10-25")
    assert day.certain_instants("2026-10-25") == ()


def test_weeks_of_several_days_are_told_as_far_as_they_have_one_interval() -> None:
    assert Schedule("D", 7, tz=UTC, suffix="%G-W%V").tells_intervals()
    assert not Schedule("D", 3, tz=UTC, suffix="%G-W%V").tells_intervals()
    assert Schedule("D", 31, tz=UTC, suffix="%Y-%m").tells_intervals()
    assert Schedule("H", 12, tz=UTC, suffix="%F %p").tells_intervals()
    assert Schedule("H", 24, tz=UTC, suffix="%F").tells_intervals()


@pytest.mark.parametrize(
    ("text", "suffix"),
    [
        ("%m-%d", "13-01"),
        ("%m-%d", "02-30"),
        ("%H-%M-%S", "24-00-00"),
        ("%H-%M-%S", "1-2-3"),
        ("%d", "00"),
        ("%d", "32"),
        ("%a", "Foo"),
        ("%F", "2026-02-29"),
        ("%F", "2026-1-2"),
        ("%G-W%V", "2026-W54"),
        ("%G-W%V", "2026-W00"),
        ("%Y.%j", "2026.366"),
        ("%Y.%j", "2026.000"),
        ("%-d.%-m.%Y", "01.1.2026"),
        ("%e-%b-%Y", "1-Jan-2026"),
        ("%s", "1"),
        ("%s", "99999999999999999999"),
        ("old", "older"),
    ],
)
def test_what_no_interval_writes_is_no_suffix(text: str, suffix: str) -> None:
    schedule = Schedule("MIDNIGHT", tz=UTC, suffix=text)
    assert not schedule.has(suffix)
    assert schedule.instants(suffix) == schedule.certain_instants(suffix) == ()


def test_two_digits_of_a_year_mean_1969_to_2068() -> None:
    schedule = Schedule("MIDNIGHT", tz=UTC, suffix="%y%m%d")
    years = [datetime.datetime.fromtimestamp(schedule.instants(text)[0], UTC).year for text in ("690101", "680101")]
    assert years == [1969, 2068]


@settings(reproducible, max_examples=150)
@given(
    st.lists(
        st.sampled_from(
            [*"YmdHMSyjUWVGuwaAbBpIekls", "-d", "-m", "_H", "F", "T", "R", "c", "Z", "z", "%", "f", "Q", "10Y"]
        ),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from(["", "-", "."]),
    st.sampled_from(["S", "H", "D", "W2"]),
    st.integers(1_000_000_000, 2_000_000_000),
)
def test_whatever_is_certain_comes_back_and_nothing_raises(letters: list[str], between: str, when: str, t: int) -> None:
    schedule = Schedule(when, tz=PARIS, suffix=between.join(f"%{letter}" for letter in letters) + "x")
    interval = schedule.interval(t)
    certain = schedule.certain_instants(interval.suffix)
    assert all(schedule.interval(start).suffix == interval.suffix for start in certain)
    assert not certain or interval.start in certain
    # None near it has the same suffix, but for the repeated hour of autumn.
    other = schedule.interval(interval.end)
    for _ in range(3):
        assert not certain or other.suffix != interval.suffix or other.start in certain
        other = schedule.interval(other.end)


@pytest.fixture
def french() -> Iterator[None]:
    """The names of months and days in French."""
    before = locale.setlocale(locale.LC_TIME)
    try:
        locale.setlocale(locale.LC_TIME, "fr_FR.UTF-8")
    except locale.Error:
        pytest.skip(is_missing("the French locale", "locales-all"))
    yield
    locale.setlocale(locale.LC_TIME, before)


def test_names_are_those_of_the_language_that_is_set_now(french: None) -> None:
    schedule = Schedule("MIDNIGHT", tz=UTC, suffix="%a %d %b %Y")
    suffix = schedule.interval(datetime.datetime(2026, 7, 1, tzinfo=UTC).timestamp()).suffix
    assert "juil" in suffix
    assert schedule.tells_intervals()
    locale.setlocale(locale.LC_TIME, "C")
    assert not schedule.has(suffix)


def test_formats_of_the_users_are_read_without_the_lock_of_strptime() -> None:
    schedule = Schedule("MIDNIGHT", tz=UTC, suffix="%e-%b-%Y")
    suffix = schedule.interval(1_700_000_000).suffix
    read: list[tuple[float, ...]] = []
    thread = threading.Thread(target=lambda: read.append(schedule.certain_instants(suffix)), daemon=True)
    with import_module("_strptime")._cache_lock:
        thread.start()
        thread.join(30)
    assert len(read[0]) == 1


def test_a_reader_is_made_once() -> None:
    assert reader_of("%F") is reader_of("%F")
