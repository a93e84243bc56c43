"""`rollsafe check` finds what the workers may not do, and root is safe while it checks a directory of another user."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rollsafe._settings import Settings
from rollsafe.tools import trials
from rollsafe.tools.check_directories import check_permissions, check_rollover
from rollsafe.tools.findings import ERROR, OK, WARNING, Target
from rollsafe.tools.trials import User
from tests.support.findings import NOBODY, PRESET, as_root, bad, of_config, of_log, owned_by_nobody, the_only
from tests.support.logs import write_log


@as_root
def test_a_directory_that_the_workers_may_not_change_is_found(
    public_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(public_directory)
    found = [each for each in bad(of_config(PRESET + "user = 65534\n")) if each.about == "permission"]
    assert [(each.level, each.where) for each in found] == [(ERROR, str(public_directory / "logs"))]
    assert "Permission denied" in found[0].what
    assert str(public_directory / "logs") in found[0].remedy


@as_root
def test_files_that_the_workers_may_not_write_are_found_unless_the_hook_hands_them_over(public_directory: Path) -> None:
    logs = public_directory / "logs"
    write_log(logs / "app.log")
    shutil.chown(logs, NOBODY.uid, NOBODY.gid)
    handed_over, kept = (
        Target(str(logs / "app.log"), Settings(), NOBODY, handed_over=handed_over) for handed_over in (True, False)
    )
    assert bad(list(check_permissions(str(logs), [handed_over], handed_over))) == []
    found = bad(list(check_permissions(str(logs), [kept], kept)))
    assert {each.where for each in found} == {str(logs / "app.log"), str(logs / ".app.log.lock")}


@as_root
def test_without_root_a_warning_says_that_permissions_were_not_tried(tmp_path: Path) -> None:
    target = Target(str(tmp_path / "app.log"), None, User(1, 1))
    (reported,) = trials.in_child(
        lambda: [each.as_dict() for each in check_permissions(str(tmp_path), [target], target)], NOBODY
    )
    assert (reported["level"], reported["remedy"]) == (WARNING, "run the check as root")


@as_root
def test_root_tries_a_log_as_the_user_who_owns_it(public_directory: Path) -> None:
    live = owned_by_nobody(public_directory / "logs")
    findings = of_log(live)
    assert bad(findings) == []
    said = {each.about: each.what for each in findings}
    assert said["permission"] == "user nobody:nogroup may write and roll over"
    assert said["rollover"] == "user nobody:nogroup can rename it to a backup"


@as_root
def test_root_finds_that_a_log_of_another_user_cannot_be_rolled_in_a_directory_of_root(public_directory: Path) -> None:
    live = owned_by_nobody(public_directory / "logs")
    shutil.chown(live.parent, 0, 0)
    found = the_only([each for each in of_log(live) if each.about == "permission"])
    assert (found.level, found.where) == (ERROR, str(live.parent))


@as_root
@pytest.mark.parametrize("owner", [NOBODY, User(0, 0)], ids=["of the workers", "of root"])
def test_a_live_file_in_a_sticky_directory_is_found_if_it_is_not_of_the_workers(
    owner: User, public_directory: Path
) -> None:
    live = public_directory / "logs" / "app.log"
    write_log(live, backupCount=3)
    live.parent.chmod(0o1777)
    for path in live.parent.iterdir():
        path.chmod(0o666)
        shutil.chown(path, owner.uid, owner.gid)
    found = list(check_rollover(Target(str(live), Settings(), NOBODY)))
    if owner == NOBODY:
        assert [each.level for each in found] == [OK]
    else:
        assert the_only(found).what == "user nobody:nogroup cannot rename it: Operation not permitted"
        assert "sticky" in found[0].remedy
    assert live.is_file()


def a_directory_with_links(place: Path, victim: Path) -> None:
    """What another user has made to take the place of a trial's directory."""
    place.mkdir(mode=0o700)
    for name in TRIED:
        (place / name).symlink_to(victim)
    shutil.chown(place, NOBODY.uid, NOBODY.gid)


def a_link(place: Path, victim: Path) -> None:
    """A link to a directory of root's, which has files of these names."""
    a_directory_of_root(victim.parent / "private", victim)
    place.symlink_to(victim.parent / "private")


def a_directory_of_root(place: Path, victim: Path) -> None:
    """A directory of root's that lay there, and was moved."""
    place.mkdir(mode=0o700)
    for name in TRIED:
        shutil.copy(victim, place / name)


TRIED = ("append", "lock", "count", "now")
TRIALS = (trials.append_faults, trials.lock_faults, trials.clock_difference)


@as_root
@pytest.mark.parametrize("trap", [a_directory_with_links, a_link, a_directory_of_root])
@pytest.mark.parametrize("trial", TRIALS)
def test_trials_of_root_write_nothing_that_another_user_has_put_in_their_way(
    trial: Callable[[str], object],
    trap: Callable[[Path, Path], None],
    public_directory: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logs, victim = public_directory / "logs", public_directory / "victim"
    victim.write_text("precious")
    shutil.chown(logs, NOBODY.uid, NOBODY.gid)
    make = tempfile.mkdtemp

    def replaced(*arguments: Any, **keywords: Any) -> str:
        path: str = make(*arguments, **keywords)
        os.rename(path, logs / ".gone")
        trap(Path(path), victim)
        return path

    monkeypatch.setattr(tempfile, "mkdtemp", replaced)
    with pytest.raises(trials.TrialFailed):
        trial(str(logs))
    assert victim.read_text() == "precious"
    for place in (*logs.glob(".rollsafe-check-*"), *public_directory.glob("private")):
        assert {name: (place / name).read_text() for name in TRIED} == dict.fromkeys(TRIED, "precious")
