"""Compare the speed of rollsafe with that of other ways to log: print the tables, and write them with a chart.

    python -m bench [--quick] [--rounds 3] [--seconds 1] [--only TEXT …] [--out docs/figures]

It takes about a quarter of an hour; the tables and the chart in docs/figures are its output.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from bench.chart import draw
from bench.measuring import write
from bench.peers import CONCURRENT, FLOOR, FORMAT, NULL, OURS, OURS_STANDARD, PEERS, PLAIN, STANDARD, WATCHED, Peer
from bench.speed import (
    BATCHES,
    CROWDS,
    FEW,
    MANY,
    MIDDLE,
    SMALL,
    NoTrace,
    Run,
    Turn,
    cpu_per_line,
    goals,
    in_processes,
    instructions,
    kept_pace,
    logged_and_lost,
    measure_alone,
    measure_together,
    rates,
    ratios,
    seconds_of,
    share,
    slower,
    spread,
    system_calls,
    where_we_lose,
)

# Rounds in one process for each round of several.
ALONE = 40
# The peers whose instructions are counted, which takes some ten seconds for each.
COUNTED = (NULL, FLOOR, PLAIN, STANDARD, CONCURRENT, "picologging", OURS_STANDARD, OURS)
# The cases that have targets, the peers that decide whether those are reached, and the factor by which these run more
# often, because two measurements of the same peer differ by some per cent.
DECISIVE = ((FEW, SMALL), (MANY, SMALL))
DECIDERS = (PLAIN, STANDARD, CONCURRENT, OURS)
OFTEN = 7
# The peers of all rows of MIDDLE characters, and the factor by which these run more often; the others run with FEW
# processes only.
NEAR = (PLAIN, WATCHED, STANDARD, OURS)
NEAR_OFTEN = 2
# The settings of --quick.
QUICK_ROUNDS, QUICK_SECONDS, QUICK_CROWDS = 1, 0.3, DECISIVE

Counted = TypeVar("Counted")


@dataclass
class Results:
    """All that was measured.

    Attributes:
        left_out: Peer -> why it could not be measured.
        calls: Peer -> name of a system call -> how many for each line.
        instructions: Peer -> how many for each line.
        not_counted: "calls" or "instructions" -> why they could not be counted.
    """

    about: dict[str, Any]
    turns: list[Turn] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    calls: dict[str, dict[str, float]] = field(default_factory=dict)
    instructions: dict[str, float] = field(default_factory=dict)
    not_counted: dict[str, str] = field(default_factory=dict)

    def alone(self) -> list[str]:
        """The peers that were measured in one process."""
        return _in_order({turn.peer for turn in self.turns})

    def together(self) -> list[str]:
        """The peers that were measured in several processes."""
        return _in_order({run.peer for run in self.runs})


def main(arguments: list[str] | None = None) -> int:
    """Measure what the command line asks for; return the exit code."""
    options = _options(arguments)
    results = Results(_circumstances(options))
    results.left_out = {peer.name: why for peer in options.peers if (why := peer.missing())}
    peers = [peer for peer in options.peers if peer.name not in results.left_out]
    results.about["versions"] = {peer.package: peer.version() for peer in peers if peer.package}
    rounds = ALONE * options.rounds
    for turn in _watched(measure_alone(peers, rounds), rounds * len(peers) * len(BATCHES), lambda turn: turn.peer):
        results.turns.append(turn)
    crowd = [peer for peer in peers if not peer.alone]
    near = [peer for peer in crowd if peer.name in NEAR]
    courses = [
        (crowd, [one for one in options.crowds if one[1] == SMALL], range(options.rounds)),
        ([peer for peer in crowd if peer.name in DECIDERS], DECISIVE, range(options.rounds, options.often)),
        (near, [one for one in options.crowds if one[1] == MIDDLE and one[0] != FEW], range(options.rounds)),
        (near, [one for one in options.crowds if one[1] == MIDDLE], range(options.rounds, NEAR_OFTEN * options.rounds)),
        # Last, because the gigabytes that long lines leave to the disk would be in the way of the others.
        (crowd, [one for one in options.crowds if one[1] != SMALL and one[0] == FEW], range(options.rounds)),
    ]
    total = sum(len(peers) * len(crowds) * len(turns) for peers, crowds, turns in courses)
    runs = chain.from_iterable(measure_together(*course, options.seconds) for course in courses)
    for run in _watched(runs, total, lambda run: run.peer):
        results.runs.append(run)
    if not options.quick:
        results.calls = _count("calls", crowd, system_calls, results)
        results.instructions = _count(
            "instructions", [peer for peer in peers if peer.name in COUNTED], instructions, results
        )
    text = _report(results)
    print(text)
    write(options.out, "speed.md", text)
    figures = json.dumps(_figures(results), indent=1, ensure_ascii=False)
    write(options.out, "speed.json", figures + "\n")
    draw(results.turns, results.runs, options.out / "speed.svg")
    print(f"Written: {options.out / 'speed.svg'}")
    return 0


Measured = TypeVar("Measured")


def _watched(measuring: Iterator[Measured], total: int, name: Callable[[Measured], str]) -> Iterator[Measured]:
    """What `measuring` yields, with a line of progress where there is a terminal to watch it."""
    for number, one in enumerate(measuring, 1):
        if sys.stderr.isatty() and (number % 50 == 0 or total < 1000):
            print(f"\r\x1b[K{number} of {total}: {name(one)}", end="", file=sys.stderr, flush=True)
        yield one


def _count(what: str, peers: Iterable[Peer], count: Callable[[Peer], Counted], results: Results) -> dict[str, Counted]:
    """One figure of each peer by a tool that counts, or a note why there is none."""
    counted: dict[str, Counted] = {}
    for peer in _watched(iter(peers), 0, lambda peer: f"{what} of {peer.name}"):
        try:
            counted[peer.name] = count(peer)
        except NoTrace as reason:
            results.not_counted[what] = f"{peer.name}: {reason}"
            if not counted:
                break
    return counted


def _circumstances(options: argparse.Namespace) -> dict[str, Any]:
    """What was measured where; no names of machines or paths."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "kernel": platform.system() + " " + ".".join(platform.release().split(".")[:2]),
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "rollsafe": importlib.metadata.version("rollsafe"),
        "rounds": options.rounds,
        "decisive rounds": options.often,
        "seconds": options.seconds,
        "format": FORMAT,
    }


def _in_order(names: set[str]) -> list[str]:
    """Names of peers in the order of the tables."""
    return [name for name in PEERS if name in names]


# Tables.


def _report(results: Results) -> str:
    """All that is to be said, as Markdown that can be read as plain text too."""
    about = results.about
    parts = [
        "<!-- Generated by `python -m bench`; do not edit. -->",
        "**Figures to reach**",
        _table(
            ["figure", "wanted", "measured", "reached"],
            [
                [goal.what, goal.wanted, f"{goal.figure:.2f}", "yes" if goal.reached else "**no**"]
                for goal in goals(results.turns, results.runs)
            ],
        ),
        "**Where rollsafe is slower**",
        where_we_lose(results.turns, results.runs).replace("\n", "\n\n"),
        f"**One process**, messages of {SMALL} characters",
        _one_process(results),
        f"A line's time is the median of {ALONE * about['rounds']} rounds; its factors are medians of the ratios within"
        f" a round, in which all peers log a batch of {BATCHES[SMALL]} lines one after the other. The floor is a"
        " handler that writes a line that was made before.",
        "**Lines a second in one process, by length of the message**",
        _table(
            ["", *(f"{size} characters" for size in BATCHES)], [_by_size(results, peer) for peer in results.alone()]
        ),
        f"**Lines a second of several processes on one file**, messages of {SMALL} characters, a rollover each second",
        _crowds(results),
        f"Medians of {about['rounds']} rounds of {about['seconds']:g} s; of {about['decisive rounds']} rounds for"
        f" {', '.join(DECIDERS)} with {FEW} and {MANY} processes. Factors, and processor time for a line, are"
        f" those of {FEW} processes. Lines are counted in all files afterwards.",
    ]
    long = [(processes, size) for processes, size in _measured_crowds(results) if size != SMALL]
    if long:
        parts += [
            "**Long lines of several processes**, lines a second",
            _table(
                ["", *(f"{in_processes(processes)}, {size} characters" for processes, size in long)],
                [[peer, *(_rate(results, peer, *crowd) for crowd in long)] for peer in results.together()],
            ),
        ]
    parts += _counts(results)
    parts.append("; ".join(f"{name}: {PEERS[name].note}" for name in results.alone() if PEERS[name].note) + ".")
    parts += [f"Not measured: {name}, because {why}." for name, why in results.left_out.items()]
    versions = ", ".join(
        f"{name} {version}" for name, version in {"rollsafe": about["rollsafe"], **about["versions"]}.items()
    )
    parts.append(
        f"{about['python']}, {about['kernel']}, {about['cpus']} CPUs, load average {about['load']} at the start,"
        f" {versions}, {about['date']}. Format `{about['format']}`."
    )
    return "\n\n".join(parts) + "\n"


def _one_process(results: Results) -> str:
    """The table of one process."""
    turns = results.turns
    rows = []
    for peer in results.alone():
        figures = spread([1e6 * seconds for seconds in seconds_of(turns, peer, SMALL).values()])
        rows.append(
            [
                peer,
                f"{figures.middle:.2f}",
                f"{slower(turns, peer, FLOOR):.2f}",
                f"{slower(turns, peer, PLAIN):.2f}",
                f"{results.instructions[peer]:,.0f}" if peer in results.instructions else "",
            ]
        )
    return _table(["", "µs for a line", "times the floor", f"times {PLAIN}", "instructions"], rows)


def _by_size(results: Results, peer: str) -> list[str]:
    """One peer's line of the table by length."""
    return [peer, *(f"{1 / median(seconds_of(results.turns, peer, size).values()):,.0f}" for size in BATCHES)]


def _measured_crowds(results: Results) -> list[tuple[int, int]]:
    """(processes, characters) of the runs."""
    return sorted({(run.processes, run.size) for run in results.runs})


def _rate(results: Results, peer: str, processes: int, size: int) -> str:
    """Median of the lines a second; nothing if that was not measured."""
    found = rates(results.runs, peer, processes, size).values()
    return f"{median(found):,.0f}" if found else ""


def _crowds(results: Results) -> str:
    """The table of several processes."""
    runs = results.runs
    crowds = [processes for processes, size in _measured_crowds(results) if size == SMALL]
    rows = []
    for peer in results.together():
        logged, lost = logged_and_lost(runs, peer)
        row = [peer, *(_rate(results, peer, processes, SMALL) for processes in crowds)]
        row.append(f"{kept_pace(runs, peer):.2f}" if {FEW, MANY} <= set(crowds) else "")
        row += [
            f"{median(ratios(runs, peer, reference, FEW)):.2f}" if reference in results.together() else ""
            for reference in (STANDARD, CONCURRENT)
        ]
        row.append(f"{1e6 * cpu_per_line(runs, peer, FEW):.1f}")
        row.append(f"{lost:,} ({share(lost, logged)})" if lost else "0")
        rows.append(row)
    head = [
        "",
        *map(str, crowds),
        f"{MANY} / {FEW}",
        f"times {STANDARD}",
        f"times {CONCURRENT}",
        "CPU µs",
        "lines lost",
    ]
    return _table(head, rows)


def _counts(results: Results) -> list[str]:
    """What is said about system calls, and about what could not be counted."""
    parts = []
    if results.calls:
        rows = [
            [peer, f"{sum(calls.values()):.2f}", ", ".join(f"{number:.2f} {name}" for name, number in calls.items())]
            for peer, calls in results.calls.items()
        ]
        parts += [
            "**System calls for each line between two rollovers**",
            _table(["", "calls", "which"], rows),
            "`getpid` is what `logging` itself does for each record.",
        ]
    return parts + [f"Not counted: {what} ({why})." for what, why in results.not_counted.items()]


def _table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table whose columns are aligned."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in (head, rule, *rows)
    )


# Files.


def _figures(results: Results) -> dict[str, Any]:
    """All figures; those of the single runs included, and of one process the quartiles."""
    turns = results.turns
    return {
        "about": results.about,
        "goals": [asdict(goal) for goal in goals(turns, results.runs)],
        "where_we_lose": where_we_lose(turns, results.runs),
        "one_process": [
            {
                "peer": peer,
                "characters": size,
                "seconds_per_line": asdict(spread(list(seconds_of(turns, peer, size).values()))),
                "times_floor": slower(turns, peer, FLOOR, size=size),
                "times_FileHandler": slower(turns, peer, PLAIN, size=size),
            }
            for size in BATCHES
            for peer in results.alone()
        ],
        "several_processes": [asdict(run) for run in results.runs],
        "system_calls_per_line": results.calls,
        "instructions_per_line": results.instructions,
        "not_counted": results.not_counted,
        "not_measured": results.left_out,
    }


def _options(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Compare the speed of rollsafe with that of other ways to log."
    )
    parser.add_argument("--quick", action="store_true", help="a try: one short round, nothing counted")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, all peers in each (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of each run (default: %(default)s)")
    parser.add_argument(
        "--only", nargs="*", help="further peers, besides those of the comparison, by parts of their names"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/figures"), help="directory (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.rounds <= 0 or options.seconds <= 0:
        parser.error("--rounds and --seconds must be positive")
    if importlib.util.find_spec("matplotlib") is None:
        parser.error("matplotlib must be installed: pip install --group bench -e .")
    options.crowds = CROWDS
    options.often = OFTEN * options.rounds
    if options.quick:
        options.rounds, options.seconds, options.crowds = QUICK_ROUNDS, QUICK_SECONDS, QUICK_CROWDS
        options.often = options.rounds
    measures = (STANDARD, PLAIN, OURS)
    options.peers = [
        peer
        for peer in PEERS.values()
        if options.only is None
        or not peer.competes
        or peer.ours
        or peer.name in measures
        or any(part in peer.name for part in options.only)
    ]
    return options


if __name__ == "__main__":
    sys.exit(main())
