"""The thread that maintains the backups of all handlers of one process.

It lives as long as there is something to do, or a log to look at: one of a handler that has a limit for its backups,
compresses them, or wants to be called for them, and that was not closed. Unless it is at work, it ends for each fork,
and it ends at the exit of the process.

A second thread does what may take long, one handler after another, and ends with it: a function of the application, the
compression of a large file, and all that needs a server of files, which may not answer. So it holds up no rollover of a
log for which no line comes.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
import weakref
from contextlib import suppress
from math import inf
from typing import Final, Protocol

from rollsafe._background import SoleThread, break_off, hurry, new_lock, sleep
from rollsafe._backups.watch import Watch
from rollsafe._timing import GRACE_S, LEASE_S

# Seconds that an exit waits for work that can begin, and for work that has begun.
_EXIT_BEGIN_S: Final = LEASE_S + GRACE_S + 0.5
_EXIT_END_S: Final = 5.0
_EXIT_PAUSE_S: Final = 0.005
# The most seconds that an exit, and a fork, wait for the thread to end.
_END_AT_EXIT_S: Final = 1.0
_END_AT_FORK_S: Final = 0.1


class Member(Protocol):
    """The maintenance of one handler, as the thread sees it."""

    @property
    def watch(self) -> Watch:
        """The watch over the log while no line comes."""

    @property
    def due(self) -> float:
        """When to make a step; seconds of the monotonic clock, infinity for never."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing is left to do, and nothing is being done."""

    @property
    def is_waiting_for_election(self) -> bool:
        """Whether another process does the work."""

    @property
    def may_hang(self) -> bool:
        """Whether even a look may take long, because the files are on a server."""

    def reset(self) -> None:
        """Begin anew, in a new process."""

    def look(self, tick: float, *, rolls: bool = False) -> None:
        """Look at the log at `tick` of the monotonic clock, and roll it at once if `rolls`; it may set `due`."""

    def step(self, *, may_take_long: bool) -> bool:
        """Do what can be done now, and set `due`; False if the rest may take long, and is not to."""


class MaintenanceThread:
    """The thread of one process.

    It shares with other threads only single stores, steps of lists, and locks of the operating system; it sleeps on one
    of these.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._alarm = new_lock()
        self._alarm.acquire()
        self._server = SoleThread("rollsafe-maintenance", self._serve, lambda: self._is_wanted)
        self._worker = SoleThread("rollsafe-long-work", self._work, lambda: bool(self._long) and not self._is_to_end)
        # Whose work may take long: the worker serves the first one, and nobody else serves any.
        self._long: list[Member] = []
        self._is_known_to_multiprocessing = False
        # Strong references: an application may drop a handler without `close` while there is something to do for it.
        self._called: set[Member] = set()
        self._steps = 0  # odd while a step is made
        self._is_paused = False
        self._is_finishing = False
        self._has_finished = False

    @property
    def is_alive(self) -> bool:
        """Whether there is a thread, or one that is about to begin."""
        return self._server.is_alive or self._worker.is_alive

    @property
    def is_stepping(self) -> bool:
        """Whether the thread itself makes a step."""
        return self._steps % 2 == 1

    @property
    def is_at_work(self) -> bool:
        """Whether a step is made, or is to be made by the worker."""
        return self.is_stepping or bool(self._long)

    def call(self, member: Member) -> None:
        """Have a step made soon."""
        if self.pid == _threadless_pid:
            return
        self._called.add(member)
        self._start()
        self.alarm()

    def alarm(self) -> None:
        """Wake the thread, if it is alive, to see whether there is anything to do."""
        # The lock is free if the thread is about to look anyway.
        with suppress(RuntimeError):
            self._alarm.release()

    def pause(self) -> None:
        """End the thread, unless it is at work; `resume` starts one again."""
        self._is_paused = True
        self.alarm()
        self._server.join(_END_AT_FORK_S)

    def resume(self) -> None:
        """Start a thread again, if there is something to do."""
        self._is_paused = False
        if self._called or self._is_wanted:
            self._start()

    def finish(self) -> None:
        """At the exit of the process, wait for the work that has begun or can begin at once, but only for seconds.

        Without this wait, short-lived processes would never maintain their backups. It does not wait for the work of
        another process. Then the thread ends, because an interpreter within a process aborts the process if one is left
        (Py_EndInterpreter).
        """
        # Nothing is begun any more that no line and no rollover has called for.
        self._is_finishing = True
        hurry()
        # A user who interrupts a program that is ending does not want to wait.
        with suppress(KeyboardInterrupt):
            self._wait_for_work()
        self._has_finished = True
        break_off()
        self.alarm()
        self._server.join(_END_AT_EXIT_S)
        self._worker.join(_END_AT_EXIT_S)

    def _wait_for_work(self) -> None:
        """Wait while this process does something, or can do something soon."""
        begin, end = time.monotonic() + _EXIT_BEGIN_S, time.monotonic() + _EXIT_END_S
        while self.is_alive and time.monotonic() < end:
            # Asked before `due`: a step that begins after this look sets `due` to 0.
            is_at_work = self.is_at_work
            waits = [member.due for member in _living_members() if not member.is_waiting_for_election]
            if not is_at_work and min(waits, default=inf) > begin:
                return
            sleep(_EXIT_PAUSE_S)

    @property
    def _is_to_end(self) -> bool:
        """Whether the thread is to make no further step."""
        return self._is_paused or self._has_finished

    @property
    def _is_wanted(self) -> bool:
        """Whether there is anything to do, now or later."""
        return not self._is_to_end and (bool(self._long) or self._next_due() < inf)

    def _start(self) -> None:
        """Start the thread, unless there is one; if none can be started, the next rollover of any process makes up."""
        if self._is_to_end or self._server.is_alive:
            return
        if not self._is_known_to_multiprocessing:
            # Not when this module is imported: a process of multiprocessing forgets, when it begins, all that was
            # registered before.
            _finish_with_multiprocessing()
            self._is_known_to_multiprocessing = True
        self._server.start()

    def _serve(self) -> None:
        """Serve the members until nothing is left to do."""
        while True:
            if self._long and not self._is_to_end:
                self._start_worker()
            wait = self._serve_members()
            if self._is_to_end or (wait == inf and not self._long):
                return
            self._alarm.acquire(True, -1 if wait == inf else wait)

    def _serve_members(self) -> float:
        """Do what is due; seconds until something is due again, infinity for never."""
        self._look()
        for member in sorted(_living_members(), key=lambda member: member.due):
            if self._is_to_end:
                break
            if member in self._long:
                continue
            if member.due <= time.monotonic():
                self._steps += 1
                if member.may_hang or not member.step(may_take_long=False):
                    self._hand_over(member)
                self._steps += 1
                # A hundred steps, each of which lists a large directory, take longer than a log may wait for a look.
                self._look()
            self._forget_idle(member)
        next_due = self._next_due()
        return next_due if next_due == inf else max(next_due - time.monotonic(), 0.0)

    def _look(self) -> None:
        """Look at the logs at which it is time to look, and roll those whose own step may come late."""
        # One tick for all, so that the thread wakes up once for logs that were looked at together.
        tick = time.monotonic()
        for member in _living_members():
            if self._is_to_end or self._is_finishing or not member.watch.is_due(tick):
                continue
            if not member.may_hang:
                member.look(tick, rolls=member in self._long)
            elif member not in self._long:
                self._hand_over(member)

    def _hand_over(self, member: Member) -> None:
        """Have the worker serve a member."""
        self._called.add(member)
        self._long.append(member)
        self._start_worker()

    def _start_worker(self) -> None:
        """Start the worker; if that is impossible, do its work here."""
        if not self._worker.start():
            self._work()

    def _work(self) -> None:
        """Serve the members whose work may take long."""
        while self._long and not self._is_to_end:
            member = self._long[0]
            try:
                tick = time.monotonic()
                if member.may_hang and not self._is_finishing and member.watch.is_due(tick):
                    member.look(tick)
                if member.due <= time.monotonic():
                    member.step(may_take_long=True)
            finally:
                self._long.pop(0)
                self.alarm()

    def _forget_idle(self, member: Member) -> None:
        """Keep a member no longer alive if nothing is left to do for it."""
        if member.is_idle:
            self._called.discard(member)
            if not member.is_idle:  # It was called in between.
                self._called.add(member)

    def _next_due(self) -> float:
        """When something is due again for the thread itself; seconds of the monotonic clock."""
        members = [member for member in _living_members() if member not in self._long]
        looks = [] if self._is_finishing else [member.watch.look_at for member in members]
        return min([*looks, *(member.due for member in members)], default=inf)


# All members of this process, by weak references: the thread must not keep a handler that the application has dropped.
_members: list[weakref.ref[Member]] = []
_thread = MaintenanceThread()
# The process in which no thread may start, if there is one.
_threadless_pid: int | None = None


def join(member: Member) -> None:
    """Have the thread serve a member as long as there are references to it."""
    _members.append(weakref.ref(member))


def forbid_thread(wanted: bool) -> None:
    """Let no thread start in this process, though in those that it forks; if that is not wanted, allow it again."""
    global _threadless_pid
    _threadless_pid = os.getpid() if wanted else None


def thread_of_this_process() -> MaintenanceThread:
    """The thread; after a fork, which C code may have made without Python's hooks, a new one."""
    global _thread
    if _thread.pid != os.getpid():
        _thread = MaintenanceThread()
        # The parent does what it was asked to do.
        for member in _living_members():
            member.reset()
    return _thread


def _living_members() -> list[Member]:
    """The members that are still referenced."""
    found = [(reference, reference()) for reference in _members[:]]
    for reference, member in found:
        if member is None:
            with suppress(ValueError):
                _members.remove(reference)
    return [member for _, member in found if member is not None]


def _finish_with_multiprocessing() -> None:
    """Have the exit of a process of `multiprocessing` do what any exit does; a forked one ends by os._exit."""
    process, util = sys.modules.get("multiprocessing.process"), sys.modules.get("multiprocessing.util")
    if process is not None and util is not None and process.parent_process() is not None:
        # After its own children have ended.
        util.Finalize(None, _finish, exitpriority=-100)


def _finish() -> None:
    """At the exit of the interpreter, before `logging` closes the handlers."""
    if _thread.pid == os.getpid():
        _thread.finish()


def _pause() -> None:
    """Before a fork: the child could inherit a lock that the thread holds; and Python 3.12 warns of threads."""
    if _thread.pid == os.getpid() and not _thread.is_stepping:
        _thread.pause()


def _resume() -> None:
    """In the parent, after a fork. Early 3.13 and 3.14 count the threads only now, and warn of ours (gh-137109)."""
    if _thread.pid == os.getpid():
        _thread.resume()


atexit.register(_finish)
os.register_at_fork(before=_pause, after_in_parent=_resume)
