"""What has failed with one backup: it keeps no other action from it, and is forgotten when nobody wants it any more."""

from __future__ import annotations

import errno
import os
from math import inf
from pathlib import Path

import pytest

from rollsafe import FileLock, backups
from rollsafe.backups import Tending, Watch
from rollsafe.codecs import CallableCodec, Codec
from rollsafe.ledger import Ledger
from rollsafe.names import Names
from rollsafe.schedule import Schedule


class Full(Codec):
    """A compression for which there is no space."""

    extension = ".gz"

    def write(self, *arguments: object) -> int:
        raise OSError(errno.ENOSPC, "no space")


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are not waited for: nobody else writes here."""
    for name in ("LEASE", "GRACE", "LATE"):
        monkeypatch.setattr(backups, name, 0.0)


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    path = tmp_path / "app.log.2020-01-01_00"
    path.write_text("a line\n")
    return path


class Rounds:
    """Makes rounds over the backups beside one, with what one process remembers and reports."""

    def __init__(self, backup: Path) -> None:
        self.watch = Watch()
        self.reported: list[BaseException] = []
        self._directory = backup.parent

    def next(self) -> Tending:
        """A further round."""
        names = Names(str(self._directory / "app.log"), Schedule("H", tz="UTC"))
        return Tending(str(self._directory), names, self.watch, lambda sentence, error: self.reported.append(error))


def fail_to_compress(tending: Tending, backup: Path) -> None:
    """Try to compress where there is no space."""
    lock = FileLock(backup.with_name(".app.log.lock"))
    tending.compress(Full(), Ledger(lock), None)
    lock.close()


def refuse(path: str, **keywords: object) -> None:
    raise PermissionError(errno.EACCES, "refused", path)


def test_a_backup_that_could_not_be_compressed_can_be_removed(backup: Path) -> None:
    rounds = Rounds(backup)
    fail_to_compress(rounds.next(), backup)
    assert [type(error) for error in rounds.reported] == [OSError]
    rounds.next().remove([str(backup)])
    assert not backup.exists()


def test_each_action_that_fails_with_a_backup_is_reported_once(backup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backups, "_RETRY", 1e-9)
    monkeypatch.setattr(os, "unlink", refuse)
    rounds = Rounds(backup)
    for _ in range(2):
        tending = rounds.next()
        tending.remove([str(backup)])
        fail_to_compress(tending, backup)
        rounds.watch.end_round()
    assert [type(error) for error in rounds.reported] == [PermissionError, OSError]


def test_a_removal_that_failed_and_is_not_wanted_any_more_wakes_nobody_for_ever(
    backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backups, "_RETRY", 1e-9)
    rounds = Rounds(backup)
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        rounds.next().remove([str(backup)])
    rounds.watch.end_round()
    assert rounds.watch.retry_at < inf, "it is to be tried again"
    rounds.next().remove([])
    rounds.watch.end_round()
    assert rounds.watch.retry_at == inf


def test_what_failed_and_still_rests_is_remembered(backup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = Rounds(backup)
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        rounds.next().remove([str(backup)])
    for _ in range(2):
        rounds.watch.end_round()
    assert rounds.watch.rests("remove", str(backup))


def test_what_may_not_be_compressed_any_more_wakes_nobody_for_ever(
    backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = Rounds(backup)
    monkeypatch.setattr(backups, "_RETRY", 1e-9)
    fail_to_compress(rounds.next(), backup)
    monkeypatch.setattr(backups, "_is_ours", lambda status: False)
    fail_to_compress(rounds.next(), backup)
    rounds.watch.end_round()
    assert rounds.watch.retry_at == inf


def test_a_program_that_is_missing_is_reported(backup: Path) -> None:
    rounds = Rounds(backup)
    lock = FileLock(backup.with_name(".app.log.lock"))

    def compress(source_path: str, target_path: str) -> None:
        raise FileNotFoundError(errno.ENOENT, "no such program", "bzip3")

    rounds.next().compress(CallableCodec(compress), Ledger(lock), None)
    lock.close()
    assert ["bzip3" in str(error) for error in rounds.reported] == [True]
    assert backup.exists()
