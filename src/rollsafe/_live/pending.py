"""The lines that could not be written yet: in order, within a bound, and counted if they do not fit."""

from __future__ import annotations

import itertools
import sys
from collections import deque
from collections.abc import Callable
from math import inf

# The most lines of one write(2) to a file of several hosts.
LINES_PER_WRITE = 1000
# The memory of a pending line besides its bytes: a tuple, its time, and a place in the deque.
_ENTRY = sys.getsizeof((b"", 0.0)) + sys.getsizeof(0.0) + 8


class PendingLines:
    """Lines that wait to be written, oldest first.

    Args:
        limit: The memory that they may take, bytes. A short line takes several times its length.

    Attributes:
        lines: Pairs of a line and the time of its record in seconds since the epoch.
        dropped: How many lines did not fit since the last recovery.
        failing: Whether a write has failed, and that was reported.
        retry_at: When to try again; seconds of the monotonic clock.
    """

    def __init__(self, limit: float) -> None:
        self.lines: deque[tuple[bytes, float]] = deque()
        self.dropped = 0
        self.failing = False
        self.retry_at = -inf
        self._limit = limit
        self._size = 0

    @property
    def waits(self) -> bool:
        """Whether there is anything to write: lines, or the count of the dropped ones."""
        return bool(self.lines or self.dropped)

    def newest(self, latest: float) -> float:
        """The latest time of a pending line that is not after `latest`; minus infinity if there is none."""
        # Reads a copy, because a signal handler that logs adds lines.
        return max((created for _, created in tuple(self.lines) if created <= latest), default=-inf)

    def add(self, line: bytes, created: float) -> bool:
        """Append a line if it fits within the limit or is the only one; else count it as dropped and return False."""
        size = size_of(line)
        if self.lines and self._size + size > self._limit:
            self.dropped += 1
            return False
        self.lines.append((line, created))
        self._size += size
        return True

    def run_for(self, takes: Callable[[float], bool]) -> list[tuple[bytes, float]]:
        """The oldest line and those after it, up to LINES_PER_WRITE, as far as `takes` says that for their times.

        The oldest one always: its time may be no number.
        """
        # Of a copy, because a signal handler that logs adds lines.
        lines = tuple(self.lines)[:LINES_PER_WRITE]
        return [lines[0], *itertools.takewhile(lambda entry: takes(entry[1]), lines[1:])]

    def remove(self, entry: tuple[bytes, float]) -> None:
        """Remove the oldest line if it is this very entry, so that a second call for it does nothing."""
        if self.lines and self.lines[0] is entry:
            self.lines.popleft()
            self._size -= size_of(entry[0])

    def remove_all(self, entries: list[tuple[bytes, float]]) -> None:
        """Remove the oldest lines, which are these very entries."""
        for entry in entries:
            self.remove(entry)

    def put_first(self, line: bytes, created: float) -> None:
        """Add a line that is to be written before all others, whether it fits or not."""
        self.lines.appendleft((line, created))
        self._size += size_of(line)

    def holds(self, line: bytes) -> bool:
        """Whether this very line waits."""
        return any(waiting is line for waiting, _ in tuple(self.lines))

    def drop_first(self) -> None:
        """Drop and count the oldest line."""
        self.remove(self.lines[0])
        self.dropped += 1

    def put_count(self, line: bytes, created: float, dropped: int) -> None:
        """Have a line wait first that says how many lines were dropped, and no longer count these."""
        self.put_first(line, created)
        self.dropped -= dropped

    def record_failure(self, retry_at: float) -> bool:
        """Note that writing has failed, and when it is tried again; True if it had not failed before."""
        is_first = not self.failing
        self.retry_at = retry_at
        self.failing = True
        return is_first

    def record_success(self) -> None:
        """Note that all lines were written."""
        self.dropped = 0
        self.failing = False


def size_of(line: bytes) -> int:
    """The memory that a line takes while it waits, bytes."""
    return sys.getsizeof(line) + _ENTRY


def joined(begin: bytes, entries: list[tuple[bytes, float]]) -> tuple[bytes, list[int]]:
    """The text of lines behind `begin`, and the offsets at which each of them begins and the last one ends."""
    if len(entries) == 1:
        line = entries[0][0]
        return begin + line, [len(begin), len(begin) + len(line)]
    ends = itertools.accumulate((len(line) for line, _ in entries), initial=len(begin))
    return begin + b"".join(line for line, _ in entries), list(ends)
