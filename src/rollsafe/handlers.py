"""The handler: how one line gets into the file of its interval.

`handle` waits out the quiet moment of a boundary; `emit` makes the line and, while its lease lasts, writes it with
one write(2). Everything else is the long way, taken about once a second and at each boundary: renew the lease, roll
over, find the file of a late line, keep what cannot be written now.
"""

from __future__ import annotations

import datetime
import errno
import logging
import logging.handlers
import os
import re
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from io import FileIO
from math import inf
from typing import Any

from rollsafe._options import OPTIONS, Options
from rollsafe.arguments import checked_archive_dir, checked_path, decided_lock_writes
from rollsafe.bounded_lock import LockBusy
from rollsafe.codecs import Compress
from rollsafe.errors import ConfigurationError, LogFileError, NotOurs
from rollsafe.events import tell
from rollsafe.fragments import IN_PAGE
from rollsafe.late import LateFiles
from rollsafe.listing import directories_below
from rollsafe.maintenance import Maintenance
from rollsafe.names import EXTENSIONS, ROLLED_EXTENSION, Names, recognisers_of, spread_of
from rollsafe.open_file import NoRoom, OpenFile
from rollsafe.overrides import is_replaced, original
from rollsafe.ownership import claim, other_owner
from rollsafe.remedies import remedy_for
from rollsafe.rollover import NO_SPACE, Rollover, is_set
from rollsafe.schedule import Interval
from rollsafe.settings import UNNAMED, Settings
from rollsafe.shared import LiveFileMoved, NoPiece
from rollsafe.spill import Spill
from rollsafe.stamps import UNNUMBERED, Stamps, has_stamp
from rollsafe.streams import LogStream, raw_stream

# Lines that are written to a shared file while the lock is held once, at most.
LINES_PER_LOCK = 1000
# Seconds, and share of the interval at most. After a boundary nobody renames before this is over: lines in flight
# land under the live name, where log shippers still read (rsyslog and tail -F leave a file at its rename).
LINGER = 0.02
LINGER_SHARE = 0.02
# Seconds. The same between the mark that a file is full and its rename.
SIZE_LINGER = 0.02
# Seconds between attempts to write while writing fails, and bytes of lines that wait in memory meanwhile.
RETRY = 0.25
SPILL_BYTES = 1 << 20
# Reports at most that wait to become lines of the log.
_UNSEEN = 20
# Seconds that a record's clock may be ahead of ours and still make the rollover.
AHEAD = 1.0
# How often one line follows a shared live file that other hosts roll before it waits.
MOVES = 3
# How often one line is written again because it stands behind a fragment, before it begins with a newline.
GLUED = 3

# Our base class, even where an application replaces `logging.FileHandler` by this handler to have all its logs rotate.
_FileHandler = logging.FileHandler
# Stands for "no file is open": it never has a lease, and a write to it fails.
_NOWHERE = OpenFile(FileIO(os.devnull, "w"), (-1, -1), None)
_NOWHERE.stream.close()
_ACQUIRE = original(logging.Handler, "acquire")
_RELEASE = original(logging.Handler, "release")
_ROTATE = original(logging.handlers.BaseRotatingHandler, "rotate")
_monotonic = time.monotonic
_is_finalizing = sys.is_finalizing
_living: weakref.WeakSet[SafeTimedRotatingFileHandler] = weakref.WeakSet()


class SafeTimedRotatingFileHandler(logging.handlers.TimedRotatingFileHandler):
    """A `TimedRotatingFileHandler` for several processes that write one file.

    Every line is kept, whole, once, in the file of the interval that holds `record.created`. The parameters and the
    points to override are those of the standard class; these differ:

    - Intervals are aligned to the clock, not to the start of the process: seconds and minutes to the epoch; hours,
      days and weeks to the wall clock. `when="D"` is `when="MIDNIGHT"`.
    - Every write is one unbuffered write(2); `stream` is a raw file, which takes text too.
    - A custom `rotator` is called in a background thread of one process, some seconds after the rollover.
    - `errors` None writes what the encoding cannot express as backslash escapes rather than lose the line.

    Args:
        filename: The live file. Its directory must exist. `{hostname}` in it is replaced. A symbolic link is followed
            once, here. A path that is not a regular file (/dev/null, /dev/stdout, a FIFO) is written and never rolled.
        when: S, M, H, D, MIDNIGHT, or W0 (to Monday's end) to W6 (to Sunday's), in any case.
        interval: How many of `when` make one interval.
        backupCount: How many backups to keep; 0 keeps all. Each file counts, a further one of the same interval too.
        encoding: Of the file; None is the locale's.
        delay: Open the file at the first line.
        utc: Align and name in UTC; the same as `tz=datetime.timezone.utc`.
        atTime: When a day or week begins; a week then on its weekday itself. None is the midnight that ends the day.
        errors: As for `open`; None is "backslashreplace".
        tz: Zone to align and name in: a name such as "Europe/Paris" or a `tzinfo`; None is the process's local zone.
        maxBytes: Roll over before the live file grows larger, too: bytes, or text such as "100 MiB"; 0 is no bound.
        suffix: The strftime format of backup names; None is that of `when` in the standard library.
        archive_dir: Directory for the backups, on the same file system and mount, made if it is missing; None is that
            of the live file.
        compress: "gz", "zst" or "xz" to compress backups, in the background and in one process; or a callable
            (source_path, target_path) that does it, whose archives have its attribute `extension` (".archive" without).
        compress_level: The compression's own level; None is its usual one.
        on_rollover: Called with the path of each backup that is final (compressed, if it is to be) and its
            `rollsafe.schedule.Interval`, in the background in one process; again later if it raises.
        max_age: Keep no backup whose interval ended longer ago: a `timedelta`, or text such as "30 days".
        max_total_bytes: Keep the newest backups that together have so many bytes: a number, or text such as "2 GiB".
        min_free_bytes: Remove the oldest backups while less than this is free on the file system; as above.
        permissions: Mode of live file, backups and lock file, whatever the umask, such as 0o640; None keeps the live
            file's, and makes the first one by the umask.
        lock_writes: Write each line under the lock, so that several hosts can share the file; None does so on network
            and cluster file systems, which the mount table tells.

    Raises:
        ConfigurationError: An argument cannot work (a `ValueError`).
        LogFileError: The path cannot be logged to (also an `OSError`).
    """

    stream: Any
    lock: Any
    # Of the options those that the standard class does not have, and code of ours reads here.
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
    _path: str
    _maintenance: Maintenance

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
        self._schedule_of = options.schedule
        self._schedule = options.schedule(options.suffix)
        self._encoding, self._errors = options.line_codec()
        self._codec = options.codec()
        # An application may set any of them later, as those of the standard library: what is there when it is used
        # counts. Those that are told otherwise there (`interval` in seconds) follow below.
        for name in OPTIONS:
            setattr(self, name, getattr(options, name))
        path = checked_path(filename, options.delay)
        self.lock_writes = decided_lock_writes(options.lock_writes, path)
        self.archive_dir = checked_archive_dir(options.archive_dir, path)
        check_owner(self._backup_base_of(path), path, living_handlers())
        # Not TimedRotatingFileHandler.__init__: it opens the file as text and computes times that are ours to compute.
        _FileHandler.__init__(self, path, "a", encoding=encoding, delay=True, errors=errors)
        self.delay = options.delay
        self.when = self._schedule.when
        self.interval = int(self._schedule.length)
        self._interval_count = options.interval
        # Until the file is open, any line may be one that rolls over, and waits for the quiet moment.
        self.rolloverAt: float = -inf  # type: ignore[assignment]  # an int in the standard library
        self._extMatch: re.Pattern[str] | None = None
        self._file = _NOWHERE
        self._turn_to(self.baseFilename)
        self._late = LateFiles()
        self._spill = Spill(SPILL_BYTES)
        self._stamps: Stamps | None = None
        # Whose format `_stamps` fits.
        self._stamped: logging.Formatter | None = None
        self._pid = os.getpid()
        self._busy: tuple[int, int] | None = None
        self._rolling_at: float | None = None
        self._said: set[str] = set()
        # Whether `_open` is called by a step that masters its failure.
        self._opens = False
        # Reports that nobody can see where `logging` puts them.
        self._unseen: deque[str] = deque(maxlen=_UNSEEN)
        self._is_made = True
        self._heed_overrides()
        _living.add(self)
        if not options.delay:
            # A file left by an earlier run is rolled by the first record, when `namer` and `suffix` are set.
            try:
                self._attached()
            except OSError as error:
                # Lines wait for a FIFO's reader, and for room on a disk where the file could be opened.
                is_full = self.stream is not None and error.errno in NO_SPACE
                if not is_full and not (self._rollover.live.is_special and error.errno == errno.ENXIO):
                    raise LogFileError(f"filename={path!r} cannot be opened: {error}") from error

    @property
    def baseFilename(self) -> str:  # an attribute in the standard library
        """Full path of the live file; may be set, as in the standard library, and holds from the next opening on."""
        return self._path

    @baseFilename.setter
    def baseFilename(self, value: str | os.PathLike[str]) -> None:
        path = os.path.abspath(value)
        if self._is_made and path != self._path:
            self._turn_to(path)
        self._path = path

    def _turn_to(self, path: str) -> None:
        """Have all that is done with the live file and its backups done with those of `path`."""
        self._path = path
        self._backup_base = self._backup_base_of(path)
        left: Rollover | None = getattr(self, "_rollover", None)
        self._rollover = Rollover(
            path,
            self._interval_at,
            self._backup_path,
            lambda: self._maintenance.duties.rolled_extension(),
            self.permissions,
            lambda: self.settings().line(),
            self._names().extensions,
            self.lock_writes,
            self._last_number if self.maxBytes else None,
        )
        self._maintenance = Maintenance(self, self._codec, self._rollover.lock.path)
        self._file.expire_lease()
        if left is not None:
            left.close()

    def _backup_base_of(self, path: str) -> str:
        """What the full paths of the backups of a live file begin with."""
        return os.path.join(self.archive_dir or os.path.dirname(path), os.path.basename(path))

    # One line, the short way.

    def handle(self, record: logging.LogRecord) -> Any:
        """Filter and emit `record`; at a boundary, wait out the quiet moment first.

        The wait is here and not in `emit`, so that it is over before the handler's lock is taken: a thread with a
        line of the old interval writes it meanwhile.
        """
        # A call of what is there, as `format` below, because an application may replace it at any moment (`overrides`):
        # to look whether it is still ours costs as much.
        passed: Any = self.filter(record)
        if not passed:
            return passed
        if passed is not True and isinstance(passed, logging.LogRecord):
            record = passed
        try:
            if record.created >= self.rolloverAt:
                self._wait_for_quiet()
        except TypeError:
            # Made by hand (logging.makeLogRecord) with something else for a time.
            record.created = time.time()
        lock = self.lock
        if lock is None or self._locks_itself:
            self._emit_between_own_calls(record)
            return passed
        # `with` takes twice as long as the two calls. Both in the `try`: a signal handler that raises leaves no lock.
        try:
            lock.acquire()
            self.emit(record)
        finally:
            try:  # noqa: SIM105  # suppress() would double the price of the lock
                lock.release()
            except RuntimeError:
                # A formatter has forked: in the child `logging` has made the lock anew, and nobody holds it.
                pass
        return passed

    def _emit_between_own_calls(self, record: logging.LogRecord) -> None:
        """Emit `record` where the application has its own way to take the lock, or has taken the lock away."""
        self._own_lock()
        try:
            self.acquire()
            self.emit(record)
        finally:
            with suppress(RuntimeError):
                self.release()

    def emit(self, record: logging.LogRecord) -> None:
        """Write `record` as one line with one write(2). Never raises into the application."""
        if self.formatter is not self._stamped:
            self._heed_formatter()
        stamps = self._stamps
        stamp = ""
        try:
            if stamps is not None:
                record.stamp = stamp = stamps.take()
            line = (self.format(record) + self.terminator).encode(self._encoding, self._errors)
        except BaseException as error:
            if stamps is not None:
                stamps.give_back(stamp)
            if not isinstance(error, Exception):
                raise
            made = self._line_again(record)
            if made is None:
                return
            line = made
        self._append(line, record.created, record)
        if self._flushes:
            try:
                self.flush()
            except Exception:
                self.handleError(record)

    def _line_again(self, record: logging.LogRecord) -> bytes | None:
        """Make a line whose first making has failed; None if it fails again, which is reported.

        The first time it may have been interrupted by an exception that a signal handler has raised.
        """
        stamp = ""
        try:
            if self._stamps is not None:
                record.stamp = stamp = self._stamps.take()
            return (self.format(record) + self.terminator).encode(self._encoding, self._errors)
        except Exception as error:
            if self._stamps is not None:
                self._stamps.give_back(stamp)
            # What cannot be encoded was formatted.
            self.handleError(_without_arguments(record) if isinstance(error, UnicodeError) else record)
            return None

    def setFormatter(self, fmt: logging.Formatter | None) -> None:
        """Set the formatter. If its format has the field `stamp`, each line gets its stream and number there.

        See `rollsafe.stamps`; `rollsafe verify` finds out by them whether lines are missing.
        """
        super().setFormatter(fmt)
        self._heed_formatter()

    def _heed_formatter(self) -> None:
        """Number the lines if the present formatter wants that; an application may also set the attribute."""
        formatter = self.formatter
        self._stamps = Stamps() if has_stamp(formatter) else None
        self._stamped = formatter

    def _heed_overrides(self) -> None:
        """Look whether `acquire`, `release` and `flush` have to be called for each line, as in the standard library.

        Ours have nothing to add. They decide about no text and are worth no look at each line: it is done with each
        lease, so one that is replaced later is called within a second.
        """
        self._locks_itself = is_replaced(self, "acquire", _ACQUIRE) or is_replaced(self, "release", _RELEASE)
        self._flushes = self._replaces("flush")

    def _replaces(self, name: str) -> bool:
        """Whether the application has a method of its own in the place of one of ours."""
        return is_replaced(self, name, _OURS[name])

    def _own_lock(self) -> Any:
        """The lock between threads; made where the application has none, as two threads without one lose lines."""
        if self.lock is None:
            logging.Handler.createLock(self)
        return self.lock

    def write_line(self, text: str, created: float) -> None:
        """Write `text` as the line of a moment: what `handle` does, without a record, a filter or a formatter.

        For callers that make whole lines themselves and have looked that nobody else wants the record. Never raises
        into the application.

        Args:
            text: The line without its end; what is in it is not escaped.
            created: Its moment, which decides about the file; seconds since the epoch.
        """
        if created >= self.rolloverAt:
            self._wait_for_quiet()
        with self._own_lock():
            try:
                line = (text + self.terminator).encode(self._encoding, self._errors)
            except Exception:
                self.handleError(_record_of_ours(text))
                return
            self._append(line, created, None)

    def _append(self, line: bytes, created: float, record: logging.LogRecord | None) -> None:
        """Write `line` with one write(2) while the lease lasts, else the long way; None where no record was made."""
        # One reference: a signal handler that logs may roll over between any two of the next steps.
        file = self._file
        written = None
        try:
            if file.start <= created < file.lease_expires:
                # Not called where they are looked up: CPython 3.11 has no fast way to call what is in a slot.
                write, tell = file.write, file.tell
                written = write(line)
                # A line that begins with a page may stand behind a fragment (see IN_PAGE), and is looked at.
                if written != len(line):
                    file.expire_lease()
                elif (tell() - written) & IN_PAGE and _monotonic() < file.recheck_after:
                    return
        except BaseException as error:
            # An OSError of the write, the ValueError of a file that a signal handler has closed (gunicorn's USR1), or
            # anything that a signal handler has raised, before the write or after it. The next line looks what stands
            # before it.
            file.expire_lease()
            if not isinstance(error, Exception):
                raise
            refused = isinstance(error, NoRoom) or (isinstance(error, OSError) and error.errno is not None)
            if written is None and not refused and file.has_written(line):
                written = len(line)
        if record is None:
            record = _record_of_ours(line.decode(self._encoding, "replace").removesuffix(self.terminator))
            record.created = created
        self._emit_slowly(record, line, file, written)

    # The long way.

    def _emit_slowly(self, record: logging.LogRecord, line: bytes, file: OpenFile, written: int | None) -> None:
        """Look at what became of a line that is written, or queue one that is not; then write all that is queued."""
        if _is_finalizing():
            if written != len(line):
                self._spill.add(line, record.created)
            self._write_waiting(record)
            return
        self._check_pid()
        me = (os.getpid(), threading.get_ident())
        # A signal handler that logs inside the long way only queues: the interrupted emit writes its line.
        nested = self._busy == me
        self._busy = me
        waits = False
        try:
            rest = line if written is None else self._unwritten(file, line, written)
            if rest or not self._is_kept(file) or self._blank_if_glued(file, line):
                waits = self._queue(rest or line, record.created)
        except BaseException as error:
            # A namer of the application; or a signal handler, which may have raised before the line was queued.
            if not self._spill.holds(line) and not (written is not None and file.has_written(line)):
                waits = self._queue(line, record.created)
            if not isinstance(error, Exception):
                self._file.expire_lease()
                raise
            self.handleError(_without_arguments(record))
        finally:
            if not nested:
                self._busy = None
        if not nested:
            self._write_waiting(record)
        if waits and self._spill.failing:
            tell("spilled", self.baseFilename)

    def _queue(self, line: bytes, created: float) -> bool:
        """Have a line wait to be written; False if it does not fit."""
        if self._spill.add(line, created):
            return True
        tell("dropped", self.baseFilename)
        return False

    def _write_waiting(self, record: logging.LogRecord, *, now: bool = False) -> None:
        """Renew the lease and write what waits, unless that failed just now; then only if it has to be `now`."""
        if _is_finalizing():
            self._write_at_the_end(record)
            return
        moves = 0
        refused: object = None
        interruption: Exception | None = None
        while self._spill.waits and (now or not self._spill.failing or _monotonic() >= self._spill.retry_at):
            self._busy = (os.getpid(), threading.get_ident())
            try:
                self._renew(record)
                self._queue_reports()
                self._write_spill()
            except Exception as error:
                # Closed under us is no outage (uWSGI's spooler was seen to do it): the path is opened again at once.
                moved = isinstance(error, LiveFileMoved) or (self._file is not _NOWHERE and not self._file.is_open())
                # Nor is what a signal handler raises.
                if not isinstance(error, OSError | LiveFileMoved | LockBusy | NoPiece | NoRoom):
                    interruption = error
                if isinstance(error, OSError) and error.errno == errno.EFBIG:
                    # Goes on as long as it is another file that is full, or another line that waits.
                    before, refused = refused, (self._rollover.file_limit.reached, tuple(self._spill.lines)[:1])
                    if refused != before:
                        continue
                moves += 1
                if moves > MOVES or not (moved or interruption is error):
                    self._fail(record)
                    return
                if moved:
                    self._detach()
            except BaseException:
                # What waits is written with the next line.
                self._file.expire_lease()
                raise
            finally:
                # Until here a signal handler may have queued a line: hence the loop.
                self._busy = None
        if interruption is not None:
            self._report(f"an exception interrupted the writing of lines to {self.baseFilename}", interruption)

    def _write_at_the_end(self, record: logging.LogRecord) -> None:
        """Append what waits to the live file, whatever its interval, while the interpreter ends.

        A line that is logged in `__del__` then cannot go the slow way: modules cannot be imported, time zones are taken
        apart (SIGSEGV was seen), and a daemon thread may stand still for good while it holds a lock in memory.
        """
        try:
            while self._spill.lines:
                entry = self._spill.lines[0]
                self._rollover.append_at_the_end(entry[0])
                self._spill.remove(entry)
        except Exception:
            self.handleError(_without_arguments(record))

    def _renew(self, record: logging.LogRecord) -> None:
        """See to it that the file that the path names is open, of the right interval for `record`, and leased."""
        self._rollover.lock.retry()
        self._heed_overrides()
        self._late.close_forgotten()
        # Not only of `record`: a signal handler or another thread may have queued a line of a later interval.
        asks = True
        # More than one round where another worker has rolled, and its file is over too.
        for _ in range(3):
            now, tick = time.time(), _monotonic()
            file = self._attached()
            if file.interval is None:
                file.grant_lease(now, tick, inf)
                return
            if not self._rollover.live.is_live(file):
                if not self._follow(file):
                    # A backup by now, which may be archived at any moment: each line is checked.
                    file.end_lease()
                    return
                continue
            newest = -inf if self._asks_for_each_line() else self._spill.newest(now + AHEAD)
            # A live file of the future was made while the clock was ahead; unless now is before the clock was set.
            ahead = file.start > now + AHEAD and is_set(now)
            over = (asks and self.shouldRollover(record)) or newest >= file.end or ahead
            rolls = over or self._lacks_room(file)
            if rolls and self._rollover.is_backing_off(file, tick):
                file.bind(inf, self.baseFilename)
                file.grant_lease(now, tick, inf)
                return
            if rolls:
                if over:
                    # Also for who has not come through `handle`.
                    self._wait_for_quiet()
                elif not self._rollover.file_limit.is_reached_by(file):
                    self._close_for_size(file)
                asks = not self._asks_for_each_line()
                self._rolling_at = max(now, _believed(record.created, now), newest)
                try:
                    self.doRollover()
                finally:
                    self._rolling_at = None
                if self._file is file and self.stream is file.stream:
                    # Refused or busy: lines go on into the file that there is, and a later lease tries again.
                    file.bind(inf, self.baseFilename)
                    file.grant_lease(now, tick, inf)
                    return
            else:
                self._maintenance.leased()
                file.blank_left()
                file.bind(self.maxBytes or inf, self.baseFilename)
                file.grant_lease(now, tick, -inf if self._asks_for_each_line() else file.end)
                return
        self._attached().bind(self.maxBytes or inf, self.baseFilename)

    def _lacks_room(self, file: OpenFile) -> bool:
        """Whether the live file is full, or the line that waits first would make it too large."""
        if self._rollover.file_limit.is_reached_by(file):
            return True
        if not self.maxBytes:
            return False
        more = len(self._spill.lines[0][0]) if self._spill.lines else 0
        return not file.has_room(more, self.maxBytes)

    def _close_for_size(self, file: OpenFile) -> None:
        """Have the lines that other workers are writing land under the live name, where log shippers still read."""
        if not file.shared:
            file.mark_full()
            time.sleep(SIZE_LINGER)

    def _attached(self) -> OpenFile:
        """The live file as this process has it open; opened now if it is not, or taken over from `stream`."""
        self._drop_if_taken()
        if self.stream is None or self.stream.closed:
            self.stream = self._open_or_raise()
        if self.stream is not self._file.stream:
            # What has no descriptor (io.StringIO) is no file to be logged to.
            self.stream = raw_stream(self.stream) or self._open_or_raise()
            if isinstance(self.stream, LogStream):
                self.stream.serve(self, self._encoding, self._errors)
                self.stream.adopted = True
            left, self._file = self._file, _NOWHERE
            self._leave(left)
            file = self._rollover.open(time.time(), self.stream)
            end = file.end
            # Both or none, should a signal handler raise.
            self._file, self.rolloverAt = file, end
            self._register()
        return self._file

    def _drop_if_taken(self) -> None:
        """Turn from the open file if other code has closed its descriptor (a daemon closes all that it inherits).

        The number may mean another file by now, of which nothing is ours to write or to close. This is asked at each
        renewal of the lease, so what was written since the last one may have gone there.
        """
        file = self._file
        if self.stream is not file.stream or file.stream.closed or file.is_open():
            return
        number, taken = file.stream.fileno(), file.is_taken()
        self._detach()
        if taken:
            self._report(
                f"descriptor {number} of {self.baseFilename} was closed by other code, and is another file now; lines"
                " of the last second may be in that file. Let that code close no descriptor that it has not opened",
                None,
            )

    def _follow(self, file: OpenFile) -> bool:
        """Turn from `file`, which the path does not name any more, to what it names now.

        False where that cannot be opened (a directory or a link is there) while `file` still has another name: then
        lines go on into `file`, and that is said once.
        """
        try:
            stream = self._open_or_raise()
        except OSError as error:
            if not file.has_name():
                raise
            self._say_once("the reopening", error)
            return False
        self._detach()
        self.stream = stream
        self._maintenance.rolled_by_another()
        return True

    def _detach(self) -> None:
        """Turn away from the open file; it stays open a while for late lines."""
        file, self._file = self._file, _NOWHERE
        stray, self.stream = self.stream, None
        if stray is not None and stray is not file.stream:
            stray.close()
        self._leave(file)

    def _leave(self, file: OpenFile) -> None:
        """Keep what was the live file, or close it if it was never leased.

        Then it may have been rolled before its interval was asked for, and have been taken for another interval's.
        """
        if file.was_leased() and not file.shared:
            self._late.leave(file)
        else:
            file.close()

    def _write_spill(self) -> None:
        """Write what waits, oldest first; an error leaves the rest waiting."""
        spill = self._spill
        first = True
        while spill.lines:
            if not first and not self._file.fits(len(spill.lines[0][0])):
                # The rest after one more rollover.
                return
            first = False
            if self._file.shared:
                self._append_waiting()
                continue
            self._place_first()
        if spill.dropped:
            dropped = spill.dropped
            line = self._dropped_line(dropped)
            if self._file.shared:
                if not self._append_shared([line], None):
                    raise OSError(errno.ENOSPC, "the count of dropped lines was not written", self.baseFilename)
            else:
                spill.put_first(line, time.time())
                spill.dropped -= dropped
                self._place_first()
        spill.recovered()

    def _place_first(self) -> None:
        """Write the line that waits first into the file of its interval; it waits on unless it is there.

        Raises:
            OSError: It could not be written, or not wholly.
        """
        spill = self._spill
        entry = spill.lines[0]
        line, created = entry
        file = self._file_of(created)
        end = self._line_end()
        text, before = line, file.end_of_written()
        try:
            # The last time it begins on a new line by itself, whatever another program is writing without newlines.
            for start in (*[b""] * GLUED, end):
                file.blank_left()
                # Twice, because only the write after one that was cut short tells why: a full disk, or a full file.
                for _ in range(2):
                    text, before = (end if file.ends_in_fragment else start) + line, file.end_of_written()
                    # Room was made, if it could be.
                    written = file.append(text) if self.maxBytes else file.write(text)
                    rest = self._unwritten(file, text, written)
                    if not rest or file.interval is None:
                        break
                if rest:
                    if file.interval is None:
                        spill.remove(entry)
                        spill.put_first(rest, created)
                    raise OSError(errno.ENOSPC, f"only {written} of {len(text)} bytes were written", self.baseFilename)
                kept = self._is_kept(file)
                if not kept or not self._blank_if_glued(file, line):
                    break
            if kept:
                spill.remove(entry)
        except BaseException as error:
            # The application was told that it is logged: what a signal handler raises must not take it along, nor
            # have it written twice. It may come before the write(2) or after it.
            if isinstance(error, OSError) and error.errno == errno.EFBIG:
                # The next one goes to another file.
                self._rollover.file_limit.record(file.stream, line)
                self._late.discard(file)
                self._drop_if_too_long(error)
            elif file.has_written(text, before):
                spill.remove(entry)
            raise
        if not kept:
            self._discard(file)

    def _drop_if_too_long(self, error: OSError) -> None:
        """Drop and count the line that waits first if it is longer than any file may be, as it would stop the rest."""
        entry, limit = self._spill.lines[0], self._rollover.file_limit.limit
        if 0 < limit < len(entry[0]):
            self._spill.remove(entry)
            self._spill.dropped += 1
            tell("dropped", self.baseFilename)
            self._say_once(f"a line of {len(entry[0])} bytes, with a limit of {limit} for a file,", error)

    def _discard(self, file: OpenFile) -> None:
        """Turn for good from a file that does not keep what is written into it."""
        if file is self._file:
            self._detach()
        self._late.discard(file)
        self._attached()

    def _append_waiting(self) -> None:
        """Write the oldest lines that wait, as many as belong to one file: the lock is what takes the time.

        Raises:
            LiveFileMoved: The path names another file by now.
            LockBusy: The lock was not free within the bound.
            OSError: Not all could be written.
        """
        spill = self._spill
        start, end, most = self._file.start, inf, LINES_PER_LOCK
        late = None
        if spill.lines[0][1] < start:
            try:
                late = self._interval_at(spill.lines[0][1])
                start, end = late.start, late.end
            except Exception as error:
                self._say_once("a late line", error)
                start, most = -inf, 1
        entries: list[tuple[bytes, float]] = []
        # Of a copy, because a signal handler that logs adds to them. The first in any case: its time may be no number.
        for entry in tuple(spill.lines):
            if len(entries) == most or (entries and not start <= entry[1] < end):
                break
            entries.append(entry)
        self._rollover.shared_file.appended = written = 0
        try:
            written = self._append_shared([line for line, _ in entries], late)
            spill.remove_all(entries[:written])
        except BaseException as error:
            # Not by what was returned: a signal handler may have raised just then.
            spill.remove_all(entries[: self._rollover.shared_file.appended])
            if isinstance(error, OSError) and error.errno == errno.EFBIG and spill.lines:
                self._drop_if_too_long(error)
            raise
        if written < len(entries):
            raise OSError(errno.ENOSPC, f"only {written} of {len(entries)} lines were written", self.baseFilename)

    def _append_shared(self, lines: list[bytes], late: Interval | None) -> int:
        """Write `lines` to the shared live file, or to a backup of the interval `late`; how many are there wholly.

        Where there can be no such backup, they go to the live file, as late lines do without the lock.
        """
        if late is not None:
            try:
                return self._rollover.shared_file.append_late(late, lines, self._line_end())
            except NoPiece as error:
                self._say_once("a late line", error)
        return self._rollover.shared_file.append(self._file, lines, self._line_end())

    def _file_of(self, created: float) -> OpenFile:
        """The open file for a record of `created`: the live one, one kept for late lines, or a piece opened now."""
        live = self._file
        if live.holds(created):
            return live
        kept = self._late.find(created)
        if kept is not None:
            return kept
        if created < live.start:
            try:
                piece = self._rollover.open_piece(self._interval_at(created))
            except Exception as error:
                self._say_once("a late line", error)
            else:
                self._late.keep(piece)
                self._maintenance.opened_part()
                return piece
        return live

    def _unwritten(self, file: OpenFile, line: bytes, written: int | None) -> bytes:
        """What of `line` is yet to be written: nothing, or all of it, because a fragment is blanked."""
        while file.interval is None and written is not None and written < len(line):
            # A pipe or terminal takes a long line in parts (write(2), EINTR), and nobody else's line is at stake.
            line = line[written:]
            try:
                written = file.write(line)
            except OSError:
                written = None
        if written == len(line):
            file.was_completed()
            return b""
        file.expire_lease()
        if written:
            file.was_cut_short(line[:written], self._line_end())
        return line

    def _line_end(self) -> bytes:
        """The bytes that end each line of ours."""
        return self.terminator.encode(self._encoding, self._errors)

    def _blank_if_glued(self, file: OpenFile, line: bytes) -> bool:
        """Blank a line that is written if it stands behind a fragment; whether it did, and is to be written again.

        Where our own lines do not end in a newline, there is no telling a fragment from a line.
        """
        end = self._line_end()
        if file.interval is None or file.stream.closed or not end.endswith(b"\n"):
            return False
        start = file.glued_at(line)
        if start is None:
            return False
        file.expire_lease()
        file.blank(start, line, end)
        return not file.has(start, line)

    def _is_kept(self, file: OpenFile) -> bool:
        """Whether the line that is written last stays: False when its file was removed, and it must be written again.

        That is asked where its writer was held off its processor for longer than the lease, or the clock set back. A
        file that a signal handler has closed since (gunicorn's USR1) cannot be looked at any more. Where the lock is
        busy for too long to ask, the line is written again: twice is better than not at all.
        """
        if file.interval is None or file.stream.closed or _monotonic() < file.recheck_after:
            return True
        file.expire_lease()
        return self._rollover.has_kept(file, file.end_of_written()) is True

    # Rollover.

    def computeRollover(self, currentTime: float) -> float:  # type: ignore[override]  # an int in the standard library
        """The end of the interval that holds `currentTime`; seconds since the epoch, as `currentTime`."""
        return self._schedule.interval(currentTime).end

    def shouldRollover(self, record: logging.LogRecord) -> bool:
        """Whether `record` belongs to a later interval than the open file.

        Asked at each renewal of the lease; a subclass that overrides it is asked for each record. None, which the
        standard class takes too, asks whether the interval of the open file is over now.
        """
        now = time.time()
        return _believed(getattr(record, "created", now), now) >= self.rolloverAt

    def doRollover(self) -> None:
        """Give the live file its backup name now, unless another process has just done so, and open the new one.

        Where the rename or the lock is refused, the open file goes on being used, and that is said once.
        """
        file = self._attached()
        if file.interval is None:
            return
        now = time.time() if self._rolling_at is None else self._rolling_at
        interruption: Exception | None = None
        try:
            backup = self._rollover.roll(file, now)
        except Exception as error:  # a namer may raise anything
            # What is not ours was refused before anything was renamed, and the path leads elsewhere then.
            if isinstance(error, NotOurs) or self._rollover.live.is_live(file):
                self._say_once("the rollover", error)
                return
            # A signal handler has raised after the rename.
            backup, interruption = None, error
        if backup is not None:
            tell("rollovers", self.baseFilename)
        self._said.clear()
        self._detach()
        try:
            self._attached()
        finally:
            # Above all on a full disk, where the new file cannot be opened before old backups are removed.
            if backup is not None:
                self._maintenance.rolled()
            else:
                self._maintenance.rolled_by_another()
        if interruption is not None:
            self._report(f"an exception interrupted the rollover of {self.baseFilename}, which was done", interruption)

    def getFilesToDelete(self) -> list[str]:
        """Full paths of the backups that exceed `backupCount`, `max_age` and the like, oldest first.

        Only files whose names this handler makes, or one like it with another `when` and the default suffix.
        """
        return self._maintenance.expired()

    @property
    def suffix(self) -> str:
        """The strftime format of backup names; may be set, as in the standard library."""
        return self._schedule.suffix_format

    @suffix.setter
    def suffix(self, value: str) -> None:
        if not self._is_made:
            # Set by a subclass before `__init__`, which decides, as in the standard library.
            return
        self._schedule = self._schedule_of(value)
        if self._file.interval is not None:
            self._file.interval = self._interval_at(self._file.interval.start)

    @property
    def extMatch(self) -> re.Pattern[str]:
        """What finds the suffix in a file name; may be set, as in the standard library, with a `namer` of one's own."""
        return self._extMatch or self._names().suffix_pattern

    @extMatch.setter
    def extMatch(self, value: re.Pattern[str]) -> None:
        self._extMatch = value

    def _wait_for_quiet(self) -> None:
        """Sleep to the end of the quiet moment after the boundary that is just past, if it is not over.

        It goes by our clock alone: a record that is ahead of it has no quiet moment to wait for.
        """
        if _is_finalizing():
            return
        now = time.time()
        linger = min(LINGER, LINGER_SHARE * self._schedule.length)
        try:
            left = self._interval_at(now).start + linger - now
        except Exception:  # an overridden computeRollover may raise anything; the rollover will report it
            return
        if left > 0:
            time.sleep(left)

    def _interval_at(self, instant: float) -> Interval:
        """The interval that holds `instant`, by the schedule or by an overridden `computeRollover`."""
        if not self._replaces("computeRollover"):
            return self._schedule.interval(instant)
        end = self.computeRollover(instant)
        start = min(end - self.interval, instant)
        return Interval(start, end, self._schedule.interval(start).suffix, 0)

    def settings(self) -> Settings:
        """What the lock file says of this handler."""
        codec = self._codec
        options = {name: getattr(self, name) for name in OPTIONS}
        options |= {"interval": self._interval_count, "suffix": self._schedule.own_suffix}
        options |= {"encoding": self._encoding, "compress": codec}
        settings = Settings.of(
            options,
            namer=callable(self.namer),
            extension=codec.extension if codec and codec.extension not in EXTENSIONS else "",
        )
        return replace(settings, tz=UNNAMED) if self._replaces("computeRollover") else settings

    def _asks_for_each_line(self) -> bool:
        """Whether the application decides about rollover by record."""
        return self._replaces("shouldRollover")

    def _names(self) -> Names:
        """The backup names as the attributes that make them stand now."""
        return Names(
            self._backup_base,
            self._schedule,
            namer=self._named,
            extMatch=self._extMatch,
            extension=self._codec.extension if self._codec else "",
        )

    def _last_number(self, suffix: str) -> int:
        """The highest sequence number of a backup of this suffix, -1 if there is none."""
        names = self._names()
        entries = os.listdir(os.path.dirname(names.path(suffix)))
        pending = (name.removesuffix(ROLLED_EXTENSION) for name in entries if suffix in name)
        backups = (backup for name in pending if (backup := names.parse(name)) and backup.suffix == suffix)
        return max((backup.sequence for backup in backups), default=-1)

    def _backup_path(self, suffix: str, sequence: int) -> str:
        """Full path of one backup."""
        return self._names().path(suffix, sequence)

    def _named(self, default: str) -> str:
        """What the application calls a backup, in full: a relative name is one in the working directory of now."""
        path = self.rotation_filename(default)
        return os.path.abspath(path) if isinstance(path, str | os.PathLike) else path

    def _backup_directories(self) -> list[str]:
        """Where backups are: first where they go now, then those of other dates, if a namer has one for each."""
        suffix = self._interval_at(time.time()).suffix
        now = os.path.dirname(self._backup_path(suffix, 0))
        root, levels = spread_of(now, os.path.dirname(self._backup_base), suffix)
        if not levels:
            return [now]
        others = [directory for directory in directories_below(root, levels) if directory != now]
        return [now, *others] if os.path.isdir(now) or not others else others

    def _backup_owner(self) -> str | None:
        """The other log to which the backups belong by now, None as long as they are ours; see `ownership`."""
        return other_owner(os.path.dirname(self._backup_base), self.baseFilename)

    def _removes_more(self) -> bool:
        """Whether the application decides itself about what is to go."""
        return self._replaces("getFilesToDelete")

    def _rotates_more(self) -> bool:
        """Whether the application does more than rename a file that was rolled."""
        return is_replaced(self, "rotate", _ROTATE)

    def _let_go(self) -> bool:
        """Close what is open of files that were rolled, should no line come that would; whether a file is open still.

        Called by another thread, which waits for nothing.
        """
        lock = self.lock
        if lock is None or not lock.acquire(blocking=False):
            return True
        try:
            if self._busy is None:
                self._check_pid()
                if self._file.interval is not None and not self._rollover.live.is_live(self._file):
                    self._detach()
                    self._maintenance.rolled_by_another()
                self._late.close_forgotten()
            return self._file.interval is not None or any(self._late)
        finally:
            lock.release()

    def _recognisers(self) -> list[Names]:
        """What tells the backups of this handler, and of one with another `when`, by their names."""
        return recognisers_of(
            self._names(),
            self._backup_base,
            datetime.timezone.utc if self.utc else self.tz,
            namer=self._named,
            extension=self._codec.extension if self._codec else "",
        )

    # Open, close, fork.

    def _open(self) -> FileIO | None:  # type: ignore[override]  # a text file in the standard library
        """Open the live file for appending, unbuffered.

        gunicorn's USR1 calls it, and an exception would end the arbiter. So a refusal is left to the next line, which
        reports it, and there is no stream until then, as with `delay`; a closed one would end the next worker, of which
        gunicorn asks the descriptor.
        """
        try:
            stream = self._rollover.live.open_stream()
        except OSError:
            if self._opens:
                raise
            return None
        stream.serve(self, self._encoding, self._errors)
        return stream

    def write_text(self, stream: LogStream, text: bytes) -> bool:
        """Write text that was handed to `stream`, as it is; for `LogStream` alone.

        False while `stream` is being opened: a header that an overridden `_open` writes goes straight into that file.
        """
        assert self.lock is not None
        with self.lock:
            if not stream.adopted and (self._opens or stream is not self.stream):
                return False
            self._append(text, time.time(), None)
            return True

    def _open_or_raise(self) -> FileIO | None:
        """What `_open` gives, or the error of it."""
        self._opens = True
        try:
            return self._open()
        finally:
            self._opens = False

    def close(self) -> None:
        """Write what waits, and close the files. A later record opens them again, as gunicorn's USR1 expects.

        In the middle of the long way (called by a signal handler) nothing is closed but the lease ends.
        """
        with self._own_lock():
            self._file.expire_lease()
            if self._busy == (os.getpid(), threading.get_ident()):
                return
            self.flush()
            if self._spill.waits:
                waiting = f"{len(self._spill.lines) + self._spill.dropped} lines for {self.baseFilename}"
                self._report(f"{waiting} still wait in memory, and are lost if the process ends now", None)
            self._drop_if_taken()
            self._file.blank_left()  # before the base class closes it
            self._file = _NOWHERE
            self._late.close()
            self._maintenance.closed()
            self._rollover.close()
            try:
                super().close()
            except OSError as error:
                self._report(f"{self.baseFilename} could not be closed", error)

    def flush(self) -> None:
        """Try to write what waits; nothing else is ever held back."""
        with self._own_lock():
            self._check_pid()
            if self._busy is None:
                self._flush_stream()
                self._queue_reports()
                self._write_waiting(_record_of_ours("rollsafe could not write the lines that wait"), now=True)

    def _flush_stream(self) -> None:
        """Write the text that waits in `stream` for the end of its line, or in a text file that was assigned to it."""
        stream = self.stream
        if stream is None or stream.closed:
            return
        try:
            stream.flush()
        except Exception as error:
            if stream.closed:
                # A signal handler that closes the handler (gunicorn's USR1) came in between, and has flushed it.
                return
            self._report(f"text that was written to the stream of {self.baseFilename} is lost", error)

    def hand_over(self, uid: int, gid: int) -> None:
        """Give the live file and the lock file to the user that the workers will be; only root may.

        A rollover keeps the owner of the live file. What is never rolled is left alone.

        Raises:
            OSError: The owner could not be changed.
        """
        with self._own_lock():
            file = self._attached()
            if file.interval is not None:
                self._rollover.live.hand_over(file, uid, gid)

    def _check_pid(self) -> None:
        """After a fork: what waited in the parent is the parent's to write."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._busy = None
            self._spill = Spill(SPILL_BYTES)
            self._unseen.clear()
            if isinstance(self.stream, LogStream):
                self.stream.forked()
            if self._file.interval is not None:
                # Our own description of the live file: the offset of an inherited one is not only ours.
                self._detach()

    def _register(self) -> None:
        """Undo what `close` did to the registry of `logging`, unless a newer handler has the name."""
        self._closed = False
        if self.name:
            logging._handlers.setdefault(self.name, self)  # type: ignore[attr-defined]  # no public way back

    # What cannot be done now.

    def _fail(self, record: logging.LogRecord) -> None:
        """Writing failed: keep the lines, try again later, say it once."""
        self._file.expire_lease()
        self._spill.retry_at = _monotonic() + RETRY
        if not self._spill.failing:
            self._spill.failing = True
            self.handleError(_without_arguments(record))

    def _say_once(self, what: str, error: Exception) -> None:
        """Report that `what` was refused, once until a rollover works again."""
        if what not in self._said:
            self._said.add(what)
            sentence = f"{what} of {self.baseFilename} was refused; lines go on into the open file"
            remedy = remedy_for(error)
            self._report(f"{sentence}; {remedy}" if remedy else sentence, error)

    def _report(self, sentence: str, error: BaseException | None) -> None:
        """Hand what belongs to no record of the application to `handleError`, as the exception being handled.

        A daemon's standard error is /dev/null. There a report becomes a line of the log, as long as it can be written.
        """
        if isinstance(error, SystemExit):
            error = RuntimeError(f"sys.exit({error.code!r}) was called")
        try:
            raise error or RuntimeError(sentence)
        except Exception:
            self.handleError(_record_of_ours(sentence))
        # Asked of the instance, which may have one of its own too.
        if getattr(self.handleError, "__func__", None) is logging.Handler.handleError and _is_nowhere(sys.stderr):
            self._unseen.append(f"{sentence}: {error}" if error else sentence)

    def _queue_reports(self) -> None:
        """Have the reports that nobody could see written as lines; they may be a background thread's."""
        while self._unseen:
            self._spill.add(self._line_of_ours(self._unseen.popleft()), time.time())

    def _dropped_line(self, dropped: int) -> bytes:
        """The line that tells how many lines did not fit the spill."""
        return self._line_of_ours(f"{dropped} lines were dropped because the log could not be written")

    def _line_of_ours(self, message: str) -> bytes:
        """What the handler itself has to say, as a line of the log."""
        record = _record_of_ours(f"rollsafe: {message}")
        record.stamp = UNNUMBERED
        try:
            text = self.format(record)
        except Exception:  # a format may need what only the application's records have
            text = record.getMessage()
        return (text + self.terminator).encode(self._encoding, self._errors)


# To compare with, by identity.
_OURS = {
    name: vars(SafeTimedRotatingFileHandler)[name]
    for name in ("computeRollover", "flush", "getFilesToDelete", "shouldRollover")
}


def check_owner(backup_base: str, path: str, others: Iterable[SafeTimedRotatingFileHandler]) -> None:
    """Raise ConfigurationError if another log than `path` has backups that are named as its own will be.

    Args:
        backup_base: The path of the backups without suffix.
        path: The live file.
        others: The handlers of this process.
    """
    directory = os.path.dirname(backup_base)
    owners = (other.baseFilename for other in others if other._backup_base == backup_base)
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
    """In a forked child: the first line of each handler goes the long way, which notices the fork."""
    for handler in living_handlers():
        handler._file.expire_lease()


os.register_at_fork(after_in_child=end_leases)


def _believed(created: float, now: float) -> float:
    """The time of a record as far as it decides about a rollover: ours where its clock is too far ahead, or wrong.

    A record of another clock, or one whose time is in milliseconds, rolls nothing over before its time.
    """
    return created if created <= now + AHEAD else now


def _without_arguments(record: logging.LogRecord) -> logging.LogRecord:
    """What is reported of a record that was formatted and cannot be written: its text.

    `handleError` prints the arguments, and those of gunicorn's access line are all headers of the request.
    """
    # Not by `copy`, which imports, and so fails for a line that is logged while the interpreter ends.
    reported = logging.makeLogRecord(record.__dict__)
    try:
        reported.msg = record.getMessage()
    except Exception:  # its formatter may know better
        reported.msg = str(record.msg)
    reported.args = None
    return reported


def _record_of_ours(message: str) -> logging.LogRecord:
    """A record that the handler itself has to say."""
    return logging.LogRecord("rollsafe", logging.WARNING, __file__, 0, message, None, None)


def _is_nowhere(stream: Any) -> bool:
    """Whether what is written to a standard stream is seen by nobody, as that of a daemon."""
    try:
        return stream is None or os.path.samestat(os.fstat(stream.fileno()), os.stat(os.devnull))
    except (AttributeError, OSError, ValueError):
        # Something else stands in for it (a test's capture, a GUI's window).
        return False
