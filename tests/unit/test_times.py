"""Times as log lines tell them and as people type them."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from zoneinfo import ZoneInfo

import pytest

from rollsafe import ConfigurationError
from rollsafe.schedule import Interval, Schedule
from rollsafe.tools.times import LineClock, moment

NOON = 1_800_014_400.0  # 2027-01-15 12:00 UTC


@pytest.fixture
def paris(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process's zone is Paris."""
    monkeypatch.setenv("TZ", "Europe/Paris")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("paris")
@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        (b"2027-01-15 13:00:00,250 INFO hello\n", NOON + 0.25),
        (b"2027-01-15 13:00:00.5 hello\n", NOON + 0.5),
        (b"2027-01-15T12:00:00Z hello\n", NOON),
        (b"2027-01-15T12:00:00.123456+00:00 hello\n", NOON + 0.123456),
        (b"2027-01-15 14:00:00 +0200 hello\n", NOON),
        (b"[2027-01-15 14:00:00 +0200] [17] [INFO] gunicorn's own format\n", NOON),
        (b'127.0.0.1 - - [15/Jan/2027:12:00:00 +0000] "GET /?t=2001-01-01 10:00:00" 200\n', NOON),
        (b"INFO 2027-01-15 13:00:00 hello\n", NOON),
        (b"1800014400.125 hello\n", NOON + 0.125),
        (b'{"message": "at 2001-01-01 10:00:00", "asctime": "2027-01-15 13:00:00,250"}\n', NOON + 0.25),
        (b'{"timestamp": "2027-01-15T12:00:00.5+00:00", "message": "hello"}\n', NOON + 0.5),
        (b'{"created": 1800014400.125}\n', NOON + 0.125),
        (b"Traceback (most recent call last):\n", None),
        (b'  File "shop.py", line 1, at 2027-01-15 13:00:00\n', None),
        (b"1800014400125 is no time in seconds\n", None),
        (b"2027-13-45 13:00:00 no such day\n", None),
        (b"[15/Jux/2027:12:00:00 +0000] no such month\n", None),
        (b"\n", None),
    ],
)
def test_lines_tell_their_time(line: bytes, seconds: float | None) -> None:
    assert LineClock().time(line) == seconds


@pytest.mark.parametrize(("tz", "text"), [("UTC", b"12:00:00"), ("Asia/Tokyo", b"21:00:00")])
@pytest.mark.usefixtures("paris")
def test_a_time_without_offset_is_of_the_zone_in_which_it_fits_the_file(tz: str, text: bytes) -> None:
    interval = Interval(NOON, NOON + 3600, "", 0)
    clock = LineClock(interval, [ZoneInfo("Asia/Tokyo"), datetime.timezone.utc])
    assert clock.time(b"2027-01-15 " + text + b" hello\n") == NOON
    # And what is out of the interval later is of the same zone.
    hour = int(text[:2])
    assert clock.time(b"2027-01-15 %02d:59:00 hello\n" % (hour - 2)) == NOON - 3660


def test_a_time_within_a_text_of_several_lines_is_none_of_a_record() -> None:
    clock = LineClock()
    within = b"due at 2030-01-01 10:00:00Z\n"
    assert clock.time(b"[2027-01-15 12:00:00 +0000] one\n") == NOON
    assert clock.time(within) is None
    assert clock.time(b"x [15/Jan/2031:12:00:00 +0000]\n") is None
    assert clock.time(b"~1lge482k0v9q.7~ 2027-01-15 12:00:01Z two\n") == NOON + 1
    assert clock.time(b'{"time": "2027-01-15T12:00:02Z"}\n') == NOON + 2
    # Many of them are records of another format.
    assert {clock.time(within) for _ in range(19)} == {None}
    assert clock.time(b"INFO 2027-01-15 12:00:03Z three\n") == NOON + 3
    assert clock.time(b"INFO 2027-01-15 12:00:04Z four\n") == NOON + 4


@pytest.mark.parametrize(
    "line",
    [
        b'{"order": {"date": "2031-01-01T10:00:00Z"}, "asctime": "2027-01-15T12:00:00Z"}\n',
        b'{"order": [{"created": 1900000000}], "text": "\\"time\\": 1", "created": 1800014400.0}\n',
    ],
)
def test_the_time_of_an_object_inside_a_json_line_is_not_that_of_the_line(line: bytes) -> None:
    assert LineClock().time(line) == NOON


def test_a_clock_that_goes_on_expects_other_times() -> None:
    clock = LineClock(None, [ZoneInfo("Asia/Tokyo")])
    clock.expect(Interval(NOON - 600, NOON + 600, "", 0))
    assert clock.time(b"2027-01-15 21:00:00 hello\n") == NOON
    clock.expect(Interval(NOON + 86400, NOON + 90000, "", 0))
    assert clock.time(b"2027-01-15 21:00:00 hello\n") == NOON


@pytest.mark.usefixtures("paris")
def test_an_hour_that_comes_twice_is_told_by_the_lines_before() -> None:
    day = Schedule("MIDNIGHT").interval(1_792_900_000.0)  # 2026-10-25, when summer time ends
    begin = 1_792_886_400.0  # 02:00 for the first time
    clock = LineClock(day)
    instants = [begin + minutes * 60 for minutes in range(0, 120, 5)]
    texts = [time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(instant)).encode() for instant in instants]
    assert texts[0] == texts[12] == b"2026-10-25 02:00:00"
    assert [clock.time(text + b" hello\n") for text in texts] == instants


@pytest.mark.usefixtures("paris")
def test_an_hour_that_comes_twice_is_told_by_the_file() -> None:
    schedule = Schedule("H")
    for start in (1_792_886_400.0, 1_792_890_000.0):
        assert LineClock(schedule.interval(start)).time(b"2026-10-25 02:30:00 hello\n") == start + 1800


@pytest.mark.usefixtures("paris")
@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2027-01-15", NOON - 13 * 3600),
        ("2027-01-15 13:00", NOON),
        ("2027-01-15T13:00:00", NOON),
        ("2027-01-15T12:00:00Z", NOON),
        ("2027-01-15T12:00+00:00", NOON),
        ("13:00", NOON),
        ("12:30:15", NOON - 1785),
        ("2 hours ago", NOON - 7200),
        ("90s", NOON - 90),
        ("1.5 h ago", NOON - 5400),
        ("3 Days ago", NOON - 3 * 86400),
        ("1 week", NOON - 7 * 86400),
        ("5m", NOON - 300),
        ("-1 h", NOON - 3600),
        ("-1h30min", NOON - 5400),
        ("+90 s", NOON + 90),
        ("1h 30min ago", NOON - 5400),
        ("1 day, 2 hours and 3 minutes ago", NOON - 86400 - 7200 - 180),
        ("1 month ago", NOON - 30.44 * 86400),
        ("now", NOON),
        ("today", NOON - 13 * 3600),
        ("Yesterday", NOON - 37 * 3600),
        ("tomorrow", NOON + 11 * 3600),
        ("yesterday 13:00", NOON - 86400),
        ("yesterday  13:00:30", NOON - 86400 + 30),
        ("2027-01-15 12:00 UTC", NOON),
        ("12:00 UTC", NOON),
        ("@1800014400", NOON),
        ("@1800014400.5", NOON + 0.5),
    ],
)
def test_people_may_type_times_like_this(text: str, seconds: float) -> None:
    assert moment(text, NOON) == seconds


@pytest.mark.parametrize(
    "text", ["", "soon", "25:00", "2027-02-30", "2 fortnights ago", "-1 h ago", "1 h 2", "yesterday noon", "@", "h"]
)
def test_what_is_no_time_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ConfigurationError, match="give one such as"):
        moment(text, NOON)


@pytest.mark.usefixtures("paris")
def test_yesterday_begins_at_its_midnight_also_when_it_was_longer() -> None:
    noon = 1_792_926_000.0  # 2026-10-25 12:00, the day on which summer time ends
    assert moment("today", noon) == noon - 13 * 3600
    assert moment("yesterday", noon + 86400) == noon - 13 * 3600
    assert moment("yesterday", noon) == noon - 37 * 3600
