"""One log file, read to its end: the number of its lines, the numbers of each stream as runs, and the faults of lines.

The file is read in chunks. If `proof` shows that every line of a chunk has its stamp and its time, and that the numbers
continue, nothing more is needed. Otherwise one regular expression matches the chunk, which finds them in more places.
Only a chunk with a fault is read line by line.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from math import inf
from typing import IO, Any

from rollsafe._lines.stamps import STAMP
from rollsafe.schedule import Interval
from rollsafe.tools.catalog import LogFile
from rollsafe.tools.proof import Prover
from rollsafe.tools.reading import DAMAGED, open_log
from rollsafe.tools.times import LineClock
from rollsafe.tools.words import printable

SHOWN = 20
"""The number of cases of each kind that are shown for each file; all are counted."""

# Larger chunks do not stay in the processor's cache.
_CHUNK = 1 << 18
# Bytes that are kept of one line, half of them at each end, where time and stamp are. The bytes between are only
# counted, so a file without newlines (zeros after a power cut, another program's file) takes no more memory than this.
_LONGEST = 1 << 24
_SAMPLE = 32
_SHOWN_BYTES = 80

_OFFSET = rb"( ?(?:Z|[+-]\d\d:?\d\d))?"
_ISO = rb"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(?:[.,]\d+)?" + _OFFSET
# The time at the head of a line: (second, offset), in a lookahead, after the stamp if that comes first. The time of an
# access line is taken before the record is made.
_BEHIND = rb"^(?=(?:~[0-9a-v.]+~ )?"
_HEADS = {
    "iso": _BEHIND + rb"\[?" + _ISO + rb")",
    "epoch": _BEHIND + rb"(\d{10})(?:\.\d+)?()(?!\d))",
    "json": rb'^(?=\{[^\n]*?"(?:@?timestamp|asctime|time|ts|date|created)" ?: ?"?' + _ISO + rb")",
    "access": rb"^(?=[^\n\[]*\[(\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d)( [+-]\d{4}))",
    "none": rb"^()()",
}
_BARE = STAMP.pattern.replace(b"?P<stream>", b"").replace(b"?P<number>", b"")
# The place of the stamp in a line: (stream, number).
_TAILS = {
    "last": rb"[^\n]*" + _BARE + rb"\r?$",
    "json": rb'[^\n]*?(?<!\\)"stamp" ?: ?"' + _BARE + rb'"[^\n]*$',
    "first": rb"[^\n]*?" + _BARE + rb"[^\n]*$",
    "none": rb"[^\n]*()()$",
}
_BLANK = re.compile(rb"[ \r]*\n?")
# The handler's line about lines that it has dropped: at the end of a line, before a stamp without number, or in JSON.
_DROPPED = b" lines were dropped because the log could not be written"
_NOTICE = re.compile(
    rb'(?:(?!\{).*)?rollsafe: (\d{1,18})%(end)b(?: ~)?\r?\n?|\{.*"rollsafe: (\d{1,18})%(end)b".*\n?'
    % {b"end": _DROPPED}
)
# Control characters that no text has, not even a coloured one.
_NO_TEXT = re.compile(rb"[\x00-\x06\x0e-\x1a\x1c-\x1f]")
# A power cut leaves zeros at the end of a file, up to the end of a disk block or up to later lines.
_ZEROS = re.compile(rb"[^\0]*(\0{16,})[^\0]*")


@dataclass
class Run:
    """Consecutive numbers of one stream in one file."""

    first: int
    last: int
    since: float | None
    """The time of the first and of the last line; seconds since the epoch."""
    until: float | None


@dataclass
class Oddity:
    """A fault in one file."""

    kind: str
    """"torn", "foreign", "misplaced" or "damaged"."""
    line: int | None
    """From 1; None for the whole file."""
    time: float | None
    text: str


@dataclass
class Times:
    """The times that the lines of one file have, in seconds since the epoch.

    Attributes:
        found: Whether lines have a time.
        first, last: The first and the last one, in the order of the lines; None if there is none.
        earliest, latest: The least and the greatest one, to the second.
        begins, ends: The times of the first and of the last line, with their fractions; None if those lines have none.
        early: How many seconds the times of lines may be before those of their records.
    """

    found: bool = False
    first: float | None = None
    last: float | None = None
    earliest: float = inf
    latest: float = -inf
    begins: float | None = None
    ends: float | None = None
    early: float = 0.0

    def begin_in(self, interval: Interval) -> bool:
        """Whether none is before an interval."""
        return interval.start < self.earliest + 1 + self.early

    def fit(self, interval: Interval) -> bool:
        """Whether all are in an interval."""
        return self.begin_in(interval) and self.latest < interval.end

    def add(self, since: float | None, until: float | None) -> None:
        """Add the times of the first and the last one of some lines."""
        if since is not None and self.first is None:
            self.first = since
        if until is not None:
            self.last = until

    def widen(self, least: float, greatest: float) -> None:
        """Add the least and the greatest time of some lines."""
        self.earliest, self.latest = min(self.earliest, least), max(self.latest, greatest)


@dataclass
class Scan:
    """The contents of one file, as counts of its lines.

    Attributes:
        bytes: After decompression.
        stamped, unstamped: Lines with a stamp, and those before the first that has one.
        blanked: Empty lines and lines of spaces. rollsafe puts them in the place of lines that did not fit on the disk;
            a text of several lines may have some.
        notices: Lines that report a number of dropped lines.
        dropped: The sum of these numbers.
        runs: Stream -> its numbers, in the order of the lines.
        found: Kind -> number of faults.
        oddities: The first SHOWN of each kind.
    """

    bytes: int = 0
    lines: int = 0
    stamped: int = 0
    unstamped: int = 0
    blanked: int = 0
    notices: int = 0
    dropped: int = 0
    times: Times = field(default_factory=Times)
    runs: dict[str, list[Run]] = field(default_factory=dict)
    found: dict[str, int] = field(default_factory=dict)
    oddities: list[Oddity] = field(default_factory=list)

    def add_oddity(self, oddity: Oddity) -> None:
        """Count an oddity, and keep it if it is one of the first of its kind."""
        count = self.found.get(oddity.kind, 0) + 1
        self.found[oddity.kind] = count
        if count <= SHOWN:
            self.oddities.append(oddity)

    def add_run(self, stream: str, first: int, last: int, since: float | None, until: float | None) -> None:
        """Add consecutive numbers; adjacent runs become one, even if they came in another order."""
        runs = self.runs.setdefault(stream, [])
        if runs and runs[-1].last + 1 == first:
            runs[-1].last, runs[-1].until = last, until
        elif runs and last + 1 == runs[-1].first:
            runs[-1].first, runs[-1].since = first, since
        else:
            runs.append(Run(first, last, since, until))
        if len(runs) > 1 and runs[-2].last + 1 == runs[-1].first:
            later = runs.pop()
            runs[-1].last, runs[-1].until = later.last, later.until


Progress = Callable[[int], None]
"""Called with the number of bytes that were read since the last call."""


def scan(
    file: LogFile,
    clock: LineClock,
    progress: Progress | None = None,
    opened: IO[bytes] | None = None,
    limit: float = inf,
) -> Scan:
    """Read a log file to its end.

    Args:
        file: The file. Lines outside its interval are misplaced.
        clock: Reads the times of its lines.
        progress: Called with the numbers of bytes that were read; not for an archive.
        opened: The file, if it is open already; otherwise it is opened and closed here.
        limit: The number of bytes to read, because a file that is written all the time has no other end.

    Raises:
        OSError: The file cannot be opened or read. A damaged archive is no error, but an oddity.
    """
    reader = _Reader(file, clock)
    stream = opened or open_log(file.path)
    if progress is None or file.extension:
        progress = _ignore_progress
    try:
        for chunk in _chunks(stream, reader, progress, limit):
            reader.read(chunk)
        reader.end()
    except OSError as error:
        # The error of a read(2) has no file name.
        error.filename = error.filename or file.path
        raise
    finally:
        if opened is None:
            stream.close()
    return reader.scan


def _ignore_progress(count: int) -> None:
    """A progress without a display."""


def _chunks(stream: IO[bytes], reader: _Reader, progress: Progress, limit: float = inf) -> Iterator[bytes]:
    """The file in blocks of whole lines; the last line may lack its newline, and a very long one its middle."""
    # The parts of a line are joined once: adding each block to those before would copy a long line again and again.
    parts: list[bytes] = []
    length = 0
    while True:
        try:
            block = stream.read(int(min(_CHUNK, limit)))
        except DAMAGED as error:
            reader.scan.add_oddity(Oddity("damaged", None, None, f"the archive is truncated or broken: {error}"))
            block = b""
        if not block:
            break
        progress(len(block))
        limit -= len(block)
        end = block.rfind(b"\n") + 1
        if end:
            yield b"".join((*parts, memoryview(block)[:end]))
            parts, length = [block[end:]], len(block) - end
            continue
        parts.append(block)
        length += len(block)
        if length > _LONGEST:
            whole = b"".join(parts)
            parts = [whole[: _LONGEST // 4], whole[-_LONGEST // 4 :]]
            left = sum(map(len, parts))
            reader.scan.bytes += length - left
            length = left
    if length:
        yield b"".join(parts)


@dataclass
class _Found:
    """The times and stamps of the lines of one chunk."""

    moments: Collection[float | None]
    """The seconds that occur, as seconds since the epoch; None for one that is no time."""
    stamps: list[Any]
    """(stream, number) of each line."""
    time_of: Callable[[int], float | None]
    """The time of one line, by its row."""


class _Reader:
    """The state of one scan."""

    def __init__(self, file: LogFile, clock: LineClock) -> None:
        self.scan = Scan()
        self._file = file
        self._clock = clock
        self._start = file.interval.start if file.interval else -inf
        self._end = file.interval.end if file.interval else inf
        self._head = self._tail = "none"
        self._last = b""
        self._head_pattern = re.compile(_HEADS["none"])
        self._pattern = re.compile(_HEADS["none"] + _TAILS["none"], re.MULTILINE)
        self._prover = Prover(clock.sure_time, self._is_placed, self._last_number)

    def read(self, chunk: bytes) -> None:
        """Count the lines of a chunk."""
        if self._tail == "none" or self._head == "none":
            self._look_how_lines_are_made(chunk)
        lines = self._prove(chunk)
        if not lines:
            lines = chunk.count(b"\n")
            plain = chunk.endswith(b"\n") and b"\0" not in chunk and _DROPPED not in chunk
            if not (plain and self._goes_on(chunk, lines)):
                self._read_lines(chunk)
                lines += not chunk.endswith(b"\n")
            if self._tail in ("last", "json") and self._head != "none":
                self._prover.learn(chunk, None if self._head == "access" else self._head_pattern, self._pattern)
        if not self.scan.lines:
            self.scan.times.begins = self._clock.time(chunk[: chunk.find(b"\n") + 1 or len(chunk)])
        self._last = chunk
        self.scan.lines += lines
        self.scan.bytes += len(chunk)

    def _prove(self, chunk: bytes) -> int:
        """Read the lines of a chunk together, and return their number; 0 if they must be read in another way."""
        # The first lines decide in which zone times are, and where in a line.
        proven = self._prover.prove(chunk) if self.scan.lines and chunk.endswith(b"\n") else None
        if proven is None:
            return 0
        times = self.scan.times
        times.add(proven.since, proven.until)
        times.widen(proven.earliest, proven.latest)
        for stretch in proven.stretches:
            self.scan.add_run(*stretch)
        self.scan.stamped += proven.lines
        self._clock.advance(-inf if self._head == "epoch" else proven.latest, self._head != "access")
        return proven.lines

    def _last_number(self, stream: str) -> int | None:
        """The last number of a stream so far."""
        runs = self.scan.runs.get(stream)
        return runs[-1].last if runs else None

    def end(self) -> None:
        """Keep the time of the last line, when all is read."""
        self.scan.times.ends = self._clock.time(self._last[self._last.rfind(b"\n", 0, -1) + 1 :])

    def _look_how_lines_are_made(self, chunk: bytes) -> None:
        """Find the places of time and stamp by the first lines of the chunk."""
        sample = chunk.split(b"\n", _SAMPLE)[:_SAMPLE]
        if self._head == "none":
            self._head = _most(_HEADS, sample)
            self.scan.times.found = self._head != "none"
            self.scan.times.early = 1.0 if self._head == "access" else 0.0
        if self._tail == "none" and STAMP.search(chunk):
            at = STAMP.search(chunk)
            assert at is not None
            begin = chunk.rfind(b"\n", 0, at.start()) + 1
            self._tail = _most(_TAILS, chunk[begin:].split(b"\n", _SAMPLE)[:_SAMPLE])
        self._head_pattern = re.compile(_HEADS[self._head])
        self._pattern = re.compile(_HEADS[self._head] + _TAILS[self._tail], re.MULTILINE)

    def _goes_on(self, chunk: bytes, count: int) -> bool:
        """Read the `count` lines of a chunk together; False if they must be read one by one."""
        found = self._times_by_pattern(chunk, count)
        if found is None:
            return False
        moments = [moment for moment in found.moments if moment is not None]
        if len(moments) < len(found.moments):
            return False
        if moments:
            since, until = min(moments), max(moments)
            if not (self._is_placed(since) and self._is_placed(until)):
                return False
        if self._tail != "none" and not self._numbers_go_on(found):
            return False
        if moments:
            self.scan.times.widen(since, until)
        self.scan.times.add(found.time_of(0), found.time_of(count - 1))
        return True

    def _times_by_pattern(self, chunk: bytes, count: int) -> _Found | None:
        """The times and stamps, anywhere in the lines."""
        matches = self._pattern.findall(chunk)
        if len(matches) != count:
            return None
        if self._head == "none":
            return _Found((), [match[2:] for match in matches], lambda row: None)
        # In the order of the lines, by which the time of an hour that comes twice is told.
        moments = {told: self._moment(*told) for told in dict.fromkeys(match[:2] for match in matches)}
        return _Found(moments.values(), [match[2:] for match in matches], lambda row: moments[matches[row][:2]])

    def _numbers_go_on(self, found: _Found) -> bool:
        """Add the numbers, if those of each stream rise by one; False if not."""
        stamps = found.stamps
        runs: defaultdict[bytes, list[int]] = defaultdict(list)
        for stream, number in stamps:
            runs[stream].append(int(number))
        if any(run != list(range(run[0], run[0] + len(run))) for run in runs.values()):
            return False
        firsts = _rows(stamps, len(runs))
        lasts = _rows(stamps[::-1], len(runs))
        for stream, run in runs.items():
            since, until = found.time_of(firsts[stream]), found.time_of(len(stamps) - 1 - lasts[stream])
            self.scan.add_run(stream.decode(), run[0], run[-1], since, until)
        self.scan.stamped += len(stamps)
        return True

    def _read_lines(self, chunk: bytes) -> None:
        """Judge the lines one by one."""
        for row, line in enumerate(chunk.splitlines(keepends=True) if b"\r" not in chunk else _lines(chunk), 1):
            self._read_line(self.scan.lines + row, line)

    def _read_line(self, row: int, line: bytes) -> None:
        """Judge one line."""
        scan = self.scan
        if _BLANK.fullmatch(line):
            scan.blanked += 1
            return
        if not line.endswith(b"\n"):
            # The writer of the live file may be in its write now; a damaged archive is reported as damaged.
            if not self._file.is_live and "damaged" not in scan.found:
                self._add_oddity("torn", row, None, f"the file ends inside a line: {_shown(line)}")
            return
        match = self._pattern.match(line)
        if _DROPPED in line and not (match and self._tail != "none") and (notice := _NOTICE.fullmatch(line)):
            scan.notices += 1
            scan.dropped += int(notice[1] or notice[2])
            return
        moment = self._moment(match[1], match[2]) if match and self._head != "none" else None
        if b"\0" in line:
            self._read_zeros(row, line)
            return
        if match is None or (self._head != "none" and moment is None):
            self._read_other(row, line)
            return
        if moment is not None:
            if self._head == "json" and not self._is_placed(moment):
                # An object in the line may have a time of its own before that of the line.
                moment = float(math.floor(self._clock.time(line) or moment))
            scan.times.add(moment, moment)
            scan.times.widen(moment, moment)
            if not self._is_placed(moment):
                self._add_oddity("misplaced", row, moment, f"a line of another interval: {_shown(line)}")
        if self._tail != "none":
            number = int(match[4])
            scan.stamped += 1
            scan.add_run(match[3].decode(), number, number, moment, moment)

    def _read_zeros(self, row: int, line: bytes) -> None:
        """Judge a line with zero bytes."""
        moment = self._clock.time(line)
        zeros = _ZEROS.fullmatch(line)
        if zeros and not _NO_TEXT.search(line.replace(zeros[1], b"")):
            what = f"{len(zeros[1])} zero bytes in a row, as a power cut leaves them"
            self._add_oddity("torn", row, moment, f"{what}: {_shown(line.replace(zeros[1], b''))}")
        elif moment is not None:
            self._add_oddity("torn", row, moment, f"a line with zero bytes: {_shown(line)}")
        else:
            self._add_oddity("foreign", row, None, f"bytes that are no text: {_shown(line)}")

    def _read_other(self, row: int, line: bytes) -> None:
        """Judge a line without the time or the stamp that the others have."""
        if _NO_TEXT.search(line):
            self._add_oddity("foreign", row, None, f"bytes that are no text: {_shown(line)}")
        elif self._tail == "none":
            return  # without stamps, it may be a line of a traceback or a fragment
        elif not self.scan.stamped:
            self.scan.unstamped += 1
        else:
            moment = self._clock.time(line)
            kind = "foreign" if moment is None else "torn"
            self._add_oddity(kind, row, moment, f"a line without stamp: {_shown(line)}")

    def _moment(self, second: bytes, offset: bytes | None) -> float | None:
        """The time in a line, to the second."""
        told = second + (offset or b"")
        return self._clock.time(b"[" + told + b"]" if self._head == "access" else told)

    def _is_placed(self, second: float) -> bool:
        """Whether a line of this second belongs here."""
        return self._start < second + 1 + self.scan.times.early and second < self._end

    def _add_oddity(self, kind: str, row: int, moment: float | None, text: str) -> None:
        """Add an oddity."""
        self.scan.add_oddity(Oddity(kind, row, moment, text))


def _most(patterns: dict[str, bytes], sample: list[bytes]) -> str:
    """The pattern that matches the most lines; the first of equals, "none" if none matches."""
    counts = {
        name: sum(re.match(pattern, line.rstrip(b"\r")) is not None for line in sample)
        for name, pattern in patterns.items()
        if name != "none"
    }
    best = max(counts, key=counts.__getitem__)
    return best if counts[best] else "none"


def _rows(stamps: list[Any], streams: int) -> dict[bytes, int]:
    """The first row of each stream; `streams` is their number."""
    rows: dict[bytes, int] = {}
    for row, (stream, _) in enumerate(stamps):
        if stream not in rows:
            rows[stream] = row
            if len(rows) == streams:
                break
    return rows


def _lines(chunk: bytes) -> list[bytes]:
    """The lines of a chunk with carriage returns, at which bytes.splitlines would split as well."""
    return re.findall(rb"[^\n]*\n|[^\n]+\Z", chunk)


def _shown(line: bytes) -> str:
    """The beginning of a line as text."""
    return printable(line[:_SHOWN_BYTES].decode(errors="surrogateescape").rstrip("\n"))
