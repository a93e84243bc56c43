"""`rollsafe tail -f` and `cat` on logs that are written, rolled, archived and removed meanwhile: every line once."""

from __future__ import annotations

import gzip
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from rollsafe import SafeTimedRotatingFileHandler
from rollsafe.tools import follow, source
from rollsafe.tools.catalog import logs_at
from rollsafe.tools.follow import QUIET, Follower
from tests.support.crew import log_lines
from tests.support.load import MIXED_SIZES, Plan, run_load
from tests.support.logs import HOUR
from tests.support.oracle import LINE_FORMAT, Report, audit
from tests.support.servers import backups, server_environment, wait_until


def make_handler(live: Path, **keywords: Any) -> SafeTimedRotatingFileHandler:
    """The handler of a load: a rollover each second."""
    return SafeTimedRotatingFileHandler(live, **{"when": "S", "utc": True, **keywords})


@contextmanager
def tailing(live: Path, output: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """`rollsafe tail -f` of a log, from now on into the file `output`."""
    live.touch()
    command = [sys.executable, "-m", "rollsafe.cli", "tail", "-f", *options, str(live)]
    with output.open("wb") as file, subprocess.Popen(command, env=server_environment(), stdout=file) as process:
        try:
            # Once for what was there and once for what comes: then it follows.
            wait_until(lambda: _descriptors(process.pid, live) == 2, "tail follows")
            yield process
        finally:
            process.kill()


def _descriptors(pid: int, path: Path) -> int:
    """How often a process has a file open (proc(5))."""
    try:
        return sum(os.path.samefile(entry, path) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.exists())
    except OSError:
        return 0


@pytest.mark.parametrize("ending", ["pipe", "socket"])
def test_it_ends_when_nobody_reads_any_more_though_no_line_comes(ending: str, tmp_path: Path) -> None:
    live = tmp_path / "app.log"
    live.write_text("one\n")
    if ending == "pipe":
        ours, its = os.pipe()
    else:
        ours, its = (end.detach() for end in socket.socketpair())
    command = [sys.executable, "-m", "rollsafe.cli", "tail", "-f", str(live)]
    with subprocess.Popen(command, env=server_environment(), stdout=its, stderr=subprocess.PIPE) as process:
        os.close(its)
        assert os.read(ours, 100) == b"one\n"
        os.close(ours)
        _, complaints = process.communicate(timeout=120)
    assert (process.returncode, complaints) == (0, b"")


def judge(output: Path, handler: SafeTimedRotatingFileHandler, acknowledged: dict[str, int], kills: int = 0) -> Report:
    """What the oracle says of what tail has printed, when all has come or a minute has passed.

    `handler` is one of the log, and writes two lines more. `kills` is how many of its writers were killed.
    """
    total = sum(acknowledged.values())
    wait = time.monotonic() + 60
    while output.read_bytes().count(b"\n") < total and time.monotonic() < wait:
        time.sleep(0.1)
    # What is printed twice comes later still: with the next look at the names, without which the last line never comes.
    handler.setFormatter(logging.Formatter(LINE_FORMAT))
    log_lines(handler, "after", range(1))
    handler.doRollover()
    log_lines(handler, "after", range(1, 2))
    handler.close()
    wait_until(lambda: b" after 1 " in output.read_bytes(), "the line after one more rollover")
    return audit(output, {**acknowledged, "after": 2}, lambda created: "all", kills=kills)


PLANS = {
    "rollover each second": Plan(seconds=5, rate=1000),
    "long lines, kills and stops": Plan(seconds=5, rate=300, sizes=MIXED_SIZES, kills_per_second=2, stops_per_second=2),
}


BACKUPS: dict[str, dict[str, Any]] = {
    "plain": {},
    "compressed": {"compress": "gz"},
    "parts by size": {"compress": "gz", "maxBytes": 200_000},
    "compressed elsewhere": {"compress": "gz", "archive_dir": "old"},
}


@pytest.mark.parametrize(
    ("plan", "made"),
    [
        ("rollover each second", "compressed"),
        pytest.param("long lines, kills and stops", "compressed elsewhere", marks=pytest.mark.slow),
        ("rollover each second", "parts by size"),
        pytest.param("rollover each second", "plain", marks=pytest.mark.slow),
        pytest.param("long lines, kills and stops", "plain", marks=pytest.mark.slow),
        pytest.param("long lines, kills and stops", "compressed", marks=pytest.mark.slow),
    ],
)
def test_tail_prints_every_line_of_a_load_once(plan: str, made: str, tmp_path: Path) -> None:
    keywords = dict(BACKUPS[made])
    place = tmp_path / keywords.get("archive_dir", "logs")
    if "archive_dir" in keywords:
        keywords["archive_dir"] = place
    live = tmp_path / "logs" / "app.log"
    live.parent.mkdir()
    output = tmp_path / "printed" / "lines"
    output.parent.mkdir()
    with tailing(live, output):
        load = run_load(partial(make_handler, live, **keywords), live, PLANS[plan])
        if "compress" in keywords:
            # On a busy machine the load may be over before anything was compressed.
            finisher = SafeTimedRotatingFileHandler(live, when="S", utc=True, delay=True, **keywords)
            finisher._live.maintenance.wake()
            wait_until(lambda: any(path.suffix == ".gz" for path in backups(place / live.name)), "an archive")
            finisher.close()
        report = judge(output, make_handler(live, **keywords), load.acknowledged, load.kills)
    assert len(backups(place / live.name)) >= 4
    assert report.flawless, str(report)


def test_tail_that_was_stopped_for_seconds_misses_nothing(tmp_path: Path) -> None:
    live = tmp_path / "logs" / "app.log"
    live.parent.mkdir()
    output = tmp_path / "printed" / "lines"
    output.parent.mkdir()
    with tailing(live, output) as process:
        process.send_signal(signal.SIGSTOP)
        load = run_load(partial(make_handler, live), live, Plan(seconds=3, rate=300))
        # All the backups but the first become archives while nobody looks.
        for backup in backups(live)[1:]:
            archive(backup)
        process.send_signal(signal.SIGCONT)
        report = judge(output, make_handler(live), load.acknowledged)
    assert report.flawless, str(report)


def archive(backup: Path) -> None:
    """What an archiver does: the archive is there whole before its source goes."""
    draft = backup.with_name(f"{backup.name}.gz.tmp")
    draft.write_bytes(gzip.compress(backup.read_bytes()))
    draft.rename(backup.with_name(f"{backup.name}.gz"))
    backup.unlink()


class Tail:
    """A log with one handler, and a follower of it in this process."""

    def __init__(self, directory: Path) -> None:
        self.live = directory / "app.log"
        self.now = time.time()
        self.handler = SafeTimedRotatingFileHandler(self.live, when="H", utc=True)
        self.log("old", -2 * HOUR)
        self.log("before", 0)
        self.complaints: list[str] = []
        (log,) = logs_at([self.live])
        self.follower = Follower(log, self.complaints.append)

    def log(self, message: str, seconds: float = 0) -> None:
        """A line of `seconds` from now."""
        self.handler.handle(logging.makeLogRecord({"msg": message, "created": self.now + seconds}))

    def roll(self) -> Path:
        """Make a backup now; returns it."""
        before = set(backups(self.live))
        self.handler.doRollover()
        (new,) = set(backups(self.live)) - before
        return new

    def polled(self) -> list[str]:
        """The lines that have come."""
        return [line.decode().rstrip("\n") for line in self.follower.poll()]

    def polled_within(self, seconds: float = 20.0) -> list[str]:
        """The lines that have come, when some have."""
        lines: list[str] = []

        def come() -> bool:
            lines.extend(self.polled())
            return bool(lines)

        wait_until(come, "lines come", seconds)
        return lines


@pytest.fixture
def tail(tmp_path: Path) -> Iterator[Tail]:
    """A followed log."""
    tail = Tail(tmp_path)
    assert tail.polled() == []
    yield tail
    tail.follower.close()
    tail.handler.close()


def test_new_lines_come_and_old_ones_do_not(tail: Tail) -> None:
    tail.log("one")
    tail.log("two")
    assert tail.polled() == ["one", "two"]
    assert tail.polled() == []


def test_a_line_that_comes_hours_late_is_told(tail: Tail) -> None:
    tail.log("late", -2 * HOUR)
    assert tail.polled_within() == ["late"]


def test_the_rest_of_a_rolled_file_comes_before_the_new_one(tail: Tail) -> None:
    tail.log("in the old file")
    tail.roll()
    tail.log("in the new file")
    assert tail.polled() == ["in the old file", "in the new file"]


def test_a_rolled_file_that_became_an_archive_unseen_is_told_once(tail: Tail) -> None:
    tail.log("told")
    assert tail.polled() == ["told"]
    tail.log("in the archive only")
    archive(tail.roll())
    tail.log("live")
    assert sorted(tail.polled()) == ["in the archive only", "live"]
    assert tail.polled() == []


def test_archives_of_what_was_told_are_not_told_again(tail: Tail) -> None:
    old = min(backups(tail.live))
    tail.log("one")
    new = tail.roll()
    assert tail.polled() == ["one"]
    for backup in (old, new):
        archive(backup)
    assert tail.polled() + tail.polled() == []


def test_an_archive_that_is_made_behind_the_reader_of_the_directory_is_told_once(
    tail: Tail, monkeypatch: pytest.MonkeyPatch
) -> None:
    tail.roll()
    tail.log("told")
    tail.polled()
    new = tail.roll()
    tail.log("live")
    assert tail.polled() == ["live"]
    real = follow._entries

    def entries(folders: Iterable[str]) -> list[os.DirEntry[str]]:
        # Names that were read before the archive was there, and the source's not, because it is gone by its turn.
        monkeypatch.setattr(follow, "_entries", real)
        found = real(folders)
        archive(new)
        return [entry for entry in found if entry.name != new.name]

    monkeypatch.setattr(follow, "_entries", entries)
    (tail.live.parent / "something else").touch()
    assert tail.polled() + tail.polled() == []
    assert not new.exists(), "it was to become an archive while the directory was read"


def test_what_the_archiver_saw_counts_and_not_what_was_written_after_it(tail: Tail) -> None:
    backup = tail.roll()
    tail.polled()
    with backup.open("ab", buffering=0) as late_writer:
        late_writer.write(b"seen by the archiver\n")
        archive(backup)
        # Its writer sees that the file is gone, and writes the line again.
        late_writer.write(b"again elsewhere\n")
        tail.log("again elsewhere")
        assert sorted([*tail.polled(), *tail.polled()]) == ["again elsewhere", "seen by the archiver"]


def test_a_fragment_of_a_line_is_told_when_it_is_whole(tail: Tail) -> None:
    with tail.live.open("ab", buffering=0) as writer:
        writer.write(b"first half, ")
        assert tail.polled() == []
        writer.write(b"second half\n")
        assert tail.polled() == ["first half, second half"]


def test_a_fragment_that_is_blanked_is_not_told(tail: Tail) -> None:
    with tail.live.open("r+b", buffering=0) as writer:
        end = writer.seek(0, os.SEEK_END)
        writer.write(b"of a dead writer")
        assert tail.polled() == []
        writer.seek(end)
        writer.write(b"               \nwhole\n")
    assert [line.strip() for line in tail.polled()] == ["", "whole"]


def test_a_rotator_that_compresses_or_copies_doubles_nothing(tail: Tail) -> None:
    rolled = []
    for number in (1, 2):
        tail.log(f"line {number}")
        backup = tail.roll()
        rolled.append(backup.rename(f"{backup}.rolled"))
        assert tail.polled() == [f"line {number}"]
    backup = rolled[0].with_name(rolled[0].name.removesuffix(".rolled"))
    backup.with_name(f"{backup.name}.gz").write_bytes(gzip.compress(rolled[0].read_bytes()))
    rolled[0].unlink()
    assert tail.polled() == []
    shutil.copyfile(rolled[1], str(rolled[1]).removesuffix(".rolled"))
    assert tail.polled() == []
    rolled[1].unlink()
    assert tail.polled() + tail.polled() == []


def test_a_file_that_is_truncated_is_read_from_its_start_and_that_is_said(tail: Tail) -> None:
    tail.log("a line that is longer than what comes")
    tail.polled()
    os.truncate(tail.live, 0)
    tail.log("new")
    assert tail.polled() == ["new"]
    assert "was truncated" in tail.complaints[0]


def test_a_file_that_is_moved_away_is_read_on(tail: Tail, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    tail.live.rename(tmp_path / "elsewhere" / "app.log")
    tail.log("still in the moved file")
    assert tail.polled() == ["still in the moved file"]


def test_a_quiet_backup_is_closed_and_still_looked_at(tail: Tail) -> None:
    tail.log("one")
    backup = tail.roll()
    tail.polled()
    (source,) = [source for source in tail.follower._sources.values() if source.path == str(backup)]
    source.grew_at -= QUIET + 1
    tail.polled()
    assert source.stream is None
    with backup.open("ab") as writer:
        writer.write(b"late\n")
    assert tail.polled_within() == ["late"]


def test_an_inode_that_another_file_gets_is_another_file(tail: Tail) -> None:
    old = min(backups(tail.live))
    (source,) = [source for source in tail.follower._sources.values() if source.path == str(old)]
    # As if the old backup had been removed, and the new part had been given its inode.
    part = old.rename(f"{old}.1")
    assert source.stream is None
    assert tail.polled() == ["old"]
    assert part.exists()


def test_an_archive_is_not_told_again_if_another_file_gets_the_inode_of_its_source(tail: Tail) -> None:
    old = min(backups(tail.live))
    archived = gzip.compress(old.read_bytes())
    # As if the backup had been archived and removed, and the next part had been given its inode.
    old.rename(f"{old}.1")
    old.with_name(f"{old.name}.gz").write_bytes(archived)
    assert tail.polled() == ["old"], "the part, whose lines are its own"
    assert tail.polled() == []


def test_settings_that_come_later_make_no_old_file_new(tmp_path: Path) -> None:
    live = tmp_path / "app.log"
    live.write_text("before\n")
    (tmp_path / "app.log.2027-01-15").write_text("old\n")
    (tmp_path / "app.log.2027-01-15_11").write_text("old, of other settings\n")
    (log,) = logs_at([live])
    follower = Follower(log, lambda sentence: None)
    assert list(follower.poll()) == []
    handler = SafeTimedRotatingFileHandler(live, when="H", utc=True)
    handler.handle(logging.makeLogRecord({"msg": "new"}))
    handler.doRollover()
    handler.handle(logging.makeLogRecord({"msg": "newer"}))
    handler.handle(logging.makeLogRecord({"msg": "late", "created": time.time() - HOUR}))
    handler.close()
    try:
        assert sorted(follower.poll()) == [b"late\n", b"new\n", b"newer\n"]
    finally:
        follower.close()


def test_retention_is_no_news(tail: Tail) -> None:
    min(backups(tail.live)).unlink()
    assert tail.polled() + tail.polled() == []
    tail.log("live")
    assert tail.polled() == ["live"]
    assert tail.complaints == []


def test_a_long_line_that_grows_is_read_once_and_told_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live = tmp_path / "app.log"
    live.write_bytes(b"before\n")
    follower = Follower(logs_at([live])[0], print)
    monkeypatch.setattr(source, "_CHUNK", 4096)
    monkeypatch.setattr(source, "_AT_ONCE", 16384)
    real = os.pread
    read: list[int] = []

    def counting(descriptor: int, size: int, position: int) -> bytes:
        block = real(descriptor, size, position)
        read.append(len(block))
        return block

    monkeypatch.setattr(os, "pread", counting)
    told: list[bytes] = []
    with live.open("ab", buffering=0) as file:
        for _ in range(50):
            file.write(b"x" * 5000)
            told += follower.poll()
        assert told == []
        # Each byte at one look and no more, but for the first bytes that are looked at once again.
        assert sum(read) < 2 * 50 * 5000
        file.write(b"end\nafter\n")
        told += follower.poll()
    assert told == [b"x" * 250_000 + b"end\n", b"after\n"]
    follower.close()


def test_a_file_that_is_truncated_inside_a_long_line_is_read_again(tmp_path: Path) -> None:
    live = tmp_path / "app.log"
    live.write_bytes(b"")
    follower = Follower(logs_at([live])[0], print)
    live.write_bytes(b"x" * 5000)
    assert list(follower.poll()) == []
    live.write_bytes(b"one\ntwo\n")
    assert list(follower.poll()) == [b"one\n", b"two\n"]
    follower.close()
