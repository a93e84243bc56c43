"""The time that the switches of `logging` behind `lean_records` save for a line.

    python -m bench.switches [--rounds 300] [--out docs/figures]

Writes `switches.md`. It takes a few seconds.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from bench.measuring import parser_of, shuffled, write
from bench.peers import OURS, PEERS, Setting, message
from rollsafe._lines.records import SWITCHES, LeanRecords

LINES = 100
ON, ALL = "none", "all of them"


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write the table; return the exit code."""
    options = parser_of("switches", __doc__, rounds=300, of="batches of each").parse_args(arguments)
    variants = {ON: (), **{name: (name,) for name in SWITCHES if hasattr(logging, name)}, ALL: tuple(SWITCHES)}
    taken = measure(variants, options.rounds)
    rows = [
        f"| {name if name in (ON, ALL) else f'`{name}`'} | {', '.join(SWITCHES.get(name, ()))}"
        f" | {1e6 * median(taken[name]):.2f}"
        f" | {100 * (1 - median(one / on for one, on in zip(taken[name], taken[ON], strict=True))):.0f} % |"
        for name in variants
    ]
    text = "\n".join(
        [
            "# What lean records save",
            "",
            f"Made by `python -m bench.switches`, Python {sys.version.split()[0]}: one process, {OURS}, the variants by"
            f" turns, {options.rounds} batches of {LINES} lines; a saving is the median of those within a turn.",
            "",
            "| switched off | then empty or unknown | µs for a line | saved |",
            "|---|---|---:|---:|",
            *rows,
            "",
        ]
    )
    print(text)
    write(options.out, "switches.md", text)
    return 0


def measure(variants: dict[str, tuple[str, ...]], rounds: int) -> dict[str, list[float]]:
    """Seconds for a line of each variant, by rounds."""
    text = message(Setting.size)
    taken: dict[str, list[float]] = {name: [] for name in variants}
    with tempfile.TemporaryDirectory(prefix="switches-") as directory:
        logging_ = PEERS[OURS].start(Setting(Path(directory) / "app.log"))
        for turn in range(-1, rounds):
            for name in shuffled(variants, turn):
                with switched_off(variants[name]):
                    begun = time.perf_counter()
                    for _ in range(LINES):
                        logging_.info(text)
                    elapsed = time.perf_counter() - begun
                if turn >= 0:
                    taken[name].append(elapsed / LINES)
        logging_.end()
    return taken


@contextmanager
def switched_off(names: tuple[str, ...]) -> Iterator[None]:
    """Some variables of `logging` off for a while."""
    before = {name: getattr(logging, name) for name in names if hasattr(logging, name)}
    LeanRecords(names)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(logging, name, value)


if __name__ == "__main__":
    sys.exit(main())
