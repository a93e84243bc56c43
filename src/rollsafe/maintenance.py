"""What a handler has done with its backups, and when: at its start, after a rollover, again after a failure.

One thread of the process does it for all its handlers (:mod:`rollsafe.maintenance_thread`). For each log, one process
does it at a time, elected by a lock; another one takes over if that process ends.

The handler's attributes and overridden methods are asked for each time, because an application may set them at any.
What belongs to the application may raise anything: not even a `handleError` that raises ends the thread.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Any, Final, Protocol

from rollsafe.background import Ending, is_patched
from rollsafe.backups import IsElected, NotElected, Tending, Watch
from rollsafe.codecs import Codec
from rollsafe.ledger import Ledger
from rollsafe.locks import LEASE, TENDING_BYTE, FileLock
from rollsafe.maintenance_thread import join, thread_of_this_process
from rollsafe.names import ROLLED_EXTENSION, Names
from rollsafe.retention import Limits
from rollsafe.schedule import Interval

# Seconds between attempts to become the process that maintains the backups, at first and at most.
_ELECTION_PAUSE: Final = 0.25
_LONGEST_ELECTION_PAUSE: Final = 2.0
# Seconds between looks whether a file is to be let go of, at least and at most: with intervals of a second, and where
# a file is rolled for its size or by hand, nobody knows when.
_SHORTEST_LOOK: Final = 2.0
_LONGEST_LOOK: Final = 600.0


class Maintained(Protocol):
    """What a handler tells of itself. The types are the standard library's, where these are its names."""

    backupCount: int
    max_age: float | None
    max_total_bytes: int | None
    min_free_bytes: int | None
    on_rollover: Callable[[str, Interval], object] | None
    rotator: Any
    lock_writes: bool
    rolloverAt: float  # the standard library's name

    def rotate(self, source: str, dest: str) -> None:
        """Give a rolled file its final name, or do more than that."""

    def getFilesToDelete(self) -> list[str]:
        """Full paths of the backups that are to go."""

    def _names(self) -> Names:
        """The names of the backups as the handler's attributes make them now."""

    def _backup_directories(self) -> list[str]:
        """Where the backups are: first those of now; a namer may have a directory for each month."""

    def _backup_owner(self) -> str | None:
        """The other log to which the backups belong by now, None as long as they are the handler's."""

    def _removes_more(self) -> bool:
        """Whether the application decides itself about what is to go."""

    def _rotates_more(self) -> bool:
        """Whether the application does more than rename a file that was rolled."""

    def _let_go(self) -> bool:
        """Close what the handler holds of files that were rolled; whether it has a file open still."""

    def _report(self, sentence: str, error: BaseException | None) -> None:
        """Tell of what could not be done."""


class Maintenance:
    """The backups of one handler.

    Args:
        handler: Whose backups they are.
        codec: How they are compressed, None if they are not.
        lock_path: The lock file; its byte for tending is locked by the process that does the work.
    """

    def __init__(self, handler: Maintained, codec: Codec | None, lock_path: str) -> None:
        self._handler = handler
        self._codec = codec
        self._lock_path = lock_path
        self._watch = Watch()
        self._was_disowned = False
        self.reset()
        join(self)

    def reset(self) -> None:
        """Begin anew, in a new process."""
        self._election: FileLock | None = None
        self._starting = True
        self._is_called = False
        self._asked = False
        self._is_waiting = False
        self._pause = _ELECTION_PAUSE
        self._go_on_at = inf
        self.look_at = inf
        """When to look whether a file is to be let go of; as `due`."""
        self._was_looked_at = False

    # When.

    @property
    def due(self) -> float:
        """When to go on; seconds of the monotonic clock, infinity for never."""
        # In this order: a step clears the call once it has set the time.
        return 0.0 if self._is_called else self._go_on_at

    @property
    def is_waiting_for_election(self) -> bool:
        """Whether another process does the work."""
        return self._is_waiting

    @property
    def is_idle(self) -> bool:
        """Whether nothing is left to do, and nothing is being done."""
        return self.due == inf

    @property
    def wants_a_look(self) -> bool:
        """Whether it is time to look, which may be the first: a handler may have a file open and log nothing at all."""
        if self._was_looked_at:
            return self.look_at <= time.monotonic()
        try:
            return not is_patched() and self._has_duties()
        except Exception:  # an attribute that the application has set to nonsense
            return False

    def leased(self) -> None:
        """The live file was leased: do what an earlier process left undone, and what has failed and is due again."""
        thread = thread_of_this_process()
        is_starting, self._starting = self._starting, False
        if is_starting and self._has_duties():
            self.wake()
        if self.look_at == inf and not is_patched() and self._has_duties():
            self.look_at = time.monotonic() + _SHORTEST_LOOK
            thread.call(self)
        if time.monotonic() >= self._watch.retry_at:
            self.wake()

    def rolled(self) -> None:
        """There is a new backup, of our making."""
        if self._has_duties():
            self.wake()

    def rolled_by_another(self) -> None:
        """Another process has rolled: see to it that its backup is finished, whatever becomes of that process."""
        if self._finishes():
            self.stand_by()

    def opened_piece(self) -> None:
        """A backup was opened, or made, for a late line."""
        if self._finishes():
            self.wake()

    def closed(self) -> None:
        """The handler has no file open any more."""
        self.look_at = inf
        thread_of_this_process().alarm()

    def wake(self) -> None:
        """Have the backups tended soon; returns at once."""
        thread = thread_of_this_process()
        self._asked = True
        self._is_called = True
        thread.call(self)

    def stand_by(self) -> None:
        """Have what another process has begun to tend completed, should it end before; returns at once."""
        thread = thread_of_this_process()
        self._is_called = True
        thread.call(self)

    def step(self) -> None:
        """Do what can be done now, and set `due`; only the thread calls this."""
        self._go_on_at = 0.0
        # Who calls from now on has another step made.
        self._is_called = False
        next_due = inf
        try:
            next_due = self._step()
        except Ending:
            pass  # Another process goes on.
        except BaseException as error:  # what belongs to the application may raise anything
            self.report(f"the backups beside {self._lock_path} could not be tended", error)
        finally:
            if next_due == inf:
                self._end_election()
            self._go_on_at = next_due

    def look(self) -> None:
        """Let go of files that were rolled, and set `look_at`; only the thread calls this.

        A process that logs nothing would hold a file open that was removed long ago, and its space on the disk. Where
        gevent or eventlet have replaced the handler's lock, no other thread may take it: there a line does it.
        """
        self.look_at = inf
        self._was_looked_at = True
        if is_patched():
            return
        holds = True
        try:
            holds = self._handler._let_go()
        except BaseException as error:
            self.report(f"files beside {self._lock_path} could not be closed", error)
        if holds:
            boundary = self._handler.rolloverAt - time.time() + LEASE
            self.look_at = time.monotonic() + min(max(boundary, _SHORTEST_LOOK), _LONGEST_LOOK)

    def report(self, sentence: str, error: BaseException | None) -> None:
        """Report; a `handleError` that raises is not worth the thread."""
        with suppress(BaseException):
            self._handler._report(sentence, error)

    def _step(self) -> float:
        """One step: the election, then a round; when the next one is due."""
        if self._election is None:
            self._election = FileLock(self._lock_path, byte=TENDING_BYTE)
        if not self._election.locked:
            self._is_waiting = not self._election.acquire(timeout=0)
            if self._is_waiting:
                self._pause, pause = min(2 * self._pause, _LONGEST_ELECTION_PAUSE), self._pause
                return time.monotonic() + pause
            self._pause = _ELECTION_PAUSE
            if not self._asked and not self._is_unfinished():
                return inf
        self._asked = False
        try:
            wait = self.do_round(self._election.excludes)
        except NotElected:
            # The lock was lost under us (see `FileLock.excludes`), perhaps to nobody, as where its file was removed:
            # wait for the next election, and do then what is left.
            self._end_election()
            self._asked = True
            return time.monotonic() + self._pause
        return inf if wait is None else time.monotonic() + wait

    def _end_election(self) -> None:
        """Leave the work to others."""
        self._is_waiting = False
        election, self._election = self._election, None
        if election is not None:
            election.close()

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
        here, *beside = self._handler._backup_directories()
        names = self._handler._names()
        tending = Tending(here, names.within(here) if beside else names, self._watch, self.report, is_elected)
        tending.beside = [Tending(each, names.within(each), self._watch, self.report, is_elected) for each in beside]
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
        ledger = Ledger(lock, self._handler.lock_writes)
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
                tending.compress(self._codec, ledger, self._tell_final if wanted else None, expired)
        finally:
            lock.close()
        return tending.wait

    def _is_disowned(self) -> bool:
        """Whether the backups are another log's by now, which is said once; see `ownership`."""
        owner = self._handler._backup_owner()
        if owner is not None and not self._was_disowned:
            sentence = f"the backups that {self._lock_path} is for are those of {owner!r} too, and are left alone"
            self.report(f"{sentence}; give each log an archive_dir or a name of its own", None)
        self._was_disowned = owner is not None
        return self._was_disowned

    def _tell_final(self, path: str) -> None:
        """Tell the application that a backup is final."""
        if self._handler.on_rollover is not None:
            names = self._handler._names()
            backup = names.within(os.path.dirname(path)).parse(os.path.basename(path))
            if backup is not None:
                self._handler.on_rollover(path, names.interval_near(backup, os.lstat(path).st_mtime))

    def _is_unfinished(self) -> bool:
        """Whether a process that was killed has left something to a round."""
        tending = self.tending()
        return any(each.is_unfinished(self._codec is not None) for each in (tending, *tending.beside))

    def _has_duties(self) -> bool:
        """Whether there is anything to do after a rollover."""
        return self.limits().any or self._handler._removes_more() or self._finishes()

    def _finishes(self) -> bool:
        """Whether there is anything to do with a backup of this moment."""
        return self._codec is not None or self._handler.on_rollover is not None or self._has_rotator()

    def _has_rotator(self) -> bool:
        """Whether the application does more than rename."""
        return callable(self._handler.rotator) or self._handler._rotates_more()
