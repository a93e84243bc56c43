"""Lines that could not be written yet: bounded, in order, counted when they do not fit."""

from __future__ import annotations

import sys
from collections import deque
from math import inf

# What a line that waits takes beside its bytes: a tuple, its time, and a place in the deque.
_ENTRY = sys.getsizeof((b"", 0.0)) + sys.getsizeof(0.0) + 8


class PendingLines:
    """Lines that wait to be written, oldest first.

    Args:
        limit: Bytes of memory that they may take. Short lines take several times their length.

    Attributes:
        lines: (line, time of its record in seconds since the epoch).
        dropped: How many did not fit since the last recovery.
        failing: Whether writing failed, and that was reported.
        retry_at: When to try again; seconds of the monotonic clock.
    """

    def __init__(self, limit: int) -> None:
        self.lines: deque[tuple[bytes, float]] = deque()
        self.dropped = 0
        self.failing = False
        self.retry_at = -inf
        self._limit = limit
        self._size = 0

    @property
    def waits(self) -> bool:
        """Whether there is anything to write: lines, or the count of those that did not fit."""
        return bool(self.lines or self.dropped)

    def newest(self, latest: float) -> float:
        """The latest time of a line that waits, but for those after `latest`; minus infinity if there is none."""
        # Of a copy, because a signal handler that logs adds to the lines.
        return max((created for _, created in tuple(self.lines) if created <= latest), default=-inf)

    def add(self, line: bytes, created: float) -> bool:
        """Append a line, if it fits in the limit (bytes) or is the only one; False if not."""
        size = size_of(line)
        if self.lines and self._size + size > self._limit:
            self.dropped += 1
            return False
        self.lines.append((line, created))
        self._size += size
        return True

    def remove(self, entry: tuple[bytes, float]) -> None:
        """Remove the oldest line, if it is this very one: so the same again does nothing more."""
        if self.lines and self.lines[0] is entry:
            self.lines.popleft()
            self._size -= size_of(entry[0])

    def remove_all(self, entries: list[tuple[bytes, float]]) -> None:
        """Remove the oldest lines, which are these very ones."""
        for entry in entries:
            self.remove(entry)

    def put_first(self, line: bytes, created: float) -> None:
        """A line that is to be written before all others, whether it fits or not."""
        self.lines.appendleft((line, created))
        self._size += size_of(line)

    def holds(self, line: bytes) -> bool:
        """Whether this very line waits."""
        return any(waiting is line for waiting, _ in tuple(self.lines))

    def recovered(self) -> None:
        """All was written."""
        self.dropped = 0
        self.failing = False


def size_of(line: bytes) -> int:
    """The memory that a line takes while it waits."""
    return sys.getsizeof(line) + _ENTRY
