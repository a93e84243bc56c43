"""The environment of the process itself; `os.environ` is a copy that the interpreter has made at its start."""

from __future__ import annotations

import os

try:
    import ctypes
except ImportError:  # an interpreter that was built without it
    ctypes = None  # type: ignore[assignment]  # no other way to say so

__all__ = ["unseen_variables"]


def unseen_variables() -> dict[bytes, bytes]:
    """The variables that `os.environ` lacks, because C code set them (putenv(3)) after Python copied the environment.

    A change by Python code is in both. If the environment cannot be read, none is returned.
    """
    if ctypes is None:
        return {}
    try:
        entries = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), "environ")  # environ(7)
    except (OSError, ValueError):
        return {}
    found = {}
    number = 0
    while entries and (entry := entries[number]) is not None:
        name, equals, value = entry.partition(b"=")
        if equals and os.environb.get(name) != value:
            found[name] = value
        number += 1
    return found
