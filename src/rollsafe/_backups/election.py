"""Which process maintains the backups of a log: the one that holds a lock."""

from __future__ import annotations

from typing import Final

from rollsafe._files.lock_handles import MAINTENANCE_BYTE
from rollsafe.locks import FileLock

# Seconds between attempts to take the lock: at first, and the most.
PAUSE_S: Final = 0.25
_LONGEST_PAUSE_S: Final = 2.0


class Election:
    """The election, as one process takes part in it.

    Args:
        lock_path: The lock file, of which the elected process locks a byte.

    Attributes:
        is_lost: Whether another process had the lock at the last attempt.
    """

    def __init__(self, lock_path: str) -> None:
        self._lock_path = lock_path
        self._lock: FileLock | None = None
        self._pause = PAUSE_S
        self.is_lost = False

    @property
    def is_won(self) -> bool:
        """Whether this process has taken the lock."""
        return self._lock is not None and self._lock.locked

    def is_still_won(self) -> bool:
        """Whether this process has the lock now: it may have lost it since, see `FileLock.excludes`."""
        return self._lock is not None and self._lock.excludes()

    def try_to_win(self) -> bool:
        """Take the lock, if no other process has it."""
        if self._lock is None:
            self._lock = FileLock(self._lock_path, byte=MAINTENANCE_BYTE)
        self.is_lost = not self._lock.acquire(timeout=0)
        if not self.is_lost:
            self._pause = PAUSE_S
        return not self.is_lost

    def next_pause(self) -> float:
        """Seconds until the next attempt, more after each one that has failed."""
        pause, self._pause = self._pause, min(2 * self._pause, _LONGEST_PAUSE_S)
        return pause

    def end(self) -> None:
        """Leave the work to other processes."""
        self.is_lost = False
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.close()
