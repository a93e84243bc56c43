"""The recipes for RQ, Huey and Dramatiq, as the page has them: programs started by its commands, lines counted."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.celery_programs import suffix_of
from tests.support.needs import require_package
from tests.support.oracle import audit
from tests.support.redis_server import RedisServer
from tests.support.servers import ROOT, backups, server_environment, wait_until
from tests.support.snippets import snippets_in

PAGE = ROOT / "docs" / "how-to" / "task-queues.md"
LINE = re.compile(
    rb"(?P<created>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d{3} \[(?P<process>\d+)\] \[INFO\] \[(?P<id>[\w-]{32,36})\]"
    rb" (?P<stream>shop\.orders): order (?P<number>\d+) sent"
)
OTHER = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} \[\d+\] \[\w+\] \[[\w-]+\] (?!shop\.orders).*")
JOBS = """
import logging

def send_order(number):
    logging.getLogger("shop.orders").info("order %d sent", number)
"""
BATCH = 20
MOST = 100 * BATCH


@contextlib.contextmanager
def running(directory: Path, module: str, environment: Mapping[str, str]) -> Iterator[Path]:
    """Run a recipe of the page in a directory; the log, which rolls over each second."""
    snippets = snippets_in(PAGE.read_text(encoding="utf-8"), PAGE.name)
    at = next(number for number, each in enumerate(snippets) if each.info == f"python {module}.py")
    code = snippets[at].code.replace('when="midnight", backupCount=14', 'when="S"')
    assert 'when="S"' in code
    (directory / f"{module}.py").write_text(code, encoding="utf-8")
    [command] = [line[2:] for line in snippets[at + 1].code.splitlines() if line.startswith("$ ")]
    program, *arguments = shlex.split(command)
    with (directory / "output.txt").open("wb") as output:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name(program)), *arguments],
            cwd=directory,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield directory / f"{module.partition('_')[0]}.log"
            process.send_signal(signal.SIGINT)
            process.wait(120)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    print((directory / "output.txt").read_text(encoding="utf-8", errors="replace"), file=sys.stderr)


def send_until_it_rolls(directory: Path, live: Path, code: str, environment: Mapping[str, str]) -> int:
    """Send orders by `code`, until there are backups and lines of several processes; returns how many.

    Args:
        directory: Where the modules are.
        live: The log.
        code: A program with fields for the numbers of the first order and of the one after the last.
        environment: That of the program.
    """
    sent = 0
    while sent < 3 * BATCH or len(backups(live)) < 2 or len({match["process"] for match in orders_in(live)}) < 2:
        assert sent < MOST, "one process has taken all orders"
        program = code.format(first=sent, end=sent + BATCH)
        subprocess.run([sys.executable, "-c", program], cwd=directory, env=dict(environment), timeout=120, check=True)
        sent += BATCH
        wait_until(lambda wanted=sent: len(orders_in(live)) >= wanted, f"{sent} orders")  # type: ignore[misc]
    return sent


def orders_in(live: Path) -> list[re.Match[bytes]]:
    """The lines of the load."""
    files = [path for path in [*backups(live), live] if path.exists()]
    lines = [line for path in files for line in path.read_bytes().splitlines()]
    return [match for match in map(LINE.fullmatch, lines) if match is not None]


def check(live: Path, sent: int) -> None:
    """Each order is logged once, by a task of its own."""
    report = audit(live, {"shop.orders": sent}, suffix_of, pattern=LINE, moment=moment_of, notices=OTHER)
    assert report.flawless, report
    assert report.lines == sent
    assert len({match["id"] for match in orders_in(live)}) == sent


def moment_of(text: bytes) -> float:
    """The second of a line."""
    return time.mktime(time.strptime(text.decode(), "%Y-%m-%d %H:%M:%S"))


def environment_of(directory: Path, **more: str) -> dict[str, str]:
    """The environment of programs that find the modules of the directory."""
    environment = server_environment(more)
    return {**environment, "PYTHONPATH": os.pathsep.join([str(directory), environment["PYTHONPATH"]])}


@pytest.mark.slow
def test_huey(tmp_path: Path) -> None:
    require_package("huey")
    environment = environment_of(tmp_path)
    code = "from huey_tasks import send_order\nfor number in range({first}, {end}): send_order(number)"
    with running(tmp_path, "huey_tasks", environment) as live:
        sent = send_until_it_rolls(tmp_path, live, code, environment)
    check(live, sent)


@pytest.mark.slow
def test_rq(tmp_path: Path) -> None:
    require_package("rq")
    (tmp_path / "jobs.py").write_text(JOBS)
    code = (
        "import os\nfrom redis import Redis\nfrom rq import Queue\n"
        "queue = Queue(connection=Redis.from_url(os.environ['REDIS_URL']))\n"
        "for number in range({first}, {end}): queue.enqueue('jobs.send_order', number)"
    )
    with RedisServer() as redis:
        environment = environment_of(tmp_path, REDIS_URL=redis.url)
        with running(tmp_path, "rq_settings", environment) as live:
            sent = send_until_it_rolls(tmp_path, live, code, environment)
    check(live, sent)
    # One process for each job.
    assert len({match["process"] for match in orders_in(live)}) == sent


@pytest.mark.slow
def test_dramatiq(tmp_path: Path) -> None:
    require_package("dramatiq")
    code = "from dramatiq_tasks import send_order\nfor number in range({first}, {end}): send_order.send(number)"
    with RedisServer() as redis:
        environment = environment_of(tmp_path, REDIS_URL=redis.url)
        with running(tmp_path, "dramatiq_tasks", environment) as live:
            sent = send_until_it_rolls(tmp_path, live, code, environment)
    check(live, sent)
