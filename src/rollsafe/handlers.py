"""The handler: it writes each line into the file of its interval.

`handle` waits out the quiet moment of a boundary. `emit` makes the line and, while the lease lasts, writes it with one
write(2). A line takes the slow path (see `writer`) about once a second and at each boundary.
"""

from __future__ import annotations

import datetime
import errno
import logging
import logging.handlers
import os
import re
import time
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from io import FileIO
from math import inf
from typing import Any

from rollsafe._arguments import checked_archive_dir, checked_path, decided_lock_writes
from rollsafe._backups.codecs import Compress, StreamCodec
from rollsafe._backups.names import EXTENSIONS
from rollsafe._backups.naming import BackupNaming, backup_base_of
from rollsafe._backups.ownership import claim, other_owner
from rollsafe._greenlets import is_refusal
from rollsafe._lines.encoder import LineEncoder, own_record
from rollsafe._live.fragments import IN_PAGE
from rollsafe._live.live_file import LiveFile
from rollsafe._live.open_file import NOWHERE, NoRoom, OpenFile
from rollsafe._live.renewal import Renewal, trusted_time
from rollsafe._live.rollover import NO_SPACE
from rollsafe._live.streams import LogStream
from rollsafe._live.writer import Writer
from rollsafe._options import OPTIONS, Options
from rollsafe._overrides import is_replaced, original
from rollsafe._reports import Reports
from rollsafe._settings import UNNAMED, Settings
from rollsafe.errors import ConfigurationError, LogFileError
from rollsafe.schedule import Interval

# Kept as our base class, because an application may replace `logging.FileHandler` by this handler to rotate all logs.
_FileHandler = logging.FileHandler
_monotonic = time.monotonic
_living: weakref.WeakSet[SafeTimedRotatingFileHandler] = weakref.WeakSet()


class SafeTimedRotatingFileHandler(logging.handlers.TimedRotatingFileHandler):
    """A `TimedRotatingFileHandler` for several processes that write one file.

    It keeps every line, whole and once, in the file of the interval that holds `record.created`. The parameters and the
    methods to override are those of the standard class. These differ:

    - Intervals are aligned to the clock, not to the start of the process: seconds and minutes to the epoch; hours,
      days and weeks to the wall clock. `when="D"` is `when="MIDNIGHT"`.
    - Every write is one unbuffered write(2); `stream` is a raw file, which takes text too.
    - One process calls a custom `rotator` in a background thread, some seconds after the rollover.
    - With `errors=None` a character that the encoding cannot express becomes a backslash escape, and the line is kept.

    Args:
        filename: The live file. Its directory must exist. `{hostname}` in it is replaced. A symbolic link is followed
            once, as the handler is made. A path that is not a regular file (/dev/null, /dev/stdout, a FIFO) is written
            and never rolled.
        when: S, M, H, D, MIDNIGHT, or W0 (to Monday's end) to W6 (to Sunday's), in any case.
        interval: How many units of `when` make one interval.
        backupCount: How many backups to keep; 0 keeps all. Each file counts, also if one interval has several.
        encoding: The encoding of the file; None is the locale's.
        delay: Open the file at the first line.
        utc: Align and name in UTC; the same as `tz=datetime.timezone.utc`.
        atTime: The time at which a day or week begins; a week then begins on its weekday itself. None is the midnight
            that ends the day.
        errors: As for `open`; None is "backslashreplace".
        tz: Zone to align and name in: a name such as "Europe/Paris" or a `tzinfo`; None is the process's local zone.
        maxBytes: Also roll over before the live file grows larger: bytes, or text such as "100 MiB"; 0 is no bound.
        suffix: The strftime format of backup names; None is that of `when` in the standard library.
        archive_dir: Directory for the backups, on the same file system and mount, made if it is missing; None is the
            directory of the live file.
        compress: "gz", "zst" or "xz" to compress backups, in the background and in one process; or a callable
            (source_path, target_path) that does it. The names of its archives end in its attribute `extension`, or in
            ".archive" if it has none.
        compress_level: The level that the compression is given; None is its default.
        on_rollover: Called with the path of each final backup (compressed, if it is to be) and its
            `rollsafe.schedule.Interval`, in the background in one process; called again later if it raises.
        max_age: Keep no backup whose interval ended longer ago: a `timedelta`, or text such as "30 days".
        max_total_bytes: Keep only the newest backups that fit into this together: bytes, or text such as "2 GiB".
        min_free_bytes: Remove the oldest backups while less than this is free on the file system: bytes, or such text.
        permissions: Mode of live file, backups and lock file, whatever the umask, such as 0o640; None keeps the mode of
            the live file, and makes the first one by the umask.
        lock_writes: Write each line under the lock, so that several hosts can share the file; None does so where the
            mount table names a network or cluster file system.

    Raises:
        ConfigurationError: An argument cannot work (a `ValueError`).
        LogFileError: The path cannot be logged to (also an `OSError`).
    """

    stream: Any
    lock: Any
    delay: bool
    when: str
    interval: int
    # The options that the standard class does not have and that our code reads here.
    tz: str | datetime.tzinfo | None
    maxBytes: int
    archive_dir: str | None
    compress: str | Compress | None
    on_rollover: Callable[[str, Interval], object] | None
    max_age: float | None
    max_total_bytes: int | None
    min_free_bytes: int | None
    permissions: int | None
    lock_writes: bool
    _is_made = False
    _closed = False  # set by `logging`, but not in the first releases of Python 3.10
    _path: str
    _file: OpenFile

    def __init__(
        self,
        filename: str | os.PathLike[str],
        when: str = "h",
        interval: int = 1,
        backupCount: int = 0,
        encoding: str | None = None,
        delay: bool = False,
        utc: bool = False,
        atTime: datetime.time | None = None,
        errors: str | None = None,
        *,
        tz: str | datetime.tzinfo | None = None,
        maxBytes: int | str = 0,
        suffix: str | None = None,
        archive_dir: str | os.PathLike[str] | None = None,
        compress: str | Compress | None = None,
        compress_level: int | None = None,
        on_rollover: Callable[[str, Interval], object] | None = None,
        max_age: str | datetime.timedelta | None = None,
        max_total_bytes: int | str | None = None,
        min_free_bytes: int | str | None = None,
        permissions: int | None = None,
        lock_writes: bool | None = None,
    ) -> None:
        options = Options.of(locals())
        # No class attribute, because CPython 3.11 reads an attribute slowly that the class has too.
        self._file = NOWHERE
        encoding_of_lines, errors_of_lines = options.line_codec()
        codec = options.codec()
        # An application may set any of them later, as in the standard library: the value at the time of use counts.
        # `interval`, an attribute in seconds there, and two more are set below.
        for name in OPTIONS:
            setattr(self, name, getattr(options, name))
        path = checked_path(filename, options.delay)
        self.lock_writes = decided_lock_writes(options.lock_writes, path)
        self.archive_dir = checked_archive_dir(options.archive_dir, path)
        self._naming = BackupNaming(
            self,
            options.schedule,
            suffix=options.suffix,
            extension=codec.extension if codec else "",
        )
        check_owner(backup_base_of(path, self.archive_dir), path, living_handlers())
        # Not TimedRotatingFileHandler.__init__: it opens the file as text and computes times that are ours to compute.
        _FileHandler.__init__(self, path, "a", encoding=encoding, delay=True, errors=errors)
        self.delay = options.delay
        self.when = self._naming.schedule.when
        self.interval = int(self._naming.schedule.length)
        self._interval_count = options.interval
        self._codec = codec
        # Until the file is open, any line may roll over, so each waits for the quiet moment.
        self.rolloverAt: float = -inf  # type: ignore[assignment]  # an int in the standard library
        self._reports = Reports(self)
        self._encoder = LineEncoder(self, encoding_of_lines, errors_of_lines, self._reports)
        self._live = LiveFile(self, self._encoder, self._naming, codec, self._reports)
        self._live.set_path(self.baseFilename)
        self._renewal = Renewal(self, self._live, self._naming)
        self._writer = Writer(self, self._encoder, self._naming, self._live, self._renewal, self._reports)
        self._is_made = True
        self._check_overrides()
        _living.add(self)
        if not options.delay:
            # The first record rolls a file of an earlier run, because only then `namer` and `suffix` are set.
            try:
                self._live.ensure_open()
            except OSError as error:
                # Lines wait for a FIFO's reader, and for room on a disk where the file could be opened.
                is_full = self.stream is not None and error.errno in NO_SPACE
                if not is_full and not (self._live.rollover.live.is_special and error.errno == errno.ENXIO):
                    raise LogFileError(f"filename={path!r} cannot be opened: {error}") from error

    @property
    def baseFilename(self) -> str:  # an attribute in the standard library
        """Full path of the live file; may be set, as in the standard library, and counts from the next opening on."""
        return self._path

    @baseFilename.setter
    def baseFilename(self, value: str | os.PathLike[str]) -> None:
        path = os.path.abspath(value)
        before, self._path = getattr(self, "_path", path), path
        if self._is_made and path != before:
            self._live.set_path(path)

    # The fast path of one line.

    def handle(self, record: logging.LogRecord) -> Any:
        """Filter and emit `record`; at a boundary, wait out the quiet moment first.

        It waits here and not in `emit`, before it takes the handler's lock, so that a thread with a line of the old
        interval can write it meanwhile.
        """
        # Called as it is, like `format` below, because an application may replace it at any moment (`_overrides`). A
        # check whether it is still ours would save little, and something would have to notice when it is set on a
        # handler.
        passed: Any = self.filter(record)
        if passed is not True:
            if not passed:
                return passed
            if isinstance(passed, logging.LogRecord):
                record = passed
        try:
            if record.created >= self.rolloverAt:
                self._renewal.wait_for_quiet()
        except TypeError:
            # A record made by hand (logging.makeLogRecord), whose time is no number.
            record.created = time.time()
        lock = self.lock
        if lock is None or self._locks_itself:
            self._emit_between_own_calls(record)
            return passed
        # `with` takes twice as long as the two calls. Both are in the `try`, so that a signal handler that raises
        # leaves no lock held.
        is_locked = False
        try:
            lock.acquire()
            is_locked = True
            self.emit(record)
        except Exception as error:
            if is_locked or not is_refusal(error):
                raise
            self._writer.leave(record)
        finally:
            try:  # noqa: SIM105  # suppress() would double the price of the lock
                lock.release()
            except RuntimeError:
                # A formatter has forked: in the child `logging` has made the lock anew, and no thread holds it. Or this
                # is an event loop, which could not wait for the lock (`_greenlets`).
                pass
        return passed

    def _emit_between_own_calls(self, record: logging.LogRecord) -> None:
        """Emit `record` where the application has overridden how the lock is taken, or has removed the lock."""
        self._own_lock()
        try:
            self.acquire()
            self.emit(record)
        finally:
            with suppress(RuntimeError):
                self.release()

    def emit(self, record: logging.LogRecord) -> None:
        """Write `record` as one line with one write(2). Never raises into the application."""
        encoder = self._encoder
        if self.formatter is not encoder.formatter:
            encoder.follow_formatter()
        try:
            if encoder.stamps is None:
                text = self.format(record)
                # CPython lengthens the text in place, if nothing else has it.
                text += self.terminator
                # Without arguments, encode() is twice as fast; a lone surrogate takes the exception.
                line = text.encode() if encoder.is_utf8 else text.encode(encoder.encoding, encoder.errors)
            else:
                line = encoder.encode_numbered(record)
        except Exception:
            made = encoder.encode_again(record)
            if made is None:
                return
            line = made
        self._append(line, record.created, record)
        if self._flushes:
            try:
                self.flush()
            except Exception:
                self.handleError(record)

    def setFormatter(self, fmt: logging.Formatter | None) -> None:
        """Set the formatter. If its format has the field `stamp`, each line gets its stream and number there.

        `rollsafe verify` finds missing lines by these stamps; see `stamps`.
        """
        super().setFormatter(fmt)
        self._encoder.follow_formatter()

    def _check_overrides(self) -> None:
        """Find out whether the application has replaced `acquire`, `release` or `flush`, which each line then calls.

        Our own add nothing, so no line calls them. They do not change the text of a line, so a check at each renewal of
        the lease is enough: a method that is replaced later is called within a second.
        """
        self._locks_itself = self._replaces("acquire") or self._replaces("release")
        self._flushes = self._replaces("flush")

    def _replaces(self, name: str) -> bool:
        """Whether the application has replaced one of our methods."""
        return is_replaced(self, name, _OURS[name])

    def _own_lock(self) -> Any:
        """The lock between threads; made if the application has removed it, as threads without one lose lines."""
        if self.lock is None:
            logging.Handler.createLock(self)
        return self.lock

    def write_line(self, text: str, created: float) -> None:
        """Write `text` as a line created at `created`, as `handle` does, without a record, a filter or a formatter.

        For callers that make whole lines themselves and know that no other handler wants the record. Never raises into
        the application.

        Args:
            text: The line without its end; it is not escaped.
            created: The time of the line, which decides about the file; seconds since the epoch.
        """
        if created >= self.rolloverAt:
            self._renewal.wait_for_quiet()
        with self._own_lock():
            try:
                line = self._encoder.encode(text)
            except Exception:
                self.handleError(own_record(text))
                return
            self._append(line, created, None)

    def _append(self, line: bytes, created: float, record: logging.LogRecord | None) -> None:
        """Write `line` with one write(2) while the lease lasts, else on the slow path; `record` is None if not made."""
        # Read once, because a signal handler that logs may roll over between any two of the next steps.
        file = self._file
        written = None
        try:
            if file.start <= created < file.lease_expires:
                # Looked up first and called then: CPython 3.11 has no fast way to call what is in a slot.
                write, tell = file.write, file.tell
                written = write(line)
                # A line that begins with a page may stand behind a fragment (see IN_PAGE), so the slow path checks it.
                if written != len(line):
                    file.expire_lease()
                elif (tell() - written) & IN_PAGE and _monotonic() < file.recheck_after:
                    return
        except BaseException as error:
            # An OSError of the write, the ValueError of a file that a signal handler has closed (gunicorn's USR1), or
            # any exception that a signal handler has raised before the write or after it. The next line checks what
            # stands before it.
            file.expire_lease()
            if not isinstance(error, Exception):
                raise
            refused = isinstance(error, NoRoom) or (isinstance(error, OSError) and error.errno is not None)
            if written is None and not refused and file.has_written(line):
                written = len(line)
        if record is None:
            record = self._encoder.record_of(line, created)
        self._writer.take(record, line, file, written)

    # Rollover.

    def computeRollover(self, currentTime: float) -> int:
        """The end of the interval that holds `currentTime`; seconds since the epoch, as `currentTime`."""
        return int(self._naming.schedule.interval(currentTime).end)

    def shouldRollover(self, record: logging.LogRecord) -> bool:
        """Whether `record` belongs to a later interval than the open file.

        Called at each renewal of the lease; if a subclass overrides it, for each record. None, which the standard class
        accepts too, asks whether the interval of the open file is over now.
        """
        now = time.time()
        return trusted_time(getattr(record, "created", now), now) >= self.rolloverAt

    def doRollover(self) -> None:
        """Give the live file its backup name now, unless another process has just done so, and open the new one.

        Where the rename or the lock is refused, lines go on into the open file, and the refusal is reported once.
        """
        now = self._renewal.rolling_at
        self._live.roll(time.time() if now is None else now)

    def getFilesToDelete(self) -> list[str]:
        """Full paths of the backups that exceed `backupCount`, `max_age` and the like, oldest first.

        Only files with names that this handler makes, or that it would make with another `when` and the default suffix.
        """
        return self._live.maintenance.expired()

    @property
    def suffix(self) -> str:
        """The strftime format of backup names; may be set, as in the standard library."""
        return self._naming.schedule.suffix_format

    @suffix.setter
    def suffix(self, value: str) -> None:
        if not self._is_made:
            # A subclass has set it before `__init__`, whose argument counts, as in the standard library.
            return
        self._naming.set_suffix(value)
        if self._file.interval is not None:
            self._file.rename_interval(self._naming.interval_at(self._file.interval.start))

    @property
    def extMatch(self) -> re.Pattern[str]:
        """The pattern that finds the suffix in a file name; may be set, as in the standard library, with a `namer`."""
        return self._naming.ext_match or self._naming.names().suffix_pattern

    @extMatch.setter
    def extMatch(self, value: re.Pattern[str]) -> None:
        self._naming.ext_match = value

    def settings(self) -> Settings:
        """The settings of this handler as the lock file has them."""
        codec = self._codec
        options = {name: getattr(self, name) for name in OPTIONS}
        options |= {"interval": self._interval_count, "suffix": self._naming.schedule.own_suffix}
        compress = codec.extension.removeprefix(".") if isinstance(codec, StreamCodec) else codec
        options |= {"encoding": self._encoder.encoding, "compress": compress}
        settings = Settings.of(
            options,
            namer=callable(self.namer),
            rotator=self._live.maintenance.duties.has_rotator(),
            extension=codec.extension if codec and codec.extension not in EXTENSIONS else "",
        )
        return settings.replace(tz=UNNAMED) if self._replaces("computeRollover") else settings

    def _look(self, *, rolls: bool) -> bool:
        """Close files that were rolled, and roll the live file if `rolls` and its interval is over; no line may come.

        The thread of the maintenance calls it. It waits for no lock: a handler that is busy logs, and its line rolls.

        Returns:
            Whether the interval of the live file is over, and the file was not rolled.
        """
        lock = self.lock
        if lock is None or not lock.acquire(blocking=False):
            return False
        try:
            return self._writer.look(rolls=rolls)
        finally:
            lock.release()

    # Open, close.

    def _open(self) -> FileIO | None:  # type: ignore[override]  # a text file in the standard library
        """Open the live file for appending, unbuffered.

        gunicorn's USR1 calls it, and an exception would end the arbiter. So the next line reports a refusal, and until
        then there is no stream, as with `delay`. A closed stream would end the next worker, because gunicorn asks for
        its descriptor.
        """
        try:
            return self._live.open_stream()
        except OSError:
            if self._live.is_opening:
                raise
            return None

    def write_text(self, stream: LogStream, text: bytes) -> bool:
        """Write `text`, which was written to `stream`, as it is; only `LogStream` calls this.

        False while `stream` is being opened: a header that an overridden `_open` writes goes straight into that file.
        """
        assert self.lock is not None
        with self.lock:
            if not stream.adopted and (self._live.is_opening or stream is not self.stream):
                return False
            self._append(text, time.time(), None)
            return True

    def close(self) -> None:
        """Write the pending lines and close the files. A later record opens them again, as gunicorn's USR1 expects.

        If a signal handler calls it in the middle of the slow path, it closes nothing and only ends the lease.
        """
        with self._own_lock():
            self._file.expire_lease()
            if self._writer.is_interrupted():
                return
            self.flush()
            self._writer.report_waiting()
            self._live.close()
            try:
                super().close()
            except OSError as error:
                self._reports.report(f"{self.baseFilename} could not be closed", error)

    def flush(self) -> None:
        """Try to write the lines that wait in memory; no other line is ever held back."""
        with self._own_lock():
            self._writer.flush()

    def hand_over(self, uid: int, gid: int) -> None:
        """Give the live file and the lock file to the user that the workers will run as; only root may.

        A rollover keeps the owner of the live file. A file that is never rolled keeps its owner.

        Raises:
            OSError: The owner could not be changed.
        """
        with self._own_lock():
            file = self._live.ensure_open()
            if file.interval is not None:
                self._live.rollover.live.hand_over(file, uid, gid)

    def _register(self) -> None:
        """Undo what `close` did to the registry of `logging`, unless a newer handler has the name."""
        self._closed = False
        if self.name:
            logging._handlers.setdefault(self.name, self)  # type: ignore[attr-defined]  # no public way back


# Our own methods and those of `logging`, to compare by identity.
_OURS = {
    **{
        name: vars(SafeTimedRotatingFileHandler)[name]
        for name in ("computeRollover", "flush", "getFilesToDelete", "shouldRollover")
    },
    **{name: original(logging.Handler, name) for name in ("acquire", "release")},
    "rotate": original(logging.handlers.BaseRotatingHandler, "rotate"),
}


def check_owner(backup_base: str, path: str, others: Iterable[SafeTimedRotatingFileHandler]) -> None:
    """Raise ConfigurationError if another log has backups with the names that those of `path` will have.

    Args:
        backup_base: The path of the backups without suffix.
        path: The live file.
        others: The handlers of this process.
    """
    directory = os.path.dirname(backup_base)
    owners = (other.baseFilename for other in others if other._naming.base == backup_base)
    owner = next((owner for owner in owners if owner != path), None)
    if owner is None:
        owner = claim(directory, path) if directory != os.path.dirname(path) else other_owner(directory, path)
    if owner is not None:
        raise ConfigurationError(
            f"archive_dir={directory!r} has the backups of {owner!r}, which are named as those of {path!r} would be;"
            " give each log an archive_dir or a name of its own"
        )


def living_handlers() -> list[SafeTimedRotatingFileHandler]:
    """The handlers of this process, for hooks that prepare it."""
    return list(_living)


def end_leases() -> None:
    """In a forked child: the first line of each handler takes the slow path, which notices the fork."""
    for handler in living_handlers():
        handler._file.expire_lease()


def watch_logs() -> None:
    """In a new worker: have the logs rolled, and their backups maintained, although this process may log nothing.

    Starts the maintenance thread if any handler has a limit for its backups, compresses them, or wants to be called
    for them.
    """
    for handler in living_handlers():
        handler._live.maintenance.start_watch()


os.register_at_fork(after_in_child=end_leases)
