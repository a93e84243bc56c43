"""Live files that are written and otherwise left alone: devices, FIFOs, and the links of the kernel to descriptors."""

from __future__ import annotations

import os
import stat

from rollsafe.places import is_root, place_of, resolved
from rollsafe.walk import MOST_LINKS, Walk


def resolve_live_path(path: str) -> str:
    """The full path of a live file, links followed; but not those that the kernel makes of a process's descriptors.

    /dev/stdout leads to whatever standard output is: where a shell has redirected it, to a regular file, which is the
    shell's and not to be renamed. So a link to it is followed to there and no further.

    Raises:
        NotOurs: One of the links may have been put there by another user.
        OSError: A directory cannot be entered.
    """
    seen = path
    for _ in range(MOST_LINKS):
        if _is_of_kernel(seen):
            # As it is named: /proc/self is another directory after a fork.
            return os.path.normpath(seen)
        if not os.path.islink(seen):
            break
        seen = _followed(seen)
    return resolved(path)


def _is_of_kernel(path: str) -> bool:
    """Whether a path is of a link in /dev or /proc."""
    if not os.path.islink(path):
        return False
    directory = os.path.realpath(os.path.dirname(path))
    return directory == "/dev" or directory.startswith(("/dev/fd", "/proc/"))


def _followed(path: str) -> str:
    """What a link leads to, one step."""
    if not is_root():
        return os.path.join(os.path.dirname(path), os.readlink(path))
    walk = Walk()
    try:
        directory, name = os.path.split(path)
        walk.go(directory)
        return os.path.join(directory, walk.target_of(name) or name)
    finally:
        walk.close()


def is_special(path: str) -> bool:
    """Whether a live file is to be written and otherwise left alone: /dev/null, /dev/stdout, a FIFO, a terminal."""
    try:
        kind = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)) or _is_of_kernel(path)


def open_special(path: str, flags: int) -> int:
    """Open what is written and otherwise left alone; without a reader, a FIFO is refused (ENXIO).

    Raises:
        NotOurs: Another user may have put it there.
        OSError: It cannot be opened.
    """
    with place_of(path) as place:
        place.check_special(place.status())
        # Write-only: readable too, a FIFO would never break for want of a reader (fifo(7)).
        descriptor = os.open(path, flags & ~os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC)
    os.set_blocking(descriptor, True)
    return descriptor
