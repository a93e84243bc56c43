"""Failures: which action has failed with which backup, and when to try again."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from math import inf
from typing import Final

# Seconds until a failed action is tried again: the first time, and the most after further failures.
_RETRY_S: Final = 60.0
_LONGEST_RETRY_S: Final = 3600.0
# How often in a row a file may be found changed before that counts as a failure.
_MOST_CHANGES: Final = 5


class Failures:
    """The failures of one process, by action and path: a file that cannot be compressed can still be removed.

    Attributes:
        retry_at: When the first failed action may be tried again; seconds of the monotonic clock, infinity if none has
            failed.
    """

    def __init__(self) -> None:
        # The moment of the next attempt, and the seconds from the last attempt until then.
        self._failed: dict[tuple[str, str], tuple[float, float]] = {}
        self._changes: dict[tuple[str, str], int] = {}
        # The actions that were due in this pass.
        self._met: set[tuple[str, str]] = set()
        self.retry_at = inf

    def is_backing_off(self, action: str, path: str) -> bool:
        """Whether an action, which is due in this pass, has failed with the file too recently to be tried again."""
        self._met.add((action, path))
        return (action, path) in self._failed and time.monotonic() < self._failed[action, path][0]

    def record_failure(self, action: str, path: str) -> bool:
        """Record a failure; whether it is the first one of this action with this file."""
        self._met.add((action, path))
        _, pause = self._failed.get((action, path), (0.0, 0.0))
        longer = min(2 * pause, _LONGEST_RETRY_S) or _RETRY_S
        self._failed[action, path] = (time.monotonic() + longer, longer)
        self._set_retry()
        return not pause

    def record_change(self, action: str, path: str) -> bool:
        """Record that a file was found changed; whether that has happened too often in a row."""
        self._changes[action, path] = count = self._changes.get((action, path), 0) + 1
        return count > _MOST_CHANGES

    def forget(self, action: str, path: str) -> None:
        """Forget an action that has succeeded."""
        self._changes.pop((action, path), None)
        self.forget_failure(action, path)

    def forget_failure(self, action: str, path: str) -> None:
        """Forget the failure of an action that is not to be tried again."""
        if self._failed.pop((action, path), None):
            self._set_retry()

    def forget_missing(self, directory: str, present: Collection[str]) -> None:
        """Forget the files of a directory that are not among the paths `present`."""
        for action, path in [*self._failed, *self._changes]:
            if path not in present and os.path.dirname(path) == directory:
                self.forget(action, path)

    def end_pass(self) -> None:
        """Forget the actions whose time to be tried again has come, and which were not due in this pass."""
        now = time.monotonic()
        for key in [key for key, (moment, _) in self._failed.items() if moment <= now and key not in self._met]:
            self.forget_failure(*key)
        self._met.clear()

    def _set_retry(self) -> None:
        """Bring `retry_at` up to date."""
        self.retry_at = min((moment for moment, _ in self._failed.values()), default=inf)
