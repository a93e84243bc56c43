"""What a handler has done with its backups, and when: at its start, after a rollover, again after a failure.

The handler's attributes and overridden methods are asked for each time, because an application may set them at any.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, Protocol

from rollsafe.backups import IsElected, Keeper, Tending, Watch
from rollsafe.codecs import Codec
from rollsafe.ledger import Ledger
from rollsafe.locks import FileLock
from rollsafe.names import ROLLED_EXTENSION, Names
from rollsafe.retention import Limits
from rollsafe.schedule import Interval


class Rotating(Protocol):
    """What a handler tells of itself. The types are the standard library's, where these are its names."""

    backupCount: int
    max_age: float | None
    max_total_bytes: int | None
    min_free_bytes: int | None
    on_rollover: Callable[[str, Interval], object] | None
    rotator: Any

    def rotate(self, source: str, dest: str) -> None:
        """Give a rolled file its final name, or do more than that."""

    def getFilesToDelete(self) -> list[str]:
        """Full paths of the backups that are to go."""


class Housekeeping:
    """The backups of one handler.

    Args:
        handler: Whose backups they are.
        names: Their names as the handler's attributes make them now.
        directories: Where they are: first those of now; a namer may have a directory for each month.
        codec: How they are compressed, None if they are not.
        lock_path: The lock file.
        report: Told of what could not be done: (sentence, error).
        shared: Whether several hosts share the file.
        owner: The other log to which the backups belong by now, None as long as they are ours.
        removes_more: Whether the handler's class decides itself about what is to go.
        rotates_more: Whether it does more than rename.
    """

    def __init__(
        self,
        handler: Rotating,
        names: Callable[[], Names],
        directories: Callable[[], list[str]],
        codec: Codec | None,
        lock_path: str,
        report: Callable[[str, BaseException | None], None],
        *,
        shared: bool,
        owner: Callable[[], str | None],
        removes_more: bool,
        rotates_more: bool,
    ) -> None:
        self._handler = handler
        self._names = names
        self._directories = directories
        self._codec = codec
        self._lock_path = lock_path
        self._report = report
        self._owner = owner
        self._shared = shared
        self._removes_more = removes_more
        self._rotates_more = rotates_more
        self._watch = Watch()
        self._starting = True
        self._was_disowned = False
        self.keeper = Keeper(lock_path, self.do_round, self._is_unfinished, report)

    # When.

    def leased(self) -> None:
        """The live file was leased: do what an earlier process left undone, and what has failed and is due again."""
        if self._starting:
            self._starting = False
            if self._has_duties():
                self.keeper.wake()
        if time.monotonic() >= self._watch.retry_at:
            self.keeper.wake()

    def rolled(self) -> None:
        """There is a new backup, of our making."""
        if self._has_duties():
            self.keeper.wake()

    def rolled_by_another(self) -> None:
        """Another process has rolled: see to it that its backup is finished, whatever becomes of that process."""
        if self._finishes():
            self.keeper.stand_by()

    def opened_piece(self) -> None:
        """A backup was opened, or made, for a late line."""
        if self._finishes():
            self.keeper.wake()

    def forked(self) -> None:
        """This is a new process."""
        self._starting = True

    # What.

    def extension(self) -> str:
        """What a rolled file has behind its backup name until a rotator or `on_rollover` has had its turn."""
        waits = self._has_rotator() or (self._handler.on_rollover is not None and self._codec is None)
        return ROLLED_EXTENSION if waits else ""

    def limits(self) -> Limits:
        """What may be kept."""
        handler = self._handler
        return Limits(handler.backupCount, handler.max_age, handler.max_total_bytes, handler.min_free_bytes)

    def tending(self, is_elected: IsElected = lambda: True) -> Tending:
        """One round over the backups."""
        here, *beside = self._directories()
        names = self._names()
        tending = Tending(here, names.within(here) if beside else names, self._watch, self._report, is_elected)
        tending.beside = [Tending(each, names.within(each), self._watch, self._report, is_elected) for each in beside]
        return tending

    def do_round(self, is_elected: IsElected = lambda: True) -> float | None:
        """Do what can be done now: remove what expired, finish what was rolled. Seconds to wait for the rest."""
        if self._is_disowned():
            return None
        tending = self.tending(is_elected)
        expired = [os.fspath(path) for path in self._handler.getFilesToDelete()]
        waits = [self._do_part(each, tending.share_of(each, expired)) for each in (tending, *tending.beside)]
        self._watch.end_round()
        return max(filter(None, waits), default=None)

    def _do_part(self, tending: Tending, expired: list[str]) -> float | None:
        """Do what can be done in one directory, of whose files some have expired."""
        tending.remove(expired)
        # A lock of its own, because `close` gives back the one that the handler holds.
        lock = FileLock(self._lock_path)
        ledger = Ledger(lock, self._shared)
        # What is yet to be compressed is final only then.
        done = self._tell_final if self._codec is None else tending.again
        try:
            # Always, and so the release: a process with other settings may have left something.
            tending.recover(ledger, self._tell_final)
            if self._has_rotator():
                tending.rotate(self._handler.rotate, ledger, done)
            else:
                tending.release(ledger, done)
            # Not before the application has had its turn.
            tending.give_up(expired)
            if self._codec is not None:
                wanted = self._handler.on_rollover is not None
                tending.compress(self._codec, ledger, self._tell_final if wanted else None)
        finally:
            lock.close()
        return tending.wait

    def _is_disowned(self) -> bool:
        """Whether the backups are another log's by now, which is said once; see `ownership`."""
        owner = self._owner()
        if owner is not None and not self._was_disowned:
            sentence = f"the backups that {self._lock_path} is for are those of {owner!r} too, and are left alone"
            self._report(f"{sentence}; give each log an archive_dir or a name of its own", None)
        self._was_disowned = owner is not None
        return self._was_disowned

    def _tell_final(self, path: str) -> None:
        """Tell the application that a backup is final."""
        if self._handler.on_rollover is not None:
            names = self._names()
            backup = names.within(os.path.dirname(path)).parse(os.path.basename(path))
            if backup is not None:
                self._handler.on_rollover(path, names.interval_near(backup, os.lstat(path).st_mtime))

    def _is_unfinished(self) -> bool:
        """Whether a process that was killed has left something to a round."""
        tending = self.tending()
        return any(each.is_unfinished(self._codec is not None) for each in (tending, *tending.beside))

    def _has_duties(self) -> bool:
        """Whether there is anything to do after a rollover."""
        return self.limits().any or self._removes_more or self._finishes()

    def _finishes(self) -> bool:
        """Whether there is anything to do with a backup of this moment."""
        return self._codec is not None or self._handler.on_rollover is not None or self._has_rotator()

    def _has_rotator(self) -> bool:
        """Whether the application does more than rename."""
        return callable(self._handler.rotator) or self._rotates_more
