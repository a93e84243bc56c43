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
        # Two threads that make their first hubs at the same time would deadlock on each other's imports.
        sys.modules["gevent"].get_hub()
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


def _run_without_hub(run: Callable[[], None]) -> None:
    """Run `run`, and close what gevent has opened for this thread if a callback has used gevent."""
    try:
        run()
    finally:
        sys.modules["gevent"].get_hub().destroy(destroy_loop=True)


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
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICER)


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
