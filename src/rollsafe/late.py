"""The files that a process keeps open for late lines: former live files, and backups that were opened for one."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from time import monotonic
from typing import Final

from rollsafe.open_file import OpenFile
from rollsafe.timing import LATE_S

# Files that are kept at most by one handler, and former live files by all of a process: at a boundary all handlers of a
# process would keep one at the same time, and each takes a descriptor.
_MOST: Final = 8
_MOST_IN_PROCESS: Final = 16

_all: weakref.WeakSet[LateFiles] = weakref.WeakSet()


class LateFiles:
    """Open files of former intervals."""

    def __init__(self) -> None:
        self._files: list[OpenFile] = []
        _all.add(self)

    def __iter__(self) -> Iterator[OpenFile]:
        return iter(self._files)

    def keep(self, file: OpenFile) -> None:
        """Keep a file open until no line has come for it for LATE_S seconds."""
        file.retire(monotonic() + LATE_S)
        self._files.append(file)
        self.close_forgotten()

    def leave(self, file: OpenFile) -> None:
        """Keep a former live file, if this process does not keep too many; else a late line opens it by its name."""
        if sum(len(files._files) for files in list(_all)) < _MOST_IN_PROCESS:
            self.keep(file)
        else:
            file.close()

    def find(self, created: float) -> OpenFile | None:
        """The file for a line of this time (seconds since the epoch), if it is kept."""
        self.close_forgotten()
        for file in self._files:
            if file.holds(created):
                file.retire(monotonic() + LATE_S)
                return file
        return None

    def discard(self, file: OpenFile) -> None:
        """Keep a file no longer, if it is kept."""
        if file in self._files:
            self._files.remove(file)
            file.close()

    def close_forgotten(self) -> None:
        """Close the files that were kept long enough, and those that no line can be saved in."""
        now = monotonic()
        surplus = self._files[:-_MOST]
        for file in self._files[:]:
            if file in surplus or file.forget_at < now or file.interval is None or not file.has_name():
                self._files.remove(file)
                file.close()

    def close(self) -> None:
        """Close all."""
        while self._files:
            self._files.pop().close()
