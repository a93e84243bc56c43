"""What our writes have left in a file that is open for appending: whole lines, and fragments of lines.

A write(2) that a full disk, a limit or a signal cuts short leaves the beginning of a line. It is blanked in place, so
that no other line stands on it. Another writer's bytes are never touched.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable
from io import FileIO
from math import inf

# What a file's offset has to be zero under for the fragment of a killed writer to end there. The kernel gives up a
# killed write(2) between two pages of the file (measured on ext4, tmpfs, xfs and overlay, at every line size); a larger
# page is a multiple of this one.
IN_PAGE = 4095


class AppendedFile:
    """A file open for appending.

    Attributes:
        stream: The unbuffered file, with O_APPEND.
        tell: Where our last write ended (bytes), one lseek(2), because O_APPEND leaves the offset there.
        ends_in_fragment: It ends in a fragment of ours that could not be blanked; our next line begins with a newline.
    """

    __slots__ = ("_left", "ends_in_fragment", "stream", "tell")

    def __init__(self, stream: FileIO) -> None:
        self.stream = stream
        self.tell: Callable[[], int] = stream.tell
        self.ends_in_fragment = False
        # Our fragment that is to be blanked: where it starts, its bytes, and the end of line to put behind.
        self._left: tuple[int, bytes, bytes] | None = None

    def was_cut_short(self, fragment: bytes, end: bytes) -> None:
        """Our last write has left `fragment` of a line with that `end`: blank it, now or before the next line."""
        self.ends_in_fragment = self.stream.closed or not self.blank_written(fragment, end)

    def was_completed(self) -> None:
        """Our last write has written a whole line."""
        self.ends_in_fragment = False

    def blank_written(self, fragment: bytes, end: bytes) -> bool:
        """Overwrite `fragment`, which our last write has left, by an empty line; False if it was not found there.

        In place, so a line that another process has appended meanwhile is cut off from it too, and no space is
        needed, except on Btrfs, which writes nothing in place. Only our own bytes are touched: see `_start_of_written`.
        """
        start = self._start_of_written(fragment)
        if start is None:
            return False
        self._left = (start, fragment, end)
        return self.blank_left()

    def blank_left(self) -> bool:
        """Overwrite the fragment of ours that could not be overwritten yet; False if there is none or it stays."""
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
        """Where `line`, which our last write has written, stands behind what does not end in a newline; None if not.

        A writer that was killed, a full disk, or a program that prints without newlines has left that. It is final,
        because appends to one file exclude each other, and it is never ours to overwrite: it may be whole, as the line
        of a handler with another terminator.
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
        """Whether `line` is there in the file."""
        try:
            return os.pread(self.stream.fileno(), len(line), start) == line
        except (OSError, ValueError):
            return False

    def has_written(self, text: bytes, before: float | None = None) -> bool:
        """Whether `text` is what our last write has written, all of it; and our last was not `before` that.

        For whoever was interrupted by an exception, and does not know whether it was before the write or after it.
        """
        end = self.end_of_written()
        if end in (before, inf) or end < len(text):
            return False
        try:
            return os.pread(self.stream.fileno(), len(text), int(end) - len(text)) == text
        except OSError:
            # It may not be read; something was written.
            return before is not None

    def _start_of_written(self, written: bytes) -> int | None:
        """Where our last write has put `written`.

        O_APPEND leaves the offset at its end (write(2)). Just after a fork the offset may still be shared with
        another process, or a signal handler may have written since; then something else is read there, and the answer
        is None.
        """
        start = self.end_of_written() - len(written)
        return int(start) if 0 <= start < inf and self.has(int(start), written) else None

    def blank(self, start: int, ours: bytes, end: bytes) -> bool:
        """Put spaces and `end` in the place of our own bytes, which are there; newlines stay. False if that failed."""
        try:
            # A second description, because pwrite(2) on one with O_APPEND appends (its "Bugs"). /dev/fd makes one on
            # Linux only; elsewhere it duplicates, and is refused here.
            descriptor = os.open(f"/dev/fd/{self.stream.fileno()}", os.O_RDWR | os.O_CLOEXEC)
        except (OSError, ValueError):
            return False
        try:
            if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_APPEND:
                return False
            end = end[-len(ours) :] if end else end
            blank = re.sub(rb"[^\n]", b" ", ours[: len(ours) - len(end)]) + end
            return os.pwrite(descriptor, blank, start) == len(blank)
        except OSError:
            return False
        finally:
            os.close(descriptor)

    def end_of_written(self) -> float:
        """Where our last write has ended; infinity if that cannot be told any more."""
        try:
            return self.tell()
        except (OSError, ValueError):
            return inf


def ends_in_fragment(stream: FileIO) -> bool:
    """Whether the file ends inside a line; to be asked where nobody can be writing just now, as under the lock."""
    try:
        size = os.fstat(stream.fileno()).st_size
        return size > 0 and os.pread(stream.fileno(), 1, size - 1) not in (b"\n", b"")
    except OSError:
        return False
