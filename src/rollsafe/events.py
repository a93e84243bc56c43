"""What happens to the log files of this process, told to whoever counts it. Costs nothing while nobody listens."""

from __future__ import annotations

from collections.abc import Callable

EVENTS = ("lines", "bytes", "opens", "rollovers", "lock_waits", "spilled", "dropped")
"""Lines and bytes written; openings of the live file; rollovers made by this process; how often the lock was not free
at once; lines that had to wait in memory because writing failed, and those that did not fit there."""

Listener = Callable[[str, str, int], None]
"""(event, path of the live file, how many). It is called inside `emit`, by any thread and in signal handlers: it must
wait for nothing."""

Write = Callable[[bytes], int | None]

_listeners: list[Listener] = []


def listen(listener: Listener) -> None:
    """Have `listener` told from now on; lines and bytes only of the files that are opened from now on."""
    _listeners.append(listener)


def count_event(event: str, path: str, count: int = 1) -> None:
    """Something happened to the log at `path`. A listener that fails is nobody's loss but its own."""
    for listener in _listeners:
        try:
            listener(event, path, count)
        except Exception:
            continue


def count_writes(write: Write, path: str) -> Write:
    """`write` itself while nobody listens, else one that tells of each line."""
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
