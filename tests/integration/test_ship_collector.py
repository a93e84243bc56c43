"""Shipping with a real OpenTelemetry Collector: every line that busy gunicorn workers log arrives, and arrives once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.load import suffix_of_seconds
from tests.support.oracle import LINE_FORMAT, audit, read_line
from tests.support.otlp import (
    LogRecord,
    OtlpSink,
    collector,
    require_collector,
    require_collector_with_storage,
    without_storage,
)
from tests.support.servers import Clients, Server, backups, server_environment, wait_until

CONFIG = """
from rollsafe._backups import maintenance_pass
from rollsafe.gunicorn import post_fork, rotating_logs

# A Collector that has no processor meanwhile would find an archive in the place of lines that it has not read.
assert hasattr(maintenance_pass, "QUIET_S")
maintenance_pass.QUIET_S = {quiet}

logconfig_dict = rotating_logs(
    "logs", when="S", utc=True, access=None, error=None, format={format!r}, compress="gz"
)
"""
# Requests whose lines have not arrived; a client waits while there are more.
MOST_UNDER_WAY = 500


class Site:
    """A gunicorn whose log is rolled over each second and compressed, and a receiver for what is shipped of it."""

    def __init__(self, directory: Path, stack: ExitStack, quiet: float) -> None:
        self.sink = stack.enter_context(OtlpSink())
        site = directory / "site"
        self.live = site / "logs" / "app.log"
        self.live.parent.mkdir(parents=True)
        # Ended before the lines are counted.
        self._server_stack = stack.enter_context(ExitStack())
        config = CONFIG.format(format=LINE_FORMAT, quiet=quiet)
        self.server = self._server_stack.enter_context(Server(site, config))
        self._directory = directory
        self._sent = 0

    def print_configuration(self) -> str:
        """The configuration that `rollsafe ship` prints."""
        command = [sys.executable, "-m", "rollsafe.cli", "ship", "otel", "gunicorn.conf.py", "--to", self.sink.url]
        state = ["--state", str(self._directory / "state")]
        where = {"cwd": self.live.parents[1], "env": server_environment()}
        return subprocess.run([*command, *state], check=True, capture_output=True, text=True, **where).stdout  # type: ignore[call-overload,no-any-return]

    @contextmanager
    def collecting(self, program: Path, text: str) -> Iterator[None]:
        """Ship while the block runs."""
        with collector(program, text, self._directory, os.environ):
            yield

    def wait_for_the_collector(self) -> None:
        """Called before each request: wait while too many lines are under way."""
        if self._sent - len(self.sink.records) > MOST_UNDER_WAY:
            wait_until(lambda: self._sent - len(self.sink.records) < MOST_UNDER_WAY, "the Collector has caught up")
        self._sent += 1

    def wait_for_rollovers(self, count: int) -> None:
        """Wait for so many more backups."""
        goal = len(backups(self.live)) + count
        wait_until(lambda: len(backups(self.live)) >= goal, f"{count} rollovers")

    def end_server(self, logged: Mapping[str, Collection[int]]) -> None:
        """End the server; every logged line is in the files, once."""
        self._server_stack.close()
        for archive in self.live.parent.glob("*.gz"):
            # One that was finished just then has the same lines as what it was made of.
            archive.with_suffix("").unlink(missing_ok=True)
        report = audit(self.live, logged, suffix_of_seconds(1))
        assert report.flawless, f"{report}\n{report.examples}"


def arrived(records: Sequence[LogRecord]) -> Counter[tuple[str, int]]:
    """How often each line has arrived."""
    counts: Counter[tuple[str, int]] = Counter()
    for record in records:
        stamp = read_line(f"{record.body}\n".encode())
        assert stamp is not None, f"no whole line: {record}"
        counts[stamp[1].decode(), int(stamp[2])] += 1
    return counts


def wait_until_all_are_there(sink: OtlpSink, logged: Mapping[str, Collection[int]]) -> Counter[tuple[str, int]]:
    """Wait until each logged line has arrived; returns how often each one has."""
    lines = {(stream, number) for stream, numbers in logged.items() for number in numbers}
    wait_until(lambda: len(sink.records) >= len(lines) and not lines - arrived(sink.records).keys(), "all have arrived")
    return arrived(sink.records)


@pytest.mark.slow
def test_every_line_arrives_once_while_the_log_is_rolled_and_compressed_each_second(tmp_path: Path) -> None:
    program = require_collector()
    with ExitStack() as stack:
        site = Site(tmp_path, stack, quiet=20.0)
        with site.collecting(program, without_storage(site.print_configuration())):
            with Clients(site.server, pause=0.01, before=site.wait_for_the_collector) as clients:
                site.wait_for_rollovers(5)
                wait_until(lambda: sum(path.suffix == ".gz" for path in backups(site.live)) > 5, "archives are there")
            counts = wait_until_all_are_there(site.sink, clients.acknowledged)
            # A file that is read once more would be so by now.
            before = len(site.sink.records)
            site.server.get("/line/end/0/60")
            wait_until(lambda: len(site.sink.records) > before, "the last line has arrived")
        logged = {**clients.acknowledged, "end": [0], "ready": [0]}
        assert {line: count for line, count in arrived(site.sink.records).items() if count > 1} == {}
        assert counts.total() >= sum(map(len, clients.acknowledged.values()))
        site.end_server(logged)


Choose = Callable[[], Path]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("choose", "has_storage"),
    [(require_collector_with_storage, True), (require_collector, False)],
    ids=["with file_storage", "without file_storage"],
)
def test_no_line_is_lost_though_the_collector_is_stopped_while_the_log_is_rolled(
    tmp_path: Path, choose: Choose, has_storage: bool
) -> None:
    program = choose()
    with ExitStack() as stack:
        # No backup is compressed while the Collector is stopped.
        site = Site(tmp_path, stack, quiet=600.0)
        text = site.print_configuration()
        if not has_storage:
            text = without_storage(text)
        with Clients(site.server, name="while", pause=0.01) as first, site.collecting(program, text):
            first.wait_for(300)
            site.wait_for_rollovers(2)
            wait_until(lambda: len(site.sink.records) > 100, "some lines have arrived")
        with Clients(site.server, name="stopped", pause=0.01) as second:
            second.wait_for(100)
            site.wait_for_rollovers(2)
        logged = first.acknowledged | second.acknowledged
        with site.collecting(program, text):
            counts = wait_until_all_are_there(site.sink, logged)
        twice = [line for line, count in counts.items() if count > 1]
        # Without its positions it reads the files from their beginnings.
        assert bool(twice) is not has_storage
        site.end_server({**logged, "ready": [0]})
