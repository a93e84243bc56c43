"""verify: nothing is found in what a real handler wrote, and each kind of damage done to it by hand is found."""

from __future__ import annotations

import gzip
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rollsafe import LineFormatter, SafeTimedRotatingFileHandler
from rollsafe.errors import LogFileError
from rollsafe.tools import scan
from rollsafe.tools.catalog import logs_at
from rollsafe.tools.verify import KINDS, Report, verify
from tests.support import commands
from tests.support.crew import Crew
from tests.support.servers import wait_until

ROOT = Path(__file__).parents[2]
HOUR = 3600
STAMPED = "%(asctime)s %(message)s %(stamp)s"
FORMATS = {
    "asctime, stamp last": STAMPED,
    "stamp first": "%(stamp)s %(asctime)s %(message)s",
    "access": '127.0.0.1 - - [%(clf)s] "%(message)s" %(stamp)s',
    "epoch": "%(created).3f %(message)s %(stamp)s",
    "brackets and offset": "[%(asctime)s +0000] %(message)s %(stamp)s",
    "json": '{"message": "%(message)s", "time": "%(asctime)s", "stamp": "%(stamp)s"}',
}
PER_FILE = 50
CHUNK = 4096


def handler_for(live: Path, fmt: str = STAMPED, **keywords: Any) -> SafeTimedRotatingFileHandler:
    """A handler with hours in UTC."""
    handler = SafeTimedRotatingFileHandler(live, **{"when": "H", "utc": True, "encoding": "utf-8", **keywords})
    formatter = LineFormatter(fmt)
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    return handler


def log_hours(handler: logging.Handler, hours: range, per_hour: int = PER_FILE) -> None:
    """Log lines of the hours, counted from now."""
    now = time.time()
    for hour in hours:
        for number in range(per_hour):
            created = now + hour * HOUR
            clf = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(created))
            # With the moment of logging for their milliseconds, the times of a file would run back once a second.
            msecs = max(1.0, created % 1 * 1000 // 1)
            record = {"msg": f"hour {hour} line {number}", "created": created, "msecs": msecs, "clf": clf}
            handler.handle(logging.makeLogRecord(record))


def found(directory: Path) -> Report:
    """What verify says of a directory."""
    return verify(logs_at([directory]))


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A log of three hours by one process that began before them, without a fault."""
    handler = handler_for(tmp_path / "app.log")
    with monkeypatch.context() as patch:
        patch.setattr("rollsafe._lines.stamps.time.time_ns", lambda: int((time.time() - 3 * HOUR) * 1e9))
        log_hours(handler, range(-2, -1))
    log_hours(handler, range(-1, 1))
    handler.close()
    return tmp_path


def backups(directory: Path) -> list[Path]:
    """The backups, oldest first."""
    return sorted(directory.glob("app.log.*"))


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS)
def test_what_a_handler_wrote_is_clean_wherever_time_and_stamp_stand(fmt: str, tmp_path: Path) -> None:
    handler = handler_for(tmp_path / "app.log", fmt)
    log_hours(handler, range(-2, 1))
    handler.close()
    report = found(tmp_path)
    assert (report.found, report.notes) == ({}, [])
    assert (report.lines, report.stamped) == (3 * PER_FILE, 3 * PER_FILE)
    (stream,) = report.streams
    assert (stream.first, stream.last, stream.lines, stream.began_before) == (1, 150, 150, False)


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS)
def test_a_line_that_is_taken_out_is_a_gap_wherever_time_and_stamp_stand(fmt: str, tmp_path: Path) -> None:
    handler = handler_for(tmp_path / "app.log", fmt)
    log_hours(handler, range(-2, 1))
    handler.close()
    edit(backups(tmp_path)[1], lambda lines: lines[:20] + lines[23:])
    report = found(tmp_path)
    assert report.found == {"gap": 3}
    (gap,) = report.findings
    assert (gap.path, gap.count) == (str(backups(tmp_path)[1]), 3)
    assert gap.since is not None
    assert gap.until is not None
    assert "numbers 71 to 73" in gap.text


@pytest.mark.parametrize("fmt", [STAMPED, FORMATS["stamp first"]], ids=["last", "first"])
def test_lines_with_tracebacks_are_clean_among_others(fmt: str, tmp_path: Path) -> None:
    handler = handler_for(tmp_path / "app.log", fmt)
    log_hours(handler, range(0, 1))
    log_failure(handler)
    log_hours(handler, range(0, 1))
    handler.close()
    report = found(tmp_path)
    assert (report.found, report.stamped) == ({}, 2 * PER_FILE + 1)


def test_a_fragment_of_a_line_with_a_traceback_is_torn(tmp_path: Path) -> None:
    handler = handler_for(tmp_path / "app.log")
    log_hours(handler, range(0, 1))
    log_failure(handler)
    log_hours(handler, range(0, 1))
    handler.close()
    edit(tmp_path / "app.log", lambda lines: [*lines[:PER_FILE], lines[PER_FILE][:-20] + b"\n", *lines[PER_FILE + 1 :]])
    assert found(tmp_path).found == {"torn": 1, "gap": 1}


def log_failure(handler: logging.Handler) -> None:
    """Log one line with traceback and stack."""
    try:
        raise ValueError("what a user has sent, with a ~1lge482k0v9q.1742~ in it")
    except ValueError:
        exc_info = sys.exc_info()
    record = {"msg": "failed", "exc_info": exc_info, "stack_info": "Stack (most recent call last):\n  here"}
    handler.handle(logging.makeLogRecord(record))


def edit(path: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    """Change the lines of a file."""
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))


def cut(lines: list[bytes]) -> list[bytes]:
    """The fragment of a line between two lines."""
    return [*lines[:10], lines[10][:30] + b"\n", *lines[11:]]


DAMAGES: dict[str, tuple[Callable[[list[bytes]], list[bytes]], dict[str, int]]] = {
    "a line doubled": (lambda lines: [*lines, lines[7]], {"doubled": 1}),
    "all lines doubled": (lambda lines: lines * 2, {"doubled": PER_FILE}),
    "a line cut short": (cut, {"torn": 1, "gap": 1}),
    "two fragments glued": (lambda ls: [*ls[:10], ls[10][:30] + ls[11], *ls[12:]], {"gap": 1}),
    "a stranger's line": (lambda lines: [*lines[:5], b"hello\n", *lines[5:]], {"foreign": 1}),
    "zero bytes": (lambda lines: [*lines[:5], b"\0" * 100 + b"\n", *lines[6:]], {"torn": 1, "gap": 1}),
    "the last newline cut off": (lambda lines: [*lines[:-1], lines[-1][:-1]], {"torn": 1, "gap": 1}),
    "the last line gone": (lambda lines: lines[:-1], {"gap": 1}),
    "the first line gone": (lambda lines: lines[1:], {"gap": 1}),
}


@pytest.mark.parametrize(("damage", "kinds"), DAMAGES.values(), ids=DAMAGES)
def test_damage_is_found_and_told_by_its_kind(
    damage: Callable[[list[bytes]], list[bytes]], kinds: dict[str, int], directory: Path
) -> None:
    edit(backups(directory)[1], damage)
    report = found(directory)
    assert report.found == kinds
    assert {finding.kind for finding in report.findings} == set(kinds) <= set(KINDS)


def test_lines_in_the_file_of_another_interval_are_misplaced(directory: Path) -> None:
    older, newer = backups(directory)
    lines = older.read_bytes().splitlines(keepends=True)
    older.write_bytes(b"".join(lines[:-3]))
    newer.write_bytes(b"".join(lines[-3:]) + newer.read_bytes())
    assert found(directory).found == {"misplaced": 3}


def test_a_missing_file_is_a_gap_but_what_retention_removed_first_is_none(directory: Path) -> None:
    older, newer = backups(directory)
    newer.rename(directory / "elsewhere")
    assert found(directory).found == {"gap": PER_FILE}
    (directory / "elsewhere").rename(newer)
    older.unlink()
    report = found(directory)
    assert report.found == {}
    assert [stream.began_before for stream in report.streams] == [True]


def test_the_beginning_of_a_stream_that_is_younger_than_the_oldest_line_must_be_there(directory: Path) -> None:
    handler = handler_for(directory / "app.log")
    log_hours(handler, range(1), 5)
    handler.close()
    live = directory / "app.log"
    edit(live, lambda lines: lines[:-5] + lines[-4:])
    assert found(directory).found == {"gap": 1}


def test_several_processes_find_what_one_finds(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = backups(directory)[0]
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    edit(backups(directory)[1], cut)
    alone = found(directory)
    monkeypatch.setattr("rollsafe.tools.verify._LARGE", 0)
    seen: list[int] = []
    together = verify(logs_at([directory]), seen.append, jobs=2)
    assert together.as_dict() == alone.as_dict()
    assert together.found == {"torn": 1, "gap": 1}
    assert sum(seen) == sum(file.size for file in together.files)


def test_a_reading_process_that_is_killed_is_told_in_a_sentence(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rollsafe.tools.verify._LARGE", 0)
    monkeypatch.setattr("rollsafe.tools.verify.scan", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(LogFileError, match="was killed"):
        verify(logs_at([directory]), jobs=2)


def test_backups_alone_are_judged_without_live_file_and_lock_file(directory: Path) -> None:
    (directory / "app.log").unlink()
    (directory / ".app.log.lock").unlink()
    assert found(directory).found == {}
    edit(backups(directory)[1], cut)
    assert found(directory).found == {"torn": 1, "gap": 1}


def test_a_single_backup_is_of_the_interval_that_its_name_tells(directory: Path) -> None:
    older, newer = backups(directory)
    os.utime(newer)
    report = verify(logs_at([newer]))
    assert (report.found, [file.path for file in report.files]) == ({}, [str(newer)])
    edit(newer, cut)
    assert verify(logs_at([newer])).found == {"torn": 1, "gap": 1}
    older.replace(newer)
    assert verify(logs_at([newer])).found == {"misplaced": PER_FILE}


def test_the_logs_of_several_hosts_are_judged_each_for_itself(directory: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(directory, other, ignore=shutil.ignore_patterns("other"))
    edit(backups(other)[1], cut)
    report = verify(logs_at([directory, other]))
    assert report.found == {"torn": 1, "gap": 1}
    assert {os.path.dirname(finding.path) for finding in report.findings} == {str(other)}
    assert [stream.missing for stream in report.streams] == [0, 1]


def test_files_given_by_a_pattern_are_one_log_and_read_once(directory: Path) -> None:
    report = verify(logs_at([directory / "app.log", *backups(directory)]))
    assert (report.found, report.lines) == ({}, 3 * PER_FILE)


@pytest.mark.parametrize("pack", [gzip.compress], ids=["gz"])
def test_archives_are_read_and_truncated_ones_found(pack: Callable[[bytes], bytes], directory: Path) -> None:
    path = backups(directory)[0]
    archive = path.with_name(path.name + ".gz")
    archive.write_bytes(pack(path.read_bytes()))
    path.unlink()
    assert found(directory).found == {}
    archive.write_bytes(archive.read_bytes()[:-20])
    report = found(directory)
    assert report.found["damaged"] == 1
    assert set(report.found) <= {"damaged", "gap"}


def test_plain_file_and_archive_of_one_backup_are_not_counted_twice(directory: Path) -> None:
    path = backups(directory)[0]
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
    assert found(directory).found == {}


def test_what_a_killed_archiver_left_is_a_leftover_once_it_is_old(directory: Path) -> None:
    leftover = directory / f"{backups(directory)[0].name}.gz.tmp"
    leftover.write_bytes(b"")
    assert found(directory).found == {}
    os.utime(leftover, (time.time() - HOUR, time.time() - HOUR))
    assert found(directory).found == {"leftover": 1}


def test_blank_lines_are_no_faults_and_it_is_not_claimed_to_be_known_where_they_come_from(directory: Path) -> None:
    edit(backups(directory)[1], lambda lines: [*lines[:5], b"     \n", b"\n", *lines[5:]])
    report = found(directory)
    assert report.found == {}
    (note,) = report.notes
    assert "2 blank lines" in note
    assert all(words in note for words in ("cut short", "texts of several lines"))


NOTICE = "rollsafe: 3 lines were dropped because the log could not be written"
NOTICES = {
    "stamped": (STAMPED, f"2026-11-25 10:00:00,000 {NOTICE} ~"),
    "stamp first": (FORMATS["stamp first"], f"~ 2026-11-25 10:00:00,000 {NOTICE}"),
    "json": (FORMATS["json"], f'{{"message": "{NOTICE}", "time": "2026-11-25 10:00:00,000", "stamp": "~"}}'),
    "without stamp": ("%(asctime)s %(message)s", f"2026-11-25 10:00:00,000 {NOTICE}"),
    "bare": ("%(message)s", NOTICE),
}


@pytest.mark.parametrize(("fmt", "notice"), NOTICES.values(), ids=NOTICES)
def test_lines_that_the_log_itself_calls_dropped_are_lost(fmt: str, notice: str, tmp_path: Path) -> None:
    handler = handler_for(tmp_path / "app.log", fmt)
    log_hours(handler, range(-1, 1))
    handler.close()
    assert found(tmp_path).clean
    edit(backups(tmp_path)[0], lambda lines: [*lines[:5], notice.encode() + b"\n", *lines[5:]])
    with (tmp_path / "app.log").open("ab") as file:
        # Just before it ended, a process may have said how many more it had.
        file.write(notice.encode() + b"\n")
    report = found(tmp_path)
    assert report.found == {"dropped": 6}
    assert [finding.path for finding in report.findings] == [str(backups(tmp_path)[0]), str(tmp_path / "app.log")]


@pytest.mark.parametrize("quoted", [f"a user has sent {NOTICE!r} today", f"{NOTICE} ", f"{NOTICE}"])
def test_a_message_that_quotes_such_a_line_is_none(quoted: str, tmp_path: Path) -> None:
    handler = handler_for(tmp_path / "app.log")
    for message in ("before", quoted, "after"):
        handler.handle(logging.makeLogRecord({"msg": message}))
    handler.close()
    assert found(tmp_path).found == {}


BYTES = {
    "zeros of a power cut": (b"\0" * 512, "torn", "512 zero bytes in a row, as a power cut leaves them"),
    "zeros with what came after": (
        b"\0" * 100 + b"2026-11-25 10:00:00,000 x",
        "torn",
        "100 zero bytes in a row, as a power cut leaves them: 2026-11-25",
    ),
    "a line with a zero byte": (b"2026-11-25 10:00:00,000 a\0b", "torn", "a line with zero bytes: 2026-11-25"),
    "random bytes": (bytes(range(255, -1, -1)).replace(b"\n", b""), "foreign", "bytes that are no text: \\xff"),
    "zeros among random bytes": (
        bytes([1, 2, 3]) + b"\0" * 100 + bytes([250, 14]),
        "foreign",
        "bytes that are no text",
    ),
    "random bytes without a zero": (bytes(range(255, 10, -1)), "foreign", "bytes that are no text"),
}


@pytest.mark.parametrize("fmt", [STAMPED, "%(asctime)s %(message)s", "%(message)s"], ids=["stamps", "times", "text"])
@pytest.mark.parametrize(("line", "kind", "text"), BYTES.values(), ids=BYTES)
def test_bytes_that_nobody_logs_are_told_by_what_they_are(
    line: bytes, kind: str, text: str, fmt: str, tmp_path: Path
) -> None:
    handler = handler_for(tmp_path / "app.log", fmt)
    log_hours(handler, range(-1, 1))
    handler.close()
    edit(backups(tmp_path)[0], lambda lines: [*lines[:5], line + b"\n", *lines[5:]])
    report = found(tmp_path)
    if fmt == "%(message)s" and b"\0" not in line:
        # Where lines have neither time nor stamp, every line is as good as any other.
        assert report.clean
        return
    assert report.found == {kind: 1}
    assert text in report.findings[0].text


def scanned_bytes(monkeypatch: pytest.MonkeyPatch, line: int, path: Path) -> tuple[Report, int]:
    """What verify says of a file with one line of so many bytes, and how many bytes it has joined to read it."""
    joined: list[int] = []
    chunks = scan._chunks

    def counting(*arguments: Any) -> Iterator[bytes]:
        for chunk in chunks(*arguments):
            joined.append(len(chunk))
            yield chunk

    monkeypatch.setattr(scan, "_chunks", counting)
    handler = handler_for(path / "app.log")
    log_hours(handler, range(-1, 1))
    handler.close()
    edit(backups(path)[0], lambda lines: [*lines[:5], lines[5][:30] + b"x" * line + lines[5][30:], *lines[6:]])
    return found(path), max(joined)


def test_a_very_long_line_is_a_line_and_takes_bounded_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(scan, "_LONGEST", 1 << 20)
    report, most = scanned_bytes(monkeypatch, 3 << 20, tmp_path)
    assert report.found == {}
    assert report.files[0].bytes == backups(tmp_path)[0].stat().st_size
    assert most < (1 << 20) + 2 * scan._CHUNK


def test_reading_a_long_line_copies_it_a_bounded_number_of_times(tmp_path: Path) -> None:
    # Counted by memory that is asked for: joined piece by piece, it would be the square of the line.
    path = tmp_path / "app.log"
    path.write_bytes(b"x" * (8 << 20))
    pieces: list[int] = []

    class Reader:
        def __init__(self) -> None:
            self.scan = scan.Scan()

    tracemalloc.start()
    try:
        with path.open("rb") as file:
            for chunk in scan._chunks(file, Reader(), pieces.append):  # type: ignore[arg-type]  # all that it uses
                assert len(chunk) == 8 << 20
            _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(pieces) == 8 << 20
    assert peak < 3 * (8 << 20)


# Settings that were changed: what older files hold was right then.

CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "interval shrank": ({"interval": 6}, {"interval": 1}),
    "interval shrank twice": ({"interval": 12}, {"interval": 2}),
    "interval grew": ({"interval": 1}, {"interval": 6}),
    "days to hours": ({"when": "D"}, {"when": "H"}),
    "hours to days": ({"when": "H"}, {"when": "D"}),
    "weeks to days": ({"when": "W0"}, {"when": "D"}),
    "UTC to a zone ahead": ({"utc": True}, {"utc": False, "tz": "Asia/Tokyo"}),
    "UTC to a zone behind": ({"utc": True}, {"utc": False, "tz": "America/New_York"}),
}


@pytest.mark.parametrize(("before", "after"), CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("stamps", [True, False])
def test_what_was_right_by_the_settings_before_is_not_called_misplaced(
    before: dict[str, Any], after: dict[str, Any], stamps: bool, tmp_path: Path
) -> None:
    fmt = STAMPED if stamps else "%(asctime)s %(message)s"
    # What is logged late goes to the backup that bears the name of its hour, which in another zone is another hour.
    since = 0 if "tz" in after else -9
    for keywords, hours in ((before, range(-40, since)), (after, range(since, 1))):
        handler = handler_for(tmp_path / "app.log", fmt, **keywords)
        log_hours(handler, hours, 3)
        handler.close()
    report = found(tmp_path)
    assert report.found == {}, report.findings
    assert report.lines == 41 * 3


@pytest.mark.parametrize("fmt", [STAMPED, FORMATS["access"]], ids=["to the millisecond", "to the second"])
def test_a_restart_with_shorter_intervals_within_a_second_misplaces_nothing(fmt: str, tmp_path: Path) -> None:
    # Not from days to hours: in the first hour of a day, nothing would be outside.
    for when, messages in (("W0", ("one", "two")), ("S", ("three", "four"))):
        handler = handler_for(tmp_path / "app.log", fmt, when=when)
        for message in messages:
            clf = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime())
            handler.handle(logging.makeLogRecord({"msg": message, "clf": clf}))
        handler.close()
    assert len(backups(tmp_path)) >= 1
    report = found(tmp_path)
    assert report.found == {}, report.findings


def shrunk(directory: Path) -> list[Path]:
    """A log whose intervals were of six hours, and are of one now; returns the backups that have more."""
    # The first hour begins an interval, whatever the time is.
    first = -24 - int(time.time() / HOUR) % 6
    for interval, hours in ((6, range(first, -5)), (1, range(-5, 1))):
        handler = handler_for(directory / "app.log", interval=interval)
        log_hours(handler, hours)
        handler.close()
    return [path for path in backups(directory) if path.read_bytes().count(b"\n") > PER_FILE]


def test_it_is_said_where_misplaced_lines_cannot_be_told(tmp_path: Path) -> None:
    wide = shrunk(tmp_path)
    (note,) = found(tmp_path).notes
    told = re.search(r": lines of (\d+) files are outside the intervals", note)
    assert told
    # A file of six hours with lines of one of them has to be counted too, if it is not the first one.
    assert len(wide) <= int(told[1]) <= len(wide) + 2


def test_a_line_that_is_out_of_order_is_misplaced_under_any_settings(tmp_path: Path) -> None:
    wide = shrunk(tmp_path)
    later = backups(tmp_path)[-1].read_bytes().splitlines(keepends=True)
    edit(wide[0], lambda lines: [*lines, later[0]])
    assert "misplaced" in found(tmp_path).found


def test_what_was_written_since_these_settings_began_is_misplaced(tmp_path: Path) -> None:
    shrunk(tmp_path)
    lock = tmp_path / ".app.log.lock"
    identity, settings, *_ = lock.read_bytes().splitlines()
    lock.write_bytes(b"%s\n%s\n%d\n" % (identity, settings, 1000 * (time.time() - 30 * HOUR)))
    assert found(tmp_path).found["misplaced"] > 10 * PER_FILE


def test_without_stamps_only_times_are_judged_and_that_is_said(tmp_path: Path) -> None:
    handler = handler_for(tmp_path / "app.log", "%(asctime)s %(message)s")
    log_hours(handler, range(-2, 1))
    handler.close()
    report = found(tmp_path)
    assert report.found == {}
    assert "no line has a stamp" in report.notes[0]
    older, newer = backups(tmp_path)
    older.write_bytes(older.read_bytes() + newer.read_bytes())
    assert found(tmp_path).found == {"misplaced": PER_FILE}


def test_lines_from_before_the_first_stamp_are_no_faults(directory: Path) -> None:
    edit(backups(directory)[0], lambda lines: [b"2026-11-25 10:00:00,000 before the upgrade\n", *lines])
    report = found(directory)
    assert report.found == {}
    assert "1 lines are older than the first stamp" in report.notes[0]


@pytest.mark.parametrize("at", [0, 1, -1, -2])
def test_faults_are_found_on_the_borders_of_the_chunks_that_are_read(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rollsafe.tools.scan._CHUNK", CHUNK)
    handler = handler_for(tmp_path / "app.log")
    log_hours(handler, range(-1, 1), 3 * CHUNK // 60)
    handler.close()
    (path,) = backups(tmp_path)
    text = path.read_bytes()
    assert len(text) > 2 * CHUNK
    assert found(tmp_path).found == {}
    begin = text.rfind(b"\n", 0, CHUNK + at) + 1
    end = text.find(b"\n", begin) + 1
    path.write_bytes(text[:begin] + text[end:])
    report = found(tmp_path)
    assert report.found == {"gap": 1}


def test_a_forged_stamp_in_a_message_is_not_taken_for_the_lines_own(tmp_path: Path) -> None:
    handler = handler_for(tmp_path / "app.log")
    for message in ("one", "~1lge4829upfa.99~", "three"):
        handler.handle(logging.makeLogRecord({"msg": message, "created": time.time()}))
    handler.close()
    report = found(tmp_path)
    assert report.found == {}
    assert [(stream.first, stream.last) for stream in report.streams] == [(1, 3)]


@pytest.fixture
def writers(tmp_path: Path) -> Iterator[Path]:
    """Processes that log stamped lines, a rollover each second, while the test runs."""

    def write() -> None:
        handler = handler_for(tmp_path / "app.log", when="S")
        while not (tmp_path / "stop").exists():
            for number in range(50):
                handler.handle(logging.makeLogRecord({"msg": f"line {number}", "created": time.time()}))
        handler.close()

    with Crew() as crew:
        children = [crew.start(write) for _ in range(3)]
        # By which the directory is one of a log.
        wait_until((tmp_path / ".app.log.lock").exists, "a lock file")
        yield tmp_path
        (tmp_path / "stop").touch()
        for child in children:
            child.join()


def test_a_log_that_is_being_written_is_clean_at_every_moment(writers: Path) -> None:
    looked = 0
    deadline = time.monotonic() + 60
    while (len(backups(writers)) < 4 or looked < 4) and time.monotonic() < deadline:
        if not (writers / "app.log").exists():
            continue
        report = found(writers)
        looked += 1
        assert report.found == {}, report.findings
    assert len(backups(writers)) >= 4
    assert looked >= 4


def run(*arguments: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """`rollsafe verify` in a process of its own."""
    return commands.run("verify", *arguments, directory=directory)


def test_the_exit_code_tells_clean_from_faulty_from_impossible(directory: Path) -> None:
    clean = run(".", directory=directory)
    assert (clean.returncode, clean.stderr) == (0, "")
    assert "clean: of 150 stamped lines none is missing" in clean.stdout
    edit(backups(directory)[1], cut)
    faulty = run(".", directory=directory)
    assert faulty.returncode == 1
    assert "number 61 of" in faulty.stdout
    assert "1 gap" in faulty.stdout
    impossible = run("nowhere", directory=directory)
    assert (impossible.returncode, impossible.stdout) == (2, "")
    assert impossible.stderr.count("\n") == 1


def test_json_has_all_that_was_found(directory: Path) -> None:
    edit(backups(directory)[1], cut)
    told = json.loads(run("--json", ".", directory=directory).stdout)
    assert (told["clean"], told["found"], told["lines"]) == (False, {"torn": 1, "gap": 1}, 150)
    assert {finding["kind"] for finding in told["findings"]} == {"torn", "gap"}
    assert [stream["missing"] for stream in told["streams"]] == [1]
