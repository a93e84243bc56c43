"""uWSGI's two loggers, and the options of uWSGI that contradict them, without uWSGI."""

from __future__ import annotations

import logging
import os
import socket
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import rollsafe.uwsgi
from rollsafe import LineFormatter, SafeTimedRotatingFileHandler
from rollsafe._uwsgi import loggers as loggers_module
from rollsafe._uwsgi.contradictions import contradictions, may_read_messages, may_read_requests
from rollsafe._uwsgi.loggers import MessageLogger, RequestLogger, text_of
from rollsafe._uwsgi.pipes import LogPipes, packets

FILES = {"access": "/logs/access.log", "error": "/logs/error.log"}
WIRED: dict[str, Any] = {"req-logger": b"python:uwsgi.access", "logger": b"python:uwsgi.error", "master": True}


class Kept(logging.Handler):
    """Keeps the records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self.records.append(record)


def logger_of(kind: type[MessageLogger], *handlers: logging.Handler) -> MessageLogger:
    """A logger of its own."""
    logger = kind("uwsgi.access", logging.INFO)
    logger.propagate = False
    for handler in handlers:
        logger.addHandler(handler)
    return logger


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The end of the socket where workers write requests, in the place of uWSGI's."""
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reader.setblocking(False)
    pipes = LogPipes(-1, reader.fileno(), writer.fileno())
    monkeypatch.setattr(loggers_module, "find_pipes", lambda: pipes)
    with reader, writer:
        yield writer


@pytest.mark.parametrize("kind", [MessageLogger, RequestLogger])
def test_a_message_becomes_a_record_of_level_info_without_its_newline(kind: type[MessageLogger]) -> None:
    kept = Kept()
    logger = logger_of(kind, kept)
    logger.error("100 %s\n")
    logger.error("a\nb\n")
    logger.error("\n")
    logger.disabled = True
    logger.error("no newline")
    seen = [(record.levelname, record.getMessage()) for record in kept.records]
    assert seen == [("INFO", "100 %s"), ("INFO", "a\nb"), ("INFO", "no newline")]


def test_an_error_of_python_code_stays_one() -> None:
    kept = Kept()
    logger_of(MessageLogger, kept).error("no %s", "luck")
    assert [(each.levelname, each.getMessage(), each.filename) for each in kept.records] == [
        ("ERROR", "no luck", Path(__file__).name)
    ]


def test_what_is_not_utf_8_is_shown_as_in_a_bytes_literal() -> None:
    assert text_of(b"a\xff\xc3\xa9\n") == "a\\xff\u00e9"


def test_decoding_is_lenient_only_between_the_lookup_of_error_and_its_call() -> None:
    logger = logger_of(MessageLogger, Kept())
    call = logger.error
    # Compared as bytes: Python 3.14 and 3.15 give the string more bytes than it needs, and it is equal to no other.
    assert b"a\xff".decode().encode() == b"a\\xff"
    call("text\n")
    with pytest.raises(UnicodeDecodeError):
        b"a\xff".decode()
    with pytest.raises(UnicodeEncodeError):
        "\udc80".encode()


def test_a_message_that_is_not_utf_8_is_logged_as_a_text_that_compares_equal() -> None:
    kept = Kept()
    call = logger_of(MessageLogger, kept).error
    call(b"a\xff\xc3\xa9\n".decode())
    call = logger_of(MessageLogger, kept).error
    call(b"a\xff\n".decode())
    assert [record.getMessage() for record in kept.records] == ["a\\xff\u00e9", "a\\xff"]


def test_all_waiting_requests_are_written_with_one_write(
    tmp_path: Path, pipe: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = SafeTimedRotatingFileHandler(tmp_path / "access.log", when="h")
    handler.setFormatter(LineFormatter("%(message)s"))
    texts: list[str] = []

    def write_line(text: str, created: float) -> None:
        texts.append(text)
        SafeTimedRotatingFileHandler.write_line(handler, text, created)

    monkeypatch.setattr(handler, "write_line", write_line)
    logger = logger_of(RequestLogger, handler)
    logger.may_read = True
    for line in (b"two\xff\n", b"three\nforged\n"):
        pipe.send(line)
    logger.error("one\n")
    handler.close()
    assert (tmp_path / "access.log").read_text(encoding="utf-8") == "one\ntwo\\\\xff\nthree\\nforged\n"
    assert len(texts) == 1


def test_requests_gather_only_while_many_come(pipe: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    logger = logger_of(RequestLogger, Kept())
    logger.may_read = True
    logger.error("one\n")
    assert slept == []
    pipe.send(b"two\n")
    logger.error("one\n")
    logger.error("one\n")
    logger.error("one\n")
    assert slept == [loggers_module._GATHER_S]


def test_a_second_handler_gets_a_record_of_each_waiting_request(pipe: socket.socket) -> None:
    kept = Kept()
    logger = logger_of(RequestLogger, kept, logging.NullHandler())
    logger.may_read = True
    pipe.send(b"two\n")
    logger.error("one\n")
    assert [record.getMessage() for record in kept.records] == ["one", "two"]


def test_nothing_is_read_where_uwsgi_also_does_something_else_with_requests(pipe: socket.socket) -> None:
    kept = Kept()
    logger = logger_of(RequestLogger, kept)
    pipe.send(b"two\n")
    logger.error("one\n")
    assert [record.getMessage() for record in kept.records] == ["one"]


def test_packets_end_with_the_socket() -> None:
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reader.setblocking(False)
    with reader:
        with writer:
            for number in range(3):
                writer.send(b"%d" % number)
            assert list(packets(reader.fileno(), 2)) == [b"0", b"1"]
            assert list(packets(reader.fileno(), 2)) == [b"2"]
        assert list(packets(reader.fileno(), 2)) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, None),
        ({"req-logger": [b"python:uwsgi.access", b"file:too"]}, None),
        ({"req-logger": b"python"}, "req-logger = python does not write '/logs/access.log'; write req-logger ="),
        ({"req-logger": b"python:other"}, "req-logger = python:other does not write"),
        ({"req-logger": b"id python:uwsgi.access"}, "req-logger = id python:uwsgi.access does not write"),
        ({"req-logger": b"file:x"}, "'/logs/access.log' gets nothing from uWSGI"),
        ({"logger": True}, "'/logs/error.log' gets nothing from uWSGI"),
        ({"logto": b"x.log"}, "logto = x.log gets only"),
        ({"logto2": b"x.log"}, "logto2 = x.log gets only"),
        ({"daemonize": b"x.log"}, "daemonize = x.log gets only"),
        ({"log-maxsize": b"1"}, "log-maxsize does nothing"),
        ({"touch-logreopen": b"x"}, "touch-logreopen does nothing"),
        ({"touch-logrotate": b"x"}, "touch-logrotate does nothing"),
        ({"disable-logging": True}, "disable-logging leaves '/logs/access.log' without requests"),
        ({"disable-logging": True, "log-5xx": True}, None),
        ({"log-master-stream": True}, "log-master-stream joins and cuts"),
        ({"threaded-logger": True}, "threaded-logger ends uWSGI"),
        ({"log-encoder": b"compress"}, "log-encoder = compress makes bytes"),
        ({"log-encoder": b"prefix x"}, None),
    ],
    ids=str,
)
def test_each_contradiction_gets_one_sentence(options: dict[str, Any], words: str | None) -> None:
    said = list(contradictions(WIRED | options, FILES))
    assert len(said) == (words is not None)
    assert words is None or words in said[0]


def test_files_that_are_not_wanted_need_no_logger() -> None:
    assert list(contradictions({"disable-logging": True}, {})) == []
    assert "error=None" in next(contradictions(WIRED, {"access": "/logs/access.log"}))


@pytest.mark.parametrize(
    "options",
    [{"log-req-encoder": b"nl"}, {"req-logger": [b"python:uwsgi.access", b"syslog"]}, {"log-req-route": b"x"}],
)
def test_requests_that_uwsgi_treats_otherwise_are_left_to_it(options: dict[str, Any]) -> None:
    assert may_read_requests(WIRED)
    assert not may_read_requests(WIRED | options)


@pytest.mark.parametrize("options", [{"log-drain": b"x"}, {"logger": b"file:x"}, {"alarm-log": b"x"}])
def test_messages_that_uwsgi_treats_otherwise_are_left_to_it(options: dict[str, Any]) -> None:
    assert may_read_messages(WIRED)
    assert not may_read_messages(WIRED | options)


def test_outside_uwsgi_nothing_is_set_up(tmp_path: Path) -> None:
    assert rollsafe.uwsgi.set_up_logs(tmp_path / "logs") is False
    assert not (tmp_path / "logs").exists()


@pytest.mark.usefixtures("restored_logging")
def test_in_a_worker_of_its_own_it_says_that_the_master_has_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("uwsgi")
    module.__dict__.update(has_threads=1, worker_id=lambda: 1, mule_id=lambda: 0, masterpid=os.getppid, opt=WIRED)
    monkeypatch.setitem(sys.modules, "uwsgi", module)
    monkeypatch.setattr(rollsafe.uwsgi, "_is_set_up", False)
    monkeypatch.setattr("atexit.register", lambda function: function)
    assert rollsafe.uwsgi.set_up_logs(tmp_path, app=None) is True
    rollsafe.uwsgi.set_up_logs(tmp_path, app=None)
    logging.getLogger("uwsgi.access").error("a request\n")
    said = (tmp_path / "error.log").read_text(encoding="utf-8").splitlines()
    assert len(said) == 1
    assert "name that in shared-pyimport" in said[0]
    assert (tmp_path / "access.log").read_text(encoding="utf-8") == "a request\n"
    for name in ("uwsgi.access", "uwsgi.error"):
        logging.getLogger(name).__class__ = logging.Logger
