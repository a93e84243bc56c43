"""Handlers that are wrong on purpose, each in one way, and one that is right: the proof that the oracle sees it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC


class PerIntervalHandler(logging.Handler):
    """Right, if slow: each line is one write to the file of its interval, which is opened for it alone.

    There is no live file and no rollover. The broken handlers differ from it in one method each.
    """

    def __init__(self, live: Path, suffix_of: Callable[[float], str]) -> None:
        super().__init__()
        self.live = live
        self.suffix_of = suffix_of
        self.emitted = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.emitted += 1
        self.put(self.path(record), self.format(record).encode() + b"\n")

    def path(self, record: logging.LogRecord) -> Path:
        """The file that the record belongs to."""
        return self.live.with_name(f"{self.live.name}.{self.suffix_of(record.created)}")

    def put(self, path: Path, line: bytes) -> None:
        """Append a line to a file."""
        descriptor = os.open(path, _APPEND, 0o644)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)


class OverwritingHandler(PerIntervalHandler):
    """Loses: each process empties the file of an interval when it first writes to it."""

    newest: Path | None = None

    def put(self, path: Path, line: bytes) -> None:
        if path != self.newest:
            self.newest = path
            path.write_bytes(b"")
        super().put(path, line)


class TearingHandler(PerIntervalHandler):
    """Tears: a line longer than its buffer is written in two pieces."""

    buffer = 4096

    def put(self, path: Path, line: bytes) -> None:
        super().put(path, line[: self.buffer])
        if line[self.buffer :]:
            time.sleep(0)
            super().put(path, line[self.buffer :])


class BlankingHandler(PerIntervalHandler):
    """Leaves blank lines: every hundredth line begins with a newline, as after a fragment that was none."""

    def put(self, path: Path, line: bytes) -> None:
        guess = b"\n" if self.emitted % 100 == 0 else b""
        super().put(path, guess + line)


class DoublingHandler(PerIntervalHandler):
    """Doubles: every hundredth line is written again, as after an error that was none."""

    def put(self, path: Path, line: bytes) -> None:
        super().put(path, line)
        if self.emitted % 100 == 0:
            super().put(path, line)


class LateHandler(PerIntervalHandler):
    """Misfiles: lines of the last moments of an interval are written to the next one's file."""

    late = 0.1

    def path(self, record: logging.LogRecord) -> Path:
        return self.live.with_name(f"{self.live.name}.{self.suffix_of(record.created + self.late)}")


class StaleNameHandler(LateHandler):
    """Misfiles: every file bears the name of the interval before, as when a silent worker rolls over at last."""

    late = -1.0


class NeverRollingHandler(PerIntervalHandler):
    """Misfiles: all intervals are in the live file."""

    def path(self, record: logging.LogRecord) -> Path:
        return self.live


class LitteringHandler(PerIntervalHandler):
    """Leaves a stranger: a file beside the log that is no backup."""

    def put(self, path: Path, line: bytes) -> None:
        super().put(path, line)
        if self.emitted == 1:
            self.live.with_name(f"{self.live.name}.{os.getpid()}.tmp").touch()


class ReportingHandler(PerIntervalHandler):
    """Writes all lines but reports an error for every hundredth."""

    def emit(self, record: logging.LogRecord) -> None:
        super().emit(record)
        if self.emitted % 100 == 0:
            self.handleError(record)


class RaisingHandler(PerIntervalHandler):
    """Raises into the application."""

    def emit(self, record: logging.LogRecord) -> None:
        raise OSError("raised on purpose")


class StuckHandler(PerIntervalHandler):
    """Never returns from its first line."""

    def emit(self, record: logging.LogRecord) -> None:
        while True:
            time.sleep(60)
