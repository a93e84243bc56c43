"""One pass over the backups of a log: off the path of every line, in one process at a time, restartable."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from itertools import chain
from typing import Final

from rollsafe._backups.archives import archive, complete_killed
from rollsafe._backups.attempts import Attempts, IsElected, Report
from rollsafe._backups.codecs import Codec, StreamCodec
from rollsafe._backups.duties import Duties
from rollsafe._backups.failures import Failures
from rollsafe._backups.file_names import (
    Fingerprint,
    are_one,
    claimed_file,
    drop_copied,
    exists,
    fingerprint_of,
    give_name,
    remove,
    remove_both,
)
from rollsafe._backups.ledger import Changed, Ledger
from rollsafe._backups.listing import Listing, slowly
from rollsafe._backups.names import ROLLED_EXTENSION, UNANNOUNCED_EXTENSION
from rollsafe._backups.quiet import QuietFiles
from rollsafe._backups.scratch import clear_leftover
from rollsafe._files.identity import identity_of
from rollsafe._timing import QUIET_S, UNUSED_S

# The most bytes of a file whose compression does not take long: at a few MB a second, the time of a lease.
_SMALL_BYTES: Final = 1 << 20

Notify = Callable[[str], None]
"""Called with the path of a backup that is final, again and again until it returns."""


class MaintenancePass:
    """One pass over the backups of one log.

    Args:
        listings: The files of each directory of backups.
        quiet: The files that this process has seen in earlier passes.
        failures: The failures of earlier passes.
        report: Called for what could not be done.
        is_elected: Whether this process is to do it.
        may_take_long: Whether the pass may call the application and compress large files.
    """

    def __init__(
        self,
        listings: Sequence[Listing],
        quiet: QuietFiles,
        failures: Failures,
        report: Report,
        is_elected: IsElected = lambda: True,
        may_take_long: bool = True,
    ) -> None:
        self._listings = listings
        self._calls_application = False
        self._attempts = Attempts(quiet, failures, report, is_elected, may_take_long)
        for listing in listings:
            present = listing.paths()
            quiet.forget_missing(listing.directory, present)
            failures.forget_missing(listing.directory, present)

    @property
    def wait(self) -> float | None:
        """Seconds until there is more to do, None if there is nothing."""
        return max(self._attempts.waits, default=None)

    @property
    def is_cut_short(self) -> bool:
        """Whether something was left undone because it may take long."""
        return self._attempts.is_cut_short

    def run(self, duties: Duties, ledger: Ledger, expired: Collection[str], empty: Collection[str] = ()) -> None:
        """Do all that can be done now.

        Args:
            duties: What the handler wants.
            ledger: Of the log.
            expired: The paths of the files to remove.
            empty: The paths of the backups without a line, which are removed as well: a log without traffic would have
                one after each pause, because the line that ends the pause rolls an empty file. They are not compressed,
                and the application is not called for them.
        """
        gone = {*expired, *empty}
        # An archive has a second name until `on_rollover` has returned for it. It is removed below, after the call.
        unannounced = [path for path in slowly(gone) if are_one(path, path + UNANNOUNCED_EXTENSION)]
        self._calls_application = duties.notifies()
        self.remove(gone.difference(unannounced))
        # A backup that is yet to be compressed is not final.
        notify = duties.notify if duties.codec is None else self._await_next_pass
        # Always, and so `release`: a process with other settings may have left something.
        self.recover(ledger, duties.notify)
        if duties.has_rotator():
            self.rotate(duties.rotate, ledger, notify, empty)
        else:
            self.release(ledger, notify, empty)
        # Only now: the application is called for each file once before it is removed.
        self.remove_unclaimed(gone)
        self.remove(path for path in unannounced if path + UNANNOUNCED_EXTENSION not in self._attempts.early)
        if duties.codec is not None:
            self.compress(duties.codec, ledger, duties.notify if duties.notifies() else None, gone)

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files, except those that a writer may still use, and those that wait for the application.

        An empty file is removed only when no process can have it open for a late line any more: it may be the newest,
        and a line that came between the look and the removal would be lost.
        """

        def unlink(path: str, fingerprint: Fingerprint) -> None:
            remove_both(path, path + UNANNOUNCED_EXTENSION, fingerprint)

        final = (path for path in paths if not path.endswith(ROLLED_EXTENSION))
        unclaimed = (path for path in final if not are_one(path, path + ROLLED_EXTENSION))
        self._attempts.make("remove", unclaimed, QUIET_S, unlink, if_empty=UNUSED_S)

    def remove_unclaimed(self, paths: Iterable[str]) -> None:
        """Remove those of the files that wait for the application, under both their names.

        Each of them has to be unchanged for as long as before the call of the application. A file that was too early
        for that call in this pass is too early for its removal.
        """

        def unlink(path: str, fingerprint: Fingerprint) -> None:
            remove_both(path, path.removesuffix(ROLLED_EXTENSION), fingerprint)

        early = self._attempts.early
        rolled = (path for path in paths if path.endswith(ROLLED_EXTENSION) and path not in early)
        self._attempts.make("remove unclaimed", rolled, UNUSED_S, unlink)

    def rotate(
        self, rotate: Callable[[str, str], None], ledger: Ledger, notify: Notify, without: Collection[str] = ()
    ) -> None:
        """Hand each rolled file to the application's rotator, once, except those that are in `without`.

        Later than anything else, because a rotator takes no lock: no process may have the file open. It is never called
        with a final name that exists. The rotator may have made that file of this very source before it was killed, or
        before it failed, and would make it anew of the rest that it has left.
        """

        def finish(path: str, fingerprint: Fingerprint) -> None:
            self._attempts.begin_long()
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
                _finish_rotated(path, backup, fingerprint, ledger)
                notify(backup)

        self._attempts.make("rotate", self._rolled(without), UNUSED_S, finish)

    def release(self, ledger: Ledger, notify: Notify, without: Collection[str] = ()) -> None:
        """Give each rolled file that is not in `without` its final name when no process has it open any more.

        Its first name is unlinked after `notify` has returned. So a process that is killed in between leaves both
        names, and the next process notifies again.
        """

        def finish(path: str, fingerprint: Fingerprint) -> None:
            self._begin_call()
            backup = path.removesuffix(ROLLED_EXTENSION)
            with claimed_file(path, fingerprint[:2]):
                if not are_one(path, backup):
                    give_name(path, backup, fingerprint, ledger)
                notify(backup)
                with suppress(FileNotFoundError):
                    remove(path, fingerprint[:2])

        self._attempts.make("release", self._rolled(without), UNUSED_S, finish)

    def recover(self, ledger: Ledger, notify: Notify) -> None:
        """Complete what killed processes have left of archives."""
        begun = {entry.identity[1]: entry.identity for entry in ledger.entries() if entry.archive}
        unfinished = [path for path, inode in self._plain() if begun.pop(inode, None)] if begun else []
        extensions = self._listings[0].names.extensions[1:]

        def complete(path: str, _: Fingerprint) -> None:
            complete_killed(path, extensions, ledger)

        self._attempts.make("complete", unfinished, QUIET_S, complete, at_once=True)
        for identity in begun.values():
            with suppress(Changed), ledger.held():
                ledger.settle(identity)
        leftovers = dict(chain.from_iterable(listing.scratch() for listing in self._listings))

        def clear(path: str, _: Fingerprint) -> None:
            clear_leftover(path, leftovers[path])

        self._attempts.make("clear", leftovers, QUIET_S, clear, is_fit=lambda status: stat.S_ISDIR(status.st_mode))
        self._announce(chain.from_iterable(listing.unannounced() for listing in self._listings), notify)

    def compress(self, codec: Codec, ledger: Ledger, notify: Notify | None, without: Collection[str] = ()) -> None:
        """Make archives of the plain backups.

        A backup of another user is left to a process of that user: this one could not keep its owner.

        Args:
            codec: How.
            ledger: Of the log.
            notify: Called for each archive; None if the application wants no call.
            without: Backups that are to be removed.
        """
        is_elected = self._attempts.is_elected

        def finish(path: str, fingerprint: Fingerprint) -> None:
            if fingerprint[2] > _SMALL_BYTES or not isinstance(codec, StreamCodec):
                self._attempts.begin_long()
            self._begin_call()
            final = path + codec.extension
            archive(path, final, fingerprint, codec, ledger, is_elected=is_elected, announces=notify is not None)
            if notify is not None:
                self._announce([final + UNANNOUNCED_EXTENSION], notify)

        plain = (path for path, _ in self._plain() if path not in without)
        self._attempts.make("compress", plain, QUIET_S, finish, is_fit=_may_archive)

    def _announce(self, unannounced: Iterable[str], notify: Notify) -> None:
        """Notify the application of archives, and unlink their second names, which say that this is yet to be done."""

        def announce(path: str, fingerprint: Fingerprint) -> None:
            self._begin_call()
            final = path.removesuffix(UNANNOUNCED_EXTENSION)
            with claimed_file(path, fingerprint[:2]):
                if are_one(path, final):
                    notify(final)
                    with suppress(FileNotFoundError):
                        remove(path, fingerprint[:2])

        self._attempts.make("notify", unannounced, QUIET_S, announce, at_once=True)

    def _begin_call(self) -> None:
        """Called before something whose end is a call of `on_rollover`, if there is one."""
        if self._calls_application:
            self._attempts.begin_long()

    def _await_next_pass(self, path: str) -> None:
        """Have another pass soon, for a file that has got its name in this one."""
        self._attempts.waits.append(QUIET_S)

    def _rolled(self, without: Collection[str]) -> Iterable[str]:
        """The paths of the rolled files that are not in `without`."""
        return (path for listing in self._listings for path in listing.rolled() if path not in without)

    def _plain(self) -> Iterable[tuple[str, int]]:
        """The paths of the backups that are no archives, each with its inode number."""
        return chain.from_iterable(listing.plain() for listing in self._listings)


def _finish_rotated(path: str, backup: str, fingerprint: Fingerprint, ledger: Ledger) -> None:
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


def _may_archive(status: os.stat_result) -> bool:
    """Whether this process may do to a file what its owner may, and it is a regular one."""
    return stat.S_ISREG(status.st_mode) and os.geteuid() in (0, status.st_uid)
