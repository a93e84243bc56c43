"""Processes that log numbered lines, and the files that they leave: shared by the tests of what production does.

A process here has a fixed number of lines to log, so its exit status 0 acknowledges all of them; what hangs is killed
by its own alarm and fails the test.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import ForkProcess, SpawnProcess
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from rollsafe import SafeTimedRotatingFileHandler
from tests.support.oracle import LINE_FORMAT, make_line
from tests.support.servers import wait_until

WATCHDOG = 180
"""Seconds after which a process that does not end is killed by its alarm."""
LINE_SIZE = 120
PAUSE = 0.002
"""Seconds between the lines of each of `Writers`."""
LINES = 40
"""Lines that `log_across_rollovers` logs on each side of a boundary."""


class WatchedHandler(SafeTimedRotatingFileHandler):
    """The handler under test, which keeps what it reports in `reported` and asserts the state of its open file."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        self.reported: list[str] = []
        super().__init__(*arguments, **keywords)

    def take_reports(self) -> list[str]:
        """What it has reported since this was last asked."""
        reports, self.reported = self.reported, []
        return reports

    def handle(self, record: logging.LogRecord) -> Any:
        handled = super().handle(record)
        self._file.assert_consistent()
        return handled

    def handleError(self, record: logging.LogRecord) -> None:
        self.reported.append(f"{record.msg}: {sys.exc_info()[1]!r}")


@dataclass(frozen=True)
class Maker:
    """A picklable function that makes a handler of `live`, in UTC or in the process's zone."""

    live: Path
    when: str = "S"
    backup_count: int = 0
    local: bool = False

    def __call__(self) -> WatchedHandler:
        handler = WatchedHandler(self.live, when=self.when, backupCount=self.backup_count, utc=not self.local)
        handler.setFormatter(logging.Formatter(LINE_FORMAT))
        return handler


def log_lines(handler: logging.Handler, stream: str, numbers: range) -> None:
    """Log the self-checking lines of these numbers."""
    for number in numbers:
        handler.handle(logging.makeLogRecord({"msg": make_line(stream, number, LINE_SIZE)}))


def log_across_rollovers(handler: logging.Handler, stream: str, rollovers: int = 1, first: int = 0) -> int:
    """Log `LINES` lines, and as many again after each of the next seconds begins; returns the number after the last."""
    for turn in range(rollovers + 1):
        if turn:
            wait_for_next_second()
        log_lines(handler, stream, range(first, first + LINES))
        first += LINES
    return first


def wait_for_next_second() -> None:
    """Wait until a new second of the wall clock begins."""
    second = int(time.time())
    wait_until(lambda: int(time.time()) != second, "the next second")


def suffix_of_day(created: float) -> str:
    """The backup suffix of when="D" in UTC."""
    return time.strftime("%Y-%m-%d", time.gmtime(created))


def suffix_of_hour(created: float) -> str:
    """The backup suffix of when="H" in UTC."""
    return time.strftime("%Y-%m-%d_%H", time.gmtime(created))


def lock_path(live: Path) -> Path:
    """The lock file of a live file."""
    return live.with_name(f".{live.name}.lock")


def state_of_process(pid: int) -> str:
    """The letter that proc(5) and ps(1) have for its state: T for stopped, Z for ended and not reaped."""
    if not os.path.isdir("/proc/self"):
        command = ["ps", "-o", "stat=", "-p", str(pid)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout[0]
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


class Child:
    """A forked process that does `work` and exits with status 0, or shows its exception and exits with 1."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._reaped = False
        self.pid = os.fork()
        if self.pid == 0:
            run_and_exit(work)

    @property
    def stopped(self) -> bool:
        """Whether it is stopped by a signal."""
        return state_of_process(self.pid) == "T"

    @property
    def ended(self) -> bool:
        """Whether it has ended and waits to be joined."""
        return state_of_process(self.pid) == "Z"

    def wait_until_stopped(self) -> None:
        """Wait until it has stopped itself."""
        wait_until(lambda: self.stopped or self.ended, "the process has stopped itself")
        assert self.stopped, "the process came to its end without being stopped"

    def go_on(self) -> None:
        """Let it go on where it stopped."""
        os.kill(self.pid, signal.SIGCONT)

    def join(self) -> None:
        """Wait for its end, which must be a good one."""
        status = os.waitpid(self.pid, 0)[1]
        self._reaped = True
        assert status == 0, f"exit code {os.waitstatus_to_exitcode(status)}, negative for a signal"

    def end(self) -> None:
        """Kill it if it still runs."""
        if not self._reaped:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self._reaped = True


class Crew:
    """The processes of one test; none outlives it."""

    def __init__(self) -> None:
        self._children: list[Child] = []

    def start(self, work: Callable[[], object]) -> Child:
        """Start one more process."""
        child = Child(work)
        self._children.append(child)
        return child

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        for child in self._children:
            child.end()


class Writers:
    """Processes that log numbered lines until the block ends, some hundred a second each.

    To spawn them, `make_handler` must be picklable.
    """

    def __init__(
        self,
        make_handler: Callable[[], WatchedHandler],
        scratch: Path,
        count: int = 2,
        start: Literal["fork", "spawn"] = "fork",
    ) -> None:
        self._scratch = scratch
        self._streams = [f"writer{number}" for number in range(count)]
        kind = {"fork": ForkProcess, "spawn": SpawnProcess}[start]
        self._processes: list[BaseProcess] = [
            kind(target=_write_until_told, args=(make_handler, scratch, stream)) for stream in self._streams
        ]
        self.acknowledged: dict[str, int] = {}
        """For each stream, how many lines were logged; known at the end."""
        self.reported: dict[str, list[str]] = {}
        """For each stream, what its handler reported; known at the end."""

    def __enter__(self) -> Writers:
        self._scratch.mkdir()
        for process in self._processes:
            process.start()
        begun = [self._scratch / f"{stream}-begun" for stream in self._streams]
        try:
            wait_until(lambda: all(path.exists() for path in begun), "all writers write")
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        if kind is not None:
            self._kill()
            return
        (self._scratch / "stop").touch()
        for process in self._processes:
            process.join()
        assert [process.exitcode for process in self._processes] == [0] * len(self._processes)
        for stream in self._streams:
            self.acknowledged[stream] = int((self._scratch / f"{stream}-logged").read_text())
            self.reported[stream] = (self._scratch / f"{stream}-reported").read_text().splitlines()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Have all of them stand still, wherever they are."""
        pids = [process.pid for process in self._processes if process.pid is not None]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            wait_until(lambda: all(state_of_process(pid) == "T" for pid in pids), "all writers stand still")
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def _kill(self) -> None:
        """End all of them at once."""
        for process in self._processes:
            process.kill()
            process.join()


def _write_until_told(make_handler: Callable[[], WatchedHandler], scratch: Path, stream: str) -> None:
    """What one of the `Writers` does."""
    signal.alarm(WATCHDOG)
    handler = make_handler()
    number = 0
    while not (scratch / "stop").exists():
        log_lines(handler, stream, range(number, number + 1))
        number += 1
        if number == 1:
            (scratch / f"{stream}-begun").touch()
        time.sleep(PAUSE)
    handler.close()
    (scratch / f"{stream}-logged").write_text(str(number))
    (scratch / f"{stream}-reported").write_text("".join(f"{text}\n" for text in handler.reported))


def run_and_exit(work: Callable[[], object]) -> None:
    """What a forked process does: the work, under a watchdog, and nothing of the process that it was forked from."""
    status = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(WATCHDOG)
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def stop_myself() -> None:
    """Stop the calling process; returns when it is told to go on.

    The signal goes to the calling thread. One that is sent to the process may be taken by another thread, and the
    calling one goes on until that one runs (signal(7); measured on Linux: 3 of 100 times beside a sleeping main
    thread).
    """
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
