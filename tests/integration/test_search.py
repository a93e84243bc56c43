"""docs/how-to/search.md as it stands: three gunicorns write JSON lines, a real ClickHouse answers three questions."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from rollsafe.tools.catalog import logs_at
from rollsafe.tools.verify import verify
from tests.support.commands import run
from tests.support.needs import require_command
from tests.support.servers import ROOT, Server, server_environment, wait_until
from tests.support.snippets import Snippet, snippets_in

PAGE = ROOT / "docs" / "how-to" / "search.md"
HOSTS = ("web1", "web2", "web3")
LOGS = ("access", "app", "error")
REQUESTS = [f"order-{number}" + ("-fail" if number % 8 == 1 else "") for number in range(80)]
COMMAND_SECONDS = 120

SERVER = """<yandex>
  <logger><level>warning</level><log>{0}/server.log</log><errorlog>{0}/errors.log</errorlog></logger>
  <listen_host>{1}</listen_host><tcp_port>9000</tcp_port>
  <path>{0}/data/</path><tmp_path>{0}/tmp/</tmp_path><users_config>{0}/users.xml</users_config>
  <default_profile>default</default_profile><default_database>default</default_database>
  <mark_cache_size>5000000</mark_cache_size>
</yandex>
"""
USERS = """<yandex>
  <profiles><default/></profiles><quotas><default/></quotas>
  <users><default>
    <password/><networks><ip>127.0.0.0/8</ip></networks><profile>default</profile><quota>default</quota>
  </default></users>
</yandex>
"""


@dataclass(frozen=True)
class Store:
    """A ClickHouse server, and the directory in which the commands of the page are run."""

    directory: Path
    environment: dict[str, str]

    def run(self, command: str) -> list[list[str]]:
        """Run commands of the shell as the page has them; returns the fields of the lines that they print."""
        ran = subprocess.run(
            ["sh", "-ec", command],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        assert (ran.returncode, ran.stderr) == (0, ""), command
        return [line.split("\t") for line in ran.stdout.splitlines()]

    @property
    def answers(self) -> bool:
        """Whether the server answers."""
        command = ["clickhouse-client", "--query", "SELECT 1"]
        return subprocess.run(command, env=self.environment, capture_output=True, check=False).returncode == 0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A ClickHouse that listens on a loopback address of its own and keeps all its files in a directory of the test."""
    server = require_command("clickhouse-server", package="clickhouse-server")
    client = require_command("clickhouse-client", package="clickhouse-client")
    home = tmp_path / "clickhouse"
    for name in ("data", "tmp", ".clickhouse-client"):
        (home / name).mkdir(parents=True)
    # Any address of 127/8 is ours, so no other program has its port.
    address = f"127.{secrets.randbelow(200) + 20}.{secrets.randbelow(250)}.{secrets.randbelow(250) + 2}"
    (home / "config.xml").write_text(SERVER.format(home, address), encoding="utf-8")
    (home / "users.xml").write_text(USERS, encoding="utf-8")
    (home / ".clickhouse-client" / "config.xml").write_text(f"<config><host>{address}</host></config>")
    programs = home / "bin"
    programs.mkdir()
    (programs / "rollsafe").write_text(f'#!/bin/sh\nexec {sys.executable} -m rollsafe "$@"\n')
    (programs / "rollsafe").chmod(0o755)
    path = os.pathsep.join([str(programs), os.path.dirname(client), os.environ.get("PATH", os.defpath)])
    environment = {**server_environment(), "HOME": str(home), "PATH": path}
    with (
        (home / "output").open("wb") as output,
        subprocess.Popen(
            [server, f"--config-file={home / 'config.xml'}"], cwd=home, env=environment, stdout=output, stderr=output
        ) as process,
    ):
        try:
            store = Store(tmp_path, environment)
            wait_until(lambda: process.poll() is not None or store.answers, "ClickHouse answers")
            assert process.poll() is None, (home / "output").read_text()
            yield store
        finally:
            process.kill()
            process.wait()


def snippets(info: str) -> list[Snippet]:
    """The blocks of the page that are marked so."""
    return [each for each in snippets_in(PAGE.read_text(encoding="utf-8"), PAGE.name) if each.info == info]


def ask(server: Server, request: str) -> int:
    """Send a request with its id; returns the status."""
    connection: http.client.HTTPConnection = server.connect()
    try:
        connection.request("GET", f"/{request}", headers={"X-Request-ID": request})
        return connection.getresponse().status
    finally:
        connection.close()


def write_logs(directory: Path) -> Path:
    """Have three gunicorns answer requests, each by asking the next, with a rollover between; returns their logs."""
    (config,) = snippets("python gunicorn.conf.py")
    (application,) = snippets("python shop.py")
    following: dict[str, str] = {}
    with ExitStack() as stack:
        for host in reversed(HOSTS):
            place = directory / "hosts" / host
            place.mkdir(parents=True)
            (place / "shop.py").write_text(application.code, encoding="utf-8")
            server = Server(
                place,
                config.code,
                app="shop:application",
                ready="/ready",
                workers=2,
                arguments=["--threads", "4"],
                environment=following,
            )
            stack.enter_context(server)
            following = {"NEXT_HOST": f"http://127.0.0.1:{server.port}"}
        for number, request in enumerate(REQUESTS):
            assert ask(server, request) == (503 if "fail" in request else 200)
            if number == len(REQUESTS) // 2:
                for host in HOSTS:
                    ran = run("roll", "--now", str(directory / "hosts" / host / "logs"))
                    assert ran.returncode == 0, ran.stderr
    for host in HOSTS:
        shutil.copytree(directory / "hosts" / host / "logs", directory / "logs" / host)
    return directory / "logs"


@pytest.mark.slow
def test_clickhouse_answers_the_three_questions_of_the_page(store: Store) -> None:
    logs = write_logs(store.directory)
    assert all(list((logs / host).glob("app.log.*")) for host in HOSTS), "a rollover in the middle"
    table, load, of_request, by_minute, lost = [each.code for each in snippets("sh")]
    store.run(table)
    # A line that is loaded twice has the same key.
    for _ in range(2):
        assert store.run(load) == []

    lines = store.run(of_request.replace("order-17-fail", "order-9-fail"))
    assert [line[0] for line in lines] == sorted(line[0] for line in lines)
    shown = {"app": "asked for /order-9-fail", "access": "GET /order-9-fail 503"}
    assert sorted(line[1:] for line in lines) == sorted([host, log, shown[log]] for host in HOSTS for log in shown)

    failed: Counter[str] = Counter()
    requests: Counter[str] = Counter()
    for _, host, errors, count in store.run(by_minute):
        failed[host] += int(errors)
        requests[host] += int(count)
    assert failed == dict.fromkeys(HOSTS, sum("fail" in request for request in REQUESTS))
    # The next host is asked for its own readiness, too.
    assert requests == {host: len(REQUESTS) + 1 + place for place, host in enumerate(HOSTS)}

    written = Counter({host: verify(logs_at([logs / host])).stamped for host in HOSTS})
    totals = [(host, log, int(streams), int(count), int(found)) for host, log, streams, count, found in store.run(lost)]
    assert [(host, log) for host, log, *_ in totals] == [(host, log) for host in HOSTS for log in LOGS]
    assert all(count == found for *_, count, found in totals)
    assert {host: sum(each[3] for each in totals if each[0] == host) for host in HOSTS} == written

    # One line less in a backup of one host is a line that the store lacks.
    backup = max((logs / "web2").glob("app.log.*"), key=lambda path: path.stat().st_size)
    lines_there = backup.read_text().splitlines(keepends=True)
    stamps = [json.loads(line)["stamp"].strip("~").split(".") for line in lines_there]
    numbered = [(stream, int(number)) for stream, number in stamps]
    row = next(
        row
        for row, (stream, number) in enumerate(numbered)
        if {(stream, number - 1), (stream, number + 1)} <= set(numbered)
    )
    backup.write_text("".join(lines_there[:row] + lines_there[row + 1 :]))
    store.run('clickhouse-client --query "TRUNCATE TABLE lines"')
    store.run(load)
    lacking = {(host, log): int(count) - int(found) for host, log, _, count, found in store.run(lost)}
    assert lacking == {(host, log): int((host, log) == ("web2", "app")) for host in HOSTS for log in LOGS}
    stream, number = stamps[row]
    report = verify(logs_at([logs / "web2"]))
    assert [finding.text for finding in report.findings] == [f"number {number} of {stream}: in no file"]
