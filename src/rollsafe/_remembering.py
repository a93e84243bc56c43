"""A schedule that remembers its answers, for the names of thousands of backups. Pure.

Whether a file is a backup, and of which interval, takes some two hundred questions for the UTC offset of the zone, and
nearly all of them are the same for the next file. Each UTC offset lasts at least a day (`schedule`). So where two
looks a day apart agree, the offset is constant between them, and this module looks once at each day.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar

from rollsafe.schedule import DAY, Schedule

# Answers of one kind to remember. A directory is looked through in the order of names, which is nearly that of time,
# so the next question is about the same file or its neighbour.
_FEW: Final = 200
# For a command, which looks through the same directory several times, and then ends.
MANY: Final = 100_000

_Question = TypeVar("_Question")
_Answer = TypeVar("_Answer")


class RememberingSchedule(Schedule):
    """The same intervals as those of another schedule.

    It is made anew for each pass over a directory, because it does not follow `time.tzset`.

    Args:
        schedule: The other schedule.
        most: The number of answers of each kind that it remembers.
    """

    def __init__(self, schedule: Schedule, most: int = _FEW) -> None:
        self.__dict__.update(vars(schedule))
        self._most = most
        # Not the methods of this object: those would keep it alive by a cycle.
        self._look = schedule._offset
        self._look_for_change = schedule._change_after
        # (begin, end, offset) of days that follow each other and have one offset.
        self._steady = 0, 0, 0
        self._days: dict[int, tuple[int, int, int]] = {}
        self._around: dict[int, tuple[int, int]] = {}
        self._suffixes: dict[int, str] = {}
        self._named: dict[str, tuple[float, ...]] = {}

    def instants(self, suffix: str) -> tuple[float, ...]:
        """As `Schedule.instants`."""
        known = self._named.get(suffix)
        return self._keep(self._named, suffix, super().instants(suffix)) if known is None else known

    def _bounds(self, t: int) -> tuple[int, int]:
        """As `Schedule._bounds`."""
        return self._around.get(t) or self._keep(self._around, t, super()._bounds(t))

    def _crossings(self, edge: int) -> list[int]:
        """As `Schedule._crossings`."""
        first, last, offset = self._steady
        # Each offset is shorter than a day.
        return [edge - offset] if first <= edge - DAY and edge + DAY <= last else super()._crossings(edge)

    def _suffix(self, t: int) -> str:
        """As `Schedule._suffix`."""
        known = self._suffixes.get(t)
        return self._keep(self._suffixes, t, super()._suffix(t)) if known is None else known

    def _spans(self, begin: int, end: int) -> Iterable[tuple[int, int, int]]:
        """As `Schedule._spans`."""
        first, last, offset = self._steady
        if first <= begin and end <= last:
            return ((begin, end, offset),)
        return super()._spans(begin, end)

    def _offset(self, t: int) -> int:
        """As `Schedule._offset`."""
        first, last, offset = self._steady
        if first <= t < last:
            return offset
        day = t // DAY
        before, change, after = self._days.get(day) or self._keep(self._days, day, self._look_at(day * DAY))
        return before if t < change else after

    def _keep(self, memory: dict[_Question, _Answer], question: _Question, answer: _Answer) -> _Answer:
        """Remember an answer, and return it."""
        if len(memory) >= self._most:
            memory.clear()
        memory[question] = answer
        return answer

    def _look_at(self, begin: int) -> tuple[int, int, int]:
        """(the offset at `begin`, when it changes within a day, the offset from then on)."""
        first, last, offset = self._steady
        before, after = offset if first < begin == last else self._look(begin), self._look(begin + DAY)
        if before != after:
            return before, self._look_for_change(begin, before), after
        is_next = offset == before and first - DAY <= begin <= last
        self._steady = (min(first, begin), max(last, begin + DAY), offset) if is_next else (begin, begin + DAY, before)
        return before, begin + DAY, after


def remembering(schedule: Schedule) -> RememberingSchedule:
    """The schedule as one that remembers; itself if it does so already."""
    return schedule if isinstance(schedule, RememberingSchedule) else RememberingSchedule(schedule)
