"""The election is lost while its holder is at work: two processes work at once, and nothing is done twice or half.

A POSIX lock is lost when a person removes the lock file, and when the process itself opens and closes it, as an upload
of the whole directory does (fcntl(2), "Record locks").
"""

from __future__ import annotations

import errno
import gzip
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rollsafe import FileLock
from rollsafe._files.lock_handles import MAINTENANCE_BYTE
from tests.support.crew import Child, Crew, WatchedHandler, lock_path
from tests.support.logs import LINES, Make, log
from tests.support.servers import wait_until

pytestmark = pytest.mark.usefixtures("hurry")


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """The live file, in a directory with nothing else in it."""
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs" / "app.log"


@pytest.fixture
def usual() -> dict[str, Any]:
    """Hours in UTC."""
    return {"when": "H", "utc": True}


def read_all(live: Path) -> None:
    """Open and close every file of the directory."""
    for path in live.parent.iterdir():
        if path.is_file():
            path.read_bytes()


def remove_lock(live: Path) -> None:
    """Remove the lock file, as the manual allows."""
    lock_path(live).unlink()


@pytest.mark.parametrize("lose", [read_all, remove_lock])
@pytest.mark.parametrize(
    "called", ["on_rollover", "on_rollover of an archive", "rotator", "compress"], ids=lambda called: called
)
def test_another_process_that_maintains_meanwhile_leaves_the_file_to_the_application(
    live: Path, tmp_path: Path, make: Make, lose: Callable[[Path], None], called: str
) -> None:
    again = tmp_path / "called again"
    calls: list[str] = []

    def arguments(call: Callable[..., None]) -> dict[str, Any]:
        if called == "compress":
            return {"compress": call}
        compress = "gz" if "archive" in called else None
        return {"compress": compress, "on_rollover": call if "on_rollover" in called else None}

    def maintain() -> None:
        lock = FileLock(lock_path(live), byte=MAINTENANCE_BYTE)
        assert lock.acquire(timeout=0), "the other process has lost it"
        handler = WatchedHandler(live, when="H", utc=True, **arguments(lambda *_: again.touch()))
        if called == "rotator":
            handler.rotator = lambda *_: again.touch()
        for _ in range(4):
            if (wait := handler._live.maintenance.make_pass(lock.excludes)) is None:
                break
            os.sched_yield()
            assert wait > 0
        assert not handler.reported

    def call(path: str, other: Any) -> None:
        calls.append(path)
        lose(live)
        Child(maintain).join()
        if called == "rotator":
            os.rename(path, other)
        elif called == "compress":
            shutil.copyfile(path, other)

    handler = make(**arguments(call))
    if called == "rotator":
        handler.rotator = call
    log(handler, "first")
    handler.doRollover()
    wait_until(lambda: bool(calls), "the application is called")

    def is_final() -> bool:
        names = [path.name for path in live.parent.iterdir() if path not in (live, lock_path(live))]
        return len(names) == 1 and not names[0].endswith((".tmp", ".rolled"))

    wait_until(is_final, "one file is left")
    assert not again.exists()
    assert len(calls) == 1


def test_of_two_that_compress_one_backup_without_flock_one_makes_it_final_whole(
    live: Path, tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fcntl.flock", refuse)
    source = live.with_name("app.log.2020-01-01_00")
    source.write_bytes(LINES)
    begun, go = tmp_path / "begun", tmp_path / "go"

    class Slow:
        extension = ".gz"

        def __call__(self, source_path: str, target_path: str) -> None:
            with open(source_path, "rb") as lines, gzip.open(target_path, "wb") as archive:
                shutil.copyfileobj(lines, archive, 1000)
                begun.touch()
                wait_until(go.exists, "the other one has finished")

    def work() -> None:
        handler = WatchedHandler(live, when="H", utc=True, compress=Slow())
        log(handler, "of the slow one")
        wait_until(lambda: not source.exists(), "the backup is archived")
        go.touch()
        wait_until(lambda: not list(live.parent.glob(".*.tmp")), "it has cleared away what it wrote")
        handler.close()
        assert handler.reported == []

    with Crew() as crew:
        slow = crew.start(work)
        wait_until(begun.exists, "the slow one is at it")
        remove_lock(live)
        handler = make(compress="gz")
        while source.exists():
            handler._live.maintenance.make_pass()
        slow.join()
    assert gzip.decompress(Path(f"{source}.gz").read_bytes()) == LINES
    assert sorted(path.name for path in live.parent.glob("app.log.*")) == [f"{source.name}.gz"]


def refuse(descriptor: int, operation: int) -> None:
    raise OSError(errno.ENOLCK, "no locks available")
