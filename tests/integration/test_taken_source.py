"""A compression of the application that removes its source, as programs for the command line do, costs no backup."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from rollsafe import FileLock
from rollsafe.archives import (
    DRAFT_EXTENSION,
    Changed,
    Compress,
    StreamCodec,
    clear_draft,
    has_archived,
)
from tests.faults.crew import WatchedHandler
from tests.integration.logs import Make, codec_of, log, make_archive, names_beside, suffix_of
from tests.integration.servers import wait_until

pytestmark = pytest.mark.usefixtures("hurry")


def copy_and_remove(source_path: str, target_path: str) -> None:
    """As `bzip2`, or the rotator of the logging cookbook."""
    shutil.copyfile(source_path, target_path)
    os.remove(source_path)


@pytest.mark.parametrize("compress", [copy_and_remove, os.rename])
def test_the_archive_is_final_though_the_source_is_gone(
    source: Path, lock: FileLock, compress: Compress, lines: bytes
) -> None:
    final = make_archive(source, codec_of(compress), lock)
    assert final.read_bytes() == lines
    assert (final.stat().st_mode & 0o777, final.stat().st_mtime) == (0o640, 1_700_000_000)
    draft = f"{final}{DRAFT_EXTENSION}"
    assert names_beside(source) == {final.name, os.path.basename(draft)}
    assert clear_draft(draft, str(source)), "the draft is another name of the archive"


@pytest.mark.parametrize("late", [b"", b"late\n"])
def test_a_writer_can_tell_what_the_archive_has_though_the_source_was_removed(
    source: Path, lock: FileLock, late: bytes, lines: bytes
) -> None:
    def compress(source_path: str, target_path: str) -> None:
        copy_and_remove(source_path, target_path)
        file.write(late)
        file.flush()

    with source.open("ab") as file:
        make_archive(source, codec_of(compress), lock)
        assert has_archived(os.fstat(file.fileno()), len(lines))
        assert not late or not has_archived(os.fstat(file.fileno()), len(lines + late))


def test_a_name_that_somebody_has_taken_costs_no_archive(source: Path, lock: FileLock, lines: bytes) -> None:
    def compress(source_path: str, target_path: str) -> None:
        copy_and_remove(source_path, target_path)
        Path(f"{source_path}.archive").write_text("somebody's")

    with pytest.raises(FileExistsError):
        make_archive(source, codec_of(compress), lock)
    assert Path(f"{source}.archive").read_text() == "somebody's"
    assert Path(f"{source}.archive{DRAFT_EXTENSION}").read_bytes() == lines


def test_an_error_after_the_removal_costs_no_archive(source: Path, lock: FileLock, lines: bytes) -> None:
    def compress(source_path: str, target_path: str) -> None:
        copy_and_remove(source_path, target_path)
        raise ConnectionError("nobody to tell")

    with pytest.raises(ConnectionError):
        make_archive(source, codec_of(compress), lock)
    assert Path(f"{source}.archive{DRAFT_EXTENSION}").read_bytes() == lines


def test_a_source_that_others_remove_while_rollsafe_compresses_leaves_nothing(
    source: Path, lock: FileLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = StreamCodec.write

    def write_and_lose(codec: StreamCodec, source_path: str, descriptor: int, draft_path: str) -> tuple[int, int]:
        identity = write(codec, source_path, descriptor, draft_path)
        os.remove(source_path)
        return identity

    monkeypatch.setattr(StreamCodec, "write", write_and_lose)
    with pytest.raises(Changed):
        make_archive(source, codec_of("gz"), lock)
    assert names_beside(source) == set()


def test_the_handler_publishes_and_tells_of_it(live: Path) -> None:
    told: list[str] = []
    handler = WatchedHandler(
        live, when="H", utc=True, compress=copy_and_remove, on_rollover=lambda path, interval: told.append(path)
    )
    created = log(handler, "first")
    handler.doRollover()
    final = live.with_name(f"app.log.{suffix_of(created, 'H')}.archive")
    wait_until(lambda: bool(told), "it is told")
    wait_until(lambda: not Path(f"{final}{DRAFT_EXTENSION}").exists(), "the draft's name goes")
    handler.close()
    assert (told, final.read_text(), handler.reported) == ([str(final)], "first\n", [])


@pytest.mark.parametrize("extension", [".archive", ".gz"])
def test_after_a_kill_a_draft_whose_source_is_gone_is_published_if_the_application_made_it(
    live: Path, extension: str, lines: bytes
) -> None:
    final = live.with_name(f"app.log.2020-01-01_00{extension}")
    draft = Path(f"{final}{DRAFT_EXTENSION}")
    draft.write_bytes(lines)
    handler = WatchedHandler(live, when="H", utc=True, compress=copy_and_remove)
    log(handler, "first")
    wait_until(lambda: not draft.exists(), "the draft's name goes")
    handler.close()
    assert final.exists() is (extension == ".archive")
    assert handler.reported == []


def test_what_is_published_after_a_kill_has_the_permissions_of_the_log(live: Path, make: Make) -> None:
    draft = live.with_name(f"app.log.2020-01-01_00.archive{DRAFT_EXTENSION}")
    draft.write_bytes(b"an archive")
    draft.chmod(0o644)
    log(make(when="H", permissions=0o600, compress=copy_and_remove), "first")
    wait_until(lambda: not draft.exists(), "the draft's name goes")
    assert draft.with_suffix("").stat().st_mode & 0o777 == 0o600
