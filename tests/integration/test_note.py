"""What handlers make of the note in the lock file, and of whatever else somebody has put there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rollsafe import SafeTimedRotatingFileHandler
from rollsafe._files.note import Note, read_note
from rollsafe.tools.catalog import logs_at
from tests.support.clock import StandingClock
from tests.support.crew import Child, lock_path
from tests.support.logs import log, suffix_of, write_log

NONSENSE = [
    b'{"when":["x"],"interval":{}}',
    b"[" * 3900,
    b'{"when":"D","atTime":5}',
    b'{"when":"D","backupCount":"x"}',
    b'{"when":"D","encoding":5,"max_age":"x","extension":5}',
]


def note_of(live: Path) -> Note:
    """The note about a live file, which must be there."""
    note = read_note(str(live))
    assert note is not None
    return note


def test_lines_of_an_earlier_interval_are_not_continued_because_the_file_was_touched(tmp_path: Path) -> None:
    live = tmp_path / "app.log"
    write_log(live, range(1))
    note = note_of(live)
    earlier = note.replace(start=note.start - 7200)
    lock_path(live).write_bytes(earlier.content())
    os.utime(live)
    write_log(live, range(1))
    backup = live.with_name(f"app.log.{suffix_of(earlier.start, 'H')}")
    assert (backup.read_text(), live.read_text()) == ("hour 0\n", "hour 0\n")


@pytest.mark.parametrize("start", [10**17, -(10**17), 253402300799, -86400])
def test_a_start_that_cannot_be_right_loses_no_line(start: int, tmp_path: Path) -> None:
    live = tmp_path / "app.log"
    write_log(live, range(1))
    identity = b"%d %d" % note_of(live).identity
    lock_path(live).write_bytes(identity + b" %d\n{}\n1\n" % start)
    write_log(live, range(1))
    assert live.read_text() == "hour 0\n" * 2
    assert [path.name for path in tmp_path.iterdir() if path.name[0] != "."] == ["app.log"]


def test_a_writer_of_the_note_that_is_killed_before_it_cuts_the_file_leaves_no_number(
    tmp_path: Path, standing_clock: StandingClock
) -> None:
    live = tmp_path / "app.log"

    def handler() -> SafeTimedRotatingFileHandler:
        return SafeTimedRotatingFileHandler(live, when="S", utc=True, maxBytes=10)

    first = handler()
    for _ in range(4):
        log(first, "12345678")
    first.close()
    assert note_of(live).number == 3
    standing_clock.go_on(1)

    def killed() -> None:
        os.ftruncate = lambda *arguments: os._exit(0)
        second = handler()
        log(second, "12345678")

    Child(killed).join()
    content = lock_path(live).read_bytes()
    assert b"end" in content.split(b"\n")[-3], "it was not killed between the two calls"
    assert note_of(live).number is None


@pytest.mark.parametrize("line", NONSENSE)
def test_the_preset_and_the_tools_work_beside_a_note_that_is_nonsense(line: bytes, tmp_path: Path) -> None:
    live = tmp_path / "app.log"
    write_log(live, range(1))
    identity = b"%d %d %d" % (*note_of(live).identity, note_of(live).start)
    lock_path(live).write_bytes(identity + b"\n" + line + b"\n1\n")
    (told,) = logs_at([live])
    assert not told.told
    preset = f"from rollsafe.gunicorn import rotating_logs; rotating_logs({str(tmp_path)!r}, access=None, error=None)"
    assert subprocess.run([sys.executable, "-c", preset], check=False, timeout=120).returncode == 0


def test_the_tools_do_not_wait_at_a_fifo_in_the_place_of_a_lock_file(tmp_path: Path) -> None:
    live = tmp_path / "app.log"
    live.write_bytes(b"line\n")
    os.mkfifo(lock_path(live))
    (told,) = logs_at([live])
    assert not told.told
