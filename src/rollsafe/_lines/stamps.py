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
_FIELD: Final = re.compile(rf"%\({FIELD}\)|\{{{FIELD}[!:}}]|\$\{{?{FIELD}\b")
_FIELD_AT_END: Final = re.compile(rf"(?:%\({FIELD}\)s|\{{{FIELD}\}}|\$\{{{FIELD}\}}|\${FIELD})\Z")
_handlers = count()


def has_stamp(formatter: logging.Formatter | None) -> bool:
    """Whether the formatter's format has the field `stamp`."""
    fmt = getattr(formatter, "_fmt", None)
    return isinstance(fmt, str) and _FIELD.search(fmt) is not None


def ends_with_stamp(fmt: str) -> bool:
    """Whether the plain field `stamp`, without a width, ends a format."""
    return _FIELD_AT_END.search(fmt) is not None


class Stamps:
    """The numbers of one handler, which has a stream of its own in each process.

    Any thread and any signal handler may take numbers; two never get the same one.
    """

    def __init__(self) -> None:
        self._handler = next(_handlers)
        self._pid = -1
        self._prefix = ""
        self._numbers = count(1)
        self._returned: list[int] = []

    def take(self) -> str:
        """The stamp for the next line."""
        # Each call asks, because nothing else tells a child that it was forked in C (uWSGI).
        if self._pid != os.getpid():
            self._begin()
        if self._returned:
            try:
                return f"{self._prefix}{self._returned.pop()}~"
            except IndexError:  # a signal handler has begun the stream
                pass
        return f"{self._prefix}{next(self._numbers)}~"

    def give_back(self, stamp: str) -> None:
        """Have the next line take the number of `stamp`, whose line will not be written."""
        if stamp and stamp.startswith(self._prefix) and self._pid == os.getpid():
            self._returned.append(int(stamp[len(self._prefix) : -1]))

    def _begin(self) -> None:
        """Begin a stream: its id is the moment, and 25 bits of a hash of host, process, moment and handler."""
        now = time.time_ns()
        origin = hash((socket.gethostname(), os.getpid(), now, self._handler))
        stream = _base32(now // 10**9, BIRTH_LENGTH) + _base32(origin, STREAM_LENGTH - BIRTH_LENGTH)
        self._prefix, self._numbers, self._returned, self._pid = f"~{stream}.", count(1), [], os.getpid()


def birth_of(stream: str) -> int:
    """The time at which the stream began; seconds since the epoch."""
    return int(stream[:BIRTH_LENGTH], 32)


def _base32(number: int, length: int) -> str:
    """The last `length` digits of a number to the base of 32."""
    return "".join(_DIGITS[number >> 5 * place & 31] for place in reversed(range(length)))
