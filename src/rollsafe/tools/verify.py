"""Proof by reading: the stamps, times and ends of all lines show which ones are lost, doubled, torn or misplaced.

This module only reads. The memory that it needs grows with the number of streams and findings, not of lines.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from math import inf
from multiprocessing import get_context
from typing import Any

from rollsafe._backups.names import ROLLED_EXTENSION
from rollsafe._lines.stamps import birth_of
from rollsafe._settings import Settings
from rollsafe.errors import LogFileError
from rollsafe.schedule import Interval
from rollsafe.tools.catalog import Log, LogFile
from rollsafe.tools.lines import Snapshot, clock_of, open_now
from rollsafe.tools.scan import SHOWN, Progress, Run, Scan, Times, scan
from rollsafe.tools.several import Claims
from rollsafe.tools.words import plural

KINDS = ("gap", "dropped", "doubled", "torn", "foreign", "misplaced", "damaged", "leftover")
"""The kinds of findings."""

# Seconds after which no process works on an unfinished file that has not changed.
_ABANDONED = 60.0
# The number of times that files which grew while they were read are read again.
_ROUNDS = 5
# Several processes read the backups if they have more bytes than this.
_LARGE = 32_000_000
# Seconds, and intervals. A line that is less late than this has missed its rollover. A later one may be of a time when
# the intervals were longer.
_LATE = 10.0
_LATE_INTERVALS = 1.0
# Seconds by which the birth of a stream may be later than the time of its first line.
_BIRTH_SLACK = 2.0


@dataclass
class Finding:
    """One fault, or several of one kind."""

    kind: str
    """One of KINDS."""
    path: str
    """For a gap, the file of the line after it."""
    line: int | None
    """The number of the line in its file, from 1; None for a whole file, or between two lines."""
    count: int
    """The number of lines that it is about."""
    stream: str | None
    since: float | None
    """Seconds since the epoch: for a gap, of the line before it; else of the line itself. None if it is not known."""
    until: float | None
    """For a gap, the time of the line after it; else as `since`."""
    text: str
    """A description in words."""


@dataclass
class FileReport:
    """One file, read to its end."""

    path: str
    log: str
    """Full path of the live file that it belongs to."""
    live: bool
    extension: str
    start: float | None
    """Its interval by name, seconds since the epoch; None if the name does not tell it."""
    end: float | None
    size: int
    """Bytes on disk."""
    bytes: int
    """Bytes that were read, after decompression."""
    lines: int
    stamped: int
    unstamped: int
    """Lines before the first one with a stamp."""
    blanked: int
    """Empty lines and lines of spaces, in the place of a line that was cut short, or in a text of several lines."""
    notices: int
    """Lines in which rollsafe itself reports a number of dropped lines."""
    first_time: float | None
    last_time: float | None
    found: dict[str, int]
    """Its faults: kind -> number."""
    streams: dict[str, int]
    """Stream -> lines."""


@dataclass
class StreamReport:
    """One stream: the lines that one handler wrote in one process."""

    stream: str
    log: str
    lines: int = 0
    first: int = 0
    """The least and the greatest number found."""
    last: int = 0
    missing: int = 0
    """Numbers below the greatest that are in no file, and that retention cannot have removed."""
    doubles: int = 0
    began_before: bool = False
    """Whether its beginning was in files that are gone."""
    born: float = 0.0
    """The time of its beginning; seconds since the epoch."""
    first_time: float | None = None
    last_time: float | None = None


@dataclass
class Report:
    """The result. `findings` has the first cases of each kind and file; `found` counts them all."""

    files: list[FileReport] = field(default_factory=list)
    streams: list[StreamReport] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    found: dict[str, int] = field(default_factory=dict)
    """Kind -> number of lines (or of files, for damaged ones and leftovers)."""
    notes: list[str] = field(default_factory=list)
    """Sentences about what could not be verified, and about unusual things that are no fault."""

    @property
    def clean(self) -> bool:
        """Whether there is no fault."""
        return not self.found

    @property
    def lines(self) -> int:
        """All lines."""
        return sum(file.lines for file in self.files)

    @property
    def stamped(self) -> int:
        """The lines with a stamp."""
        return sum(file.stamped for file in self.files)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the same names; times in seconds since the epoch."""
        return {"clean": self.clean, "lines": self.lines, "stamped": self.stamped, **dataclasses.asdict(self)}


def verify(logs: Iterable[Log], progress: Progress | None = None, *, jobs: int = 1) -> Report:
    """Read all files of the logs, and report their faults.

    Processes may write meanwhile: a file that grows while others are read is read again at the end.

    Args:
        logs: The logs.
        progress: Called with the number of bytes on disk that were read since the last call.
        jobs: The number of processes that may read, if there is much to read.

    Raises:
        OSError: A file cannot be read.
    """
    report = Report()
    logs = list(logs)
    claims = Claims(logs)
    for log in logs:
        _Verification(log, report, progress, jobs, claims).run()
    _note_copies(report)
    return report


class _Verification:
    """The reading of one log."""

    def __init__(self, log: Log, report: Report, progress: Progress | None, jobs: int, claims: Claims) -> None:
        self._asked = log
        self._claims = claims
        self._report = report
        self._progress = progress
        self._jobs = jobs
        self._scans: dict[str, tuple[LogFile, Scan, int]] = {}
        self._shown: Counter[tuple[str, str]] = Counter()

    def run(self) -> None:
        """Read the files, and again those that grew; then judge."""
        log = self._asked
        for reread in range(_ROUNDS):
            snapshot = Snapshot(self._asked, self._claims)
            try:
                log = snapshot.log
                if log.unread:
                    raise LogFileError(log.unread)
                files = snapshot.files
                changed = [file for file in files if not self._is_read(file)]
                # The live file always grows, but lines that were written to a backup meanwhile would look like a gap.
                if reread and all(file.is_live for file in changed):
                    break
                # The live file comes last: its lines are younger than those that the others may lack.
                for file in self._left_of(changed, log.settings):
                    self._read(snapshot, file)
            finally:
                snapshot.close()
        if log.files and not files:
            return  # another log has them all
        self._scans = {file.path: self._scans[file.path] for file in files if file.path in self._scans}
        other_settings = self._place(log)
        self._judge(log)
        if other_settings:
            self._report.notes.append(
                f"{log.live}: lines of {plural(other_settings, 'file')} are outside the intervals of the present"
                " settings. They are older than these settings, and in order with the files around them, so the log had"
                " other intervals then, and misplaced lines cannot be found there"
            )

    def _is_read(self, file: LogFile) -> bool:
        """Whether the file was read, and has the size that it had then."""
        read = self._scans.get(file.path)
        return read is not None and not file.is_live and _size(file.path) == read[2]

    def _left_of(self, files: list[LogFile], settings: Settings) -> list[LogFile]:
        """The files that are left to read, after many large backups were read in several processes."""
        backups = [file for file in files if not file.is_live]
        jobs = min(self._jobs, len(backups))
        if jobs < 2 or sum(_size(file.path) for file in backups) < _LARGE:
            return files
        try:
            # The default of Python 3.14 has each process import the caller's main module again.
            with ProcessPoolExecutor(jobs, mp_context=get_context("fork")) as pool:
                tasks = {pool.submit(_read_backup, file, settings): file for file in backups}
                for task in as_completed(tasks):
                    file, (read, size) = tasks[task], task.result()
                    if read is not None:
                        self._scans[file.path] = file, read, size
                    if self._progress:
                        self._progress(size)
        except BrokenProcessPool as error:
            raise LogFileError(f"{self._asked.live!r} was not read: a process that read backups was killed") from error
        return [file for file in files if file.is_live]

    def _read(self, snapshot: Snapshot, file: LogFile) -> None:
        """Read one file."""
        size = _size(file.path)
        stream = snapshot.open(file)
        if stream is None:
            return
        with stream:
            limit = snapshot.sizes.get(file.path, inf)
            read = scan(_anywhere(file), clock_of(file, snapshot.log.settings), self._progress, stream, limit)
        if self._progress and file.extension:
            self._progress(size)
        self._scans[file.path] = file, read, size

    def _place(self, log: Log) -> int:
        """Find misplaced lines in the files whose times do not fit, and return how many files may be of other settings.

        The lock file has only the present settings. If they were changed, older files have unknown intervals: longer
        ones, or those of another zone.
        """
        timed = [(file, read) for file, read, _ in self._scans.values() if read.times.latest >= read.times.earliest]
        others = 0
        for place, (file, read) in enumerate(timed):
            if file.is_live or file.interval is None or read.times.fit(file.interval):
                continue
            doubt = _Doubt.NONE
            if read.times.latest < log.made:
                doubt = _doubt_about(file.interval, timed, place, log.settings)
            if doubt is _Doubt.ABOUT_ALL:
                others += 1
                continue
            stream = open_now(file)
            if stream is None:
                continue
            with stream:
                again = scan(file, clock_of(file, log.settings), None, stream)
            if doubt is _Doubt.ABOUT_MANY and again.found.get("misplaced", 0) > 1:
                others += 1
            else:
                self._scans[file.path] = file, again, self._scans[file.path][2]
        return others

    def _judge(self, log: Log) -> None:
        """Put together the results of the files."""
        report = self._report
        runs: defaultdict[str, list[tuple[Run, str]]] = defaultdict(list)
        for file, read, size in self._scans.values():
            interval = file.interval
            report.files.append(
                FileReport(
                    path=file.path,
                    log=log.live,
                    live=file.is_live,
                    extension=file.extension,
                    start=interval.start if interval else None,
                    end=interval.end if interval else None,
                    size=size,
                    bytes=read.bytes,
                    lines=read.lines,
                    stamped=read.stamped,
                    unstamped=read.unstamped,
                    blanked=read.blanked,
                    notices=read.notices,
                    first_time=read.times.first,
                    last_time=read.times.last,
                    found=dict(read.found),
                    streams={
                        stream: sum(run.last - run.first + 1 for run in found) for stream, found in read.runs.items()
                    },
                )
            )
            for oddity in read.oddities:
                finding = Finding(oddity.kind, file.path, oddity.line, 1, None, oddity.time, oddity.time, oddity.text)
                report.findings.append(finding)
            for kind, count in read.found.items():
                self._count(kind, count)
            if read.dropped:
                self._count("dropped", read.dropped)
                text = (
                    f"reported by {plural(read.notices, 'line')} of rollsafe: they could not be written, and are lost"
                )
                self._show(Finding("dropped", file.path, None, read.dropped, None, None, None, text))
            for stream, found in read.runs.items():
                runs[stream] += [(run, file.path) for run in found]
        oldest = min((file.first_time or inf for file in report.files if file.log == log.live), default=inf)
        for stream, found_runs in sorted(runs.items()):
            report.streams.append(self._judge_stream(log, stream, found_runs, oldest))
        self._judge_leftovers(log)
        self._say_what_was_left_out(log)

    def _judge_stream(self, log: Log, stream: str, runs: list[tuple[Run, str]], oldest: float) -> StreamReport:
        """Find the numbers that are in no file, and those that are there twice."""
        runs.sort(key=lambda each: (each[0].first, each[0].last))
        report = StreamReport(stream, log.live, born=float(birth_of(stream)), first=runs[0][0].first)
        report.first_time = _least(run.since for run, _ in runs)
        reached, before = 0, None
        for run, path in runs:
            missing = run.first - reached - 1
            if missing > 0:
                # A stream that began after the oldest line has all its lines in files that are there.
                if not reached and report.born - _BIRTH_SLACK < oldest:
                    report.began_before = True
                else:
                    report.missing += missing
                    self._find_gap(stream, reached + 1, run, before, path)
            doubles = min(reached, run.last) - run.first + 1
            if doubles > 0:
                report.doubles += doubles
                self._find_doubles(stream, run, doubles, path)
            report.lines += run.last - run.first + 1
            if run.last > reached:
                reached, before = run.last, run.until
            if run.until is not None:
                report.last_time = max(report.last_time or run.until, run.until)
        report.last = reached
        return report

    def _find_gap(self, stream: str, first: int, after: Run, before: float | None, path: str) -> None:
        """Report numbers that are in no file."""
        count = after.first - first
        which = f"number {first}" if count == 1 else f"numbers {first} to {after.first - 1}"
        self._count("gap", count)
        self._show(Finding("gap", path, None, count, stream, before, after.since, f"{which} of {stream}: in no file"))

    def _find_doubles(self, stream: str, run: Run, count: int, path: str) -> None:
        """Report numbers that were found before."""
        text = f"{count} of the numbers {run.first} to {run.last} of {stream}: found twice"
        self._count("doubled", count)
        self._show(Finding("doubled", path, None, count, stream, run.since, run.until, text))

    def _judge_leftovers(self, log: Log) -> None:
        """Report unfinished files that no process works on."""
        for path in log.leftovers:
            with suppress(FileNotFoundError):
                if time.time() - os.stat(path).st_mtime > _ABANDONED:
                    what = "awaits the rotator" if path.endswith(ROLLED_EXTENSION) else "an archive was not finished"
                    text = f"{what}; the next process that logs there completes or removes it"
                    self._count("leftover", 1)
                    self._show(Finding("leftover", path, None, 1, None, None, None, text))

    def _say_what_was_left_out(self, log: Log) -> None:
        """Add notes about what the report cannot show."""
        report = self._report
        files = [(file, read) for file, read, _ in self._scans.values() if read.lines]
        if not files:
            report.notes.append(f"{log.live}: there are no lines")
        elif not any(read.stamped for _, read in files):
            report.notes.append(
                f"{log.live}: no line has a stamp, so lost and doubled lines cannot be found;"
                " stamp them with the format field stamp, or rotating_logs(stamps=True)"
            )
        elif unstamped := sum(read.unstamped for _, read in files):
            report.notes.append(f"{log.live}: {unstamped} lines are older than the first stamp of their file")
        if any(not read.times.found for _, read in files):
            report.notes.append(
                f"{log.live}: lines of some files have no time, so misplaced lines cannot be found there"
            )
        if any(file.interval is None for file, _ in files):
            report.notes.append(
                f"{log.live}: the intervals of some files are not known, because their names are from other settings or"
                " from a zone without a name; misplaced lines cannot be found there"
            )
        if log.untold:
            report.notes.append(f"{log.live}: {log.untold}; its intervals were inferred from the names")
        elif not log.told:
            report.notes.append(
                f"{log.live}: it has no lock file with its settings; its intervals were inferred from the names"
            )
        if blanked := sum(read.blanked for _, read in files):
            report.notes.append(
                f"{log.live}: {plural(blanked, 'blank line')}, in the place of lines that were cut short (a full"
                " disk or file), or of texts of several lines"
            )

    def _count(self, kind: str, count: int) -> None:
        """Add to the totals."""
        self._report.found[kind] = self._report.found.get(kind, 0) + count

    def _show(self, finding: Finding) -> None:
        """Keep a finding if it is one of the first of its kind and file."""
        self._shown[finding.kind, finding.path] += 1
        if self._shown[finding.kind, finding.path] <= SHOWN:
            self._report.findings.append(finding)


class _Doubt(Enum):
    """The doubt whether lines outside the interval of a file are misplaced: settings of before may explain them."""

    NONE = auto()
    ABOUT_ALL = auto()
    ABOUT_MANY = auto()
    """If there are several lines; a single one may as well be in the wrong file."""


def _doubt_about(interval: Interval, timed: Sequence[tuple[LogFile, Scan]], place: int, settings: Settings) -> _Doubt:
    """The doubt about the lines of a backup that are outside its interval.

    None if another file has lines of the same time or of an earlier one, or if there is none to compare them with.

    Args:
        interval: The interval of the backup.
        timed: All files whose lines have times, in their order.
        place: The index of the backup among them.
        settings: The present settings.
    """
    file, times = timed[place][0], timed[place][1].times
    after = _next_of(interval, (timed[other] for other in range(place + 1, len(timed))))
    if after is None:
        return _Doubt.NONE
    if times.begin_in(interval):
        if times.latest - interval.end < min(_LATE, _LATE_INTERVALS * (interval.end - interval.start)):
            return _Doubt.NONE
        if times.latest < after.earliest:
            return _Doubt.ABOUT_ALL
        # The server was restarted with new settings, and logged again within the same second.
        if times.latest == after.earliest and _is_before(times.ends, after.begins):
            return _Doubt.ABOUT_ALL if times.earliest >= interval.end else _Doubt.ABOUT_MANY
        return _Doubt.NONE
    before = _next_of(interval, (timed[other] for other in range(place - 1, -1, -1)))
    in_order = (before is None or before.latest < times.earliest) and times.latest < after.earliest
    fits = any(times.fit(other) for other in _in_other_zones(file, settings))
    return _Doubt.ABOUT_ALL if in_order and fits else _Doubt.NONE


def _is_before(one: float | None, other: float | None) -> bool:
    """Whether the time of one line is before another's, as far as they show; one without fraction is a whole second."""
    return one is not None and other is not None and (one < other or (one == other and one % 1 == 0))


def _in_other_zones(file: LogFile, settings: Settings) -> Iterator[Interval]:
    """The intervals of a backup if its name is in UTC or in local time."""
    for zone in ("UTC", None):
        schedule = settings.replace(tz=zone).schedule()
        if file.backup is not None:
            yield from map(schedule.interval, schedule.instants(file.backup.suffix))


def _next_of(interval: Interval, others: Iterable[tuple[LogFile, Scan]]) -> Times | None:
    """The times of the first of some files that is of another interval."""
    return next((read.times for file, read in others if file.interval != interval), None)


def _read_backup(file: LogFile, settings: Settings) -> tuple[Scan | None, int]:
    """The scan of a backup, None if it is gone, and its size before; runs in a process of its own."""
    size = _size(file.path)
    stream = open_now(file)
    if stream is None:
        return None, size
    with stream:
        return scan(_anywhere(file), clock_of(file, settings), None, stream), size


def _anywhere(file: LogFile) -> LogFile:
    """A backup without its interval, because only all files together decide whether a line is misplaced."""
    return file if file.is_live else dataclasses.replace(file, interval=None)


def _note_copies(report: Report) -> None:
    """Add a note for each two logs with lines of one stream, which are copies of one log."""
    logs: dict[str, str] = {}
    pairs = {
        (first, stream.log): stream.stream
        for stream in report.streams
        if (first := logs.setdefault(stream.stream, stream.log)) != stream.log
    }
    for (first, second), stream in pairs.items():
        report.notes.append(
            f"{second}: it has lines of stream {stream}, as {first} has, so these are copies of one log; each was"
            " verified for itself"
        )


def _size(path: str) -> int:
    """Bytes of a file; -1 if there is none."""
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return -1


def _least(moments: Iterable[float | None]) -> float | None:
    """The earliest of the moments that are known."""
    return min((moment for moment in moments if moment is not None), default=None)
