"""Whether a method is still the one that its class was released with. Pure.

**The rule: what is there when it is used counts, not what was there when it was looked at.** An application, a tracing
agent or a test may replace a method of an object, of a class of ours or of one of `logging`; at any time, and before
this package is imported. Code that does the work of such a method in another way compares first, each time: a
redaction that is passed over writes what nobody wanted written.
"""

from __future__ import annotations

import sys
from types import FunctionType


def original(owner: type, name: str) -> object:
    """The method of a class as it was released, to compare by identity; equal to nothing if it was replaced before.

    A replacement that calls what it replaces is a function of another module, even where `functools.wraps` gives it
    the old name, or it is an object of another type (wrapt).
    """
    method = getattr(owner, name)
    home = next(base for base in owner.__mro__ if name in vars(base)).__module__
    released = type(method) is FunctionType and method.__globals__ is vars(sys.modules[home])
    return method if released and not hasattr(method, "__wrapped__") else object()


def is_replaced(thing: object, name: str, method: object) -> bool:
    """Whether an object, or its class, has something else of that name than the given method of its class.

    By what the object gives: `vars` would slow down every attribute of the object, because CPython 3.11 and 3.12 keep
    them without a dictionary until somebody asks for it.
    """
    return getattr(getattr(thing, name), "__func__", None) is not method
