"""The whole lines and the fragments of lines that our writes leave in a file that is open for appending.

A write(2) that a full disk, a limit or a signal cuts short leaves the beginning of a line. We blank such a fragment in
place, so that no other line is glued to it. We never touch the bytes of another writer.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Callable
from contextlib import suppress
from io import FileIO
from math import inf

from rollsafe._files.identity import identity_of
from rollsafe._files.places import open_file

# The mask of an offset within a page of 4 KiB. The fragment of a killed writer can only end where these bits are zero,
# because the kernel gives up a killed write(2) between two pages of the file (measured on ext4, tmpfs, xfs and overlay,
# at every line size). A larger page is a multiple of this one.
IN_PAGE = 4095


class AppendedFile:
    """A file open for appending.

    Attributes:
        stream: The unbuffered file, with O_APPEND.
        tell: Returns where our last write ended (bytes) by one lseek(2), because O_APPEND leaves the offset there.
        ends_in_fragment: Whether it ends in a fragment of ours that could not be blanked. Then our next line begins
            with a newline.
    """

    __slots__ = ("_left", "ends_in_fragment", "stream", "tell")

    def __init__(self, stream: FileIO) -> None:
        self.stream = stream
        self.tell: Callable[[], int] = stream.tell
        self.ends_in_fragment = False
        # Our fragment that is still to be blanked: its start, its bytes, and the end of line to put last.
        self._left: tuple[int, bytes, bytes] | None = None

    def was_cut_short(self, fragment: bytes, end: bytes) -> None:
        """Blank the `fragment` that our last write has left of a line with this `end`, now or before the next line."""
        self.ends_in_fragment = self.stream.closed or not self.blank_written(fragment, end)

    def look_for_fragment(self) -> None:
        """Have our next line begin with a newline if the file ends inside a line; only while no process can write it.

        Of a local file that is not known before the write; see `glued_at`.
        """
        try:
            descriptor = self.stream.fileno()
            size = os.fstat(descriptor).st_size
            self.ends_in_fragment = size > 0 and os.pread(descriptor, 1, size - 1) not in (b"\n", b"")
            if self.ends_in_fragment and hasattr(os, "posix_fadvise"):
                # Perhaps the page is old: another program of this host has the file open for writing, or was reading
                # it while another host wrote. So the client of the network file system drops it and asks the server.
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                self.ends_in_fragment = os.pread(descriptor, 1, size - 1) not in (b"\n", b"")
        except (OSError, ValueError):
            return

    def was_completed(self) -> None:
        """Note that our last write has written a whole line."""
        self.ends_in_fragment = False

    def blank_written(self, fragment: bytes, end: bytes) -> bool:
        """Overwrite `fragment`, which our last write has left, by an empty line; False if it was not found there.

        It is overwritten in place. That separates it from a line that another process has appended meanwhile, too, and
        needs no space except on Btrfs, which writes nothing in place. Only our bytes change: see `_start_of_written`.
        """
        start = self._start_of_written(fragment)
        if start is None:
            return False
        self._left = (start, fragment, end)
        return self.blank_left()

    def blank_left(self) -> bool:
        """Overwrite our fragment that is still to be blanked; False if there is none, or if it stays."""
        if self._left is None:
            return False
        there = self.has(*self._left[:2])
        blanked = there and self.blank(*self._left)
        if blanked:
            self.ends_in_fragment = False
        if blanked or not there:
            self._left = None
        return blanked

    def glued_at(self, line: bytes) -> int | None:
        """The start of `line`, which our last write has written, if no newline stands before it; None if one does.

        A killed writer, a full disk, or a program that prints without newlines has left the text before it. That text
        is final, because appends to one file exclude each other. We never overwrite it, because it may be the whole
        line of a handler with another terminator.
        """
        try:
            descriptor = self.stream.fileno()
            start = os.lseek(descriptor, 0, os.SEEK_CUR) - len(line)
            if start <= 0 or os.pread(descriptor, 1, start - 1) == b"\n":
                return None
        except (OSError, ValueError):
            return None
        return self._start_of_written(line)

    def has(self, start: int, line: bytes) -> bool:
        """Whether the file has `line` at the offset `start`."""
        try:
            return os.pread(self.stream.fileno(), len(line), start) == line
        except (OSError, ValueError):
            return False

    def has_written(self, text: bytes, before: float | None = None) -> bool:
        """Whether our last write has written all of `text`, and did not end at `before`, where the one before it ended.

        For a caller that was interrupted by an exception and does not know whether it came before or after the write.
        """
        end = self.end_of_written()
        if end in (before, inf) or end < len(text):
            return False
        try:
            return os.pread(self.stream.fileno(), len(text), int(end) - len(text)) == text
        except OSError:
            # The file may not be read. If the end has moved, something was written.
            return before is not None

    def _start_of_written(self, written: bytes) -> int | None:
        """The offset at which our last write has put `written`, None if other bytes are found there.

        O_APPEND leaves the offset at the end of a write (write(2)). After a fork another process may still share the
        offset, or a signal handler may have written since. Then other bytes are read there.
        """
        start = self.end_of_written() - len(written)
        return int(start) if 0 <= start < inf and self.has(int(start), written) else None

    def blank(self, start: int, ours: bytes, end: bytes) -> bool:
        """Overwrite `ours`, our bytes at `start`, by spaces and `end`; newlines stay. False if that failed."""
        try:
            descriptor = self._open_again()
        except (OSError, ValueError):
            return False
        try:
            end = end[-len(ours) :] if end else end
            blank = re.sub(rb"[^\n]", b" ", ours[: len(ours) - len(end)]) + end
            return os.pwrite(descriptor, blank, start) == len(blank)
        except OSError:
            return False
        finally:
            os.close(descriptor)

    def _open_again(self) -> int:
        """A second open file description, because pwrite(2) appends on one with O_APPEND (its "Bugs").

        Raises:
            OSError: There is none to be had: this file may not be opened, or has another name by now.
            ValueError: It is closed.
        """
        number = self.stream.fileno()
        flags = os.O_RDWR | os.O_CLOEXEC | fcntl.fcntl(number, fcntl.F_GETFL) & getattr(os, "O_DSYNC", 0)
        with suppress(OSError):
            descriptor = os.open(f"/dev/fd/{number}", flags)
            if not fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_APPEND:
                return descriptor
            os.close(descriptor)
        # Only Linux opens the file anew by /dev/fd, where /proc is mounted; other systems duplicate the descriptor.
        descriptor = open_file(os.fsdecode(self.stream.name), flags)
        if identity_of(os.fstat(descriptor)) != identity_of(os.fstat(number)):
            os.close(descriptor)
            raise FileNotFoundError(errno.ENOENT, "has another name by now", self.stream.name)
        return descriptor

    def end_of_written(self) -> float:
        """The offset at which our last write has ended, bytes; infinity if the file is closed."""
        try:
            return self.tell()
        except (OSError, ValueError):
            return inf
