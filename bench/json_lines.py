"""What a JSON line costs beside the same line as text, and whether orjson or msgspec would make it cheaper.

    python -m bench.json_lines [--rounds 400] [--out docs/figures]

Writes `json_lines.md`. It takes about half a minute.

All formatters log through handlers of ours in one process, by turns, and ratios are taken within a turn, so the load of
the machine does not affect them.
"""

from __future__ import annotations

import importlib
import json.encoder
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median

from pythonjsonlogger.json import JsonFormatter

from bench.measuring import parser_of, shuffled, write
from bench.peers import Setting, message
from rollsafe import LineFormatter, SafeTimedRotatingFileHandler
from rollsafe._preset import LINE_FORMAT
from rollsafe.json_lines import JSONFormatter

LINES = 100
TEXT, OURS, THEIRS = (
    "rollsafe.LineFormatter",
    "rollsafe.json_lines.JSONFormatter",
    "pythonjsonlogger.json.JsonFormatter",
)
WANTED = 1.20
# Optional classes of python-json-logger, whose lines have other bytes: no space after a colon or a comma.
OTHERS = {"orjson": "pythonjsonlogger.orjson.OrjsonFormatter", "msgspec": "pythonjsonlogger.msgspec.MsgspecFormatter"}
EXTRA = {"order": 4711, "user": "anna"}
STRINGS = {"5 characters": "INFO!", "80 characters": "x" * 80, "1000 characters": "x" * 1000}


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write the tables; return the exit code."""
    options = parser_of("json_lines", __doc__, rounds=400, of="batches of each").parse_args(arguments)
    makers: dict[str, Callable[[], logging.Formatter]] = {
        TEXT: lambda: LineFormatter(LINE_FORMAT),
        OURS: lambda: JSONFormatter(LINE_FORMAT),
        THEIRS: lambda: JsonFormatter(LINE_FORMAT),
    }
    installed = [package for package in OTHERS if is_installed(package)]
    for package in installed:
        module, _, name = OTHERS[package].rpartition(".")
        makers[OTHERS[package]] = partial(getattr(importlib.import_module(module), name), LINE_FORMAT)
    plain, with_extra = measure(makers, options.rounds, {}), measure(makers, options.rounds, EXTRA)
    rows = []
    for name in makers:
        share = ratio(plain[name], plain[TEXT])
        wanted = f"at most {WANTED:.2f}: {'yes' if share <= WANTED else 'no'}" if name == OURS else ""
        times = f"{1e6 * median(plain[name]):.2f} | {share:.2f} | {ratio(with_extra[name], with_extra[TEXT]):.2f}"
        rows.append(f"| `{name}` | {times} | {wanted} |")
    quoted = quoting(options.rounds, installed)
    of_packages = "".join(f", {package} {version(package)}" for package in installed)
    text = "\n".join(
        [
            "# What a JSON line costs",
            "",
            f"Made by `python -m bench.json_lines`, Python {sys.version.split()[0]}, python-json-logger"
            f" {version('python-json-logger')}{of_packages}: one process, the format of the preset, a message of"
            f" {len(message(Setting.size))} characters, processor time, {options.rounds} batches of {LINES} lines; a"
            " ratio is the median of those within a turn.",
            "In the column with two extra fields, only the JSON lines have them.",
            "",
            "| formatter | µs a line | / the same line as text | with two extra fields | wanted |",
            "|---|---:|---:|---:|---|",
            *rows,
            "",
            "The JSON text of one string, in nanoseconds of processor time:",
            "",
            f"| made by | {' | '.join(STRINGS)} |",
            f"|---|{'---:|' * len(STRINGS)}",
            *(f"| {name} | {' | '.join(f'{1e9 * each:.0f}' for each in times)} |" for name, times in quoted.items()),
            "",
        ]
    )
    print(text)
    write(options.out, "json_lines.md", text)
    return 0


def is_installed(package: str) -> bool:
    """Whether a package can be imported."""
    try:
        importlib.import_module(package)
    except ImportError:
        return False
    return True


def measure(
    makers: dict[str, Callable[[], logging.Formatter]], rounds: int, extra: dict[str, object]
) -> dict[str, list[float]]:
    """Seconds of processor time for a line with each formatter, by rounds."""
    text = message(Setting.size)
    taken: dict[str, list[float]] = {name: [] for name in makers}
    with tempfile.TemporaryDirectory(prefix="json-lines-") as directory:
        loggers = {}
        for number, (name, make) in enumerate(makers.items()):
            handler = SafeTimedRotatingFileHandler(Path(directory, f"{number}.log"), when="midnight", encoding="utf-8")
            handler.setFormatter(make())
            loggers[name] = logging.Logger("bench")
            loggers[name].addHandler(handler)
        for turn in range(-1, rounds):
            for name in shuffled(loggers, turn):
                log = loggers[name].info
                begun = time.process_time()
                for _ in range(LINES):
                    log(text, extra=extra)
                elapsed = time.process_time() - begun
                if turn >= 0:
                    taken[name].append(elapsed / LINES)
        for logger in loggers.values():
            logger.handlers[0].close()
    return taken


def ratio(taken: list[float], of: list[float]) -> float:
    """The median of the ratios within a turn."""
    return median(one / other for one, other in zip(taken, of, strict=True))


def quoting(rounds: int, installed: list[str]) -> dict[str, list[float]]:
    """Seconds of processor time for the JSON text of each of the strings, by who makes it."""
    makers: dict[str, Callable[[str], str]] = {
        "the standard library's C function": json.encoder.encode_basestring_ascii
    }
    if "orjson" in installed:
        dumps = importlib.import_module("orjson").dumps
        makers["orjson, decoded"] = lambda text: dumps(text).decode()
    if "msgspec" in installed:
        encode = importlib.import_module("msgspec.json").Encoder().encode
        makers["msgspec, decoded"] = lambda text: encode(text).decode()
    taken: dict[str, list[float]] = {}
    for name, make in makers.items():
        taken[name] = []
        for text in STRINGS.values():
            batches = []
            for _ in range(rounds):
                begun = time.process_time()
                for _ in range(LINES):
                    make(text)
                batches.append((time.process_time() - begun) / LINES)
            taken[name].append(median(batches))
    return taken


if __name__ == "__main__":
    sys.exit(main())
