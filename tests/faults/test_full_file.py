"""A file that can grow no further (EFBIG), by the limit of the process or by that of the file system.

No interval ends while these tests run, except where a line is late: the next one that they use begins in 2033.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rollsafe import SafeTimedRotatingFileHandler
from rollsafe.tools.catalog import logs_at
from rollsafe.tools.verify import verify
from tests.support.logs import log

# Of a line of the program with its newline, and of a file; the lock file is smaller than that.
LINE = 85
LIMIT = 1500

PROGRAM = """
import ast, logging, resource, sys, time
from rollsafe import SafeTimedRotatingFileHandler

live, name, limit, ago, arguments = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

def write(number, width=80):
    record = logging.makeLogRecord({"msg": f"{name}{number:03} " + "x" * width})
    record.created = time.time() - int(ago)
    handler.handle(record)

handler = SafeTimedRotatingFileHandler(live, **{"when": "S", "interval": 10**9, **ast.literal_eval(arguments)})
"""


def start(live: Path, body: str, *, name: str = "", ago: int = 0, arguments: str = "{}") -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", PROGRAM + body, str(live), name, str(LIMIT), str(ago), arguments]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def run(live: Path, body: str, *, ago: int = 0, arguments: str = "{}") -> str:
    """Run the program; what it has written to standard error."""
    process = start(live, body, ago=ago, arguments=arguments)
    _, complaints = process.communicate(timeout=120)
    assert process.returncode == 0, complaints
    return complaints


def lines_of(live: Path) -> list[str]:
    """The lines of the program in all files, as numbers; what else is in them is a blank line or one of ours."""
    lines = [line for path in sorted(live.parent.glob("app.log*")) for line in path.read_text().splitlines()]
    ours = [line for line in lines if re.fullmatch(r"[a-d]?\d{3} x+", line)]
    assert not [line for line in lines if line.strip() and line not in ours and "rollsafe" not in line]
    return sorted(line.split()[0] for line in ours)


WRITE_ALL = """
for number in range(120):
    write(number)
logging.shutdown()
"""


@pytest.mark.parametrize("lock_writes", [False, True])
@pytest.mark.parametrize(("ago", "intervals"), [(0, {}), (7200, {"when": "H", "interval": 1})], ids=["live", "late"])
def test_a_full_file_is_followed_by_a_numbered_part(
    tmp_path: Path, lock_writes: bool, ago: int, intervals: dict[str, object]
) -> None:
    live = tmp_path / "app.log"
    live.touch()
    complaints = run(live, WRITE_ALL, ago=ago, arguments=repr({"lock_writes": lock_writes} | intervals))
    assert lines_of(live) == [f"{number:03}" for number in range(120)]
    files = [path for path in tmp_path.glob("app.log*") if path.stat().st_size]
    assert len(files) >= 120 * LINE // LIMIT
    assert max(path.stat().st_size for path in files) <= LIMIT
    assert complaints == ""


def test_several_processes_share_the_parts(tmp_path: Path) -> None:
    live = tmp_path / "app.log"
    # A machine may be so busy that a process waits for the lock in vain.
    until_all_is_written = "while handler._writer.pending.waits: handler.flush()\nlogging.shutdown"
    body = WRITE_ALL.replace("logging.shutdown", until_all_is_written)
    processes = [start(live, body, name=name) for name in "abcd"]
    complaints = [process.communicate(timeout=120)[1] for process in processes]
    assert lines_of(live) == sorted(f"{name}{number:03}" for name in "abcd" for number in range(120))
    assert not any("are lost" in complaint for complaint in complaints)


def test_many_lines_that_wait_fill_several_parts_at_once(tmp_path: Path) -> None:
    live = tmp_path / "app.log"
    body = """
handler._writer.pending.failing, handler._writer.pending.retry_at = True, float("inf")
handler._file.expire_lease()
for number in range(120):
    write(number)
assert len(handler._writer.pending.lines) == 120
logging.shutdown()
"""
    assert run(live, body) == ""
    assert lines_of(live) == [f"{number:03}" for number in range(120)]


@pytest.mark.parametrize("lock_writes", [False, True])
def test_a_line_that_fits_no_file_is_dropped_and_counted_and_stops_no_other(tmp_path: Path, lock_writes: bool) -> None:
    live = tmp_path / "app.log"
    body = """
write(1)
write(2, width=2000)
write(3)
logging.shutdown()
"""
    complaints = run(live, body, arguments=repr({"lock_writes": lock_writes}))
    assert lines_of(live) == ["001", "003"]
    assert "a line of 2005 bytes, with a limit of 1500 for a file" in complaints
    report = verify(logs_at([live]))
    assert report.found["dropped"] == 1
    assert not report.clean


def test_lines_wait_while_no_file_may_have_a_byte(tmp_path: Path) -> None:
    live = tmp_path / "app.log"
    body = """
write(1)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
for number in range(2, 10):
    write(number)
resource.setrlimit(resource.RLIMIT_FSIZE, (1500, resource.RLIM_INFINITY))
logging.shutdown()
"""
    complaints = run(live, body)
    assert lines_of(live) == [f"{number:03}" for number in range(1, 10)]
    assert complaints.count("File too large") == 1
    assert len(list(tmp_path.glob("app.log.*"))) <= 1


def test_lines_that_are_lost_at_the_end_are_counted(tmp_path: Path) -> None:
    live = tmp_path / "app.log"
    body = (
        """
def refuse(name):
    raise ValueError("no name")
handler.namer = refuse
"""
        + WRITE_ALL
    )
    complaints = run(live, body)
    kept = len(lines_of(live))
    assert kept == LIMIT // LINE
    assert f"{120 - kept} lines for {live} still wait in memory, and are lost if the process ends now" in complaints


def largest_size(path: Path) -> int:
    """The largest size that the file system allows a file to have."""
    least, most = 0, 1 << 63
    with path.open("wb") as file:
        while most - least > 1:
            middle = (least + most) // 2
            try:
                file.truncate(middle)
            except OSError:
                most = middle
            else:
                least = middle
    path.unlink()
    return least


@pytest.fixture
def handlers() -> Iterator[list[SafeTimedRotatingFileHandler]]:
    made: list[SafeTimedRotatingFileHandler] = []
    yield made
    for handler in made:
        handler.close()


def test_a_file_as_large_as_its_file_system_allows_is_followed_by_a_part(
    tmp_path: Path, handlers: list[SafeTimedRotatingFileHandler]
) -> None:
    live = tmp_path / "app.log"
    size = largest_size(tmp_path / "trial")
    handler = SafeTimedRotatingFileHandler(live, when="S", interval=10**9)
    handlers.append(handler)
    log(handler, "before")
    os.truncate(live, size)
    for number in range(3):
        log(handler, f"after {number}")
    assert live.read_text() == "after 0\nafter 1\nafter 2\n"
    assert [path.stat().st_size for path in tmp_path.glob("app.log.*")] == [size]
