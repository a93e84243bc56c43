"""A log of several hosts: what is open for writing, when, and how; what a line does that meets a busy lock.

On a local file system, where the flags of a descriptor and the calls can be seen; `lock_writes` asks for it.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.speed import STRACE
from rollsafe import FileLock, SafeTimedRotatingFileHandler
from rollsafe._backups.archives import archive
from rollsafe._backups.codecs import codec_for
from rollsafe._backups.file_names import fingerprint_of
from rollsafe._backups.ledger import Changed, Ledger
from rollsafe._files.places import Place
from rollsafe._live import events, shared
from rollsafe._live.bounded_lock import LOCK_WAIT_S
from rollsafe._live.pending import LINES_PER_WRITE
from rollsafe._live.writer import TURN_S
from rollsafe.errors import LogFileError
from tests.support.clock import StandingClock
from tests.support.crew import WatchedHandler, lock_path
from tests.support.logs import HOUR, Make, log, set_monotonic, suffix_of
from tests.support.needs import needs_command
from tests.support.scene import INTRUDER, as_user

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only /proc shows the flags of a descriptor")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


@pytest.fixture
def usual() -> dict[str, Any]:
    """Hours in UTC, as several hosts write them."""
    return {"when": "H", "utc": True, "lock_writes": True}


@pytest.fixture
def clock(standing_clock: StandingClock) -> StandingClock:
    """A wall clock in the middle of an hour."""
    standing_clock.go_on(HOUR / 2 - time.time() % HOUR)
    return standing_clock


def flags_of(descriptor: int) -> int:
    """The flags of an open file (proc(5))."""
    text = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
    return int(re.findall(r"^flags:\s+([0-7]+)$", text, re.MULTILINE)[0], 8)


def writable(live: Path) -> list[str]:
    """The log files that this process has open for writing, without the lock file."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            path, flags = os.readlink(f"/proc/self/fd/{number}"), flags_of(int(number))
        except FileNotFoundError:
            continue
        if path.startswith(str(live)) and flags & os.O_ACCMODE != os.O_RDONLY:
            found.append(path)
    return found


class Header(WatchedHandler):
    """Writes a header to each file that it opens."""

    def _open(self) -> Any:
        stream: Any = super()._open()
        stream.write("header\n")
        return stream


class OwnStream(WatchedHandler):
    """Opens the file itself, for writing."""

    def _open(self) -> Any:
        return open(self.baseFilename, "a", encoding="utf-8")


@on_linux
@pytest.mark.parametrize("kind", [WatchedHandler, Header, OwnStream])
def test_between_lines_no_file_is_open_for_writing(
    live: Path, make: Make, clock: StandingClock, kind: type[WatchedHandler]
) -> None:
    handler = make(kind=kind)
    assert writable(live) == []
    before = log(handler, "first")
    assert writable(live) == []
    clock.go_on(HOUR)
    log(handler, "second")
    log(handler, "late", before)
    log(handler, "of a backup that there is not", before - 5 * HOUR)
    assert writable(live) == []
    handler.close()
    log(handler, "third")
    assert writable(live) == []
    assert handler.stream.fileno() >= 0
    text = "".join(path.read_text() for path in live.parent.glob("app.log*"))
    assert [text.count(line) for line in ("first", "second", "late", "backup", "third")] == [1] * 5
    assert handler.reported == []


@on_linux
def test_what_is_appended_is_stored_before_the_lock_is_released(
    live: Path, make: Make, clock: StandingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = make()
    seen: list[tuple[str, bool, bool]] = []
    writing_on = shared._writing_on

    def watched(write: Callable[[bytes], int | None]) -> Callable[[bytes], int]:
        def look(text: bytes) -> int | None:
            descriptor = write.__self__.fileno()  # type: ignore[attr-defined]  # a method of a stream
            asked = os.O_DSYNC | os.O_APPEND
            path = os.readlink(f"/proc/self/fd/{descriptor}")
            seen.append((path, flags_of(descriptor) & asked == asked, handler._live.rollover.lock.locked))
            return write(text)

        return writing_on(look)

    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(os.readlink(f"/proc/self/fd/{number}")))
    monkeypatch.setattr(shared, "_writing_on", watched)
    first = log(handler, "first")
    clock.go_on(HOUR)
    log(handler, "second")
    log(handler, "late", first)
    backup = str(live.with_name(f"app.log.{suffix_of(first, 'H')}"))
    assert seen == [(str(live), True, True)] * 2 + [(backup, True, True)]
    assert synced == [str(live), str(live), backup]


PROGRAM = """
import logging, os, sys, time
from rollsafe import SafeTimedRotatingFileHandler
handler = SafeTimedRotatingFileHandler(sys.argv[1], "H", utc=True, lock_writes=True, permissions=0o600)
now = time.time() // 3600 * 3600 - 3600
def log(created):
    handler.handle(logging.makeLogRecord({"msg": "a line", "created": created}))
log(now - 7200)
log(now)
log(now)
log(now - 3600)
log(now - 90000)
handler.flush()
handler.close()
class AtTheEnd:
    def __del__(self):
        log(now)
sys.modules["kept"] = AtTheEnd()
"""
OPENED = re.compile(r'openat\([^"]*"([^"]*)", ([A-Z_|]+)[^)]*\) += (-?\d+)')


@needs_command(STRACE[0], package="strace")
def test_no_call_opens_a_log_file_for_writing_without_the_lock_or_without_having_it_stored(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    command = [STRACE[0], "-f", "-o", str(calls), "-e", "trace=openat,fcntl", sys.executable, "-c", PROGRAM]
    (tmp_path / "logs").mkdir()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([*command, str(tmp_path / "logs" / "app.log")], env=environment, check=True, timeout=120)
    locked, appended = False, 0
    for call in calls.read_text().splitlines():
        if "F_SETLK" in call:
            locked = "F_WRLCK" in call
        opened = OPENED.search(call)
        if opened and os.path.basename(opened[1]).startswith("app.log"):
            path, flags = opened[1], opened[2].split("|")
            if "O_RDWR" in flags or "O_WRONLY" in flags:
                assert locked, call
                assert "O_DSYNC" in flags, call
                appended += int(opened[3]) >= 0
            elif "O_APPEND" in flags and "O_EXCL" not in flags:
                assert path, call
    assert appended >= 5


def test_a_line_of_a_new_interval_waits_for_a_busy_lock_and_does_not_go_into_the_old_file(
    live: Path, make: Make, clock: StandingClock
) -> None:
    handler = make()
    first = log(handler, "first")
    clock.go_on(HOUR)
    lock = handler._live.rollover.lock
    take = lock.take

    def take_in_vain(*_: object, **__: object) -> bool:
        # The lock is busy in the rollover, and free again when the line would be written.
        lock.take = take  # type: ignore[method-assign]
        lock.lock_timeout = 0.0
        return False

    lock.take = take_in_vain  # type: ignore[method-assign]
    log(handler, "second")
    assert live.read_text() == "first\n"
    assert [entry[0] for entry in handler._writer.pending.lines] == [b"second\n"]
    (report,) = handler.take_reports()
    assert "could not be locked" in report
    handler.flush()
    assert live.read_text() == "second\n"
    assert live.with_name(f"app.log.{suffix_of(first, 'H')}").read_text() == "first\n"
    assert handler.reported == []


def show_later_file(idle: WatchedHandler, busy: WatchedHandler) -> None:
    """Show the idle handler the live file by path and descriptor, with the number of the inode that it knows."""
    os.utime(busy.baseFilename, (time.time(), time.time()))  # the clock of the test is ahead of the files'
    later = os.open(busy.baseFilename, os.O_RDONLY)
    os.dup2(later, idle.stream.fileno())
    os.close(later)
    idle._file.identity = busy._file.identity


@pytest.mark.parametrize("way", ["a line", "a look", "settings"])
def test_a_live_file_with_the_inode_number_of_an_older_one_is_not_taken_for_that(
    live: Path, make: Make, clock: StandingClock, way: str
) -> None:
    """As NFS 3 shows it to a host that has been idle: path and descriptor have the number that it knows."""
    idle, busy = make(), make()
    first = log(idle, "first")
    clock.go_on(HOUR)
    log(busy, "second")
    show_later_file(idle, busy)
    old = live.with_name(f"app.log.{suffix_of(first, 'H')}")
    if way == "a line":
        log(idle, "third")
    elif way == "a look":
        idle._look(rolls=True)
    else:
        idle.backupCount = 77
        idle._live.rollover.note_settings(idle._file)
    assert old.read_text() == "first\n"
    assert live.read_text() == "second\n" + ("third\n" if way == "a line" else "")
    assert [path.name for path in live.parent.glob("app.log.*")] == [old.name]
    note = busy._live.rollover._note.read()
    assert note is not None
    assert note.start == busy._file.start
    assert idle.reported == []


def test_a_line_of_the_old_interval_does_not_go_into_a_later_file_with_its_inode_number(
    live: Path, make: Make, clock: StandingClock
) -> None:
    idle, busy = make(), make()
    first = log(idle, "first")
    clock.go_on(HOUR)
    log(busy, "second")
    show_later_file(idle, busy)
    log(idle, "late", first)
    assert live.read_text() == "second\n"
    assert live.with_name(f"app.log.{suffix_of(first, 'H')}").read_text() == "first\nlate\n"


@pytest.mark.parametrize("stored", [0, 3, 11, 14, 22])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_after_a_refused_write_the_file_tells_which_lines_are_there(
    live: Path, make: Make, monkeypatch: pytest.MonkeyPatch, stored: int, error: int
) -> None:
    """An NFS client may report an error although the server has some of the bytes, or all."""
    handler = make()
    log(handler, "first")
    for line in (b"second....\n", b"third.....\n"):
        handler._writer.pending.add(line, handler._file.start)

    def refuse(stream: Any) -> Callable[[bytes], int]:
        def write(text: bytes) -> int:
            with live.open("ab") as server:
                server.write(text[:stored])
            raise OSError(error, os.strerror(error))

        return write

    monkeypatch.setattr(shared, "write_of", refuse)
    handler.flush()
    monkeypatch.undo()
    assert len(handler._writer.pending.lines) == 2 - stored // 11
    handler.flush()
    lines = live.read_text().splitlines()
    assert [lines.count(line) for line in ("first", "second....", "third.....")] == [1, 1, 1]
    assert len(handler.take_reports()) == 1


def test_waiting_lines_are_one_write_and_each_is_counted(
    live: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: dict[str, int] = {}
    calls: list[bytes] = []
    monkeypatch.setattr(events, "_listeners", [])
    events.listen(lambda event, path, count: counted.update({event: counted.get(event, 0) + count}))

    def note_calls(stream: Any) -> Callable[[bytes], int]:
        def write(text: bytes) -> int:
            calls.append(text)
            return int(stream.write(text))

        return write

    handler = make()
    monkeypatch.setattr(shared, "write_of", note_calls)
    for number in range(LINES_PER_WRITE + 5):
        handler._writer.pending.add(b"%05d\n" % number, handler._file.start)
    handler.flush()
    assert [len(call) // 6 for call in calls] == [LINES_PER_WRITE, 5]
    assert live.read_bytes() == b"".join(calls)
    assert (counted["lines"], counted["bytes"]) == (LINES_PER_WRITE + 5, 6 * (LINES_PER_WRITE + 5))


def test_a_short_write_is_continued_under_the_lock(live: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = make()
    monkeypatch.setattr(shared, "write_of", lambda stream: lambda text: stream.write(text[:7]))
    log(handler, "a line that takes several writes")
    assert live.read_text() == "a line that takes several writes\n"
    assert handler.reported == []


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system has no posix_fadvise(2)")
def test_an_old_page_in_the_cache_of_the_client_is_no_fragment(
    live: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = make()
    log(handler, "first")
    advice: list[tuple[int, ...]] = []
    pread = os.pread

    def read_old_page(descriptor: int, length: int, offset: int) -> bytes:
        is_page = length == 1 and os.readlink(f"/dev/fd/{descriptor}") == str(live)
        return b"\0" if is_page and not advice else pread(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", read_old_page)
    monkeypatch.setattr(os, "posix_fadvise", lambda *arguments: advice.append(arguments))
    log(handler, "second")
    assert live.read_text() == "first\nsecond\n"
    assert [each[1:] for each in advice] == [(0, 0, os.POSIX_FADV_DONTNEED)]


def test_a_handler_that_is_closed_waits_once_more_for_the_lock(
    live: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = make()
    log(handler, "first")
    lock = handler._live.rollover.lock
    take = lock.take
    bounds: list[float] = []

    def take_late(*arguments: Any, **keywords: Any) -> bool:
        bounds.append(lock.lock_timeout)
        if len(bounds) < 3:
            lock.lock_timeout = 0.0
            return False
        return take(*arguments, **keywords)

    monkeypatch.setattr(lock, "take", take_late)
    monkeypatch.setattr(lock, "retry", lambda: None)
    log(handler, "second")
    handler.close()
    assert bounds == [LOCK_WAIT_S, 0.0, LOCK_WAIT_S]
    assert live.read_text() == "first\nsecond\n"
    assert len(handler.take_reports()) == 1


@pytest.mark.parametrize("step", ["open_to_append", "open_stream"])
def test_a_file_handle_that_the_server_has_forgotten_is_left_for_a_new_one(
    live: Path, make: Make, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    handler = make()
    log(handler, "first")
    usual = getattr(handler._live.rollover.live, step)
    calls: list[int] = []

    def stale_once() -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return usual()

    monkeypatch.setattr(handler._live.rollover.live, step, stale_once)
    log(handler, "second")
    handler.flush()
    assert live.read_text() == "first\nsecond\n"
    assert len(handler.take_reports()) <= 1


def test_the_archiver_asks_the_server_under_the_lock_for_a_late_line_of_another_host(
    live: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = live.with_name("app.log.2026-01-01_00")
    source.write_bytes(b"a line\n")
    lock = FileLock(lock_path(live))
    codec = codec_for("gz", None)
    assert codec is not None
    opened: list[bool] = []
    usual = Place.open

    def late(self: Place, flags: int, *arguments: Any) -> int:
        if self.path == str(source):
            opened.append(lock.locked)
            if lock.locked:
                source.write_bytes(b"a line\nof another host\n")
        return usual(self, flags, *arguments)

    monkeypatch.setattr(Place, "open", late)
    with pytest.raises(Changed):
        archive(str(source), f"{source}.gz", fingerprint_of(source.stat()), codec, Ledger(lock, shared=True))
    lock.close()
    assert opened == [False, True]
    assert source.read_bytes().endswith(b"of another host\n")
    assert not Path(f"{source}.gz").exists()


@pytest.fixture
def of_user() -> Iterator[Path]:
    """A live file of the second user, in a directory that others may enter; pytest's own is closed to them."""
    top = Path(tempfile.mkdtemp(prefix="rollsafe-"))
    live = top / "app.log"
    live.touch()
    for path in (top, live):
        path.chmod(0o755)
        os.chown(path, INTRUDER, INTRUDER)
    yield live
    shutil.rmtree(top)


@as_root
def test_a_file_that_may_be_written_and_not_read_is_written(of_user: Path) -> None:
    def work() -> None:
        of_user.chmod(0o200)
        handler = WatchedHandler(of_user, when="D", utc=True, lock_writes=True)
        log(handler, "first")
        log(handler, "second")
        handler.close()
        assert not handler.reported, handler.reported

    as_user(work)
    assert of_user.read_text() == "first\nsecond\n"


@as_root
def test_a_file_that_may_not_be_written_is_refused_when_the_handler_is_made(of_user: Path) -> None:
    def work() -> None:
        of_user.chmod(0o444)
        with pytest.raises(LogFileError, match="cannot be written by user"):
            SafeTimedRotatingFileHandler(of_user, lock_writes=True)

    as_user(work)


@as_root
def test_a_file_that_is_held_for_reading_can_be_given_away(live: Path, make: Make) -> None:
    handler = make(permissions=0o640)
    log(handler, "first")
    handler.hand_over(65534, 65534)
    status = live.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (65534, 65534, 0o640)
    log(handler, "second")
    assert live.read_text() == "first\nsecond\n"


@pytest.mark.parametrize("lock_writes", [True, False])
def test_the_server_is_asked_for_the_names_of_backups_before_they_are_looked_up(
    make: Make, live: Path, monkeypatch: pytest.MonkeyPatch, lock_writes: bool
) -> None:
    handler = make(lock_writes=lock_writes)
    log(handler, "first")
    asked: list[str] = []
    usual_open, usual_look = os.open, os.path.lexists

    def open_(path: Any, flags: int, *arguments: Any, **named: Any) -> int:
        asked.append(str(path))
        return usual_open(path, flags, *arguments, **named)

    def look(path: Any) -> bool:
        asked.append("a name")
        return usual_look(path)

    assert handler._file.interval
    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(os.path, "lexists", look)
    handler._live.rollover._numbers.free(handler._file.interval)
    assert asked[0] == (str(live.parent) if lock_writes else "a name")


def test_a_process_with_many_lines_gives_way_to_others_that_wait_for_the_lock(
    make: Make, live: Path, clock: StandingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = make()
    created = log(handler, "first")
    ticks = itertools.count(time.monotonic(), TURN_S)
    set_monotonic(monkeypatch, lambda: next(ticks))
    turns = 0
    usual_run = handler._live.run

    def run(write: Callable[[], None]) -> None:
        nonlocal turns
        turns += 1
        usual_run(write)

    monkeypatch.setattr(handler._live, "run", run)
    for number in range(6):
        # By turns of this hour and of the last one, so that no two go by one write(2).
        assert handler._writer.pending.add(b"%d\n" % number, created - number % 2 * HOUR)
    handler.flush()
    assert turns == 6
    assert live.read_text() == "first\n0\n2\n4\n"
