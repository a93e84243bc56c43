"""The same load on two log handlers: `python -m example_app.demo`, from the top of the repository.

Four gunicorn workers serve the example application, first with the standard library's TimedRotatingFileHandler, then
with rollsafe, and roll their log over each second. Then the oracle (tests/support) counts the lines.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import requests
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.support.oracle import Report, audit
from tests.support.servers import Server, backups

WORKERS = 4
LEAST_ROLLOVERS = 5
REQUESTS_PER_SECOND = 240

STANDARD_LIBRARY = """
def file_handler(name):
    return {
        "class": "logging.handlers.TimedRotatingFileHandler",
        "filename": f"logs/{name}.log",
        "when": "S",
        "formatter": "line",
    }

logconfig_dict = {
    "formatters": {"line": {"format": "%(created).9f %(message)s"}},
    "handlers": {name: file_handler(name) for name in ("access", "error", "app")},
    "loggers": {
        "gunicorn.access": {"handlers": ["access"], "level": "INFO", "propagate": False},
        "gunicorn.error": {"handlers": ["error"], "propagate": False},
    },
    "root": {"handlers": ["app"], "level": "INFO"},
}
"""

ROLLSAFE = """
from rollsafe.gunicorn import post_fork, rotating_logs

line = "%(created).9f %(message)s"
logconfig_dict = rotating_logs("logs", when="S", format=line, access_format=line)
"""

CONTENDERS = {"standard library": STANDARD_LIBRARY, "rollsafe": ROLLSAFE}

APP_LINE = re.compile(rb"(?P<created>\d+\.\d+) order (?P<number>\d+) of (?P<stream>c\d+) looked up")
ACCESS_LINE = re.compile(rb'(?P<created>\d+\.\d+) .*"GET /orders/(?P<stream>c\d+)/(?P<number>\d+) HTTP/1\.1" 200 .*')


@dataclass(frozen=True)
class Load:
    """A number of requests, sent by each of several clients at even intervals."""

    clients: int
    seconds: float

    @property
    def each(self) -> int:
        """The requests of one client."""
        return round(self.seconds * REQUESTS_PER_SECOND / self.clients)

    @property
    def total(self) -> int:
        """The requests of all clients."""
        return self.clients * self.each


@dataclass(frozen=True)
class Log:
    """One log and its backups: how often it was rolled over, and what the oracle found."""

    rollovers: int
    report: Report

    @property
    def good(self) -> bool:
        """Whether every line is there, whole, once, in its own file, across enough rollovers."""
        return self.report.flawless and self.rollovers >= LEAST_ROLLOVERS


@dataclass(frozen=True)
class Outcome:
    """The result of one contender under the load."""

    answered: int
    seconds: float
    app: Log
    access: Log

    @property
    def good(self) -> bool:
        """Whether both logs are good."""
        return self.app.good and self.access.good


# One row of the table each.
FIGURES: dict[str, Callable[[Outcome, Log], str]] = {
    "requests answered": lambda outcome, log: f"{outcome.answered}",
    "their lines found": lambda outcome, log: f"{log.report.lines - log.report.unacknowledged}",
    "lost": lambda outcome, log: f"{log.report.lost}",
    "doubled": lambda outcome, log: f"{log.report.doubled}",
    "torn": lambda outcome, log: f"{log.report.torn}",
    "in a wrong file": lambda outcome, log: f"{log.report.misfiled}",
    "rollovers": lambda outcome, log: f"{log.rollovers}",
    "lines/s": lambda outcome, log: f"{log.report.lines / outcome.seconds:.0f}",
}


def main() -> int:
    """Run the demonstration; 1 if rollsafe failed, 0 if it kept every line."""
    options = parse_options()
    load = Load(options.clients, options.seconds)
    console = Console()
    console.print(
        f"The example application on {WORKERS} gunicorn workers, a log file rolled over each second, "
        f"{load.total} requests in {load.seconds:g} s from {load.clients} clients: "
        "once with the standard library's TimedRotatingFileHandler, once with rollsafe."
    )
    with log_directory(options.keep) as directory:
        outcomes = run_all(load, directory, console)
    console.print(table_of(outcomes))
    for name, outcome in outcomes.items():
        console.print(f"{name}: {summary(outcome)}")
    if options.keep:
        console.print(f"The log files are in {options.keep}.")
    return 0 if outcomes["rollsafe"].good else 1


def parse_options() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m example_app.demo", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=8, help="how long each handler is under load (default 8)")
    parser.add_argument("--clients", type=int, default=4, help="how many clients send requests (default 4)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the log files in DIR, which must not exist yet")
    options = parser.parse_args()
    if options.seconds <= LEAST_ROLLOVERS:
        parser.error(f"--seconds {options.seconds:g} is too short for {LEAST_ROLLOVERS} rollovers: give more")
    if options.clients < 1:
        parser.error(f"--clients {options.clients} sends nothing: give 1 or more")
    if options.keep and options.keep.exists():
        parser.error(f"--keep {options.keep} exists already: give a new directory")
    return options


@contextlib.contextmanager
def log_directory(keep: Path | None) -> Iterator[Path]:
    """A new directory for the logs, removed afterwards unless it is to be kept."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="rollsafe-demo-") as name:
            yield Path(name)
    else:
        keep.mkdir(parents=True)
        yield keep.resolve()


def run_all(load: Load, directory: Path, console: Console) -> dict[str, Outcome]:
    """Put the load on each contender in turn."""
    columns = (TextColumn("{task.description:>16}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    outcomes = {}
    with Progress(*columns, console=console) as progress:
        for name, config in CONTENDERS.items():
            task = progress.add_task(name, total=load.total)
            home = directory / name.replace(" ", "-")
            home.mkdir()
            outcomes[name] = run(config, load, home, partial(progress.advance, task))
    return outcomes


def run(config: str, load: Load, home: Path, count: Callable[[], None]) -> Outcome:
    """Serve the application with one contender's log configuration, send the load, stop, read the files."""
    logs = home / "logs"
    logs.mkdir()
    app, ready = "example_app.app:app", "/orders/c0/0"
    with Server(home, config, app=app, ready=ready, workers=WORKERS, echo=False) as server:
        start = time.monotonic()
        answered = send(load, f"http://127.0.0.1:{server.port}", count)
        seconds = time.monotonic() - start
    app_log, access_log = logs / "app.log", logs / "access.log"
    return Outcome(
        answered=sum(map(len, answered.values())),
        seconds=seconds,
        app=Log(len(backups(app_log)), audit(app_log, answered, suffix_of, pattern=APP_LINE)),
        access=Log(len(backups(access_log)), audit(access_log, answered, suffix_of, pattern=ACCESS_LINE)),
    )


def send(load: Load, url: str, count: Callable[[], None]) -> dict[str, set[int]]:
    """Send the load; the numbers that were answered with 200, by client."""
    answered: dict[str, set[int]] = {f"c{index}": set() for index in range(1, load.clients + 1)}
    start = time.monotonic()

    def send_all_of(client: str) -> None:
        with requests.Session() as session:
            for number in range(load.each):
                time.sleep(max(0.0, start + number * load.seconds / load.each - time.monotonic()))
                with contextlib.suppress(requests.RequestException):
                    if session.get(f"{url}/orders/{client}/{number}", timeout=30).ok:
                        answered[client].add(number)
                count()

    with ThreadPoolExecutor(load.clients) as pool:
        list(pool.map(send_all_of, answered))
    return answered


def suffix_of(created: float) -> str:
    """The suffix of the backup that a line belongs to: both handlers name backups of when="S" like this."""
    return time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(created))


def table_of(outcomes: Mapping[str, Outcome]) -> Table:
    """The figures of all contenders, for the application's log and the access log."""
    table = Table("")
    columns = [
        ("\n".join([*name.split(), file]), outcome, log)
        for name, outcome in outcomes.items()
        for file, log in (("app.log", outcome.app), ("access.log", outcome.access))
    ]
    for title, _, _ in columns:
        table.add_column(title, justify="right")
    for label, figure in FIGURES.items():
        table.add_row(label, *(figure(outcome, log) for _, outcome, log in columns))
    return table


def summary(outcome: Outcome) -> str:
    """A sentence about the result of one contender."""
    rollovers = min(outcome.app.rollovers, outcome.access.rollovers)
    if outcome.good:
        return f"every line is there, whole, once, in the file of its own second, across {rollovers} rollovers."
    reports = (outcome.app.report, outcome.access.report)
    lost, doubled, torn, misfiled = (
        sum(getattr(report, fault) for report in reports) for fault in ("lost", "doubled", "torn", "misfiled")
    )
    due = len(reports) * outcome.answered
    return (
        f"of {due} lines {lost} are lost ({lost / max(1, due):.0%}), {doubled} doubled, {torn} torn and "
        f"{misfiled} in a wrong file, across {rollovers} rollovers."
    )


if __name__ == "__main__":
    sys.exit(main())
