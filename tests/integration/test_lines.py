"""The lines of logs in the order of time: backups and archives, several hosts as one, from a time to a time."""

from __future__ import annotations

import gzip
import itertools
import logging
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from rollsafe import LineFormatter, SafeTimedRotatingFileHandler
from rollsafe.tools.catalog import logs_at
from rollsafe.tools.lines import Entry, Snapshot, last_lines, merge
from tests.support.commands import run
from tests.support.servers import server_environment

NOON = 1_800_014_400.0  # 2027-01-15 12:00 UTC
ISO = "%Y-%m-%dT%H:%M:%SZ"


def write(live: Path, times: Iterable[float], *, more: str = "", escape: bool = True) -> list[str]:
    """One line at each time, by a real handler that rolls each hour; returns the lines."""
    handler = SafeTimedRotatingFileHandler(live, when="H", utc=True)
    formatter = LineFormatter("%(asctime)s %(message)s", ISO, escape=escape)
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    lines = []
    for number, when in enumerate(times):
        message = f"{live.parent.name} {number}{more}"
        handler.handle(logging.makeLogRecord({"msg": message, "created": when}))
        lines.append(f"{time.strftime(ISO, time.gmtime(when))} {message}")
    handler.close()
    return lines


def compress(path: Path) -> None:
    """Make an archive of a backup."""
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()


def past(*hours: float) -> list[float]:
    """Times so many hours ago, from the first to the last."""
    now = time.time()
    return sorted(now - back * 3600 for back in hours)


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """A log of six hours, the older half compressed."""
    live = tmp_path / "one" / "app.log"
    live.parent.mkdir()
    write(live, past(*(hours / 4 for hours in range(24))))
    for backup in sorted(live.parent.glob("app.log.*"))[:3]:
        compress(backup)
    return live


def complain(sentence: str) -> None:
    """No complaint is expected."""
    raise AssertionError(sentence)


def numbers(output: str) -> list[int]:
    """The numbers of the lines of `write`."""
    return [int(line.rsplit(" ", 1)[1]) for line in output.splitlines()]


def test_cat_prints_backups_archives_and_live_file_in_the_order_of_time(live: Path) -> None:
    ran = run("cat", str(live.parent))
    assert (ran.returncode, ran.stderr) == (0, "")
    assert numbers(ran.stdout) == list(range(24))


def test_cat_reads_a_single_backup_too(live: Path) -> None:
    backup = min(live.parent.glob("app.log.*"))
    ran = run("cat", str(backup))
    assert ran.stdout == gzip.decompress(backup.read_bytes()).decode()


def test_since_and_until_choose_by_the_times_of_the_lines(live: Path) -> None:
    since, until = (time.strftime(ISO, time.gmtime(time.time() - back)) for back in (3600 * 3.1, 3600 * 1.1))
    ran = run("cat", "--since", since, "--until", until, str(live))
    assert numbers(ran.stdout) == list(range(11, 19))
    assert numbers(run("cat", "--since", "66 minutes ago", str(live)).stdout) == list(range(19, 24))


def test_several_hosts_give_one_stream_ordered_by_time(tmp_path: Path) -> None:
    chance = random.Random(1)
    hosts, written = [], []
    for host in ("a", "b", "c"):
        (tmp_path / host).mkdir()
        hosts.append(str(tmp_path / host))
        times = past(*(chance.random() * 5 for _ in range(200)))
        written += write(tmp_path / host / "app.log", times, more="\n  continued\n  2001-01-01 too", escape=False)
    ran = run("cat", *hosts)
    lines = ran.stdout.splitlines()
    heads = [line for line in lines if not line.startswith(" ")]
    assert sorted(heads) == sorted(line.splitlines()[0] for line in written)
    assert [head[:20] for head in heads] == sorted(head[:20] for head in heads)
    # What tells no time stays with the line before it.
    assert all(group == ("  continued", "  2001-01-01 too") for group in zip(lines[1::3], lines[2::3], strict=True))


def test_with_name_tells_of_which_host_each_line_is(tmp_path: Path) -> None:
    for host in ("a", "b"):
        (tmp_path / host).mkdir()
        write(tmp_path / host / "app.log", past(1, 0))
    ran = subprocess.run(
        [sys.executable, "-m", "rollsafe.cli", "cat", "-H", "a", "b"],
        cwd=tmp_path,
        env=server_environment(),
        capture_output=True,
        text=True,
    )
    assert [line.split()[0] for line in ran.stdout.splitlines()].count("a/app.log:") == 2
    assert all(line.split(" ")[0] == f"{line.split(' ')[2]}/app.log:" for line in ran.stdout.splitlines())


def test_tail_prints_the_last_lines_across_files(live: Path) -> None:
    assert numbers(run("tail", str(live)).stdout) == list(range(14, 24))
    assert numbers(run("tail", "-n", "20", str(live)).stdout) == list(range(4, 24))
    assert numbers(run("tail", "-n", "100", str(live)).stdout) == list(range(24))
    assert run("tail", "-n", "0", str(live)).stdout == ""
    assert numbers(run("tail", "-n", "2", "--until", "2 hours ago", str(live)).stdout) == [14, 15]


def test_tail_of_several_logs_has_the_last_lines_of_all(tmp_path: Path) -> None:
    for host, hours in (("a", (3, 2, 1)), ("b", (2.5, 1.5, 0.5))):
        (tmp_path / host).mkdir()
        write(tmp_path / host / "app.log", past(*hours))
    ran = run("tail", "-n", "3", str(tmp_path / "a"), str(tmp_path / "b"))
    assert [line.split()[1:] for line in ran.stdout.splitlines()] == [["b", "1"], ["a", "2"], ["b", "2"]]


def test_follow_and_until_exclude_each_other(live: Path) -> None:
    ran = run("tail", "-f", "--until", "1 h ago", str(live))
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)


def test_a_reader_that_has_seen_enough_ends_cat_without_a_word(live: Path) -> None:
    write(live, itertools.repeat(time.time(), 30_000))
    command = f"{sys.executable} -m rollsafe.cli cat {live} | head -1"
    ran = subprocess.run(["sh", "-c", command], env=server_environment(), capture_output=True, text=True)
    assert (ran.stdout.count("\n"), ran.stderr) == (1, "")


def test_a_damaged_archive_is_read_as_far_as_it_goes_and_that_is_said(live: Path) -> None:
    archive = min(live.parent.glob("app.log.*"))
    archive.write_bytes(archive.read_bytes()[:-10])
    ran = run("cat", str(live))
    assert "is damaged" in ran.stderr
    assert numbers(ran.stdout)[-20:] == list(range(4, 24))


def test_what_is_renamed_compressed_or_rolled_while_it_is_read_is_read_once(live: Path) -> None:
    snapshot = Snapshot(logs_at([live])[0])
    entries = snapshot.entries(complain)
    found = [next(entries)]
    handler = SafeTimedRotatingFileHandler(live, when="H", utc=True)
    handler.doRollover()
    handler.handle(logging.makeLogRecord({"msg": "came later"}))
    handler.close()
    for backup in sorted(live.parent.glob("app.log.*[0-9]")):
        compress(backup)
    found += entries
    snapshot.close()
    assert numbers(b"".join(text for _, text in found).decode()) == list(range(24))


def test_what_retention_removes_while_it_is_read_is_said(live: Path) -> None:
    sentences: list[str] = []
    snapshot = Snapshot(logs_at([live])[0])
    min(live.parent.glob("app.log.*")).unlink()
    list(snapshot.entries(sentences.append))
    snapshot.close()
    assert len(sentences) == 1
    assert "was removed while the log was read" in sentences[0]


def test_what_awaits_a_rotator_is_read_too(live: Path) -> None:
    backup = max(live.parent.glob("app.log.*[0-9]"))
    backup.rename(f"{backup}.rolled")
    assert numbers(run("cat", str(live)).stdout) == list(range(24))


def test_merging_keeps_each_streams_own_order() -> None:
    late: list[Entry] = [(3.0, b"a1"), (1.0, b"a2"), (4.0, b"a3")]
    assert [text for _, text in merge([late, [(2.0, b"b1"), (3.5, b"b2")]])] == [b"b1", b"a1", b"a2", b"b2", b"a3"]


@pytest.mark.parametrize("count", [0, 1, 3, 100, 1000])
def test_last_lines_are_found_from_the_end(count: int, tmp_path: Path) -> None:
    lines = [b"%d %s\n" % (number, b"x" * (number * 97 % 5000)) for number in range(100)]
    path = tmp_path / "app.log"
    path.write_bytes(b"".join(lines))
    with path.open("rb") as file:
        assert last_lines(file, os.path.getsize(path), count) == (lines[-count:] if count else [])
        assert last_lines(file, 0, count) == []


@pytest.mark.parametrize("command", ["cat", "tail"])
def test_a_time_yet_to_come_is_said_to_be_one(command: str, live: Path) -> None:
    ran = run(command, "--since", "+2 hours", str(live))
    assert (ran.returncode, ran.stdout) == (0, "")
    assert ran.stderr.startswith("rollsafe: --since '+2 hours' is in the future (")
    assert ran.stderr.count("\n") == 1
    assert "in 1 h 59 min" in ran.stderr or "in 2 h" in ran.stderr


def test_a_day_is_named_as_people_do(live: Path) -> None:
    lines = run("cat", str(live)).stdout
    assert run("cat", "--since", "yesterday", "--until", "tomorrow", str(live)).stdout == lines
    assert run("cat", "--until", "yesterday", str(live)).stdout == ""
