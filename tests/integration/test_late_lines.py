"""Lines that come late or have waited, in the corners: each in a file, once, and none in the way of the others."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from pathlib import Path

import pytest

from rollsafe._backups import maintenance_pass
from rollsafe._backups.archives import archive
from rollsafe._backups.codecs import codec_for
from rollsafe._backups.file_names import fingerprint_of
from rollsafe._backups.ledger import Ledger
from rollsafe._live import shared
from rollsafe._live.open_file import OpenFile
from rollsafe._live.pending import PendingLines
from rollsafe._timing import QUIET_S
from rollsafe.locks import FileLock
from tests.support.crew import lock_path
from tests.support.logs import Make, log, suffix_of, wait_for_second_after
from tests.support.servers import wait_until

HOUR = 3600.0


def lines_in(directory: Path) -> list[str]:
    """All lines of all files but the lock file, sorted."""
    files = [path for path in directory.rglob("*") if path.is_file() and path.name.startswith("app.log")]
    return sorted("".join(path.read_text() for path in files).split())


@pytest.mark.parametrize("hook", ["rotator", "on_rollover"])
def test_a_line_that_comes_while_the_application_has_the_backup_gets_a_further_file(
    hook: str, live: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance_pass, "UNUSED_S", QUIET_S + 0.1)
    given: list[Path] = []

    def take(path: str, *_: object) -> None:
        if not given:
            backup = Path(path)
            given.append(backup)
            shutil.copyfile(backup, live.with_name("app.log-taken"))
            if hook == "on_rollover":
                backup.unlink()
            log(other, "late", first)
        if hook == "rotator":
            os.unlink(path)

    def never(*_: object) -> None:
        """It is another process's to do."""

    handler, other = make(**({"on_rollover": take} if hook == "on_rollover" else {})), make(on_rollover=never)
    other._live.maintenance.wake = other._live.maintenance.stand_by = never  # type: ignore[method-assign]  # only one maintains
    if hook == "rotator":
        handler.rotator = take
    first = log(handler, "first")
    wait_for_second_after(first)
    log(handler, "second")
    log(other, "third")
    wait_until(lambda: bool(given), "the application has the backup")
    wait_until(lambda: not list(live.parent.glob(f"app.log.{suffix_of(first)}.rolled")), "it has given it back")
    found = lines_in(live.parent)
    assert (found.count("first"), found.count("late")) == (1, 1)


def drop_number(default: str) -> str:
    """A namer that gives one name for every number."""
    return re.sub(r"\.\d+\Z", "", default)


def test_a_late_line_that_can_have_no_backup_is_not_in_the_way_of_others_under_the_lock(live: Path, make: Make) -> None:
    handler = make(when="H", lock_writes=True)
    handler.namer = drop_number
    late = time.time() - HOUR
    live.with_name(f"app.log.{suffix_of(late, 'H')}.gz").touch()
    log(handler, "one")
    log(handler, "late", late)
    log(handler, "two")
    assert live.read_text().split() == ["one", "late", "two"]
    (report,) = handler.take_reports()
    assert "a late line" in report


def test_a_line_of_a_time_that_is_in_no_interval_is_not_in_the_way_of_others_under_the_lock(
    live: Path, make: Make
) -> None:
    handler = make(when="H", lock_writes=True)
    log(handler, "one")
    log(handler, "absurd", -1e18)
    log(handler, "two")
    assert live.read_text().split() == ["one", "absurd", "two"]
    (report,) = handler.take_reports()
    assert "a late line" in report


def test_a_file_that_was_archived_and_lives_on_in_a_snapshot_takes_no_more_lines(
    live: Path, make: Make, tmp_path: Path
) -> None:
    handler = make()
    first = log(handler, "first")
    wait_for_second_after(first)
    log(handler, "second")
    log(handler, "opens the backup", first)
    kept = handler._live.late.kept
    assert kept is not None
    backup = live.with_name(f"app.log.{suffix_of(first)}")
    (tmp_path / "snapshot").mkdir()
    os.link(backup, tmp_path / "snapshot" / "kept")
    lock = FileLock(lock_path(live))
    codec = codec_for("gz", None)
    assert codec is not None
    archive(str(backup), f"{backup}.gz", fingerprint_of(backup.stat()), codec, Ledger(lock))
    lock.close()
    # As after a stop of its process.
    kept.recheck_after = -1.0
    asked: list[float] = []
    file_of = handler._live.file_of

    def counting(created: float) -> OpenFile:
        asked.append(created)
        assert len(asked) < 10, "the line is written again and again"
        return file_of(created)

    handler._live.file_of = counting  # type: ignore[method-assign]  # to its end, so that closing it ends, too
    log(handler, "late", first)
    assert Path(f"{backup}.1").read_text() == "late\n"
    assert kept is not handler._live.late.kept


@pytest.mark.parametrize("step", ["file_of", "keeps"])
def test_an_exit_while_a_line_that_waited_is_written_neither_loses_nor_doubles_it(
    step: str, live: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = make(when="H")
    log(handler, "one")
    handler._writer.pending.add(b"waited\n", time.time())

    def leave(*_: object) -> None:
        raise SystemExit(1)  # as a signal handler does between two steps

    with monkeypatch.context() as patch:
        patch.setattr(handler._live, step, leave)
        with pytest.raises(SystemExit):
            handler.flush()
    handler.flush()
    assert live.read_text().split() == ["one", "waited"]


def test_an_exit_at_the_end_of_the_write_of_a_line_that_waited_does_not_double_it(live: Path, make: Make) -> None:
    handler = make(when="H")
    log(handler, "one")
    handler._writer.pending.add(b"waited\n", time.time())
    write = handler._file.write

    def write_and_leave(line: bytes) -> int | None:
        write(line)
        raise SystemExit(1)  # as the handler of a signal that came during the call

    handler._file.write = write_and_leave
    with pytest.raises(SystemExit):
        handler.flush()
    handler._file.write = write
    handler.flush()
    assert live.read_text().split() == ["one", "waited"]


def test_lines_may_be_added_while_the_newest_is_looked_for() -> None:
    pending = PendingLines(1000)

    class Time(float):
        """A time whose comparison is interrupted by a signal handler that logs."""

        def __gt__(self, other: float) -> bool:
            pending.add(b"nested", 3.0)
            return super().__gt__(other)

    pending.add(b"one", 1.0)
    pending.add(b"two", Time(2.0))
    assert pending.newest(3.0) == 2.0


@pytest.mark.parametrize("created", [float("nan"), float("inf"), -1e18])
def test_a_line_without_a_sensible_time_ends_up_in_the_file_under_the_lock(
    created: float, live: Path, make: Make
) -> None:
    handler = make(when="H", lock_writes=True)
    log(handler, "one")
    log(handler, "strange", created)
    log(handler, "two")
    handler.take_reports()
    files = [live, *live.parent.glob("app.log.*")]
    assert sorted("".join(path.read_text() for path in files).split()) == ["one", "strange", "two"]


def test_a_line_of_a_new_interval_that_waits_makes_the_rollover_though_an_older_one_is_in_hand(
    live: Path, make: Make
) -> None:
    handler = make()
    first = log(handler, "first")
    wait_for_second_after(first)
    # Queued by a signal handler that has interrupted the slow path of the next line.
    handler._writer.pending.add(b"newer\n", time.time())
    handler._file.expire_lease()
    log(handler, "older", first)
    assert live.with_name(f"app.log.{suffix_of(first)}").read_text().split() == ["first", "older"]
    assert live.read_text() == "newer\n"


def test_the_count_of_dropped_lines_is_told_though_a_first_try_fails_under_the_lock(
    live: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = make(when="H", lock_writes=True)
    log(handler, "one")
    handler._writer.pending.dropped = 3
    with monkeypatch.context() as patch:
        patch.setattr(shared, "write_of", lambda stream: lambda text: 0)
        handler.flush()
    assert not live.read_text().count("dropped")
    handler.take_reports()
    handler.flush()
    assert "3 lines were dropped" in live.read_text()


def test_a_pipe_that_takes_a_line_in_parts_gets_each_part_once(tmp_path: Path, make: Make) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    handler = make(path)
    os.set_blocking(handler.stream.fileno(), False)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
    text = "".join(f"{number:07} " for number in range(2000))
    log(handler, text)
    assert handler._writer.pending.lines
    received = b""
    while not received.endswith(b"\n"):
        received += os.read(reader, 1 << 16)
        handler.flush()
    os.close(reader)
    handler.take_reports()
    assert received.decode() == f"{text}\n"
