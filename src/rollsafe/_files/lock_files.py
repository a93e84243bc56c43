"""A lock file: its name, and how it is opened or made, so that those who may write the log may lock it.

A user who may *read* a file may lock it for reading, for any time, and then no process can lock it for writing
(fcntl(2), F_SETLK). So only users who may write a log may read its lock file.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from rollsafe._files.places import Looks, Place, place_of

# How often other processes may make and remove the lock file while we open it.
_TRIES = 10

# The name of a lock file is that of its live file between these two.
_BEFORE_LIVE = "."
_BEHIND_LIVE = ".lock"


def lock_path(live: str) -> str:
    """The lock file of a live file."""
    directory, name = os.path.split(live)
    return os.path.join(directory, f"{_BEFORE_LIVE}{name}{_BEHIND_LIVE}")


def live_name_of(lock_name: str) -> str | None:
    """The name of the live file whose lock file has this name, None if it is no name of a lock file of ours."""
    live = _live_part(lock_name)
    return live if live and lock_name == f"{_BEFORE_LIVE}{live}{_BEHIND_LIVE}" else None


def _live_part(name: str) -> str:
    """The name of a lock file without our additions, if it has them; an application may choose another name."""
    return name.removeprefix(_BEFORE_LIVE).removesuffix(_BEHIND_LIVE)


def open_lock_file(path: str) -> tuple[int, bool]:
    """Open a lock file, or make it if it is missing; returns its descriptor, and whether it was made.

    Raises:
        OSError: It can neither be made nor opened.
    """
    with place_of(path) as place:
        for _ in range(_TRIES):
            refusal: OSError | None = None
            try:
                # The umask decides who may write it, and the mode shows that only afterwards. Until then no other user
                # may read it.
                descriptor = place.create(os.O_RDWR, 0o622)
            except FileExistsError:
                pass
            except OSError as error:
                # The making may be refused although the file exists and may be written.
                refusal = error
            else:
                looks = _looks_of(place)
                mode = os.fstat(descriptor).st_mode if looks.mode is None else looks.mode
                looks.replace(mode=lock_mode(mode)).give_to(descriptor)
                return descriptor, True
            try:
                return place.open(os.O_RDWR | os.O_CREAT, 0o622), False
            except FileNotFoundError:
                # Another process has removed it since, unless its making was refused.
                if refusal is not None:
                    raise refusal from None
    raise FileNotFoundError(errno.ENOENT, "is removed at each attempt; find the program that removes it", path)


def lock_mode(mode: int) -> int:
    """The mode of a lock file: those who may write a live file of `mode` may read and write it."""
    return (mode & 0o222) * 3


def _looks_of(lock: Place) -> Looks:
    """Owner, group and mode for a new lock file: those of its live file, `app.log` for `.app.log.lock`.

    Without a live file the owner of the directory counts, so that a cron job or a command of root that comes first does
    not lock the service out.
    """
    with suppress(OSError):
        status = lock.beside(_live_part(os.path.basename(lock.path))).status()
        if stat.S_ISREG(status.st_mode):
            return Looks(status.st_uid, status.st_gid, status.st_mode)
    return lock.looks()
