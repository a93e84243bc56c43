"""Work beside the application: in a thread of the operating system, slowly, and at low priority.

gevent and eventlet replace threads by greenlets and `time.sleep` by a switch to another one. Work that takes a
processor for seconds would stop them all, and to lower the priority of "this thread" would lower that of all greenlets.
So what is needed of the standard library is taken as it was before (`gevent.monkey.get_original`,
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

# How much nicer than the process the thread is, where threads have their own niceness (Linux, sched(7)). Not 19: what
# holds the interpreter's lock must get a processor soon.
NICER = 10
# Seconds of rest for each second of work.
REST = 0.5
# Seconds of one rest at most, so that a process that was stopped in its work does not rest as long.
_LONGEST_REST = 1.0


# Set once the process is about to end: there is no time to rest, and then none to work.
_in_a_hurry = False
_is_broken_off = False


class Ending(BaseException):
    """The process is about to end, and the work is not done. No failure, so it is no Exception."""


def start_thread(run: Callable[[], None], name: str) -> threading.Thread | None:
    """Run `run` in a daemon thread of the operating system: the process may end at any time.

    Returns:
        The thread; None where those of `threading` are, or may yet become, greenlets.

    Raises:
        RuntimeError: There can be no further thread.
    """
    if _gevent_has_patched("threading"):
        # Two threads that make their first hubs at the same time wait for each other's imports for ever.
        sys.modules["gevent"].get_hub()
        _original(_thread, "start_new_thread")(_run_without_hub, (run,))
    elif "gevent" in sys.modules or "eventlet" in sys.modules:
        # It may yet replace `threading` (gunicorn's worker has logged that it boots by then), and a `Thread` that was
        # begun before ends in a KeyError after that: it looks for itself by the number of a greenlet.
        _original(_thread, "start_new_thread")(run, ())
    else:
        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        return thread
    return None


def _run_without_hub(run: Callable[[], None]) -> None:
    """Run `run`, and give back what gevent has opened for this thread if a callback has used it."""
    try:
        run()
    finally:
        sys.modules["gevent"].get_hub().destroy(destroy_loop=True)


def new_lock() -> Any:
    """A lock of the operating system, which another thread may release."""
    return _original(_thread, "allocate_lock")()


def is_patched() -> bool:
    """Whether the locks of `threading` are those of greenlets: then no other thread may take one of them."""
    return _gevent_has_patched("threading") or _eventlet_has_patched("thread")


def sleep(seconds: float) -> None:
    """Have this thread wait, whatever became of `time.sleep`."""
    _original(time, "sleep")(seconds)


def close(descriptor: int) -> None:
    """Close a descriptor now, whatever became of `os.close`.

    That of gevent 25.8.1 and later leaves the closing of a directory to the event loop of the calling thread, which in
    a thread of ours never runs.
    """
    _original(os, "close")(descriptor)


def lower_priority(starter: int) -> None:
    """Let the other threads go first, if threads have priorities of their own here.

    Not if this is the thread `starter` of the operating system: something unknown has replaced threads.
    """
    thread = threading.get_native_id()
    if sys.platform == "linux" and thread != starter:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICER)


def hurry() -> None:
    """Have nobody rest any more: the process is about to end."""
    global _in_a_hurry
    _in_a_hurry = True


def break_off() -> None:
    """Have nobody work any more who paces."""
    global _is_broken_off
    _is_broken_off = True


class Pace:
    """Rests in proportion to the work done, so that the work takes no more than a part of a processor and a disk."""

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
            sleep(min(REST * (time.monotonic() - self._since), _LONGEST_REST))
        self._since = time.monotonic()


def _gevent_has_patched(module: str) -> bool:
    """Whether gevent has replaced what is in a module of the standard library."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched(module))


def _eventlet_has_patched(what: str) -> bool:
    """Whether eventlet has replaced a part of the standard library, by its own name for it."""
    patcher = sys.modules.get("eventlet.patcher")
    return patcher is not None and bool(patcher.is_monkey_patched(what))


def _original(module: ModuleType, name: str) -> Any:
    """What a module of the standard library had under a name before gevent or eventlet replaced it."""
    if _eventlet_has_patched(module.__name__.lstrip("_")):
        return getattr(sys.modules["eventlet.patcher"].original(module.__name__), name)
    monkey = sys.modules.get("gevent.monkey")
    return getattr(module, name) if monkey is None else monkey.get_original(module.__name__, name)
