"""Where the logging time of a request goes under gunicorn, with the standard library and with rollsafe.

    python -m bench.profile [--rounds 3] [--seconds 5] [--out docs/figures]

Writes `profile.md`. py-spy samples the worker, which needs root or ptrace permission. It takes three minutes.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from types import ModuleType

from bench.access import ask, cpu_of, serve
from bench.measuring import parser_of, shuffled, write
from rollsafe import _listeners, formatters, handlers, locks
from rollsafe import _reports as reports
from rollsafe._backups import naming
from rollsafe._gunicorn import access
from rollsafe._gunicorn import logger as gunicorn_logger
from rollsafe._lines import encoder, formats
from rollsafe._live import (
    bounded_lock,
    fragments,
    late,
    live_file,
    live_path,
    open_file,
    pending,
    renewal,
    rollover,
    shared,
    streams,
    writer,
)

RATE = 500
APPLICATION = """
import logging

logger = logging.getLogger("shop")

def app(environ, start_response):
    logger.info("order %s of %s", 4711, "somebody")
    logger.info("the answer takes no database")
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello"]
"""
STANDARD = """
import os
os.makedirs("logs", exist_ok=True)

def file(name):
    return {"class": "logging.handlers.TimedRotatingFileHandler", "filename": f"logs/{name}.log", "when": "midnight",
            "formatter": name}

line = {"format": "%(asctime)s [%(process)d] [%(levelname)s] %(name)s: %(message)s"}
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "root": {"level": "INFO", "handlers": ["app"]},
    "loggers": {
        "gunicorn.error": {"handlers": ["error"], "propagate": False},
        "gunicorn.access": {"handlers": ["access"], "propagate": False},
    },
    "handlers": {name: file(name) for name in ("app", "error", "access")},
    "formatters": {"app": line, "error": line, "access": {"format": "%(message)s"}},
}
"""
PRESET = """
from rollsafe.gunicorn import post_fork, rotating_logs

logconfig_dict = rotating_logs("logs", when="midnight")
"""
CONFIGURATIONS = {
    "standard library": STANDARD,
    "rollsafe, the preset": PRESET,
    "and its Logger": PRESET + 'logger_class = "rollsafe.gunicorn.Logger"\n',
    "and lean records": PRESET.replace('midnight"', 'midnight", lean_records=True')
    + 'logger_class = "rollsafe.gunicorn.Logger"\n',
}
REST = "the server and the application"


def files_of(*modules: ModuleType) -> str:
    """A regular expression for the files of modules, as py-spy names them."""
    return "|".join(re.escape(module.__name__.replace(".", "/") + ".py") for module in modules)


# The modules that a line goes through.
LINE_MODULES = (
    *(handlers, encoder, writer, renewal, live_file, reports, naming, pending),
    *(open_file, fragments, streams, late, shared, live_path, rollover, bounded_lock, locks),
)
# Part -> (function, file) of its frames; the frame nearest to the leaf that is one of some part's decides.
PARTS = {
    "the fields of the access line": (
        r".*",
        rf"gunicorn/glogging\.py|{files_of(gunicorn_logger, _listeners, access)}",
    ),
    "making the record: caller, thread, process": (
        r"makeRecord|LogRecord\.__init__|findCaller|_is_internal_frame|currentframe|<lambda>",
        r"logging/__init__\.py",
    ),
    "formatting the line": (
        r"format|formatTime|formatMessage|_format|usesTime|getMessage|escape|_begin_second|_escaped|<lambda>",
        rf"logging/__init__\.py|{files_of(formatters, formats)}|<string>",
    ),
    "handler: rollover?, lock, write": (
        r"emit|flush|shouldRollover|Handler\.handle|handle|acquire|release|_\w+|write_line|take|write_pending|renew|"
        r"keeps|file_of|ensure_open|encode\w*",
        rf"logging/handlers\.py|logging/__init__\.py|{files_of(*LINE_MODULES)}",
    ),
}
_FRAME = re.compile(r"(?P<function>.*) \((?P<file>.*?)(:\d+)?\)")
_OF_LOGGERS = ("Logger.handle", "Logger._log")
LOGGING = re.compile(r"\((logging/|gunicorn/glogging\.py|rollsafe/)")
OTHER = "loggers, levels, the way between"


@dataclass(frozen=True)
class Profile:
    """The cost of one configuration: microseconds of processor time for a request, by part."""

    parts: dict[str, float]


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write the table; return the exit code."""
    parser = parser_of("profile", __doc__, rounds=3, of="how often each configuration is profiled")
    parser.add_argument("--seconds", type=int, default=5, help="of load for each (default: %(default)s)")
    options = parser.parse_args(arguments)
    rounds: dict[str, list[Profile]] = {name: [] for name in CONFIGURATIONS}
    for turn in range(options.rounds):
        for name in shuffled(CONFIGURATIONS, turn):
            rounds[name].append(profile(CONFIGURATIONS[name], options.seconds))
    profiles = {name: middle(found) for name, found in rounds.items()}
    text = report(profiles, options.rounds, options.seconds)
    print(text)
    write(options.out, "profile.md", text)
    return 0


def profile(configuration: str, seconds: int) -> Profile:
    """Sample the worker of a gunicorn with this configuration under load."""
    sampler = shutil.which("py-spy") or str(Path(sys.executable).with_name("py-spy"))
    with tempfile.TemporaryDirectory(prefix="profile-") as directory, ThreadPoolExecutor() as client:
        config, samples = Path(directory, "gunicorn.conf.py"), Path(directory, "samples")
        config.write_text(configuration)
        with serve(["--config", str(config)], APPLICATION) as (path, worker):
            ask(path, 1.0)  # warms up
            # Without a sampler first, because it stops the process for each sample.
            begun = cpu_of(worker)
            requests = ask(path, seconds)
            each = (cpu_of(worker) - begun) / requests
            asking = client.submit(ask, path, seconds + 1.0)
            where = ["--pid", str(worker), "--duration", str(seconds), "--rate", str(RATE)]
            subprocess.run(
                [sampler, "record", *where, "--format", "raw", "--output", str(samples)],
                check=True,
                capture_output=True,
            )
            asking.result()
        counts = sort_samples(samples.read_text().splitlines())
    total = sum(counts.values())
    return Profile({part: 1e6 * each * count / total for part, count in counts.items()})


def middle(profiles: Sequence[Profile]) -> Profile:
    """The median of each part."""
    parts = {part for one in profiles for part in one.parts}
    return Profile({part: median(one.parts.get(part, 0.0) for one in profiles) for part in parts})


def sort_samples(lines: Iterable[str]) -> Counter[str]:
    """How many samples fell into each part; a line is frames from root to leaf, divided by ";", and a count."""
    counts: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        counts[part_of(stack.split(";"))] += int(count)
    return counts


def part_of(frames: list[str]) -> str:
    """The part that a stack belongs to; frames from root to leaf, as "function (file:line)"."""
    first = next((number for number, frame in enumerate(frames) if LOGGING.search(frame)), None)
    if first is None:
        return REST
    for frame in reversed(frames[first:]):
        match = _FRAME.fullmatch(frame)
        if match is None or match["function"] in _OF_LOGGERS:
            continue
        # From Python 3.11 on, the names of functions include their classes.
        function = match["function"].rpartition(".<locals>.")[2]
        names = {function, function.rpartition(".")[2]}
        for part, (functions, files) in PARTS.items():
            if re.search(files, match["file"]) and any(re.fullmatch(functions, name) for name in names):
                return part
    return OTHER


def report(profiles: dict[str, Profile], rounds: int, seconds: int) -> str:
    """The table as Markdown."""
    parts = [*PARTS, OTHER]
    rows = [[part, *(f"{one.parts.get(part, 0.0):.1f}" for one in profiles.values())] for part in parts]
    sums = [sum(one.parts.get(part, 0.0) for part in parts) for one in profiles.values()]
    rest = [one.parts.get(REST, 0.0) for one in profiles.values()]
    rows.append(["**logging in all**", *(f"**{figure:.1f}**" for figure in sums)])
    rows.append([REST, *(f"{figure:.1f}" for figure in rest)])
    rows.append(["logging's share", *(f"{100 * a / (a + b):.0f} %" for a, b in zip(sums, rest, strict=True))])
    head = ["microseconds for a request", *profiles]
    return "\n".join(
        [
            "# Where the logging time of a request goes",
            "",
            "<!-- Generated by `python -m bench.profile`; do not edit. -->",
            "",
            "Processor time of a gunicorn worker (sync) for a request that logs two lines of the application and one"
            f" access line, by one client, divided by where py-spy found the worker {RATE} times a second; medians of"
            f" {rounds} rounds of {seconds} s, the configurations by turns.",
            "",
            f"| {' | '.join(head)} |",
            f"|---|{'---:|' * len(profiles)}",
            *(f"| {' | '.join(row)} |" for row in rows),
            "",
            f"Python {sys.version.split()[0]}, gunicorn {version('gunicorn')}, py-spy {version('py-spy')};"
            " made by `python -m bench.profile`.",
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
