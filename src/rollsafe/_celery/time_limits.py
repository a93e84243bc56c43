"""A soft time limit that comes while a line is being written is raised when the line is written.

In a child of the prefork pool, a signal handler of billiard raises the exception wherever the task is. Inside a logging
call, every handler (ours, and those of the standard library) takes it for a failure of its own. The line is written all
the same, but the task would never learn of the limit, and run on until the hard one
(https://github.com/celery/celery/issues/6873, https://github.com/getsentry/raven-python/issues/80). `logging` itself
swallows any exception while it asks for the names of the process and of the task of asyncio (LogRecord.__init__ of
CPython 3.10 to 3.14), so the making of a record is a part of the line here.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

from billiard.pool import soft_timeout_sighandler

from rollsafe.handlers import SafeTimedRotatingFileHandler

_SIGNAL = signal.SIGUSR1

_Handler = Callable[[int, FrameType | None], Any]


class _SoftLimit:
    """The signal of the soft time limit in one process.

    Args:
        handler: The signal handler that raises.
    """

    def __init__(self, handler: _Handler) -> None:
        self.thread = threading.get_ident()
        self.lines = 0
        """The lines that are being written: more than one if a signal handler logs."""
        self._handler = handler
        self._waiting: tuple[int, FrameType | None] | None = None

    def hold(self, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Do a part of a line by a call, and then raise a limit that has come meanwhile."""
        # Signal handlers run in the main thread, and so do the tasks of such a child.
        if threading.get_ident() != self.thread:
            return call(*arguments, **named)
        self.lines += 1
        try:
            return call(*arguments, **named)
        finally:
            self.end_line()

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Raise, or have the line that is being written raise at its end."""
        if self.lines:
            self._waiting = (number, frame)
        else:
            self._handler(number, frame)

    def end_line(self) -> None:
        """Raise what had to wait for the line."""
        self.lines -= 1
        waiting = self._waiting
        if waiting is not None and not self.lines:
            self._waiting = None
            self._handler(*waiting)


_limit: _SoftLimit | None = None


def hold_back(**_: Any) -> None:
    """Before a task runs in a child of the prefork pool: have its soft time limit wait for the end of a line.

    Elsewhere, and if the application handles the signal itself, it does nothing. Billiard sets its signal handler after
    all other signals of Celery that a new child sends.
    """
    global _limit
    handler: Any = signal.getsignal(_SIGNAL)
    if handler is soft_timeout_sighandler:
        _limit = _SoftLimit(handler)
        signal.signal(_SIGNAL, _limit.on_signal)
        logging.setLogRecordFactory(partial(_limit.hold, logging.getLogRecordFactory()))


class TaskHandler(SafeTimedRotatingFileHandler):
    """The handler of a process of Celery, which lets a soft time limit wait until a line is written."""

    def handle(self, record: logging.LogRecord) -> Any:
        """Filter and emit `record`, and then raise a soft time limit that has come meanwhile."""
        limit = _limit
        return super().handle(record) if limit is None else limit.hold(super().handle, record)
