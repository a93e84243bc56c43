"""The output of the command for people: pictures on a terminal, plain text for pipes. This module looks nothing up.

`_text` makes all text, and escapes everything that a terminal would obey.
"""

from __future__ import annotations

import datetime
import itertools
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rollsafe._backups.retention import Limits, Removal
from rollsafe._settings import Settings
from rollsafe.tools.catalog import Log
from rollsafe.tools.findings import ERROR, LEVELS, OK, WARNING
from rollsafe.tools.findings import Finding as CheckFinding
from rollsafe.tools.status import FileStatus, Lock, Process, Status
from rollsafe.tools.times import zone_named
from rollsafe.tools.verify import Finding, Report
from rollsafe.tools.words import clock_text, duration_text, plural, printable, size_text, uncertain_words

# The number of intervals that a terminal shows; pipes get all.
_ROWS = 24
_BAR = 32
_EIGHTHS = " ▏▎▍▌▋▊▉█"

_MARKS = {OK: ("green", "ok"), WARNING: ("yellow", "warning"), ERROR: ("bold red", "error")}
_UNITS = {"S": "second", "M": "minute", "H": "hour", "D": "day", "W": "week"}
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_BACKLOG_WORDS = {
    "awaiting_rotator": "{} for the rotator of the application",
    "unfinished": "{} unfinished",
    "uncompressed": "{} to compress",
    "expired": "{} to remove",
}


@dataclass(frozen=True)
class _Row:
    """The files of one interval, or a gap of intervals without files."""

    when: str
    size: int
    files: tuple[FileStatus, ...]
    archived: bool


class Screen(Console):
    """A console that stops writing when its reader has ended (`| head`); the command continues to its exit code."""

    def __init__(self) -> None:
        super().__init__(highlight=False)

    def on_broken_pipe(self) -> None:
        """Stop writing, instead of ending the process with a code that means something else."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _text(*parts: str | tuple[str, str] | Text) -> Text:
    """Text of parts, each with a style or without. All text for the console is made here."""
    made = Text()
    for part in parts:
        if isinstance(part, Text):
            made.append_text(part)
        else:
            text, style = (part, "") if isinstance(part, str) else part
            made.append(printable(text), style)
    return made


def _print_lines(console: Console, lines: Iterable[Text]) -> None:
    """Print lines, which may be thousands, at once: a call for each would take most of the time of the command."""
    if text := Text("\n").join(lines):
        console.print(text, soft_wrap=True)


def show_status(console: Console, statuses: Iterable[Status], now: float) -> None:
    """Print the status of each log, with a picture if `console` is a terminal."""
    for number, status in enumerate(statuses):
        if number:
            console.print()
        console.print(_text((status.live, "bold")), soft_wrap=True)
        zone = zone_named(status.settings.tz)
        for name, value in _facts(status, now, zone):
            console.print(_text((f"  {name:<10}", "dim"), value), soft_wrap=True)
        if console.is_terminal:
            console.print(_time_line(status, zone, console.width))
        else:
            _print_lines(console, map(_text, _listing(status, zone)))


def show_report(console: Console, report: Report) -> None:
    """Print the report of `verify`: the logs, the findings, and what could not be verified."""
    logs = list(dict.fromkeys(file.log for file in report.files))
    for log in logs:
        files = [file for file in report.files if file.log == log]
        streams = [stream for stream in report.streams if stream.log == log]
        lines = plural(sum(file.lines for file in files), "line")
        size = size_text(sum(file.size for file in files))
        facts = f"{lines} of {plural(len(streams), 'stream')} in {plural(len(files), 'file')}, {size}"
        console.print(_text((log, "bold"), f": {facts}"), soft_wrap=True)
    for finding in report.findings:
        place = finding.path if finding.line is None else f"{finding.path}:{finding.line}"
        console.print(_text((f"  {finding.kind:<9} ", "red"), f"{place}: {_finding_text(finding)}"), soft_wrap=True)
    shown = Counter(finding.kind for finding in report.findings)
    for kind, count in report.found.items():
        left = count - sum(each.count for each in report.findings if each.kind == kind)
        if left > 0:
            more = f"{left:,} more {kind} besides the {shown[kind]} above"
            console.print(_text((f"  {kind:<9} ", "red"), more), soft_wrap=True)
    for note in report.notes:
        console.print(_text(("  note      ", "dim"), note), soft_wrap=True)
    if report.clean:
        console.print(_text((_proof_text(report), "green")), soft_wrap=True)
    else:
        console.print(_text((", ".join(f"{count:,} {kind}" for kind, count in report.found.items()), "red")))


def _proof_text(report: Report) -> str:
    """The verdict of a report without findings."""
    if report.stamped:
        return f"clean: of {plural(report.stamped, 'stamped line')} none is missing, doubled, torn or in a wrong file"
    return "clean, as far as it can be told"


def _finding_text(finding: Finding) -> str:
    """A finding in words, with the time if that is known."""
    if finding.kind == "gap" and finding.since is not None and finding.until is not None:
        return f"{finding.text}, between {clock_text(finding.since)} and {clock_text(finding.until)}"
    return finding.text


def show_findings(console: Console, findings: Sequence[CheckFinding]) -> None:
    """Print the findings of a check, the worst last."""
    for finding in sorted(findings, key=lambda each: LEVELS.index(each.level)):
        style, mark = _MARKS[finding.level]
        head = _text((f"{mark:<8}", style), (f"{finding.about}: ", "bold"), f"{finding.where}: {finding.what}")
        console.print(head, soft_wrap=True)
        for name, text in (("why", finding.why), ("remedy", finding.remedy)):
            if text:
                console.print(_text((f"        {name:<7} ", "dim"), text), soft_wrap=True)
    counts = [sum(each.level == level for each in findings) for level in LEVELS]
    console.print(
        _text(f"{plural(counts[0], 'thing')} in order, {plural(counts[1], 'warning')}, {plural(counts[2], 'error')}")
    )


def show_removals(
    console: Console,
    log: Log,
    limits: Limits,
    gone: Sequence[Removal],
    kept: Sequence[str] = (),
    *,
    dry_run: bool = False,
) -> None:
    """Print the backups that retention removes, or would remove, with the reasons, and the sentences about others."""
    console.print(_text((log.live, "bold")), soft_wrap=True)
    _print_lines(console, map(_removal_text, gone))
    if gone:
        total = f"{plural(len(gone), 'backup')}, {size_text(sum(removal.backup.size for removal in gone))}"
        console.print(_text(f"  {total} {'would be removed' if dry_run else 'removed'}"))
    else:
        console.print(
            _text(f"  {'nothing exceeds its limits' if limits.any else 'all backups are kept: there is no limit'}")
        )
    for sentence in kept:
        console.print(_text(f"  {sentence}"), soft_wrap=True)


def _removal_text(removal: Removal) -> Text:
    """The names of the files of a backup, and why it goes."""
    names = ", ".join(map(os.path.basename, removal.backup.paths))
    return _text(f"  {names}  ", (f"{size_text(removal.backup.size)}: {removal.reason}", "dim"))


def _facts(status: Status, now: float, zone: datetime.tzinfo | None) -> Iterator[tuple[str, str | Text]]:
    """The facts about a log, as (name, value)."""
    settings = status.settings
    if status.from_note:
        unknown = " (not known here: times are local)" if settings.tz and zone is None else ""
        yield "each", f"{_each(settings)}, {settings.tz or 'local time'}{unknown}"
        yield "keeps", _retention(status)
    else:
        reason = "there is no lock file"
        if status.rollover_lock.held is None:
            reason = "only users who may write the log may read its lock file"
        yield "each", f"{_each(settings)}, by the names of its backups ({reason})"
    yield "next", _next(status, now, zone)
    if status.unread:
        yield "unread", _text((status.unread, "yellow"))
    yield "size", f"{size_text(status.size)} in {plural(len(status.files), 'file')}"
    yield "lock", _holder(status.rollover_lock, status.processes, "free")
    yield "backlog", _backlog_text(status)
    if status.uncertain:
        yield "uncertain", uncertain_words(status.uncertain)
    for number, process in enumerate(status.processes):
        role = "writes" if process.writes else "reads"
        name, *others = sorted(process.files, key=lambda file: file != os.path.basename(status.live))
        more = f" and {plural(len(others), 'other')}" if others else ""
        yield ("open in" if not number else ""), f"{process.pid} {process.command}: {role} {name}{more}"
    if not status.processes:
        yield "open in", "no process"
    if status.unseen:
        yield (
            "",
            f"{plural(status.unseen, 'process', 'es')} of other users could not be inspected; run this as root",
        )


def _each(settings: Settings) -> str:
    """The length of an interval in words."""
    unit = "day" if settings.when == "MIDNIGHT" else _UNITS[settings.when[0]]
    words = unit if settings.interval == 1 else plural(settings.interval, unit)
    if settings.when.startswith("W"):
        weekday = _WEEKDAYS[int(settings.when[1])]
        # Without a time, the rollover is at the midnight that ends the day.
        words += f" from {weekday}" if settings.atTime else f" to the end of {weekday}"
    return f"{words} at {settings.atTime}" if settings.atTime else words


def _retention(status: Status) -> str:
    """The limits for the backups that are kept."""
    settings = status.settings
    limits = [plural(settings.backupCount, "backup")] if settings.backupCount else []
    limits += [f"{duration_text(settings.max_age)}"] if settings.max_age else []
    limits += [size_text(settings.max_total_bytes)] if settings.max_total_bytes else []
    limits += [f"{size_text(settings.min_free_bytes)} of the disk free"] if settings.min_free_bytes else []
    return ", ".join(limits) or "all backups"


def _next(status: Status, now: float, zone: datetime.tzinfo | None) -> str | Text:
    """The time of the next rollover."""
    if status.next_rollover is None:
        return "not known"
    when = clock_text(status.next_rollover, zone)
    left = status.next_rollover - now
    if left <= 0:
        return _text((f"with the next line, due since {when}", "yellow"))
    return f"{when}, in {duration_text(left)}"


def _holder(lock: Lock, processes: Sequence[Process], free: str) -> str | Text:
    """The process that holds a lock."""
    if lock.held is None:
        return "shown only to users who may write the log"
    if not lock.held:
        return free
    if lock.pid is None:
        return _text(("held by a process of another container or host", "yellow"))
    command = next((process.command for process in processes if process.pid == lock.pid), "")
    return _text((f"held by {lock.pid} {command}".rstrip(), "yellow"))


def _backlog_text(status: Status) -> str:
    """The work that is left on the backups, and the process that does it."""
    waiting = [words.format(status.backlog[kind]) for kind, words in _BACKLOG_WORDS.items() if status.backlog.get(kind)]
    if not waiting and not status.maintenance_lock.held:
        return "none"
    if status.maintenance_lock.held is None:
        return ", ".join(waiting)
    maintained = _holder(status.maintenance_lock, status.processes, "no process maintains it now").__str__()
    return f"{', '.join(waiting) or 'none left'}; {maintained.replace('held', 'maintained')}"


def _listing(status: Status, zone: datetime.tzinfo | None) -> Iterator[str]:
    """One line for each file: interval, size, name."""
    for file in status.files:
        start = clock_text(file.start, zone) if file.start is not None else "?"
        yield f"  {start:<19}  {file.size:>14,}  {file.name}"


def _time_line(status: Status, zone: datetime.tzinfo | None, width: int) -> Table:
    """The intervals, oldest first, each with a bar for its size."""
    rows = list(_rows(status.files, zone))
    older, rows = [row for row in rows[:-_ROWS] if row.files], rows[-_ROWS:]
    largest = max((row.size for row in rows), default=0)
    bar = max(8, min(_BAR, width // 3))
    table = Table(box=None, padding=(0, 1, 0, 2), show_header=False, pad_edge=False)
    # Seconds are shown if intervals begin within a minute.
    shown = 16 if all(row.when.endswith(":00") for row in rows if row.files) else 19
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, width=bar)
    table.add_column(no_wrap=True, justify="right")
    table.add_column(no_wrap=True, overflow="ellipsis")
    if older:
        size = sum(row.size for row in older)
        files = sum(len(row.files) for row in older)
        table.add_row(f"  {len(older)} older", "", size_text(size), plural(files, "file"), style="dim")
    for row in rows:
        if not row.files:
            table.add_row(f"  {row.when}", "", "", "", style="dim")
            continue
        live = any(file.live for file in row.files)
        style = "green" if live else "cyan" if row.archived else "blue"
        what = "live" if live else row.files[0].extension.lstrip(".") or "plain"
        if len(row.files) > 1:
            what += f", {len(row.files)} files"
        table.add_row(
            f"  {row.when[:shown]}", _text((bar_text(row.size, largest, bar), style)), size_text(row.size), _text(what)
        )
    return table


def _rows(files: Iterable[FileStatus], zone: datetime.tzinfo | None) -> Iterator[_Row]:
    """The intervals that have files, and a row for each gap between them."""
    end: float | None = None
    for start, group in itertools.groupby(files, key=lambda file: file.start):
        members = tuple(group)
        if start is None:
            yield _Row("no time in name", sum(file.size for file in members), members, False)
            continue
        if end is not None and start > end:
            yield _Row(f"nothing for {duration_text(start - end)}", 0, (), False)
        end = members[0].end
        archived = all(file.extension for file in members)
        yield _Row(clock_text(start, zone), sum(file.size for file in members), members, archived)


def bar_text(value: float, largest: float, width: int) -> str:
    """A bar of no more than `width` cells, to an eighth of a cell; a value above 0 is visible."""
    eighths = ceil(8 * width * value / largest) if largest else 0
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (_EIGHTHS[rest] if rest else "")
