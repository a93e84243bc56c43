"""The backups on the disk that exceed the limits, and those without a line: it looks at files, `retention` decides."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from math import inf

from rollsafe._backups.listing import Listing, slowly
from rollsafe._backups.names import Names
from rollsafe._backups.quiet import QuietFiles
from rollsafe._backups.recognition import Found, Inventory, put_in_order, recognise
from rollsafe._backups.retention import Limits, Removal, Stored, select_expired
from rollsafe._files.identity import Identity, identity_of
from rollsafe._values import Value


class Excess(Value):
    """The backups that exceed the limits, and those without a line."""

    removals: tuple[Removal, ...] = ()
    """Each with the reason, oldest first."""
    empty: tuple[str, ...] = ()
    """The paths of the backups without a line, oldest first; no archive is one of them."""
    doubts_clock: bool = False
    """Whether backups are left out that are too old by a clock which the files do not bear out."""
    uncertain: tuple[str, ...] = ()
    """The paths of the files that look like backups, and that no limit removes: see `recognition`."""

    @property
    def paths(self) -> list[str]:
        """The paths of the files, oldest first."""
        return [path for removal in self.removals for path in removal.backup.paths]


def inventory_of(listings: Sequence[Listing], recognisers: Sequence[Names]) -> Inventory:
    """The backups in all directories of a log."""
    found: list[Found] = []
    uncertain: list[str] = []
    for listing in listings:
        bound = recognisers if len(listings) == 1 else [names.within(listing.directory) for names in recognisers]
        backups, others = recognise(slowly(listing.files), bound, time.time(), listing.directory)
        found += backups
        uncertain += others
    return Inventory(put_in_order(found, time.time()), tuple(uncertain))


def find_excess(listings: Sequence[Listing], recognisers: Sequence[Names], limits: Limits, quiet: QuietFiles) -> Excess:
    """The backups that exceed the limits, and those without a line.

    Args:
        listings: Of all directories of a log, first the one in which new backups go.
        recognisers: A file counts as a backup if one of them recognises its name.
        limits: The limits.
        quiet: Whether this process believes the wall clock.
    """
    inventory = inventory_of(listings, recognisers)
    archived = tuple(extension for names in recognisers for extension in names.extensions if extension)
    has_too_many = 0 < limits.count < len(inventory.certain)
    stored: list[Stored] = []
    empty: list[str] = []
    for backup in slowly(inventory.certain):
        is_plain = not any(path.endswith(archived) for path in backup.paths)
        size = size_of(backup.paths) if limits.need_sizes or has_too_many or is_plain else 0
        stored.append(Stored(backup.paths, backup.end, size, has_too_many and not size))
        if is_plain and not size:
            empty += backup.paths
    doubts_clock = False
    if limits.max_age and select_expired(stored, Limits(max_age=limits.max_age), time.time()):
        doubts_clock = not quiet.believes_clock(_times_of(inventory, listings[0]), limits.max_age)
        limits = limits.replace(max_age=None) if doubts_clock else limits
    free = inf
    if limits.min_free_bytes:
        status = os.statvfs(listings[0].directory)
        free = status.f_bavail * status.f_frsize
    removals = tuple(select_expired(stored, limits, time.time(), free))
    return Excess(removals, tuple(empty), doubts_clock, inventory.uncertain)


def _times_of(inventory: Inventory, first: Listing) -> Iterator[float]:
    """When each of the backups, and the live file if it is in the first directory, was last written."""
    paths = [path for backup in inventory.certain for path in backup.paths]
    for path in slowly([*paths, first.path(first.names.live_name)]):
        with suppress(OSError):
            yield os.lstat(path).st_mtime


def size_of(paths: Iterable[str]) -> int:
    """Bytes of the files of a backup; a file that has two names counts once."""
    sizes: dict[Identity, int] = {}
    for path in paths:
        with suppress(FileNotFoundError):
            status = os.lstat(path)
            sizes[identity_of(status)] = status.st_size
    return sum(sizes.values())
