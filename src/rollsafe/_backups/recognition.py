"""Which files are certainly backups, by their names: pure, about names and one moment.

**No file is removed unless it is certain that it is an old backup.** A backup is counted, and may be removed, if its
name tells one interval of this log (`Names.interval`), and that interval has begun. All other files are kept, and the
tools list them: a name that another interval has too, one that cannot be read, one of the future. A backup of the
future was made while the clock was ahead, and would crowd out the backups of today.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf
from typing import Final

from rollsafe._backups.clocks import CLOCK_IS_SET_S
from rollsafe._backups.names import ROLLED_EXTENSION, Backup, Names
from rollsafe._backups.retention import Stored
from rollsafe._files.lock_files import live_name_of
from rollsafe._values import Value

# The most seconds until an interval of a backup begins: another process may roll over by a clock that is ahead of this
# one. A minute, because CPython's own test of getFilesToDelete has backups of the next 45 seconds.
_MOST_AHEAD_S: Final = 60.0


class Found(Value):
    """A file that is a backup for certain."""

    path: str
    key: tuple[float, str, int]
    """The start of its interval (-inf if it has none), its suffix, its number; sorts in the order of time."""
    end: float | None
    """The end of its interval, None if that is not known."""


class Inventory(Value):
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
    backups = []
    begun, later = inf, None
    # From the newest on, because the end of an interval may be known only as the beginning of the next one.
    for key in sorted(groups, reverse=True):
        start = key[0]
        if start < begun:
            begun, later = start, begun if begun < inf else None
        end = groups[key][-1].end
        if end is None and start > -inf:
            end = later
        if end is not None and start < CLOCK_IS_SET_S <= now:
            end = None
        backups.append(Stored(tuple(file.path for file in groups[key]), end))
    return tuple(reversed(backups))


def _recognised(name: str, recognisers: Sequence[Names]) -> tuple[Names, Backup | None]:
    """The first recogniser that accepts a name, and the parts of the name."""
    for recogniser in recognisers:
        backup = recogniser.parse(name)
        if backup is not None:
            return recogniser, backup
    return recognisers[0], None
