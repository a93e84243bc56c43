"""The program of a host that writes a log which other hosts write too: some processes with numbered lines.

    python -m tests.support.host_writers '{"path": "/mnt/app.log", "host": "a", ...}'

Each process prints its stream and the number of its lines after each one that is in the file, as the handler says. At
its end it prints a JSON object: its stream, how many lines it has logged, and what the handler has reported.
"""

from __future__ import annotations

import json
import logging
import os
import random
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from multiprocessing import Process
from pathlib import Path
from typing import Any

from rollsafe._live import live_path
from tests.support.constants import set_constants
from tests.support.crew import WatchedHandler, run_and_exit
from tests.support.oracle import LINE_FORMAT, make_line
from tests.support.servers import wait_until


@dataclass(frozen=True)
class Task:
    """What the processes of one host do."""

    path: str = ""
    """The live file."""
    host: str = ""
    """What the streams are named after."""
    seconds: float = 600.0
    writers: int = 2
    rate: float = 8.0
    """Lines a second of each process."""
    sizes: tuple[int, ...] = (60, 200, 1000, 6000)
    """Sizes of the messages in characters; one of them by chance for each line."""
    late: float = 0.0
    """Lines may be so many seconds late; every third is."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the handler."""
    until: str = "/run/end"
    """A local file that ends the processes earlier."""
    step: str = ""
    """A local file: the process logs its first line, and one each time that the file is removed."""
    foreign: bool = False
    """Whether one more process, another program, holds the live file open for writing."""
    broken: bool = False
    """Whether the handler holds the live file open for writing, appends to it without O_DSYNC, and drops no page."""

    def code(self, sources: Path) -> str:
        """A command of the shell that does it."""
        argument = shlex.quote(json.dumps(asdict(self)))
        python = f"PYTHONPATH=src:. {shlex.quote(sys.executable)}"
        return f"cd {shlex.quote(str(sources))} && {python} -m tests.support.host_writers {argument}"


def hold_like_another_program(path: str) -> None:
    """Have each live file open for writing until it is another one, and write nothing."""
    while True:
        with suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
            number = os.fstat(descriptor).st_ino
            with suppress(OSError):
                while os.stat(path).st_ino == number:
                    time.sleep(0.1)
            os.close(descriptor)


def break_handlers() -> None:
    """Have the handlers of this process treat a shared file as a local one but for the lock and fsync(2)."""
    set_constants(live_path, open_to_read=live_path.open_to_read_too)
    set_constants(live_path, open_to_append_through=live_path.open_to_read_too)
    # Before each write the handler looks for a fragment, finds the zeros of an old page, and has the page dropped.
    del os.posix_fadvise


def write(task: Task, stream: str) -> None:
    """Log numbered lines for some seconds, and see to it that they are written."""
    handler = WatchedHandler(task.path, **task.options)
    handler.setFormatter(logging.Formatter(LINE_FORMAT))
    chance = random.Random(stream)

    def all_written() -> bool:
        handler.flush()
        return not handler._writer.pending.waits

    number = 0
    for _ in _turns(task, chance):
        record = logging.makeLogRecord({"msg": make_line(stream, number, chance.choice(task.sizes))})
        if number % 3 == 2:
            record.created -= chance.uniform(0, task.late)
        handler.handle(record)
        number += 1
        if task.step:
            wait_until(all_written, "the line is written")
        if not handler._writer.pending.waits:
            print(stream, number, flush=True)
    wait_until(all_written, f"the lines of {stream} are written")
    if "compress" in task.options:
        wait_until(lambda: any(Path(task.path).parent.glob("*.gz")), "a backup is compressed")
    handler.close()
    print(json.dumps({"stream": stream, "logged": number, "reported": handler.reported}), flush=True)


def _turns(task: Task, chance: random.Random) -> Iterator[None]:
    """When a process logs a line."""
    end = time.monotonic() + task.seconds
    step, last = Path(task.step), Path(task.until)
    while time.monotonic() < end and not last.exists():
        yield
        if task.step:
            step.touch()
            wait_until(lambda: last.exists() or not step.exists(), "the next step")
        else:
            time.sleep(chance.uniform(0, 2 / task.rate))


def main(task: Task) -> None:
    """Run the processes; exits with 1 if one of them fails."""
    if task.broken:
        break_handlers()
    children = []
    other = Process(target=hold_like_another_program, args=(task.path,))
    if task.foreign:
        other.start()
    for number in range(task.writers):
        pid = os.fork()
        if pid == 0:
            run_and_exit(lambda: write(task, f"{task.host}{number}"))  # noqa: B023
        children.append(pid)
    failed = any([os.waitpid(child, 0)[1] for child in children])
    if task.foreign:
        other.kill()
        other.join()
    sys.exit(failed)


if __name__ == "__main__":
    main(Task(**json.loads(sys.argv[1])))
