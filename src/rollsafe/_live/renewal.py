"""The renewal of the lease, about once a second: is the open file still the live file, and of the right interval?"""

from __future__ import annotations

import logging
import os
import stat
import sys
import time
from math import inf
from typing import Protocol

from rollsafe._backups.naming import BackupNaming
from rollsafe._files.identity import identity_of
from rollsafe._greenlets import pause
from rollsafe._live.live_file import LiveFile
from rollsafe._live.open_file import OpenFile
from rollsafe._live.pending import PendingLines
from rollsafe._live.rollover import is_set
from rollsafe.schedule import Interval

# The quiet moment: its length, and the largest share of the interval that it may take. After a boundary no process
# renames the file before it is over, so that lines in flight land under the live name, where log shippers still read
# (rsyslog and tail -F leave a file at its rename).
LINGER_S = 0.02
LINGER_SHARE = 0.02
# For how long a process waits between marking a file as full and renaming it.
SIZE_LINGER_S = 0.02
# How far a record's time may be ahead of our clock and still cause the rollover.
MAX_CLOCK_SKEW_S = 1.0
# How often the live file may prove to be over, because other workers roll it too, before a line goes into it anyway.
_ROUNDS = 3

_monotonic = time.monotonic


class Renewing(Protocol):
    """The part of a handler that its renewals use."""

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
        """Find out which methods the application has replaced."""

    def _replaces(self, name: str) -> bool:
        """Whether the application has replaced one of our methods."""


class Renewal:
    """The renewals of one handler's lease.

    Args:
        handler: Decides about rollovers.
        live: The live file.
        naming: Knows the intervals.

    Attributes:
        rolling_at: The instant that decides about the interval of the new file during our rollover, seconds since the
            epoch; None at other times.
    """

    def __init__(self, handler: Renewing, live: LiveFile, naming: BackupNaming) -> None:
        self.rolling_at: float | None = None
        # The file after whose opening the settings were compared with the note once more.
        self._noted: OpenFile | None = None
        self._handler = handler
        self._live = live
        self._naming = naming

    def renew(self, record: logging.LogRecord, pending: PendingLines) -> None:
        """Open the file that the path names, roll it if it is over for `record` or a pending line, and lease it.

        Raises:
            OSError: It cannot be opened.
        """
        handler, rollover = self._handler, self._live.rollover
        rollover.lock.retry()
        handler._check_overrides()
        self._live.late.close_forgotten()
        decides_each = handler._replaces("shouldRollover")
        # The pending lines decide, too: a signal handler or another thread may have queued one of a later interval.
        asks = True
        for _ in range(_ROUNDS):
            now, tick = time.time(), _monotonic()
            file = self._live.ensure_open()
            if file.interval is None:
                file.grant_lease(now, tick, inf)
                return
            if not rollover.live.is_live(file):
                if not self._live.reopen(file):
                    # It is a backup by now and may be archived at any moment, so each line is checked.
                    file.end_lease()
                    return
                continue
            newest = -inf if decides_each else pending.newest(now + MAX_CLOCK_SKEW_S)
            # A live file of the future was made while the clock was ahead, unless the clock is still to be set.
            ahead = is_ahead(file.start, now)
            over = (asks and handler.shouldRollover(record)) or newest >= file.end or ahead
            rolls = over or self._lacks_room(file, pending)
            if rolls and rollover.is_backing_off(file, tick):
                self._lease_anyway(file, now, tick)
                return
            if not rolls:
                self._live.maintenance.leased()
                if self._noted is not file:
                    self._noted = file
                    rollover.note_settings(file)
                file.blank_left()
                file.bind(handler.maxBytes or inf, handler.baseFilename)
                file.grant_lease(now, tick, -inf if decides_each else file.end)
                return
            if over:
                # `handle` has waited already, but not every line comes through it.
                self.wait_for_quiet()
            elif not rollover.file_limit.is_reached_by(file):
                _close_for_size(file)
            asks = not decides_each
            self.rolling_at = max(now, trusted_time(record.created, now), newest)
            try:
                handler.doRollover()
            finally:
                self.rolling_at = None
            if handler._file is file and handler.stream is file.stream:
                # The rollover was refused, or the lock was busy.
                if file.shared and rollover.lock.is_stuck:
                    # The line waits for the lock anyway. If it got it now, it would go into the old file.
                    raise rollover.lock.busy()
                self._lease_anyway(file, now, tick)
                return
        self._live.ensure_open().bind(handler.maxBytes or inf, handler.baseFilename)

    def is_over(self) -> bool:
        """Whether the live file has a line, and its interval is over; the handler need not have it open.

        An empty file waits for the first line of its next interval. If the application decides about each record, only
        the next record can tell.
        """
        handler, rollover, now = self._handler, self._live.rollover, time.time()
        if rollover.live.is_special or handler._replaces("shouldRollover"):
            return False
        try:
            status = os.lstat(rollover.live.path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        if not stat.S_ISREG(status.st_mode) or not status.st_size:
            return False
        file = handler._file
        interval = file.interval if file.identity == identity_of(status) else None
        return self._is_past(interval or rollover.interval_at_sight(status, now), now)

    def roll_if_over(self) -> bool:
        """Roll the live file if `is_over`, without a line; whether it still is, because that was refused.

        A handler that does not have the file open does not have the new one open afterwards.

        Raises:
            OSError: The live file cannot be opened.
        """
        if not self.is_over():
            return False
        was_held = self._live.is_held()
        now = time.time()
        try:
            file = self._live.ensure_open() if was_held else self._live.borrow()
            if file.interval is None or not self._is_past(file.interval, now):
                return False
            if not self._live.rollover.is_backing_off(file, _monotonic()):
                self.rolling_at = now
                self._handler.doRollover()
        except FileNotFoundError:
            return False
        finally:
            self.rolling_at = None
            if not was_held:
                self._live.put_away()
        return self.is_over()

    def _is_past(self, interval: Interval, now: float) -> bool:
        """Whether an interval is over, and its quiet moment too; or a live file of it was made by a wrong clock."""
        return now >= interval.end + self._linger() or is_ahead(interval.start, now)

    def _linger(self) -> float:
        """The seconds of the quiet moment."""
        return min(LINGER_S, LINGER_SHARE * self._naming.schedule.length)

    def wait_for_quiet(self) -> None:
        """Sleep to the end of the quiet moment after the last boundary, if it is not over.

        Only our clock counts: a record that is ahead of it has no quiet moment to wait for.
        """
        if sys.is_finalizing():
            return
        now = time.time()
        try:
            left = self._naming.interval_at(now).start + self._linger() - now
        except Exception:  # an overridden computeRollover may raise anything; the rollover will report it
            return
        if left > 0:
            pause(left)

    def _lease_anyway(self, file: OpenFile, now: float, tick: float) -> None:
        """Lease a file whose rollover was refused, so that lines go on into it; a later renewal tries again."""
        file.bind(inf, self._handler.baseFilename)
        file.grant_lease(now, tick, inf)

    def _lacks_room(self, file: OpenFile, pending: PendingLines) -> bool:
        """Whether the live file is full, or the first pending line would make it too large."""
        if self._live.rollover.file_limit.is_reached_by(file):
            return True
        if not self._handler.maxBytes:
            return False
        more = len(pending.lines[0][0]) if pending.lines else 0
        return not file.has_room(more, self._handler.maxBytes)


def is_ahead(start: float, now: float) -> bool:
    """Whether a live file of an interval with that start was made while the clock was ahead, and the clock is right."""
    return start > now + MAX_CLOCK_SKEW_S and is_set(now)


def _close_for_size(file: OpenFile) -> None:
    """Mark the file as full and wait: lines in flight land under the live name, where log shippers still read."""
    if not file.shared:
        file.mark_full()
        pause(SIZE_LINGER_S)


def trusted_time(created: float, now: float) -> float:
    """The time of a record that decides about a rollover: our time `now` where the record's is too far ahead.

    So no record of another clock, or with a time in milliseconds, causes a rollover before it is due.
    """
    return created if created <= now + MAX_CLOCK_SKEW_S else now
