"""The package as a whole: its public names, what importing it needs, and which module may import which."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "rollsafe"

CORE = {
    "__init__",
    "handlers",
    "_options",
    "arguments",
    "durations",
    "spill",
    "streams",
    "mounts",
    "places",
    "rollover",
    "open_file",
    "fragments",
    "bounded_lock",
    "live_path",
    "live_note",
    "file_limit",
    "shared",
    "schedule",
    "names",
    "locks",
    "backups",
    "archives",
    "codecs",
    "scratch",
    "ledger",
    "background",
    "retention",
    "formatters",
    "formats",
    "records",
    "errors",
    "settings",
    "stamps",
    "events",
    "renames",
    "maintenance",
    "late",
    "note",
    "suffixes",
    "ownership",
    "environment",
}
# For people at a terminal: they read what the core has written, and the core knows nothing of them.
TOOLS = {
    "catalog",
    "reading",
    "times",
    "lines",
    "follow",
    "catch_up",
    "configs",
    "shipping",
    "status",
    "scan",
    "verify",
    "prune",
    "authority",
    "trials",
    "rehearsal",
    "ini_logging",
    "logrotate",
    "checks",
    "words",
    "screen",
    "page",
}
ADAPTERS = {"gunicorn", "uwsgi", "flask", "metrics", "cli"}

# Each room of DESIGN and the rooms that it may import. A new module gets its line here.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "environment": set(),
    "suffixes": set(),
    "schedule": {"suffixes", "errors"},
    "places": {"background"},
    "names": {"schedule", "suffixes", "errors"},
    "locks": {"places", "errors"},
    "spill": set(),
    "streams": set(),
    "events": set(),
    "stamps": set(),
    "records": {"errors"},
    "mounts": set(),
    "_options": {"codecs", "durations", "schedule", "errors"},
    "durations": set(),
    "arguments": {"places", "renames", "mounts", "errors"},
    "formats": set(),
    "overrides": set(),
    "formatters": {"formats", "overrides", "stamps", "errors"},
    "background": set(),
    "archives": {"codecs", "ledger", "scratch", "places", "renames", "locks"},
    "codecs": {"background", "errors", "places", "scratch"},
    "scratch": {"background", "places"},
    "ledger": {"background", "note", "locks"},
    "retention": {"names", "locks"},
    "backups": {
        "archives",
        "codecs",
        "ledger",
        "scratch",
        "background",
        "retention",
        "schedule",
        "names",
        "locks",
        "errors",
    },
    "renames": {"places"},
    "ownership": {"note", "locks", "places"},
    "note": {"schedule", "settings", "locks"},
    "bounded_lock": {"events", "locks"},
    "file_limit": {"locks", "open_file"},
    "live_note": {"ledger", "locks", "note", "open_file", "schedule"},
    "live_path": {"live_note", "locks", "open_file", "places", "streams"},
    "shared": {"bounded_lock", "events", "file_limit", "fragments", "live_path", "locks", "open_file", "schedule"},
    "rollover": {
        "bounded_lock",
        "events",
        "file_limit",
        "ledger",
        "live_note",
        "live_path",
        "locks",
        "names",
        "note",
        "open_file",
        "places",
        "renames",
        "schedule",
        "shared",
    },
    "maintenance": {"background", "codecs", "ledger", "backups", "retention", "names", "locks", "schedule"},
    "late": {"open_file", "locks"},
    "fragments": set(),
    "open_file": {"fragments", "locks", "schedule", "streams"},
    "handlers": {
        "bounded_lock",
        "shared",
        "_options",
        "open_file",
        "fragments",
        "overrides",
        "places",
        "late",
        "arguments",
        "maintenance",
        "spill",
        "rollover",
        "schedule",
        "names",
        "locks",
        "codecs",
        "backups",
        "retention",
        "formatters",
        "ownership",
        "settings",
        "stamps",
        "streams",
        "events",
        "errors",
    },
    "settings": {"_options", "schedule", "errors"},
    "catalog": {"places", "note", "locks", "settings", "schedule", "names", "errors"},
    "reading": {"errors"},
    "times": {"durations", "schedule", "settings", "errors"},
    "lines": {"locks", "catalog", "reading", "times", "settings", "names", "errors"},
    "follow": {"catalog", "reading", "lines", "note", "locks", "names", "errors"},
    "ini_logging": {"errors"},
    "configs": {"_options", "ini_logging", "handlers", "settings", "errors"},
    "shipping": {"configs", "errors"},
    "catch_up": {"catalog", "errors"},
    "status": {"words", "catalog", "prune", "settings", "names", "locks", "places", "errors"},
    "scan": {"words", "schedule", "catalog", "reading", "times", "stamps", "errors"},
    "verify": {"words", "schedule", "scan", "lines", "catalog", "settings", "stamps", "names", "errors"},
    "authority": {"catalog", "note", "locks", "places", "errors"},
    "prune": {"authority", "ownership", "catalog", "backups", "retention", "settings", "names", "locks", "errors"},
    "trials": {"locks", "renames"},
    "rehearsal": {"trials", "configs"},
    "logrotate": set(),
    "words": set(),
    "checks": {
        "locks",
        "catalog",
        "configs",
        "status",
        "prune",
        "trials",
        "rehearsal",
        "renames",
        "logrotate",
        "mounts",
        "words",
        "note",
        "settings",
        "errors",
    },
    "screen": {"times", "catalog", "status", "verify", "checks", "retention", "words", "settings"},
    "page": {"words"},
    "__init__": {"handlers", "formatters", "locks", "errors"},
    "access": {"formatters"},
    "gunicorn_logger": CORE | {"access", "overrides", "wiring"},
    "wiring": {
        "_options",
        "locks",
        "places",
        "handlers",
        "arguments",
        "errors",
        "note",
        "settings",
        "catalog",
        "status",
    },
    **{adapter: CORE | TOOLS for adapter in ADAPTERS},
    "flags": {"_options", "handlers", "wiring"},
    "gunicorn_reload": set(),
    "gunicorn": CORE | TOOLS | {"gunicorn_logger", "gunicorn_reload", "wiring", "flags"},
    "flask_files": {"_options", "handlers"},
    "flask": CORE | TOOLS | {"flask_files"},
}
ROOMS = {path.stem: path for path in sorted(PACKAGE.glob("*.py")) + sorted(PACKAGE.glob("tools/[!_]*.py"))}

BLOCK_OPTIONAL_PACKAGES = """
import sys

BLOCKED = {
    "gunicorn", "uwsgi", "uwsgidecorators", "flask", "click", "jinja2", "rich", "pythonjsonlogger",
    "prometheus_client", "zstandard", "backports",
}

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ImportError(f"{name} is blocked by the test")

sys.meta_path.insert(0, Blocker())
"""


def run_without_extras(code: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh interpreter in which none of the optional packages can be imported."""
    program = f"{BLOCK_OPTIONAL_PACKAGES}\nsys.path.insert(0, {str(PACKAGE.parent)!r})\n{code}"
    return subprocess.run(
        [sys.executable, "-c", program], cwd=directory, capture_output=True, text=True, timeout=60, check=False
    )


def imports(source: str) -> Iterator[str]:
    """The full dotted name of everything that a module of the package imports, wherever in it the import stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = ".".join(filter(None, ["rollsafe" if node.level else "", node.module]))
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def imported_rooms(source: str) -> set[str]:
    """The rooms of the package that a module imports; ``from rollsafe import X`` counts as ``__init__``."""
    rooms = set()
    for name in imports(source):
        package, _, inner = name.partition(".")
        if package == "rollsafe":
            room = inner.removeprefix("tools.").partition(".")[0]
            rooms.add(room if room in MAY_IMPORT else "__init__")
    return rooms


def test_public_names_are_exactly_these() -> None:
    import rollsafe

    public = {"SafeTimedRotatingFileHandler", "LineFormatter", "FileLock", "ConfigurationError"}
    assert set(rollsafe.__all__) == public
    assert len(rollsafe.__all__) == len(public)
    assert all(hasattr(rollsafe, name) for name in public)


def test_the_package_says_that_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()


@pytest.mark.parametrize("package", ["gunicorn", "uwsgi", "flask", "click", "pythonjsonlogger", "backports.zstd"])
def test_the_blocker_that_the_next_tests_rely_on_blocks(package: str, tmp_path: Path) -> None:
    ran = run_without_extras(f"import {package}", tmp_path)
    assert "is blocked by the test" in ran.stderr


def test_core_works_with_none_of_the_extras_installed(tmp_path: Path) -> None:
    code = """
import logging
from rollsafe import ConfigurationError, FileLock, LineFormatter, SafeTimedRotatingFileHandler

handler = SafeTimedRotatingFileHandler("app.log")
handler.setFormatter(LineFormatter("%(message)s"))
logging.getLogger().addHandler(handler)
logging.getLogger().warning("one\\nline")
handler.close()
FileLock("some.lock").close()
"""
    ran = run_without_extras(code, tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert (tmp_path / "app.log").read_text() == "one\\nline\n"


def test_the_gunicorn_adapter_imports_without_gunicorn(tmp_path: Path) -> None:
    ran = run_without_extras("from rollsafe.gunicorn import post_fork, rotating_logs", tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize("room", ROOMS)
def test_a_module_imports_only_the_rooms_that_it_may(room: str) -> None:
    assert room in MAY_IMPORT, f"give {room}.py its line in MAY_IMPORT"
    assert imported_rooms(ROOMS[room].read_text()) <= MAY_IMPORT[room]


def test_the_tools_are_in_a_folder_of_their_own() -> None:
    assert {room for room, path in ROOMS.items() if path.parent.name == "tools"} == TOOLS


def test_the_allowed_directions_have_no_cycle_and_no_way_into_an_adapter() -> None:
    assert not [room for room, allowed in MAY_IMPORT.items() if allowed & ADAPTERS]
    assert not [room for room in CORE if MAY_IMPORT[room] & TOOLS]
    settled: set[str] = set()
    while ready := {room for room, allowed in MAY_IMPORT.items() if allowed <= settled} - settled:
        settled |= ready
    assert settled == set(MAY_IMPORT)


@pytest.mark.parametrize("room", [room for room in ROOMS if room in {"suffixes", "schedule", "names", "retention"}])
def test_pure_rooms_import_the_standard_library_only_and_neither_os_nor_logging_nor_the_clock(room: str) -> None:
    source = ROOMS[room].read_text()
    packages = {name.partition(".")[0] for name in imports(source)}
    assert packages <= (sys.stdlib_module_names - {"os", "logging"}) | {"rollsafe"}
    assert "time.time" not in imports(source)
    attributes = {ast.unparse(node) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)}
    assert "time.time" not in attributes


@pytest.mark.parametrize(
    ("source", "rooms"),
    [
        ("import rollsafe.names", {"names"}),
        ("from rollsafe.names import parse", {"names"}),
        ("from rollsafe import names, FileLock", {"names", "__init__"}),
        ("from . import cli", {"cli"}),
        ("from .flask import init_app", {"flask"}),
        ("import rollsafe.tools.catalog", {"catalog"}),
        ("from rollsafe.tools import catalog, words", {"catalog", "words"}),
        ("def later():\n    import rollsafe.uwsgi", {"uwsgi"}),
        ("import rollsafe", {"__init__"}),
        ("import gunicorn.config\nfrom os import path", set()),
    ],
)
def test_the_reading_of_imports_sees_every_form(source: str, rooms: set[str]) -> None:
    assert imported_rooms(source) == rooms
