"""The largest size of a file, as the kernel's EFBIG has shown it."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from io import FileIO

from rollsafe._files.identity import Identity, identity_of
from rollsafe._live.open_file import OpenFile


class FileLimit:
    """The limit of the size of files.

    Attributes:
        reached: The last file that could grow no further, and its size then.
        limit: The largest size of a file by the last refused write, bytes; 0 as long as none was refused.
    """

    def __init__(self) -> None:
        self.reached: tuple[Identity, int] | None = None
        self.limit = 0

    def record(self, stream: FileIO, line: bytes) -> None:
        """Note that a file can grow no further, as the kernel has refused to append `line` (EFBIG).

        Its limit is that of the process (`ulimit -f`, LimitFSIZE= of systemd) or of the file system (4 GiB on FAT),
        which only the size of the file shows. A line longer than that would fill one file after another, so it does not
        make the file a full one.
        """
        limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        with suppress(OSError, ValueError):
            status = os.fstat(stream.fileno())
            self.limit = status.st_size if limit == resource.RLIM_INFINITY else min(limit, status.st_size)
            if len(line) <= self.limit:
                self.reached = identity_of(status), status.st_size

    def is_reached_by(self, file: OpenFile) -> bool:
        """Whether `file` is the last one that could grow no further."""
        with suppress(OSError, ValueError):
            return self.reached is not None and self.is_reached(os.fstat(file.stream.fileno()))
        return False

    def is_reached(self, status: os.stat_result) -> bool:
        """Whether the file of this status is the last one that could grow no further."""
        # A smaller file has the inode number of one that was removed.
        return self.reached is not None and self.reached[0] == identity_of(status) and self.reached[1] <= status.st_size
