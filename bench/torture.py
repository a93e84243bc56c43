"""Run the torture plans several times and print what the oracle found, in one table.

    python -m bench.torture [--seconds 6] [--runs 5] [--handler rollsafe|stdlib|clh] [--directory DIR]
                            [--compress gz|xz] [--max-bytes 1000000]

The exit code is 1 if rollsafe was not flawless, or if a run crossed too few rollovers to mean anything.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib.util
import logging
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from logging.handlers import TimedRotatingFileHandler
from pathlib import Path
from typing import Any

from tests.support.load import Load, Plan, run_load, suffix_of_seconds, torture_plans
from tests.support.oracle import Report, audit

COLUMNS = ("runs", "lines", "lines/s", "rollovers", "lost", "doubled", "torn", "misfiled", "blank", "handler errors")
WIDTH = max(map(len, torture_plans(1)))
LEAST_ROLLOVERS = 3


def rollsafe_handler(live: Path, **more: Any) -> logging.Handler:
    """The handler under test."""
    from rollsafe import SafeTimedRotatingFileHandler

    return SafeTimedRotatingFileHandler(live, when="S", utc=True, **more)


def standard_handler(live: Path) -> logging.Handler:
    """The standard library's handler, which is not made for several processes."""
    return TimedRotatingFileHandler(live, when="S", utc=True)


def concurrent_handler(live: Path) -> logging.Handler:
    """The handler of concurrent-log-handler, which takes a lock for each line."""
    from concurrent_log_handler import ConcurrentTimedRotatingFileHandler

    handler: logging.Handler = ConcurrentTimedRotatingFileHandler(str(live), when="S", utc=True)
    return handler


HANDLERS: dict[str, tuple[str, Callable[[Path], logging.Handler]]] = {
    "rollsafe": ("rollsafe", rollsafe_handler),
    "stdlib": ("logging", standard_handler),
    "clh": ("concurrent_log_handler", concurrent_handler),
}


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; return the exit code."""
    options = _options(arguments)
    _, make = HANDLERS[options.handler]
    if options.handler == "rollsafe":
        make = functools.partial(rollsafe_handler, compress=options.compress, maxBytes=options.max_bytes)
    print(f"{options.handler}: a rollover each second, {options.seconds:g} s a run, Python {sys.version.split()[0]}")
    print(_row("scenario", COLUMNS))
    good = True
    for name, plan in torture_plans(options.seconds).items():
        total, complaints = torture(make, plan, options.runs, options.directory)
        total["lines/s"] = round(total["lines"] / (options.runs * options.seconds))
        print(_row(name, tuple(f"{total[column]:,}" for column in COLUMNS)), flush=True)
        for complaint in complaints:
            print(f"    {complaint}", flush=True)
        good = good and not complaints
    return 0 if good or options.handler != "rollsafe" else 1


def torture(
    make: Callable[[Path], logging.Handler], plan: Plan, runs: int, directory: Path | None
) -> tuple[Counter[str], list[str]]:
    """Run a plan `runs` times, each with its own seed and directory; return the sums and the complaints."""
    total: Counter[str] = Counter(dict.fromkeys(COLUMNS, 0))
    complaints: list[str] = []
    for run in range(1, runs + 1):
        with tempfile.TemporaryDirectory(prefix="torture-", dir=directory) as fresh:
            live = Path(fresh) / "app.log"
            try:
                load = run_load(functools.partial(make, live), live, dataclasses.replace(plan, seed=run))
            except RuntimeError as error:
                complaints.append(f"run {run}: {error}")
                continue
            _finish(make(live))
            report = audit(live, load.acknowledged, suffix_of_seconds(1), kills=load.kills)
        total.update(_figures(load, report))
        complaints += [f"run {run}: {complaint}" for complaint in _complaints(load, report)]
    return total, complaints


def _finish(handler: logging.Handler) -> None:
    """Have the archives finished that were begun when the processes ended, as the next process would."""
    from rollsafe import SafeTimedRotatingFileHandler

    if isinstance(handler, SafeTimedRotatingFileHandler):
        while (wait := handler._live.maintenance.make_pass()) is not None:
            time.sleep(wait)
    handler.close()


def _figures(load: Load, report: Report) -> dict[str, int]:
    """One run's share of the table."""
    return {
        "runs": 1,
        "lines": load.lines,
        "rollovers": report.files - 1,
        "lost": report.lost,
        "doubled": report.doubled,
        "torn": report.torn,
        "misfiled": report.misfiled,
        "blank": report.blank,
        "handler errors": load.errors,
    }


def _complaints(load: Load, report: Report) -> list[str]:
    """The faults of one run."""
    found = [] if report.flawless else [str(report)]
    if load.errors:
        found.append(f"{load.errors} handler errors")
    if report.files - 1 < LEAST_ROLLOVERS:
        found.append(f"only {report.files - 1} rollovers: take more --seconds")
    return found


def _row(name: str, cells: tuple[str, ...]) -> str:
    """One line of the table."""
    return "  ".join(
        [name.ljust(WIDTH), *(cell.rjust(max(10, len(head))) for head, cell in zip(COLUMNS, cells, strict=True))]
    )


def _options(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.torture", description="Count lost, doubled, torn, misfiled and blank lines under load."
    )
    parser.add_argument("--seconds", type=float, default=6.0, help="length of a run (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="runs of each scenario (default: %(default)s)")
    parser.add_argument("--handler", choices=HANDLERS, default="rollsafe", help="default: %(default)s")
    parser.add_argument("--compress", choices=("gz", "xz"), help="compress backups (rollsafe)")
    parser.add_argument("--max-bytes", type=int, default=0, metavar="N", help="roll for size, too (rollsafe)")
    parser.add_argument("--directory", type=Path, help="where to write (default: the temporary directory)")
    options = parser.parse_args(arguments)
    if options.seconds <= 0 or options.runs <= 0:
        parser.error("--seconds and --runs must be positive")
    if options.directory is not None and not options.directory.is_dir():
        parser.error(f"--directory {options.directory} is not a directory: make it first")
    module, _ = HANDLERS[options.handler]
    if importlib.util.find_spec(module) is None:
        parser.error(
            f"--handler {options.handler} needs {module}, which is not installed: pip install --group bench -e ."
        )
    return options


if __name__ == "__main__":
    sys.exit(main())
