"""The compiled JSON line has the bytes of python-json-logger's, and notices whatever changes those."""

from __future__ import annotations

import copy
import datetime
import decimal
import enum
import json
import logging
import pickle
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

json_lines = pytest.importorskip(
    "rollsafe.json_lines", reason="python-json-logger is not installed: pip install rollsafe[json]"
)
from pythonjsonlogger import core  # noqa: E402  # after the check that it is installed
from pythonjsonlogger.json import JsonEncoder, JsonFormatter  # noqa: E402

from rollsafe._preset import LINE_FORMAT  # noqa: E402

JSONFormatter = json_lines.JSONFormatter


class Text(str):
    """A string with another text."""

    def __str__(self) -> str:
        return "another"

    def __repr__(self) -> str:
        return "another"


class Number(int):
    """A number with another text."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "another"


class Colour(str, enum.Enum):
    """A string that is a member of an enumeration."""

    RED = "red"


class Level(enum.IntEnum):
    """A number that is a member of an enumeration."""

    HIGH = 7


odd_texts = st.text(alphabet=st.sampled_from([*'\\"/aé\n\t\x00\x1f\x7f\x85\u2028\u202e\ud800', "\U0001f600"]))
texts = st.one_of(odd_texts, st.text(max_size=20), st.just("x" * 100))
values = st.recursive(
    st.one_of(
        texts,
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.binary(max_size=3),
        st.sampled_from(
            [
                Text("text"),
                Number(5),
                Colour.RED,
                Level.HIGH,
                decimal.Decimal("1.10"),
                datetime.datetime(2026, 11, 29, tzinfo=datetime.timezone.utc),
                datetime.date(2026, 11, 29),
                ValueError("text"),
                object,
                {1: 2, None: 3, False: 4, 1.5: 5},
                {(1, 2): 3},
                {1, 2},
            ]
        ),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
NAMES = ["tenant", "trace_id", "levelname", "message", "asctime", "_hidden", "color_message", "timestamp", "t", 'é"']
names = st.one_of(st.sampled_from(NAMES), texts.filter(bool))
renames = st.dictionaries(names, st.one_of(names, st.just(Text("renamed"))), max_size=3)
formats = st.sampled_from(
    [
        LINE_FORMAT,
        "%(message)s",
        "%(asctime)s %(message)s %(tenant)s %(trace_id)s",
        "%(message)s %(message)s %(levelno)s %(args)s %(taskName)s",
        "%(tenant)s %(_hidden)s",
        "%(exc_info)s %(stack_info)s %(created)f %(name)s %(pathname)s %(lineno)d %(funcName)s %(timestamp)s",
        "",
    ]
)
options = st.fixed_dictionaries(
    {},
    optional={
        "defaults": st.dictionaries(names, values, max_size=2),
        "rename_fields": renames,
        "rename_fields_keep_missing": st.booleans(),
        "static_fields": st.dictionaries(names, values, max_size=2),
        "timestamp": st.one_of(st.booleans(), names),
        "reserved_attrs": st.lists(names, max_size=3),
        "json_ensure_ascii": st.booleans(),
        "json_indent": st.sampled_from([None, 2]),
        "prefix": st.sampled_from(["", "{json} '\""]),
        "datefmt": st.sampled_from(["%H:%M:%S", 'é"%Y', ""]),
        "tz": st.sampled_from(["Asia/Kolkata", datetime.timezone(datetime.timedelta(seconds=-1, microseconds=500))]),
    },
)
# Moments, dense where a fraction of a second is rounded.
moments = st.one_of(
    st.floats(min_value=-1e9, max_value=4e9, allow_nan=False),
    st.integers(min_value=0, max_value=2_000_000_000),
    st.builds(
        lambda second, thousandth, more: second + thousandth / 1000 + more,
        st.integers(min_value=0, max_value=2_000_000_000),
        st.integers(min_value=0, max_value=1000),
        st.sampled_from([0, 5e-7, -5e-7, 1e-6, -1e-6, 4.9e-7, -4.9e-7]),
    ),
)


def record_of(message: Any = "text", /, created: float = 1764417600.25, **fields: Any) -> logging.LogRecord:
    """A record as a logger makes it."""
    record = logging.LogRecord("shop", logging.INFO, "/srv/shop.py", 7, message, (), None, "buy")
    record.created = created
    record.__dict__.update(fields)
    return record


def outcome(make: Callable[[logging.LogRecord], str], record: logging.LogRecord) -> str | type[Exception]:
    """The line of a record, or the type of the error."""
    try:
        return make(record)
    except Exception as error:
        return type(error)


def by_python_json_logger(formatter: Any) -> Callable[[logging.LogRecord], str]:
    """The way of python-json-logger itself to make a line of this formatter."""
    return lambda record: JsonFormatter.format(formatter, record)


any_case = given(formats, options, st.one_of(texts, values), st.dictionaries(names, values, max_size=3), moments)


@settings(max_examples=15)
@any_case
@example(LINE_FORMAT, {}, "text", {}, 0.9999996)
@example(LINE_FORMAT, {"tz": "Asia/Kolkata", "datefmt": "%H:%M:%S"}, "text", {}, 0.9999996)
@example("%(message)s", {"rename_fields": {"a": "b"}}, "text", {"a": 1, "b": 2}, 0.0)
@example("%(message)s", {"defaults": {"tenant": 1}}, "text", {"tenant": 2}, 0.0)
def test_every_line_is_that_of_python_json_logger(
    fmt: str, given_options: dict[str, Any], message: Any, fields: dict[str, Any], created: float
) -> None:
    compare(fmt, given_options, message, fields, created)


@pytest.mark.slow
@settings(max_examples=1500)
@any_case
def test_every_line_is_that_of_python_json_logger_also_in_thousands_of_cases(
    fmt: str, given_options: dict[str, Any], message: Any, fields: dict[str, Any], created: float
) -> None:
    compare(fmt, given_options, message, fields, created)


@pytest.mark.parametrize("ascii", [True, False])
def test_every_character_is_written_as_python_json_logger_does(ascii: bool) -> None:
    for character in [*map(chr, range(0x100)), "\u2028", "\ud800", "\U0001f600"]:
        for text in (character, f"a{character}b"):
            compare("%(message)s %(name)s", {"json_ensure_ascii": ascii}, text, {"name": text, "tenant": text}, 0.0)


def compare(fmt: str, given_options: dict[str, Any], message: Any, fields: dict[str, Any], created: float) -> None:
    """Make lines with a formatter in both ways."""
    formatter = JSONFormatter(fmt, **given_options)
    for number in range(3):
        # The first record compiles, the second one has the same attributes, the third one has others.
        record, twin = (record_of(message, created, **(fields if number < 2 else {})) for _ in range(2))
        twin.relativeCreated, twin.msecs = record.relativeCreated, record.msecs
        assert outcome(formatter.format, record) == outcome(by_python_json_logger(formatter), twin)
        assert list(record.__dict__) == list(twin.__dict__)


@settings(max_examples=30)
@given(moments)
def test_the_time_of_a_compiled_line_is_that_of_datetime(created: float) -> None:
    made = json.loads(FORMATTER.format(record_of(created=created)))
    moment = datetime.datetime.fromtimestamp(created, datetime.timezone.utc)
    assert made["asctime"] == moment.isoformat(timespec="milliseconds")


FORMATTER = JSONFormatter("%(asctime)s", tz="UTC")


def calls_of_python_json_logger(formatter: Any, record: logging.LogRecord) -> list[str]:
    """The functions of python-json-logger that make a line."""
    calls = []

    def see(frame: types.FrameType, event: str, argument: object) -> None:
        if event == "call" and "pythonjsonlogger" in frame.f_code.co_filename:
            calls.append(frame.f_code.co_name)

    formatter.format(record_of())
    sys.setprofile(see)
    try:
        formatter.format(record)
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize(
    "given_options",
    [
        {},
        {"json_ensure_ascii": False},
        {"datefmt": "%H:%M"},
        {"tz": "Asia/Kolkata", "timestamp": False, "prefix": "> "},
        {"rename_fields": {"message": "event"}, "static_fields": {"host": "a", "port": 1}, "defaults": {"t": "-"}},
    ],
)
@pytest.mark.parametrize("message", ["plain", 'é"\\\n', 17])
def test_usual_lines_are_made_without_python_json_logger(given_options: dict[str, Any], message: Any) -> None:
    record = record_of(message, order=7, user="bob", share=1.5, ok=True, nothing=None)
    assert calls_of_python_json_logger(JSONFormatter(LINE_FORMAT, **given_options), record) == []


@pytest.mark.parametrize("fields", [{"exc_text": "text"}, {"stack_info": "text"}, {"msg": {"a": 1}}])
def test_python_json_logger_makes_the_line_of_an_exception_a_stack_and_a_dictionary(fields: dict[str, Any]) -> None:
    assert "format" in calls_of_python_json_logger(JSONFormatter(LINE_FORMAT), record_of(**fields))


def shout(formatter: Any, log_data: dict[str, Any]) -> dict[str, Any]:
    """A `process_log_record` that changes the message."""
    return {**log_data, "message": "SHOUTED"}


@pytest.mark.parametrize(
    ("owner", "name", "replacement"),
    [
        (JSONFormatter, "process_log_record", shout),
        (core.BaseJsonFormatter, "process_log_record", shout),
        (JsonFormatter, "jsonify_log_record", lambda formatter, log_data: "SHOUTED"),
        (JsonFormatter, "serialize_log_record", lambda formatter, log_data: "SHOUTED"),
        (JsonFormatter, "add_fields", lambda formatter, data, record, given: data.update(message="SHOUTED")),
        (JSONFormatter, "add_fields", lambda formatter, data, record, given: data.update(message="SHOUTED")),
        (JsonEncoder, "iterencode", lambda encoder, value, _one_shot=False: ["SHOUTED"]),
        (JsonEncoder, "encode", lambda encoder, value: "SHOUTED"),
        (core, "merge_record_extra", lambda record, target, **options: target.update(message="SHOUTED")),
        (core.BaseJsonFormatter, "_get_rename", lambda formatter, key: "SHOUTED"),
    ],
)
def test_a_method_that_a_class_gets_later_is_used_from_the_next_second_on(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, replacement: Any
) -> None:
    formatter = JSONFormatter("%(message)s")
    assert formatter.format(record_of()) == '{"message": "text"}'
    monkeypatch.setattr(owner, name, replacement)
    assert "SHOUTED" in formatter.format(record_of(created=1764417601.25))
    monkeypatch.undo()
    assert formatter.format(record_of(created=1764417602.25)) == '{"message": "text"}'


def test_a_format_that_a_class_gets_later_is_used_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    formatter = JSONFormatter("%(message)s")
    formatter.format(record_of())
    monkeypatch.setattr(core.BaseJsonFormatter, "format", lambda formatter, record: "SHOUTED")
    assert formatter.format(record_of()) == "SHOUTED"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("process_log_record", lambda log_data: {"message": "SHOUTED"}),
        ("add_fields", lambda data, record, given: data.update(message="SHOUTED")),
        ("jsonify_log_record", lambda log_data: "SHOUTED"),
        ("json_serializer", lambda log_data, **options: "SHOUTED"),
        ("json_encoder", type("Shouting", (json.JSONEncoder,), {"encode": lambda encoder, value: "SHOUTED"})),
        ("prefix", "SHOUTED"),
        ("rename_fields", {"message": "SHOUTED"}),
        ("static_fields", {"more": "SHOUTED"}),
        ("defaults", {"more": "SHOUTED"}),
        ("timestamp", "SHOUTED"),
        ("_required_fields", ["SHOUTED"]),
    ],
)
def test_an_attribute_that_an_object_gets_later_is_used_at_once_and_so_is_its_removal(name: str, value: Any) -> None:
    formatter = JSONFormatter("%(message)s")
    assert formatter.format(record_of()) == '{"message": "text"}'
    before = vars(formatter).get(name)
    setattr(formatter, name, value)
    assert "SHOUTED" in formatter.format(record_of())
    if before is None:
        delattr(formatter, name)
    else:
        setattr(formatter, name, before)
    assert formatter.format(record_of()) == '{"message": "text"}'


def test_options_that_are_changed_in_place_are_used_at_once() -> None:
    defaults = {"tenant": "a"}
    formatter = JSONFormatter("%(message)s %(tenant)s", defaults=defaults, static_fields={"host": "a"})
    formatter.format(record_of())
    defaults["tenant"] = "b"
    formatter.static_fields["host"] = "b"
    assert formatter.format(record_of()) == '{"tenant": "b", "message": "text", "host": "b"}'
    formatter.static_fields["port"] = 1
    formatter.rename_fields["message"] = "event"
    assert formatter.format(record_of()) == '{"tenant": "b", "event": "text", "host": "b", "port": 1}'
    formatter.static_fields["port"] = True
    assert formatter.format(record_of()) == '{"tenant": "b", "event": "text", "host": "b", "port": true}'


def test_a_record_without_a_usual_attribute_and_with_another_one_has_all_its_fields() -> None:
    formatter = JSONFormatter("%(message)s")
    formatter.format(record_of())
    record = record_of(user="bob")
    del record.threadName
    assert formatter.format(record) == '{"message": "text", "user": "bob"}'


def test_a_class_in_between_counts() -> None:
    class Loud(JsonFormatter):
        """Another subclass of python-json-logger's."""

        def add_fields(self, log_data: dict[str, Any], record: Any, message_dict: Any) -> None:
            super().add_fields(log_data, record, message_dict)
            log_data["message"] = "SHOUTED"

    both = type("Both", (JSONFormatter, Loud), {})
    assert both("%(message)s").format(record_of()) == '{"message": "SHOUTED"}'


def test_a_newer_python_json_logger_that_makes_another_line_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    # As a release would be: the method is there when our module is imported.
    def add_fields(self: Any, log_data: dict[str, Any], record: Any, message_dict: Any) -> None:
        """Add one field more."""
        log_data.update({"message": record.message, "version": 5})

    monkeypatch.setattr(JsonFormatter, "add_fields", add_fields)
    monkeypatch.setitem(json_lines._METHODS, "add_fields", add_fields)
    assert JSONFormatter("%(message)s").format(record_of()) == '{"message": "text", "version": 5}'


@pytest.mark.parametrize("twin_of", [copy.copy, copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))])
def test_a_copy_makes_the_same_lines_and_follows_its_own_options(twin_of: Callable[[Any], Any]) -> None:
    formatter = JSONFormatter("%(asctime)s %(message)s", tz="Asia/Kolkata")
    line = formatter.format(record_of())
    twin = twin_of(formatter)
    assert twin.format(record_of()) == line
    twin.prefix = "> "
    assert twin.format(record_of()) == f"> {line}"
    assert formatter.format(record_of()) == line
