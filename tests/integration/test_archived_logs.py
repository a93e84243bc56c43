"""Logs whose backups are compressed: by a thread of one process, while others write, end, are late, or are killed."""

from __future__ import annotations

import errno
import gzip
import os
import time
from pathlib import Path

import pytest

from rollsafe import FileLock
from rollsafe._backups import failures
from rollsafe._files.lock_handles import MAINTENANCE_BYTE
from tests.support.clock import StandingClock
from tests.support.crew import Crew, WatchedHandler, lock_path, stop_myself
from tests.support.logs import (
    Bzip2,
    Make,
    codec_of,
    log,
    make_archive,
    read_archive,
    suffix_of,
    wait_for_second_after,
)
from tests.support.needs import needs_package
from tests.support.servers import run_program, wait_until

needs_gevent, needs_eventlet = needs_package("gevent"), needs_package("eventlet")


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
    wait_until(lambda: settled(live), "the later part is an archive")
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
    monkeypatch.setattr(failures, "_RETRY_S", 0.05)
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
    wait_until(lambda: handler._live.maintenance.is_idle, "this process has looked at the directory")
    with Crew() as crew:
        elected = crew.start(work)
        wait_until(mark.exists, "the other process compresses")
        assert not FileLock(lock_path(live), byte=MAINTENANCE_BYTE).acquire(timeout=0)

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
from tests.integration.test_archived_logs import Stuck

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
from rollsafe import SafeTimedRotatingFileHandler
from rollsafe._backups import maintenance_pass
from tests.support.constants import set_constants

set_constants(maintenance_pass, QUIET_S=0.04)
notified = []

def tell(path, interval):
    time.sleep(0.001)
    notified.append(path)

def threads():
    return len(os.listdir("/proc/self/task"))

handler = SafeTimedRotatingFileHandler(sys.argv[1], when="H", compress="gz", on_rollover=tell)
logging.getLogger().addHandler(handler)
before, descriptors = threads(), []
for turn in range(4):
    logging.warning("a line")
    handler.doRollover()
    deadline = time.monotonic() + 30
    while (len(notified) <= turn or threads() > before) and time.monotonic() < deadline:
        gevent.sleep(0.01)
    handler.close()
    descriptors.append(len(os.listdir("/proc/self/fd")))
sys.exit(0 if len(notified) == 4 and descriptors[1] == descriptors[3] else f"{notified} {descriptors}")
"""
    run_program(program, live)


# A writer that is late while the lock is held.


@pytest.mark.parametrize("archived", [True, False])
def test_a_line_whose_fate_cannot_be_told_while_the_lock_is_held_is_written_again(
    live: Path, tmp_path: Path, make: Make, standing_clock: StandingClock, archived: bool
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
