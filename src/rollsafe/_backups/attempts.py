"""How a pass does something to a file: when the file is quiet, and as long as this process is elected.

A failure is reported once, and the attempt is made again later.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable

from rollsafe._backups.failures import Failures
from rollsafe._backups.file_names import Fingerprint, exists, fingerprint_of
from rollsafe._backups.ledger import Changed
from rollsafe._backups.listing import slowly
from rollsafe._backups.quiet import QuietFiles
from rollsafe._backups.scratch import Taken

Report = Callable[[str, BaseException], None]
IsElected = Callable[[], bool]
"""Whether this process is still elected; asked before each step that cannot be undone."""

# What the application's functions may raise; sys.exit, in the main function of a program that they use, ends no thread.
_FAILURES = (Exception, SystemExit)


class NotElected(Exception):
    """Another process maintains the backups by now."""


class TakesLong(Exception):
    """The rest of the work may take long, and another thread is to do it."""


class Attempts:
    """The attempts of one pass.

    Args:
        quiet: The files that this process has seen in earlier passes.
        failures: The failures of earlier passes.
        report: Called for what could not be done.
        is_elected: Whether this process is to do it.
        may_take_long: Whether the pass may do what may take long.

    Attributes:
        early: The paths of the files to which nothing was done because they were not quiet, or changed.
        waits: For each attempt that a later pass has to make again, the seconds until then.
        is_cut_short: Whether something was left undone because it may take long.
    """

    def __init__(
        self,
        quiet: QuietFiles,
        failures: Failures,
        report: Report,
        is_elected: IsElected,
        may_take_long: bool,
    ) -> None:
        self._quiet = quiet
        self._failures = failures
        self._report = report
        self.is_elected = is_elected
        self._may_take_long = may_take_long
        self.is_cut_short = False
        self.early: set[str] = set()
        self.waits: list[float] = []

    def make(
        self,
        action: str,
        paths: Iterable[str],
        seconds: float,
        act: Callable[[str, Fingerprint], None],
        *,
        if_empty: float | None = None,
        at_once: bool = False,
        is_fit: Callable[[os.stat_result], bool] = lambda status: stat.S_ISREG(status.st_mode),
    ) -> None:
        """Do `act` to each of the files that this process has seen unchanged for `seconds`.

        Args:
            action: What is done, in a word.
            paths: The files.
            seconds: How long a file has to be unchanged; also the pause before the next attempt if it is not.
            act: Called with the path and the fingerprint of the file.
            if_empty: As `seconds`, for an empty file.
            at_once: Whether it does not matter how long the file is unchanged.
            is_fit: Whether the action may be done to a file at all.
        """
        for path in slowly(paths):
            if self._failures.is_backing_off(action, path):
                continue
            try:
                status = os.lstat(path)
                if not is_fit(status):
                    self._failures.forget_failure(action, path)
                    continue
                fingerprint = fingerprint_of(status)
                needed = seconds if if_empty is None or status.st_size else if_empty
                wait = 0.0 if at_once else self._quiet.seconds_until_quiet(path, fingerprint, needed)
                if wait > 0:
                    self._put_off(path, wait)
                    continue
                self._check_elected()
                act(path, fingerprint)
                self._quiet.forget(path)
                self._failures.forget(action, path)
            except FileNotFoundError as error:
                # Of the file, or of something that the application's function needs.
                if exists(path):
                    self._record_failure(action, path, error)
            except TakesLong:
                self.is_cut_short = True
                self.early.add(path)
            except Taken:
                self._put_off(path, seconds)
            except Changed as error:
                self._check_elected()
                if not self._failures.record_change(action, path):
                    self._put_off(path, seconds)
                    continue
                self.early.add(path)
                sentence = f"the backup {path} changes before each attempt to maintain it"
                self._record_failure(action, path, error, sentence)
            except NotElected:
                raise
            except _FAILURES as error:
                sentence = f"on_rollover has failed for {path}, and is called again later" if action == "notify" else ""
                self._record_failure(action, path, error, sentence)

    def begin_long(self) -> None:
        """Called by an action before it does what may take long.

        Raises:
            TakesLong: It is not to do that in this pass.
        """
        if not self._may_take_long:
            raise TakesLong

    def _check_elected(self) -> None:
        """Raise NotElected if another process maintains the backups by now."""
        if not self.is_elected():
            raise NotElected

    def _put_off(self, path: str, seconds: float) -> None:
        """Leave a file to a pass that comes `seconds` later."""
        self.early.add(path)
        self.waits.append(seconds)

    def _record_failure(self, action: str, path: str, error: BaseException, sentence: str = "") -> None:
        """Report the first of several failures of one action with one file."""
        if self._failures.record_failure(action, path):
            self._report(sentence or f"maintenance of the backup {path} has failed, and is tried again later", error)
