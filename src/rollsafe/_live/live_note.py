"""The note about the live file, as one handler writes it and as far as it believes the present one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from rollsafe._backups.ledger import new_serial
from rollsafe._files.identity import identity_of
from rollsafe._files.note import Note, noted_identity, parse_note
from rollsafe._live.open_file import OpenFile, mode_of
from rollsafe.locks import FileLock
from rollsafe.schedule import Interval


class LiveNote:
    """The note about the live file, in the lock file.

    Args:
        lock: The rollover lock, whose file has the note.
        interval_at: Returns the interval that holds an instant (seconds since the epoch).
        describe: Returns the handler's settings for the note, which tools read: one line, without newline.
        shared: Other hosts write the live file too, and have other numbers for its device.
        made: When the handler was made, milliseconds since the epoch; None for now.
    """

    def __init__(
        self,
        lock: FileLock,
        interval_at: Callable[[float], Interval],
        describe: Callable[[], bytes],
        *,
        shared: bool,
        made: int | None = None,
    ) -> None:
        self._lock = lock
        self._interval_at = interval_at
        self._describe = describe
        self._shared = shared
        self._described = b""
        self._made = int(1000 * time.time()) if made is None else made

    def read(self) -> Note | None:
        """The note in the lock file, None if it has none or cannot be read."""
        try:
            return parse_note(self._lock.read())
        except OSError:
            return None

    def serial(self) -> int:
        """The last number that the ledger has given, 0 if it is not known; to be read when a file is opened."""
        note = self.read()
        return note.serial if note is not None else 0

    def number(self, status: os.stat_result, interval: Interval | None = None) -> int | None:
        """The noted number of the next backup, None if the note is not about this file, or not about `interval`."""
        note = self.read()
        if note is None or not note.is_about(status, self._shared):
            return None
        return note.number if interval is None or note.start == int(interval.start) else None

    def interval(self, status: os.stat_result) -> tuple[Interval | None, bool]:
        """The noted interval, None if it cannot be believed about this file; and whether the note has our settings.

        Newer settings than ours count as ours. Without the note, a process that starts just after a boundary would take
        a file of the old interval, into which another process has written a late line, for one of the new interval.
        """
        note = self.read()
        if note is None:
            return None, False
        described = note.settings == self._settings() or self._is_older_than(note)
        return note.believed_interval(status, self._interval_at, self._shared), described

    def is_same(self, file: OpenFile, status: os.stat_result) -> bool:
        """Whether the live file of this status is `file`; only under the lock.

        On a file system of several hosts the number of its inode does not tell. The server gives that of a removed file
        to a later one, although we have the removed file open (an NFS 3 server knows of no open file). Then the note
        has another interval, because each process that makes a live file writes it.
        """
        if identity_of(status) != file.identity:
            return False
        noted = self.interval(status)[0] if self._shared and file.interval else None
        return noted is None or file.interval is None or noted.start == file.interval.start

    def write(self, status: os.stat_result, interval: Interval, number: int | None) -> None:
        """Write the note: the live file, its interval, the settings, and the number of its backup.

        Raises:
            OSError: It could not be written.
        """
        before = self.read()
        newest = before if before is not None and self._is_older_than(before) else None
        ours = self._settings()
        settings, made = (newest.settings, newest.made) if newest else (ours, self._made)
        note = Note(
            noted_identity(status, self._shared),
            int(interval.start),
            settings,
            made,
            number,
            (before.serial if before is not None else 0) or new_serial(),
            before.archived if before is not None else (),
            mode=mode_of(status),
        )
        self._lock.write(note.content())

    def has_new_settings(self) -> bool:
        """Whether the application has changed a setting since the note was compared with our settings."""
        return bool(self._described) and self._describe() != self._described

    def _settings(self) -> bytes:
        """Our settings as they are now."""
        self._described = self._describe()
        return self._described

    def update_mode(self, status: os.stat_result) -> None:
        """Update the noted permissions and those of the lock file, because the live file's may have changed."""
        self._lock.set_mode(mode_of(status))
        note = self.read()
        if note is not None and note.is_whole and note.is_about(status, self._shared) and note.mode != mode_of(status):
            self._lock.write(note.replace(mode=mode_of(status)).content())

    def _is_older_than(self, note: Note) -> bool:
        """Whether the noted settings belong to a handler that was made after ours: we are a worker that a reload ends.

        A time in the future does not count, because the clock was set back since.
        """
        return self._made < note.made <= 1000 * time.time()
