"""What a rollover leaves on disk stays as it is: the names of the files, and the bytes of the note in the lock file.

The live file is one of a known time, so the names are known. Of the note, what differs from run to run is replaced.
"""

from __future__ import annotations

import datetime
import os
import re
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.crew import lock_path
from tests.support.logs import Make, log
from tests.support.servers import wait_until

WRITTEN = datetime.datetime(2026, 1, 14, 15, 26, 35, tzinfo=datetime.timezone.utc).timestamp()
"""When the live file was last written: on a Wednesday."""

DAY = "app.log.2026-01-14"
BACKUPS: list[tuple[dict[str, Any], set[str]]] = [
    ({"when": "S"}, {f"{DAY}_15-26-35"}),
    ({"when": "S", "interval": 10}, {f"{DAY}_15-26-30"}),
    ({"when": "M"}, {f"{DAY}_15-26"}),
    ({"when": "H"}, {f"{DAY}_15"}),
    ({"when": "H", "interval": 6}, {f"{DAY}_12"}),
    ({"when": "H", "utc": False, "tz": "Asia/Kolkata"}, {f"{DAY}_20"}),
    ({"when": "D"}, {DAY}),
    ({"when": "MIDNIGHT"}, {DAY}),
    ({"when": "MIDNIGHT", "atTime": datetime.time(18)}, {"app.log.2026-01-13"}),
    ({"when": "W0"}, {"app.log.2026-01-13"}),
    ({"when": "W6"}, {"app.log.2026-01-12"}),
    ({"when": "H", "suffix": "%Y%m%dT%H"}, {"app.log.20260114T15"}),
    ({"when": "H", "maxBytes": "1 MiB"}, {f"{DAY}_15"}),
    ({"when": "H", "archive_dir": "old"}, {f"old/{DAY}_15"}),
]


@pytest.mark.parametrize(("arguments", "backups"), BACKUPS, ids=[str(arguments) for arguments, _ in BACKUPS])
def test_a_rollover_makes_exactly_these_files(
    live: Path, make: Make, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], backups: set[str]
) -> None:
    monkeypatch.chdir(live.parent)
    live.write_text("of that time\n")
    os.utime(live, (WRITTEN, WRITTEN))
    make(**arguments).doRollover()
    assert files_in(live.parent) == {"app.log", ".app.log.lock", *backups}
    assert [(live.parent / backup).read_text() for backup in backups] == ["of that time\n"]


@pytest.mark.parametrize(("compress", "extension"), [(None, ""), ("gz", ".gz"), ("xz", ".xz")])
@pytest.mark.usefixtures("hurry")
def test_the_parts_of_an_interval_have_these_names(
    live: Path, make: Make, compress: str | None, extension: str
) -> None:
    parts = {f"{DAY}_15{extension}", f"{DAY}_15.1{extension}", f"{DAY}_15.2{extension}"}
    for _ in range(3):
        live.write_text("of that time\n")
        os.utime(live, (WRITTEN, WRITTEN))
        handler = make(when="H", compress=compress)
        handler.doRollover()
        handler.close()
        live.unlink()
        lock_path(live).unlink()
    make(when="H", compress=compress)
    wait_until(lambda: files_in(live.parent) == {"app.log", ".app.log.lock", *parts}, f"there are {parts}")


def test_a_backup_that_waits_for_the_application_has_this_name(live: Path, make: Make) -> None:
    live.write_text("of that time\n")
    os.utime(live, (WRITTEN, WRITTEN))
    seen = threading.Event()
    make(when="H", on_rollover=lambda path, interval: seen.wait()).doRollover()
    found = files_in(live.parent)
    seen.set()
    assert found == {"app.log", ".app.log.lock", f"{DAY}_15.rolled"}


def test_the_note_of_a_rollover_has_these_bytes(live: Path, make: Make) -> None:
    live.write_text("of that time\n")
    os.utime(live, (WRITTEN, WRITTEN))
    live.chmod(0o640)
    created = log(make(when="H", delay=True, encoding="utf-8", backupCount=14, max_age="30 days"), "of now")
    note = lock_path(live).read_bytes()
    status = live.stat()
    first = b"%d %d %d\n" % (status.st_dev, status.st_ino, created // 3600 * 3600)
    note = note.replace(first, b"DEVICE INODE START\n", 1)
    note = re.sub(rb"^\d{13}$", b"MADE", note, flags=re.MULTILINE)
    note = re.sub(rb"^serial \d+$", b"serial NUMBER", note, flags=re.MULTILINE)
    note = re.sub(rb"^end [0-9a-f]{8}$", b"end CHECKSUM", note, flags=re.MULTILINE)
    assert note == (
        b"DEVICE INODE START\n"
        b'{"when":"H","tz":"UTC","backupCount":14,"max_age":2592000.0}\n'
        b"MADE\n"
        b"\n"
        b"serial NUMBER\n"
        b"mode 640\n"
        b"end CHECKSUM\n"
    )


def files_in(directory: Path) -> set[str]:
    """The files in a directory and below it, by their paths from there."""
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir()}
