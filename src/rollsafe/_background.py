"""Background work: in a thread of the operating system, slowly, and at low priority.

gevent and eventlet replace threads by greenlets, and `time.sleep` by a switch to another greenlet. Work that takes a
processor for seconds would stop them all, and a lower priority of "this thread" would be that of all greenlets. So this
module uses the functions of the standard library as they were before (`gevent.monkey.get_original`,
`eventlet.patcher.original`).
"""

from __future__ import annotations

import _thread
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType
from typing import Any

# How much nicer than the process the thread is, if threads have their own niceness (Linux, sched(7)). Not 19: a thread
# that holds the interpreter's lock must get a processor soon.
NICER = 10
# Seconds of rest for each second of work.
REST = 0.5
# The most seconds of one rest, so that a process that was stopped while it worked does not rest for as long.
_LONGEST_REST_S = 1.0

# Set when the process is about to end: first there is no time to rest, then none to work.
_in_a_hurry = False
_is_broken_off = False
# Whether gevent has made a hub at our request.
_has_first_hub = False


class Ending(BaseException):
    """The process is about to end, and the work is not done. That is no failure, so this is no Exception."""


def start_thread(run: Callable[[], None], name: str) -> threading.Thread | None:
    """Run `run` in a daemon thread of the operating system: the process may end at any time.

    Returns:
        The thread; None if the threads of `threading` are greenlets, or may become greenlets.

    Raises:
        RuntimeError: No thread can be started.
    """
    if _gevent_has_patched("threading"):
        _make_first_hub()
        _original(_thread, "start_new_thread")(_run_without_hub, (run,))
    elif "gevent" in sys.modules or "eventlet" in sys.modules:
        # It may replace `threading` later (a worker of gunicorn logs that it boots before that). A `Thread` that was
        # started before would then end in a KeyError, because it looks for itself by the number of a greenlet.
        _original(_thread, "start_new_thread")(run, ())
    else:
        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        return thread
    return None


def _make_first_hub() -> None:
    """Have gevent import what a hub needs: two threads that make the first hubs at one time deadlock on the imports.

    Only once, because the hub of a thread of ours, which may start another one, would be left behind at its end.
    """
    global _has_first_hub
    if not _has_first_hub:
        sys.modules["gevent"].get_hub()
        _has_first_hub = True


def _run_without_hub(run: Callable[[], None]) -> None:
    """Run `run`, and close what gevent has opened for this thread if a callback has used gevent."""
    try:
        run()
    finally:
        sys.modules["gevent"].get_hub().destroy(destroy_loop=True)


class SoleThread:
    """A thread of which there is never more than one at a time. It ends when nothing is left to do.

    It shares with other threads only single stores and a lock of the operating system, whatever has become of those of
    `threading`. It holds the lock as long as it lives. The thread itself takes the lock: if the caller took it before
    it starts the thread, a signal handler that raises in between would leave the lock taken and no thread to release
    it.

    Args:
        name: Its name.
        serve: Does all that can be done; called again as long as `is_wanted`.
        is_wanted: Whether there is anything to do.
    """

    def __init__(self, name: str, serve: Callable[[], None], is_wanted: Callable[[], bool]) -> None:
        self._name = name
        self._serve = serve
        self._is_wanted = is_wanted
        self._life = new_lock()
        self._starter = 0
        self._starting: list[bool] = []
        self._thread: threading.Thread | None = None

    @property
    def is_alive(self) -> bool:
        """Whether there is a thread, or one that is about to begin."""
        # In this order: the thread takes the lock before it clears `_starting`.
        return bool(self._starting) or self._life.locked()

    def start(self) -> bool:
        """Start the thread, unless there is one; False if none can be started."""
        if self.is_alive:
            return True
        try:
            self._starting.append(True)
            self._starter = threading.get_native_id()
            self._thread = start_thread(self._run, self._name)
        except RuntimeError:
            # The interpreter is going down or out of threads.
            self._starting.clear()
            return False
        except BaseException:
            # A signal handler has raised. If the thread runs all the same, the next one ends at once.
            self._starting.clear()
            raise
        return True

    def join(self, seconds: float) -> None:
        """Wait for the end of the thread, but no longer than `seconds`; not for a thread that is no `Thread`."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(seconds)

    def _run(self) -> None:
        """Serve until nothing is left to do."""
        is_alive = self._life.acquire(False)
        self._starting.clear()
        if not is_alive:
            return
        try:
            lower_priority(self._starter)
            while is_alive:
                self._serve()
                is_alive = False
                self._life.release()
                # A caller that came before the release has found the thread alive, and started none.
                is_alive = self._is_wanted() and self._life.acquire(False)
        finally:
            if is_alive:
                # An exception shows a fault of ours. The next call starts a new thread.
                self._life.release()


def new_lock() -> Any:
    """A lock of the operating system, which another thread may release."""
    return _original(_thread, "allocate_lock")()


def is_patched() -> bool:
    """Whether the locks of `threading` belong to greenlets: then no other thread may take one of them."""
    return _gevent_has_patched("threading") or _eventlet_has_patched("thread")


def is_only_thread() -> bool:
    """Whether this process has no other thread of Python; `threading` does not know those that `start_thread` starts.

    The main thread is not counted (`_thread`), so another thread always finds at least itself.
    """
    return _thread._count() == 0


def sleep(seconds: float) -> None:
    """Suspend this thread, even if `time.sleep` was replaced."""
    _original(time, "sleep")(seconds)


def close(descriptor: int) -> None:
    """Close a descriptor now, even if `os.close` was replaced.

    With gevent 25.8.1 and later, `os.close` leaves the closing of a directory to the event loop of the calling thread,
    which never runs in a thread of ours.
    """
    _original(os, "close")(descriptor)


def lower_priority(starter: int) -> None:
    """Let the other threads go first, if the system has a priority for each thread.

    Not if this is the thread that started it, whose native id is `starter`: then some library has replaced threads.
    """
    thread = threading.get_native_id()
    if sys.platform == "linux" and thread != starter:
        with suppress(OSError):
            # The starter may be a thread of ours, whose niceness this one has inherited.
            own, first = (os.getpriority(os.PRIO_PROCESS, each) for each in (thread, os.getpid()))
            os.setpriority(os.PRIO_PROCESS, thread, max(own, first + NICER))


def hurry() -> None:
    """Have no `Pace` rest any more: the process is about to end."""
    global _in_a_hurry
    _in_a_hurry = True


def break_off() -> None:
    """Have each `Pace` raise Ending."""
    global _is_broken_off
    _is_broken_off = True


class Pace:
    """Rests in proportion to the work done, so that the work takes only a part of a processor and of a disk."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    def rest(self) -> None:
        """Rest for the work since the last rest, or since the beginning.

        Raises:
            Ending: The process is about to end.
        """
        if _is_broken_off:
            raise Ending
        if not _in_a_hurry:
            sleep(min(REST * (time.monotonic() - self._since), _LONGEST_REST_S))
        self._since = time.monotonic()


def _gevent_has_patched(module: str) -> bool:
    """Whether gevent has replaced the functions of a module of the standard library."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched(module))


def _eventlet_has_patched(what: str) -> bool:
    """Whether eventlet has replaced a part of the standard library, which it calls `what`."""
    patcher = sys.modules.get("eventlet.patcher")
    return patcher is not None and bool(patcher.is_monkey_patched(what))


def _original(module: ModuleType, name: str) -> Any:
    """A function of a module of the standard library, as it was before gevent or eventlet replaced it."""
    if _eventlet_has_patched(module.__name__.lstrip("_")):
        return getattr(sys.modules["eventlet.patcher"].original(module.__name__), name)
    monkey = sys.modules.get("gevent.monkey")
    return getattr(module, name) if monkey is None else monkey.get_original(module.__name__, name)
