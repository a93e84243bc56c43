"""Logs that two hosts write on SSHFS."""

from __future__ import annotations

import warnings

import pytest

from rollsafe import FileLock, SafeTimedRotatingFileHandler
from tests.support.crew import lock_path
from tests.support.hosts import sshfs


@pytest.mark.slow
def test_sshfs_whose_locks_exclude_nobody_is_recognised_and_said() -> None:
    with sshfs() as volume:
        path = volume.mounts[0] / "app.log"
        with pytest.warns(RuntimeWarning, match=r"fuse\.sshfs, where a lock does not exclude other hosts"):
            handler = SafeTimedRotatingFileHandler(path)
        assert handler.lock_writes
        handler.close()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            SafeTimedRotatingFileHandler(path, lock_writes=False).close()
        with FileLock(lock_path(path)):
            other = FileLock(lock_path(volume.mounts[1] / "app.log"))
            assert other.acquire(0), "locks do exclude by now: tell the table of file systems"
            other.close()
