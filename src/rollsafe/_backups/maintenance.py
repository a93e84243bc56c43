"""When a handler maintains its backups: at its start, after a rollover, and again after a failure; one pass at a time.

One thread of the process does it for all its handlers (`maintenance_thread`). For each log, one process
does it at a time (`election`); another one takes over if that process ends.

The application's functions may raise anything. Not even a `handleError` that raises ends the thread.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import closing
from math import inf

from rollsafe._background import Ending
from rollsafe._backups.attempts import IsElected, NotElected, TakesLong
from rollsafe._backups.codecs import Codec
from rollsafe._backups.duties import Duties, Maintained
from rollsafe._backups.election import PAUSE_S, Election
from rollsafe._backups.excess import Excess, find_excess
from rollsafe._backups.failures import Failures
from rollsafe._backups.ledger import Ledger
from rollsafe._backups.listing import Listing
from rollsafe._backups.maintenance_pass import MaintenancePass
from rollsafe._backups.maintenance_thread import join, thread_of_this_process
from rollsafe._backups.naming import BackupNaming
from rollsafe._backups.quiet import QuietFiles
from rollsafe._backups.watch import Watch
from rollsafe._reports import Reports
from rollsafe._timing import KEPT_S
from rollsafe.locks import FileLock


class Maintenance:
    """The maintenance of the backups of one handler.

    Args:
        handler: The handler.
        naming: The names of its backups.
        reports: Takes what could not be done.
        codec: How its backups are compressed, None if they are not.
        lock_path: The lock file of its log.

    Attributes:
        duties: What the handler wants done.
        watch: The watch over the log while no line comes.
    """

    def __init__(
        self, handler: Maintained, naming: BackupNaming, reports: Reports, codec: Codec | None, lock_path: str
    ) -> None:
        self._handler = handler
        self._naming = naming
        self.duties = Duties(handler, naming, reports, codec)
        self._lock_path = lock_path
        self._quiet = QuietFiles()
        self._failures = Failures()
        self._was_disowned = False
        self.reset()
        join(self)

    def reset(self) -> None:
        """Begin anew, in a new process."""
        self._election = Election(self._lock_path)
        self._is_starting = True
        self._is_called = False
        self._has_work = False
        self._stands_by = False
        self._has_failed = False
        self._next_step_at = inf
        self.watch = Watch(self._handler, self.duties, self._naming, self._lock_path)

    # For the thread.

    @property
    def due(self) -> float:
        """When to make a step; seconds of the monotonic clock, infinity for never."""
        # In this order: a step sets `_next_step_at` to 0 before it clears `_is_called`.
        return 0.0 if self._is_called else self._next_step_at

    @property
    def is_waiting_for_election(self) -> bool:
        """Whether another process does the work."""
        return self._election.is_lost

    @property
    def may_hang(self) -> bool:
        """Whether even a look may take long, because the files are on a server."""
        return bool(self._handler.lock_writes)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is left to do, and nothing is being done."""
        return self.due == inf

    def step(self, *, may_take_long: bool) -> bool:
        """Do what can be done now, and set `due`; only the threads of the maintenance call this.

        Returns:
            False if the rest may take long, and is not to be done by this thread; then it is due at once.
        """
        is_done = True
        self._next_step_at = 0.0
        # A call from now on leads to another step.
        self._is_called = False
        next_step_at = inf
        try:
            next_step_at = self._step(may_take_long)
            self._has_failed = False
        except TakesLong:
            self._has_work = True
            is_done = False
            next_step_at = 0.0
            # Another process may do it before that thread can.
            self._election.end()
        except Ending:
            pass  # Another process goes on.
        except BaseException as error:  # an application's function may raise anything
            if not (self._has_failed or self._is_removed(error)):
                self.duties.report(f"maintenance of the backups beside {self._lock_path} has failed", error)
            self._has_failed = True
        finally:
            if next_step_at == inf:
                self._election.end()
            self._next_step_at = next_step_at
        return is_done

    def look(self, tick: float, *, rolls: bool = False) -> None:
        """Look at the log, and have a step made if there is something to do; only the thread calls this.

        Args:
            tick: The time of the look, seconds of the monotonic clock.
            rolls: Whether to roll a live file that is over now, without an election, because the step may come late.
        """
        self.watch.look(tick)
        if self.watch.is_over and rolls:
            self.watch.roll()
        if self.watch.is_over or self.watch.is_pass_due:
            self._is_called = True

    # For the handler.

    def start_watch(self) -> None:
        """Have the thread look at the log, if the handler wants anything done; starts the thread if there is none."""
        thread = thread_of_this_process()
        if self.watch.start():
            thread.call(self)

    def reopened(self) -> None:
        """A file was opened for the handler, which was closed before."""
        thread = thread_of_this_process()
        if self.watch.start(is_open=True):
            thread.call(self)

    def leased(self) -> None:
        """The live file was leased: do what an earlier process left undone, and what has failed and is due again."""
        self.start_watch()
        is_starting, self._is_starting = self._is_starting, False
        if is_starting and self.duties.after_rollover():
            self.wake()
        if time.monotonic() >= min(self._failures.retry_at, self._quiet.clock_believed_at):
            self.wake()

    def rolled(self) -> None:
        """This process has rolled a file over."""
        if self.duties.after_rollover():
            self.wake()

    def rolled_by_another(self) -> None:
        """Another process has rolled a file over: see to it that its backup is finished, even if that process ends."""
        if self.duties.with_new_backup():
            self.stand_by()

    def opened_part(self) -> None:
        """This process has opened a backup, or made one, for a late line."""
        if self.duties.with_new_backup():
            self.wake()

    def kept_for_late_lines(self) -> None:
        """A file was kept open for late lines: perhaps no line comes any more that would close it."""
        thread = thread_of_this_process()
        if self.watch.look_within(KEPT_S):
            thread.alarm()

    def closed(self) -> None:
        """The handler has no file open any more."""
        self.watch.stop()
        thread_of_this_process().alarm()

    def wake(self) -> None:
        """Have a pass made soon; returns at once."""
        thread = thread_of_this_process()
        self._has_work = True
        self._is_called = True
        thread.call(self)

    def stand_by(self) -> None:
        """Have the pass of another process completed, if that process ends before its end; returns at once."""
        thread = thread_of_this_process()
        self._stands_by = True
        self._is_called = True
        thread.call(self)

    def expired(self) -> list[str]:
        """The paths of the files that exceed the limits, oldest first."""
        return self._excess(self.duties.listings()).paths if self.duties.limits().any else []

    def _excess(self, listings: Sequence[Listing]) -> Excess:
        """The backups that exceed the limits, and those without a line."""
        return find_excess(listings, self._naming.recognisers(), self.duties.limits(), self._quiet)

    # A step.

    def _step(self, may_take_long: bool) -> float:
        """Take part in the election, roll a live file that is over, and make a pass; when to make the next step."""
        watch = self.watch
        was_won = self._election.is_won
        if not was_won and not self._election.try_to_win():
            watch.lose()
            waits = self._has_work or self._stands_by or watch.is_over
            return time.monotonic() + self._election.next_pause() if waits else inf
        stands_by, self._stands_by = self._stands_by, False
        if watch.is_over and watch.roll():
            self._has_work = True
            # The pass comes with the next step, for which the rollover has called anyway.
            return time.monotonic()
        self._has_work = self._has_work or watch.is_pass_due
        if not (was_won or self._has_work or (stands_by and self._is_unfinished())):
            return inf
        self._has_work = False
        try:
            wait = self.make_pass(self._election.is_still_won, may_take_long=may_take_long)
        except NotElected:
            # Perhaps no other process has the lock now, because its file was removed. So take part in the next
            # election, and do the rest then.
            self._election.end()
            self._has_work = True
            return time.monotonic() + PAUSE_S
        return inf if wait is None else time.monotonic() + wait

    def make_pass(self, is_elected: IsElected = lambda: True, *, may_take_long: bool = True) -> float | None:
        """Remove backups and finish new ones, as far as that can be done now; seconds until the next pass.

        Raises:
            NotElected: Another process does it by now.
            TakesLong: The rest may take long, and is not to.
        """
        if self._is_disowned():
            return None
        self.watch.begin_pass()
        listings = self.duties.listings()
        empty: tuple[str, ...] = ()
        if self.duties.removes_more():
            if not may_take_long:
                raise TakesLong
            expired = [os.fspath(path) for path in self._handler.getFilesToDelete()]
        else:
            excess = self._excess(listings)
            expired, empty = excess.paths, excess.empty
        maintenance_pass = MaintenancePass(
            listings, self._quiet, self._failures, self.duties.report, is_elected, may_take_long
        )
        # A lock of its own: `close` releases the one that the handler holds.
        with closing(FileLock(self._lock_path)) as lock:
            maintenance_pass.run(self.duties, Ledger(lock, self._handler.lock_writes), expired, empty)
        if maintenance_pass.is_cut_short:
            raise TakesLong
        self._failures.end_pass()
        return maintenance_pass.wait

    def _is_removed(self, error: BaseException) -> bool:
        """Whether a step has failed only because the application closed the log and removed its directory."""
        return (
            isinstance(error, FileNotFoundError)
            and self._handler._closed
            and not os.path.lexists(os.path.dirname(self._lock_path))
        )

    def _is_disowned(self) -> bool:
        """Whether the backups are another log's by now, which is reported once; see `ownership`."""
        owner = self._naming.other_owner()
        if owner is not None and not self._was_disowned:
            sentence = f"the backups that {self._lock_path} is for are those of {owner!r} too, and are left alone"
            self.duties.report(f"{sentence}; give each log an archive_dir or a name of its own", None)
        self._was_disowned = owner is not None
        return self._was_disowned

    def _is_unfinished(self) -> bool:
        """Whether a killed process has left something to do."""
        self.watch.begin_pass()
        return any(listing.is_unfinished(self.duties.codec is not None) for listing in self.duties.listings())
