"""The list of what is public, as facts of the code: `{path: value}`. `docs/reference/public.md` explains it.

A path is `OWNER / NAME`, such as `rollsafe.FileLock / acquire / parameter timeout`, `rollsafe check / --json` or
`rollsafe status / --json / live`. Two files have such a list, one fact a line:

- `tests/unit/public.txt`, the present one. `python -m tests.support.public` writes it.
- `tests/unit/released.txt`, that of the last release; `python -m tests.support.public --released` copies it from there.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

import rollsafe
from rollsafe import cli, flask, gunicorn, request_ids
from rollsafe._backups.names import EXTENSIONS, ROLLED_EXTENSION, UNANNOUNCED_EXTENSION
from rollsafe._celery import task_fields
from rollsafe._files.lock_files import lock_path
from rollsafe._files.lock_handles import MAINTENANCE_BYTE, ROLLOVER_BYTE
from rollsafe._files.note import Archived, Note
from rollsafe._flask import fields as flask_fields
from rollsafe._gunicorn import access_fields
from rollsafe._lines.stamps import FIELD
from rollsafe._live.events import EVENTS
from rollsafe._options import ENVIRONMENT
from rollsafe._settings import Settings
from rollsafe._values import fields

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
PAGE = REFERENCE / "public.md"
SCHEMAS = Path(rollsafe.__file__).parent / "schemas"
PRESENT = ROOT / "tests" / "unit" / "public.txt"
RELEASED = ROOT / "tests" / "unit" / "released.txt"

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
HANDLER = "rollsafe.SafeTimedRotatingFileHandler"
Facts = dict[str, str]

_RELEASED = re.compile(r"^## \[(?P<version>[\d.]+\w*)\] - \d{4}-\d{2}-\d{2}(?: \[YANKED\])?$", re.MULTILINE)


def facts() -> Facts:
    """The present list."""
    found: Facts = {}
    for path, value in (
        *_names(),
        *_modules(),
        *_configuration(),
        *_fields(),
        *_files(),
        *_commands(),
        *_extras(),
    ):
        assert path not in found, path
        found[path] = value
    return found


def text_of(listed: Facts) -> str:
    """A list as its file has it."""
    return "".join(f"{path}: {listed[path]}\n" for path in sorted(listed))


def listed_in(file: Path) -> Facts:
    """The list in a file; lines that begin with `#` are comments."""
    lines = file.read_text(encoding="utf-8").splitlines()
    pairs = (line.partition(": ") for line in lines if not line.startswith("#"))
    return {path: value for path, _, value in pairs}


def changes(before: Facts, now: Facts) -> list[str]:
    """The paths that differ between two lists, without those that came or went together with their owner."""
    changed = sorted(path for path in before.keys() | now.keys() if before.get(path) != now.get(path))
    return [path for path in changed if not any((owner in before) != (owner in now) for owner in _owners(path))]


def missing_in(section: str, paths: list[str]) -> dict[str, list[str]]:
    """The paths that a section of the changelog does not name, each with the words that name it.

    An entry of the section (a line that begins with `- `, and what is indented below it) names a path if it has the
    last word of each part of it between backticks.
    """
    entries = [" ".join(re.findall(r"`([^`]+)`", entry)) for entry in re.split(r"^- ", section, flags=re.MULTILINE)]
    words = {path: [_word(part) for part in path.replace(" / --json / ", " / ").split(" / ")] for path in paths}
    return {
        path: wanted
        for path, wanted in words.items()
        if not any(all(_has(text, word) for word in wanted) for text in entries)
    }


def changelog() -> str:
    """The text of the changelog."""
    return (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def unreleased(text: str) -> str:
    """The sections of a changelog about what is not released yet."""
    _, *sections = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    return "".join(section for section in sections if _RELEASED.match(section) is None)


def last_release(text: str) -> str:
    """The newest version that a changelog gives a date, "" if there is none."""
    found = _RELEASED.search(text)
    return found["version"] if found else ""


def _owners(path: str) -> Iterator[str]:
    """The paths that a path begins with."""
    parts = path.split(" / ")
    return (" / ".join(parts[:count]) for count in range(1, len(parts)))


def _word(part: str) -> str:
    """The word by which a changelog names a part of a path."""
    word = part.rpartition(" ")[2]
    return word.rpartition(".")[2] if word.startswith("rollsafe.") else word


def _has(text: str, word: str) -> bool:
    """Whether a word stands in a text by itself."""
    return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text) is not None


# Names of Python.


def _pages() -> str:
    """All pages of the reference."""
    return "\n".join(page.read_text(encoding="utf-8") for page in sorted(REFERENCE.glob("*.md")))


def public_names(pages: str | None = None) -> list[str]:
    """The names that the public modules export, and those that the reference shows."""
    exported = {f"{module}.{name}" for module in MODULES for name in importlib.import_module(module).__all__}
    shown = re.findall(r"^\.\. auto(?:class|function|exception):: (\S+)$", pages or _pages(), re.MULTILINE)
    return sorted(exported.union(shown, ["rollsafe.__version__"]) - {"rollsafe.errors.ConfigurationError"})


def _names() -> Iterator[tuple[str, str]]:
    """Functions and classes with their parameters, and the members of classes that the reference shows."""
    pages = _pages()
    for name in public_names(pages):
        module, _, last = name.rpartition(".")
        value = getattr(importlib.import_module(module), last)
        if not inspect.isclass(value):
            yield name, "function" if callable(value) else type(value).__name__
            if callable(value):
                yield from _parameters(name, value)
            continue
        own = _own_members(value)
        others = [base for base in value.__mro__[1:] if base.__module__.partition(".")[0] != "rollsafe"]
        bases = [base.__qualname__ for base in others if base not in (Exception, BaseException, object)][:2]
        yield name, f"class, a {' and '.join(bases)}" if bases else "class"
        if "__init__" in own or "__new__" in own:
            yield from _parameters(name, value)
        for member in _shown_members(name, pages):
            attribute = own.get(member)
            if inspect.isfunction(attribute):
                yield f"{name} / {member}", "method"
                yield from _parameters(f"{name} / {member}", attribute)
            else:
                yield f"{name} / {member}", "attribute"


def _parameters(owner: str, value: Any) -> Iterator[tuple[str, str]]:
    """The parameters of a function or class, each with its place, type and default, and what it returns."""
    signature = inspect.signature(value)
    parameters = [each for each in signature.parameters.values() if each.name != "self"]
    for place, parameter in enumerate(parameters, 1):
        stars = {"VAR_POSITIONAL": "*", "VAR_KEYWORD": "**"}.get(parameter.kind.name, "")
        kind = f"{place}" if parameter.kind is parameter.POSITIONAL_OR_KEYWORD else "any" if stars else "by name"
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        yield f"{owner} / parameter {stars}{parameter.name}", f"{kind}, {_annotation(parameter.annotation)}{default}"
    if not inspect.isclass(value):
        yield f"{owner} / returns", _annotation(signature.return_annotation)


def _annotation(annotation: object) -> str:
    """A type as the source spells it."""
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", repr(annotation))


def _shown_members(name: str, pages: str) -> list[str]:
    """The members of a class that the reference shows."""
    listed = re.search(
        rf"^\.\. autoclass:: {re.escape(name)}\n +:members:(?P<names>(?: *[\w, ]+\n)*)", pages, re.MULTILINE
    )
    return sorted(re.findall(r"\w+", listed["names"])) if listed else []


def _own_members(kind: type) -> dict[str, object]:
    """The members that a class has from classes of the package."""
    members: dict[str, object] = {}
    for each in reversed(kind.__mro__):
        if each.__module__.partition(".")[0] == "rollsafe":
            members |= vars(each)
    return members


def _modules() -> Iterator[tuple[str, str]]:
    """The modules, and a key that two of them share with other code."""
    for module in sorted({name.rpartition(".")[0] for name in public_names()}):
        yield f"module {module}", "module"
    yield "rollsafe.request_ids.WSGIMiddleware / environ rollsafe.request_id", "key"


# Configuration.


def _configuration() -> Iterator[tuple[str, str]]:
    """Variables of the environment, keys of Flask's configuration, and the keys of the preset's dict."""
    for parameter, (variable, _) in ENVIRONMENT.items():
        yield f"rollsafe.gunicorn.Logger / variable {variable}", parameter
    for key in flask._KEYS:
        yield f"rollsafe.flask.init_app / key {key}", "app.config"
    with tempfile.TemporaryDirectory() as directory:
        config = gunicorn.rotating_logs(directory)
    for section in ("handlers", "formatters", "loggers"):
        for key in config[section]:
            yield f"rollsafe.gunicorn.rotating_logs / {section} / key {key}", "key"
    for logger in ("uwsgi.access", "uwsgi.error"):
        yield f"rollsafe.uwsgi.set_up_logs / loggers / key {logger}", "key"


def _fields() -> Iterator[tuple[str, str]]:
    """Fields for formats, and counters."""
    yield f"{HANDLER} / field {FIELD}", "field"
    for name in request_ids._NO_REQUEST:
        yield f"rollsafe.request_ids.RequestFields / field {name}", "field"
    for name in flask_fields.FIELDS:
        yield f"rollsafe.flask.RequestFields / field {name}", "field"
    for name in task_fields._FIELDS:
        yield f"rollsafe.celery.TaskFields / field {name}", "field"
    for name in access_fields.FIELDS:
        yield f"rollsafe.gunicorn.rotating_logs / access_format / field {name}", "field"
    for event in EVENTS:
        yield f"rollsafe.metrics.to_prometheus / counter rollsafe_{event}_total", "label log"
        yield f"rollsafe.metrics.to_statsd / counter {event}", f"PREFIX.rollsafe.LOG.{event}"


# On disk.


def _files() -> Iterator[tuple[str, str]]:
    """The names of files, the locked bytes, and the note."""
    for name in (
        lock_path("NAME"),
        f"NAME.SUFFIX{ROLLED_EXTENSION}",
        f"NAME.SUFFIX.gz{UNANNOUNCED_EXTENSION}",
        *(f"NAME.SUFFIX{extension}" for extension in EXTENSIONS),
    ):
        yield f"{HANDLER} / file {name}", "file"
    for lock, byte in (("rollover", ROLLOVER_BYTE), ("maintenance", MAINTENANCE_BYTE)):
        yield f"{HANDLER} / lock {lock}", f"byte {byte}"
    for setting in fields(Settings):
        yield f"{HANDLER} / note / setting {setting.name}", str(setting.type)
    note = Note((1, 2), 3, b"SETTINGS", 4, 5, 6, (Archived(7, (8, 9), 10, 11),), mode=0o640)
    for number, line in enumerate(note.content().decode().splitlines(), 1):
        yield f"{HANDLER} / note / line {number}", line


# The command.


def _commands() -> Iterator[tuple[str, str]]:
    """The commands with their arguments, options, exit codes, and the JSON that they print."""
    yield "rollsafe", "command"
    yield from _parameters_of_command("rollsafe", cli.rollsafe)
    for name, command in cli.rollsafe.commands.items():
        yield f"rollsafe {name}", "command"
        yield from _parameters_of_command(f"rollsafe {name}", command)
    for name, codes in exit_codes().items():
        for code in codes:
            yield f"rollsafe {name} / exit code {code}", "exit code"
    for name, schema in schemas().items():
        yield f"rollsafe {name} / --json / output", _kind(schema)
        yield from _keys(f"rollsafe {name} / --json", schema)


def _parameters_of_command(owner: str, command: click.Command) -> Iterator[tuple[str, str]]:
    """The arguments and the options of a command."""
    for parameter in command.params:
        default = "" if parameter.default is None or not isinstance(parameter.default, str) else parameter.default
        if isinstance(parameter, click.Option):
            takes = "flag" if parameter.is_flag else parameter.type.name
            for spelling in (*parameter.opts, *parameter.secondary_opts):
                yield f"{owner} / {spelling}", takes
        else:
            many = ", one or more" if parameter.nargs == -1 and parameter.required else ""
            kind = ", ".join(getattr(parameter.type, "choices", [parameter.type.name]))
            yield f"{owner} / {parameter.human_readable_name}", f"{kind}{many}{' = ' if default else ''}{default}"


def exit_codes(page: Path = PAGE) -> dict[str, dict[int, str]]:
    """Command -> exit code -> meaning, by the table of the page; tests run each."""
    rows = (line.strip("| ").split("|") for line in page.read_text(encoding="utf-8").splitlines() if line[:3] == "| `")
    return {
        command: {code: meaning.strip() for code, meaning in enumerate(cells[1:]) if meaning.strip()}
        for cells in rows
        if len(cells) == 4
        for command in re.findall(r"\w+", cells[0])
    }


def _keys(owner: str, schema: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The keys of a JSON Schema, with their types."""
    if "items" in schema:
        yield from _keys(owner, schema["items"])
    for key, value in schema.get("properties", {}).items():
        yield f"{owner} / {key}", _kind(value)
        yield from _keys(f"{owner} / {key}", value)


def _kind(schema: Mapping[str, Any]) -> str:
    """The type of a value of a JSON Schema."""
    kinds = schema["enum"] if "enum" in schema else schema["type"]
    kind = kinds if isinstance(kinds, str) else " or ".join(kinds)
    inner = schema.get("items") or schema.get("additionalProperties")
    return f"{kind} of {_kind(inner)}" if inner else kind


def schemas() -> dict[str, dict[str, Any]]:
    """Command -> the JSON Schema of what its option `--json` prints, as the package ships it."""
    return {file.name.partition(".")[0]: json.loads(file.read_bytes()) for file in sorted(SCHEMAS.glob("*.json"))}


def _extras() -> Iterator[tuple[str, str]]:
    """The extras of the distribution."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = project.partition("[project.optional-dependencies]\n")[2].partition("\n[")[0]
    for extra in re.findall(r"^(\w+) = \[", extras, re.MULTILINE):
        yield f"extra {extra}", "extra"


def main(arguments: list[str]) -> None:
    """Write the present list, or copy it as that of the release."""
    if arguments == ["--released"]:
        RELEASED.write_text(f"# {rollsafe.__version__}\n{PRESENT.read_text(encoding='utf-8')}", encoding="utf-8")
    else:
        PRESENT.write_text(text_of(facts()), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
