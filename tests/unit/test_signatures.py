"""The signatures of everything public stay as they are: whoever changes one changes `signatures.txt` on purpose.

A failure shows both. To write the file anew: `python -m tests.unit.test_signatures`.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

GOLDEN = Path(__file__).with_name("signatures.txt")
REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
PAGES = "\n".join(page.read_text(encoding="utf-8") for page in sorted(REFERENCE.glob("*.md")))
MODULES = [
    "rollsafe",
    "rollsafe.gunicorn",
    "rollsafe.uwsgi",
    "rollsafe.flask",
    "rollsafe.celery",
    "rollsafe.request_ids",
    "rollsafe.json_lines",
    "rollsafe.metrics",
]


def public_names() -> list[str]:
    """The names that the public modules export, and those that the reference shows."""
    exported = {f"{module}.{name}" for module in MODULES for name in importlib.import_module(module).__all__}
    return sorted(exported.union(re.findall(r"^\.\. auto(?:class|function|exception):: (\S+)$", PAGES, re.MULTILINE)))


def members_of(name: str) -> list[str]:
    """The members of a class that the reference shows."""
    listed = re.search(
        rf"^\.\. autoclass:: {re.escape(name)}\n +:members:(?P<names>(?: *[\w, ]+\n)*)", PAGES, re.MULTILINE
    )
    return sorted(re.findall(r"\w+", listed["names"])) if listed else []


def signatures_of(name: str) -> Iterator[str]:
    """The signature of a function; of a class, those of the members too that the reference shows."""
    module, _, last = name.rpartition(".")
    value = getattr(importlib.import_module(module), last)
    if not inspect.isclass(value):
        yield f"{name}{inspect.signature(value)}"
        return
    own = own_members(value)
    yield f"class {name}{inspect.signature(value) if '__init__' in own else ''}"
    for member in members_of(name):
        attribute = own.get(member)
        yield f"    {member}{inspect.signature(attribute) if inspect.isfunction(attribute) else ': attribute'}"


def own_members(kind: type) -> dict[str, object]:
    """The members that a class has from classes of the package."""
    members: dict[str, object] = {}
    for each in reversed(kind.__mro__):
        if each.__module__.partition(".")[0] == "rollsafe":
            members |= vars(each)
    return members


def text() -> str:
    """All signatures, one a line."""
    return "".join(f"{line}\n" for name in public_names() for line in signatures_of(name))


def test_the_public_signatures_are_these() -> None:
    assert text() == GOLDEN.read_text(encoding="utf-8")


if __name__ == "__main__":
    GOLDEN.write_text(text(), encoding="utf-8")
