"""Whether a clock may decide that a backup is too old: pure, with the clocks passed in.

A clock that is years ahead for some seconds after a boot would otherwise remove all backups.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

# A machine whose clock was not set yet believes that it is 1970. No backup is too old because it was made then.
CLOCK_IS_SET_S: Final = 365 * 86400.0
# Seconds for which a clock has to be right before it may decide that a backup is too old.
_SETTLED_S: Final = 600.0
# The most seconds by which the wall clock may be set without counting as another clock.
_STEP_S: Final = 60.0


class ClockWitness:
    """For how long one process has seen the wall clock keep pace with the monotonic clock.

    Args:
        wall: The wall clock now, seconds since the epoch.
        tick: The monotonic clock now.
    """

    def __init__(self, wall: float, tick: float) -> None:
        self._since = tick
        self._ahead = wall - tick
        self.has_seen_it_set = False
        """Whether the calls of `steady_for` have noticed that the wall clock was set."""

    def steady_for(self, wall: float, tick: float) -> float:
        """For how many seconds the wall clock has not been set, as far as the calls of this method notice."""
        if abs(wall - tick - self._ahead) > _STEP_S:
            self._since = tick
            self.has_seen_it_set = True
        self._ahead = wall - tick
        return tick - self._since


def settling_time(max_age: float) -> float:
    """For how many seconds a clock has to be right before it may decide that a backup is older than `max_age`."""
    return min(_SETTLED_S, max_age / 2)


def clock_agrees(written: Iterable[float], now: float, max_age: float) -> bool:
    """Whether the files of a log bear out that it is `now`.

    They do if one of them was written less than `max_age` ago, but not in the last minutes: even a clock that has been
    wrong for a moment has stamped some files. They also do if none of them was written longer ago, because then none
    contradicts the clock.

    Args:
        written: When each was last written; seconds since the epoch.
        now: The time by the clock.
        max_age: The age that the clock is to decide about, in seconds.
    """
    ages = [now - moment for moment in written if moment >= CLOCK_IS_SET_S]
    return all(age <= max_age for age in ages) or any(settling_time(max_age) <= age <= max_age for age in ages)
