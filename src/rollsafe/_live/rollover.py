"""The steps under the lock: open the live file, find its interval, give it its backup name.

The rename of the live file is the single commit point. Besides, the processes share only a note in the lock file
(device and inode of the live file, start of its interval). It is a hint, believed only where it fits the file, so
nothing breaks if it is lost, or if a process dies before it writes it.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from io import FileIO

from rollsafe._backups.ledger import archived_since
from rollsafe._backups.naming import BackupNaming
from rollsafe._files.identity import Identity, identity_of
from rollsafe._files.note import Archived, read_note
from rollsafe._files.places import open_file, place_of
from rollsafe._files.renames import rename_new, rename_over
from rollsafe._live.bounded_lock import BoundedLock
from rollsafe._live.events import count_event, count_writes
from rollsafe._live.file_limit import FileLimit
from rollsafe._live.live_note import LiveNote
from rollsafe._live.live_path import LivePath
from rollsafe._live.numbers import BackupNumbers
from rollsafe._live.open_file import FULL, OpenFile, mode_of, write_of
from rollsafe._live.shared import SharedFile, open_shared
from rollsafe._timing import LEASE_S
from rollsafe.schedule import Interval

# 2025-01-01. This program is younger, so a clock that shows an earlier time has not been set since the machine was
# switched on. Without a battery it begins with 1970, or with the day on which the system was built.
_EARLIEST_CLOCK_S = 1_735_689_600


def is_set(now: float) -> bool:
    """Whether the clock that shows `now` can be right."""
    return now >= _EARLIEST_CLOCK_S


# The first and the longest pause after a refused rename over a claim; the pause doubles each time.
_FIRST_PAUSE_S = LEASE_S
_LONGEST_PAUSE_S = 30.0

# The errors of a full disk and of a quota that is used up.
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def _has_inode(directory: str, inode: int) -> bool:
    """Whether a name in the directory has that inode."""
    with os.scandir(directory) as entries:
        return any(entry.inode() == inode for entry in entries)


class Rollover:
    """The steps that one handler takes under the lock of its live file.

    Args:
        path: The live file.
        naming: The intervals, and the names of their backups.
        extension: Returns the extension that a rolled file has behind its backup name: "" unless it awaits the
            application's rotator.
        describe: Returns the handler's settings for the note, which tools read: one line, without newline.
        permissions: Mode of the live and the lock file; None keeps the mode of the live file.
        shared: Other hosts write the file on their own mounts of the file system, so caches cannot be trusted.
        by_size: Files are also rolled for their size, so that an interval has several, numbered in the order of time.
        made: When the handler was made, milliseconds since the epoch; None for now.
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
        made: int | None = None,
    ) -> None:
        self.lock = BoundedLock(path, shared)
        self._note = LiveNote(self.lock, naming.interval_at, describe, shared=shared, made=made)
        self.live = LivePath(path, self.lock, self._note, permissions=permissions, shared=shared)
        self.file_limit = FileLimit()
        self.shared_file = SharedFile(self.live, self.lock, self._note.is_same)
        self._naming = naming
        self._extension = extension
        self._numbers = BackupNumbers(naming, self._note, by_size=by_size, shared=shared)
        self._shared = shared
        # The start of the interval of our last rollover, and the number that its next backup gets.
        self._next: tuple[float, int] | None = None
        # The live file of the last refused rename over a claim, the pause after it (s), and its end (monotonic clock).
        self._refusal: tuple[Identity, float, float] | None = None

    def open(self, now: float, stream: FileIO | None = None) -> OpenFile:
        """Open the live file (or take `stream`, which is open on it) and find out which interval it belongs to.

        Raises:
            OSError: The file cannot be opened.
        """
        stream = stream or self.live.open_stream()
        count_event("opens", self.live.path)
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode) or self.live.is_special:
            return self._opened(stream, status, None)
        self.live.apply_permissions(stream, status)
        self.live.remember(stream)
        interval = self._interval_of(stream, now)
        return self._opened(stream, status, interval, shared=self._shared)

    def _opened(
        self, stream: FileIO, status: os.stat_result, interval: Interval | None, *, shared: bool = False
    ) -> OpenFile:
        """Make the open file of a stream; its lines are counted if a listener wants to know."""
        return OpenFile(
            stream,
            identity_of(status),
            interval,
            write=count_writes(write_of(stream), self.live.path),
            shared=shared,
            serial=0 if interval is None else self._note.serial(),
        )

    def has_kept(self, file: OpenFile, end: float) -> bool | None:
        """Whether a line that ends at `end` is kept: `file` still has a name, or its archive has the line.

        None when the lock was not free within the bound.

        It asks under the lock, because the archiver makes an archive final under the lock. So either the archiver has
        seen the line, or the file is gone and the line must be written again. No archiver touches the live file.
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
            # This process cannot use the lock file, so a look without the lock has to do.
            return is_there()

    def _archived(self, file: OpenFile) -> Archived | None:
        """The ledger's entry for `file`, None if it was not archived while we had it open."""
        try:
            status = os.fstat(file.stream.fileno())
        except (OSError, ValueError):
            return None
        if identity_of(status) != file.identity:
            return None
        return archived_since(self._note.read(), file.serial, status, self._shared)

    def _has_own_name(self, file: OpenFile, archived: Archived | None) -> bool:
        """Whether `file` has a name. If it was archived, only names next to the live file or its backups count.

        A name elsewhere may be the hard link of a snapshot, which stays when the backup is removed.
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
            The path of the backup; None when another process has renamed the file first.

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
            if not self._note.is_same(file, status):
                return True, None
            try:
                backup = self._rename_live(status, interval)
            except FileNotFoundError:
                # A process that holds the lock on another lock file, as ours was removed, has renamed it just now.
                if self.live.is_live(file):
                    raise
                return True, None
            if backup is not None:
                # The process that opens the live file next meets the same error, and reports it.
                with suppress(OSError):
                    self._create_like(status, now)
            return backup is not None, backup

        def is_rolled() -> tuple[bool, None]:
            if self.live.is_live(file):
                raise self.lock.busy()
            return True, None

        while True:
            # At a boundary all workers wake up. They go on as soon as one has renamed the file, so none waits while
            # others take the lock only to see that the work is done.
            done, backup = self.lock.run(rename, is_rolled, lambda: not self.live.is_live(file), to_roll=True)
            if done:
                return backup

    def is_backing_off(self, file: OpenFile, tick: float) -> bool:
        """Whether the rename of `file` over a claim was refused so recently that it is not tried again at `tick`.

        Its cause (a live file of another user in a sticky directory, a file mounted by itself) mostly stays, and each
        attempt makes an empty file and removes it. Any other refused rename costs nothing, and is tried at each lease.
        """
        return self._refusal is not None and self._refusal[0] == file.identity and tick < self._refusal[2]

    def _record_refusal(self, identity: Identity) -> None:
        """Note that the rename of a live file over a claim was refused; the pause doubles, or ends with the file."""
        before = self._refusal
        pause = min(2 * before[1], _LONGEST_PAUSE_S) if before is not None and before[0] == identity else _FIRST_PAUSE_S
        self._refusal = identity, pause, time.monotonic() + pause

    def _rename_live(self, status: os.stat_result, interval: Interval) -> str | None:
        """The commit. None if the lock file was removed, so that our lock excludes no process: then try again."""
        with suppress(OSError):
            # The next process needs it if this one is killed before it has made the new file.
            self._note.update_mode(status)
        number = self._numbers.next(status, interval)
        while self.lock.excludes():
            number = self._numbers.free(interval, number)
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
        """The commit where each rename replaces its target: over an empty file of ours, which claims the name."""
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
            # Compared by identity: a signal handler may raise after the rename, and a rename that was done may report
            # an error.
            if not renamed:
                with place_of(backup) as place:
                    if identity_of(place.status()) == claim:
                        os.unlink(place.name, dir_fd=place.dir_fd)
        if renamed:
            self._note_renamed(status, interval, backup, number)
        return backup if renamed else None

    def _note_renamed(self, status: os.stat_result, interval: Interval, backup: str, number: int) -> None:
        """Remove the mark of a full file from the backup, and remember which number comes next."""
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
            number = self._numbers.free(interval, number)
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
            status = os.fstat(stream.fileno())
            return open_shared(stream, status, interval) if self._shared else self._opened(stream, status, interval)

        # The lines of several hosts are written under the lock.
        return open_it() if self.shared_file.opened else self.lock.run(open_it, self.lock.refuse)

    def _open_part(self, interval: Interval) -> FileIO:
        """Open the last backup of `interval` for appending, or a new one; only under the lock."""
        free = self._numbers.free(interval, self._numbers.above(interval))
        extension = self._extension()
        last = self._naming.path(interval.suffix, free - 1) + extension
        # The application's rotator gets a file that was unchanged for long, and the file is removed then. So such a
        # file may only grow if it was written within the last lease.
        if free > interval.fold and self._can_grow(last) and (not extension or _was_just_written(last)):
            return self.live.open_backup(last)
        new = self._naming.path(interval.suffix, free) + extension
        return FileIO(new, "a", opener=self.live.open_new)

    def _can_grow(self, path: str) -> bool:
        """Whether a backup may be appended to: it is a regular file, no link, and has not reached the size limit."""
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return False
        return stat.S_ISREG(status.st_mode) and not self.file_limit.is_reached(status)

    def _create_like(self, old: os.stat_result, now: float) -> None:
        """Make the new live file with owner, group and mode of the old one, and note its interval."""
        with self.live.create_like(old) as stream:
            new = os.fstat(stream.fileno())
            if new.st_size == 0:
                interval = self._naming.interval_at(now)
                same = self._next is not None and self._next[0] == interval.start
                self._note.write(new, interval, self._next[1] if self._next and same else None)

    def interval_at_sight(self, status: os.stat_result, now: float) -> Interval:
        """The interval of the live file of this status, as a look finds it without the lock, and without opening it."""
        note = read_note(self.live.path)
        noted = note.believed_interval(status, self._naming.interval_at, self._shared) if note is not None else None
        return noted or self._naming.interval_at(_last_write(status, now))

    def _interval_of(self, stream: FileIO, now: float) -> Interval:
        """The interval that the live file belongs to: the noted one, else that of its last write, else that of `now`.

        Raises:
            OSError: The disk has no space for the note. No line may be written without it, because other processes
                would take the file for another interval's. That was seen on Btrfs, which writes nothing in place.
        """

        def noted_interval() -> Interval | None:
            noted, has_our_settings = self._note.interval(os.fstat(stream.fileno()))
            return noted if has_our_settings else None

        def find(*, locked: bool) -> tuple[Interval, OSError | None]:
            status = os.fstat(stream.fileno())
            noted, has_our_settings = self._note.interval(status)
            interval = noted or self._naming.interval_at(_last_write(status, now) if status.st_size else now)
            is_current = noted is not None and has_our_settings
            if is_current or not locked or identity_of(os.lstat(self.live.path)) != identity_of(status):
                return interval, None
            refusal = self._write_note(status, interval)
            return interval, refusal if noted is None else None

        interval = noted_interval()
        if interval is not None:
            return interval
        try:
            interval, refusal = self.lock.run(
                lambda: find(locked=True), lambda: find(locked=False), lambda: noted_interval() is not None
            )
        except OSError:
            # A process that only reads the note needs no lock.
            return find(locked=False)[0]
        if refusal is not None:
            raise refusal
        return interval

    def _write_note(self, status: os.stat_result, interval: Interval) -> OSError | None:
        """Note the interval of the live file; returns the error if the disk has no space for the note."""
        refusal = None
        try:
            self._note.write(status, interval, self._note.number(status))
        except OSError as error:
            refusal = error if error.errno in NO_SPACE else None
        with suppress(OSError):
            self.lock.set_mode(mode_of(status))
        return refusal

    def note_settings(self, file: OpenFile) -> None:
        """Note the settings again if the application has changed them since; a note that is refused is not reported.

        `namer` and `rotator` can only be set when the handler is made and has its file open.
        """
        interval = file.interval
        if interval is None or not self._note.has_new_settings():
            return

        def note() -> None:
            status = self.live.status()
            if self._note.is_same(file, status):
                self._write_note(status, interval)

        with suppress(OSError):
            self.lock.run(note, lambda: None)

    def append_at_the_end(self, line: bytes) -> None:
        """Append a line to the live file while the interpreter ends; under the lock if other hosts write the file too.

        Raises:
            OSError: It could not be written, or the lock was not free within the bound.
        """
        lock = self.lock.take_alone() if self._shared else None
        try:
            with self.live.open_to_append() as stream:
                stream.write(line)
        finally:
            if lock is not None:
                os.close(lock)

    def close(self) -> None:
        """Close the lock file, and forget the live file, which the caller is about to close."""
        self.live.forget()
        self.lock.close()


def _last_write(status: os.stat_result, now: float) -> float:
    """The time of the last write to a file. One of the future is not believed, unless the clock is still to be set."""
    return min(status.st_mtime, now) if is_set(now) else status.st_mtime


def _was_just_written(path: str) -> bool:
    """Whether a file was written within the last lease; by its mtime, as links and renames change the ctime too."""
    return 0 <= time.time() - os.lstat(path).st_mtime < LEASE_S
