"""The work that a handler wants done on its backups, by its attributes and overridden methods.

They are read at each call, because an application may set them at any time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from rollsafe._backups.codecs import Codec
from rollsafe._backups.listing import Listing
from rollsafe._backups.names import ROLLED_EXTENSION
from rollsafe._backups.naming import BackupNaming
from rollsafe._backups.retention import Limits
from rollsafe._reports import Reports
from rollsafe.schedule import Interval


class Maintained(Protocol):
    """A handler, as its maintenance sees it. The types are the standard library's, where these are its names."""

    backupCount: int
    max_age: float | None
    max_total_bytes: int | None
    min_free_bytes: int | None
    on_rollover: Callable[[str, Interval], object] | None
    rotator: Any
    lock_writes: bool
    stream: Any
    _closed: bool

    @property
    def baseFilename(self) -> str:
        """The path of the live file."""

    def rotate(self, source: str, dest: str) -> None:
        """Give a rolled file its final name, or do more than that."""

    def getFilesToDelete(self) -> list[str]:
        """Full paths of the backups to remove."""

    def _replaces(self, name: str) -> bool:
        """Whether the application has a method of its own in the place of one of ours."""

    def _look(self, *, rolls: bool) -> bool:
        """Close files that were rolled, and roll the live file if `rolls` and its interval is over.

        Returns:
            Whether the interval of the live file is over, and the file was not rolled.
        """


class Duties:
    """The work that one handler wants done on its backups.

    Args:
        handler: The handler.
        naming: The names of its backups.
        reports: Its reports.
        codec: How they are compressed, None if they are not.
    """

    def __init__(self, handler: Maintained, naming: BackupNaming, reports: Reports, codec: Codec | None) -> None:
        self._handler = handler
        self._naming = naming
        self._reports = reports
        self.codec = codec

    def limits(self) -> Limits:
        """The limits for the backups."""
        handler = self._handler
        return Limits(handler.backupCount, handler.max_age, handler.max_total_bytes, handler.min_free_bytes)

    def listings(self) -> list[Listing]:
        """The files in each directory of backups."""
        first, *others = self._naming.directories(time.time())
        names = self._naming.names()
        if not others:
            return [Listing(first, names)]
        return [Listing(directory, names.within(directory)) for directory in (first, *others)]

    def rolled_extension(self) -> str:
        """The end of the name of a rolled file until a rotator or `on_rollover` was called for it."""
        waits = self.has_rotator() or (self.notifies() and self.codec is None)
        return ROLLED_EXTENSION if waits else ""

    def after_rollover(self) -> bool:
        """Whether there is anything to do after a rollover."""
        return self.limits().any or self.removes_more() or self.with_new_backup()

    def with_new_backup(self) -> bool:
        """Whether there is anything to do with the backup that a rollover has made."""
        return self.codec is not None or self.notifies() or self.has_rotator()

    def removes_more(self) -> bool:
        """Whether the application itself decides which backups are removed."""
        return self._handler._replaces("getFilesToDelete")

    def notifies(self) -> bool:
        """Whether the application is notified of final backups."""
        return self._handler.on_rollover is not None

    def has_rotator(self) -> bool:
        """Whether the application does more than rename a rolled file."""
        return callable(self._handler.rotator) or self._handler._replaces("rotate")

    def rotate(self, source: str, dest: str) -> None:
        """Hand a rolled file to the application's rotator."""
        self._handler.rotate(source, dest)

    def report(self, sentence: str, error: BaseException | None) -> None:
        """Report what could not be done; a `handleError` that raises does not end the thread."""
        with suppress(BaseException):
            self._reports.report(sentence, error)

    def notify(self, path: str) -> None:
        """Notify the application, if it wants that, of a backup that is final."""
        if self._handler.on_rollover is not None:
            names = self._naming.names()
            backup = names.within(os.path.dirname(path)).parse(os.path.basename(path))
            if backup is not None:
                self._handler.on_rollover(path, names.interval_near(backup, os.lstat(path).st_mtime))
