"""The peers of the comparison: each way to log one message in one format to one file.

Every peer is a `Peer`; its `start` returns the functions that log a message, wait, and end.
"""

from __future__ import annotations

import copy
import importlib.metadata
import importlib.util
import logging
import logging.handlers
import os
import queue
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
NAME = "shop.orders"
_TEXT = "GET /orders/4711/items?page=2 answered 200 with 18342 bytes in 12.7 ms to client "

NULL = "null handler"
WRITE = "bare os.write"
FLOOR = "floor: null + bare write"
PLAIN = "FileHandler"
STANDARD = "TimedRotatingFileHandler"
CONCURRENT = "concurrent-log-handler"
QUEUE = "QueueHandler + listener"
WATCHED = "WatchedFileHandler"
OURS_STANDARD = "rollsafe"
OURS = "rollsafe + LineFormatter"


def message(size: int) -> str:
    """A message of `size` characters."""
    return (_TEXT * (size // len(_TEXT) + 1))[:size]


@dataclass(frozen=True)
class Setting:
    """The task of a peer.

    Attributes:
        live: The file.
        when: "S" for a rollover each second, "D" for none; a peer that does not roll over by time ignores it.
        size: Characters in each message.
        processes: The number of processes that write.
    """

    live: Path
    when: str = "D"
    size: int = 80
    processes: int = 1


@dataclass(frozen=True)
class Logging:
    """A peer at work.

    Attributes:
        info: Log one message.
        settle: Return when all that was logged is in the file.
        end: Settle, and close everything.
    """

    info: Callable[[str], object]
    settle: Callable[[], object]
    end: Callable[[], object]


@dataclass(frozen=True)
class Peer:
    """One way to log.

    Attributes:
        name: As the tables show it.
        start: Makes the peer that is at work.
        ours: Whether this is rollsafe.
        competes: False for the bounds, which do not do the work.
        alone: Whether several processes cannot use it on one file at all.
        shared: Whether it is started before the processes are forked, because one of them writes for all.
        package: The package that it needs.
        note: A remark about its figures.
    """

    name: str
    start: Callable[[Setting], Logging]
    ours: bool = False
    competes: bool = True
    alone: bool = False
    shared: bool = False
    package: str | None = None
    note: str | None = None

    def missing(self) -> str | None:
        """Why it cannot be measured here; None if it can."""
        if self.package is None or importlib.util.find_spec(self.package.replace("-", "_")) is not None:
            return None
        version = ".".join(map(str, sys.version_info[:2]))
        return f"{self.package} is not installed; `make bench` installs it, if it is published for Python {version}"

    def version(self) -> str | None:
        """The version of the package that it needs."""
        return importlib.metadata.version(self.package) if self.package else None


class BareWrite(logging.Handler):
    """The floor: a handler that does one write(2) of a line that was made before."""

    def __init__(self, live: Path, line: bytes) -> None:
        super().__init__()
        self._descriptor = open_bare(live)
        self._line = line

    def handle(self, record: logging.LogRecord) -> bool:
        """Write the line."""
        os.write(self._descriptor, self._line)
        return True

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
        super().close()


def open_bare(live: Path) -> int:
    """A descriptor for appending."""
    return os.open(live, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)


def line(size: int) -> bytes:
    """A finished line with a message of `size` characters."""
    record = logging.LogRecord(NAME, logging.INFO, __file__, 1, message(size), None, None)
    return (logging.Formatter(FORMAT).format(record) + "\n").encode()


def _of_handler(
    make: Callable[[Setting], logging.Handler],
    formatter: Callable[[str], logging.Formatter] = logging.Formatter,
) -> Callable[[Setting], Logging]:
    """`Peer.start` for a handler of `logging`."""

    def start(setting: Setting) -> Logging:
        handler = make(setting)
        handler.setFormatter(formatter(FORMAT))
        logger = logging.Logger(NAME, logging.INFO)
        logger.addHandler(handler)
        return Logging(logger.info, handler.flush, handler.close)

    return start


def _bare_write(setting: Setting) -> Logging:
    """No logging at all: the system call."""
    descriptor = open_bare(setting.live)
    data = line(setting.size)
    return Logging(lambda text: os.write(descriptor, data), lambda: None, lambda: os.close(descriptor))


def _concurrent_timed(setting: Setting) -> logging.Handler:
    """concurrent-log-handler by time."""
    from concurrent_log_handler import ConcurrentTimedRotatingFileHandler

    handler: logging.Handler = ConcurrentTimedRotatingFileHandler(str(setting.live), when=setting.when)
    return handler


def _concurrent_size(setting: Setting) -> logging.Handler:
    """concurrent-log-handler by size, which is never reached."""
    from concurrent_log_handler import ConcurrentRotatingFileHandler

    handler: logging.Handler = ConcurrentRotatingFileHandler(str(setting.live), maxBytes=1 << 40)
    return handler


def _rollsafe(setting: Setting) -> logging.Handler:
    """The handler of this project."""
    from rollsafe import SafeTimedRotatingFileHandler

    return SafeTimedRotatingFileHandler(setting.live, when=setting.when)


def _line_formatter(fmt: str) -> logging.Formatter:
    """The formatter of this project."""
    from rollsafe import LineFormatter

    return LineFormatter(fmt)


def _loguru(enqueue: bool) -> Callable[[Setting], Logging]:
    """loguru, which writes itself or, `enqueue`, through one thread of the process that started it."""

    def start(setting: Setting) -> Logging:
        import loguru

        with suppress(ValueError):
            loguru.logger.remove(0)
        # Its documented way to have several loggers.
        logger = copy.deepcopy(loguru.logger).bind(name=NAME)
        form = "{time:YYYY-MM-DD HH:mm:ss,SSS} {level.name} {extra[name]} {message}"
        key = logger.add(setting.live, format=form, level="INFO", enqueue=enqueue, rotation="1 day")
        return Logging(logger.info, logger.complete, lambda: logger.remove(key))

    return start


def _queue(setting: Setting) -> Logging:
    """The standard library's QueueHandler, and one listener with a FileHandler for all processes."""
    import multiprocessing  # here, because counting instructions counts imports too

    handed: Any = queue.SimpleQueue() if setting.processes == 1 else multiprocessing.get_context("fork").Queue()
    plain = logging.FileHandler(setting.live)
    plain.setFormatter(logging.Formatter(FORMAT))
    listener = logging.handlers.QueueListener(handed, plain)
    listener.start()
    logger = logging.Logger(NAME, logging.INFO)
    logger.addHandler(logging.handlers.QueueHandler(handed))

    def settle() -> None:
        listener.stop()
        listener.start()

    def end() -> None:
        listener.stop()
        plain.close()

    return Logging(logger.info, settle, end)


def _picologging(setting: Setting) -> Logging:
    """picologging, a rewrite of `logging` in C."""
    import picologging
    import picologging.handlers

    handler = picologging.handlers.TimedRotatingFileHandler(str(setting.live), when=setting.when)
    # Without a date format, version 0.9.3 writes arbitrary bytes for the time.
    handler.setFormatter(picologging.Formatter(FORMAT, "%Y-%m-%d %H:%M:%S"))
    logger = picologging.Logger(NAME, picologging.INFO)
    logger.addHandler(handler)
    return Logging(logger.info, handler.flush, handler.close)


STANDARDS = (PLAIN, WATCHED, STANDARD, QUEUE)
"""The handlers of the standard library, safe with several processes or not."""

PEERS = {
    peer.name: peer
    for peer in (
        Peer(NULL, _of_handler(lambda setting: logging.NullHandler()), competes=False, alone=True),
        Peer(WRITE, _bare_write, competes=False, alone=True),
        Peer(FLOOR, _of_handler(lambda setting: BareWrite(setting.live, line(setting.size))), competes=False),
        Peer(PLAIN, _of_handler(lambda setting: logging.FileHandler(setting.live))),
        Peer(WATCHED, _of_handler(lambda setting: logging.handlers.WatchedFileHandler(setting.live))),
        Peer(
            STANDARD, _of_handler(lambda setting: logging.handlers.TimedRotatingFileHandler(setting.live, setting.when))
        ),
        Peer(QUEUE, _queue, shared=True, note="one thread writes for all, with a FileHandler"),
        Peer(CONCURRENT, _of_handler(_concurrent_timed), package="concurrent-log-handler"),
        Peer(
            f"{CONCURRENT}, size",
            _of_handler(_concurrent_size),
            package="concurrent-log-handler",
            note="the size is never reached",
        ),
        Peer("loguru", _loguru(enqueue=False), package="loguru", note="no rollover falls into its runs"),
        Peer("loguru, enqueue", _loguru(enqueue=True), shared=True, package="loguru", note="as loguru"),
        Peer("picologging", _picologging, package="picologging", note="its time stamps have no milliseconds"),
        Peer(OURS_STANDARD, _of_handler(_rollsafe), ours=True),
        Peer(OURS, _of_handler(_rollsafe, _line_formatter), ours=True),
    )
}


def write_lines(peer: Peer, live: Path, lines: int) -> None:
    """Write `lines` lines with no rollover in sight: the steady state."""
    logging_ = peer.start(Setting(live))
    text = message(Setting.size)
    for _ in range(lines):
        logging_.info(text)
    logging_.end()
