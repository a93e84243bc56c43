"""Logs for which no line comes: they are rolled, compressed, handed over and aged out all the same, by one process."""

from __future__ import annotations

import gzip
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rollsafe import FileLock
from rollsafe._backups import maintenance_thread, watch
from rollsafe._backups.listing import Listing
from rollsafe._files.lock_handles import MAINTENANCE_BYTE
from rollsafe._files.renames import rename_new
from rollsafe._live import rollover
from rollsafe.handlers import watch_logs
from rollsafe.schedule import Interval
from tests.support.clock import StandingClock
from tests.support.crew import Crew, WatchedHandler, lock_path, stop_myself
from tests.support.descriptors import open_paths
from tests.support.gunicorn_setup import config
from tests.support.logs import DAY, HOUR, Make, log, suffix_of
from tests.support.servers import Server, backups, run_program, wait_until

pytestmark = pytest.mark.usefixtures("hurry", "looks_often")


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """The live file, in a directory with nothing else in it."""
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs" / "app.log"


@pytest.fixture
def usual() -> dict[str, Any]:
    """Hours in UTC, with a duty after each rollover."""
    return {"when": "H", "utc": True, "backupCount": 9}


@pytest.fixture
def clock(standing_clock: StandingClock) -> StandingClock:
    """A wall clock in the middle of an hour."""
    standing_clock.go_on(HOUR / 2 - time.time() % HOUR)
    return standing_clock


class Told:
    """Stands for an upload."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    def __call__(self, path: str, interval: Interval) -> None:
        self.paths.append(path)


def names_beside(live: Path) -> set[str]:
    """The names in the directory, but for lock files."""
    return {path.name for path in live.parent.iterdir() if not path.name.endswith(".lock")}


def wait_for_looks(handler: WatchedHandler, count: int = 3) -> None:
    """Wait until the thread has looked so many more times, and has nothing to do."""
    watched = handler._live.maintenance.watch
    for _ in range(count):
        planned = watched.look_at
        wait_until(lambda planned=planned: watched.look_at != planned, "a look")  # type: ignore[misc]
    wait_until(lambda: handler._live.maintenance.is_idle, "nothing is left to do")


def leave_file(live: Path, days: float = 2) -> str:
    """A live file of an earlier run; returns the name that its backup gets."""
    live.write_text("of an earlier run\n")
    written = time.time() - days * DAY
    os.utime(live, (written, written))
    return f"{live.name}.{suffix_of(written, 'H')}"


def leave_lock(live: Path) -> None:
    """A lock file of an earlier run."""
    lock = FileLock(lock_path(live))
    lock.acquire()
    lock.close()


def opened(path: Path) -> list[str]:
    """The descriptors that this process has of files beside `path` with its name or a longer one."""
    return [each for each in open_paths() if path.name in each and os.path.dirname(each) == str(path.parent)]


@pytest.mark.parametrize(("compress", "lock_writes"), [(None, False), ("gz", False), ("gz", True)])
def test_a_live_file_is_rolled_and_finished_after_its_boundary_although_no_line_comes(
    live: Path, make: Make, clock: StandingClock, compress: str | None, lock_writes: bool
) -> None:
    told = Told()
    handler = make(compress=compress, lock_writes=lock_writes, on_rollover=told)
    name = f"app.log.{suffix_of(log(handler, 'first'), 'H')}" + (".gz" if compress else "")
    clock.go_on(HOUR)
    wait_until(lambda: bool(told.paths), "the backup is finished")
    wait_for_looks(handler)
    assert names_beside(live) == {"app.log", name}
    assert told.paths == [str(live.with_name(name))]
    content = live.with_name(name).read_bytes()
    assert (gzip.decompress(content) if compress else content) == b"first\n"
    # The process that logs has the new file open, and its next line goes there.
    log(handler, "second")
    assert live.read_text() == "second\n"


def test_an_empty_file_is_not_rolled_and_the_next_line_rolls_it(live: Path, make: Make, clock: StandingClock) -> None:
    handler = make()
    log(handler, "first")
    for _ in range(3):
        clock.go_on(HOUR)
        wait_for_looks(handler)
    assert len(backups(live)) == 1
    assert live.read_bytes() == b""
    log(handler, "second", time.time())
    assert len(backups(live)) == 2


@pytest.mark.parametrize(
    "duties", [{}, {"compress": "gz"}, {"on_rollover": True}, {"on_rollover": True, "compress": "gz"}]
)
def test_after_a_pause_no_backup_without_a_line_stays_and_the_application_hears_of_none(
    live: Path, make: Make, clock: StandingClock, duties: dict[str, Any]
) -> None:
    told = Told()
    if "on_rollover" in duties:
        duties = duties | {"on_rollover": told}
    handler = make(**duties)
    extension = ".gz" if "compress" in duties else ""
    name = f"app.log.{suffix_of(log(handler, 'first'), 'H')}{extension}"
    for _ in range(2):
        clock.go_on(HOUR)
        wait_for_looks(handler)
    wait_until(lambda: names_beside(live) == {"app.log", name}, "the backup is finished")
    clock.go_on(HOUR)
    log(handler, "second", time.time())
    wait_until(lambda: len(backups(live)) == 2, "the line rolls the empty file")
    wait_until(lambda: names_beside(live) == {"app.log", name}, "the backup without a line is removed")
    assert live.read_text() == "second\n"
    assert told.paths == ([str(live.with_name(name))] if "on_rollover" in duties else [])


def test_a_late_line_comes_into_a_backup_that_had_none_and_it_stays(
    live: Path, make: Make, clock: StandingClock
) -> None:
    handler = make()
    log(handler, "first")
    clock.go_on(HOUR)
    wait_for_looks(handler)
    late = time.time()
    clock.go_on(HOUR)
    log(handler, "second", time.time())
    log(handler, "late", late)
    wait_until(lambda: handler._live.maintenance.is_idle, "the backups are maintained")
    assert live.with_name(f"app.log.{suffix_of(late, 'H')}").read_text() == "late\n"


def test_where_the_application_decides_about_removals_a_backup_without_a_line_stays(
    live: Path, clock: StandingClock
) -> None:
    class Keeping(WatchedHandler):
        def getFilesToDelete(self) -> list[str]:
            return []

    handler = Keeping(live, when="H", utc=True)
    log(handler, "first")
    for _ in range(2):
        handler.doRollover()
    wait_until(lambda: handler._live.maintenance.is_idle, "the backups are maintained")
    handler.close()
    assert [path.stat().st_size for path in backups(live)] == [6, 0]


def test_the_file_of_a_handler_that_never_logged_is_rolled_and_not_kept_open(
    live: Path, make: Make, clock: StandingClock
) -> None:
    name = leave_file(live)
    handler = make(delay=True, compress="gz")
    watch_logs()
    wait_until(lambda: (live.parent / f"{name}.gz").exists(), "it is rolled and compressed")
    wait_for_looks(handler)
    assert names_beside(live) == {"app.log", f"{name}.gz"}
    assert opened(live) == []
    assert handler.stream is None
    log(handler, "first")
    assert live.read_text() == "first\n"


def test_nothing_is_made_for_a_log_that_does_not_exist(live: Path, make: Make, clock: StandingClock) -> None:
    handler = make(delay=True, compress="gz")
    watch_logs()
    wait_for_looks(handler)
    clock.go_on(HOUR)
    wait_for_looks(handler)
    assert os.listdir(live.parent) == []
    # An empty file without a lock file is nothing that this handler has made either.
    live.touch()
    clock.go_on(HOUR)
    wait_for_looks(handler)
    assert os.listdir(live.parent) == ["app.log"]


def test_a_link_and_a_fifo_in_place_of_the_live_file_are_left_alone(
    live: Path, tmp_path: Path, make: Make, clock: StandingClock
) -> None:
    other = tmp_path / "other.log"
    leave_file(other)
    handler = make(delay=True)
    live.symlink_to(other)
    watch_logs()
    wait_for_looks(handler)
    live.unlink()
    os.mkfifo(live)
    clock.go_on(HOUR)
    wait_for_looks(handler)
    assert os.listdir(live.parent) == ["app.log"]
    assert other.read_text() == "of an earlier run\n"


def test_a_handler_that_wants_nothing_done_has_no_thread_and_is_not_rolled(live: Path) -> None:
    program = """
import logging, sys, threading, time
from rollsafe import SafeTimedRotatingFileHandler
from rollsafe.handlers import watch_logs
from rollsafe._backups import watch
from tests.support.constants import set_constants

set_constants(watch, _SHORTEST_PAUSE_S=0.05, _LONGEST_PAUSE_S=0.05)
idle = SafeTimedRotatingFileHandler(sys.argv[1], when="S", utc=True)
limited = SafeTimedRotatingFileHandler(sys.argv[1] + "2", when="S", utc=True, backupCount=3, delay=True)
assert threading.active_count() == 1, "a handler that is only made starts no thread"
limited.close()
idle.handle(logging.makeLogRecord({"msg": "a line", "created": time.time()}))
watch_logs()
assert threading.active_count() == 1, threading.enumerate()
"""
    run_program(program, live)


def test_the_thread_ends_when_the_last_handler_is_closed(live: Path) -> None:
    program = """
import logging, sys, threading, time
from rollsafe import SafeTimedRotatingFileHandler
from rollsafe.handlers import watch_logs

handlers = [SafeTimedRotatingFileHandler(f"{sys.argv[1]}{n}", when="H", backupCount=3, delay=True) for n in range(2)]
watch_logs()
assert threading.active_count() == 2
for handler in handlers:
    handler.close()
deadline = time.monotonic() + 60
while threading.active_count() == 2 and time.monotonic() < deadline:
    time.sleep(0.01)
assert threading.active_count() == 1
# gunicorn's USR1 closes a handler, and sets a new stream at once.
handlers[0].stream = handlers[0]._open()
assert threading.active_count() == 2
"""
    run_program(program, live)


def test_the_overrides_of_the_application_count(live: Path, make: Make, clock: StandingClock) -> None:
    rolled = []

    class Own(WatchedHandler):
        def doRollover(self) -> None:
            rolled.append(self.baseFilename)
            super().doRollover()

    handler = make(kind=Own)
    handler.namer = lambda default: default.replace("app.log.", "app.of-")
    name = f"app.of-{suffix_of(log(handler, 'first'), 'H')}"
    clock.go_on(HOUR)
    wait_until(lambda: name in names_beside(live), "it is rolled")
    wait_for_looks(handler)
    assert rolled == [str(live)]


def test_where_the_application_decides_about_each_record_only_a_record_rolls(
    live: Path, make: Make, clock: StandingClock
) -> None:
    class Own(WatchedHandler):
        def shouldRollover(self, record: logging.LogRecord) -> bool:
            return record.getMessage() == "roll"

    handler = make(kind=Own)
    log(handler, "first")
    clock.go_on(HOUR)
    wait_for_looks(handler)
    assert backups(live) == []
    log(handler, "roll")
    assert len(backups(live)) == 1


def test_a_refused_rollover_is_reported_once_and_made_when_it_is_possible_again(
    live: Path, make: Make, clock: StandingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def refuse(source: str, target: str) -> bool:
        tries.append(target)
        raise PermissionError(13, "Permission denied", target)

    handler = make()
    log(handler, "first")
    with monkeypatch.context() as patch:
        patch.setattr(rollover, "rename_new", refuse)
        clock.go_on(HOUR)
        wait_until(lambda: len(tries) >= 3, "it is tried again")
    wait_until(lambda: len(backups(live)) == 1, "it is rolled")
    (report,) = handler.take_reports()
    assert "the rollover of" in report
    assert "Permission denied" in report


def test_a_backup_that_becomes_too_old_is_removed_although_nothing_is_rolled(
    live: Path, make: Make, clock: StandingClock
) -> None:
    handler = make(backupCount=0, max_age="2 hours", delay=True)
    old, younger = (live.with_name(f"app.log.{suffix_of(time.time() - hours * HOUR, 'H')}") for hours in (2, 1))
    for path in (old, younger):
        path.write_text("a line\n")
    leave_lock(live)
    watch_logs()
    wait_for_looks(handler)
    assert names_beside(live) == {old.name, younger.name}
    clock.go_on(HOUR)
    wait_until(lambda: not old.exists(), "it is removed")
    assert names_beside(live) == {younger.name}


def test_a_backup_that_becomes_too_old_in_the_middle_of_an_interval_is_removed_within_an_hour(
    live: Path, make: Make, clock: StandingClock
) -> None:
    handler = make(when="W0", backupCount=0, max_age="20 days", delay=True)
    week = handler._naming.interval_at(time.time() - 28 * DAY)
    old = live.with_name(f"app.log.{week.suffix}")
    clock.go_on(week.end + 20 * DAY - HOUR / 2 - time.time())
    old.write_text("a line\n")
    # As old as it says, and another one was written in the meantime, as the clock is doubted otherwise.
    os.utime(old, (week.end - 1, week.end - 1))
    younger = live.with_name(f"app.log.{handler._naming.interval_at(time.time() - 7 * DAY).suffix}")
    younger.write_text("a line\n")
    os.utime(younger, (time.time() - HOUR, time.time() - HOUR))
    leave_lock(live)
    watch_logs()
    wait_for_looks(handler)
    assert old.exists()
    clock.go_on(HOUR)
    wait_until(lambda: not old.exists(), "it is removed")
    assert younger.exists()


def test_no_directory_is_listed_while_nothing_changes(
    live: Path, make: Make, clock: StandingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = make(compress="gz")
    log(handler, "first")
    clock.go_on(HOUR)
    wait_until(lambda: bool(list(live.parent.glob("*.gz"))), "it is rolled and compressed")
    wait_for_looks(handler)

    def refuse() -> list[Listing]:
        raise AssertionError("the directory is listed")

    monkeypatch.setattr(handler._live.maintenance.duties, "listings", refuse)
    wait_for_looks(handler, 5)
    assert handler.reported == []


def test_a_file_that_a_process_without_a_thread_has_rolled_is_compressed(live: Path, make: Make) -> None:
    def roll() -> None:
        maintenance_thread.forbid_thread(True)
        handler = make(compress="gz")
        log(handler, "first")
        handler.doRollover()

    handler = make(compress="gz", delay=True)
    watch_logs()
    wait_for_looks(handler)
    with Crew() as crew:
        crew.start(roll).join()
    wait_until(lambda: bool(list(live.parent.glob("*.gz"))), "it is compressed")
    assert opened(live) == [] or handler.stream is None


def test_of_several_processes_that_never_logged_one_rolls_and_the_application_is_called_once(
    live: Path, tmp_path: Path, make: Make
) -> None:
    name = leave_file(live)
    told, begin = tmp_path / "told", tmp_path / "begin"

    def tell(path: str, interval: Interval) -> None:
        with told.open("a") as file:
            file.write(f"{os.path.basename(path)}\n")

    def serve() -> None:
        handler = make(compress="gz", on_rollover=tell, delay=True)
        wait_until(begin.exists, "all processes are there")
        watch_logs()
        wait_until(told.exists, "one of them has finished the backup")
        wait_for_looks(handler)
        assert handler.stream is None
        assert handler.reported == []

    with Crew() as crew:
        children = [crew.start(serve) for _ in range(4)]
        begin.touch()
        for child in children:
            child.join()
    assert told.read_text() == f"{name}.gz\n"
    assert names_beside(live) == {"app.log", f"{name}.gz"}


def test_a_child_that_is_forked_in_the_middle_of_a_rollover_by_the_thread_logs_as_any_other(
    live: Path, make: Make, clock: StandingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = make()
    log(handler, "first")
    forked = threading.Event()
    is_in_open = threading.Event()
    open_new = handler._open

    def open_slowly() -> Any:
        is_in_open.set()
        forked.wait(120)
        return open_new()

    def work() -> None:
        created = log(handler, "of the child")
        # By the clock of the test, as the parent would not believe the note otherwise.
        os.utime(live, (created, created))
        assert handler._renewal.rolling_at is None
        assert handler.reported == []

    monkeypatch.setattr(handler, "_open", open_slowly)
    clock.go_on(HOUR)
    assert is_in_open.wait(120)
    with Crew() as crew:
        monkeypatch.setattr(handler, "_open", open_new)
        child = crew.start(work)
        child.join()
        forked.set()
    wait_for_looks(handler)
    assert live.read_text() == "of the child\n"


def hold_election(live: Path) -> None:
    """Be elected, and stop."""
    FileLock(lock_path(live), byte=MAINTENANCE_BYTE).acquire()
    stop_myself()


def test_a_process_that_is_elected_and_stopped_keeps_no_other_from_rolling_the_file(
    live: Path, make: Make, clock: StandingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_MOST_LOSSES", 1)
    handler = make(compress="gz")
    log(handler, "first")
    with Crew() as crew:
        elected = crew.start(lambda: hold_election(live))
        elected.wait_until_stopped()
        clock.go_on(HOUR)
        wait_until(lambda: len(backups(live)) == 1, "it is rolled")
        assert not backups(live)[0].name.endswith(".gz")
        elected.end()
        wait_until(lambda: bool(list(live.parent.glob("*.gz"))), "it is compressed after the end of the other process")
    assert handler.reported == []


def test_another_process_rolls_the_file_if_the_elected_one_is_killed_just_before_it(
    live: Path, make: Make, clock: StandingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = leave_file(live)

    def stop_at_ours(source: str, target: str) -> bool:
        # The process has also inherited the handlers of tests before, whose files it may roll.
        if source == os.path.realpath(live):
            stop_myself()
        return rename_new(source, target)

    def roll_and_stop() -> None:
        monkeypatch.setattr(rollover, "rename_new", stop_at_ours)
        make(compress="gz", delay=True)
        watch_logs()
        time.sleep(600)

    with Crew() as crew:
        elected = crew.start(roll_and_stop)
        elected.wait_until_stopped()
        handler = make(compress="gz", delay=True)
        watch_logs()
        wait_until(lambda: handler._live.maintenance.is_waiting_for_election, "another process is elected")
        assert backups(live) == []
        elected.end()
        wait_until(lambda: (live.parent / f"{name}.gz").exists(), "it is rolled and compressed")
    assert names_beside(live) == {"app.log", f"{name}.gz"}


TELL = """
import os

def tell(path, interval):
    with open("told.txt", "a") as file:
        file.write(os.path.basename(path) + "\\n")

"""


@pytest.fixture
def told(tmp_path: Path) -> Callable[[], list[str]]:
    """Returns the names of the backups that a server was told of."""
    path = tmp_path / "told.txt"
    path.touch()
    return lambda: sorted(path.read_text().split())


def test_gunicorn_rolls_error_and_access_log_without_requests(tmp_path: Path, told: Callable[[], list[str]]) -> None:
    logs = tmp_path / "logs"
    lives = [logs / "error.log", logs / "access.log", logs / "app.log"]

    def are_finished() -> bool:
        names = sorted(path.name for live in lives for path in backups(live))
        return (
            all(live.exists() and live.stat().st_size == 0 and backups(live) for live in lives)
            and all(name.endswith(".gz") for name in names)
            and names == told()
        )

    lines = {"error": b"", "access": b"", "app": b""}
    settings = config('"logs", when="S", interval=2, compress="gz", on_rollover=tell')
    with Server(tmp_path, TELL + settings, workers=2) as server:
        wait_until(are_finished, "all logs are rolled and finished")
        # The arbiter has only its own log open.
        files = [os.readlink(entry) for entry in Path(f"/proc/{server.arbiter}/fd").iterdir() if entry.exists()]
        assert not [path for path in files if path.startswith((str(lives[1]), str(lives[2])))]
        finished = told()
        for path in (path for live in lives for path in backups(live)):
            lines[path.name.partition(".")[0]] += gzip.decompress(path.read_bytes())
    assert len(set(finished)) == len(finished), "each was told once"
    assert not [name for name in finished if name.endswith(".1.gz")], "each interval was rolled once"
    assert lines["error"].count(b"Booting worker") >= 2
    assert lines["access"].count(b"GET /line/ready/0/60") == 1
    assert lines["app"].count(b"ready") == 1
