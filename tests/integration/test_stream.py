"""Text that is handed to the handler's stream, as to that of the standard library, which is a text file."""

from __future__ import annotations

import contextlib
import faulthandler
import io
import logging
import logging.handlers
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rollsafe import SafeTimedRotatingFileHandler
from tests.support.crew import WatchedHandler
from tests.support.logs import log


class FileEmit(SafeTimedRotatingFileHandler):
    def emit(self, record: logging.LogRecord) -> None:
        logging.FileHandler.emit(self, record)


class StreamEmit(SafeTimedRotatingFileHandler):
    def emit(self, record: logging.LogRecord) -> None:
        logging.StreamHandler.emit(self, record)


class RotatingEmit(SafeTimedRotatingFileHandler):
    def emit(self, record: logging.LogRecord) -> None:
        logging.handlers.BaseRotatingHandler.emit(self, record)


class Header(SafeTimedRotatingFileHandler):
    def _open(self) -> Any:
        stream: Any = super()._open()
        stream.write("header é\n")
        return stream


class HeaderOfSelf(SafeTimedRotatingFileHandler):
    def _open(self) -> Any:
        self.stream = super()._open()
        self.stream.write("header é\n")
        return self.stream


class HeaderOfText(SafeTimedRotatingFileHandler):
    def _open(self) -> Any:
        stream = open(self.baseFilename, "a", encoding=self.encoding)
        stream.write("header é\n")
        return stream


class HeaderAndEmit(HeaderOfText, FileEmit):
    pass


Make = Callable[..., SafeTimedRotatingFileHandler]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes handlers of one file, whose interval does not end while a test runs: the next one begins in 2033."""
    made: list[SafeTimedRotatingFileHandler] = []

    def make_one(kind: type[SafeTimedRotatingFileHandler] = SafeTimedRotatingFileHandler, **arguments: Any) -> Any:
        arguments = {"when": "S", "interval": 10**9, "encoding": "utf-8", **arguments}
        handler = kind(tmp_path / "app.log", **arguments)
        handler.handleError = fail  # type: ignore[method-assign]
        made.append(handler)
        return handler

    yield make_one
    for handler in made:
        handler.close()


def fail(record: logging.LogRecord) -> None:
    """For `handleError`, where nothing may go wrong; `emit` of the standard library would hide an exception."""
    failures.append(f"{record.getMessage()}: {sys.exc_info()[1]!r}")


failures: list[str] = []


@pytest.fixture(autouse=True)
def nothing_fails() -> Iterator[None]:
    failures.clear()
    yield
    assert failures == []


@pytest.fixture
def live(tmp_path: Path) -> Path:
    return tmp_path / "app.log"


def text_of(live: Path) -> str:
    return live.read_bytes().decode()


@pytest.mark.parametrize("arguments", [{}, {"maxBytes": 10**6}, {"lock_writes": True}], ids=str)
@pytest.mark.parametrize("kind", [FileEmit, StreamEmit, RotatingEmit])
def test_an_overridden_emit_may_call_that_of_the_standard_library(
    make: Make, live: Path, kind: type[SafeTimedRotatingFileHandler], arguments: dict[str, Any]
) -> None:
    handler = make(kind, **arguments)
    for message in ("one", "two é", "three"):
        log(handler, message)
    assert text_of(live) == "one\ntwo é\nthree\n"


@pytest.mark.parametrize("kind", [FileEmit, RotatingEmit])
def test_it_may_open_the_file_first_and_again_after_it_was_closed(
    make: Make, live: Path, kind: type[SafeTimedRotatingFileHandler]
) -> None:
    handler = make(kind, delay=True)
    log(handler, "one")
    handler.close()
    log(handler, "two")
    assert text_of(live) == "one\ntwo\n"


@pytest.mark.parametrize("terminator", ["", "|", "\0", "\r\n"])
def test_a_terminator_without_a_newline_keeps_nothing_back(make: Make, live: Path, terminator: str) -> None:
    handler = make(FileEmit)
    handler.terminator = terminator
    log(handler, "one")
    log(handler, "two")
    assert text_of(live) == f"one{terminator}two{terminator}"


def test_its_line_goes_into_the_file_that_the_path_names(make: Make, live: Path) -> None:
    handler, other = make(FileEmit), make()
    log(handler, "one")
    other.doRollover()
    handler._file.expire_lease()  # its lease is over
    log(handler, "two")
    assert text_of(live) == "two\n"


def test_its_lines_wait_while_they_cannot_be_written(make: Make, live: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = make(FileEmit)
    log(handler, "one")

    def refuse(line: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(handler._file, "write", refuse)
    log(handler, "two")
    monkeypatch.undo()
    log(handler, "three")
    handler.flush()
    assert text_of(live) == "one\ntwo\nthree\n"
    assert len(failures) == 1
    failures.clear()


@pytest.mark.parametrize("delay", [False, True])
@pytest.mark.parametrize("kind", [Header, HeaderOfSelf, HeaderOfText, HeaderAndEmit])
def test_an_overridden_open_may_write_a_header(
    make: Make, live: Path, kind: type[SafeTimedRotatingFileHandler], delay: bool
) -> None:
    handler = make(kind, delay=delay)
    log(handler, "one")
    log(handler, "two")
    assert text_of(live) == "header é\none\ntwo\n"
    handler.doRollover()
    log(handler, "three")
    assert text_of(live) == "header é\nthree\n"


def test_a_header_is_in_the_encoding_of_the_handler(make: Make, live: Path) -> None:
    log(make(Header, encoding="latin-1"), "é")
    assert live.read_bytes() == b"header \xe9\n\xe9\n"


def test_what_is_printed_stands_among_the_lines(make: Make, live: Path) -> None:
    handler = make()
    log(handler, "one")
    print("two", "words", file=handler.stream)
    assert handler.stream.write("three\nfour\n") == 11
    handler.stream.writelines(["five\n", "six\n"])
    assert handler.stream.write(b"seven\n") == 6
    log(handler, "eight")
    assert text_of(live) == "one\ntwo words\nthree\nfour\nfive\nsix\nseven\neight\n"


def test_a_line_that_is_printed_in_pieces_is_written_at_once(make: Make, live: Path) -> None:
    handler, other = make(), make()
    print("one", end=" ", file=handler.stream)
    log(other, "other")
    print("two", file=handler.stream)
    print("begun", end="", file=handler.stream)
    log(other, "other")
    assert text_of(live) == "other\none two\nother\n"
    handler.flush()
    assert text_of(live) == "other\none two\nother\nbegun"


def test_threads_print_whole_lines(make: Make, live: Path) -> None:
    handler = make()

    def work(name: str) -> None:
        for number in range(200):
            handler.stream.write(f"{name}{number}\n")

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(text_of(live).splitlines()) == sorted(f"{name}{number}" for name in "abcd" for number in range(200))


def test_standard_output_that_is_redirected_follows_rollovers(make: Make, live: Path, tmp_path: Path) -> None:
    handler = make()
    with contextlib.redirect_stdout(handler.stream):
        print("before")
        handler.doRollover()
        print("after")
        handler.close()
        print("reopened", flush=True)
    (backup,) = tmp_path.glob("app.log.*")
    assert (backup.read_text(), text_of(live)) == ("before\n", "after\nreopened\n")


def log_and_close(handler: SafeTimedRotatingFileHandler) -> None:
    log(handler, "child")
    handler.close()


def test_what_is_begun_is_not_written_by_a_child(make: Make, live: Path) -> None:
    handler = make()
    print("begun", end="", file=handler.stream)
    child = multiprocessing.get_context("fork").Process(target=log_and_close, args=(handler,))
    child.start()
    child.join()
    assert child.exitcode == 0
    print(" and ended", file=handler.stream)
    assert text_of(live) == "child\nbegun and ended\n"


def test_another_handler_may_have_the_stream(make: Make, live: Path) -> None:
    other = logging.StreamHandler(make().stream)
    log(other, "one")
    log(other, "two")
    assert text_of(live) == "one\ntwo\n"


def test_programs_and_faulthandler_may_have_its_descriptor(make: Make, live: Path) -> None:
    handler = make()
    subprocess.run([sys.executable, "-c", "print('a program')"], stdout=handler.stream, check=True)
    faulthandler.dump_traceback(handler.stream, all_threads=False)
    log(handler, "last")
    lines = text_of(live).splitlines()
    assert (lines[0], lines[-1]) == ("a program", "last")
    assert lines[1].startswith(("Stack (most recent call first)", "Current thread"))


def test_a_text_file_that_is_assigned_is_taken_over_with_what_it_holds_back(make: Make, live: Path) -> None:
    handler = make()
    mine = open(live, "a", encoding="utf-8")
    mine.write("held back\n")
    handler.setStream(mine)
    log(handler, "one")
    print("two", file=handler.stream)
    assert text_of(live) == "held back\none\ntwo\n"


def test_what_has_no_descriptor_is_not_logged_to(make: Make, live: Path) -> None:
    handler = make()
    handler.setStream(io.StringIO())  # type: ignore[arg-type]
    log(handler, "one")
    assert text_of(live) == "one\n"


def test_a_standard_stream_that_is_assigned_stays_open(tmp_path: Path) -> None:
    code = """
import sys
from rollsafe import SafeTimedRotatingFileHandler
handler = SafeTimedRotatingFileHandler("app.log")
handler.setStream(sys.stdout)
handler.flush()
handler.write_line("a line", 0)
handler.close()
print("still open")
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("still open\n")
    assert done.stderr == ""


def test_a_signal_handler_that_closes_the_handler_inside_its_flush_is_no_lost_text(live: Path) -> None:
    handler = WatchedHandler(live)

    class Interrupted:
        closed = False

        def flush(self) -> None:
            self.closed = True
            raise ValueError("I/O operation on closed file")

        def close(self) -> None:
            """It is closed."""

    opened, handler.stream = handler.stream, Interrupted()
    handler._writer.flush()
    handler.stream = opened
    handler.close()
    assert handler.reported == []
