"""The cost of compression and retention for a logging call: the time of single emits after a boundary.

    python -m bench.backups [--rounds 5] [--size 200] [--out docs/figures]

Four processes log 2,000 lines a second each while the live file, which has 200 MB, is rolled over. The figures are the
times of the emits that begin within 5 s of the boundary, and within 15 s, in which the compression ends. All cases run
in each round, each round in another order, and a factor is taken within a round. It takes a quarter of an hour, and
writes backups.md and backups.json.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import logging
import multiprocessing
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.measuring import parser_of, shuffled, write
from rollsafe import SafeTimedRotatingFileHandler
from rollsafe.schedule import Schedule

PROCESSES = 4
RATE = 2000
INTERVAL = 20
LEAD = 6.0
"""Seconds from the filled file to the boundary, and how early or late they may begin."""
SLACK = 1.5
WINDOWS = (5, 15)
OLD_BACKUPS = 10_000
FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


@dataclass(frozen=True)
class Case:
    """One handler, and what it finds."""

    make: Callable[[Path], logging.Handler]
    filled: bool = False
    """Whether the live file is large."""
    old_backups: int = 0
    package: str = "rollsafe"
    base: str = ""
    """The case that it is compared with."""


def _rollsafe(live: Path, compress: str | None = None, backup_count: int = 0) -> logging.Handler:
    return SafeTimedRotatingFileHandler(
        live, when="S", interval=INTERVAL, utc=True, compress=compress, backupCount=backup_count
    )


def _concurrent(live: Path, use_gzip: bool) -> logging.Handler:
    from concurrent_log_handler import ConcurrentTimedRotatingFileHandler

    handler: logging.Handler = ConcurrentTimedRotatingFileHandler(
        str(live), when="S", interval=INTERVAL, utc=True, use_gzip=use_gzip
    )
    return handler


CASES = {
    "no compression": Case(_rollsafe, filled=True),
    "compress='gz'": Case(functools.partial(_rollsafe, compress="gz"), filled=True, base="no compression"),
    "concurrent-log-handler": Case(
        functools.partial(_concurrent, use_gzip=False), filled=True, package="concurrent_log_handler"
    ),
    "concurrent-log-handler, use_gzip": Case(
        functools.partial(_concurrent, use_gzip=True),
        filled=True,
        package="concurrent_log_handler",
        base="no compression",
    ),
    "backupCount, no backups": Case(functools.partial(_rollsafe, backup_count=OLD_BACKUPS)),
    "backupCount, 10,000 backups": Case(
        functools.partial(_rollsafe, backup_count=OLD_BACKUPS),
        old_backups=OLD_BACKUPS,
        base="backupCount, no backups",
    ),
}


def main(arguments: list[str] | None = None) -> None:
    """Run all cases and write the table."""
    parser = parser_of("backups", __doc__, rounds=5, of="how often each case runs")
    parser.add_argument("--size", type=int, default=200, help="megabytes of the live file (default: %(default)s)")
    options = parser.parse_args(arguments)
    cases = {name: case for name, case in CASES.items() if importlib.util.find_spec(case.package)}
    for name in CASES.keys() - cases.keys():
        print(f"{name} is left out: {CASES[name].package} is not installed", file=sys.stderr)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in cases}
    with tempfile.TemporaryDirectory(prefix="bench-backups-") as scratch:
        filling = _filling(Path(scratch), options.size)
        for turn in range(options.rounds):
            for name in shuffled(cases, turn):
                runs[name].append(_run(cases[name], filling, Path(scratch) / "logs"))
                print(name, json.dumps(runs[name][-1]), flush=True)
    write(options.out, "backups.json", json.dumps(runs, indent=1) + "\n")
    write(options.out, "backups.md", table(runs, options.rounds, options.size))


def _filling(scratch: Path, megabytes: int) -> Path:
    """A file of a size in megabytes that compresses as a log does."""
    chance = random.Random(0)
    lines = b"".join(
        b"2026-11-25 12:%02d:%02d,%03d INFO shop GET /items/%d?user=%08x %d %d\n"
        % (
            chance.randrange(60),
            chance.randrange(60),
            chance.randrange(1000),
            chance.randrange(100_000),
            chance.getrandbits(32),
            chance.choice((200, 200, 200, 304, 404)),
            chance.randrange(100_000),
        )
        for _ in range(13_000)
    )[:1_000_000]
    path = scratch / "filling"
    with path.open("wb") as file:
        for _ in range(megabytes):
            file.write(lines)
    return path


def _run(case: Case, filling: Path, logs: Path) -> dict[str, float]:
    """One boundary: the largest time of an emit and the 99.9th percentile, in milliseconds, for each window."""
    logs.mkdir()
    live = logs / "app.log"
    _add_old_backups(live, case.old_backups)
    while not INTERVAL - LEAD - SLACK < time.time() % INTERVAL < INTERVAL - LEAD:
        time.sleep(0.01)
    if case.filled:
        shutil.copyfile(filling, live)
    else:
        live.touch()
    # For handlers that count the interval from the last write.
    written = time.time() - INTERVAL + LEAD
    os.utime(live, (written, written))
    context = multiprocessing.get_context("fork")
    receivers = []
    processes = []
    for _ in range(PROCESSES):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_write, args=(case.make, live, sender.send_bytes))
        process.start()
        # Ours is closed, so that the end of the process is the end of the pipe.
        sender.close()
        receivers.append(receiver)
        processes.append(process)
    times = array("d")
    for receiver in receivers:
        times.frombytes(receiver.recv_bytes())
    for process in processes:
        process.join()
    shutil.rmtree(logs)
    result = {}
    for window in WINDOWS:
        pairs = zip(times[::2], times[1::2], strict=True)
        taken = sorted(taken for after, taken in pairs if -taken <= after < window)
        result[f"max{window}"] = round(1e3 * taken[-1], 3)
        result[f"p999_{window}"] = round(1e3 * taken[int(0.999 * (len(taken) - 1))], 3)
        result[f"lines{window}"] = len(taken)
    return result


def _add_old_backups(live: Path, count: int) -> None:
    """Backups of the last intervals, all of them old enough to be archives."""
    schedule = Schedule("S", INTERVAL, tz="UTC")
    now = time.time()
    for number in range(count):
        suffix = schedule.interval(now - (number + 10) * INTERVAL).suffix
        live.with_name(f"{live.name}.{suffix}.gz").write_bytes(b"")


def _write(make: Callable[[Path], logging.Handler], live: Path, send: Callable[[bytes], None]) -> None:
    """One writer: pairs of numbers, when an emit began after the boundary and how long it took, in seconds."""
    handler = make(live)
    handler.setFormatter(logging.Formatter(FORMAT))
    logger = logging.Logger("shop")
    logger.addHandler(handler)
    logger.info("begun")
    boundary = float(handler.rolloverAt)  # type: ignore[attr-defined]
    times = array("d")
    clock = time.perf_counter
    due = clock()
    number = 0
    while time.time() < boundary + WINDOWS[-1]:
        now = time.time()
        begun = clock()
        logger.info("GET /items/%d %d", number, 200)
        ended = clock()
        times.extend((now - boundary, ended - begun))
        number += 1
        # A line that is overdue is logged at once, as requests that have waited are.
        due += 1 / RATE
        if due > ended:
            time.sleep(due - ended)
    send(times.tobytes())
    os._exit(0)


def table(runs: dict[str, list[dict[str, float]]], rounds: int, megabytes: int) -> str:
    """The medians of the rounds as Markdown."""
    rows = []
    for name, results in runs.items():
        base = CASES[name].base
        cells = []
        for window in WINDOWS:
            for figure in (f"max{window}", f"p999_{window}"):
                median = statistics.median(result[figure] for result in results)
                factor = ""
                if base in runs:
                    ratio = statistics.median(
                        result[figure] / other[figure] for result, other in zip(results, runs[base], strict=True)
                    )
                    factor = f" ({ratio:.2f} ×)"  # noqa: RUF001  # a factor
                cells.append(f"{median:,.2f}{factor}")
        rows.append(f"| {name} | {' | '.join(cells)} |")
    first, last = WINDOWS
    return "\n".join(
        [
            "# What compression and retention cost those that log",
            "",
            f"{PROCESSES} processes log {RATE:,} lines a second each while a live file is rolled over:"
            f" of {megabytes} MB in the first four cases, small in the last two.",
            f"Milliseconds of single emits that begin within {first} s or {last} s of the boundary, in any process;"
            f" medians of {rounds} rounds,",
            "in brackets the factor to the same without compression or without backups, taken within a round."
            f" Python {sys.version.split()[0]}, {os.cpu_count()} processors;",
            "made by `python -m bench.backups`.",
            "",
            f"| | largest, {first} s | 99.9 %, {first} s | largest, {last} s | 99.9 %, {last} s |",
            "|---|---:|---:|---:|---:|",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    main()
