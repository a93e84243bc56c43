"""The names of a file on the disk: compared, given and removed, each only if it is still the file that was seen."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rollsafe._backups.ledger import Changed, Ledger
from rollsafe._backups.scratch import NO_LINKS, claimed, opened
from rollsafe._files.identity import Identity, identity_of
from rollsafe._files.places import Place, place_of
from rollsafe._files.renames import rename_new_at

Fingerprint = tuple[int, int, int, int]
"""Device, inode, size, and ctime in nanoseconds of a file: it changes when the file is written, renamed or replaced."""


def fingerprint_of(status: os.stat_result) -> Fingerprint:
    """The fingerprint of the file with this status."""
    return status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns


def names_file(place: Place, identity: Identity) -> bool:
    """Whether a place names the file of this identity."""
    try:
        return identity_of(place.status()) == identity
    except FileNotFoundError:
        return False


def rename_to_free(name: str, dir_fd: int | None, new: Place) -> None:
    """Rename a file in an open directory to a place whose name is free; only under the lock."""
    if not rename_new_at(name, dir_fd, new.name, new.dir_fd):
        try:
            new.status()
        except FileNotFoundError:
            os.rename(name, new.name, src_dir_fd=dir_fd, dst_dir_fd=new.dir_fd)
        else:
            raise FileExistsError(errno.EEXIST, "it exists", new.path)


def give_name(path: str, final_path: str, fingerprint: Fingerprint, ledger: Ledger) -> None:
    """Give a file that was found quiet with this fingerprint a second, final name.

    If the file system has no hard links, it loses its first name.

    Raises:
        Changed: It has another fingerprint now, or the lock was lost.
        FileExistsError: The final name is taken; the file there is left alone.
        OSError: A call was refused.
    """
    with ledger.held(), place_of(path) as place, place_of(final_path) as final:
        if fingerprint_of(place.status()) != fingerprint:
            raise Changed(path)
        try:
            os.link(place.name, final.name, src_dir_fd=place.dir_fd, dst_dir_fd=final.dir_fd, follow_symlinks=False)
        except FileExistsError:
            if not names_file(final, fingerprint[:2]):
                raise
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            rename_to_free(place.name, place.dir_fd, final)


def drop_copied(path: str, copy_path: str, size: int, ledger: Ledger) -> None:
    """Unlink a file of which the application has made a copy.

    Args:
        path: The file.
        copy_path: The copy.
        size: The size of the file before. It may be empty now, because the application has copied and truncated it.
        ledger: Of the log.

    Raises:
        OSError: It has another size: it has lines that were written after the copy was made.
    """
    with ledger.held(), place_of(path) as place, place_of(copy_path) as copy:
        status = place.status()
        if status.st_size not in (0, size):
            raise OSError(errno.EBUSY, "has got lines since it was copied, and is kept", path)
        ledger.record(status, size, copy.status())
        os.unlink(place.name, dir_fd=place.dir_fd)
        with suppress(OSError):
            ledger.settle(ledger.identity(status))


@contextmanager
def claimed_file(path: str, identity: Identity) -> Iterator[None]:
    """Keep other processes off the file that `path` names (see `claimed`).

    Raises:
        Taken: Another process works on it.
        Changed: The path names another file.
        OSError: It cannot be opened.
    """
    with place_of(path) as place:
        try:
            descriptor = place.open(os.O_RDONLY)
        except PermissionError:
            # A file that this process may not read can still be removed.
            yield
            return
        with opened(descriptor), claimed(descriptor):
            # The process that had claimed it before may have replaced or removed it.
            if not names_file(place, identity):
                raise Changed(path)
            yield


def remove(path: str, identity: Identity) -> None:
    """Unlink a path that names the file of this identity.

    Raises:
        Changed: It names another file.
        FileNotFoundError: It names none.
    """
    with place_of(path) as place:
        if identity_of(place.status()) != identity:
            raise Changed(path)
        os.unlink(place.name, dir_fd=place.dir_fd)


def remove_both(path: str, second: str, fingerprint: Fingerprint) -> None:
    """Remove a file, also under a second name if it has that."""
    with claimed_file(path, fingerprint[:2]):
        if are_one(path, second):
            remove(second, fingerprint[:2])
        remove(path, fingerprint[:2])


def are_one(path: str, other: str) -> bool:
    """Whether two paths name the same file."""
    try:
        first, second = os.lstat(path), os.lstat(other)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENAMETOOLONG):
            raise
        return False
    return identity_of(first) == identity_of(second)


def exists(path: str) -> bool:
    """Whether a path names anything; `os.path.lexists` says no also if it may not look."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True
