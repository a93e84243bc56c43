"""Forks of every kind: the child logs on, across a rollover, with a lock handle of its own, and nothing is lost."""

from __future__ import annotations

import concurrent.futures
import ctypes
import functools
import itertools
import logging
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from rollsafe._timing import LEASE_S
from tests.support.crew import (
    LINES,
    Child,
    Crew,
    Maker,
    WatchedHandler,
    lock_path,
    log_across_rollovers,
    log_lines,
    run_and_exit,
)
from tests.support.load import suffix_of_seconds
from tests.support.oracle import audit, make_line
from tests.support.servers import wait_until

pytestmark = pytest.mark.skipif(not Path("/proc/self/fdinfo").is_dir(), reason="needs the /proc of Linux")

CHILDREN = 4
ROLLOVERS = 1
LINES_OF_A_CHILD = LINES * (ROLLOVERS + 1)
MARK = 7
START_METHODS = ("fork", "spawn", "forkserver")


def fork_in_c() -> int:
    """fork(2) as uWSGI calls it: with the GIL held, and no at-fork callback run."""
    return int(ctypes.PyDLL(None).fork())


FORKS = {"os.fork": os.fork, "in C": fork_in_c}


def positions_in_lock_file(live: Path) -> list[int]:
    """The positions of this process's descriptors of the lock file; one that came over a fork shares its position."""
    positions = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            if os.readlink(link) == str(lock_path(live)):
                positions.append(os.lseek(int(link.name), 0, os.SEEK_CUR))
        except FileNotFoundError:
            continue  # the descriptor of the listing itself
    return positions


def mark_lock_handle(live: Path) -> None:
    """Move the position of this process's descriptor of the lock file, so that a child can tell it from its own."""
    for link in Path("/proc/self/fd").iterdir():
        if os.path.lexists(link) and os.readlink(link) == str(lock_path(live)):
            os.lseek(int(link.name), MARK, os.SEEK_SET)
    assert positions_in_lock_file(live) == [MARK]


def log_as_child(handler: WatchedHandler, live: Path, stream: str, reports: Sequence[str] = ()) -> None:
    """What every child does: log across a rollover, and look that it shares no lock handle and reported just that."""
    log_across_rollovers(handler, stream, ROLLOVERS)
    assert positions_in_lock_file(live) == [0], "the child still has the parent's lock handle, or none of its own"
    assert len(handler.reported) == len(reports), handler.reported
    assert all(words in report for words, report in zip(reports, handler.reported, strict=True)), handler.reported


def assert_all_is_there(live: Path, acknowledged: dict[str, int]) -> None:
    """Nothing is lost, doubled, torn or misfiled, and there was a rollover."""
    report = audit(live, acknowledged, suffix_of_seconds(1))
    assert report.flawless, f"{report}\n{report.examples}"
    assert report.files > ROLLOVERS


def test_children_forked_from_a_thread_while_another_thread_logs(live: Path) -> None:
    handler = Maker(live)()
    mark_lock_handle(live)
    children: dict[str, Child] = {}
    logged = [0]
    done = threading.Event()

    def keep_logging() -> None:
        for number in itertools.count():
            log_lines(handler, "busy", range(number, number + 1))
            logged[0] = number + 1
            if done.is_set():
                return

    def fork_children() -> None:
        for number in range(CHILDREN):
            before = logged[0]
            wait_until(lambda before=before: logged[0] > before, "the other thread logs")  # type: ignore[misc]
            stream = f"child{number}"
            children[stream] = crew.start(functools.partial(log_as_child, handler, live, stream))

    with Crew() as crew:
        busy, forking = threading.Thread(target=keep_logging), threading.Thread(target=fork_children)
        busy.start()
        forking.start()
        try:
            forking.join()
            for child in children.values():
                child.join()
        finally:
            done.set()
            busy.join()
    handler.close()
    assert_all_is_there(live, {"busy": logged[0]} | dict.fromkeys(children, LINES_OF_A_CHILD))
    assert handler.reported == []


@pytest.mark.parametrize("fork", FORKS.values(), ids=FORKS.keys())
@pytest.mark.parametrize("moment", ["formatter", "namer"])
def test_a_worker_forked_in_the_middle_of_emit_logs_and_never_returns_into_it(
    live: Path, fork: Callable[[], int], moment: str
) -> None:
    forked: list[int] = []

    def fork_once() -> None:
        if not forked:
            forked.append(fork())
            if forked[0] == 0:
                run_and_exit(functools.partial(log_as_child, handler, live, "child"))

    class Forking(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            fork_once()
            return plain.format(record)

    def namer(default: str) -> str:
        fork_once()
        return default

    def work() -> None:
        log_lines(handler, "first", range(1))
        mark_lock_handle(live)
        if moment == "formatter":
            handler.setFormatter(Forking())
        else:
            handler.namer = namer
        log_across_rollovers(handler, "parent", ROLLOVERS)
        assert os.waitpid(forked[0], 0)[1] == 0
        assert handler.reported == []

    handler = Maker(live)()
    assert handler.formatter is not None
    plain = handler.formatter
    with Crew() as crew:
        # The parent is a process of its own, because a fork in C must not copy a pytest that has threads.
        handler.close()
        crew.start(work).join()
    assert_all_is_there(live, {"first": 1, "parent": LINES_OF_A_CHILD, "child": LINES_OF_A_CHILD})


@pytest.mark.parametrize("fork", FORKS.values(), ids=FORKS.keys())
def test_a_child_forked_by_a_formatter_finishes_the_emit_that_it_was_forked_in(
    live: Path, fork: Callable[[], int]
) -> None:
    forked: list[int] = []

    class Forking(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            if not forked:
                forked.append(fork())
                if forked[0] == 0:
                    record.msg = make_line("returned", 0, 0)
            return plain.format(record)

    def work() -> None:
        log_lines(handler, "first", range(1))
        mark_lock_handle(live)
        handler.setFormatter(Forking())
        log_lines(handler, "parent", range(1))
        if forked[0] == 0:
            log_as_child(handler, live, "child")
            return
        assert os.waitpid(forked[0], 0)[1] == 0
        assert handler.reported == []

    handler = Maker(live)()
    assert handler.formatter is not None
    plain = handler.formatter
    with Crew() as crew:
        handler.close()
        crew.start(work).join()
    assert_all_is_there(live, {"first": 1, "parent": 1, "returned": 1, "child": LINES_OF_A_CHILD})


def test_children_forked_in_c_without_callbacks(live: Path) -> None:
    called: list[int] = []
    os.register_at_fork(after_in_child=lambda: called.append(os.getpid()))

    def work() -> None:
        called.clear()
        log_lines(handler, "parent", range(LINES))
        mark_lock_handle(live)
        pids = []
        for number in range(CHILDREN):
            pid = fork_in_c()
            if pid == 0:
                run_and_exit(functools.partial(log_as_child, handler, live, f"child{number}"))
            pids.append(pid)
        assert called == [], "this was a fork with callbacks"
        log_across_rollovers(handler, "parent", ROLLOVERS, first=LINES)
        for pid in pids:
            assert os.waitpid(pid, 0)[1] == 0
        assert positions_in_lock_file(live) == [MARK]
        assert handler.reported == []

    handler = Maker(live)()
    handler.close()
    with Crew() as crew:
        crew.start(work).join()
    children = {f"child{number}": LINES_OF_A_CHILD for number in range(CHILDREN)}
    assert_all_is_there(live, {"parent": LINES + LINES_OF_A_CHILD} | children)


def log_in_a_process_of_multiprocessing(handler: WatchedHandler | Maker, live: Path, stream: str) -> None:
    """The target of such a process: with the handler that it inherited, or one that it makes."""
    signal.alarm(120)
    log_as_child(handler() if isinstance(handler, Maker) else handler, live, stream)


@pytest.mark.parametrize("method", START_METHODS)
def test_processes_of_multiprocessing(live: Path, method: str) -> None:
    streams = [f"child{number}" for number in range(CHILDREN)]

    def work() -> None:
        handler = Maker(live)()
        mark_lock_handle(live)
        context = multiprocessing.get_context(method)
        given = handler if method == "fork" else Maker(live)
        processes = [
            context.Process(target=log_in_a_process_of_multiprocessing, args=(given, live, stream))  # type: ignore[attr-defined]  # all three contexts have it
            for stream in streams
        ]
        for process in processes:
            process.start()
        log_across_rollovers(handler, "parent", ROLLOVERS)
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0] * CHILDREN
        assert positions_in_lock_file(live) == [MARK]
        assert handler.reported == []

    with Crew() as crew:
        # In a process of its own, whose end is the end of the fork server too.
        crew.start(work).join()
    assert_all_is_there(live, dict.fromkeys([*streams, "parent"], LINES_OF_A_CHILD))


_pool_handler: list[WatchedHandler] = []


def prepare_pool_process(handler: WatchedHandler | Maker) -> None:
    """The initializer of a process pool's processes."""
    signal.alarm(120)
    _pool_handler[:] = [handler() if isinstance(handler, Maker) else handler]


def log_as_task(live: Path, stream: str) -> int:
    """A task of a process pool; returns which process has done it."""
    log_as_child(_pool_handler[0], live, stream)
    return os.getpid()


@pytest.mark.parametrize("method", START_METHODS)
def test_a_process_pool(live: Path, method: str) -> None:
    streams = [f"task{number}" for number in range(CHILDREN)]

    def work() -> None:
        handler = Maker(live)()
        mark_lock_handle(live)
        given = handler if method == "fork" else Maker(live)
        with concurrent.futures.ProcessPoolExecutor(
            CHILDREN, multiprocessing.get_context(method), prepare_pool_process, (given,)
        ) as pool:
            tasks = [pool.submit(log_as_task, live, stream) for stream in streams]
            log_across_rollovers(handler, "parent", ROLLOVERS)
            assert os.getpid() not in {task.result() for task in tasks}
        assert handler.reported == []

    with Crew() as crew:
        crew.start(work).join()
    assert_all_is_there(live, dict.fromkeys([*streams, "parent"], LINES_OF_A_CHILD))


@pytest.mark.parametrize(
    ("moment", "numbers"),
    [
        ("at once", "left free"),
        ("at once", "taken by other files"),
        ("when it has logged and its lease is over", "taken by other files"),
    ],
)
def test_a_daemon_that_closes_all_descriptors_logs_on_and_writes_into_no_other_file(
    live: Path, moment: str, numbers: str
) -> None:
    strangers = live.parents[1] / "strangers"
    strangers.mkdir()
    outcome = live.parents[1] / "outcome"

    def daemon() -> None:
        signal.alarm(120)
        if moment != "at once":
            log_across_rollovers(handler, "early", ROLLOVERS)
            begun = time.time()
            wait_until(lambda: time.time() > begun + LEASE_S, "the lease is over")
        top = max(int(name) for name in os.listdir("/proc/self/fd")) + 1
        os.closerange(3, top)
        if numbers == "taken by other files":
            for number in range(3, top):
                assert os.open(strangers / str(number), os.O_RDWR | os.O_CREAT) == number
        # Where its own descriptor has become another file since it wrote, it says so.
        log_as_child(handler, live, "daemon", [] if moment == "at once" else ["was closed by other code"])

    def launch() -> None:
        os.setsid()
        if os.fork() == 0:
            said = "it is well"
            try:
                daemon()
            except BaseException:
                said = traceback.format_exc()
            outcome.with_suffix(".new").write_text(said)
            outcome.with_suffix(".new").replace(outcome)
            os._exit(0)

    handler = Maker(live)()
    log_lines(handler, "parent", range(LINES))
    mark_lock_handle(live)
    with Crew() as crew:
        crew.start(launch).join()
        log_across_rollovers(handler, "parent", ROLLOVERS, first=LINES)
        wait_until(outcome.exists, "the daemon has come to its end")
    assert outcome.read_text() == "it is well", outcome.read_text()
    assert handler.reported == []
    assert positions_in_lock_file(live) == [MARK]
    handler.close()
    assert [path.name for path in strangers.iterdir() if path.read_bytes()] == []
    streams = ["daemon"] if moment == "at once" else ["daemon", "early"]
    assert_all_is_there(live, {"parent": LINES + LINES_OF_A_CHILD} | dict.fromkeys(streams, LINES_OF_A_CHILD))
