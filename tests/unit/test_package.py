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

from rollsafe import _remembering as remembering
from rollsafe import _suffixes as suffixes
from rollsafe import schedule
from rollsafe._backups import clocks, names, recognition, retention
from tests.support.modules import MODULES, PACKAGE

# For people at a terminal: they read what the core has written, and the core knows nothing of them.
TOOLS = "tools"
ENTRY = "__main__"
"""It starts the command, so it alone imports an adapter."""
ADAPTERS = {"gunicorn", "uwsgi", "flask", "celery", "request_ids", "json_lines", "metrics", "cli", ENTRY}
INSIDE_ADAPTERS = {"_gunicorn", "_flask", "_celery", "_uwsgi"}
"""Folders whose modules only adapters and one another import."""
FOLDERS = ("_live", "_backups", "_files")
"""None of them imports from one before it."""
PURE = [suffixes, schedule, remembering, names, clocks, recognition, retention]

# Each module of the package, and those that it imports: neither more nor fewer. A new module gets its line here.
# A name is written without `rollsafe.`; the package itself is `__init__`.
IMPORTS: dict[str, set[str]] = {
    "__init__": {"errors", "formatters", "handlers", "locks"},
    "cli": {
        "__init__",
        "_options",
        "errors",
        "tools.catalog",
        "tools.checks",
        "tools.findings",
        "tools.line_commands",
        "tools.output",
        "tools.page",
        "tools.prune",
        "tools.roll",
        "tools.running",
        "tools.screen",
        "tools.several",
        "tools.shipping",
        "tools.status",
        "tools.verify",
        "tools.words",
        "tools.write_command",
    },
    "flask": {
        "_arguments",
        "_environment",
        "_flask.fields",
        "_flask.files",
        "_options",
        "_requests",
        "errors",
        "formatters",
        "handlers",
    },
    "gunicorn": {
        "_files.lock_handles",
        "_gunicorn.access_fields",
        "_gunicorn.conflicts",
        "_gunicorn.logger",
        "_gunicorn.reload",
        "_gunicorn.workers",
        "_preset",
        "errors",
        "handlers",
    },
    "metrics": {"_live.events", "errors"},
    "uwsgi": {
        "_backups.maintenance_thread",
        "_environment",
        "_files.lock_handles",
        "_preset",
        "_uwsgi.contradictions",
        "_uwsgi.exit",
        "_uwsgi.loggers",
        "_uwsgi.pipes",
        "handlers",
    },
    "request_ids": {"_requests"},
    "json_lines": {"_lines.json_objects", "_overrides", "formatters", "schedule"},
    "__main__": {"cli", "tools.words", "tools.write_command"},
    "_arguments": {"_files.mounts", "_files.places", "_files.renames", "_files.special_files", "_remedies", "errors"},
    "_background": set(),
    "_backups": set(),
    "_backups.archives": {
        "_backups.codecs",
        "_backups.file_names",
        "_backups.ledger",
        "_backups.names",
        "_backups.scratch",
        "_files.identity",
        "_files.places",
    },
    "_backups.attempts": {
        "_backups.failures",
        "_backups.file_names",
        "_backups.ledger",
        "_backups.listing",
        "_backups.quiet",
        "_backups.scratch",
    },
    "_backups.clocks": set(),
    "_backups.codecs": {"_background", "_backups.scratch", "_files.places", "errors"},
    "_backups.duties": {
        "_backups.codecs",
        "_backups.listing",
        "_backups.names",
        "_backups.naming",
        "_backups.retention",
        "_reports",
        "schedule",
    },
    "_backups.election": {"_files.lock_handles", "locks"},
    "_backups.excess": {
        "_backups.listing",
        "_backups.names",
        "_backups.quiet",
        "_backups.recognition",
        "_backups.retention",
        "_files.identity",
        "_values",
    },
    "_backups.failures": set(),
    "_backups.file_names": {
        "_backups.ledger",
        "_backups.scratch",
        "_files.identity",
        "_files.places",
        "_files.renames",
    },
    "_backups.ledger": {"_background", "_files.identity", "_files.note", "_files.places", "locks"},
    "_backups.listing": {"_background", "_backups.names", "_backups.scratch"},
    "_backups.maintenance": {
        "_background",
        "_backups.attempts",
        "_backups.codecs",
        "_backups.duties",
        "_backups.election",
        "_backups.excess",
        "_backups.failures",
        "_backups.ledger",
        "_backups.listing",
        "_backups.maintenance_pass",
        "_backups.maintenance_thread",
        "_backups.naming",
        "_backups.quiet",
        "_backups.watch",
        "_reports",
        "_timing",
        "locks",
    },
    "_backups.maintenance_pass": {
        "_backups.archives",
        "_backups.attempts",
        "_backups.codecs",
        "_backups.duties",
        "_backups.failures",
        "_backups.file_names",
        "_backups.ledger",
        "_backups.listing",
        "_backups.names",
        "_backups.quiet",
        "_backups.scratch",
        "_files.identity",
        "_timing",
    },
    "_backups.maintenance_thread": {"_background", "_backups.watch", "_timing"},
    "_backups.names": {"_remembering", "_suffixes", "_values", "schedule"},
    "_backups.naming": {"_backups.listing", "_backups.names", "_backups.ownership", "schedule"},
    "_backups.ownership": {"_files.lock_files", "_files.note", "_files.places"},
    "_backups.quiet": {"_backups.clocks", "_backups.file_names"},
    "_backups.recognition": {"_backups.clocks", "_backups.names", "_backups.retention", "_files.lock_files", "_values"},
    "_backups.retention": {"_values"},
    "_backups.scratch": {"_background", "_files.places", "errors"},
    "_backups.watch": {"_background", "_backups.duties", "_backups.naming", "_files.identity", "_timing"},
    "_celery": set(),
    "_celery.task_fields": set(),
    "_celery.time_limits": {"handlers"},
    "_durations": set(),
    "_environment": set(),
    "_files": set(),
    "_files.identity": set(),
    "_files.lock_files": {"_files.places"},
    "_files.lock_handles": {"_files.identity", "_files.lock_files", "_files.places", "_files.record_locks"},
    "_files.mounts": {"_values"},
    "_files.note": {
        "_files.identity",
        "_files.lock_files",
        "_files.lock_handles",
        "_settings",
        "_timing",
        "_values",
        "schedule",
    },
    "_files.places": {"_files.walk", "_values", "errors"},
    "_files.record_locks": {"_files.identity"},
    "_files.renames": {"_files.places"},
    "_files.special_files": {"_files.places", "_files.walk"},
    "_files.walk": {"_background", "errors"},
    "_flask": set(),
    "_flask.fields": {"_options", "_requests"},
    "_flask.files": {"_options", "handlers"},
    "_greenlets": {"_background"},
    "_gunicorn": set(),
    "_gunicorn.access": {"formatters"},
    "_gunicorn.access_objects": {"_gunicorn.access", "_gunicorn.access_fields", "_overrides", "_requests"},
    "_gunicorn.access_fields": {"_requests"},
    "_gunicorn.conflicts": {
        "_files.identity",
        "_files.note",
        "_gunicorn.wiring",
        "_settings",
        "handlers",
        "tools.status",
    },
    "_gunicorn.flags": {"_gunicorn.wiring", "_options", "handlers"},
    "_gunicorn.logger": {
        "_gunicorn.access",
        "_gunicorn.access_objects",
        "_gunicorn.conflicts",
        "_listeners",
        "_options",
        "_overrides",
        "errors",
        "formatters",
        "handlers",
    },
    "_gunicorn.reload": {"_options"},
    "_gunicorn.wiring": {"_arguments", "errors", "handlers"},
    "_gunicorn.workers": {
        "_files.special_files",
        "_gunicorn.conflicts",
        "_gunicorn.flags",
        "_gunicorn.reload",
        "_gunicorn.wiring",
        "handlers",
    },
    "_lines": set(),
    "_lines.encoder": {"_lines.missing", "_lines.stamps"},
    "_lines.formats": set(),
    "_lines.json_objects": set(),
    "_lines.missing": set(),
    "_lines.records": {"errors"},
    "_lines.stamps": set(),
    "_listeners": {"_overrides", "formatters", "handlers"},
    "_live": set(),
    "_live.bounded_lock": {"_files.lock_files", "_files.lock_handles", "_live.events", "locks"},
    "_live.events": set(),
    "_live.file_limit": {"_files.identity", "_live.open_file"},
    "_live.fragments": {"_files.identity", "_files.places"},
    "_live.late": {"_live.open_file", "_timing"},
    "_live.live_file": {
        "_backups.codecs",
        "_backups.duties",
        "_backups.maintenance",
        "_backups.naming",
        "_lines.encoder",
        "_live.bounded_lock",
        "_live.events",
        "_live.late",
        "_live.open_file",
        "_live.rollover",
        "_live.shared",
        "_live.streams",
        "_reports",
        "_settings",
        "errors",
    },
    "_live.live_note": {"_backups.ledger", "_files.identity", "_files.note", "_live.open_file", "locks", "schedule"},
    "_live.live_path": {
        "_background",
        "_files.identity",
        "_files.places",
        "_files.special_files",
        "_live.bounded_lock",
        "_live.live_note",
        "_live.open_file",
        "_live.streams",
    },
    "_live.numbers": {"_backups.names", "_backups.naming", "_live.live_note", "schedule"},
    "_live.open_file": {"_files.identity", "_live.fragments", "_live.streams", "_timing", "schedule"},
    "_live.pending": set(),
    "_live.renewal": {
        "_backups.naming",
        "_files.identity",
        "_greenlets",
        "_live.live_file",
        "_live.open_file",
        "_live.pending",
        "_live.rollover",
        "schedule",
    },
    "_live.rollover": {
        "_backups.ledger",
        "_backups.naming",
        "_files.identity",
        "_files.note",
        "_files.places",
        "_files.renames",
        "_live.bounded_lock",
        "_live.events",
        "_live.file_limit",
        "_live.live_note",
        "_live.live_path",
        "_live.numbers",
        "_live.open_file",
        "_live.shared",
        "_timing",
        "schedule",
    },
    "_live.shared": {
        "_files.identity",
        "_files.places",
        "_live.bounded_lock",
        "_live.live_path",
        "_live.open_file",
        "schedule",
    },
    "_live.streams": set(),
    "_live.writer": {
        "_backups.naming",
        "_lines.encoder",
        "_live.bounded_lock",
        "_live.events",
        "_live.live_file",
        "_live.open_file",
        "_live.pending",
        "_live.renewal",
        "_live.shared",
        "_reports",
    },
    "_options": {"_backups.codecs", "_durations", "_values", "errors", "schedule"},
    "_overrides": set(),
    "_preset": {
        "_arguments",
        "_backups.codecs",
        "_files.places",
        "_lines.records",
        "_lines.stamps",
        "_options",
        "_remedies",
        "errors",
        "formatters",
        "handlers",
        "schedule",
    },
    "_remembering": {"schedule"},
    "_remedies": set(),
    "_reports": {"_lines.encoder", "_remedies"},
    "_requests": {"errors"},
    "_settings": {"_options", "_values", "errors", "schedule"},
    "_suffixes": set(),
    "_timing": set(),
    "_values": set(),
    "_uwsgi": set(),
    "_uwsgi.contradictions": {"_uwsgi.loggers"},
    "_uwsgi.exit": {"_uwsgi.loggers", "_uwsgi.pipes", "handlers"},
    "_uwsgi.loggers": {"_listeners", "_uwsgi.pipes"},
    "_uwsgi.peers": set(),
    "_uwsgi.pipes": {"_uwsgi.peers"},
    "celery": {
        "_arguments",
        "_celery.task_fields",
        "_celery.time_limits",
        "_options",
        "errors",
        "formatters",
        "handlers",
    },
    "errors": set(),
    "formatters": {"_lines.formats", "_lines.stamps", "_overrides", "errors", "schedule"},
    "handlers": {
        "_arguments",
        "_backups.codecs",
        "_backups.names",
        "_backups.naming",
        "_backups.ownership",
        "_greenlets",
        "_lines.encoder",
        "_live.fragments",
        "_live.live_file",
        "_live.open_file",
        "_live.renewal",
        "_live.rollover",
        "_live.streams",
        "_live.writer",
        "_options",
        "_overrides",
        "_reports",
        "_settings",
        "errors",
        "schedule",
    },
    "locks": {"_files.lock_files", "_files.lock_handles", "_files.places", "_greenlets"},
    "schedule": {"_suffixes", "_values", "errors"},
    "tools": set(),
    "tools.authority": {"_files.lock_handles", "_files.note", "_files.places", "errors", "tools.catalog"},
    "tools.blocks": {"_lines.encoder", "_live.pending", "errors", "handlers"},
    "tools.catalog": {
        "_backups.names",
        "_files.lock_files",
        "_files.note",
        "_files.places",
        "_remembering",
        "_settings",
        "errors",
        "schedule",
    },
    "tools.catch_up": {"errors", "tools.catalog"},
    "tools.check_configuration": {
        "tools.findings",
        "tools.logging_config",
        "tools.rehearsal",
        "tools.steps",
        "tools.trials",
        "tools.words",
    },
    "tools.check_directories": {
        "_files.lock_files",
        "_files.mounts",
        "_files.renames",
        "tools.findings",
        "tools.trials",
    },
    "tools.check_files": {"errors", "tools.findings", "tools.logrotate", "tools.prune", "tools.status", "tools.words"},
    "tools.check_flags": {"tools.configs", "tools.findings", "tools.logging_config", "tools.trials"},
    "tools.check_handlers": {"tools.configs", "tools.findings", "tools.logging_config", "tools.logrotate"},
    "tools.check_space": {"errors", "tools.findings", "tools.prune", "tools.words"},
    "tools.checks": {
        "_files.lock_files",
        "errors",
        "tools.catalog",
        "tools.check_configuration",
        "tools.check_directories",
        "tools.check_files",
        "tools.check_flags",
        "tools.check_handlers",
        "tools.check_space",
        "tools.config_kinds",
        "tools.configs",
        "tools.findings",
        "tools.logging_config",
        "tools.logrotate",
        "tools.status",
        "tools.trials",
    },
    "tools.config_kinds": {
        "_files.lock_files",
        "errors",
        "tools.catalog",
        "tools.configs",
        "tools.ini_logging",
        "tools.logging_config",
        "tools.python_configs",
        "tools.trials",
    },
    "tools.configs": {"_arguments", "_options", "errors", "handlers", "tools.ini_logging", "tools.logging_config"},
    "tools.configured_lines": {
        "_lines.formats",
        "_settings",
        "formatters",
        "tools.configs",
        "tools.logging_config",
        "tools.shippers.line_formats",
        "tools.shippers.line_times",
    },
    "tools.findings": {"_settings", "tools.catalog", "tools.trials"},
    "tools.follow": {
        "_backups.names",
        "_files.identity",
        "_files.note",
        "_timing",
        "errors",
        "tools.catalog",
        "tools.lines",
        "tools.reading",
        "tools.several",
        "tools.source",
    },
    "tools.ini_logging": {"errors"},
    "tools.line_commands": {
        "errors",
        "tools.catalog",
        "tools.follow",
        "tools.lines",
        "tools.output",
        "tools.several",
        "tools.several_followed",
        "tools.source",
        "tools.times",
        "tools.words",
    },
    "tools.line_kinds": {
        "_lines.stamps",
        "_preset",
        "tools.catalog",
        "tools.shippers.line_formats",
        "tools.shippers.line_times",
    },
    "tools.lines": {
        "_backups.names",
        "_files.identity",
        "_settings",
        "errors",
        "tools.catalog",
        "tools.reading",
        "tools.several",
        "tools.times",
    },
    "tools.logging_config": {"_arguments", "_options", "_settings", "errors", "handlers"},
    "tools.logrotate": set(),
    "tools.output": {"tools.words"},
    "tools.page": {"tools.words"},
    "tools.proof": {"_lines.stamps"},
    "tools.prune": {
        "_backups.excess",
        "_backups.failures",
        "_backups.listing",
        "_backups.maintenance_pass",
        "_backups.names",
        "_backups.ownership",
        "_backups.quiet",
        "_backups.retention",
        "_files.lock_handles",
        "_settings",
        "errors",
        "locks",
        "tools.authority",
        "tools.catalog",
    },
    "tools.python_configs": {"errors", "tools.ini_logging", "tools.logging_config"},
    "tools.reading": {"errors"},
    "tools.rehearsal": {"_lines.missing", "tools.logging_config", "tools.trials"},
    "tools.roll": {
        "_backups.attempts",
        "_backups.codecs",
        "_backups.excess",
        "_backups.failures",
        "_backups.ledger",
        "_backups.maintenance_pass",
        "_backups.names",
        "_backups.naming",
        "_backups.quiet",
        "_files.lock_handles",
        "_files.note",
        "_live.bounded_lock",
        "_live.open_file",
        "_live.renewal",
        "_live.rollover",
        "_settings",
        "_timing",
        "errors",
        "locks",
        "tools.authority",
        "tools.catalog",
        "tools.prune",
        "tools.words",
    },
    "tools.running": {"errors", "tools.output", "tools.words"},
    "tools.scan": {
        "_lines.stamps",
        "schedule",
        "tools.catalog",
        "tools.proof",
        "tools.reading",
        "tools.times",
        "tools.words",
    },
    "tools.screen": {
        "_backups.retention",
        "_settings",
        "tools.catalog",
        "tools.findings",
        "tools.status",
        "tools.times",
        "tools.verify",
        "tools.words",
    },
    "tools.several": {"_files.identity", "_files.lock_files", "tools.catalog"},
    "tools.several_followed": {"schedule", "tools.catalog", "tools.follow", "tools.lines"},
    "tools.ship_sources": {
        "_backups.codecs",
        "errors",
        "tools.catalog",
        "tools.config_kinds",
        "tools.configured_lines",
        "tools.line_kinds",
        "tools.logging_config",
        "tools.shippers.line_formats",
        "tools.shippers.logs",
    },
    "tools.shippers": set(),
    "tools.shippers.alloy": {"tools.shippers.line_formats", "tools.shippers.logs"},
    "tools.shippers.filebeat": {"tools.shippers.line_formats", "tools.shippers.line_times", "tools.shippers.logs"},
    "tools.shippers.fluent_bit": {"tools.shippers.line_times", "tools.shippers.logs"},
    "tools.shippers.line_formats": {"_lines.formats", "_lines.stamps", "formatters", "tools.shippers.line_times"},
    "tools.shippers.line_times": set(),
    "tools.shippers.logs": {"errors", "tools.shippers.line_formats", "tools.words"},
    "tools.shippers.otel": {"tools.shippers.logs"},
    "tools.shippers.rsyslog": {"tools.shippers.logs"},
    "tools.shippers.vector": {"tools.shippers.line_formats", "tools.shippers.line_times", "tools.shippers.logs"},
    "tools.shipping": {
        "errors",
        "tools.catalog",
        "tools.catch_up",
        "tools.config_kinds",
        "tools.ship_sources",
        "tools.shippers.alloy",
        "tools.shippers.filebeat",
        "tools.shippers.fluent_bit",
        "tools.shippers.logs",
        "tools.shippers.otel",
        "tools.shippers.rsyslog",
        "tools.shippers.vector",
    },
    "tools.source": {"_backups.names", "_files.identity", "tools.catalog", "tools.several"},
    "tools.status": {
        "_backups.excess",
        "_backups.names",
        "_files.identity",
        "_files.lock_handles",
        "_files.places",
        "_settings",
        "errors",
        "tools.catalog",
        "tools.prune",
        "tools.words",
    },
    "tools.steps": {
        "_backups.codecs",
        "_backups.scratch",
        "_files.lock_files",
        "_files.places",
        "handlers",
        "locks",
        "tools.logging_config",
        "tools.trials",
    },
    "tools.times": {"_durations", "_settings", "errors", "schedule"},
    "tools.trials": {"_backups.scratch", "_files.renames", "locks"},
    "tools.verify": {
        "_backups.names",
        "_lines.stamps",
        "_settings",
        "errors",
        "schedule",
        "tools.catalog",
        "tools.lines",
        "tools.scan",
        "tools.several",
        "tools.words",
    },
    "tools.words": set(),
    "tools.write": {"_live.writer", "tools.blocks", "tools.words"},
    "tools.write_command": {
        "_arguments",
        "_options",
        "handlers",
        "tools.blocks",
        "tools.output",
        "tools.running",
        "tools.write",
    },
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


def top_of(module: str) -> str:
    """The folder of a module, or the module itself if it is in none."""
    return module.partition(".")[0]


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


def test_the_version_stands_in_one_place_and_the_changelog_begins_with_it() -> None:
    import rollsafe

    root = Path(__file__).parents[2]
    newest = re.search(r"^## \[(.+?)\]", (root / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is not None
    assert rollsafe.__version__ == newest[1]
    project = (root / "pyproject.toml").read_text(encoding="utf-8").partition("\n[project]\n")[2]
    assert re.search(r'^dynamic = \[.*"version".*\]$', project.partition("\n[")[0], re.MULTILINE)


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


def modules_loaded_by(imported: str, directory: Path) -> set[str]:
    """The modules that a fresh interpreter has after it has imported the modules of this name."""
    ran = run_without_extras(f"import {imported}\nprint(*sys.modules)", directory)
    assert (ran.returncode, ran.stderr) == (0, "")
    return set(ran.stdout.split())


def test_the_package_loads_few_modules_besides_those_of_logging_handlers(tmp_path: Path) -> None:
    """Each worker pays for them at its start, so a new one is a decision; see `bench/tools.py` for the time."""
    loaded = modules_loaded_by("rollsafe", tmp_path) - modules_loaded_by("logging.handlers", tmp_path)
    public = {name for name in loaded if name.partition(".")[0] != "rollsafe" and not name.startswith("_")}
    assert public <= {
        "bisect",
        "contextlib",  # until Python 3.10
        "ctypes",
        "ctypes._endian",
        "datetime",
        "fcntl",
        "importlib",
        "importlib._bootstrap",
        "importlib._bootstrap_external",
        "json",
        "json.decoder",
        "json.encoder",
        "json.scanner",
        "math",  # before Python 3.14, `logging.handlers` loads it too
        "resource",
        "sysconfig",  # by `ctypes` of Python 3.14
        "typing",
        "typing.io",  # until Python 3.12, as the next one
        "typing.re",
        "zlib",
    }, "import it where it is needed, or add it here"


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
    # The headings name the folders, which are modules as well.
    assert sorted(named) == sorted({module.rpartition(".")[2] for module in PATHS} - {"__init__"})


def test_imports_have_no_cycle_and_lead_neither_into_an_adapter_nor_from_the_core_into_a_tool() -> None:
    tools = {module for module in PATHS if top_of(module) == TOOLS}
    core = {module for module in PATHS if top_of(module) not in ADAPTERS | INSIDE_ADAPTERS | {TOOLS}}
    assert [module for module, imported in IMPORTS.items() if imported & ADAPTERS] == [ENTRY]
    assert not [module for module in core | tools if set(map(top_of, IMPORTS[module])) & INSIDE_ADAPTERS]
    assert not [module for module in core if IMPORTS[module] & tools]
    assert not [
        (module, other)
        for module in PATHS
        for other in IMPORTS[module]
        if {top_of(module), top_of(other)} <= set(FOLDERS)
        and FOLDERS.index(top_of(other)) < FOLDERS.index(top_of(module))
    ]
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
