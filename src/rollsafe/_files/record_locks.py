"""Locks of bytes, as the kernel keeps them (fcntl(2), "Record locks"), and closing a descriptor without losing one.

The interpreters of one process (mod_wsgi and uWSGI make one for each application) share no module, and POSIX locks do
not exclude them from each other. So a sub-interpreter takes the locks of its open file description (fcntl(2), "Open
file description locks"), which exclude POSIX locks, and each other, within one process too. And it closes no descriptor
of a lock file, as that would drop the locks of the main interpreter.
"""

from __future__ import annotations

import errno
import fcntl
import importlib
import os
import struct
import sys
from contextlib import suppress

from rollsafe._files.identity import Identity, identity_of

# struct flock of fcntl(2) on Linux, the only system on which we use locks of an open file description.
_FLOCK = "hhqqi4x"


def _is_sub_interpreter() -> bool:
    """Whether this is not the main interpreter of the process."""
    # The modules up to Python 3.12 and from 3.13 on; no public module of these versions says it.
    for name in ("_xxsubinterpreters", "_interpreters"):
        with suppress(ImportError, AttributeError):
            interpreters = importlib.import_module(name)
            return bool(interpreters.get_current() != interpreters.get_main())
    return False


LOCKS_DESCRIPTION = sys.platform == "linux" and _is_sub_interpreter()


def set_lock(descriptor: int, kind: int, byte: int) -> None:
    """Lock or unlock one byte without waiting.

    Raises:
        OSError: Another process, or another interpreter of this one, has it locked (EACCES, EAGAIN); or fcntl failed.
    """
    if LOCKS_DESCRIPTION:
        asked = struct.pack(_FLOCK, kind, os.SEEK_SET, byte, 1, 0)
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, asked)
    elif kind == fcntl.F_UNLCK:
        fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, byte)
    else:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)


def close_descriptor(descriptor: int, identity: Identity | None) -> None:
    """Close the descriptor of a lock file, unless its number means another file by now.

    A daemon closes all descriptors that it inherits, and another file may have got the number since.

    A sub-interpreter leaves the descriptor open, because a close would drop the POSIX locks of the main interpreter on
    the file (fcntl(2), "Record locks"). So it keeps one more descriptor after each fork.
    """
    if descriptor < 0 or LOCKS_DESCRIPTION:
        return
    try:
        status = os.fstat(descriptor)
    except OSError as error:
        if error.errno != errno.ESTALE:
            return
        status = None
    if status is None or identity_of(status) == identity:
        # An error closes it, too (close(2), "Dealing with error returns"), and a lock file has no data to lose.
        with suppress(OSError):
            os.close(descriptor)
