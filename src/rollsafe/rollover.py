"""The steps under the lock: open the live file, tell its interval, give it its backup name.

The rename of the live file is the single commit point. The only other thing kept between processes is a note in
the lock file (device and inode of the live file, start of its interval); it is a hint that is believed only where
it fits the file, so that losing it, or dying before writing it, costs nothing.
"""

from __future__ import annotations

import errno
import itertools
import os
import resource
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from io import FileIO
from typing import NoReturn, TypeVar

from rollsafe.events import counted, tell
from rollsafe.fragments import AppendedFile, ends_in_fragment
from rollsafe.ledger import archived_since, new_serial
from rollsafe.locks import LEASE, FileLock, Identity, identity_of, lock_alone, lock_path
from rollsafe.names import EXTENSIONS, ROLLED_EXTENSION
from rollsafe.note import Archived, Note, noted_identity, parse_note
from rollsafe.open_file import FULL, OpenFile, write_of
from rollsafe.places import Looks, Place, is_special, open_file, open_special, place_of
from rollsafe.renames import rename_new, rename_over
from rollsafe.schedule import Interval
from rollsafe.streams import LogStream

# How often the live file may be made and rolled by others while we open it.
_TRIES = 10
# Seconds. How long a line waits for the rollover lock, before it goes on in the file that it has.
LOCK_WAIT = 0.5
# The same once that was waited in vain, where the lock may be busy though nobody is stuck.
BUSY_WAIT = 0.05

# 2025-01-01: a clock that shows an earlier time has not been set since the machine was switched on, for this program is
# younger. Without a battery it begins with 1970, or with the day on which its system was built.
_CLOCK_IS_SET = 1_735_689_600


def is_set(now: float) -> bool:
    """Whether the clock that shows `now` can be right."""
    return now >= _CLOCK_IS_SET


# Seconds. How long a refused rename over a claim is not tried again, at first and at most; the pause doubles each time.
_PAUSE = LEASE
_LONGEST_PAUSE = 30.0

# A disk that is full, and a quota that is used up.
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)

_Result = TypeVar("_Result")


class LiveFileMoved(Exception):
    """The path does not name the file any more that the caller has open: another host has rolled."""


class LockBusy(Exception):
    """The lock could not be had within the bound: another process is stopped or stuck in a rollover."""


class NoPiece(Exception):
    """There can be no further backup of an interval."""


class BoundedLock(FileLock):
    """The rollover lock, for which no line waits longer than a bound.

    The bound is waited once. Then the lock is only tried, because its holder may be stopped, until it has been had
    again, for whatever purpose: every success clears what went before.

    Args:
        live: The live file.
        shared: Each line needs the lock, so it may be busy because others write and none is stuck.
    """

    def __init__(self, live: str, shared: bool) -> None:
        super().__init__(lock_path(live))
        self.lock_timeout = LOCK_WAIT
        """How long the next one waits; seconds."""
        self._live = live
        self._shared = shared

    def take(self, give_up: Callable[[], bool] | None = None, *, to_roll: bool = False) -> bool:
        """Take the lock within the bound; False if it was not free, or once waiting is to be given up.

        Who takes it `to_roll` waits a little in any case: at a boundary it is busy for a moment though nobody is stuck.
        """
        if self.acquire(0):
            self.lock_timeout = LOCK_WAIT
            return True
        tell("lock_waits", self._live)
        # As between two later tries: what the lock is wanted for may be done by now.
        if give_up is not None and give_up():
            return False
        timeout = max(self.lock_timeout, BUSY_WAIT if to_roll or self._shared else 0.0)
        begun = time.monotonic()
        if timeout and self.acquire(timeout, give_up):
            self.lock_timeout = LOCK_WAIT
            return True
        if time.monotonic() - begun >= timeout:
            self.lock_timeout = 0.0
        return False

    def retry(self) -> None:
        """If it was waited for in vain, find out whether it is free again."""
        if not self.lock_timeout:
            with suppress(OSError):
                if self.acquire(0):
                    self.release()
                    self.lock_timeout = LOCK_WAIT


def _mode_of(status: os.stat_result) -> int:
    """The permissions of a file, without the mark of a full one."""
    # Nor any other of the bits beyond: a file whose owner cannot be changed would be run as us.
    return status.st_mode & 0o777


def _has_inode(directory: str, inode: int) -> bool:
    """Whether a name in the directory is of that inode."""
    with os.scandir(directory) as entries:
        return any(entry.inode() == inode for entry in entries)


class Rollover:
    """What one handler does under the lock of its live file.

    Args:
        path: The live file.
        interval_at: The interval that holds an instant (seconds since the epoch).
        backup_path: (suffix, sequence) -> full path of that backup.
        extension: What a file that was rolled or may be appended to has behind that name; none, but for files that
            await the application's rotator.
        permissions: Mode of the live and the lock file; None follows the live file's.
        extensions: What archives of backups may have behind their names, as `names.EXTENSIONS`.
        last_number: The highest sequence number of a suffix that any file has, -1 if none has; None where the first
            free one will do, because nothing is rolled twice in one interval.
        describe: What is noted of the handler's settings, for tools: one line, without newline.
        shared: Other hosts do the same on their mounts of the file system, whose caches are not to be trusted.
    """

    def __init__(
        self,
        path: str,
        interval_at: Callable[[float], Interval],
        backup_path: Callable[[str, int], str],
        extension: Callable[[], str] = str,
        permissions: int | None = None,
        describe: Callable[[], bytes] = bytes,
        extensions: tuple[str, ...] = EXTENSIONS,
        shared: bool = False,
        last_number: Callable[[str], int] | None = None,
    ) -> None:
        self.path = path
        self.lock = BoundedLock(path, shared)
        # Asked once: a FIFO that takes the place of a regular file later is somebody's trick or mistake.
        self.is_special = is_special(path)
        self._interval_at = interval_at
        self._backup_path = backup_path
        self._extension = extension
        self._permissions = permissions
        self._describe = describe
        self._made = int(1000 * time.time())
        self._taken = (*extensions, ROLLED_EXTENSION)
        self._shared = shared
        self._last_number = last_number
        self.appended = 0
        """How many lines the last `append` has written wholly, also if a signal handler has raised in it."""
        self.full: tuple[Identity, int] | None = None
        """The file that could grow no further last, and its size then."""
        self.limit = 0
        """How large a file may be, by the last refusal of a write (EFBIG)."""
        # The interval in which we have rolled last, and the number that its next backup gets.
        self._next: tuple[float, int] | None = None
        # The live file whose rename over a claim was refused last, the pause after it, and its end (monotonic).
        self._refusal: tuple[Identity, float, float] | None = None
        # The live file that was open last, and what it looked like.
        self._live: FileIO | None = None
        self._before: os.stat_result | None = None
        # The file that this process, or the one that it was forked from, has made last.
        self._made_file: Identity | None = None

    def open_stream(self) -> LogStream:
        """Open the live file as it is, made if it is missing: unbuffered, O_APPEND, O_CLOEXEC.

        Raises:
            NotOurs: What is there now is no file of this log: a FIFO or a hard link that took its place.
            OSError: It cannot be opened; a symbolic link that took its place is refused (ELOOP).
        """
        return LogStream(self.path, "a", opener=self._opener)

    def _opener(self, path: str, flags: int) -> int:
        """Open what is never rolled as it is; else make the live file, or open the one that is there.

        The making is tried first, by O_EXCL: who has made a file has to fit it out. On a network file system that also
        makes the client ask the server what the name means now (LOOKUP_EXCL of NFS and FUSE in Linux), where a plain
        open is answered from its cache.
        """
        if self.is_special:
            return open_special(path, flags)
        with place_of(path) as place:
            for _ in range(_TRIES):
                refusal: OSError | None = None
                try:
                    return self._make(place, flags)
                except FileExistsError:
                    pass
                except OSError as error:
                    # Of the making, which may be refused though the file is there and may be written.
                    refusal = error
                try:
                    return _open_to_read_too(place.open, flags)
                except FileNotFoundError:
                    # Rolled by another process since, if its making was not refused.
                    if refusal is not None:
                        raise refusal from None
        raise FileNotFoundError(errno.ENOENT, "comes and goes whenever it is opened", path)

    def _make(self, place: Place, flags: int) -> int:
        """Make the live file or a backup, with owner, group and mode of the live file before it, as far as we may.

        Whoever makes it does so at once. gunicorn's arbiter, which is root, makes the live file again after its
        removal too, and one that only root may write ends the workers.
        """
        looks = self._looks(place)
        descriptor = _open_to_read_too(place.create, flags, 0o666 if looks.mode is None else looks.mode)
        try:
            looks.give_to(descriptor)
            self._made_file = identity_of(os.fstat(descriptor))
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _looks(self, place: Place) -> Looks:
        """What the new file is to look like: the live file that this process has had open, else what is noted of it.

        The lock file has its owner. Where everybody may make files, it may be anybody's.
        """
        model = self._remembered()
        if model is not None:
            looks = Looks(model.st_uid, model.st_gid, _mode_of(model) & 0o666)
        else:
            note = self._read_note()
            looks = place.looks()._replace(mode=note.mode & 0o666 if note and note.mode else None)
            with suppress(OSError):
                lock = place.beside(os.path.basename(self.lock.path))
                status = lock.status()
                if stat.S_ISREG(status.st_mode) and (lock.is_safe(status) or not lock.is_for_everybody()):
                    looks = looks._replace(uid=status.st_uid, gid=status.st_gid)
        return looks if self._permissions is None else looks._replace(mode=self._permissions)

    def _remembered(self) -> os.stat_result | None:
        """The live file that this process has had open last, as it is now, named or not, or as it was when closed.

        As it is now, because a worker gives it away after the arbiter has opened it (see `hand_over`).
        """
        if self._live is not None and not self._live.closed:
            with suppress(OSError):
                status = os.fstat(self._live.fileno())
                if self._before is not None and identity_of(status) == identity_of(self._before):
                    self._before = status
        return self._before

    def _remember(self, stream: FileIO) -> None:
        """Have the next live file that this process makes look like this one."""
        self._live = stream
        self._before = os.fstat(stream.fileno())

    def hand_over(self, file: OpenFile, uid: int, gid: int) -> None:
        """Give the open live file and the lock file to a user; only root may.

        Raises:
            NotOurs: Another user may have put the file there, and who gets it could read what is not for them.
            OSError: The owner could not be changed.
        """
        descriptor = file.stream.fileno()
        status = os.fstat(descriptor)
        if (status.st_uid, status.st_gid) != (uid, gid):
            if identity_of(status) != self._made_file:
                with place_of(self.path) as place:
                    place.check_gift(status, uid, gid)
            os.fchown(descriptor, uid, gid)
            self._remember(file.stream)
        self.lock.hand_over(uid, gid)

    def open(self, now: float, stream: FileIO | None = None) -> OpenFile:
        """Open the live file (or take `stream`, which is open on it) and tell which interval it belongs to.

        Raises:
            OSError: The file cannot be opened.
        """
        stream = stream or self.open_stream()
        tell("opens", self.path)
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode) or self.is_special:
            return self._opened(stream, status, None)
        self._permit(stream, status)
        self._remember(stream)
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
            write=counted(write_of(stream), self.path),
            shared=shared,
            serial=0 if interval is None else self._serial(),
        )

    def is_live(self, file: OpenFile) -> bool:
        """Whether the path names `file`; one stat(2). Not being allowed to look proves nothing, and counts as yes."""
        try:
            return identity_of(os.lstat(self.path)) == file.identity
        except OSError as error:
            return error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)

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
                return self.is_live(file) or None
            return is_there()

        try:
            return self._under_lock(is_there, is_there_at_sight)
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
        return archived_since(self._read_note(), file.serial, status, self._shared)

    def _has_own_name(self, file: OpenFile, archived: Archived | None) -> bool:
        """Whether `file` has a name; if it was archived, one beside the live file or its backups.

        Another one may be the hard link of a snapshot, which stays when the backup goes.
        """
        if not file.has_name() or archived is None or file.interval is None:
            return file.has_name()
        places = {os.path.dirname(path) for path in (self.path, self._backup_path(file.interval.suffix, 0))}
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
                status = self._status_of_live()
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
            if self.is_live(file):
                raise self._busy()
            return True, None

        while True:
            # When all workers wake up at a boundary, they go on as soon as one has renamed, and none waits for the lock
            # that others take only to see that there is nothing to do.
            done, backup = self._under_lock(rename, is_rolled, lambda: not self.is_live(file), to_roll=True)
            if done:
                return backup

    def is_backing_off(self, file: OpenFile, tick: float) -> bool:
        """Whether the rename of `file` over a claim was refused too short a time ago to be tried again at `tick`.

        What refuses it (a live file of somebody else in a sticky directory, one mounted by itself) mostly stays, and
        each attempt makes an empty file and removes it. Every other refusal costs nothing, and is tried at each lease.
        """
        return self._refusal is not None and self._refusal[0] == file.identity and tick < self._refusal[2]

    def record_full(self, stream: FileIO, line: bytes) -> None:
        """Note that a file can grow no further, as the kernel has refused to append `line` (EFBIG).

        Its limit is that of the process (`ulimit -f`, LimitFSIZE= of systemd), or of the file system (4 GiB on FAT),
        which nothing tells but the size of the file. A line that is longer would fill one file after another.
        """
        limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        with suppress(OSError, ValueError):
            status = os.fstat(stream.fileno())
            self.limit = status.st_size if limit == resource.RLIM_INFINITY else min(limit, status.st_size)
            if len(line) <= self.limit:
                self.full = identity_of(status), status.st_size

    def is_full(self, file: OpenFile) -> bool:
        """Whether `file` is the one that could grow no further last."""
        with suppress(OSError, ValueError):
            return self.full is not None and self._is_full(os.fstat(file.stream.fileno()))
        return False

    def _is_full(self, status: os.stat_result) -> bool:
        # A smaller one has got the inode of a file that was removed.
        return self.full is not None and self.full[0] == identity_of(status) and self.full[1] <= status.st_size

    def _record_refusal(self, identity: Identity) -> None:
        """Note that the rename of a live file over a claim was refused; the pause doubles, or ends with the file."""
        before = self._refusal
        pause = min(2 * before[1], _LONGEST_PAUSE) if before is not None and before[0] == identity else _PAUSE
        self._refusal = identity, pause, time.monotonic() + pause

    def _under_lock(
        self,
        action: Callable[[], _Result],
        otherwise: Callable[[], _Result],
        give_up: Callable[[], bool] | None = None,
        *,
        to_roll: bool = False,
    ) -> _Result:
        """What `action` returns under the lock; where that was not free within the bound, what `otherwise` returns.

        A signal handler may raise an exception between any two calls (Celery's soft time limit, KeyboardInterrupt).
        So the lock is taken inside the `try`, and given back as far as it is held: again, if that was interrupted.
        """
        taken = False
        try:
            taken = self.lock.take(give_up, to_roll=to_roll)
            if taken:
                result = action()
        finally:
            try:
                self.lock.let_go()
            except BaseException:
                self.lock.let_go()
                raise
        return result if taken else otherwise()

    def append(self, file: OpenFile, lines: list[bytes], end: bytes) -> int:
        """Write `lines` into the live file, which is shared: under the lock, and to the server before it is released.

        The file is opened for this alone, because opening and closing is what makes a client of a network file
        system look at the server and send what it has (nfs(5), "Close-to-open cache consistency").
        `end` is what ends each line.

        Returns:
            How many lines are written wholly; fewer than all where a write was cut short.

        Raises:
            LockBusy: The lock was not free within the bound.
            LiveFileMoved: The path names another file than `file`.
            OSError: Nothing could be written.
        """

        def write() -> int:
            with self.open_stream() as stream:
                if identity_of(os.fstat(stream.fileno())) != file.identity:
                    raise LiveFileMoved(f"{self.path} names another file each time it is opened")
                return self._write_through(stream, lines, end)

        self.appended = 0
        return self._under_lock(write, self._refuse)

    def append_late(self, interval: Interval, lines: list[bytes], end: bytes) -> int:
        """Write `lines` into a backup of `interval`, as `append` does.

        Raises:
            LockBusy: The lock was not free within the bound.
            NoPiece: There can be no backup for them.
            OSError: Nothing could be written.
        """

        def write() -> int:
            try:
                stream = self._open_piece(interval)
            except Exception as error:  # a namer may raise anything
                raise NoPiece(str(error)) from error
            with stream:
                return self._write_through(stream, lines, end)

        self.appended = 0
        return self._under_lock(write, self._refuse)

    def append_at_the_end(self, line: bytes) -> None:
        """Append to the live file while the interpreter ends; under the lock where it is shared.

        Raises:
            OSError: It could not be written, or the lock was not free within the bound.
        """
        lock = lock_alone(self.lock.path, LOCK_WAIT) if self._shared else None
        try:
            with self.open_stream() as stream:
                stream.write(line)
        finally:
            if lock is not None:
                os.close(lock)

    def _write_through(self, stream: FileIO, lines: list[bytes], end: bytes) -> int:
        """Write `lines` and see them to the server; returns how many are there.

        Nobody else writes under the lock, so a write that was cut short is continued, and the next one tells why: a
        full disk (ENOSPC), or a file that can grow no further (EFBIG).

        A fragment of a line that a killed writer or a full disk has left is cut off first, if lines of ours end in a
        newline at all.
        """
        start = end if end.endswith(b"\n") and ends_in_fragment(stream) else b""
        before = os.fstat(stream.fileno()).st_size
        rest = start + b"".join(lines)
        try:
            try:
                while rest:
                    rest = rest[stream.write(rest) :]
                os.fsync(stream.fileno())
            finally:
                # Not by what was returned: a signal handler may have raised just then, or now.
                try:
                    self._count_appended(stream, before, start, lines)
                except BaseException:
                    self._count_appended(stream, before, start, lines)
                    raise
        except OSError as error:
            self._blank_fragment(stream, before, start, lines, end)
            if error.errno == errno.EFBIG and self.appended < len(lines):
                self.record_full(stream, lines[self.appended])
            raise
        tell("lines", self.path, self.appended)
        return self.appended

    def _blank_fragment(self, stream: FileIO, before: int, start: bytes, lines: list[bytes], end: bytes) -> None:
        """Overwrite the beginning of a line that stands at the end of the file, as the rest of it was refused."""
        whole = start + b"".join(lines[: self.appended])
        fragment = (start + b"".join(lines))[len(whole) : os.fstat(stream.fileno()).st_size - before]
        file = AppendedFile(stream)
        if fragment and file.has(before + len(whole), fragment):
            file.blank(before + len(whole), fragment, end)

    def _count_appended(self, stream: FileIO, before: int, start: bytes, lines: list[bytes]) -> None:
        """Find out how many of `lines` are written wholly: nobody else writes under the lock."""
        written = max(0, os.fstat(stream.fileno()).st_size - before)
        # Where each line ends, as long as it is not behind what is written.
        ends = itertools.accumulate(map(len, lines), initial=len(start))
        self.appended = sum(end <= written for end in ends) - 1 if written >= len(start) else 0
        tell("bytes", self.path, written)

    def _status_of_live(self) -> os.stat_result:
        """What the path names, by the server's knowledge if other hosts rename it too."""
        if self._shared:
            with self.open_stream() as stream:
                return os.fstat(stream.fileno())
        return os.lstat(self.path)

    def _rename_live(self, status: os.stat_result, interval: Interval) -> str | None:
        """The commit. None if our lock excludes nobody, its file being removed: then look again under the new one."""
        with suppress(OSError):
            # For the next process, where this one is killed before it has made the new file.
            self._note_mode(status)
        number = self._next_number(status, interval)
        while self.lock.excludes():
            number = self._free_sequence(interval, number)
            backup = self._backup_path(interval.suffix, number) + self._extension()
            try:
                if not rename_new(self.path, backup):
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
                rename_over(self.path, backup)
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
                        os.fchmod(descriptor, _mode_of(status))
                finally:
                    os.close(descriptor)
        self._next = (interval.start, number + 1)

    def _claim(self, interval: Interval, number: int) -> tuple[str, Identity, int]:
        """Make an empty file under the first free backup name from `number` on; returns path, identity and number."""
        while True:
            number = self._free_sequence(interval, number)
            path = self._backup_path(interval.suffix, number) + self._extension()
            try:
                with place_of(path) as place:
                    descriptor = place.create(os.O_WRONLY, 0o600)
            except FileExistsError:
                continue
            try:
                return path, identity_of(os.fstat(descriptor)), number
            finally:
                os.close(descriptor)

    def _next_number(self, status: os.stat_result, interval: Interval) -> int:
        """The number from which on to look for a free one: what is noted, or above the highest that there is.

        Not simply the first free one: retention takes the lowest, and the order of numbers is the order of time.
        """
        note = self._read_note()
        known = note is not None and note.is_about(status, self._shared) and note.start == int(interval.start)
        if known and note and note.number is not None:
            return max(interval.fold, note.number)
        return max(interval.fold, self._last_number(interval.suffix) + 1 if self._last_number else 0)

    def _refuse(self) -> NoReturn:
        """What is done where nothing can be done without the lock."""
        raise self._busy()

    def _busy(self) -> LockBusy:
        """What to raise where the lock was not free."""
        return LockBusy(
            f"{self.lock.path} could not be locked within {LOCK_WAIT} s; `rollsafe status` tells which process holds it"
        )

    def open_piece(self, interval: Interval) -> OpenFile:
        """Open a backup of `interval` for lines that come after its rollover: its last one, or else a new one.

        Raises:
            LockBusy: The lock was not free within the bound.
            OSError: The file cannot be opened.
        """

        def open_it() -> OpenFile:
            stream = self._open_piece(interval)
            return self._opened(stream, os.fstat(stream.fileno()), interval)

        return self._under_lock(open_it, self._refuse)

    def _open_piece(self, interval: Interval) -> FileIO:
        """Open the last backup of `interval` for appending, or a new one; only under the lock."""
        first = self._last_number(interval.suffix) + 1 if self._last_number else 0
        free = self._free_sequence(interval, first)
        extension = self._extension()
        last = self._backup_path(interval.suffix, free - 1) + extension
        # What waits for the application is given to it when it was quiet for long, and removed afterwards.
        if free > interval.fold and self._can_grow(last) and (not extension or _was_just_written(last)):
            return FileIO(last, "a", opener=_open_piece_that_is_there)
        new = self._backup_path(interval.suffix, free) + extension
        return FileIO(new, "a", opener=self._open_new)

    def _can_grow(self, path: str) -> bool:
        """Whether a backup may be appended to: a regular file and no link, and not the one that is full."""
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return False
        return stat.S_ISREG(status.st_mode) and not self._is_full(status)

    def _open_new(self, path: str, flags: int) -> int:
        """An opener that refuses a file that exists."""
        with place_of(path) as place:
            return self._make(place, flags)

    def _permit(self, stream: FileIO, status: os.stat_result) -> None:
        """Give the open live file the permissions that were asked for; somebody else's keeps its own."""
        if self._permissions is None or stat.S_IMODE(status.st_mode) == self._permissions:
            return
        with suppress(OSError), place_of(self.path) as place:
            if identity_of(status) == self._made_file or place.is_known(status):
                os.fchmod(stream.fileno(), self._permissions)

    def close(self) -> None:
        """Let go of the lock file, and of the live file, which is about to be closed."""
        self._remembered()
        self._live = None
        self.lock.close()

    def _create_like(self, old: os.stat_result, now: float) -> None:
        """Make the new live file look like the old one, and note whose interval it is."""
        self._live, self._before = None, old
        with self.open_stream() as stream:
            new = os.fstat(stream.fileno())
            if new.st_size == 0:
                interval = self._interval_at(now)
                same = self._next is not None and self._next[0] == interval.start
                self._note(new, interval, self._next[1] if self._next and same else None)

    def _interval_of(self, stream: FileIO, now: float) -> Interval:
        """The interval that the live file belongs to: the noted one, else that of its last write, else now's.

        Raises:
            OSError: The disk has no space to note it. Other processes would tell another interval of the same file,
                so no line may be written before; Btrfs, which writes nothing in place, is where that was seen.
        """
        noted, described = self._noted_interval(os.fstat(stream.fileno()))
        if noted is not None and described:
            return noted

        unnoted: OSError | None = None

        def is_noted() -> bool:
            noted, described = self._noted_interval(os.fstat(stream.fileno()))
            return noted is not None and described

        def told(locked: bool) -> Interval:
            nonlocal unnoted
            status = os.fstat(stream.fileno())
            noted, described = self._noted_interval(status)
            # A time stamp of the future is not believed, unless the clock is still to be set.
            written = min(status.st_mtime, now) if is_set(now) else status.st_mtime
            interval = noted or self._interval_at(written if status.st_size else now)
            stale = noted is None or not described
            if stale and locked and identity_of(os.lstat(self.path)) == identity_of(status):
                note = self._read_note()
                known = note is not None and note.is_about(status, self._shared)
                try:
                    self._note(status, interval, note.number if note and known else None)
                except OSError as error:
                    unnoted = error if noted is None and error.errno in NO_SPACE else None
                with suppress(OSError):
                    self.lock.set_mode(_mode_of(status))
            return interval

        try:
            interval = self._under_lock(lambda: told(True), lambda: told(False), is_noted)
        except OSError:
            # A reader of the note can live without the lock.
            return told(False)
        if unnoted is not None:
            raise unnoted
        return interval

    def _note(self, status: os.stat_result, interval: Interval, number: int | None) -> None:
        """Write into the lock file what the live file is, what the settings are, and the number of its backup.

        Raises:
            OSError: It could not be written.
        """
        before = self._read_note()
        newest = before if before is not None and self._is_older_than(before) else None
        settings, made = (newest.settings, newest.made) if newest else (self._describe(), self._made)
        note = Note(
            noted_identity(status, self._shared),
            int(interval.start),
            settings,
            made,
            number,
            (before.serial if before is not None else 0) or new_serial(),
            before.archived if before is not None else (),
            mode=_mode_of(status),
        )
        self.lock.write(note.content())

    def _note_mode(self, status: os.stat_result) -> None:
        """Bring the noted permissions and those of the lock file up to date; the live file's may have been changed."""
        self.lock.set_mode(_mode_of(status))
        note = self._read_note()
        if note is not None and note.is_whole and note.is_about(status, self._shared) and note.mode != _mode_of(status):
            self.lock.write(note._replace(mode=_mode_of(status)).content())

    def _read_note(self) -> Note | None:
        """What the lock file says, if it says anything."""
        try:
            return parse_note(self.lock.read())
        except OSError:
            return None

    def _serial(self) -> int:
        """The last number that the ledger has given, 0 if that is not known; to be asked when a file was opened."""
        note = self._read_note()
        return note.serial if note is not None else 0

    def _is_older_than(self, note: Note) -> bool:
        """Whether the noted settings are of a handler that was made after ours: we are a worker that a reload ends.

        Not if that lies ahead, because the clock was set back since.
        """
        return self._made < note.made <= 1000 * time.time()

    def _noted_interval(self, status: os.stat_result) -> tuple[Interval | None, bool]:
        """The noted interval, if the note is about this file and the file agrees; and whether it has our settings.

        Newer settings than ours count as ours. Without the note, a process that starts just after the boundary would
        take a file of the old interval, to which somebody has just written a late line, for one of the new interval.
        """
        note = self._read_note()
        if note is None:
            return None, False
        described = note.settings == self._describe() or self._is_older_than(note)
        return note.believed_interval(status, self._interval_at, self._shared), described

    def _free_sequence(self, interval: Interval, sequence: int = 0) -> int:
        """The first sequence number from `sequence` on whose name nothing has, archived or not.

        Raises:
            ValueError: The names do not differ by the number, so that there is none.
        """
        sequence = max(sequence, interval.fold)
        path = self._backup_path(interval.suffix, sequence)
        while any(os.path.lexists(path + extension) for extension in self._taken):
            sequence += 1
            taken, path = path, self._backup_path(interval.suffix, sequence)
            if path == taken:
                raise ValueError(f"{path!r} exists and the namer gives it for every number; let it keep the `.1`")
        return sequence


def _was_just_written(path: str) -> bool:
    """Whether a file was written within the last lease; by its mtime, as links and renames change the ctime too."""
    return 0 <= time.time() - os.lstat(path).st_mtime < LEASE


def _open_piece_that_is_there(path: str, flags: int) -> int:
    """An opener of a file that exists."""
    with place_of(path) as place:
        return _open_to_read_too(place.open, flags & ~os.O_CREAT)


def _open_to_read_too(way: Callable[[int, int], int], flags: int, mode: int = 0o666) -> int:
    """Open a file in a way that allows to look what stands before a line, where that is permitted."""
    try:
        return way(flags & ~os.O_WRONLY | os.O_RDWR, mode)
    except PermissionError:
        return way(flags, mode)
