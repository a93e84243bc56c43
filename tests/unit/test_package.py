"""The package as a whole: its public names, what importing it needs, and which module may import which."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from rollsafe import clocks, names, recognition, retention, schedule, suffixes
from tests.support.modules import MODULES, PACKAGE

# For people at a terminal: they read what the core has written, and the core knows nothing of them.
TOOLS = "tools"
ADAPTERS = {"gunicorn", "uwsgi", "flask", "metrics", "cli"}
INSIDE_ADAPTERS = {
    "gunicorn_arguments",
    "gunicorn_listeners",
    "gunicorn_logger",
    "gunicorn_reload",
    "gunicorn_workers",
    "access",
    "conflicts",
    "wiring",
    "flags",
    "flask_fields",
    "flask_files",
}
"""Modules that only adapters and one another import."""
PURE = [suffixes, schedule, names, clocks, recognition, retention]

# Each module of the package, and those that it imports: neither more nor fewer. A new module gets its line here.
# A name is written without `rollsafe.`; the package itself is `__init__`.
IMPORTS: dict[str, set[str]] = {
    "__init__": {"errors", "formatters", "handlers", "locks"},
    "cli": {
        "_options",
        "errors",
        "tools.catalog",
        "tools.catch_up",
        "tools.checks",
        "tools.configs",
        "tools.findings",
        "tools.line_commands",
        "tools.output",
        "tools.page",
        "tools.prune",
        "tools.screen",
        "tools.shipping",
        "tools.status",
        "tools.verify",
        "tools.words",
    },
    "flask": {"_options", "environment", "errors", "flask_fields", "flask_files", "formatters", "handlers", "places"},
    "gunicorn": {
        "_options",
        "codecs",
        "errors",
        "formatters",
        "gunicorn_arguments",
        "gunicorn_logger",
        "gunicorn_reload",
        "gunicorn_workers",
        "handlers",
        "lock_handles",
        "records",
        "schedule",
        "stamps",
    },
    "metrics": {"errors", "events"},
    "uwsgi": {"environment", "handlers", "lock_handles", "maintenance_thread"},
    "_options": {"codecs", "durations", "errors", "schedule"},
    "access": {"formatters"},
    "archives": {"codecs", "file_names", "identity", "ledger", "names", "places", "scratch"},
    "arguments": {"errors", "mounts", "places", "renames", "special_files"},
    "attempts": {"failures", "file_names", "ledger", "listing", "quiet", "scratch"},
    "background": set(),
    "bounded_lock": {"events", "lock_files", "lock_handles", "locks"},
    "clocks": set(),
    "codecs": {"background", "errors", "places", "scratch"},
    "conflicts": {"handlers", "identity", "note", "settings", "tools.status", "wiring"},
    "durations": set(),
    "duties": {"codecs", "listing", "names", "naming", "reports", "retention", "schedule"},
    "election": {"lock_handles", "locks"},
    "encoder": {"stamps"},
    "environment": set(),
    "errors": set(),
    "events": set(),
    "excess": {"identity", "listing", "names", "quiet", "recognition", "retention"},
    "failures": set(),
    "file_limit": {"identity", "open_file"},
    "file_names": {"identity", "ledger", "places", "renames", "scratch"},
    "flags": {"_options", "handlers", "wiring"},
    "flask_fields": set(),
    "flask_files": {"_options", "handlers"},
    "formats": set(),
    "formatters": {"errors", "formats", "overrides", "stamps"},
    "fragments": set(),
    "gunicorn_arguments": {"arguments", "conflicts", "errors", "handlers", "places"},
    "gunicorn_listeners": {"access", "formatters", "handlers", "overrides"},
    "gunicorn_logger": {"_options", "access", "conflicts", "errors", "gunicorn_listeners", "handlers"},
    "gunicorn_reload": {"_options"},
    "gunicorn_workers": {"conflicts", "flags", "gunicorn_reload", "handlers", "special_files", "wiring"},
    "handlers": {
        "_options",
        "arguments",
        "codecs",
        "encoder",
        "errors",
        "fragments",
        "live_file",
        "names",
        "naming",
        "open_file",
        "overrides",
        "ownership",
        "renewal",
        "reports",
        "rollover",
        "schedule",
        "settings",
        "streams",
        "writer",
    },
    "held_files": {"background", "duties", "timing"},
    "identity": set(),
    "late": {"open_file", "timing"},
    "ledger": {"background", "identity", "locks", "note"},
    "listing": {"background", "names", "scratch"},
    "live_file": {
        "codecs",
        "duties",
        "encoder",
        "errors",
        "events",
        "late",
        "maintenance",
        "naming",
        "open_file",
        "reports",
        "rollover",
        "settings",
        "streams",
    },
    "live_note": {"ledger", "locks", "note", "open_file", "schedule"},
    "live_path": {"identity", "live_note", "locks", "open_file", "places", "special_files", "streams"},
    "lock_files": {"places"},
    "lock_handles": {"identity", "lock_files", "places", "record_locks"},
    "locks": {"lock_files", "lock_handles", "places"},
    "maintenance": {
        "attempts",
        "background",
        "codecs",
        "duties",
        "election",
        "excess",
        "failures",
        "held_files",
        "ledger",
        "listing",
        "locks",
        "maintenance_pass",
        "maintenance_thread",
        "naming",
        "quiet",
        "reports",
    },
    "maintenance_pass": {
        "archives",
        "attempts",
        "codecs",
        "duties",
        "failures",
        "file_names",
        "identity",
        "ledger",
        "listing",
        "names",
        "quiet",
        "scratch",
        "timing",
    },
    "maintenance_thread": {"background", "held_files", "timing"},
    "mounts": set(),
    "names": {"schedule", "suffixes"},
    "naming": {"listing", "names", "ownership", "schedule"},
    "note": {"identity", "lock_files", "lock_handles", "schedule", "settings", "timing"},
    "open_file": {"fragments", "identity", "schedule", "streams", "timing"},
    "overrides": set(),
    "ownership": {"lock_files", "note", "places"},
    "pending": set(),
    "places": {"errors", "walk"},
    "quiet": {"clocks", "file_names"},
    "recognition": {"clocks", "lock_files", "names", "retention"},
    "record_locks": {"identity"},
    "records": {"errors"},
    "remedies": set(),
    "renames": {"places"},
    "renewal": {"live_file", "naming", "open_file", "pending", "rollover"},
    "reports": {"encoder", "remedies"},
    "retention": set(),
    "rollover": {
        "bounded_lock",
        "events",
        "file_limit",
        "identity",
        "ledger",
        "live_note",
        "live_path",
        "names",
        "naming",
        "note",
        "open_file",
        "places",
        "renames",
        "schedule",
        "shared",
        "timing",
    },
    "schedule": {"errors", "suffixes"},
    "scratch": {"background", "errors", "places"},
    "settings": {"_options", "errors", "schedule"},
    "shared": {"bounded_lock", "events", "file_limit", "fragments", "identity", "live_path", "open_file", "schedule"},
    "special_files": {"places", "walk"},
    "stamps": set(),
    "streams": set(),
    "suffixes": set(),
    "timing": set(),
    "walk": {"background", "errors"},
    "wiring": {"arguments", "errors", "handlers"},
    "writer": {
        "bounded_lock",
        "encoder",
        "events",
        "live_file",
        "naming",
        "open_file",
        "pending",
        "renewal",
        "reports",
        "schedule",
        "shared",
    },
    "tools": set(),
    "tools.authority": {"errors", "lock_handles", "note", "places", "tools.catalog"},
    "tools.catalog": {"errors", "lock_files", "names", "note", "places", "schedule", "settings"},
    "tools.catch_up": {"errors", "tools.catalog"},
    "tools.check_configuration": {"tools.configs", "tools.findings", "tools.rehearsal", "tools.trials", "tools.words"},
    "tools.check_directories": {"lock_files", "mounts", "renames", "tools.findings", "tools.trials"},
    "tools.check_files": {"errors", "tools.findings", "tools.logrotate", "tools.prune", "tools.status", "tools.words"},
    "tools.check_space": {"errors", "tools.findings", "tools.prune", "tools.words"},
    "tools.checks": {
        "errors",
        "tools.catalog",
        "tools.check_configuration",
        "tools.check_directories",
        "tools.check_files",
        "tools.check_space",
        "tools.configs",
        "tools.findings",
        "tools.logrotate",
        "tools.status",
        "tools.trials",
    },
    "tools.configs": {"_options", "errors", "handlers", "settings", "tools.ini_logging"},
    "tools.findings": {"settings", "tools.catalog", "tools.trials"},
    "tools.follow": {
        "errors",
        "identity",
        "names",
        "note",
        "timing",
        "tools.catalog",
        "tools.lines",
        "tools.reading",
        "tools.source",
    },
    "tools.ini_logging": {"errors"},
    "tools.line_commands": {
        "tools.catalog",
        "tools.follow",
        "tools.lines",
        "tools.output",
        "tools.times",
        "tools.words",
    },
    "tools.lines": {"identity", "names", "settings", "tools.catalog", "tools.reading", "tools.times"},
    "tools.logrotate": set(),
    "tools.output": {"tools.words"},
    "tools.page": {"tools.words"},
    "tools.prune": {
        "errors",
        "excess",
        "failures",
        "listing",
        "lock_handles",
        "locks",
        "maintenance_pass",
        "names",
        "ownership",
        "quiet",
        "retention",
        "settings",
        "tools.authority",
        "tools.catalog",
    },
    "tools.reading": {"errors"},
    "tools.rehearsal": {"tools.configs", "tools.trials"},
    "tools.scan": {"schedule", "stamps", "tools.catalog", "tools.reading", "tools.times", "tools.words"},
    "tools.screen": {
        "retention",
        "settings",
        "tools.catalog",
        "tools.findings",
        "tools.status",
        "tools.times",
        "tools.verify",
        "tools.words",
    },
    "tools.shipping": {"errors", "tools.configs"},
    "tools.source": {"identity"},
    "tools.status": {
        "errors",
        "identity",
        "lock_handles",
        "names",
        "places",
        "settings",
        "tools.catalog",
        "tools.prune",
        "tools.words",
    },
    "tools.times": {"durations", "errors", "schedule", "settings"},
    "tools.trials": {"locks", "renames"},
    "tools.verify": {
        "errors",
        "names",
        "schedule",
        "settings",
        "stamps",
        "tools.catalog",
        "tools.lines",
        "tools.scan",
        "tools.words",
    },
    "tools.words": set(),
}
PATHS = {name.removeprefix("rollsafe."): path for name, path in MODULES.items() if name != "rollsafe"}
PATHS["__init__"] = MODULES["rollsafe"]

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
        [sys.executable, "-c", program], cwd=directory, capture_output=True, text=True, timeout=120, check=False
    )


def imports(source: str, package: str = "rollsafe") -> Iterator[str]:
    """The full dotted name of everything that a module of `package` imports, wherever in it the import stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = parents[: len(parents) - node.level + 1] if node.level else []
            origin = ".".join([*base, *filter(None, [node.module])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def imported_modules(source: str, package: str = "rollsafe") -> set[str]:
    """The modules of rollsafe that a module imports; ``from rollsafe import FileLock`` counts as ``__init__``."""
    modules = set()
    for name in imports(source, package):
        if name.partition(".")[0] != "rollsafe":
            continue
        while name not in MODULES:
            name = name.rpartition(".")[0]
        modules.add(name.removeprefix("rollsafe.") if name != "rollsafe" else "__init__")
    return modules


def imported_by(module: str) -> set[str]:
    """The modules of rollsafe that this one imports."""
    name = "rollsafe" if module == "__init__" else f"rollsafe.{module}"
    package = name if PATHS[module].name == "__init__.py" else name.rpartition(".")[0]
    return imported_modules(PATHS[module].read_text(encoding="utf-8"), package)


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


@pytest.mark.parametrize("module", PATHS)
def test_a_module_imports_exactly_the_modules_that_its_line_names(module: str) -> None:
    assert module in IMPORTS, f"give {module} its line in IMPORTS"
    assert IMPORTS[module] == imported_by(module)


def test_every_line_is_about_a_module_that_there_is() -> None:
    assert IMPORTS.keys() == PATHS.keys()
    assert ADAPTERS | INSIDE_ADAPTERS | {TOOLS} <= PATHS.keys()


def test_the_architecture_names_each_module_once() -> None:
    page = (Path(__file__).parents[2] / "docs" / "explanation" / "architecture.md").read_text()
    rows = page.partition("| module | responsibility |")[2].splitlines()
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row.removeprefix("|").partition("|")[0])]
    # The heading of the tools names their folder, which is a module as well.
    assert sorted(named) == sorted({module.rpartition(".")[2] for module in PATHS} - {"__init__"})


def test_imports_have_no_cycle_and_lead_neither_into_an_adapter_nor_from_the_core_into_a_tool() -> None:
    tools = {module for module in PATHS if module.partition(".")[0] == TOOLS}
    core = PATHS.keys() - ADAPTERS - INSIDE_ADAPTERS - tools
    assert not [module for module, imported in IMPORTS.items() if imported & ADAPTERS]
    assert not [module for module in core | tools if IMPORTS[module] & INSIDE_ADAPTERS]
    assert not [module for module in core if IMPORTS[module] & tools]
    settled: set[str] = set()
    while ready := {module for module, imported in IMPORTS.items() if imported <= settled} - settled:
        settled |= ready
    assert settled == IMPORTS.keys()


@pytest.mark.parametrize("module", PURE, ids=lambda module: module.__name__)
def test_pure_modules_import_the_standard_library_only_and_neither_os_nor_logging_nor_the_clock(
    module: ModuleType,
) -> None:
    source = MODULES[module.__name__].read_text(encoding="utf-8")
    packages = {name.partition(".")[0] for name in imports(source)}
    assert packages <= (sys.stdlib_module_names - {"os", "logging"}) | {"rollsafe"}
    assert "time.time" not in imports(source)
    attributes = {ast.unparse(node) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)}
    assert "time.time" not in attributes


@pytest.mark.parametrize(
    ("source", "modules"),
    [
        ("import rollsafe.schedule", {"schedule"}),
        ("from rollsafe.schedule import Interval", {"schedule"}),
        ("from rollsafe import schedule, FileLock", {"schedule", "__init__"}),
        ("from . import cli", {"cli"}),
        ("from .flask import init_app", {"flask"}),
        ("from .tools.catalog import Log", {"tools.catalog"}),
        ("import rollsafe.tools.catalog", {"tools.catalog"}),
        ("from rollsafe.tools import catalog, words", {"tools.catalog", "tools.words"}),
        ("from rollsafe import tools", {"tools"}),
        ("def later():\n    import rollsafe.uwsgi", {"uwsgi"}),
        ("import rollsafe", {"__init__"}),
        ("import gunicorn.config\nfrom os import path", set()),
    ],
)
def test_the_reading_of_imports_sees_every_form(source: str, modules: set[str]) -> None:
    assert imported_modules(source) == modules


@pytest.mark.parametrize(
    ("source", "modules"),
    [
        ("from . import catalog", {"tools.catalog"}),
        ("from .words import told", {"tools.words"}),
        ("from .. import schedule, FileLock", {"schedule", "__init__"}),
        ("from ..schedule import Interval", {"schedule"}),
    ],
)
def test_relative_imports_are_read_from_the_package_that_they_stand_in(source: str, modules: set[str]) -> None:
    assert imported_modules(source, "rollsafe.tools") == modules
