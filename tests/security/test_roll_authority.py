"""`rollsafe roll` as root, and as other users, in a directory where a second user may have written the note."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rollsafe import SafeTimedRotatingFileHandler
from rollsafe._files.note import read_note
from rollsafe.errors import LogFileError
from rollsafe.tools.catalog import logs_at
from rollsafe.tools.roll import roll
from tests.support.commands import run
from tests.support.crew import lock_path
from tests.support.logs import log, wait_for_second_after
from tests.support.scene import BYSTANDER, INTRUDER, as_user
from tests.support.servers import backups


@pytest.fixture
def live(public_directory: Path) -> Path:
    """A log of the second user, whose interval is over."""
    live = public_directory / "logs" / "app.log"
    os.chown(live.parent, INTRUDER, INTRUDER)
    live.parent.chmod(0o755)

    def leave() -> None:
        handler = SafeTimedRotatingFileHandler(live, when="S", utc=True, delay=True, compress="gz")
        wait_for_second_after(log(handler, "first"))
        handler.close()

    as_user(leave)
    return live


def owners(directory: Path) -> dict[str, int]:
    """The owner of each file there."""
    return {path.name: path.lstat().st_uid for path in directory.iterdir()}


def plant(live: Path, directory: Path) -> None:
    """Have the second user's note name another directory for the backups."""
    note = read_note(str(live))
    assert note is not None
    settings = note.settings.replace(b'"when"', b'"archive_dir":"%s","when"' % os.fsencode(directory), 1)
    as_user(lambda: lock_path(live).write_bytes(note.replace(settings=settings).content()))


def test_root_acts_as_the_owner_of_the_log(live: Path) -> None:
    before = os.getresuid(), os.getresgid(), os.getgroups()
    ran = run("roll", str(live.parent))
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "1 backup compressed" in ran.stdout
    found = owners(live.parent)
    assert set(found.values()) == {INTRUDER}, found
    assert len(found) == 3
    assert (os.getresuid(), os.getresgid(), os.getgroups()) == before


def test_a_planted_note_makes_root_put_nothing_elsewhere(live: Path) -> None:
    etc = live.parents[1] / "etc"
    etc.mkdir(mode=0o755)
    plant(live, etc)
    ran = run("roll", "--now", str(live.parent))
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "Permission denied" in ran.stderr
    assert list(etc.iterdir()) == []
    assert live.read_text() == "first\n"


def test_a_link_in_place_of_the_live_file_is_not_followed(live: Path) -> None:
    secret = live.parents[1] / "secret"
    secret.write_text("root's\n")

    def replace() -> None:
        live.unlink()
        live.symlink_to(secret)

    as_user(replace)
    ran = run("roll", "--now", str(live.parent))
    assert ran.returncode == 1
    assert secret.read_text() == "root's\n"
    assert live.is_symlink()
    assert backups(live) == []


def test_nobody_acts_on_the_word_of_another_user(live: Path) -> None:
    live.parent.chmod(0o777)
    lock_path(live).chmod(0o644)

    def attempt() -> None:
        with pytest.raises(LogFileError, match=f"of user {INTRUDER}, on whose word user {BYSTANDER} does nothing"):
            roll(logs_at([live])[0], pytest.fail)

    as_user(attempt, BYSTANDER)
    assert live.read_text() == "first\n"
