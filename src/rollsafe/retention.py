"""Which backups are removed, and why: a pure decision about names, sizes and one moment.

**No file is removed unless it is certain that it is an old backup.** A backup is counted, and may be removed, if its
name tells one interval of this log (`Names.interval`), and that interval has begun. All other files are kept, and the
tools list them: a name that another interval has too, one that cannot be read, one of the future. A backup of the
future was made while the clock was ahead, and would crowd out the backups of today. And no backup is too old by a clock
that the files contradict (`clock_agrees`): a clock that is years ahead for some seconds after a boot would otherwise
remove all backups.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

from rollsafe.locks import live_name_of
from rollsafe.names import ROLLED_EXTENSION, Backup, Names

# The most seconds until an interval of a backup begins: another process may roll over by a clock that is ahead of this
# one. A minute, because CPython's own test of getFilesToDelete has backups of the next 45 seconds.
_MOST_AHEAD_S: Final = 60.0
# A machine whose clock was not set yet believes that it is 1970. No backup is too old because it was made then.
_CLOCK_IS_SET_S: Final = 365 * 86400.0

# Seconds for which a clock has to be right before it may decide that a backup is too old.
_SETTLED_S: Final = 600.0
# The most seconds by which the wall clock may be set without counting as another clock.
_STEP_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Limits:
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


@dataclass(frozen=True, slots=True)
class Stored:
    """One backup: a plain file, its archive, or for a moment both."""

    paths: tuple[str, ...]
    end: float | None
    """The end of its interval, seconds since the epoch; None if that is not known."""
    size: int = 0
    """Bytes of its files; 0 unless `Limits.need_sizes`."""
    is_empty: bool = False
    """Whether no line is in it; False unless the backups are more than `Limits.count`."""


@dataclass(frozen=True, slots=True)
class Removal:
    """A backup that is to be removed."""

    backup: Stored
    reason: str
    """Why, for people: "one of 9 backups, backupCount=7"."""


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
    ages = [now - moment for moment in written if moment >= _CLOCK_IS_SET_S]
    return all(age <= max_age for age in ages) or any(settling_time(max_age) <= age <= max_age for age in ages)


@dataclass(frozen=True, slots=True)
class Found:
    """A file that is a backup for certain."""

    path: str
    key: tuple[float, str, int]
    """The start of its interval (-inf if it has none), its suffix, its number; sorts in the order of time."""
    end: float | None
    """The end of its interval, None if that is not known."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """The files of a log, by name."""

    certain: tuple[Stored, ...]
    """The backups to which the limits apply, oldest first, without sizes."""
    uncertain: tuple[str, ...]
    """The files that look like backups, but whose interval is not certain; sorted."""


def recognise(
    files: Iterable[str], recognisers: Sequence[Names], now: float, directory: str = ""
) -> tuple[list[Found], list[str]]:
    """The backups in a directory, and the paths of the files that only look like backups.

    Args:
        files: The names of the regular files of the directory, or some of them.
        recognisers: The first has the names that the handler makes, the others those of a handler with another `when`.
        now: Seconds since the epoch.
        directory: The directory, for the paths.
    """
    names = sorted(files)
    own = recognisers[0]
    # The live files of other logs, which have lock files. Their names may look like those of backups.
    others_live = set(filter(None, map(live_name_of, names)))
    backups, uncertain = [], []
    for name in names:
        final = name.removesuffix(ROLLED_EXTENSION)
        path = f"{directory}/{name}" if directory else name
        if name in others_live:
            continue
        recogniser, backup = _recognised(final, recognisers)
        if backup is None:
            if own.resembles(final):
                uncertain.append(path)
            continue
        if final != name and backup.extension:  # No rollover makes a rolled file that is compressed.
            continue
        interval = recogniser.interval(backup)
        known = recogniser.is_asked_for(backup) if interval is None else interval.start <= now + _MOST_AHEAD_S
        if not known:
            uncertain.append(path)
            continue
        # The name of another handler's backup tells when its interval begins, but not how many units of `when` it has.
        end = interval.end if interval and recogniser is own else None
        backups.append(Found(path, (interval.start if interval else -inf, backup.suffix, backup.sequence), end))
    return backups, uncertain


def put_in_order(found: Iterable[Found], now: float) -> tuple[Stored, ...]:
    """The backups that these files make up, oldest first: a plain file and the archive that was made of it are one."""
    groups: dict[tuple[float, str, int], list[Found]] = {}
    for file in found:
        groups.setdefault(file.key, []).append(file)
    keys = sorted(groups)
    backups = []
    for index, key in enumerate(keys):
        end = groups[key][-1].end
        if end is None and key[0] > -inf:
            end = next((later[0] for later in keys[index + 1 :] if later[0] > key[0]), None)
        if end is not None and key[0] < _CLOCK_IS_SET_S <= now:
            end = None
        backups.append(Stored(tuple(file.path for file in groups[key]), end))
    return tuple(backups)


def _recognised(name: str, recognisers: Sequence[Names]) -> tuple[Names, Backup | None]:
    """The first recogniser that accepts a name, and the parts of the name."""
    for recogniser in recognisers:
        backup = recogniser.parse(name)
        if backup is not None:
            return recogniser, backup
    return recognisers[0], None


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
