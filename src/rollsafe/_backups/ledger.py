"""The ledger of a log: which of its files were archived last, and up to which size.

A writer that was suspended until its file had lost its name asks the ledger whether the archive has its line; if the
ledger does not say, it writes the line again. The ledger is part of the note in the lock file (`note`).
It is written under the rollover lock, before the archive gets its name. So it also says what a process was about to do
that was killed in the middle.

The inode number does not suffice to tell which file an entry is about: when the last process has closed a file without
a name, the next new file gets its number. So the entries are numbered, and each process that opens a file remembers the
last number (`Note.serial`). An entry with a later number was made while the file was open, so it is about that file. A
new ledger, after a person has removed the lock file, begins at a random number, so the numbers of the ledger before
mean nothing in it.

It has no times, because a writer may be suspended for any time. It forgets the oldest of many entries; then a line may
stand twice, and none is lost.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from rollsafe._background import sleep
from rollsafe._files.identity import Identity
from rollsafe._files.note import Archived, Note, noted_identity, parse_note
from rollsafe._files.places import Place
from rollsafe.locks import FileLock

# The most entries: the files that may be archived while a writer is suspended between its write and its recheck.
_MOST: Final = 16
# A ledger begins at a random number below this limit, so it never runs out of numbers of 18 digits.
_FIRST_BELOW: Final = 10**17
# A number that is later by more than this is of another ledger.
_RANGE: Final = 10**9
# Seconds between attempts to take the lock: at first, and the most.
_SHORT_PAUSE_S: Final = 0.001
_LONG_PAUSE_S: Final = 0.1
_NO_FILE: Final = Note((0, 0), 0)


class Changed(Exception):
    """A file was written to or replaced, or the lock was lost. A later attempt may succeed."""


class Ledger:
    """The ledger beside one live file.

    Args:
        lock: The lock of its rollover.
        shared: Whether several hosts share the file.
    """

    def __init__(self, lock: FileLock, shared: bool = False) -> None:
        self._lock = lock
        self._shared = shared

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock, however long it takes to get it: no line waits for this.

        Raises:
            Changed: The lock file was removed at this moment; the next pass takes the new one.
        """
        pause = _SHORT_PAUSE_S
        while not self._lock.acquire(timeout=0):
            sleep(pause)
            pause = min(2 * pause, _LONG_PAUSE_S)
        try:
            self.check_held()
            yield
        finally:
            self._lock.release()

    def check_held(self) -> None:
        """Raise Changed unless the lock still excludes the writers: its file may be removed at any time."""
        if not self._lock.excludes():
            raise Changed(self._lock.path)

    def refresh(self, place: Place) -> None:
        """Have the client of a network file system ask the server for size and time of a file, by opening it.

        Its cache answers fstat(2) for up to a minute (`acregmax` in nfs(5)). So a late line of another host, which had
        the lock before us, would not be seen, and would be removed with the file.
        """
        if self._shared:
            with suppress(OSError):
                os.close(place.open(os.O_RDONLY))

    def entries(self) -> tuple[Archived, ...]:
        """The files that were archived last; none if the note cannot be read."""
        note = self._read()
        return note.archived if note is not None else ()

    def record(self, source: os.stat_result, size: int, archive: os.stat_result) -> None:
        """Record that `archive` holds the first `size` bytes of `source`; under the lock, before `source` is unlinked.

        Raises:
            OSError: It could not be written.
        """
        note = self._read() or _NO_FILE
        serial = note.serial or new_serial()
        entry = Archived(serial + 1, noted_identity(source, self._shared), size, archive.st_ino)
        others = [each for each in note.archived if each.identity != entry.identity]
        self._write(note.replace(serial=entry.number, archived=(*others[1 - _MOST :], entry)))

    def settle(self, source: Identity) -> None:
        """Record that the file of an entry was unlinked, as intended; only under the lock.

        From now on a file with its inode number is another file.

        Raises:
            OSError: It could not be written.
        """
        note = self._read()
        if note is not None and any(each.identity == source and each.archive for each in note.archived):
            entries = (each.replace(archive=0) if each.identity == source else each for each in note.archived)
            self._write(note.replace(archived=tuple(entries)))

    def withdraw(self, source: os.stat_result) -> None:
        """Record that `source` was not archived after all; only under the lock.

        Raises:
            OSError: It could not be written.
        """
        note = self._read()
        if note is not None and any(self.is_about(each, source) for each in note.archived):
            others = tuple(each for each in note.archived if not self.is_about(each, source))
            self._write(note.replace(archived=others))

    def is_about(self, entry: Archived, source: os.stat_result) -> bool:
        """Whether an entry is about the file with this status."""
        return entry.identity == self.identity(source)

    def identity(self, source: os.stat_result) -> Identity:
        """The identity of a file, as the ledger has it."""
        return noted_identity(source, self._shared)

    def _read(self) -> Note | None:
        """The note, None if there is none or it is damaged."""
        return parse_note(self._lock.read())

    def _write(self, note: Note) -> None:
        """Replace the note."""
        self._lock.write(note.replace(is_whole=True).content())


def new_serial() -> int:
    """The number that a new ledger begins with."""
    return 1 + int.from_bytes(os.urandom(8), "big") % _FIRST_BELOW


def archived_since(note: Note | None, serial: int, status: os.stat_result, shared: bool = False) -> Archived | None:
    """The entry about a file that this process has had open since the ledger was at `serial`; None if there is none.

    Args:
        note: What the lock file says now.
        serial: `Note.serial` as it was when the file had just been opened; 0 if there was no ledger to be read.
        status: Of the open file.
        shared: Whether several hosts share the log.
    """
    if note is None or not serial:
        return None
    for entry in note.archived:
        if entry.identity == noted_identity(status, shared) and 0 < entry.number - serial < _RANGE:
            return entry
    return None
