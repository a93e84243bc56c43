"""The WSGI application that the integration tests put on real servers: each action does one observable thing."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rollsafe import FileLock
from tests.integration.servers import wait_until
from tests.oracle import make_line

logger = logging.getLogger(__name__)

Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], object]


def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """`/<action>/<argument>/…` calls the action with the arguments and answers what it returns."""
    action, *arguments = environ["PATH_INFO"].strip("/").split("/")
    body = ACTIONS[action](*arguments).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def pid() -> str:
    """The process id of the worker that answers."""
    return str(os.getpid())


def line(stream: str, number: str, size: str) -> str:
    """Log one line that checks itself, and answer the process id."""
    logger.info(make_line(stream, int(number), int(size)))
    return pid()


def mark_lock(lock_file: str) -> str:
    """
    Take the lock once, then leave our process id as the file position of each of our descriptors of the lock file.

    The position belongs to the open file description (open(2)), which a descriptor inherited over fork(2) shares: so
    /proc/PID/fdinfo of another process shows our mark only where it shares our description.
    """
    path = _in_logs(lock_file)
    with FileLock(path):
        for entry in Path("/proc/self/fd").iterdir():
            if entry.exists() and entry.samefile(path):
                os.lseek(int(entry.name), os.getpid(), os.SEEK_SET)
    return pid()


def hold_lock(lock_file: str) -> str:
    """Hold the lock, say so with a file named `held`, until a file named `release` appears."""
    with FileLock(_in_logs(lock_file)):
        Path("held").touch()
        wait_until(Path("release").exists, "the file that ends the holding")
    return pid()


def try_lock(lock_file: str) -> str:
    """Whether the lock can be taken within a tenth of a second."""
    lock = FileLock(_in_logs(lock_file))
    if not lock.acquire(timeout=0.1):
        return "refused"
    lock.release()
    return "acquired"


def metrics() -> str:
    """What Prometheus would scrape, all processes added up."""
    from prometheus_client import CollectorRegistry, generate_latest, multiprocess

    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry).decode()


def _in_logs(name: str) -> Path:
    """The file of that name in the log directory of the test."""
    return Path("logs", name).resolve()


ACTIONS: dict[str, Callable[..., str]] = {
    "line": line,
    "mark_lock": mark_lock,
    "hold_lock": hold_lock,
    "try_lock": try_lock,
    "metrics": metrics,
}
