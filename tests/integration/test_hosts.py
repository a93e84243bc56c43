"""`cat`, `tail -f` and `verify` over directories of several hosts whose clocks differ: the order, and no line twice."""

from __future__ import annotations

import gzip
import heapq
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from rollsafe import LineFormatter, SafeTimedRotatingFileHandler
from rollsafe.json_lines import JSONFormatter
from rollsafe.tools import several_followed
from rollsafe.tools.follow import Follower
from rollsafe.tools.lines import merge, snapshots_of
from rollsafe.tools.several import Claims, logs_of_hosts
from rollsafe.tools.several_followed import FollowedTogether
from rollsafe.tools.source import Owners
from rollsafe.tools.verify import verify
from tests.support.clock import Clock, needs_libfaketime
from tests.support.commands import run
from tests.support.needs import require_command
from tests.support.servers import backups, server_environment, wait_until

HOSTS = {"web1": 0.0, "web2": -0.1, "web3": -0.2}
"""By how many seconds the clock of each host differs."""
HOUR = 3600.0


def access_line(number: int, host: str, when: float) -> str:
    """What an access log says of a request."""
    moment = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(when))
    return f'127.0.0.1 - - [{moment}] "GET /{number} HTTP/1.1" 200 5 "-" "{host}"'


def text_formatter() -> logging.Formatter:
    """Lines that begin with their time; a record may have several."""
    formatter = LineFormatter("%(asctime)s %(message)s %(stamp)s", escape=False)
    formatter.converter = time.gmtime
    return formatter


FORMATTERS: dict[str, Callable[[], logging.Formatter]] = {
    "text": text_formatter,
    "json": lambda: JSONFormatter("%(message)s %(asctime)s %(stamp)s", tz="UTC"),
    "access": lambda: LineFormatter("%(message)s"),
}


class Host:
    """A host with one log; its clock differs from that of the test."""

    def __init__(self, directory: Path, form: str = "text", shift: float = 0.0, **keywords: Any) -> None:
        directory.mkdir(parents=True)
        self.live = directory / "app.log"
        self.name = directory.name
        self._form = form
        self.shift = shift
        self.handler = SafeTimedRotatingFileHandler(self.live, **{"when": "H", "utc": True, **keywords})
        self.handler.setFormatter(FORMATTERS[form]())

    def log(self, number: int, now: float, more: str = "") -> None:
        """Line `number` at the moment `now`, as the clock of the host shows it."""
        when = now + self.shift
        text = access_line(number, self.name, when) if self._form == "access" else f"{self.name} n{number}.{more}"
        self.handler.handle(logging.makeLogRecord({"msg": text, "created": when, "msecs": when % 1 * 1000}))


@pytest.fixture
def start() -> Iterator[Callable[..., Host]]:
    """Makes hosts, whose handlers are closed at the end."""
    with ExitStack() as stack:

        def make(*arguments: Any, **keywords: Any) -> Host:
            host = Host(*arguments, **keywords)
            stack.callback(host.handler.close)
            return host

        yield make


def complain(sentence: str) -> None:
    """No complaint is expected."""
    raise AssertionError(sentence)


def texts(*paths: Path, said: Callable[[str], None] = complain) -> list[str]:
    """The lines that `rollsafe cat` prints."""
    logs = logs_of_hosts(paths, said)
    snapshots = snapshots_of(logs, Claims(logs))
    try:
        entries = merge([snapshot.entries(said) for snapshot in snapshots])
        return b"".join(text for _, text in entries).decode().splitlines()
    finally:
        for snapshot in snapshots:
            snapshot.close()


def numbers(lines: list[str]) -> list[int]:
    """The numbers of the lines of `Host`."""
    return [int(match[1]) for line in lines if (match := re.search(r"(?: n|GET /)(\d+)[. ]", line))]


def compress(backup: Path, *, keep: bool = False) -> Path:
    """Make an archive of a backup, as an archiver does."""
    archive = backup.with_name(f"{backup.name}.gz")
    archive.write_bytes(gzip.compress(backup.read_bytes()))
    if not keep:
        backup.unlink()
    return archive


@pytest.fixture
def logs(tmp_path: Path, start: Callable[..., Host]) -> Path:
    """Three hosts in a directory, with 30 lines of three hours, by turns; one of them has archives."""
    hosts = [start(tmp_path / "logs" / name, shift=shift) for name, shift in HOSTS.items()]
    # The last lines are of this hour on all hosts, even if it has just begun.
    last = max(time.time(), time.time() // HOUR * HOUR + 0.5)
    for number in range(30):
        hosts[number % 3].log(number, last - (29 - number) * 360)
    for backup in backups(tmp_path / "logs" / "web2" / "app.log"):
        compress(backup)
    return tmp_path / "logs"


def test_a_directory_without_a_log_stands_for_those_of_the_hosts_in_it(logs: Path) -> None:
    assert numbers(texts(logs)) == list(range(30))
    assert numbers(run("cat", str(logs)).stdout.splitlines()) == list(range(30))
    report = verify(logs_of_hosts([logs], complain))
    assert (report.found, report.lines, len(report.streams), report.notes) == ({}, 30, 3, [])


def test_services_below_hosts_are_found_and_what_holds_no_log_is_said(logs: Path) -> None:
    (logs / "web1").rename(logs / "moved")
    (logs / "web1").mkdir()
    (logs / "moved").rename(logs / "web1" / "shop")
    (logs / "empty").mkdir()
    (logs / ".hidden").mkdir()
    (logs / "scripts").mkdir()
    (logs / "scripts" / "clean.sh").touch()
    said: list[str] = []
    assert numbers(texts(logs, said=said.append)) == list(range(30))
    assert said == [f"{str(logs / 'scripts')!r} holds no log, so it is left out"]
    ran = run("verify", str(logs))
    assert (ran.returncode, ran.stderr) == (2, f"rollsafe: {said[0]}\n")


def test_a_copy_without_hidden_files_and_backups_is_read(tmp_path: Path, logs: Path) -> None:
    copy = tmp_path / "copy"
    for host in HOSTS:
        (copy / host).mkdir(parents=True)
        (copy / host / "app.log").write_bytes((logs / host / "app.log").read_bytes())
    lines = [line for host in HOSTS for line in (logs / host / "app.log").read_text().splitlines()]
    assert numbers(texts(copy)) == sorted(numbers(lines))
    assert {27, 28, 29} & set(numbers(lines))


NAMES: dict[str, Callable[[Path], list[Path]]] = {
    "twice": lambda logs: [logs, logs],
    "parent and child": lambda logs: [logs, logs / "web1", logs / "web2" / "app.log"],
    "child and parent": lambda logs: [logs / "web3", logs],
    "dots": lambda logs: [logs, logs / "web1" / ".." / "web2"],
    "link": lambda logs: [logs, link(logs.parent / "link", logs / "web1")],
    "link inside": lambda logs: [link(logs / "other", logs / "web1").parent],
    "link to the parent": lambda logs: [link(logs / "up", logs).parent],
    "link of a live file": lambda logs: [link(logs.parent / "live", logs / "web1" / "app.log"), logs],
    "backups by a pattern": lambda logs: [*backups(logs / "web1" / "app.log"), logs],
    "hard links of a snapshot": lambda logs: [snapshot_of(logs / "web1", logs / "snap1"), logs],
    "a hard link of the live file": lambda logs: [hard_link(logs / "web1" / "app.log", logs.parent / "app.log"), logs],
    "two names in one directory": lambda logs: [
        hard_link(oldest(logs / "web1"), logs / "web1" / f"{oldest(logs / 'web1').name}.7").parents[1]
    ],
    "live file and backup": lambda logs: [
        hard_link(logs / "web1" / "app.log", logs / "web1" / f"{oldest(logs / 'web1').name}.8").parents[1]
    ],
    "plain and archived": lambda logs: [compress(oldest(logs / "web1"), keep=True).parents[1]],
}


def link(path: Path, target: Path) -> Path:
    """A symbolic link."""
    path.symlink_to(target)
    return path


def hard_link(source: Path, path: Path) -> Path:
    """Another name of a file."""
    path.hardlink_to(source)
    return path


def snapshot_of(directory: Path, target: Path) -> Path:
    """A copy by hard links, as `cp -al` makes it."""
    shutil.copytree(directory, target, copy_function=os.link, ignore=shutil.ignore_patterns(".*"))
    return target


def oldest(directory: Path) -> Path:
    """The oldest backup of a host."""
    return backups(directory / "app.log")[0]


@pytest.mark.parametrize("given", NAMES.values(), ids=NAMES.keys())
def test_no_line_is_printed_twice_by_whatever_names(logs: Path, given: Callable[[Path], list[Path]]) -> None:
    paths = given(logs)
    assert sorted(numbers(texts(*paths))) == list(range(30))
    report = verify(logs_of_hosts(paths, complain))
    assert (report.lines, report.found.get("doubled", 0), report.found.get("gap", 0)) == (30, 0, 0)


@pytest.mark.parametrize("given", NAMES.values(), ids=NAMES.keys())
def test_no_line_is_followed_twice_by_whatever_names(logs: Path, given: Callable[[Path], list[Path]]) -> None:
    paths = given(logs)
    found = logs_of_hosts(paths, complain)
    claims, owners = Claims(found), Owners()
    followers = [Follower(log, complain, claims, owners) for log in found]
    printed = [text for each in followers for _, text in each.snapshot.entries(complain)]
    assert sorted(numbers(b"".join(printed).decode().splitlines())) == list(range(30))
    for number, live in enumerate((logs / host / "app.log" for host in HOSTS), 30):
        with live.open("a") as file:
            file.write(f"2026-11-25 00:00:00 x n{number}.\n")
    assert sorted(numbers([line.decode() for each in followers for line in each.poll()])) == [30, 31, 32]
    assert [line for each in followers for line in each.poll()] == []
    for follower in followers:
        follower.close()


def test_a_bind_mount_is_no_other_directory(logs: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can mount: run the tests as root, or in a container")
    unshare = require_command("unshare", package="util-linux")
    mounted = logs / "mounted"
    mounted.mkdir()
    commands = 'mount --bind "$1" "$2" && echo mounted && exec "$4" -m rollsafe.cli cat "$3"'
    ran = subprocess.run(
        [unshare, "--mount", "sh", "-c", commands, "sh", logs / "web1", mounted, logs, sys.executable],
        env=server_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if not ran.stdout:
        pytest.skip(f"no mount here: {ran.stderr.strip()}; a container must be started with CAP_SYS_ADMIN")
    assert numbers(ran.stdout.splitlines()) == list(range(30)), ran.stderr


def test_two_files_with_the_inode_number_of_a_third_are_two(tmp_path: Path) -> None:
    claims = Claims()
    (tmp_path / "a").touch()
    assert claims.take(str(tmp_path / "a"))
    (tmp_path / "a").rename(tmp_path / "b")
    assert claims.take(str(tmp_path / "b")), "the name before is gone"
    (tmp_path / "c").hardlink_to(tmp_path / "b")
    assert not claims.take(str(tmp_path / "c"))
    assert claims.take(str(tmp_path / "gone"))


def test_of_a_backup_plain_and_archived_the_one_with_more_counts(logs: Path) -> None:
    backup = oldest(logs / "web1")
    whole = backup.read_bytes()
    for archived, plain in ((whole, whole[: whole.index(b"\n") + 1]), (whole[: whole.index(b"\n") + 1], whole)):
        backup.with_name(f"{backup.name}.gz").write_bytes(gzip.compress(archived))
        backup.write_bytes(plain)
        assert numbers(texts(logs)) == list(range(30))
        assert verify(logs_of_hosts([logs], complain)).lines == 30


def test_a_copy_of_a_log_is_noted(logs: Path) -> None:
    shutil.copytree(logs / "web1", logs / "web1.copy")
    report = verify(logs_of_hosts([logs], complain))
    assert (report.found, report.lines) == ({}, 40)
    assert [note for note in report.notes if "copies" in note] == [
        f"{logs}/web1.copy/app.log: it has lines of stream {report.streams[0].stream}, as {logs}/web1/app.log has, so"
        " these are copies of one log; each was verified for itself"
    ]


@pytest.mark.parametrize("form", FORMATTERS)
def test_lines_of_clocks_that_differ_are_in_the_order_of_their_times(
    form: str, tmp_path: Path, start: Callable[..., Host]
) -> None:
    hosts = [start(tmp_path / name, form, shift) for name, shift in HOSTS.items()]
    now = time.time() // 1 - HOUR
    for number in range(60):
        hosts[number % 3].log(number, now + number * 0.07)

    def place(number: int) -> tuple[float, int]:
        """The time that the line shows, and the number of its host."""
        when = now + number * 0.07 + hosts[number % 3].shift
        return when // 1 if form == "access" else when, number % 3

    # Of equal times, which access lines have in each second, those of the first host come first.
    assert numbers(texts(tmp_path)) == sorted(range(60), key=place)
    by_name = [tmp_path / name for name in reversed(HOSTS)]
    assert numbers(texts(*by_name)) == sorted(range(60), key=lambda number: (place(number)[0], -(number % 3)))


def test_a_clock_that_is_set_back_leaves_the_lines_of_its_host_in_their_order(
    tmp_path: Path, start: Callable[..., Host]
) -> None:
    one, two = start(tmp_path / "one", when="D"), start(tmp_path / "two", when="D")
    noon = time.time() // 86400 * 86400 + 1000
    for number, seconds in ((0, 0), (2, 2), (4, 1), (5, 1.5), (6, 3)):
        one.log(number, noon + seconds)
    for number, seconds in ((1, 1.7), (3, 2), (7, 3)):
        two.log(number, noon + seconds)
    # 4 and 5 are earlier than 2, so they follow it at once; 3 has the time of 2, and is of the second log.
    assert numbers(texts(tmp_path)) == [0, 1, 2, 4, 5, 3, 6, 7]


TRACEBACK = (
    "\nTraceback (most recent call last):\n  File 'shop.py'\nValueError: 2001-01-01 10:00:00\n"
    "due at 2030-01-01 10:00:00\n\n[25/Nov/2031:16:14:00 +0000] is no access line\n{no JSON}\nend"
)


def test_the_lines_of_a_record_stay_together(tmp_path: Path, start: Callable[..., Host]) -> None:
    hosts = [start(tmp_path / name, shift=shift) for name, shift in HOSTS.items()]
    now = time.time() - 3 * HOUR
    for number in range(30):
        hosts[number % 3].log(number, now + number * 300, TRACEBACK)
    lines = texts(tmp_path)
    assert numbers(lines) == list(range(30))
    record = TRACEBACK.splitlines()[1:-1]
    assert [lines[row : row + 9][1:-1] for row in range(0, len(lines), 9)] == [record] * 30
    # The last lines of a host are in the middle of a record, and are still its last ones.
    for count in (1, 5, 9, 14, 40):
        assert run("tail", "-n", str(count), str(tmp_path)).stdout.splitlines() == lines[-count:]


def copies(directory: Path, files: dict[str, str]) -> Path:
    """Files of hosts as copies without lock files have them."""
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


def test_a_record_that_a_rollover_has_split_stays_together(tmp_path: Path) -> None:
    # As a program writes it line by line into a pipe. The header of another program has the time of its first line.
    logs = copies(
        tmp_path / "logs",
        {
            "a/app.log.2026-11-25_15": "2026-11-25 15:59:59 one\nTraceback:\n",
            "a/app.log": "  File shop.py\nValueError\n2026-11-25 16:00:02 four\n",
            "b/app.log.2026-11-25_15": "Version 3\n\n2026-11-25 15:59:59 two\n2026-11-25 15:59:59 two\n",
            "b/app.log": "2026-11-25 16:00:01 three\n",
        },
    )
    expected = ["15:59:59 one", "Traceback:", "  File shop.py", "ValueError", "Version 3", "", "15:59:59 two"]
    expected += ["15:59:59 two", "16:00:01 three", "16:00:02 four"]
    assert [line.removeprefix("2026-11-25 ") for line in texts(logs)] == expected
    ran = run("tail", "-n", "9", str(logs))
    assert [line.removeprefix("2026-11-25 ") for line in ran.stdout.splitlines()] == expected[-9:]


def test_lines_without_any_time_are_in_the_order_of_the_intervals(tmp_path: Path) -> None:
    logs = copies(
        tmp_path / "logs",
        {
            "a/app.log.2026-11-25_14": "one\n\n",
            "a/app.log.2026-11-25_15": "",
            "a/app.log.2026-11-25_16": "three\n",
            "b/app.log.2026-11-25_15": "2026-11-25 15:10:00 two\n",
            "b/app.log.2026-11-25_17": "not yet\n" * 1200 + "2026-11-25 17:10:00 four\n",
        },
    )
    assert texts(logs) == [
        "one",
        "",
        "2026-11-25 15:10:00 two",
        "three",
        *["not yet"] * 1200,
        "2026-11-25 17:10:00 four",
    ]


def test_a_host_whose_clock_began_in_1970_or_is_far_ahead_loses_nothing(tmp_path: Path) -> None:
    logs = copies(
        tmp_path / "logs",
        {
            "a/app.log": "1970-01-01 00:00:01 a1\n2026-11-25 16:00:02 a2\n1970-01-01 00:00:01 a3\n",
            "b/app.log": "2026-11-25 16:00:01 b1\n2066-10-24 23:45:52 b2\n2026-11-25 16:00:03 b3\n",
        },
    )
    assert [line[-2:] for line in texts(logs)] == ["a1", "b1", "a2", "a3", "b2", "b3"]


def test_a_time_inside_a_json_line_is_not_that_of_the_line(tmp_path: Path, start: Callable[..., Host]) -> None:
    hosts = [start(tmp_path / name, "json", shift) for name, shift in HOSTS.items()]
    now = time.time() - HOUR
    for number in range(6):
        for host in hosts[number % 3 :][:1]:
            when = now + number + HOSTS[host.name]
            record = {"msg": f"{host.name} n{number}.", "created": when, "msecs": when % 1 * 1000}
            # The message comes before the time.
            record["order"] = {"date": "2031-01-01 10:00:00", "created": 1_900_000_000 + number}
            host.handler.setFormatter(JSONFormatter("%(message)s %(order)s %(asctime)s %(stamp)s", tz="UTC"))
            host.handler.handle(logging.makeLogRecord(record))
    lines = texts(tmp_path)
    assert numbers(lines) == list(range(6))
    assert json.loads(lines[0])["order"]["date"] == "2031-01-01 10:00:00"
    assert verify(logs_of_hosts([tmp_path], complain)).found == {}


class Followed:
    """Three hosts that are followed together, with a clock that the test sets on."""

    def __init__(self, directory: Path, start: Callable[..., Host], form: str = "text", **keywords: Any) -> None:
        self.now = 1000.0
        self.hosts = [start(directory / name, form, shift, **keywords) for name, shift in HOSTS.items()]
        for host in self.hosts:
            host.log(0, time.time())
        logs = logs_of_hosts([directory], complain)
        claims, owners = Claims(logs), Owners()
        self.followers = [Follower(log, complain, claims, owners) for log in logs]
        self.together = FollowedTogether(self.followers, lambda: self.now)

    def polled(self, seconds: float = 0.0) -> list[str]:
        """The lines that are printed when so many seconds have passed."""
        self.now += seconds
        return b"".join(text for _, (_, text) in self.together.poll()).decode().splitlines()

    def close(self) -> None:
        """Follow no longer."""
        for follower in self.followers:
            follower.close()


@pytest.fixture
def followed(tmp_path: Path, start: Callable[..., Host]) -> Iterator[Followed]:
    """Three hosts that are followed."""
    followed = Followed(tmp_path, start)
    yield followed
    followed.close()


def test_new_lines_wait_for_earlier_ones_of_other_hosts(followed: Followed) -> None:
    one, two, three = followed.hosts
    now = time.time()
    one.log(3, now + 0.3)
    assert followed.polled() == []
    two.log(2, now + 0.35)
    one.log(4, now + 0.45)
    assert followed.polled(several_followed.HELD / 2) == []
    three.log(1, now + 0.25)
    # The look at which a line comes prints it only if it is not the last of its log, whose record may go on.
    assert numbers(followed.polled(several_followed.HELD / 2)) == []
    assert numbers(followed.polled(0.1)) == [1, 2, 3]
    assert numbers(followed.polled(several_followed.HELD)) == [4]
    two.log(5, now - 1)
    followed.polled()
    assert numbers(followed.polled(several_followed.HELD)) == [5], "a line that comes later is printed when it comes"


def test_a_record_whose_end_is_seen_later_stays_whole(followed: Followed) -> None:
    one, two, _ = followed.hosts
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    with one.live.open("ab", buffering=0) as file:
        file.write(f"{stamp} one n1.\nTraceback\n".encode())
        assert followed.polled() == []
        two.log(2, time.time() + 5)
        followed.polled(0.1)
        file.write(b"  at 2001-01-01 00:00:00\nValueError 2001-01-01 00:00:00\n")
        lines = followed.polled(several_followed.HELD - 0.05)
        lines += followed.polled(several_followed.HELD)
    assert [line.split()[-1] for line in lines[:4]] == ["n1.", "Traceback", "00:00:00", "00:00:00"]
    assert numbers(lines) == [1, 2]


def test_lines_that_wait_are_printed_at_the_end(followed: Followed) -> None:
    for number, host in enumerate(followed.hosts):
        host.log(number, time.time() + number)
    assert followed.polled() == []
    assert numbers([text.decode() for _, (_, text) in followed.together.rest()]) == [0, 1, 2]


def test_a_reader_that_lags_behind_does_not_wait(followed: Followed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(several_followed, "_MOST", 500)
    for number in range(30):
        followed.hosts[number % 3].log(number, time.time() + number)
    lines = followed.polled()
    assert 0 < len(lines) < 30
    lines += followed.polled(several_followed.HELD)
    assert numbers(lines + followed.polled(0.1)) == list(range(30))


@pytest.mark.parametrize("form", FORMATTERS)
def test_rollovers_of_each_host_while_it_is_followed(form: str, tmp_path: Path, start: Callable[..., Host]) -> None:
    followed = Followed(tmp_path, start, form)
    now = time.time() // 1
    lines: list[str] = []
    for number in range(1, 91):
        host = followed.hosts[number % 3]
        host.log(number, now + number)
        if number % 10 == 0:
            host.handler.doRollover()
        if number % 20 == 0:
            for backup in host.live.parent.glob("app.log.*[0-9]"):
                compress(backup)
        if number % 7 == 0:
            lines += followed.polled(several_followed.HELD * 2)
    for _ in range(3):
        lines += followed.polled(several_followed.HELD)
    followed.close()
    assert sorted(numbers(lines)) == list(range(1, 91))
    for remainder in range(3):
        own = [number for number in numbers(lines) if number % 3 == remainder]
        assert own == sorted(own), "each host in its order"


@pytest.fixture
def tailed(tmp_path: Path, start: Callable[..., Host]) -> Iterator[tuple[Path, Path]]:
    """The directory of hosts that `rollsafe tail -f` follows, with a line of the first one, and what it has printed."""
    logs, output = tmp_path / "logs", tmp_path / "printed"
    start(logs / "web1").log(1, time.time())
    command = [sys.executable, "-m", "rollsafe.cli", "tail", "-f", str(logs)]
    with output.open("wb") as file, subprocess.Popen(command, env=server_environment(), stdout=file) as tail:
        try:
            wait_until(lambda: b" n1." in output.read_bytes(), "the line of the first host")
            yield logs, output
        finally:
            tail.kill()


def test_a_host_that_comes_later_is_followed_from_its_first_line(
    tailed: tuple[Path, Path], start: Callable[..., Host]
) -> None:
    logs, output = tailed
    host = start(logs / "web2")
    (logs / "again").symlink_to(logs / "web1")
    host.log(2, time.time() - 2 * HOUR)
    host.log(3, time.time())
    wait_until(lambda: b" n3." in output.read_bytes(), "the lines of the second host")
    host.handler.doRollover()
    host.log(4, time.time())
    wait_until(lambda: b" n4." in output.read_bytes(), "the line after a rollover")
    assert numbers(output.read_text().splitlines()) == [1, 2, 3, 4]


@pytest.mark.slow
def test_a_backup_with_a_name_of_its_own_kind_is_no_new_log(tailed: tuple[Path, Path]) -> None:
    logs, output = tailed
    copies(logs, {"other/x.log": "2026-11-25 16:00:00 n2.\n"})
    wait_until(lambda: b" n2." in output.read_bytes(), "the line of another program")
    (logs / "other" / "x.log").rename(logs / "other" / "x-1.log")
    copies(logs, {"other/x.log": "2026-11-25 16:00:00 n3.\n", "more/y.log": "2026-11-25 16:00:00 n4.\n"})
    wait_until(lambda: b" n4." in output.read_bytes(), "the line of a third program")
    wait_until(lambda: b" n3." in output.read_bytes(), "the line in the place of the renamed file")
    assert sorted(numbers(output.read_text().splitlines())) == [1, 2, 3, 4]


WRITER = """
import logging, sys, time
from rollsafe import LineFormatter, SafeTimedRotatingFileHandler
live, count = sys.argv[1], int(sys.argv[2])
handler = SafeTimedRotatingFileHandler(live, when="S", utc=True, compress="gz")
handler.setFormatter(LineFormatter("%(asctime)s %(message)s %(stamp)s", escape=False))
for number in range(count):
    text = f"n{number}.\\n  continued\\nat 2001-01-01 10:00:00"
    now = time.time()
    handler.handle(logging.makeLogRecord({"msg": text, "created": now, "msecs": now % 1 * 1000}))
    time.sleep(0.005)
logging.shutdown()
"""


@pytest.mark.slow
@needs_libfaketime
def test_hosts_with_clocks_of_their_own_are_followed_and_read_back(tmp_path: Path) -> None:
    count = 1000
    logs = tmp_path / "logs"
    for host in HOSTS:
        (logs / host).mkdir(parents=True)
        (logs / host / "app.log").touch()
    output = tmp_path / "printed"
    command = [sys.executable, "-m", "rollsafe.cli", "tail", "-f", "-n", "0", str(logs)]
    with output.open("wb") as file, subprocess.Popen(command, env=server_environment(), stdout=file) as tail:
        descriptors = Path(f"/proc/{tail.pid}/fd")
        live = logs / "web3" / "app.log"
        wait_until(
            lambda: sum(os.path.realpath(each) == str(live) for each in descriptors.iterdir()) == 2, "it follows"
        )
        writers = []
        for host, shift in HOSTS.items():
            clock = Clock(tmp_path / f"clock of {host}", time.time() + shift)
            environment = {**server_environment(), **clock.environment}
            writer = [sys.executable, "-c", WRITER, str(logs / host / "app.log"), str(count)]
            writers.append(subprocess.Popen(writer, env=environment))
        assert [writer.wait(timeout=300) for writer in writers] == [0, 0, 0]
        wait_until(lambda: output.read_bytes().count(b"\n") >= 9 * count, "all lines are printed")
        time.sleep(2 * several_followed.HELD)
        tail.send_signal(signal.SIGINT)
        tail.wait(timeout=120)
    followed, read = output.read_text().splitlines(), run("cat", str(logs)).stdout.splitlines()
    for lines in (followed, read):
        assert {line for line in lines[1::3]} == {"  continued"}
        records: dict[str, list[tuple[int, str]]] = {}
        for head, _, line in zip(lines[::3], lines[1::3], lines[2::3], strict=True):
            _, stream, number = line.rstrip("~").replace(".", "~").rsplit("~", 2)
            records.setdefault(stream, []).append((int(number), head[:23]))
        assert [[number for number, _ in own] for own in records.values()] == [list(range(1, count + 1))] * 3
    # A busy machine may set its clock; the order of each host stays.
    hosts = [[time for _, time in records[stream]] for stream in sorted(records, key=lambda each: read_at(logs, each))]
    assert [head[:23] for head in read[::3]] == list(heapq.merge(*hosts))
    assert verify(logs_of_hosts([logs], complain)).clean


def read_at(logs: Path, stream: str) -> str:
    """The host whose lines are of this stream."""
    return next(host for host in HOSTS if any(stream in line for line in texts(logs / host)))
