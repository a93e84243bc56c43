"""What tests of single handlers do with a log: make lines and backups, name them, and read archives."""

from __future__ import annotations

import gzip
import importlib
import logging
import lzma
import math
import os
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from rollsafe import FileLock, SafeTimedRotatingFileHandler, handlers
from rollsafe._backups.archives import archive
from rollsafe._backups.codecs import Codec, codec_for
from rollsafe._backups.file_names import fingerprint_of
from rollsafe._backups.ledger import Ledger
from rollsafe._live import live_file, renewal, writer
from tests.support.crew import WatchedHandler
from tests.support.servers import wait_until

HOUR = 3600.0
DAY = 24 * HOUR
AHEAD = 6
"""Seconds to a boundary at least: on a busy machine, so many that its processes have all begun."""
LENGTHS = range(120, 3600)
"""Seconds of the interval that begins there, so that it lasts for the whole test."""

LINES = b"".join(b"%08d a line of a log, and what it says\n" % number for number in range(60_000))

Make = Callable[..., WatchedHandler]
"""What the fixture `make` is: (path, kind, **arguments), all with a default."""


def log(handler: logging.Handler, message: str, created: float | None = None) -> float:
    """Have `handler` handle a record of now, or of `created`; returns its time.

    Of now, the first line of an open file belongs to the interval of that file: on a busy machine the next second may
    begin between the two, and the line would roll over an empty file first. A delayed file is opened before that time
    is taken: one that is opened in the next second would get no line.
    """
    if created is None:
        if isinstance(handler, SafeTimedRotatingFileHandler) and not os.path.lexists(handler.baseFilename):
            open_delayed(handler)
        created = time.time()
        if isinstance(handler, SafeTimedRotatingFileHandler) and is_open_and_empty(handler):
            created = min(created, math.nextafter(handler.rolloverAt, 0))
    record = logging.makeLogRecord({"msg": message, "created": created})
    handler.handle(record)
    return record.created


def open_delayed(handler: SafeTimedRotatingFileHandler) -> None:
    """Open the file of a handler that has none, as its first line does; that line reports a refusal."""
    if handler.stream is None:
        with suppress(Exception), handler._own_lock():
            handler._live.ensure_open()


def is_open_and_empty(handler: SafeTimedRotatingFileHandler) -> bool:
    """Whether the handler has its live file open, and no line is in that."""
    try:
        return handler.stream is not None and os.fstat(handler.stream.fileno()).st_size == 0
    except (OSError, ValueError):
        # Closed, or no file at all.
        return False


def set_monotonic(patch: pytest.MonkeyPatch, clock: Callable[[], float]) -> None:
    """Have handlers read another monotonic clock."""
    for module in (handlers, writer, renewal, live_file):
        patch.setattr(module, "_monotonic", clock)


def suffix_of(created: float, when: str = "S") -> str:
    """What the standard library's format makes of a time in UTC."""
    return time.strftime({"S": "%Y-%m-%d_%H-%M-%S", "H": "%Y-%m-%d_%H"}[when], time.gmtime(created))


def wait_for_second_after(created: float) -> None:
    """Wait until the second that holds `created` is over."""
    wait_until(lambda: time.time() >= int(created) + 1, "the next second")


def boundary_ahead() -> tuple[int, int]:
    """The next suitable boundary, and the length of intervals that have one there."""
    first = int(time.time()) + AHEAD
    return next((at, length) for at in range(first, first + 3600) for length in LENGTHS if at % length == 0)


def backup_of(live: Path, days: float, extension: str = "", size: int = 10) -> Path:
    """A backup of an hour so many days ago."""
    path = live.with_name(f"{live.name}.{suffix_of(time.time() - days * DAY, 'H')}{extension}")
    path.write_bytes(b"x" * (size - 1) + b"\n")
    return path


def write_log(live: Path, hours: range = range(-2, 1), **keywords: Any) -> None:
    """Have a real handler write lines, one an hour, counted from now."""
    handler = SafeTimedRotatingFileHandler(live, **{"when": "H", "utc": True, **keywords})
    now = time.time()
    for hour in hours:
        handler.handle(logging.makeLogRecord({"msg": f"hour {hour}", "created": now + hour * HOUR}))
    handler.close()


def touch(directory: Path, *names: str) -> None:
    """Make empty files."""
    for name in names:
        (directory / name).touch()


def read_archive(path: Path) -> bytes:
    """What an archive holds."""
    if path.suffix == ".zst":
        module = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
        return importlib.import_module(module).decompress(path.read_bytes())  # type: ignore[no-any-return]
    return {".gz": gzip.decompress, ".xz": lzma.decompress}[path.suffix](path.read_bytes())


def codec_of(compress: Any, level: int | None = None) -> Codec:
    """The codec for the handler's arguments."""
    codec = codec_for(compress, level)
    assert codec is not None
    return codec


def make_archive(source: Path, codec: Codec, lock: FileLock, *, announces: bool = False) -> Path:
    """Archive a file as it is now."""
    final = Path(f"{source}{codec.extension}")
    archive(str(source), str(final), fingerprint_of(source.lstat()), codec, Ledger(lock), announces=announces)
    return final


def names_beside(source: Path) -> set[str]:
    """What there is in the directory, but for the lock file."""
    return {path.name for path in source.parent.iterdir()} - {".app.log.lock"}


class Bzip2:
    """A compression of the application's."""

    extension = ".bz2"

    def __call__(self, source_path: str, target_path: str) -> None:
        with open(source_path, "rb") as source, open(target_path, "wb") as target:
            shutil.copyfileobj(source, target)
