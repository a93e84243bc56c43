"""Whatever the repository writes as `rollsafe.…`, in code, texts, configurations and pages, is there.

Type checkers see the imports of this repository, but not names in strings, in programs that tests run, and in prose.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.modules import MODULES, PACKAGE

ROOT = Path(__file__).parents[2]
FOLDERS = ["src", "tests", "docs", "example_app", "bench"]
SUFFIXES = {".py", ".md", ".html", ".ini", ".toml", ".txt"}
FILES = [
    *(path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*")) if path.suffix in SUFFIXES),
    *(path for path in sorted(ROOT.iterdir()) if path.suffix in SUFFIXES or path.name == "Makefile"),
]

DOTTED = re.compile(r"(?<![\w./@-])rollsafe(?:\.\w+)+")
IMPORTED = re.compile(r"\bfrom (?P<module>rollsafe[\w.]*) import (?P<names>\([\w\s,]+\)|[\w, ]+)")
FILE = re.compile(r"(?<![\w.-])rollsafe/[\w/]+\.py\b")

# What looks like such a name and is another's.
OTHERS = {
    "rollsafe.app_log.lines": "a metric of StatsD",
    "rollsafe.commands": "the group of click, which is called so there",
    "rollsafe.css": "a file of the documentation",
    "rollsafe.gunicorn.rotating": "what a test looks for in vain",
    "rollsafe.request_id": "a key of WSGI's environ",
    "rollsafe.test": "a logger of tests",
}
HERE = Path(__file__)


def names_in(text: str) -> Iterator[str]:
    """The dotted names in a text, those of imports with the module in front."""
    yield from DOTTED.findall(text)
    for found in IMPORTED.finditer(text):
        for name in re.findall(r"\w+(?: as \w+)?", found["names"]):
            yield f"{found['module']}.{name.partition(' ')[0]}"


def is_there(name: str) -> bool:
    """Whether a name is one of a module, or of something in a module."""
    module = name
    while module not in MODULES:
        module = module.rpartition(".")[0]
    value: object = importlib.import_module(module)
    for attribute in name.removeprefix(module).split(".")[1:]:
        if not hasattr(value, attribute) and attribute not in getattr(value, "__annotations__", {}):
            return False
        value = getattr(value, attribute, None)
    return True


def is_other(name: str) -> bool:
    """Whether it only looks like a name of the package."""
    return any(name == other or name.startswith(f"{other}.") for other in OTHERS)


TEXTS = {path.relative_to(ROOT): path.read_text(encoding="utf-8") for path in FILES if path != HERE}


def test_there_are_such_names_in_each_folder() -> None:
    for folder in FOLDERS:
        assert any(names_in(text) for path, text in TEXTS.items() if path.parts[0] == folder), folder


def test_every_dotted_name_is_one_of_the_package() -> None:
    missing = [
        f"{path}: {name}"
        for path, text in TEXTS.items()
        for name in sorted(set(names_in(text)))
        if not is_other(name) and not is_there(name)
    ]
    assert missing == []


def test_every_file_of_the_package_that_is_named_with_its_folder_exists() -> None:
    missing = [
        f"{path}: {name}"
        for path, text in TEXTS.items()
        for name in sorted(set(FILE.findall(text)))
        if not (PACKAGE.parent / name).is_file()
    ]
    assert missing == []


def test_everything_that_only_looks_like_a_name_is_somewhere() -> None:
    found = {name for text in TEXTS.values() for name in DOTTED.findall(text)}
    assert {
        other for other in OTHERS if not any(name == other or name.startswith(f"{other}.") for name in found)
    } == set()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('logger_class = "rollsafe.gunicorn.Logger"', ["rollsafe.gunicorn.Logger"]),
        ("Where `rollsafe.schedule` stands.", ["rollsafe.schedule"]),
        ("from rollsafe import (\n    schedule,\n    FileLock,\n)", ["rollsafe.schedule", "rollsafe.FileLock"]),
        ("from rollsafe.schedule import Interval as Name", ["rollsafe.schedule", "rollsafe.schedule.Interval"]),
        ("xattr user.rollsafe.app.log of src/rollsafe.schedule", []),
    ],
)
def test_names_are_found_in_strings_prose_and_imports(text: str, names: list[str]) -> None:
    assert list(names_in(text)) == names


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("rollsafe.FileLock.acquire", True),
        ("rollsafe.tools.catalog.os.listdir", True),
        ("rollsafe.handlers.SafeTimedRotatingFileHandler.maxBytes", True),
        ("rollsafe.lost", False),
        ("rollsafe.schedule.lost", False),
    ],
)
def test_a_name_that_is_not_there_is_noticed(name: str, there: bool) -> None:
    assert is_there(name) == there
