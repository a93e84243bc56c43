"""One plain file whose lines are followed: the place up to which it was read, and the whole lines after it.

If several logs are followed, a file can be in two of them, by a link. Then one of its sources prints the lines.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from io import FileIO

from rollsafe._backups.names import ROLLED_EXTENSION
from rollsafe._files.identity import Identity, identity_of
from rollsafe.tools.catalog import LogFile
from rollsafe.tools.several import is_file_at

_CHUNK = 1 << 20
# Bytes of one file that are held in memory, unless one line is longer.
_AT_ONCE = 16 << 20

Key = str
"""The name of a backup without what tells its state: the same for a file and its archive."""


@dataclass
class Source:
    """A plain file that lines come from.

    Attributes:
        path: Its name when it was last seen; "" for none.
        offset: The start of the first line that was not printed yet.
        stream: Open while lines may come soon.
        key: Which backup it is; None while it is the live file.
        grew_at: When it was last seen to be longer; seconds of the monotonic clock.
        cut: Whether the last line was printed with a newline that the file did not have; the next newline is that one.
        searched: There is no newline between `offset` and here, so a line that grows slowly is not read from its start
            at each look. Without meaning if it is less than `offset`.
    """

    identity: Identity
    path: str
    offset: int
    stream: FileIO | None = None
    key: Key | None = None
    grew_at: float = field(default_factory=time.monotonic)
    cut: bool = False
    searched: int = 0

    def rename(self, path: str, key: Key | None) -> None:
        """The file has got another name."""
        self.path, self.key = path, key
        self.grew_at = time.monotonic()

    def lose_name(self) -> None:
        """The file has no name that is known."""
        self.path = ""

    def reopen(self) -> bool:
        """Open the file again; False if its name is gone or is that of another file."""
        try:
            self.stream = FileIO(self.path)
        except FileNotFoundError:
            return False
        if identity_of(os.fstat(self._descriptor)) != self.identity:
            self.close()
            return False
        return True

    def new_lines(self, complain: Callable[[str], None]) -> list[bytes]:
        """The whole lines that have come since the last call."""
        size = os.fstat(self._descriptor).st_size
        if size < self.offset:
            complain(f"{self.path} was truncated; it is read from its start again")
            self.offset = 0
        if size < self.searched:
            self.searched = 0
        lines = list(self.lines_to(min(size, self.offset + _AT_ONCE)))
        if not lines and size > self.offset + _AT_ONCE:
            lines = list(self.lines_to(size))
        if lines:
            self.grew_at = time.monotonic()
        return lines

    def take_back(self, lines: Iterable[bytes]) -> None:
        """Go back to before the last lines that were returned."""
        self.offset -= sum(map(len, lines))
        self.searched = 0

    def lines_to(self, end: int) -> Iterator[bytes]:
        """The whole lines between `offset` and `end`."""
        position = self.offset
        if self.searched > position and not self._ends_line(end):
            return
        # The parts of a line are joined once: adding each block to those before would copy a long line again and again.
        parts: list[bytes] = []
        while position < end:
            block = os.pread(self._descriptor, min(_CHUNK, end - position), position)
            if not block:
                return
            position += len(block)
            parts.append(block)
            if b"\n" not in block:
                continue
            *lines, rest = b"".join(parts).split(b"\n")
            parts = [rest]
            for line in lines:
                self.offset += len(line) + 1
                if self.cut:
                    self.cut = False
                    if not line:
                        continue
                yield line + b"\n"
        self.searched = position

    def _ends_line(self, end: int) -> bool:
        """Whether the line that begins at `offset` ends before `end`."""
        while self.searched < end:
            block = os.pread(self._descriptor, min(_CHUNK, end - self.searched), self.searched)
            if not block or b"\n" in block:
                return bool(block)
            self.searched += len(block)
        return False

    def last_line(self) -> Iterator[bytes]:
        """The text after the last newline of a file that no process writes any more."""
        blocks: list[bytes] = []
        end = self.offset
        while block := os.pread(self._descriptor, _CHUNK, end):
            blocks.append(block)
            end += len(block)
        if blocks:
            self.offset = end
            self.cut = True
            yield b"".join((*blocks, b"\n"))

    def has_grown(self) -> bool:
        """Whether there is more in the file than was printed; for a file that is closed."""
        try:
            return os.stat(self.path).st_size > self.offset
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Close the file; `reopen` opens it again."""
        if self.stream is not None:
            self.stream.close()
            self.stream = None

    @property
    def is_unlinked(self) -> bool:
        """Whether the open file has no name any more."""
        return not os.fstat(self._descriptor).st_nlink

    @property
    def _descriptor(self) -> int:
        """The descriptor of the open file."""
        assert self.stream is not None
        return self.stream.fileno()


class Owners:
    """Which source of a file prints its lines, if several logs have the file."""

    def __init__(self) -> None:
        self._sources: dict[Identity, Source] = {}

    def heard(self, source: Source, lines: Iterable[bytes]) -> Iterator[bytes]:
        """The lines of a source; if another one prints them, they are read and none is returned."""
        owner = self._owner(source.identity)
        if owner is None:
            owner = self._sources[source.identity] = source
        for line in lines:
            if owner is source:
                yield line

    def have(self, path: str) -> bool:
        """Whether the lines of a file are printed by one of its sources."""
        try:
            return self._owner(identity_of(os.stat(path))) is not None
        except OSError:
            return False

    def _owner(self, identity: Identity) -> Source | None:
        """The source that prints the lines of a file."""
        owner = self._sources.get(identity)
        # A file that was removed may have left its inode number to another one.
        if owner is None or not (owner.stream is not None or is_file_at(identity, owner.path)):
            return None
        return owner

    def forget(self, source: Source) -> None:
        """The source is not followed any more."""
        if self._sources.get(source.identity) is source:
            del self._sources[source.identity]


def end_of_last_line(stream: FileIO) -> int:
    """How many bytes the whole lines of a file are."""
    end = os.fstat(stream.fileno()).st_size
    while end > 0:
        begin = max(0, end - _CHUNK)
        newline = os.pread(stream.fileno(), end - begin, begin).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        end = begin
    return 0


def key_of(file: LogFile) -> Key:
    """The key of the backup that a file is."""
    return os.path.basename(file.path).removesuffix(ROLLED_EXTENSION).removesuffix(file.extension or "\0")


def changed_at(directory: str) -> int | None:
    """When names in a directory last changed, nanoseconds; None if there is no such directory."""
    try:
        return os.stat(directory).st_mtime_ns
    except FileNotFoundError:
        return None
