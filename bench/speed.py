"""How fast the peers log: one process, several of them on one file, system calls and instructions for each line.

The machine's load changes from moment to moment, so two peers are compared only within one round, in which all run
one after the other, each round in another order; the ratios of the rounds are then summed up by their median.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import inf
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median

from bench.measuring import shuffled
from bench.peers import (
    CONCURRENT,
    NULL,
    OURS,
    OURS_STANDARD,
    PEERS,
    PLAIN,
    STANDARD,
    STANDARDS,
    WRITE,
    Logging,
    Peer,
    Setting,
    message,
)

# Characters in a message, and the number of messages in one batch of one process. It is large enough that the first
# lines, which find the caches filled by another peer, do not matter.
BATCHES = {80: 1000, 1024: 1000, 65536: 10}
SMALL, MIDDLE, LARGE = sorted(BATCHES)
FEW, MANY = 4, 64
# (processes, characters in a message)
CROWDS = (*((processes, size) for size in (SMALL, MIDDLE) for processes in (2, FEW, 16, MANY)), (FEW, LARGE))

# Lines between two looks at the clock.
BATCH = 20
# Seconds that the processes of one run may take to get ready, and then to finish.
PATIENCE = 60.0
# Seconds that one may take to hand over what it has logged: eight gigabytes of long lines go through a queue's pipe.
LONG_PATIENCE = 600.0
# Seconds from when all processes of a run are ready to their common start: begun one by one, and ended likewise, they
# would not all run together for a part of the time.
BEFOREHAND = 0.1
# Batches between two truncations of the files.
KEEP = 20
# Calls and instructions are counted over this many lines; a call below the tolerance is the lease, or memory.
COUNTED_LINES = 500
TOLERANCE = 0.02
# How strace -c is started, and in which columns of its table the calls and their name are.
STRACE = ("strace", "-f", "-c", "-o")
CALLS, NAME = 3, -1
CALLGRIND = ("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null")
COLLECTED = re.compile(r"Collected : (\d+)")

_COUNTED = (
    "import sys, pathlib, bench.peers;"
    "bench.peers.write_lines(bench.peers.PEERS[sys.argv[1]], pathlib.Path(sys.argv[2]), int(sys.argv[3]))"
)


# One process.


@dataclass(frozen=True)
class Turn:
    """The result of one peer alone in one round.

    Attributes:
        size: Characters in each message.
        seconds: For one line.
    """

    round: int
    size: int
    peer: str
    seconds: float


def measure_alone(peers: Sequence[Peer], rounds: int) -> Iterator[Turn]:
    """Let all peers log a batch in each round, in one process, and yield what they took."""
    for size, lines in BATCHES.items():
        text = message(size)
        with ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="speed-")))
            crew = []
            for number, peer in enumerate(peers):
                logging_ = peer.start(Setting(directory / f"{number}.log", size=size))
                stack.callback(logging_.end)
                crew.append((peer.name, logging_))
            for turn in range(-1, rounds):
                for name, logging_ in shuffled(crew, turn):
                    info = logging_.info
                    begun = time.perf_counter()
                    for _ in range(lines):
                        info(text)
                    logging_.settle()
                    elapsed = time.perf_counter() - begun
                    if turn >= 0:  # the one before warms up
                        yield Turn(turn, size, name, elapsed / lines)
                if turn % KEEP == 0:
                    for file in directory.glob("[0-9]*.log"):
                        os.truncate(file, 0)


# Several processes.


@dataclass(frozen=True)
class Run:
    """The result of one peer with several processes on one file in one round.

    Attributes:
        rate: Lines a second, all processes together.
        cpu: Processor seconds of all processes together; the waits for other processes are not in it.
        logged: Lines given to the peer.
        found: Lines in the live file and all its backups afterwards.
    """

    round: int
    processes: int
    size: int
    peer: str
    rate: float
    cpu: float
    logged: int
    found: int


def measure_together(
    peers: Sequence[Peer], crowds: Sequence[tuple[int, int]], rounds: Iterable[int], seconds: float
) -> Iterator[Run]:
    """Run all peers in each round, each time in another order, and yield what they did."""
    for turn in rounds:
        for processes, size in crowds:
            for peer in shuffled(peers, (turn, processes, size)):
                yield run_once(peer, processes, seconds, turn, size)


def run_once(peer: Peer, processes: int, seconds: float, turn: int = 0, size: int = SMALL) -> Run:
    """Log flat out through `peer` for `seconds`, with a rollover each second, in a directory of its own.

    Raises:
        RuntimeError: A process did not come to its end.
    """
    context = multiprocessing.get_context("fork")
    start = context.Value("d", inf)

    def agree() -> None:
        start.value = time.monotonic() + BEFOREHAND

    barrier = context.Barrier(processes, agree)
    with tempfile.TemporaryDirectory(prefix="speed-") as directory:
        setting = Setting(Path(directory) / "app.log", "S", size, processes)
        spent = time.process_time()
        shared = peer.start(setting) if peer.shared else None
        crew = []
        for _ in range(processes):
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_write, args=(peer, shared, setting, seconds, barrier, start, sender))
            process.start()
            # Ours is closed before the next fork, so that the end of the process is the end of the pipe.
            sender.close()
            crew.append((process, receiver))
        try:
            results = [_result(receiver, peer, seconds) for _, receiver in crew]
        finally:
            for process, receiver in crew:
                receiver.close()
                process.join(LONG_PATIENCE)
                process.kill()
                process.join()
            if shared:
                shared.end()
        # Who hands its lines to another process is not done before that one is.
        ended = time.monotonic() if shared else start.value + seconds
        found = sum(_count_lines(file) for file in setting.live.parent.glob("app*"))
    logged = sum(one.lines for one in results)
    rate = logged / (ended - start.value)
    cpu = sum(one.cpu for one in results) + (time.process_time() - spent if shared else 0.0)
    return Run(turn, processes, size, peer.name, rate, cpu, logged, found)


def _count_lines(file: Path) -> int:
    """Lines with something in them; one at a time, as there are gigabytes of long lines."""
    with file.open("rb") as lines:
        return sum(line != b"\n" for line in lines)


@dataclass(frozen=True)
class _Result:
    """The result of one process of a run: lines, and processor seconds."""

    lines: int
    cpu: float


def _write(
    peer: Peer,
    shared: Logging | None,
    setting: Setting,
    seconds: float,
    barrier: Barrier,
    start: Synchronized[float],
    sender: Connection,
) -> None:
    """One process of a run: log from the common start (monotonic clock) until time is up, and tell about it."""
    # The standard handler reports each rollover at which another process was first; the lines are counted anyway.
    logging.raiseExceptions = False
    logging_ = shared or peer.start(setting)
    info, text = logging_.info, message(setting.size)
    # The first line makes what the others find.
    info(text)
    lines = 1
    barrier.wait(PATIENCE)
    time.sleep(max(start.value - time.monotonic(), 0.0))
    cpu = time.process_time()
    deadline = start.value + seconds
    while time.monotonic() < deadline:
        for _ in range(BATCH):
            info(text)
        lines += BATCH
    cpu = time.process_time() - cpu
    if not shared:
        logging_.end()
    sender.send(_Result(lines, cpu))


def _result(receiver: Connection, peer: Peer, seconds: float) -> _Result:
    """The result that one process has sent."""
    try:
        if receiver.poll(seconds + 2 * PATIENCE):
            result: _Result = receiver.recv()
            return result
    except EOFError:
        pass
    raise RuntimeError(f"a process that logged through {peer.name!r} did not come to its end; see its traceback above")


# System calls and instructions.


class NoTrace(Exception):
    """This cannot be counted here; the text says why."""


def system_calls(peer: Peer) -> dict[str, float]:
    """System calls for each line in the steady state, by name, the most frequent first.

    One process writes N lines and another one 2 N: in the difference, what starting and ending cost cancels out.

    Raises:
        NoTrace: strace(1) is missing or not permitted.
    """
    with tempfile.TemporaryDirectory(prefix="speed-") as directory:
        table = Path(directory) / "calls"
        once, twice = (_table_of(peer, lines, table) for lines in (COUNTED_LINES, 2 * COUNTED_LINES))
    return calls_per_line(once, twice, COUNTED_LINES)


def _table_of(peer: Peer, lines: int, table: Path) -> Counter[str]:
    """The system calls of a process that writes `lines` lines."""
    _counted([*STRACE, str(table)], peer, lines)
    return read_strace_table(table.read_text())


def instructions(peer: Peer) -> float:
    """Instructions of the process (not of the kernel) for each line in the steady state.

    Raises:
        NoTrace: valgrind(1) is missing, or does not work here.
    """
    counts = []
    for lines in (COUNTED_LINES, 2 * COUNTED_LINES):
        collected = COLLECTED.search(_counted(CALLGRIND, peer, lines))
        if collected is None:
            raise NoTrace("callgrind did not say what it collected")
        counts.append(int(collected[1]))
    return (counts[1] - counts[0]) / COUNTED_LINES


def _counted(counter: Sequence[str], peer: Peer, lines: int) -> str:
    """Run a process that writes `lines` lines under a counting tool; returns what that says on standard error."""
    if shutil.which(counter[0]) is None:
        raise NoTrace(f"{counter[0]} is not installed")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [os.getcwd(), *sys.path]))}
    # Hashes of strings decide how dictionaries collide, which is some instructions more or less.
    environment["PYTHONHASHSEED"] = "0"
    with tempfile.TemporaryDirectory(prefix="speed-") as directory:
        command = [*counter, sys.executable, "-c", _COUNTED, peer.name, f"{directory}/app.log", str(lines)]
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE
            )
        except subprocess.TimeoutExpired:
            raise NoTrace(f"it took longer than {PATIENCE:g} s under {counter[0]}") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise NoTrace(f"{counter[0]} ended with exit code {done.returncode}: {last}")
    return done.stderr


def calls_per_line(once: Counter[str], twice: Counter[str], lines: int) -> dict[str, float]:
    """The calls by which `twice` exceeds `once`, for each of `lines`; what is rarer than TOLERANCE is left out."""
    shares = {name: (twice[name] - once[name]) / lines for name in twice}
    ordered = sorted(shares.items(), key=lambda item: (-item[1], item[0]))
    return {name: share for name, share in ordered if share >= TOLERANCE}


def read_strace_table(text: str) -> Counter[str]:
    """The number of calls by name, from the table that strace -c prints."""
    calls: Counter[str] = Counter()
    for row in text.splitlines():
        cells = row.split()
        if len(cells) > CALLS and cells[CALLS].isdigit() and cells[NAME] != "total":
            calls[cells[NAME]] += int(cells[CALLS])
    return calls


# Arithmetic.


@dataclass(frozen=True)
class Spread:
    """The figures of the rounds, summed up."""

    middle: float
    least: float
    most: float


def spread(figures: Sequence[float]) -> Spread:
    """Median, minimum and maximum."""
    return Spread(median(figures), min(figures), max(figures))


def seconds_of(turns: Sequence[Turn], peer: str, size: int) -> dict[int, float]:
    """Seconds for one line of a peer alone, by round."""
    return {turn.round: turn.seconds for turn in turns if turn.peer == peer and turn.size == size}


def slower(turns: Sequence[Turn], peer: str, *references: str, size: int = SMALL) -> float:
    """How many times as long as all of `references` together the peer takes: the median of the rounds."""
    bases = [seconds_of(turns, reference, size) for reference in references]
    return median(
        seconds / sum(base[turn] for base in bases) for turn, seconds in seconds_of(turns, peer, size).items()
    )


def rates(runs: Sequence[Run], peer: str, processes: int, size: int = SMALL) -> dict[int, float]:
    """Lines a second of a peer with several processes, by round."""
    return {run.round: run.rate for run in runs if (run.peer, run.processes, run.size) == (peer, processes, size)}


def cpu_per_line(runs: Sequence[Run], peer: str, processes: int) -> float:
    """Processor seconds for each line of a peer: the median of the rounds."""
    return median(
        run.cpu / run.logged for run in runs if (run.peer, run.processes, run.size) == (peer, processes, SMALL)
    )


def ratios(runs: Sequence[Run], peer: str, reference: str, processes: int, size: int = SMALL) -> list[float]:
    """How many times as fast as `reference` the peer was in each round, pair by pair."""
    references = rates(runs, reference, processes, size)
    return [rate / references[turn] for turn, rate in rates(runs, peer, processes, size).items() if turn in references]


def worst_row(turns: Sequence[Turn], runs: Sequence[Run]) -> tuple[float, str]:
    """The row of short lines in which LineFormatter comes closest to a standard handler, or is slower.

    Returns:
        The time of a line of ours by that of the handler, and the row and the handler in words.
    """
    names = {turn.peer for turn in turns} | {run.peer for run in runs}
    short = [turn for turn in turns if turn.size != LARGE], [run for run in runs if run.size != LARGE]
    return max(
        (1 / factor, f"{where}, {other}")
        for other in STANDARDS
        if other in names
        for where, factor in _factors(*short, OURS, other)
    )


def kept_pace(runs: Sequence[Run], peer: str) -> float:
    """Lines a second with MANY processes as a share of those with FEW: the median of the rounds."""
    few, many = rates(runs, peer, FEW), rates(runs, peer, MANY)
    return median(many[turn] / few[turn] for turn in many)


def logged_and_lost(runs: Sequence[Run], peer: str, processes: int | None = None) -> tuple[int, int]:
    """Lines that a peer was given in all rounds, and how many of them were in no file afterwards."""
    its = [run for run in runs if run.peer == peer and processes in (None, run.processes)]
    logged = sum(run.logged for run in its)
    return logged, logged - sum(run.found for run in its)


def share(part: int, whole: int) -> str:
    """A part of a whole in per cent, never rounded to nothing or to all of it."""
    percent = 100 * part / whole if whole else 0.0
    if part and percent < 0.1:
        return "less than 0.1 %"
    if part != whole and percent > 99.9:
        return "more than 99.9 %"
    return f"{percent:.1f} %"


def in_processes(processes: int) -> str:
    """A number of processes, in words."""
    return f"{processes} process" if processes == 1 else f"{processes} processes"


def where_we_lose(turns: Sequence[Turn], runs: Sequence[Run]) -> str:
    """Every peer that was faster than rollsafe, by the median of the rounds, in sentences."""
    names = {turn.peer for turn in turns} | {run.peer for run in runs}
    others = [peer.name for peer in PEERS.values() if peer.competes and not peer.ours and peer.name in names]
    found = []
    for ours in (peer.name for peer in PEERS.values() if peer.ours and peer.name in names):
        faster = [
            f"{other} by {100 * (1 - factor):.1f} % {where}"
            for other in others
            for where, factor in _factors(turns, runs, ours, other)
            if factor < 1
        ]
        if faster:
            found.append(f"{ours} was slower than " + ", ".join(faster) + ".")
    return "\n".join(found) if found else "No peer was faster than rollsafe."


def _factors(turns: Sequence[Turn], runs: Sequence[Run], ours: str, other: str) -> Iterator[tuple[str, float]]:
    """Where they were compared, in words, and how many times as fast we were there."""
    for size in sorted({turn.size for turn in turns}):
        if seconds_of(turns, ours, size) and seconds_of(turns, other, size):
            yield f"in 1 process at {size} characters", 1 / slower(turns, ours, other, size=size)
    for processes, size in sorted({(run.processes, run.size) for run in runs}):
        pairs = ratios(runs, ours, other, processes, size)
        if pairs:
            yield f"in {in_processes(processes)} at {size} characters", median(pairs)


@dataclass(frozen=True)
class Goal:
    """One figure that was to be reached."""

    what: str
    wanted: str
    figure: float
    reached: bool


def goals(turns: Sequence[Turn], runs: Sequence[Run]) -> list[Goal]:
    """The figures that rollsafe is to reach, and whether it did in this run."""
    found = []
    apart = slower(turns, OURS, NULL, WRITE)
    plain = slower(turns, OURS_STANDARD, PLAIN)
    found.append(
        Goal(
            "1 process, LineFormatter: time of a line / null handler and bare write, each measured alone",
            "at most 1.30",
            apart,
            apart <= 1.30,
        )
    )
    if seconds_of(turns, OURS, LARGE):
        long = slower(turns, OURS, PLAIN, size=LARGE)
        found.append(
            Goal(
                f"1 process, LineFormatter, {LARGE} characters: time of a line / {PLAIN}",
                "at most 1.10",
                long,
                long <= 1.10,
            )
        )
    worst, row = worst_row(turns, runs)
    found.append(
        Goal(
            f"each number of processes, {SMALL} and {MIDDLE} characters: time of a line / the fastest standard handler"
            f" (worst {row})",
            "at most 1.00",
            worst,
            worst <= 1.00,
        )
    )
    found.append(Goal(f"1 process, logging.Formatter: time of a line / {PLAIN}", "below 1", plain, plain < 1))
    if CONCURRENT in {run.peer for run in runs}:
        factor = median(ratios(runs, OURS, CONCURRENT, FEW))
        found.append(Goal(f"{FEW} processes: lines/s / {CONCURRENT}", "at least 9", factor, factor >= 9))
    factor = median(ratios(runs, OURS, STANDARD, FEW))
    found.append(Goal(f"{FEW} processes: lines/s / {STANDARD}", "at least 1.35", factor, factor >= 1.35))
    if any(run.processes == MANY for run in runs):
        ours, plain = kept_pace(runs, OURS), kept_pace(runs, PLAIN)
        wanted = f"at least {plain:.2f}, as {PLAIN}"
        found.append(Goal(f"lines/s with {MANY} processes / with {FEW}", wanted, ours, ours >= plain))
    return found
