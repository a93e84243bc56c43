"""Fragments before a line: they spoil no line, and the handler overwrites only its own bytes."""

from __future__ import annotations

import os
from collections.abc import Callable
from math import inf
from pathlib import Path

import pytest

from rollsafe._live.fragments import IN_PAGE
from tests.support.crew import WatchedHandler
from tests.support.logs import Make, log

PAGE = IN_PAGE + 1


def fill_page(live: Path, byte: bytes = b"x", pages: int = 1) -> bytes:
    """Append bytes up to the end of a page, as a killed writer leaves them; returns the whole content."""
    with live.open("ab") as file:
        file.write(byte * (pages * PAGE - live.stat().st_size % PAGE))
    return live.read_bytes()


@pytest.mark.parametrize("pages", [1, 25])
def test_a_line_that_is_glued_to_a_fragment_is_blanked_and_written_again(live: Path, make: Make, pages: int) -> None:
    handler = make(when="W0")
    log(handler, "before")
    content = fill_page(live, pages=pages)
    log(handler, "next")
    log(handler, "last")
    assert live.read_bytes() == content + b"    \nnext\nlast\n"
    assert handler.reported == []


@pytest.fixture
def dev_fd_duplicates(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS and the BSDs, /dev/fd gives a duplicate of the descriptor, which appends."""
    opened = os.open

    def duplicate_or_open(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if str(path).startswith("/dev/fd/"):
            return os.dup(int(path[len("/dev/fd/") :]))
        return opened(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", duplicate_or_open)


@pytest.mark.usefixtures("dev_fd_duplicates")
def test_without_the_dev_fd_of_linux_a_line_is_blanked_by_the_name_of_its_file(live: Path, make: Make) -> None:
    handler = make(when="W0")
    log(handler, "before")
    content = fill_page(live)
    log(handler, "next")
    assert live.read_bytes() == content + b"    \nnext\n"


@pytest.mark.usefixtures("dev_fd_duplicates")
def test_without_the_dev_fd_of_linux_no_file_that_has_taken_the_name_is_touched(live: Path, make: Make) -> None:
    handler = make(when="W0")
    log(handler, "before")
    content = fill_page(live)
    moved = live.with_name("moved")
    live.rename(moved)
    live.write_bytes(theirs := b"x" * len(content) + b"next\n")
    log(handler, "next")
    assert (moved.read_bytes(), live.read_bytes()) == (content + b"next\n", theirs)


def test_the_first_line_of_a_process_looks_wherever_the_fragment_ends(live: Path, make: Make) -> None:
    live.write_bytes(b"whole\npiece of a li")
    log(make(when="W0"), "first")
    assert live.read_bytes() == b"whole\npiece of a li     \nfirst\n"


def test_a_late_line_looks_what_stands_before_it_in_the_backup(live: Path, make: Make) -> None:
    handler = make(when="S", interval=1000)
    created = log(handler, "first")
    backup = Path(str(handler._naming.path(handler._naming.interval_at(created).suffix, 0)))
    handler.doRollover()
    with backup.open("ab") as file:
        file.write(b"piece of a li")
    handler._live.late.close()
    handler._file.start = created + 1
    log(handler, "late", created)
    assert backup.read_bytes() == b"first\npiece of a li    \nlate\n"


def test_a_line_of_several_lines_is_blanked_wholly(live: Path, make: Make) -> None:
    handler = make(when="W0")
    log(handler, "before")
    content = fill_page(live)
    log(handler, "one\ntwo")
    assert live.read_bytes() == content + b"   \n   \none\ntwo\n"


def test_what_others_append_before_our_line_is_blanked_stays(
    live: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler, other = make(when="W0"), make(when="W0")
    log(handler, "before")
    log(other, "before too")
    content = fill_page(live)
    pwrite = os.pwrite

    def append_and_pwrite(descriptor: int, data: bytes, offset: int) -> int:
        monkeypatch.setattr(os, "pwrite", pwrite)
        log(other, "of another process")
        return pwrite(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", append_and_pwrite)
    log(handler, "next")
    assert live.read_bytes() == content + b"    \nof another process\nnext\n"


def test_a_line_that_cannot_be_blanked_stays_as_it_is(live: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = make(when="W0")
    log(handler, "before")
    content = fill_page(live)
    monkeypatch.setattr(os, "pwrite", lambda *_: 0)
    log(handler, "next")
    assert live.read_bytes() == content + b"next\n"


def test_a_line_is_not_written_again_for_ever_beside_a_program_that_prints_no_newlines(live: Path, make: Make) -> None:
    handler = make(when="W0")
    log(handler, "before")
    write = handler._file.write
    foreign = 0

    def write_behind_a_print(line: bytes) -> int | None:
        nonlocal foreign
        foreign += 1
        with live.open("ab") as file:
            file.write(b"...")
        return write(line)

    handler._file.write = write_behind_a_print
    handler._file.expire_lease()
    log(handler, "next")
    content = live.read_bytes()
    assert content.count(b"...") == foreign < 10
    assert content.count(b"next") == 1
    assert content.endswith(b"...\nnext\n")
    assert handler.reported == []


def test_an_exception_of_a_signal_handler_just_after_the_blanking_costs_no_line(
    live: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = make(when="W0")
    log(handler, "before")
    content = fill_page(live)
    pwrite = os.pwrite

    def pwrite_and_raise(descriptor: int, data: bytes, offset: int) -> int:
        pwrite(descriptor, data, offset)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "pwrite", pwrite_and_raise)
    with pytest.raises(KeyboardInterrupt):
        log(handler, "next")
    monkeypatch.undo()
    log(handler, "last")
    assert live.read_bytes() == content + b"    \nnext\nlast\n"


@pytest.mark.parametrize("terminator", ["", "\0", "\r", "\x1e", "\u2028", " | "])
def test_where_lines_do_not_end_in_a_newline_nothing_is_taken_for_a_fragment(
    live: Path, make: Make, terminator: str
) -> None:
    handler = make(when="W0", encoding="utf-8")
    handler.terminator = terminator
    end = terminator.encode()
    log(handler, "before")
    content = fill_page(live, b"y")
    for number in range(3):
        log(handler, f"line {number}")
        handler._file.expire_lease()
        content += b"line %d" % number + end
    log(handler, "x" * (PAGE - len(content) % PAGE - len(end)))
    content = live.read_bytes()
    assert len(content) % PAGE == 0
    log(handler, "next")
    assert live.read_bytes() == content + b"next" + end


@pytest.mark.parametrize("terminator", ["\n", "\r\n", "\n\n", "\0\n"])
def test_where_lines_end_in_a_newline_and_more_the_blank_ends_like_a_line(
    live: Path, make: Make, terminator: str
) -> None:
    handler = make(when="W0")
    handler.terminator = terminator
    end = terminator.encode()
    log(handler, "before")
    content = fill_page(live)
    log(handler, "next")
    assert live.read_bytes() == content + b"    " + end + b"next" + end


@pytest.mark.parametrize("terminator", ["\0", "", "\r"])
def test_a_line_that_is_cut_short_is_blanked_in_the_manner_of_its_terminator(
    live: Path, make: Make, terminator: str
) -> None:
    handler = make(when="W0")
    handler.terminator = terminator
    end = terminator.encode()
    log(handler, "before")
    write = handler._file.write

    def cut_short(line: bytes) -> int | None:
        handler._file.write = write
        return write(line[:6])

    handler._file.write = cut_short
    log(handler, "cut short")
    assert live.read_bytes() == b"before" + end + b" " * (6 - len(end)) + end + b"cut short" + end


FOREIGN: dict[str, Callable[[WatchedHandler, Path, int], object]] = {
    "a program that prints without newlines": lambda handler, live, size: append(live, b"f" * size),
    "a program that prints binary garbage": lambda handler, live, size: append(live, os.urandom(size)),
    "a handler with another terminator": lambda handler, live, size: log(handler, "f" * (size - 1)),
}


def append(live: Path, data: bytes) -> None:
    """Append to the file as another program does."""
    with live.open("ab") as file:
        file.write(data)


@pytest.mark.parametrize("foreign", FOREIGN.values(), ids=FOREIGN)
def test_no_byte_of_anybody_else_is_ever_overwritten(
    live: Path, make: Make, foreign: Callable[[WatchedHandler, Path, int], object]
) -> None:
    handler, other = make(when="W0"), make(when="W0")
    other.terminator = "\0"
    log(handler, "before")
    log(other, "before too")
    theirs: list[tuple[int, bytes]] = []
    for number in range(60):
        size = live.stat().st_size
        # In turn up to the end of a page, and to somewhere else.
        foreign(other, live, 2 * PAGE - size % PAGE - number % 2)
        theirs.append((size, live.read_bytes()[size:]))
        if number % 5 == 0:
            handler._file.expire_lease()
        log(handler, f"line {number}")
    content = live.read_bytes()
    assert [content[start : start + len(data)] for start, data in theirs] == [data for _, data in theirs]
    assert all(content.count(b"line %d\n" % number) == 1 for number in range(60))
    assert handler.reported == []
    at_pages = [number for number in range(60) if number % 2 == 0]
    assert all(b"\nline %d\n" % number in content for number in at_pages)


def test_a_line_that_another_thread_of_the_description_has_written_behind_ours_is_not_taken_for_ours(
    live: Path, make: Make
) -> None:
    handler = make(when="W0")
    log(handler, "before")
    content = fill_page(live)
    handler._file.lease_expires = handler._file.recheck_after = inf
    tell = handler._file.tell

    def write_and_tell() -> int:
        # A signal handler that logs, or a process that shares the description just after a fork.
        handler._file.tell = tell
        os.write(handler.stream.fileno(), b"of a signal handler\n")
        return tell()

    handler._file.tell = write_and_tell
    log(handler, "next")
    handler._file.expire_lease()
    log(handler, "last")
    assert live.read_bytes() == content + b"next\nof a signal handler\nlast\n"


def test_a_pipe_has_no_position_and_is_written_with_one_call_all_the_same(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    handler = make(fifo)
    log(handler, "the first line takes the lease")
    handler._file.lease_expires = handler._file.recheck_after = inf
    monkeypatch.setattr(handler._writer, "take", lambda *_: pytest.fail("it took the slow path"))
    log(handler, "second")
    monkeypatch.undo()
    assert os.read(reader, 100) == b"the first line takes the lease\nsecond\n"
    os.close(reader)
