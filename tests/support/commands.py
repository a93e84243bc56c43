"""The command and other programs in processes of their own."""

from __future__ import annotations

import atexit
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.servers import server_environment

ROOT = Path(__file__).parents[2]

HOLDER = """
import sys
from rollsafe import FileLock
lock = FileLock(sys.argv[1], byte=int(sys.argv[2]))
assert lock.acquire(timeout=120)
"""
STAY = '\nprint("ready", flush=True)\nsys.stdin.read()\n'


ENVIRONMENT = {"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
"""That of each command; nothing of the tests' own gets into it."""

# Most of the time that a command takes is for its imports. So this process imports all modules once, and forks one
# process for each command.
_SERVER = """
import importlib, json, os, pkgutil, signal, socket, sys
from rollsafe import cli, tools
for module in pkgutil.iter_modules(tools.__path__, "rollsafe.tools."):
    importlib.import_module(module.name)
requests = socket.socket(fileno=int(sys.argv[1]))
while True:
    request, outputs, *_ = socket.recv_fds(requests, 1 << 16, 2)
    while request and not request.endswith(b"\\n"):
        request += requests.recv(1 << 16)
    if not request:
        break
    if not (child := os.fork()):
        requests.close()
        signal.alarm(120)
        for number, output in enumerate(outputs, 1):
            os.dup2(output, number)
            os.close(output)
        directory, *sys.argv[1:] = json.loads(request)
        os.chdir(directory)
        sys.path[0] = os.getcwd()
        cli.main()
    for output in outputs:
        os.close(output)
    requests.sendall(b"%d\\n" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


class _Server:
    """The process that forks the commands; it ends with the process that has started it."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._lock = threading.Lock()
        self._requests, its = socket.socketpair()
        with its:
            command = [sys.executable, "-c", _SERVER, str(its.fileno())]
            self._process = subprocess.Popen(
                command, env=ENVIRONMENT, stdin=subprocess.DEVNULL, pass_fds=[its.fileno()]
            )

    def run(self, arguments: Sequence[str], directory: Path, outputs: Sequence[int]) -> int:
        """Run the command; its exit code, negative for a signal."""
        with self._lock:
            request = json.dumps([str(directory), *arguments]).encode() + b"\n"
            sent = socket.send_fds(self._requests, [request], outputs)
            self._requests.sendall(request[sent:])
            answer = self._requests.makefile("rb", buffering=0).readline()
        assert answer, "the process that forks the commands has ended; standard error tells why"
        return int(answer)

    def end(self) -> None:
        """Have the process end, and reap it."""
        if self.owner == os.getpid():
            self._requests.close()
            self._process.wait()


_server: _Server | None = None


def _running_server() -> _Server:
    """The server of this process."""
    global _server
    if _server is None or _server.owner != os.getpid():
        _server = _Server()
        atexit.register(_server.end)
    return _server


def run_raw(*arguments: str, directory: Path = ROOT) -> subprocess.CompletedProcess[bytes]:
    """Run the command in a process of its own, its output taken."""
    taken: list[bytes] = [b"", b""]

    def take(number: int, end: int) -> None:
        with open(end, "rb") as output:
            taken[number] = output.read()

    pipes = [os.pipe(), os.pipe()]
    readers = [threading.Thread(target=take, args=(number, pipe[0])) for number, pipe in enumerate(pipes)]
    for reader in readers:
        reader.start()
    try:
        code = _running_server().run(arguments, directory, [pipe[1] for pipe in pipes])
    finally:
        for _, end in pipes:
            os.close(end)
        for reader in readers:
            reader.join()
    return subprocess.CompletedProcess([*arguments], code, *taken)


def run(*arguments: str, directory: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, its output taken as text."""
    ran = run_raw(*arguments, directory=directory)
    return subprocess.CompletedProcess(ran.args, ran.returncode, ran.stdout.decode(), ran.stderr.decode())


@contextmanager
def process(code: str, *arguments: object) -> Iterator[int]:
    """A process that has run `code` and stays; its id."""
    with subprocess.Popen(
        [sys.executable, "-c", code + STAY, *map(str, arguments)],
        env=server_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout
        try:
            assert child.stdout.readline() == b"ready\n"
            yield child.pid
        finally:
            child.kill()
