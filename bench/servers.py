"""Which share of the log lines of real servers is lost, with rollsafe and with others.

    python -m bench.servers [--seconds 5] [--case NAME]... [--out docs/figures]

gunicorn and uWSGI with four workers serve an application that logs one numbered line for each request, with a rollover
each second. The oracle of the tests counts the lines whose requests were answered. The exit code is 1 if a line of
rollsafe was lost, doubled or torn, or was misfiled where its rollover was not forbidden. Prints the table, and writes
servers.md and servers.json.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import pwd
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.measuring import parser_of, write
from bench.served import HANDLERS, LIVE
from tests.support.load import suffix_of_seconds
from tests.support.oracle import LINE_FORMAT, audit
from tests.support.other_servers import NO_PYUWSGI, PYUWSGI, Uwsgi
from tests.support.servers import Clients, Server, ServerProcess

OURS = "rollsafe"
WORKERS = 4
CONCURRENT = "concurrent_log_handler"

LOGGING = f"""
logconfig_dict = {{
    "formatters": {{"line": {{"format": "{LINE_FORMAT}"}}}},
    "handlers": {{"app": {{"()": "bench.served.make_handler"}}}},
    "root": {{"level": "INFO", "handlers": ["app"]}},
    # gunicorn's own messages go to standard error, as by default.
    "loggers": {{}},
}}
"""
HOOK = "from rollsafe.gunicorn import post_fork\n"
AS_NOBODY = """
import hashlib  # on 3.13 a worker imports it after it has become nobody

user, group = "nobody", "nogroup"
# The interpreter may lie in root's home, where nobody cannot import from.
preload_app = True
"""


@dataclass(frozen=True)
class Case:
    """One way to run a server.

    Attributes:
        settings: gunicorn's settings, or None for uWSGI with these `arguments`.
        backups: The handlers' backupCount.
        pause: Seconds between two requests of a client; 0 is as fast as they are answered.
        clients: Their number.
        most_seconds: The longest time under load; with a backupCount, for no more intervals than are kept.
        owner: The user that the log directory belongs to.
    """

    settings: str | None = ""
    arguments: Sequence[str] = ()
    backups: int = 0
    pause: float = 0.0
    clients: int = 4
    least_seconds: float = 0.0
    most_seconds: float = 60.0
    owner: str | None = None


CASES = {
    "gunicorn sync": Case(),
    "gunicorn gthread": Case('worker_class = "gthread"\nthreads = 4\n'),
    "gunicorn sync, 3 requests a second": Case(pause=1 / 3, clients=1, least_seconds=15),
    "gunicorn sync, max_requests, backupCount=4": Case("max_requests = 100\n", backups=4, most_seconds=3.5),
    "uWSGI master": Case(None, ["--master"]),
    "uWSGI master, lazy-apps": Case(None, ["--master", "--lazy-apps"]),
    "gunicorn root → nobody, root's directory": Case(AS_NOBODY, owner="root"),
    "gunicorn root → nobody, nobody's directory": Case(AS_NOBODY, owner="nobody"),
}


@dataclass(frozen=True)
class Outcome:
    """The fate of the lines of the answered requests of one case with one handler."""

    case: str
    handler: str
    answered: int
    rollovers: int
    lost: int
    doubled: int
    torn: int
    misfiled: int

    @property
    def faulty(self) -> bool:
        """Whether a promise was broken; where no rollover is allowed, all lines stay in one file, as promised."""
        held_back = CASES[self.case].owner == "root"
        return bool(self.lost or self.doubled or self.torn or (self.misfiled and not held_back))

    def __str__(self) -> str:
        counts = {kind: getattr(self, kind) for kind in ("lost", "misfiled", "doubled", "torn")}
        if not any(counts.values()):
            return "0"
        # The lost ones are always shown, because the table is about them.
        shown = {kind: count for kind, count in counts.items() if count or kind == "lost"}
        return ", ".join(f"{_percent(count, self.answered)} {kind}" for kind, count in shown.items())


def main(arguments: list[str] | None = None) -> int:
    """Run every case with every handler; return the exit code."""
    options = _options(arguments)
    names = options.case or list(CASES)
    outcomes = []
    for name in names:
        if reason := _missing(CASES[name]):
            print(f"{name} is left out: {reason}", file=sys.stderr)
            continue
        for handler in HANDLERS:
            outcome = run(name, handler, options.seconds)
            outcomes.append(outcome)
            print(
                f"{name} | {handler} | {outcome.answered} lines, {outcome.rollovers} rollovers | {outcome}", flush=True
            )
    text = report(outcomes, options.seconds)
    print(f"\n{text}")
    write(options.out, "servers.md", text)
    about = {"python": _python(), "workers": WORKERS, "seconds": options.seconds}
    figures = json.dumps(
        {"about": about, "outcomes": [vars(outcome) for outcome in outcomes]}, indent=2, ensure_ascii=False
    )
    write(options.out, "servers.json", figures + "\n")
    return int(any(outcome.faulty for outcome in outcomes if outcome.handler == OURS))


def run(name: str, handler: str, seconds: float) -> Outcome:
    """Put one case under load with one handler, stop the server, count."""
    case = CASES[name]
    with _directory(case) as directory:
        environment = {"BENCH_HANDLER": handler, "BENCH_BACKUPS": str(case.backups)}
        with _server(case, directory, handler, environment) as server:
            clients = Clients(server, case.clients, pause=case.pause)
            with clients:
                time.sleep(min(max(seconds, case.least_seconds), case.most_seconds))
        live = directory / LIVE
        found = audit(live, clients.acknowledged, suffix_of_seconds(1))
    return Outcome(
        name,
        handler,
        answered=clients.answered,
        rollovers=max(0, found.files - 1),
        lost=found.lost,
        doubled=found.doubled,
        torn=found.torn,
        misfiled=found.misfiled,
    )


def _server(case: Case, directory: Path, handler: str, environment: dict[str, str]) -> ServerProcess:
    """The server of a case; rollsafe is used as it is documented, with its hook."""
    if case.settings is None:
        arguments = list(case.arguments)
        return Uwsgi(
            directory,
            "bench.served:application",
            workers=WORKERS,
            arguments=arguments,
            environment=environment,
            echo=False,
        )
    config = LOGGING + case.settings + (HOOK if handler == OURS else "")
    return Server(
        directory, config, app="bench.served:application", workers=WORKERS, environment=environment, echo=False
    )


@contextmanager
def _directory(case: Case) -> Iterator[Path]:
    """A directory for a server, with the log directory of the case's owner in it."""
    with tempfile.TemporaryDirectory(prefix="rollsafe-servers-") as name:
        directory = Path(name)
        logs = (directory / LIVE).parent
        logs.mkdir()
        if case.owner is not None:
            user = pwd.getpwnam(case.owner)
            os.chown(logs, user.pw_uid, user.pw_gid)
            # Workers say there that they have booted.
            directory.chmod(0o777)
        yield directory


def _missing(case: Case) -> str | None:
    """Why a case cannot run here, or None."""
    if case.settings is None and PYUWSGI is None:
        return NO_PYUWSGI
    if case.owner is not None and os.geteuid() != 0:
        return "only root can become another user"
    return None


def report(outcomes: Sequence[Outcome], seconds: float) -> str:
    """The table in Markdown, with what made it."""
    cell = {(outcome.case, outcome.handler): str(outcome) for outcome in outcomes}
    cases = list(dict.fromkeys(outcome.case for outcome in outcomes))
    rows = [["", *HANDLERS], ["---"] * (len(HANDLERS) + 1)]
    rows += [[case, *(cell[case, handler] for handler in HANDLERS)] for case in cases]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    total = sum(outcome.answered for outcome in outcomes)
    about = (
        f"Shares of {total:,} log lines whose requests were answered. {WORKERS} workers, a rollover each second,"
        f" {seconds:g} s a run, {_python()}; made by `python -m bench.servers`.\n\n"
        "*Rename under a lock* is the usual idea for several processes: agree on the boundary, and rename under a lock"
        " unless the backup is there already. In root's directory the workers are not allowed to rename, so all lines"
        " stay in one file.\n"
    )
    return f"<!-- Generated by `python -m bench.servers`; do not edit. -->\n\n{table}\n\n{about}"


def _python() -> str:
    """The interpreter's name and version."""
    return f"{platform.python_implementation()} {platform.python_version()}"


def _percent(part: int, whole: int) -> str:
    """A share in words: never 0 % for something, never 100 % for less than all."""
    share = 100 * part / max(1, whole)
    if part == 0:
        return "0"
    if share < 1:
        return f"{share:.2g} %"
    return f"{int(share) if share > 99 else round(share)} %"


def _options(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = parser_of("servers", __doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="under load, each run (default: %(default)s)")
    parser.add_argument("--case", action="append", choices=CASES, help="only this case; may be repeated")
    options = parser.parse_args(arguments)
    if options.seconds <= 0:
        parser.error("--seconds must be positive")
    if importlib.util.find_spec(CONCURRENT) is None:
        parser.error("concurrent-log-handler must be installed: pip install --group bench -e .")
    return options


if __name__ == "__main__":
    sys.exit(main())
