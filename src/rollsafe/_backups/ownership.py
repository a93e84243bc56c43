"""Whose the backups of one name in a directory are.

Two logs `a/app.log` and `b/app.log` with one `archive_dir` make backups of the same names. Each would compress and
remove those of the other. No name tells them apart, so the second log is refused.

The directory has an extended attribute (xattr(7)) `user.rollsafe.NAME` with the full path of the live file whose
backups of that name go there. No file, because what people list in a directory of backups is to be backups. Where there
are no extended attributes, nothing is recorded, and only the logs of one process are told apart.

A record holds as long as the log that it names says the same: its lock file is there, and the note in it has this
directory. So a log that was moved, or got another `archive_dir`, is in nobody's way.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rollsafe._files.lock_files import lock_path
from rollsafe._files.note import read_note
from rollsafe._files.places import open_directory

_ATTRIBUTE = "user.rollsafe."
# Of the name of an attribute, in bytes.
_LONGEST = 255


def claim(directory: str, live: str) -> str | None:
    """Record that backups named after `live` in a directory are its own.

    Returns:
        The full path of the other log that they belong to, and then nothing is recorded; None if it is ours.
    """
    other = other_owner(directory, live)
    if other is None and hasattr(os, "setxattr"):
        with suppress(OSError, ValueError), _opened(directory) as descriptor:
            if _recorded(descriptor, live) != live:
                os.setxattr(descriptor, _attribute(live), os.fsencode(live))
    return other


def other_owner(directory: str, live: str) -> str | None:
    """The full path of the other log to which the backups in a directory belong that are named after `live`."""
    beside = os.path.join(directory, os.path.basename(live))
    if beside != live and (os.path.lexists(beside) or os.path.lexists(lock_path(beside))):
        return beside
    try:
        with _opened(directory) as descriptor:
            recorded = _recorded(descriptor, live)
    except (OSError, ValueError):
        return None
    if recorded in (None, live) or not os.path.lexists(lock_path(recorded)):
        return None
    note = read_note(recorded)
    settings = note.parse_settings() if note else None
    # What cannot be read may say the same.
    return recorded if settings is None or settings.archive_dir == directory else None


def _recorded(descriptor: int, live: str) -> str | None:
    """The live file that a directory has on record for the name of `live`, None if it has none."""
    if not hasattr(os, "getxattr"):
        return None
    with suppress(OSError):
        recorded = os.fsdecode(os.getxattr(descriptor, _attribute(live)))
        if os.path.isabs(recorded) and os.path.basename(recorded) == os.path.basename(live) and "\0" not in recorded:
            return recorded
    return None


def _attribute(live: str) -> bytes:
    """The name of the attribute for logs of the name of `live`; ValueError if it would be too long."""
    name = _ATTRIBUTE.encode() + os.fsencode(os.path.basename(live))
    if len(name) > _LONGEST:
        raise ValueError(name)
    return name


@contextmanager
def _opened(directory: str) -> Iterator[int]:
    """A directory, open for its attributes."""
    with open_directory(directory) as place:
        descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=place)
        try:
            yield descriptor
        finally:
            os.close(descriptor)
