"""Archives of backups: made whole, out of the way of every line, and never in place of anything."""

from __future__ import annotations

import errno
import fcntl
import gzip
import importlib.util
import os
import shutil
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rollsafe import ConfigurationError, FileLock, backups, codecs
from rollsafe.archives import UNTOLD_EXTENSION, archive, complete_killed, sign_of
from rollsafe.ledger import Changed, Ledger, archived_since
from rollsafe.locks import GRACE, LEASE, TENDING_BYTE
from rollsafe.note import parse_note
from rollsafe.scratch import Taken
from tests.support.crew import Child, Crew, WatchedHandler, lock_path, stop_myself
from tests.support.logs import (
    LINES,
    Bzip2,
    Make,
    codec_of,
    log,
    make_archive,
    names_beside,
    read_archive,
    suffix_of,
    wait_for_second_after,
)
from tests.support.servers import run_program, wait_until

needs_gevent, needs_eventlet = (
    pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"{name} is not installed: pip install {name}")
    for name in ("gevent", "eventlet")
)


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


def test_an_archive_of_which_the_application_is_to_be_told_has_a_second_name_until_then(
    source: Path, lock: FileLock
) -> None:
    final = make_archive(source, codec_of("gz"), lock, tells=True)
    second = final.with_name(final.name + UNTOLD_EXTENSION)
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
    final.write_text("somebody's")
    with pytest.raises(FileExistsError):
        make_archive(source, codec_of("gz"), lock)
    assert (source.read_bytes(), final.read_text()) == (LINES, "somebody's")
    assert names_beside(source) == {source.name, final.name}


def test_a_file_that_takes_the_final_name_while_the_archive_is_written_is_not_replaced(
    source: Path, lock: FileLock
) -> None:
    class Slow(Bzip2):
        def __call__(self, source_path: str, target_path: str) -> None:
            super().__call__(source_path, target_path)
            source.with_name(f"{source.name}.bz2").write_text("somebody's")

    with pytest.raises(FileExistsError):
        make_archive(source, codec_of(Slow()), lock)
    assert source.with_name(source.name + ".bz2").read_text() == "somebody's"
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
    final = make_archive(source, codec_of(compress), lock, tells=True)
    assert names_beside(source) == {final.name}
    assert (read_archive(final) if compress == "gz" else final.read_bytes()) == LINES


def test_the_last_space_is_left_to_those_that_write_the_log(
    source: Path, lock: FileLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codecs, "_RESERVE", 1 << 80)
    monkeypatch.setattr(codecs, "_RESERVE_SHARE", 1)
    with pytest.raises(OSError, match="too little space") as caught:
        make_archive(source, codec_of("gz"), lock)
    assert caught.value.errno == errno.ENOSPC
    assert names_beside(source) == {source.name}


class Killed(BaseException):
    """Stands for a SIGKILL."""


def die_in(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Have everything from a system call on come to nothing."""

    def die(*arguments: Any, **keywords: Any) -> None:
        for call in ("unlink", "rmdir", "link", "rename"):
            monkeypatch.setattr(os, call, die)
        raise Killed

    monkeypatch.setattr(os, name, die)


@pytest.mark.parametrize("tells", [False, True])
@pytest.mark.parametrize("call", ["link", "unlink"])
@pytest.mark.parametrize("late", [b"", b"late\n"])
def test_what_a_process_left_that_was_killed_in_the_commit_is_completed_or_done_again(
    source: Path, lock: FileLock, monkeypatch: pytest.MonkeyPatch, call: str, late: bytes, tells: bool
) -> None:
    codec = codec_of("gz")
    final = Path(f"{source}.gz")
    with monkeypatch.context() as patch:
        die_in(patch, call)
        patch.setattr(Ledger, "withdraw", die_in)
        with pytest.raises(Killed):
            make_archive(source, codec, lock, tells=tells)
    assert final.exists() is (call == "unlink")
    with source.open("ab") as file:
        file.write(late)
    complete_killed(str(source), (".gz", ".xz"), Ledger(lock))
    if source.exists():
        assert late or call == "link"
        assert {name for name in names_beside(source) if name[0] != "."} == {source.name}
        make_archive(source, codec, lock)
    assert read_archive(final) == LINES + late
    second = final.name + UNTOLD_EXTENSION
    assert {name for name in names_beside(source) if name[0] != "."} <= {final.name, second}


def test_an_archive_beside_its_backup_that_the_ledger_does_not_know_is_nobodys_to_remove(
    source: Path, lock: FileLock
) -> None:
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
        return found and found.size

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
    # Two tend at once when the lock file, with the lock of the election, was removed under the first, and there is no
    # flock(2) that would tell them of each other.
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
        sign = sign_of(source.lstat())
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


def test_a_child_that_is_forked_meanwhile_holds_nothing_and_keeps_no_backup_open(source: Path, lock: FileLock) -> None:
    class Forking(Bzip2):
        def __call__(self, source_path: str, target_path: str) -> None:
            super().__call__(source_path, target_path)
            child = Child(look)
            child.join()

    def look() -> None:
        with os.scandir("/proc/self/fd") as entries:
            open_here = [os.readlink(entry.path) for entry in entries if os.path.lexists(entry.path)]
        assert not [path for path in open_here if source.name in path], open_here

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


# The handler.


def settled(live: Path) -> bool:
    """Whether every backup is an archive, and nothing else is there."""
    return all(path.suffix in (".gz", ".bz2") for path in live.parent.glob("app.log.*"))


def archived_lines(live: Path) -> dict[str, str]:
    """The text of each archive, by what its name has after the live file's."""
    return {
        path.name.removeprefix("app.log."): gzip.decompress(path.read_bytes()).decode()
        for path in live.parent.glob("app.log.*.gz")
    }


def test_backups_become_archives_and_a_late_line_makes_a_further_one(live: Path, make: Make) -> None:
    handler = make(compress="gz")
    first = log(handler, "first")
    wait_for_second_after(first)
    second = log(handler, "second")
    final = live.with_name(f"app.log.{suffix_of(first)}.gz")
    wait_until(lambda: final.exists() and settled(live), "the first backup is an archive")
    log(handler, "late", first)
    assert live.with_name(f"app.log.{suffix_of(first)}.1").read_text() == "late\n"
    wait_until(lambda: settled(live), "the later piece is an archive")
    archived = archived_lines(live)
    assert archived[f"{suffix_of(first)}.gz"] == "first\n"
    assert archived[f"{suffix_of(first)}.1.gz"] == "late\n"
    assert live.read_text() == "second\n" or archived[f"{suffix_of(second)}.gz"] == "second\n"


def test_plain_and_archive_count_once(live: Path, make: Make) -> None:
    names = [f"app.log.2026-11-2{day}_00-00-00" for day in range(5)]
    for name in names[1:]:
        live.with_name(name).touch()
    for name in names[:3]:
        live.with_name(f"{name}.gz").touch()
    handler = make(compress="gz", backupCount=3)
    doomed = [os.path.basename(path) for path in handler.getFilesToDelete()]
    assert sorted(doomed) == sorted([f"{names[0]}.gz", names[1], f"{names[1]}.gz"])


def test_a_failure_is_reported_once_and_tried_again_later(
    live: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backups, "_RETRY", 0.05)
    calls = []

    class Failing(Bzip2):
        def __call__(self, source_path: str, target_path: str) -> None:
            calls.append(os.path.basename(source_path))
            Path(target_path).write_text("a part")
            if calls[-1] == backup.name and calls.count(backup.name) < 3:
                raise OSError(errno.ENOSPC, "no space", target_path)

    handler = make(compress=Failing())
    first = log(handler, "first")
    backup = live.with_name(f"app.log.{suffix_of(first)}")
    wait_for_second_after(first)
    log(handler, "second")
    wait_until(lambda: bool(handler.reported) and not list(live.parent.glob(".*.tmp")), "it has failed")
    assert backup.read_text() == "first\n"

    def is_archived() -> bool:
        log(handler, "more")
        return not backup.exists()

    wait_until(is_archived, "it is tried again")
    handler.close()
    assert calls.count(backup.name) == 3
    (report,) = handler.take_reports()
    assert str(backup) in report


def test_nothing_is_quiet_at_first_sight_whatever_its_time_stamps_say(source: Path) -> None:
    watch = backups.Watch()
    sign = sign_of(source.lstat())
    assert watch.seconds_until_quiet(str(source), sign, LEASE + GRACE) == pytest.approx(LEASE + GRACE)
    assert 0 < watch.seconds_until_quiet(str(source), sign, LEASE + GRACE) < LEASE + GRACE
    wait_until(lambda: watch.seconds_until_quiet(str(source), sign, 0.01) <= 0, "it was seen unchanged for a while")
    with source.open("ab") as file:
        file.write(b"late\n")
    changed = sign_of(source.lstat())
    assert watch.seconds_until_quiet(str(source), changed, LEASE + GRACE) == pytest.approx(LEASE + GRACE)


# The process that does the work.


class Stuck:
    """A compression that never ends, as far as a test is concerned."""

    extension = ".gz"

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __call__(self, source_path: str, target_path: str) -> None:
        Path(target_path).write_text("a part of an archive")
        self._mark.touch()
        while True:
            time.sleep(1)


def test_what_a_killed_process_has_begun_another_one_completes_though_it_did_not_roll(
    live: Path, tmp_path: Path, make: Make
) -> None:
    mark = tmp_path / "begun"

    def work() -> None:
        handler = WatchedHandler(live, when="H", utc=True, compress=Stuck(mark))
        log(handler, "of the one that rolls")
        handler.doRollover()
        while True:
            time.sleep(1)

    handler = make(when="H", compress="gz")
    created = log(handler, "of the one that stays")
    # Else its first look at the directory may come late, find the backup of the other one, and compress it.
    wait_until(lambda: handler._maintenance.is_idle, "this process has looked at the directory")
    with Crew() as crew:
        elected = crew.start(work)
        wait_until(mark.exists, "the other process compresses")
        assert not FileLock(lock_path(live), byte=TENDING_BYTE).acquire(timeout=0)

        def has_followed() -> bool:
            log(handler, "of the one that stays")
            return "stays" in live.read_text()

        wait_until(has_followed, "this process has turned to the new live file")
        elected.end()
        final = live.with_name(f"app.log.{suffix_of(created, 'H')}.gz")
        wait_until(lambda: final.exists() and settled(live), "the archive is made by this process")
    assert "of the one that rolls\n" in read_archive(final).decode()


def test_an_exit_does_not_wait_for_a_compression(live: Path, tmp_path: Path) -> None:
    program = """
import logging, pathlib, sys, time
from rollsafe import SafeTimedRotatingFileHandler
from tests.integration.test_archives import Stuck

mark = pathlib.Path(sys.argv[2])
handler = SafeTimedRotatingFileHandler(sys.argv[1], when="H", compress=Stuck(mark))
logging.getLogger().addHandler(handler)
logging.warning("first")
handler.doRollover()
while not mark.exists():
    time.sleep(0.01)
"""
    run_program(program, live, tmp_path / "begun")
    assert [path.read_text() for path in live.parent.glob("app.log.????-??-??_??")] == ["first\n"]


GREENLETS = {
    "gevent": """
from gevent import monkey; monkey.patch_all()
from gevent import sleep as switch
wait = monkey.get_original("time", "sleep")
""",
    "eventlet": """
import warnings; warnings.simplefilter("ignore")
import eventlet; eventlet.monkey_patch()
from eventlet import patcher, sleep as switch
wait = patcher.original("time").sleep
""",
}
"""Each library, with its own `switch` to other greenlets and the `wait` that it has replaced."""


@pytest.mark.parametrize(
    "library", [pytest.param("gevent", marks=needs_gevent), pytest.param("eventlet", marks=needs_eventlet)]
)
def test_greenlets_go_on_during_a_compression_and_keep_their_priority(live: Path, library: str) -> None:
    """The compression waits for greenlets, all in one thread, that only run while it does not hold them up."""
    program = (
        GREENLETS[library]
        + """
import logging, os, sys, threading, time
from rollsafe import SafeTimedRotatingFileHandler

turns = 0
begun = done = False
ours = threading.get_native_id()
before = os.getpriority(os.PRIO_PROCESS, ours)

def compress(source_path, target_path):
    global begun, done
    begun, first = True, turns
    deadline = time.monotonic() + 30
    while turns < first + 20 and time.monotonic() < deadline:
        wait(0.01)
    open(target_path, "w").write("an archive")
    done = turns >= first + 20 and threading.get_native_id() != ours

handler = SafeTimedRotatingFileHandler(sys.argv[1], when="H", compress=compress)
logging.getLogger().addHandler(handler)
logging.warning("first")
handler.doRollover()
deadline = time.monotonic() + 60
while not done and time.monotonic() < deadline:
    switch(0.01)
    turns += begun
    logging.warning("more")
after = os.getpriority(os.PRIO_PROCESS, ours)
handler.close()
sys.exit(0 if done and after == before else f"done: {done}, priority {before} became {after}")
"""
    )
    run_program(program, live)


@needs_gevent
def test_a_maintenance_thread_that_began_before_gevent_replaced_threads_ends_in_silence(live: Path) -> None:
    """gunicorn's gevent worker logs that it boots before it replaces them."""
    program = """
import gevent, logging, os, sys, time
from rollsafe import SafeTimedRotatingFileHandler

begun = patched = False
sleep = time.sleep

def compress(source_path, target_path):
    global begun
    begun = True
    while not patched:
        sleep(0.01)
    open(target_path, "w").write("an archive")

def threads():
    return len(os.listdir("/proc/self/task"))

before = threads()
handler = SafeTimedRotatingFileHandler(sys.argv[1], when="H", compress=compress)
logging.getLogger().addHandler(handler)
logging.warning("first")
handler.doRollover()
while not begun:
    sleep(0.01)
from gevent import monkey; monkey.patch_all()
patched = True
while not [name for name in os.listdir(os.path.dirname(sys.argv[1])) if name.endswith(".archive")]:
    sleep(0.01)
handler.close()
while threads() > before:
    sleep(0.01)
"""
    run_program(program, live)
    assert [path.read_text() for path in live.parent.glob("*.archive")] == ["an archive"]


@needs_gevent
def test_a_maintenance_thread_under_gevent_leaves_no_descriptors_behind(live: Path) -> None:
    """What a callback uses of gevent in that thread is given back at its end."""
    program = """
from gevent import monkey; monkey.patch_all()
import gevent, logging, os, sys, time
from rollsafe import SafeTimedRotatingFileHandler, backups
from tests.support.constants import set_constants

set_constants(backups, LEASE=0.02, GRACE=0.02)
told = []

def tell(path, interval):
    time.sleep(0.001)
    told.append(path)

def threads():
    return len(os.listdir("/proc/self/task"))

handler = SafeTimedRotatingFileHandler(sys.argv[1], when="H", compress="gz", on_rollover=tell)
logging.getLogger().addHandler(handler)
before, descriptors = threads(), []
for turn in range(4):
    logging.warning("a line")
    handler.doRollover()
    deadline = time.monotonic() + 30
    while (len(told) <= turn or threads() > before) and time.monotonic() < deadline:
        gevent.sleep(0.01)
    handler.close()
    descriptors.append(len(os.listdir("/proc/self/fd")))
sys.exit(0 if len(told) == 4 and descriptors[1] == descriptors[3] else f"{told} {descriptors}")
"""
    run_program(program, live)


# A writer that is late while the lock is held.


@pytest.mark.parametrize("archived", [True, False])
def test_a_line_whose_fate_cannot_be_told_while_the_lock_is_held_is_written_again(
    live: Path, tmp_path: Path, make: Make, archived: bool
) -> None:
    """The archiver stands still between its check of the size and the unlink; the line comes just then."""
    handler = make(when="H")
    created = log(handler, "first")
    backup = live.with_name(f"app.log.{suffix_of(created, 'H')}")
    held, go = tmp_path / "held", tmp_path / "go"

    def archive_slowly() -> None:
        lock = FileLock(lock_path(live))
        lock.acquire()
        live.rename(backup)
        text = backup.read_text()
        held.touch()
        wait_until(go.exists, "the line was written")
        if archived:
            backup.with_name(backup.name + ".gz").write_bytes(gzip.compress(text.encode()))
            backup.unlink()
        lock.release()

    with Crew() as crew:
        archiver = crew.start(archive_slowly)
        wait_until(held.exists, "the lock is held")
        file = handler._file
        # The lease is as it was, but the write comes back late.
        file.recheck_after = -1.0
        log(handler, "second")
        assert backup.read_text() == "first\nsecond\n"
        go.touch()
        archiver.join()
    log(handler, "third")
    handler.close()
    if archived:
        assert gzip.decompress(backup.with_name(backup.name + ".gz").read_bytes()) == b"first\n"
    rest = [path.read_text() for path in (live, backup, backup.with_name(f"{backup.name}.1")) if path.exists()]
    # Nobody could tell just then whether the archiver would find it.
    expected = ["second", "third"] if archived else ["first", "second", "second", "third"]
    assert sorted("".join(rest).split()) == expected
    assert not [text for text in handler.take_reports() if "LockBusy" not in text]


def test_a_line_that_is_late_in_the_live_file_while_the_lock_is_held_is_written_once(live: Path, make: Make) -> None:
    handler = make(when="H")
    log(handler, "first")

    def hold() -> None:
        with FileLock(lock_path(live)):
            stop_myself()

    with Crew() as crew:
        crew.start(hold).wait_until_stopped()
        handler._file.recheck_after = -1.0
        log(handler, "second")
    log(handler, "third")
    assert live.read_text() == "first\nsecond\nthird\n"


def test_where_the_new_live_file_cannot_be_opened_a_line_in_the_backup_is_looked_after(
    live: Path, lock: FileLock, make: Make
) -> None:
    handler = make(when="H")
    created = log(handler, "first")
    backup = live.with_name(f"app.log.{suffix_of(created, 'H')}")
    live.rename(backup)
    live.mkdir()
    file = handler._file
    file.expire_lease()
    write = file.write

    def write_late(line: bytes) -> int | None:
        # It was quiet long enough before: only now the writer has found that it has to stay with it.
        if backup.exists():
            make_archive(backup, codec_of("gz"), lock)
        return write(line)

    file.write = write_late
    log(handler, "second")
    assert not backup.exists(), "it was archived"
    reopening, line = handler.take_reports()
    assert "the reopening of" in reopening
    assert line.startswith("second: IsADirectoryError")
    live.rmdir()
    handler.flush()
    handler.close()
    assert live.read_text() == "second\n"


@pytest.mark.parametrize("archived", [True, False])
def test_a_hard_link_elsewhere_is_no_name_of_a_backup_that_is_archived(
    live: Path, lock: FileLock, make: Make, archived: bool
) -> None:
    handler, other = make(when="H"), make(when="H")
    created = log(handler, "first")
    backup = live.with_name(f"app.log.{suffix_of(created, 'H')}")
    snapshot = live.parent / "snapshot"
    snapshot.mkdir()
    file = handler._file
    write = file.write

    def write_late(line: bytes) -> int | None:
        file.write = write
        file.recheck_after = 0
        other.doRollover()
        os.link(backup, snapshot / backup.name)
        if archived:
            make_archive(backup, codec_of("gz"), lock)
        return write(line)

    file.write = write_late
    log(handler, "second")
    later = [path for path in live.parent.iterdir() if path.is_file() and b"second\n" in path.read_bytes()]
    assert len(later) == 1
    assert (later == [backup]) is not archived
