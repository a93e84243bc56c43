"""New lines of several logs in the order of time, as they come.

A line is held back for a moment, because hosts, file systems and looks at the files have their delays. Meanwhile lines
of other logs that are earlier go first. A line that comes later than that is printed when it comes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import inf

from rollsafe.schedule import Interval
from rollsafe.tools.catalog import LogFile
from rollsafe.tools.follow import Follower
from rollsafe.tools.lines import Entry, clock_of

HELD = 0.5
"""Seconds for which a line waits for earlier lines of other logs."""

# Bytes of lines that are held back in all; if there are more, the reader lags behind, and no time is left to wait.
_MOST = 64 << 20
# Seconds around now in which the next lines are expected, and after which that is said anew. Zones differ by more.
_AROUND = 840.0
_ANEW = 60.0


@dataclass
class _Held:
    """A line, with those after it that have no time."""

    when: float
    lines: list[bytes]
    came: float
    """Seconds of the monotonic clock."""


class _Queue:
    """The lines of one log that wait."""

    def __init__(self, follower: Follower) -> None:
        self.held: deque[_Held] = deque()
        self.follower = follower
        log = follower.snapshot.log
        self._clock = clock_of(LogFile(log.live, None, None), log.settings)
        self._expected = -_ANEW
        self._last = 0.0

    def look(self, now: float) -> int:
        """Take the lines that have come; returns how many bytes they are."""
        size = 0
        for line in self.follower.poll():
            size += len(line)
            if now >= self._expected + _ANEW:
                self._expected = now
                self._clock.expect(Interval(time.time() - _AROUND, time.time() + _AROUND, "", 0))
            when = self._clock.time(line)
            if when is None and self.held:
                self.held[-1].lines.append(line)
                self.held[-1].came = now
                continue
            self._last = self._last if when is None else when
            self.held.append(_Held(self._last, [line], now))
        return size

    @property
    def came(self) -> float:
        """When its first line came."""
        return self.held[0].came if self.held else inf

    def may_grow(self, now: float) -> bool:
        """Whether the first line came at this look and is the last one, so that the rest of its record may follow."""
        return len(self.held) == 1 and self.held[0].came == now


class FollowedTogether:
    """The lines of several logs that come from now on.

    Args:
        followers: The logs; of lines with equal times, those of the first log come first.
        clock: Seconds of a monotonic clock.
    """

    def __init__(self, followers: Iterable[Follower], clock: Callable[[], float] = time.monotonic) -> None:
        self._queues = [_Queue(follower) for follower in followers]
        self._now = clock
        self._size = 0

    def poll(self) -> Iterator[tuple[int, Entry]]:
        """The lines that were held back long enough, each with the number of its log; those of a single log at once."""
        if len(self._queues) == 1:
            yield from ((0, (0.0, line)) for line in self._queues[0].follower.poll())
            return
        now = self._now()
        self._size += sum([queue.look(now) for queue in self._queues])
        while first := self._first():
            overfull = self._size > _MOST
            if not overfull and (first.may_grow(now) or all(queue.came > now - HELD for queue in self._queues)):
                return
            yield self._take(first)

    def add(self, follower: Follower) -> int:
        """Follow one more log; returns its number."""
        self._queues.append(_Queue(follower))
        return len(self._queues) - 1

    def rest(self) -> Iterator[tuple[int, Entry]]:
        """All lines that were held back, when following ends."""
        while first := self._first():
            yield self._take(first)

    def _first(self) -> _Queue | None:
        """The log whose line is next, None if none waits."""
        return min((queue for queue in self._queues if queue.held), key=lambda queue: queue.held[0].when, default=None)

    def _take(self, queue: _Queue) -> tuple[int, Entry]:
        """Take the next line of a log."""
        held = queue.held.popleft()
        text = b"".join(held.lines)
        self._size -= len(text)
        return self._queues.index(queue), (held.when, text)
