"""The oracle: reads log files back and says which lines are lost, doubled, torn, blank or in a wrong file.

It knows nothing of the package under test; it judges the files by three things alone: the lines themselves (each
carries its stream, its number and a checksum), the numbers that were acknowledged, and a function that names the
interval of a time.
"""

from __future__ import annotations

import bz2
import gzip
import importlib
import lzma
import re
import string
import sys
import zlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

LINE_FORMAT = "%(created).9f %(message)s"
"""The ``logging`` format of a self-checking line. Nine decimals: six would round a record of the last half
microsecond of an interval up into the next one."""

LARGEST = 2_000_000
EXAMPLES_PER_KIND = 5
KINDS = ("lost", "doubled", "torn", "misfiled", "blank", "strangers")

_FILLER = string.ascii_lowercase * (LARGEST // 26 + 2)
# Ten digits of seconds (2001 to 2286), so that a fragment of a time stamp is never taken for a whole one.
_HEAD = re.compile(rb"(\d{10}\.\d{1,9}) (\S+) (\d+) (\d{5,7}) ")
_CRC = len(" 01234567")
_BLANK = re.compile(rb" *\n")
# What a fragment looks like that ends before its head does.
_START_OF_HEAD = re.compile(rb"\d{1,10}(\.\d{0,9}( \S*( \d*( \d{0,7})?)?)?)?")
# What archives end in, and the module that reads them; ".bz2" stands for the compressions of applications.
ARCHIVES: dict[str, Any] = {".gz": gzip, ".xz": lzma, ".bz2": bz2}
with suppress(ImportError):
    ARCHIVES[".zst"] = importlib.import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
_TAIL = re.compile(rf"(\.\d+)?({'|'.join(map(re.escape, ARCHIVES))})?$")
# What those modules raise for an archive that is none, or breaks off; see `_Reading._decompressed` for OSError.
_UNREADABLE: tuple[type[Exception], ...] = (
    *(EOFError, OSError, zlib.error, lzma.LZMAError),
    *(module.ZstdError for extension, module in ARCHIVES.items() if extension == ".zst"),
)

Stamp = tuple[bytes, bytes, bytes]
"""What a line says of itself: created (seconds since the epoch), stream, number."""


def make_line(stream: str, number: int, size: int) -> str:
    """Return a self-checking message of `size` characters, or of the shortest possible length if that is more.

    It is ASCII without a newline: stream, number, size, a filler of lower-case letters and the CRC-32 of all that.
    Log it with `LINE_FORMAT`. `stream` is ASCII without white space. Raises ValueError if `size` is over `LARGEST`.
    """
    if size > LARGEST:
        raise ValueError(f"size {size}: a self-checking line has at most {LARGEST} characters; ask for fewer")
    size = max(size, len(f"{stream} {number} 00000 ") + _CRC)
    head = f"{stream} {number} {size:05d} "
    start = number % 26
    body = head + _FILLER[start : start + size - len(head) - _CRC]
    return f"{body} {zlib.crc32(body.encode('ascii')):08x}"


def read_line(line: bytes) -> Stamp | None:
    """Return what a self-checking line says of itself, or None if `line` (with its newline) is not one whole line."""
    head = _HEAD.match(line)
    if head is None or line[-1:] != b"\n":
        return None
    created, stream, number, size = head.groups()
    message = len(created) + 1
    if len(line) != message + int(size) + 1:
        return None
    if line[-_CRC - 1 : -1] != b" %08x" % zlib.crc32(line[message : -_CRC - 1]):
        return None
    return created, stream, number


@dataclass(frozen=True)
class Report:
    """What an audit found, in numbers; `examples` has the first few cases of each kind in words."""

    files: int
    lines: int
    """Whole lines, doubled ones included."""
    lost: int
    """Acknowledged lines of which no file has a trace. One of which a torn fragment was found counts as torn."""
    doubled: int
    torn: int
    """Fragments between newlines, or before the end of a file, that are not one whole line; and unreadable archives."""
    misfiled: int
    blank: int
    """Lines of spaces only, or of nothing, though no disk was full."""
    strangers: int
    """Files beside the log file whose name is not suffix[.N], or that and what archives end in."""
    unacknowledged: int
    """Lines that are there though their emit never returned: allowed, once each."""
    blanked: int = 0
    """The same where a disk was full: they stand in the place of a fragment that did not fit. Allowed."""
    fragments: int = 0
    """Fragments of lines that were never acknowledged, alone on a line, where writers were killed. Allowed."""
    notices: int = 0
    """Lines that the caller expects of the handler itself."""
    examples: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def flawless(self) -> bool:
        """Nothing lost, doubled, torn, misfiled or blank, and no file that does not belong there."""
        return not self.faults()

    def faults(self) -> dict[str, int]:
        """The kinds of fault that were found, each with its count."""
        counts = {kind: int(getattr(self, kind)) for kind in KINDS}
        return {kind: count for kind, count in counts.items() if count}

    def __str__(self) -> str:
        counts = ", ".join(
            f"{getattr(self, kind)} {kind}" for kind in (*KINDS, "unacknowledged", "blanked", "fragments")
        )
        first = "".join(f"; {kind}: {cases[0]}" for kind, cases in self.examples.items() if cases)
        verdict = "flawless" if self.flawless else "FAULTY"
        return f"{verdict}: {self.lines} lines in {self.files} files, {counts}{first}"


def audit(
    live: Path,
    acknowledged: Mapping[str, int | Collection[int]],
    suffix_of: Callable[[float], str],
    *,
    pattern: re.Pattern[bytes] | None = None,
    moment: Callable[[bytes], float] | None = None,
    notices: re.Pattern[bytes] | None = None,
    kills: int = 0,
    full_disk: bool = False,
) -> Report:
    """Read the log file `live` and every sibling named `live.name` + "." + anything, and compare with `acknowledged`.

    `acknowledged[stream]` is the numbers whose emit returned: n for 0 to n - 1, or the numbers themselves. Every
    number, acknowledged or not, may be there once at most.
    `suffix_of(seconds)` is the backup suffix of the interval that holds that time. Intervals must begin on whole
    seconds. A line in a backup of another suffix is misfiled. In the live file, where most lines belong to one
    interval, those of any other are misfiled, and all of them if a backup holds a later interval.
    `pattern` describes the lines of other applications: it must match the whole line without its newline and have
    the groups created (seconds since the epoch, or what `moment` makes that of), stream and number. Such lines have
    no checksum.
    `notices` matches the whole lines (without the newline) that the handler is expected to write on its own account.
    `kills` is how many writers were killed. Each may have left a fragment of one line that was not acknowledged.
    `full_disk` says whether a write may have been cut short for want of space: only then may there be blank lines.

    Call it when nobody writes any more. Raises OSError if a file cannot be read.
    """
    read = read_line if pattern is None else _reader_of(pattern, moment)
    reading = _Reading(suffix_of, read, notices, kills, full_disk)
    for path in _siblings(live):
        reading.read_sibling(path, path.name.removeprefix(live.name + "."))
    if live.exists():
        reading.read_live(live)
    return reading.report(acknowledged)


def _siblings(live: Path) -> list[Path]:
    """Everything in the directory of `live` that is named after it."""
    return sorted(path for path in live.parent.iterdir() if path.name.startswith(live.name + "."))


def _reader_of(pattern: re.Pattern[bytes], moment: Callable[[bytes], float] | None) -> Callable[[bytes], Stamp | None]:
    """A substitute for `read_line` that goes by `pattern`, and reads times by `moment`."""

    def read(line: bytes) -> Stamp | None:
        match = pattern.fullmatch(line, 0, len(line) - 1) if line.endswith(b"\n") else None
        if match is None:
            return None
        created = match["created"] if moment is None else b"%.9f" % moment(match["created"])
        return created, match["stream"], match["number"]

    return read


def _open(path: Path) -> BinaryIO:
    """Open a plain or compressed log file for reading bytes."""
    module = ARCHIVES.get(path.suffix)
    return path.open("rb") if module is None else cast(BinaryIO, module.open(path))


def _is_among(number: int, acknowledged: int | Collection[int]) -> bool:
    """Whether a line was acknowledged."""
    return number < acknowledged if isinstance(acknowledged, int) else number in acknowledged


def _shape(suffix: str) -> str:
    """A suffix with every digit made a 0: two suffixes of one kind have the same shape."""
    return re.sub(r"\d", "0", suffix)


class _Seconds:
    """Which seconds the lines of one file were created in: how many lines each, and the row of the first of them.

    A time that is printed as a whole second may have been rounded up to it, so those are kept apart; but not with
    seven decimals or more, which tell any two times of this century apart.
    """

    def __init__(self) -> None:
        self.counts: dict[tuple[int, bool], int] = {}
        self.first_rows: dict[tuple[int, bool], int] = {}

    def add(self, created: bytes, row: int) -> None:
        """Count one line."""
        seconds = float(created)
        second = int(seconds)
        key = (second, seconds == second and len(created.partition(b".")[2]) < 7)
        if key in self.counts:
            self.counts[key] += 1
        else:
            self.counts[key] = 1
            self.first_rows[key] = row

    def suffixes(self, suffix_of: Callable[[float], str]) -> Iterator[tuple[int, list[str], int, int]]:
        """Yield second, the suffixes its lines may have (the likely one first), their count, the first row."""
        for key, count in self.counts.items():
            second, perhaps_rounded = key
            suffixes = [suffix_of(float(second))]
            if perhaps_rounded:
                suffixes.append(suffix_of(float(second - 1)))
            yield second, suffixes, count, self.first_rows[key]


class _Reading:
    """The state of one audit."""

    def __init__(
        self,
        suffix_of: Callable[[float], str],
        read: Callable[[bytes], Stamp | None],
        notices: re.Pattern[bytes] | None = None,
        kills: int = 0,
        full_disk: bool = False,
    ) -> None:
        self._suffix_of = suffix_of
        self._read_line = read
        self._notices = notices
        self._kills = kills
        self._full_disk = full_disk
        self._shape = _shape(suffix_of(0.0))
        self._seen: defaultdict[bytes, set[int]] = defaultdict(set)
        self._fragments: defaultdict[bytes, set[int]] = defaultdict(set)
        self._alone: list[tuple[str, list[tuple[bytes, int]]]] = []
        self._counts = dict.fromkeys((*KINDS, "files", "lines", "blanked", "fragments", "notices"), 0)
        self._examples: dict[str, list[str]] = {kind: [] for kind in KINDS}
        self._newest_backup = 0

    def read_sibling(self, path: Path, tail: str) -> None:
        """Read a backup, or a file that has no business here; `tail` is what its name has after the live file's."""
        suffix = _TAIL.sub("", tail, count=1)
        regular = path.is_file() and not path.is_symlink()
        backup = regular and _shape(suffix) == self._shape
        if not backup:
            self._fault("strangers", path.name)
        if not regular:
            return
        seconds = self._read(path)
        if backup:
            self._judge_backup(path, suffix, seconds)

    def read_live(self, path: Path) -> None:
        """Read the live file; after the backups, because it is judged by the newest of them."""
        self._judge_live(path, self._read(path))

    def report(self, acknowledged: Mapping[str, int | Collection[int]]) -> Report:
        """Compare what was seen with what was acknowledged."""
        self._judge_fragments(acknowledged)
        unacknowledged = sum(map(len, self._seen.values()))
        for stream, numbers in acknowledged.items():
            due = set(range(numbers) if isinstance(numbers, int) else numbers)
            seen = self._seen[stream.encode()]
            unacknowledged -= len(due & seen)
            for number in sorted(due - seen - self._fragments[stream.encode()]):
                self._fault("lost", f"stream {stream} number {number}")
        examples = {kind: tuple(cases) for kind, cases in self._examples.items()}
        return Report(**self._counts, unacknowledged=unacknowledged, examples=examples)

    def _read(self, path: Path) -> _Seconds:
        """Read one file line by line: note whole lines and torn ones."""
        seconds = _Seconds()
        self._counts["files"] += 1
        with _open(path) as file:
            lines = file if path.suffix not in ARCHIVES else self._decompressed(path, file)
            self._read_lines(path, lines, seconds)
        return seconds

    def _decompressed(self, path: Path, file: BinaryIO) -> Iterator[bytes]:
        """The lines of an archive, as far as it can be read."""
        try:
            yield from file
        except _UNREADABLE as error:
            # bz2 and gzip say so by an OSError of their own, which no system call has given a number.
            if isinstance(error, OSError) and error.errno is not None:
                raise
            self._fault("torn", f"{path.name}: {error}")

    def _read_lines(self, path: Path, lines: Iterable[bytes], seconds: _Seconds) -> None:
        """The one loop that runs for every line."""
        read_line, seen, add = self._read_line, self._seen, seconds.add
        row = 0
        for row, line in enumerate(lines, 1):
            stamp = read_line(line)
            if stamp is None:
                self._note_other(path, row, line)
                continue
            created, stream, digits = stamp
            number = int(digits)
            numbers = seen[stream]
            if number in numbers:
                self._fault("doubled", f"{path.name}:{row}: stream {stream.decode()} number {number}")
            numbers.add(number)
            add(created, row)
        self._counts["lines"] += sum(seconds.counts.values())

    def _note_other(self, path: Path, row: int, line: bytes) -> None:
        """Count what is no whole line of the load."""
        if _BLANK.fullmatch(line):
            if self._full_disk:
                self._counts["blanked"] += 1
            else:
                self._fault("blank", f"{path.name}:{row}: {len(line)} bytes")
        elif self._notices is not None and line[-1:] == b"\n" and self._notices.fullmatch(line, 0, len(line) - 1):
            self._counts["notices"] += 1
        else:
            self._note_torn(path, row, line)

    def _note_torn(self, path: Path, row: int, line: bytes) -> None:
        """Count a torn line, and remember the lines whose beginnings are in it."""
        example = f"{path.name}:{row}: {len(line)} bytes {line[:60]!r}"
        heads = [(stream, int(number)) for _, stream, number, _ in _HEAD.findall(line)]
        if _HEAD.match(line) or _START_OF_HEAD.fullmatch(line.rstrip(b" \n")):
            self._alone.append((example, heads))
        else:
            self._fault("torn", example)
        for stream, number in heads:
            self._fragments[stream].add(number)

    def _judge_fragments(self, acknowledged: Mapping[str, int | Collection[int]]) -> None:
        """A killed writer may have left the beginning of a line, but none that was acknowledged is in it."""
        for example, heads in self._alone:
            told = any(_is_among(number, acknowledged.get(stream.decode(), 0)) for stream, number in heads)
            if told or self._counts["fragments"] >= self._kills:
                self._fault("torn", example)
            else:
                self._counts["fragments"] += 1

    def _judge_backup(self, path: Path, suffix: str, seconds: _Seconds) -> None:
        """Lines in a backup must belong to the interval of its name."""
        for second, suffixes, count, row in seconds.suffixes(self._suffix_of):
            if suffix in suffixes:
                self._newest_backup = max(self._newest_backup, second)
            else:
                self._misfiled(path, row, count, suffixes[0])

    def _judge_live(self, path: Path, seconds: _Seconds) -> None:
        """Lines in the live file must belong to one interval, and no backup may hold a later one."""
        found = list(seconds.suffixes(self._suffix_of))
        if not found:
            return
        totals: defaultdict[str, int] = defaultdict(int)
        for _, suffixes, count, _ in found:
            totals[suffixes[0]] += count
        own = max(totals, key=totals.__getitem__)
        newest = max(second for second, suffixes, _, _ in found if own in suffixes)
        stale = newest < self._newest_backup and own != self._suffix_of(float(self._newest_backup))
        for _, suffixes, count, row in found:
            if stale or own not in suffixes:
                self._misfiled(path, row, count, suffixes[0])

    def _misfiled(self, path: Path, row: int, count: int, belongs: str) -> None:
        """Note `count` lines, the first at `row`, that belong to another interval."""
        self._fault("misfiled", f"{path.name}:{row}: {count} lines of {belongs}", count)

    def _fault(self, kind: str, example: str, count: int = 1) -> None:
        """Count a fault and keep its description if it is one of the first of its kind."""
        self._counts[kind] += count
        if len(self._examples[kind]) < EXAMPLES_PER_KIND:
            self._examples[kind].append(example)
