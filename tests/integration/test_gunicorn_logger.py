"""The gunicorn logger: its access line is gunicorn's own, its files rotate, everything else is as before."""

from __future__ import annotations

import datetime
import io
import json
import logging
import logging.config
import logging.handlers
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollsafe import ConfigurationError, LineFormatter, SafeTimedRotatingFileHandler
from rollsafe._gunicorn.access import AccessFormatter, one_line
from rollsafe._gunicorn.access_fields import AccessFields
from rollsafe._gunicorn.access_objects import object_maker
from rollsafe.formatters import escape, has_control, unescape
from rollsafe.gunicorn import rotating_logger, rotating_logs

pytest.importorskip("gunicorn", reason="gunicorn is not installed: pip install rollsafe[gunicorn]")

import gunicorn
from gunicorn import glogging
from gunicorn.config import Config
from gunicorn.instrument import statsd

from rollsafe import _options
from rollsafe._gunicorn.logger import Logger

pytestmark = pytest.mark.usefixtures("restored_logging")

COMBINED = Config().access_log_format


def configured(**settings: Any) -> Any:
    """A gunicorn configuration."""
    cfg = Config()
    for name, value in settings.items():
        cfg.set(name, value)
    return cfg


def take_off_handlers() -> None:
    """Close and remove the handlers of gunicorn's loggers, which gunicorn before 26 leaves to its next logger."""
    for name in ("gunicorn.error", "gunicorn.access"):
        handlers = logging.getLogger(name).handlers
        while handlers:
            handlers.pop().close()


class Request(SimpleNamespace):
    """What a worker hands to the logger: response, request, environ, duration."""

    def to(self, logger: glogging.Logger) -> None:
        """Have the request logged."""
        logger.access(self.response, self.request, self.environ, self.duration)


def request(
    path: str = "/shop",
    *,
    headers: Sequence[tuple[str, str]] = (),
    answer: Sequence[tuple[str, str]] = (),
    status: object = "200 OK",
    **environ: object,
) -> Request:
    """A request as gunicorn's workers describe it, with its answer."""
    described: dict[str, object] = {
        "REQUEST_METHOD": "GET",
        "RAW_URI": path,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.multiprocess": True,
    }
    return Request(
        response=SimpleNamespace(status=status, sent=18, headers=answer),
        request=SimpleNamespace(headers=headers),
        environ=described | environ,
        duration=datetime.timedelta(seconds=1, microseconds=234_567),
    )


def written(path: Path) -> list[str]:
    """The lines of a log file."""
    return path.read_bytes().decode().split("\n")[:-1]


def gunicorns_line(cfg: Any, asked: Request) -> str:
    """What gunicorn's own class makes of a request."""
    theirs: Any = glogging.Logger.__new__(glogging.Logger)
    theirs.error_log = theirs.access_log = logging.Logger("theirs")
    theirs.cfg = cfg
    stream = io.StringIO()
    theirs.access_log.addHandler(logging.StreamHandler(stream))
    asked.to(theirs)
    return stream.getvalue().removesuffix("\n")


@pytest.fixture
def receiver() -> Iterator[socket.socket]:
    """A UDP socket that waits for metrics."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        made.settimeout(30)
        yield made


# The line.

ATOMS = [
    *"hlurmUqHstbBfaTDMLp",
    "x",
    "",
    "{host}i",
    "{HOST}I",
    "{X-Thing}i",
    "{missing}i",
    "{Content-Length}o",
    "{ΑΣ}i",
]
ATOMS += ["{missing}o", "{REMOTE_ADDR}e", "{wsgi.multiprocess}e", "{x_own}E", "{nothing}e", "{}i", "{a}b{c}e", "{h}"]
TEXT = st.text(st.sampled_from('"\\n%{} ') | st.characters(codec="utf-8"), max_size=20).filter(
    lambda text: not has_control(text)
)
NAMES = st.sampled_from(["Host", "host", "HOST", "X-Thing", "x-thing", "Content-Length", "content-length", "ΑΣ", ""])
SHAPES = st.sampled_from(["s", "s", "s", "r", "a", "20s", "-20s", ".3s", "%"])


@st.composite
def formats(draw: st.DrawFn) -> str:
    """A format of `access_log_format`: text, percent signs, atoms with all kinds of conversions."""
    parts = [draw(TEXT).replace("%", "%%")]
    for atom, shape in draw(st.lists(st.tuples(st.sampled_from(ATOMS), SHAPES), max_size=8)):
        parts += ["%%" if shape == "%" else f"%({atom}){shape}", draw(TEXT).replace("%", "%%")]
    return "".join(parts)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Any request with its answer."""
    asked = request(
        draw(TEXT),
        headers=draw(st.lists(st.tuples(NAMES, TEXT), max_size=5)),
        answer=draw(st.lists(st.tuples(NAMES, TEXT), max_size=5)),
        status=draw(st.sampled_from(["200 OK", "404", '599 a "b"', 200, b"200 OK"])),
        **draw(st.dictionaries(st.sampled_from(["x_own", "X_OWN", "HTTP_REFERER", "HTTP_USER_AGENT"]), TEXT)),
    )
    asked.environ["QUERY_STRING"] = draw(TEXT)
    asked.response.sent = draw(st.sampled_from([None, 0, 17]))
    asked.duration = draw(st.timedeltas(datetime.timedelta(0), datetime.timedelta(days=2)))
    if draw(st.booleans()):
        del asked.environ["QUERY_STRING"], asked.environ["REMOTE_ADDR"], asked.response.sent
    asked.environ["HTTP_AUTHORIZATION"] = draw(
        st.sampled_from(["", "Basic YW5uYTp4", "Basic =", "basic YcO8", "Bearer"])
    )
    if draw(st.booleans()):
        # As gevent's worker hands the headers on, and as a mapping.
        asked.request = draw(st.sampled_from([list, dict]))(asked.request.headers)
        asked.response.headers = dict(asked.response.headers)
    return asked


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for the files of all examples."""
    return tmp_path_factory.mktemp("access")


@settings(max_examples=40)  # each makes a Logger and its files
@given(formats() | st.just(COMBINED), requests())
def test_the_line_is_gunicorns_own_byte_for_byte(files: Path, access_log_format: str, asked: Request) -> None:
    live = files / "access.log"
    live.unlink(missing_ok=True)
    cfg = configured(accesslog=str(live), errorlog=os.devnull, access_log_format=access_log_format)
    take_off_handlers()
    ours = Logger(cfg)
    line, expected = "", "?"
    for _ in range(3):
        live.write_bytes(b"")
        asked.to(ours)
        line, expected = live.read_bytes().decode(), gunicorns_line(cfg, asked) + "\n"
        if line == expected:
            break
        # Once more: the second, which is part of the line, changed between the two (their clock ticks 4 ms later).
        time.sleep(0.01)
    assert line == expected


def test_every_atom_of_the_documentation_is_gunicorns_own(tmp_path: Path) -> None:
    twice = [("X-Thing", "one"), ("Host", "two"), ("x-thing", 'the "last" counts')]
    asked = request(headers=twice, answer=twice, X_Own="first", x_own="last")
    for atom in [*ATOMS, "{x-thing}i", "{x-thing}o"]:
        take_off_handlers()
        cfg = configured(accesslog=str(tmp_path / "access.log"), access_log_format=f"%({atom})s")
        asked.to(Logger(cfg))
        line = written(tmp_path / "access.log")[-1]
        # The second that atom t tells may be another one by now.
        assert line == gunicorns_line(cfg, asked) or (atom == "t" and len(line) == 28)


def test_the_combined_format_takes_the_short_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Logger(configured(accesslog=str(tmp_path / "access.log")))
    monkeypatch.setattr(logging.Logger, "makeRecord", None)
    request('/a"b').to(ours)
    assert ' "GET /a\\"b HTTP/1.1" 200 18 "-" "-"' in written(tmp_path / "access.log")[0]


@pytest.mark.parametrize(
    "odd", ["%(s)d", "%(h)*s", "%s", "100%", "%(a(b))s", "%(h)", "%(D)x %(T)05.1f %(nothing)s", "nothing"]
)
def test_a_format_that_gunicorn_reads_in_another_way_is_left_to_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], odd: str
) -> None:
    cfg = configured(accesslog=str(tmp_path / "access.log"), access_log_format=odd)
    asked = request()
    asked.to(Logger(cfg))
    ours, said = written(tmp_path / "access.log"), "Logging error" in capsys.readouterr().err
    expected = gunicorns_line(cfg, asked)
    assert ours == [expected] * (not said)
    assert said == ("Logging error" in capsys.readouterr().err)


CONTROL = "a\nb\r\x00\x1b[2J\x7f\x85\u2028"


@pytest.mark.parametrize("preset", [False, True], ids=["access-logfile", "preset"])
@pytest.mark.parametrize("listener", [False, True], ids=["alone", "with a filter"])
def test_control_characters_do_not_make_a_second_line(tmp_path: Path, preset: bool, listener: bool) -> None:
    access_log_format = "%(U)s|%(r)s|%({X-Name}i)s|%({X-Name}o)s|%(a)s|%(q)s"
    where = {"logconfig_dict": rotating_logs(tmp_path)} if preset else {"accesslog": str(tmp_path / "access.log")}
    ours = Logger(configured(access_log_format=access_log_format, **where))
    if listener:
        ours.access_log.addFilter(lambda record: True)
    asked = request(
        CONTROL,
        headers=[("X-Name", CONTROL)],
        answer=[("x-name", CONTROL)],
        HTTP_USER_AGENT=CONTROL,
        QUERY_STRING=CONTROL,
    )
    asked.to(ours)
    (line,) = (tmp_path / "access.log").read_bytes().decode().splitlines()
    assert not has_control(line)
    assert unescape(line) == f"{CONTROL}|GET {CONTROL} HTTP/1.1|{CONTROL}|{CONTROL}|{CONTROL}|{CONTROL}"


@given(st.text())
def test_one_line_changes_nothing_but_texts_with_control_characters(text: str) -> None:
    assert one_line(text) == (escape(text) if any(escape(char) != char for char in text) else text)
    assert len(one_line(text).splitlines()) <= 1


def test_the_format_may_be_set_after_the_start(tmp_path: Path) -> None:
    cfg = configured(accesslog=str(tmp_path / "access.log"), access_log_format="%(m)s")
    ours = Logger(cfg)
    request().to(ours)
    cfg.set("access_log_format", "%(s)s")
    request().to(ours)
    assert written(tmp_path / "access.log") == ["GET", "200"]


# Who else listens.


class Tagging(logging.Formatter):
    """A formatter that adds something."""

    def format(self, record: logging.LogRecord) -> str:
        return f"tagged {super().format(record)}"


# JSON lines.

IDS = st.sampled_from(["abc-1", "-", "", 'a"b', "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"])
ID_HEADERS = st.lists(st.tuples(st.sampled_from(["X-Request-ID", "x-request-id", "TRACEPARENT", "Accept"]), IDS))
ODD_VALUES = st.sampled_from(["-", "caf\xc3\xa9", "\xff", "\u20ac", 'a\\"b', "", None, 7, b"x"])


@pytest.fixture(scope="module")
def json_handler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[logging.Handler]:
    """The handler of JSON access lines of the preset."""
    pytest.importorskip("pythonjsonlogger", reason="python-json-logger is not installed: pip install rollsafe[json]")
    config = rotating_logs(tmp_path_factory.mktemp("json"), json=True, tz="Asia/Kolkata")["formatters"]["access"]
    handler = SafeTimedRotatingFileHandler(tmp_path_factory.mktemp("json") / "access.log", delay=True)
    handler.setFormatter(logging.config.DictConfigurator({}).configure_formatter(config))
    handler.addFilter(AccessFields())
    yield handler
    handler.close()


def json_line_of_the_record(handler: logging.Handler, asked: Request, now: float) -> str:
    """The line of gunicorn's own record."""
    theirs: Any = glogging.Logger.__new__(glogging.Logger)
    theirs.error_log = logging.Logger("theirs")
    atoms = glogging.SafeAtoms(theirs.atoms(asked.response, asked.request, asked.environ, asked.duration))
    record = logging.LogRecord("gunicorn.access", logging.INFO, "glogging.py", 1, COMBINED, (atoms,), None)
    record.created = now
    handler.filter(record)
    return handler.format(record)


@settings(max_examples=12)
@given(requests(), ID_HEADERS, ID_HEADERS, st.dictionaries(st.sampled_from(["rollsafe.request_id"]), IDS), st.data())
def test_the_json_line_is_that_of_gunicorns_record(
    json_handler: logging.Handler,
    asked: Request,
    sent: list[tuple[str, str]],
    answered: list[tuple[str, str]],
    more: dict[str, str],
    data: st.DataObject,
) -> None:
    if isinstance(asked.response.headers, list | tuple):
        asked.request, asked.response.headers = SimpleNamespace(headers=sent), [*asked.response.headers, *answered]
    name = data.draw(st.sampled_from(["REQUEST_METHOD", "PATH_INFO", "REMOTE_ADDR", "HTTP_REFERER"]))
    asked.environ |= {**more, name: data.draw(ODD_VALUES)}
    make = object_maker(json_handler)
    assert make is not None
    try:
        line = make(asked.response, asked.request, asked.environ, asked.duration, 1.5)
    except LookupError:
        method = asked.environ["REQUEST_METHOD"]
        assert not isinstance(method, str) or method == "-"
    else:
        assert line == json_line_of_the_record(json_handler, asked, 1.5)


def json_logger(directory: Path, **options: Any) -> Any:
    """Our logger with the preset's JSON lines."""
    pytest.importorskip("pythonjsonlogger", reason="python-json-logger is not installed: pip install rollsafe[json]")
    return Logger(configured(logconfig_dict=rotating_logs(directory, json=True, **options)))


def refuse(*arguments: Any) -> Any:
    """Stands for gunicorn's way to make a line."""
    raise AssertionError("gunicorn was asked")


def objects(path: Path) -> list[dict[str, Any]]:
    """The lines of a JSON log."""
    return [json.loads(line) for line in written(path)]


@pytest.mark.parametrize(
    "options", [{}, {"access_format": "%(asctime)s %(levelname)s %(name)s %(path)s"}, {"datefmt": "%H"}]
)
def test_a_json_line_needs_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]) -> None:
    ours = json_logger(tmp_path, **options)
    monkeypatch.setattr(glogging.Logger, "access", refuse)
    request("/shop").to(ours)
    (line,) = objects(tmp_path / "access.log")
    assert line["path"] == "/shop"
    assert line.get("name", "gunicorn.access") == "gunicorn.access"


def test_a_json_line_that_shows_what_only_a_record_has_is_left_to_gunicorn(tmp_path: Path) -> None:
    ours = json_logger(tmp_path, access_format="%(asctime)s %(process)d %(message)s %(path)s")
    request("/shop").to(ours)
    (line,) = objects(tmp_path / "access.log")
    assert (line["process"], line["path"]) == (os.getpid(), "/shop")
    assert '"GET /shop HTTP/1.1" 200 18' in line["message"]


def mark(record: logging.LogRecord) -> bool:
    """A filter that gives the record a field."""
    record.marked = True
    return True


@pytest.mark.parametrize(
    "change",
    [
        lambda handler: handler.addFilter(mark),
        lambda handler: setattr(handler.filters[0], "filter", mark),
        lambda handler: setattr(handler.formatter, "static_fields", {"marked": True}),
        lambda handler: setattr(handler.formatter, "process_log_record", lambda data: {**data, "marked": True}),
        lambda handler: setattr(handler.formatter, "format", lambda record: '{"marked": true}'),
        lambda handler: setattr(handler, "format", lambda record: '{"marked": true}'),
        lambda handler: handler.setFormatter(Marking()),
    ],
)
def test_a_change_of_a_json_log_takes_effect_with_the_next_line(tmp_path: Path, change: Callable[[Any], None]) -> None:
    ours = json_logger(tmp_path)
    request("/first").to(ours)
    change(ours.access_log.handlers[0])
    request("/second").to(ours)
    assert [line.get("marked") for line in objects(tmp_path / "access.log")] == [None, True]


class Marking(logging.Formatter):
    """Another formatter."""

    def format(self, record: logging.LogRecord) -> str:
        return '{"marked": true}'


@pytest.mark.parametrize("bases", [0, 1], ids=["our class", "the class of python-json-logger"])
def test_a_format_that_a_class_of_the_json_formatter_gets_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bases: int
) -> None:
    ours = json_logger(tmp_path)
    request("/first").to(ours)
    kind = type(ours.access_log.handlers[0].formatter).__mro__[bases]
    monkeypatch.setattr(kind, "format", lambda formatter, record: '{"marked": true}')
    request("/second").to(ours)
    assert [line.get("marked") for line in objects(tmp_path / "access.log")] == [None, True]


def listen_with_a_handler(log: logging.Logger, heard: list[str]) -> None:
    """Add a second handler."""
    handler = logging.StreamHandler(SimpleNamespace(write=heard.append, flush=lambda: None))
    log.addHandler(handler)


def hearing(heard: list[str]) -> Callable[[logging.LogRecord], bool]:
    """A filter that passes all, and reads gunicorn's atoms."""

    def passes(record: logging.LogRecord) -> bool:
        assert isinstance(record.args, dict)
        heard.append(record.args["U"])
        return True

    return passes


def listen_with_a_filter(log: logging.Logger, heard: list[str]) -> None:
    """Add a filter to the logger."""
    log.addFilter(hearing(heard))


def listen_with_a_filter_of_the_handler(log: logging.Logger, heard: list[str]) -> None:
    """Add a filter to the handler."""
    log.handlers[0].addFilter(hearing(heard))


def listen_with_a_formatter(log: logging.Logger, heard: list[str]) -> None:
    """Give the handler a formatter of the application's own."""

    class Hearing(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            heard.append(record.getMessage())
            return super().format(record)

    log.handlers[0].setFormatter(Hearing("%(message)s"))


def listen_on_the_root_logger(log: logging.Logger, heard: list[str]) -> None:
    """Let records pass on to the root logger."""
    log.propagate = True
    listen_with_a_handler(logging.getLogger(), heard)


LISTENERS = [
    listen_with_a_handler,
    listen_with_a_filter,
    listen_with_a_filter_of_the_handler,
    listen_with_a_formatter,
    listen_on_the_root_logger,
]


@pytest.mark.parametrize("listen", LISTENERS)
def test_who_listens_gets_gunicorns_record(tmp_path: Path, listen: Any) -> None:
    ours = Logger(configured(accesslog=str(tmp_path / "access.log"), access_log_format="%(U)s"))
    request("/before").to(ours)
    heard: list[str] = []
    listen(ours.access_log, heard)
    request("/shop").to(ours)
    assert "".join(heard).strip() == "/shop"
    assert written(tmp_path / "access.log") == ["/before", "/shop"]


def test_who_replaced_a_part_of_logging_gets_every_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Logger(configured(accesslog=str(tmp_path / "access.log"), access_log_format="%(U)s"))
    heard = []
    call_handlers = logging.Logger.callHandlers

    def hear(self: logging.Logger, record: logging.LogRecord) -> None:
        heard.append(record.getMessage())
        call_handlers(self, record)

    monkeypatch.setattr(logging.Logger, "callHandlers", hear)
    request("/shop").to(ours)
    monkeypatch.undo()

    def factory(*args: Any, **kwargs: Any) -> logging.LogRecord:
        heard.append("factory")
        return logging.LogRecord(*args, **kwargs)

    logging.setLogRecordFactory(factory)
    try:
        request("/other").to(ours)
    finally:
        logging.setLogRecordFactory(logging.LogRecord)
    assert heard == ["/shop", "factory"]
    assert written(tmp_path / "access.log") == ["/shop", "/other"]


def test_a_formatter_with_more_than_the_message_is_asked(tmp_path: Path) -> None:
    preset = rotating_logs(tmp_path, access_format="%(levelname)s %(message)s")
    ours = Logger(configured(logconfig_dict=preset, access_log_format="%(U)s"))
    request("/shop").to(ours)
    assert written(tmp_path / "access.log") == ["INFO /shop"]


@pytest.mark.parametrize(
    "formatter", [None, logging.Formatter("%(message)s"), LineFormatter("%(message)s", escape=False)]
)
def test_a_formatter_that_does_not_escape_is_obeyed(tmp_path: Path, formatter: logging.Formatter | None) -> None:
    ours = Logger(configured(accesslog=str(tmp_path / "access.log"), access_log_format="%(U)s"))
    ours.access_log.handlers[0].setFormatter(formatter)
    request("/a\nb").to(ours)
    assert written(tmp_path / "access.log") == ["/a", "b"]


def test_a_method_that_is_replaced_in_the_class_of_the_presets_formatter_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = Logger(configured(logconfig_dict=rotating_logs(tmp_path), access_log_format="%(U)s"))
    request("/shop").to(ours)
    monkeypatch.setattr(LineFormatter, "format", lambda self, record: "redacted")
    request("/secret").to(ours)
    assert written(tmp_path / "access.log") == ["/shop", "redacted"]


@pytest.mark.parametrize("off", ["level", "disabled", "logging.disable", "handler level"])
def test_lines_that_are_switched_off_stay_off(tmp_path: Path, off: str) -> None:
    ours = Logger(configured(accesslog=str(tmp_path / "access.log")))
    if off == "level":
        ours.access_log.setLevel(logging.WARNING)
    elif off == "disabled":
        ours.access_log.disabled = True
    elif off == "handler level":
        ours.access_log.handlers[0].setLevel(logging.WARNING)
    else:
        logging.disable(logging.INFO)
    try:
        request().to(ours)
    finally:
        logging.disable(logging.NOTSET)
        ours.access_log.disabled = False
    assert written(tmp_path / "access.log") == []


def test_a_subclass_with_atoms_of_its_own_is_asked(tmp_path: Path) -> None:
    class Own(Logger):
        def atoms(self, *args: Any) -> dict[str, Any]:
            return {**super().atoms(*args), "own": "mine"}

    ours = Own(configured(accesslog=str(tmp_path / "access.log"), access_log_format="%(own)s %(U)s"))
    request("/shop").to(ours)
    assert written(tmp_path / "access.log") == ["mine /shop"]


# The files.


def test_the_files_of_the_flags_rotate_and_are_gunicorns(tmp_path: Path) -> None:
    logger_class = rotating_logger(when="h", backupCount=3)
    ours = logger_class(configured(accesslog=str(tmp_path / "a.log"), errorlog=str(tmp_path / "e.log")))
    for log, name in ((ours.access_log, "a.log"), (ours.error_log, "e.log")):
        (handler,) = log.handlers
        assert isinstance(handler, SafeTimedRotatingFileHandler)
        assert (handler.when, handler.backupCount, handler._gunicorn) == ("H", 3, True)  # type: ignore[attr-defined]
        assert handler.baseFilename == str(tmp_path / name)
    ours.error("one\ntwo")
    assert [line.partition("] ")[2] for line in written(tmp_path / "e.log")[:1]] != []
    assert written(tmp_path / "e.log")[1] == "two"


def test_dash_and_syslog_stay_as_they_are(capsys: pytest.CaptureFixture[str], receiver: socket.socket) -> None:
    address = f"udp://127.0.0.1:{receiver.getsockname()[1]}"
    ours = Logger(configured(accesslog="-", syslog=True, syslog_addr=address, access_log_format="%(U)s"))
    kinds = {type(handler) for handler in ours.access_log.handlers}
    request("/a\nb").to(ours)
    take_off_handlers()
    assert kinds == {logging.StreamHandler, logging.handlers.SysLogHandler}
    assert b"/a" in receiver.recv(4096)
    assert capsys.readouterr().out == "/a\\nb\n"


def test_without_an_access_file_there_is_no_handler() -> None:
    assert Logger(configured(accesslog=None)).access_log.handlers == []


def test_a_captured_file_is_never_rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "dup2", lambda *args: None)
    captured = str(tmp_path / "e.log")
    (tmp_path / "link.log").symlink_to(captured)
    with open(os.devnull, "w") as devnull:
        monkeypatch.setattr(sys, "stdout", devnull)
        monkeypatch.setattr(sys, "stderr", devnull)
        ours = Logger(configured(errorlog=captured, accesslog=str(tmp_path / "link.log"), capture_output=True))
        monkeypatch.undo()
    assert {type(handler) for handler in ours._handlers()} == {logging.FileHandler}
    ours.logfile.close()


ENVIRONMENT = {
    "ROLLSAFE_WHEN": "M",
    "ROLLSAFE_INTERVAL": "5",
    "ROLLSAFE_BACKUP_COUNT": "7",
    "ROLLSAFE_UTC": "true",
    "ROLLSAFE_MAX_BYTES": "1 KiB",
    "ROLLSAFE_COMPRESS": "gz",
    "ROLLSAFE_MAX_AGE": "2 days",
    "ROLLSAFE_MAX_TOTAL_BYTES": "2 KiB",
    "ROLLSAFE_MIN_FREE_BYTES": "3 KiB",
    "ROLLSAFE_PERMISSIONS": "640",
}


@pytest.mark.parametrize("raw", [False, True], ids=["environment", "raw_env"])
def test_the_environment_sets_the_rotation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw: bool) -> None:
    settings = {"accesslog": str(tmp_path / "a.log")}
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, "H" if raw and name == "ROLLSAFE_WHEN" else value)
    if raw:
        settings["raw_env"] = [f"{name}={value}" for name, value in ENVIRONMENT.items()]  # type: ignore[assignment]
    (handler,) = Logger(configured(**settings)).access_log.handlers
    assert isinstance(handler, SafeTimedRotatingFileHandler)
    assert (handler.when, handler.interval, handler.backupCount, handler.utc) == ("M", 300, 7, True)
    assert handler.permissions == 0o640
    assert (handler.maxBytes, handler.max_total_bytes, handler.min_free_bytes) == (1024, 2048, 3072)
    assert (handler.max_age, handler.compress) == (2 * 86400, "gz")
    take_off_handlers()
    (handler,) = rotating_logger(when="W0", utc=False)(configured(**settings)).access_log.handlers
    assert isinstance(handler, SafeTimedRotatingFileHandler)
    assert (handler.when, handler.backupCount, handler.utc) == ("W0", 7, False)


@pytest.mark.parametrize("raw", [False, True], ids=["environment", "raw_env"])
def test_the_environment_sets_the_zone_and_the_directory_of_the_backups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw: bool
) -> None:
    variables = {"ROLLSAFE_TZ": "Europe/Paris", "ROLLSAFE_ARCHIVE_DIR": str(tmp_path / "old")}
    settings: dict[str, Any] = {"accesslog": str(tmp_path / "a.log")}
    if raw:
        settings["raw_env"] = [f"{name}={value}" for name, value in variables.items()]
    else:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
    (handler,) = Logger(configured(**settings)).access_log.handlers
    assert isinstance(handler, SafeTimedRotatingFileHandler)
    assert (handler.tz, handler.archive_dir) == ("Europe/Paris", str(tmp_path / "old"))
    assert {*ENVIRONMENT, *variables} == {name for name, _ in _options.ENVIRONMENT.values()}


def test_without_any_setting_the_files_roll_at_midnight(tmp_path: Path) -> None:
    (handler,) = Logger(configured(accesslog=str(tmp_path / "a.log"))).access_log.handlers
    assert isinstance(handler, SafeTimedRotatingFileHandler)
    assert (handler.when, handler.backupCount) == ("MIDNIGHT", 0)


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("ROLLSAFE_INTERVAL", "many", "a whole number"),
        ("ROLLSAFE_BACKUP_COUNT", "1.5", "a whole number"),
        ("ROLLSAFE_UTC", "yes please", "1, true, 0 or false"),
        ("ROLLSAFE_PERMISSIONS", "rw", "640"),
        ("ROLLSAFE_WHEN", "fortnight", "MIDNIGHT"),
    ],
)
def test_a_wrong_variable_ends_the_start_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(RuntimeError, match=value) as caught:
        Logger(configured(accesslog=str(tmp_path / "a.log")))
    assert words in str(caught.value)


@pytest.mark.parametrize("rotation", [{"when": "fortnight"}, {"backupCount": -1}, {"whn": "h"}, {"filename": "x"}])
def test_a_wrong_argument_fails_with_a_sentence(rotation: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(rotation))):
        rotating_logger(**rotation)


def test_a_file_that_cannot_be_written_ends_the_start_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="does not exist; create it first"):
        Logger(configured(accesslog=str(tmp_path / "missing" / "a.log")))


def test_a_reload_takes_the_rotation_of_the_new_configuration_and_closes_the_old_files(tmp_path: Path) -> None:
    settings = {"accesslog": str(tmp_path / "a.log"), "errorlog": os.devnull}
    ours = rotating_logger(when="h")(configured(**settings, logger_class=rotating_logger(when="h")))
    (before,) = ours.access_log.handlers
    ours.setup(configured(**settings, logger_class=rotating_logger(when="W0")))
    (after,) = ours.access_log.handlers
    assert isinstance(before, SafeTimedRotatingFileHandler)
    assert isinstance(after, SafeTimedRotatingFileHandler)
    assert (before.when, after.when) == ("H", "W0")
    assert before.stream is None


@pytest.mark.parametrize("logger_class", ["rollsafe.gunicorn.Logger", rotating_logger(when="h"), rotating_logger])
def test_gunicorn_takes_the_class_by_name_or_itself(logger_class: object) -> None:
    assert issubclass(configured(logger_class=logger_class).logger_class, Logger)


# Metrics.


def test_with_statsd_host_the_metrics_are_those_of_gunicorns_own_class(tmp_path: Path, receiver: socket.socket) -> None:
    # At a status of bytes, gunicorn 22 fails with its own class too.
    statuses = ["200 OK", 404, *([b"503 Sorry"] if gunicorn.version_info >= (23,) else [])]

    def sent(logger_class: type, path: Path) -> list[str]:
        cfg = configured(statsd_host=f"127.0.0.1:{receiver.getsockname()[1]}", accesslog=str(path))
        logger = logger_class(cfg)
        for status in statuses:
            request(status=status).to(logger)
        logger.error("wrong")
        logger.info("", extra={"metric": "own", "value": 3, "mtype": "gauge"})
        logger.sock.close()
        take_off_handlers()
        # The end: datagrams on the loopback interface keep their order.
        receiver.sendto(b"end", receiver.getsockname())
        found = []
        while (metric := receiver.recv(4096).decode()) != "end":
            found.append(metric)
        return found

    # Each with a file of its own: one that was opened for a day is rolled over by a handler that rolls by the hour.
    for name, logger_class in (("days.log", Logger), ("hours.log", rotating_logger(when="h"))):
        ours = sent(logger_class, tmp_path / name)
        assert ours == sent(statsd.Statsd, tmp_path / "theirs.log")
        assert len(ours) == 3 * len(statuses) + 2
        assert len(written(tmp_path / name)) == len(statuses)


def test_the_twin_is_a_statsd_and_there_is_none_without_statsd_host(receiver: socket.socket) -> None:
    host = f"127.0.0.1:{receiver.getsockname()[1]}"
    twin: Any = Logger(configured(statsd_host=host))
    twin.sock.close()
    assert isinstance(twin, Logger)
    assert isinstance(twin, statsd.Statsd)
    assert not isinstance(Logger(configured()), statsd.Statsd)


def test_access_formatter_leaves_a_record_without_control_characters_alone() -> None:
    record = logging.makeLogRecord({"msg": r'no\newline "\"'})
    assert AccessFormatter("%(message)s").format(record) == r'no\newline "\"'


@pytest.mark.parametrize("name", ["handle", "callHandlers", "makeRecord", "isEnabledFor"])
def test_a_method_that_is_set_on_the_logger_after_the_first_line_is_called(tmp_path: Path, name: str) -> None:
    ours = Logger(configured(accesslog=str(tmp_path / "access.log"), access_log_format="%(U)s"))
    request("/first").to(ours)
    calls: list[str] = []
    before = getattr(ours.access_log, name)

    def hear(*arguments: Any, **named: Any) -> Any:
        calls.append(name)
        return before(*arguments, **named)

    setattr(ours.access_log, name, hear)
    try:
        request("/second").to(ours)
    finally:
        delattr(ours.access_log, name)
    assert calls
    assert written(tmp_path / "access.log") == ["/first", "/second"]


def test_who_replaced_a_part_of_logging_before_our_import_sees_the_access_lines(tmp_path: Path) -> None:
    program = f"""
import functools, logging
heard = []
def hear(logger, record, call_handlers=logging.Logger.callHandlers):
    heard.append(record.name)
    call_handlers(logger, record)
logging.Logger.callHandlers = functools.wraps(logging.Logger.callHandlers)(hear)
from tests.integration.test_gunicorn_logger import Logger, configured, request
ours = Logger(configured(accesslog={str(tmp_path / "access.log")!r}))
request().to(ours)
assert heard == ["gunicorn.access"], heard
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", program], env=environment, cwd=Path.cwd(), check=True, timeout=120)


def test_a_method_of_the_records_that_is_replaced_after_the_first_line_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = Logger(configured(accesslog=str(tmp_path / "access.log"), access_log_format="%(U)s"))
    request("/first").to(ours)
    get_message = logging.LogRecord.getMessage
    monkeypatch.setattr(logging.LogRecord, "getMessage", lambda record: get_message(record).replace("secret", "***"))
    request("/secret").to(ours)
    assert written(tmp_path / "access.log") == ["/first", "/***"]


@pytest.mark.parametrize("of", ["handler", "formatter"])
def test_a_format_that_is_set_on_the_handler_or_its_formatter_after_the_first_line_is_called(
    tmp_path: Path, of: str
) -> None:
    ours = Logger(configured(accesslog=str(tmp_path / "access.log"), access_log_format="%(U)s"))
    request("/first").to(ours)
    handler = ours.access_log.handlers[0]
    thing: Any = handler if of == "handler" else handler.formatter
    before = thing.format
    thing.format = lambda record: before(record).replace("secret", "***")
    request("/secret").to(ours)
    assert written(tmp_path / "access.log") == ["/first", "/***"]
