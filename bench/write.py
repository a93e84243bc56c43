"""`rollsafe write` beside other programs that log their standard input: speed, kills, a full disk, several writers.

    python -m bench.write [--rounds 3] [--lines 1000000] [--out docs/figures]

It takes about four minutes; docs/figures/write.md is its output. The full disk needs root.
"""

from __future__ import annotations

import mmap
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import pytest

from bench.measuring import parser_of, shuffled, write
from tests.support.mounts import mounted

LINE: Final = 100
"""Bytes of a line."""
WRITERS: Final = 4
KILLS: Final = 5
LOAD_S: Final = 1.0

# Writes lines until it is killed, or for some seconds; how many, it says in shared memory after each write(2).
PROGRAM: Final = """
import mmap, sys, os, time
stream, counter = sys.argv[1:3]
seconds, pause, batch = float(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])
with open(counter, "r+b") as file:
    memory = memoryview(mmap.mmap(file.fileno(), 8)).cast("Q")
end, number = time.monotonic() + seconds, 0
while time.monotonic() < end:
    numbers = range(number, number + batch)
    lines = b"".join(b"%s %010d %s\\n" % (stream.encode(), each, b"x" * (87 - len(stream))) for each in numbers)
    while lines:
        written = os.write(1, lines)
        lines = lines[written:]
        memory[0] += written
    number += batch
    time.sleep(pause)
"""
LINE_PATTERN: Final = re.compile(rb"(\w+) (\d{10}) x+\n")


@dataclass(frozen=True)
class Logger:
    """A program that logs its standard input.

    Attributes:
        name: Its name in the tables.
        command: Its command for the files of a directory, with an interval of a day or of a second.
        files: The pattern of its files in that directory.
    """

    name: str
    command: Callable[[Path, bool], list[str]]
    files: str


LOGGERS: Final = (
    Logger(
        "rollsafe write",
        lambda path, is_short: [
            *(sys.executable, "-m", "rollsafe", "write", str(path / "log")),
            *(["--when", "S"] if is_short else []),
        ],
        "log*",
    ),
    Logger(
        "rotatelogs", lambda path, is_short: ["rotatelogs", str(path / "log"), "1" if is_short else "86400"], "log*"
    ),
    Logger("s6-log", lambda path, is_short: ["s6-log", "n1000", "s99999999", str(path)], "[@c]*"),
    Logger("cronolog", lambda path, is_short: ["cronolog", str(path / f"log.%Y-%m-%d{'-%H%M%S' * is_short}")], "log*"),
    Logger("cat >> file", lambda path, is_short: ["sh", "-c", f"exec cat >> {path / 'log'}"], "log*"),
)


def main(arguments: list[str] | None = None) -> None:
    """Measure each logger in turn, and write the tables."""
    parser = parser_of("write", __doc__, rounds=3, of="how often the speed of each is measured")
    parser.add_argument("--lines", type=int, default=1_000_000, help="lines a round (default: %(default)s)")
    options = parser.parse_args(arguments)
    loggers = [each for each in LOGGERS if shutil.which(each.command(Path(), False)[0])]
    missing = [each.name for each in LOGGERS if each not in loggers]
    with tempfile.TemporaryDirectory(prefix="rollsafe-bench-") as directory:
        base = Path(directory)
        speed = _speed(loggers, base, options.rounds, options.lines)
        kills = {each.name: _kept(each, base) for each in loggers}
    write(options.out, "write.md", _page(speed, kills, missing, options.rounds, options.lines))


# Speed.


@dataclass(frozen=True)
class Speed:
    """One measurement.

    Attributes:
        start: Seconds of the processor until the end of an empty input.
        memory: The resident memory of the process after a line, bytes.
        blocks: Seconds for one line of an input in blocks, without the start.
        single: Seconds of the logger's processor for one line of a program that writes each line by itself.
    """

    start: float
    memory: int
    blocks: float
    single: float


def _speed(loggers: list[Logger], base: Path, rounds: int, lines: int) -> dict[str, list[Speed]]:
    """Measure the speed of each, in turn and in changing order."""
    source = base / "source"
    with source.open("wb") as file:
        for number in range(lines):
            file.write(b"stream %010d %s\n" % (number, b"x" * (LINE - 19)))
    found: dict[str, list[Speed]] = {each.name: [] for each in loggers}
    for turn in range(rounds + 1):
        for each in shuffled(loggers, turn):
            empty = _timed(each, base, ["true"])
            blocks = _timed(each, base, ["cat", str(source)])
            few = lines // 10
            code = f"import os\nfor line in open({str(source)!r}, 'rb').readlines()[:{few}]: os.write(1, line)"
            single = _timed(each, base, [sys.executable, "-c", code])
            if turn:  # The first one fills the caches.
                found[each.name].append(
                    Speed(
                        empty[1],
                        _memory(each, base),
                        max(blocks[0] - empty[0], 1e-9) / lines,
                        max(single[1] - empty[1], 1e-9) / few,
                    )
                )
    source.unlink()
    return found


def _memory(logger: Logger, base: Path) -> int:
    """The resident memory of a logger that has logged a line, bytes."""
    path = Path(tempfile.mkdtemp(dir=base))
    source, pipe = os.pipe()
    with subprocess.Popen(logger.command(path, False), stdin=source) as process:
        os.close(source)
        os.write(pipe, b"x" * (LINE - 1) + b"\n")
        end = time.monotonic() + 5
        while not any(file.stat().st_size == LINE for file in path.glob(logger.files)) and time.monotonic() < end:
            time.sleep(0.01)
        fields = Path(f"/proc/{process.pid}/statm").read_text().split()
        os.close(pipe)
    shutil.rmtree(path)
    return int(fields[1]) * resource.getpagesize()


def _timed(logger: Logger, base: Path, program: list[str]) -> tuple[float, float]:
    """Log the output of a program; seconds, and seconds of the logger's processor."""
    path = Path(tempfile.mkdtemp(dir=base))
    begun = time.perf_counter()
    with subprocess.Popen(program, stdout=subprocess.PIPE) as running:
        process = subprocess.Popen(logger.command(path, False), stdin=running.stdout)
        assert running.stdout
        running.stdout.close()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = status
        seconds = time.perf_counter() - begun
    shutil.rmtree(path)
    return seconds, usage.ru_utime + usage.ru_stime


# What is kept.


@dataclass
class Kept:
    """What became of the lines of one case.

    Attributes:
        written: How many lines were written into the pipe.
        lost: How many of them are in no file.
        torn: How many pieces in the files are no whole line.
        ended: How many programs were ended, because their logger had ended.
    """

    written: int
    lost: int
    torn: int
    ended: int = 0

    def __str__(self) -> str:
        lost = f"{self.lost:,}" if self.lost or self.torn or self.ended else "**0**"
        torn = f", {self.torn:,} torn" if self.torn else ""
        ended = f"; {self.ended} of the programs ended by SIGPIPE" if self.ended else ""
        return f"{lost} of {self.written:,}{torn}{ended}"


class Counter:
    """The bytes that a program has written, in shared memory."""

    def __init__(self, base: Path) -> None:
        descriptor, self.path = tempfile.mkstemp(dir=base)
        os.write(descriptor, bytes(8))
        self._memory = memoryview(mmap.mmap(descriptor, 8)).cast("Q")
        os.close(descriptor)

    @property
    def lines(self) -> int:
        """Whole lines that were written."""
        return self._memory[0] // LINE


def _program(
    stream: str, seconds: float, counter: Counter, batch: int, pause: float, output: int
) -> subprocess.Popen[bytes]:
    """Start the program, which pauses so many seconds between two batches of lines."""
    arguments = [stream, counter.path, str(seconds), str(pause), str(batch)]
    # Some loggers end while it writes.
    return subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], stdout=output, stderr=subprocess.DEVNULL)


def _judge(path: Path, pattern: str, written: dict[str, int]) -> Kept:
    """Compare the files with what was written."""
    found: set[tuple[bytes, int]] = set()
    torn = 0
    for file in path.glob(pattern):
        for line in file.read_bytes().splitlines(keepends=True):
            match = LINE_PATTERN.fullmatch(line) if len(line) == LINE else None
            if match:
                found.add((match[1], int(match[2])))
            elif line.strip():
                torn += 1
    lost = sum((stream.encode(), number) not in found for stream, lines in written.items() for number in range(lines))
    return Kept(sum(written.values()), lost, torn)


def _kept(logger: Logger, base: Path) -> dict[str, str]:
    """All cases of one logger."""
    return {
        "the program is killed": str(_program_killed(logger, base)),
        f"the logger is killed {KILLS} times, and started again": str(_logger_killed(logger, base)),
        f"{WRITERS} writers of one log, a rollover each second": str(_several(logger, base)),
        "the disk is full for a while": _full_disk(logger, base),
    }


def _program_killed(logger: Logger, base: Path) -> Kept:
    """The program is killed by SIGKILL while it writes."""
    path, counter = Path(tempfile.mkdtemp(dir=base)), Counter(base)
    source, pipe = os.pipe()
    with subprocess.Popen(logger.command(path, False), stdin=source):
        os.close(source)
        with _program("a", 3600, counter, 777, 0, pipe) as program:
            os.close(pipe)
            _wait_for(counter, 500_000)
            program.kill()
    lines = counter.lines
    kept = _judge(path, logger.files, {"a": lines})
    # The unfinished line of the program is no fault of the logger.
    kept.torn = max(0, kept.torn - 1)
    return kept


def _logger_killed(logger: Logger, base: Path) -> Kept:
    """The logger is killed by SIGKILL and started again, while another process keeps the pipe, as supervisors do."""
    path, counter = Path(tempfile.mkdtemp(dir=base)), Counter(base)
    source, pipe = os.pipe()
    with _program("a", 3600, counter, 777, 0, pipe) as program:
        for _ in range(KILLS):
            with subprocess.Popen(logger.command(path, False), stdin=source) as running:
                _wait_for(counter, counter.lines + 200_000)
                running.kill()
        with subprocess.Popen(logger.command(path, False), stdin=source):
            _wait_for(counter, counter.lines + 200_000)
            program.kill()
            program.wait()
            os.close(pipe)
            os.close(source)
    return _judge(path, logger.files, {"a": counter.lines})


def _several(logger: Logger, base: Path) -> Kept:
    """Several programs, each with a logger of its own, write one log."""
    path = Path(tempfile.mkdtemp(dir=base))
    counters = {f"s{number}": Counter(base) for number in range(WRITERS)}
    started = []
    for stream, counter in counters.items():
        source, pipe = os.pipe()
        command = logger.command(path, True)
        started.append(subprocess.Popen(command, stdin=source, stderr=subprocess.DEVNULL))
        started.append(_program(stream, 3 * LOAD_S, counter, 777, 0.005, pipe))
        os.close(source)
        os.close(pipe)
    ends = [each.wait() for each in started]
    kept = _judge(path, logger.files, {stream: counter.lines for stream, counter in counters.items()})
    kept.ended = sum(code != 0 for code in ends[1::2])
    return kept


def _full_disk(logger: Logger, base: Path) -> str:
    """The disk is full for a while, and then has room again; or why that was not tried."""
    try:
        with mounted("tmpfs", size=64 << 20) as disk:
            counter = Counter(base)
            disk.fill(leave=1 << 20)
            source, pipe = os.pipe()
            command = logger.command(disk.logs, False)
            with (
                subprocess.Popen(command, stdin=source, stderr=subprocess.DEVNULL),
                _program("a", 4 * LOAD_S, counter, 50, 0.005, pipe) as program,
            ):
                os.close(pipe)
                os.close(source)
                time.sleep(2 * LOAD_S)
                with suppress(FileNotFoundError):
                    disk.release()
            kept = _judge(disk.logs, logger.files, {"a": counter.lines})
            kept.ended = int(program.returncode != 0)
            return str(kept)
    except pytest.skip.Exception as reason:
        return f"not tried: {reason}"


def _wait_for(counter: Counter, lines: int) -> None:
    """Wait until so many lines are written, or no more can be."""
    end = time.monotonic() + 20
    while counter.lines < lines and time.monotonic() < end:
        time.sleep(0.001)


# The page.


def _page(
    speed: dict[str, list[Speed]], kept: dict[str, dict[str, str]], missing: list[str], rounds: int, lines: int
) -> str:
    """All tables as Markdown."""
    names = list(speed)
    reference = [each.blocks for each in speed.get("rotatelogs", speed[names[0]])]
    rows = []
    for name in names:
        runs = speed[name]
        ratio = median(one.blocks / other for one, other in zip(runs, reference, strict=True))
        rows.append(
            f"| {name} | {1 / median(each.blocks for each in runs) / 1e6:.1f} | {ratio:.2f} |"
            f" {median(each.single for each in runs) * 1e6:.2f} | {median(each.start for each in runs) * 1000:.0f} |"
            f" {median(each.memory for each in runs) / (1 << 20):.0f} |"
        )
    cases = list(kept[names[0]])
    return "\n".join(
        [
            "# `rollsafe write` beside other loggers of standard input",
            "",
            f"Lines of {LINE} bytes; medians of {rounds} rounds of {lines:,} lines, and of the ratios within a round;"
            f" Python {sys.version.split()[0]}, {platform.system()} on {os.cpu_count()} processors;"
            " made by `python -m bench.write` in one run, with the packages of Debian 12.",
            *([f"Not installed: {', '.join(missing)}."] if missing else []),
            "",
            "## Speed",
            "",
            "| | million lines a second, in blocks | time of a line, times rotatelogs' |"
            " processor time of a line that the program writes by itself, µs | processor time of a start, ms |"
            " memory, MiB |",
            "|---|---:|---:|---:|---:|---:|",
            *rows,
            "",
            "The first two columns are without the start.",
            "",
            "## Lines that are lost",
            "",
            "Lost are lines whose write(2) into the pipe had returned in the program.",
            "Torn are pieces in the files that are no whole line, such as the two halves of a line.",
            "A killed logger loses what it has read and not written, and the next one begins within a line.",
            "",
            f"| | {' | '.join(cases)} |",
            "|---|" + "---:|" * len(cases),
            *(f"| {name} | {' | '.join(kept[name][case] for case in cases)} |" for name in names),
            "",
        ]
    )


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
