"""Failures: an action that fails with a backup prevents no other action, and is forgotten when it is not due now."""

from __future__ import annotations

import errno
import os
from math import inf
from pathlib import Path

import pytest

from rollsafe import FileLock
from rollsafe._backups import failures, maintenance_pass
from rollsafe._backups.codecs import CallableCodec, Codec
from rollsafe._backups.failures import Failures
from rollsafe._backups.ledger import Ledger
from rollsafe._backups.listing import Listing
from rollsafe._backups.maintenance_pass import MaintenancePass
from rollsafe._backups.names import Names
from rollsafe._backups.quiet import QuietFiles
from rollsafe.schedule import Schedule


class Full(Codec):
    """A compression for which there is no space."""

    extension = ".gz"

    def write(self, *arguments: object) -> int:
        raise OSError(errno.ENOSPC, "no space")


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no wait for quiet files: no other process writes here."""
    for name in ("QUIET_S", "UNUSED_S"):
        monkeypatch.setattr(maintenance_pass, name, 0.0)


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    path = tmp_path / "app.log.2020-01-01_00"
    path.write_text("a line\n")
    return path


class Passes:
    """Makes passes over the backups beside one, with what one process remembers and reports."""

    def __init__(self, backup: Path) -> None:
        self.failures = Failures()
        self._quiet = QuietFiles()
        self.reported: list[BaseException] = []
        self._directory = backup.parent

    def next(self) -> MaintenancePass:
        """Another pass."""
        files = Listing(str(self._directory), Names(str(self._directory / "app.log"), Schedule("H", tz="UTC")))
        return MaintenancePass([files], self._quiet, self.failures, lambda sentence, error: self.reported.append(error))


def fail_to_compress(one_pass: MaintenancePass, backup: Path) -> None:
    """Try to compress where there is no space."""
    lock = FileLock(backup.with_name(".app.log.lock"))
    one_pass.compress(Full(), Ledger(lock), None)
    lock.close()


def refuse(path: str, **keywords: object) -> None:
    raise PermissionError(errno.EACCES, "refused", path)


def test_a_backup_that_could_not_be_compressed_can_be_removed(backup: Path) -> None:
    passes = Passes(backup)
    fail_to_compress(passes.next(), backup)
    assert [type(error) for error in passes.reported] == [OSError]
    passes.next().remove([str(backup)])
    assert not backup.exists()


def test_each_action_that_fails_with_a_backup_is_reported_once(backup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "_RETRY_S", 1e-9)
    monkeypatch.setattr(os, "unlink", refuse)
    passes = Passes(backup)
    for _ in range(2):
        one_pass = passes.next()
        one_pass.remove([str(backup)])
        fail_to_compress(one_pass, backup)
        passes.failures.end_pass()
    assert [type(error) for error in passes.reported] == [PermissionError, OSError]


def test_a_failed_removal_that_is_not_wanted_any_more_is_not_tried_again(
    backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "_RETRY_S", 1e-9)
    passes = Passes(backup)
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        passes.next().remove([str(backup)])
    passes.failures.end_pass()
    assert passes.failures.retry_at < inf, "it is to be tried again"
    passes.next().remove([])
    passes.failures.end_pass()
    assert passes.failures.retry_at == inf


def test_a_failure_is_remembered_until_it_may_be_tried_again(backup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = Passes(backup)
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        passes.next().remove([str(backup)])
    for _ in range(2):
        passes.failures.end_pass()
    assert passes.failures.is_backing_off("remove", str(backup))


def test_a_failed_compression_that_is_not_allowed_any_more_is_not_tried_again(
    backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = Passes(backup)
    monkeypatch.setattr(failures, "_RETRY_S", 1e-9)
    fail_to_compress(passes.next(), backup)
    monkeypatch.setattr(maintenance_pass, "_may_archive", lambda status: False)
    fail_to_compress(passes.next(), backup)
    passes.failures.end_pass()
    assert passes.failures.retry_at == inf


def test_a_program_that_is_missing_is_reported(backup: Path) -> None:
    passes = Passes(backup)
    lock = FileLock(backup.with_name(".app.log.lock"))

    def compress(source_path: str, target_path: str) -> None:
        raise FileNotFoundError(errno.ENOENT, "no such program", "bzip3")

    passes.next().compress(CallableCodec(compress), Ledger(lock), None)
    lock.close()
    assert ["bzip3" in str(error) for error in passes.reported] == [True]
    assert backup.exists()
