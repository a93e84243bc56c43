"""The commands that print lines, `rollsafe cat` and `rollsafe tail`."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from math import inf
from typing import Any, TypeVar

import click

from rollsafe.errors import LogFileError
from rollsafe.tools.catalog import Log
from rollsafe.tools.follow import Follower
from rollsafe.tools.lines import Entry, Snapshot, merge, snapshots_of
from rollsafe.tools.output import complain, is_output_closed, write
from rollsafe.tools.several import Claims, lives_of_hosts, logs_of_hosts
from rollsafe.tools.several_followed import FollowedTogether
from rollsafe.tools.source import Owners
from rollsafe.tools.times import moment
from rollsafe.tools.words import clock_text, duration_text, printable, printable_line

# Seconds between looks for new lines.
_POLL = 0.1
# Seconds between looks for new logs.
_NEWCOMERS = 1.0
# Bytes of lines that are written together.
_BATCH = 1 << 16

Command = TypeVar("Command", bound=Callable[..., Any])


def _moment(context: click.Context, option: click.Parameter, value: str | None) -> float | None:
    """The time in an option."""
    if value is None:
        return None
    now = time.time()
    instant = moment(value, now)
    if option.name == "since" and instant > now:
        shown = f"{clock_text(instant)}, in {duration_text(instant - now)}"
        complain(f"--since {value!r} is in the future ({shown}), so no line matches; give a date for another day")
    return instant


def reads_lines(command: Command) -> Command:
    """Give a command the options that choose lines."""
    for option in (
        click.option(
            "-r",
            "--raw-control-chars",
            "raw",
            is_flag=True,
            help="Write control characters to a terminal as they are, not as escapes. A pipe always gets them.",
        ),
        click.option("-H", "--with-name", is_flag=True, help="Put the path of its log before each line."),
        click.option("--until", metavar="TIME", callback=_moment, help="Only lines before this time."),
        click.option(
            "--since",
            metavar="TIME",
            callback=_moment,
            help="Only lines of this time or later: '2026-11-25 16:14', '16:14', '2026-11-25T16:14Z', yesterday,"
            " '2 hours ago'.",
        ),
        click.argument("paths", nargs=-1, required=True, type=click.Path()),
    ):
        command = option(command)
    return command


@click.command(short_help="Print all lines in the order of time.")
@reads_lines
def cat(paths: tuple[str, ...], since: float | None, until: float | None, with_name: bool, raw: bool) -> int:
    """Print the lines of logs in the order of time: backups, archives, live file.

    PATHS are log directories, live files, or single backups; a directory without a log stands for the directories in
    it, such as one for each host. The command merges several logs by the times of their lines, keeps the order within
    each, and reads no file twice. A line without a time stays with the line before it. The exit code is 1 if something
    could not be read.
    """
    _check_range(since, until)
    complaints = _Complaints()
    logs = logs_of_hosts(paths, complaints)
    snapshots = snapshots_of(logs, Claims(logs))
    complaints.of(snapshots)
    if len(snapshots) == 1 and since is None and until is None:
        streams = [snapshots[0].lines(complaints)]
    else:
        streams = [each.entries(complaints, _or(since, -inf), _or(until, inf)) for each in snapshots]
    _print(merge(_named(streams, snapshots, with_name)), raw)
    return 1 if complaints.any else 0


@click.command(short_help="Print the last lines, and follow the logs.")
@click.option(
    "-n",
    "--lines",
    "count",
    type=click.IntRange(0, sys.maxsize),
    help="The number of lines; by default 10, or all with --since.",
)
@click.option("-f", "--follow", is_flag=True, help="Print new lines as they come, each once, across rollovers.")
@reads_lines
def tail(
    paths: tuple[str, ...],
    since: float | None,
    until: float | None,
    with_name: bool,
    raw: bool,
    count: int | None,
    follow: bool,
) -> int:
    """Print the last lines of logs, across backups and archives, and then new ones.

    PATHS, the merging of several logs, and the exit code are as for cat.
    """
    if follow and until is not None:
        raise click.UsageError("--follow and --until exclude each other; leave one out")
    _check_range(since, until)
    complaints = _Complaints()
    logs = logs_of_hosts(paths, complaints)
    claims, owners = Claims(logs), Owners()
    followers = [Follower(log, complaints, claims, owners) for log in logs] if follow else []
    snapshots = [each.snapshot for each in followers] or snapshots_of(logs, claims)
    complaints.of(snapshots)
    streams: list[Iterable[Entry]]
    if since is None and until is None:
        count = 10 if count is None else count
        streams = [each.last_entries(count, complaints) for each in snapshots]
    else:
        streams = [each.entries(complaints, _or(since, -inf), _or(until, inf)) for each in snapshots]
    lines = (line for _, text in merge(_named(streams, snapshots, with_name)) for line in _split(text))
    _print(((0.0, line) for line in (lines if count is None else deque(lines, maxlen=count))), raw)
    if follow:
        newcomers = _Newcomers(paths, logs, lambda log: Follower(log, complaints, claims, owners))

        def lines_of(snapshot: Snapshot) -> Iterable[Entry]:
            # A backup with a name of its own kind, whose lines were printed before it was renamed.
            snapshot.files = tuple(file for file in snapshot.files if not owners.have(file.path))
            return snapshot.entries(complaints, _or(since, -inf))

        _follow(followers, newcomers, lines_of, with_name, raw)
    return 1 if complaints.any else 0


def _follow(
    followers: list[Follower],
    newcomers: _Newcomers,
    lines_of: Callable[[Snapshot], Iterable[Entry]],
    with_name: bool,
    raw: bool,
) -> None:
    """Print new lines until the reader of the output ends, or the user presses Control-C."""
    together = FollowedTogether(followers)
    logs = [follower.snapshot.log for follower in followers]

    def show(entries: Iterable[tuple[int, Entry]]) -> None:
        if with_name:
            _print((named for number, entry in entries for named in _with_name([entry], logs[number])), raw)
        else:
            _print((entry for _, entry in entries), raw)

    try:
        while True:
            for follower in newcomers.look():
                logs.append(follower.snapshot.log)
                number = together.add(follower)
                show((number, entry) for entry in lines_of(follower.snapshot))
            show(together.poll())
            if is_output_closed(_POLL):
                return
    except KeyboardInterrupt:
        show(together.rest())


class _Newcomers:
    """Looks for logs that were not there when following began, such as that of a new host."""

    def __init__(self, paths: Sequence[str], logs: Iterable[Log], make: Callable[[Log], Follower]) -> None:
        self._paths = paths
        self._known = {log.live for log in logs}
        self._make = make
        self._next = time.monotonic() + _NEWCOMERS

    def look(self) -> Iterator[Follower]:
        """Followers of the logs that are new."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _NEWCOMERS
        # A directory may be made or removed meanwhile; the next look sees what has become of it.
        with suppress(OSError, LogFileError):
            lives = lives_of_hosts(self._paths)
            if lives <= self._known:
                return
            new = [log for log in logs_of_hosts(self._paths, lambda sentence: None) if log.live not in self._known]
            self._known |= lives
            yield from map(self._make, new)


def _named(streams: Iterable[Iterable[Entry]], snapshots: list[Snapshot], with_name: bool) -> list[Iterable[Entry]]:
    """The streams; with `with_name`, each line begins with the path of its log."""
    if not with_name:
        return list(streams)
    return [_with_name(stream, snapshot.log) for stream, snapshot in zip(streams, snapshots, strict=True)]


def _with_name(stream: Iterable[Entry], log: Log) -> Iterable[Entry]:
    """One stream with the path of its log before each line."""
    name = f"{printable(os.path.relpath(log.live))}: ".encode()
    for when, text in stream:
        yield when, b"".join(name + line for line in _split(text))


def _split(text: bytes) -> list[bytes]:
    """The lines of an entry."""
    return [line + b"\n" for line in text[:-1].split(b"\n")]


def _print(entries: Iterable[Entry], raw: bool) -> None:
    """Write lines to standard output; to a terminal, which would obey them, by `printable_line`."""
    encoding = sys.stdout.encoding if sys.stdout.isatty() and not raw else None
    batch: list[bytes] = []
    size = 0
    # The lines are read outside of `standard_output`, which takes an error without a file name for one of writing.
    try:
        for _, text in entries:
            batch.append(
                text if encoding is None else b"".join(printable_line(line, encoding) for line in _split(text))
            )
            size += len(text)
            if size >= _BATCH:
                taken, batch, size = batch, [], 0
                write(taken)
    finally:
        write(batch)


class _Complaints:
    """Reports what could not be read; the rest is printed all the same.

    Attributes:
        any: Whether there was anything to report.
    """

    def __init__(self) -> None:
        self.any = False

    def __call__(self, sentence: str) -> None:
        self.any = True
        complain(sentence)

    def of(self, snapshots: Iterable[Snapshot]) -> None:
        """Report the directories of backups that could not be read, and the lock files that could not."""
        for snapshot in snapshots:
            if snapshot.log.unread:
                self(snapshot.log.unread)
            if snapshot.log.untold:
                complain(snapshot.log.untold)


def _check_range(since: float | None, until: float | None) -> None:
    """Refuse a range that no line can be in."""
    if since is not None and until is not None and since >= until:
        raise click.UsageError(
            f"--since {clock_text(since)} is not before --until {clock_text(until)}, so no line is between them"
        )


def _or(value: float | None, default: float) -> float:
    """`value`, or the default for None."""
    return default if value is None else value
