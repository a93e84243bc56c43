"""What each handler costs a process with many: two descriptors, and a share in one maintenance thread."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rollsafe import FileLock, _background
from rollsafe._backups import maintenance_pass, maintenance_thread
from tests.support.clock import StandingClock
from tests.support.crew import Crew, WatchedHandler, stop_myself
from tests.support.descriptors import open_paths
from tests.support.logs import HOUR, Make, log, suffix_of
from tests.support.needs import needs_proc
from tests.support.servers import run_program, wait_until


def opened(directory: Path) -> list[str]:
    """The names of the files of a directory that this process has open, each as often as it has, sorted."""
    return [os.path.basename(path) for path in open_paths() if os.path.dirname(path) == str(directory)]


# Descriptors.


@needs_proc
@pytest.mark.parametrize("rolled_by", ["itself", "another process"])
def test_a_handler_has_its_live_file_and_its_lock_file_open_after_a_rollover_and_no_more(
    live: Path, make: Make, standing_clock: StandingClock, rolled_by: str
) -> None:
    handler = make()
    first = log(handler, "first")
    standing_clock.go_on(1)
    if rolled_by == "another process":
        with Crew() as crew:
            crew.start(lambda: log(make(), "second")).join()
    log(handler, "third")
    assert opened(live.parent) == [".app.log.lock", "app.log"]
    log(handler, "late", first)
    assert live.with_name(f"app.log.{suffix_of(first)}").read_text() == "first\nlate\n"


@needs_proc
def test_a_file_that_a_late_line_has_opened_is_closed_a_second_after_the_last_one(
    live: Path, make: Make, standing_clock: StandingClock
) -> None:
    handler = make()
    first = log(handler, "first")
    standing_clock.go_on(1)
    log(handler, "second")
    log(handler, "late", first)
    assert len(opened(live.parent)) == 3
    kept = handler._live.late.kept
    assert kept is not None
    # A second later; the lease lasts no longer either.
    kept.forget_at -= 1
    handler._file.expire_lease()
    log(handler, "third")
    assert opened(live.parent) == [".app.log.lock", "app.log"]


@needs_proc
def test_a_late_line_gets_into_its_file_though_a_process_is_stopped_with_the_lock_just_after_the_rollover(
    live: Path, make: Make, standing_clock: StandingClock
) -> None:
    handler = make()
    first = log(handler, "first")
    standing_clock.go_on(1)

    def roll_and_stop() -> None:
        other = make()
        release = other._live.rollover.lock.release

        def stop_before_release() -> None:
            if live.with_name(f"app.log.{suffix_of(first)}").exists():
                stop_myself()
            release()

        other._live.rollover.lock.release = stop_before_release  # type: ignore[method-assign]  # and is stopped there
        log(other, "second")

    with Crew() as crew:
        stopped = crew.start(roll_and_stop)
        stopped.wait_until_stopped()
        log(handler, "third")
        log(handler, "late", first)
        assert live.with_name(f"app.log.{suffix_of(first)}").read_text() == "first\nlate\n"
        assert handler.take_reports() == []
        stopped.go_on()
        stopped.join()
    kept = handler._live.late.kept
    assert kept is not None
    kept.forget_at -= 1
    handler._file.expire_lease()
    log(handler, "fourth")
    assert opened(live.parent) == [".app.log.lock", "app.log"]


@needs_proc
def test_a_late_line_gets_into_its_file_though_the_process_may_not_use_the_lock_file(
    live: Path, make: Make, standing_clock: StandingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = make()
    first = log(handler, "first")
    standing_clock.go_on(1)
    with Crew() as crew:
        crew.start(lambda: log(make(), "second")).join()

    def refuse(*_: object, **__: object) -> bool:
        raise PermissionError("the lock file of another user")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    log(handler, "third")
    log(handler, "late", first)
    assert live.with_name(f"app.log.{suffix_of(first)}").read_text() == "first\nlate\n"


# Threads.

MAINTENANCE, WORKER = "rollsafe-maintenance", "rollsafe-long-work"


class Upload:
    """A function of the application that does not return until it is told to."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.may_return = threading.Event()

    def __call__(self, path: str, _: object = None) -> None:
        self.paths.append(path)
        assert self.may_return.wait(120)


@pytest.fixture
def upload() -> Iterator[Upload]:
    """One that returns at the end of the test."""
    upload = Upload()
    yield upload
    upload.may_return.set()


@pytest.fixture
def make_silent(
    hurry: None, looks_often: None, make: Make, tmp_path: Path, standing_clock: StandingClock
) -> Callable[..., WatchedHandler]:
    """Makes a handler of a log with one line, whose hour is over when the clock goes on."""

    def make_one(name: str, **arguments: object) -> WatchedHandler:
        handler = make(tmp_path / name, when="H", **arguments)
        log(handler, name)
        return handler

    return make_one


@pytest.fixture(autouse=True)
def _no_other_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread of this process has ended, and forgets the handlers of earlier tests, which it may still serve."""
    monkeypatch.setattr(maintenance_thread, "_members", [])
    thread = maintenance_thread.thread_of_this_process()
    thread.alarm()
    wait_until(lambda: not thread.is_alive, "the thread has left the handlers of earlier tests")


def threads() -> list[str]:
    """The names of the threads that serve the handlers of this process, sorted."""
    thread = maintenance_thread.thread_of_this_process()
    return sorted(each._name for each in (thread._server, thread._worker) if each.is_alive)


def backups_of(handler: WatchedHandler) -> list[str]:
    """The names of the backups of a log, sorted."""
    live = Path(handler.baseFilename)
    return sorted(path.name for path in live.parent.glob(f"{live.name}.*"))


def is_rolled(handler: WatchedHandler) -> bool:
    """Whether the live file has no line, and there are backups."""
    try:
        return os.stat(handler.baseFilename).st_size == 0 and bool(backups_of(handler))
    except FileNotFoundError:  # just between the rename and the new file
        return False


def log_again(handler: WatchedHandler) -> None:
    """Log a line of now. The thread has the lock while it rolls, and only then has the open file its interval."""
    with handler._own_lock():
        log(handler, "again")


def wait_until_rolled(handler: WatchedHandler, times: int = 1) -> None:
    """Wait until the log was rolled so many times, and the live file has no line."""
    name = os.path.basename(handler.baseFilename)
    wait_until(lambda: is_rolled(handler) and len(backups_of(handler)) == times, f"{name} is rolled {times} times")


def wait_until_archived(handler: WatchedHandler, times: int) -> None:
    """Wait until the log has so many backups, all of them archives."""
    expected = [".gz"] * times
    wait_until(lambda: [Path(name).suffix for name in backups_of(handler)] == expected, f"{times} archives")


def test_one_thread_limits_and_compresses_small_files_of_all_handlers(
    make_silent: Callable[..., WatchedHandler], standing_clock: StandingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    start = _background.start_thread

    def note_start(run: Callable[[], None], name: str) -> threading.Thread | None:
        started.append(name)
        return start(run, name)

    monkeypatch.setattr(_background, "start_thread", note_start)
    handlers = [make_silent(f"{number}.log", compress="gz", backupCount=1) for number in range(5)]
    for _ in range(2):
        standing_clock.go_on(HOUR)
        wait_until(lambda: all(is_rolled(handler) for handler in handlers), "all logs are rolled")
        for handler in handlers:
            log_again(handler)
    for handler in handlers:
        wait_until_archived(handler, 1)
    assert WORKER not in started
    assert threads() in ([], [MAINTENANCE])


@pytest.mark.parametrize(
    "long_work",
    [
        "on_rollover",
        *(
            pytest.param(one, marks=pytest.mark.slow)
            for one in ("rotator", "compress", "getFilesToDelete", "large file")
        ),
    ],
)
def test_long_work_for_one_log_holds_up_no_rollover_of_another_or_its_own(
    long_work: str,
    make_silent: Callable[..., WatchedHandler],
    standing_clock: StandingClock,
    upload: Upload,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments: dict[str, object] = {"on_rollover": upload} if long_work == "on_rollover" else {}
    if long_work == "compress":
        arguments = {"compress": lambda source, target: upload(source)}
    elif long_work == "large file":
        arguments = {"compress": "gz"}
        monkeypatch.setattr(maintenance_pass, "_SMALL_BYTES", 20)
    slow = make_silent("slow.log", **({"backupCount": 9} | arguments))
    limited, archived = make_silent("limited.log", backupCount=9), make_silent("archived.log", compress="gz")
    if long_work == "rotator":
        slow.rotator = lambda source, target: upload(source)
    elif long_work == "getFilesToDelete":
        slow.getFilesToDelete = lambda: [str(upload("removals"))]  # type: ignore[method-assign, func-returns-value]  # as an application does
    elif long_work == "large file":
        log(slow, "more than the few bytes of the other")
        start, rest = _background.start_thread, _background.Pace.rest
        # A thread has no name of its own if another test has imported gevent into this process.
        workers: list[int] = []

        def start_noted(run: Callable[[], None], name: str) -> threading.Thread | None:
            def run_noted() -> None:
                if name == WORKER:
                    workers.append(threading.get_ident())
                run()

            return start(run_noted, name)

        def rest_long(pace: _background.Pace) -> None:
            if threading.get_ident() in workers:
                upload("a compression")
            rest(pace)

        monkeypatch.setattr(_background, "start_thread", start_noted)
        monkeypatch.setattr(_background.Pace, "rest", rest_long)
    standing_clock.go_on(HOUR)
    wait_until(lambda: bool(upload.paths), "the long work has begun")
    assert threads() == [WORKER, MAINTENANCE]
    for turn in (1, 2):
        wait_until_rolled(limited, turn)
        wait_until_archived(archived, turn)
        wait_until(lambda: is_rolled(slow), "its own log is rolled")
        for handler in (slow, limited, archived):
            log_again(handler)
        standing_clock.go_on(HOUR)
    assert len(upload.paths) == 1
    assert threads() == [WORKER, MAINTENANCE]
    upload.may_return.set()
    wait_until(lambda: threads() == [MAINTENANCE], "the worker has ended with its work")
    if long_work == "compress":
        assert "has written nothing" in "".join(slow.take_reports())


def test_a_server_of_files_that_does_not_answer_holds_up_no_log_elsewhere(
    make_silent: Callable[..., WatchedHandler],
    standing_clock: StandingClock,
    upload: Upload,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    remote, local = make_silent("remote.log", lock_writes=True, backupCount=9), make_silent("local.log", backupCount=9)
    look = remote._look

    def hang(*, rolls: bool) -> bool:
        upload("a look")
        return look(rolls=rolls)

    monkeypatch.setattr(remote, "_look", hang)
    wait_until(lambda: bool(upload.paths), "a look hangs")
    for turn in (1, 2):
        standing_clock.go_on(HOUR)
        wait_until_rolled(local, turn)
        log_again(local)
    assert len(upload.paths) == 1
    upload.may_return.set()
    wait_until(lambda: is_rolled(remote), "the log on the server is rolled at last")


def test_the_thread_does_long_work_itself_where_no_other_can_be_started(
    make_silent: Callable[..., WatchedHandler],
    standing_clock: StandingClock,
    upload: Upload,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = _background.start_thread

    def refuse_another(run: Callable[[], None], name: str) -> threading.Thread | None:
        if name == WORKER:
            raise RuntimeError("can't start new thread")
        return start(run, name)

    monkeypatch.setattr(_background, "start_thread", refuse_another)
    upload.may_return.set()
    handlers = [make_silent(f"{number}.log", on_rollover=upload, lock_writes=number > 1) for number in range(3)]
    standing_clock.go_on(HOUR)
    wait_until(lambda: len(upload.paths) == 3, "the application was called for each log")
    wait_until(lambda: all(handler._live.maintenance.is_idle for handler in handlers), "nothing is left to do")


@pytest.mark.slow
def test_a_fork_during_long_work_leaves_the_work_to_the_parent_which_serves_all_logs_afterwards(
    make_silent: Callable[..., WatchedHandler], standing_clock: StandingClock, upload: Upload
) -> None:
    slow, waiting, other = (
        make_silent("slow.log", on_rollover=upload),
        make_silent("waiting.log", on_rollover=upload),
        make_silent("other.log", backupCount=9),
    )
    standing_clock.go_on(HOUR)
    wait_until(lambda: bool(upload.paths), "the long work has begun")
    wait_until(lambda: is_rolled(slow) and is_rolled(waiting) and is_rolled(other), "all are rolled")

    def log_all() -> None:
        # Not the log that waits for its turn: nobody is elected for it, so the child may do its work.
        for handler in (slow, other):
            log(handler, "of the child")
        assert threads() in ([], [MAINTENANCE])

    with Crew() as crew:
        crew.start(log_all).join()
    assert Path(other.baseFilename).read_text() == "of the child\n"
    assert len(upload.paths) == 1
    upload.may_return.set()
    wait_until(lambda: len(upload.paths) == 2, "the application was called for the other log, too")
    standing_clock.go_on(HOUR)
    wait_until_rolled(other, 2)


@pytest.mark.slow
def test_an_exit_does_not_wait_for_long_work_that_hangs(tmp_path: Path) -> None:
    program = """
import logging, os, sys, threading, time
from rollsafe import SafeTimedRotatingFileHandler
from rollsafe._backups import maintenance_pass, maintenance_thread
from tests.support.constants import set_constants

set_constants(maintenance_pass, QUIET_S=0.0, UNUSED_S=0.0)
set_constants(maintenance_thread, _EXIT_END_S=0.1, _END_AT_EXIT_S=0.1)
begun = threading.Event()

def hang(path, interval):
    begun.set()
    threading.Event().wait()

for number in range(2):
    handler = SafeTimedRotatingFileHandler(f"{sys.argv[1]}/{number}.log", when="H", on_rollover=hang)
    handler.handle(logging.makeLogRecord({"msg": "a line", "created": time.time()}))
    handler.doRollover()
    logging.getLogger().addHandler(handler)
assert begun.wait(60)
assert [thread.name for thread in threading.enumerate()].count("rollsafe-long-work") == 1
logging.warning("the last line")
"""
    run_program(program, tmp_path)
    assert [(tmp_path / f"{number}.log").read_text() for number in range(2)] == ["the last line\n"] * 2


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize("arguments", ["backupCount=2", 'compress="gz", backupCount=2', "on_rollover=called"])
def test_four_workers_with_a_hundred_handlers_each_get_back_to_two_descriptors_for_each_after_a_boundary(
    tmp_path: Path, arguments: str
) -> None:
    program = f"""
import logging, os, sys, time
from rollsafe import SafeTimedRotatingFileHandler
from tests.support.descriptors import open_paths

COUNT, WORKERS, LENGTH, PATIENCE = 100, 4, 5, 60
# On a busy machine a process may have a lock for longer than the others wait, and they report that.
logging.raiseExceptions = False

def called(path, interval):
    pass

def opened():
    return [path for path in open_paths() if path.startswith(sys.argv[1])]

def threads():
    return len(os.listdir("/proc/self/task")) - 1

def log_all():
    for handler in handlers:
        handler.handle(logging.makeLogRecord({{"msg": "a line", "created": time.time()}}))

def wait_until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True

def work():
    log_all()
    boundary = (time.time() // LENGTH + 1) * LENGTH
    wait_until(lambda: time.time() >= boundary)
    log_all()
    # Of this interval: each handler has turned to the new file, however long that took on a busy machine.
    few = wait_until(lambda: len(opened()) <= 2 * COUNT)
    one = wait_until(lambda: threads() <= 1)
    print(len(opened()), threads(), opened()[:3], file=sys.stderr) if not (few and one) else None
    os._exit(not (few and one))

handlers = [
    SafeTimedRotatingFileHandler(f"{{sys.argv[1]}}/{{number}}.log", when="S", interval=LENGTH, {arguments})
    for number in range(COUNT)
]
children = []
for _ in range(WORKERS):
    child = os.fork()
    if not child:
        work()
    children.append(child)
ended = [os.waitpid(child, 0)[1] for child in children]
os._exit(any(ended))
"""
    run_program(program, tmp_path)
