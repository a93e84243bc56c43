"""Checks that the backups which retention will keep fit on the disk."""

from __future__ import annotations

import os
import resource
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from rollsafe.errors import ConfigurationError
from rollsafe.tools.findings import ERROR, OK, WARNING, Finding, Target
from rollsafe.tools.prune import limits_in
from rollsafe.tools.words import plural, size_text

_DAY = 86400.0
# A warning is due if fewer files than this can still be made.
_FEW_FILES = 100
# A warning is due if the disk is full in fewer days than this.
_SOON = 30


def check_space(targets: Sequence[Target]) -> Iterator[Finding]:
    """Check by the sizes of the present backups that those which retention will keep fit; each file system once."""
    by_device: defaultdict[int, list[Target]] = defaultdict(list)
    for target in targets:
        if os.path.isdir(target.backup_directory):
            by_device[os.stat(target.backup_directory).st_dev].append(target)
    for group in by_device.values():
        where = group[0].backup_directory
        status = os.statvfs(where)
        free = float(status.f_bavail * status.f_frsize)
        yield from _space(group, free)
        # Some file systems (btrfs) have no such number, and report 0 of 0.
        if status.f_files and status.f_favail < _FEW_FILES:
            yield Finding(
                ERROR,
                "space",
                where,
                f"there is room for {plural(status.f_favail, 'file')} more (inodes), however small",
                "a rollover needs one; without it, no new live file can be made",
                "remove files there, or make the file system with more inodes (df -i shows them)",
            )
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if targets and limit != resource.RLIM_INFINITY:
        yield Finding(
            WARNING,
            "space",
            "ulimit -f",
            f"no file of a process that is started from here may be larger than {size_text(limit)}",
            "a live file that has grown so large is rolled over before its interval ends, and a longer line is lost",
            "lift the limit (ulimit -f unlimited; LimitFSIZE= of systemd), unless such parts are wanted",
        )


def _space(group: Sequence[Target], free: float) -> Iterator[Finding]:
    """The findings about one file system and its free bytes."""
    needed = 0.0
    growth = 0.0
    known = False
    for target in group:
        volume = _volume(target)
        settings = target.settings
        if settings is not None and not limits_in(settings).any:
            yield Finding(
                WARNING,
                "retention",
                target.live,
                "backups are never removed",
                "the disk fills up sooner or later"
                + (f"; this log grows by {size_text(volume.per_second * _DAY)} a day" if volume else ""),
                "give backupCount, max_age, max_total_bytes or min_free_bytes",
            )
            growth += volume.per_second if volume else 0.0
        elif volume is not None:
            needed += max(0.0, volume.kept - volume.now) + volume.largest
        known = known or volume is not None
    where = group[0].backup_directory
    if not known:
        yield Finding(
            OK, "space", where, f"{size_text(free)} free; there are no backups yet to tell how much will be needed"
        )
    elif needed > free:
        yield Finding(
            ERROR,
            "space",
            where,
            f"{size_text(free)} free, and the backups that are to be kept will need {size_text(needed)} more",
            "when the disk is full, lines wait in memory and are lost beyond 1 MiB",
            "keep less (backupCount, max_total_bytes, min_free_bytes), compress, or give more space",
        )
    elif growth and (free - needed) / growth < _SOON * _DAY:
        yield Finding(
            WARNING,
            "space",
            where,
            f"{size_text(free)} free, which is full in {(free - needed) / growth / _DAY:.1f} days",
            "when the disk is full, lines wait in memory and are lost beyond 1 MiB",
            "limit what is kept (backupCount, max_total_bytes, min_free_bytes), compress, or give more space",
        )
    else:
        yield Finding(OK, "space", where, f"{size_text(free)} free, {size_text(needed)} more will be needed")


@dataclass(frozen=True)
class _Volume:
    """The space that a log takes: bytes, and bytes a second."""

    now: float
    """All backups."""
    kept: float
    """All backups when retention is in its steady state."""
    largest: float
    """Of one interval."""
    per_second: float


def _volume(target: Target) -> _Volume | None:
    """The volume of a log, by its present backups; None if it has none."""
    if target.log is None or target.settings is None:
        return None
    sizes: defaultdict[float, int] = defaultdict(int)
    for file in target.log.files:
        if file.interval and not file.is_live:
            with suppress(FileNotFoundError):
                sizes[file.interval.start] += os.stat(file.path).st_size
    if not sizes:
        return None
    try:
        length = target.settings.schedule().length
    except ConfigurationError:
        return None
    settings = target.settings
    now, mean = float(sum(sizes.values())), sum(sizes.values()) / len(sizes)
    kept = [mean * settings.backupCount] if settings.backupCount else []
    kept += [mean * settings.max_age / length] if settings.max_age else []
    kept += [float(settings.max_total_bytes)] if settings.max_total_bytes else []
    return _Volume(now, min(kept, default=now), float(max(sizes.values())), mean / length)
