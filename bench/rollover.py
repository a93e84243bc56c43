"""How long a rollover delays the workers, compared with other handlers; a line's cost among many backups or handlers;
threads and descriptors of a process with many handlers.

    python -m bench.rollover [--rounds 5] [--out docs/figures]

Writes `rollover.md`. It takes four minutes.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median
from typing import Any

from bench.measuring import parser_of, shuffled, write
from bench.peers import CONCURRENT, FORMAT, NAME, OURS, PEERS, STANDARD, Logging, Setting, message
from rollsafe import LineFormatter, SafeTimedRotatingFileHandler
from rollsafe._live.renewal import LINGER_S

WORKERS = (1, 4, 16, 64)
# rollsafe, and what it is compared with.
HANDLERS = (OURS, CONCURRENT, STANDARD)
# Seconds that workers may take to begin and to end.
PATIENCE = 60.0
# Seconds between two lines of a worker.
PAUSE = 0.002
# Lines in a batch, and batches, of the second table.
BATCH, BATCHES = 100, 100
# Handlers of the third table, the seconds of their intervals, and the seconds after a boundary at which it counts.
MANY, INTERVAL_S, AFTER_S = 100, 5, 1.0
# What these handlers ask for.
DUTIES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "`backupCount`": {"backupCount": 2},
    "`compress`": {"backupCount": 2, "compress": "gz"},
    "`on_rollover`": {"backupCount": 2, "on_rollover": lambda path, interval: None},
}


@dataclass(frozen=True)
class Boundary:
    """The times of one boundary.

    Attributes:
        last_arrived: From the first record of the new interval until every worker had written a line of it; seconds.
        longest_call: The longest logging call at the boundary, quiet moment included; seconds.
    """

    last_arrived: float
    longest_call: float


def cross(peer: str, workers: int, rounds: int) -> list[Boundary]:
    """Let workers log through at least `rounds` boundaries.

    Raises:
        RuntimeError: A worker did not come to its end.
    """
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(workers)
    with tempfile.TemporaryDirectory(prefix="rollover-") as directory:
        crew = []
        for _ in range(workers):
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(peer, Path(directory) / "app.log", rounds, barrier, sender))
            process.start()
            sender.close()
            crew.append((process, receiver))
        reported = [_calls_of(receiver, rounds) for _, receiver in crew]
        for process, _ in crew:
            process.join(PATIENCE)
    shared = sorted(set.intersection(*(set(calls) for calls in reported)))
    return [
        Boundary(
            max(calls[second][1] for calls in reported) - min(calls[second][0] for calls in reported),
            max(ended - begun for begun, ended in (calls[second] for calls in reported)),
        )
        for second in shared
    ]


def _calls_of(receiver: Connection, rounds: int) -> dict[int, tuple[float, float]]:
    """The first logging call of each second of one worker: its beginning and end."""
    if not receiver.poll(rounds + PATIENCE):
        raise RuntimeError("a worker did not come to its end")
    calls: dict[int, tuple[float, float]] = receiver.recv()
    return calls


def _work(peer: str, live: Path, rounds: int, barrier: Barrier, sender: Connection) -> None:
    """One worker: tell for each second when its first logging call began and ended (wall clock)."""
    # The standard handler reports each rollover at which another process was first.
    logging.raiseExceptions = False
    logging_ = PEERS[peer].start(Setting(live, "S"))
    text = message(Setting.size)
    barrier.wait(PATIENCE)
    calls: dict[int, tuple[float, float]] = {}
    deadline = time.time() + rounds + 1.5
    logging_.info(text)
    second = int(time.time())
    while (begun := time.time()) < deadline:
        logging_.info(text)
        if int(begun) != second:
            second = int(begun)
            calls[second] = begun, time.time()
        time.sleep(PAUSE)
    logging_.end()
    sender.send(calls)


def handler_among(directory: Path, backups: int = 0, handlers: int = 0) -> Logging:
    """A handler in a directory of its own, with a number of backups and of other handlers."""
    directory.mkdir()
    live = directory / "app.log"
    for age in range(backups):
        live.with_name(time.strftime("app.log.%Y-%m-%d", time.gmtime(1e9 - age * 86400))).touch()
    others = [SafeTimedRotatingFileHandler(directory / f"other{number}.log", "D") for number in range(handlers)]
    handler = SafeTimedRotatingFileHandler(live, "D", backupCount=backups + 1)
    handler.setFormatter(LineFormatter(FORMAT))
    logger = logging.Logger(NAME, logging.INFO)
    logger.addHandler(handler)

    def end() -> None:
        for one in (handler, *others):
            one.close()

    return Logging(logger.info, handler.flush, end)


def compare(make: dict[str, Callable[[Path], Logging]]) -> dict[str, float]:
    """Seconds for a line of each, by turns: the median of the batches."""
    text = message(Setting.size)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rollover-")))
        crew = {name: start(directory / str(number)) for number, (name, start) in enumerate(make.items())}
        for logging_ in crew.values():
            stack.callback(logging_.end)
        taken: dict[str, list[float]] = {name: [] for name in crew}
        for turn in range(-1, BATCHES):
            for name in shuffled(crew, turn):
                begun = time.perf_counter()
                for _ in range(BATCH):
                    crew[name].info(text)
                if turn >= 0:  # the one before warms up
                    taken[name].append((time.perf_counter() - begun) / BATCH)
    return {name: median(figures) for name, figures in taken.items()}


@dataclass(frozen=True)
class Share:
    """What one process has more than before it made its handlers.

    Attributes:
        descriptors: For each handler, AFTER_S after each boundary; the most.
        threads: At any moment, all handlers together; the most.
    """

    descriptors: float
    threads: int


def share_of_each(asked: dict[str, Any], rounds: int) -> Share:
    """What MANY handlers cost a process of their own while they cross `rounds` boundaries.

    Raises:
        RuntimeError: The process did not come to its end.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_count, args=(asked, rounds, sender))
    process.start()
    sender.close()
    if not receiver.poll(rounds * INTERVAL_S + PATIENCE):
        raise RuntimeError("the process did not come to its end")
    share: Share = receiver.recv()
    process.join(PATIENCE)
    return share


def _count(asked: dict[str, Any], rounds: int, sender: Connection) -> None:
    """Log by MANY handlers, and count."""

    def entries(name: str) -> int:
        return len(os.listdir(f"/proc/self/{name}"))

    # The maintenance has work left when the directory is removed.
    logging.raiseExceptions = False
    with tempfile.TemporaryDirectory(prefix="many-") as directory:
        before = entries("fd"), entries("task")
        handlers = [
            SafeTimedRotatingFileHandler(Path(directory) / f"{number}.log", "S", INTERVAL_S, **asked)
            for number in range(MANY)
        ]
        loggers = [logging.Logger(NAME) for _ in handlers]
        for logger, handler in zip(loggers, handlers, strict=True):
            logger.addHandler(handler)
        descriptors = threads = 0
        counted_of = time.time() // INTERVAL_S
        last = counted_of + rounds
        while counted_of < last:
            for logger in loggers:
                logger.info("a line")
            threads = max(threads, entries("task") - before[1])
            interval, since = divmod(time.time(), INTERVAL_S)
            if interval > counted_of and since >= AFTER_S:
                counted_of = interval
                descriptors = max(descriptors, entries("fd") - before[0])
            time.sleep(PAUSE)
        for handler in handlers:
            handler.close()
    sender.send(Share(descriptors / MANY, threads))


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write the tables; return the exit code."""
    parser = parser_of("rollover", __doc__, rounds=5, of="boundaries for each number of workers")
    options = parser.parse_args(arguments)
    rows = []
    for workers in WORKERS:
        for peer in shuffled(HANDLERS, workers):
            crossed = cross(peer, workers, options.rounds)
            arrived = [1e3 * boundary.last_arrived for boundary in crossed]
            longest = [1e3 * boundary.longest_call for boundary in crossed]
            figures = (median(arrived), max(arrived), median(longest), max(longest))
            cells = " | ".join(f"{figure:.1f}" for figure in figures)
            rows.append((workers, HANDLERS.index(peer), f"| {workers} | {peer} | {cells} |"))
    shares = {name: share_of_each(asked, options.rounds) for name, asked in DUTIES.items()}
    lines = compare(
        {
            "one handler": lambda directory: handler_among(directory),
            "500 backups": lambda directory: handler_among(directory, backups=500),
            "30 other handlers": lambda directory: handler_among(directory, handlers=30),
        }
    )
    text = "\n".join(
        [
            "# What a rollover costs",
            "",
            f"Made by `python -m bench.rollover`, Python {sys.version.split()[0]}. Milliseconds at a boundary, medians"
            f" and most of {options.rounds} or more; each worker logs every {1e3 * PAUSE:g} ms. {1e3 * LINGER_S:g} ms"
            f" of each figure of rollsafe are the quiet moment, in which no process renames the file; the {STANDARD}"
            " waits for nothing, and loses lines here.",
            "",
            "| workers | | first record until each worker has written one | most | longest call | most |",
            "|---:|---|---:|---:|---:|---:|",
            *(row for _, _, row in sorted(rows)),
            "",
            "A line costs one `write`, whatever else there is. `tests/integration/test_cost.py` counts the system"
            " calls; the time of a line by turns:",
            "",
            "| with | µs |",
            "|---|---:|",
            *(f"| {name} | {1e6 * seconds:.1f} |" for name, seconds in lines.items()),
            "",
            f"{MANY} handlers in one process, with intervals of {INTERVAL_S} s: the descriptors of each handler"
            f" {AFTER_S:g} s after a boundary, and the threads of all together at any moment, the most of"
            f" {options.rounds} boundaries. The second thread lives only while the application's function is called, or"
            " a large file compressed.",
            "",
            "| they ask for | descriptors of each | threads of all |",
            "|---|---:|---:|",
            *(f"| {name} | {share.descriptors:.2f} | {share.threads} |" for name, share in shares.items()),
            "",
        ]
    )
    print(text)
    write(options.out, "rollover.md", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
