"""A record that lacks a field of the format: its line is written, with a dash there."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, Literal

import pytest
from pythonjsonlogger.json import JsonFormatter

from rollsafe import LineFormatter, SafeTimedRotatingFileHandler


@pytest.fixture
def live(tmp_path: Path) -> Path:
    return tmp_path / "app.log"


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What `handleError` is called for."""
    found: list[str] = []
    monkeypatch.setattr(logging.Handler, "handleError", lambda self, record: found.append(record.getMessage()))
    return found


def log(live: Path, formatter: logging.Formatter, *records: dict[str, Any]) -> list[str]:
    """The lines of these records."""
    handler = SafeTimedRotatingFileHandler(live)
    handler.setFormatter(formatter)
    for fields in records:
        handler.handle(logging.makeLogRecord({"name": "shop", "msg": "text", **fields}))
    handler.close()
    return live.read_text().splitlines()


@pytest.mark.parametrize("kind", [logging.Formatter, LineFormatter])
@pytest.mark.parametrize(
    ("fmt", "style", "lines"),
    [
        ("%(trace)s %(message)s", "%", ["- text", "4bf9 text"]),
        ("%(trace)s %(sampled)03d %(took).1f %(message)s", "%", ["- 000 0.0 text", "4bf9 000 0.0 text"]),
        # Datadog's fields; no attribute has such a name.
        ("%(dd.trace_id)s %(message)s", "%", ["- text", "- text"]),
        ("{trace:>3} {sampled:03d} {message}", "{", ["  - - text", "4bf9 - text"]),
        ("$trace ${span} $message", "$", ["- - text", "4bf9 - text"]),
    ],
)
def test_a_field_that_a_record_lacks_is_a_dash_in_each_style(
    kind: type[logging.Formatter],
    fmt: str,
    style: Literal["%", "{", "$"],
    lines: list[str],
    live: Path,
    reports: list[str],
) -> None:
    assert log(live, kind(fmt, style=style), {}, {"trace": "4bf9"}) == lines


def test_each_missing_field_is_reported_once_with_the_remedy(live: Path, reports: list[str]) -> None:
    log(live, LineFormatter("%(trace)s %(span)s %(message)s"), {}, {}, {"trace": "4bf9"})
    assert reports == [
        f"a record of logger shop lacks the field '{field}' of the format, so its line has a dash there;"
        f" give the formatter defaults={{'{field}': '-'}}"
        for field in ("trace", "span")
    ]


def test_the_report_on_standard_error_has_no_traceback_of_the_attempts(
    live: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log(live, LineFormatter("%(trace)s %(message)s"), {}, {})
    said = capsys.readouterr().err
    assert said.count("Traceback") == 1
    assert "MissingField: the record has no field 'trace'" in said


def test_a_traceback_and_the_numbers_of_the_lines_are_as_ever(live: Path, reports: list[str]) -> None:
    lines = log(live, LineFormatter("%(trace)s %(message)s %(stamp)s"), {}, {"exc_text": "Traceback:\nboom"}, {})
    assert [line.rpartition(" ")[0] for line in lines] == ["- text", "- text\\nTraceback:\\nboom", "- text"]
    assert [line.rpartition(".")[2] for line in lines] == ["1~", "2~", "3~"]


def test_other_handlers_do_not_get_the_dash(live: Path, reports: list[str]) -> None:
    handler = SafeTimedRotatingFileHandler(live)
    handler.setFormatter(LineFormatter("%(trace)s %(message)s"))
    record = logging.makeLogRecord({"msg": "text"})
    handler.handle(record)
    handler.close()
    assert "trace" not in record.__dict__


def test_a_json_formatter_has_its_own_value_for_such_a_field(live: Path, reports: list[str]) -> None:
    (line,) = log(live, JsonFormatter("%(trace)s %(message)s"), {})
    assert json.loads(line) == {"trace": None, "message": "text"}
    assert reports == []


@pytest.mark.parametrize("fields", [{"msg": "%(who)s", "args": ({"w": 1},)}, {"msg": "%d", "args": ("text",)}])
def test_a_message_that_its_arguments_do_not_fit_is_reported_as_ever(
    fields: dict[str, Any], live: Path, reports: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.Handler, "handleError", lambda self, record: reports.append(record.msg))
    assert log(live, LineFormatter("%(message)s"), fields) == []
    assert reports == [fields["msg"]]


def test_the_handlers_own_messages_have_a_dash_too(live: Path) -> None:
    handler = SafeTimedRotatingFileHandler(live)
    handler.setFormatter(LineFormatter("%(levelname)s %(trace)s %(message)s"))
    assert handler._encoder.own_line("hello") == b"WARNING - rollsafe: hello\n"
    handler.close()
