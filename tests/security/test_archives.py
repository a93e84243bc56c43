"""Archives that root makes in a directory of a second user: of nothing but backups, and nowhere but beside them."""

from __future__ import annotations

import errno
import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rollsafe import FileLock
from rollsafe._backups.archives import archive
from rollsafe._backups.codecs import CallableCodec, Codec, codec_for
from rollsafe._backups.file_names import fingerprint_of, give_name
from rollsafe._backups.ledger import Changed, Ledger
from tests.support.crew import WatchedHandler
from tests.support.logs import log
from tests.support.scene import INTRUDER, Scene, as_user
from tests.support.servers import wait_until

LINES = b"a line of a log\n" * 1000
NAME = "app.log.2020-01-01_00"


class Squeeze:
    """A compression of the application, during which the second user does something."""

    extension = ".gz"

    def __init__(self, attack: Callable[[], object]) -> None:
        self._attack = attack

    def __call__(self, source_path: str, target_path: str) -> None:
        as_user(self._attack)
        Path(target_path).write_bytes(gzip.compress(Path(source_path).read_bytes()))


@pytest.fixture
def backup(scene: Scene) -> Path:
    """A backup of the second user."""
    path = scene.logs / NAME
    path.write_bytes(LINES)
    path.chmod(0o640)
    os.chown(path, INTRUDER, INTRUDER)
    return path


def make(backup: Path, codec: Codec) -> None:
    """Archive a backup as root does."""
    lock = FileLock(backup.with_name(".app.log.lock"))
    try:
        archive(str(backup), f"{backup}.gz", fingerprint_of(backup.lstat()), codec, Ledger(lock))
    finally:
        lock.close()


def gz() -> Codec:
    """The codec of compress="gz"."""
    codec = codec_for("gz", None)
    assert codec is not None
    return codec


def test_a_link_under_a_predictable_name_is_not_followed(scene: Scene, backup: Path) -> None:
    def plant() -> None:
        for ending in (".gz.tmp", ".gz", ".archive", ".archive.tmp"):
            os.symlink(scene.secret, f"{backup}{ending}")

    as_user(plant)
    handler = WatchedHandler(scene.logs / "app.log", when="H", utc=True, compress=Squeeze(lambda: None))
    log(handler, "first")
    wait_until(lambda: bool(handler.reported), "it is said that the archive's name is taken")
    handler.close()
    assert backup.read_bytes() == LINES
    scene.assert_untouched()


def test_a_link_in_the_place_of_the_directory_of_the_draft_is_not_followed(scene: Scene, backup: Path) -> None:
    def swap() -> None:
        (scratch,) = scene.logs.glob(".*.tmp")
        scratch.rename(scene.logs / "moved")
        scratch.symlink_to(scene.etc)

    make(backup, CallableCodec(Squeeze(swap)))
    assert gzip.decompress(Path(f"{backup}.gz").read_bytes()) == LINES
    assert not backup.exists()
    scene.assert_untouched()


@pytest.mark.parametrize("renameat2", [True, False])
def test_without_hard_links_no_rename_goes_through_a_directory_that_was_swapped_for_a_link(
    scene: Scene, backup: Path, monkeypatch: pytest.MonkeyPatch, renameat2: bool
) -> None:
    """The second user waits for the moment between the look at a file and its rename."""
    if not renameat2:
        monkeypatch.setattr("rollsafe._files.renames._renameat2", None)
    rolled = backup.rename(f"{backup}.rolled")
    inner = scene.logs / "inner"
    as_user(inner.mkdir)
    rolled = rolled.rename(inner / rolled.name)
    (scene.etc / rolled.name).write_text("of root")

    def refuse(*_: object, **__: object) -> None:
        as_user(lambda: inner.rename(scene.logs / "moved"))
        as_user(lambda: inner.symlink_to(scene.etc))
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    lock = FileLock(scene.logs / ".app.log.lock")
    try:
        give_name(str(rolled), str(inner / NAME), fingerprint_of(rolled.lstat()), Ledger(lock))
    finally:
        lock.close()
    assert (scene.etc / rolled.name).read_text() == "of root"
    assert not (scene.etc / NAME).exists()
    assert (scene.logs / "moved" / NAME).read_bytes() == LINES


def test_a_link_in_the_place_of_the_backup_is_not_read(scene: Scene, backup: Path) -> None:
    def swap() -> None:
        backup.rename(scene.logs / "moved")
        backup.symlink_to(scene.secret)

    with pytest.raises(Changed):
        make(backup, CallableCodec(Squeeze(swap)))
    assert sorted(path.name for path in scene.logs.glob("[!.]*")) == [NAME, "moved"]
    scene.assert_untouched()


@pytest.mark.parametrize("kind", ["link", "fifo", "hard link"])
def test_what_is_no_backup_is_not_opened_whatever_its_name(scene: Scene, kind: str) -> None:
    path = scene.logs / NAME
    if kind == "hard link":
        os.link(scene.theirs, path)
    else:
        as_user(lambda: path.symlink_to(scene.secret) if kind == "link" else os.mkfifo(path))
    with pytest.raises(OSError, match=r"symbolic links|is a FIFO|has 2 names"):
        make(path, gz())
    assert not list(scene.logs.glob("*.gz"))
    assert os.path.lexists(path)
    if kind != "hard link":
        scene.assert_untouched()


def test_only_its_maker_may_enter_a_scratch_directory(scene: Scene, backup: Path) -> None:
    def look() -> None:
        (scratch,) = scene.logs.glob(".*.tmp")
        with pytest.raises(PermissionError):
            os.listdir(scratch)
        with pytest.raises(PermissionError):
            (scratch / f"{NAME}.gz").symlink_to(scene.secret)

    make(backup, CallableCodec(Squeeze(look)))
    status = Path(f"{backup}.gz").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (INTRUDER, INTRUDER, 0o640)
