"""The handler heals itself: after a closed descriptor, a moved file, a removed lock file."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from rollsafe._timing import LEASE_S
from tests.support.clock import StandingClock
from tests.support.logs import Make, log, suffix_of
from tests.support.texts import backups, reopen_as_gunicorn_does


@pytest.mark.parametrize("short", [False, True], ids=["whole", "cut short"])
def test_a_file_that_a_signal_handler_closes_just_after_the_write_is_no_outage(
    live: Path, make: Make, standing_clock: StandingClock, short: bool
) -> None:
    handler = make(when="H")
    log(handler, "before")
    file = handler._file
    write = file.write

    def write_and_close(line: bytes) -> int | None:
        """Close and reopen the handler in the middle of an emit, as gunicorn's USR1 does."""
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


@pytest.mark.parametrize("interfere", ["rename", "unlink", "replace"])
def test_a_file_moved_away_is_left_when_the_lease_is_over(
    live: Path, make: Make, standing_clock: StandingClock, interfere: str
) -> None:
    handler = make(when="H")
    log(handler, "before")
    if interfere == "rename":
        live.rename(live.with_name("elsewhere"))
    elif interfere == "unlink":
        live.unlink()
    else:
        live.with_name("other").touch()
        live.with_name("other").replace(live)
    standing_clock.go_on(LEASE_S)
    log(handler, "after")
    assert live.read_text() == "after\n"


def test_a_removed_lock_file_does_not_let_two_roll(live: Path, make: Make, standing_clock: StandingClock) -> None:
    one, other = make(), make()
    first = log(one, "first")
    log(other, "first too")
    live.with_name(".app.log.lock").unlink()
    standing_clock.go_on(1)
    log(one, "second")
    live.with_name(".app.log.lock").unlink()
    log(other, "second too")
    assert backups(live)[suffix_of(first)] == "first\nfirst too\n"
    assert len([name for name in backups(live) if name.startswith(suffix_of(first))]) == 1


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
