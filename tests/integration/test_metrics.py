"""Counters for Prometheus and statsd: compared with what was really written, by real processes."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from rollsafe import ConfigurationError, SafeTimedRotatingFileHandler
from rollsafe._live import events as events_room
from rollsafe.metrics import to_prometheus, to_statsd
from tests.support.servers import Clients, Server, backups, datagrams, server_environment, wait_until

pytest.importorskip("prometheus_client", reason="prometheus_client is not installed: pip install rollsafe[prometheus]")

SAMPLE = re.compile(r'^rollsafe_(\w+)_total\{log="([^"]+)"\} (\S+)$', re.MULTILINE)
# It rolls by size, because at a boundary a late line may make a backup without a rollover.
CONFIG = """
from rollsafe import metrics
from rollsafe.gunicorn import post_fork, rotating_logs

metrics.{switch}
logconfig_dict = rotating_logs("logs", when="W0", utc=True, maxBytes=50_000, format="%(message)s")
"""


def scraped(text: str) -> dict[tuple[str, str], int]:
    """The samples of a scrape: (event, log) -> count."""
    return {(event, log): int(float(count)) for event, log, count in SAMPLE.findall(text)}


def written(live: Path) -> tuple[int, int]:
    """Lines and bytes in all files of a log; an empty line is written together with the one after it."""
    text = b"".join(path.read_bytes() for path in [live, *backups(live)])
    return sum(line != b"" for line in text.split(b"\n")), len(text)


def sent(received: list[str]) -> Counter[str]:
    """The counts in datagrams with this prefix and these tags: "log event" -> count."""
    counts: Counter[str] = Counter()
    for text in received:
        match = re.fullmatch(r"shop\.rollsafe\.(app_log|access_log|error_log)\.(\w+):(\d+)\|c\|#site:one", text)
        assert match, text
        counts[f"{match[1]} {match[2]}"] += int(match[3])
    return counts


@pytest.fixture
def told() -> Iterator[Counter[str]]:
    """What the handlers of this process tell while the test runs."""
    counts: Counter[str] = Counter()

    def note(event: str, path: str, count: int) -> None:
        counts[event] += count

    events_room.listen(note)
    try:
        yield counts
    finally:
        events_room._listeners.remove(note)


def line(message: str, created: float | None = None) -> logging.LogRecord:
    """A record, of now or of another moment."""
    record = logging.makeLogRecord({"msg": message})
    if created is not None:
        record.created = created
    return record


def test_nothing_is_put_before_the_write_while_nobody_counts(tmp_path: Path) -> None:
    handler = SafeTimedRotatingFileHandler(tmp_path / "app.log")
    handler.handle(line("one"))
    assert handler._file.write == handler.stream.write_bytes
    handler.close()


def test_lines_bytes_openings_and_rollovers_are_told(tmp_path: Path, told: Counter[str]) -> None:
    handler = SafeTimedRotatingFileHandler(tmp_path / "app.log", when="W0", utc=True)
    other = SafeTimedRotatingFileHandler(tmp_path / "app.log", when="W0", utc=True)
    for each in (handler, other):
        each.handle(line("before"))
    handler.doRollover()
    other._file.expire_lease()  # its lease is over, so it looks and notices
    for each in (handler, other):
        each.handle(line("after"))
        each.close()
    assert told["rollovers"] == 1
    assert (told["lines"], told["bytes"]) == written(tmp_path / "app.log")
    assert told["opens"] == 4, "at start and after the rollover, each"


def test_a_lock_that_is_not_free_is_told(tmp_path: Path, told: Counter[str]) -> None:
    handler = SafeTimedRotatingFileHandler(tmp_path / "app.log", when="H", utc=True)
    handler.handle(line("one"))
    code = f"""
import sys
from rollsafe import FileLock
lock = FileLock({str(tmp_path / ".app.log.lock")!r})
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], env=server_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        handler.doRollover()
        holder.kill()
    assert told["lock_waits"] == 1
    assert told["rollovers"] == 0
    handler.close()


def test_lines_that_wait_and_lines_that_are_dropped_are_told(tmp_path: Path, told: Counter[str]) -> None:
    directory = tmp_path / "logs"
    directory.mkdir()
    handler = SafeTimedRotatingFileHandler(directory / "app.log", when="H", delay=True)
    handler.handleError = lambda record: None  # type: ignore[method-assign]
    directory.rmdir()
    for _ in range(3):
        handler.handle(line("x" * 400_000))
    assert (told["spilled"], told["dropped"], told["lines"]) == (2, 1, 0)
    directory.mkdir()
    handler.flush()
    handler.close()
    assert told["lines"] == 3  # the third says that one was dropped


def test_a_listener_that_fails_harms_no_line(tmp_path: Path) -> None:
    def fail(event: str, path: str, count: int) -> None:
        raise OSError("no space left for counters")

    events_room.listen(fail)
    try:
        handler = SafeTimedRotatingFileHandler(tmp_path / "app.log")
        handler.handle(line("kept"))
        handler.close()
    finally:
        events_room._listeners.remove(fail)
    assert (tmp_path / "app.log").read_text() == "kept\n"


def test_prometheus_multiprocess_mode_counts_what_gunicorns_workers_write(tmp_path: Path) -> None:
    pytest.importorskip("gunicorn")
    (tmp_path / "prometheus").mkdir()
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "prometheus")}
    logs = tmp_path / "logs"
    server = Server(tmp_path, CONFIG.format(switch="to_prometheus()"), environment=environment)
    with server:
        with Clients(server) as clients:
            wait_until(lambda: len(backups(logs / "app.log")) >= 2, "2 rollovers")
            clients.wait_for(200)
        # Counts outlive their process.
        os.kill(min(server.workers), signal.SIGKILL)
        server.wait_for_boots(5)
        samples = scraped(server.get("/metrics"))
        app, access = written(logs / "app.log"), written(logs / "access.log")
    assert clients.answered > 200
    assert (samples["lines", "app.log"], samples["bytes", "app.log"]) == app
    # The line of the scrape itself is written after it.
    assert samples["lines", "access.log"] in (access[0], access[0] - 1)
    assert samples["rollovers", "app.log"] == len(backups(logs / "app.log"))
    assert samples["opens", "app.log"] >= 4 * 2


def test_statsd_is_sent_what_gunicorns_workers_write(tmp_path: Path) -> None:
    pytest.importorskip("gunicorn")
    logs = tmp_path / "logs"
    with datagrams() as (address, received):
        switch = f'to_statsd("{address}", prefix="shop.", tags="site:one")'
        server = Server(tmp_path, CONFIG.format(switch=switch))
        with server, Clients(server) as clients:
            wait_until(lambda: len(backups(logs / "app.log")) >= 2, "2 rollovers")
            clients.wait_for(200)
    # The workers had ended, so they had sent all.
    counts = sent(received)
    assert (counts["app_log lines"], counts["app_log bytes"]) == written(logs / "app.log")
    assert counts["access_log lines"] == written(logs / "access.log")[0]
    assert counts["app_log rollovers"] == len(backups(logs / "app.log"))


def test_statsd_is_sent_what_happens_while_a_process_ends(tmp_path: Path) -> None:
    code = """
import atexit, logging, sys
from rollsafe import SafeTimedRotatingFileHandler, metrics

def end():
    for _ in range(3):
        handler.doRollover()
        handler.handle(logging.makeLogRecord({"msg": "at the end"}))

# It is called after what is registered later.
atexit.register(end)
metrics.to_statsd(sys.argv[1], prefix="shop.", tags="site:one")
handler = SafeTimedRotatingFileHandler("app.log", when="W0", utc=True)
handler.handle(logging.makeLogRecord({"msg": "one"}))
"""
    with datagrams() as (address, received):
        subprocess.run([sys.executable, "-c", code, address], cwd=tmp_path, env=server_environment(), check=True)
    counts = sent(received)
    assert (counts["app_log lines"], counts["app_log bytes"]) == written(tmp_path / "app.log")
    assert written(tmp_path / "app.log") == (4, len("one\n") + 3 * len("at the end\n"))
    assert counts["app_log rollovers"] == len(backups(tmp_path / "app.log")) == 3


@pytest.mark.parametrize("directory", ["prometheus", ""])
def test_a_signal_handler_that_logs_inside_the_applications_own_counter_does_not_hang(
    directory: str, tmp_path: Path
) -> None:
    code = """
import logging, os, signal, time
import prometheus_client
from rollsafe import SafeTimedRotatingFileHandler, metrics

metrics.to_prometheus()
handler = SafeTimedRotatingFileHandler("app.log")
own = prometheus_client.Counter("own", "The application's own counter")
logger = logging.Logger("app")
logger.addHandler(handler)
logged = 0

def log(number, frame):
    global logged
    logged += 1
    logger.warning("from a signal handler")

signal.signal(signal.SIGALRM, log)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
end = time.monotonic() + 1
while time.monotonic() < end:
    own.inc()
    logger.warning("line")
signal.setitimer(signal.ITIMER_REAL, 0)
handler.close()
print(logged)
"""
    environment = server_environment()
    if directory:
        (tmp_path / directory).mkdir()
        environment["PROMETHEUS_MULTIPROC_DIR"] = str(tmp_path / directory)
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) > 10


def test_one_process_is_collected_through_its_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import prometheus_client

    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    registry = prometheus_client.CollectorRegistry()
    to_prometheus(registry)
    try:
        handler = SafeTimedRotatingFileHandler(tmp_path / "app.log")
        handler.handle(line("one"))
        handler.close()
    finally:
        events_room._listeners.pop()
    samples = scraped(prometheus_client.generate_latest(registry).decode())
    assert samples == {("lines", "app.log"): 1, ("bytes", "app.log"): 4, ("opens", "app.log"): 1}


def test_a_multiprocess_directory_that_is_missing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "none"))
    with pytest.raises(ConfigurationError, match="make it, empty, before"):
        to_prometheus()


@pytest.mark.parametrize("address", ["localhost", "localhost:", ":8125", "no.such.host.invalid:8125"])
def test_a_statsd_address_that_cannot_be_is_refused(address: str) -> None:
    with pytest.raises(ConfigurationError, match="not a statsd server"):
        to_statsd(address)


def test_a_statsd_server_on_a_unix_socket_may_come_later(tmp_path: Path) -> None:
    path = tmp_path / "statsd"
    to_statsd(f"unix://{path}")
    note = events_room._listeners.pop()
    note("lines", "/logs/app.log", 1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))
        receiver.settimeout(5)
        note.__self__._send_at = 0.0  # type: ignore[attr-defined]  # its second is over
        note("lines", "/logs/app.log", 2)
        assert receiver.recv(1000) == b"rollsafe.app_log.lines:2|c"


def test_statsd_is_sent_what_another_thread_counts_during_the_last_send(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "statsd"
    to_statsd(f"unix://{path}")
    sender = events_room._listeners.pop().__self__  # type: ignore[attr-defined]
    send_more = sender._send_more
    others = ["lines", "rollovers"]

    def send_more_while_others_count() -> None:
        send_more()
        if others:
            sender.count(others.pop(), "/logs/app.log", 1)

    monkeypatch.setattr(sender, "_send_more", send_more_while_others_count)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))
        receiver.settimeout(5)
        sender.add("opens", "/logs/app.log", 1)
        sender._has_more = True
        sender.finish()
        events = [receiver.recv(1000).decode().split(".")[-1] for _ in range(3)]
    assert events == ["opens:1|c", "rollovers:1|c", "lines:1|c"]


def test_without_prometheus_client_it_is_said_what_to_install(tmp_path: Path) -> None:
    code = """
import sys
sys.modules["prometheus_client"] = None
from rollsafe.metrics import to_prometheus
to_prometheus()
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=server_environment(), capture_output=True, text=True
    )
    assert "pip install 'rollsafe[prometheus]'" in ran.stderr
