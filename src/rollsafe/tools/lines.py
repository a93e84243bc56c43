"""The lines of logs in the order of time: backups, archives and live file; several logs, even of several hosts, as one.

Within one log the lines keep their order in the files: lines of processes that write at the same moment are out of
order by some milliseconds, a late line by more, and a clock that is set back makes more of them. A line that is earlier
than the one before it in its log follows that one at once. Of equal times, the log that was given first comes first. A
line without a time (in a traceback that is not escaped) stays with the line before it.
"""

from __future__ import annotations

import datetime
import heapq
import io
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from math import inf
from typing import BinaryIO

from rollsafe._backups.names import EXTENSIONS, ROLLED_EXTENSION
from rollsafe._files.identity import Identity, identity_of
from rollsafe._settings import Settings
from rollsafe.errors import LogFileError
from rollsafe.tools.catalog import Log, LogFile, reread
from rollsafe.tools.reading import DAMAGED, length_of, open_log
from rollsafe.tools.several import Claims
from rollsafe.tools.times import LineClock, zone_named

Entry = tuple[float, bytes]
"""The time of a line (seconds since the epoch), and the line with those after it that have no time."""

Complain = Callable[[str], None]
"""Called with a sentence about each file that could not be read."""

_Part = tuple[Iterable[bytes], LogFile, LineClock]
"""Lines of one file of a log, and the clock that reads their times."""

_BLOCK = 1 << 16
# Lines at the beginning of a file among which one has a time, if its lines have times at all.
_HEADER = 1000
# Seconds that lines may be later than the interval of their file: while a process is stopped inside a rollover, the
# others write to the old file.
_LATEST = 3600.0


class Snapshot:
    """A log with its files at one moment.

    The live file is the same before and after the directory is read, so there was no rollover meanwhile, and no file is
    missing. The live file is kept open; a backup is opened when its turn comes, under the name that it has then.

    Args:
        log: The log.
        claims: Which of several names of a file counts, if other logs are read with this one.

    Attributes:
        log: The log as it is now.
        files: Its files, each once, as far as no other log has claimed them.
        live: Its live file, None if there is none.
        sizes: Path of a file -> how many bytes of it count; without an entry, all of them. Of the live file, those that
            it has now count, because reading would never end if processes write faster than we read.
    """

    def __init__(self, log: Log, claims: Claims | None = None) -> None:
        self.sizes: dict[str, int] = {}
        self.live: BinaryIO | None = None
        self.log: Log = self._take(log)
        claims = claims or Claims()
        self.files: tuple[LogFile, ...] = tuple(file for file in _complete(self.log) if claims.take(file.path))

    def _take(self, log: Log) -> Log:
        """Read the directory and open the live file; returns the log as it is now."""
        while True:
            before = _identity(log.live)
            now = reread(log)
            if any(file.is_live for file in now.files):
                with suppress(FileNotFoundError):
                    self.live = open_log(log.live)
                    if isinstance(self.live, io.BufferedReader):
                        self.sizes[log.live] = os.fstat(self.live.fileno()).st_size
            elif now.files and now.files[0].path == log.live:
                return now  # a single backup
            if before == (_identity(self.live.fileno()) if self.live else None):
                return now
            self.close()

    def close(self) -> None:
        """Close the live file."""
        if self.live:
            self.live.close()
            self.live = None

    def open(self, file: LogFile) -> BinaryIO | None:
        """Open one of its files, None if it is gone."""
        if not file.is_live:
            return open_now(file)
        if self.live is None:
            return None
        if isinstance(self.live, io.BufferedReader):
            stream = os.fdopen(os.dup(self.live.fileno()), "rb")
            stream.seek(0)
            return stream
        return open_log(file.path)

    def entries(self, complain: Complain, since: float = -inf, until: float = inf) -> Iterator[Entry]:
        """The lines of the time [since, until), oldest first."""
        files = (
            file
            for file in self.files
            if not (file.interval and not (file.interval.start < until and since < file.interval.end + _LATEST))
        )
        parts = ((self._lines(file, complain), file, clock_of(file, self.log.settings)) for file in files)
        return (entry for entry in _dated(parts) if since <= entry[0] < until)

    def lines(self, complain: Complain) -> Iterator[Entry]:
        """All lines, without reading their times (which are 0): for one log as it is."""
        for file in self.files:
            for line in self._lines(file, complain):
                yield 0.0, line

    def last_entries(self, count: int, complain: Complain) -> list[Entry]:
        """The last lines, at least `count` if there are that many, read from the end if possible."""
        parts: deque[_Part] = deque()
        for file in reversed(self.files):
            if count <= 0:
                break
            clock = self._primed_clock(file)
            lines = self._last_records(file, count, complain, clock)
            count -= len(lines)
            parts.appendleft((lines, file, clock))
        return list(_dated(parts))

    def _last_records(self, file: LogFile, count: int, complain: Complain, clock: LineClock) -> list[bytes]:
        """The last lines of one file, at least `count`; the first has a time, by which it is merged with others."""
        while True:
            lines = self._last_lines(file, count, complain)
            if len(lines) < count or clock.time(lines[0]) is not None:
                return lines
            count *= 2

    def _primed_clock(self, file: LogFile) -> LineClock:
        """The clock of a file of which only the end is read; it has seen the first lines, where their time is."""
        clock = clock_of(file, self.log.settings)
        with suppress(OSError):  # which `_lines` reports
            stream = self.open(file)
            if isinstance(stream, io.BufferedReader):
                any(clock.time(line) is not None for line in stream.read(_BLOCK).splitlines(keepends=True))
            if stream:
                stream.close()
        return clock

    def _last_lines(self, file: LogFile, count: int, complain: Complain) -> list[bytes]:
        """The last lines of one file."""
        stream = None
        with suppress(OSError):  # which `_lines` reports
            stream = self.open(file)
        if not isinstance(stream, io.BufferedReader):
            if stream:
                stream.close()
            return list(deque(self._lines(file, complain), maxlen=count))
        with stream:
            size = self.sizes.get(file.path, os.fstat(stream.fileno()).st_size)
            try:
                return last_lines(stream, size, count)
            except OSError as error:
                complain(f"{file.path} cannot be read: {error.strerror}")
                return []

    def _lines(self, file: LogFile, complain: Complain) -> Iterator[bytes]:
        """The lines of one file, as far as they count."""
        try:
            stream = self.open(file)
        except OSError as error:
            complain(f"{file.path} cannot be read: {error.strerror}")
            return
        if stream is None:
            complain(f"{file.path} is gone; it was removed while the log was read")
            return
        with stream:
            yield from lines_of(stream, file.path, complain, self.sizes.get(file.path, inf))


def _dated(parts: Iterable[_Part]) -> Iterator[Entry]:
    """The lines of the files of one log with their times.

    A line without a time is joined to the one before, also across a rollover. The first ones of a log (a header) are
    joined to the first line with a time. If none comes soon, only the interval of the file tells when they are from.
    """
    when, record = -inf, list[bytes]()
    for lines, file, clock in parts:
        rest = iter(lines)
        first: list[bytes] = []
        time = None
        for line in rest:
            first.append(line)
            time = clock.time(line)
            if time is not None or len(first) == _HEADER:
                break
        if not first:
            continue
        if time is None:
            if record:
                yield when, b"".join(record)
            when, record = file.interval.start if file.interval else -inf, []
            yield from ((when, line) for line in first)
        elif record:
            yield when, b"".join((*record, *first[:-1]))
            when, record = time, first[-1:]
        else:
            when, record = time, first
        for line in rest:
            time = clock.time(line)
            if time is not None:
                if record:
                    yield when, b"".join(record)
                when, record = time, [line]
            elif record:
                record.append(line)
            else:
                yield when, line
    if record:
        yield when, b"".join(record)


def snapshots_of(logs: Iterable[Log], claims: Claims) -> list[Snapshot]:
    """The logs as they are now, without those whose files all belong to others."""
    found = []
    for log in logs:
        snapshot = Snapshot(log, claims)
        if snapshot.log.files and not snapshot.files:
            snapshot.close()
        else:
            found.append(snapshot)
    return found


def _complete(log: Log) -> tuple[LogFile, ...]:
    """The files of a log; of a backup that is there plain and archived, the one with more in it.

    In the directory of a handler the plain one is removed last, and has what was written to it since. But a copy of
    that directory may keep a backup as it was at an earlier time.
    """
    twice = {file.path: file for file in log.files}.keys() - {file.path for file in log.distinct}
    if not twice:
        return log.distinct
    better: dict[str, LogFile] = {}
    for file in log.files:
        plain = file.path.removesuffix(file.extension)
        if file.path in twice and _has_more(file.path, better[plain].path if plain in better else plain):
            better[plain] = file
    return tuple(better.get(file.path, file) for file in log.distinct)


def _has_more(archive: str, other: str) -> bool:
    """Whether an archive holds more than another file."""
    try:
        return length_of(archive) > length_of(other)
    except DAMAGED:
        return False
    except (OSError, LogFileError):
        return False


def _identity(path: str | int) -> Identity | None:
    """The identity of a regular file, None if there is none."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return identity_of(status) if stat.S_ISREG(status.st_mode) else None


def merge(streams: Iterable[Iterable[Entry]]) -> Iterator[Entry]:
    """Merge several logs by time, and keep the order within each."""
    return heapq.merge(*streams, key=lambda entry: entry[0])


def open_now(file: LogFile) -> BinaryIO | None:
    """Open a file that may have been compressed or renamed since the directory was read; None if it is gone."""
    base = file.path.removesuffix(file.extension)
    for path in (file.path, *(base + extension for extension in (*EXTENSIONS, ROLLED_EXTENSION) if not file.is_live)):
        try:
            return open_log(path)
        except FileNotFoundError:
            continue
    return None


def lines_of(stream: BinaryIO, path: str, complain: Complain, limit: float = inf) -> Iterator[bytes]:
    """The lines of an open file as far as it can be read, and not beyond `limit` bytes; each with a newline."""
    try:
        for line in stream:
            if limit < len(line):
                line = line[: int(limit)]
            limit -= len(line)
            if line:
                yield line if line.endswith(b"\n") else line + b"\n"
            if limit <= 0:
                return
    except DAMAGED as error:
        complain(f"{path} is damaged, the rest of it cannot be read: {error}")
    except OSError as error:
        complain(f"{path}: the rest of it cannot be read: {error.strerror}")


def clock_of(file: LogFile, settings: Settings) -> LineClock:
    """The clock that reads the times of a file's lines."""
    own = zone_named(settings.tz)
    return LineClock(file.interval, [datetime.timezone.utc] if own is None else [own, datetime.timezone.utc])


def last_lines(stream: BinaryIO, size: int, count: int) -> list[bytes]:
    """The last `count` lines of the first `size` bytes of a plain file, read from its end."""
    blocks: deque[bytes] = deque()
    newlines, start = 0, size
    while start > 0 and newlines <= count:
        begin = max(0, start - _BLOCK)
        stream.seek(begin)
        blocks.appendleft(stream.read(start - begin))
        newlines += blocks[0].count(b"\n")
        start = begin
    lines = [line + b"\n" for line in b"".join(blocks).removesuffix(b"\n").split(b"\n")]
    return lines[-count:] if size and count else []
