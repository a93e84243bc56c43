"""When the maintenance thread closes files that were rolled, for a handler that logs nothing.

Otherwise such a handler would hold a file open that was removed long ago, and its space on the disk.
"""

from __future__ import annotations

import time
from math import inf
from typing import Final

from rollsafe._background import is_patched
from rollsafe._backups.duties import Duties, Maintained
from rollsafe._timing import LEASE_S

# The least and the most seconds between two looks: with intervals of a second, and if files are rolled for their size
# or by hand, nothing tells the time of the next rollover.
_SHORTEST_PAUSE_S: Final = 2.0
_LONGEST_PAUSE_S: Final = 600.0


class HeldFiles:
    """The files that one handler holds open, and when to look at them.

    Args:
        handler: The handler.
        duties: What it wants done with its backups. If that is nothing, nothing looks at its files.
        lock_path: The lock file of its log.

    Attributes:
        look_at: When to look; seconds of the monotonic clock, infinity for never.
    """

    def __init__(self, handler: Maintained, duties: Duties, lock_path: str) -> None:
        self._handler = handler
        self._duties = duties
        self._lock_path = lock_path
        self._has_looked = False
        self.look_at = inf

    @property
    def want_a_look(self) -> bool:
        """Whether it is time to look, perhaps for the first time: a handler may have a file open and log nothing."""
        if self._has_looked:
            return self.look_at <= time.monotonic()
        try:
            return not is_patched() and self._duties.after_rollover()
        except Exception:  # an attribute that the application has set to nonsense
            return False

    def start_looks(self) -> bool:
        """Have looks made from now on, if the handler needs them; whether none was planned before."""
        if self.look_at < inf or is_patched() or not self._duties.after_rollover():
            return False
        self.look_at = time.monotonic() + _SHORTEST_PAUSE_S
        return True

    def stop_looks(self) -> None:
        """Have no look made: the handler has no file open any more."""
        self.look_at = inf

    def look(self) -> None:
        """Close files that were rolled, and set `look_at`; only the thread calls this.

        If gevent or eventlet have replaced the handler's lock, no other thread may take it. Then the next line closes
        the files.
        """
        self.look_at = inf
        self._has_looked = True
        if is_patched():
            return
        holds = True
        try:
            holds = self._handler._close_rolled_files()
        except BaseException as error:
            self._duties.report(f"files beside {self._lock_path} could not be closed", error)
        if holds:
            boundary = self._handler.rolloverAt - time.time() + LEASE_S
            self.look_at = time.monotonic() + min(max(boundary, _SHORTEST_PAUSE_S), _LONGEST_PAUSE_S)
