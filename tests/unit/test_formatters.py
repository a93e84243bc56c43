"""LineFormatter: one record is one line, reversibly; apart from that it is logging.Formatter."""

from __future__ import annotations

import copy
import datetime
import logging
import logging.config
import pickle
import sys
import threading
import time
import types
from collections.abc import Callable
from typing import Any, Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rollsafe._lines.formats import compile_format
from rollsafe.errors import ConfigurationError
from rollsafe.formatters import _LONG, _SLICE, LineFormatter, escape, unescape

CONTROLS = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)]
CONTROLS += [chr(code) for code in (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))]

# Text that is dense in what the escaping has to tell apart.
dense_text = st.text(alphabet=st.sampled_from(["\\", "n", "r", "t", "x", "u", "0", "a", '"', " ", "\ud800", *CONTROLS]))
any_text = st.one_of(dense_text, st.text(alphabet=st.characters()))
seconds = st.floats(min_value=-2e9, max_value=4e9, allow_nan=False)

Style = Literal["%", "{", "$"]
FORMATS: list[tuple[str | None, Style]] = [
    (None, "%"),
    ("%(asctime)s %(levelname)s %(name)s %(message)s", "%"),
    ("%(levelname)-8s|%(message)s\n", "%"),
    ("{asctime} {levelname:>8} {message}", "{"),
    ("$asctime ${levelname} $message", "$"),
    ("%(asctime)s %(tenant)s %(message)s", "%"),
    ("{tenant} {message}", "{"),
    ("$tenant $message", "$"),
]


def record_of(message: str = "hello", created: float = 1_700_000_000.25, **attributes: Any) -> logging.LogRecord:
    """A record with a fixed creation time, its milliseconds computed as LogRecord does."""
    milliseconds = int((created - int(created)) * 1000) + 0.0
    fields = {"name": "app", "levelname": "INFO", "msg": message, "created": created, "msecs": milliseconds}
    return logging.makeLogRecord({**fields, **attributes})


def exception_record(message: str = "failed") -> logging.LogRecord:
    """A record that carries a real traceback whose exception text has two lines."""
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        return record_of(message, exc_info=sys.exc_info())


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("plain é 日本 \xa0", "plain é 日本 \xa0"),
        ("a\nb\rc\td", r"a\nb\rc\td"),
        ("\x00\x1b[31m\x7f", r"\x00\x1b[31m\x7f"),
        ("\x85\u2028\u2029", r"\x85\u2028\u2029"),
        ("\u202egpj.exe\u2066\u200e\u061c", r"\u202egpj.exe\u2066\u200e\u061c"),
        ("\u200d\u2010\u202f\u2065", "\u200d\u2010\u202f\u2065"),
        (r"\"quoted\"", r"\"quoted\""),
        (r"C:\dir", r"C:\dir"),
        (r"C:\new", r"C:\\new"),
        (r"\\host", r"\\\host"),
        ("ends with \\", "ends with \\"),
        ("\\\n", r"\\\n"),
    ],
)
def test_escape_writes_control_characters_out_and_doubles_only_ambiguous_backslashes(text: str, escaped: str) -> None:
    assert escape(text) == escaped
    assert unescape(escaped) == text


@given(any_text)
@example("\\\\n")
@example("\\\\\n")
def test_unescape_restores_every_string(text: str) -> None:
    assert unescape(escape(text)) == text


@given(any_text)
def test_escaped_text_holds_no_line_separator_and_no_control_character(text: str) -> None:
    escaped = escape(text)
    assert len(f"a{escaped}b".splitlines()) == 1
    assert not set(CONTROLS) & set(escaped)


@pytest.mark.parametrize("char", CONTROLS, ids=ascii)
def test_every_control_character_is_escaped(char: str) -> None:
    escaped = escape(char)
    assert escaped.isascii()
    assert escaped.isprintable()
    assert escaped == escaped.lower()
    assert unescape(escaped) == char
    assert LineFormatter().format(record_of(char)) == escaped


@given(st.text(alphabet=st.characters(exclude_characters=["\\", *CONTROLS])))
def test_text_without_control_characters_and_backslashes_is_left_as_it_is(text: str) -> None:
    assert escape(text) == text


def test_unescape_leaves_what_escape_never_writes() -> None:
    for text in (r"\q", r"\xZZ", r"\u12", "\\", r"\X0A"):
        assert unescape(text) == text


def test_a_forged_line_in_a_message_stays_inside_its_own_line() -> None:
    text = LineFormatter("%(levelname)s %(message)s").format(record_of("hi\n2026-01-01 CRITICAL all is lost"))
    assert text == r"INFO hi\n2026-01-01 CRITICAL all is lost"


def test_traceback_and_stack_are_on_the_line_and_can_be_restored() -> None:
    record = exception_record()
    record.stack_info = 'Stack:\n  File "x.py"'
    expected = logging.Formatter("%(message)s").format(copy.copy(record))

    text = LineFormatter("%(message)s").format(record)

    assert len(text.splitlines()) == 1
    assert unescape(text) == expected
    assert expected.count("\n") > 3


def test_the_traceback_cached_on_the_record_stays_unescaped() -> None:
    record = exception_record()
    LineFormatter().format(record)
    assert record.exc_text is not None
    assert record.exc_text == logging.Formatter().format(exception_record()).removeprefix("failed\n")


def test_a_traceback_cached_by_another_formatter_is_used_and_not_changed() -> None:
    record = exception_record()
    record.exc_text = "their\ttext"
    assert LineFormatter("%(message)s").format(record) == r"failed\ntheir\ttext"
    assert record.exc_text == "their\ttext"


def test_field_values_and_time_text_are_escaped_too() -> None:
    formatter = LineFormatter("%(asctime)s %(user)s", datefmt="%Y%n%m", defaults={"user": "a\nb"})
    assert len(formatter.format(record_of()).splitlines()) == 1


def test_escaping_can_be_switched_off() -> None:
    assert LineFormatter(escape=False).format(record_of("a\nb\\n")) == "a\nb\\n"


@given(
    form=st.sampled_from(FORMATS),
    datefmt=st.sampled_from([None, "", "%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z", "constant"]),
    message=any_text,
    created=seconds,
    exc_text=st.none() | any_text,
    stack_info=st.none() | any_text,
)
def test_without_escaping_the_text_is_that_of_the_standard_formatter(
    form: tuple[str | None, Style],
    datefmt: str | None,
    message: str,
    created: float,
    exc_text: str | None,
    stack_info: str | None,
) -> None:
    fmt, style = form
    standard = logging.Formatter(fmt, datefmt, style, defaults={"tenant": "t1"})
    ours = LineFormatter(fmt, datefmt, style, defaults={"tenant": "t1"}, escape=False)
    record = record_of(message, created, exc_text=exc_text, stack_info=stack_info)
    assert ours.format(copy.copy(record)) == standard.format(copy.copy(record))


FIELDS = ["message", "asctime", "levelname", "name", "process", "msecs", "lineno", "tenant", "class", "getMessage"]
literals = st.text(alphabet=st.sampled_from([*"ab {}$%'\"\\\n()!:", "é"]), max_size=6)


def percent_field(name: str, how: str) -> str:
    return f"%({name}){how}"


percent_fields = st.builds(
    percent_field, st.sampled_from(FIELDS), st.sampled_from(["s", "s", "r", "-8s", "8.3s", "03d", "d", ".1f", "x", "q"])
)
brace_fields = st.builds(
    "{{{}{}}}".format,
    st.sampled_from([*FIELDS, "name[0]", "name.real", "0", ""]),
    st.sampled_from(["", "", "!r", "!s:>8", ":>12", ":*^9", ":{lineno}", ":%H"]),
)
dollar_fields = st.builds(str.format, st.sampled_from(["${}", "${{{}}}", "$${}"]), st.sampled_from(FIELDS))
formats = st.one_of(
    [
        st.tuples(st.lists(fields | literals, max_size=5).map("".join), st.just(style))
        for style, fields in (("%", percent_fields), ("{", brace_fields), ("$", dollar_fields))
    ]
)


class Odd:
    """Its three texts differ."""

    def __str__(self) -> str:
        return "by str"

    def __repr__(self) -> str:
        return "by repr"

    def __format__(self, specification: str) -> str:
        return "by format"


def outcome(formatter: Callable[[], logging.Formatter], record: logging.LogRecord) -> str:
    """The text, or the error."""
    try:
        return formatter().format(record)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


@settings(max_examples=400)
@given(
    form=formats,
    defaults=st.sampled_from([None, {}, {"tenant": "t1"}, {"message": "no", "class": 7}]),
    extra=st.dictionaries(
        st.sampled_from(["tenant", "class", "getMessage"]), st.sampled_from(["x", 3, None, 2.5, Odd()])
    ),
    message=any_text,
    created=seconds,
)
@example(("%(message)s 100%% {x} '\"", "%"), None, {}, "m", 1.0)
@example(("{{{message:>12}}} %s '\"", "{"), None, {}, "m", 1.0)
@example(("$$ ${message} {message} %(message)s", "$"), None, {}, "m", 1.0)
@example(("%(tenant)s %(tenant)r %(tenant)-9s", "%"), None, {"tenant": Odd()}, "m", 1.0)
@example(("{tenant} {tenant!s} {tenant!r:>9} {tenant:>9}", "{"), None, {"tenant": Odd()}, "m", 1.0)
@example(("$tenant ${tenant}", "$"), None, {"tenant": Odd()}, "m", 1.0)
def test_every_format_gives_the_text_or_the_error_of_the_standard_formatter(
    form: tuple[str, Style], defaults: dict[str, Any] | None, extra: dict[str, Any], message: str, created: float
) -> None:
    fmt, style = form

    def standard() -> logging.Formatter:
        return logging.Formatter(fmt, None, style, validate=False, defaults=defaults)

    def ours() -> logging.Formatter:
        return LineFormatter(fmt, None, style, validate=False, defaults=defaults, escape=False)

    record = record_of(message, created, **extra)
    assert outcome(ours, copy.copy(record)) == outcome(standard, copy.copy(record))


@pytest.mark.parametrize(
    ("fmt", "style"),
    [
        ("%(asctime)s,%(msecs)03d [%(process)d] %(levelname)-8s %(name)s: %(message)s 100%%", "%"),
        ("{asctime} {levelname:>8} {name!r} {message}", "{"),
        ("$asctime ${levelname} $message $$", "$"),
    ],
)
def test_usual_formats_are_compiled(fmt: str, style: Style) -> None:
    assert compile_format(fmt, style, {}) is not None


@pytest.mark.parametrize(
    ("fmt", "style"),
    [
        ("%(getMessage)s", "%"),
        ("%(class)s", "%"),
        ("%(lineno)*d", "%"),
        ("{name.real}", "{"),
        ("{:{x}}", "{"),
        ("$", "$"),
    ],
)
def test_formats_that_only_logging_can_do_are_not_compiled(fmt: str, style: Style) -> None:
    assert compile_format(fmt, style, {}) is None


def test_a_format_cannot_smuggle_in_code() -> None:
    fmt = "'{__import__}' \\N{BULLET} \" {{ %(message)s"
    assert LineFormatter(fmt, escape=False).format(record_of("m")) == fmt % {"message": "m"}


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("datefmt", "%H"),
        ("converter", lambda seconds: time.gmtime(seconds + 3600)),
        ("default_time_format", "%M:%S"),
        ("default_msec_format", "%s.%03dZ"),
        ("default_msec_format", "(%s) %d"),
        ("default_msec_format", None),
    ],
)
def test_what_the_time_text_depends_on_may_be_set_within_a_second(attribute: str, value: Any) -> None:
    standard, ours = logging.Formatter("%(asctime)s"), LineFormatter("%(asctime)s")
    ours.format(record_of())
    for formatter in (standard, ours):
        setattr(formatter, attribute, value)
    assert ours.format(record_of()) == standard.format(record_of())


def test_a_converter_set_on_the_standard_class_takes_effect_with_the_next_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    formatter = LineFormatter("%(asctime)s", datefmt="%H")
    formatter.format(record_of(created=0.0))
    monkeypatch.setattr(logging.Formatter, "converter", staticmethod(lambda seconds: time.gmtime(seconds + 7200)))
    assert formatter.format(record_of(created=1.0)) == "02"


def test_methods_that_a_subclass_overrides_are_called() -> None:
    class Shouting(LineFormatter):
        def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
            return "NOW"

    class Wrapping(LineFormatter):
        def formatMessage(self, record: logging.LogRecord) -> str:
            return f"<{super().formatMessage(record)}>"

    class Timeless(LineFormatter):
        def usesTime(self) -> bool:
            return False

    assert Shouting("%(asctime)s %(message)s").format(record_of()) == "NOW hello"
    assert Wrapping("%(message)s").format(record_of()) == "<hello>"
    with pytest.raises(ValueError, match="asctime"):
        Timeless("%(asctime)s").format(record_of())


def test_a_method_that_is_replaced_on_the_standard_class_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.Formatter, "formatTime", lambda self, record, datefmt=None: "NOW")
    assert LineFormatter("%(asctime)s %(message)s").format(record_of()) == "NOW hello"


def test_a_pickled_formatter_gives_the_same_text() -> None:
    formatter = LineFormatter("%(asctime)s %(message)s", datefmt="%S")
    again = pickle.loads(pickle.dumps(formatter))
    assert again.format(record_of("a\nb")) == formatter.format(record_of("a\nb"))


def test_message_is_left_on_the_record_as_the_standard_formatter_does() -> None:
    record = record_of("a %s", args=("b",))
    LineFormatter("%(levelname)s").format(record)
    assert record.message == "a b"


@given(any_text, st.sampled_from(FORMATS))
@example("\\n", FORMATS[0])
def test_with_escaping_the_text_is_the_escape_of_the_standard_text(
    message: str, form: tuple[str | None, Style]
) -> None:
    fmt, style = form
    standard = logging.Formatter(fmt, style=style, defaults={"tenant": "t1"})
    ours = LineFormatter(fmt, style=style, defaults={"tenant": "t1"})
    assert unescape(ours.format(record_of(message))) == standard.format(record_of(message))


def test_a_long_text_is_checked_to_its_last_character() -> None:
    formatter = LineFormatter()
    for char in [*map(chr, range(0x100)), *CONTROLS]:
        for text in (f"{'a' * 5000}{char}", f"{char}{'a' * 5000}", f"{'a' * 2500}{char}n{'a' * 2500}"):
            assert formatter.format(record_of(text)) == escape(text)
    for length in (_SLICE - 1, _SLICE, 2 * _SLICE - 1, 2 * _SLICE):
        for text in (f"{'a' * length}\n", f"{'a' * length}\nb", f"{'a' * length}\\nb", "a" * length):
            assert formatter.format(record_of(text)) == escape(text)


@given(any_text, st.sampled_from([0, _LONG - 40, _LONG - 10, _LONG, _LONG + 1, 5000]))
def test_a_text_of_any_length_is_escaped_alike(text: str, length: int) -> None:
    assert LineFormatter().format(record_of("a" * length + text)) == "a" * length + escape(text)


@given(st.lists(st.tuples(seconds, st.sampled_from([None, "%S", "%H:%M"])), min_size=2, max_size=20))
def test_one_formatter_gives_each_record_its_own_time_in_any_order(calls: list[tuple[float, str | None]]) -> None:
    standard, ours = logging.Formatter("%(asctime)s"), LineFormatter("%(asctime)s", escape=False)
    for created, datefmt in calls:
        standard.datefmt = ours.datefmt = datefmt
        assert ours.format(record_of(created=created)) == standard.format(record_of(created=created))


@pytest.mark.parametrize("created", [-0.5, -1.0, -1.25, 0, 0.999, 1_700_000_000])
def test_time_text_around_the_epoch_is_the_standard_one(created: float) -> None:
    record = record_of(created=created)
    assert LineFormatter("%(asctime)s").format(record) == logging.Formatter("%(asctime)s").format(record)


@pytest.mark.parametrize("created", [float("inf"), float("nan"), 1e20, -1e20])
def test_a_time_that_no_calendar_has_does_not_matter_to_a_format_without_time(created: float) -> None:
    assert LineFormatter("%(message)s").format(record_of(created=0.0)) == "hello"
    record = logging.makeLogRecord({"msg": "hello", "created": created})
    assert LineFormatter("%(message)s").format(record) == "hello"


def test_a_converter_set_on_the_instance_takes_effect_within_the_same_second() -> None:
    formatter = LineFormatter("%(asctime)s", datefmt="%H:%M")
    formatter.converter = lambda seconds: time.gmtime((seconds or 0) + 3600)
    first = formatter.format(record_of(created=0.0))
    formatter.converter = time.gmtime
    assert (first, formatter.format(record_of(created=0.0))) == ("01:00", "00:00")


def test_a_converter_and_default_formats_set_on_a_subclass_are_used() -> None:
    class Utc(LineFormatter):
        converter = staticmethod(time.gmtime)
        default_time_format = "%H:%M:%S"
        default_msec_format = "%s.%03d"

    assert Utc("%(asctime)s").format(record_of(created=3661.5)) == "01:01:01.500"


def test_without_a_millisecond_format_the_time_text_has_none() -> None:
    class NoMilliseconds(LineFormatter):
        converter = staticmethod(time.gmtime)
        default_msec_format = None

    assert NoMilliseconds("%(asctime)s").format(record_of(created=0.5)) == "1970-01-01 00:00:00"


@pytest.mark.parametrize("datefmt", [None, "%H:%M"])
def test_a_record_keeps_the_time_text_as_the_base_class_leaves_it(datefmt: str | None) -> None:
    seen = []
    for formatter in (logging.Formatter("%(asctime)s", datefmt), LineFormatter("%(asctime)s", datefmt)):
        record = record_of()
        formatter.format(record)
        seen.append(record.asctime)
    assert seen[0] == seen[1]
    record = record_of()
    LineFormatter("%(message)s").format(record)
    assert not hasattr(record, "asctime")


def test_the_time_text_is_made_once_for_each_second() -> None:
    converted: list[float | None] = []

    def converter(seconds: float | None) -> time.struct_time:
        converted.append(seconds)
        return time.gmtime(seconds)

    formatter = LineFormatter("%(asctime)s")
    formatter.converter = converter
    for created in (10.0, 10.2, 10.9, 11.0, 11.9):
        formatter.format(record_of(created=created))
    assert converted == [10, 11]


def test_threads_that_share_a_formatter_never_get_the_time_of_another_record() -> None:
    formatter = LineFormatter("%(asctime)s", datefmt="%S")
    formatter.converter = time.gmtime
    wrong: list[str] = []
    start = threading.Barrier(4)

    def work(offset: int) -> None:
        start.wait()
        for count in range(3000):
            second = (count + offset) % 60
            text = formatter.format(record_of(created=float(second)))
            if text != f"{second:02d}":
                wrong.append(text)

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert wrong == []


@pytest.mark.parametrize("style", ["x", "", None, ["%"]])
def test_an_unknown_style_is_refused_by_name(style: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"style=.* is unknown; use '%', '\{' or '\$'"):
        LineFormatter(style=style)


@pytest.mark.parametrize(
    ("fmt", "style"),
    [("{message}", "%"), ("%(message)s", "{"), ("%(message)s", "$"), ("{message!x}", "{"), ("$", "$"), (5, "%")],
)
def test_a_format_that_does_not_fit_its_style_is_refused_by_name(fmt: Any, style: Style) -> None:
    with pytest.raises(ConfigurationError) as refused:
        LineFormatter(fmt, style=style)
    assert str(refused.value).startswith(f"fmt={fmt!r} does not fit style={style!r} (")


@pytest.mark.parametrize("make", [logging.Formatter, LineFormatter])
def test_validate_false_accepts_a_format_without_fields(make: Callable[..., logging.Formatter]) -> None:
    assert make("no fields", validate=False).format(record_of()) == "no fields"


def test_dict_config_builds_it_by_class_and_by_factory() -> None:
    class Spy(logging.Handler):
        pass

    config: dict[str, Any] = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {"class": "rollsafe.formatters.LineFormatter", "format": "{message}", "style": "{"},
            "raw": {"()": "rollsafe.formatters.LineFormatter", "fmt": "%(message)s", "escape": False},
        },
        "handlers": {name: {"()": Spy, "formatter": name} for name in ("line", "raw")},
        "loggers": {"test_formatters": {"handlers": ["line", "raw"]}},
    }
    logging.config.dictConfig(config)
    logger = logging.getLogger("test_formatters")
    try:
        assert [handler.format(record_of("a\nb")) for handler in logger.handlers] == [r"a\nb", "a\nb"]
    finally:
        logger.handlers.clear()


FIELDS_THAT_LACK = [("%(message)s %(trace)s", "%"), ("{message} {trace:>4}", "{"), ("$message ${trace}", "$")]


@pytest.mark.parametrize(("fmt", "style"), FIELDS_THAT_LACK)
@pytest.mark.parametrize("by", ["factory", "class"])
def test_a_configuration_gives_defaults_for_fields_that_records_lack(fmt: str, style: Style, by: str) -> None:
    if by == "class" and sys.version_info < (3, 12):
        pytest.skip("dictConfig passes defaults to a class from Python 3.12 on")
    settings = {
        "factory": {"()": "rollsafe.LineFormatter", "fmt": fmt},
        "class": {"class": "rollsafe.LineFormatter", "format": fmt},
    }[by]
    configurator = logging.config.DictConfigurator(
        {"formatters": {"line": {**settings, "style": style, "defaults": {"trace": "none"}}}}
    )
    made = configurator.configure_formatter(configurator.config["formatters"]["line"])
    assert made.format(record_of()) == "hello none"
    assert made.format(record_of(trace="4bf9")) == "hello 4bf9"


@pytest.mark.parametrize("defaults", ["trace", ["trace"], 3])
def test_defaults_that_map_nothing_are_refused(defaults: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"defaults=.* is no mapping; give one such as"):
        LineFormatter("%(trace)s", defaults=defaults)


def test_defaults_may_be_any_mapping_and_are_copied() -> None:
    given_defaults = {"trace": "none"}
    formatter = LineFormatter("%(trace)s", defaults=types.MappingProxyType(given_defaults))
    given_defaults["trace"] = "changed"
    assert formatter.format(record_of()) == "none"
    assert formatter.format(exception_record()).startswith("none")


INSTANT = 1764417600.25
"""2025-11-29 12:00:00.250 UTC."""


def at(instant: float, message: str = "text") -> logging.LogRecord:
    """A record of that instant."""
    record = logging.makeLogRecord({"msg": message})
    record.created = instant
    record.msecs = float(int(instant % 1 * 1000))
    return record


@pytest.mark.parametrize(
    ("tz", "text"),
    [
        ("Asia/Kolkata", "2025-11-29 17:30:00 +0530 IST"),
        ("Europe/Paris", "2025-11-29 13:00:00 +0100 CET"),
        (datetime.timezone.utc, "2025-11-29 12:00:00 +0000 UTC"),
        (datetime.timezone(-datetime.timedelta(hours=3, minutes=30)), "2025-11-29 08:30:00 -0330 UTC-03:30"),
    ],
)
def test_tz_is_the_zone_of_the_times_with_its_offset_and_name(tz: Any, text: str) -> None:
    assert LineFormatter("%(asctime)s", "%Y-%m-%d %H:%M:%S %z %Z", tz=tz).format(at(INSTANT)) == text


def test_tz_keeps_the_milliseconds_and_follows_a_change_of_the_offset() -> None:
    formatter = LineFormatter("%(asctime)s", tz="Europe/Paris")
    before = datetime.datetime(2026, 10, 25, 0, 59, 59, 999000, datetime.timezone.utc).timestamp()
    assert [formatter.format(at(instant)) for instant in (before, before + 0.25)] == [
        "2026-10-25 02:59:59,999",
        "2026-10-25 02:00:00,249",
    ]


def test_tz_counts_where_the_base_class_makes_the_text() -> None:
    record = at(INSTANT)
    record.exc_text = "Traceback"
    assert LineFormatter("%(asctime)s %(message)s", tz="Asia/Kolkata").format(record) == (
        "2025-11-29 17:30:00,250 text\\nTraceback"
    )


def test_a_pickled_formatter_keeps_its_zone() -> None:
    formatter = pickle.loads(pickle.dumps(LineFormatter("%(asctime)s", tz="Asia/Kolkata")))
    assert formatter.format(at(INSTANT)) == "2025-11-29 17:30:00,250"


@pytest.mark.parametrize("tz", ["Europe/Nowhere", "", 3600, "../etc/passwd"])
def test_a_zone_that_is_none_is_refused_at_once(tz: Any) -> None:
    with pytest.raises(ConfigurationError, match="tz="):
        LineFormatter("%(asctime)s", tz=tz)
