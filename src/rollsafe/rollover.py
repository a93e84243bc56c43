"""The steps under the lock: open the live file, tell its interval, give it its backup name.

The rename of the live file is the single commit point. The only other thing kept between processes is a note in
the lock file (device and inode of the live file, start of its interval); it is a hint that is believed only where
it fits the file, so that losing it, or dying before writing it, costs nothing.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from io import FileIO

from rollsafe.bounded_lock import BoundedLock
from rollsafe.events import count_event, count_writes
from rollsafe.file_limit import FileLimit
from rollsafe.ledger import archived_since
from rollsafe.live_note import LiveNote
from rollsafe.live_path import LivePath, open_to_read_too
from rollsafe.locks import Identity, identity_of
from rollsafe.names import ROLLED_EXTENSION
from rollsafe.naming import BackupNaming
from rollsafe.note import Archived
from rollsafe.open_file import FULL, OpenFile, mode_of, write_of
from rollsafe.places import open_file, place_of
from rollsafe.renames import rename_new, rename_over
from rollsafe.schedule import Interval
from rollsafe.shared import SharedFile
from rollsafe.timing import LEASE_S

# 2025-01-01: a clock that shows an earlier time has not been set since the machine was switched on, for this program is
# younger. Without a battery it begins with 1970, or with the day on which its system was built.
_EARLIEST_CLOCK_S = 1_735_689_600


def is_set(now: float) -> bool:
    """Whether the clock that shows `now` can be right."""
    return now >= _EARLIEST_CLOCK_S


# Seconds. How long a refused rename over a claim is not tried again, at first and at most; the pause doubles each time.
_FIRST_PAUSE_S = LEASE_S
_LONGEST_PAUSE_S = 30.0

# A disk that is full, and a quota that is used up.
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def _has_inode(directory: str, inode: int) -> bool:
    """Whether a name in the directory is of that inode."""
    with os.scandir(directory) as entries:
        return any(entry.inode() == inode for entry in entries)


class Rollover:
    """What one handler does under the lock of its live file.

    Args:
        path: The live file.
        naming: The intervals, and the names of their backups.
        extension: What a file that was rolled or may be appended to has behind that name; none, but for files that
            await the application's rotator.
        describe: What is noted of the handler's settings, for tools: one line, without newline.
        permissions: Mode of the live and the lock file; None follows the live file's.
        shared: Other hosts do the same on their mounts of the file system, whose caches are not to be trusted.
        by_size: Files are rolled for their size, too, so that an interval has several, numbered in the order of time.
    """

    def __init__(
        self,
        path: str,
        naming: BackupNaming,
        *,
        extension: Callable[[], str],
        describe: Callable[[], bytes],
        permissions: int | None,
        shared: bool,
        by_size: bool,
    ) -> None:
        self.lock = BoundedLock(path, shared)
        self._note = LiveNote(self.lock, naming.interval_at, describe, shared=shared)
        self.live = LivePath(path, self.lock, self._note, permissions=permissions, shared=shared)
        self.file_limit = FileLimit()
        self.shared_file = SharedFile(self.live, self.lock, self._open_part, self.file_limit)
        self._naming = naming
        self._extension = extension
        self._taken = (*naming.names().extensions, ROLLED_EXTENSION)
        self._shared = shared
        self._by_size = by_size
        # The interval in which we have rolled last, and the number that its next backup gets.
        self._next: tuple[float, int] | None = None
        # The live file whose rename over a claim was refused last, the pause after it, and its end (monotonic).
        self._refusal: tuple[Identity, float, float] | None = None

    def open(self, now: float, stream: FileIO | None = None) -> OpenFile:
        """Open the live file (or take `stream`, which is open on it) and tell which interval it belongs to.

        Raises:
            OSError: The file cannot be opened.
        """
        stream = stream or self.live.open_stream()
        count_event("opens", self.live.path)
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode) or self.live.is_special:
            return self._opened(stream, status, None)
        self.live.permit(stream, status)
        self.live.remember(stream)
        interval = self._interval_of(stream, now)
        return self._opened(stream, status, interval, shared=self._shared)

    def _opened(
        self, stream: FileIO, status: os.stat_result, interval: Interval | None, *, shared: bool = False
    ) -> OpenFile:
        """An open file of this log, whose lines are counted if anybody wants to know."""
        return OpenFile(
            stream,
            identity_of(status),
            interval,
            write=count_writes(write_of(stream), self.live.path),
            shared=shared,
            serial=0 if interval is None else self._note.serial(),
        )

    def has_kept(self, file: OpenFile, end: float) -> bool | None:
        """Whether a line that ends at `end` is in `file`, and that has a name, or in its archive.

        None when the lock was not free within the bound.

        Under the lock, because an archive is made final under it: a line written before the answer is either seen
        by the archiver or known to be in a file that is gone. No archiver is at the live file.
        """

        def is_there() -> bool:
            archived = self._archived(file)
            return self._has_own_name(file, archived) or (archived is not None and end <= archived.size)

        def is_there_at_sight() -> bool | None:
            if self._has_own_name(file, self._archived(file)):
                return self.live.is_live(file) or None
            return is_there()

        try:
            return self.lock.run(is_there, is_there_at_sight)
        except OSError:
            # Nobody of us can be locked out by an archiver, nor tell more.
            return is_there()

    def _archived(self, file: OpenFile) -> Archived | None:
        """What the ledger says of `file`, None if it was not archived while we had it open."""
        try:
            status = os.fstat(file.stream.fileno())
        except (OSError, ValueError):
            return None
        if identity_of(status) != file.identity:
            return None
        return archived_since(self._note.read(), file.serial, status, self._shared)

    def _has_own_name(self, file: OpenFile, archived: Archived | None) -> bool:
        """Whether `file` has a name; if it was archived, one beside the live file or its backups.

        Another one may be the hard link of a snapshot, which stays when the backup goes.
        """
        if not file.has_name() or archived is None or file.interval is None:
            return file.has_name()
        places = {os.path.dirname(path) for path in (self.live.path, self._naming.path(file.interval.suffix, 0))}
        try:
            return any(_has_inode(place, file.identity[1]) for place in places)
        except OSError:
            return True

    def roll(self, file: OpenFile, now: float) -> str | None:
        """Rename the live file to the backup name of the interval of `file`, if the path still names `file`.

        Returns:
            The path of the backup; None when another process was first.

        Raises:
            LockBusy: The lock was not free within the bound.
            OSError: The rename or the lock was refused.
        """
        interval = file.interval
        assert interval is not None, "a file without an interval is never rolled"

        def rename() -> tuple[bool, str | None]:
            try:
                status = self.live.status()
            except FileNotFoundError:
                return True, None
            if identity_of(status) != file.identity:
                return True, None
            backup = self._rename_live(status, interval)
            if backup is not None:
                # Whoever opens the live file next meets the same error again, and reports it.
                with suppress(OSError):
                    self._create_like(status, now)
            return backup is not None, backup

        def is_rolled() -> tuple[bool, None]:
            if self.live.is_live(file):
                raise self.lock.busy()
            return True, None

        while True:
            # When all workers wake up at a boundary, they go on as soon as one has renamed, and none waits for the lock
            # that others take only to see that there is nothing to do.
            done, backup = self.lock.run(rename, is_rolled, lambda: not self.live.is_live(file), to_roll=True)
            if done:
                return backup

    def is_backing_off(self, file: OpenFile, tick: float) -> bool:
        """Whether the rename of `file` over a claim was refused too short a time ago to be tried again at `tick`.

        What refuses it (a live file of somebody else in a sticky directory, one mounted by itself) mostly stays, and
        each attempt makes an empty file and removes it. Every other refusal costs nothing, and is tried at each lease.
        """
        return self._refusal is not None and self._refusal[0] == file.identity and tick < self._refusal[2]

    def _record_refusal(self, identity: Identity) -> None:
        """Note that the rename of a live file over a claim was refused; the pause doubles, or ends with the file."""
        before = self._refusal
        pause = min(2 * before[1], _LONGEST_PAUSE_S) if before is not None and before[0] == identity else _FIRST_PAUSE_S
        self._refusal = identity, pause, time.monotonic() + pause

    def _rename_live(self, status: os.stat_result, interval: Interval) -> str | None:
        """The commit. None if our lock excludes nobody, its file being removed: then look again under the new one."""
        with suppress(OSError):
            # For the next process, where this one is killed before it has made the new file.
            self._note.update_mode(status)
        number = self._next_number(status, interval)
        while self.lock.excludes():
            number = self._free_sequence(interval, number)
            backup = self._naming.path(interval.suffix, number) + self._extension()
            try:
                if not rename_new(self.live.path, backup):
                    return self._rename_over_claim(status, interval, number)
            except FileExistsError:
                continue
            self._note_renamed(status, interval, backup, number)
            return backup
        return None

    def _rename_over_claim(self, status: os.stat_result, interval: Interval, number: int) -> str | None:
        """The commit where no rename spares what is there: over an empty file of ours, which claims the name."""
        backup, claim, number = self._claim(interval, number)
        renamed = False
        try:
            if self.lock.excludes():
                rename_over(self.live.path, backup)
                renamed = True
        except OSError:
            self._record_refusal(identity_of(status))
            raise
        finally:
            # By identity: a signal handler may raise after the rename, and an error be reported though it was done.
            if not renamed:
                with place_of(backup) as place:
                    if identity_of(place.status()) == claim:
                        os.unlink(place.name, dir_fd=place.dir_fd)
        if renamed:
            self._note_renamed(status, interval, backup, number)
        return backup if renamed else None

    def _note_renamed(self, status: os.stat_result, interval: Interval, backup: str, number: int) -> None:
        """Take the mark of a full file off the backup, and remember which number comes next."""
        if status.st_mode & FULL:
            with suppress(OSError):
                descriptor = open_file(backup, os.O_WRONLY)
                try:
                    if identity_of(os.fstat(descriptor)) == identity_of(status):
                        os.fchmod(descriptor, mode_of(status))
                finally:
                    os.close(descriptor)
        self._next = (interval.start, number + 1)

    def _claim(self, interval: Interval, number: int) -> tuple[str, Identity, int]:
        """Make an empty file under the first free backup name from `number` on; returns path, identity and number."""
        while True:
            number = self._free_sequence(interval, number)
            path = self._naming.path(interval.suffix, number) + self._extension()
            try:
                with place_of(path) as place:
                    descriptor = place.create(os.O_WRONLY, 0o600)
            except FileExistsError:
                continue
            try:
                return path, identity_of(os.fstat(descriptor)), number
            finally:
                os.close(descriptor)

    def open_part(self, interval: Interval) -> OpenFile:
        """Open a backup of `interval` for lines that come after its rollover: its last one, or else a new one.

        Raises:
            LockBusy: The lock was not free within the bound.
            OSError: The file cannot be opened.
        """

        def open_it() -> OpenFile:
            stream = self._open_part(interval)
            return self._opened(stream, os.fstat(stream.fileno()), interval)

        return self.lock.run(open_it, self.lock.refuse)

    def _open_part(self, interval: Interval) -> FileIO:
        """Open the last backup of `interval` for appending, or a new one; only under the lock."""
        free = self._free_sequence(interval, self._number_above(interval))
        extension = self._extension()
        last = self._naming.path(interval.suffix, free - 1) + extension
        # What waits for the application is given to it when it was quiet for long, and removed afterwards.
        if free > interval.fold and self._can_grow(last) and (not extension or _was_just_written(last)):
            return FileIO(last, "a", opener=_open_existing)
        new = self._naming.path(interval.suffix, free) + extension
        return FileIO(new, "a", opener=self.live.open_new)

    def _can_grow(self, path: str) -> bool:
        """Whether a backup may be appended to: a regular file and no link, and not the one that is full."""
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return False
        return stat.S_ISREG(status.st_mode) and not self.file_limit.is_reached(status)

    def _create_like(self, old: os.stat_result, now: float) -> None:
        """Make the new live file look like the old one, and note whose interval it is."""
        with self.live.create_like(old) as stream:
            new = os.fstat(stream.fileno())
            if new.st_size == 0:
                interval = self._naming.interval_at(now)
                same = self._next is not None and self._next[0] == interval.start
                self._note.write(new, interval, self._next[1] if self._next and same else None)

    def _interval_of(self, stream: FileIO, now: float) -> Interval:
        """The interval that the live file belongs to: the noted one, else that of its last write, else now's.

        Raises:
            OSError: The disk has no space to note it. Other processes would tell another interval of the same file,
                so no line may be written before; Btrfs, which writes nothing in place, is where that was seen.
        """
        noted, described = self._note.interval(os.fstat(stream.fileno()))
        if noted is not None and described:
            return noted

        unnoted: OSError | None = None

        def is_noted() -> bool:
            noted, described = self._note.interval(os.fstat(stream.fileno()))
            return noted is not None and described

        def told(locked: bool) -> Interval:
            nonlocal unnoted
            status = os.fstat(stream.fileno())
            noted, described = self._note.interval(status)
            # A time stamp of the future is not believed, unless the clock is still to be set.
            written = min(status.st_mtime, now) if is_set(now) else status.st_mtime
            interval = noted or self._naming.interval_at(written if status.st_size else now)
            stale = noted is None or not described
            if stale and locked and identity_of(os.lstat(self.live.path)) == identity_of(status):
                try:
                    self._note.write(status, interval, self._note.number(status))
                except OSError as error:
                    unnoted = error if noted is None and error.errno in NO_SPACE else None
                with suppress(OSError):
                    self.lock.set_mode(mode_of(status))
            return interval

        try:
            interval = self.lock.run(lambda: told(True), lambda: told(False), is_noted)
        except OSError:
            # A reader of the note can live without the lock.
            return told(False)
        if unnoted is not None:
            raise unnoted
        return interval

    def append_at_the_end(self, line: bytes) -> None:
        """Append to the live file while the interpreter ends; under the lock where it is shared.

        Raises:
            OSError: It could not be written, or the lock was not free within the bound.
        """
        lock = self.lock.take_alone() if self._shared else None
        try:
            with self.live.open_stream() as stream:
                stream.write(line)
        finally:
            if lock is not None:
                os.close(lock)

    def _next_number(self, status: os.stat_result, interval: Interval) -> int:
        """The number from which on to look for a free one: the noted one, or above the highest that there is.

        Not simply the first free one: retention takes the lowest, and the order of numbers is the order of time.
        """
        noted = self._note.number(status, interval)
        return max(interval.fold, self._number_above(interval) if noted is None else noted)

    def _number_above(self, interval: Interval) -> int:
        """The number above the highest that a backup of the interval has; 0 where the first free one will do.

        That is so where files are rolled for the time alone, because nothing is rolled twice in one interval.
        """
        return self._naming.last_number(interval.suffix) + 1 if self._by_size else 0

    def close(self) -> None:
        """Let go of the lock file, and of the live file, which is about to be closed."""
        self.live.forget()
        self.lock.close()

    def _free_sequence(self, interval: Interval, sequence: int = 0) -> int:
        """The first sequence number from `sequence` on whose name nothing has, archived or not.

        Raises:
            ValueError: The names do not differ by the number, so that there is none.
        """
        sequence = max(sequence, interval.fold)
        path = self._naming.path(interval.suffix, sequence)
        while any(os.path.lexists(path + extension) for extension in self._taken):
            sequence += 1
            taken, path = path, self._naming.path(interval.suffix, sequence)
            if path == taken:
                raise ValueError(f"{path!r} exists and the namer gives it for every number; let it keep the `.1`")
        return sequence


def _was_just_written(path: str) -> bool:
    """Whether a file was written within the last lease; by its mtime, as links and renames change the ctime too."""
    return 0 <= time.time() - os.lstat(path).st_mtime < LEASE_S


def _open_existing(path: str, flags: int) -> int:
    """An opener of a file that exists."""
    with place_of(path) as place:
        return open_to_read_too(place.open, flags & ~os.O_CREAT)
