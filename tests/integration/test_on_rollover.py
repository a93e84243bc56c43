"""`on_rollover`: the application is notified of each final backup, usually once, and again until its call returns."""

from __future__ import annotations

import os
import re
import threading
import time
from pathlib import Path

import pytest

from rollsafe import ConfigurationError
from rollsafe._backups import failures, maintenance_pass
from rollsafe._timing import QUIET_S
from rollsafe.schedule import Interval
from tests.support.crew import WatchedHandler
from tests.support.logs import Make, log, read_archive, suffix_of, wait_for_second_after
from tests.support.servers import wait_until


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """The waits for quiet files are short: no other process writes here."""
    monkeypatch.setattr(maintenance_pass, "UNUSED_S", QUIET_S + 0.1)


class Uploads:
    """The notifications that the application has got, and the contents of the backups then."""

    def __init__(self) -> None:
        self.notified: list[tuple[str, Interval, bytes]] = []
        self.threads: set[int] = set()
        self.failures = 0
        self.failure: BaseException = ConnectionError("no network")

    def __call__(self, path: str, interval: Interval) -> None:
        self.threads.add(threading.get_ident())
        if self.failures:
            self.failures -= 1
            raise self.failure
        self.notified.append((path, interval, Path(path).read_bytes()))


@pytest.mark.parametrize("compress", [None, "gz"])
def test_the_application_is_notified_of_each_backup_when_it_is_final(
    live: Path, make: Make, compress: str | None
) -> None:
    uploads = Uploads()
    handler = make(compress=compress, on_rollover=uploads)
    first = log(handler, "first")
    wait_for_second_after(first)
    log(handler, "second")
    log(handler, "late", first)
    wait_until(lambda: bool(uploads.notified), "it is notified")
    path, interval, content = uploads.notified[0]
    name = f"app.log.{suffix_of(first)}"
    assert os.path.basename(path) == (f"{name}.gz" if compress else name)
    assert (read_archive(Path(path)) if compress else content) == b"first\nlate\n"
    assert (interval.start, interval.end, interval.suffix) == (int(first), int(first) + 1, suffix_of(first))
    final = {"app.log", ".app.log.lock", os.path.basename(path)}
    wait_until(lambda: {entry.name for entry in live.parent.iterdir()} == final, "nothing else is left")
    assert len(uploads.notified) == 1
    assert threading.get_ident() not in uploads.threads


@pytest.mark.slow
@pytest.mark.parametrize("failure", [ConnectionError("no network"), SystemExit("no network")], ids=["error", "exit"])
@pytest.mark.parametrize("compress", [None, "gz"])
def test_an_exception_is_reported_once_and_does_not_stop_the_maintenance(
    live: Path, make: Make, monkeypatch: pytest.MonkeyPatch, compress: str | None, failure: BaseException
) -> None:
    monkeypatch.setattr(failures, "_RETRY_S", 0.05)
    uploads = Uploads()
    uploads.failures = 2
    uploads.failure = failure
    handler = make(compress=compress, on_rollover=uploads, max_age="1 day")
    expired = live.with_name("app.log.2020-01-01_00-00-00")
    first = log(handler, "first")
    expired.touch()
    wait_for_second_after(first)
    log(handler, "second")

    def was_notified() -> bool:
        time.sleep(0.01)
        log(handler, "more")
        return any(suffix_of(first) in path for path, _, _ in uploads.notified)

    wait_until(was_notified, "it is notified again")
    assert not expired.exists()
    reports = handler.take_reports()
    assert reports
    assert all("no network" in text for text in reports)
    named = re.findall(r"app\.log\.\d[\d_-]+", "\n".join(reports))
    assert len(named) == len(set(named)) == len(reports), "of each backup once"


def test_the_application_is_notified_of_a_rolled_file_that_a_killed_process_left(live: Path, make: Make) -> None:
    waiting = live.with_name("app.log.2020-01-01_00-00-00.rolled")
    waiting.write_text("of an earlier run\n")
    both = live.with_name("app.log.2020-01-01_00-00-01.rolled")
    both.write_text("final already\n")
    os.link(both, both.with_suffix(""))
    uploads = Uploads()
    log(make(on_rollover=uploads), "first")
    wait_until(
        lambda: len(uploads.notified) == 2 and not waiting.exists() and not both.exists(), "it is notified of both"
    )
    assert [content for _, _, content in uploads.notified] == [b"of an earlier run\n", b"final already\n"]


def test_a_rolled_file_of_a_process_without_compression_is_compressed_and_notified(live: Path, make: Make) -> None:
    waiting = live.with_name("app.log.2020-01-01_00-00-00.rolled")
    waiting.write_text("of an earlier run\n")
    uploads = Uploads()
    log(make(compress="gz", on_rollover=uploads), "first")
    archive = waiting.with_suffix(".gz")

    def is_final() -> bool:
        return {path.name for path in live.parent.iterdir()} == {"app.log", ".app.log.lock", archive.name}

    wait_until(is_final, "it is compressed, and nothing else is left")
    assert read_archive(archive) == b"of an earlier run\n"
    assert [path for path, _, _ in uploads.notified] == [str(archive)]


def test_a_foreign_file_under_the_final_name_stays_and_that_is_reported(live: Path, make: Make) -> None:
    waiting = live.with_name("app.log.2020-01-01_00-00-00.rolled")
    waiting.write_text("ours\n")
    foreign = waiting.with_suffix("")
    foreign.write_text("another program's\n")
    handler = make(on_rollover=Uploads())
    log(handler, "first")
    wait_until(lambda: bool(handler.reported), "it is reported")
    assert (waiting.read_text(), foreign.read_text()) == ("ours\n", "another program's\n")
    (report,) = handler.take_reports()
    assert "FileExistsError" in report


def test_the_application_is_notified_after_its_rotator_too(live: Path, make: Make) -> None:
    uploads = Uploads()
    handler = make(on_rollover=uploads)
    handler.rotator = os.rename
    first = log(handler, "first")
    wait_for_second_after(first)
    log(handler, "second")
    wait_until(lambda: bool(uploads.notified), "it is notified")
    assert uploads.notified[0][::2] == (f"{live}.{suffix_of(first)}", b"first\n")


def test_what_cannot_be_called_is_refused(live: Path) -> None:
    with pytest.raises(ConfigurationError, match="on_rollover='upload' cannot be called"):
        WatchedHandler(live, on_rollover="upload")
