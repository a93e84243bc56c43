"""The application of the servers of `bench.servers`, and the handlers that they log through.

BENCH_HANDLER names the handler and BENCH_BACKUPS its backupCount. gunicorn makes it from its `logconfig_dict`; under
uWSGI this module does, when it is imported.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Callable
from logging.handlers import TimedRotatingFileHandler
from typing import Any

import rollsafe.uwsgi
from rollsafe import SafeTimedRotatingFileHandler
from tests.support.apps import application as application
from tests.support.oracle import LINE_FORMAT

LIVE = "logs/app.log"


class LockedRenameHandler(TimedRotatingFileHandler):
    """The usual idea for several processes: agree on the boundary, and rename under a lock what is not renamed yet.

    The second look, under the lock, is for the backup's name: if it is there, another process has renamed.
    """

    def __init__(self, filename: str, **arguments: Any) -> None:
        super().__init__(filename, **arguments)
        directory, name = os.path.split(self.baseFilename)
        self._lock = open(os.path.join(directory, f".{name}.lock"), "a")

    def computeRollover(self, currentTime: float) -> int:
        """The end of the whole interval that holds `currentTime`, the same in all processes."""
        return (int(currentTime) // self.interval + 1) * self.interval

    def doRollover(self) -> None:
        """Rename to the name of the interval that this process thinks is over."""
        if self.stream is not None:
            self.stream.close()
            self.stream = None
        started = self.rolloverAt - self.interval
        backup = f"{self.baseFilename}.{time.strftime(self.suffix, time.gmtime(started))}"
        fcntl.lockf(self._lock, fcntl.LOCK_EX)
        try:
            if not os.path.exists(backup) and os.path.exists(self.baseFilename):
                os.rename(self.baseFilename, backup)
            for expired in self.getFilesToDelete() if self.backupCount else []:
                os.remove(expired)
        finally:
            fcntl.lockf(self._lock, fcntl.LOCK_UN)
        self.stream = self._open()
        self.rolloverAt = self.computeRollover(time.time())


def _concurrent(filename: str, **arguments: Any) -> logging.Handler:
    """The handler of concurrent-log-handler."""
    from concurrent_log_handler import ConcurrentTimedRotatingFileHandler

    handler: logging.Handler = ConcurrentTimedRotatingFileHandler(filename, **arguments)
    return handler


HANDLERS: dict[str, Callable[..., logging.Handler]] = {
    "rollsafe": SafeTimedRotatingFileHandler,
    "standard library": TimedRotatingFileHandler,
    "rename under a lock": LockedRenameHandler,
    "concurrent-log-handler": _concurrent,
}


def make_handler() -> logging.Handler:
    """The handler that the environment asks for: a rollover each second."""
    make = HANDLERS[os.environ["BENCH_HANDLER"]]
    handler = make(LIVE, when="S", utc=True, backupCount=int(os.environ["BENCH_BACKUPS"]))
    handler.setFormatter(logging.Formatter(LINE_FORMAT))
    return handler


if rollsafe.uwsgi.install():
    logging.basicConfig(level="INFO", handlers=[make_handler()])
