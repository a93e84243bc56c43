"""The load: several processes that log as fast as they can while they are killed, stopped and interrupted.

Each writer counts, in memory shared with the harness, the lines whose `emit` returned; so the counts outlive a
SIGKILL. `tests.support.oracle.audit` compares them with the files.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import logging
import mmap
import os
import random
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkProcess, SpawnProcess
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Literal

from tests.support.oracle import LINE_FORMAT, make_line

STOP_SECONDS = (0.05, 0.3)
MIXED_SIZES = (1, *[200] * 30, 1_000, 4_096, *[200] * 30, 8_193, 20_000, 65_536)

_PROCESS_TYPES: dict[str, type[BaseProcess]] = {"fork": ForkProcess, "spawn": SpawnProcess}

MakeHandler = Callable[[], logging.Handler]


@dataclass(frozen=True)
class Plan:
    """What the writers do and what is done to them."""

    processes: int = 4
    seconds: float = 6.0
    sizes: tuple[int, ...] = (200,)
    """Sizes of the messages in characters, taken in turn, up to 65536."""
    threads: int = 1
    """Writing threads in each process."""
    handlers: int = 1
    """Handlers in each process: thread t logs through handler t modulo this number."""
    signal_hz: float = 0
    """How many times a second a signal handler interrupts the main thread of each process, and logs."""
    kills_per_second: float = 0
    """SIGKILLs to a random writer, which a new one replaces."""
    stops_per_second: float = 0
    """SIGSTOPs to a random writer, each followed by a SIGCONT after 50 to 300 ms."""
    handler_made: Literal["after fork", "before fork"] = "after fork"
    rate: float | None = None
    """Lines a second and thread; None is flat out."""
    start: Literal["fork", "spawn"] = "fork"
    """How processes are made; to spawn them, `make_handler` must be picklable."""
    seed: int = 0
    patience: float = 60.0
    """Seconds that the writers may take to get ready, and to finish their last lines; beyond that the run fails."""

    def __post_init__(self) -> None:
        if self.handler_made == "before fork" and self.start != "fork":
            raise ValueError(f"start {self.start!r}: a handler made before the fork needs start='fork'")


@dataclass(frozen=True)
class Load:
    """What a run did."""

    acknowledged: dict[str, int]
    """For each stream, the number of lines whose emit returned."""
    errors: int
    """Calls of Handler.handleError."""
    kills: int
    stops: int
    seconds: float

    @property
    def lines(self) -> int:
        """All acknowledged lines."""
        return sum(self.acknowledged.values())


def torture_plans(seconds: float) -> dict[str, Plan]:
    """The plans that a safe handler must survive without a fault, by name."""
    return {
        "4 processes flat out": Plan(seconds=seconds),
        "sizes up to 64 KiB": Plan(seconds=seconds, sizes=MIXED_SIZES),
        "16 processes, sizes up to 64 KiB": Plan(seconds=seconds, processes=16, sizes=MIXED_SIZES),
        "3 kills and 3 stops a second": Plan(seconds=seconds, kills_per_second=3, stops_per_second=3),
        "3 threads and 200 Hz signals": Plan(seconds=seconds, threads=3, signal_hz=200),
        "16 processes, handler before fork": Plan(seconds=seconds, processes=16, handler_made="before fork"),
    }


def suffix_of_seconds(interval: int) -> Callable[[float], str]:
    """Return the oracle's function for when="S" and utc=True: the suffix of whole intervals since the epoch."""

    def suffix_of(created: float) -> str:
        return time.strftime("%Y-%m-%d_%H-%M-%S", time.gmtime(created // interval * interval))

    return suffix_of


def run_load(make_handler: MakeHandler, live: Path, plan: Plan) -> Load:
    """Run `plan` with handlers from `make_handler`, which write `live`, and return what was acknowledged.

    Time runs from the moment when every writer has its handlers. It returns within `plan.seconds` and twice
    `plan.patience`, with every process ended and reaped. The handlers get the oracle's formatter unless they have one.
    Raises RuntimeError if a writer failed by itself, or had to be killed because it did not come to its end.
    """
    chance = random.Random(plan.seed)
    kills = _moments(plan.kills_per_second, plan.seconds, chance)
    stops = _moments(plan.stops_per_second, plan.seconds, chance)
    with tempfile.TemporaryDirectory(prefix=f"{live.name}-counters-") as directory:
        counters = Path(directory) / "counters"
        counters.write_bytes(bytes(8 * _first_slot(plan, plan.processes + len(kills))))
        inherited = _make_handlers(make_handler, plan) if plan.handler_made == "before fork" else None
        crew = _Crew(make_handler, inherited, plan, counters, chance)
        try:
            crew.run(kills, stops)
        finally:
            crew.end()
            for handler in inherited or ():
                handler.close()
        crew.check()
        return crew.result()


def _moments(per_second: float, seconds: float, chance: random.Random) -> list[float]:
    """Random moments, in seconds from the start, `per_second` on average."""
    return [(turn + chance.random()) / per_second for turn in range(int(per_second * seconds))]


def _streams(plan: Plan, writer: int) -> list[str]:
    """The names of one process's streams: its threads, then its signal handler."""
    names = [f"w{writer}t{thread}" for thread in range(plan.threads)]
    return [*names, f"w{writer}signal"] if plan.signal_hz else names


def _slots(plan: Plan) -> int:
    """How many shared numbers a process has: one for each stream, then its handler errors, then whether it is ready."""
    return len(_streams(plan, 0)) + 2


def _first_slot(plan: Plan, writer: int) -> int:
    """Where a process's shared numbers begin; before all is the deadline, in monotonic ns, 0 until all are ready."""
    return 1 + writer * _slots(plan)


def _make_handlers(make_handler: MakeHandler, plan: Plan) -> list[logging.Handler]:
    """Make one process's handlers."""
    handlers = [make_handler() for _ in range(plan.handlers)]
    for handler in handlers:
        if handler.formatter is None:
            handler.setFormatter(logging.Formatter(LINE_FORMAT))
    return handlers


def _shared_counters(path: Path) -> memoryview:
    """Map the file of counters; a 64-bit number stored there is stored at once or not at all."""
    with path.open("r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), 0)).cast("Q")


class _Crew:
    """The writers of one run, as the harness sees them."""

    def __init__(
        self,
        make_handler: MakeHandler,
        inherited: list[logging.Handler] | None,
        plan: Plan,
        counters: Path,
        chance: random.Random,
    ) -> None:
        self._make_handler = make_handler
        self._inherited = inherited
        self._plan = plan
        self._counters = counters
        self._chance = chance
        self._shared = _shared_counters(counters)
        self._deadline = time.monotonic()
        self._started = 0
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._kills = 0
        self._stops = 0
        self._stopped: set[BaseProcess] = set()
        self._running: list[BaseProcess] = []
        self._failures: list[str] = []

    def run(self, kills: list[float], stops: list[float]) -> None:
        """Start the writers and do to them what the plan says until time is up."""
        for _ in range(self._plan.processes):
            self._start()
        self._await_ready()
        begun = time.monotonic()
        self._deadline = begun + self._plan.seconds
        self._shared[0] = int(self._deadline * 1e9)
        for moment in kills:
            self._at(begun + moment, self._kill_one)
        for moment in stops:
            self._at(begun + moment, self._stop_one)
        while self._agenda:
            moment, _, action = heapq.heappop(self._agenda)
            _sleep_until(moment)
            action()
        _sleep_until(self._deadline)

    def end(self) -> None:
        """Let every writer come to its end, kill those that do not, reap all."""
        for process in tuple(self._stopped):
            self._continue(process)
        give_up = self._deadline + self._plan.patience
        for process in self._running:
            process.join(max(0.0, give_up - time.monotonic()))
            if process.exitcode is None:
                self._failures.append(f"{process.name} was still busy {self._plan.patience} s after the end: killed")
                process.kill()
                process.join()
            else:
                self._note_end(process)
        self._running.clear()

    def check(self) -> None:
        """Raise RuntimeError if a writer failed by itself."""
        if self._failures:
            raise RuntimeError("; ".join(self._failures))

    def result(self) -> Load:
        """Read the counters of all writers that ever were."""
        acknowledged: dict[str, int] = {}
        errors = 0
        for writer in range(self._started):
            *counts, writer_errors, _ = self._shared[
                _first_slot(self._plan, writer) : _first_slot(self._plan, writer + 1)
            ]
            acknowledged.update(zip(_streams(self._plan, writer), counts, strict=True))
            errors += writer_errors
        return Load(acknowledged, errors, self._kills, self._stops, self._plan.seconds)

    def _await_ready(self) -> None:
        """Wait until every writer has its handlers, or one has ended, or patience is at its end."""
        give_up = time.monotonic() + self._plan.patience
        ready = [_first_slot(self._plan, writer + 1) - 1 for writer in range(self._started)]
        while not all(self._shared[slot] for slot in ready):
            if not all(process.is_alive() for process in self._running):
                return
            if time.monotonic() >= give_up:
                self._failures.append(f"not every writer was ready after {self._plan.patience} s")
                return
            time.sleep(0.002)

    def _at(self, moment: float, action: Callable[[], None]) -> None:
        """Put an action on the agenda; the number keeps the heap from comparing actions."""
        heapq.heappush(self._agenda, (moment, next(self._order), action))

    def _start(self) -> None:
        """Start one more writer."""
        writer = _Writer(self._plan, self._counters, self._started)
        process = _PROCESS_TYPES[self._plan.start](
            target=writer.run, args=(self._make_handler, self._inherited), name=f"writer {self._started}"
        )
        process.start()
        self._started += 1
        self._running.append(process)

    def _kill_one(self) -> None:
        """Kill a random writer, stopped or not, and put a new one in its place."""
        process = self._chance.choice(self._running)
        process.kill()
        process.join()
        self._running.remove(process)
        self._stopped.discard(process)
        if process.exitcode == -signal.SIGKILL:
            self._kills += 1
        else:
            self._note_end(process)
        self._start()

    def _note_end(self, process: BaseProcess) -> None:
        """Take note of a writer that ended by itself, if it failed."""
        if process.exitcode != 0:
            self._failures.append(f"{process.name} ended with exit code {process.exitcode}")

    def _stop_one(self) -> None:
        """Stop a random writer that runs, if there is one, and have it continue a little later."""
        candidates = [process for process in self._running if process not in self._stopped and process.is_alive()]
        if not candidates:
            return
        process = self._chance.choice(candidates)
        _send(process, signal.SIGSTOP)
        self._stopped.add(process)
        self._stops += 1
        self._at(time.monotonic() + self._chance.uniform(*STOP_SECONDS), functools.partial(self._continue, process))

    def _continue(self, process: BaseProcess) -> None:
        """Let a stopped writer run again, unless it was killed meanwhile."""
        if process in self._stopped:
            self._stopped.discard(process)
            _send(process, signal.SIGCONT)


def _send(process: BaseProcess, number: signal.Signals) -> None:
    """Signal a writer that this process has not reaped, so that its pid is still its own."""
    assert process.pid is not None
    os.kill(process.pid, number)


def _sleep_until(moment: float) -> None:
    """Sleep until a moment of the monotonic clock."""
    time.sleep(max(0.0, moment - time.monotonic()))


class _Writer:
    """One writing process, as it sees itself."""

    def __init__(self, plan: Plan, counters: Path, writer: int) -> None:
        self._plan = plan
        self._path = counters
        self._writer = writer
        self._first_slot = _first_slot(plan, writer)
        self._ready_slot = _first_slot(plan, writer + 1) - 1
        self._error_slot = self._ready_slot - 1

    def run(self, make_handler: MakeHandler, inherited: list[logging.Handler] | None) -> None:
        """Log until the deadline."""
        logging.raiseExceptions = False
        threading.excepthook = _end_process
        self._counters = _shared_counters(self._path)
        handlers = inherited if inherited is not None else _make_handlers(make_handler, self._plan)
        loggers = [self._logger(handler) for handler in handlers]
        self._deadline = self._agreed_deadline()
        others = [
            threading.Thread(target=self._write, args=(loggers[thread % len(loggers)], thread))
            for thread in range(1, self._plan.threads)
        ]
        for other in others:
            other.start()
        if self._plan.signal_hz:
            self._log_on_signals(loggers[0])
        self._write(loggers[0], 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for other in others:
            other.join()
        for handler in handlers:
            handler.close()

    def _agreed_deadline(self) -> float:
        """Say that this writer is ready, and wait to be told when the run ends."""
        self._counters[self._ready_slot] = 1
        # Longer than the harness waits, so that this ends even if the harness is no more.
        give_up = time.monotonic() + 2 * self._plan.patience
        while not self._counters[0]:
            if time.monotonic() >= give_up:
                sys.exit("the harness never began the run")
            time.sleep(0.002)
        return self._counters[0] / 1e9

    def _logger(self, handler: logging.Handler) -> logging.Logger:
        """A logger with this one handler, whose errors are counted."""
        handler.handleError = self._count_error  # type: ignore[method-assign]
        logger = logging.Logger("load")
        logger.addHandler(handler)
        return logger

    def _count_error(self, record: logging.LogRecord) -> None:
        """Stand in for Handler.handleError, which a handler calls under its own lock."""
        self._counters[self._error_slot] += 1

    def _write(self, logger: logging.Logger, thread: int) -> None:
        """Log the numbered lines of one thread until the deadline, and one line in any case."""
        stream = _streams(self._plan, self._writer)[thread]
        sizes, deadline = self._plan.sizes, self._deadline
        pause = 0.0 if self._plan.rate is None else 1 / self._plan.rate
        counters, slot = self._counters, self._first_slot + thread
        due = time.monotonic()
        for number in itertools.count():
            logger.info(make_line(stream, number, sizes[number % len(sizes)]))
            counters[slot] = number + 1
            due += pause
            if max(due, time.monotonic()) >= deadline:
                return
            if pause:
                _sleep_until(due)

    def _log_on_signals(self, logger: logging.Logger) -> None:
        """Log a line of the signal stream from a SIGALRM handler, `signal_hz` times a second."""
        stream = _streams(self._plan, self._writer)[-1]
        counters, slot = self._counters, self._first_slot + self._plan.threads
        busy = False

        def log(number: int, frame: FrameType | None) -> None:
            # A second signal may interrupt this handler: its line would be acknowledged before the first one's.
            nonlocal busy
            if busy:
                return
            busy = True
            logger.info(make_line(stream, counters[slot], self._plan.sizes[0]))
            counters[slot] += 1
            busy = False

        signal.signal(signal.SIGALRM, log)
        signal.setitimer(signal.ITIMER_REAL, 1 / self._plan.signal_hz, 1 / self._plan.signal_hz)


def _end_process(failure: threading.ExceptHookArgs) -> None:
    """Make an exception in a thread end its process, so that the harness learns of it."""
    traceback.print_exception(failure.exc_type, failure.exc_value, failure.exc_traceback)
    os._exit(1)
