"""The protocol of one handler on real files: lease, rollover, late lines, start-up, re-entrancy, devices."""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import logging
import logging.config
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from rollsafe import FileLock, LineFormatter, handlers, renames, rollover
from rollsafe.locks import GRACE, LEASE
from rollsafe.open_file import OpenFile
from rollsafe.spill import size_of
from tests.support.crew import Crew, WatchedHandler, lock_path, stop_myself
from tests.support.logs import Make, backup_of, log, suffix_of, wait_for_second_after
from tests.support.servers import wait_until


def backups(live: Path) -> dict[str, str]:
    """The text of each backup by what follows the live file's name."""
    return {path.name[len(live.name) + 1 :]: path.read_text() for path in sorted(live.parent.glob(live.name + ".*"))}


def all_lines(live: Path) -> list[str]:
    """All lines of the live file and its backups, sorted."""
    return sorted("".join([*backups(live).values(), live.read_text() if live.exists() else ""]).split())


@contextlib.contextmanager
def full_disk(handler: WatchedHandler) -> Iterator[None]:
    """Have each write be refused as on a full disk."""

    def refuse(line: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    real, handler._file.write = handler._file.write, refuse
    try:
        yield
    finally:
        handler._file.write = real


# Rollover


def test_a_rollover_names_the_backup_after_its_interval(live: Path, make: Make) -> None:
    handler = make()
    first = log(handler, "first")
    wait_for_second_after(first)
    log(handler, "second")
    assert backups(live) == {suffix_of(first): "first\n"}
    assert live.read_text() == "second\n"


def test_a_handler_silent_for_two_intervals_names_the_old_file_after_its_own_interval(live: Path, make: Make) -> None:
    handler = make()
    first = log(handler, "first")
    wait_for_second_after(first + 2)
    log(handler, "second")
    assert backups(live) == {suffix_of(first): "first\n"}


def test_a_handler_silent_while_others_rolled_does_not_roll_again(live: Path, make: Make) -> None:
    silent, busy = make(), make()
    first = log(silent, "first")
    wait_for_second_after(first)
    second = log(busy, "second")
    wait_for_second_after(second)
    log(busy, "third")
    log(silent, "fourth")
    files = backups(live)
    assert files[suffix_of(first)] == "first\n"
    assert files[suffix_of(second)] == "second\n"
    assert "third\n" in (live.read_text() + "".join(files.values()))
    assert all_lines(live) == ["first", "fourth", "second", "third"]


def test_a_name_in_use_gets_a_sequence_number_and_is_not_touched(live: Path, make: Make) -> None:
    handler = make()
    first = log(handler, "first")
    foreign = live.with_name(f"app.log.{suffix_of(first)}")
    foreign.write_text("foreign\n")
    live.with_name(f"app.log.{suffix_of(first)}.1.gz").write_text("an archive")
    handler.doRollover()
    assert foreign.read_text() == "foreign\n"
    assert live.with_name(f"app.log.{suffix_of(first)}.2").read_text() == "first\n"


def test_a_file_left_by_an_earlier_run_is_rolled_at_the_first_line_to_the_interval_of_its_last_write(
    live: Path, make: Make
) -> None:
    live.write_text("left over\n")
    last_write = time.time() - 7200
    os.utime(live, (last_write, last_write))
    log(make(when="H"), "first of the new run")
    assert backups(live) == {suffix_of(last_write, "H"): "left over\n"}
    assert live.read_text() == "first of the new run\n"


def test_a_fresh_file_is_continued_at_start(live: Path, make: Make) -> None:
    make(when="H").close()
    live.write_text("of this hour\n")
    log(make(when="H"), "continued")
    assert live.read_text() == "of this hour\ncontinued\n"


def test_a_process_that_starts_just_after_the_boundary_is_not_deceived_by_a_late_line(live: Path, make: Make) -> None:
    old = make()
    first = log(old, "first")
    wait_for_second_after(first)

    def is_written_late() -> bool:
        """A line in flight: created before the boundary, written after it, before anybody rolled."""
        log(old, "late", first)
        # The kernel stamps files with a clock that is up to 10 ms behind.
        return live.stat().st_mtime >= int(first) + 1

    wait_until(is_written_late, "the file is of the new second by its time stamp")
    new = make()
    log(new, "second")
    assert set(backups(live)[suffix_of(first)].splitlines()) == {"first", "late"}
    assert "first" not in live.read_text()


def test_the_new_live_file_keeps_the_mode_of_the_old_one(live: Path, make: Make) -> None:
    handler = make()
    live.chmod(0o640)
    log(handler, "first")
    handler.doRollover()
    assert live.stat().st_mode & 0o777 == 0o640


def test_permissions_are_those_of_every_file_whatever_the_umask(live: Path, make: Make) -> None:
    before = os.umask(0o077)
    try:
        handler = make(permissions=0o664)
        first = log(handler, "first")
        handler.doRollover()
        log(handler, "late", first - 1)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in live.parent.iterdir()}
    assert len(modes) == 4
    # Who may not write the log may not read the lock file, either: a reader could hold the lock.
    assert modes.pop(".app.log.lock") == 0o660
    assert set(modes.values()) == {0o664}, modes


def test_nobody_is_in_the_way_of_an_earlier_line_during_the_quiet_moment(
    live: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = make(when="H")
    boundary = handler.rolloverAt
    clock = boundary + 0.001
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        nonlocal clock
        slept.append(seconds)
        # While one thread waits, another one writes a line of the old interval, under the live name.
        thread = threading.Thread(target=log, args=(handler, "in flight", boundary - 0.001))
        thread.start()
        thread.join()
        assert live.read_text() == "in flight\n"
        clock += seconds + 1e-6

    monkeypatch.setattr(time, "time", lambda: clock)
    monkeypatch.setattr(time, "sleep", sleep)
    log(handler, "first of the new hour", boundary + 0.001)
    assert slept == [pytest.approx(handlers.LINGER - 0.001, abs=1e-4)]
    assert live.read_text() == "first of the new hour\n"


class Boundary:
    """A wall clock that stands just after the end of an interval, and goes on only while somebody sleeps."""

    def __init__(self, end: float, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = end + 0.001
        self.slept: list[float] = []
        monkeypatch.setattr(time, "time", lambda: self.now)
        monkeypatch.setattr(time, "sleep", self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds + 1e-6


def test_the_quiet_moment_is_a_small_share_of_the_interval(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = make(when="S", interval=1)
    clock = Boundary(handler.rolloverAt, monkeypatch)
    log(handler, "first of the new second", clock.now)
    assert clock.slept == [pytest.approx(handlers.LINGER_SHARE * 1.0 - 0.001, abs=1e-4)]


@pytest.mark.parametrize("ahead", [0.5, 3600, 1e12])
@pytest.mark.parametrize("way", ["handle", "write_line"])
def test_a_record_ahead_of_our_clock_waits_for_nothing(
    live: Path, make: Make, monkeypatch: pytest.MonkeyPatch, ahead: float, way: str
) -> None:
    handler = make(when="H")
    boundary = handler.rolloverAt
    log(handler, "opens the file", boundary - 1800)
    clock = Boundary(boundary - 1800, monkeypatch)
    for _ in range(3):
        if way == "handle":
            log(handler, "ahead", clock.now + ahead)
        else:
            handler.write_line("ahead", clock.now + ahead)
    assert clock.slept == []
    assert live.read_text().splitlines() == ["opens the file", *["ahead"] * 3]


def test_a_record_far_ahead_rolls_nothing_over_in_the_last_moment_of_an_interval(
    live: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = make(when="H")
    boundary = handler.rolloverAt
    Boundary(boundary - 0.5, monkeypatch)
    log(handler, "milliseconds", boundary * 1000)
    log(handler, "in its last moment", boundary - 0.4)
    assert (live.read_text(), backups(live)) == ("milliseconds\nin its last moment\n", {})


@pytest.mark.parametrize("way", ["handle", "emit", "flush"])
@pytest.mark.parametrize("delay", [True, False])
def test_nobody_renames_in_the_quiet_moment_however_its_first_line_comes(
    live: Path, make: Make, monkeypatch: pytest.MonkeyPatch, delay: bool, way: str
) -> None:
    before = make(when="H")
    boundary = before.rolloverAt
    log(before, "of the old hour")
    before.close()
    os.utime(live, (boundary - 1, boundary - 1))
    handler = make(when="H", delay=delay)
    clock = Boundary(boundary, monkeypatch)
    renamed: list[float] = []
    rename_new = renames.rename_new

    def rename_and_note(source: str, target: str) -> bool:
        renamed.append(clock.now - boundary)
        return rename_new(source, target)

    monkeypatch.setattr(rollover, "rename_new", rename_and_note)
    record = logging.makeLogRecord({"msg": "of the new hour", "created": clock.now})
    if way == "flush":
        handler._spill.add(b"of the new hour\n", clock.now)
        handler.flush()
    else:
        getattr(handler, way)(record)
    assert len(renamed) == 1
    assert renamed[0] >= handlers.LINGER
    assert live.read_text() == "of the new hour\n"


# Late lines


def test_a_late_line_goes_to_the_file_of_its_interval(live: Path, make: Make) -> None:
    handler = make()
    first = log(handler, "first")
    wait_for_second_after(first)
    log(handler, "second")
    log(handler, "late", first)
    assert backups(live)[suffix_of(first)] == "first\nlate\n"


def test_a_line_later_than_its_file_is_kept_open_goes_to_the_backup_of_its_interval(live: Path, make: Make) -> None:
    handler = make(when="H")
    two_hours_ago = time.time() - 7200
    backup = live.with_name(f"app.log.{suffix_of(two_hours_ago, 'H')}")
    backup.write_text("rolled long ago\n")
    log(handler, "very late", two_hours_ago)
    log(handler, "very late too", two_hours_ago)
    assert backups(live) == {suffix_of(two_hours_ago, "H"): "rolled long ago\nvery late\nvery late too\n"}
    assert live.read_text() == ""


def test_a_line_whose_backup_is_archived_goes_to_a_new_piece_of_its_interval(live: Path, make: Make) -> None:
    handler = make(when="H")
    two_hours_ago = time.time() - 7200
    suffix = suffix_of(two_hours_ago, "H")
    live.with_name(f"app.log.{suffix}.gz").write_bytes(b"archive")
    log(handler, "very late", two_hours_ago)
    assert backups(live) == {f"{suffix}.gz": "archive", f"{suffix}.1": "very late\n"}


def test_a_record_from_a_clock_far_ahead_does_not_roll(live: Path, make: Make) -> None:
    handler = make(when="H")
    log(handler, "ahead", time.time() + 7200)
    assert backups(live) == {}
    assert live.read_text() == "ahead\n"


# A line that needs no record


def test_write_line_is_placed_by_its_moment_as_a_record_is(live: Path, make: Make) -> None:
    handler = make()
    first = log(handler, "a record")
    handler.write_line("a line", first)
    wait_for_second_after(first)
    second = time.time()
    handler.write_line("of the next second", second)
    handler.write_line("late", first)
    assert backups(live) == {suffix_of(first): "a record\na line\nlate\n"}
    assert live.read_text() == "of the next second\n"


def test_write_line_waits_for_the_quiet_moment(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = make()
    clock = Boundary(handler.rolloverAt, monkeypatch)
    handler.write_line("first of the new second", clock.now)
    assert clock.slept == [pytest.approx(handlers.LINGER_SHARE * 1.0 - 0.001, abs=1e-4)]


def test_write_line_keeps_what_cannot_be_written_and_reports_the_line(live: Path, make: Make) -> None:
    handler = make()
    now = log(handler, "before")
    hidden = live.parent.rename(live.parent.with_name("elsewhere"))
    handler.close()
    handler.write_line("during the outage", now)
    assert [report.partition(":")[0] for report in handler.take_reports()] == ["during the outage"]
    hidden.rename(live.parent)
    handler.flush()
    written = "".join([*backups(live).values(), live.read_text()])
    assert sorted(written.splitlines()) == ["before", "during the outage"]


def test_write_line_reports_what_cannot_be_encoded(live: Path, make: Make) -> None:
    handler = make(encoding="ascii", errors="strict")
    handler.write_line("größer", time.time())
    assert len(handler.take_reports()) == 1
    assert live.read_text() == ""


# Lease and the look after the write


@pytest.mark.parametrize("short", [False, True], ids=["whole", "cut short"])
def test_a_file_that_a_signal_handler_closes_just_after_the_write_is_no_outage(
    live: Path, make: Make, short: bool
) -> None:
    handler = make(when="H")
    log(handler, "before")
    file = handler._file
    write = file.write

    def write_and_close(line: bytes) -> int | None:
        """What gunicorn's USR1 does in the middle of an emit."""
        written = write(line[:3] if short else line)
        handler.close()
        handler.stream = handler._open()
        return written

    file.write = write_and_close
    log(handler, "line")
    # The fragment of a file that is closed by then stays.
    parts = ["before", "lin", "line"] if short else ["before", "line"]
    assert [part.strip() for part in live.read_text().splitlines()] == parts
    assert handler.reported == []


@pytest.mark.parametrize("taken", [False, True], ids=["number left free", "number taken by a file that is read"])
def test_a_descriptor_that_is_closed_under_the_handler_is_no_outage(live: Path, make: Make, taken: bool) -> None:
    handler = make(when="H")
    log(handler, "before")
    number = handler.stream.fileno()
    os.close(number)
    if taken:
        other = os.open(os.devnull, os.O_RDONLY)
        os.dup2(other, number)
        if other != number:
            os.close(other)
    log(handler, "line")
    assert (live.read_text(), handler.reported) == ("before\nline\n", [])
    if taken:
        os.close(number)


@pytest.mark.parametrize("then", ["lines", "close", "rollover", "size"])
def test_a_file_that_has_taken_the_number_of_our_descriptor_is_neither_written_nor_closed_nor_changed(
    live: Path, make: Make, tmp_path: Path, then: str
) -> None:
    handler = make(when="H", maxBytes=10_000)
    created = log(handler, "before")
    number = handler.stream.fileno()
    os.close(number)
    precious = tmp_path / "database"
    other = os.open(precious, os.O_RDWR | os.O_CREAT, 0o600)
    if other != number:
        os.dup2(other, number)
        os.close(other)
    os.write(number, b"precious")
    handler._file.expire_lease()
    if then == "close":
        handler.close()
    elif then == "rollover":
        handler.doRollover()
    elif then == "size":
        handler.maxBytes = 1
    log(handler, "line")
    log(handler, "late", created)
    handler.close()
    os.write(number, b", and still open")
    os.close(number)
    assert precious.read_bytes() == b"precious, and still open"
    assert precious.stat().st_mode & 0o7777 == 0o600
    assert all_lines(live) == ["before", "late", "line"]
    (report,) = handler.take_reports()
    assert f"descriptor {number} of {live} was closed by other code" in report


@pytest.mark.parametrize("interfere", ["rename", "unlink", "replace"])
def test_a_file_moved_away_is_left_when_the_lease_is_over(live: Path, make: Make, interfere: str) -> None:
    handler = make(when="H")
    log(handler, "before")
    if interfere == "rename":
        live.rename(live.with_name("elsewhere"))
    elif interfere == "unlink":
        live.unlink()
    else:
        live.with_name("other").touch()
        live.with_name("other").replace(live)
    until = time.monotonic() + LEASE
    wait_until(lambda: time.monotonic() > until, "the lease is over")
    log(handler, "after")
    assert live.read_text() == "after\n"


def test_a_writer_held_up_between_its_check_and_its_write_writes_again_if_the_file_is_gone(
    live: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = make(when="H")
    log(handler, "before")

    class Stopped:
        """A process that sleeps between the check and the write, while its file is rolled and archived."""

        def __call__(self, line: bytes) -> int:
            live.unlink()
            handler._file.write = handler._file.stream.write
            monkeypatch.setattr(handlers, "_monotonic", lambda: time.monotonic() + LEASE + GRACE + 1)
            return int(handler._file.stream.write(line))

    handler._file.write = Stopped()
    log(handler, "held up")
    assert live.read_text() == "held up\n"


def test_a_writer_held_up_writes_once_if_its_file_was_only_renamed(
    live: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = make(when="H")
    moved = live.with_name("moved")

    def write(line: bytes) -> int:
        live.rename(moved)
        handler._file.write = handler._file.stream.write
        monkeypatch.setattr(handlers, "_monotonic", lambda: time.monotonic() + LEASE + GRACE + 1)
        return int(handler._file.stream.write(line))

    handler._file.write = write
    log(handler, "held up")
    log(handler, "next")
    assert moved.read_text() == "held up\n"
    assert live.read_text() == "next\n"


def test_a_wall_clock_set_back_does_not_prolong_the_lease(
    live: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A zone where it is about noon: the clock is set back within the interval at any hour.
    noon = datetime.timezone(datetime.timedelta(hours=12 - time.gmtime().tm_hour))
    handler = make(when="midnight", utc=False, tz=noon)
    log(handler, "before")
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 60)
    live.rename(live.with_name("moved"))
    until = time.monotonic() + LEASE + GRACE
    wait_until(lambda: time.monotonic() > until, "lease and grace are over")
    log(handler, "noticed after this")
    log(handler, "after")
    assert live.read_text() == "after\n"


# The lock


def test_lines_go_on_while_another_process_is_stopped_inside_the_rollover(live: Path, make: Make) -> None:
    handler = make()
    first = log(handler, "first")

    def stop_with_the_lock() -> None:
        with FileLock(lock_path(live)):
            stop_myself()

    with Crew() as crew:
        crew.start(stop_with_the_lock).wait_until_stopped()
        wait_for_second_after(first)
        for number in range(100):
            log(handler, f"line{number}")
        assert all_lines(live) == sorted(["first", *(f"line{number}" for number in range(100))])
        (report,) = handler.take_reports()
        assert "could not be locked within" in report

    def is_made_up_for() -> bool:
        log(handler, "after")
        return suffix_of(first) in backups(live)

    wait_until(is_made_up_for, "the rollover is made up for")
    assert "after\n" in live.read_text()


def test_a_worker_that_waits_to_roll_goes_on_as_soon_as_another_has_renamed(
    live: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = make(when="H")
    log(handler, "first")
    locked, asked, renamed = (multiprocessing.Event() for _ in range(3))

    def rename_and_keep_the_lock() -> None:
        rollover = handler._rollover
        rollover.lock.acquire()
        locked.set()
        assert asked.wait(20)
        assert handler._file.interval is not None
        status = os.lstat(live)
        rollover._rename_live(status, handler._file.interval)
        rollover._create_like(status, time.time())
        renamed.set()
        stop_myself()

    lock = handler._rollover.lock
    acquire = lock.acquire

    def wait_for_lock(timeout: float | None = None, *how: Any) -> bool:
        taken = acquire(timeout, *how)
        if not taken and not asked.is_set():
            asked.set()
            assert renamed.wait(20)
        return taken

    with Crew() as crew:
        crew.start(rename_and_keep_the_lock)
        assert locked.wait(20)
        monkeypatch.setattr(lock, "acquire", wait_for_lock)
        handler.rolloverAt = 0.0
        handler._file.expire_lease()
        log(handler, "second")
    assert asked.is_set()
    assert live.read_text() == "second\n"
    assert list(backups(live).values()) == ["first\n"]


def test_a_removed_lock_file_does_not_let_two_roll(live: Path, make: Make) -> None:
    one, other = make(), make()
    first = log(one, "first")
    log(other, "first too")
    live.with_name(".app.log.lock").unlink()
    wait_for_second_after(first)
    log(one, "second")
    live.with_name(".app.log.lock").unlink()
    log(other, "second too")
    assert backups(live)[suffix_of(first)] == "first\nfirst too\n"
    assert len([name for name in backups(live) if name.startswith(suffix_of(first))]) == 1


def test_two_handlers_of_one_process_on_one_path_do_not_drop_each_others_lock(live: Path, make: Make) -> None:
    one, other = make(), make()
    with FileLock(live.with_name(".app.log.lock")) as lock:
        other.close()
        handle = os.open(lock.path, os.O_RDWR)  # closed in the child only: closing it here would drop the lock

        def ask_in_vain() -> None:
            with pytest.raises(BlockingIOError):
                fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)

        with Crew() as crew:
            crew.start(ask_in_vain).join()
    os.close(handle)
    log(one, "still alive")
    assert live.read_text() == "still alive\n"


# Signals, reopening, closing


def test_a_signal_handler_that_logs_inside_the_critical_section_loses_nothing(live: Path, make: Make) -> None:
    handler = make()
    boundary = int(time.time()) + 1
    wait_until(lambda: time.time() >= boundary, "a new second")
    first = log(handler, "first")

    def namer(default: str) -> str:
        # Called between the look at the path and the rename, with the lock held.
        if not interrupted:
            interrupted.append(True)
            signal.raise_signal(signal.SIGUSR2)
        return default

    interrupted: list[bool] = []
    handler.namer = namer
    before = signal.signal(signal.SIGUSR2, lambda *_: log(handler, "from-the-signal-handler"))
    try:
        wait_for_second_after(first)
        log(handler, "second")
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert interrupted
    assert backups(live)[suffix_of(first)] == "first\n"
    assert live.read_text().split() == ["second", "from-the-signal-handler"]


def test_a_signal_handler_that_raises_as_soon_as_the_lock_is_taken_leaves_it_free(live: Path, make: Make) -> None:
    class Interrupted:
        """A lock during whose acquisition a signal arrives."""

        def __init__(self, lock: Any) -> None:
            self.lock = lock
            self.release = lock.release

        def acquire(self) -> None:
            self.lock.acquire()
            signal.raise_signal(signal.SIGUSR2)

    handler: Any = make(when="H")
    lock: Any = handler.lock
    handler.lock = Interrupted(lock)
    before = signal.signal(signal.SIGUSR2, lambda *_: sys.exit("as a worker's handler of SIGABRT does"))
    try:
        with pytest.raises(SystemExit):
            log(handler, "never begun")
    finally:
        signal.signal(signal.SIGUSR2, before)
        handler.lock = lock
    taken: list[bool] = []

    def take() -> None:
        taken.append(lock.acquire(blocking=False))
        lock.release()

    other = threading.Thread(target=take)
    other.start()
    other.join()
    assert taken == [True]


def reopen_as_gunicorn_does(handler: logging.FileHandler) -> None:
    """What gunicorn's reopen_files does to each FileHandler on USR1."""
    handler.acquire()
    try:
        if handler.stream:
            handler.close()
            handler.stream = handler._open()
    finally:
        handler.release()


@pytest.mark.parametrize("moment", ["format", "write", "rollover"])
def test_a_reopen_in_the_middle_of_emit_loses_nothing(live: Path, make: Make, moment: str) -> None:
    handler = make(when="H")
    log(handler, "first")
    done: list[bool] = []

    def reopen_once() -> None:
        if not done:
            done.append(True)
            reopen_as_gunicorn_does(handler)

    class Reopens(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            if moment == "format":
                reopen_once()
            return super().format(record)

    class Write:
        def __init__(self, file: OpenFile) -> None:
            self.file = file

        def __call__(self, line: bytes) -> int:
            reopen_once()
            return int(self.file.stream.write(line))

    if moment == "write":
        handler._file.write = Write(handler._file)
    if moment == "rollover":

        def namer(default: str) -> str:
            reopen_once()
            return default

        handler.namer = namer
        handler.rolloverAt = 0.0
        handler._file.expire_lease()
    handler.setFormatter(Reopens())
    log(handler, "second")
    log(handler, "third")
    assert done
    assert all_lines(live) == ["first", "second", "third"]


def test_reopening_finds_a_file_moved_by_an_administrator(live: Path, make: Make) -> None:
    handler = make(when="H")
    log(handler, "first")
    live.rename(live.with_name("moved"))
    reopen_as_gunicorn_does(handler)
    log(handler, "second")
    assert live.read_text() == "second\n"


def test_a_handler_that_was_closed_writes_again_and_is_found_by_its_name(live: Path, make: Make) -> None:
    handler = make(when="H")
    handler.name = "of the application"
    handler.close()
    assert handler.stream is None
    log(handler, "after close")
    assert live.read_text() == "after close\n"
    assert logging._handlers["of the application"] is handler  # type: ignore[attr-defined]  # what dictConfig reads


def test_a_closed_handler_does_not_take_its_name_back_from_a_newer_one(make: Make) -> None:
    old = make(when="H")
    old.name = "app"
    old.close()
    new = make(when="H")
    new.name = "app"
    log(old, "a straggler")
    assert logging._handlers["app"] is new  # type: ignore[attr-defined]  # what dictConfig reads


def test_close_keeps_no_file_open(live: Path, make: Make) -> None:
    before = set(os.listdir("/dev/fd"))
    handler = make()
    first = log(handler, "first")
    wait_for_second_after(first)
    log(handler, "second")
    log(handler, "late", first)
    handler.close()
    assert set(os.listdir("/dev/fd")) == before


def test_delay_opens_the_file_at_the_first_line(live: Path, make: Make) -> None:
    handler = make(delay=True)
    assert handler.stream is None
    assert not list(live.parent.iterdir())
    log(handler, "first")
    assert all_lines(live) == ["first"]


def test_every_line_is_one_unbuffered_write(live: Path, make: Make) -> None:
    handler = make(when="H")
    writes: list[int] = []
    real = handler._file.write

    def write(line: bytes) -> int | None:
        writes.append(len(line))
        return real(line)

    handler._file.write = write
    for size in (1, 100, 10_000, 1_000_000):
        log(handler, "x" * size)
        assert live.stat().st_size == sum(writes)
    assert writes == [2, 101, 10_001, 1_000_001]


# Forks


def test_a_child_forked_while_another_thread_logs_goes_on_logging(live: Path, make: Make) -> None:
    handler = make()
    stop = threading.Event()

    def keep_logging() -> None:
        number = 0
        while not stop.is_set():
            log(handler, f"thread-{number}")
            number += 1

    def log_as_child(name: str) -> None:
        log(handler, name)
        assert handler.reported == []

    thread = threading.Thread(target=keep_logging)
    thread.start()
    try:
        with Crew() as crew:
            for child in range(30):
                crew.start(partial(log_as_child, f"child-{child}")).join()
    finally:
        stop.set()
        thread.join()
    lines = all_lines(live)
    assert len(lines) == len(set(lines))
    assert {f"child-{child}" for child in range(30)} <= set(lines)


def test_a_forked_child_writes_through_a_description_of_its_own(live: Path, make: Make) -> None:
    handler = make(when="H")
    log(handler, "of the parent")

    def log_as_child() -> None:
        log(handler, "of the child")
        assert handler.reported == []

    with Crew() as crew:
        crew.start(log_as_child).join()
    assert os.lseek(handler.stream.fileno(), 0, os.SEEK_CUR) == len("of the parent\n")
    assert live.read_text() == "of the parent\nof the child\n"


def test_lines_that_wait_in_the_parent_are_not_written_by_the_child_too(live: Path, make: Make) -> None:
    handler = make(when="H")
    with full_disk(handler):
        log(handler, "waits")
    assert len(handler.take_reports()) == 1

    def flush_and_close() -> None:
        handler.flush()
        handler.close()
        assert handler.reported == []

    with Crew() as crew:
        crew.start(flush_and_close).join()
    assert live.read_text() == ""
    handler.flush()
    assert live.read_text() == "waits\n"


# What cannot be written


def test_emit_never_raises_and_the_lines_of_an_outage_are_written_in_order_afterwards(live: Path, make: Make) -> None:
    handler = make(when="H")
    with full_disk(handler):
        log(handler, "1")
        log(handler, "2")
    (report,) = handler.take_reports()
    assert "No space left" in report
    handler._spill.retry_at = 0.0
    log(handler, "3")
    assert live.read_text() == "1\n2\n3\n"
    assert handler.reported == []


def test_what_does_not_fit_the_spill_is_counted_in_a_line_of_its_own(
    live: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers, "SPILL_BYTES", 2 * size_of(b"x" * 39 + b"\n") + 20)
    handler = make(when="H")
    with full_disk(handler):
        for _ in range(5):
            log(handler, "x" * 39)
    (report,) = handler.take_reports()
    assert "No space left" in report
    handler.flush()
    lines = live.read_text().splitlines()
    assert lines[:2] == ["x" * 39] * 2
    assert re.fullmatch(r"rollsafe: 3 lines were dropped .*", lines[2])
    assert len(lines) == 3


def cut_next_write_short(handler: WatchedHandler, then: Callable[[], object] = lambda: None) -> None:
    """Have the next write end after 3 bytes, as on a full disk, and do something before the handler hears of it."""
    real = handler._file.write

    def short(line: bytes) -> int | None:
        handler._file.write = real
        written = real(line[:3])
        then()
        return written

    handler._file.write = short


def test_the_fragment_of_a_line_that_was_cut_short_is_blanked_and_the_line_written_again(
    live: Path, make: Make
) -> None:
    handler = make(when="H")
    log(handler, "before")
    cut_next_write_short(handler)
    log(handler, "cut short")
    assert live.read_text().splitlines() == ["before", "  ", "cut short"]
    assert handler.reported == []


def test_a_line_that_another_process_glued_to_the_fragment_is_cut_off_from_it(live: Path, make: Make) -> None:
    handler, other = make(when="H"), make(when="H")
    log(handler, "before")
    log(other, "before too")
    cut_next_write_short(handler, then=lambda: log(other, "of another process"))
    log(handler, "cut short")
    lines = live.read_text().splitlines()
    assert [line for line in lines if line.strip()] == ["before", "before too", "of another process", "cut short"]
    assert lines[2] == "  "


def test_a_fragment_that_cannot_be_blanked_ends_before_our_next_line(
    live: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = make(when="H")
    log(handler, "before")
    cut_next_write_short(handler)
    monkeypatch.setattr(os, "pwrite", lambda *_: 0)
    log(handler, "cut short")
    assert live.read_text().splitlines() == ["before", "cut", "cut short"]


def test_a_fragment_that_could_not_be_blanked_at_once_is_blanked_before_the_next_line(
    live: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = make(when="H")
    log(handler, "before")
    cut_next_write_short(handler)
    real = os.pwrite

    def refuse_once(descriptor: int, data: bytes, offset: int) -> int:
        # As Btrfs while its disk is full: it writes nothing in place.
        monkeypatch.setattr(os, "pwrite", real)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", refuse_once)
    log(handler, "cut short")
    assert live.read_text().splitlines() == ["before", "  ", "cut short"]


@pytest.mark.parametrize(("created", "reports"), [(float("nan"), 0), (-1e20, 1), (1e20, 0), (-1e12, 1)])
def test_a_record_of_an_impossible_time_is_written_and_holds_up_nothing(
    live: Path, make: Make, created: float, reports: int
) -> None:
    handler = make(when="H")
    log(handler, "impossible", created)
    log(handler, "next")
    assert live.read_text() == "impossible\nnext\n"
    assert ["a late line" in report for report in handler.take_reports()] == [True] * reports


def test_a_live_file_that_cannot_be_opened_for_a_while_costs_no_line(live: Path, make: Make) -> None:
    handler = make(when="H")
    log(handler, "before")
    live.unlink()
    live.mkdir()
    handler._file.expire_lease()
    log(handler, "meanwhile")
    log(handler, "meanwhile too")
    (report,) = handler.take_reports()
    assert "Is a directory" in report
    live.rmdir()
    handler.flush()
    log(handler, "after")
    assert live.read_text() == "meanwhile\nmeanwhile too\nafter\n"


def test_a_new_live_file_that_cannot_be_made_does_not_send_lines_into_the_backup(
    live: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = make()
    first = log(handler, "first")
    wait_for_second_after(first)

    def refuse() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(handler._rollover.live, "open_stream", refuse)
        log(handler, "second")
    assert backups(live) == {suffix_of(first): "first\n"}
    assert not live.exists()
    assert len(handler.take_reports()) == 1
    handler.flush()
    assert "second\n" in live.read_text()
    assert backups(live)[suffix_of(first)] == "first\n"


def test_a_namer_that_raises_stops_the_rollover_and_no_line(live: Path, make: Make) -> None:
    handler = make()
    handler.namer = lambda default: default[None]  # type: ignore[index]  # the mistake under test
    first = log(handler, "first")
    wait_for_second_after(first)
    log(handler, "second")
    log(handler, "third")
    assert live.read_text() == "first\nsecond\nthird\n"
    assert len(handler.take_reports()) == 1


def test_files_kept_for_late_lines_are_closed_without_waiting_for_the_next_rollover(live: Path, make: Make) -> None:
    handler = make()
    first = log(handler, "first")
    wait_for_second_after(first)
    log(handler, "second")
    (kept,) = handler._late
    kept.forget_at = 0.0
    handler._file.expire_lease()
    log(handler, "third")
    assert kept.stream.closed


def test_a_record_that_cannot_be_formatted_is_reported_and_the_next_one_written(live: Path, make: Make) -> None:
    handler = make(when="H")
    handler.handle(logging.makeLogRecord({"msg": "%d", "args": ("no number",)}))
    log(handler, "next")
    assert live.read_text() == "next\n"
    assert len(handler.take_reports()) == 1


def test_what_the_encoding_cannot_express_is_escaped_rather_than_lost(live: Path, make: Make) -> None:
    log(make(when="H", encoding="ascii"), "caf\u00e9 \udc80")
    assert live.read_bytes() == b"caf\\xe9 \\udc80\n"


def test_errors_is_honoured(live: Path, make: Make) -> None:
    log(make(when="H", encoding="ascii", errors="replace"), "caf\u00e9")
    strict = make(when="H", encoding="ascii", errors="strict")
    log(strict, "caf\u00e9")
    assert live.read_bytes() == b"caf?\n"
    assert len(strict.take_reports()) == 1


@pytest.mark.parametrize("message", ["plain", "caf\u00e9", "two\nlines", "back\\nslash"])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "gb18030"])
@pytest.mark.parametrize("terminator", ["\n", "\r\n"])
def test_the_line_of_our_formatter_is_its_text_in_the_encoding(
    live: Path, make: Make, message: str, encoding: str, terminator: str
) -> None:
    handler = make(when="H", encoding=encoding)
    formatter = LineFormatter("%(levelname)s %(message)s")
    handler.setFormatter(formatter)
    handler.terminator = terminator
    log(handler, message)
    text = formatter.format(logging.makeLogRecord({"msg": message}))
    assert live.read_bytes() == (text + terminator).encode(encoding)


def test_what_overrides_the_way_to_the_formatter_is_not_passed_over(live: Path, make: Make) -> None:
    class Loud(WatchedHandler):
        def format(self, record: logging.LogRecord) -> str:
            return super().format(record).upper()

    class Starred(LineFormatter):
        def format(self, record: logging.LogRecord) -> str:
            return f"* {super().format(record)}"

    loud = make(live, Loud, when="H")
    loud.setFormatter(LineFormatter())
    log(loud, "loud")
    handler = make(live, when="H")
    handler.setFormatter(Starred())
    log(handler, "starred")
    handler.setFormatter(LineFormatter())
    handler.formatter = logging.Formatter("<%(message)s>")
    log(handler, "set without setFormatter")
    assert live.read_text() == "LOUD\n* starred\n<set without setFormatter>\n"


# What is never rolled


def test_dev_null_is_written_and_left_alone(make: Make) -> None:
    before = os.stat("/dev/null"), sorted(os.listdir("/dev"))
    handler = make(Path("/dev/null"))
    first = log(handler, "first")
    wait_for_second_after(first)
    log(handler, "second")
    handler.doRollover()
    assert (os.stat("/dev/null").st_rdev, sorted(os.listdir("/dev"))) == (before[0].st_rdev, before[1])


def test_standard_output_redirected_to_a_file_is_written_and_not_rolled(tmp_path: Path) -> None:
    program = (
        "import logging, time; from rollsafe import SafeTimedRotatingFileHandler\n"
        "handler = SafeTimedRotatingFileHandler('/dev/stdout', when='S')\n"
        "for name in 'abc':\n"
        "    handler.handle(logging.makeLogRecord({'msg': name, 'created': time.time()}))\n"
        "    handler.doRollover()\n"
    )
    with open(tmp_path / "out", "w") as out:
        subprocess.run([sys.executable, "-c", program], stdout=out, check=True)
    assert os.listdir(tmp_path) == ["out"]
    assert (tmp_path / "out").read_text() == "a\nb\nc\n"
    assert Path("/dev/stdout").is_symlink()


def test_a_fifo_is_written_whole_and_left_alone(tmp_path: Path, make: Make) -> None:
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    handler = make(fifo)
    log(handler, "through the pipe")
    handler.doRollover()
    assert os.read(reader, 100) == b"through the pipe\n"
    assert os.listdir(tmp_path) == ["pipe"]
    os.close(reader)


def test_a_symbolic_link_is_followed_once(tmp_path: Path, make: Make) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "app.log").symlink_to(tmp_path / "volume" / "real.log")
    handler = make(tmp_path / "app.log")
    first = log(handler, "first")
    handler.doRollover()
    assert (tmp_path / "volume" / f"real.log.{suffix_of(first)}").read_text() == "first\n"
    assert (tmp_path / "app.log").is_symlink()


# The points to override


def test_namer_suffix_and_extMatch_mean_what_they_mean_in_the_standard_library(live: Path, make: Make) -> None:
    handler = make(backupCount=1)
    handler.suffix = "%Y%m%dT%H%M%S"
    handler.extMatch = re.compile(r"\d{8}T\d{6}")
    handler.namer = lambda default: default.replace("app.log.", "app-") + ".log"
    stranger = live.with_name("app-19990101T000000.log.keep")
    stranger.touch()
    expired = live.with_name("app-19990101T000000.log")
    expired.touch()
    first = log(handler, "first")
    handler.doRollover()
    backup = live.with_name(time.strftime("app-%Y%m%dT%H%M%S.log", time.gmtime(first)))
    assert backup.read_text() == "first\n"
    wait_until(lambda: not expired.exists(), "the expired backup is removed")
    assert stranger.exists()
    assert backup.exists()


def test_the_rotator_gets_source_and_destination_once_nobody_writes_there_any_more(live: Path, make: Make) -> None:
    handler = make()
    calls = []

    def rotator(source: str, dest: str) -> None:
        calls.append((source, dest))
        Path(dest).write_text(Path(source).read_text().upper())
        os.remove(source)

    handler.rotator = rotator
    handler.namer = lambda default: default + ".upper"
    first = log(handler, "first")
    wait_for_second_after(first)
    log(handler, "second")
    log(handler, "late", first)
    wait_until(lambda: bool(calls) and not os.path.exists(calls[0][0]), "the rotator has run")
    assert [dest for _, dest in calls] == [f"{live}.{suffix_of(first)}.upper"]
    assert Path(calls[0][1]).read_text() == "FIRST\nLATE\n"


def test_an_overridden_shouldRollover_is_asked_for_each_record(live: Path, make: Make) -> None:
    class Small(WatchedHandler):
        def shouldRollover(self, record: logging.LogRecord) -> bool:
            return super().shouldRollover(record) or live.stat().st_size > 10

    handler = make(kind=Small, when="H")
    for name in ("first-line", "second", "third"):
        first = log(handler, name)
    assert backups(live) == {suffix_of(first, "H"): "first-line\n"}
    assert live.read_text() == "second\nthird\n"


def test_an_overridden_computeRollover_sets_the_boundaries(live: Path, make: Make) -> None:
    class EveryTwo(WatchedHandler):
        def computeRollover(self, currentTime: float) -> int:
            return int(currentTime // 2 + 1) * 2

    handler = make(kind=EveryTwo)
    first = log(handler, "first")
    assert handler.rolloverAt == (first // 2 + 1) * 2
    wait_until(lambda: time.time() >= handler.rolloverAt, "the boundary")
    log(handler, "second")
    assert list(backups(live).values()) == ["first\n"]


def test_an_overridden_doRollover_is_called_and_may_call_ours(live: Path, make: Make) -> None:
    calls = []

    class Counting(WatchedHandler):
        def doRollover(self) -> None:
            calls.append(self.baseFilename)
            super().doRollover()

    handler = make(kind=Counting)
    first = log(handler, "first")
    wait_for_second_after(first)
    log(handler, "second")
    assert calls == [str(live)]
    assert backups(live) == {suffix_of(first): "first\n"}


def test_an_overridden_getFilesToDelete_decides_what_is_removed(live: Path, make: Make) -> None:
    doomed = live.with_name("doomed")
    doomed.touch()

    class Own(WatchedHandler):
        def getFilesToDelete(self) -> list[str]:
            return [str(doomed)] if doomed.exists() else []

    handler = make(kind=Own)
    log(handler, "first")
    handler.doRollover()
    wait_until(lambda: not doomed.exists(), "the file is removed")


def test_a_filter_may_replace_the_record_or_drop_it(live: Path, make: Make) -> None:
    handler = make(when="H")

    def shout(record: logging.LogRecord) -> Any:
        if record.getMessage() == "drop":
            return False
        return logging.makeLogRecord({"msg": record.getMessage().upper()}) if sys.version_info >= (3, 12) else True

    handler.addFilter(shout)
    assert not handler.handle(logging.makeLogRecord({"msg": "drop"}))
    assert handler.handle(logging.makeLogRecord({"msg": "keep"}))
    assert live.read_text() == ("KEEP\n" if sys.version_info >= (3, 12) else "keep\n")


def test_an_overridden_filter_is_asked(live: Path, make: Make) -> None:
    class Picky(WatchedHandler):
        def filter(self, record: logging.LogRecord) -> bool:
            return "drop" not in record.getMessage()

    handler = make(kind=Picky, when="H")
    log(handler, "drop")
    log(handler, "keep")
    assert live.read_text() == "keep\n"


# Retention


def test_backupCount_keeps_the_newest_and_touches_no_foreign_file(live: Path, make: Make) -> None:
    ours = [live.with_name(f"app.log.{suffix_of(time.time() - 3600 * age, 'H')}") for age in range(5, 0, -1)]
    foreign = [
        live.with_name(name)
        for name in (
            "app.log.access.log.2020-01-01_00",
            "app.log.2020-01-01_00.bak",
            "app.log.2020-13-01_00",
            "app.log.old",
            "app.log2020-01-01_00",
        )
    ]
    directory = live.with_name("app.log.2020-01-01_01")
    directory.mkdir()
    for path in [*ours, *foreign]:
        path.write_text(path.name)
    handler = make(when="H", backupCount=3)
    log(handler, "now")
    handler.doRollover()
    wait_until(lambda: not any(path.exists() for path in ours[:3]), "the oldest are removed")
    assert all(path.exists() for path in [*ours[3:], *foreign, directory])


def test_backupCount_0_keeps_everything(live: Path, make: Make) -> None:
    old = backup_of(live, 400)
    backup_of(live, 1)
    assert make(when="H").getFilesToDelete() == []
    assert make(when="H", backupCount=1).getFilesToDelete() == [str(old)]


def test_it_works_from_dictConfig(live: Path) -> None:
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"line": {"()": "rollsafe.LineFormatter", "fmt": "%(message)s"}},
            "handlers": {
                "file": {"class": "rollsafe.SafeTimedRotatingFileHandler", "formatter": "line", "filename": str(live)}
            },
            "loggers": {"rollsafe.test": {"handlers": ["file"], "level": "INFO", "propagate": False}},
        }
    )
    logger = logging.getLogger("rollsafe.test")
    logger.info("two\nlines")
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
        handler.close()
    assert live.read_text() == "two\\nlines\n"


class Atoms(dict[str, str]):
    """What gunicorn gives as the arguments of its access line."""


@pytest.mark.parametrize("trouble", ["full", "encoding"])
def test_what_is_reported_of_a_line_that_cannot_be_written_has_its_text_and_not_its_arguments(
    live: Path, make: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    class Handler(WatchedHandler):
        handleError = logging.Handler.handleError

    handler = make(kind=Handler, when="H", encoding="ascii", errors="strict")
    log(handler, "before")
    record = logging.LogRecord("gunicorn.access", logging.INFO, "", 0, "%(r)s", (Atoms(),), None)
    record.args = Atoms(r="GET /ü" if trouble == "encoding" else "GET /", authorization="Basic c2VjcmV0")
    if trouble == "full":
        with full_disk(handler):
            handler._file.expire_lease()
            handler.handle(record)
    else:
        handler.handle(record)
    told = capsys.readouterr().err
    assert "GET /" in told
    assert "c2VjcmV0" not in told
    assert record.args["authorization"] == "Basic c2VjcmV0"
