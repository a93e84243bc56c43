"""How fast handlers write, several of them in turn, and the arithmetic of the comparison.

The machine's load changes from second to second, so two rates are compared only within one round, in which the peers
run directly one after the other; the ratios of the rounds are then summed up by their median.
"""

from __future__ import annotations

import logging
import logging.handlers
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median

FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
MESSAGE = "GET /orders/4711/items?page=2 answered 200 with 18342 bytes in 12.7 ms to client"
PROCESSES = (1, 4)
STANDARD = "TimedRotatingFileHandler"
CONCURRENT = "concurrent-log-handler"

# Lines between two looks at the clock.
BATCH = 20
# Seconds that the processes of one run may take to get ready, and then to finish.
PATIENCE = 60.0
# System calls are counted over this many lines; a share below the tolerance is the lease, once a second, or memory.
COUNTED_LINES = 1000
TOLERANCE = 0.02
# How strace -c is started, and in which columns of its table the calls and their name are.
STRACE = ("strace", "-f", "-c", "-o")
CALLS, NAME = 3, -1

_TRACED = (
    "import sys, pathlib, bench.speed;"
    "bench.speed.write_lines(bench.speed.PEERS[sys.argv[1]], pathlib.Path(sys.argv[2]), int(sys.argv[3]))"
)


class BareWrite(logging.Handler):
    """The floor: the line is formatted and given to one write(2); there is no rollover."""

    def __init__(self, live: Path) -> None:
        super().__init__()
        self._descriptor = os.open(live, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        os.write(self._descriptor, (self.format(record) + "\n").encode())

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
        super().close()


@dataclass(frozen=True)
class Peer:
    """One handler of the comparison, with its formatter.

    Attributes:
        name: As the tables show it.
        make: (live file, `when`) -> the handler; what does not roll over has no use for `when`.
        formatter: Makes the formatter from the format string.
        ours: Whether this is rollsafe.
        competes: False for the floor, which is a bound and does not do the work.
    """

    name: str
    make: Callable[[Path, str], logging.Handler]
    formatter: Callable[[str], logging.Formatter] = logging.Formatter
    ours: bool = False
    competes: bool = True


def _floor(live: Path, when: str) -> logging.Handler:
    """The bound that no handler in Python can pass."""
    return BareWrite(live)


def _plain(live: Path, when: str) -> logging.Handler:
    """The standard library's handler without rollover."""
    return logging.FileHandler(live)


def _standard(live: Path, when: str) -> logging.Handler:
    """The standard library's handler, which is not made for several processes."""
    return logging.handlers.TimedRotatingFileHandler(live, when=when)


def _concurrent(live: Path, when: str) -> logging.Handler:
    """The handler of concurrent-log-handler, which takes a lock for each line."""
    from concurrent_log_handler import ConcurrentTimedRotatingFileHandler

    handler: logging.Handler = ConcurrentTimedRotatingFileHandler(str(live), when=when)
    return handler


def _rollsafe(live: Path, when: str) -> logging.Handler:
    """The handler of this project."""
    from rollsafe import SafeTimedRotatingFileHandler

    return SafeTimedRotatingFileHandler(live, when=when)


def _line_formatter(fmt: str) -> logging.Formatter:
    """The formatter of this project."""
    from rollsafe import LineFormatter

    return LineFormatter(fmt)


PEERS = {
    peer.name: peer
    for peer in (
        Peer("floor: one bare write", _floor, competes=False),
        Peer("FileHandler (no rollover)", _plain),
        Peer(STANDARD, _standard),
        Peer(CONCURRENT, _concurrent),
        Peer("rollsafe", _rollsafe, ours=True),
        Peer("rollsafe + LineFormatter", _rollsafe, _line_formatter, ours=True),
    )
}


# Measuring.


@dataclass(frozen=True)
class Run:
    """What one peer did with one number of processes in one round.

    Attributes:
        rate: Lines a second, summed over the processes.
        cpu: Processor seconds of all processes together; the waits for other processes are not in it.
        logged: Lines given to the handlers.
        found: Lines in the live file and all its backups afterwards.
    """

    round: int
    processes: int
    peer: str
    rate: float
    cpu: float
    logged: int
    found: int


def measure(rounds: int, seconds: float) -> Iterator[Run]:
    """Run all peers in each round, each time in another order, and yield what they did."""
    peers = list(PEERS.values())
    for turn in range(rounds):
        first = turn % len(peers)
        for processes in PROCESSES:
            for peer in peers[first:] + peers[:first]:
                yield run_once(peer, processes, seconds, turn)


def run_once(peer: Peer, processes: int, seconds: float, turn: int = 0) -> Run:
    """Log flat out through `peer` for `seconds`, with a rollover each second, in a directory of its own.

    Raises:
        RuntimeError: A process did not come to its end.
    """
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(processes)
    with tempfile.TemporaryDirectory(prefix="speed-") as directory:
        live = Path(directory) / "app.log"
        crew = []
        for _ in range(processes):
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_write, args=(peer, live, seconds, barrier, sender))
            process.start()
            # Ours is closed before the next fork, so that the end of the process is the end of the pipe.
            sender.close()
            crew.append((process, receiver))
        try:
            told = [_result(receiver, peer, seconds) for _, receiver in crew]
        finally:
            for process, receiver in crew:
                receiver.close()
                process.join(PATIENCE)
                process.kill()
                process.join()
        found = _count_lines(live)
    rate = sum(lines / elapsed for lines, elapsed, _ in told)
    cpu = sum(cpu for _, _, cpu in told)
    return Run(turn, processes, peer.name, rate, cpu, sum(lines for lines, _, _ in told), found)


def write_lines(peer: Peer, live: Path, lines: int) -> None:
    """Write `lines` lines with no rollover in sight: the steady state."""
    logger = _logger(peer, live, "D")
    for _ in range(lines):
        logger.info(MESSAGE)


def _write(peer: Peer, live: Path, seconds: float, barrier: Barrier, sender: Connection) -> None:
    """One process of a run: log until time is up, and send the lines, the seconds and the processor seconds."""
    # The standard handler reports each rollover at which another process was first; the lines are counted anyway.
    logging.raiseExceptions = False
    logger = _logger(peer, live, "S")
    barrier.wait(PATIENCE)
    begun, cpu = time.monotonic(), time.process_time()
    deadline = begun + seconds
    lines = 0
    while time.monotonic() < deadline:
        for _ in range(BATCH):
            logger.info(MESSAGE)
        lines += BATCH
    elapsed, cpu = time.monotonic() - begun, time.process_time() - cpu
    for handler in logger.handlers:
        handler.close()
    sender.send((lines, elapsed, cpu))


def _logger(peer: Peer, live: Path, when: str) -> logging.Logger:
    """A logger whose only handler is the peer's."""
    handler = peer.make(live, when)
    handler.setFormatter(peer.formatter(FORMAT))
    logger = logging.Logger("shop.orders", logging.INFO)
    logger.addHandler(handler)
    return logger


def _result(receiver: Connection, peer: Peer, seconds: float) -> tuple[int, float, float]:
    """What one process sent."""
    try:
        if receiver.poll(seconds + 2 * PATIENCE):
            lines, elapsed, cpu = receiver.recv()
            return lines, elapsed, cpu
    except EOFError:
        pass
    raise RuntimeError(f"a process that logged through {peer.name!r} did not come to its end; see its traceback above")


def _count_lines(live: Path) -> int:
    """Lines in the live file and its backups; lock files have names of another form."""
    return sum(file.read_bytes().count(b"\n") for file in live.parent.glob(f"{live.name}*"))


# System calls.


class NoTrace(Exception):
    """System calls cannot be counted here; the text says why."""


def system_calls(peer: Peer) -> dict[str, float]:
    """System calls for each line in the steady state, by name, the most frequent first.

    One process writes N lines and another one 2 N: in the difference, what starting and ending cost cancels out.

    Raises:
        NoTrace: strace(1) is missing or not permitted.
    """
    if shutil.which(STRACE[0]) is None:
        raise NoTrace("strace is not installed")
    once, twice = (_traced(peer, lines) for lines in (COUNTED_LINES, 2 * COUNTED_LINES))
    return calls_per_line(once, twice, COUNTED_LINES)


def calls_per_line(once: Counter[str], twice: Counter[str], lines: int) -> dict[str, float]:
    """The calls by which `twice` exceeds `once`, for each of `lines`; what is rarer than TOLERANCE is left out."""
    shares = {name: (twice[name] - once[name]) / lines for name in twice}
    ordered = sorted(shares.items(), key=lambda item: (-item[1], item[0]))
    return {name: share for name, share in ordered if share >= TOLERANCE}


def read_strace_table(text: str) -> Counter[str]:
    """The number of calls by name, from the table that strace -c prints."""
    calls: Counter[str] = Counter()
    for line in text.splitlines():
        cells = line.split()
        if len(cells) > CALLS and cells[CALLS].isdigit() and cells[NAME] != "total":
            calls[cells[NAME]] += int(cells[CALLS])
    return calls


def _traced(peer: Peer, lines: int) -> Counter[str]:
    """The system calls of a process that writes `lines` lines."""
    with tempfile.TemporaryDirectory(prefix="speed-") as directory:
        table = Path(directory) / "calls"
        command = [*STRACE, str(table), sys.executable, "-c", _TRACED, peer.name, f"{directory}/app.log", str(lines)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [os.getcwd(), *sys.path]))}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise NoTrace(f"strace ended with exit code {done.returncode}: {last}")
        return read_strace_table(table.read_text())


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


def rates(runs: Sequence[Run], peer: str, processes: int) -> dict[int, float]:
    """Lines a second of a peer, by round."""
    return {run.round: run.rate for run in runs if run.peer == peer and run.processes == processes}


def cpu_per_line(runs: Sequence[Run], peer: str, processes: int) -> float:
    """Processor seconds for each line of a peer: the median of the rounds."""
    return median(run.cpu / run.logged for run in runs if run.peer == peer and run.processes == processes)


def ratios(runs: Sequence[Run], peer: str, reference: str, processes: int) -> list[float]:
    """How many times as fast as `reference` the peer was in each round, pair by pair."""
    references = rates(runs, reference, processes)
    return [rate / references[turn] for turn, rate in rates(runs, peer, processes).items()]


def logged_and_lost(runs: Sequence[Run], peer: str, processes: int) -> tuple[int, int]:
    """Lines that a peer was given in all rounds, and how many of them were in no file afterwards."""
    its = [run for run in runs if run.peer == peer and run.processes == processes]
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


def where_we_lose(runs: Sequence[Run]) -> str:
    """One sentence that names every peer that was faster than rollsafe, by the median of the rounds."""
    found = []
    for ours in (peer.name for peer in PEERS.values() if peer.ours):
        for processes in PROCESSES:
            for other in (peer.name for peer in PEERS.values() if peer.competes and not peer.ours):
                pairs = ratios(runs, ours, other, processes)
                if median(pairs) < 1:
                    behind = sum(ratio < 1 for ratio in pairs)
                    found.append(
                        f"{ours} was slower than {other} by {100 * (1 - median(pairs)):.1f} %"
                        f" in {in_processes(processes)} (behind in {behind} of {len(pairs)} rounds)"
                    )
    return "; ".join(found) + "." if found else "No peer was faster than rollsafe."


def what_the_speed_cost(runs: Sequence[Run]) -> str:
    """One sentence on the lines that were lost by the standard handler, which is the measure of the others."""
    processes = max(PROCESSES)
    logged, lost = logged_and_lost(runs, STANDARD, processes)
    if not lost:
        return f"The standard library's {STANDARD} lost no line in {in_processes(processes)} this time."
    return (
        f"The figure of the standard library's {STANDARD} in {in_processes(processes)} is that of a handler"
        f" that lost {share(lost, logged)} of its lines."
    )
