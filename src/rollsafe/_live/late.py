"""The file that a handler keeps open for late lines: a backup that it opened for one, or its former live file."""

from __future__ import annotations

import weakref
from time import monotonic
from typing import Final

from rollsafe._live.open_file import OpenFile
from rollsafe._timing import KEPT_S

# Where one process is stuck in a rollover of each log, all handlers of another process would keep their former live
# files at the same time, and each takes a descriptor.
_MOST_IN_PROCESS: Final = 16

_all: weakref.WeakSet[LateFile] = weakref.WeakSet()


class LateFile:
    """At most one open file of a former interval; a line of another one opens its backup in the place of it.

    Attributes:
        kept: The file, None if there is none.
    """

    def __init__(self) -> None:
        self.kept: OpenFile | None = None
        _all.add(self)

    def keep(self, file: OpenFile) -> None:
        """Keep a file open until no line has come for it for KEPT_S seconds."""
        self.close()
        file.retire(monotonic() + KEPT_S)
        self.kept = file

    def keep_former_live(self, file: OpenFile) -> None:
        """Keep a former live file, if the process does not keep too many; else a late line opens it by its name."""
        if sum(late.kept is not None for late in list(_all)) < _MOST_IN_PROCESS:
            self.keep(file)
        else:
            file.close()

    def close_former_live(self) -> None:
        """Close the file if it is a former live file, because a late line can open its backup."""
        if self.kept is not None and self.kept.was_leased():
            self.close()

    def find(self, created: float) -> OpenFile | None:
        """The file for a line of this time (seconds since the epoch), if it is kept."""
        self.close_forgotten()
        if self.kept is None or not self.kept.holds(created):
            return None
        self.kept.retire(monotonic() + KEPT_S)
        return self.kept

    def discard(self, file: OpenFile) -> None:
        """Close a file, if it is the one that is kept."""
        if file is self.kept:
            self.close()

    def close_forgotten(self) -> None:
        """Close the file if it was kept for long enough, or if no line can be saved in it."""
        file = self.kept
        if file is not None and (file.forget_at < monotonic() or file.interval is None or not file.has_name()):
            self.close()

    def close(self) -> None:
        """Close the file, if there is one."""
        file, self.kept = self.kept, None
        if file is not None:
            file.close()
