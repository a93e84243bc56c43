"""What is in the wheel and in the sdist, and what a person reads about them on PyPI."""

from __future__ import annotations

import email
import email.message
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.support.environments import run_well
from tests.support.servers import ROOT

pytestmark = pytest.mark.dist


def names_in_sdist(sdist: Path) -> set[str]:
    """The names of all files of the sdist, below its directory."""
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
    assert all(member.isfile() for member in members), "an sdist of plain files is unpacked alike everywhere"
    return {member.name.partition("/")[2] for member in members}


def names_in_wheel(wheel: Path) -> set[str]:
    """The names of all files of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def text_in_wheel(wheel: Path, name: str) -> str:
    """The text of a file of the wheel's metadata."""
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (each for each in archive.namelist() if each.endswith(f".dist-info/{name}"))
        return archive.read(path).decode()


def metadata_of(wheel: Path) -> email.message.Message:
    """The metadata of the wheel."""
    return email.message_from_string(text_in_wheel(wheel, "METADATA"))


def description_of(wheel: Path) -> str:
    """The README as it is on PyPI, in Markdown."""
    description = metadata_of(wheel).get_payload()
    assert isinstance(description, str)
    return description


def test_twine_accepts_both(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    run_well(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist, cwd=tmp_path)


def test_check_wheel_contents_accepts_the_wheel(wheel: Path, tmp_path: Path) -> None:
    run_well(sys.executable, "-m", "check_wheel_contents", wheel, cwd=tmp_path)


def test_the_wheel_has_the_files_of_the_package_and_no_others(wheel: Path, sdist: Path) -> None:
    package = {name.removeprefix("src/") for name in names_in_sdist(sdist) if name.startswith("src/")}
    assert {name for name in names_in_wheel(wheel) if ".dist-info/" not in name} == package
    assert {"rollsafe/py.typed", "rollsafe/tools/templates/page.html"} <= package


def test_the_sdist_has_the_files_that_git_has_and_no_others(sdist: Path) -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip(f"no clone of git: {listed.stderr.strip()}")
    # A file that is not committed, such as notes of the one who releases, is in the sdist without being in git.
    assert names_in_sdist(sdist) == {*listed.stdout.split("\0"), "PKG-INFO"} - {""}


def test_the_sdist_has_all_that_its_readme_speaks_of(sdist: Path) -> None:
    names = names_in_sdist(sdist)
    assert {"Makefile", "gunicorn.conf.py", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "example_app/demo.py"} <= names
    links = set(re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert links
    assert links <= names


def test_the_licence_is_in_both(wheel: Path, sdist: Path) -> None:
    assert metadata_of(wheel)["License-Expression"] == "MIT"
    assert metadata_of(wheel).get_all("License-File") == ["LICENSE"]
    assert text_in_wheel(wheel, "licenses/LICENSE") == (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_every_link_on_the_page_of_pypi_leads_somewhere(wheel: Path) -> None:
    # In the group dist, while `make test` imports this file too.
    from readme_renderer import markdown

    # PyPI has the README alone: a link to a file beside it, or a picture, would be an error 404.
    page = markdown.render(description_of(wheel))
    assert page is not None
    assert "<table>" in page
    targets = re.findall(r'(?:href|src)="([^"]*)"', page)
    # A target that begins with # is a heading of the page itself.
    assert [target for target in targets if not target.startswith(("https://", "#"))] == []


def test_the_page_of_pypi_speaks_of_no_time_before_the_release(wheel: Path) -> None:
    assert "first release" not in description_of(wheel)


def test_the_page_of_pypi_keeps_the_words_of_the_readme(wheel: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for heading in re.findall(r"^## .+$", readme, re.MULTILINE):
        assert heading in description_of(wheel)
    assert "| uWSGI | call `rollsafe.uwsgi.set_up_logs()`, and name its loggers in `uwsgi.ini` |" in description_of(wheel)


def test_the_metadata_names_no_address(wheel: Path) -> None:
    # Until there is a repository that everybody can reach.
    assert metadata_of(wheel).get_all("Project-URL") is None
    assert metadata_of(wheel)["Home-page"] is None
