"""Archives of backups: made whole, out of the way of every line, and never in place of anything."""

from __future__ import annotations

import errno
import fcntl
import gzip
import os
import shutil
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rollsafe import ConfigurationError, FileLock
from rollsafe._backups import codecs
from rollsafe._backups.archives import archive, complete_killed
from rollsafe._backups.file_names import fingerprint_of
from rollsafe._backups.ledger import Changed, Ledger, archived_since
from rollsafe._backups.names import UNANNOUNCED_EXTENSION
from rollsafe._backups.quiet import QuietFiles
from rollsafe._backups.scratch import Taken
from rollsafe._files.note import parse_note
from tests.support.crew import Child, WatchedHandler
from tests.support.logs import (
    HOUR,
    LINES,
    Bzip2,
    codec_of,
    make_archive,
    names_beside,
    read_archive,
)
from tests.support.needs import needs_proc
from tests.support.servers import wait_until


@pytest.fixture
def lines() -> bytes:
    return LINES


# One archive.


@pytest.mark.parametrize(("compress", "level"), [("gz", None), ("gz", 1), ("xz", 0), ("zst", None), ("zst", 1)])
def test_an_archive_holds_the_backup_has_its_mode_and_time_and_takes_its_place(
    source: Path, lock: FileLock, compress: str, level: int | None
) -> None:
    final = make_archive(source, codec_of(compress, level), lock)
    assert read_archive(final) == LINES
    assert final.stat().st_size < len(LINES) / 3
    assert (stat.S_IMODE(final.stat().st_mode), final.stat().st_mtime) == (0o640, 1_700_000_000)
    assert names_beside(source) == {final.name}
    assert not lock.locked


def test_an_archive_has_a_second_name_until_the_application_was_notified(source: Path, lock: FileLock) -> None:
    final = make_archive(source, codec_of("gz"), lock, announces=True)
    second = final.with_name(final.name + UNANNOUNCED_EXTENSION)
    assert names_beside(source) == {final.name, second.name}
    assert second.samefile(final)


def test_the_archive_of_an_empty_backup_is_an_archive(source: Path, lock: FileLock) -> None:
    source.write_bytes(b"")
    assert read_archive(make_archive(source, codec_of("gz"), lock)) == b""


def test_a_callable_writes_archives_of_its_own_extension(source: Path, lock: FileLock) -> None:
    final = make_archive(source, codec_of(Bzip2()), lock)
    assert (final.suffix, final.read_bytes()) == (".bz2", LINES)
    assert stat.S_IMODE(final.stat().st_mode) == 0o640


def test_nothing_is_ever_replaced_by_an_archive(source: Path, lock: FileLock) -> None:
    final = source.with_name(source.name + ".gz")
    final.write_text("another program's")
    with pytest.raises(FileExistsError):
        make_archive(source, codec_of("gz"), lock)
    assert (source.read_bytes(), final.read_text()) == (LINES, "another program's")
    assert names_beside(source) == {source.name, final.name}


def test_a_file_that_takes_the_final_name_while_the_archive_is_written_is_not_replaced(
    source: Path, lock: FileLock
) -> None:
    class Slow(Bzip2):
        def __call__(self, source_path: str, target_path: str) -> None:
            super().__call__(source_path, target_path)
            source.with_name(f"{source.name}.bz2").write_text("another program's")

    with pytest.raises(FileExistsError):
        make_archive(source, codec_of(Slow()), lock)
    assert source.with_name(source.name + ".bz2").read_text() == "another program's"
    assert names_beside(source) == {source.name, source.name + ".bz2"}


def test_a_line_that_comes_while_the_archive_is_written_is_not_lost(source: Path, lock: FileLock) -> None:
    class Slow(Bzip2):
        def __call__(self, source_path: str, target_path: str) -> None:
            super().__call__(source_path, target_path)
            with open(source_path, "ab") as file:
                file.write(b"late\n")

    with pytest.raises(Changed):
        make_archive(source, codec_of(Slow()), lock)
    assert source.read_bytes() == LINES + b"late\n"
    assert names_beside(source) == {source.name}


def test_a_line_that_comes_while_the_archive_gets_its_name_is_not_lost(
    source: Path, lock: FileLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def append_and_link(*arguments: Any, **keywords: Any) -> None:
        link(*arguments, **keywords)
        with source.open("ab") as file:
            file.write(b"late\n")

    monkeypatch.setattr(os, "link", append_and_link)
    with pytest.raises(Changed):
        make_archive(source, codec_of("gz"), lock)
    assert source.read_bytes() == LINES + b"late\n"
    assert names_beside(source) == {source.name}
    assert Ledger(lock).entries() == ()


def test_a_file_that_takes_the_place_of_the_backup_meanwhile_is_left_alone(source: Path, lock: FileLock) -> None:
    class Slow(Bzip2):
        def __call__(self, source_path: str, target_path: str) -> None:
            super().__call__(source_path, target_path)
            other = source.with_name("other")
            other.write_bytes(LINES[::-1])
            other.replace(source)

    with pytest.raises(Changed):
        make_archive(source, codec_of(Slow()), lock)
    assert source.read_bytes() == LINES[::-1]
    assert names_beside(source) == {source.name}


class Forgetful:
    """A compressor that leaves out what it is given."""

    def compress(self, data: bytes) -> bytes:
        return b""

    def flush(self) -> bytes:
        return gzip.compress(b"")


def test_an_archive_that_does_not_hold_the_backup_is_found_when_it_is_read_back(source: Path, lock: FileLock) -> None:
    codec = codec_of("gz")
    codec._new_compressor = Forgetful  # type: ignore[attr-defined]
    with pytest.raises(OSError, match="does not hold"):
        make_archive(source, codec, lock)
    assert names_beside(source) == {source.name}


@pytest.mark.parametrize("compress", [lambda source, target: None, lambda source, target: open(target, "w").close()])
def test_a_callable_that_writes_nothing_costs_no_backup(
    source: Path, lock: FileLock, compress: Callable[[str, str], None]
) -> None:
    with pytest.raises(OSError, match=r"app\.log"):
        make_archive(source, codec_of(compress), lock)
    assert (source.read_bytes(), names_beside(source)) == (LINES, {source.name})


@pytest.mark.parametrize("compress", ["gz", Bzip2()])
@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS])
def test_without_hard_links_the_archive_gets_its_name_by_a_rename(
    source: Path, lock: FileLock, monkeypatch: pytest.MonkeyPatch, error: int, compress: Any
) -> None:
    def link(source: str, target: str, **keywords: Any) -> None:
        raise OSError(error, "no links here")

    monkeypatch.setattr(os, "link", link)
    final = make_archive(source, codec_of(compress), lock, announces=True)
    assert names_beside(source) == {final.name}
    assert (read_archive(final) if compress == "gz" else final.read_bytes()) == LINES


def test_the_last_space_is_left_to_those_that_write_the_log(
    source: Path, lock: FileLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codecs, "_RESERVE_BYTES", 1 << 80)
    monkeypatch.setattr(codecs, "_RESERVE_SHARE", 1)
    with pytest.raises(OSError, match="too little space") as caught:
        make_archive(source, codec_of("gz"), lock)
    assert caught.value.errno == errno.ENOSPC
    assert names_beside(source) == {source.name}


class Killed(BaseException):
    """Stands for a SIGKILL."""


def die_in(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Have everything from a system call of this thread on come to nothing."""
    calls = {call: getattr(os, call) for call in ("unlink", "rmdir", "link", "rename")}
    this = threading.get_ident()

    def dying(call: str) -> Callable[..., Any]:
        """The system call, of which this thread dies."""

        def die_or_call(*arguments: Any, **keywords: Any) -> Any:
            # The maintenance of an earlier test may still be at work.
            if threading.get_ident() != this:
                return calls[call](*arguments, **keywords)
            for each in calls:
                monkeypatch.setattr(os, each, dying(each))
            raise Killed

        return die_or_call

    monkeypatch.setattr(os, name, dying(name))


@pytest.mark.parametrize("announces", [False, True])
@pytest.mark.parametrize("call", ["link", "unlink"])
@pytest.mark.parametrize("late", [b"", b"late\n"])
def test_what_a_process_left_that_was_killed_in_the_commit_is_completed_or_done_again(
    source: Path, lock: FileLock, monkeypatch: pytest.MonkeyPatch, call: str, late: bytes, announces: bool
) -> None:
    codec = codec_of("gz")
    final = Path(f"{source}.gz")
    with monkeypatch.context() as patch:
        die_in(patch, call)
        patch.setattr(Ledger, "withdraw", die_in)
        with pytest.raises(Killed):
            make_archive(source, codec, lock, announces=announces)
    assert final.exists() is (call == "unlink")
    with source.open("ab") as file:
        file.write(late)
    complete_killed(str(source), (".gz", ".xz"), Ledger(lock))
    if source.exists():
        assert late or call == "link"
        assert {name for name in names_beside(source) if name[0] != "."} == {source.name}
        make_archive(source, codec, lock)
    assert read_archive(final) == LINES + late
    second = final.name + UNANNOUNCED_EXTENSION
    assert {name for name in names_beside(source) if name[0] != "."} <= {final.name, second}


def test_an_archive_that_the_ledger_does_not_have_is_not_removed(source: Path, lock: FileLock) -> None:
    final = make_archive(source, codec_of("gz"), lock)
    # Somebody unpacks it: another file, whatever its size and time.
    source.write_bytes(LINES)
    shutil.copystat(final, source)
    complete_killed(str(source), (".gz",), Ledger(lock))
    assert (read_archive(final), source.read_bytes()) == (LINES, LINES)


def test_a_writer_can_tell_whether_its_line_is_in_the_archive_of_a_file_that_is_gone(
    source: Path, lock: FileLock
) -> None:
    size = len(LINES)
    first = source.with_name("app.log.2026-11-23")
    first.write_text("so that there is a ledger\n")
    make_archive(first, codec_of("gz"), lock)

    def archived() -> int | None:
        note = parse_note(lock.read())
        found = archived_since(note, serial, os.fstat(file.fileno()))
        return None if found is None else found.size

    before = parse_note(lock.read())
    assert before is not None
    serial = before.serial
    with source.open("ab") as file:
        assert archived() is None
        make_archive(source, codec_of("gz"), lock)
        assert archived() == size
        file.write(b"too late\n")
        file.flush()
        assert archived() == size, "the other writer's line is in the archive all the same"
        serial = 0
        assert archived() is None, "it does not know when it has opened the file"


def test_an_entry_that_was_made_before_a_file_was_opened_is_about_another_file_with_its_inode_number(
    source: Path, lock: FileLock
) -> None:
    status = source.stat()
    ledger = Ledger(lock)
    with lock:
        ledger.record(status, 1000, status)
    note = parse_note(lock.read())
    assert note is not None
    assert archived_since(note, note.serial, status) is None
    with lock:
        ledger.record(status, 5, status)
    entry = archived_since(parse_note(lock.read()), note.serial, status)
    assert entry is not None
    assert entry.size == 5


def test_the_numbers_of_a_ledger_mean_nothing_in_the_one_that_follows_it(source: Path, lock: FileLock) -> None:
    status = source.stat()
    serials = []
    for _ in range(2):
        with lock:
            Ledger(lock).record(status, 1000, status)
        note = parse_note(lock.read())
        assert note is not None
        serials.append(note.serial)
        os.unlink(lock.path)
    assert archived_since(note, serials[0], status) is None


def test_a_ledger_keeps_the_last_entries(source: Path, lock: FileLock) -> None:
    status = source.stat()
    ledger = Ledger(lock)
    with lock:
        for inode in range(40):
            ledger.record(with_inode(status, inode), inode, status)
        assert [entry.size for entry in ledger.entries()] == list(range(24, 40))
        ledger.withdraw(with_inode(status, 30))
    assert [entry.size for entry in ledger.entries()] == [*range(24, 30), *range(31, 40)]


def with_inode(status: os.stat_result, inode: int) -> os.stat_result:
    """The status of another file of the same device."""
    return os.stat_result((status[0], inode, *status[2:]))


@pytest.mark.parametrize("compress", ["gz", Bzip2()])
def test_two_processes_that_compress_one_backup_do_not_touch_each_others_drafts(
    source: Path, lock: FileLock, monkeypatch: pytest.MonkeyPatch, compress: Any
) -> None:
    # Two processes work at once if the lock file was removed while the first one held the lock of the election, and if
    # there is no flock(2), by which they would notice each other.
    monkeypatch.setattr(fcntl, "flock", refuse_flock)
    codec = codec_of(compress)
    write = codec.write

    def write_slowly(*arguments: Any) -> int:
        draft = write(*arguments)
        monkeypatch.setattr(codec, "write", write)
        make_archive(source, codec, lock)
        return draft

    monkeypatch.setattr(codec, "write", write_slowly)
    with pytest.raises(Changed):
        make_archive(source, codec, lock)
    final = Path(f"{source}{codec.extension}")
    assert names_beside(source) == {final.name}
    assert (read_archive(final) if compress == "gz" else final.read_bytes()) == LINES


def refuse_flock(descriptor: int, operation: int) -> None:
    raise OSError(errno.ENOLCK, "no locks available")


def test_who_is_not_elected_any_more_makes_nothing_final_unless_it_has_claimed_the_backup(
    source: Path, lock: FileLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = Path(f"{source}.gz")

    def make() -> None:
        sign = fingerprint_of(source.lstat())
        archive(str(source), str(final), sign, codec_of("gz"), Ledger(lock), is_elected=lambda: False)

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", refuse_flock)
        with pytest.raises(Changed):
            make()
    assert names_beside(source) == {source.name}
    make()
    assert names_beside(source) == {final.name}


def test_a_backup_that_another_process_compresses_is_left_to_it(source: Path, lock: FileLock) -> None:
    with source.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(Taken):
            make_archive(source, codec_of("gz"), lock)
    assert names_beside(source) == {source.name}


@needs_proc
def test_a_child_that_is_forked_meanwhile_holds_nothing_and_keeps_no_backup_open(source: Path, lock: FileLock) -> None:
    class Forking(Bzip2):
        def __call__(self, source_path: str, target_path: str) -> None:
            super().__call__(source_path, target_path)
            child = Child(look)
            child.join()

    def look() -> None:
        with os.scandir("/proc/self/fd") as entries:
            open_here = [os.readlink(entry.path) for entry in entries if os.path.lexists(entry.path)]
        assert not [path for path in open_here if path.startswith(str(source.parent)) and source.name in path], (
            open_here
        )

    make_archive(source, codec_of(Forking()), lock)
    assert not source.exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"compress": "zip"}, r"compress='zip' is not known; give 'gz', 'zst', 'xz'"),
        ({"compress": 3}, "compress=3 is not known"),
        ({"compress": "gz", "compress_level": 10}, "no level of compress='gz'; give one from 0 to 9"),
        ({"compress": "xz", "compress_level": "6"}, "compress_level='6'"),
        ({"compress": "zst", "compress_level": True}, "compress_level=True"),
        ({"compress_level": 3}, "means nothing without compress"),
        ({"compress": shutil.copy, "compress_level": 3}, "means nothing to a callable"),
    ],
)
def test_what_cannot_work_is_refused_when_the_handler_is_made(
    live: Path, arguments: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        WatchedHandler(live, **arguments)
    assert not live.exists()


def test_an_extension_without_a_dot_is_refused(live: Path) -> None:
    class Odd(Bzip2):
        extension = "bz2"

    with pytest.raises(ConfigurationError, match="begins with a dot"):
        WatchedHandler(live, compress=Odd())


def test_zst_without_its_module_names_the_remedy(live: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("compression.zstd", "backports.zstd"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigurationError, match=r"pip install 'rollsafe\[zstd\]'"):
        WatchedHandler(live, compress="zst")


def test_nothing_is_quiet_at_first_sight_whatever_its_time_stamps_say(source: Path) -> None:
    quiet = QuietFiles()
    fingerprint = fingerprint_of(source.lstat())
    assert quiet.seconds_until_quiet(str(source), fingerprint, HOUR) == pytest.approx(HOUR)
    assert 0 < quiet.seconds_until_quiet(str(source), fingerprint, HOUR) < HOUR
    wait_until(
        lambda: quiet.seconds_until_quiet(str(source), fingerprint, 0.01) <= 0, "it was seen unchanged for a while"
    )
    with source.open("ab") as file:
        file.write(b"late\n")
    changed = fingerprint_of(source.lstat())
    assert quiet.seconds_until_quiet(str(source), changed, HOUR) == pytest.approx(HOUR)
