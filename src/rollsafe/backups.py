"""What happens to backups after the rollover: off the path of every line, in one process at a time, restartable."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from math import inf
from typing import TypeVar

from rollsafe.archives import (
    UNTOLD_EXTENSION,
    Sign,
    archive,
    are_one,
    claimed_file,
    complete_killed,
    drop_copied,
    exists,
    give_name,
    remove,
    sign_of,
)
from rollsafe.background import sleep
from rollsafe.codecs import Codec
from rollsafe.ledger import Changed, Ledger
from rollsafe.locks import GRACE, LATE, LEASE, Identity, identity_of
from rollsafe.names import ROLLED_EXTENSION, Names
from rollsafe.retention import (
    ClockWitness,
    Found,
    Inventory,
    Limits,
    Removal,
    Stored,
    clock_agrees,
    expired,
    put_in_order,
    recognise,
    settling_time,
)
from rollsafe.scratch import Taken, clear_leftover, made_for

Report = Callable[[str, BaseException], None]
Done = Callable[[str], None]
"""Told the path of a backup that is final; it is told again until it returns."""
IsElected = Callable[[], bool]
"""Whether this process is elected still; asked before each step that cannot be undone."""

# Seconds until something that failed is tried again: at first, and at most.
_RETRY = 60.0
_LONGEST_RETRY = 3600.0
# Seconds since its last change after which a file is quiet at first sight.
_OLD = 600.0
# How often in a row a file may be found changed before that is a failure, which is said, and tried again less often.
_MOST_CHANGES = 5
# Seconds of looking at files after which other threads get a turn of so many seconds: a directory may have thousands.
_AT_A_TIME = 0.0001
_TURN = 0.0005

# How many directories of one log are looked into; more than a day has one of its own in ten years.
_MOST_DIRECTORIES = 4000

# What the application's functions may raise; sys.exit, in the main function of a program that they use, ends no thread.
_FAILURES = (Exception, SystemExit)

_Thing = TypeVar("_Thing")


class NotElected(Exception):
    """Another process tends the backups by now."""


class Watch:
    """What is remembered of backups from one round to the next: since when each is as it is, and what failed.

    Not by their own times: the wall clock may be set. What failed is told by (action, path), so that a file that
    cannot be compressed can be removed.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[Sign, float]] = {}
        self._failed: dict[tuple[str, str], tuple[float, float]] = {}
        self._met: set[tuple[str, str]] = set()
        self._clock = ClockWitness(time.time(), time.monotonic())
        self._believed_at = inf
        self._changes: dict[tuple[str, str], int] = {}
        self.retry_at = inf
        """When what failed may be tried again; seconds of the monotonic clock, infinity if nothing failed."""

    def believes_clock(self, written: Iterable[float], max_age: float) -> bool:
        """Whether the clock may say that a backup is older than `max_age`; `written` are the times of the files.

        If not, `retry_at` is when it may, unless it is set again before.
        """
        now, tick = time.time(), time.monotonic()
        left = settling_time(max_age) - self._clock.steady_for(now, tick)
        believed = left <= 0 or clock_agrees(written, now, max_age)
        self._believed_at = inf if believed else tick + left
        self._set_retry()
        return believed

    def seconds_until_quiet(self, path: str, sign: Sign, seconds: float) -> float:
        """How long until a file will have been seen unchanged for so many seconds; 0 or less if it has.

        Renaming a file sets its ctime too (measured on ext4, xfs, btrfs, tmpfs and overlay), so a file that was seen
        unchanged for LEASE + GRACE is neither the live file nor one that a writer may use without looking.

        A process that lives for a moment sees no file for so long. It takes one for quiet whose ctime, which nobody can
        set, is minutes old, unless it has seen the wall clock being set: forward, just after a rollover, that would
        make an old file of a new one.
        """
        now = time.monotonic()
        seen, since = self._seen.get(path, (None, now))
        if seen != sign:
            wall = time.time()
            self._clock.steady_for(wall, now)
            is_old = wall - sign[3] / 1e9 > _OLD and not self._clock.has_seen_it_set
            since = -inf if is_old else now
            self._seen[path] = (sign, since)
        return since + seconds - now

    def rests(self, action: str, path: str) -> bool:
        """Whether the action, which is due in this round, has failed with the file not long ago."""
        self._met.add((action, path))
        return (action, path) in self._failed and time.monotonic() < self._failed[action, path][0]

    def has_failed(self, action: str, path: str) -> bool:
        """Note a failure; whether it is the first of this action with this file."""
        self._met.add((action, path))
        _, pause = self._failed.get((action, path), (0.0, 0.0))
        longer = min(2 * pause, _LONGEST_RETRY) or _RETRY
        self._failed[action, path] = (time.monotonic() + longer, longer)
        self._set_retry()
        return not pause

    def record_change(self, action: str, path: str) -> bool:
        """Note that a file was found changed; whether that has happened too often in a row."""
        self._changes[action, path] = count = self._changes.get((action, path), 0) + 1
        return count > _MOST_CHANGES

    def forget(self, action: str, path: str) -> None:
        """The file was dealt with."""
        self._seen.pop(path, None)
        self._changes.pop((action, path), None)
        self.forget_failure(action, path)

    def forget_failure(self, action: str, path: str) -> None:
        """The action is not to be tried again."""
        if self._failed.pop((action, path), None):
            self._set_retry()

    def forget_all_but(self, directory: str, names: Iterable[str]) -> None:
        """Forget the files of a directory that are no more."""
        kept = {os.path.join(directory, name) for name in names}
        for path in set(self._seen) - kept:
            if os.path.dirname(path) == directory:
                self._seen.pop(path, None)
        for key in [key for key in self._changes if key[1] not in kept and os.path.dirname(key[1]) == directory]:
            self._changes.pop(key, None)
        for action, path in [key for key in list(self._failed) if key[1] not in kept]:
            if os.path.dirname(path) == directory:
                self.forget_failure(action, path)

    def end_round(self) -> None:
        """Forget what could have been tried again by now, and was not due in this round."""
        now = time.monotonic()
        for key in [key for key, (moment, _) in list(self._failed.items()) if moment <= now and key not in self._met]:
            self.forget_failure(*key)
        self._met.clear()

    def _set_retry(self) -> None:
        """Bring `retry_at` up to date."""
        self.retry_at = min((moment for moment, _ in self._failed.values()), default=inf)
        self.retry_at = min(self.retry_at, self._believed_at)


class Tending:
    """One round over the files of one directory.

    Args:
        directory: Where the backups are.
        names: Their names.
        watch: What is remembered from round to round.
        report: Told of what could not be done.
        is_elected: Whether this process is to do it.
    """

    def __init__(
        self, directory: str, names: Names, watch: Watch, report: Report, is_elected: IsElected = lambda: True
    ) -> None:
        self._directory = directory
        self._names = names
        self._watch = watch
        self._report = report
        self._is_elected = is_elected
        self._entries: list[str] = []
        self._inodes: dict[str, int] = {}
        self._scratch: list[str] = []
        with os.scandir(directory) as entries:
            for entry in _slowly(entries):
                if entry.is_file(follow_symlinks=False):
                    self._entries.append(entry.name)
                    self._inodes[entry.name] = entry.inode()
                elif made_for(entry.name) and entry.is_dir(follow_symlinks=False):
                    self._scratch.append(entry.name)
        self._entries.sort()
        self._waits: list[float] = []
        self._early: set[str] = set()
        self.beside: list[Tending] = []
        """The rounds over other directories of the same log, which limits count too."""
        self.doubts_clock = False
        """Whether the last `removals` left out what is too old by a clock that the files do not bear out."""
        watch.forget_all_but(directory, [*self._entries, *self._scratch])

    @property
    def wait(self) -> float | None:
        """Seconds until there is more to do, None if there is nothing."""
        return max(self._waits, default=None)

    def again(self, path: str) -> None:
        """Have a further round soon, for a file that there was not when this one began."""
        self._waits.append(LEASE + GRACE)

    def is_unfinished(self, compresses: bool) -> bool:
        """Whether there is anything that this round has to complete."""
        leftovers = any(self._rolled()) or any(self._untold()) or any(self._leftovers())
        return leftovers or (compresses and any(self._plain()))

    def expired(self, recognisers: Sequence[Names], limits: Limits) -> list[str]:
        """The files that exceed the limits, oldest first; all that one of the recognisers knows is counted."""
        return [path for removal in self.removals(recognisers, limits) for path in removal.backup.paths]

    def share_of(self, tending: Tending, paths: Iterable[str]) -> list[str]:
        """Those of the paths that one of the rounds, this one or one beside, has to do with; this one has the rest."""
        beside = {each._directory for each in self.beside}
        if tending is self:
            return [path for path in paths if os.path.dirname(path) not in beside]
        return [path for path in paths if os.path.dirname(path) == tending._directory]

    def inventory(self, recognisers: Sequence[Names]) -> Inventory:
        """The files of the log here and in the directories beside."""
        found: list[Found] = []
        uncertain: list[str] = []
        for tending in (self, *self.beside):
            bound = recognisers
            if self.beside:
                bound = [names.within(tending._directory) for names in recognisers]
            backups, others = recognise(_slowly(tending._entries), bound, time.time(), tending._directory)
            found += backups
            uncertain += others
        return Inventory(put_in_order(found, time.time()), tuple(uncertain))

    def removals(self, recognisers: Sequence[Names], limits: Limits) -> list[Removal]:
        """What exceeds the limits, as `expired`, and why."""
        inventory = self.inventory(recognisers)
        exceeds = 0 < limits.count < len(inventory.certain)
        stored = []
        for backup in _slowly(inventory.certain):
            size = size_of(backup.paths) if limits.need_sizes or exceeds else 0
            stored.append(Stored(backup.paths, backup.end, size, exceeds and not size))
        self.doubts_clock = False
        if limits.max_age and expired(stored, Limits(max_age=limits.max_age), time.time()):
            self.doubts_clock = not self._watch.believes_clock(self._times_of(inventory), limits.max_age)
            limits = replace(limits, max_age=None) if self.doubts_clock else limits
        free = inf
        if limits.min_free_bytes:
            status = os.statvfs(self._directory)
            free = status.f_bavail * status.f_frsize
        return expired(stored, limits, time.time(), free)

    def _times_of(self, inventory: Inventory) -> Iterator[float]:
        """When each of the backups, and the live file if it is here, was last written."""
        paths = [path for backup in inventory.certain for path in backup.paths]
        for path in _slowly([*paths, os.path.join(self._directory, self._names.live_name)]):
            with suppress(OSError):
                yield os.lstat(path).st_mtime

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files, except those that a writer may still be at, and those that await the application.

        An empty one goes only after as long a time as nobody can have it open for a late line any more: it may be the
        newest, and a line that came between the look and the removal would be lost.
        """

        def unlink(path: str, sign: Sign) -> None:
            with claimed_file(path, sign[:2]):
                # While `on_rollover` is not told of it, an archive has a second name.
                if are_one(path, path + UNTOLD_EXTENSION):
                    remove(path + UNTOLD_EXTENSION, sign[:2])
                remove(path, sign[:2])

        final = (path for path in paths if not path.endswith(ROLLED_EXTENSION))
        self._when_quiet(
            "remove",
            (path for path in final if not are_one(path, path + ROLLED_EXTENSION)),
            LEASE + GRACE,
            unlink,
            if_empty=LATE + LEASE + GRACE,
        )

    def give_up(self, paths: Iterable[str]) -> None:
        """Remove those of the files that await the application, under both their names.

        After as long a time as it is called after, and none that this round has found too early for the call.
        """

        def unlink(path: str, sign: Sign) -> None:
            backup = path.removesuffix(ROLLED_EXTENSION)
            with claimed_file(path, sign[:2]):
                if are_one(path, backup):
                    remove(backup, sign[:2])
                remove(path, sign[:2])

        rolled = (path for path in paths if path.endswith(ROLLED_EXTENSION) and path not in self._early)
        self._when_quiet("give up", rolled, LATE + LEASE + GRACE, unlink)

    def rotate(self, rotate: Callable[[str, str], None], ledger: Ledger, done: Done) -> None:
        """Hand each rolled file that awaits the application's rotator to it, once.

        Later than anything else, because a rotator takes no lock: nobody must have the file open any more. It is never
        called for a name that there is: what has the name may be what it made of this very file before it was killed,
        or before it failed, and it would make it anew of what it has left.
        """

        def finish(path: str, sign: Sign) -> None:
            backup = path.removesuffix(ROLLED_EXTENSION)
            with claimed_file(path, sign[:2]):
                if not are_one(path, backup):
                    if exists(backup):
                        raise FileExistsError(
                            errno.EEXIST,
                            "it exists beside the file that the rotator is to be called for; remove one of them",
                            backup,
                        )
                    rotate(path, backup)
                self._finish_rotated(path, backup, sign, ledger)
                done(backup)

        self._when_quiet("rotate", self._rolled(), LATE + LEASE + GRACE, finish)

    def _finish_rotated(self, path: str, backup: str, sign: Sign, ledger: Ledger) -> None:
        """Take away the rolled file that a rotator has left; one that it did nothing with gets its final name."""
        if not exists(path) or identity_of(os.lstat(path)) != sign[:2]:
            return
        if are_one(path, backup):
            remove(path, sign[:2])
        elif exists(backup):
            drop_copied(path, backup, sign[2], ledger)
        else:
            give_name(path, backup, sign_of(os.lstat(path)), ledger)
            with suppress(FileNotFoundError):
                remove(path, sign[:2])

    def release(self, ledger: Ledger, done: Done) -> None:
        """Give each rolled file its final name when nobody has it open any more; its other one goes when that is told.

        So a process that is killed in between leaves both names, and the next one tells again.
        """

        def finish(path: str, sign: Sign) -> None:
            backup = path.removesuffix(ROLLED_EXTENSION)
            with claimed_file(path, sign[:2]):
                if not are_one(path, backup):
                    give_name(path, backup, sign, ledger)
                done(backup)
                with suppress(FileNotFoundError):
                    remove(path, sign[:2])

        self._when_quiet("release", self._rolled(), LATE + LEASE + GRACE, finish)

    def recover(self, ledger: Ledger, done: Done) -> None:
        """Put right what killed processes have left of archives."""
        begun = {entry.identity[1]: entry.identity for entry in ledger.entries() if entry.archive}
        for name in self._plain() if begun else ():
            path = os.path.join(self._directory, name)
            if begun.pop(self._inodes[name], None):
                self._attempt("complete", path, lambda path: complete_killed(path, self._names.extensions[1:], ledger))
        for identity in begun.values():
            with suppress(Changed), ledger.held():
                ledger.settle(identity)
        for name in self._leftovers():
            path = os.path.join(self._directory, name)
            final = made_for(name) or ""
            backup = self._names.parse(final)
            assert backup is not None
            names = frozenset((final, final.removesuffix(backup.extension)))
            try:
                wait = self._watch.seconds_until_quiet(path, sign_of(os.lstat(path)), LEASE + GRACE)
            except FileNotFoundError:
                continue
            if wait > 0:
                self._waits.append(wait)
            else:
                self._attempt("clear", path, lambda path, names=names: clear_leftover(path, names))  # type: ignore[misc]
        for path in self._untold():
            self._attempt("tell", path, lambda path: self._tell(path, done))

    def compress(self, codec: Codec, ledger: Ledger, done: Done | None, without: Collection[str] = ()) -> None:
        """Make archives of the plain backups.

        Another user's backups are left to a process of that user: we could not keep their owner.

        Args:
            codec: How.
            ledger: Of the log.
            done: Told of each archive; None if nobody wants to know.
            without: Backups that are to be removed.
        """

        def finish(path: str, sign: Sign) -> None:
            final = path + codec.extension
            archive(path, final, sign, codec, ledger, is_elected=self._is_elected, tells=done is not None)
            if done is not None:
                self._attempt("tell", final + UNTOLD_EXTENSION, lambda untold: self._tell(untold, done))

        names = (name for name in self._plain() if os.path.join(self._directory, name) not in without)
        plain = (os.path.join(self._directory, name) for name in names)
        self._when_quiet("compress", plain, LEASE + GRACE, finish, _is_ours)

    def _tell(self, untold: str, done: Done) -> None:
        """Tell the application of an archive, and take away the name that says that this is still to be done."""
        final = untold.removesuffix(UNTOLD_EXTENSION)
        identity = identity_of(os.lstat(untold))
        with claimed_file(untold, identity):
            if are_one(untold, final):
                done(final)
                with suppress(FileNotFoundError):
                    remove(untold, identity)

    def _rolled(self) -> Iterator[str]:
        """The files that await a rotator."""
        for name in self._entries:
            if name.endswith(ROLLED_EXTENSION) and self._names.parse(name.removesuffix(ROLLED_EXTENSION)):
                yield os.path.join(self._directory, name)

    def _untold(self) -> Iterator[str]:
        """The second names of archives that the application was not told of."""
        for name in self._entries:
            if name.endswith(UNTOLD_EXTENSION):
                final = name.removesuffix(UNTOLD_EXTENSION)
                backup = self._names.parse(final)
                if backup and backup.extension and self._inodes.get(final) == self._inodes[name]:
                    yield os.path.join(self._directory, name)

    def _leftovers(self) -> Iterator[str]:
        """The names of the directories in which archives are made."""
        for name in self._scratch:
            backup = self._names.parse(made_for(name) or "")
            if backup and backup.extension:
                yield name

    def _plain(self) -> Iterator[str]:
        """The names of the backups that are no archives."""
        others = tuple(extension for extension in self._names.extensions if extension)
        others += (UNTOLD_EXTENSION, ROLLED_EXTENSION)
        for name in _slowly(name for name in self._entries if not name.endswith(others)):
            if self._names.parse(name):
                yield name

    def _attempt(self, action: str, path: str, act: Callable[[str], None]) -> None:
        """Do `act` to a file, unless that has failed not long ago."""
        if self._watch.rests(action, path):
            return
        self._check_elected()
        try:
            act(path)
            self._watch.forget(action, path)
        except FileNotFoundError as error:
            if exists(path):
                self._failed(action, path, error)
        except (Changed, Taken):
            self._waits.append(LEASE + GRACE)
        except _FAILURES as error:
            sentence = f"on_rollover has failed for {path}, and is called again later" if action == "tell" else ""
            self._failed(action, path, error, sentence)

    def _check_elected(self) -> None:
        """Raise NotElected if this process is not to go on."""
        if not self._is_elected():
            raise NotElected

    def _when_quiet(
        self,
        action: str,
        paths: Iterable[str],
        seconds: float,
        act: Callable[[str, Sign], None],
        may: Callable[[os.stat_result], bool] | None = None,
        if_empty: float | None = None,
    ) -> None:
        """Do `act` to each of the regular files `paths` that it may be done to, seen unchanged for so many seconds.

        With `if_empty`, it is so many for a file in which nothing is.
        """
        for path in _slowly(paths):
            if self._watch.rests(action, path):
                continue
            try:
                status = os.lstat(path)
                if not stat.S_ISREG(status.st_mode) or not (may is None or may(status)):
                    self._watch.forget_failure(action, path)
                    continue
                sign = sign_of(status)
                rest = seconds if if_empty is None or status.st_size else if_empty
                wait = self._watch.seconds_until_quiet(path, sign, rest)
                if wait > 0:
                    self._early.add(path)
                    self._waits.append(wait)
                    continue
                self._check_elected()
                act(path, sign)
                self._watch.forget(action, path)
            except FileNotFoundError as error:
                # Of the file, or of something that the application's function needs.
                if exists(path):
                    self._failed(action, path, error)
            except Taken:
                self._early.add(path)
                self._waits.append(seconds)
            except Changed as error:
                self._early.add(path)
                self._check_elected()
                if self._watch.record_change(action, path):
                    self._failed(action, path, error, f"the backup {path} changes each time that it is to be tended")
                else:
                    self._waits.append(seconds)
            except NotElected:
                raise
            except _FAILURES as error:
                self._failed(action, path, error)

    def _failed(self, action: str, path: str, error: BaseException, sentence: str = "") -> None:
        """Report the first of several failures of one action with one file."""
        if self._watch.has_failed(action, path):
            self._report(sentence or f"the backup {path} could not be tended, which is tried again later", error)


def directories_below(root: str, levels: int) -> list[str]:
    """The directories that are so many levels below another one, links not followed; the last ones if they are many."""
    found = [root]
    for _ in range(levels):
        below: list[str] = []
        for directory in found:
            with suppress(OSError), os.scandir(directory) as entries:
                below += [entry.path for entry in _slowly(entries) if entry.is_dir(follow_symlinks=False)]
        found = sorted(below)[-_MOST_DIRECTORIES:]
    return found


def size_of(paths: Iterable[str]) -> int:
    """Bytes of the files of a backup; one that has two names counts once."""
    sizes: dict[Identity, int] = {}
    for path in paths:
        with suppress(FileNotFoundError):
            status = os.lstat(path)
            sizes[identity_of(status)] = status.st_size
    return sum(sizes.values())


def _slowly(things: Iterable[_Thing]) -> Iterator[_Thing]:
    """The same things, with turns for other threads in between."""
    since = time.monotonic()
    for thing in things:
        yield thing
        if time.monotonic() - since > _AT_A_TIME:
            sleep(_TURN)
            since = time.monotonic()


def _is_ours(status: os.stat_result) -> bool:
    """Whether this process may do to a file what its owner may."""
    return os.geteuid() in (0, status.st_uid)
