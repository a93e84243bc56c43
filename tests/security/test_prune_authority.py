"""`rollsafe prune` as root, in a directory where a second user may have written the note."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rollsafe._backups.retention import Limits
from rollsafe._settings import Settings
from rollsafe.errors import LogFileError, NotOurs
from rollsafe.tools.catalog import logs_at
from rollsafe.tools.prune import remove
from tests.support.commands import run
from tests.support.crew import lock_path
from tests.support.scene import BYSTANDER, INTRUDER, as_user

AGED = "app.log.2020-01-01"


@pytest.fixture
def live(public_directory: Path) -> Path:
    """A log of the second user, with a note that has root's directory as that of the backups."""
    live = public_directory / "logs" / "app.log"
    os.chown(live.parent, INTRUDER, INTRUDER)
    live.parent.chmod(0o755)
    directory = etc(live)
    directory.mkdir(mode=0o755)
    (directory / AGED).write_text("precious\n")
    as_user(lambda: note(live, archive_dir=str(directory)))
    return live


def etc(live: Path) -> Path:
    """A directory of root's, with a file that has the name of a backup."""
    return live.parents[1] / "etc"


def note(live: Path, **settings: object) -> None:
    """Write a lock file that keeps nothing."""
    told = Settings("MIDNIGHT", tz="UTC", max_age=86400.0, **settings)  # type: ignore[arg-type]
    lock_path(live).write_bytes(b"1 2 1700000000\n" + told.line() + b"\n1\n")


def aged(live: Path) -> Path:
    """A backup of the second user beside the live file."""
    path = live.with_name(AGED)
    as_user(lambda: path.write_text("a line\n"))
    return path


def gone_by_prune(live: Path) -> list[str]:
    """The names of what `remove` says that it has removed."""
    (log,) = logs_at([live])
    removed = remove(log, Limits(max_age=86400.0), lambda sentence: None)
    return [os.path.basename(path) for removal in removed for path in removal.backup.paths]


def test_a_planted_note_makes_root_remove_nothing_elsewhere(live: Path) -> None:
    ran = run("prune", str(live.parent))
    assert (etc(live) / AGED).exists()
    assert ran.returncode == 1
    assert "Permission denied" in ran.stderr


def test_a_note_of_roots_in_a_directory_of_another_user_is_no_word_of_roots(live: Path) -> None:
    os.chown(lock_path(live), 0, 0)
    ran = run("prune", str(live.parent))
    assert (etc(live) / AGED).exists()
    assert ran.returncode != 0


def test_root_removes_what_the_owner_of_the_log_could_remove(live: Path) -> None:
    as_user(lambda: note(live))
    backup = aged(live)
    before = os.getresuid(), os.getresgid(), os.getgroups()
    assert gone_by_prune(live) == [AGED]
    assert not backup.exists()
    assert (os.getresuid(), os.getresgid(), os.getgroups()) == before


def test_a_lock_file_that_prune_makes_is_that_of_the_owner(live: Path) -> None:
    lock_path(live).unlink()
    aged(live)
    assert gone_by_prune(live) == [AGED]
    assert lock_path(live).stat().st_uid == INTRUDER


def test_a_note_that_a_group_may_have_written_tells_no_other_directory(live: Path) -> None:
    os.chown(live.parent, 0, INTRUDER)
    live.parent.chmod(0o775)
    os.chown(lock_path(live), 0, 0)
    ran = run("prune", str(live.parent))
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "is not believed" in ran.stderr
    assert (etc(live) / AGED).exists()
    note(live)
    backup = aged(live)
    assert run("prune", str(live.parent)).returncode == 0
    assert not backup.exists()


def test_root_believes_its_own_note_where_nobody_else_writes(live: Path) -> None:
    os.chown(live.parent, 0, 0)
    os.chown(lock_path(live), 0, 0)
    assert run("prune", str(live.parent)).returncode == 0
    assert not (live.parents[1] / "etc" / AGED).exists()


def test_a_log_behind_a_directory_of_another_user_is_left_to_that_user(live: Path) -> None:
    below = live.parent / "below"
    below.mkdir()
    note(below / "app.log")
    (below / AGED).write_text("a line\n")
    with pytest.raises(LogFileError, match="leads through a directory of another user"):
        gone_by_prune(below / "app.log")
    assert (below / AGED).exists()


def test_nobody_acts_on_the_word_of_another_user(live: Path) -> None:
    live.parent.chmod(0o777)
    as_user(lambda: note(live))

    def attempt() -> None:
        with pytest.raises(LogFileError, match=f"of user {INTRUDER}, on whose word user {BYSTANDER} does nothing"):
            gone_by_prune(live)

    as_user(attempt, BYSTANDER)


def test_a_note_that_changes_between_reading_and_acting_is_not_acted_on(live: Path) -> None:
    (log,) = logs_at([live])
    as_user(lambda: note(live))
    with pytest.raises(LogFileError, match="have just changed"):
        remove(log, Limits(max_age=86400.0), lambda sentence: None)


def a_link(path: Path) -> None:
    """Plant a link to a note of root's."""
    own = path.parents[1] / "own"
    note(own)
    path.symlink_to(lock_path(own))


def a_fifo(path: Path) -> None:
    """Plant a FIFO."""
    os.mkfifo(path)


def a_directory(path: Path) -> None:
    """Plant a directory."""
    path.mkdir()


@pytest.mark.parametrize("plant", [a_link, a_fifo, a_directory])
def test_what_is_no_lock_file_is_not_acted_on(live: Path, plant: Callable[[Path], None]) -> None:
    lock_path(live).unlink()
    backup = aged(live)
    plant(lock_path(live))
    with pytest.raises((NotOurs, OSError)):
        gone_by_prune(live)
    assert backup.exists()
    assert (etc(live) / AGED).exists()
