"""The live file as a process has it open, and the change from one live file to the next.

Only `LiveFile` assigns the handler's open file, its `stream` and its `rolloverAt`, always together.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from io import FileIO
from math import inf
from typing import Any, Protocol

from rollsafe._backups.codecs import Codec
from rollsafe._backups.duties import Maintained
from rollsafe._backups.maintenance import Maintenance
from rollsafe._backups.naming import BackupNaming
from rollsafe._lines.encoder import LineEncoder
from rollsafe._live.bounded_lock import LockBusy
from rollsafe._live.events import count_event
from rollsafe._live.late import LateFile
from rollsafe._live.open_file import NOWHERE, OpenFile
from rollsafe._live.rollover import Rollover
from rollsafe._live.shared import LiveFileMoved
from rollsafe._live.streams import LogStream, raw_stream
from rollsafe._reports import Reports
from rollsafe._settings import Settings
from rollsafe.errors import NotOurs

_monotonic = time.monotonic


class Opening(Maintained, Protocol):
    """The part of a handler that its live file uses."""

    stream: Any
    lock: Any
    maxBytes: int
    permissions: int | None
    rolloverAt: float  # the standard library's name
    _file: OpenFile

    @property
    def baseFilename(self) -> str:
        """The path of the live file."""

    def settings(self) -> Settings:
        """The settings of the handler as the lock file has them."""

    def _open(self) -> FileIO | None:
        """Open the live file; an application may override it."""

    def _register(self) -> None:
        """Enter the handler into the registry of `logging` again, after `close`."""

    def write_text(self, stream: LogStream, text: bytes) -> bool:
        """Write text that was written to `stream`."""


class LiveFile:
    """The live file of one handler.

    Args:
        handler: The handler that writes the file.
        encoder: Its encoding and error handler apply to text that is written to `stream`, too.
        naming: The names of the backups.
        codec: The compression of backups, None if they are not compressed.
        reports: Reports refused steps.

    Attributes:
        rollover: The steps under the lock of this file.
        maintenance: The work on its backups.
        late: The file of a former interval that is still open.
        is_opening: Whether a step is calling the handler's `_open`, and handles its failure.
    """

    rollover: Rollover
    maintenance: Maintenance

    def __init__(
        self, handler: Opening, encoder: LineEncoder, naming: BackupNaming, codec: Codec | None, reports: Reports
    ) -> None:
        self.late = LateFile()
        self.is_opening = False
        self._handler = handler
        self._encoder = encoder
        self._naming = naming
        self._codec = codec
        self._reports = reports

    def set_path(self, path: str) -> None:
        """Use the live file `path`, its lock and its backups from the next opening on."""
        handler = self._handler
        left: Rollover | None = getattr(self, "rollover", None)
        self._naming.set_path(path)
        self.rollover = Rollover(
            path,
            self._naming,
            extension=lambda: self.maintenance.duties.rolled_extension(),
            describe=lambda: handler.settings().line(),
            permissions=handler.permissions,
            shared=handler.lock_writes,
            by_size=bool(handler.maxBytes),
        )
        self.maintenance = Maintenance(handler, self._naming, self._reports, self._codec, self.rollover.lock.path)
        handler._file.expire_lease()
        if left is not None:
            left.close()

    def ensure_open(self) -> OpenFile:
        """The open live file; it is opened now if it is not, or taken over from the handler's `stream`.

        Raises:
            OSError: It cannot be opened.
        """
        handler = self._handler
        self.drop_if_taken()
        if handler.stream is None or handler.stream.closed:
            handler.stream = self._open_or_raise()
        if handler.stream is not handler._file.stream:
            # A stream without a descriptor (io.StringIO) cannot be logged to, so the path is opened instead.
            handler.stream = self.rollover.live.held(raw_stream(handler.stream) or self._open_or_raise())
            if isinstance(handler.stream, LogStream):
                handler.stream.serve(handler, self._encoder.encoding, self._encoder.errors)
                handler.stream.adopt()
            left, handler._file = handler._file, NOWHERE
            self._retire_or_close(left)
            file = self.rollover.open(time.time(), handler.stream)
            end = file.end
            # One statement, so that a signal handler that raises leaves both assigned or neither.
            handler._file, handler.rolloverAt = file, end
            handler._register()
            self._let_go()
        return handler._file

    def open_stream(self) -> FileIO:
        """Open the path, unbuffered. Raises OSError if that is refused."""
        stream = self.rollover.live.open_stream()
        if self._handler._closed:
            # gunicorn's USR1, which closes the handler and sets a new `stream`.
            self.maintenance.reopened()
        stream.serve(self._handler, self._encoder.encoding, self._encoder.errors)
        return stream

    def drop_if_taken(self) -> None:
        """Drop the open file if other code has closed its descriptor (a daemon closes all that it inherits).

        Its number may mean another file by now, which we may neither write nor close. Each renewal of the lease checks
        this, so lines written since the last renewal may have gone into that file.
        """
        file = self._handler._file
        if self._handler.stream is not file.stream or file.stream.closed or file.is_open():
            return
        number, taken = file.stream.fileno(), file.is_taken()
        self.retire()
        if taken:
            self._reports.report(
                f"descriptor {number} of {self._handler.baseFilename} was closed by other code, and is another file"
                " now; lines of the last second may be in that file. Change that code to close only descriptors that it"
                " has opened",
                None,
            )

    def reopen(self, file: OpenFile) -> bool:
        """Open the file that the path names now in place of `file`, which it does not name any more.

        False if it cannot be opened (a directory or a link is there) while `file` still has another name: then lines go
        on into `file`, and the refusal is reported once.
        """
        try:
            stream = self._open_or_raise()
        except OSError as error:
            if not file.has_name():
                raise
            self._reports.report_once("the reopening", error)
            return False
        self.retire()
        self._handler.stream = stream
        self.maintenance.rolled_by_another()
        return True

    def retire(self) -> None:
        """Stop using the open file as the live one; late lines may still reach it."""
        handler = self._handler
        file, handler._file = handler._file, NOWHERE
        stray, handler.stream = handler.stream, None
        if stray is not None and stray is not file.stream:
            stray.close()
        self._retire_or_close(file)

    def _retire_or_close(self, file: OpenFile) -> None:
        """Keep a former live file for late lines until `_let_go`, or close it if it was never leased.

        Without a lease it may have been rolled before we found its interval, which may then be another one's.
        """
        if file.was_leased() and not file.shared:
            self.late.keep_former_live(file)
        else:
            file.close()

    def _let_go(self) -> None:
        """Close the former live file if the lock can be had: then a late line can open it again, as a backup.

        Else it stays open for a while: a process may be stopped with the lock, or this one may not use the lock file.
        """
        if self.late.kept is not None and self.rollover.lock.is_free():
            self.late.close_former_live()
        if self.late.kept is not None:
            self.maintenance.kept_for_late_lines()

    def discard(self, file: OpenFile) -> None:
        """Close a file that does not keep the lines that are written into it."""
        if file is self._handler._file:
            self.retire()
        self.late.discard(file)
        if file is self.rollover.shared_file.opened:
            raise LiveFileMoved(f"{self._handler.baseFilename} was rolled while its lock was held")
        self.ensure_open()

    def run(self, write: Callable[[], None]) -> None:
        """Call `write`, which writes lines; for a file of several hosts by `SharedFile.run`."""
        file = self._handler._file
        if file.shared:
            self.rollover.shared_file.run(file, write, self.late.close)
        else:
            write()

    def file_of(self, created: float) -> OpenFile:
        """The open file for a record of `created`: the live file, one kept for late lines, or a backup opened now."""
        live = self.rollover.shared_file.opened or self._handler._file
        if live.holds(created):
            return live
        kept = self.late.find(created)
        if kept is not None:
            return kept
        if created < live.start:
            try:
                backup = self.rollover.open_part(self._naming.interval_at(created))
            except Exception as error:
                self._reports.report_once("a late line", error)
            else:
                self.late.keep(backup)
                self.maintenance.kept_for_late_lines()
                self.maintenance.opened_part()
                return backup
        return live

    def keeps(self, file: OpenFile) -> bool:
        """Whether the last line is kept: False if its file was removed, so that the line must be written again.

        The file is checked only if its writer was off its processor for longer than lease and grace, or the clock was
        set back. A file that a signal handler has closed since (gunicorn's USR1) cannot be checked any more. If the
        lock is busy for too long, the line is written again: a line that stands twice is better than a lost one.
        """
        if file.interval is None or file.stream.closed or _monotonic() < file.recheck_after:
            return True
        file.expire_lease()
        return self.rollover.has_kept(file, file.end_of_written()) is True

    def roll(self, now: float) -> None:
        """Give the open file its backup name, unless another process has just done so, and open the new one.

        Where the rename or the lock is refused, lines go on into the open file, and the refusal is reported once.
        `now` decides about the interval of the new file; seconds since the epoch.
        """
        file = self.ensure_open()
        if file.interval is None:
            return
        interruption: Exception | None = None
        try:
            backup = self.rollover.roll(file, now)
        except Exception as error:  # a namer may raise anything
            # NotOurs is raised before anything is renamed, and then the path leads to another file.
            if isinstance(error, LockBusy) and file.shared:
                # The renewal raises it again, and its line waits.
                return
            if isinstance(error, NotOurs) or self.rollover.live.is_live(file):
                self._reports.report_once("the rollover", error)
                return
            # A signal handler has raised after the rename.
            backup, interruption = None, error
        path = self._handler.baseFilename
        if backup is not None:
            count_event("rollovers", path)
        self._reports.forget()
        self.retire()
        try:
            self.ensure_open()
        finally:
            # Even if the new file cannot be opened, because on a full disk old backups must be removed first.
            if backup is not None:
                self.maintenance.rolled()
            else:
                self.maintenance.rolled_by_another()
        if interruption is not None:
            self._reports.report(f"an exception interrupted the rollover of {path}, which was done", interruption)

    def close_rolled_files(self) -> None:
        """Close the open file if it was rolled, and the file for late lines if it was kept long enough."""
        file = self._handler._file
        if file.interval is not None and not self.rollover.live.is_live(file):
            self.retire()
            self._let_go()
            self.maintenance.rolled_by_another()
        self.late.close_forgotten()

    def is_held(self) -> bool:
        """Whether the handler has a live file open."""
        stream = self._handler.stream
        return stream is not None and not stream.closed

    def borrow(self) -> OpenFile:
        """Open the live file for a rollover by a handler that does not have it open; `put_away` follows.

        It is not made if it is missing. The handler's `_open`, which may write a header, is called only for a new file.

        Raises:
            OSError: It cannot be opened.
        """
        self._handler.stream = self.rollover.live.open_existing()
        return self.ensure_open()

    def put_away(self) -> None:
        """Close everything again after `borrow`."""
        handler = self._handler
        file, handler._file = handler._file, NOWHERE
        stream, handler.stream, handler.rolloverAt = handler.stream, None, -inf
        file.close()
        if stream is not None and not stream.closed:
            stream.close()
        self.late.close()
        self.rollover.close()

    def after_fork(self) -> None:
        """Drop the inherited files in a forked child, because it shares their offsets with its parent."""
        if isinstance(self._handler.stream, LogStream):
            self._handler.stream.after_fork()
        if self._handler._file.interval is not None:
            self.retire()

    def close(self) -> None:
        """Close everything but `stream`, which the standard library's `close` closes."""
        self.drop_if_taken()
        self._handler._file.blank_left()
        self._handler._file = NOWHERE
        self.late.close()
        self.maintenance.closed()
        self.rollover.close()

    def _open_or_raise(self) -> FileIO | None:
        """Call the handler's `_open`, and let its error through."""
        self.is_opening = True
        try:
            return self._handler._open()
        finally:
            self.is_opening = False
