"""Compare the requests a second of a trivial uWSGI application with uWSGI's own log file and with ours.

    python -m bench.uwsgi [--rounds 9] [--seconds 4] [--program uwsgi]

Both servers run all the time, and wrk (Debian: `apt-get install wrk`) asks them in turns, in changing order. Then the
lines of the request logs are counted. It writes docs/figures/uwsgi.md, and takes two minutes.
"""

from __future__ import annotations

import argparse
import atexit
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from bench.measuring import parser_of, shuffled, write
from tests.support.other_servers import NO_PYUWSGI, PYUWSGI
from tests.support.servers import ROOT, wait_until

WORKERS = 2
CONNECTIONS = 8
OWN, FILE, OURS = "uWSGI, `logto`", "uWSGI, `req-logger = file:`", "rollsafe"
APPLICATION = """\
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]
"""
SET_UP = 'from rollsafe.uwsgi import set_up_logs\n\nset_up_logs("logs", when="midnight", backupCount=14)\n'
PYTHON = ("--shared-pyimport", "bench_logs", "--logger", "python:uwsgi.error", "--req-logger", "python:uwsgi.access")
CASES: dict[str, Sequence[str]] = {
    OWN: ("--logto", "logs/access.log"),
    FILE: ("--req-logger", "file:logs/access.log"),
    OURS: PYTHON,
}
CLK_TCK = os.sysconf("SC_CLK_TCK")


class Served:
    """A uWSGI with one way to log."""

    def __init__(self, program: str, directory: Path, arguments: Sequence[str]) -> None:
        (directory / "logs").mkdir(parents=True)
        (directory / "bench_app.py").write_text(APPLICATION, encoding="ascii")
        (directory / "bench_logs.py").write_text(SET_UP, encoding="ascii")
        self.log = directory / "logs" / "access.log"
        self.asked = 0
        with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
            self.url = f"http://127.0.0.1:{listener.getsockname()[1]}/asked"
            command = [program, "--http-socket", f"fd://{listener.fileno()}", "--virtualenv", sys.prefix]
            command += ["--module", "bench_app", "--master", "--processes", str(WORKERS), "--die-on-term"]
            self._process = subprocess.Popen(
                [*command, *arguments],
                cwd=directory,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(directory)])},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[listener.fileno()],
            )
        # A failure must not leave it running.
        atexit.register(self._process.terminate)

    def ask(self, wrk: str, seconds: float) -> tuple[float, float]:
        """Requests a second, and microseconds of processor time of all its processes for each."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text(encoding="ascii")
        before = self._processor_time(children)
        ran = subprocess.run(
            [wrk, "--threads", "1", "--connections", str(CONNECTIONS), "--duration", f"{seconds:g}s", self.url],
            capture_output=True,
            text=True,
            check=True,
        )
        taken = self._processor_time(children) - before
        requests, rate = int(_figure(r"(\d+) requests in", ran.stdout)), _figure(r"Requests/sec: +(\S+)", ran.stdout)
        self.asked += requests
        return rate, 1e6 * taken / requests

    def finish(self) -> int:
        """End the server, and count the lines of the requests."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()
        files = self.log.parent.glob("access.log*")
        return sum(path.read_bytes().count(b"GET /asked") for path in files)

    def _processor_time(self, children: str) -> float:
        """Seconds of processor time that the master and its workers have taken (proc(5), /proc/PID/stat)."""
        total = 0
        for pid in (self._process.pid, *children.split()):
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / CLK_TCK


def main(arguments: list[str] | None = None) -> int:
    """Measure, and write the table; return the exit code."""
    parser = parser_of("uwsgi", __doc__, 9)
    parser.add_argument("--seconds", type=int, default=4, help="length of each turn (default: %(default)s)")
    parser.add_argument("--program", default=PYUWSGI, help="the uwsgi to run (default: that of pyuwsgi)")
    options = parser.parse_args(arguments)
    wrk = shutil.which("wrk")
    # The servers run in other directories.
    options.program = os.path.abspath(options.program) if options.program else None
    if wrk is None or options.program is None:
        print("wrk is missing: apt-get install wrk" if wrk is None else NO_PYUWSGI, file=sys.stderr)
        return 2
    rates: dict[str, list[float]] = {name: [] for name in CASES}
    times: dict[str, list[float]] = {name: [] for name in CASES}
    with tempfile.TemporaryDirectory() as directory:
        served = {
            name: Served(options.program, Path(directory, str(number)), of)
            for number, (name, of) in enumerate(CASES.items())
        }
        for one in served.values():
            wait_until(lambda one=one: _answers(one), "the server")  # type: ignore[misc]
        # The first turn warms up, and is thrown away.
        for number in range(-1, options.rounds):
            for name in shuffled(CASES, number):
                rate, taken = served[name].ask(wrk, options.seconds if number >= 0 else 1)
                if number >= 0:
                    rates[name].append(rate)
                    times[name].append(taken)
        time.sleep(1)
        counted = {name: (one.asked, one.finish()) for name, one in served.items()}
    text = _report(options, rates, times, counted)
    print(text)
    write(options.out, "uwsgi.md", text)
    return 0


def _answers(one: Served) -> bool:
    """Whether a server answers."""
    try:
        with urllib.request.urlopen(one.url.replace("asked", "ready"), timeout=10) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _report(
    options: argparse.Namespace,
    rates: dict[str, list[float]],
    times: dict[str, list[float]],
    counted: dict[str, tuple[int, int]],
) -> str:
    """The table."""
    rows = [
        "| | requests/s | of `logto` | CPU µs a request | requests | lines |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in CASES:
        ratio = median(ours / own for ours, own in zip(rates[name], rates[OWN], strict=True))
        asked, lines = counted[name]
        rows.append(
            f"| {name} | {median(rates[name]):,.0f} | {ratio:.3f} | {median(times[name]):.0f} | {asked:,} | {lines:,} |"
        )
    program = Path(options.program).name
    version = subprocess.run([options.program, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return "\n".join(
        [
            "# What the log files of uWSGI cost",
            "",
            "Requests of a trivial application; made by `python -m bench.uwsgi` in one run.",
            "",
            *rows,
            "",
            f"Medians of {len(rates[OWN])} rounds of {options.seconds} s each, in changing order; the ratio"
            f" is the median of those within a round. {WORKERS} workers, {CONNECTIONS} connections of wrk, {program}"
            f" {version}, CPython {platform.python_version()}, {os.cpu_count()} processors, load"
            f" {os.getloadavg()[0]:.1f} at the end."
            " wrk breaks its last requests off, so a log may have a few lines more.",
            "",
        ]
    )


def _figure(pattern: str, text: str) -> float:
    """The number in a text."""
    found = re.search(pattern, text)
    assert found is not None, text
    return float(found[1])


if __name__ == "__main__":
    sys.exit(main())
