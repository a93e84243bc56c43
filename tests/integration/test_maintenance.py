"""The maintenance of backups through the handler: compression, retention and `on_rollover`, alone and together."""

from __future__ import annotations

import bz2
import functools
import os
import re
import shutil
import stat
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rollsafe import SafeTimedRotatingFileHandler
from rollsafe import _background as background
from rollsafe._backups import codecs, failures, listing, maintenance_pass
from rollsafe._backups.election import Election
from rollsafe._backups.excess import find_excess
from rollsafe._backups.failures import Failures
from rollsafe._backups.ledger import Ledger
from rollsafe._backups.maintenance_pass import MaintenancePass
from rollsafe._backups.names import ROLLED_EXTENSION, UNANNOUNCED_EXTENSION
from rollsafe._backups.quiet import QuietFiles
from rollsafe._live import late
from rollsafe._timing import QUIET_S
from rollsafe.schedule import Interval
from tests.support.crew import Crew, WatchedHandler, log_across_rollovers, wait_for_next_second
from tests.support.load import Plan, run_load, suffix_of_seconds
from tests.support.logs import LINES, Bzip2, Make, log, read_archive, suffix_of
from tests.support.mounts import mounted
from tests.support.oracle import ARCHIVES, audit
from tests.support.servers import wait_until

SOME_LINES = LINES[: LINES.index(b"\n", 1 << 18) + 1]
"""As many as take little time to compress at any level."""

NOBODY = 65534
PROCESSES = 3
needs_zst = pytest.mark.skipif(".zst" not in ARCHIVES, reason="needs backports.zstd")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others and become another user")


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """The live file, in a directory with nothing else in it."""
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs" / "app.log"


@pytest.fixture
def usual() -> dict[str, Any]:
    """Hours in UTC."""
    return {"when": "H", "utc": True}


@pytest.fixture
def alone(hurry: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for long, because the one handler of the test is all that writes."""
    monkeypatch.setattr(late, "KEPT_S", 0.05)


def backup_beside(live: Path, hour: int, content: bytes = b"of an earlier run\n") -> Path:
    """A backup of one hour of a day long ago."""
    path = live.with_name(f"{live.name}.2020-01-01_{hour:02}")
    path.write_bytes(content)
    return path


def names_in(directory: Path) -> set[str]:
    """The files there, but for lock files."""
    return {path.name for path in directory.iterdir() if not path.name.endswith(".lock")}


def wait_until_gone(*paths: Path) -> None:
    """Wait until these backups are archived or removed."""
    wait_until(lambda: not any(path.exists() for path in paths), "the backups are gone")


def wait_until_maintained(handler: WatchedHandler) -> None:
    """Wait until the maintenance thread has nothing more to do."""
    wait_until(lambda: handler._live.maintenance.is_idle, "the backups are maintained")


def roll(handler: WatchedHandler, message: str) -> float:
    """Log a line and have it rolled; returns its time."""
    created = log(handler, message)
    handler.doRollover()
    return created


class Notifications:
    """The notifications that `on_rollover` has got, after it has failed `failures` times."""

    def __init__(self, failures: int = 0) -> None:
        self.paths: list[Path] = []
        self.contents: list[bytes] = []
        self.intervals: list[Interval] = []
        self.calls = 0
        self._failures = failures

    def __call__(self, path: str, interval: Interval) -> None:
        self.calls += 1
        if self.calls <= self._failures:
            raise ConnectionError("no network")
        self.contents.append(read_archive(Path(path)) if path.endswith(".gz") else Path(path).read_bytes())
        self.intervals.append(interval)
        self.paths.append(Path(path))


# Archives.


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("compress", "lowest", "highest"),
    [
        ("gz", 0, 9),
        # Higher levels need hundreds of MiB.
        ("xz", 0, 6),
        pytest.param("zst", -7, 19, marks=needs_zst),
    ],
)
def test_a_higher_level_of_compression_makes_smaller_archives(
    tmp_path: Path, make: Make, compress: str, lowest: int, highest: int
) -> None:
    sizes = []
    for level in (lowest, highest):
        live = tmp_path / f"level {level}" / "app.log"
        live.parent.mkdir()
        source = backup_beside(live, 0, SOME_LINES)
        log(make(live, compress=compress, compress_level=level), "first")
        final = Path(f"{source}.{compress}")
        wait_until_gone(source)
        assert read_archive(final) == SOME_LINES
        sizes.append(final.stat().st_size)
    assert sizes[0] > 1.05 * sizes[1]


@needs_root
@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("compress", ["gz", Bzip2()])
def test_an_archive_that_root_makes_has_owner_group_and_mode_of_the_backup(
    live: Path, make: Make, compress: Any
) -> None:
    source = backup_beside(live, 0)
    os.chown(source, NOBODY, NOBODY - 1)
    source.chmod(0o640)
    handler = make(compress=compress)
    log(handler, "first")
    wait_until_gone(source)
    status = Path(f"{source}{getattr(compress, 'extension', '.gz')}").stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (NOBODY, NOBODY - 1, 0o640)
    assert handler.reported == []


@needs_root
@pytest.mark.usefixtures("alone")
def test_a_process_that_is_not_root_leaves_the_backups_of_others_alone(public_directory: Path) -> None:
    live = public_directory / "logs" / "app.log"
    roots, own = (backup_beside(live, hour) for hour in range(2))
    os.utime(roots, (1_700_000_000, 1_700_000_000))
    os.chown(live.parent, NOBODY, NOBODY)
    os.chown(own, NOBODY, NOBODY)
    # Imports a module, which the other user may not be able to read.
    time.strptime("2000", "%Y")

    def work() -> None:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        handler = WatchedHandler(live, when="H", utc=True, compress="gz")
        log(handler, "first")
        wait_until_gone(own)
        wait_until_maintained(handler)
        handler.close()
        assert handler.reported == []

    with Crew() as crew:
        crew.start(work).join()
    assert names_in(live.parent) == {live.name, roots.name, f"{own.name}.gz"}
    assert (roots.read_bytes(), roots.stat().st_mtime) == (b"of an earlier run\n", 1_700_000_000)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    "namer",
    [
        lambda default: re.sub(r"app\.log\.(.*)\Z", r"app-\1.log", default),
        lambda default: os.path.join(os.path.dirname(default), "old", os.path.basename(default)),
    ],
    ids=["the suffix in the middle", "another directory"],
)
def test_archives_have_the_names_of_a_namer_and_are_recognised_and_counted_by_them(
    live: Path, make: Make, namer: Callable[[str], str]
) -> None:
    (live.parent / "old").mkdir()
    notified = Notifications()
    handler = make(compress="gz", backupCount=1, on_rollover=notified)
    handler.namer = namer
    surplus = Path(namer(f"{live}.2020-01-01_00") + ".gz")
    surplus.touch()
    created = roll(handler, "first")
    final = Path(namer(f"{live}.{suffix_of(created, 'H')}") + ".gz")
    wait_until(lambda: bool(notified.paths) and not surplus.exists(), "it is archived, and the earlier one removed")
    wait_until_maintained(handler)
    assert (notified.paths, notified.contents) == ([final], [b"first\n"])
    assert names_in(live.parent) | names_in(final.parent) == {"app.log", "old", final.name}
    assert handler.reported == []


# Space.


@pytest.mark.usefixtures("alone")
def test_min_free_bytes_that_are_free_cost_no_backup(live: Path, make: Make) -> None:
    kept = [backup_beside(live, hour) for hour in range(3)]
    handler = make(min_free_bytes=1, compress="gz")
    assert handler.getFilesToDelete() == []
    roll(handler, "first")
    wait_until_gone(*kept)
    wait_until_maintained(handler)
    assert {f"{path.name}.gz" for path in kept} < names_in(live.parent)


@pytest.mark.usefixtures("alone")
def test_min_free_bytes_takes_just_enough_of_the_oldest_backups(make: Make) -> None:
    size = 256 << 10
    with mounted("tmpfs", 4 << 20) as disk:
        live = disk.logs / "app.log"
        made = [backup_beside(live, hour, bytes(size)) for hour in range(5)]
        status = os.statvfs(disk.logs)
        free = status.f_bavail * status.f_frsize
        # The half more than two of them is for what the handler writes itself.
        handler = make(live, min_free_bytes=free + 2 * size - size // 2)
        roll(handler, "first")
        wait_until_gone(*made[:2])
        wait_until_maintained(handler)
        assert all(path.exists() for path in made[2:])
        handler.close()
    assert handler.reported == []


# The notifications of the application.


@pytest.mark.parametrize("compress", [pytest.param(None, marks=pytest.mark.slow), "gz"])
def test_one_of_several_processes_is_notified_of_each_backup_once(
    live: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compress: str | None
) -> None:
    monkeypatch.setattr(maintenance_pass, "UNUSED_S", QUIET_S + 0.1)
    heard, stop = tmp_path / "heard", tmp_path / "stop"
    heard.touch()

    def tell(path: str, interval: Interval) -> None:
        # An upload takes its time: then another process would find it unfinished, if it looked.
        time.sleep(0.5)
        with heard.open("a") as file:
            file.write(f"{os.path.basename(path)}\n")

    def work(stream: str) -> None:
        handler = WatchedHandler(live, when="S", utc=True, compress=compress, on_rollover=tell)
        log_across_rollovers(handler, stream, rollovers=2)
        (tmp_path / f"{stream} has logged").touch()
        wait_until(stop.exists, "the end")
        handler.close()

    def is_notified() -> bool:
        names = names_in(live.parent) - {live.name}
        waiting = [name for name in names if name.endswith((UNANNOUNCED_EXTENSION, ROLLED_EXTENSION))]
        final = all(name.endswith(".gz") for name in names) if compress else True
        logged = len(list(tmp_path.glob("* has logged"))) == PROCESSES
        return logged and final and not waiting and names <= set(heard.read_text().split())

    with Crew() as crew:
        children = [crew.start(functools.partial(work, f"w{number}")) for number in range(PROCESSES)]
        wait_until(is_notified, "all backups are final and notified of")
        stop.touch()
        for child in children:
            child.join()
    notified = heard.read_text().split()
    assert sorted(notified) == sorted(names_in(live.parent) - {live.name})
    assert len(notified) >= 2


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("compress", [None, "gz"])
def test_a_line_after_the_notification_of_a_backup_makes_another_part_with_a_notification(
    live: Path, make: Make, compress: str | None
) -> None:
    notified = Notifications()
    # Opened by the first line, so that no second lies between, of which there would be a backup too.
    handler = make(when="S", delay=True, compress=compress, on_rollover=notified)
    created = log(handler, "first")
    wait_for_next_second()
    log(handler, "second")
    wait_until(lambda: len(notified.paths) == 1, "the application is notified of the backup")
    wait_until_maintained(handler)
    log(handler, "late", created)
    wait_until(lambda: len(notified.paths) == 2, "the application is notified of the other one")
    wait_until_maintained(handler)
    ending = f".{compress}" if compress else ""
    name = f"app.log.{suffix_of(created)}"
    assert [path.name for path in notified.paths] == [f"{name}{ending}", f"{name}.1{ending}"]
    assert notified.contents == [b"first\n", b"late\n"]
    assert {interval.start for interval in notified.intervals} == {int(created)}
    assert names_in(live.parent) == {"app.log", *(path.name for path in notified.paths)}
    assert handler.reported == []


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("compress", [None, "gz"])
def test_the_application_is_notified_of_each_part_by_size_in_the_archive_dir(
    live: Path, make: Make, compress: str | None
) -> None:
    folder = live.parent / "old"
    notified = Notifications()
    handler = make(maxBytes=10, archive_dir=folder, compress=compress, on_rollover=notified)
    created = log(handler, "aaaaaa")
    log(handler, "bbbbbb")
    log(handler, "cccccc")
    log(handler, "dddddd")
    wait_until(lambda: len(notified.paths) >= 3, "the application is notified of the parts")
    wait_until_maintained(handler)
    ending = f".{compress}" if compress else ""
    name = f"app.log.{suffix_of(created, 'H')}"
    expected = {
        folder / f"{name}{number}{ending}": content
        for number, content in (("", b"aaaaaa\n"), (".1", b"bbbbbb\n"), (".2", b"cccccc\n"))
    }
    assert dict(zip(notified.paths, notified.contents, strict=True)) == expected
    assert notified.calls == 3
    assert {interval.suffix for interval in notified.intervals} == {suffix_of(created, "H")}
    assert names_in(folder) == {path.name for path in expected}
    assert names_in(live.parent) == {"app.log", "old"}
    assert handler.reported == []


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("compress", [None, "gz"])
def test_a_notification_that_fails_is_repeated_until_it_returns_and_then_no_more(
    live: Path, make: Make, monkeypatch: pytest.MonkeyPatch, compress: str | None
) -> None:
    monkeypatch.setattr(failures, "_RETRY_S", 0.05)
    notified = Notifications(failures=2)
    handler = make(compress=compress, on_rollover=notified)
    roll(handler, "first")

    def renew() -> None:
        handler._file.expire_lease()
        log(handler, "more")

    def is_notified() -> bool:
        renew()
        return bool(notified.paths)

    wait_until(is_notified, "the application is notified again")
    wait_until_maintained(handler)
    # Work that is left would be done now.
    for _ in range(2):
        roll(handler, "last")
        wait_until(
            lambda: len(names_in(live.parent)) == len(notified.paths) + 1, "the application is notified of the next one"
        )
        wait_until_maintained(handler)
    assert notified.calls == 2 + 3
    assert notified.contents[0] == b"first\n"
    assert len(set(notified.paths)) == 3
    assert [text for text in handler.reported if "no network" in text] == handler.reported
    assert len(handler.take_reports()) == 1


# The process that does the work goes on serving.


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own here")
@pytest.mark.usefixtures("alone")
def test_the_thread_that_compresses_is_nicer_than_the_others(live: Path, make: Make) -> None:
    niceness: list[int] = []

    def compress(source_path: str, target_path: str) -> None:
        niceness.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        Path(target_path).write_bytes(Path(source_path).read_bytes())

    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    roll(make(compress=compress), "first")
    wait_until(lambda: bool(niceness), "it is compressed")
    assert niceness == [min(before + background.NICER, 19)]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("compress", ["gz", "xz", pytest.param("zst", marks=needs_zst)])
def test_a_compression_rests_after_each_part_that_it_reads_or_verifies(
    live: Path, make: Make, monkeypatch: pytest.MonkeyPatch, compress: str
) -> None:
    monkeypatch.setattr(codecs, "_CHUNK_BYTES", 1 << 14)
    rests: list[float] = []
    monkeypatch.setattr(background, "sleep", rests.append)
    source = backup_beside(live, 0, SOME_LINES)
    log(make(compress=compress, compress_level=0 if compress == "gz" else None), "first")
    final = Path(f"{source}.{compress}")
    wait_until_gone(source)
    parts = [-(-size // codecs._CHUNK_BYTES) for size in (len(SOME_LINES), final.stat().st_size)]
    assert min(parts) >= 1
    assert len(rests) == sum(parts)
    assert all(rest > 0 for rest in rests)


def test_a_round_over_many_files_gives_turns_to_other_threads(
    live: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = make(delay=True, when="M", compress="gz", max_age="1 day", max_total_bytes="1 GiB")
    # As if each file took as long as may be without a turn.
    monkeypatch.setattr(listing, "_WORK_S", -1.0)
    files = 30
    for number in range(files):
        live.with_name(f"app.log.2020-01-01_{number // 60:02}-{number % 60:02}").touch()
    turns: list[float] = []
    monkeypatch.setattr(listing, "sleep", turns.append)

    def turns_of(work: Callable[[], object]) -> int:
        turns.clear()
        # As the maintenance does, because a process of one thread takes no turns.
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert set(turns) == {listing._TURN_S}
        return len(turns)

    listings = handler._live.maintenance.duties.listings()
    codec = handler._codec
    assert codec is not None
    lock = handler._live.rollover.lock
    assert turns_of(handler._live.maintenance.duties.listings) >= files, "once over all to list them"
    names, limits, quiet = [handler._naming.names()], handler._live.maintenance.duties.limits(), QuietFiles()
    assert turns_of(lambda: find_excess(listings, names, limits, quiet)) >= 2 * files, "names, and sizes"
    one_pass = MaintenancePass(listings, quiet, Failures(), lambda sentence, error: None)
    assert turns_of(lambda: one_pass.compress(codec, Ledger(lock), None)) >= 2 * files, "names, and what each is"
    paths = find_excess(listings, names, limits, quiet).paths
    assert turns_of(lambda: one_pass.remove(paths)) == len(paths) == files


# A directory that is removed.


@pytest.mark.parametrize("is_closed", [True, False], ids=["closed", "open"])
def test_work_that_was_left_for_a_removed_directory_is_a_failure_only_of_an_open_log(
    live: Path, make: Make, monkeypatch: pytest.MonkeyPatch, is_closed: bool
) -> None:
    may_go_on = threading.Event()
    win = Election.try_to_win
    monkeypatch.setattr(Election, "try_to_win", lambda election: may_go_on.wait(60) and win(election))
    handler = make(compress="gz")
    roll(handler, "a line")
    if is_closed:
        handler.close()
    shutil.rmtree(live.parent)
    may_go_on.set()
    wait_until_maintained(handler)
    reports = handler.take_reports()
    assert len(reports) == (0 if is_closed else 1)
    assert all("maintenance of the backups" in text and "No such file" in text for text in reports)


# All of it under load.


class Compressing:
    """A compression of the application's."""

    extension = ".bz2"

    def __call__(self, source_path: str, target_path: str) -> None:
        Path(target_path).write_bytes(bz2.compress(Path(source_path).read_bytes()))


@pytest.mark.slow
@pytest.mark.parametrize(
    "compress", [pytest.param("zst", marks=needs_zst), "xz", pytest.param(Compressing(), id="callable")]
)
def test_under_load_with_kills_and_stops_the_archives_hold_every_line_once(live: Path, compress: Any) -> None:
    def make_handler() -> SafeTimedRotatingFileHandler:
        return SafeTimedRotatingFileHandler(live, when="S", utc=True, compress=compress)

    plan = Plan(seconds=6.0, rate=2000, kills_per_second=0.5, stops_per_second=1)
    load = run_load(make_handler, live, plan)
    extension = getattr(compress, "extension", f".{compress}")
    print(f"{len(list(live.parent.glob(f'app.log.*{extension}')))} archives were made beside the load")
    after = WatchedHandler(live, when="S", utc=True, compress=compress, delay=True)
    while (wait := after._live.maintenance.make_pass()) is not None:
        time.sleep(wait)
    assert after.reported == []
    report = audit(live, load.acknowledged, suffix_of_seconds(1), kills=load.kills)
    assert report.flawless, f"{report}\n{report.examples}"
    assert {path.suffix for path in live.parent.glob("app.log.*")} == {extension}
    assert report.files > 3
