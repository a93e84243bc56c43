"""Remedies for refused calls."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

READ_ONLY = (
    "log where this process may write: on a volume of the container, or in a directory that LogsDirectory= or"
    " ReadWritePaths= of the systemd unit names"
)
"""The remedy for a read-only file system; a permission would not help."""


def remedy_for(error: BaseException) -> str:
    """The remedy for a refused call, by the paths of its error and the files there; empty if none is known."""
    if isinstance(error, OSError) and error.errno == errno.EROFS:
        return READ_ONLY
    if not isinstance(error, PermissionError) or not isinstance(error.filename, str):
        return ""
    user = f"give user {os.geteuid()} write permission on"
    status = None
    with suppress(OSError):
        status = os.lstat(error.filename)
    if status is not None and error.filename2 is None and not _may(error.filename, os.R_OK | os.W_OK):
        return f"{user} {error.filename!r}, which belongs to user {status.st_uid}"
    for path in (error.filename, error.filename2):
        if isinstance(path, str) and not _may(os.path.dirname(path), os.W_OK | os.X_OK):
            return f"{user} {os.path.dirname(path)!r}"
    if status is not None and error.filename2 is not None and _is_sticky(os.path.dirname(error.filename)):
        return (
            f"{error.filename!r} belongs to user {status.st_uid}, and in a directory like /tmp no other user may rename"
            " it; log into a directory of your own"
        )
    return ""


def is_read_only(path: str) -> bool:
    """Whether the file system of a path is mounted read-only here."""
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def _is_sticky(directory: str) -> bool:
    """Whether only the owner of a file there may rename it."""
    return bool(os.stat(directory).st_mode & stat.S_ISVTX)


def _may(path: str, how: int) -> bool:
    """Whether this process has the permissions `how`."""
    return os.access(path, how, effective_ids=os.access in os.supports_effective_ids)
