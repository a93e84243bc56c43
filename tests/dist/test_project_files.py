"""Each file by which other programs know the project passes the validator of its kind, which sees what is wrong."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.support.environments import run
from tests.support.servers import ROOT

pytestmark = pytest.mark.dist


def schema(name: str) -> tuple[str, ...]:
    """The command that validates a file by a schema that check-jsonschema brings along."""
    return (sys.executable, "-m", "check_jsonschema", "--builtin-schema", name)


# zizmor is a program, without a Python module. Offline: no test asks GitHub.
ZIZMOR = (str(Path(sys.executable).with_name("zizmor")), "--offline", "--no-progress", "--persona=auditor")

VALIDATED = [
    (schema("vendor.github-workflows"), ".github/workflows/test.yml", ("runs-on:", "runs-in:")),
    (schema("vendor.github-workflows"), ".github/workflows/release.yml", ("- run:", "- runs:")),
    (ZIZMOR, ".github/workflows/test.yml", ("persist-credentials: false", "persist-credentials: true")),
    (ZIZMOR, ".github/workflows/release.yml", ("permissions: {}", "permissions: write-all")),
    (ZIZMOR, ".github/dependabot.yml", ("default-days: 7", "default-days: 0")),
    (schema("vendor.dependabot"), ".github/dependabot.yml", ("monthly", "sometimes")),
    (schema("vendor.github-issue-forms"), ".github/ISSUE_TEMPLATE/problem.yml", ("type: textarea", "type: text")),
    (schema("vendor.github-issue-forms"), ".github/ISSUE_TEMPLATE/idea.yml", ("label:", "title:")),
    (schema("vendor.github-issue-config"), ".github/ISSUE_TEMPLATE/config.yml", ("true", "maybe")),
    (schema("vendor.readthedocs"), ".readthedocs.yaml", ("version: 2", "version: 1")),
    ((sys.executable, "-m", "pre_commit", "validate-config"), ".pre-commit-config.yaml", ("entry:", "entries:")),
    ((sys.executable, "-m", "validate_pyproject"), "pyproject.toml", ("Typing :: Typed", "Typing :: Untyped")),
]


@pytest.mark.parametrize(
    ("command", "file", "mistake"), VALIDATED, ids=[f"{command[-1]}-{file}" for command, file, _ in VALIDATED]
)
def test_the_validator_accepts_the_file_and_rejects_it_with_a_mistake(
    command: tuple[str, ...], file: str, mistake: tuple[str, str], tmp_path: Path
) -> None:
    accepted = run(*command, ROOT / file, cwd=tmp_path)
    assert accepted.returncode == 0, accepted.stdout

    wrong = tmp_path / file
    wrong.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / file, wrong)
    text = wrong.read_text(encoding="utf-8")
    assert mistake[0] in text
    wrong.write_text(text.replace(*mistake), encoding="utf-8")
    assert run(*command, wrong, cwd=tmp_path).returncode != 0


def test_every_such_file_is_validated() -> None:
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / ".github").rglob("*.y*ml")}
    assert files <= {file for _, file, _ in VALIDATED}
