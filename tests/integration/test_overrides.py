"""A method that the application replaces is called, whenever it does so: a redaction must not be passed over."""

from __future__ import annotations

import functools
import logging
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from logging.handlers import TimedRotatingFileHandler
from pathlib import Path
from typing import Any

import pytest

from rollsafe import ConfigurationError, LineFormatter, SafeTimedRotatingFileHandler

Override = Callable[[pytest.MonkeyPatch, SafeTimedRotatingFileHandler], None]


def redact(*_: Any) -> str:
    """Stands for `format` of a handler or a formatter."""
    return "redacted"


OVERRIDES: dict[str, Override] = {
    "handler.format": lambda patch, handler: patch.setattr(handler, "format", redact),
    "Handler.format": lambda patch, handler: patch.setattr(SafeTimedRotatingFileHandler, "format", redact),
    "logging.Handler.format": lambda patch, handler: patch.setattr(logging.Handler, "format", redact),
    "formatter.format": lambda patch, handler: patch.setattr(handler.formatter, "format", redact),
    "LineFormatter.format": lambda patch, handler: patch.setattr(LineFormatter, "format", redact),
    "logging.Formatter.format": lambda patch, handler: patch.setattr(logging.Formatter, "format", redact),
    "formatter.formatMessage": lambda patch, handler: patch.setattr(handler.formatter, "formatMessage", redact),
    "formatter._style._fmt": lambda patch, handler: patch.setattr(handler.formatter._style, "_fmt", "redacted"),  # type: ignore[union-attr]
}


@pytest.fixture
def handler(tmp_path: Path) -> Iterator[SafeTimedRotatingFileHandler]:
    handler = SafeTimedRotatingFileHandler(tmp_path / "app.log", when="midnight")
    handler.setFormatter(LineFormatter("%(message)s"))
    yield handler
    handler.close()


def log(handler: logging.Handler, message: str) -> None:
    handler.handle(logging.LogRecord("shop", logging.INFO, __file__, 1, message, None, None))


@pytest.mark.parametrize("name", OVERRIDES)
def test_a_method_that_is_replaced_after_the_first_line_is_called_for_the_next(
    name: str, handler: SafeTimedRotatingFileHandler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log(handler, "before")
    OVERRIDES[name](monkeypatch, handler)
    log(handler, "secret")
    monkeypatch.undo()
    log(handler, "after")
    assert (tmp_path / "app.log").read_text().splitlines() == ["before", "redacted", "after"]


@pytest.mark.parametrize("name", ["filter", "format"])
def test_a_method_that_is_set_before_the_base_class_is_made_is_called(name: str, tmp_path: Path) -> None:
    calls = []

    def note(record: logging.LogRecord) -> str:
        calls.append(name)
        return "line"

    class Early(SafeTimedRotatingFileHandler):
        def __init__(self, path: Path) -> None:
            setattr(self, name, note)
            super().__init__(path)

    with closing(Early(tmp_path / "app.log")) as handler:
        log(handler, "line")
    assert calls == [name]


def test_a_lock_that_is_taken_away_is_made_again(handler: SafeTimedRotatingFileHandler, tmp_path: Path) -> None:
    class Lockless(SafeTimedRotatingFileHandler):
        def createLock(self) -> None:
            self.lock = None

    lockless = Lockless(tmp_path / "lockless.log", when="midnight")
    log(lockless, "line")
    lockless.close()
    assert (tmp_path / "lockless.log").read_text() == "line\n"


# The overrides of an application. The standard library's own classes show the right value.
Patch = pytest.MonkeyPatch
EVERYTHING = "%(asctime)s %(message)s"


def told(self: logging.Formatter, *_: Any) -> str:
    return "told"


def hide(record: logging.LogRecord) -> bool:
    return False


def copied(record: logging.LogRecord) -> logging.LogRecord:
    """A copy of the record, which a filter of Python 3.12 and later may return instead of a bool."""
    return logging.makeLogRecord({**vars(record), "msg": "a copy", "args": ()})


def wrapped(function: Any) -> Any:
    """As tracing agents wrap: with the name and module of what is wrapped."""

    @functools.wraps(function)
    def wrapper(*arguments: Any) -> Any:
        return f"wrapped {function(*arguments)}"

    return wrapper


def emit_twice(handler: Any) -> Callable[[logging.LogRecord], None]:
    def emit(record: logging.LogRecord) -> None:
        type(handler).emit(handler, record)
        type(handler).emit(handler, record)

    return emit


def count_flushes(patch: Patch, handler: Any) -> None:
    """Each line is followed by a line that tells of the flush."""
    before, formatter = type(handler).flush, handler.formatter

    def flush() -> None:
        before(handler)
        patch.delattr(handler, "flush")
        handler.setFormatter(logging.Formatter("flushed"))
        handler.emit(logging.makeLogRecord({}))
        handler.setFormatter(formatter)

    patch.setattr(handler, "flush", flush, raising=False)


class OneLess:
    """A style of the application's own."""

    _fmt = "%(message)s"

    def format(self, record: logging.LogRecord) -> str:
        return f"styled {record.getMessage()[1:]}"

    def usesTime(self) -> bool:
        return False


PARITY: dict[str, Callable[[Patch, Any], None]] = {
    "nothing": lambda patch, handler: None,
    "formatter.formatTime": lambda patch, handler: patch.setattr(handler.formatter, "formatTime", lambda *_: "told"),
    "its class's formatTime": lambda patch, handler: patch.setattr(type(handler.formatter), "formatTime", told),
    "logging.Formatter.formatTime": lambda patch, handler: patch.setattr(logging.Formatter, "formatTime", told),
    "logging.Formatter.formatTime, wrapped": lambda patch, handler: patch.setattr(
        logging.Formatter, "formatTime", wrapped(logging.Formatter.formatTime)
    ),
    "formatter.usesTime": lambda patch, handler: patch.setattr(handler.formatter, "usesTime", lambda: True),
    "its class's formatMessage": lambda patch, handler: patch.setattr(type(handler.formatter), "formatMessage", told),
    "formatter.formatException": lambda patch, handler: patch.setattr(
        handler.formatter, "formatException", lambda *_: "trace"
    ),
    "logging.Formatter.formatStack": lambda patch, handler: patch.setattr(logging.Formatter, "formatStack", told),
    "formatter._style": lambda patch, handler: patch.setattr(handler.formatter, "_style", OneLess()),
    "handler.formatter": lambda patch, handler: patch.setattr(
        handler, "formatter", logging.Formatter("new %(message)s")
    ),
    "handler.formatter None": lambda patch, handler: patch.setattr(handler, "formatter", None),
    "handler.filter": lambda patch, handler: patch.setattr(handler, "filter", hide),
    "its class's filter": lambda patch, handler: patch.setattr(type(handler), "filter", lambda self, record: False),
    "logging.Filterer.filter": lambda patch, handler: patch.setattr(logging.Filterer, "filter", lambda *_: False),
    "a filter": lambda patch, handler: patch.setattr(handler, "filters", [hide]),
    "handler.emit": lambda patch, handler: patch.setattr(handler, "emit", emit_twice(handler)),
    "handler.handle": lambda patch, handler: patch.setattr(handler, "handle", lambda record: None),
    "handler.terminator": lambda patch, handler: patch.setattr(handler, "terminator", " end\n"),
    "its class's terminator": lambda patch, handler: patch.setattr(
        type(handler), "terminator", " end\n", raising=False
    ),
    "logging.StreamHandler.terminator": lambda patch, handler: patch.setattr(
        logging.StreamHandler, "terminator", " end\n"
    ),
    "handler.flush": count_flushes,
    "LogRecord.getMessage": lambda patch, handler: patch.setattr(logging.LogRecord, "getMessage", told),
    "handler.acquire": lambda patch, handler: patch.setattr(handler, "acquire", wrapped(handler.acquire)),
    "handler.createLock": lambda patch, handler: patch.setattr(handler, "lock", None),
}
if sys.version_info >= (3, 12):
    PARITY["a filter that returns a record"] = lambda patch, handler: handler.addFilter(copied)
if sys.version_info >= (3, 13):
    # There the standard library itself needs a lock.
    del PARITY["handler.createLock"]


# Those that a formatter of ours heeds from the next second on.
NEXT_SECOND = {
    "its class's formatTime",
    "logging.Formatter.formatTime",
    "logging.Formatter.formatTime, wrapped",
    "its class's formatMessage",
}


def records(created: float) -> Iterator[logging.LogRecord]:
    """One of each kind, of one moment."""
    try:
        raise ValueError("an error")
    except ValueError:
        error = sys.exc_info()
    for more in ({}, {"exc_info": error}, {"stack_info": "a stack"}):
        made = {"levelno": 20, "msg": "%s message", "args": ("a",), "created": created, "msecs": 7.0}
        yield logging.makeLogRecord({**made, **more})


def logged(kind: type[TimedRotatingFileHandler], formatter: logging.Formatter, path: Path, name: str) -> str:
    """The content of the file after records before, with and after the override."""
    # At the beginning of a second, in an interval of ten years.
    created = float(int(time.time()))
    before, after = (created - 1, created + 1) if name in NEXT_SECOND else (created, created)
    with closing(kind(path, when="D", interval=4000, encoding="utf-8")) as handler:
        handler.setFormatter(formatter)
        logger = logging.Logger("parity")
        logger.addHandler(handler)
        for record in records(before):
            logger.handle(record)
        with pytest.MonkeyPatch.context() as patch:
            PARITY[name](patch, handler)
            for record in records(created):
                logger.handle(record)
        for record in records(after):
            logger.handle(record)
    text = path.read_text()
    # The time is another for each.
    for then in {before, created, after}:
        text = text.replace(time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(then)), "THEN")
    return text


@pytest.mark.parametrize("name", PARITY)
def test_whatever_is_replaced_is_seen_as_with_the_standard_library(name: str, tmp_path: Path) -> None:
    theirs = logged(TimedRotatingFileHandler, logging.Formatter(EVERYTHING), tmp_path / "theirs.log", name)
    formatters = {"ours": LineFormatter(EVERYTHING, escape=False), "plain": logging.Formatter(EVERYTHING)}
    for file, formatter in formatters.items():
        assert logged(SafeTimedRotatingFileHandler, formatter, tmp_path / f"{file}.log", name) == theirs


@pytest.mark.parametrize("method", ["Handler.format", "Formatter.format", "Formatter.formatMessage", "Filterer.filter"])
def test_what_was_replaced_before_our_import_is_seen(method: str, tmp_path: Path) -> None:
    program = f"""
import functools, logging, sys
calls = []
def wrapped(function):
    @functools.wraps(function)
    def wrapper(*arguments, **named):
        calls.append(function.__name__)
        return function(*arguments, **named)
    return wrapper
logging.{method} = wrapped(logging.{method})
from rollsafe import ConfigurationError, LineFormatter, SafeTimedRotatingFileHandler
handler = SafeTimedRotatingFileHandler(sys.argv[1])
handler.setFormatter(LineFormatter("%(message)s"))
handler.handle(logging.makeLogRecord({{"msg": "line"}}))
assert calls == ["{method.partition(".")[2]}"], calls
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "app.log")], check=True, timeout=120)


def test_a_format_that_is_changed_by_level_is_heeded(tmp_path: Path) -> None:
    """As the recipe goes that many projects have."""

    class ByLevel(LineFormatter):
        def format(self, record: logging.LogRecord) -> str:
            self._style._fmt = "ERROR %(message)s" if record.levelno >= logging.ERROR else "%(message)s"
            return super().format(record)

    formatter = ByLevel("%(message)s")
    made = [formatter.format(logging.makeLogRecord({"msg": "m", "levelno": level})) for level in (20, 40, 20)]
    assert made == ["m", "ERROR m", "m"]


@pytest.mark.parametrize("method", ["formatMessage", "formatTime", "usesTime"])
@pytest.mark.parametrize("owner", [logging.Formatter, LineFormatter])
def test_a_method_that_is_replaced_on_a_class_is_heeded_for_a_second_at_a_time(
    method: str, owner: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    formatter = LineFormatter("%(asctime)s %(message)s")

    def line(created: float) -> str:
        fields = {"msg": "m", "created": created, "msecs": 7.0, "asctime": "another"}
        return formatter.format(logging.makeLogRecord(fields))

    usual = line(100.0)
    monkeypatch.setattr(owner, method, lambda *_: "", raising=False)
    replaced = line(101.0)
    monkeypatch.undo()
    assert line(100.0) == usual != replaced
    assert formatter._second[1] is not None, "the compiled format is used again"


@pytest.mark.parametrize("fmt", ["%(message)s", "%(asctime)s %(message)s"])
@pytest.mark.parametrize("where", ["object", "class"])
def test_a_method_of_the_style_is_heeded_from_the_next_second_on(
    fmt: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    formatter = LineFormatter(fmt)
    formatter.format(logging.makeLogRecord({"msg": "m", "created": 100.0}))
    style = formatter._style
    monkeypatch.setattr(style if where == "object" else type(style), "_format", lambda *_: "told")
    assert formatter.format(logging.makeLogRecord({"msg": "m", "created": 101.0})) == "told"


def test_values_of_defaults_that_the_application_changes_are_heeded() -> None:
    defaults = {"tenant": "first"}
    formatter = LineFormatter("%(tenant)s %(message)s", defaults=defaults)
    record = logging.makeLogRecord({"msg": "m"})
    assert formatter.format(record) == "first m"
    defaults["tenant"] = "second"
    assert formatter.format(record) == "second m"


@pytest.mark.parametrize("name", ["acquire", "release"])
def test_an_own_way_to_take_the_lock_is_used(name: str, tmp_path: Path) -> None:
    calls = []

    class Watched(SafeTimedRotatingFileHandler):
        def acquire(self) -> None:
            calls.append("acquire")
            super().acquire()

        def release(self) -> None:
            calls.append("release")
            super().release()

    handler = Watched(tmp_path / "app.log")
    calls.clear()
    log(handler, "line")
    assert calls.count(name) == 1
    handler.close()


def test_flush_of_a_subclass_follows_each_line(tmp_path: Path) -> None:
    """As those have it that call fsync there."""
    seen = []

    class Synced(SafeTimedRotatingFileHandler):
        def flush(self) -> None:
            super().flush()
            if self.stream is not None:
                seen.append((tmp_path / "app.log").read_text())

    handler = Synced(tmp_path / "app.log")
    log(handler, "first")
    log(handler, "second")
    assert seen[:2] == ["first\n", "first\nsecond\n"]
    handler.close()


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("getFilesToDelete", lambda: []),
        ("computeRollover", lambda now: 4e9),
        ("shouldRollover", lambda record: False),
    ],
)
def test_what_decides_about_rollover_may_be_set_on_the_handler(name: str, method: Any, tmp_path: Path) -> None:
    handler = SafeTimedRotatingFileHandler(tmp_path / "app.log", when="S", delay=True)
    setattr(handler, name, method)
    assert handler._replaces(name)
    handler.close()


@pytest.mark.parametrize("name", ["utc", "delay"])
@pytest.mark.parametrize("value", ["false", "true", "0", "", None, 2, [True]])
def test_what_is_no_flag_is_refused_as_a_text_would_be_true(name: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"{name}=.* must be True or False"):
        SafeTimedRotatingFileHandler(tmp_path / "app.log", **{name: value})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", [TimedRotatingFileHandler, SafeTimedRotatingFileHandler])
def test_what_is_set_before_the_base_class_is_made_is_what_that_decides(kind: Any, tmp_path: Path) -> None:
    class Early(kind):  # type: ignore[misc]
        def __init__(self, path: Path) -> None:
            self.suffix = "%Y"
            self.baseFilename = "elsewhere"
            self.backupCount = 7
            super().__init__(path, when="midnight")

    with closing(Early(tmp_path / "app.log")) as handler:
        assert (handler.suffix, handler.baseFilename, handler.backupCount) == ("%Y-%m-%d", str(tmp_path / "app.log"), 0)
        log(handler, "line")
    assert (tmp_path / "app.log").read_text() == "line\n"


@pytest.mark.parametrize("fmt", ["{message!x}", "{message!}", "{message!rr}"])
def test_a_format_that_only_a_record_finds_out_is_reported_as_by_the_standard_library(
    fmt: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reports = []
    for kind in (logging.Formatter, LineFormatter):
        with closing(SafeTimedRotatingFileHandler(tmp_path / "app.log")) as handler:
            handler.setFormatter(kind(fmt, style="{", validate=False))
            log(handler, "line")
        reports.append(re.findall("^(?:ValueError|SyntaxError).*", capsys.readouterr().err, re.MULTILINE))
    assert reports[0] == reports[1] != []


def by_three_parts(default: str) -> Path:
    """A namer for the standard library, which numbers nothing, and of a kind that it also takes."""
    base, extension, date = Path(default).name.split(".")
    return Path(default).with_name(f"{base}.{date}.{extension}")


def test_a_namer_for_the_standard_library_names_several_backups_of_one_interval(tmp_path: Path) -> None:
    with closing(
        SafeTimedRotatingFileHandler(tmp_path / "app.log", when="D", interval=4000, suffix="%Y-%m-%d")
    ) as handler:
        handler.namer = by_three_parts  # type: ignore[assignment]  # as the standard library takes it
        for message in ("first", "second", "third"):
            log(handler, message)
            handler.doRollover()
        log(handler, "fourth")
    (first,) = (path for path in tmp_path.glob("app.*.log"))
    texts = {path.name.removeprefix(first.name): path.read_text() for path in tmp_path.glob("app.*.log*")}
    assert texts == {"": "first\n", ".1": "second\n", ".2": "third\n"}
    assert (tmp_path / "app.log").read_text() == "fourth\n"
