"""When the maintenance thread looks at a log, because perhaps no line comes, and what it finds.

Without these looks, a log without traffic would not be rolled, and a process that logs nothing would hold a file open
that was removed long ago. A look closes files that were rolled, and finds out whether the interval of the live file is
over, and whether a pass of the maintenance is due. It opens nothing and lists no directory. Only the elected process
goes on from there.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from math import inf
from typing import Final

from rollsafe._background import is_patched
from rollsafe._backups.duties import Duties, Maintained
from rollsafe._backups.naming import BackupNaming
from rollsafe._files.identity import Identity, identity_of
from rollsafe._timing import LEASE_S

# The least and the most seconds between two looks: with intervals of a second, and because nothing tells that the clock
# was set forward, or that a process without a thread has rolled a file. A handler is not looked at sooner after it was
# made either, because its application may set `namer` and the like just after that.
_SHORTEST_PAUSE_S: Final = 2.0
_LONGEST_PAUSE_S: Final = 60.0
# How often the election may be lost, within some seconds, before a process rolls a file without being elected: the
# elected one may be compressing for hours, or be stopped.
_MOST_LOSSES: Final = 5

# How often a pass is due within an interval if backups become too old, or the disk full, while nothing is rolled.
_AGING_S: Final = 3600.0

_State = tuple[float, float, Identity | None]


class Watch:
    """The watch over the log of one handler: when to look, and what a look has found.

    Args:
        handler: The handler.
        duties: What it wants done with its backups. If that is nothing, nothing looks at its log.
        naming: The names of its backups.
        lock_path: The lock file of its log.

    Attributes:
        look_at: When to look; seconds of the monotonic clock, infinity for never.
        is_over: Whether the interval of the live file was over at the last look, and it waits to be rolled.
        is_pass_due: Whether a pass was due at the last look.
    """

    def __init__(self, handler: Maintained, duties: Duties, naming: BackupNaming, lock_path: str) -> None:
        self._handler = handler
        self._duties = duties
        self._naming = naming
        self._lock_path = lock_path
        self._passed: _State | None = None
        self._losses = 0
        self._has_failed = False
        self.look_at = inf
        self.is_over = False
        self.is_pass_due = False

    def is_due(self, tick: float) -> bool:
        """Whether it is time to look at `tick` of the monotonic clock; the first look is planned here."""
        if self.look_at == inf and self._is_wanted():
            self.look_at = tick + _SHORTEST_PAUSE_S
        return self.look_at <= tick

    def start(self, *, is_open: bool = False) -> bool:
        """Have looks made from now on, if the handler needs them; whether none was planned before.

        Args:
            is_open: Whether the handler is being opened after it was closed.
        """
        if self.look_at < inf or not self._is_wanted(is_open=is_open):
            return False
        self.look_at = time.monotonic() + _SHORTEST_PAUSE_S
        return True

    def look_within(self, seconds: float) -> bool:
        """Have the next look made within so many seconds, if one is planned; whether it was planned for later."""
        sooner = time.monotonic() + seconds
        is_later = sooner < self.look_at < inf
        if is_later:
            self.look_at = sooner
        return is_later

    def stop(self) -> None:
        """Have no look made: the handler was closed."""
        self.look_at = inf

    def look(self, tick: float) -> None:
        """Close files that were rolled, set `is_over` and `is_pass_due`, and plan the next look."""
        self.look_at = inf
        self.is_pass_due = False
        if not self._is_wanted():
            self.is_over = False
            return
        was_over, self.is_over = self.is_over, self._ask(rolls=False)
        pause = _LONGEST_PAUSE_S
        try:
            now = time.time()
            if not was_over:
                boundary = self._naming.interval_at(now).end + LEASE_S
                pause = min(max(boundary - now, _SHORTEST_PAUSE_S), _LONGEST_PAUSE_S)
            self.is_pass_due = os.path.lexists(self._lock_path) and self._state(now) != self._passed
        except Exception as error:  # the application's computeRollover
            self._report(error)
        self.look_at = tick + pause

    def roll(self) -> bool:
        """Roll the live file if it is still over; whether it was rolled, by this process or by another one."""
        self.is_over = self._ask(rolls=True)
        self._losses = 0
        return not self.is_over

    def lose(self) -> None:
        """Leave the work to the elected process; but roll the live file if that process does not do it soon."""
        self.is_pass_due = False
        if self.is_over:
            self._losses += 1
            self.is_over = self._ask(rolls=self._losses > _MOST_LOSSES)
        if not self.is_over:
            self._losses = 0

    def begin_pass(self) -> None:
        """This process lists the backups: a pass is due again after the next boundary, or after another rollover.

        Another one is due each hour if there is a limit for the age of backups, or for the free space.
        """
        self.is_pass_due = False
        self._passed = self._state(time.time())

    def _is_wanted(self, *, is_open: bool = False) -> bool:
        """Whether the handler needs it.

        If gevent or eventlet have replaced the handler's lock, no other thread may take it.
        """
        handler = self._handler
        try:
            # gunicorn closes a handler to reopen its file, and sets a new `stream` at once.
            is_closed = handler._closed and handler.stream is None
            return (is_open or not is_closed) and not is_patched() and self._duties.after_rollover()
        except Exception:  # an attribute that the application has set to nonsense
            return False

    def _ask(self, *, rolls: bool) -> bool:
        """Have the handler look; whether its live file is over."""
        try:
            is_over = self._handler._look(rolls=rolls)
        except BaseException as error:  # an application's function may raise anything
            self._report(error)
            return False
        if not is_over:
            self._has_failed = False
        return is_over

    def _report(self, error: BaseException) -> None:
        """Report that a look has failed, once until one succeeds."""
        if not self._has_failed:
            self._duties.report(
                f"the check whether the log beside {self._lock_path} is to be rolled over has failed", error
            )
        self._has_failed = True

    def _state(self, now: float) -> _State:
        """What changes at a boundary, when backups get older, and at each rollover, by whichever process.

        A process without a thread may have rolled the file: uWSGI's master, or the command. The time stamp of the
        directory would not do: other programs change it all the time.
        """
        limits = self._duties.limits()
        has_aging = limits.max_age is not None or limits.min_free_bytes is not None
        live: Identity | None = None
        with suppress(OSError):
            live = identity_of(os.lstat(self._handler.baseFilename))
        return self._naming.interval_at(now).start, now // _AGING_S if has_aging else 0.0, live
