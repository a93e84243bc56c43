"""How the lines of a log are made, by the lines that it has. No file is opened for writing.

A format is recognised only if all lines that are looked at have it, and a zone only if the last line's time agrees with
the time at which the file was last written. A shipper sends a line that does not fit as it is, so a wrong guess loses
nothing.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import stat
import zoneinfo
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from rollsafe._lines.stamps import FIELD
from rollsafe._preset import LINE_FORMAT
from rollsafe.tools.catalog import Log
from rollsafe.tools.shippers.line_formats import (
    CELERY,
    COMBINED,
    LEVEL,
    LineFormat,
    json_format,
    text_format,
    uwsgi_format,
)
from rollsafe.tools.shippers.line_times import CTIME, DEFAULT, ISO, ISO_SECONDS, LineTime, pattern_of

_SAMPLE: Final = 1 << 18
"""How many bytes are looked at, at the beginning and at the end of the file."""
_LINES: Final = 200
_FIELDS: Final = 100
"""How many fields of JSON lines a configuration may name."""
# Seconds between the time of the last line and the last write of the file; the line may have waited.
_NEAR_S: Final = 60.0

_STAMP: Final = f" %({FIELD})s"
_TEXTS: Final = (
    *(text_format(f"{fmt}{stamp}") for fmt in (CELERY, LINE_FORMAT) for stamp in (_STAMP, "")),
    *(text_format(f"%(message)s{stamp}", access=COMBINED) for stamp in (_STAMP, "")),
    *(uwsgi_format(stamped=stamped) for stamped in (True, False)),
)
_TIMES: Final = ("asctime", "timestamp", "@timestamp", "time", "ts", "datetime")
_LEVELS: Final = (LEVEL, "level", "severity")


def format_in(log: Log) -> LineFormat | None:
    """The format of the lines of a log, None if it cannot be recognised."""
    for file in reversed(log.distinct):
        if file.extension:
            continue
        with suppress(OSError):
            lines, written = _lines_of(file.path)
            if lines:
                return _recognised(lines, written, log.settings.tz)
    return None


def _lines_of(path: str) -> tuple[list[str], float]:
    """Some lines of a file, the last one among them, and when it was last written."""
    # Another user may have put a link or a FIFO in its place meanwhile.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return [], 0.0
        first = file.read(_SAMPLE).split(b"\n")[:-1][:_LINES]
        file.seek(max(0, status.st_size - _SAMPLE))
        last = file.read(_SAMPLE).split(b"\n")[:-1][-1:]
    # A writer that was killed leaves a blank line.
    return [text for line in [*first, *last] if (text := line.decode("utf-8", "replace")).strip()], status.st_mtime


def _recognised(lines: Sequence[str], written: float, zone: str | None) -> LineFormat | None:
    """The format that all of these lines have."""
    if all(line.startswith("{") for line in lines):
        return _json_format(lines, written, zone)
    for line_format in filter(None, _TEXTS):
        pattern = re.compile(line_format.pattern())
        found = [pattern.search(line) for line in lines]
        if not all(found):
            continue
        time, last = line_format.time, found[-1]
        assert time is not None
        assert last is not None
        if time.has_offset:
            return line_format
        # uWSGI itself writes the local time, whatever zone its preset has.
        zones = [None] if time.layout == CTIME else [zone, None]
        return replace(line_format, time=_time_in(time, last[time.field], written, zones))
    return None


def _json_format(lines: Iterable[str], written: float, zone: str | None) -> LineFormat | None:
    """The format of lines that are JSON objects."""
    objects: list[dict[str, Any]] = []
    for line in lines:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            return None
        if not isinstance(value, dict):
            return None
        objects.append(value)
    fields = tuple(dict.fromkeys(name for each in objects for name in each))[:_FIELDS]
    level = next((name for name in _LEVELS if all(isinstance(each.get(name), str) for each in objects)), None)
    return json_format(fields, next(_times_in(objects, written, zone), None), level)


def _times_in(objects: Sequence[dict[str, Any]], written: float, zone: str | None) -> Iterator[LineTime]:
    """The times that all of these objects have."""
    for name in _TIMES:
        texts = [each[name] for each in objects if isinstance(each.get(name), str)]
        if len(texts) < len(objects):
            continue
        for layout, pattern in ((ISO, pattern_of(ISO).replace(r"\d{3}", r"\d+")), (ISO_SECONDS, None)):
            if all(re.fullmatch(pattern or pattern_of(layout), text) for text in texts):
                yield LineTime(name, layout)
        if (time := _time_in(LineTime(name, DEFAULT), texts[-1], written, [zone, None])) is not None:
            yield time


def _time_in(time: LineTime, text: str, written: float, zones: Sequence[str | None]) -> LineTime | None:
    """The same time, in the first of these zones in which it agrees with the last write; None is the machine's."""
    try:
        moment = datetime.datetime.strptime(text, time.written(L="%f", e="%d"))
    except ValueError:
        return None
    for name in dict.fromkeys(zones):
        with suppress(zoneinfo.ZoneInfoNotFoundError, ValueError, OverflowError, OSError):
            instant = moment.astimezone() if name is None else moment.replace(tzinfo=zoneinfo.ZoneInfo(name))
            if abs(instant.timestamp() - written) < _NEAR_S:
                return replace(time, zone=name)
    return None
