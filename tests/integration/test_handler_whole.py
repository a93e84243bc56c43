"""Every line is whole: one write, and what was cut short is blanked and written again."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rollsafe import LineFormatter
from tests.support.crew import WatchedHandler
from tests.support.logs import Make, log


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
