"""Times as log lines tell them, and as people type them. Pure, but for the local zone."""

from __future__ import annotations

import datetime
import functools
import json
import re
import zoneinfo
from collections.abc import Sequence
from contextlib import suppress
from math import inf

from rollsafe._durations import SPAN, UNITS, seconds_of
from rollsafe._settings import UNNAMED
from rollsafe.errors import ConfigurationError
from rollsafe.schedule import Interval

# ISO 8601 and the form of logging's asctime: 2026-11-25 16:14:00,123, with or without offset.
_ISO = re.compile(rb"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?(?: ?(Z|[+-]\d\d:?\d\d)\b)?")
# Access logs: 25/Nov/2026:16:14:00 +0000 (Apache's mod_log_config, %t).
_COMMON = re.compile(rb"(\d\d)/([A-Z][a-z]{2})/(\d{4}):(\d\d:\d\d:\d\d) ([+-]\d{4})")
# Seconds since the epoch, from 2001 to 2286, at the start of a line.
_EPOCH = re.compile(rb"(\d{10})(?:\.(\d{1,9}))?(?!\d)")
# In JSON the time may come after the message, which may contain other times.
_JSON_ISO = re.compile(rb'"(?:@?timestamp|asctime|time|ts|date|created)" ?: ?"' + _ISO.pattern)
_JSON_EPOCH = re.compile(rb'"(?:@?timestamp|time|ts|created)" ?: ?(\d{10})(?:\.(\d{1,9}))?(?![\d])')
_JSON_NAMES = re.compile(rb'"(?:@?timestamp|asctime|time|ts|date|created)" ?:')
# A stamp may precede the time.
_STAMP = re.compile(rb"~[0-9a-v.]+~ (?!~)")
# Bytes of a line that are searched for its time.
_HEAD = 300
_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
_CACHED = 4096
# Where the second is.
_PLACE_IN_ISO, _PLACE_IN_COMMON = len("2026-11-25 16:14:"), len("25/Nov/2026:16:14:")
# Seconds that the first lines of a file may be outside its interval.
_SLACK = 1.0
# Seconds. Lines are less out of order than this; the clock is set back by more at the end of summer time.
_OUT_OF_ORDER = 600.0
# Lines in a row that may have their time elsewhere than those before: more of them are records of another format.
_STRANGE = 20

# A distance from now, as in systemd.time(7): one or more spans, in the past unless a plus precedes them.
_FROM_NOW = re.compile(rf"(?P<sign>[+-]?) *(?P<spans>(?:{SPAN}(?: *,| and\b)? *)+)(?P<ago>ago)?")
# Characters that a message shows of a text that is no time.
_SHOWN = 80
_DAYS = {"yesterday": -1, "today": 0, "tomorrow": 1}


class LineClock:
    """Reads the times of the lines of one file.

    A time without an offset is in the local zone or in one of `zones`: the first in which the first line of the file
    falls into its interval. If the wall clock shows an hour twice, the lines before decide which of the two it is.

    A text of several lines may mention times. So if the first time of the file is at the start of its line, a time in
    the middle of another line is none of a record, until there are many such lines.

    Args:
        interval: The interval of the file, None if that is not known.
        zones: Other zones that the times may be in.
    """

    def __init__(self, interval: Interval | None = None, zones: Sequence[datetime.tzinfo] = ()) -> None:
        self._start = interval.start - _SLACK if interval else -inf
        self._end = interval.end + _SLACK if interval else inf
        self._zones: list[datetime.tzinfo | None] = [None, *zones]
        self._last = -inf
        self._seconds: dict[bytes, float] = {}
        self._minutes: dict[bytes, float] = {}
        # Whether the first time of the file was at the start of its line; None before there is one.
        self._starts: bool | None = None
        self._strange = 0

    def time(self, line: bytes) -> float | None:
        """The time of a line in seconds since the epoch, None if it has none."""
        time = self._time_at_start(line)
        if time is not None:
            if self._starts is None:
                self._starts = True
            self._strange = 0
            return time
        if line[:1] in (b" ", b"\t"):
            return None
        head = line[:_HEAD]
        iso, common = _ISO.search(head), _COMMON.search(head)
        if not (iso or common):
            return None
        if self._starts:
            self._strange += 1
            if self._strange < _STRANGE:
                return None
        self._starts = False
        if common and not (iso and iso.start() < common.start()):
            return self._common(common)
        return self._iso(iso) if iso else None

    def sure_time(self, text: bytes) -> float | None:
        """The time of `text`, a time without fraction; None if that depends on the lines before, or if it is no time.

        It changes nothing; call `advance` for the latest one.
        """
        if _EPOCH.fullmatch(text):
            return float(text)
        place = _PLACE_IN_COMMON if text[2:3] == b"/" else _PLACE_IN_ISO
        minute = text[:place] + text[place + 2 :]
        start = self._minutes.get(minute)
        if start is None:
            start = self._sure_second(text[:place] + b"00" + text[place + 2 :])
            # No zone changes twice within a minute.
            end = self._sure_second(text[:place] + b"59" + text[place + 2 :])
            if start is None or end != start + 59:
                return None
            if len(self._minutes) >= _CACHED:
                self._minutes.clear()
            self._minutes[minute] = start
        second = text[place : place + 2]
        return start + int(second) if second.isdigit() and second < b"60" else None

    def _sure_second(self, text: bytes) -> float | None:
        """As `sure_time`."""
        if match := _COMMON.fullmatch(text):
            # Behind a line that begins with its time, it may be none of a record; see `time`.
            key = _key_of_common(match) if self._starts is False else None
        else:
            match = _ISO.fullmatch(text)
            key = b"%s %s%s" % (match[1], match[2], match[4] or b"") if match else None
        try:
            moment = _moment_of(key) if key else None
            if moment is None or (moment.tzinfo is None and len(self._zones) > 1):
                return None
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=self._zones[0])
            return moment.timestamp() if moment.timestamp() == moment.replace(fold=1).timestamp() else None
        except ValueError:
            return None

    def advance(self, latest: float, at_start: bool) -> None:
        """Have been asked for the times of lines, the latest of which is `latest`, by `sure_time`.

        Args:
            latest: Seconds since the epoch.
            at_start: Whether the lines begin with their times.
        """
        self._last = max(self._last, latest)
        if at_start:
            self._starts = True if self._starts is None else self._starts
            self._strange = 0

    def expect(self, interval: Interval) -> None:
        """Have the times without an offset be of the zone in which the next ones fall into another interval."""
        self._start, self._end = interval.start - _SLACK, interval.end + _SLACK
        self._minutes.clear()

    def _time_at_start(self, line: bytes) -> float | None:
        """The time with which a line begins, or that of a JSON object."""
        # Most lines begin with the time.
        if match := _ISO.match(line):
            return self._iso(match)
        if line.startswith(b"{"):
            own = _own_times(line) if len(_JSON_NAMES.findall(line)) > 1 else line
            if match := _JSON_ISO.search(own):
                return self._iso(match)
            match = _JSON_EPOCH.search(own)
            return _with_fraction(float(match[1]), match[2]) if match else None
        if match := _STAMP.match(line):
            return self._time_at_start(line[match.end() :])
        if match := _EPOCH.match(line):
            return _with_fraction(float(match[1]), match[2])
        match = _ISO.match(line, 1) if line.startswith(b"[") else None
        return self._iso(match) if match else None

    def _iso(self, match: re.Match[bytes]) -> float | None:
        """The time of a match of _ISO."""
        date, clock, fraction, offset = match.groups()
        key = b"%s %s%s" % (date, clock, offset or b"")
        second = self._seconds.get(key)
        if second is None or second < self._last - _OUT_OF_ORDER:
            try:
                second = self._second(key)
            except ValueError:
                return None
            self._remember(key, second)
        return _with_fraction(second, fraction)

    def _common(self, match: re.Match[bytes]) -> float | None:
        """The time of a match of _COMMON."""
        second = self._seconds.get(match[0])
        if second is None:
            key = _key_of_common(match)
            if key is None:
                return None
            try:
                second = self._second(key)
            except ValueError:
                return None
            self._remember(match[0], second)
        return second

    def _second(self, key: bytes) -> float:
        """The instant of a second, such as b"2026-11-25 16:14:00+0100"; ValueError if there is none."""
        moment = _moment_of(key)
        return moment.timestamp() if moment.tzinfo else self._local(moment)

    def _local(self, moment: datetime.datetime) -> float:
        """The instant of a time without offset."""
        for zone in self._zones:
            instants = [moment.replace(tzinfo=zone, fold=fold).timestamp() for fold in (0, 1)]
            fitting = [instant for instant in instants if self._start <= instant < self._end]
            if fitting:
                self._zones = [zone]
                later = [instant for instant in fitting if instant >= self._last - _OUT_OF_ORDER]
                return min(later or fitting)
        return moment.replace(tzinfo=self._zones[0]).timestamp()

    def _remember(self, key: bytes, second: float) -> None:
        """Remember the instant of a text; in an hour that comes twice, that is true for the first one only."""
        if len(self._seconds) >= _CACHED:
            self._seconds.clear()
        self._seconds[key] = second
        self._last = max(self._last, second)


def _key_of_common(match: re.Match[bytes]) -> bytes | None:
    """The second in a match of _COMMON as ISO 8601, None if it names no month."""
    day, month, year, clock, offset = match.groups()
    if month not in _MONTHS:
        return None
    return b"%s-%02d-%s %s%s" % (year, _MONTHS.index(month) + 1, day, clock, offset)


def _moment_of(key: bytes) -> datetime.datetime:
    """The time that b"2026-11-25 16:14:00", with or without an offset behind it, is; ValueError if there is none."""
    fields = int(key[:4]), int(key[5:7]), int(key[8:10]), int(key[11:13]), int(key[14:16]), int(key[17:19])
    return datetime.datetime(*fields, tzinfo=_zone_of(key[19:]) if len(key) > 19 else None)


@functools.lru_cache
def _zone_of(offset: bytes) -> datetime.timezone:
    """The zone of an offset such as b"Z", b"+01:00" or b"+0100"; ValueError if there is none."""
    if offset == b"Z":
        return datetime.timezone.utc
    hours, minutes = int(offset[1:3]), int(offset[-2:])
    if minutes > 59:
        raise ValueError(f"{offset!r} has more than 59 minutes")
    distance = datetime.timedelta(hours=hours, minutes=minutes)
    return datetime.timezone(-distance if offset[:1] == b"-" else distance)


def _own_times(line: bytes) -> bytes:
    """The times of a JSON object without those of the objects in it; the line as it is if it is no such object."""
    try:
        pairs = json.loads(line).items()
    except (ValueError, AttributeError, RecursionError):
        return line
    return json.dumps({name: value for name, value in pairs if isinstance(value, (str, int, float))}).encode()


def zone_named(name: str | None) -> datetime.tzinfo | None:
    """The zone that a lock file names; None for local time, and for a zone that has no name or is not known here."""
    if name == "UTC":
        return datetime.timezone.utc
    with suppress(LookupError, ValueError, OSError):
        return zoneinfo.ZoneInfo(name) if name and name != UNNAMED else None
    return None


def _with_fraction(second: float, fraction: bytes | None) -> float:
    """A second with the digits of its fraction."""
    return second + int(fraction) / 10 ** len(fraction) if fraction else second


def moment(text: str, now: float) -> float:
    """The instant that a user typed, in seconds since the epoch.

    Args:
        text: ISO 8601 ("2026-11-25", "2026-11-25 16:14", "2026-11-25T16:14:00+01:00", local time without offset), a
            time of today ("16:14"), a day by its name ("yesterday", "yesterday 16:14"), how long ago ("2 hours ago",
            "90s", "-1h 30min"), "now", or seconds since the epoch ("@1795622400").
        now: Seconds since the epoch.

    Raises:
        ConfigurationError: The text is none of these.
    """
    try:
        instant = _moment(" ".join(text.split()), now)
        datetime.datetime.fromtimestamp(instant)
    except (ValueError, OverflowError, OSError) as error:  # also a year that no calendar has
        raise ConfigurationError(
            f"{text[:_SHOWN]!r} is not a time; give one such as '2026-11-25 16:14', '16:14', '2026-11-25T16:14:00Z',"
            " 'yesterday' or '2 hours ago'"
        ) from error
    return instant


def _moment(words: str, now: float) -> float:
    """The instant of some words; ValueError if they are none."""
    if words.lower() == "now":
        return now
    if match := re.fullmatch(r"@(\d{1,11}(?:\.\d+)?)", words):
        return float(match[1])
    if (match := _FROM_NOW.fullmatch(words.lower())) and not (match["sign"] and match["ago"]):
        spans = [seconds_of(span, UNITS) for span in re.findall(SPAN, match["spans"])]
        if None not in spans:
            far = sum(filter(None, spans))
            return now + far if match["sign"] == "+" else now - far
    day, _, clock = words.partition(" ")
    if day.lower() in _DAYS:
        words = f"{_date(now, _DAYS[day.lower()])} {clock}".strip()
    # Python 3.10 reads neither "Z" nor a fraction of other than three or six digits.
    iso = re.sub(r" ?(?:[zZ]|UTC|GMT)$", "+00:00", words)
    with suppress(ValueError):
        return datetime.datetime.fromisoformat(iso).timestamp()
    return datetime.datetime.fromisoformat(f"{_date(now)} {iso}").timestamp()


def _date(now: float, days: int = 0) -> datetime.date:
    """The local date a number of days after today."""
    return datetime.datetime.fromtimestamp(now).date() + datetime.timedelta(days)
