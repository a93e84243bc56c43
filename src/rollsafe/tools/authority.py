"""The rights with which a tool changes files: those of the user who can have written the note in the lock file.

A note says where the backups are, how they are named, and how long to keep them. A user who may write the lock file may
write anything there, and a user who may write its directory may put another file in its place. So

- root acts as the owner of the lock file, or as the owner of its directory if the file is root's: the kernel then
  allows no more than that user could do alone. Root stays root only if no other user can have written the note;
- any other user trusts only a note of its own or of root;
- if still other users may write the lock file, the tools do not believe the directory in the note (`archive_dir`).
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from rollsafe._files.lock_handles import NOTE_BYTES
from rollsafe._files.note import parse_note
from rollsafe._files.places import Place, is_root, place_of
from rollsafe.errors import LogFileError
from rollsafe.tools.catalog import Log

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
# The group of a user who has no entry in the user database.
_NOBODYS_GROUP = 65534


@contextmanager
def acting_for(log: Log) -> Iterator[None]:
    """Have the rights of the user who can have written the note of `log`. Not for a process that uses the lock file.

    Raises:
        LogFileError: This user does not trust the note, or the note has changed since `log` was read.
        NotOurs: The file under the name of the lock file must not be used.
        OSError: The directory cannot be reached.
    """
    with place_of(log.lock_path) as place:
        directory = place.directory or os.stat(os.path.dirname(log.live))
        lock = _checked_lock(log, place)
        user = os.geteuid()
        if is_root():
            user = lock.st_uid if lock and lock.st_uid else directory.st_uid
        elif lock and lock.st_uid not in (0, user):
            raise LogFileError(
                f"the lock file {log.lock_path!r} is of user {lock.st_uid}, on whose word user {user} does nothing;"
                f" do it as user {lock.st_uid}"
            )
        others = bool(lock and lock.st_mode & _OTHERS_WRITE)
        if is_root() and user == 0:
            if not place.settled:
                raise LogFileError(
                    f"the path {log.live!r} leads through a directory of another user, on whose word root does"
                    " nothing; do it as the user whose log it is"
                )
            others = others or not place.is_safe(lock or directory)
    elsewhere = log.settings.archive_dir not in (None, os.path.dirname(log.live))
    if log.told and others and elsewhere:
        raise LogFileError(
            f"the lock file {log.lock_path!r} can be written by others than user {user}, so its archive_dir"
            f" {log.settings.archive_dir!r} is not believed; take that permission from file and directory (chmod go-w),"
            " or leave it to the limits of the handler"
        )
    with _rights_of(user):
        yield


def _checked_lock(log: Log, place: Place) -> os.stat_result | None:
    """The status of the lock file if it still has the note from which `log` was made; None if there is none."""
    try:
        descriptor = place.open(os.O_RDONLY)
    except FileNotFoundError:
        if log.told:
            raise
        return None
    try:
        note = parse_note(os.pread(descriptor, NOTE_BYTES, 0))
        settings = note.parse_settings() if note else None
        if settings != (log.settings if log.told else None):
            raise LogFileError(f"the settings in {log.lock_path!r} have just changed; try again")
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _rights_of(user: int) -> Iterator[None]:
    """Have the rights of a user, if this is root; meanwhile the whole process has them."""
    if not is_root() or user == 0:
        yield
        return
    try:
        entry = pwd.getpwuid(user)
        group, groups = entry.pw_gid, os.getgrouplist(entry.pw_name, entry.pw_gid)
    except KeyError:
        group, groups = _NOBODYS_GROUP, []
    before = os.getegid(), os.getgroups()
    os.setgroups(groups)
    os.setegid(group)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(before[0])
        os.setgroups(before[1])
