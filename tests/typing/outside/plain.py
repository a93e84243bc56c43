"""A program that sets logging up itself."""

from __future__ import annotations

import functools
import gzip
import logging
import logging.config
import shutil

from prometheus_client import CollectorRegistry

import rollsafe
from rollsafe import ConfigurationError, FileLock, LineFormatter, SafeTimedRotatingFileHandler
from rollsafe.errors import LogFileError
from rollsafe.formatters import escape, unescape
from rollsafe.gunicorn import rotating_logs
from rollsafe.json_lines import JSONFormatter
from rollsafe.metrics import to_prometheus, to_statsd


class Gzip:
    """A compression of the application, with an extension of its own."""

    extension = ".gzip"

    def __call__(self, source_path: str, target_path: str) -> None:
        with open(source_path, "rb") as source, gzip.open(target_path, "wb") as target:
            shutil.copyfileobj(source, target)


def set_up() -> None:
    try:
        handler = SafeTimedRotatingFileHandler("app.log", "midnight", backupCount=7, compress=Gzip(), permissions=0o640)
    except LogFileError as error:
        raise SystemExit(f"{error.filename}: {error}") from error
    except ConfigurationError as error:
        raise SystemExit(str(error)) from error
    handler.setFormatter(LineFormatter("%(asctime)s %(message)s", tz="Europe/Paris"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    make = functools.partial(SafeTimedRotatingFileHandler, when="h", backupCount=48)
    standard: logging.FileHandler = make("shop.log")
    standard.setLevel("INFO")
    logging.config.dictConfig(rotating_logs("logs"))
    logging.config.dictConfig(
        {
            "version": 1,
            "formatters": {"line": {"()": LineFormatter, "fmt": "%(message)s"}},
            "handlers": {
                "file": {
                    "class": "rollsafe.SafeTimedRotatingFileHandler",
                    "filename": "app.log",
                    "formatter": "line",
                    "when": "h",
                }
            },
            "root": {"handlers": ["file"]},
        }
    )
    formatter = JSONFormatter("%(message)s", tz="UTC", rename_fields={"message": "text"})
    print(formatter.format(logging.makeLogRecord({"msg": "hello"})))
    to_prometheus(CollectorRegistry())
    to_statsd("127.0.0.1:8125", prefix="shop", tags="env:live")


def once() -> None:
    with FileLock("shop.lock") as lock:
        print(lock.locked, lock.excludes())
    lock = FileLock("shop.lock", byte=7)
    if lock.acquire(timeout=1.5, give_up=lambda: False):
        lock.release()
    lock.close()
    print(escape("a\nb"), unescape("a\\nb"), rollsafe.__version__)
