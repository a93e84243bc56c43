"""A real web server in a subprocess: started, driven by client threads, stopped and reaped whatever happens."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TypeVar

ROOT = Path(__file__).resolve().parents[2]
GUNICORN = (sys.executable, "-m", "gunicorn")
STOP_SECONDS = 60.0

SIGNAL_WHILE_LOOP_CLOSES = re.compile(
    r"Exception ignored when trying to write to the signal wakeup fd:\n"
    r"Traceback \(most recent call last\):\n"
    r"  File \".*/asyncio/unix_events\.py\", line \d+, in _sighandler_noop\n"
    r"    def _sighandler_noop\(signum, frame\):\n"
    r"(?:[ ^]*\n)?"
    r"OSError: \[Errno 9\] Bad file descriptor\n"
)
"""What CPython 3.10 to 3.13 write of a signal that comes while asyncio closes its loop, which is harmless.

They close the socket that signals are written to before they take back the handlers (https://github.com/python/cpython/pull/96807
had it the other way round). gunicorn sends a worker that is ending SIGTERM again, and SIGUSR1, whenever it likes.
"""

Process = TypeVar("Process", bound="ServerProcess")

COMMON_SETTINGS = """
from pathlib import Path

# Nothing goes to the home directory of whoever runs the tests.
control_socket_disable = True

def post_worker_init(worker):
    Path(f"booted-{worker.pid}").touch()

"""


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 120.0) -> None:
    """Poll `condition` until it is true; AssertionError saying `what` was awaited if it is not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain: {what}")
        time.sleep(0.02)


def backups(live: Path) -> list[Path]:
    """The backups of the log file `live`, in the order of their names."""
    return sorted(live.parent.glob(f"{live.name}.*"))


@contextmanager
def datagrams() -> Iterator[tuple[str, list[str]]]:
    """A UDP socket that is read all the time: its address; after the block, the datagrams that were sent till then."""
    received: list[str] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        receiver.bind(("127.0.0.1", 0))

        def receive() -> None:
            while (datagram := receiver.recv(4096)) != b"end":
                received.append(datagram.decode())

        thread = threading.Thread(target=receive)
        thread.start()
        try:
            yield f"127.0.0.1:{receiver.getsockname()[1]}", received
        finally:
            # Datagrams on the loopback interface keep their order.
            receiver.sendto(b"end", receiver.getsockname())
            thread.join()


def server_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment in which a server finds the modules of this repository, and no options but those of the test."""
    environment = {key: value for key, value in os.environ.items() if key != "GUNICORN_CMD_ARGS"}
    paths = [str(ROOT / "src"), str(ROOT), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return environment | dict(extra or {})


def run_program(code: str, *arguments: object, seconds: float = 120.0) -> str:
    """Run `code` in a Python of its own, which must end well and have nothing to say on its standard error.

    Returns:
        What it prints.
    """
    ran = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=server_environment(),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


class ServerProcess:
    """
    A web server of `workers` processes, run in `directory` by the command that `_command` gives.

    As a context manager it has answered GET `ready` and all that `_wait_until_booted` waits for has happened when the
    block begins, and no process of it is left when the block ends. What it wrote on its standard streams is then in
    `output`, but for SIGNAL_WHILE_LOOP_CLOSES, and with `echo` also on ours, where pytest shows it beside a failing
    test.

    The listening socket is made here and inherited, so no other program can take the port in between.
    """

    def __init__(
        self,
        directory: Path,
        *,
        workers: int = 4,
        ready: str = "/line/ready/0/60",
        environment: Mapping[str, str] | None = None,
        echo: bool = True,
    ) -> None:
        self.directory = directory
        self.output = ""
        self._count = workers
        self._ready = ready
        self._environment = server_environment(environment)
        self._echo = echo
        self._output_path = directory / "output.txt"

    def _command(self, listener: int) -> Sequence[str]:
        """The command that serves on the listening socket with this descriptor."""
        raise NotImplementedError

    def _wait_until_listening(self) -> None:
        """Wait for a server that cannot inherit the listening socket."""

    def _wait_until_booted(self) -> None:
        """Wait for what has to have happened before the server may be tested, or stopped."""

    def __enter__(self: Process) -> Process:
        self._start()
        try:
            self._wait_until_listening()
            self.get(self._ready)
            self._wait_until_booted()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._stop()

    def run_to_its_end(self) -> None:
        """Start a server that ends by itself, and wait until it has."""
        self._start()
        try:
            wait_until(lambda: self._process.poll() is not None, "the end of the server")
        finally:
            self._stop()

    def get(self, path: str, seconds: float = 120.0) -> str:
        """The body of the answer to GET `path`; AssertionError unless the answer is 200."""
        connection = self.connect(seconds)
        try:
            status, body = get(connection, path)
        finally:
            connection.close()
        assert status == 200, f"GET {path} answered {status}: {body}"
        return body

    def ask_in_vain(self, path: str) -> None:
        """GET `path`, which is not answered with 200, because the process that should answer is ended."""
        connection = self.connect(60.0)
        try:
            connection.request("GET", path)
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return
        finally:
            connection.close()
        assert status != 200, f"GET {path} was answered"

    def connect(self, seconds: float = 30.0) -> http.client.HTTPConnection:
        """A connection to the server; it opens itself again after the server has closed it."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the first process: arbiter or master."""
        self._process.send_signal(number)

    @property
    def arbiter(self) -> int:
        """The process id of the first process."""
        return self._process.pid

    @property
    def workers(self) -> set[int]:
        """The process ids of the children of the first process (proc(5), /proc/PID/task/TID/children; pgrep(1))."""
        if not os.path.isdir("/proc/self"):
            command = ["pgrep", "-P", str(self.arbiter)]
            found = subprocess.run(command, capture_output=True, text=True, check=False)
            return {int(pid) for pid in found.stdout.split()}
        children = Path(f"/proc/{self.arbiter}/task/{self.arbiter}/children")
        return {int(pid) for pid in children.read_text(encoding="ascii").split()}

    def _start(self) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=128) as listener, self._output_path.open("wb") as output:
            self.port = int(listener.getsockname()[1])
            self._process = subprocess.Popen(
                self._command(listener.fileno()),
                cwd=self.directory,
                env=self._environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[listener.fileno()],
                start_new_session=True,
            )

    def _stop(self) -> None:
        """SIGTERM to the first process, SIGKILL to whatever of its process group is left."""
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.output = f"the server was still there {STOP_SECONDS:g} s after SIGTERM\n"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        written = self._output_path.read_text(encoding="utf-8", errors="replace")
        self.output += SIGNAL_WHILE_LOOP_CLOSES.sub("", written)
        if self._echo and self.output:
            print(f"the server wrote:\n{self.output}", file=sys.stderr)


class Server(ServerProcess):
    """
    A gunicorn with `workers` that serves `app` from `directory`, with `config` as its gunicorn.conf.py.

    All workers have booted when the block begins, because gunicorn loses a SIGTERM to a worker that has not.
    """

    def __init__(
        self,
        directory: Path,
        config: str,
        *,
        app: str = "tests.support.apps:application",
        ready: str = "/line/ready/0/60",
        workers: int = 4,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        python: str | os.PathLike[str] = sys.executable,
        echo: bool = True,
    ) -> None:
        super().__init__(directory, workers=workers, ready=ready, environment=environment, echo=echo)
        self._python = os.fspath(python)
        self._arguments = ["--workers", str(workers), *arguments, app]
        self._successor: int | None = None
        self.configure(config)

    def configure(self, config: str) -> None:
        """Write the gunicorn.conf.py that the next start or reload reads."""
        (self.directory / "gunicorn.conf.py").write_text(COMMON_SETTINGS + config, encoding="utf-8")

    def follow_upgrade(self) -> None:
        """After SIGUSR2, with `pidfile = "gunicorn.pid"`: end the old arbiter and have the new one in its place."""
        self._successor = int((self.directory / "gunicorn.pid.2").read_text(encoding="ascii"))
        self._process.terminate()
        self._process.wait(STOP_SECONDS)

    @property
    def arbiter(self) -> int:
        """The process id of the arbiter; after an upgrade, of the new one."""
        return super().arbiter if self._successor is None else self._successor

    def _stop(self) -> None:
        # Workers that were forked just now too; what keeps them from booting is the test's to find.
        with contextlib.suppress(AssertionError):
            wait_until(lambda: all((self.directory / f"booted-{pid}").exists() for pid in self.workers), "boots", 5.0)
        if self._successor is not None:
            # Not our child, so nobody may be there to reap it.
            status = Path(f"/proc/{self._successor}/stat")
            os.kill(self._successor, signal.SIGTERM)
            with contextlib.suppress(FileNotFoundError):
                wait_until(lambda: b") Z " in status.read_bytes(), "the end of the new arbiter", STOP_SECONDS)
        super()._stop()

    @property
    def booted_workers(self) -> set[int]:
        """The process ids of the workers that have booted, and so end at a SIGTERM."""
        return {pid for pid in self.workers if (self.directory / f"booted-{pid}").exists()}

    def wait_for_boots(self, total: int) -> None:
        """Wait until so many workers have booted since the start."""
        wait_until(lambda: len(list(self.directory.glob("booted-*"))) >= total, f"{total} workers booted")

    def _command(self, listener: int) -> Sequence[str]:
        return [self._python, *GUNICORN[1:], "--bind", f"fd://{listener}", *self._arguments]

    def _wait_until_booted(self) -> None:
        self.wait_for_boots(self._count)


def get(connection: http.client.HTTPConnection, path: str) -> tuple[int, str]:
    """Status and body of the answer to GET `path`."""
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


class Clients:
    """
    Threads that send numbered requests while the block runs, each as fast as it is answered, or `pause` seconds later.

    `acknowledged` has, for each client's stream, the numbers that were answered with 200; `refused` says what
    happened to the others; `answering` has the process ids of the workers that answered. No number is sent twice, so
    that a line logged twice is the log's doing. `action` is the one of the application that logs the line; `name`
    begins the names of the streams. `before` is called before each request, which is sent when it returns.
    """

    SIZES = (60, 200, 1000, 9000)
    # A connection that is kept alive stays with one worker; a new one can reach another.
    REQUESTS_PER_CONNECTION = 20

    def __init__(
        self,
        server: ServerProcess,
        count: int = 4,
        action: str = "line",
        *,
        pause: float = 0.0,
        name: str = "client",
        before: Callable[[], object] | None = None,
    ) -> None:
        self.acknowledged: dict[str, set[int]] = defaultdict(set)
        self.refused: list[str] = []
        self.answering: set[int] = set()
        self._server = server
        self._action = action
        self._pause = pause
        self._before = before
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(f"{name}{index}",)) for index in range(count)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    @property
    def answered(self) -> int:
        """How many requests were answered with 200."""
        return sum(len(numbers) for numbers in tuple(self.acknowledged.values()))

    def wait_for(self, more: int) -> None:
        """Wait until so many more requests have been answered."""
        goal = self.answered + more
        wait_until(lambda: self.answered >= goal, f"{more} more answers; refused: {self.refused[:3]}")

    def _send(self, stream: str) -> None:
        connection = self._server.connect()
        number = 0
        while not self._stopping.is_set():
            size = self.SIZES[number % len(self.SIZES)]
            if self._before is not None:
                self._before()
            try:
                status, body = get(connection, f"/{self._action}/{stream}/{number}/{size}")
            except (OSError, http.client.HTTPException) as error:
                self.refused.append(f"{stream} {number}: {error!r}")
                connection.close()
            else:
                if status == 200:
                    self.acknowledged[stream].add(number)
                    self.answering.add(int(body))
                else:
                    self.refused.append(f"{stream} {number}: {status} {body}")
            number += 1
            self._stopping.wait(self._pause)
            if number % self.REQUESTS_PER_CONNECTION == 0:
                connection.close()
        connection.close()
