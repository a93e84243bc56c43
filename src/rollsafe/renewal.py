"""The renewal of the lease, about once a second: is the open file the live file still, and of the right interval?"""

from __future__ import annotations

import logging
import sys
import time
from math import inf
from typing import Protocol

from rollsafe.live_file import LiveFile
from rollsafe.naming import BackupNaming
from rollsafe.open_file import OpenFile
from rollsafe.pending import PendingLines
from rollsafe.rollover import is_set

# Seconds, and share of the interval at most. After a boundary nobody renames before this is over: lines in flight
# land under the live name, where log shippers still read (rsyslog and tail -F leave a file at its rename).
LINGER_S = 0.02
LINGER_SHARE = 0.02
# Seconds. The same between the mark that a file is full and its rename.
SIZE_LINGER_S = 0.02
# Seconds that a record's clock may be ahead of ours and still make the rollover.
MAX_CLOCK_SKEW_S = 1.0
# How often other workers may have rolled, and their files be over too, before a line goes into the file that there is.
_ROUNDS = 3

_monotonic = time.monotonic


class Renewing(Protocol):
    """What a renewal asks of its handler."""

    stream: object
    maxBytes: int
    _file: OpenFile

    @property
    def baseFilename(self) -> str:
        """The path of the live file."""

    def shouldRollover(self, record: logging.LogRecord) -> bool:
        """Whether a record belongs to a later interval than the open file; an application may override it."""

    def doRollover(self) -> None:
        """Roll the live file; an application may override it."""

    def _check_overrides(self) -> None:
        """Look which methods the application has replaced."""

    def _replaces(self, name: str) -> bool:
        """Whether the application has a method of its own in the place of one of ours."""


class Renewal:
    """The renewals of one handler's lease.

    Args:
        handler: Decides about rollovers.
        live: The live file.
        naming: Tells intervals.

    Attributes:
        rolling_at: The instant that a rollover of ours is for, seconds since the epoch; None while there is none.
    """

    def __init__(self, handler: Renewing, live: LiveFile, naming: BackupNaming) -> None:
        self.rolling_at: float | None = None
        self._handler = handler
        self._live = live
        self._naming = naming

    def renew(self, record: logging.LogRecord, pending: PendingLines) -> None:
        """Have the file that the path names open, of the right interval for `record`, and leased.

        Raises:
            OSError: It cannot be opened.
        """
        handler, rollover = self._handler, self._live.rollover
        rollover.lock.retry()
        handler._check_overrides()
        self._live.late.close_forgotten()
        decides_each = handler._replaces("shouldRollover")
        # Not only of `record`: a signal handler or another thread may have queued a line of a later interval.
        asks = True
        for _ in range(_ROUNDS):
            now, tick = time.time(), _monotonic()
            file = self._live.ensure_open()
            if file.interval is None:
                file.grant_lease(now, tick, inf)
                return
            if not rollover.live.is_live(file):
                if not self._live.reopen(file):
                    # A backup by now, which may be archived at any moment: each line is checked.
                    file.end_lease()
                    return
                continue
            newest = -inf if decides_each else pending.newest(now + MAX_CLOCK_SKEW_S)
            # A live file of the future was made while the clock was ahead; unless now is before the clock was set.
            ahead = file.start > now + MAX_CLOCK_SKEW_S and is_set(now)
            over = (asks and handler.shouldRollover(record)) or newest >= file.end or ahead
            rolls = over or self._lacks_room(file, pending)
            if rolls and rollover.is_backing_off(file, tick):
                self._lease_anyway(file, now, tick)
                return
            if not rolls:
                self._live.maintenance.leased()
                file.blank_left()
                file.bind(handler.maxBytes or inf, handler.baseFilename)
                file.grant_lease(now, tick, -inf if decides_each else file.end)
                return
            if over:
                # Also for lines that have not come through `handle`.
                self.wait_for_quiet()
            elif not rollover.file_limit.is_reached_by(file):
                _close_for_size(file)
            asks = not decides_each
            self.rolling_at = max(now, believed(record.created, now), newest)
            try:
                handler.doRollover()
            finally:
                self.rolling_at = None
            if handler._file is file and handler.stream is file.stream:
                # Refused or busy.
                self._lease_anyway(file, now, tick)
                return
        self._live.ensure_open().bind(handler.maxBytes or inf, handler.baseFilename)

    def wait_for_quiet(self) -> None:
        """Sleep to the end of the quiet moment after the boundary that is just past, if it is not over.

        It goes by our clock alone: a record that is ahead of it has no quiet moment to wait for.
        """
        if sys.is_finalizing():
            return
        now = time.time()
        linger = min(LINGER_S, LINGER_SHARE * self._naming.schedule.length)
        try:
            left = self._naming.interval_at(now).start + linger - now
        except Exception:  # an overridden computeRollover may raise anything; the rollover will report it
            return
        if left > 0:
            time.sleep(left)

    def _lease_anyway(self, file: OpenFile, now: float, tick: float) -> None:
        """Have lines go on into a file whose rollover was refused; a later lease tries it again."""
        file.bind(inf, self._handler.baseFilename)
        file.grant_lease(now, tick, inf)

    def _lacks_room(self, file: OpenFile, pending: PendingLines) -> bool:
        """Whether the live file is full, or the line that waits first would make it too large."""
        if self._live.rollover.file_limit.is_reached_by(file):
            return True
        if not self._handler.maxBytes:
            return False
        more = len(pending.lines[0][0]) if pending.lines else 0
        return not file.has_room(more, self._handler.maxBytes)


def _close_for_size(file: OpenFile) -> None:
    """Have the lines that other workers are writing land under the live name, where log shippers still read."""
    if not file.shared:
        file.mark_full()
        time.sleep(SIZE_LINGER_S)


def believed(created: float, now: float) -> float:
    """The time of a record as far as it decides about a rollover: ours where its clock is too far ahead, or wrong.

    A record of another clock, or one whose time is in milliseconds, rolls nothing over before its time.
    """
    return created if created <= now + MAX_CLOCK_SKEW_S else now
