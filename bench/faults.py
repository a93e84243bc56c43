"""The same faults for rollsafe, the standard library and concurrent-log-handler, and the findings of the oracle.

    python -m bench.faults [--seconds 5] [--out docs/figures]

Four processes write one file as fast as they can, or at a given rate, with a rollover each second, while the fault is
tried again and again. The exit code is 1 if a line of rollsafe was lost, doubled or torn. It writes faults.md.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import logging
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest

from bench.measuring import parser_of, write
from bench.torture import HANDLERS
from tests.support.load import Load, Plan, run_load, suffix_of_seconds
from tests.support.mounts import Disk, mounted
from tests.support.oracle import Report, audit

COLUMNS = ("fault", "tried", "handler", "lines", "lost", "doubled", "torn", "misfiled")
NAMES = {"rollsafe": "rollsafe", "stdlib": "standard library", "clh": "concurrent-log-handler"}
RATE = 2000
# Bytes that are left free of a "full" disk.
LEFT = 32 << 10

Interference = Callable[[Path], None]


@dataclass(frozen=True)
class Fault:
    """One kind of fault: the load, and what is done to the files several times a second."""

    plan: Callable[[float], Plan]
    interfere: Interference | None = None
    per_second: float = 0
    on_disk: bool = False


def remove_locks(live: Path) -> None:
    """Remove every lock file beside the log."""
    for lock in live.parent.glob(".*lock"):
        lock.unlink(missing_ok=True)


FAULTS = {
    "SIGKILL, lines of 200 bytes": Fault(lambda seconds: Plan(seconds=seconds, kills_per_second=10)),
    "SIGKILL, lines of 64 KiB": Fault(
        lambda seconds: Plan(seconds=seconds, kills_per_second=10, sizes=(65_000,), rate=100)
    ),
    "SIGSTOP for 50 to 300 ms": Fault(lambda seconds: Plan(seconds=seconds, stops_per_second=10)),
    "signal handlers that log, 200 a second": Fault(lambda seconds: Plan(seconds=seconds, threads=3, signal_hz=200)),
    "lock file removed": Fault(lambda seconds: Plan(seconds=seconds, rate=RATE), remove_locks, per_second=5),
    "disk full (tmpfs), and freed": Fault(lambda seconds: Plan(seconds=seconds, rate=200), None, 0.5, on_disk=True),
}


def main(arguments: list[str] | None = None) -> int:
    """Try every fault on every handler; return the exit code."""
    parser = parser_of("faults", __doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each run (default: %(default)s)")
    options = parser.parse_args(arguments)
    rows: list[tuple[object, ...]] = []
    flawed = False
    for (name, fault), handler in itertools.product(FAULTS.items(), NAMES):
        package, make = HANDLERS[handler]
        if importlib.util.find_spec(package) is None:
            print(f"{NAMES[handler]} is left out: {package} is not installed", file=sys.stderr)
            continue
        try:
            tried, load, report = _try(fault, make, options.seconds)
        except pytest.skip.Exception as reason:
            print(f"{name} is left out: {reason}", file=sys.stderr)
            continue
        row = (name, tried, NAMES[handler], load.lines, report.lost, report.doubled, report.torn, report.misfiled)
        rows.append(row)
        print(" | ".join(map(str, row)), flush=True)
        flawed |= handler == "rollsafe" and bool(report.lost or report.doubled or report.torn)
    table = _table(rows)
    print(f"\n{table}")
    write(options.out, "faults.md", table)
    return int(flawed)


def _try(fault: Fault, make: Callable[[Path], logging.Handler], seconds: float) -> tuple[int, Load, Report]:
    """One run of one handler under one fault: how often it was tried, the load, and the oracle's report.

    The signals are counted nowhere; they are as many as were asked for.
    """
    disk = mounted("tmpfs", size=64 << 20) if fault.on_disk else nullcontext(None)
    with tempfile.TemporaryDirectory(prefix="rollsafe-faults-") as directory, disk as mount:
        live = (mount.logs if mount else Path(directory)) / "app.log"
        with _repeated(fault, live, mount) as turns:
            plan = fault.plan(seconds)
            load = run_load(functools.partial(make, live), live, plan)
        report = audit(live, load.acknowledged, suffix_of_seconds(1), kills=load.kills, full_disk=fault.on_disk)
        return load.kills + load.stops + len(turns) + int(plan.signal_hz * seconds), load, report


@contextmanager
def _repeated(fault: Fault, live: Path, disk: Disk | None) -> Iterator[list[int]]:
    """Do the fault again and again while the block runs; gives the turns done so far."""
    turns: list[int] = []
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(1 / fault.per_second):
            if disk is not None:
                disk.fill(leave=LEFT)
                ended.wait(1 / fault.per_second)
                disk.release()
            elif fault.interfere is not None:
                fault.interfere(live)
            turns.append(len(turns))

    thread = threading.Thread(target=repeat) if fault.per_second else None
    if thread:
        thread.start()
    try:
        yield turns
    finally:
        ended.set()
        if thread:
            thread.join()


def _table(rows: list[tuple[object, ...]]) -> str:
    """The rows as a Markdown table, with the command that made it."""
    lines = [COLUMNS, tuple("---" for _ in COLUMNS), *rows]
    body = "\n".join(
        "| " + " | ".join(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in line) + " |" for line in lines
    )
    versions = f"Python {sys.version.split()[0]}, concurrent-log-handler {version('concurrent-log-handler')}"
    return f"{body}\n\nMade by `python -m bench.faults`; a rollover each second, 4 processes, {versions}.\n"


if __name__ == "__main__":
    sys.exit(main())
