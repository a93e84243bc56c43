"""The date and time that a text tells which strftime wrote. Pure, and without strptime.

strptime holds a lock in memory. A process that is forked while the maintenance thread is inside it would wait forever
for that lock at its own next strptime. And it cannot read much of what strftime can write: no `%F`, `%T`, `%R`, no `%G`
with `%V`, no `%e`, `%s` and no flags (`%-d`). If the text has no year, it assumes 1900.

A format is *dated* if each text that it writes belongs to one stretch of the calendar: it has the year, and then every
field down to its finest one, without a gap. `%Y-%m-%d_%H` is dated, and so are `%Y.%j`, `%G-W%V` and `%s`. Not dated
are `%m-%d`, `%H-%M-%S`, `%a` (of which year?) and `%Y-%d` (of which month?).

No result is certain by itself: the caller writes the text again and compares.
"""

from __future__ import annotations

import _locale
import datetime
import re
import time
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from typing import Final

_DIRECTIVE: Final = re.compile(r"%(?P<flag>[-_0^#]*)(?P<width>[0-9]*)(?P<other>[EO]?)(?P<letter>.)|[^%]+|%", re.DOTALL)

# The numbers of digits of fields; a flag makes them variable.
_DIGITS: Final = {"Y": 4, "G": 4, "j": 3} | dict.fromkeys("CygmdHIMSUWV", 2) | dict.fromkeys("uw", 1)
# Fields that are padded with blanks, and the fields that have the same number; the last two are of the GNU C library.
_BLANK_PADDED: Final = {"e": "d", "k": "H", "l": "I"}
_ABBREVIATIONS: Final = {"F": "%Y-%m-%d", "D": "%m/%d/%y", "T": "%H:%M:%S", "R": "%H:%M", "h": "%b", "P": "%p"}
# The directives whose format depends on the language.
_FORMATS: Final = {"c": _locale.D_T_FMT, "x": _locale.D_FMT, "X": _locale.T_FMT, "r": _locale.T_FMT_AMPM}
# A pattern for the text of any other directive.
_OTHER: Final = "[^/.]+"

_DAY: Final = datetime.timedelta(days=1)
# Any 28 years have a date of each kind: every day of the week, in common years and in leap years.
_SOME_YEARS: Final = range(1972, 2000)
# How many moments to try for a text that is not dated.
_TRIES: Final = 400

Fields = dict[str, int]
"""By the letter of the directive."""


class SuffixFormat:
    """A strftime format, for reading.

    Attributes:
        pattern: A regular expression for the texts that strftime may write for it.
        is_dated: Whether each text that it writes belongs to one stretch of the calendar.
    """

    def __init__(self, text: str) -> None:
        self._tables: dict[str, list[str]] = {}
        self._letters: list[str] = []
        groups, plain, runs, last_run = "", "", 0, False
        self._is_ambiguous = False
        for match in _DIRECTIVE.finditer(_expanded(text)):
            part, letter, is_variable = self._part_of(match)
            is_digits = letter in _DIGITS or letter == "s" or (letter == "" and match[0][0].isdigit())
            # Two numbers without a fixed width follow each other: 111 is 1 and 11, or 11 and 1.
            runs = (runs if last_run and is_digits else 0) + is_variable
            self._is_ambiguous = self._is_ambiguous or runs > 1
            last_run = is_digits and (letter != "" or match[0].isdigit())
            plain += part
            if letter and letter not in self._letters:
                self._letters.append(letter)
                part = f"({part})"
            groups += part
        self.pattern: Final = plain
        self._groups: Final = re.compile(groups, re.ASCII)
        self.is_dated: Final = not self._is_ambiguous and _is_dated(set(self._letters))

    def stretch(self, text: str) -> datetime.datetime | None:
        """The wall clock at the beginning of the stretch of the calendar that `text` tells, None if it tells none."""
        fields = self._read(text) if self.is_dated else None
        if fields is None:
            return None
        try:
            if "s" in fields:
                return datetime.datetime(*time.localtime(fields["s"])[:6])
            return datetime.datetime.combine(_first_day(fields), _time_of(fields))
        except (ValueError, OverflowError, OSError):  # there is no such date
            return None

    def moments(self, text: str) -> Iterator[datetime.datetime]:
        """Some of the moments for which strftime writes a text that is not dated."""
        fields = self._read(text)
        if fields is None:
            return
        try:
            clock = _time_of(fields)
            years: Iterable[int] = [_year_of(fields)] if _has_year(fields) else _SOME_YEARS
            if "G" in fields:
                years = [fields["G"], fields["G"] + 1, fields["G"] - 1]
            days = (day for year in years for day in _days_of(year) if _fits(day, fields))
            for day in islice(days, _TRIES):
                yield datetime.datetime.combine(day, clock)
        except (ValueError, OverflowError):
            return

    def _part_of(self, match: re.Match[str]) -> tuple[str, str, bool]:
        """(a pattern for its text, the letter of its field if it has one, whether its digits vary in number)."""
        letter, flag, width = match["letter"], match["flag"] or "", (match["width"] or "")[:3]
        if letter is None:
            return re.escape(match[0]), "", False
        if letter == "%":
            return "%", "", False
        if letter in _BLANK_PADDED and not flag and not width:
            return "[ 0-9][0-9]", _BLANK_PADDED[letter], False
        letter = _BLANK_PADDED.get(letter, letter)
        if letter == "s":
            return "[0-9]{1,12}", letter, True
        if letter in _DIGITS:
            if not flag and not width:
                return f"[0-9]{{{_DIGITS[letter]}}}", letter, False
            return f" *[0-9]{{1,{width or _DIGITS[letter]}}}", letter, True
        names = _names_of(letter)
        if names:
            self._tables[letter] = [name.casefold() for name in names]
            longest_first = sorted(filter(None, names), key=len, reverse=True)
            return f"(?i:{'|'.join(map(re.escape, longest_first))})", letter, False
        return _OTHER, "", False

    def _read(self, text: str) -> Fields | None:
        """The fields of a text, None if the format does not write it."""
        match = self._groups.fullmatch(text)
        if match is None:
            return None
        fields: Fields = {}
        for letter, value in zip(self._letters, match.groups(), strict=True):
            if letter in self._tables:
                fields[letter] = self._tables[letter].index(value.casefold())
            else:
                fields[letter] = int(value)
        return fields


def reader_of(text: str) -> SuffixFormat:
    """The format for reading, in the language that strftime writes now; made once for each language."""
    # Not by `locale`, whose tables of aliases take long to import.
    return _reader_of(text, _locale.setlocale(_locale.LC_TIME, None))


@lru_cache(maxsize=64)
def _reader_of(text: str, language: str) -> SuffixFormat:
    """`reader_of` in a language."""
    return SuffixFormat(text)


def _expanded(text: str) -> str:
    """The format with the abbreviations spelled out. One with flags is left as it is, and cannot be read."""

    def spelled_out(match: re.Match[str]) -> str:
        if match[1] in _FORMATS:
            return re.sub(
                "%(.)", lambda inner: _ABBREVIATIONS.get(inner[1], inner[0]), _locale.nl_langinfo(_FORMATS[match[1]])
            )
        return _ABBREVIATIONS.get(match[1], match[0])

    return re.sub(r"%(.)", spelled_out, text, flags=re.DOTALL)


def _names_of(letter: str) -> list[str]:
    """The names from which a directive chooses, in the order of their numbers; none if it writes no names."""
    if letter == "p":
        halves = [time.strftime("%p", (2000, 1, 1, hour, 0, 0, 5, 1, 0)) for hour in (1, 13)]
        return halves if halves[0] != halves[1] else []
    if letter in ("b", "B"):
        return ["", *(datetime.date(2001, month, 1).strftime(f"%{letter}") for month in range(1, 13))]
    if letter in ("a", "A"):
        return [datetime.date(2001, 1, day).strftime(f"%{letter}") for day in range(1, 8)]  # from a Monday on
    return []


def _is_dated(letters: set[str]) -> bool:
    """Whether fields of these letters leave no gap from the year to the finest."""
    if "s" in letters:
        return True
    weekday, month = letters & set("uwaA"), letters & set("mbB")
    year, day = _has_year(letters), month and "d" in letters
    iso_year = "G" in letters and "V" in letters
    has_day = (year and (day or "j" in letters or (letters & set("UW") and weekday))) or (iso_year and weekday)
    if not has_day:
        # Coarser than a day: then no finer field may be there. A day of the week alone belongs to many weeks.
        dated = iso_year or (year and not letters & set("dV") and not (letters & set("UW") and month))
        return bool(dated) and not letters & set("HIpMS") and not weekday
    hour = "H" in letters or ("I" in letters and "p" in letters)
    return not ("I" in letters and not hour) and (hour or "M" not in letters) and ("M" in letters or "S" not in letters)


def _has_year(letters: set[str] | Fields) -> bool:
    """Whether the fields tell the year of the calendar."""
    return "Y" in letters or "y" in letters


def _year_of(fields: Fields) -> int:
    """The year of the calendar; two digits mean 1969 to 2068, as in POSIX."""
    if "Y" in fields:
        return fields["Y"]
    if "C" in fields:
        return 100 * fields["C"] + fields["y"]
    return fields["y"] + (1900 if fields["y"] >= 69 else 2000)


def _month_of(fields: Fields) -> int | None:
    """The month, None if the fields do not tell it."""
    return next((fields[letter] for letter in "mbB" if letter in fields), None)


def _weekday_of(fields: Fields) -> int | None:
    """The day of the week, Monday is 0; None if the fields do not tell it."""
    for letter in "uw":
        if letter in fields:
            return (fields[letter] - 1) % 7
    return next((fields[letter] for letter in "aA" if letter in fields), None)


def _first_day(fields: Fields) -> datetime.date:
    """The first day of the stretch of the calendar that dated fields tell."""
    weekday = _weekday_of(fields)
    if not _has_year(fields):
        return datetime.date.fromisocalendar(fields["G"], fields["V"], 1 if weekday is None else weekday + 1)
    year, month = _year_of(fields), _month_of(fields)
    if month is not None:
        return datetime.date(year, month, fields.get("d", 1))
    if "j" in fields:
        return datetime.date(year, 1, 1) + (fields["j"] - 1) * _DAY
    if "U" in fields or "W" in fields:
        return _first_day_of_week(year, fields, weekday)
    return datetime.date(year, 1, 1)


def _first_day_of_week(year: int, fields: Fields, weekday: int | None) -> datetime.date:
    """The day of a week of the year, the first one if no day is told; week 0 is the one before the first week."""
    first = datetime.date(year, 1, 1)
    begins = 0 if "W" in fields else 6
    week = fields["W"] if "W" in fields else fields["U"]
    begin = first + (begins - first.weekday()) % 7 * _DAY + 7 * (week - 1) * _DAY
    if weekday is not None:
        return begin + (weekday - begins) % 7 * _DAY
    return max(first, begin)


def _time_of(fields: Fields) -> datetime.time:
    """The time of day; a field that is missing counts as 0."""
    hour = fields.get("H")
    if hour is None:
        if not 1 <= fields.get("I", 12) <= 12:
            raise ValueError("no such hour")
        hour = fields.get("I", 12) % 12 + 12 * fields.get("p", 0)
    return datetime.time(hour, fields.get("M", 0), fields.get("S", 0))


def _days_of(year: int) -> Iterator[datetime.date]:
    """The days of a year."""
    day = datetime.date(year, 1, 1)
    while day.year == year:
        yield day
        day += _DAY


def _fits(day: datetime.date, fields: Fields) -> bool:
    """Whether a day agrees with the fields."""
    month, weekday = _month_of(fields), _weekday_of(fields)
    return (
        (month is None or day.month == month)
        and fields.get("d", day.day) == day.day
        and (weekday is None or day.weekday() == weekday)
        and all(int(day.strftime(f"%{letter}")) == fields[letter] for letter in "jUWVG" if letter in fields)
    )
