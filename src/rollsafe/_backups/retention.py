"""Which backups exceed the limits, and why: a pure decision about sizes and one moment.

It gets only files that are backups for certain (`recognition`). No backup is too old by a clock that the
files contradict (`clocks`).
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from math import inf

from rollsafe._values import Value


class Limits(Value):
    """Limits for the backups. Those that exceed a limit are removed, the oldest first; 0 and None are no limit."""

    count: int = 0
    """Backups, as the handler's backupCount."""
    max_age: float | None = None
    """Seconds since the end of a backup's interval."""
    max_total_bytes: int | None = None
    """Bytes of all backups together."""
    min_free_bytes: int | None = None
    """Bytes that must be free on the file system."""

    @property
    def any(self) -> bool:
        """Whether there is a limit."""
        return self.count > 0 or bool(self.max_age) or self.need_sizes

    @property
    def need_sizes(self) -> bool:
        """Whether sizes matter."""
        return bool(self.max_total_bytes or self.min_free_bytes)


class Stored(Value):
    """One backup: a plain file, its archive, or for a moment both."""

    paths: tuple[str, ...]
    end: float | None
    """The end of its interval, seconds since the epoch; None if that is not known."""
    size: int = 0
    """Bytes of its files; may be 0 unless `Limits.need_sizes`."""
    is_empty: bool = False
    """Whether no line is in it; False unless the backups are more than `Limits.count`."""


class Removal(Value):
    """A backup that is to be removed."""

    backup: Stored
    reason: str
    """Why, for people: "one of 9 backups, backupCount=7"."""


def select_expired(backups: Sequence[Stored], limits: Limits, now: float, free: float = inf) -> list[Removal]:
    """The backups that exceed the limits, oldest first, each with the first limit that it exceeds.

    Args:
        backups: All of one live file, oldest first.
        limits: What may be kept.
        now: Seconds since the epoch.
        free: Bytes that are free on the file system now.
    """
    reasons: dict[int, str] = {}
    if limits.count > 0:
        # First those without a line, which would crowd out lines: a rollover of an empty live file makes such a backup.
        order = sorted(range(len(backups)), key=lambda index: not backups[index].is_empty)
        for index in order[: max(len(backups) - limits.count, 0)]:
            of_them = "one without a line of" if backups[index].is_empty else "one of"
            reasons[index] = f"{of_them} {len(backups)} backups, backupCount={limits.count}"
    if limits.max_age:
        for index, backup in enumerate(backups):
            if backup.end is not None and now - backup.end > limits.max_age:
                age = f"its interval ended {_duration(now - backup.end)} ago, max_age={_duration(limits.max_age)}"
                reasons.setdefault(index, age)
    if limits.max_total_bytes:
        total = 0
        for index in range(len(backups) - 1, -1, -1):
            if index not in reasons:
                total += backups[index].size
                if total > limits.max_total_bytes:
                    reasons[index] = f"with the later ones {total} bytes, max_total_bytes={limits.max_total_bytes}"
    if limits.min_free_bytes:
        will_be_free = free + sum(backups[index].size for index in reasons)
        for index, backup in enumerate(backups):
            if will_be_free >= limits.min_free_bytes:
                break
            if index not in reasons:
                reasons[index] = f"{int(will_be_free)} bytes would be free, min_free_bytes={limits.min_free_bytes}"
                will_be_free += backup.size
    return [Removal(backups[index], reasons[index]) for index in sorted(reasons)]


def _duration(seconds: float) -> str:
    """A length of time for people, to the second."""
    return str(datetime.timedelta(seconds=int(seconds)))
