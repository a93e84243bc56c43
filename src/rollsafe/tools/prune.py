"""Retention by hand: the backups of a log that exceed the limits, the reasons, and their removal.

It follows the same rules as the handler: one process at a time maintains the backups of a log, and removes no file that
was changed within lease and grace.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable

from rollsafe._backups.excess import Excess, find_excess, inventory_of, size_of
from rollsafe._backups.failures import Failures
from rollsafe._backups.listing import Listing
from rollsafe._backups.maintenance_pass import MaintenancePass
from rollsafe._backups.names import Names, recognisers_of
from rollsafe._backups.ownership import other_owner
from rollsafe._backups.quiet import QuietFiles
from rollsafe._backups.retention import Limits, Removal
from rollsafe._files.lock_handles import MAINTENANCE_BYTE
from rollsafe._settings import Settings
from rollsafe.errors import ConfigurationError, LogFileError
from rollsafe.locks import FileLock
from rollsafe.tools.authority import acting_for
from rollsafe.tools.catalog import Log

# Seconds to wait for another process to finish its maintenance: it also compresses.
LOCK_TIMEOUT = 10.0


def limits_in(settings: Settings) -> Limits:
    """The limits among the settings of a handler."""
    return Limits(settings.backupCount, settings.max_age, settings.max_total_bytes, settings.min_free_bytes)


def limits_of(log: Log) -> Limits:
    """The limits that the handler has written into the lock file."""
    return limits_in(log.settings)


def removals(log: Log, limits: Limits) -> list[Removal]:
    """The backups of a log that exceed the limits, oldest first, with the size of each and the reason.

    Raises:
        ConfigurationError: Only the application can recognise the backups of this log by their names.
        LogFileError: They may belong to another log.
        OSError: The directory cannot be read.
    """
    check_owner(log)
    return _with_sizes(excess_of(log, limits).removals)


def excess_of(log: Log, limits: Limits) -> Excess:
    """The backups that exceed the limits, and the files that no limit removes, even if they are another log's.

    Raises:
        ConfigurationError, OSError: As for `removals`.
    """
    return find_excess([listing_of(log)], recognisers_for(log), limits, QuietFiles())


def check_owner(log: Log) -> None:
    """Raise LogFileError if the backups of a log may belong to another log."""
    owner = other_owner(directory_of(log), log.live)
    if owner is not None:
        raise LogFileError(
            f"the backups of {log.live!r} are named as those of {owner!r} in {directory_of(log)!r}, and nothing tells"
            " them apart; give each log an archive_dir or a name of its own"
        )


def uncertain(log: Log) -> list[str]:
    """Full paths of the files that look like backups of a log, and that no limit removes: see `recognition`.

    Raises:
        ConfigurationError, OSError: As for `removals`.
    """
    return list(inventory_of([listing_of(log)], recognisers_for(log)).uncertain)


def removals_by_author(log: Log, limits: Limits) -> tuple[list[Removal], Excess]:
    """The backups that `remove` would remove, and all that was found.

    Raises:
        LogFileError: This user does not trust the owner of the lock file; see `authority`.
        ConfigurationError, OSError: As for `removals`.
    """
    with acting_for(log):
        check_owner(log)
        found = excess_of(log, limits)
        return _with_sizes(found.removals), found


def remove(log: Log, limits: Limits, complain: Callable[[str], None]) -> list[Removal]:
    """Remove the backups that exceed the limits, and return them. It takes 2 to 7 s, and longer after late lines.

    Args:
        log: The log.
        limits: The limits.
        complain: Called with a sentence for each backup that could not be removed.

    Raises:
        LogFileError: Another process maintains the backups for longer than LOCK_TIMEOUT; or as for
            `removals_by_author`.
        ConfigurationError, OSError: As for `removals`.
    """
    with acting_for(log):
        return _remove(log, limits, complain)


def _remove(log: Log, limits: Limits, complain: Callable[[str], None]) -> list[Removal]:
    """Do the work of `remove`, with the rights that `authority` gives."""
    lock = FileLock(log.lock_path, byte=MAINTENANCE_BYTE)
    try:
        if not lock.acquire(LOCK_TIMEOUT):
            raise LogFileError(
                f"the backups of {log.live!r} are maintained by another process (see `rollsafe status`); try again"
                " later"
            )
        quiet, failures = QuietFiles(), Failures()
        gone = removals(log, limits)
        paths = [path for removal in gone for path in removal.backup.paths]
        while True:
            attempt = MaintenancePass(
                [listing_of(log)], quiet, failures, lambda what, error: complain(f"{what}: {error}")
            )
            attempt.remove(paths)
            attempt.remove_unclaimed(paths)
            if attempt.wait is None:
                return [removal for removal in gone if not any(map(os.path.lexists, removal.backup.paths))]
            time.sleep(attempt.wait)
    finally:
        lock.close()


def _with_sizes(found: Iterable[Removal]) -> list[Removal]:
    """The same, with the size of each backup."""
    return [Removal(each.backup.replace(size=size_of(each.backup.paths)), each.reason) for each in found]


def listing_of(log: Log) -> Listing:
    """The files in the directory of the backups."""
    return Listing(directory_of(log), _names(log))


def directory_of(log: Log) -> str:
    """The directory of the backups."""
    return log.settings.archive_dir or os.path.dirname(log.live)


def _names(log: Log) -> Names:
    """The names that the handler makes."""
    if log.settings.namer:
        raise ConfigurationError(
            f"a namer of the application names the backups of {log.live!r}, and only the application knows it;"
            " let the handler's own limits do it"
        )
    return Names(_base(log), log.schedule(), extension=log.settings.extension)


def recognisers_for(log: Log) -> list[Names]:
    """The objects that recognise the backups, as for the handler."""
    return recognisers_of(_names(log), _base(log), log.settings.zone(), extension=log.settings.extension)


def _base(log: Log) -> str:
    """The path that the names of backups begin with."""
    return os.path.join(directory_of(log), log.name)
