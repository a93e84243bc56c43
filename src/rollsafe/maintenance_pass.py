"""One pass over the backups of a log: off the path of every line, in one process at a time, restartable."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from itertools import chain

from rollsafe.archives import (
    UNANNOUNCED_EXTENSION,
    Fingerprint,
    archive,
    are_one,
    claimed_file,
    complete_killed,
    drop_copied,
    exists,
    fingerprint_of,
    give_name,
    remove,
)
from rollsafe.codecs import Codec
from rollsafe.duties import Duties
from rollsafe.failures import Failures
from rollsafe.ledger import Changed, Ledger
from rollsafe.listing import Listing, slowly
from rollsafe.locks import QUIET_S, UNUSED_S, identity_of
from rollsafe.names import ROLLED_EXTENSION
from rollsafe.quiet import QuietFiles
from rollsafe.scratch import Taken, clear_leftover

Report = Callable[[str, BaseException], None]
Notify = Callable[[str], None]
"""Called with the path of a backup that is final, again and again until it returns."""
IsElected = Callable[[], bool]
"""Whether this process is still elected; asked before each step that cannot be undone."""

# What the application's functions may raise; sys.exit, in the main function of a program that they use, ends no thread.
_FAILURES = (Exception, SystemExit)


class NotElected(Exception):
    """Another process maintains the backups by now."""


class MaintenancePass:
    """One pass over the backups of one log.

    Args:
        listings: The files of each directory of backups.
        quiet: What this process remembers of their changes, from pass to pass.
        failures: What it remembers of failures.
        report: Called for what could not be done.
        is_elected: Whether this process is to do it.
    """

    def __init__(
        self,
        listings: Sequence[Listing],
        quiet: QuietFiles,
        failures: Failures,
        report: Report,
        is_elected: IsElected = lambda: True,
    ) -> None:
        self._listings = listings
        self._quiet = quiet
        self._failures = failures
        self._report = report
        self._is_elected = is_elected
        self._waits: list[float] = []
        self._early: set[str] = set()
        for listing in listings:
            present = listing.paths()
            quiet.forget_missing(listing.directory, present)
            failures.forget_missing(listing.directory, present)

    @property
    def wait(self) -> float | None:
        """Seconds until there is more to do, None if there is nothing."""
        return max(self._waits, default=None)

    def run(self, duties: Duties, ledger: Ledger, expired: Collection[str]) -> None:
        """Do all that can be done now.

        Args:
            duties: What the handler wants.
            ledger: Of the log.
            expired: The paths of the files to remove.
        """
        self.remove(expired)
        # A backup that is yet to be compressed is not final.
        notify = duties.notify if duties.codec is None else self._await_next_pass
        # Always, and so `release`: a process with other settings may have left something.
        self.recover(ledger, duties.notify)
        if duties.has_rotator():
            self.rotate(duties.rotate, ledger, notify)
        else:
            self.release(ledger, notify)
        # Only now: the application is called for each file once before it is removed.
        self.remove_unclaimed(expired)
        if duties.codec is not None:
            self.compress(duties.codec, ledger, duties.notify if duties.notifies() else None, expired)
        self._failures.end_pass()

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files, except those that a writer may still use, and those that wait for the application.

        An empty file is removed only when no process can have it open for a late line any more: it may be the newest,
        and a line that came between the look and the removal would be lost.
        """

        def unlink(path: str, fingerprint: Fingerprint) -> None:
            with claimed_file(path, fingerprint[:2]):
                # Until `on_rollover` has returned for it, an archive has a second name.
                if are_one(path, path + UNANNOUNCED_EXTENSION):
                    remove(path + UNANNOUNCED_EXTENSION, fingerprint[:2])
                remove(path, fingerprint[:2])

        final = (path for path in paths if not path.endswith(ROLLED_EXTENSION))
        unclaimed = (path for path in final if not are_one(path, path + ROLLED_EXTENSION))
        self._when_quiet("remove", unclaimed, QUIET_S, unlink, if_empty=UNUSED_S)

    def remove_unclaimed(self, paths: Iterable[str]) -> None:
        """Remove those of the files that wait for the application, under both their names.

        Each of them has to be unchanged for as long as before the call of the application. A file that was too early
        for that call in this pass is too early for its removal.
        """

        def unlink(path: str, fingerprint: Fingerprint) -> None:
            backup = path.removesuffix(ROLLED_EXTENSION)
            with claimed_file(path, fingerprint[:2]):
                if are_one(path, backup):
                    remove(backup, fingerprint[:2])
                remove(path, fingerprint[:2])

        rolled = (path for path in paths if path.endswith(ROLLED_EXTENSION) and path not in self._early)
        self._when_quiet("remove unclaimed", rolled, UNUSED_S, unlink)

    def rotate(self, rotate: Callable[[str, str], None], ledger: Ledger, notify: Notify) -> None:
        """Hand each rolled file to the application's rotator, once.

        Later than anything else, because a rotator takes no lock: no process may have the file open. It is never called
        with a final name that exists. The rotator may have made that file of this very source before it was killed, or
        before it failed, and would make it anew of the rest that it has left.
        """

        def finish(path: str, fingerprint: Fingerprint) -> None:
            backup = path.removesuffix(ROLLED_EXTENSION)
            with claimed_file(path, fingerprint[:2]):
                if not are_one(path, backup):
                    if exists(backup):
                        raise FileExistsError(
                            errno.EEXIST,
                            "it exists beside the file that the rotator is to be called for; remove one of them",
                            backup,
                        )
                    rotate(path, backup)
                self._finish_rotated(path, backup, fingerprint, ledger)
                notify(backup)

        self._when_quiet("rotate", self._rolled(), UNUSED_S, finish)

    def _finish_rotated(self, path: str, backup: str, fingerprint: Fingerprint, ledger: Ledger) -> None:
        """Unlink the rolled file that a rotator has left; give it its final name if the rotator did nothing with it."""
        if not exists(path) or identity_of(os.lstat(path)) != fingerprint[:2]:
            return
        if are_one(path, backup):
            remove(path, fingerprint[:2])
        elif exists(backup):
            drop_copied(path, backup, fingerprint[2], ledger)
        else:
            give_name(path, backup, fingerprint_of(os.lstat(path)), ledger)
            with suppress(FileNotFoundError):
                remove(path, fingerprint[:2])

    def release(self, ledger: Ledger, notify: Notify) -> None:
        """Give each rolled file its final name when no process has it open any more.

        Its first name is unlinked after `notify` has returned. So a process that is killed in between leaves both
        names, and the next process notifies again.
        """

        def finish(path: str, fingerprint: Fingerprint) -> None:
            backup = path.removesuffix(ROLLED_EXTENSION)
            with claimed_file(path, fingerprint[:2]):
                if not are_one(path, backup):
                    give_name(path, backup, fingerprint, ledger)
                notify(backup)
                with suppress(FileNotFoundError):
                    remove(path, fingerprint[:2])

        self._when_quiet("release", self._rolled(), UNUSED_S, finish)

    def recover(self, ledger: Ledger, notify: Notify) -> None:
        """Complete what killed processes have left of archives."""
        begun = {entry.identity[1]: entry.identity for entry in ledger.entries() if entry.archive}
        for listing in self._listings if begun else ():
            for path, inode in listing.plain():
                if begun.pop(inode, None):
                    extensions = listing.names.extensions[1:]
                    self._attempt("complete", path, lambda path, ends=extensions: complete_killed(path, ends, ledger))  # type: ignore[misc]
        for identity in begun.values():
            with suppress(Changed), ledger.held():
                ledger.settle(identity)
        for path, names in chain.from_iterable(listing.scratch() for listing in self._listings):
            try:
                wait = self._quiet.seconds_until_quiet(path, fingerprint_of(os.lstat(path)), QUIET_S)
            except FileNotFoundError:
                continue
            if wait > 0:
                self._waits.append(wait)
            else:
                self._attempt("clear", path, lambda path, names=names: clear_leftover(path, names))  # type: ignore[misc]
        for path in chain.from_iterable(listing.unannounced() for listing in self._listings):
            self._attempt("notify", path, lambda path: self._announce(path, notify))

    def compress(self, codec: Codec, ledger: Ledger, notify: Notify | None, without: Collection[str] = ()) -> None:
        """Make archives of the plain backups.

        A backup of another user is left to a process of that user: this one could not keep its owner.

        Args:
            codec: How.
            ledger: Of the log.
            notify: Called for each archive; None if the application wants no call.
            without: Backups that are to be removed.
        """

        def finish(path: str, fingerprint: Fingerprint) -> None:
            final = path + codec.extension
            archive(path, final, fingerprint, codec, ledger, is_elected=self._is_elected, announces=notify is not None)
            if notify is not None:
                self._attempt("notify", final + UNANNOUNCED_EXTENSION, lambda path: self._announce(path, notify))

        plain = chain.from_iterable(listing.plain() for listing in self._listings)
        self._when_quiet("compress", (path for path, _ in plain if path not in without), QUIET_S, finish, _is_ours)

    def _announce(self, unannounced: str, notify: Notify) -> None:
        """Notify the application of an archive, and unlink its second name, which says that this is yet to be done."""
        final = unannounced.removesuffix(UNANNOUNCED_EXTENSION)
        identity = identity_of(os.lstat(unannounced))
        with claimed_file(unannounced, identity):
            if are_one(unannounced, final):
                notify(final)
                with suppress(FileNotFoundError):
                    remove(unannounced, identity)

    def _await_next_pass(self, path: str) -> None:
        """Have another pass soon, for a file that has got its name in this one."""
        self._waits.append(QUIET_S)

    def _rolled(self) -> Iterable[str]:
        """The paths of the rolled files."""
        return chain.from_iterable(listing.rolled() for listing in self._listings)

    def _attempt(self, action: str, path: str, act: Callable[[str], None]) -> None:
        """Do `act` to a file, unless that has failed recently."""
        if self._failures.is_backing_off(action, path):
            return
        self._check_elected()
        try:
            act(path)
            self._forget(action, path)
        except FileNotFoundError as error:
            if exists(path):
                self._record_failure(action, path, error)
        except (Changed, Taken):
            self._waits.append(QUIET_S)
        except _FAILURES as error:
            sentence = f"on_rollover has failed for {path}, and is called again later" if action == "notify" else ""
            self._record_failure(action, path, error, sentence)

    def _check_elected(self) -> None:
        """Raise NotElected if this process is not to go on."""
        if not self._is_elected():
            raise NotElected

    def _when_quiet(
        self,
        action: str,
        paths: Iterable[str],
        seconds: float,
        act: Callable[[str, Fingerprint], None],
        may: Callable[[os.stat_result], bool] | None = None,
        if_empty: float | None = None,
    ) -> None:
        """Do `act` to each of the regular files `paths` that this process has seen unchanged for `seconds`.

        Only to those of which `may` is true. `if_empty`, if given, counts for a file in which nothing is.
        """
        for path in slowly(paths):
            if self._failures.is_backing_off(action, path):
                continue
            try:
                status = os.lstat(path)
                if not stat.S_ISREG(status.st_mode) or not (may is None or may(status)):
                    self._failures.forget_failure(action, path)
                    continue
                fingerprint = fingerprint_of(status)
                needed = seconds if if_empty is None or status.st_size else if_empty
                wait = self._quiet.seconds_until_quiet(path, fingerprint, needed)
                if wait > 0:
                    self._early.add(path)
                    self._waits.append(wait)
                    continue
                self._check_elected()
                act(path, fingerprint)
                self._forget(action, path)
            except FileNotFoundError as error:
                # Of the file, or of something that the application's function needs.
                if exists(path):
                    self._record_failure(action, path, error)
            except Taken:
                self._early.add(path)
                self._waits.append(seconds)
            except Changed as error:
                self._early.add(path)
                self._check_elected()
                if self._failures.record_change(action, path):
                    sentence = f"the backup {path} changes each time that it is to be tended"
                    self._record_failure(action, path, error, sentence)
                else:
                    self._waits.append(seconds)
            except NotElected:
                raise
            except _FAILURES as error:
                self._record_failure(action, path, error)

    def _forget(self, action: str, path: str) -> None:
        """Forget a file that was dealt with."""
        self._quiet.forget(path)
        self._failures.forget(action, path)

    def _record_failure(self, action: str, path: str, error: BaseException, sentence: str = "") -> None:
        """Report the first of several failures of one action with one file."""
        if self._failures.record_failure(action, path):
            self._report(sentence or f"the backup {path} could not be tended, which is tried again later", error)


def _is_ours(status: os.stat_result) -> bool:
    """Whether this process may do to a file what its owner may."""
    return os.geteuid() in (0, status.st_uid)
