"""A compression of the application that removes its source, as programs for the command line do, costs no backup."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from rollsafe import FileLock
from rollsafe._backups.codecs import Compress, StreamCodec
from rollsafe._backups.ledger import Changed
from rollsafe._backups.names import UNANNOUNCED_EXTENSION
from tests.support.crew import WatchedHandler
from tests.support.logs import Make, codec_of, log, make_archive, names_beside, suffix_of
from tests.support.servers import wait_until

pytestmark = pytest.mark.usefixtures("hurry")


def copy_and_remove(source_path: str, target_path: str) -> None:
    """As `bzip2`, or the rotator of the logging cookbook."""
    shutil.copyfile(source_path, target_path)
    os.remove(source_path)


@pytest.mark.parametrize("compress", [copy_and_remove, os.rename, os.link])
def test_the_archive_takes_the_place_of_the_backup(
    source: Path, lock: FileLock, compress: Compress, lines: bytes
) -> None:
    final = make_archive(source, codec_of(compress), lock)
    assert final.read_bytes() == lines
    assert (final.stat().st_mode & 0o777, final.stat().st_mtime) == (0o640, 1_700_000_000)
    assert names_beside(source) == {final.name}


@pytest.mark.parametrize("compress", [copy_and_remove, os.rename])
def test_a_late_line_keeps_the_backup_though_the_application_has_removed_what_it_was_given(
    source: Path, lock: FileLock, compress: Compress, lines: bytes
) -> None:
    def compress_late(source_path: str, target_path: str) -> None:
        compress(source_path, target_path)
        with source.open("ab") as file:
            file.write(b"late\n")

    with pytest.raises(Changed):
        make_archive(source, codec_of(compress_late), lock)
    assert source.read_bytes() == lines + b"late\n"
    assert names_beside(source) == {source.name}


def test_a_name_that_is_taken_costs_no_backup(source: Path, lock: FileLock, lines: bytes) -> None:
    final = Path(f"{source}.archive")

    def compress(source_path: str, target_path: str) -> None:
        copy_and_remove(source_path, target_path)
        final.write_text("another program's")

    with pytest.raises(FileExistsError):
        make_archive(source, codec_of(compress), lock)
    assert (final.read_text(), source.read_bytes()) == ("another program's", lines)
    assert names_beside(source) == {source.name, final.name}


def test_an_error_after_the_removal_costs_no_backup(source: Path, lock: FileLock, lines: bytes) -> None:
    def compress(source_path: str, target_path: str) -> None:
        copy_and_remove(source_path, target_path)
        raise ConnectionError("no connection")

    with pytest.raises(ConnectionError):
        make_archive(source, codec_of(compress), lock)
    assert source.read_bytes() == lines
    assert names_beside(source) == {source.name}


def test_other_files_in_the_scratch_directory_are_removed(source: Path, lock: FileLock, lines: bytes) -> None:
    def compress(source_path: str, target_path: str) -> None:
        copy_and_remove(source_path, target_path)
        folder = Path(target_path).with_name("parts")
        folder.mkdir()
        (folder / "1").write_text("a part")
        Path(target_path).with_name("index").write_text("an index")

    final = make_archive(source, codec_of(compress), lock)
    assert names_beside(source) == {final.name}


def test_a_source_that_others_remove_while_rollsafe_compresses_leaves_nothing(
    source: Path, lock: FileLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = StreamCodec.write

    def write_and_lose(codec: StreamCodec, *arguments: Any) -> int:
        draft = write(codec, *arguments)
        os.remove(source)
        return draft

    monkeypatch.setattr(StreamCodec, "write", write_and_lose)
    with pytest.raises(Changed):
        make_archive(source, codec_of("gz"), lock)
    assert names_beside(source) == set()


def test_a_codec_that_fails_after_another_process_has_archived_the_source_is_not_reported(
    source: Path, lock: FileLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(codec: StreamCodec, *arguments: Any) -> int:
        os.remove(source)
        raise FileNotFoundError("the other process has removed the scratch directory, too")

    monkeypatch.setattr(StreamCodec, "write", lose)
    with pytest.raises(Changed):
        make_archive(source, codec_of("gz"), lock)
    assert names_beside(source) == set()


def test_the_handler_publishes_the_archive_and_notifies_the_application(live: Path) -> None:
    notified: list[str] = []
    handler = WatchedHandler(
        live, when="H", utc=True, compress=copy_and_remove, on_rollover=lambda path, interval: notified.append(path)
    )
    created = log(handler, "first")
    handler.doRollover()
    final = live.with_name(f"app.log.{suffix_of(created, 'H')}.archive")
    wait_until(lambda: bool(notified), "it is notified")
    wait_until(lambda: not Path(f"{final}{UNANNOUNCED_EXTENSION}").exists(), "its second name goes")
    handler.close()
    assert (notified, final.read_text(), handler.reported) == ([str(final)], "first\n", [])


def test_a_file_whose_name_ends_like_a_second_name_and_is_none_is_left_alone(live: Path, make: Make) -> None:
    foreign = live.with_name("app.log.2020-01-01_00.archive.tmp")
    foreign.write_bytes(b"another program's")
    backup = live.with_name("app.log.2020-01-01_01")
    backup.write_bytes(b"ours\n")
    log(make(when="H", compress=copy_and_remove, on_rollover=lambda path, interval: None), "first")
    wait_until(lambda: not backup.exists(), "the backup is compressed")
    assert foreign.read_bytes() == b"another program's"
