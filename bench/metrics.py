"""What counting costs: the time of a line with metrics off, for Prometheus, and for statsd.

    python -m bench.metrics [--rounds 5] [--lines 50000] [--out docs/figures]

It takes well under a minute; docs/figures/metrics.md is its output.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rollsafe import LineFormatter, SafeTimedRotatingFileHandler, metrics

WAYS = ("off", "Prometheus, multiprocess mode", "statsd")


def main(arguments: list[str] | None = None) -> None:
    """Measure each way in a process of its own, in turn, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often each way is measured (default: 5)")
    parser.add_argument("--lines", type=int, default=50_000, help="lines a round (default: 50000)")
    parser.add_argument("--out", type=Path, default=Path("docs/figures"), help="where metrics.md goes")
    options = parser.parse_args(arguments)
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(options.rounds):
        for way in WAYS:
            times[way].append(_in_a_process(way, options.lines))
    (options.out / "metrics.md").write_text(_table(times, options.rounds, options.lines), encoding="utf-8")
    print(options.out / "metrics.md")


def microseconds_per_line(way: str, lines: int) -> float:
    """Log `lines` lines of one process, and return the microseconds that one took."""
    with tempfile.TemporaryDirectory() as directory:
        if way == "statsd":
            metrics.to_statsd("127.0.0.1:8125")
        elif way != "off":
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
            metrics.to_prometheus()
        handler = SafeTimedRotatingFileHandler(Path(directory, "app.log"), when="H", encoding="utf-8")
        handler.setFormatter(LineFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
        logger = logging.Logger("bench")
        logger.addHandler(handler)
        logger.info("warmed up")
        begun = time.perf_counter()
        for number in range(lines):
            logger.info("GET /items/%d 200", number)
        seconds = time.perf_counter() - begun
        handler.close()
    return seconds / lines * 1e6


def _in_a_process(way: str, lines: int) -> float:
    """`microseconds_per_line` of a fresh interpreter: what listens once listens for good."""
    code = f"from bench.metrics import microseconds_per_line; print(microseconds_per_line({way!r}, {lines}))"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def _table(times: dict[str, list[float]], rounds: int, lines: int) -> str:
    """The table as Markdown."""
    off = statistics.median(times["off"])
    rows = [
        f"| {way} | {statistics.median(each):.1f} | {statistics.median(each) - off:+.1f} |"
        for way, each in times.items()
    ]
    return "\n".join(
        [
            "# What counting costs",
            "",
            f"Microseconds for a line in one process, medians of {rounds} rounds of {lines:,} lines,"
            f" Python {sys.version.split()[0]}; made by `python -m bench.metrics`.",
            "",
            "| metrics | a line | more than off |",
            "|---|---:|---:|",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    main()
