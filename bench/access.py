"""The cost of an access line: gunicorn's own logger against ours, by itself and in requests a second.

    python -m bench.access [--rounds 9] [--lines 20000] [--slices 40] [--seconds 0.25] [--out docs/figures]

It takes about a minute and a half; docs/figures/access.md and access.json are its output.

The loggers run directly one after the other, in a round or in a slice of a fraction of a second, and ratios are taken
within that, so the load of the machine does not affect them.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

from bench.measuring import in_a_process, parser_of, shuffled, write

THEIRS, OURS = "gunicorn.glogging.Logger", "rollsafe.gunicorn.Logger"
PRESET, PRESET_JSON = "rotating_logs", "rotating_logs, json=True"
# Who makes the line, and where its file comes from.
WAYS = {
    "gunicorn": (THEIRS, "--access-logfile"),
    "gunicorn, preset": (THEIRS, PRESET),
    "gunicorn, JSON": (THEIRS, PRESET_JSON),
    "rollsafe": (OURS, "--access-logfile"),
    "rollsafe, preset": (OURS, PRESET),
    "rollsafe, JSON": (OURS, PRESET_JSON),
}
# The share of gunicorn's own cost that is wanted: of its line in text, and of what a request takes more with a log.
WANTED = {"rollsafe": 0.18, "rollsafe, preset": 0.18, "rollsafe, JSON": 0.25}
WANTED_OF_A_REQUEST = 0.35
# The arguments of each server, all with one sync worker.
SERVERS = {
    "off": [],
    "gunicorn": ["--access-logfile", "access.log"],
    "rollsafe": ["--access-logfile", "access.log", "--logger-class", OURS],
}
CLIENTS = 2
# Seconds that a server may take to answer for the first time.
PATIENCE = 60.0
HEADERS = {
    "Host": "shop.example",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "en",
    "Accept-Encoding": "gzip, deflate, br",
    "Referer": "https://shop.example/items",
    "Cookie": "session=5f1c1b0e9d",
}
REQUEST = "".join(["GET /items/4711?page=2 HTTP/1.1\r\n", *(f"{name}: {value}\r\n" for name, value in HEADERS.items())])
APPLICATION = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "6")])
    return [b"hello\\n"]
"""


@dataclass(frozen=True)
class Slice:
    """One server under load for a moment.

    Attributes:
        rate: Answers a second.
        cpu: Processor seconds of the worker for each answer.
    """

    turn: int
    server: str
    rate: float
    cpu: float


def main(arguments: list[str] | None = None) -> None:
    """Measure what the command line asks for, print the tables and write them."""
    parser = parser_of("access", __doc__, rounds=9, of="how often each line is measured")
    parser.add_argument("--lines", type=int, default=20_000, help="lines a round (default: %(default)s)")
    parser.add_argument("--slices", type=int, default=40, help="how often each server is (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.25, help="length of a slice (default: %(default)s)")
    options = parser.parse_args(arguments)
    costs = [
        {way: in_a_process("access", way, options.lines) for way in shuffled(WAYS, turn)}
        for turn in range(options.rounds)
    ]
    slices = list(load(options.slices, options.seconds))
    text = report(costs, slices, options.lines, options.seconds)
    print(text)
    write(options.out, "access.md", text)
    figures = {"microseconds_per_line": costs, "slices": [asdict(each) for each in slices]}
    write(options.out, "access.json", json.dumps(figures, indent=2) + "\n")


# One line.


def microseconds_per_line(way: str, lines: int) -> float:
    """Processor time of one access line, in microseconds: the median of five parts of `lines` lines."""
    from gunicorn.config import Config
    from gunicorn.util import load_class

    from rollsafe.gunicorn import rotating_logs

    logger_class, where = WAYS[way]
    response = SimpleNamespace(
        status="200 OK", sent=18342, headers=[("Server", "gunicorn"), ("Content-Length", "18342")]
    )
    headers = [(name.upper(), value) for name, value in HEADERS.items()]
    request, environ = SimpleNamespace(headers=headers), _environ(headers)
    duration = datetime.timedelta(microseconds=12_700)
    with tempfile.TemporaryDirectory(prefix="access-") as directory:
        cfg = Config()
        if where in (PRESET, PRESET_JSON):
            cfg.set("logconfig_dict", rotating_logs(directory, json=where == PRESET_JSON))
        else:
            cfg.set("accesslog", f"{directory}/access.log")
        log = load_class(logger_class)(cfg)
        parts = []
        for _ in range(5):
            begun = time.process_time()
            for _ in range(lines // 5):
                log.access(response, request, environ, duration)
            parts.append((time.process_time() - begun) / (lines // 5))
        for handler in [*log.access_log.handlers, *log.error_log.handlers]:
            handler.close()
    return 1e6 * median(parts)


def _environ(headers: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The environ that a worker of gunicorn makes for such a request."""
    names = "wsgi.errors wsgi.version wsgi.multithread wsgi.multiprocess wsgi.run_once wsgi.file_wrapper wsgi.input"
    names += " wsgi.input_terminated wsgi.url_scheme gunicorn.socket SERVER_SOFTWARE SERVER_NAME SCRIPT_NAME"
    return {
        **dict.fromkeys(names.split(), "x"),
        **{f"HTTP_{name.replace('-', '_')}": value for name, value in headers},
        "REQUEST_METHOD": "GET",
        "RAW_URI": "/items/4711?page=2",
        "PATH_INFO": "/items/4711",
        "QUERY_STRING": "page=2",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": "50000",
    }


# Requests.


def load(slices: int, seconds: float) -> Iterator[Slice]:
    """Ask each of the servers in turn, `slices` times for `seconds`, with all of them up all the time."""
    with contextlib.ExitStack() as stack, ProcessPoolExecutor(CLIENTS) as clients:
        running = {name: stack.enter_context(serve(arguments)) for name, arguments in SERVERS.items()}
        names = list(running)
        for turn in range(-1, slices):
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                path, worker = running[name]
                measured = _slice(clients, turn, name, path, worker, seconds)
                if turn >= 0:  # the turn before warms up
                    yield measured


def _slice(clients: Executor, turn: int, name: str, path: str, worker: int, seconds: float) -> Slice:
    """One server under the load of all clients."""
    cpu, begun = cpu_of(worker), time.monotonic()
    answers = sum(asking.result() for asking in [clients.submit(ask, path, seconds) for _ in range(CLIENTS)])
    elapsed = time.monotonic() - begun
    return Slice(turn, name, answers / elapsed, (cpu_of(worker) - cpu) / answers)


@contextlib.contextmanager
def serve(arguments: Sequence[str], application: str = APPLICATION) -> Iterator[tuple[str, int]]:
    """A gunicorn with one worker for the source of an `app`: the path of its socket, and the worker's process id."""
    with tempfile.TemporaryDirectory(prefix="access-") as directory:
        Path(directory, "app.py").write_text(application)
        command = [
            sys.executable,
            "-m",
            "gunicorn",
            "--bind",
            "unix:socket",
            "--no-control-socket",
            *arguments,
            "app:app",
        ]
        environment = {key: value for key, value in os.environ.items() if key != "GUNICORN_CMD_ARGS"}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [os.getcwd(), *sys.path]))
        path = f"{directory}/socket"
        with open(f"{directory}/error.log", "w") as errors:
            process = subprocess.Popen(command, cwd=directory, env=environment, stderr=errors)
        try:
            deadline = time.monotonic() + PATIENCE
            while not _answers(path):
                if time.monotonic() > deadline or process.poll() is not None:
                    raise RuntimeError(f"gunicorn does not answer: {Path(directory, 'error.log').read_text()}")
                time.sleep(0.05)
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            yield path, int(children.split()[0])
        finally:
            process.terminate()
            process.wait(PATIENCE)


def ask(path: str, seconds: float) -> int:
    """Send requests one after the other for `seconds`; the number of answers."""
    deadline = time.monotonic() + seconds
    answers = 0
    while time.monotonic() < deadline:
        answers += _answers(path)
    return answers


def _answers(path: str) -> bool:
    """Send one request, and read the answer to its end."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(path)
            connection.sendall(f"{REQUEST}\r\n".encode())
            answer = b""
            while part := connection.recv(4096):
                answer += part
        except OSError:
            return False
    return answer.startswith(b"HTTP/1.1 200")


def cpu_of(pid: int) -> float:
    """Processor seconds of a process so far (proc(5), /proc/PID/schedstat, nanoseconds)."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


# Arithmetic and text.


def extra(slices: Sequence[Slice], server: str) -> list[float]:
    """Seconds that an answer takes longer than without access log, turn by turn."""
    off = {each.turn: each for each in slices if each.server == "off"}
    return [1 / each.rate - 1 / off[each.turn].rate for each in slices if each.server == server]


def extra_cpu(slices: Sequence[Slice], server: str) -> list[float]:
    """Processor seconds that an answer takes more than without access log, turn by turn."""
    off = {each.turn: each for each in slices if each.server == "off"}
    return [each.cpu - off[each.turn].cpu for each in slices if each.server == server]


def reached(share: float, wanted: float) -> str:
    """The share that is wanted, and whether it was reached."""
    return f"at most {wanted:.2f}: {'yes' if share <= wanted else 'no'}"


def report(costs: Sequence[dict[str, float]], slices: Sequence[Slice], lines: int, seconds: float) -> str:
    """Both tables, and the ratios, as Markdown."""
    rows = []
    for way, (logger_class, where) in WAYS.items():
        shares = [cost[way] / cost["gunicorn"] for cost in costs]
        spread = f"{median(shares):.2f} ({min(shares):.2f} to {max(shares):.2f})"
        wanted = reached(median(shares), WANTED[way]) if way in WANTED else ""
        rows.append(f"| `{logger_class}` | {where} | {median(cost[way] for cost in costs):.1f} | {spread} | {wanted} |")
    rates, extras, cpus = [], {}, {}
    for server in SERVERS:
        extras[server], cpus[server] = median(extra(slices, server)) * 1e6, median(extra_cpu(slices, server)) * 1e6
        rate = median(each.rate for each in slices if each.server == server)
        rates.append(f"| {server} | {rate:,.0f} | {extras[server]:+.0f} | {cpus[server]:+.0f} |")
    clock, cpu = extras["rollsafe"] / extras["gunicorn"], cpus["rollsafe"] / cpus["gunicorn"]
    python, gunicorn = sys.version.split()[0], version("gunicorn")
    return "\n".join(
        [
            "# What an access line costs",
            "",
            "<!-- Generated by `python -m bench.access`; do not edit. -->",
            "",
            "Processor time of `access()`, gunicorn's default format, a browser's headers. Ratios are taken within a"
            f" round; medians of {len(costs)} rounds of {lines:,} lines, in brackets the least and the most.",
            "",
            "| logger | file | µs a line | times gunicorn's text | wanted |",
            "|---|---|---:|---:|---|",
            *rows,
            "",
            f"A trivial application, one sync worker, {CLIENTS} clients. The servers are asked in turn, each"
            f" {len(slices) // len(SERVERS)} times for {seconds:g} s; medians, differences taken within a turn.",
            "",
            "| access log | requests/s | more µs a request | more processor µs a request |",
            "|---|---:|---:|---:|",
            *rates,
            "",
            f"Of what an access log adds to a request, rollsafe adds {clock:.0%} of gunicorn's by the clock"
            f" ({reached(clock, WANTED_OF_A_REQUEST)}), {cpu:.0%} in processor time"
            f" ({reached(cpu, WANTED_OF_A_REQUEST)}).",
            "",
            f"Python {python}, gunicorn {gunicorn}; made by `python -m bench.access`.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
