"""Many lines that are proven at once: what is found and counted is the same as if each line had been read by itself."""

from __future__ import annotations

import datetime
import io
import json
import time
from collections.abc import Callable, Sequence
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollsafe._backups.names import Backup
from rollsafe.schedule import Interval
from rollsafe.tools import scan
from rollsafe.tools.catalog import LogFile
from rollsafe.tools.proof import Proven, Prover
from rollsafe.tools.times import LineClock

BEGIN = 1_800_014_400.0  # 2027-01-15 12:00 UTC
INTERVAL = Interval(BEGIN, BEGIN + 3600, "", 0)
STREAMS = ("1lge482k0v9q", "1lge482k0v8q", "1lge48301v9r", "1lge482k0v9r")
UTC = datetime.timezone.utc
PARIS = ZoneInfo("Europe/Paris")


def iso(moment: float, form: str = "%Y-%m-%d %H:%M:%S", zone: datetime.tzinfo = UTC) -> str:
    """A time as text."""
    return datetime.datetime.fromtimestamp(moment, zone).strftime(form)


def in_json(moment: float, message: str, stamp: str) -> str:
    """A line of python-json-logger."""
    return json.dumps({"asctime": iso(moment) + ",123", "message": message, "stamp": stamp})


FORMATS: dict[str, Callable[[float, str, str], str]] = {
    "milliseconds": lambda at, text, stamp: f"{iso(at)},{at % 1 * 1000:03.0f} {text} {stamp}",
    "no fraction": lambda at, text, stamp: f"{iso(at)} {text} {stamp}",
    "point": lambda at, text, stamp: f"{iso(at, '%Y-%m-%dT%H:%M:%S')}.{at % 1 * 1000:03.0f} INFO {text} {stamp}",
    "offset": lambda at, text, stamp: f"{iso(at)},123 +0000 {text} {stamp}",
    "brackets": lambda at, text, stamp: f"[{iso(at)} +0000] [17] {text} {stamp}",
    "epoch": lambda at, text, stamp: f"{at:.3f} {text} {stamp}",
    "access": lambda at, text, stamp: f'10.1.1.{len(text)} - - [{iso(at, "%d/%b/%Y:%H:%M:%S +0000")}] "{text}" {stamp}',
    "JSON": in_json,
    "JSON, compact": lambda at, text, stamp: json.dumps(
        {"level": "INFO", "timestamp": iso(at, "%Y-%m-%dT%H:%M:%S.123+00:00"), "message": text, "stamp": stamp},
        separators=(",", ":"),
    ),
    "JSON, stamp within": lambda at, text, stamp: json.dumps({"time": iso(at), "stamp": stamp, "message": text}),
    "stamp first": lambda at, text, stamp: f"{stamp} {iso(at)},123 {text}",
    "CRLF": lambda at, text, stamp: f"{iso(at)},123 {text} {stamp}\r",
    "no stamp": lambda at, text, stamp: f"{iso(at)},123 {text}",
    "no time": lambda at, text, stamp: f"{text} {stamp}",
}


def read(
    text: bytes, chunk: int, fast: bool, interval: Interval | None = INTERVAL, zone: datetime.tzinfo = UTC
) -> scan.Scan:
    """The contents of a backup, with proofs or line by line."""
    file = LogFile("app.log.1", interval, Backup("app.log.1", "", 0, ""))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "_CHUNK", chunk)
        patch.setattr(scan._Reader, "_goes_on", lambda *_: False)
        if not fast:
            patch.setattr(scan._Reader, "_prove", lambda *_: 0)
        return scan.scan(file, LineClock(interval, [zone]), None, io.BytesIO(text))


def log(form: str, texts: Sequence[str], first: Sequence[int], step: float = 0.4) -> list[bytes]:
    """The lines of several streams, whose first numbers are given."""
    numbers = list(first)
    lines = []
    for row, text in enumerate(texts):
        which = row * 7 % 11 % len(numbers)
        stamp = f"~{STREAMS[which]}.{numbers[which]}~"
        numbers[which] += 1
        lines.append(FORMATS[form](BEGIN + row * step, text, stamp).encode("utf-8", "surrogatepass") + b"\n")
    return lines


@pytest.fixture
def proofs(monkeypatch: pytest.MonkeyPatch) -> list[Proven]:
    """All proofs that succeed from now on."""
    found: list[Proven] = []
    prove = Prover.prove

    def proving(self: Prover, chunk: bytes) -> Proven | None:
        proven = prove(self, chunk)
        if proven:
            found.append(proven)
        return proven

    monkeypatch.setattr(Prover, "prove", proving)
    return found


PROVABLE = [form for form in FORMATS if form not in ("JSON, stamp within", "stamp first", "no stamp", "no time")]


@pytest.mark.parametrize("form", PROVABLE)
@pytest.mark.parametrize("step", [0.4, 7])
def test_lines_of_one_format_are_proven_and_counted(form: str, step: float, proofs: list[Proven]) -> None:
    text = b"".join(log(form, [f"line {row}" for row in range(200)], (95, 996, 1), step))
    fast = read(text, 1 << 11, fast=True)
    assert fast == read(text, 1 << 11, fast=False)
    assert (fast.lines, fast.stamped, fast.found) == (200, 200, {})
    assert sum(proven.lines for proven in proofs) > 100


Lines = list[bytes]
Draw = Callable[[st.SearchStrategy[int]], int]


def _missing(lines: Lines, at: int, other: int) -> None:
    del lines[at]


def _doubled(lines: Lines, at: int, other: int) -> None:
    lines.insert(other, lines[at])


def _swapped(lines: Lines, at: int, other: int) -> None:
    lines[at], lines[other] = lines[other], lines[at]


def _torn(lines: Lines, at: int, other: int) -> None:
    lines[at] = lines[at][: other % len(lines[at])] + b"\n"


def _unended(lines: Lines, at: int, other: int) -> None:
    lines[at] = lines[at].removesuffix(b"\n")


def _changed(lines: Lines, at: int, other: int) -> None:
    line = bytearray(lines[at])
    strange = b'09~.-+Z \0["\\\ra,'
    line[other * 31 % len(line)] = strange[other % len(strange)]
    lines[at] = bytes(line)


def _blank(lines: Lines, at: int, other: int) -> None:
    lines.insert(at, b" " * (other % 3) + b"\n")


def _strange(lines: Lines, at: int, other: int) -> None:
    lines.insert(
        at, (b"Traceback (most recent call last):\n", b"\0" * 40 + b"\n", b"2027-01-15 12:01:00,000 x\n")[other % 3]
    )


def _notice(lines: Lines, at: int, other: int) -> None:
    lines.insert(at, b"2027-01-15 12:01:00,000 rollsafe: 3%b ~\n" % scan._DROPPED)


def _long(lines: Lines, at: int, other: int) -> None:
    lines[at] = lines[at].replace(b" ", b" " + b"x" * 5000, 1)


def _other_time(lines: Lines, at: int, other: int) -> None:
    hour = (b"11:", b"13:", b"25:", b"12:")[other % 4]
    lines[at] = lines[at].replace(b"12:", hour, 1)


def _other_offset(lines: Lines, at: int, other: int) -> None:
    offset = (b"+0200", b"-0030", b"Z", b"+00:00")[other % 4]
    lines[at] = lines[at].replace(b"+0000", offset, 1).replace(b",123 ", b",123 " + offset + b" ", 1)


def _other_fraction(lines: Lines, at: int, other: int) -> None:
    lines[at] = lines[at].replace((b",123", b".", b",")[other % 3], (b",12", b"", b".123456 ", b",1x3")[other % 4], 1)


def _other_end(lines: Lines, at: int, other: int) -> None:
    lines[at] = lines[at].replace(b"\n", b"\r\n")


def _other_stream(lines: Lines, at: int, other: int) -> None:
    lines[at] = lines[at].replace(b"k0v", b"k1v")


def _two_stamps(lines: Lines, at: int, other: int) -> None:
    stamp = lines[other].partition(b"~")[2]
    lines[at] = (
        lines[at]
        .replace(b'"message": "', b'"stamp": "~' + stamp[:16] + b'~", "message": "')
        .replace(b"line", b"~" + stamp.rstrip())
    )


def _zero(lines: Lines, at: int, other: int) -> None:
    lines[at] = lines[at].replace(b"line", b"li\0e")


def _no_second(lines: Lines, at: int, other: int) -> None:
    lines[at] = lines[at].replace(b":03,", b":0x,")


def _no_field(lines: Lines, at: int, other: int) -> None:
    lines[at] = lines[at].replace(b'"asctime"', b'"asctimx"')


DAMAGES = (
    _no_field,
    _zero,
    _no_second,
    _missing,
    _doubled,
    _swapped,
    _torn,
    _unended,
    _changed,
    _blank,
    _strange,
    _notice,
    _long,
    _other_time,
    _other_offset,
    _other_fraction,
    _other_end,
    _other_stream,
    _two_stamps,
)
FIRSTS = st.lists(st.sampled_from((1, 7, 95, 996, 9990, 99_980, 123_456)), min_size=1, max_size=4)
MESSAGES = st.sampled_from(
    ("line", "a ~ b", "[x] y", "-1200 is", '"stamp": "~1lge482k0v9q.7~"', "Zope", "", "é", "a\rb")
)


@pytest.mark.parametrize("form", ["milliseconds", "JSON"])
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_fault_among_proven_lines_is_found_as_if_each_line_were_read(
    damage: Callable[[Lines, int, int], None], form: str, proofs: list[Proven]
) -> None:
    lines = log(form, ["line"] * 120, (1095, 996), 0.04)
    damage(lines, 91, 37)
    text = b"".join(lines)
    assert read(text, 1 << 10, fast=True) == read(text, 1 << 10, fast=False)
    assert proofs


def test_a_line_with_two_stamps_does_not_hide_one_without() -> None:
    lines = log("JSON", [f"line {row}" for row in range(40)], (1,))
    _unended(lines, 10, 0)
    lines.insert(20, b'{"level": "INFO"}\n')
    text = b"".join(lines)
    file = LogFile("app.log.1", INTERVAL, Backup("app.log.1", "", 0, ""))
    found = scan.scan(file, LineClock(INTERVAL, [UTC]), None, io.BytesIO(text))
    assert found == read(text, scan._CHUNK, fast=False)
    assert found.found == {"foreign": 1}


@pytest.mark.parametrize("fraction", [b".1x3", b"x123"])
def test_what_is_behind_a_time_that_ends_early_is_no_offset(
    fraction: bytes, monkeypatch: pytest.MonkeyPatch, proofs: list[Proven]
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        lines = log("JSON, compact", ["line"] * 60, (1095, 996))
        lines[41] = lines[41].replace(b".123", fraction)
        text = b"".join(lines)
        fast = read(text, 1 << 10, fast=True, zone=PARIS)
        assert fast == read(text, 1 << 10, fast=False, zone=PARIS)
        assert fast.found == {"misplaced": 1}
        assert proofs
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_fault_is_found_wherever_it_is_in_a_chunk() -> None:
    lines = log("milliseconds", ["line"] * 120, (1095, 996))
    for row in range(60, 83, 3):
        text = b"".join(lines[:row] + lines[row + 1 :])
        fast = read(text, 2000, fast=True)
        assert fast == read(text, 2000, fast=False)
        assert sum(map(len, fast.runs.values())) == 3


@pytest.mark.parametrize(("before", "step"), [(100, 0.5), pytest.param(6400, 17, marks=pytest.mark.slow)])
def test_an_hour_that_comes_twice_is_told_as_line_by_line(
    before: float, step: float, monkeypatch: pytest.MonkeyPatch, proofs: list[Proven]
) -> None:
    monkeypatch.setenv("TZ", "Europe/Paris")
    time.tzset()
    try:
        # On 2026-10-25, the times from 02:00 on came twice.
        twice = 1_792_886_400.0
        begin = twice - before
        day = Interval(twice - 7200, twice + 82_800, "", 0)
        lines = [
            f"{iso(begin + row * step, zone=PARIS)},123 text ~{STREAMS[0]}.{row + 1000}~\n".encode()
            for row in range(900)
        ]
        text = b"".join(lines)
        fast = read(text, 4000, fast=True, interval=day)
        assert fast == read(text, 4000, fast=False, interval=day)
        assert fast.times.last == int(begin + 899 * step)
        assert proofs
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(
    form=st.sampled_from(list(FORMATS)),
    messages=st.lists(MESSAGES, min_size=1, max_size=3),
    firsts=FIRSTS,
    step=st.sampled_from((0.0, 0.01, 0.5, 9.0)),
    damages=st.lists(st.tuples(st.sampled_from(DAMAGES), st.integers(0, 10**6), st.integers(0, 10**6)), max_size=4),
    chunk=st.integers(300, 9000),
)
def test_what_is_found_is_the_same_as_line_by_line(
    form: str,
    messages: list[str],
    firsts: list[int],
    step: float,
    damages: list[tuple[Callable[[Lines, int, int], None], int, int]],
    chunk: int,
) -> None:
    # The ends of many logs are of one message, and some of others.
    texts = [messages[row % len(messages)] if row % 50 > 40 else messages[0] for row in range(300)]
    lines = log(form, texts, firsts, step)
    for damage, at, other in damages:
        damage(lines, at % len(lines), other % len(lines))
    text = b"".join(lines)
    assert read(text, chunk, fast=True) == read(text, chunk, fast=False)
