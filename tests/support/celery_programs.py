"""Programs of Celery for tests: workers and beat as processes, and tasks that are sent to them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from celery import Celery

from tests.support.celery_app import ACKNOWLEDGED, ARGUMENTS, BROKER, RUNS_IN, SETTINGS, settings_of
from tests.support.oracle import Report, audit
from tests.support.servers import server_environment, wait_until

STOP_SECONDS = 120.0
CELERY = str(Path(sys.executable).with_name("celery"))
APP = ("-A", "tests.support.celery_app")
FILESYSTEM = "filesystem://localhost/"
FORMAT = "%(created).9f %(task_name)s[%(task_id)s] %(message)s"
# The stream of a line is the id of the task that logs it, so the id before it has to be the same.
LINE = re.compile(
    rb"(?P<created>\d+\.\d+) \w+\[(?P<stream>[\w-]+)\] (?P=stream) (?P<number>\d+) \d{5} [a-z]* [0-9a-f]{8}"
)
OTHER = re.compile(rb"\d+\.\d+ \S+\[\S+\] (?![\w-]{36} \d+ \d{5} ).*")
QUIET = ("--without-gossip", "--without-mingle", "--without-heartbeat")


class Project:
    """A directory with a broker, in which programs of Celery run.

    Args:
        directory: Where they run.
        install: The arguments of `rollsafe.celery.install`, None for no call of it.
        settings: Settings of the application.
        broker: The URL of the broker.
    """

    def __init__(
        self,
        directory: Path,
        install: Mapping[str, Any] | None,
        settings: Mapping[str, Any] | None = None,
        broker: str = FILESYSTEM,
    ) -> None:
        self.directory = directory
        self.sent: list[str] = []
        self._environment = server_environment({SETTINGS: json.dumps(dict(settings or {})), BROKER: broker})
        if install is not None:
            self._environment[ARGUMENTS] = json.dumps(dict(install))
        self._sender = Celery("sender", set_as_current=False, fixups=[])
        self._sender.conf.update(settings_of(broker, directory))
        for name in ("queue", "control", ACKNOWLEDGED, RUNS_IN):
            (directory / name).mkdir(exist_ok=True)

    def program(self, *arguments: str, name: str = "celery") -> Program:
        """A program with these arguments; `name` is that of the file with its output."""
        # `multi` passes its arguments on to workers.
        command = ("multi", *arguments[1:], *APP) if arguments[0] == "multi" else (*APP, *arguments)
        return Program(self.directory, command, self._environment, name)

    def worker(self, *arguments: str, pool: str = "prefork", processes: int = 2, name: str = "worker") -> Program:
        """A worker that is ready for tasks when the block begins."""
        options = ["--pool", pool, "--concurrency", str(processes), "--hostname", f"{name}@localhost", *QUIET]
        return self.program("worker", *options, *arguments, name=name)

    def send(self, task: str, *arguments: Any, **options: Any) -> str:
        """Send a task; returns its id."""
        options.setdefault("task_id", str(uuid.uuid4()))
        self._sender.send_task(task, args=arguments, **options)
        self.sent.append(options["task_id"])
        return str(options["task_id"])

    def acknowledged(self) -> dict[str, set[int]]:
        """The numbers whose logging call has returned, by task."""
        return {
            path.name: {int(number) for number in path.read_text(encoding="ascii").split("\n")[:-1]}
            for path in (self.directory / ACKNOWLEDGED).iterdir()
        }

    def have_logged(self, number: int) -> bool:
        """Whether the last line of each task that was sent has this number."""
        paths = [self.directory / ACKNOWLEDGED / task for task in self.sent]
        return all(path.exists() and path.read_bytes().endswith(b"\n%d\n" % number) for path in paths)

    def process_of(self, task: str) -> int:
        """The process id of the worker process that runs a task; waits for its first line."""
        wait_until(lambda: bool(self.acknowledged().get(task)), "a line of the task")
        return int((self.directory / RUNS_IN / task).read_text(encoding="ascii"))

    def wait_for_lines(self, count: int) -> None:
        """Wait until each task that was sent has logged so many lines."""

        def are_logged() -> bool:
            done = self.acknowledged()
            return all(len(done.get(task, ())) >= count for task in self.sent)

        wait_until(are_logged, f"{count} lines of each of {len(self.sent)} tasks")

    def audit(self, live: Path, kills: int = 0) -> Report:
        """What the oracle says of a log with lines of FORMAT, rolled each second."""
        return audit(live, self.acknowledged(), suffix_of, pattern=LINE, notices=OTHER, kills=kills)

    def close(self) -> None:
        """Close what the sender has open."""
        self._sender.close()


def suffix_of(created: float) -> str:
    """The backup suffix of when="S"."""
    return time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(created))


class Program:
    """A program of Celery: running while the block runs, and with no process of it left when the block ends."""

    def __init__(
        self, directory: Path, arguments: Sequence[str], environment: Mapping[str, str], name: str = "celery"
    ) -> None:
        self._directory = directory
        self._arguments = arguments
        self._environment = environment
        self._output_path = directory / f"{name}.out"

    def __enter__(self) -> Program:
        self._output_path.write_bytes(b"")
        self._start()
        return self

    def _start(self) -> None:
        with self._output_path.open("ab") as output:
            self._process = subprocess.Popen(
                # Not `python -m celery`: a worker that gets SIGHUP starts the file that it runs from again.
                [CELERY, *self._arguments],
                cwd=self._directory,
                env=dict(self._environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def revive(self) -> None:
        """Start it again if it has ended, as a supervisor does."""
        if self._process.poll() is not None:
            self._start()

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        try:
            self.stop()
        finally:
            self.kill()
            print(f"{' '.join(self._arguments)} wrote:\n{self.output}", file=sys.stderr)

    def stop(self) -> int:
        """SIGTERM, which lets tasks come to their end; the exit status."""
        self._process.terminate()
        return self.wait()

    def kill(self) -> None:
        """SIGKILL to all processes: a worker takes some seconds to end by itself."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def wait(self) -> int:
        """Wait for the end; the exit status."""
        return self._process.wait(STOP_SECONDS)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the first process."""
        self._process.send_signal(number)

    @property
    def pid(self) -> int:
        """The process id of the first process."""
        return self._process.pid

    @property
    def output(self) -> str:
        """What it has written on its standard streams."""
        return self._output_path.read_text(encoding="utf-8", errors="replace")

    @property
    def children(self) -> set[int]:
        """The process ids of the pool, by all threads that have forked."""
        pids: set[int] = set()
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            with contextlib.suppress(OSError):
                pids |= {int(pid) for pid in (task / "children").read_text(encoding="ascii").split()}
        return pids


def text_of(live: Path) -> str:
    """All lines of a log, the oldest file first."""
    return "".join(
        path.read_text(encoding="utf-8")
        for path in [*sorted(live.parent.glob(f"{live.name}.*")), live]
        if path.exists()
    )


@contextlib.contextmanager
def project(directory: Path, install: Mapping[str, Any] | None, **options: Any) -> Iterator[Project]:
    """A `Project` while the block runs."""
    made = Project(directory, install, **options)
    try:
        yield made
    finally:
        made.close()
