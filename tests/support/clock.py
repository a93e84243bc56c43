"""A wall clock of their own for the processes of a test."""

from __future__ import annotations

import importlib.util
import os
import time
from datetime import datetime
from pathlib import Path

import pytest


def find_libfaketime() -> Path | None:
    """The shared library of the libfaketime package; None where it is not installed or not built for this system."""
    spec = importlib.util.find_spec("libfaketime")
    if spec is None or spec.origin is None:
        return None
    library = Path(spec.origin).parent / "vendor/libfaketime/src/libfaketime.so.1"
    return library if library.exists() else None


LIBFAKETIME = find_libfaketime()

needs_libfaketime = pytest.mark.skipif(
    LIBFAKETIME is None, reason="needs the Linux library of the package libfaketime: pip install libfaketime==3.0.1"
)


def instant(text: str) -> float:
    """ISO 8601 with an offset, as seconds since the epoch."""
    return datetime.fromisoformat(text).timestamp()


class StandingClock:
    """A wall clock for the process of the test and those that it forks, which stands until the test sets it on.

    For steps that must fall into one interval: on a busy machine the next second may begin between any two. The
    monotonic clock and the times of files stay real.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._now = time.time()
        monkeypatch.setattr(time, "time", lambda: self._now)

    def go_on(self, seconds: float) -> None:
        """Let it be so many seconds later."""
        self._now += seconds


class Clock:
    """
    A wall clock for other processes, which can be set while they run.

    libfaketime reads the offset from a file at each call. The monotonic clock and the times of files stay real, so it
    is only ever set to the past: a file must not look older than its lines.
    """

    def __init__(self, offset_file: Path, seconds: float) -> None:
        self._offset_file = offset_file
        self.set(seconds)

    def set(self, seconds: float) -> None:
        """Let it be `seconds` since the epoch now."""
        self._offset = seconds - time.time()
        draft = self._offset_file.with_suffix(".new")
        draft.write_text(f"{self._offset:+.6f}", encoding="ascii")
        draft.replace(self._offset_file)

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time() + self._offset

    @property
    def environment(self) -> dict[str, str]:
        """What makes a process go by this clock."""
        return {
            "LD_PRELOAD": os.pathsep.join(filter(None, [str(LIBFAKETIME), os.environ.get("LD_PRELOAD", "")])),
            "FAKETIME_TIMESTAMP_FILE": str(self._offset_file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
