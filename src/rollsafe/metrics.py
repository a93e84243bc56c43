"""Counters of each process for Prometheus and statsd: lines, bytes, openings, rollovers, lock waits, lines in trouble.

Nothing is counted until the application calls one of the two functions here, once, before the workers are forked.
`events` reports what happens, inside `emit` and in signal handlers, so nothing here waits for a lock: a thread that
finds another one at work leaves its counts to the next event.
"""

from __future__ import annotations

import atexit
import os
import re
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from rollsafe._live.events import EVENTS, listen
from rollsafe.errors import ConfigurationError

__all__ = ["to_prometheus", "to_statsd"]

# Seconds between two datagrams of one process.
STATSD_PERIOD = 1.0

_HELP = {
    "lines": "Lines written",
    "bytes": "Bytes written",
    "opens": "Openings of the live file: at start, after each rollover by any process, after a signal to reopen",
    "rollovers": "Rollovers made by this process",
    "lock_waits": "How often the rollover lock was not free at once",
    "spilled": "Lines that had to wait in memory because writing failed",
    "dropped": "Lines that were dropped because the memory for waiting lines was full",
}


def to_prometheus(registry: Any = None) -> None:
    """Count for `prometheus_client`.

    If PROMETHEUS_MULTIPROC_DIR is set, each process keeps its counters in files of its own in that directory, and
    `prometheus_client.multiprocess.MultiProcessCollector` adds them up; `registry` is not used then. Otherwise
    `registry` (default: prometheus_client.REGISTRY) collects the counters of this process.

    The counters are rollsafe_lines_total, rollsafe_bytes_total, rollsafe_opens_total, rollsafe_rollovers_total,
    rollsafe_lock_waits_total, rollsafe_spilled_total and rollsafe_dropped_total, each with the label `log`: the name of
    the live file.

    Raises:
        ConfigurationError: prometheus_client is not installed, or PROMETHEUS_MULTIPROC_DIR is no directory that can be
            written.
    """
    try:
        import prometheus_client
    except ImportError as error:
        raise ConfigurationError(
            "to_prometheus() needs the package prometheus_client; install it with: pip install 'rollsafe[prometheus]'"
        ) from error
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if directory is None:
        collector = _Collector()
        (registry or prometheus_client.REGISTRY).register(collector)
        listen(collector.count)
        return
    if not os.path.isdir(directory) or not os.access(directory, os.W_OK | os.X_OK):
        raise ConfigurationError(
            f"PROMETHEUS_MULTIPROC_DIR={directory!r} is not a directory that can be written; make it, empty, before the"
            " server starts"
        )
    listen(_MultiProcess().count)


def to_statsd(address: str, prefix: str = "", tags: str = "") -> None:
    """Send counters to a statsd server over UDP or a Unix datagram socket.

    A process sends its counts no more than once a second, with a line or a rollover, and when it ends. It sends
    `{prefix}.rollsafe.{log}.lines:12|c` and so on, where {log} is the name of the live file, with `_` for each
    character that is no letter, digit or `-`.

    Args:
        address: As gunicorn's `statsd_host`: "host:port" or "unix:///path/of/socket".
        prefix: As gunicorn's `statsd_prefix`.
        tags: As gunicorn's `dogstatsd_tags`: "name:value,name:value".

    Raises:
        ConfigurationError: `address` has another form, or names a host that cannot be found.
    """
    sender = _Statsd(address, prefix, tags)
    listen(sender.count)
    atexit.register(sender.finish)


class _LogNames(dict[str, str]):
    """Path of a live file -> its name."""

    def __missing__(self, path: str) -> str:
        return self.setdefault(path, os.path.basename(path))


class _Counts:
    """The counts of this process: (event, log) -> how many. A forked child begins at zero."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._counts: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._logs = _LogNames()

    def add(self, event: str, path: str, count: int) -> None:
        """Add to a count."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._counts = defaultdict(int)
            self.reset()
        self._counts[event, self._logs[path]] += count

    def totals(self) -> list[tuple[str, str, int]]:
        """All counts, as (event, log, count)."""
        return [(event, log, count) for (event, log), count in tuple(self._counts.items())]

    def reset(self) -> None:
        """Forget the state of the parent, in a forked child before its first count."""


class _Collector(_Counts):
    """The counters of one process, read at each scrape."""

    count = _Counts.add

    def collect(self) -> Iterator[Any]:
        """The counters; prometheus_client calls this."""
        from prometheus_client.core import CounterMetricFamily

        totals = self.totals()
        for event in EVENTS:
            family = CounterMetricFamily(f"rollsafe_{event}", _HELP[event], labels=["log"])
            for counted, log, count in totals:
                if counted == event:
                    family.add_metric([log], count)
            yield family


class _MultiProcess(_Counts):
    """The counters in multiprocess mode: each count is written to the process's file at once, so it survives a SIGKILL.

    This is no prometheus_client.Counter. All of those share one lock that is not re-entrant, so a signal handler that
    logs would wait for the thread that it has interrupted inside the application's own counter, and never return. The
    values here have a lock and a file of their own, and this class, their only user, never waits for the lock.
    """

    def __init__(self) -> None:
        from prometheus_client.values import MultiProcessValue

        super().__init__()
        self._value_class: Any = MultiProcessValue(_name_of_files)  # type: ignore[no-untyped-call]
        self._values: dict[tuple[str, str], Any] = {}
        self._changed: set[tuple[str, str]] = set()
        self._guard = threading.Lock()

    def reset(self) -> None:
        """Make a new guard, because a thread of the parent may have held the old one."""
        self._guard = threading.Lock()

    def count(self, event: str, path: str, count: int) -> None:
        """Count, and write the count, unless another thread is writing: that one writes it too."""
        self.add(event, path, count)
        self._changed.add((event, self._logs[path]))
        while self._changed and self._guard.acquire(blocking=False):
            try:
                self._write()
            finally:
                self._guard.release()

    def _write(self) -> None:
        """Write the counts that have changed."""
        with suppress(KeyError):
            while True:
                key = self._changed.pop()
                value = self._values.get(key)
                if value is None:
                    value = self._values[key] = self._new_value(*key)
                value.set(self._counts[key])

    def _new_value(self, event: str, log: str) -> Any:
        """One counter of this process's file."""
        name = f"rollsafe_{event}"
        return self._value_class("counter", name, f"{name}_total", ("log",), (log,), _HELP[event])


def _name_of_files() -> str:
    """The beginning of the names of this process's files, which no other process and no other counter has."""
    return f"rollsafe-{os.getpid()}"


class _Statsd(_Counts):
    """Sends the counts since the last datagram."""

    def __init__(self, address: str, prefix: str, tags: str) -> None:
        super().__init__()
        self._socket, self._where = _datagram_socket(address)
        self._prefix = f"{prefix.rstrip('.')}." if prefix else ""
        self._tags = f"|#{tags}" if tags else ""
        self._guard = threading.Lock()
        self._sent: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._has_more = False
        self._period = STATSD_PERIOD
        self._send_at = 0.0

    def reset(self) -> None:
        """Begin with no count sent, because it was the parent that has sent some."""
        self._guard = threading.Lock()
        self._sent = defaultdict(int)

    def count(self, event: str, path: str, count: int) -> None:
        """Count, and send if it is time."""
        self.add(event, path, count)
        self._has_more = True
        if time.monotonic() >= self._send_at:
            self.send()

    def finish(self) -> None:
        """At the exit of the process, send all counts, and from now on each one at once.

        This is called before the maintenance thread ends and before `logging` closes the handlers (atexit calls first
        what was registered last), and both may still write lines and roll.
        """
        self._period = self._send_at = 0.0
        self.send()

    def send(self) -> None:
        """Send all counts that were not sent yet, unless another thread is doing so: that one sends these too."""
        while self._has_more and self._pid == os.getpid() and self._guard.acquire(blocking=False):
            try:
                self._has_more = False
                self._send_at = time.monotonic() + self._period
                self._send_more()
            finally:
                self._guard.release()

    def _send_more(self) -> None:
        """Send what each count has grown by."""
        for event, log, count in self.totals():
            more = count - self._sent[event, log]
            if more:
                self._sent[event, log] = count
                name = f"{self._prefix}rollsafe.{re.sub(r'[^A-Za-z0-9-]', '_', log)}.{event}"
                # There may be no server, or the buffer may be full. A count that was not sent is not sent again.
                with suppress(OSError):
                    self._socket.sendto(f"{name}:{more}|c{self._tags}".encode(), self._where)


def _datagram_socket(address: str) -> tuple[socket.socket, Any]:
    """A datagram socket that never blocks, and the address to send to; the server need not be there yet."""
    try:
        family: int
        where: Any
        if address.startswith("unix://"):
            family, where = socket.AF_UNIX, address.removeprefix("unix://")
        else:
            host, _, port = address.rpartition(":")
            if not host or not port.isdigit():
                raise ValueError("it has no port")
            family, _, _, _, where = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)[0]
        sender = socket.socket(family, socket.SOCK_DGRAM)
        sender.setblocking(False)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"address={address!r} is not a statsd server: {error}; give 'host:port' or 'unix:///path/of/socket'"
        ) from error
    return sender, where
