"""A rename that replaces no file (RENAME_NOREPLACE of Linux, which Python does not offer), and a trial rename.

stat(2) of two directories does not show whether a file can be renamed from one to the other: two mounts of one file
system have one device number, and so have two directories with different project quotas (xfs, ext4). Only a trial does.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from rollsafe._files.places import open_directory, places_of

try:
    import ctypes
except (ImportError, MemoryError):  # built without it; forbidden by SELinux (its closures are memory to execute)
    ctypes = None  # type: ignore[assignment]  # no other way to say so

# From <linux/fs.h> and <fcntl.h> of Linux; from <sys/stdio.h> and <sys/fcntl.h> of macOS (RENAME_EXCL).
_NOREPLACE: Final = 1
_AT_FDCWD: Final = -100
_NOREPLACE_OF_MACOS: Final = 4
_AT_FDCWD_OF_MACOS: Final = -2
# The kernel or the file system lacks it (ENOSYS, EINVAL, EOPNOTSUPP, on macOS ENOTSUP, which is another number there),
# or a container forbids it (EPERM). A plain rename may work then. After any other error it would fail, too.
_NOT_OFFERED: Final = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EPERM)


def _renameat2_of(library: Any) -> Callable[..., int] | None:
    """renameat2(2) of a C library: Linux (musl since 1.2.6), FreeBSD 16; on macOS what does the same; else None."""
    found: Callable[..., int] | None = getattr(library, "renameat2", None)
    renameatx: Callable[..., int] | None = getattr(library, "renameatx_np", None)
    if found is not None or renameatx is None:
        return found

    def renameat2(source_at: int, source: bytes, target_at: int, target: bytes, _: int) -> int:
        """renameatx_np(2) with RENAME_EXCL."""
        places = [_AT_FDCWD_OF_MACOS if place == _AT_FDCWD else place for place in (source_at, target_at)]
        return renameatx(places[0], source, places[1], target, _NOREPLACE_OF_MACOS)

    return renameat2


def _find_renameat2() -> Callable[..., int] | None:
    """The function of the C library of this process, if there is one."""
    try:
        return _renameat2_of(ctypes.CDLL(None, use_errno=True))
    except (OSError, AttributeError):
        return None


_renameat2 = _find_renameat2()


def rename_new(source: str, target: str) -> bool:
    """Rename `source` to `target`, a free name; False, with nothing done, if the system offers no such rename.

    A plain rename(2) would replace a file of that name. And if it replaces even an empty file, ext4 first allocates and
    writes the delayed data of the source (ext4(5), "auto_da_alloc"; measured: 0.3 s for 1.7 GB). Meanwhile no process
    can make or rename a file in the directory.

    Raises:
        FileExistsError: The name `target` is taken.
        OSError: A plain rename would fail, too.
    """
    if _renameat2 is None:
        return False
    with places_of(source, target) as (old, new):
        try:
            return rename_new_at(old.name, old.dir_fd, new.name, new.dir_fd)
        except OSError as error:
            error.filename, error.filename2 = source, target
            raise


def rename_new_at(source: str, source_dir_fd: int | None, target: str, target_dir_fd: int | None) -> bool:
    """Rename as `rename_new` does: names in open directories, or paths if the descriptors are None."""
    if _renameat2 is None or "\0" in source + target:  # C would take a NUL for the end of the name
        return False
    at = [_AT_FDCWD if directory is None else directory for directory in (source_dir_fd, target_dir_fd)]
    if _renameat2(at[0], os.fsencode(source), at[1], os.fsencode(target), _NOREPLACE) == 0:
        return True
    code = ctypes.get_errno()
    if code not in _NOT_OFFERED:
        raise OSError(code, os.strerror(code), source, None, target)
    return False


def rename_over(source: str, target: str) -> None:
    """Rename `source` to `target` by rename(2), which replaces a file of that name. Raises OSError if it is refused."""
    with places_of(source, target) as (old, new):
        try:
            os.rename(old.name, new.name, src_dir_fd=old.dir_fd, dst_dir_fd=new.dir_fd)
        except OSError as error:
            error.filename, error.filename2 = source, target
            raise


def try_rename(source: str, target: str) -> None:
    """Rename an empty file of ours from one directory to another, or within one, and remove it there.

    Raises:
        OSError: A step was refused; `filename2` is set if that was the rename.
    """
    name = f".rollsafe-probe-{os.urandom(8).hex()}"
    # By descriptors, so that all steps use the same two directories, even if another user may write there.
    with open_directory(source) as origin, open_directory(target) as destination:
        try:
            _try_rename(name, origin, destination)
        except OSError as error:
            renamed = error.filename2 is not None
            raise OSError(error.errno, error.strerror, source, None, target if renamed else None) from error


def _try_rename(name: str, origin: int, destination: int) -> None:
    """The steps of `try_rename` in open directories."""
    os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=origin))
    renamed = f"{name}.1"
    try:
        os.rename(name, renamed, src_dir_fd=origin, dst_dir_fd=destination)
    finally:
        for left, directory in ((name, origin), (renamed, destination)):
            with suppress(FileNotFoundError):
                os.unlink(left, dir_fd=directory)


def is_mount_point(path: str) -> bool:
    """Whether a file is mounted by itself, as by `docker run -v FILE:FILE`: no rename of it works then (EBUSY).

    It compares the mounts of the file and of its directory (proc(5), "fdinfo"); False if the system does not show them.
    """
    own, around = _mount_of(path), _mount_of(os.path.dirname(path) or ".")
    return None not in (own, around) and own != around


def _mount_of(path: str) -> int | None:
    """The number of the mount that a path is on, None if the system does not show it."""
    try:
        descriptor = os.open(path, getattr(os, "O_PATH", os.O_RDONLY | os.O_NONBLOCK) | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        with open(f"/proc/self/fdinfo/{descriptor}", "rb") as file:
            return next((int(line.split()[1]) for line in file if line.startswith(b"mnt_id:")), None)
    except (OSError, ValueError, IndexError):
        return None
    finally:
        with suppress(OSError):
            os.close(descriptor)
