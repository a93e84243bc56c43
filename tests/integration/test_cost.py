"""What a line costs, in system calls and in work of Python: the same, whatever else there is."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from bench.speed import STRACE, calls_per_line
from rollsafe import LineFormatter, SafeTimedRotatingFileHandler
from tests.support.needs import needs_command
from tests.support.servers import run_program

LINES = 300
REPEATS = 20
WRITES_LINES = """
import logging, os, signal, sys, time
from rollsafe import LineFormatter, SafeTimedRotatingFileHandler
live, lines, backups, handlers, workers = sys.argv[1], *map(int, sys.argv[2:])
for age in range(backups):
    open(time.strftime(f"{live}.%Y-%m-%d", time.gmtime(1e9 - age * 86400)), "w").close()
others = [SafeTimedRotatingFileHandler(f"{live}.{number}.other", "D") for number in range(handlers)]
handler = SafeTimedRotatingFileHandler(live, "D", backupCount=1000, utc=True)
handler.setFormatter(LineFormatter("%(asctime)s %(message)s"))
logger = logging.Logger("cost")
logger.addHandler(handler)
logger.info("the first line takes the lease")
while not handler._live.maintenance.is_idle:
    time.sleep(0.01)  # its thread looks through the backups once, at the start
children = []
for _ in range(workers):
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        logger.info("a worker that has the file open")
        os.write(writer, b".")
        signal.pause()
    os.read(reader, 1)
    children.append(pid)
try:
    os.write(-1, b"the lines begin")  # for the trace
except OSError:
    pass
for _ in range(lines):
    logger.info("a line")
for pid in children:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
"""


def calls_of(directory: Path, lines: int, *crowd: int) -> Counter[str]:
    """The system calls of the process (not of its workers) that writes so many lines in that company, and ends."""
    directory.mkdir()
    calls = directory.with_suffix(".calls")
    # Without -f: what the workers do is not done for a line.
    command = [STRACE[0], "-o", str(calls), sys.executable, "-c", WRITES_LINES, str(directory / "app.log")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([*command, str(lines), *map(str, crowd)], env=environment, check=True, timeout=120)
    _, counted = calls.read_text().split("the lines begin")
    return Counter(re.findall(r"^(\w+)\(", counted, re.MULTILINE))


@needs_command(STRACE[0], package="strace")
@pytest.mark.parametrize(
    ("backups", "handlers", "workers"),
    [(0, 0, 0), (100, 0, 0), (0, 30, 0), (0, 0, 8)],
    ids=["alone", "100 backups", "30 other handlers", "8 other workers"],
)
def test_a_line_costs_one_write_whatever_else_there_is(
    tmp_path: Path, backups: int, handlers: int, workers: int
) -> None:
    once, twice = (calls_of(tmp_path / str(lines), lines, backups, handlers, workers) for lines in (LINES, 2 * LINES))
    shares = calls_per_line(once, twice, LINES)
    # getpid is logging's own, for the record; lseek asks where the line ended; now and then a lease is renewed.
    assert {name: round(share, 1) for name, share in shares.items() if share > 0.1} == {
        "getpid": 1.0,
        "lseek": 1.0,
        "write": 1.0,
    }


COUNTS = """
import pathlib, sys
from tests.integration.test_cost import instructions_per_line
live, backups, handlers = sys.argv[1:]
print(*instructions_per_line(pathlib.Path(live), int(backups), int(handlers)))
"""

COUNTS_ONE = """
from tests.integration.test_cost import instructions_of
print(instructions_of(lambda: None))
"""


def instructions_of(call: Callable[[], object]) -> int:
    """How many instructions of Python this thread executes in a call."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def instructions_per_line(live: Path, backups: int, handlers: int) -> tuple[int, int]:
    """What a line takes while its lease lasts, and what one takes that renews it, in that company."""
    live.parent.mkdir()
    for age in range(backups):
        live.with_name(f"{live.name}.{time.strftime('%Y-%m-%d', time.gmtime(1e9 - age * 86400))}").touch()
    with ExitStack() as stack:
        for number in range(handlers):
            other = stack.enter_context(closing(SafeTimedRotatingFileHandler(f"{live}.{number}.other", "D")))
            other.handle(logging.makeLogRecord({"msg": "a line of another log"}))
        handler = stack.enter_context(closing(SafeTimedRotatingFileHandler(live, "D", backupCount=1000, utc=True)))
        handler.setFormatter(LineFormatter("%(asctime)s %(message)s"))
        logger = logging.Logger("cost")
        logger.addHandler(handler)

        def log() -> None:
            logger.info("a line")

        # The least of several, because now and then a second begins or a lease ends.
        leased = min(instructions_of(log) for _ in range(REPEATS))
        renewing = []
        for _ in range(REPEATS):
            handler._file.expire_lease()
            renewing.append(instructions_of(log))
        return leased, min(renewing)


@pytest.mark.parametrize(("backups", "handlers"), [(100, 0), (0, 30)], ids=["100 backups", "30 other handlers"])
def test_a_line_costs_the_same_work_whatever_else_there_is(tmp_path: Path, backups: int, handlers: int) -> None:
    if not int(run_program(COUNTS_ONE)):
        pytest.skip(f"Python {sys.version.split()[0]} tells a trace function of no instruction")
    # Each in a process of its own, so that nothing that other tests have left counts.
    alone = [int(count) for count in run_program(COUNTS, tmp_path / "alone" / "app.log", 0, 0).split()]
    crowd = [int(count) for count in run_program(COUNTS, tmp_path / "crowd" / "app.log", backups, handlers).split()]
    assert 0 < alone[0] < alone[1], "a renewal is more work"
    assert crowd == alone
