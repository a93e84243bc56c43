"""Every line is kept: through late checks, signals, reopening, forks, and while it cannot be written."""

from __future__ import annotations

import errno
import logging
import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from rollsafe._live import bounded_lock
from rollsafe._live.open_file import OpenFile
from rollsafe._timing import GRACE_S, LEASE_S
from tests.support.clock import StandingClock
from tests.support.crew import Crew
from tests.support.logs import Make, log, set_monotonic, suffix_of, wait_for_second_after
from tests.support.texts import all_lines, backups, full_disk, reopen_as_gunicorn_does


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
            set_monotonic(monkeypatch, lambda: time.monotonic() + LEASE_S + GRACE_S + 1)
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
        set_monotonic(monkeypatch, lambda: time.monotonic() + LEASE_S + GRACE_S + 1)
        return int(handler._file.stream.write(line))

    handler._file.write = write
    log(handler, "held up")
    log(handler, "next")
    assert moved.read_text() == "held up\n"
    assert live.read_text() == "next\n"


def test_a_signal_handler_that_logs_inside_the_critical_section_loses_nothing(
    live: Path, make: Make, standing_clock: StandingClock
) -> None:
    handler = make()
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
        standing_clock.go_on(1)
        log(handler, "second")
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert interrupted
    assert backups(live)[suffix_of(first)] == "first\n"
    assert live.read_text().split() == ["second", "from-the-signal-handler"]


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


def test_a_child_forked_while_another_thread_logs_goes_on_logging(
    live: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine, the thread may have no processor for half a second while it holds the lock.
    monkeypatch.setattr(bounded_lock, "LOCK_WAIT_S", 40.0)
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


def test_lines_that_wait_in_the_parent_are_not_written_by_the_child_too(
    live: Path, make: Make, standing_clock: StandingClock
) -> None:
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


def test_emit_never_raises_and_the_lines_of_an_outage_are_written_in_order_afterwards(live: Path, make: Make) -> None:
    handler = make(when="H")
    with full_disk(handler):
        log(handler, "1")
        log(handler, "2")
    (report,) = handler.take_reports()
    assert "No space left" in report
    handler._writer.pending.retry_at = 0.0
    log(handler, "3")
    assert live.read_text() == "1\n2\n3\n"
    assert handler.reported == []


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
        patch.setattr(handler._live.rollover.live, "open_stream", refuse)
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
