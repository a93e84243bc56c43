"""`rollsafe write` under load: several programs with a writer each, one file, rollovers, kills."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from datetime import datetime, timezone
from pathlib import Path

import pytest

from tests.support.load import suffix_of_seconds
from tests.support.oracle import audit, make_line, read_line
from tests.support.servers import backups, server_environment, wait_until
from tests.support.writing import COMMAND, LIMIT_S, writing

WRITERS = 4
BLOCK = 1 << 16

PROGRAM = """
import itertools, os, sys, time
from tests.support.oracle import make_line
stream, seconds, sizes = sys.argv[1], float(sys.argv[2]), [int(size) for size in sys.argv[3].split()]
end = time.monotonic() + seconds
number = 0
for size in itertools.cycle(sizes):
    if time.monotonic() > end:
        break
    lines = b""
    for _ in range(number % 40 + 1):
        lines += f"{time.time():.9f} {make_line(stream, number, size)}\\n".encode()
        number += 1
    while lines:
        lines = lines[os.write(1, lines):]
    time.sleep(0.002)
print(number, file=sys.stderr)
"""


def run_programs(live: Path, seconds: float, sizes: str) -> dict[str, int]:
    """Run some programs, each in a pipeline of its own, which write one file; how many lines each has written."""
    environment = server_environment()
    programs, writers = [], []
    for number in range(WRITERS):
        program = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, f"s{number}", str(seconds), sizes],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        options = [str(live), "--when", "S", "--utc"]
        writers.append(subprocess.Popen([*COMMAND, *options], env=environment, stdin=program.stdout))
        assert program.stdout
        program.stdout.close()
        programs.append(program)
    counts = {}
    for number, program in enumerate(programs):
        assert program.stderr
        counts[f"s{number}"] = int(program.stderr.read())
        program.stderr.close()
        assert program.wait(LIMIT_S) == 0
    assert [writer.wait(LIMIT_S) for writer in writers] == [0] * WRITERS
    return counts


def assert_kept(live: Path, counts: dict[str, int]) -> None:
    """Each line is there once and whole, in order, and in no file of an interval that was over when it was made.

    A line is in the file of the interval in which it was read, and that may be a later one than that of its time stamp.
    """
    report = audit(live, counts, suffix_of_seconds(1))
    assert set(report.faults()) <= {"misfiled"}, report
    last: dict[bytes, int] = {}
    for path in sorted(backups(live)):
        # Without the number of a part, in which a line is that was written long after it was read.
        suffix = path.name.removeprefix(f"{live.name}.").partition(".")[0]
        date = datetime.strptime(suffix, "%Y-%m-%d_%H-%M-%S")
        end = date.replace(tzinfo=timezone.utc).timestamp() + 1
        for line in path.read_bytes().splitlines(keepends=True):
            stamp = read_line(line)
            assert stamp
            assert float(stamp[0]) < end, (path.name, line[:80])
            assert int(stamp[2]) > last.get(stamp[1], -1), (path.name, line[:80])
            last[stamp[1]] = int(stamp[2])


def test_four_writers_of_one_file_keep_each_line_across_rollovers(live: Path) -> None:
    counts = run_programs(live, 1.5, "200 200 200 70000")
    assert min(counts.values()) > 10
    assert_kept(live, counts)


@pytest.mark.slow
def test_four_writers_of_one_file_keep_each_line_for_long(live: Path) -> None:
    counts = run_programs(live, 20, "1 200 200 4096 200 65536 200 300000")
    assert len(backups(live)) > 5
    assert_kept(live, counts)


@pytest.mark.slow
def test_a_killed_writer_loses_no_more_than_it_had_read_and_not_written(live: Path) -> None:
    """The pipe is kept by another process, as supervisors do, and the next writer reads on where the last has ended."""
    source, pipe = os.pipe()
    chance = random.Random(7)
    kills, done = 12, threading.Event()
    sent: list[bytes] = []

    def send() -> None:
        number = 0
        while not done.is_set():
            lines = b"".join(
                f"{time.time():.9f} {make_line('s', number + more, chance.choice((100, 200, 5000)))}\n".encode()
                for more in range(20)
            )
            number += 20
            sent.append(lines)
            while lines:
                lines = lines[os.write(pipe, lines) :]
        os.close(pipe)

    sender = threading.Thread(target=send)
    sender.start()
    for _ in range(kills):
        with writing(live, "--utc", ends=(source, pipe)) as program:
            before = size_of_all(live)
            wait_until(lambda before=before: size_of_all(live) > before + BLOCK, "it writes")  # type: ignore[misc]
            time.sleep(chance.random() / 10)
            program.process.kill()
    with writing(live, "--utc", ends=(source, pipe)) as program:
        done.set()
        sender.join()
        os.close(source)
        assert program.ended() == (0, "")
    places = {line: number for number, line in enumerate(b"".join(sent).splitlines(keepends=True))}
    files = [*sorted(backups(live)), live]
    found = [places.get(line, -1) for path in files for line in path.read_bytes().splitlines(keepends=True)]
    whole = [place for place in found if place >= 0]
    assert whole == sorted(set(whole))
    kept = set(whole)
    lost = [len(line) for line, place in places.items() if place not in kept]
    # For each kill a block, the unfinished line before it, and the lines through which the cut runs.
    assert sum(lost) <= kills * (BLOCK + 3 * 5100)


def size_of_all(live: Path) -> int:
    """Bytes of all files of the log."""
    return sum(path.stat().st_size for path in [*backups(live), live] if path.exists())
