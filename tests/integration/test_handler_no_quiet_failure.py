"""No failure is quiet: whatever cannot be written is reported or counted."""

from __future__ import annotations

import logging
import re
import time
from pathlib import Path

import pytest

from rollsafe._live import writer
from rollsafe._live.pending import size_of
from tests.support.crew import WatchedHandler
from tests.support.logs import Make, log
from tests.support.texts import full_disk


@pytest.fixture
def outgrown(make: Make, monkeypatch: pytest.MonkeyPatch) -> WatchedHandler:
    """A handler on a full disk that has been given five lines, of which two may wait in memory."""
    monkeypatch.setattr(writer, "PENDING_BYTES", 2 * size_of(b"x" * 39 + b"\n") + 20)
    handler = make(when="H")
    with full_disk(handler):
        for _ in range(5):
            log(handler, "x" * 39)
    return handler


def test_write_line_reports_what_cannot_be_encoded(live: Path, make: Make) -> None:
    handler = make(encoding="ascii", errors="strict")
    handler.write_line("größer", time.time())
    assert len(handler.take_reports()) == 1
    assert live.read_text() == ""


def test_what_does_not_fit_in_memory_is_counted_in_a_line_of_its_own(live: Path, outgrown: WatchedHandler) -> None:
    (report,) = outgrown.take_reports()
    assert "No space left" in report
    outgrown.flush()
    lines = live.read_text().splitlines()
    assert lines[:2] == ["x" * 39] * 2
    assert re.fullmatch(r"rollsafe: 3 lines were dropped .*", lines[2])
    assert len(lines) == 3


def test_lines_that_were_dropped_are_told_apart_from_those_that_still_wait_at_the_end(outgrown: WatchedHandler) -> None:
    with full_disk(outgrown):
        outgrown.close()
    *_, report = outgrown.take_reports()
    assert "2 lines for" in report
    assert "are lost if the process ends now; 3 more were dropped before" in report


def test_a_record_that_cannot_be_formatted_is_reported_and_the_next_one_written(live: Path, make: Make) -> None:
    handler = make(when="H")
    handler.handle(logging.makeLogRecord({"msg": "%d", "args": ("no number",)}))
    log(handler, "next")
    assert live.read_text() == "next\n"
    assert len(handler.take_reports()) == 1


def test_what_the_encoding_cannot_express_is_escaped_rather_than_lost(live: Path, make: Make) -> None:
    log(make(when="H", encoding="ascii"), "caf\u00e9 \udc80")
    assert live.read_bytes() == b"caf\\xe9 \\udc80\n"


def test_errors_is_honoured(live: Path, make: Make) -> None:
    log(make(when="H", encoding="ascii", errors="replace"), "caf\u00e9")
    strict = make(when="H", encoding="ascii", errors="strict")
    log(strict, "caf\u00e9")
    assert live.read_bytes() == b"caf?\n"
    assert len(strict.take_reports()) == 1


class Atoms(dict[str, str]):
    """The arguments of gunicorn's access line."""


@pytest.mark.parametrize("trouble", ["full", "encoding"])
def test_what_is_reported_of_a_line_that_cannot_be_written_has_its_text_and_not_its_arguments(
    live: Path, make: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    class Handler(WatchedHandler):
        handleError = logging.Handler.handleError

    handler = make(kind=Handler, when="H", encoding="ascii", errors="strict")
    log(handler, "before")
    record = logging.LogRecord("gunicorn.access", logging.INFO, "", 0, "%(r)s", (Atoms(),), None)
    record.args = Atoms(r="GET /ü" if trouble == "encoding" else "GET /", authorization="Basic c2VjcmV0")
    if trouble == "full":
        with full_disk(handler):
            handler._file.expire_lease()
            handler.handle(record)
    else:
        handler.handle(record)
    told = capsys.readouterr().err
    assert "GET /" in told
    assert "c2VjcmV0" not in told
    assert record.args["authorization"] == "Basic c2VjcmV0"
