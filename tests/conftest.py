"""Fixtures that tests of several directories use."""

from __future__ import annotations

import logging
import math
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from rollsafe._backups import watch

WORKERS_PER_CORE = 4
"""Test processes that `--numprocesses auto` starts for each core: most of them wait for a rollover at any moment."""
MOST_WORKERS = 24

# Hypothesis fails a test whose examples take more than 200 ms each, or are slow to make: on a busy machine, any may.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


# A command that a shell starts with `&` ignores these two signals (POSIX, Shell Command Language, 2.11), and so do the
# programs that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What `--numprocesses auto` means here."""
    return min(WORKERS_PER_CORE * (os.cpu_count() or 1), MOST_WORKERS)


if not os.path.isdir("/proc/self"):

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call() -> Iterator[None]:
        """Skip a test that asks the /proc of Linux on a system that has none, when it asks."""
        try:
            return (yield)
        except OSError as error:
            if str(error.filename).startswith("/proc"):
                pytest.skip(f"needs the /proc of Linux: {error.filename}")
            raise


@pytest.fixture(autouse=True)
def _only_lines_roll(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process and in those that it forks, files are rolled by lines only: tests of one second may take longer.

    The fixture `looks_often` undoes that. Servers, and programs of their own, always roll without lines, too.
    """
    monkeypatch.setattr(watch, "_SHORTEST_PAUSE_S", math.inf)
    monkeypatch.setattr(watch, "_LONGEST_PAUSE_S", math.inf)


@pytest.fixture
def public_directory() -> Iterator[Path]:
    """A directory that other users may enter, with `logs` in it; pytest's own is closed to them."""
    directory = Path(tempfile.mkdtemp(prefix="rollsafe-"))
    directory.chmod(0o755)
    (directory / "logs").mkdir()
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """Take away what a test has put on gunicorn's loggers and on the root logger."""
    loggers = [logging.getLogger(name) for name in (None, "gunicorn.error", "gunicorn.access")]
    before = [(logger.level, logger.handlers[:], logger.propagate) for logger in loggers]
    yield
    for logger, (level, handlers, propagate) in zip(loggers, before, strict=True):
        for handler in logger.handlers:
            if handler not in handlers:
                handler.close()
        logger.handlers[:] = handlers
        logger.filters.clear()
        logger.setLevel(level)
        logger.propagate = propagate
