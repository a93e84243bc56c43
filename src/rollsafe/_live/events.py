"""Events of the log files of this process, passed to the listeners that count them. Costs nothing without listeners."""

from __future__ import annotations

from collections.abc import Callable

EVENTS = ("lines", "bytes", "opens", "rollovers", "lock_waits", "spilled", "dropped")
"""Lines and bytes written; openings of the live file; rollovers made by this process; attempts at the lock that did not
get it at once; lines that had to wait in memory because writing failed; lines that did not fit there."""

Listener = Callable[[str, str, int], None]
"""A function of (event, path of the live file, count). `emit` calls it, in any thread and in signal handlers, so it
must not wait for anything."""

Write = Callable[[bytes], int | None]

_listeners: list[Listener] = []


def listen(listener: Listener) -> None:
    """Call `listener` for each event from now on; for lines and bytes only of files that are opened from now on."""
    _listeners.append(listener)


def count_event(event: str, path: str, count: int = 1) -> None:
    """Pass `count` events of the log at `path` to each listener. An exception of one is ignored."""
    for listener in _listeners:
        try:
            listener(event, path, count)
        except Exception:
            continue


def count_writes(write: Write, path: str) -> Write:
    """Return `write` itself if there is no listener, else a function that also counts each line and its bytes."""
    if not _listeners:
        return write

    def write_and_count(line: bytes) -> int | None:
        written = write(line)
        if written:
            count_event("bytes", path, written)
            if written == len(line):
                count_event("lines", path)
        return written

    return write_and_count
