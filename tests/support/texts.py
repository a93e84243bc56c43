"""What the tests of one handler share: the text of a log, a full disk, a reopening, a boundary."""

from __future__ import annotations

import contextlib
import errno
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.crew import WatchedHandler


def backups(live: Path) -> dict[str, str]:
    """The text of each backup by what follows the live file's name."""
    return {path.name[len(live.name) + 1 :]: path.read_text() for path in sorted(live.parent.glob(live.name + ".*"))}


def all_lines(live: Path) -> list[str]:
    """All lines of the live file and its backups, sorted."""
    return sorted("".join([*backups(live).values(), live.read_text() if live.exists() else ""]).split())


@contextlib.contextmanager
def full_disk(handler: WatchedHandler) -> Iterator[None]:
    """Have each write be refused as on a full disk."""

    def refuse(line: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    real, handler._file.write = handler._file.write, refuse
    try:
        yield
    finally:
        handler._file.write = real


class Boundary:
    """A wall clock that stands just after the end of an interval, and goes on only while somebody sleeps."""

    def __init__(self, end: float, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = end + 0.001
        self.slept: list[float] = []
        monkeypatch.setattr(time, "time", lambda: self.now)
        monkeypatch.setattr(time, "sleep", self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds + 1e-6


def reopen_as_gunicorn_does(handler: logging.FileHandler) -> None:
    """What gunicorn's reopen_files does to each FileHandler on USR1."""
    handler.acquire()
    try:
        if handler.stream:
            handler.close()
            handler.stream = handler._open()
    finally:
        handler.release()
