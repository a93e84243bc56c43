"""The last lines of a process: those that uWSGI would leave in its sockets, and those that it prints after Python."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from typing import Final

from rollsafe._uwsgi.loggers import ACCESS, ERROR, MessageLogger, RequestLogger, text_of
from rollsafe._uwsgi.pipes import find_pipes, packets, wait_until_read
from rollsafe.handlers import SafeTimedRotatingFileHandler

# More than the socket holds. Gateways and daemons may write meanwhile, so it has to end.
_AT_MOST: Final = 1000


def finish_logs() -> None:
    """At the exit of each process, before `logging` closes its handlers: see that what waits in the sockets is logged.

    The master reads no requests any more when the last worker has ended, and a worker logs its last request just before
    that. So a worker waits until the master has read it. If the master was killed, uWSGI ends its workers, and these
    log what it has left.
    """
    pipes = find_pipes()
    requests, messages = logging.getLogger(ACCESS), logging.getLogger(ERROR)
    if pipes is None or not isinstance(requests, RequestLogger) or not isinstance(messages, MessageLogger):
        return
    master = _master()
    if master != os.getpid():
        if requests.may_read:
            wait_until_read(pipes.requests_end, master)
        if os.getppid() == master:
            return
    if requests.may_read:
        requests.log_messages([])
    if messages.may_read:
        messages.log_messages(map(text_of, packets(pipes.messages, _AT_MOST)))
        if master == os.getpid():
            _print_into(messages)


def _print_into(logger: logging.Logger) -> None:
    """Have uWSGI print the rest into the log file itself: its logger does nothing without Python."""
    for handler in logger.handlers:
        if isinstance(handler, SafeTimedRotatingFileHandler) and handler.stream is not None:
            with suppress(OSError, ValueError):
                os.dup2(handler.stream.fileno(), 1)
                os.dup2(1, 2)


def _master() -> int:
    """The process id of uWSGI's master."""
    import uwsgi

    return int(uwsgi.masterpid())
