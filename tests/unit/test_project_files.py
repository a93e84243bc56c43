"""The files of the project that no program of ours reads say what pyproject.toml and the documentation say."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.support.servers import ROOT
from tests.support.versions import PYTHONS

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FILES = [
    *WORKFLOWS,
    *sorted((ROOT / ".github").rglob("*.yml")),
    ROOT / ".readthedocs.yaml",
    ROOT / ".pre-commit-config.yaml",
    ROOT / "SECURITY.md",
]
FACTS = [
    "versions of rollsafe, python and the server",
    "configuration of the handler",
    "file system of the log directory",
    "df -t",
    "what you expected",
    "what you found",
    "if lines are lost or doubled",
    "names and sizes of all files in the log directory",
]


def text(*names: str) -> str:
    """The text of a file of the repository."""
    return ROOT.joinpath(*names).read_text(encoding="utf-8")


def workflow(name: str) -> dict[str, Any]:
    """A workflow as GitHub reads it."""
    loaded = yaml.safe_load(text(".github", "workflows", name))
    assert isinstance(loaded, dict)
    return loaded


def classified() -> list[str]:
    """The versions of Python that the metadata names."""
    return re.findall(r'"Programming Language :: Python :: (3\.\d+)"', text("pyproject.toml"))


def test_the_tests_run_on_every_python_that_the_metadata_names() -> None:
    matrix = workflow("test.yml")["jobs"]["linux"]["strategy"]["matrix"]["python"]
    assert set(classified()) <= set(matrix)
    assert set(PYTHONS) <= set(classified())
    assert f'requires-python = ">={matrix[0]}"' in text("pyproject.toml")


def test_an_action_is_named_by_its_commit_and_everywhere_the_same() -> None:
    uses = [line for path in WORKFLOWS for line in re.findall(r"uses: (.*)", path.read_text(encoding="utf-8"))]
    assert uses
    assert [line for line in uses if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)] == []
    assert len(set(uses)) == len({line.partition("@")[0] for line in uses})


def test_only_the_job_that_uploads_may_do_more_than_read() -> None:
    for path in WORKFLOWS:
        assert workflow(path.name)["permissions"] == {}
    jobs = {name: job for path in WORKFLOWS for name, job in workflow(path.name)["jobs"].items()}
    assert jobs.pop("publish")["permissions"] == {"id-token": "write"}
    assert {name: job["permissions"] for name, job in jobs.items()} == {name: {"contents": "read"} for name in jobs}


def test_the_commands_of_the_tests_are_those_of_contributing() -> None:
    steps = [step for job in workflow("test.yml")["jobs"].values() for step in job["steps"]]
    commands = [step["run"] for step in steps if "run" in step]
    assert "make test" in commands
    assert [command for command in commands if command not in text("CONTRIBUTING.md")] == []


def test_the_form_for_a_problem_asks_for_what_contributing_names() -> None:
    form, page = (
        text(*names).lower() for names in ((".github", "ISSUE_TEMPLATE", "problem.yml"), ("CONTRIBUTING.md",))
    )
    assert [fact for fact in FACTS if fact not in form] == []
    assert [fact for fact in FACTS if fact not in page] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_file_names_an_address_that_is_not_there_before_the_first_release(path: Any) -> None:
    addresses = re.findall(r"https?://\S+", path.read_text(encoding="utf-8"))
    assert addresses == [address for address in addresses if address == "https://github.com/rhysd/actionlint"]


def test_read_the_docs_builds_the_site_of_make() -> None:
    assert yaml.safe_load(text(".readthedocs.yaml"))["build"]["commands"][0] == "make site"
