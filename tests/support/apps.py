"""The WSGI application that the integration tests put on real servers: each action does one observable thing."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rollsafe import FileLock
from tests.support.oracle import make_line
from tests.support.servers import wait_until

logger = logging.getLogger(__name__)

Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], object]


def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """`/<action>/<argument>/…` calls the action with the arguments and answers what it returns."""
    action, *arguments = environ["PATH_INFO"].strip("/").split("/")
    body = ACTIONS[action](*arguments).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


async def asgi(scope: dict[str, Any], receive: Callable[[], Any], send: Callable[[dict[str, Any]], Any]) -> None:
    """The same for ASGI servers; there is nothing to do when they start and end."""
    if scope["type"] == "http":
        action, *arguments = scope["path"].strip("/").split("/")
        body = ACTIONS[action](*arguments).encode()
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        return
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def pid() -> str:
    """The process id of the worker that answers."""
    return str(os.getpid())


def line(stream: str, number: str, size: str) -> str:
    """Log one line that checks itself, and answer the process id."""
    logger.info(make_line(stream, int(number), int(size)))
    return pid()


def dirty_line(stream: str, number: str, size: str) -> str:
    """Have a dirty worker of gunicorn log the line, and answer its process id."""
    from gunicorn.dirty import get_dirty_client

    answer: str = get_dirty_client().execute("tests.support.dirty:Lines", "line", stream, number, size)
    return answer


def hang(stream: str, number: str, deaf: str) -> str:
    """Log a line, then never answer; with `deaf`, not even gunicorn's first signal is heard."""
    if deaf == "deaf":
        signal.signal(signal.SIGABRT, signal.SIG_IGN)
    line(stream, number, "60")
    while True:
        signal.pause()


def say(text: str) -> str:
    """Write a line to standard output, which is not a log."""
    print(text, flush=True)
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
    "dirty_line": dirty_line,
    "hang": hang,
    "say": say,
    "mark_lock": mark_lock,
    "hold_lock": hold_lock,
    "try_lock": try_lock,
    "metrics": metrics,
}
