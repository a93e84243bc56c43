"""The rollover lock, for which no line waits longer than a bound."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn, TypeVar

from rollsafe._files.lock_files import lock_path
from rollsafe._files.lock_handles import lock_alone
from rollsafe._live.events import count_event
from rollsafe.locks import FileLock

# How long a line waits for the rollover lock before it goes into the file that is open.
LOCK_WAIT_S = 0.5
# How long the next line waits after a wait in vain, if the lock may be busy although no process is stuck.
BUSY_WAIT_S = 0.05

_Result = TypeVar("_Result")


class LockBusy(Exception):
    """The lock was not free within the bound: another process is stopped or stuck in a rollover."""


class BoundedLock(FileLock):
    """The rollover lock, for which no line waits longer than a bound.

    Only one line waits for the whole bound. After a wait in vain each line only tries the lock, because its holder may
    be stopped, until an attempt succeeds, for whatever purpose.

    Args:
        live: The live file.
        shared: Each line needs the lock, so it may be busy although no process is stuck.
    """

    def __init__(self, live: str, shared: bool) -> None:
        super().__init__(lock_path(live))
        self.lock_timeout = LOCK_WAIT_S
        """How long the next line waits; seconds."""
        self._live = live
        self._shared = shared

    def take(self, give_up: Callable[[], bool] | None = None, *, to_roll: bool = False) -> bool:
        """Take the lock within the bound; False if it was not free, or once `give_up` returns true.

        With `to_roll` it always waits a little: at a boundary the lock is busy although no process is stuck.
        """
        if self.acquire(0):
            self.lock_timeout = LOCK_WAIT_S
            return True
        count_event("lock_waits", self._live)
        # Asked before the wait, too: another process may have done by now what the lock is needed for.
        if give_up is not None and give_up():
            return False
        timeout = max(self.lock_timeout, BUSY_WAIT_S if to_roll or self._shared else 0.0)
        begun = time.monotonic()
        if timeout and self.acquire(timeout, give_up):
            self.lock_timeout = LOCK_WAIT_S
            return True
        if time.monotonic() - begun >= timeout:
            self.lock_timeout = 0.0
        return False

    def take_alone(self) -> int:
        """Take the lock by a descriptor of its own, which the caller closes; for the end of the interpreter.

        Raises:
            OSError: The lock was not free within the bound, or its file cannot be opened.
        """
        return lock_alone(self.path, LOCK_WAIT_S)

    def retry(self) -> None:
        """After a wait in vain, find out whether the lock is free again."""
        if not self.lock_timeout:
            with suppress(OSError):
                if self.acquire(0):
                    self.release()
                    self.lock_timeout = LOCK_WAIT_S

    def is_free(self) -> bool:
        """Whether the lock can be had now, without a wait."""
        try:
            return self.run(lambda: True, lambda: False, lambda: True)
        except OSError:
            return False

    def run(
        self,
        action: Callable[[], _Result],
        otherwise: Callable[[], _Result],
        give_up: Callable[[], bool] | None = None,
        *,
        to_roll: bool = False,
    ) -> _Result:
        """Call `action` under the lock, or `otherwise` if the lock was not free within the bound; return its result.

        A signal handler may raise an exception between any two calls (Celery's soft time limit, KeyboardInterrupt).
        So the lock is taken inside the `try`, and released if it is held; again, if the release was interrupted.
        """
        taken = False
        try:
            taken = self.take(give_up, to_roll=to_roll)
            if taken:
                result = action()
        finally:
            try:
                self.release_if_held()
            except BaseException:
                self.release_if_held()
                raise
        return result if taken else otherwise()

    @property
    def is_stuck(self) -> bool:
        """Whether the last wait was in vain."""
        return not self.lock_timeout

    def refuse(self) -> NoReturn:
        """Raise LockBusy, for a step that cannot be taken without the lock."""
        raise self.busy()

    def busy(self) -> LockBusy:
        """The error for a lock that was not free within the bound."""
        return LockBusy(
            f"{self.path} could not be locked within {LOCK_WAIT_S} s; `rollsafe status` tells which process holds it"
        )
