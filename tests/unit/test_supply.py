"""What rollsafe takes from others has a lower bound, which `make lowest` tests, and is used."""

from __future__ import annotations

import re

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.support.lowest import IN_WHEELS, lower_bound, pyproject, requirements_of_extras
from tests.support.servers import ROOT
from tests.support.versions import GUNICORNS

EXTRAS: dict[str, Requirement] = {canonicalize_name(each.name): each for each in requirements_of_extras()}
SOURCES = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "src").rglob("*.py")))
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
MODULES = {"python-json-logger": "pythonjsonlogger", "prometheus-client": "prometheus_client"}
"""The modules of packages that have another name."""
VERSION = r"(\d+(?:\.\d+)*)"


def bounds_in_groups() -> list[Requirement]:
    """What the groups for developers say of the packages that an extra names."""
    groups = pyproject()["dependency-groups"].values()
    requirements = [Requirement(line) for lines in groups for line in lines if isinstance(line, str)]
    of_extras = {canonicalize_name(IN_WHEELS.get(name, name)): each for name, each in EXTRAS.items()}
    return [each for each in requirements if canonicalize_name(each.name) in of_extras]


@pytest.mark.parametrize("name", EXTRAS)
def test_an_extra_has_one_lower_bound(name: str) -> None:
    assert Version(lower_bound(EXTRAS[name]))


@pytest.mark.parametrize("name", EXTRAS)
def test_an_extra_names_what_the_package_imports(name: str) -> None:
    module = MODULES.get(name, name.replace("-", "."))
    assert re.search(rf"(?:^|\s)(?:import|from) {re.escape(module)}\b|\"{re.escape(module)}\"", SOURCES)


def test_the_groups_for_developers_begin_where_the_extras_do() -> None:
    in_extras = {IN_WHEELS.get(name, name): lower_bound(each) for name, each in EXTRAS.items()}
    in_groups = bounds_in_groups()
    assert {canonicalize_name(each.name) for each in in_groups} == in_extras.keys()
    assert [str(each) for each in in_groups if lower_bound(each) != in_extras[canonicalize_name(each.name)]] == []


def test_the_oldest_gunicorn_that_is_tested_is_the_oldest_that_is_allowed() -> None:
    assert Version(GUNICORNS[0]) == Version(lower_bound(EXTRAS["gunicorn"]))


def test_the_documentation_speaks_of_no_version_that_is_not_allowed() -> None:
    text = "\n".join([SOURCES, *(path.read_text(encoding="utf-8") for path in PAGES)])
    said = {
        name: set(map(Version, re.findall(rf"\b{re.escape(name)} {VERSION}", text, re.IGNORECASE))) for name in EXTRAS
    }
    assert min(said["gunicorn"]) == Version(lower_bound(EXTRAS["gunicorn"]))
    assert {
        name: refused for name in EXTRAS if (refused := said[name] - set(EXTRAS[name].specifier.filter(said[name])))
    } == {}
