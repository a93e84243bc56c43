"""A writer killed inside its write(2) leaves a fragment of a line: it must not spoil the next one."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import pytest

from rollsafe import SafeTimedRotatingFileHandler, inflight
from rollsafe.handlers import living_handlers
from tests.faults.crew import Crew, stop_myself

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="fragments are blanked on Linux only")


@pytest.fixture
def live(tmp_path: Path) -> Path:
    inflight._memory[: inflight.SLOTS] = bytes(inflight.SLOTS)  # what other tests have left up
    return tmp_path / "app.log"


def log(handler: logging.Handler, message: str) -> None:
    handler.handle(logging.makeLogRecord({"msg": message, "created": time.time()}))


def make(live: Path) -> SafeTimedRotatingFileHandler:
    handler = SafeTimedRotatingFileHandler(live, when="W0", utc=True)
    log(handler, "before")
    return handler


def die_inside_a_write(live: Path, pages: int = 0) -> None:
    """A forked writer whose write only gets to the end of the page, or some pages further, before it is killed."""

    def begin_to_write() -> None:
        # By chance one in 256 would share the place of the parent's, which is not what is tested here.
        taken = {one._flag.slot for one in living_handlers()}
        handler = SafeTimedRotatingFileHandler(live, when="W0", utc=True)
        while handler._flag.slot in taken:
            handler = SafeTimedRotatingFileHandler(live, when="W0", utc=True)
        log(handler, "of the child")

        def write_a_fragment(line: bytes) -> int:
            size = live.stat().st_size
            os.write(handler._file.stream.fileno(), b"x" * (4096 - size % 4096 + pages * 4096))
            stop_myself()
            return 0

        handler._file.write = write_a_fragment
        log(handler, "never finished")

    with Crew() as crew:
        writer = crew.start(begin_to_write)
        writer.wait_until_stopped()
        writer.end()


def flags_up() -> int:
    return bytes(inflight._memory[: inflight.SLOTS]).count(1)


@pytest.mark.parametrize("pages", [0, 24])
def test_the_next_line_blanks_the_fragment_that_it_was_glued_to(live: Path, pages: int) -> None:
    handler = make(live)
    die_inside_a_write(live, pages)
    log(handler, "next")
    handler.close()
    before, of_the_child, blank, following = live.read_bytes().splitlines()
    assert (before, of_the_child, following) == (b"before", b"of the child", b"next")
    assert blank.isspace()
    assert len(live.read_bytes()) == (pages + 1) * 4096 + len("next\n")


def test_the_flag_of_the_dead_is_lowered_once_all_have_looked(live: Path) -> None:
    handler = make(live)
    before = flags_up()
    die_inside_a_write(live)
    assert flags_up() == before + 1
    log(handler, "next")
    assert flags_up() == before + 1, "lowered before anybody noted who was dead before its own write"
    handler._file.due = 0.0
    log(handler, "after a renewal")
    assert flags_up() == before
    handler.close()


def test_no_flag_is_lowered_while_a_living_writer_is_inside_a_write(live: Path) -> None:
    handler = make(live)
    die_inside_a_write(live)
    living = inflight.Flag(str(live))
    living.flags[living.slot] = 1
    up = flags_up()
    try:
        handler._file.due = 0.0
        log(handler, "next")
        assert flags_up() == up
    finally:
        living.flags[living.slot] = 0
    handler._file.due = 0.0
    log(handler, "all clear")
    assert flags_up() == up - 2
    handler.close()


def test_a_process_that_opens_a_file_that_ends_in_a_fragment_begins_on_a_new_line(live: Path) -> None:
    live.write_bytes(b"whole\npiece of a li")
    handler = SafeTimedRotatingFileHandler(live, when="W0", utc=True)
    log(handler, "first")
    assert live.read_bytes() == b"whole\npiece of a li\nfirst\n"
    handler.close()


def test_a_lone_writer_pays_no_system_call_for_it(live: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = make(live)
    calls: list[str] = []
    monkeypatch.setattr(os, "lseek", lambda *_: calls.append("lseek"))
    monkeypatch.setattr(os, "pread", lambda *_: calls.append("pread"))
    monkeypatch.setattr(handler._file, "tell", lambda: calls.append("tell"))
    log(handler, "alone")
    assert calls == []
    handler.close()
