"""Checks of the arguments that name a place in the file system, before any file is opened."""

from __future__ import annotations

import errno
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rollsafe._files.mounts import mount_of
from rollsafe._files.places import make_directory, place_of, resolved
from rollsafe._files.renames import is_mount_point, try_rename
from rollsafe._files.special_files import is_special, resolve_live_path
from rollsafe._remedies import READ_ONLY, is_read_only, remedy_for
from rollsafe.errors import LogFileError, NotOurs


def decided_lock_writes(value: bool | None, path: str) -> bool:
    """Whether each line of the live file `path` is written under the lock: as given, or else by the mount table.

    Warns (RuntimeWarning) if nothing is given and the lock cannot exclude other hosts.
    """
    if value is not None:
        return value
    try:
        # Only Linux has it.
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            mountinfo = file.read()
    except OSError:
        return False
    mount = mount_of(path, mountinfo)
    if mount is not None and mount.is_locked_on_one_host:
        warnings.warn(
            f"{path!r} is on {mount.shown}, where a lock does not exclude other hosts: let each host write a file of"
            " its own, and then say lock_writes=False",
            RuntimeWarning,
            stacklevel=3,
        )
    return mount is not None and mount.is_shared


@contextmanager
def naming_argument(argument: str, place: str = "") -> Iterator[None]:
    """Raise a refusal of the directory that an argument asks for as a LogFileError that names the argument.

    Args:
        argument: Its name and value.
        place: What the sentence adds to that if the argument is not the directory itself.
    """
    try:
        yield
    except NotOurs as error:
        raise LogFileError(f"{argument} cannot be used: {error}") from error
    except OSError as error:
        remedy = remedy_for(error) if error.errno == errno.EROFS else "make it, or give another"
        raise LogFileError(f"{argument}{place} cannot be made: {error.strerror}; {remedy}") from error


def make_directory_of(path: str, argument: str) -> None:
    """Make the directory of a live file, if it is missing; an error names `argument`.

    Raises:
        LogFileError: It cannot be made.
    """
    with naming_argument(argument, ": its directory"):
        make_directory(os.path.dirname(os.path.abspath(path)), None)


def checked_archive_dir(value: str | os.PathLike[str] | None, live: str) -> str | None:
    """The absolute path of the directory of the backups of `live`, made if it is missing, or None.

    Raises:
        LogFileError: It cannot be made, or a rename from the live file to it cannot work.
    """
    if value is None:
        return None
    directory = os.path.abspath(os.fspath(value))
    beside = os.path.dirname(live)
    with naming_argument(f"archive_dir={directory!r}"):
        directory = resolved(directory)
    with naming_argument(f"archive_dir={directory!r}"):
        # With owner and mode of the other directory, because the users who log there roll over.
        make_directory(directory, os.stat(beside))
        apart = _are_apart(beside, directory)
    if apart:
        raise LogFileError(
            f"archive_dir={directory!r} is on another file system than {beside!r}, or another mount of it, so that a"
            " rollover could not rename the live file to it; give a directory on the same one, or move backups there in"
            " on_rollover"
        )
    return directory


def _are_apart(source: str, target: str) -> bool:
    """Whether no user can rename a file from one directory to another; it is tried, see `renames`.

    Raises:
        OSError: One of them cannot be inspected.
    """
    if os.path.samefile(source, target):
        return False
    try:
        try_rename(source, target)
    except OSError as error:
        # Another refusal may end before the rollover: permission may come later, or the workers have it.
        return error.errno == errno.EXDEV or os.stat(source).st_dev != os.stat(target).st_dev
    return False


def with_host_name(filename: str | os.PathLike[str]) -> str:
    """The path of a live file with the name of this host in the place of `{hostname}`, or a LogFileError."""
    given = os.fspath(filename)
    if "{hostname}" not in given:
        return given
    host = os.uname().nodename
    # A DHCP server may have set it.
    if "/" in host or host in ("", ".", ".."):
        raise LogFileError(f"filename={given!r}: the name of this host, {host!r}, can be no part of a file name")
    return given.replace("{hostname}", host)


def checked_path(filename: str | os.PathLike[str], delay: bool) -> str:
    """The absolute path of the live file, with links followed, or a LogFileError that says why it cannot be used.

    `{hostname}` in it is replaced. With `delay` the permission is not checked, because it may come later.
    """
    given = os.path.abspath(with_host_name(filename))
    try:
        path = resolve_live_path(given)
        with suppress(FileNotFoundError), place_of(path) as place:
            status = place.status()
            if is_special(path):
                place.check_special(status)
                return path
            if not stat.S_ISDIR(status.st_mode):
                place.check(status)
    except OSError as error:
        raise LogFileError(f"filename={given!r} cannot be used: {error}") from error
    directory = os.path.dirname(path)
    if os.path.isdir(path):
        raise LogFileError(f"filename={path!r} is a directory; give the path of a file in it")
    if not os.path.isdir(directory):
        raise LogFileError(f"filename={path!r}: the directory {directory!r} does not exist; create it first")
    if not delay and not os.access(path if os.path.exists(path) else directory, os.W_OK):
        if is_read_only(directory):
            raise LogFileError(f"filename={path!r} is on a read-only file system; {READ_ONLY}")
        raise LogFileError(
            f"filename={path!r} cannot be written by user {os.geteuid()}; give that user write permission"
            f" on {directory!r} (and on the file if it exists)"
        )
    if is_mount_point(path):
        raise LogFileError(
            f"filename={path!r} is mounted by itself, as by docker run -v FILE:FILE, so that a rollover could not"
            " rename it; mount its directory instead"
        )
    return path
