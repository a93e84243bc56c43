"""Nothing is overwritten: names in use, files of others, devices, links, and backups that are not ours."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rollsafe import FileLock
from tests.support.crew import Crew
from tests.support.logs import Make, backup_of, log, suffix_of, wait_for_second_after
from tests.support.servers import wait_until
from tests.support.texts import all_lines


def test_a_name_in_use_gets_a_sequence_number_and_is_not_touched(live: Path, make: Make) -> None:
    handler = make()
    first = log(handler, "first")
    foreign = live.with_name(f"app.log.{suffix_of(first)}")
    foreign.write_text("foreign\n")
    live.with_name(f"app.log.{suffix_of(first)}.1.gz").write_text("an archive")
    handler.doRollover()
    assert foreign.read_text() == "foreign\n"
    assert live.with_name(f"app.log.{suffix_of(first)}.2").read_text() == "first\n"


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


def test_files_opened_for_late_lines_are_closed_without_waiting_for_the_next_rollover(live: Path, make: Make) -> None:
    handler = make()
    first = log(handler, "first")
    wait_for_second_after(first)
    log(handler, "second")
    log(handler, "late", first)
    kept = handler._live.late.kept
    assert kept is not None
    kept.forget_at = 0.0
    handler._file.expire_lease()
    log(handler, "third")
    assert kept.stream.closed


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
