"""The code of users has no type error with the wheel, and the types of everything public are known."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.environments import Environment, run
from tests.support.servers import ROOT

pytestmark = pytest.mark.dist

OUTSIDE = ROOT / "tests" / "typing" / "outside"
# The only file whose own name is no name of a module.
NAMES = {"gunicorn_conf.py": "gunicorn.conf.py"}

MYPY = ("-m", "mypy", "--strict", "--no-error-summary")
# Each is a mistake that both checkers find if they know the types; they accept anything of a type that they do not know.
MISTAKES = """
import rollsafe, rollsafe.gunicorn, rollsafe.uwsgi, rollsafe.flask, rollsafe.metrics
from rollsafe.celery import install
from rollsafe.json_lines import JSONFormatter
from rollsafe.request_ids import ASGIMiddleware, request_id
rollsafe.SafeTimedRotatingFileHandler("app.log", backup_count=7)
rollsafe.LineFormatter(style="x")
rollsafe.FileLock(3)
rollsafe.gunicorn.rotating_logs("logs", whenn="h")
rollsafe.gunicorn.rotating_logger("h")
rollsafe.uwsgi.set_up_logs(1)
rollsafe.flask.init_app("app")
rollsafe.metrics.to_statsd(8125)
install(1)
JSONFormatter(tz=1)
ASGIMiddleware(1)
request_id().lower(1)
rollsafe.__version__ + 1
"""
WRONG_LINES = {number for number, line in enumerate(MISTAKES.splitlines(), 1) if re.match(r"(?!from|import)\w", line)}


@pytest.fixture(scope="module")
def typed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the wheel, all its extras that have Python code, and the type checkers."""
    environment = Environment(tmp_path_factory.mktemp("typed") / "venv")
    extras = "gunicorn,flask,celery,cli,json,prometheus,zstd"
    environment.install(f"{wheel}[{extras}]", "--group", f"{ROOT / 'pyproject.toml'}:types")
    return environment


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory with the files of users."""
    for file in OUTSIDE.glob("*.py"):
        shutil.copy(file, tmp_path / NAMES.get(file.name, file.name))
    return tmp_path


def pyright(environment: Environment, *arguments: str, cwd: Path) -> dict[str, Any]:
    """What pyright reports. It looks for an installed package with the Python of the PATH."""
    path = f"{environment.home / 'bin'}{os.pathsep}{os.environ['PATH']}"
    variables = {"PATH": path, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    ran = run(environment.python, "-m", "pyright", "--outputjson", *arguments, cwd=cwd, environment=variables)
    report: dict[str, Any] = json.loads(ran.stdout)
    return report


def test_mypy_finds_nothing_in_the_code_of_users(typed: Environment, project: Path) -> None:
    assert typed.run(*MYPY, *sorted(file.name for file in project.glob("*.py")), cwd=project) == ""


def test_pyright_finds_nothing_in_the_code_of_users(typed: Environment, project: Path) -> None:
    report = pyright(typed, ".", cwd=project)
    assert report["generalDiagnostics"] == []
    assert report["summary"]["filesAnalyzed"] == len([*OUTSIDE.glob("*.py")])


def test_both_find_each_mistake(typed: Environment, tmp_path: Path) -> None:
    mistakes = tmp_path / "mistakes.py"
    mistakes.write_text(MISTAKES, encoding="utf-8")
    ran = run(typed.python, *MYPY, "--no-pretty", "mistakes.py", cwd=tmp_path)
    found = {int(line.split(":")[1]) for line in ran.stdout.splitlines() if ": error: " in line}
    assert found == WRONG_LINES, ran.stdout
    report = pyright(typed, "mistakes.py", cwd=tmp_path)
    errors = [each for each in report["generalDiagnostics"] if each["severity"] == "error"]
    assert {each["range"]["start"]["line"] + 1 for each in errors} == WRONG_LINES, errors


def test_the_types_of_everything_public_are_known(typed: Environment, tmp_path: Path) -> None:
    report = pyright(typed, "--verifytypes", "rollsafe", "--ignoreexternal", cwd=tmp_path)["typeCompleteness"]
    unknown = [each for each in report["symbols"] if not each["isTypeKnown"]]
    assert unknown == []
    assert report["exportedSymbolCounts"]["withKnownType"] > 500
