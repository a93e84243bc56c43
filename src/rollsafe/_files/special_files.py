"""Live files that are only written, and never renamed: devices, FIFOs, and links of the kernel to descriptors."""

from __future__ import annotations

import os
import stat
from contextlib import closing

from rollsafe._files.places import is_root, place_of, resolved
from rollsafe._files.walk import MOST_LINKS, Walk


def resolve_live_path(path: str) -> str:
    """The full path of a live file, with links followed, except those of the kernel to the descriptors of a process.

    /dev/stdout leads to the standard output. If a shell has redirected it, that is a regular file of the shell, which
    is not to be renamed. So a link to /dev/stdout is followed to there and no further.

    Raises:
        NotOurs: One of the links may have been put there by another user.
        OSError: A directory cannot be entered.
    """
    seen = path
    for _ in range(MOST_LINKS):
        if _is_of_kernel(seen):
            # The name as it is: /proc/self is another directory after a fork.
            return os.path.normpath(seen)
        if not os.path.islink(seen):
            break
        seen = _followed(seen)
    return resolved(path)


def _is_of_kernel(path: str) -> bool:
    """Whether a path names a link in /dev or /proc, or an entry of /dev/fd, which is no link on the BSDs."""
    directory = os.path.realpath(os.path.dirname(path))
    if directory == "/dev/fd":
        return True
    return os.path.islink(path) and (directory == "/dev" or directory.startswith("/proc/"))


def _followed(path: str) -> str:
    """The target of a link, one step."""
    if not is_root():
        return os.path.join(os.path.dirname(path), os.readlink(path))
    directory, name = os.path.split(path)
    with closing(Walk()) as walk:
        walk.go(directory)
        return os.path.join(directory, walk.target_of(name) or name)


def is_special(path: str) -> bool:
    """Whether a live file is only to be written, and never renamed: /dev/null, /dev/stdout, a FIFO, a terminal."""
    try:
        kind = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)) or _is_of_kernel(path)


def open_special(path: str, flags: int) -> int:
    """Open a special file to write it; a FIFO without a reader is refused (ENXIO).

    Raises:
        NotOurs: Another user may have put it there.
        OSError: It cannot be opened.
    """
    with place_of(path) as place:
        place.check_special(place.status())
        # Not readable too: then a write to a FIFO would not fail when its last reader is gone (fifo(7)).
        descriptor = os.open(path, flags & ~os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC)
    os.set_blocking(descriptor, True)
    return descriptor
