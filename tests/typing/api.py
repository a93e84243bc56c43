"""The public API as a type checker sees it. Checked, not run: see test_api.py.

A line with ``type: ignore[code]`` is a misuse that must be rejected with exactly that code.
"""

from __future__ import annotations

import datetime
import logging
import logging.handlers
from pathlib import Path

from typing_extensions import assert_type

from rollsafe import ConfigurationError, FileLock, LineFormatter, SafeTimedRotatingFileHandler
from rollsafe.errors import LogFileError
from rollsafe.formatters import escape, unescape
from rollsafe.gunicorn import Logger, rotating_logger, rotating_logs
from rollsafe.schedule import Interval


def handler_takes_the_arguments_of_the_standard_class() -> None:
    midnight = datetime.time(0, 0)
    handler = SafeTimedRotatingFileHandler(Path("app.log"), "midnight", 1, 7, "utf-8", True, False, midnight, "replace")
    standard: logging.handlers.TimedRotatingFileHandler = handler
    standard.setFormatter(LineFormatter())
    assert_type(handler.backupCount, int)
    handler.doRollover()


def handler_takes_a_zone_by_name_or_as_tzinfo() -> None:
    SafeTimedRotatingFileHandler("app.log", when="D", tz="Europe/Paris")
    SafeTimedRotatingFileHandler("app.log", when="D", tz=datetime.timezone.utc)


def handler_takes_what_happens_to_backups() -> None:
    def upload(path: str, interval: Interval) -> None:
        assert_type(interval.start, float)

    def compress(source_path: str, target_path: str) -> int:
        return 0

    handler = SafeTimedRotatingFileHandler("app.log", maxBytes="100 MiB", compress="zst", compress_level=5)
    assert_type(handler.maxBytes, int)
    SafeTimedRotatingFileHandler("app.log", maxBytes=1000, compress=compress, on_rollover=upload)
    SafeTimedRotatingFileHandler("app.log", max_age=datetime.timedelta(days=30), max_total_bytes=1000)
    SafeTimedRotatingFileHandler("app.log", max_age="30 days", max_total_bytes="2 GiB", min_free_bytes="1 GiB")
    SafeTimedRotatingFileHandler("app.log", suffix="%Y%m%d", archive_dir=Path("old"), permissions=0o640)
    rotating_logs("logs", compress="gz", on_rollover=upload, max_age="30 days", archive_dir=Path("old"))


def gunicorn_logger(handler: SafeTimedRotatingFileHandler) -> None:
    logger_class = rotating_logger(when="midnight", backupCount=14)
    assert_type(logger_class, type[Logger])
    handler.write_line("text", 1.5)
    handler.write_line(b"text", 1.5)  # type: ignore[arg-type]


def backups_misuse() -> None:
    SafeTimedRotatingFileHandler("app.log", compress=True)  # type: ignore[arg-type]
    SafeTimedRotatingFileHandler("app.log", compress_level="fast")  # type: ignore[arg-type]
    SafeTimedRotatingFileHandler("app.log", on_rollover=lambda path: None)  # type: ignore[arg-type, misc]
    SafeTimedRotatingFileHandler("app.log", max_age=30)  # type: ignore[arg-type]
    SafeTimedRotatingFileHandler("app.log", permissions="640")  # type: ignore[arg-type]


def handler_misuse() -> None:
    SafeTimedRotatingFileHandler()  # type: ignore[call-arg]
    SafeTimedRotatingFileHandler(b"app.log")  # type: ignore[arg-type]
    SafeTimedRotatingFileHandler("app.log", backupCount="7")  # type: ignore[arg-type]
    SafeTimedRotatingFileHandler("app.log", backup_count=7)  # type: ignore[call-arg]
    SafeTimedRotatingFileHandler("app.log", tz=2)  # type: ignore[arg-type]


def formatter() -> None:
    line = LineFormatter("{message}", None, "{", True, defaults={"user": "-"}, escape=False)
    standard: logging.Formatter = line
    assert_type(standard.format(logging.makeLogRecord({})), str)
    assert_type(unescape(escape("text")), str)


def formatter_misuse() -> None:
    LineFormatter(style="x")  # type: ignore[arg-type]
    LineFormatter("%(message)s", None, "%", True, {"user": "-"})  # type: ignore[call-arg]
    escape(b"text")  # type: ignore[arg-type]


def lock() -> None:
    with FileLock(Path(".app.log.lock")) as held:
        assert_type(held, FileLock)
    assert_type(FileLock("some.lock").acquire(timeout=0.5), bool)
    assert_type(FileLock("some.lock").acquire(), bool)


def lock_misuse() -> None:
    FileLock(3)  # type: ignore[arg-type]
    FileLock("some.lock").acquire(timeout="soon")  # type: ignore[arg-type]
    bool(FileLock("some.lock").release())  # type: ignore[func-returns-value]


def errors_are_what_the_standard_handlers_raise(error: LogFileError) -> tuple[ConfigurationError, ValueError, OSError]:
    return error, error, error
