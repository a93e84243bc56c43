"""The note in a lock file. The handlers and the tools write, read, check and believe it by this module only.

A note is text. Each line ends in a newline:

1. device and inode of the live file, and the start of its interval in seconds since the epoch;
2. the handler's settings (`_settings`);
3. when a handler with these settings was made, in milliseconds since the epoch;
4. the sequence number that the live file gets as a backup; empty where it is not known;
5. `serial NUMBER`: the last number that the ledger of archives has given;
6. the ledger: one line `archived NUMBER DEVICE INODE SIZE ARCHIVE` for each of the files that were archived last; the
   last field is the inode of the archive as long as the file still has its name, and 0 from then on;
7. `mode MODE`: the permissions of the live file, in octal; a process that has had no live file open gives them to the
   next one;
8. `end CHECKSUM`: the CRC-32 of everything before this line, in eight hexadecimal digits.

The last line delimits the note. The writer replaces the note by one pwrite(2) and truncates the file afterwards. If it
is killed between the two, the end of a longer note that was there before still follows, and does not count. A note that
was written in part (a power cut, a full disk) has no checksum that fits, and nothing of it counts.

Without the last line only the first three lines count, so that a person or another program can write them. Then the
start counts only if the last write of the live file agrees with it.

**Any user who may write the lock file may write anything into it.** So the parser never raises, it bounds its input, it
checks the type and the range of each field, and a note with one field that cannot be right is no note. Even a valid
note is a hint: the handlers believe the start of the interval only for the very file that the note names, and take
their settings only from their own arguments. A lost note costs nothing.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Callable
from typing import Final

from rollsafe._files.identity import Identity
from rollsafe._files.lock_files import lock_path
from rollsafe._files.lock_handles import read_lock_file
from rollsafe._settings import Settings
from rollsafe._timing import LATE_S
from rollsafe._values import Value
from rollsafe.schedule import Interval

# `re` compiles each pattern at its first use, because to compile them here would lengthen every import.
# The digits are bounded: int() of thousands of them raises, and no field needs more than 64 bits.
_IDENTITY: Final = rb"([0-9]{1,20}) ([0-9]{1,20}) (-?[0-9]{1,12})"
_NUMBER: Final = rb"[0-9]{1,18}"
_SERIAL: Final = rb"serial ([0-9]{1,18})"
_ARCHIVED: Final = rb"archived ([0-9]{1,18}) ([0-9]{1,20}) ([0-9]{1,20}) ([0-9]{1,19}) ([0-9]{1,20})"
_MODE: Final = rb"mode ([0-7]{1,3})"
_END: Final = rb"(?m)^end ([0-9a-f]{8})\n"

_LARGEST_ID: Final = (1 << 64) - 1
# An interval of a year may have begun before 1970, if the clock of the machine has not been set and shows 1970.
_EARLIEST_START: Final = -400 * 86400
# The end of the year 9999, the last that has a name.
_LATEST_START: Final = 253_402_300_799
# That moment in milliseconds.
_LATEST_MADE: Final = 1000 * _LATEST_START


class Archived(Value):
    """A file that was archived."""

    number: int
    """The number of the entry; it grows with each entry of one ledger."""
    identity: Identity
    size: int
    """How many bytes of the file are in the archive."""
    archive: int = 0
    """The inode of the archive as long as the file still has its name, 0 from then on."""


class Note(Value):
    """The content of a lock file; a hint, to be believed only where it fits the files."""

    identity: Identity
    """The live file's; the device is 0 if several hosts share the file, because each has its own number for it."""
    start: int
    """The start of its interval; seconds since the epoch."""
    settings: bytes = b""
    """The line that `Settings.line` makes, not parsed, because handlers only compare it."""
    made: int = 0
    """When a handler with these settings was made; milliseconds since the epoch."""
    number: int | None = None
    """The sequence number that the live file gets as a backup."""
    serial: int = 0
    """The last number that the ledger has given; 0 if there is no ledger yet."""
    archived: tuple[Archived, ...] = ()
    """The ledger: the files that were archived last, oldest first."""
    is_whole: bool = True
    """Whether a checksum confirms that the note is as its writer meant it."""
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
        """The settings, None if the note has none."""
        return Settings.read(self.settings)

    def is_about(self, status: os.stat_result, shared: bool = False) -> bool:
        """Whether the note is about the file of this status."""
        return self.identity == noted_identity(status, shared)

    def believed_interval(
        self, status: os.stat_result, interval_at: Callable[[float], Interval], shared: bool = False
    ) -> Interval | None:
        """The interval whose lines the live file of this status holds, None if the note cannot be believed about it.

        The note is not believed if the last write was before the interval: the inode number is another file's now, or
        the start is wrong. A whole note is believed if the last write was after it: that was `touch`, an editor, or a
        process that was not allowed to roll over.
        """
        if not self.is_about(status, shared):
            return None
        try:
            interval = interval_at(self.start)
        except (ValueError, OverflowError, OSError):  # a date that the zone does not have
            return None
        # LATE_S on both sides also covers the clock of the kernel's file times, which is up to 10 ms behind
        # (CLOCK_REALTIME_COARSE).
        if status.st_mtime < interval.start - LATE_S:
            return None
        ended_before = interval.end + LATE_S <= status.st_mtime
        return None if ended_before and not (self.is_whole and status.st_size > 0) else interval


def noted_identity(status: os.stat_result, shared: bool = False) -> Identity:
    """The identity of a file as a note has it."""
    return (0 if shared else status.st_dev), status.st_ino


def parse_note(content: bytes) -> Note | None:
    """The note at the beginning of a lock file's content, None if there is no valid one. Never raises."""
    end = re.search(_END, content)
    if end is not None:
        content, checksum = content[: end.start()], int(end[1], 16)
        if zlib.crc32(content) != checksum:
            return None
    # The text after the last newline is only the beginning of a line.
    lines = content.split(b"\n")[:-1]
    first = re.fullmatch(_IDENTITY, lines[0]) if lines else None
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
    serial = next((int(found[1]) for line in lines[4:] if (found := re.fullmatch(_SERIAL, line))), 0)
    archived = [_archived(line) for line in lines[4:]] if serial else []
    entries = tuple(each for each in archived if each is not None)
    mode = next((int(found[1], 8) for line in lines[4:] if (found := re.fullmatch(_MODE, line))), None)
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
    """The note in the lock file of a live file, None if there is none; the process need not log to the file.

    The lock file is not made, and a link, a FIFO or another special file in its place is not read.
    """
    try:
        return parse_note(read_lock_file(lock_path(live)))
    except (OSError, ValueError):  # a ValueError for a name with a NUL
        return None


def _number(line: bytes, largest: int = 10**18) -> int | None:
    """The number that a line consists of, None if it is no number or too large."""
    if not re.fullmatch(_NUMBER, line):
        return None
    number = int(line)
    return number if number <= largest else None


def _fields(entry: Archived) -> tuple[int, int, int, int, int]:
    """The fields of the line of an entry."""
    return entry.number, *entry.identity, entry.size, entry.archive


def _archived(line: bytes) -> Archived | None:
    """The entry of the ledger in a line, None if the line is no valid one."""
    found = re.fullmatch(_ARCHIVED, line)
    if found is None:
        return None
    number, device, inode, size, archive = map(int, found.groups())
    return Archived(number, (device, inode), size, archive)
