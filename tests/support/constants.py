"""Other values for the constants of a module, in a process of its own, where there is no `monkeypatch`."""

from __future__ import annotations

from types import ModuleType


def set_constants(module: ModuleType, **values: object) -> None:
    """Give constants other values; one that the module does not have, because it has moved, is an AttributeError."""
    for name, value in values.items():
        getattr(module, name)
        setattr(module, name, value)
