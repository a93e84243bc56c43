"""What a line costs, in system calls: the same, whatever else there is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from bench.speed import STRACE, calls_per_line, read_strace_table

LINES = 300
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
for _ in range(lines):
    logger.info("a line")
for pid in children:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
"""


def calls_of(directory: Path, lines: int, *crowd: int) -> Counter[str]:
    """The system calls of the process (not of its workers) that writes so many lines in that company."""
    directory.mkdir()
    table = directory.with_suffix(".calls")
    # Without -f: what the background thread and the workers do is not done for a line.
    command = [STRACE[0], "-c", "-o", str(table), sys.executable, "-c", WRITES_LINES, str(directory / "app.log")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([*command, str(lines), *map(str, crowd)], env=environment, check=True, timeout=120)
    return read_strace_table(table.read_text())


@pytest.mark.skipif(shutil.which(STRACE[0]) is None, reason="strace is not installed")
@pytest.mark.parametrize(
    ("backups", "handlers", "workers"),
    [(0, 0, 0), (500, 0, 0), (0, 30, 0), (0, 0, 8)],
    ids=["alone", "500 backups", "30 other handlers", "8 other workers"],
)
def test_a_line_costs_one_write_whatever_else_there_is(
    tmp_path: Path, backups: int, handlers: int, workers: int
) -> None:
    once, twice = (calls_of(tmp_path / str(lines), lines, backups, handlers, workers) for lines in (LINES, 2 * LINES))
    shares = calls_per_line(once, twice, LINES)
    # Of the background thread, which takes its turns meanwhile.
    shares.pop("futex", None)
    # getpid is logging's own, for the record; now and then a lease is renewed.
    assert {name: round(share, 1) for name, share in shares.items() if share > 0.1} == {"getpid": 1.0, "write": 1.0}
