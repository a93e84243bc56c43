"""Whether a method is still the one that its class was released with. Pure.

**The rule: the method at the time of its use counts, not the method of an earlier look.** An application, a tracing
agent or a test may replace a method of an object, of one of our classes, or of a class of `logging`, at any time, even
before this package is imported. Code that does the work of such a method in another way compares it first, each time.
Otherwise it would bypass a redaction, and write what must not be written. `LineFormatter` compares the methods that are
replaced on a class, other than `format`, once a second, and says so.
"""

from __future__ import annotations

import sys
from types import FunctionType
from typing import Any


def original(owner: type, name: str) -> object:
    """The method of a class as it was released, to compare by identity; a new object if it was replaced before.

    A replacement that calls the original is a function of another module, even if `functools.wraps` gives it the old
    name, or it is an object of another type (wrapt).
    """
    method = getattr(owner, name)
    home = next(base for base in owner.__mro__ if name in vars(base)).__module__
    released = type(method) is FunctionType and method.__globals__ is vars(sys.modules[home])
    return method if released and not hasattr(method, "__wrapped__") else object()


def is_replaced(thing: object, name: str, method: object) -> bool:
    """Whether an object or its class has another attribute of that name than the given method.

    It reads the attribute. `vars` would slow down every attribute of the object, because CPython 3.11 and 3.12 keep
    attributes without a dictionary until code asks for it.
    """
    return getattr(getattr(thing, name), "__func__", None) is not method


class NotesChanges:
    """An object that notes which of its attributes are set or removed."""

    __slots__ = ()

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute, and note that."""
        super().__setattr__(name, value)
        self._note_change(name)

    def __delattr__(self, name: str) -> None:
        """Remove an attribute, and note that."""
        super().__delattr__(name)
        self._note_change(name)

    def _note_change(self, name: str) -> None:
        """The attribute `name` was set or removed."""
        raise NotImplementedError
