"""The modules of the package under test, by their dotted names, in whatever folders their files are."""

from __future__ import annotations

from pathlib import Path
from types import CodeType

import rollsafe

PACKAGE = Path(rollsafe.__file__).parent


def name_of(path: Path) -> str:
    """The dotted name of the module in a file of the package; a folder's `__init__.py` has the name of the folder."""
    inner = path.relative_to(PACKAGE.parent).with_suffix("")
    return ".".join(inner.parent.parts if inner.name == "__init__" else inner.parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
_NAMES = {str(path): name for name, path in MODULES.items()}


def module_of(code: CodeType) -> str | None:
    """The name of the module that a piece of code is from, None if it is from outside the package."""
    return _NAMES.get(code.co_filename)
