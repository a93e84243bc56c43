"""A record as a JSON object: its times, and fields that are missing or renamed."""

from __future__ import annotations

import datetime
import json
import logging
import sys
import time
from typing import Any

import pytest

from rollsafe import ConfigurationError

json_lines = pytest.importorskip(
    "rollsafe.json_lines", reason="python-json-logger is not installed: pip install rollsafe[json]"
)
JSONFormatter = json_lines.JSONFormatter

INSTANT = 1764417600.25
"""2025-11-29 12:00:00.250 UTC."""
FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


def line_of(formatter: logging.Formatter, message: str = "text", instant: float = INSTANT, **fields: Any) -> Any:
    """The object that the formatter makes of a record."""
    record = logging.makeLogRecord({"msg": message, "levelname": "INFO", "name": "shop", **fields})
    record.created = instant
    text = formatter.format(record)
    assert "\n" not in text
    return json.loads(text)


@pytest.mark.parametrize(
    ("tz", "text"),
    [
        ("Asia/Kolkata", "2025-11-29T17:30:00.250+05:30"),
        ("UTC", "2025-11-29T12:00:00.250+00:00"),
        (datetime.timezone.utc, "2025-11-29T12:00:00.250+00:00"),
    ],
)
def test_a_time_is_iso_8601_with_its_offset(tz: Any, text: str) -> None:
    assert line_of(JSONFormatter(FORMAT, tz=tz)) == {
        "asctime": text,
        "levelname": "INFO",
        "name": "shop",
        "message": "text",
    }


def test_without_a_zone_the_time_is_local_with_its_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/St_Johns")
    time.tzset()
    try:
        assert line_of(JSONFormatter(FORMAT))["asctime"] == "2025-11-29T08:30:00.250-03:30"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_both_hours_of_an_autumn_night_can_be_told_apart() -> None:
    first = datetime.datetime(2026, 10, 25, 0, 30, tzinfo=datetime.timezone.utc).timestamp()
    formatter = JSONFormatter(FORMAT, tz="Europe/Paris")
    assert [line_of(formatter, instant=instant)["asctime"] for instant in (first, first + 3600)] == [
        "2026-10-25T02:30:00.000+02:00",
        "2026-10-25T02:30:00.000+01:00",
    ]


def test_a_datefmt_counts_and_so_does_the_zone() -> None:
    formatter = JSONFormatter(FORMAT, "%H:%M %z", tz="Asia/Kolkata")
    assert line_of(formatter)["asctime"] == "17:30 +0530"


def test_a_field_that_the_record_lacks_has_its_default() -> None:
    formatter = JSONFormatter("%(message)s %(request_id)s %(trace_id)s", defaults={"request_id": "-"})
    assert line_of(formatter) == {"message": "text", "request_id": "-", "trace_id": None}
    assert line_of(formatter, request_id="abc-1", trace_id="7") == {
        "message": "text",
        "request_id": "abc-1",
        "trace_id": "7",
    }


def test_fields_may_be_renamed_also_those_with_a_default() -> None:
    formatter = JSONFormatter(
        "%(asctime)s %(message)s %(request_id)s",
        tz="UTC",
        rename_fields={"asctime": "@timestamp", "request_id": "http.request.id"},
        defaults={"request_id": "-"},
    )
    assert line_of(formatter) == {
        "@timestamp": "2025-11-29T12:00:00.250+00:00",
        "message": "text",
        "http.request.id": "-",
    }


def test_control_characters_and_values_that_are_no_json_lose_no_line() -> None:
    formatter = JSONFormatter("%(message)s")
    text = "".join(map(chr, range(0xA0))) + "\u2028\u202e\ud800"
    made = line_of(formatter, text, extra_object=object, day=datetime.date(2026, 11, 29), raw=b"\xff")
    assert made["message"] == text
    assert made["day"] == "2026-11-29"


def test_the_coloured_message_of_uvicorn_is_left_out_and_other_extras_are_not() -> None:
    made = line_of(JSONFormatter("%(message)s"), color_message="\x1b[1mtext\x1b[0m", order=7)
    assert made == {"message": "text", "order": 7}


def test_an_unknown_zone_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match="tz='Europe/Nowhere' is not a zone"):
        JSONFormatter(FORMAT, tz="Europe/Nowhere")


def test_the_error_without_python_json_logger_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pythonjsonlogger.json", None)
    monkeypatch.delitem(sys.modules, "rollsafe.json_lines")
    with pytest.raises(ImportError, match=r"pip install 'rollsafe\[json\]'"):
        __import__("rollsafe.json_lines")
