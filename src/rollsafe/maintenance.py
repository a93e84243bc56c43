"""What a handler has done with its backups, and when: at its start, after a rollover, again after a failure.

One thread of the process does it for all its handlers (`_Worker`). It lives as long as there is something to do, or a
file to be let go of at the next boundary; if it is not at work it ends for each fork, and at the exit. For each log,
one process does it at a time, elected by a lock; another takes over should that end.

The handler's attributes and overridden methods are asked for each time, because an application may set them at any.
What belongs to the application may raise anything: not even a `handleError` that raises ends the thread.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Any, Final, Protocol

from rollsafe.background import Ending, break_off, hurry, is_patched, lower_priority, new_lock, sleep, start_thread
from rollsafe.backups import IsElected, NotElected, Tending, Watch
from rollsafe.codecs import Codec
from rollsafe.ledger import Ledger
from rollsafe.locks import GRACE, LEASE, TENDING_BYTE, FileLock
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
# Seconds that an exit waits for work that can begin, and for work that has begun.
_EXIT_BEGIN: Final = LEASE + GRACE + 0.5
_EXIT_END: Final = 5.0
_EXIT_PAUSE: Final = 0.005
# Seconds that an exit, and a fork, wait at most for the thread to end.
_LEAVE_AT_EXIT: Final = 1.0
_LEAVE_FOR_FORK: Final = 0.1


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
        _members.append(weakref.ref(self))

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
        worker = _worker_of_this_process()
        is_starting, self._starting = self._starting, False
        if is_starting and self._has_duties():
            self.wake()
        if self.look_at == inf and not is_patched() and self._has_duties():
            self.look_at = time.monotonic() + _SHORTEST_LOOK
            worker.call(self)
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
        _worker_of_this_process().alarm()

    def wake(self) -> None:
        """Have the backups tended soon; returns at once."""
        worker = _worker_of_this_process()
        self._asked = True
        self._is_called = True
        worker.call(self)

    def stand_by(self) -> None:
        """Have what another process has begun to tend completed, should it end before; returns at once."""
        worker = _worker_of_this_process()
        self._is_called = True
        worker.call(self)

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


class _Worker:
    """The thread that goes round the handlers of one process.

    All that it shares with other threads are single stores and two locks of the operating system, whatever has become
    of those of `threading`: one that the thread holds as long as it lives, and one that it sleeps on. The thread takes
    the first, and not who starts it: a signal handler that raises there would leave it held by nobody.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._life = new_lock()
        self._alarm = new_lock()
        self._alarm.acquire()
        self._starter = 0
        self._starting: list[bool] = []
        self._thread: threading.Thread | None = None
        # Handlers may be dropped without `close` while there is something to do for them.
        self._called: set[Maintenance] = set()
        self._steps = 0  # odd while a step is made
        self._is_paused = False
        self._has_finished = False

    @property
    def is_alive(self) -> bool:
        """Whether there is a thread, or one that is about to begin."""
        # In this order: the thread takes the lock first.
        return bool(self._starting) or self._life.locked()

    @property
    def is_at_work(self) -> bool:
        """Whether a step is made."""
        return self._steps % 2 == 1

    def call(self, member: Maintenance) -> None:
        """Have a step made soon."""
        if self.pid == _standing_back:
            return
        self._called.add(member)
        self._start()
        self.alarm()

    def alarm(self) -> None:
        """Have the thread look what there is to do, if it is alive."""
        # It is not held when the thread is about to look anyway.
        with suppress(RuntimeError):
            self._alarm.release()

    def pause(self) -> None:
        """Have no thread, unless it is at work; `resume` has one again."""
        self._is_paused = True
        self._leave(_LEAVE_FOR_FORK)

    def resume(self) -> None:
        """Have a thread again, if there is something to do."""
        self._is_paused = False
        if self._called or self._next() < inf:
            self._start()

    def finish(self) -> None:
        """Wait, at the exit of the process, for what is under way and what can be done at once, but not for long.

        Nobody else would do it where all processes are short-lived. What another process does is left to it. Then the
        thread ends, because an interpreter within a process aborts the process if one is left (Py_EndInterpreter).
        """
        hurry()
        # Who interrupts a program that ends already does not want to wait.
        with suppress(KeyboardInterrupt):
            self._wait_for_work()
        self._has_finished = True
        break_off()
        self._leave(_LEAVE_AT_EXIT)

    def _wait_for_work(self) -> None:
        """Wait while something is done, or can be done soon, by this process."""
        begin, end = time.monotonic() + _EXIT_BEGIN, time.monotonic() + _EXIT_END
        while self.is_alive and time.monotonic() < end:
            # Before the times: what begins after this look is due at the next one.
            is_at_work = self.is_at_work
            waits = [member.due for member in _living() if not member.is_waiting_for_election]
            if not is_at_work and min(waits, default=inf) > begin:
                return
            sleep(_EXIT_PAUSE)

    @property
    def _is_to_end(self) -> bool:
        """Whether the thread is to make no further step."""
        return self._is_paused or self._has_finished

    def _leave(self, seconds: float) -> None:
        """Have the thread end, and wait for that, but no longer than so many seconds."""
        self.alarm()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(seconds)

    def _start(self) -> None:
        """Have the thread run."""
        if self._is_to_end or self.is_alive:
            return
        try:
            self._starting.append(True)
            if not self._starter:
                # Not at our import: it forgets then what was asked for before its process began.
                _finish_with_multiprocessing()
            self._starter = threading.get_native_id()
            self._thread = start_thread(self._run, "rollsafe-maintenance")
        except RuntimeError:
            # The interpreter is going down or out of threads; the next rollover of any process makes up for it.
            self._starting.clear()
        except BaseException:
            # Raised by a signal handler. If the thread runs all the same, the next one ends at once.
            self._starting.clear()
            raise

    def _run(self) -> None:
        """Go round until nothing is left to do."""
        is_alive = self._life.acquire(False)
        self._starting.clear()
        if not is_alive:
            return
        try:
            lower_priority(self._starter)
            while is_alive:
                wait = self._go_round()
                if wait < inf and not self._is_to_end:
                    self._alarm.acquire(True, wait)
                    continue
                is_alive = False
                self._life.release()
                # Who called before that has found the thread alive.
                is_alive = not self._is_to_end and self._next() < inf and self._life.acquire(False)
        finally:
            if is_alive:
                # Something of ours is wrong, and shows; the next call starts a new thread.
                self._life.release()

    def _go_round(self) -> float:
        """Do what is due; seconds until something is due again, infinity for never."""
        for member in sorted(_living(), key=lambda member: member.due):
            if self._is_to_end:
                break
            if member.due <= time.monotonic():
                self._steps += 1
                member.step()
                self._steps += 1
            if member.wants_a_look:
                member.look()
            if member.is_idle:
                self._called.discard(member)
                if not member.is_idle:  # It was called in between.
                    self._called.add(member)
        next_due = self._next()
        return next_due if next_due == inf else max(next_due - time.monotonic(), 0.0)

    def _next(self) -> float:
        """When something is due again; seconds of the monotonic clock."""
        return min((min(member.due, member.look_at) for member in _living()), default=inf)


# All that there is in this process, weakly: the thread must not keep a handler that the application has dropped.
_members: list[weakref.ref[Maintenance]] = []
_worker = _Worker()
# The process in which no thread may start, if there is one.
_standing_back: int | None = None


def stand_back(wanted: bool) -> None:
    """Let no thread start in this process, though in those that it forks; or, if that is not wanted, allow it again."""
    global _standing_back
    _standing_back = os.getpid() if wanted else None


def _living() -> list[Maintenance]:
    """All that there is."""
    found = [(reference, reference()) for reference in _members[:]]
    for reference, member in found:
        if member is None:
            with suppress(ValueError):
                _members.remove(reference)
    return [member for _, member in found if member is not None]


def _worker_of_this_process() -> _Worker:
    """The worker, a new one after a fork, which may be one in C that tells nobody."""
    global _worker
    if _worker.pid != os.getpid():
        _worker = _Worker()
        # What was to be done is the parent's to do.
        for member in _living():
            member.reset()
    return _worker


def _finish_with_multiprocessing() -> None:
    """Have the exit of a process of `multiprocessing` do what any exit does; a forked one ends by os._exit."""
    process, util = sys.modules.get("multiprocessing.process"), sys.modules.get("multiprocessing.util")
    if process is not None and util is not None and process.parent_process() is not None:
        # After its own children have ended.
        util.Finalize(None, _finish, exitpriority=-100)


def _finish() -> None:
    """At the exit of the interpreter, before `logging` closes the handlers."""
    if _worker.pid == os.getpid():
        _worker.finish()


def _pause() -> None:
    """Before a fork: a thread that the child lacks may leave it a lock that nobody gives back; Python 3.12 warns."""
    if _worker.pid == os.getpid() and not _worker.is_at_work:
        _worker.pause()


def _resume() -> None:
    """In the parent, after a fork. Early 3.13 and 3.14 count the threads only now, and warn of ours (gh-137109)."""
    if _worker.pid == os.getpid():
        _worker.resume()


atexit.register(_finish)
os.register_at_fork(before=_pause, after_in_parent=_resume)
