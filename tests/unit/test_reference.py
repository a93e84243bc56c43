"""The reference speaks of every public name, and their docstrings of exactly the parameters that there are."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rollsafe
from rollsafe._files.note import parse_note
from rollsafe._options import ENVIRONMENT
from rollsafe._settings import Settings
from rollsafe._values import fields
from rollsafe.gunicorn import rotating_logs
from rollsafe.uwsgi import set_up_logs

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
PAGES = "\n".join(page.read_text(encoding="utf-8") for page in REFERENCE.glob("*.md"))

# The modules for users of the package; the others are private.
PUBLIC_MODULES = [
    "rollsafe",
    *(f"rollsafe.{name}" for name in ("gunicorn", "uwsgi", "flask", "celery", "request_ids", "json_lines", "metrics")),
]
PUBLIC_NAMES = [f"{module}.{name}" for module in PUBLIC_MODULES for name in importlib.import_module(module).__all__]
WITH_PARAMETERS: list[Callable[..., Any]] = [
    rollsafe.SafeTimedRotatingFileHandler,
    rollsafe.FileLock,
    rotating_logs,
    set_up_logs,
]


def documented_parameters(docstring: str) -> list[str]:
    """The parameters that the section "Args:" of a docstring explains, in order; one line may explain several."""
    _, _, section = inspect.cleandoc(docstring).partition("Args:\n")
    lines = re.findall(r"^ {4}(\w+(?:, \w+)*): ", section.partition("\n\n")[0], re.MULTILINE)
    return [name for line in lines for name in line.split(", ")]


def is_shown(name: str) -> bool:
    """Whether a page of the reference shows the docstring of `name`, by itself or as a member of its module."""
    module, _, last = name.rpartition(".")
    if re.search(rf"^\.\. auto(class|function|exception|data):: {re.escape(name)}$", PAGES, re.MULTILINE):
        return True
    members = re.search(rf"^\.\. automodule:: {re.escape(module)}\n +:members:(?P<names>[^\n]*)$", PAGES, re.MULTILINE)
    return members is not None and last in re.findall(r"\w+", members["names"])


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_the_reference_shows_every_public_name(name: str) -> None:
    assert is_shown(name), f"give {name} an autodoc directive in docs/reference"


@pytest.mark.parametrize("documented", WITH_PARAMETERS, ids=lambda documented: documented.__name__)
def test_the_docstring_explains_exactly_the_parameters_that_there_are(documented: Callable[..., Any]) -> None:
    assert documented_parameters(documented.__doc__ or "") == list(inspect.signature(documented).parameters)


def test_the_table_of_the_handler_has_exactly_the_parameters_that_there_are() -> None:
    rows = re.findall(
        r"^\| ((?:`\w+`(?:, )?)+) \|", (REFERENCE / "handler.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    listed = [name for row in rows for name in re.findall(r"\w+", row)]
    assert sorted(listed) == sorted(inspect.signature(rollsafe.SafeTimedRotatingFileHandler).parameters)


def test_the_reference_lists_every_variable_of_the_environment() -> None:
    page = (REFERENCE / "configuration.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `(ROLLSAFE_\w+)` \| `(\w+)`", page, re.MULTILINE))
    assert listed == {variable: parameter for parameter, (variable, _) in ENVIRONMENT.items()}


def test_the_protocol_lists_every_setting_of_the_note() -> None:
    page = (REFERENCE / "protocol.md").read_text(encoding="utf-8")
    _, _, section = page.partition("\n### Settings\n")
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", section.partition("\n### ")[0], re.MULTILINE)
    listed = [name for row in rows for name in re.findall(r"\w+", row)]
    assert sorted(listed) == sorted(field.name for field in fields(Settings))


def test_the_note_that_the_protocol_shows_is_a_note_as_a_handler_writes_it() -> None:
    page = (REFERENCE / "protocol.md").read_text(encoding="utf-8")
    shown = re.findall(r"^```text\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[0].encode()
    note = parse_note(shown)
    assert note is not None
    assert note.is_whole
    assert note.parse_settings() == Settings(when="MIDNIGHT", backupCount=14)
    assert note.content() == shown


def test_parameters_are_read_from_the_section_and_from_nowhere_else() -> None:
    docstring = """One line.

    other: not a parameter

    Args:
        one: The first,
            with a: colon.
        two, three: Both.

    Raises:
        ValueError: Never.
    """
    assert documented_parameters(docstring) == ["one", "two", "three"]


def test_a_name_that_no_page_shows_is_noticed() -> None:
    assert not is_shown("rollsafe.gunicorn.rotating")
    assert not is_shown("rollsafe.handlers.SafeTimedRotatingFileHandler")
