"""The report of `rollsafe verify` as one self-contained HTML page: no script, nothing loaded, light and dark.

Everything that comes from log files or file names is escaped: by Jinja for HTML, and by `words.printable`.
"""

from __future__ import annotations

import datetime
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

import jinja2
from markupsafe import Markup

from rollsafe.tools.words import plural, printable, size_text

# Limits of what is drawn or listed; the page says how much more there is.
_BARS = 240
_MARKS = 200
_OPEN_STREAMS = 30
_OPEN_FILES = 60
_FINDINGS = 500
# Units of the pictures, which are stretched to the width and height of their place.
_WIDTH, _HEIGHT = 10_000, 100
_LEAST_HEIGHT = 8
_LABELS = 6
_DAY = 86400

_WORDS = {
    "gap": ("missing line", "missing lines"),
    "dropped": ("dropped line", "dropped lines"),
    "doubled": ("doubled line", "doubled lines"),
    "torn": ("torn line", "torn lines"),
    "foreign": ("foreign line", "foreign lines"),
    "misplaced": ("misplaced line", "misplaced lines"),
    "damaged": ("damaged file", "damaged files"),
    "leftover": ("leftover file", "leftover files"),
}

# Interval (start, end) -> lines.
_Counts = defaultdict[tuple[float, float], int]


@dataclass(frozen=True)
class _Mark:
    """The place of a fault on the time line, in percent of its width."""

    kind: str
    left: float
    width: float
    title: str


@dataclass
class _Row:
    """One stream, or all lines of a log."""

    name: str
    bars: str
    """The path of its picture (SVG)."""
    facts: str
    badges: list[tuple[str, str]]
    """The faults: kind, and number in words."""
    marks: list[_Mark] = field(default_factory=list)
    unmarked: int = 0
    """The number of marks that are left out."""


@dataclass
class _Section:
    """One log."""

    live: str
    summary: str
    total: _Row | None
    ticks: str
    labels: list[tuple[float, str]]
    open_streams: list[_Row]
    folded_streams: list[_Row]
    files: list[dict[str, Any]]
    files_are_open: bool


class _TimeLine:
    """The intervals of one log on an axis. If there are too many to draw, adjacent intervals share a bar.

    Args:
        spans: Start and end of each interval, seconds since the epoch.
    """

    def __init__(self, spans: Sequence[tuple[float, float]]) -> None:
        self.spans = sorted(set(spans))
        self.begin = self.spans[0][0]
        self.end = max(self.begin + 1e-3, *(end for _, end in self.spans))
        self._shared = len(self.spans) > _BARS

    def place(self, instant: float) -> float:
        """The place of an instant, from 0 to 1."""
        return min(1.0, max(0.0, (instant - self.begin) / (self.end - self.begin)))

    def bars(self, counts: Mapping[tuple[float, float], int], largest: int) -> str:
        """The bars for the lines of each interval; their heights are square roots, so quiet intervals are visible."""
        parts = []
        for (left, right), count in sorted(self.bins(counts).items()):
            height = max(_LEAST_HEIGHT, round(_HEIGHT * sqrt(count / max(largest, count))))
            width = max(12, right - left - min(10, (right - left) // 8))
            parts.append(f"M{left} {_HEIGHT}v-{height}h{width}v{height}z")
        return "".join(parts)

    def bins(self, counts: Mapping[tuple[float, float], int]) -> dict[tuple[int, int], int]:
        """Left and right edge of a bar -> its lines; an interval without lines has no bar."""
        bins: defaultdict[tuple[int, int], int] = defaultdict(int)
        for (start, end), count in counts.items():
            if self._shared:
                number = min(_BARS - 1, int(self.place((start + end) / 2) * _BARS))
                edges = (number * _WIDTH // _BARS, (number + 1) * _WIDTH // _BARS)
            else:
                edges = (round(self.place(start) * _WIDTH), round(self.place(end) * _WIDTH))
            if count:
                bins[edges] += count
        return dict(bins)

    def ticks(self) -> str:
        """Lines at the rollovers, if there are not too many."""
        if self._shared:
            return ""
        places = sorted({round(self.place(start) * _WIDTH) for start, _ in self.spans[1:]})
        return "".join(f"M{place} 0v{_HEIGHT}" for place in places)

    def labels(self) -> list[tuple[float, str]]:
        """The labels of the axis, as (place in percent, time), at the starts of some intervals."""
        chosen: list[tuple[float, str]] = []
        form = _form_for(self.end - self.begin, min(end - start for start, end in self.spans))
        for start, _ in self.spans:
            place = 100 * self.place(start)
            if (not chosen or place - chosen[-1][0] >= 100 / _LABELS) and place <= 100 - 50 / _LABELS:
                chosen.append((round(place, 2), _local(start).strftime(form)))
        return chosen


def page_of(report: Mapping[str, Any], now: float) -> str:
    """The page.

    Args:
        report: What `verify.Report.as_dict()` returns.
        now: The time of the report, seconds since the epoch.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("rollsafe.tools"),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    headline, explanation = _verdict(report)
    findings = sorted(report["findings"], key=lambda finding: list(_WORDS).index(finding["kind"]))
    listed = [_finding(finding) for finding in findings[:_FINDINGS]]
    return environment.get_template("page.html").render(
        clean=report["clean"],
        headline=headline,
        explanation=explanation,
        made=_moment(now),
        tiles=_tiles(report),
        sections=list(_sections(report)),
        findings=listed,
        unlisted=max(0, sum(report["found"].values()) - sum(finding["count"] for finding in findings[:_FINDINGS])),
        notes=report["notes"],
        words={kind: words[1] for kind, words in _WORDS.items()},
    )


def _meanings(found: Mapping[str, int]) -> Iterator[str]:
    """Explanations of the words in the headline that need one."""
    if found.get("gap"):
        yield "A line is missing if its number is in no file."
    if found.get("dropped"):
        yield "A line was dropped if the log itself reports that it could not be written."
    if found.get("misplaced"):
        yield "A line is misplaced if its time is outside the interval of its file."


def _verdict(report: Mapping[str, Any]) -> tuple[str, str]:
    """The result in a few words, and its meaning."""
    if not report["clean"]:
        found = [text for _, text in _badges(report["found"])]
        return _listed(found), " ".join([*_meanings(report["found"]), "The places are below."])
    if not any(file["stamped"] for file in report["files"]):
        return "Nothing amiss", "The lines have no stamps, so the report cannot say whether one is missing or doubled."
    return "Every line is there", "Nothing is missing, doubled, torn or misplaced, and every file could be read."


def _tiles(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The amounts that were read, as (value, name)."""
    files = report["files"]
    times = [time for file in files for time in (file["first_time"], file["last_time"]) if time is not None]
    tiles = [
        (f"{sum(file['lines'] for file in files):,}", "lines"),
        (f"{len(report['streams']):,}", "stream" if len(report["streams"]) == 1 else "streams"),
        (f"{len(files):,}", "file" if len(files) == 1 else "files"),
        (size_text(sum(file["bytes"] for file in files)), "of text"),
    ]
    if times:
        tiles += [(_moment(min(times)), "first line"), (_moment(max(times)), "last line")]
    return tiles


def _sections(report: Mapping[str, Any]) -> Iterator[_Section]:
    """The logs, in the order of the report."""
    files: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for file in report["files"]:
        files[file["log"]].append(file)
    log_of = {file["path"]: file["log"] for file in report["files"]}
    findings: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for finding in report["findings"]:
        findings[log_of.get(finding["path"], "")].append(finding)
    streams: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for stream in report["streams"]:
        streams[stream["log"]].append(stream)
    for live, members in files.items():
        yield _section(live, members, streams[live], findings[live])


def _section(
    live: str,
    files: Sequence[Mapping[str, Any]],
    streams: Sequence[Mapping[str, Any]],
    findings: Sequence[Mapping[str, Any]],
) -> _Section:
    """One log."""
    spans = {file["path"]: span for file in files if (span := _span_of(file))}
    line = _TimeLine(list(spans.values())) if spans else None
    counts: defaultdict[str, _Counts] = defaultdict(lambda: defaultdict(int))
    total: _Counts = defaultdict(int)
    for file in files:
        if span := spans.get(file["path"]):
            total[span] += file["lines"]
            for stream, lines in file["streams"].items():
                counts[stream][span] += lines
    largest = max((n for each in counts.values() for n in (line.bins(each).values() if line else ())), default=1)
    found: defaultdict[str | None, list[Mapping[str, Any]]] = defaultdict(list)
    for finding in findings:
        found[finding["stream"]].append(finding)
    rows = [_stream_row(stream, line, counts[stream["stream"]], largest, found) for stream in streams]
    rows.sort(key=lambda row: not row.badges)
    shown = max(_OPEN_STREAMS, sum(bool(row.badges) for row in rows[: 10 * _OPEN_STREAMS]))
    lines = sum(file["lines"] for file in files)
    all_lines = None
    if line:
        marks, unmarked = _marks(line, findings)
        all_lines = _Row(
            "all lines", line.bars(total, max(line.bins(total).values(), default=1)), "", [], marks, unmarked
        )
    return _Section(
        live=live,
        summary=f"{plural(lines, 'line')} in {plural(len(files), 'file')}, {plural(len(streams), 'stream')}",
        total=all_lines,
        ticks=line.ticks() if line else "",
        labels=line.labels() if line else [],
        open_streams=rows[:shown],
        folded_streams=rows[shown:],
        files=[_file_row(file) for file in files],
        files_are_open=len(files) <= _OPEN_FILES,
    )


def _span_of(file: Mapping[str, Any]) -> tuple[float, float] | None:
    """The interval of a file by its name, else by its lines; None if it has neither."""
    for start, end in ((file["start"], file["end"]), (file["first_time"], file["last_time"])):
        if start is not None and end is not None:
            return start, end
    return None


def _stream_row(
    stream: Mapping[str, Any],
    line: _TimeLine | None,
    counts: Mapping[tuple[float, float], int],
    largest: int,
    found: Mapping[str | None, Sequence[Mapping[str, Any]]],
) -> _Row:
    """The row of one stream."""
    findings = found.get(stream["stream"], ())
    numbers: defaultdict[str, int] = defaultdict(int)
    for finding in findings:
        numbers[finding["kind"]] += finding["count"]
    numbers |= {kind: stream[key] for kind, key in (("gap", "missing"), ("doubled", "doubles")) if stream[key]}
    facts = plural(stream["lines"], "line")
    if stream["first_time"] is not None and stream["last_time"] is not None:
        first, last = _moment(stream["first_time"]), _moment(stream["last_time"])
        facts += f" at {first}" if first == last else f" from {first} to {last}"
    one = stream["first"] == stream["last"]
    facts += f", number {stream['first']:,}" if one else f", numbers {stream['first']:,} to {stream['last']:,}"
    if stream["began_before"]:
        facts += "; its beginning was in files that are removed"
    marks, unmarked = _marks(line, findings) if line else ([], 0)
    return _Row(stream["stream"], line.bars(counts, largest) if line else "", facts, _badges(numbers), marks, unmarked)


def _marks(line: _TimeLine, findings: Sequence[Mapping[str, Any]]) -> tuple[list[_Mark], int]:
    """The marks of findings, and the number of those that are left out."""
    timed = [finding for finding in findings if finding["since"] is not None or finding["until"] is not None]
    marks = []
    for finding in timed[:_MARKS]:
        since = finding["until"] if finding["since"] is None else finding["since"]
        until = since if finding["until"] is None else finding["until"]
        left, right = (100 * line.place(instant) for instant in sorted((since, until)))
        marks.append(_Mark(finding["kind"], round(left, 2), round(right - left, 2), finding["text"]))
    return marks, len(findings) - len(marks)


def _finding(finding: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the table of findings."""
    times = [_moment(time) for time in (finding["since"], finding["until"]) if time is not None]
    place = os.path.basename(finding["path"])
    return {
        "kind": finding["kind"],
        "what": _WORDS[finding["kind"]][finding["count"] != 1],
        "count": f"{finding['count']:,}",
        "text": finding["text"],
        "place": place if finding["line"] is None else f"{place}:{finding['line']}",
        "path": finding["path"],
        "when": " to ".join(dict.fromkeys(times)),
    }


def _file_row(file: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the table of files."""
    span = (file["start"], file["end"])
    remarks = [
        f"{plural(file[key], noun)}" for key, noun in (("blanked", "blank line"), ("notices", "notice")) if file[key]
    ]
    return {
        "name": os.path.basename(file["path"]),
        "path": file["path"],
        "interval": "" if None in span else f"{_moment(span[0])} to {_moment(span[1])}",
        "kind": "live" if file["live"] else file["extension"].lstrip(".") or "plain",
        "size": size_text(file["size"]),
        "lines": f"{file['lines']:,}",
        "unstamped": f"{file['lines'] - file['stamped']:,}",
        "badges": _badges(file["found"]),
        "remarks": ", ".join(remarks),
    }


def _badges(numbers: Mapping[str, int]) -> list[tuple[str, str]]:
    """The faults: kind, and number in words."""
    found = [(kind, numbers.get(kind, 0), words) for kind, words in _WORDS.items()]
    return [(kind, f"{number:,} {words[number != 1]}") for kind, number, words in found if number]


def _form_for(length: float, shortest: float) -> str:
    """The format of times on an axis, by its length and its shortest interval in seconds."""
    if length > 2 * _DAY:
        return "%b %d" if shortest >= _DAY else "%b %d %H:%M"
    return "%H:%M" if shortest >= 60 else "%H:%M:%S"


def _local(instant: float) -> datetime.datetime:
    """The local time of an instant."""
    return datetime.datetime.fromtimestamp(instant).astimezone()


def _moment(instant: float) -> str:
    """An instant in words, local time."""
    return _local(instant).strftime("%Y-%m-%d %H:%M:%S")


def _listed(parts: Sequence[str]) -> str:
    """Parts of a sentence as a list in words."""
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))


def _shown(value: Any) -> Any:
    """A text with its control characters escaped; anything else as it is."""
    # A macro of the template returns Markup, which needs nothing more.
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
