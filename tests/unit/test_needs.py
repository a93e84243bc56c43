"""The list of system packages that widen the suite: CONTRIBUTING.md gives it, and .ci/run installs it."""

from __future__ import annotations

import re

import pytest

from tests.support.needs import PACKAGES, is_missing, needs_command, require_command, require_file
from tests.support.servers import ROOT


def test_the_command_of_contributing_installs_the_packages_that_skipped_tests_name() -> None:
    (command,) = re.findall(
        r"^\$ sudo apt-get install ((?:[^\n]*\\\n)*[^\n]*)$",
        (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert command.replace("\\\n", " ").split() == sorted(PACKAGES)


def test_ci_installs_them_too() -> None:
    assert "<tests/packages.txt" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_a_missing_command_is_a_reason_that_names_the_package() -> None:
    with pytest.raises(pytest.skip.Exception, match=r"^no-such-command is missing: apt-get install strace$"):
        require_command("no-such-command", package="strace")
    assert needs_command("no-such-command", package="strace").args == (True,)


def test_a_missing_file_is_a_reason_that_names_the_package() -> None:
    with pytest.raises(pytest.skip.Exception, match=r"^/usr/lib/no-\* is missing: apt-get install strace$"):
        require_file("/usr/lib", "no-*", package="strace")


def test_what_is_there_is_no_reason_to_skip() -> None:
    assert require_command("no-such-command", "sh", package="bash").endswith("/sh")
    assert needs_command("sh", package="bash").args == (False,)


def test_a_package_that_is_not_listed_is_refused() -> None:
    with pytest.raises(AssertionError, match=r"add cowsay to tests/packages\.txt"):
        is_missing("cowsay", "cowsay")
