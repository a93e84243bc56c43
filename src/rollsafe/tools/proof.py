"""A proof, for many lines at once, that each has its time and its stamp, that no number is missing, and what to count.

`scan` has the rules, for one line at a time. A proof shows that these rules find nothing in the lines of a chunk. If
it fails, that means nothing: the rules decide then.

To be fast, it takes no step of Python for a line. It cuts records of equal length from the lines, so that a column of
the records is a slice:

- Their beginnings, up to the time. All columns but those of the time are equal.
- Their ends, from the stamp on. One or two columns tell the streams apart. Each stream has an iterator over the ends
  that its next lines must have. So the ends of all lines are known before, and compared as one.
"""

from __future__ import annotations

import io
import itertools
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import itemgetter, length_hint
from typing import NamedTuple

from rollsafe._lines.stamps import STAMP, STREAM_LENGTH

# Lines whose beginnings are packed by one call.
_PACKED = 64
# Numbers of a stream whose ends are made at once: so many at first, and twice as many each time.
_FEWEST, _MOST = 16, 512
# The last digits of a number, which are counted up in a table.
_LOW = 3
# Bytes of the beginning and of the end of a line.
_WIDEST = 200
# Bytes of the chunk before that show how lines are made.
_SAMPLE = 1 << 13
# Ends of lines are made at most once for so many lines.
_RARE = 8
# Streams among which no two columns would tell all apart.
_MOST_STREAMS = 64
# Chunks after which the layout is learned again, because numbers become longer, and streams begin and end.
_LEARNED = 32
# Chunks that are not tried after others that were tried in vain.
_SKIPPED = 16

_FRACTION = re.compile(rb"[.,]\d+")
_DIGITS = b"0123456789"
_SIGNS = b"+-"
# The byte of a digit of a stream's id, as five bits that are not those by which most others differ.
_OTHER_BITS = bytes(b"0123456789abcdefghijklmnopqrstuv".find(byte) % 32 << 3 for byte in range(256))
# Where a byte is no "~".
_ALL_BITS_BUT_OF_TILDES = bytes(0 if byte == ord("~") else 255 for byte in range(256))


class Stretch(NamedTuple):
    """The numbers of one stream in a chunk: each from `first` to `last` once, in this order."""

    stream: str
    first: int
    last: int
    since: float | None
    """The time of the first one; None if the stream is not new."""
    until: float


@dataclass(frozen=True)
class Proven:
    """The contents of a chunk. All times are whole seconds since the epoch."""

    lines: int
    since: float
    """The time of the first line."""
    until: float
    """The time of the last line."""
    earliest: float
    latest: float
    stretches: list[Stretch]


@dataclass(frozen=True)
class _Layout:
    """The places of time and stamp in a line.

    Attributes:
        head: The pattern of the time, and its group; None if the time is after the first bracket of the line. All
            places of the time are counted from there.
        begin, second, fraction, offset: Where the time begins, and where its parts end.
        before: Bytes that are before the stamp.
        end: All bytes after the number.
        field: The name of the stamp's field, as it is in the line; empty for none.
    """

    head: re.Pattern[bytes] | None
    begin: int
    second: int
    fraction: int
    offset: int
    before: bytes
    end: bytes
    field: bytes


class Prover:
    """Proves chunks of one file, one after the other.

    Args:
        sure_time: Returns the time of a text if it does not depend on other lines; see `LineClock.sure_time`.
        is_placed: Returns whether a line of this second belongs into the file.
        last_number: Returns the last number that a stream has so far; None for a new stream.
    """

    def __init__(
        self,
        sure_time: Callable[[bytes], float | None],
        is_placed: Callable[[float], bool],
        last_number: Callable[[str], int | None],
    ) -> None:
        self._sure_time = sure_time
        self._is_placed = is_placed
        self._last_number = last_number
        self._layout: _Layout | None = None
        self._numbers: _Numbers | None = None
        self._failures = 0
        self._skipped = 0
        self._age = 0
        self._patterns: tuple[re.Pattern[bytes] | None, re.Pattern[bytes]] | None = None

    def prove(self, chunk: bytes) -> Proven | None:
        """What is in a chunk of whole lines, None if there may be something to report.

        After None, call `learn` before the next chunk.
        """
        if self._patterns and self._age == _LEARNED:
            self.learn(chunk, *self._patterns)
        if self._layout is None or self._numbers is None or b"\0" in chunk:
            return None
        if self._skipped < min(self._failures - 1, _SKIPPED):
            self._skipped += 1
            return None
        proven = self._proven(chunk, self._layout, self._numbers)
        self._failures = 0 if proven else self._failures + 1
        self._skipped = 0
        self._age += 1
        return proven

    def learn(self, chunk: bytes, head: re.Pattern[bytes] | None, line: re.Pattern[bytes]) -> None:
        """Learn the layout from lines that were read one by one, after which the next chunk comes.

        Args:
            chunk: The lines.
            head: Matches the beginning of a line, with the group of the second; None if the time is in brackets.
            line: Matches a whole line, with the groups second, offset, stream and number.
        """
        self._age = 0
        self._patterns = head, line
        sample = chunk[-_SAMPLE:]
        layouts = (_layout_of(text, head, line) for text in reversed(sample.splitlines(keepends=True)[1:]))
        self._layout = next((layout for layout in layouts if layout), None)
        stamps = STAMP.findall(sample)
        self._numbers = _Numbers(self._layout, stamps, self._last_number) if self._layout else None

    def _proven(self, chunk: bytes, layout: _Layout, numbers: _Numbers) -> Proven | None:
        """What is in a chunk, None if it cannot be proven."""
        lines = _from_brackets(chunk) if layout.head is None else io.BytesIO(chunk).readlines()
        if not lines or (layout.field and chunk.count(layout.field) != len(lines)):
            return None
        times = _times_of(lines, layout, self._sure_time)
        if times is None or not numbers.go_on(lines):
            return None
        moments = times.moments.values()
        earliest, latest = min(moments), max(moments)
        if not (self._is_placed(earliest) and self._is_placed(latest)):
            return None
        stretches = numbers.stretches(times)
        return Proven(len(lines), times.of(0), times.of(len(lines) - 1), earliest, latest, stretches)


def _layout_of(text: bytes, head: re.Pattern[bytes] | None, line: re.Pattern[bytes]) -> _Layout | None:
    """The layout of a line; None if no line like that can be proven."""
    match = line.match(text)
    # A stamp before the time has no fixed length.
    if match is None or not text.endswith(b"\n") or text.startswith(b"~"):
        return None
    start = text.find(b"[") + 1 if head is None else 0
    second, stamp, end = match.end(1), match.start(3) - 1, text[match.end(4) :]
    if match[2]:
        fraction, offset = match.span(2)
    else:
        digits = _FRACTION.match(text, second)
        fraction = offset = digits.end() if digits else second
    field = b"" if end in (b"~\n", b"~\r\n") else b'"stamp"'
    # The byte before the field's name shows that its quote is not escaped.
    before = text[text.rfind(field, 0, stamp) - 1 : stamp] if field else b""
    if offset - start > _WIDEST or len(before + end) > _WIDEST or before.startswith(b"\\"):
        return None
    return _Layout(head, match.start(1) - start, second - start, fraction - start, offset - start, before, end, field)


def _from_brackets(chunk: bytes) -> list[bytes]:
    """Each line from its bracket on, if it has exactly one; no line if any has not."""
    # A newline behind each bracket makes two lines of each, the second from the bracket on.
    cut = chunk.replace(b"[", b"[\n")
    parts = io.BytesIO(cut).readlines()
    brackets = len(cut) - len(chunk)
    lines = parts[1::2]
    # If all of these lines end in a stamp and not in a bracket, then all of the others do end in a bracket.
    return lines if brackets == len(lines) and len(parts) == 2 * brackets else []


@dataclass(frozen=True)
class _Times:
    """The times of lines.

    Attributes:
        moments: The beginning of a line, without the fraction of its second -> seconds since the epoch.
        records: The beginnings of all lines.
        width: The length of one.
    """

    moments: dict[bytes, float]
    records: bytes
    width: int

    def of(self, row: int) -> float:
        """The time of one line."""
        return self.moments[self.records[row * self.width : (row + 1) * self.width]]


def _times_of(lines: list[bytes], layout: _Layout, sure_time: Callable[[bytes], float | None]) -> _Times | None:
    """The times of lines, None if they are not all in the same place, or not all sure."""
    has_offset = layout.offset > layout.fraction
    # Behind a time without offset, three bytes show that there is none: " ", "+" and a digit.
    width = layout.offset if has_offset else layout.offset + 3
    pack = _packing(width)
    packed = [pack.pack(*lines[at : at + _PACKED]) for at in range(0, len(lines) - _PACKED + 1, _PACKED)]
    if rest := lines[len(packed) * _PACKED :]:
        packed.append(pack.pack(*rest, *rest[-1:] * (_PACKED - len(rest))))
    records = bytearray().join(packed)
    rows = len(packed) * _PACKED
    if layout.fraction > layout.second:
        point = records[layout.second :: width]
        if point not in (b"." * rows, b"," * rows):
            return None
        for place in range(layout.second + 1, layout.fraction):
            if not records[place::width].isdigit():
                return None
            records[place::width] = bytes(rows)
    if not has_offset:
        if _may_have_offset(*(records[place::width] for place in range(layout.offset, width))):
            return None
        for place in range(layout.offset, width):
            records[place::width] = bytes(rows)
    beginnings = _beginnings(records, width, layout.second - 1)
    moments: dict[bytes, float] = {}
    for beginning in beginnings:
        found = layout.head.match(beginning) if layout.head else None
        if layout.head and not (found and found.span(1) == (layout.begin, layout.second)):
            return None
        offset = beginning[layout.fraction : layout.offset]
        moment = sure_time(beginning[layout.begin : layout.second] + offset)
        if moment is None:
            return None
        moments[beginning] = moment
    return _Times(moments, bytes(records), width)


def _beginnings(records: bytearray, width: int, units: int) -> set[bytes]:
    """The different ones among records; `units` is the place of the last digit of the second."""
    rows = len(records) // width
    column = records[units::width]
    records[units::width] = bytes(rows)
    first = bytes(records[:width])
    within_ten_seconds = records == first * rows and column.isdigit()
    records[units::width] = column
    if within_ten_seconds:
        return {b"%b%c%b" % (first[:units], digit, first[units + 1 :]) for digit in _DIGITS if digit in column}
    pack = _packing(width)
    found = set[bytes]()
    for at in range(0, len(records), _PACKED * width):
        part = records[at : at + _PACKED * width]
        first = bytes(part[:width])
        found.update((first,) if part == first * _PACKED else pack.unpack(part))
    return found


def _may_have_offset(first: bytearray, second: bytearray, third: bytearray) -> bool:
    """Whether one of the times may go on, or have an offset, by the columns of the three bytes behind them all."""
    if any(byte in first for byte in _DIGITS + b".,Z+-") or b"Z" in second:
        return True
    return any(sign in second for sign in _SIGNS) and any(digit in third for digit in _DIGITS)


@lru_cache(64)
def _packing(width: int) -> struct.Struct:
    """Packs the beginnings of lines."""
    return struct.Struct(f"{width}s" * _PACKED)


@lru_cache(64)
def _unpacking(size: int, count: int) -> struct.Struct:
    """Unpacks the ends of lines."""
    return struct.Struct(f"{size}s" * count)


@lru_cache(8)
def _lows(end: bytes) -> list[bytes]:
    """The last digits of numbers, with what is behind them."""
    return [b"%03d%b" % (number, end) for number in range(10**_LOW)]


@dataclass(slots=True)
class _Stream:
    """The numbers of one stream.

    Attributes:
        first: The first number in this chunk.
        last: The last number whose end is made.
        rest: The ends of the lines that have the next numbers.
        began: The row of the first number in this chunk, if the stream is new.
        made: The number of ends that were made together.
        keys: The keys of its lines.
    """

    first: int
    last: int
    rest: Iterator[bytes]
    began: int | None
    made: int = _FEWEST // 2
    keys: set[int] = field(default_factory=set)

    @property
    def next(self) -> int:
        """The number that has to come next."""
        return self.last + 1 - length_hint(self.rest)


class _Numbers:
    """The numbers of all streams, from chunk to chunk.

    Args:
        layout: The layout of the lines.
        stamps: The last stamps: (stream, number).
        last_number: Returns the last number that a stream has so far; None for a new stream.
    """

    def __init__(
        self, layout: _Layout, stamps: list[tuple[bytes, bytes]], last_number: Callable[[str], int | None]
    ) -> None:
        self._before = layout.before
        self._end = layout.end
        self._last_number = last_number
        self._digits = max(_LOW, *(len(number) for _, number in stamps))
        # Lines with a smaller number have other bytes before the stamp; these are replaced by zeros.
        self._shorter = {self._digits - len(number) for _, number in stamps} - {0}
        self._size = len(self._end_of(b"0" * STREAM_LENGTH, 10 ** (self._digits - 1)))
        self._lows = _lows(layout.end)
        self._columns = self._distinctive(
            [self._end_of(stream, int(number)) for stream, number in dict(stamps).items()]
        )
        self._streams: dict[bytes, _Stream] = {}
        self._rests: list[Iterator[bytes]] = [iter(())] * 256
        self._names: list[bytes | None] = [None] * 256
        self._ends = b""

    def go_on(self, lines: list[bytes]) -> bool:
        """Whether each line ends with the number that comes next in its stream."""
        size, count = self._size, len(lines)
        ends = b"".join(map(itemgetter(slice(-size, None)), lines))
        if not self._columns or len(ends) != size * count:
            return False
        self._ends = ends = self._without_text(ends)
        keys = self._keys(ends, self._columns)
        expected: list[bytes] = []
        unmade = count // _RARE + _FEWEST
        while True:
            expected.extend(map(next, map(self._rests.__getitem__, keys[len(expected) :])))
            row = len(expected)
            if row == count:
                return b"".join(expected) == ends
            unmade -= 1
            if not unmade or not self._make(row, keys[row]):
                return False

    def stretches(self, times: _Times) -> list[Stretch]:
        """What the streams have in the lines that were just looked at."""
        found = []
        for name, stream in list(self._streams.items()):
            last = stream.next - 1
            if last < stream.first:
                # It may not come again, and there are many streams that ended.
                for key in self._streams.pop(name).keys:
                    self._rests[key], self._names[key] = iter(()), None
                continue
            row = self._ends.rfind(self._end_of(name, last)) // self._size
            since = None if stream.began is None else times.of(stream.began)
            found.append(Stretch(name.decode(), stream.first, last, since, times.of(row)))
            stream.first, stream.began = last + 1, None
        return found

    def _make(self, row: int, key: int) -> bool:
        """Make the next ends of the stream of one line; False if its number is not the next one."""
        until = (row + 1) * self._size - len(self._end) + 1
        at = self._ends.rfind(b"~", row * self._size, until - 1)
        match = STAMP.fullmatch(self._ends, at, until) if at >= 0 else None
        if match is None or len(match["number"]) > self._digits:
            return False
        name, number = match["stream"], int(match["number"])
        stream = self._streams.get(name)
        if stream is None:
            last = self._last_number(name.decode())
            stream = _Stream(
                number, (number if last is None else last + 1) - 1, iter(()), row if last is None else None
            )
            self._streams[name] = stream
        if number != stream.next or number != stream.last + 1 or self._names[key] not in (None, name):
            return False
        stream.made = min(2 * stream.made, _MOST)
        made = self._made(name, number, stream.made)
        stream.last, stream.rest = number + len(made) - 1, iter(made)
        stream.keys.add(key)
        self._names[key], self._rests[key] = name, stream.rest
        return True

    def _made(self, name: bytes, number: int, count: int) -> Sequence[bytes]:
        """The ends of the lines with a number and some that follow, which differ in their last digits only."""
        place = number % len(self._lows)
        if number < 10 ** (_LOW - 1):
            last = 9 if number < 10 else 99
            return [self._end_of(name, each) for each in range(number, min(last + 1, number + count))]
        lows = self._lows[place : place + count]
        head = self._end_of(name, number)[: -len(lows[0])]
        return _unpacking(self._size, len(lows)).unpack(head.join([b"", *lows]))

    def _end_of(self, name: bytes, number: int) -> bytes:
        """The end of a line with this stamp, with zeros in the place of what is before it."""
        digits = b"%d" % number
        zeros = bytes(self._digits - len(digits))
        return b"%b%b~%b.%b%b" % (zeros, self._before, name, digits, self._end)

    def _without_text(self, ends: bytes) -> bytes:
        """The ends of lines with zeros in the place of the text before a stamp whose number has fewer digits."""
        if not self._shorter:
            return ends
        rows, changed = len(ends) // self._size, None
        for shorter in sorted(self._shorter, reverse=True):
            tildes = ends[len(self._before) + shorter :: self._size]
            if b"~" not in tildes:
                continue
            mask = int.from_bytes(tildes.translate(_ALL_BITS_BUT_OF_TILDES), "little")
            changed = changed or bytearray(ends)
            for place in range(shorter):
                column = int.from_bytes(changed[place :: self._size], "little") & mask
                changed[place :: self._size] = column.to_bytes(rows, "little")
        return bytes(changed) if changed else ends

    def _distinctive(self, ends: list[bytes]) -> tuple[int, ...]:
        """One or two columns of the ids of streams, by which these ends of lines have different keys."""
        if len(ends) > _MOST_STREAMS:
            return ()
        first = len(self._before) + 1
        places = range(first + max(self._shorter, default=0), first + STREAM_LENGTH)
        for one in places:
            if len({end[one] for end in ends}) == len(ends):
                return (one,)
        for one, other in itertools.permutations(places, 2):
            if len({end[one] ^ _OTHER_BITS[end[other]] for end in ends}) == len(ends):
                return one, other
        return ()

    def _keys(self, ends: bytes, columns: tuple[int, ...]) -> bytes:
        """A byte for each end of a line, which tells the streams apart."""
        one, *others = (ends[column :: self._size] for column in columns)
        if not others:
            return one
        other = others[0].translate(_OTHER_BITS)
        both = int.from_bytes(one, "little") ^ int.from_bytes(other, "little")
        return both.to_bytes(len(one), "little")
