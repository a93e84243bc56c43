"""The note in a lock file: written, read, checked and believed here, for the handlers and for the tools.

A note is text. Each line ends in a newline:

1. device and inode of the live file, and the start of its interval in seconds since the epoch;
2. the handler's settings (:mod:`rollsafe.settings`);
3. when a handler with these settings was made, in milliseconds since the epoch;
4. the sequence number that the live file gets as a backup; empty where it is not known;
5. `serial NUMBER`: the last number that the ledger of archives has given;
6. the ledger: one line `archived NUMBER DEVICE INODE SIZE ARCHIVE` for each of the files that were archived last; the
   last field is the inode of the archive as long as the file has its name still, and 0 from then on;
7. `mode MODE`: the permissions of the live file, in octal: the next one gets them, if there is no older one to ask;
8. `end CHECKSUM`: the CRC-32 of everything before this line, in eight hexadecimal digits.

The last line delimits the note. The writer replaces the note by one pwrite(2) and cuts the file afterwards, and it may
be killed between the two: then the end of a longer note that was there before still follows, and does not count. A
note that was written in part (a power cut, a full disk) has no checksum that fits, and nothing of it counts.

The first three lines count without the last one, so that a person or another program can write them. Nothing after
them does, and the start counts only where the last write of the live file agrees with it.

**Anybody who may write the lock file may write anything into it.** So the parser never raises, it bounds what it reads,
it checks the type and the range of each field, and a note with one field that cannot be right is no note. What is read
remains a hint: the handlers believe the start of the interval only for the very file that it names, and take their
settings from nowhere but their own arguments. Losing the note costs nothing.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Callable
from typing import Final, NamedTuple

from rollsafe.locks import Identity, lock_path, read_lock_file
from rollsafe.schedule import Interval
from rollsafe.settings import Settings
from rollsafe.timing import LATE_S

# At most so many digits: int() of thousands of them raises, and no field needs more than 64 bits.
_IDENTITY: Final = re.compile(rb"([0-9]{1,20}) ([0-9]{1,20}) (-?[0-9]{1,12})")
_NUMBER: Final = re.compile(rb"[0-9]{1,18}")
_SERIAL: Final = re.compile(rb"serial ([0-9]{1,18})")
_ARCHIVED: Final = re.compile(rb"archived ([0-9]{1,18}) ([0-9]{1,20}) ([0-9]{1,20}) ([0-9]{1,19}) ([0-9]{1,20})")
_MODE: Final = re.compile(rb"mode ([0-7]{1,3})")
_END: Final = re.compile(rb"^end ([0-9a-f]{8})\n", re.MULTILINE)

_LARGEST_ID: Final = (1 << 64) - 1
# An interval of a year may have begun before 1970, as the clock of a machine does that has not been set yet.
_EARLIEST_START: Final = -400 * 86400
# The years after 9999 have no names.
_LATEST_START: Final = 253_402_300_799
# Milliseconds of the same.
_LATEST_MADE: Final = 1000 * _LATEST_START


class Archived(NamedTuple):
    """A file that was archived."""

    number: int
    """Grows with each entry of one ledger."""
    identity: Identity
    size: int
    """Bytes of it that are in the archive."""
    archive: int = 0
    """The inode of the archive as long as the file has its name still, 0 from then on."""


class Note(NamedTuple):
    """What a lock file says; a hint, to be believed only where it fits the files."""

    identity: Identity
    """Of the live file; the device is 0 where several hosts share the file, because each has its own number for it."""
    start: int
    """Of its interval; seconds since the epoch."""
    settings: bytes = b""
    """The line of `Settings.line`, as it is: handlers only compare it."""
    made: int = 0
    """When a handler with these settings was made; milliseconds since the epoch."""
    number: int | None = None
    """The sequence number of its backup."""
    serial: int = 0
    """The last number that the ledger has given; 0 where there is no ledger yet."""
    archived: tuple[Archived, ...] = ()
    """The ledger: the files that were archived last, in the order in which that was done."""
    is_whole: bool = True
    """Whether a checksum says that the note is as its writer meant it."""
    mode: int | None = None
    """The permissions of the live file."""

    def content(self) -> bytes:
        """The note as the lock file has it."""
        number = b"" if self.number is None else b"%d" % self.number
        lines = [b"%d %d %d" % (*self.identity, self.start), self.settings, b"%d" % self.made, number]
        if self.serial:
            lines.append(b"serial %d" % self.serial)
            lines += [b"archived %d %d %d %d %d" % _fields(each) for each in self.archived]
        lines += [] if self.mode is None else [b"mode %o" % self.mode]
        content = b"".join(line + b"\n" for line in lines)
        return content + b"end %08x\n" % zlib.crc32(content)

    def parse_settings(self) -> Settings | None:
        """The settings, None if the note tells none."""
        return Settings.read(self.settings)

    def is_about(self, status: os.stat_result, shared: bool = False) -> bool:
        """Whether the live file is the one of this status."""
        return self.identity == noted_identity(status, shared)

    def believed_interval(
        self, status: os.stat_result, interval_at: Callable[[float], Interval], shared: bool = False
    ) -> Interval | None:
        """The interval whose lines the live file of this status holds, None if the note cannot be believed about it.

        A last write before the interval says no: another file has got the number of this one, or the start is wrong. A
        last write after it is no objection to a whole note: `touch`, or an editor, or a process that was not allowed to
        roll over.
        """
        if not self.is_about(status, shared):
            return None
        try:
            interval = interval_at(self.start)
        except (ValueError, OverflowError, OSError):  # a date that the zone does not have
            return None
        # On both sides: the kernel stamps files with a clock that is up to 10 ms behind (CLOCK_REALTIME_COARSE).
        if status.st_mtime < interval.start - LATE_S:
            return None
        ended_before = interval.end + LATE_S <= status.st_mtime
        return None if ended_before and not (self.is_whole and status.st_size > 0) else interval


def noted_identity(status: os.stat_result, shared: bool = False) -> Identity:
    """What a note has for a file's identity."""
    return (0 if shared else status.st_dev), status.st_ino


def parse_note(content: bytes) -> Note | None:
    """The note that the content of a lock file begins with, None if that is no note. Never raises."""
    end = _END.search(content)
    if end is not None:
        content, checksum = content[: end.start()], int(end[1], 16)
        if zlib.crc32(content) != checksum:
            return None
    # What follows the last newline is the beginning of a line.
    lines = content.split(b"\n")[:-1]
    first = _IDENTITY.fullmatch(lines[0]) if lines else None
    if first is None:
        return None
    device, inode, start = int(first[1]), int(first[2]), int(first[3])
    settings = lines[1] if len(lines) > 1 else b""
    made = _number(lines[2], _LATEST_MADE) if len(lines) > 2 else 0
    if not (max(device, inode) <= _LARGEST_ID and _EARLIEST_START <= start <= _LATEST_START and made is not None):
        return None
    if end is None:
        return Note((device, inode), start, settings, made, is_whole=False)
    number = _number(lines[3]) if len(lines) > 3 and lines[3] else None
    serial = next((int(found[1]) for line in lines[4:] if (found := _SERIAL.fullmatch(line))), 0)
    archived = [_archived(line) for line in lines[4:]] if serial else []
    entries = tuple(each for each in archived if each is not None)
    mode = next((int(found[1], 8) for line in lines[4:] if (found := _MODE.fullmatch(line))), None)
    return Note(
        identity=(device, inode),
        start=start,
        settings=settings,
        made=made,
        number=number,
        serial=serial,
        archived=entries,
        mode=mode,
    )


def read_note(live: str) -> Note | None:
    """The note in the lock file of a live file, for a process that need not log to it; None if there is none.

    The lock file is not made, and a link, a FIFO or the like in its place is not read.
    """
    try:
        return parse_note(read_lock_file(lock_path(live)))
    except (OSError, ValueError):  # a ValueError for a name with a NUL
        return None


def _number(line: bytes, largest: int = 10**18) -> int | None:
    """The number that a line is, None if it is none."""
    if not _NUMBER.fullmatch(line):
        return None
    number = int(line)
    return number if number <= largest else None


def _fields(entry: Archived) -> tuple[int, int, int, int, int]:
    """What the line of an entry has."""
    return entry.number, *entry.identity, entry.size, entry.archive


def _archived(line: bytes) -> Archived | None:
    """The entry of the ledger that a line is, None if it is none."""
    found = _ARCHIVED.fullmatch(line)
    if found is None:
        return None
    number, device, inode, size, archive = map(int, found.groups())
    return Archived(number, (device, inode), size, archive)
