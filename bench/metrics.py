"""The cost of counting: the time of a line with metrics off, for Prometheus, and for statsd.

    python -m bench.metrics [--rounds 9] [--lines 50000] [--out docs/figures]

It takes about a minute; docs/figures/metrics.md is its output.
"""

from __future__ import annotations

import os
import sys
import tempfile
from statistics import median

from bench.measuring import in_a_process, microseconds_of_a_line, parser_of, shuffled, write
from rollsafe import metrics

WAYS = ("off", "Prometheus, multiprocess mode", "statsd")


def main(arguments: list[str] | None = None) -> None:
    """Measure each way in a process of its own, in turn, and write the table."""
    parser = parser_of("metrics", __doc__, rounds=9, of="how often each way is measured")
    parser.add_argument("--lines", type=int, default=50_000, help="lines a round (default: %(default)s)")
    options = parser.parse_args(arguments)
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    for turn in range(options.rounds):
        for way in shuffled(WAYS, turn):
            times[way].append(in_a_process("metrics", way, options.lines))
    write(options.out, "metrics.md", _table(times, options.rounds, options.lines))


def microseconds_per_line(way: str, lines: int) -> float:
    """Log `lines` lines of one process, and return the microseconds of its processor that one took."""
    with tempfile.TemporaryDirectory() as directory:
        if way == "statsd":
            metrics.to_statsd("127.0.0.1:8125")
        elif way != "off":
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
            metrics.to_prometheus()
        return microseconds_of_a_line("%(asctime)s %(levelname)s %(name)s %(message)s", lines)


def _table(times: dict[str, list[float]], rounds: int, lines: int) -> str:
    """The table as Markdown."""
    rows = []
    for way, each in times.items():
        more = median(one - off for one, off in zip(each, times["off"], strict=True))
        rows.append(f"| {way} | {median(each):.1f} | {more:+.1f} |")
    return "\n".join(
        [
            "# What counting costs",
            "",
            f"Microseconds of processor time for a line in one process, medians of {rounds} rounds of {lines:,} lines,"
            f" and of the differences within a round; Python {sys.version.split()[0]}; made by"
            " `python -m bench.metrics`.",
            "",
            "| metrics | a line | more than off |",
            "|---|---:|---:|",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    main()
