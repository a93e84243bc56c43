"""Stamps: every written line has the next number of its stream, and what is not written takes none."""

from __future__ import annotations

import logging
import re
import signal
import socket
import sys
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any, Literal

import pytest

from rollsafe import LineFormatter, SafeTimedRotatingFileHandler
from rollsafe._lines.stamps import STAMP, Stamps, has_stamp
from tests.support.crew import Crew

FORMAT = "%(asctime)s %(message)s %(stamp)s"


def handler_for(
    live: Path, formatter: logging.Formatter | None = None, **keywords: Any
) -> SafeTimedRotatingFileHandler:
    """A handler whose lines are stamped."""
    handler = SafeTimedRotatingFileHandler(live, when="D", encoding="utf-8", **keywords)
    handler.setFormatter(formatter or LineFormatter(FORMAT))
    return handler


def log(handler: logging.Handler, message: object, **attributes: Any) -> None:
    """Log one line."""
    handler.handle(logging.makeLogRecord({"msg": message, **attributes}))


def numbers(live: Path) -> dict[bytes, list[int]]:
    """The numbers of each stream in the order of the lines."""
    found: defaultdict[bytes, list[int]] = defaultdict(list)
    for line in live.read_bytes().splitlines():
        match = STAMP.search(line)
        assert match is not None, line
        found[match["stream"]].append(int(match["number"]))
    return dict(found)


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The messages of the records that `handleError` was called for."""
    reported: list[str] = []
    monkeypatch.setattr(logging.Handler, "handleError", lambda self, record: reported.append(str(record.msg)))
    return reported


@pytest.mark.parametrize(
    ("fmt", "style", "stamped"),
    [
        ("%(message)s %(stamp)s", "%", True),
        ("%(stamp)20s %(message)s", "%", True),
        ("{message} {stamp}", "{", True),
        ("{stamp!s:>40} {message}", "{", True),
        ("$message $stamp", "$", True),
        ("${stamp} $message", "$", True),
        ("%(message)s stamp", "%", False),
        ("$message $stampede", "$", False),
    ],
)
def test_the_field_is_found_in_every_style(fmt: str, style: Literal["%", "{", "$"], stamped: bool, live: Path) -> None:
    formatter = LineFormatter(fmt, style=style, validate=False)
    assert has_stamp(formatter) is stamped
    assert has_stamp(logging.Formatter(fmt, style=style, validate=False)) is stamped
    if stamped:
        handler = handler_for(live, formatter)
        log(handler, "line")
        handler.close()
        assert list(numbers(live).values()) == [[1]]


@pytest.mark.parametrize(
    ("fmt", "style"), [("%(message)s %(stamp)s", "%"), ("{message} {stamp}", "{"), ("$message $stamp", "$")]
)
def test_a_stamp_at_the_end_of_the_format_ends_lines_with_tracebacks_too(
    fmt: str, style: Literal["%", "{", "$"], live: Path
) -> None:
    handler = handler_for(live, LineFormatter(fmt, style=style))
    log(handler, "failed", exc_text="Traceback (most recent call last):\nValueError: 1")
    handler.close()
    text, stamp = live.read_text().rstrip("\n").rsplit(" ", 1)
    assert text == "failed\\nTraceback (most recent call last):\\nValueError: 1"
    assert STAMP.fullmatch(stamp.encode())


def test_every_line_has_the_next_number(live: Path) -> None:
    handler = handler_for(live)
    for number in range(5):
        log(handler, number)
    handler.close()
    assert list(numbers(live).values()) == [[1, 2, 3, 4, 5]]


class Unprintable:
    """A message that cannot be made into text."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __str__(self) -> str:
        raise self._error


def test_a_record_that_fails_or_is_filtered_takes_no_number(live: Path, silent: list[str]) -> None:
    handler = handler_for(live, errors="strict")
    handler.addFilter(lambda record: record.msg != "filtered")
    log(handler, "one")
    log(handler, "filtered")
    log(handler, "%d", args=("no number",))
    log(handler, "a surrogate \udc80, which utf-8 cannot express")
    with pytest.raises(SystemExit):
        log(handler, Unprintable(SystemExit("by a signal handler")))
    log(handler, "two")
    handler.close()
    assert len(silent) == 2
    assert list(numbers(live).values()) == [[1, 2]]


def test_handlers_that_share_a_formatter_have_streams_of_their_own(live: Path) -> None:
    formatter = LineFormatter(FORMAT)
    handlers = [handler_for(live, formatter), handler_for(live.with_name("other.log"), formatter)]
    record = logging.makeLogRecord({"msg": "for both"})
    for _ in range(3):
        for handler in handlers:
            handler.handle(record)
    for handler in handlers:
        handler.close()
    (one, first), (two, second) = *numbers(live).items(), *numbers(live.with_name("other.log")).items()
    assert one != two
    assert first == second == [1, 2, 3]


@pytest.mark.parametrize("noticed", ["by logging", "by nobody, as when a program forks in C"])
def test_a_forked_child_has_a_stream_of_its_own(live: Path, noticed: str) -> None:
    handler = handler_for(live)
    log(handler, "parent")
    log(handler, "parent")

    def log_in_child() -> None:
        if noticed != "by logging":
            # What the callbacks of os.register_at_fork did is undone.
            handler._file.grant_lease(handler._file.start, handler._file.recheck_after, handler._file.end)
        log(handler, "child")

    with Crew() as crew:
        crew.start(log_in_child).join()
    log(handler, "parent")
    handler.close()
    assert sorted(numbers(live).values()) == [[1], [1, 2, 3]]


def test_threads_and_signal_handlers_never_share_a_number(live: Path) -> None:
    handler = handler_for(live)
    previous = signal.signal(signal.SIGALRM, lambda number, frame: log(handler, "in a signal handler"))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)

    def log_often() -> None:
        for _ in range(3000):
            log(handler, "line")

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=log_often) for _ in range(3)]
        for thread in threads:
            thread.start()
        log_often()
        for thread in threads:
            thread.join()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        sys.setswitchinterval(interval)
    handler.close()
    ((_, found),) = numbers(live).items()
    assert len(found) > 12000
    assert sorted(found) == list(range(1, len(found) + 1))


def test_a_signal_handler_or_a_thread_that_logs_while_a_stream_begins_begins_no_other_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stamps = Stamps()
    taken: list[str] = []
    hostname = socket.gethostname

    def interrupted() -> str:
        monkeypatch.setattr(socket, "gethostname", hostname)
        taken.append(stamps.take())
        return hostname()

    monkeypatch.setattr(socket, "gethostname", interrupted)
    taken.append(stamps.take())
    streams, numbers = zip(*(stamp.strip("~").split(".") for stamp in taken), strict=True)
    assert (len({*streams}), numbers) == (1, ("1", "2"))


def test_the_count_of_dropped_lines_has_no_number_and_the_dropped_ones_leave_a_gap(
    live: Path, silent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rollsafe._live.writer.PENDING_BYTES", 1000)
    handler = handler_for(live)
    log(handler, "before")
    live.unlink()
    live.mkdir()
    handler._file.expire_lease()
    handler._file.stream.close()
    for _ in range(20):
        log(handler, "during")
    live.rmdir()
    handler.flush()
    handler.close()
    lines = live.read_bytes().splitlines()
    assert re.search(rb"rollsafe: \d+ lines were dropped because the log could not be written ~$", lines[-1])
    assert all(STAMP.search(line) for line in lines[:-1])
