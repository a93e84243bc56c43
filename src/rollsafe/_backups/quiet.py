"""Which files are quiet: seen unchanged for so long that no process writes to them without a recheck."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable
from math import inf
from typing import Final

from rollsafe._backups.clocks import ClockWitness, clock_agrees, settling_time
from rollsafe._backups.file_names import Fingerprint

# Seconds since its last change after which a file is quiet at first sight.
_OLD_S: Final = 600.0


class QuietFiles:
    """Since when one process has seen each file unchanged, and whether it may believe the wall clock.

    The monotonic clock counts, and no time of a file, because the wall clock may be set.

    Attributes:
        clock_believed_at: When the wall clock may be believed that the last `believes_clock` did not believe; seconds
            of the monotonic clock, infinity if it did.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[Fingerprint, float]] = {}
        self._clock = ClockWitness(time.time(), time.monotonic())
        self.clock_believed_at = inf

    def believes_clock(self, written: Iterable[float], max_age: float) -> bool:
        """Whether the clock may decide that a backup is older than `max_age`; `written` are the times of the files."""
        now, tick = time.time(), time.monotonic()
        left = settling_time(max_age) - self._clock.steady_for(now, tick)
        believed = left <= 0 or clock_agrees(written, now, max_age)
        self.clock_believed_at = inf if believed else tick + left
        return believed

    def seconds_until_quiet(self, path: str, fingerprint: Fingerprint, seconds: float) -> float:
        """How long until this process has seen a file unchanged for `seconds`; 0 or less if it has.

        A rename sets the ctime of a file too (measured on ext4, xfs, btrfs, tmpfs and overlay), so a file that was seen
        unchanged for QUIET_S is neither the live file nor one to which a process writes without a recheck.

        A process that lives for a moment cannot wait for that. It takes a file for quiet if its ctime, which no program
        can set, is minutes old. It does not if it has seen the wall clock being set: a clock that is set forward just
        after a rollover makes a new file look old.
        """
        now = time.monotonic()
        seen, since = self._seen.get(path, (None, now))
        if seen != fingerprint:
            wall = time.time()
            self._clock.steady_for(wall, now)
            is_old = wall - fingerprint[3] / 1e9 > _OLD_S and not self._clock.has_seen_it_set
            since = -inf if is_old else now
            self._seen[path] = (fingerprint, since)
        return since + seconds - now

    def forget(self, path: str) -> None:
        """Forget a file that was dealt with."""
        self._seen.pop(path, None)

    def forget_missing(self, directory: str, present: Collection[str]) -> None:
        """Forget the files of a directory that are not among the paths `present`."""
        for path in [path for path in self._seen if path not in present and os.path.dirname(path) == directory]:
            self.forget(path)
