"""The servers of docs/how-to/write.md, with the configurations that stand there."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from rollsafe.tools.write import BLOCK
from tests.support.needs import require_command, require_file
from tests.support.servers import server_environment, wait_until
from tests.support.snippets import snippets_in
from tests.support.writing import LIMIT_S

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "write.md"
SNIPPETS = {each.info.partition(" ")[2]: each.code for each in snippets_in(PAGE.read_text(encoding="utf-8"), PAGE.name)}
REQUESTS = 20

pytestmark = pytest.mark.slow


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment with a command `rollsafe` on its PATH."""
    command = tmp_path / "bin" / "rollsafe"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m rollsafe "$@"\n')
    command.chmod(0o755)
    extra = server_environment()
    return {**extra, "PATH": f"{command.parent}:/usr/sbin:{extra['PATH']}"}


def put(tmp_path: Path, name: str, prefix: str = "") -> Path:
    """Write the configuration of that name, with a socket in the place of its port; returns that."""
    socket_path = tmp_path / "http.sock"
    assert "127.0.0.1:8080" in SNIPPETS[name]
    (tmp_path / name).write_text(SNIPPETS[name].replace("127.0.0.1:8080", f"{prefix}{socket_path}"))
    return socket_path


@contextmanager
def running(tmp_path: Path, environment: dict[str, str], *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command in a session of its own, which is killed at the end."""
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(socket_path: Path, path: str = "/") -> bool:
    """Whether the server answers."""
    connection = http.client.HTTPConnection("localhost")
    with socket.socket(socket.AF_UNIX) as connection.sock:
        try:
            connection.sock.connect(str(socket_path))
            connection.request("GET", path)
            connection.getresponse().read()
        except OSError:
            return False
    return True


def ask(socket_path: Path) -> None:
    """Send the requests."""
    wait_until(lambda: answers(socket_path, "/up"), "an answer", LIMIT_S)
    for number in range(REQUESTS):
        assert answers(socket_path, f"/item-{number}")


def numbers_in(live: Path) -> list[int]:
    """The numbers of the requests in an access log, in order."""
    return [int(number) for number in re.findall(rb'\] "GET /item-(\d+) HTTP', live.read_bytes())]


def end(process: subprocess.Popen[bytes], pid_file: Path) -> None:
    """Stop nginx, and wait for the whole pipeline."""
    os.kill(int(pid_file.read_text()), signal.SIGQUIT)
    process.wait(LIMIT_S)


def test_nginx_in_a_pipeline(tmp_path: Path, environment: dict[str, str]) -> None:
    require_command("nginx", package="nginx-light")
    path = put(tmp_path, "nginx.conf", "unix:")
    with running(tmp_path, environment, "sh", "-c", SNIPPETS["nginx"]) as shell:
        ask(path)
        end(shell, tmp_path / "nginx.pid")
        assert shell.returncode == 0
    assert numbers_in(tmp_path / "logs" / "nginx.log") == [*range(REQUESTS)]


def test_nginx_with_fifos_may_be_started_again(tmp_path: Path, environment: dict[str, str]) -> None:
    nginx = require_command("nginx", package="nginx-light")
    path = put(tmp_path, "nginx-fifos.conf", "unix:")
    script = SNIPPETS["nginx-fifos"] + "wait"
    with running(tmp_path, environment, "sh", "-c", script) as writers:
        logs = tmp_path / "logs"
        wait_until(lambda: (logs / "access.log").exists() and (logs / "error.log").exists(), "the writers", LIMIT_S)
        for _ in range(2):
            server = [nginx, "-p", str(tmp_path), "-c", "nginx-fifos.conf"]
            with running(tmp_path, environment, *server) as process:
                ask(path)
                end(process, tmp_path / "nginx.pid")
        os.killpg(writers.pid, signal.SIGTERM)
        writers.wait(LIMIT_S)
        wait_until(lambda: numbers_in(logs / "access.log") == [*range(REQUESTS)] * 2, "the lines", LIMIT_S)


def test_supervisor(tmp_path: Path, environment: dict[str, str]) -> None:
    supervisord = require_command("supervisord", package="supervisor")
    (tmp_path / "supervisord.conf").write_text(SNIPPETS["supervisord.conf"])
    (tmp_path / "shop.py").write_text(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(print('goodbye')))\n"
        "print('hello')\n"
        "while True: time.sleep(0.1)\n"
    )
    live = tmp_path / "logs" / "shop.log"
    with running(tmp_path, environment, supervisord, "-n", "-c", "supervisord.conf") as process:
        wait_until(lambda: live.exists() and live.read_bytes() == b"hello\n", "the first line", LIMIT_S)
        process.send_signal(signal.SIGTERM)
        process.wait(LIMIT_S)
        wait_until(lambda: live.read_bytes() == b"hello\ngoodbye\n", "the last line", LIMIT_S)


def test_runit_starts_a_killed_logger_again_and_the_service_goes_on(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    runsv = require_command("runsv", package="runit")
    service, live = tmp_path / "service", tmp_path / "logs" / "shop.log"
    (service / "log").mkdir(parents=True)
    program = "import itertools, time\nfor number in itertools.count(): print(number, flush=True); time.sleep(0.01)\n"
    (tmp_path / "shop.py").write_text(program)
    (service / "run").write_text(f"#!/bin/sh\nexec 2>&1\nexec {sys.executable} {tmp_path}/shop.py\n")
    (service / "log" / "run").write_text(SNIPPETS["log/run"].replace("/var/log/shop", str(live.parent)))
    for script in (service / "run", service / "log" / "run"):
        script.chmod(0o755)

    def numbers() -> list[int]:
        return [*map(int, live.read_text().split())] if live.exists() else []

    with running(tmp_path, environment, runsv, str(service)) as process:
        for _ in range(3):
            before = len(numbers())
            wait_until(lambda before=before: len(numbers()) > before + 10, "lines", LIMIT_S)  # type: ignore[misc]
            os.kill(int((service / "log" / "supervise" / "pid").read_text()), signal.SIGKILL)
        before = len(numbers())
        wait_until(lambda: len(numbers()) > before + 10, "lines of the last logger", LIMIT_S)
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == 0
    found = numbers()
    assert found == sorted(set(found))
    # A kill may come between the read of a block and its write.
    lost = {*range(found[-1])} - {*found}
    assert sum(len(f"{number}\n") for number in lost) <= 3 * BLOCK


def test_the_pipe_of_uwsgi_is_logged_across_a_reload(tmp_path: Path, environment: dict[str, str]) -> None:
    require_file("/usr/lib/uwsgi/plugins", "logpipe_plugin.so", package="uwsgi-core")
    require_file("/usr/lib/uwsgi/plugins", "python3_plugin.so", package="uwsgi-plugin-python3")
    path = put(tmp_path, "uwsgi.ini")
    (tmp_path / "app.py").write_text(
        "def application(environ, start_response):\n"
        "    print('asked for', environ['PATH_INFO'], flush=True)\n"
        "    start_response('200 OK', [])\n"
        "    return [b'']\n"
    )
    live = tmp_path / "logs" / "uwsgi.log"
    uwsgi = shutil.which("uwsgi-core", path="/usr/bin")
    assert uwsgi
    with running(tmp_path, environment, uwsgi, "uwsgi.ini") as process:
        wait_until(lambda: answers(path, "/before"), "an answer", LIMIT_S)
        wait_until(lambda: live.exists() and b"asked for /before" in live.read_bytes(), "the line", LIMIT_S)
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: b"gracefully (RE)spawned" in live.read_bytes(), "the reload", LIMIT_S)
        wait_until(lambda: answers(path, "/after"), "an answer", LIMIT_S)
        process.send_signal(signal.SIGTERM)
        process.wait(LIMIT_S)
        wait_until(lambda: b"goodbye to uWSGI" in live.read_bytes(), "the last words", LIMIT_S)
    assert b"asked for /after" in live.read_bytes()
