"""A rollover by hand: the live file of a log whose interval is over gets its backup name, and its backups are finished.

It goes by the note in the lock file, takes the same steps under the same locks as the handlers, and has the rights of
the user who can have written the note (`authority`). What only the application knows is left to its processes: a namer,
a zone without a name, a function that compresses, `rotator` and `on_rollover`. A file for which one of the last two is
to be called gets the name that its handler would give it, by which the maintenance of those processes finds it.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from rollsafe._backups.attempts import NotElected
from rollsafe._backups.codecs import codec_for
from rollsafe._backups.excess import find_excess
from rollsafe._backups.failures import Failures
from rollsafe._backups.ledger import Ledger
from rollsafe._backups.maintenance_pass import MaintenancePass
from rollsafe._backups.names import ROLLED_EXTENSION
from rollsafe._backups.naming import BackupNaming
from rollsafe._backups.quiet import QuietFiles
from rollsafe._files.lock_handles import MAINTENANCE_BYTE
from rollsafe._files.note import Note, read_note
from rollsafe._live.bounded_lock import LockBusy
from rollsafe._live.open_file import OpenFile
from rollsafe._live.renewal import LINGER_S, is_ahead
from rollsafe._live.rollover import Rollover
from rollsafe._settings import Settings
from rollsafe._timing import QUIET_S
from rollsafe.errors import ConfigurationError, LogFileError
from rollsafe.locks import FileLock
from rollsafe.tools.authority import acting_for
from rollsafe.tools.catalog import Log
from rollsafe.tools.prune import LOCK_TIMEOUT, check_owner, limits_of, listing_of, recognisers_for
from rollsafe.tools.words import plural

Complain = Callable[[str], None]


@dataclass
class Outcome:
    """What was done with one log.

    Attributes:
        live: The live file.
        backup: The path of the backup that the live file became; None if it was not rolled.
        reason: Why it was not rolled.
        compressed: The paths of the backups that were compressed.
        removed: The paths of the backups that were removed.
        left: What is left to other processes.
    """

    live: str
    backup: str | None = None
    reason: str = ""
    compressed: list[str] = dataclasses.field(default_factory=list)
    removed: list[str] = dataclasses.field(default_factory=list)
    left: list[str] = dataclasses.field(default_factory=list)

    def __str__(self) -> str:
        done = f"rolled to {os.path.basename(self.backup)}" if self.backup else f"not rolled: {self.reason}"
        parts = [done]
        for paths, what in ((self.compressed, "compressed"), (self.removed, "removed")):
            parts += [f"{plural(len(paths), 'backup')} {what}"] if paths else []
        return f"{self.live}: {'; '.join([*parts, *self.left])}"


class NotedHandler:
    """The handler that has written a note, as `BackupNaming` sees it. The application has overridden nothing in it."""

    utc = False

    def __init__(self, live: str, settings: Settings) -> None:
        self.baseFilename = live
        self.interval: int = int(settings.schedule().length)
        self.tz: datetime.tzinfo | str | None = settings.zone()
        self.archive_dir: str | None = settings.archive_dir

    def rotation_filename(self, default_name: str) -> str:
        """The name itself."""
        return default_name

    def computeRollover(self, currentTime: float) -> float:
        """Not called, because it is not replaced."""
        raise NotImplementedError

    def _replaces(self, name: str) -> bool:
        """Whether the application has replaced a method."""
        return False


def roll(log: Log, complain: Complain, *, now: bool = False) -> Outcome:
    """Roll the live file of a log, if it has lines and its interval is over, and finish the backups.

    It takes 2 s or longer if there is anything to compress or to remove, because no file is touched that a process may
    still write to without a check.

    Args:
        log: The log.
        complain: Called with a sentence for each backup that could not be compressed or removed.
        now: Roll the file also in the middle of its interval.

    Raises:
        ConfigurationError: Only the application can roll this log.
        LogFileError: No handler of ours has noted how this log is rolled; the lock is busy; or this user does not trust
            the note.
        OSError: The rollover was refused.
    """
    if not log.told or not os.path.lexists(log.lock_path):
        raise LogFileError(
            f"no lock file {log.lock_path!r} says how {log.live!r} is rolled; let the application log a line, or run"
            " the command as a user who may read that file"
        )
    if log.settings.namer:
        raise ConfigurationError(
            f"a namer of the application names the backups of {log.live!r}, and only the application knows it; its"
            " processes roll the file over, even without a line, if the handler has a limit or compresses"
        )
    with acting_for(log):
        check_owner(log)
        outcome = Outcome(log.live)
        try:
            outcome.backup, outcome.reason = _roll(log, now=now)
        except LockBusy as error:
            raise LogFileError(str(error)) from error
        try:
            _finish(log, outcome, complain)
        except (ConfigurationError, OSError) as error:
            # A compression that is not installed here, or a directory that cannot be read: the file is rolled.
            complain(f"the backups of {log.live!r} could not be finished: {error}")
        return outcome


def _roll(log: Log, *, now: bool) -> tuple[str | None, str]:
    """Roll the live file, if that is to be done; returns the path of the backup, or the reason that there is none."""
    note = read_note(log.live)
    if note is None:
        raise LogFileError(
            f"the note in {log.lock_path!r} cannot be read as user {os.geteuid()}, or has just changed; let that user"
            " enter the directory if the log is theirs"
        )
    rollover = _rollover_of(log, note)
    try:
        try:
            status = os.lstat(log.live)
            if not status.st_size:
                return None, "it is empty"
            stream = rollover.live.open_existing()
        except FileNotFoundError:
            return None, "there is no live file"
        file = rollover.open(time.time(), stream)
        try:
            return _roll_open(rollover, file, now=now)
        finally:
            file.close()
    finally:
        rollover.close()


def _roll_open(rollover: Rollover, file: OpenFile, *, now: bool) -> tuple[str | None, str]:
    """Roll the live file, which is open, if that is to be done; returns as `_roll`."""
    instant = time.time()
    is_over = instant >= file.end or is_ahead(file.start, instant)
    if not is_over and not now:
        assert file.interval is not None, "only a regular file is rolled"
        return None, f"its interval {file.interval.suffix} is not over"
    if is_over:
        # Lines in flight land under the live name, where log shippers still read.
        time.sleep(min(max(file.end + LINGER_S - instant, 0.0), LINGER_S))
    backup = rollover.roll(file, time.time())
    return backup, "" if backup else "another process has just rolled it"


def _rollover_of(log: Log, note: Note) -> Rollover:
    """The steps under the lock, as the handler that has written the note takes them."""
    settings = log.settings
    codec_extension = f".{settings.codec}" if settings.codec else settings.extension
    naming = BackupNaming(
        NotedHandler(log.live, settings),
        lambda suffix: settings.replace(suffix=suffix).schedule(),
        suffix=settings.suffix,
        extension=codec_extension,
    )
    naming.set_path(log.live)
    waits = settings.rotator or (settings.on_rollover and not settings.compress)
    return Rollover(
        log.live,
        naming,
        extension=lambda: ROLLED_EXTENSION if waits else "",
        # As it is, with the settings of a later version; and as old as it is, so that the handlers still write theirs.
        describe=lambda: note.settings,
        permissions=None,
        shared=_is_shared(note),
        by_size=bool(settings.maxBytes),
        made=note.made,
    )


def _finish(log: Log, outcome: Outcome, complain: Complain) -> None:
    """Compress backups, and remove those that exceed the limits, as far as it is not left to other processes."""
    settings = log.settings
    is_called = settings.rotator or settings.on_rollover
    if outcome.backup and settings.compress and (is_called or not settings.codec):
        outcome.left.append("the application compresses it")
    if outcome.backup and is_called:
        outcome.left.append(f"the application calls {'its rotator' if settings.rotator else 'on_rollover'}")
    codec = None if is_called or not settings.codec else codec_for(settings.codec, settings.compress_level)
    election = FileLock(log.lock_path, byte=MAINTENANCE_BYTE)
    rollover_lock = FileLock(log.lock_path)
    try:
        if not election.acquire(LOCK_TIMEOUT):
            outcome.left.append("another process maintains the backups, and does the rest")
            return
        ledger = Ledger(rollover_lock, _is_shared(read_note(log.live)))
        limits, quiet, failures = limits_of(log), QuietFiles(), Failures()
        wait: float | None = 0.0
        while wait is not None:
            time.sleep(wait)
            listing = listing_of(log)
            check_owner(log)
            excess = find_excess([listing], recognisers_for(log), limits, quiet)
            # As the maintenance of a handler does, if it has anything to do.
            empty = excess.empty if limits.any or settings.compress or is_called else ()
            gone = {*excess.paths, *empty}
            plain = [path for path, _ in listing.plain() if path not in gone]
            attempt = MaintenancePass(
                [listing], quiet, failures, lambda what, error: complain(f"{what}: {error}"), election.excludes
            )
            attempt.remove(gone)
            released: list[str] = []
            if not is_called:
                attempt.recover(ledger, released.append)
                # No handler waits for these files any more.
                attempt.release(ledger, released.append, empty)
                attempt.remove_unclaimed(gone)
            if codec is not None:
                attempt.compress(codec, ledger, None, gone)
                archives = {path: path + codec.extension for path in plain}
                outcome.compressed += [path for path in plain if _is_replaced(path, archives[path])]
            outcome.removed += [path for path in gone if not os.path.lexists(path)]
            wait = attempt.wait if not released or codec is None else QUIET_S
    except NotElected:
        outcome.left.append("another process maintains the backups, and does the rest")
    finally:
        election.close()
        rollover_lock.close()


def _is_replaced(path: str, archive: str) -> bool:
    """Whether a backup has become an archive."""
    return not os.path.lexists(path) and os.path.lexists(archive)


def _is_shared(note: Note | None) -> bool:
    """Whether several hosts write the live file: then the note has no number of a device."""
    return note is not None and note.identity[0] == 0
