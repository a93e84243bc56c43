"""On whose word a tool removes files: that of the user who may write the lock file, and with no more than its rights.

A note says where the backups are, what they are called and how long they are kept. Whoever may write the lock file may
write anything there, and whoever may write its directory may put another file in its place. So

- root acts as the owner of the lock file, or of its directory where the file is root's: the kernel then allows no more
  than that user could do alone. Root stays root only where nobody else can have written the note;
- any other user acts on nobody's word but root's and its own;
- where still others may write the lock file, a directory that the note tells (`archive_dir`) is not believed.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from rollsafe.errors import LogFileError
from rollsafe.locks import NOTE_BYTES
from rollsafe.note import parse_note
from rollsafe.places import Place, is_root, place_of
from rollsafe.tools.catalog import Log

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
# The group of a user who has no entry in the user database.
_NOBODYS_GROUP = 65534


@contextmanager
def acting_for(log: Log) -> Iterator[None]:
    """Have the rights of the user on whose word files of `log` are removed. Not while the lock file is in use here.

    Raises:
        LogFileError: It is nobody's word that this user acts on, or the note has changed since `log` was read.
        NotOurs: What is under the name of the lock file is not to be used.
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
                f"the lock file {log.lock_path!r} is of user {lock.st_uid}, on whose word user {user} removes nothing;"
                f" do it as user {lock.st_uid}"
            )
        others = bool(lock and lock.st_mode & _OTHERS_WRITE)
        if is_root() and user == 0:
            if not place.settled:
                raise LogFileError(
                    f"the path {log.live!r} leads through a directory of another user, on whose word root removes"
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
    """The status of the lock file, whose note is still the one that `log` was made of; None if there is none."""
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
    """Have the rights of a user, if this is root; they are those of the whole process meanwhile."""
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
