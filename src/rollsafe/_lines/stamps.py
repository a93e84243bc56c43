"""Stamps: the stream of a line and its number there, so that the files show whether a line is missing.

A stream is one handler in one process. Its numbers begin at 1 and rise by one with each line that is written, so a
number that is in no file belongs to a lost line. A line that is not written takes no number.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import time
from itertools import count
from typing import Final

FIELD: Final = "stamp"
"""The name of the field in a format: `%(stamp)s`, `{stamp}` or `$stamp`."""

BIRTH_LENGTH: Final = 7
"""How many first digits of a stream's id are the second in which it began, so a reader knows what came before."""
STREAM_LENGTH: Final = 12
STAMP: Final = re.compile(rb"~(?P<stream>[0-9a-v]{%d})\.(?P<number>[1-9][0-9]{0,17})~" % STREAM_LENGTH)
"""A stamp in the bytes of a line."""
UNNUMBERED: Final = "~"
"""The stamp of lines that a handler writes by itself."""

_DIGITS: Final = "0123456789abcdefghijklmnopqrstuv"
# `re` compiles both at their first use, because to compile them here would lengthen every import.
_FIELD: Final = rf"%\({FIELD}\)|\{{{FIELD}[!:}}]|\$\{{?{FIELD}\b"
_FIELD_AT_END: Final = rf"(?:%\({FIELD}\)s|\{{{FIELD}\}}|\$\{{{FIELD}\}}|\${FIELD})\Z"
_handlers = count()

# The process id, the stamp up to the number, the next numbers, and numbers whose lines were not written.
_Stream = tuple[int, str, "count[int]", list[int]]


def has_stamp(formatter: logging.Formatter | None) -> bool:
    """Whether the formatter's format has the field `stamp`."""
    fmt = getattr(formatter, "_fmt", None)
    return isinstance(fmt, str) and re.search(_FIELD, fmt) is not None


def ends_with_stamp(fmt: str) -> bool:
    """Whether the plain field `stamp`, without a width, ends a format."""
    return re.search(_FIELD_AT_END, fmt) is not None


class Stamps:
    """The numbers of one handler, which has a stream of its own in each process.

    Any thread and any signal handler may take numbers; two never get the same one.
    """

    def __init__(self) -> None:
        self._handler = next(_handlers)
        # One tuple, so that no thread takes the prefix of one stream and the number of another.
        self._stream: _Stream = (-1, "", count(1), [])
        self._begun: dict[int, _Stream] = {}

    def take(self) -> str:
        """The stamp for the next line."""
        # Each call asks, because nothing else tells a child that it was forked in C (uWSGI).
        pid, prefix, numbers, returned = self._stream
        if pid != os.getpid():
            _, prefix, numbers, returned = self._begin()
        if returned:
            try:
                return f"{prefix}{returned.pop()}~"
            except IndexError:  # a signal handler or another thread has taken it
                pass
        return f"{prefix}{next(numbers)}~"

    def give_back(self, stamp: str) -> None:
        """Have the next line take the number of `stamp`, whose line will not be written."""
        pid, prefix, _, returned = self._stream
        if stamp and stamp.startswith(prefix) and pid == os.getpid():
            returned.append(int(stamp[len(prefix) : -1]))

    def _begin(self) -> _Stream:
        """Begin a stream: its id is the moment, and 25 bits of a hash of host, process, moment and handler.

        Several threads may begin one at a time, and a signal handler while we do. They all get the first one, because
        `setdefault` is one step.
        """
        now, pid = time.time_ns(), os.getpid()
        origin = hash((socket.gethostname(), pid, now, self._handler))
        stream = _base32(now // 10**9, BIRTH_LENGTH) + _base32(origin, STREAM_LENGTH - BIRTH_LENGTH)
        self._stream = begun = self._begun.setdefault(pid, (pid, f"~{stream}.", count(1), []))
        # A later process may have the id of one that we were forked from.
        for other in [*self._begun]:
            if other != pid:
                self._begun.pop(other, None)
        return begun


def birth_of(stream: str) -> int:
    """The time at which the stream began; seconds since the epoch."""
    return int(stream[:BIRTH_LENGTH], 32)


def _base32(number: int, length: int) -> str:
    """The last `length` digits of a number to the base of 32."""
    return "".join(_DIGITS[number >> 5 * place & 31] for place in reversed(range(length)))
