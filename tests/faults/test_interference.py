"""What administrators and other programs do to the files while they are written.

Which lines count: all whose emit returned. Each must be in the files of the log, once; or in a file that was taken
away (the test keeps it, or keeps it open, and reads it at the end), and then it was created before the lease was over
that its writer may have had at that moment. Nothing is excepted but what copytruncate itself drops between its copy and
its truncation.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import shutil
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from rollsafe import FileLock
from rollsafe._timing import LEASE_S
from tests.support.crew import (
    LINES,
    Crew,
    Maker,
    Writers,
    lock_path,
    log_lines,
    stop_myself,
    suffix_of_hour,
    wait_for_next_second,
)
from tests.support.load import suffix_of_seconds
from tests.support.needs import needs_command, require_command
from tests.support.oracle import Report, audit
from tests.support.servers import backups, wait_until

ROUNDS = 2
ROLLOVERS = 2
needs_logrotate = needs_command("logrotate", package="logrotate")
suffix_of = suffix_of_seconds(1)


@dataclass
class Taken:
    """A file that was taken away from the writers; it stays open, so that it can be read though it is deleted."""

    descriptor: int
    at: float

    def read(self) -> bytes:
        """All that is in it by now."""
        return os.pread(self.descriptor, os.fstat(self.descriptor).st_size, 0)


@pytest.fixture
def taken() -> Iterator[list[Taken]]:
    """The files that were taken away; closed at the end."""
    files: list[Taken] = []
    yield files
    for file in files:
        os.close(file.descriptor)


def open_taken(path: Path, taken: list[Taken]) -> None:
    """Note that `path` has just been taken away."""
    taken.append(Taken(os.open(path, os.O_RDONLY), time.time()))


def has_lines(path: Path) -> bool:
    """Whether there is something in the file."""
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


def wait_for_lines(path: Path) -> None:
    """Wait until somebody has written into the file."""
    wait_until(lambda: has_lines(path), f"lines in {path}")


def wait_for_lease_and_boundary(since: float) -> None:
    """Wait until every lease of that moment is over, and an interval too."""
    wait_until(lambda: time.time() > since + LEASE_S + 1, "a lease and an interval are over")


def wait_for_rollovers(live: Path, more: int = ROLLOVERS) -> None:
    """Wait until so many more files were rolled."""
    before = len(backups(live))
    wait_until(lambda: len(backups(live)) >= before + more, "rollovers")


def audit_with_taken(
    live: Path, contents: list[bytes], acknowledged: dict[str, int], when: Literal["S", "H"] = "S"
) -> Report:
    """Audit the log together with what is in the files that were taken away."""
    for number, content in enumerate(contents):
        live.with_name(f"{live.name}.taken-{number}").write_bytes(content)
    return audit(live, acknowledged, suffix_of if when == "S" else suffix_of_hour)


def assert_all_is_there(
    live: Path, taken: list[Taken], acknowledged: dict[str, int], when: Literal["S", "H"] = "S"
) -> None:
    """Each line is in the log or in a file that was taken away, once, whole, and in the right file of the log."""
    report = audit_with_taken(live, [file.read() for file in taken], acknowledged, when)
    assert report.faults() == ({"strangers": len(taken)} if taken else {}), f"{report}\n{report.examples}"


def assert_nothing_was_taken_after_the_lease(taken: list[Taken]) -> None:
    """No line was written into a taken file that was created after any lease of that moment."""
    for file in taken:
        assert max((created_of(line) for line in file.read().splitlines()), default=0.0) < file.at + LEASE_S


def created_of(line: bytes) -> float:
    """When the line was created."""
    return float(line.split(b" ", 1)[0])


# The lock file.


def test_a_lock_file_deleted_again_and_again_costs_no_line_and_no_file(live: Path, tmp_path: Path) -> None:
    with Writers(Maker(live), tmp_path / "scratch", count=4) as writers:
        deleted = 0
        while len(backups(live)) < ROLLOVERS or deleted <= ROLLOVERS:
            if lock_path(live).exists():
                lock_path(live).unlink()
                deleted += 1
    assert deleted > ROLLOVERS
    # Two that each hold a lock on a file of that name may roll one after the other: then a new file has an old name.
    report = audit(live, writers.acknowledged, suffix_of)
    assert report.faults().keys() <= {"misfiled"}, f"{report}\n{report.examples}"
    assert not any(writers.reported.values()), writers.reported


def test_a_process_stopped_inside_a_rollover_whose_lock_file_is_deleted_overwrites_nothing(live: Path) -> None:
    def stop_in_rollover() -> None:
        handler = Maker(live)()
        log_lines(handler, "stopped", range(LINES))

        def namer(default: str) -> str:
            calls.append(default)
            # The last call before the rename: the name was just found to be free.
            if len(calls) == calls_of_a_rollover:
                stop_myself()
            return default

        calls: list[str] = []
        handler.namer = namer
        handler.doRollover()
        log_lines(handler, "stopped", range(LINES, 2 * LINES))

    # How often a rollover asks for a name.
    counted: list[str] = []

    def count(default: str) -> str:
        counted.append(default)
        return default

    scout = Maker(live.with_name("scout.log"))()
    log_lines(scout, "scout", range(1))
    scout.namer = count
    scout.doRollover()
    calls_of_a_rollover = len(counted)
    scout.close()

    wait_for_next_second()
    others = Maker(live)()
    log_lines(others, "others", range(LINES))
    with Crew() as crew:
        stopped = crew.start(stop_in_rollover)
        stopped.wait_until_stopped()
        lock_path(live).unlink()
        others.doRollover()
        log_lines(others, "others", range(LINES, 2 * LINES))
        assert backups(live), "the others were to roll meanwhile"
        stopped.go_on()
        stopped.join()
    others.close()
    report = audit(live, {"stopped": 2 * LINES, "others": 2 * LINES}, suffix_of)
    assert report.faults().keys() <= {"misfiled"}, f"{report}\n{report.examples}"


@pytest.mark.parametrize(("put", "target"), [("before the start", "nothing"), ("while they write", "a file")])
def test_a_symbolic_link_in_place_of_the_lock_file_is_refused_and_lines_go_on(
    live: Path, tmp_path: Path, put: str, target: str
) -> None:
    foreign = tmp_path / "foreign"
    if target == "a file":
        foreign.write_bytes(b"not ours\n")
    before = state_of(foreign)
    link = functools.partial(put_link, lock_path(live), foreign)
    since = time.time()
    if put == "before the start":
        link()
    with Writers(Maker(live), tmp_path / "scratch") as writers:
        if put == "while they write":
            link()
        wait_for_lease_and_boundary(time.time())
        assert state_of(foreign) == before
        lock_path(live).unlink()
        until = time.time()
        wait_for_rollovers(live, more=2)
    assert state_of(foreign) == before
    report = audit(live, writers.acknowledged, suffix_of)
    assert report.faults().keys() <= {"misfiled"}, f"{report}\n{report.examples}"
    assert report.misfiled > 0, "somebody has rolled without a lock"
    assert lines_in_wrong_files_are_of(live, since, until + LEASE_S)
    for stream, reported in writers.reported.items():
        assert len(reported) == 1, f"{stream} said {reported}"


def put_link(path: Path, target: Path) -> None:
    """Put a symbolic link in place of `path`, at once."""
    draft = path.with_name("link.new")
    draft.symlink_to(target)
    draft.replace(path)


def state_of(path: Path) -> object:
    """What must stay as it is; None for what does not exist."""
    if not path.exists():
        return None
    status = path.stat()
    return path.read_bytes(), status.st_ino, status.st_mtime_ns, status.st_mode, status.st_uid


def lines_in_wrong_files_are_of(live: Path, since: float, until: float) -> bool:
    """Whether all lines in a backup of another second were created in that time."""
    for path in backups(live):
        for line in path.read_bytes().splitlines():
            created = created_of(line)
            if suffix_of(created) not in path.name and not int(since) <= created <= until:
                return False
    return True


# The live file.


def delete(live: Path, taken: list[Taken]) -> None:
    """Delete the live file. Renamed first, so that what is deleted is what was opened."""
    aside = live.parents[1] / "aside"
    live.rename(aside)
    open_taken(aside, taken)
    aside.unlink()


def rename(live: Path, taken: list[Taken]) -> None:
    """Rename the live file, to stay where it is."""
    aside = live.parents[1] / f"aside-{len(taken)}"
    live.rename(aside)
    open_taken(aside, taken)


def rename_and_create(live: Path, taken: list[Taken]) -> None:
    """What logrotate's "create" does, by the same system calls."""
    rename(live, taken)
    os.close(os.open(live, os.O_RDWR | os.O_CREAT, 0o644))


def logrotate(live: Path, directive: str) -> Path:
    """Have the real logrotate rotate the live file; returns where its result is."""
    program = require_command("logrotate", package="logrotate")
    old = live.parents[1] / "old"
    old.mkdir(exist_ok=True)
    config = live.parents[1] / "logrotate.conf"
    config.write_text(f"{live} {{\n{directive}\nolddir {old}\nrotate 100\nsu root root\n}}\n")
    config.chmod(0o644)
    result = old / f"{live.name}.1"
    before = result.stat().st_ino if result.exists() else None
    while not result.exists() or result.stat().st_ino == before:
        # It finds nothing to do while one of ours is between its rename and its new file.
        command = [program, "--force", "--state", str(live.parents[1] / "state"), str(config)]
        subprocess.run(command, capture_output=True)
    return result


def logrotate_create(live: Path, taken: list[Taken]) -> None:
    """The real logrotate, with "create"."""
    open_taken(logrotate(live, "create 0644"), taken)


@pytest.mark.parametrize(
    "take", [delete, rename, rename_and_create, pytest.param(logrotate_create, marks=needs_logrotate)]
)
def test_a_live_file_taken_away_gets_no_line_after_the_lease_and_none_is_lost(
    live: Path, tmp_path: Path, taken: list[Taken], take: Callable[[Path, list[Taken]], None]
) -> None:
    # Hours, so that it is the end of the lease that makes them look, and no rollover.
    with Writers(Maker(live, "H"), tmp_path / "scratch") as writers:
        for _ in range(ROUNDS):
            wait_for_lines(live)
            take(live, taken)
            wait_for_lines(live)
    assert all(file.read() for file in taken), "the files were taken from under the writers"
    assert_nothing_was_taken_after_the_lease(taken)
    assert_all_is_there(live, taken, writers.acknowledged, "H")
    assert not any(writers.reported.values()), writers.reported


def hold_lock(live: Path) -> None:
    """Hold the lock, stopped."""
    FileLock(lock_path(live)).acquire()
    stop_myself()


def forbid_lock(live: Path) -> None:
    """Put a link in place of the lock file."""
    put_link(lock_path(live), live.parents[1] / "foreign")


@pytest.mark.parametrize(("hinder", "take"), [(hold_lock, delete), (forbid_lock, rename_and_create)])
def test_a_live_file_taken_away_while_nobody_can_roll_gets_no_line_after_the_lease(
    live: Path,
    tmp_path: Path,
    taken: list[Taken],
    hinder: Callable[[Path], None],
    take: Callable[[Path, list[Taken]], None],
) -> None:
    with Writers(Maker(live), tmp_path / "scratch") as writers, Crew() as crew:
        if hinder is hold_lock:
            crew.start(functools.partial(hold_lock, live)).wait_until_stopped()
        else:
            hinder(live)
        rolled = len(backups(live))
        wait_for_lease_and_boundary(time.time())
        assert len(backups(live)) == rolled, "nobody was to roll"
        take(live, taken)
        wait_for_lease_and_boundary(taken[0].at)
    assert_nothing_was_taken_after_the_lease(taken)
    report = audit_with_taken(live, [file.read() for file in taken], writers.acknowledged)
    assert report.faults().keys() <= {"misfiled", "strangers"}, f"{report}\n{report.examples}"


def copy_and_truncate(live: Path) -> Path:
    """What logrotate's "copytruncate" does, by the same system calls; returns the copy."""
    copy = live.parents[1] / f"copy-{time.monotonic_ns()}"
    file = None
    while file is None:
        # One of ours may be between its rename and its new file.
        with contextlib.suppress(FileNotFoundError):
            file = live.open("r+b")
    with file:
        copy.write_bytes(file.read())
        file.truncate(0)
    return copy


def logrotate_copytruncate(live: Path) -> Path:
    """The real logrotate, with "copytruncate"; its old copies get other names at the next turn, so it is linked."""
    copy = live.parents[1] / f"copy-{time.monotonic_ns()}"
    os.link(logrotate(live, "copytruncate"), copy)
    return copy


@pytest.mark.parametrize("take", [copy_and_truncate, pytest.param(logrotate_copytruncate, marks=needs_logrotate)])
def test_a_truncated_live_file_loses_only_what_is_written_between_copy_and_truncation(
    live: Path, tmp_path: Path, take: Callable[[Path], Path]
) -> None:
    windows: list[tuple[float, float]] = []
    contents: list[bytes] = []
    with Writers(Maker(live), tmp_path / "scratch") as writers:
        for _ in range(ROUNDS):
            wait_for_lines(live)
            since = time.time()
            copy = take(live)
            windows.append((since, time.time()))
            contents.append(copy.read_bytes())
            wait_for_rollovers(live, more=1)
    # A copy may end inside a line that was being written: that line is one that copytruncate drops.
    whole = [content[: content.rfind(b"\n") + 1] for content in contents]
    report = audit_with_taken(live, whole, writers.acknowledged)
    assert report.faults().keys() <= {"strangers", "lost"}, f"{report}\n{report.examples}"
    assert report.strangers == ROUNDS
    assert sum(content.count(b"\n") for content in whole) > 0
    for since, until in gaps(live, writers.acknowledged):
        assert any(begin <= until and since <= end for begin, end in windows), "lines are lost outside the truncation"
        assert any(begin - LEASE_S < since and until < end + LEASE_S for begin, end in windows)
    assert not any(writers.reported.values()), writers.reported


def gaps(live: Path, acknowledged: dict[str, int]) -> list[tuple[float, float]]:
    """For each run of missing lines, when the lines before and after it were created."""
    created: defaultdict[bytes, dict[int, float]] = defaultdict(dict)
    for path in [*live.parent.glob(f"{live.name}.*"), live]:
        for line in path.read_bytes().splitlines():
            _, stream, number, _ = line.split(b" ", 3)
            created[stream][int(number)] = created_of(line)
    found = []
    for name, count in acknowledged.items():
        times = created[name.encode()]
        numbers = sorted(times)
        assert numbers[0] == 0
        assert numbers[-1] == count - 1
        found += [(times[a], times[b]) for a, b in itertools.pairwise(numbers) if b > a + 1]
    return found


def put_directory(live: Path, foreign: Path) -> None:
    """Put a directory in place of the live file."""
    live.mkdir()


def put_symbolic_link(live: Path, foreign: Path) -> None:
    """Put a link to a file of somebody else in place of the live file."""
    live.symlink_to(foreign)


@pytest.mark.parametrize(
    ("put", "take"), [(put_directory, delete), (put_directory, rename), (put_symbolic_link, delete)]
)
def test_a_live_file_replaced_by_what_is_no_log_costs_no_line(
    live: Path,
    tmp_path: Path,
    taken: list[Taken],
    take: Callable[[Path, list[Taken]], None],
    put: Callable[[Path, Path], None],
) -> None:
    foreign = tmp_path / "foreign"
    foreign.write_bytes(b"not ours\n")
    before = state_of(foreign)
    with Writers(Maker(live), tmp_path / "scratch") as writers:
        while True:
            wait_for_lines(live)
            take(live, taken)
            try:
                put(live, foreign)
            except FileExistsError:
                continue  # a writer was faster
            break
        wait_for_lease_and_boundary(taken[-1].at)
        assert state_of(foreign) == before
        if live.is_symlink():
            live.unlink()
        else:
            live.rmdir()  # refused if somebody put a file there
        wait_for_rollovers(live, more=1)
    assert state_of(foreign) == before
    if take is delete:
        assert_nothing_was_taken_after_the_lease(taken)
    assert_all_is_there(live, taken, writers.acknowledged)
    # Where the file still has a name, lines go on into it until its interval ends: that is said, and then the outage.
    most = 1 if take is delete else 2
    for stream, reported in writers.reported.items():
        assert 1 <= len(reported) <= most, f"{stream} said {reported}"


# The directory.


@pytest.mark.parametrize("fate", ["removed", "renamed"])
def test_lines_wait_while_the_directory_is_gone_and_are_written_when_it_is_back(
    live: Path, tmp_path: Path, taken: list[Taken], fate: str
) -> None:
    with Writers(Maker(live), tmp_path / "scratch") as writers:
        wait_for_lines(live)
        aside = tmp_path / "gone"
        live.parent.rename(aside)
        since = time.time()
        for path in sorted(aside.glob(f"{live.name}*")):
            open_taken(path, taken)
        if fate == "removed":
            shutil.rmtree(aside)
        wait_for_lease_and_boundary(since)
        assert not live.parent.exists()
        live.parent.mkdir()
        wait_for_rollovers(live, more=1)
    if fate == "removed":
        assert_nothing_was_taken_after_the_lease(taken)
    assert_all_is_there(live, taken, writers.acknowledged)
    most = 1 if fate == "removed" else 2
    for stream, reported in writers.reported.items():
        assert 1 <= len(reported) <= most, f"{stream} said {reported}"


# Files of others.


ALMOST_OURS = (
    "app.log.1",
    "app.log.old",
    "app.log.bak",
    "app.log.gz",
    "app.log~",
    ".app.log.swp",
    "app.log2020-01-01_00-00-00",
    "app.log-2020-01-01_00-00-00",
    "app.log..2020-01-01_00-00-00",
    "app.log. 2020-01-01_00-00-00",
    "app.log.2020-01-01_00-00-00 ",
    "app.log.2020-01-01_00-00-00~",
    "app.log.2020-01-01_00-00-00.bak",
    "app.log.2020-01-01_00-00-00.tmp",
    "app.log.2020-01-01_00-00-00.zip",
    "app.log.2020-01-01_00-00-00.gz.bak",
    "app.log.2020-01-01_00-00-00.gz.gz",
    "app.log.2020-01-01_00-00-00.GZ",
    "app.log.2020-01-01_00-00-00.0",
    "app.log.2020-01-01_00-00-00.01",
    "app.log.2020-01-01_00-00-00.-1",
    "app.log.2020-01-01_00-00-00.1.2",
    "app.log.2020-01-01_00-00-00.1a",
    "app.log.2020-01-01_00-00-00\n",
    "app.log.2020-13-01_00-00-00",
    "app.log.2020-02-30_00-00-00",
    "app.log.2020-01-01_24-00-00",
    "app.log.2020-01-01_00-60-00",
    "app.log.20200101_000000",
    "app.log.2020-01-01T00-00-00",
    "app.log.2020-1-1_0-0-0",
    "app.log.٢٠٢٠-01-01_00-00-00",
    "app.log.access.2020-01-01_00-00-00",
    "app.log.2020-01-01_00-00-00.access",
    "APP.LOG.2020-01-01_00-00-00",
    "myapp.log.2020-01-01_00-00-00",
    "app-log.2020-01-01_00-00-00",
    "app.2020-01-01_00-00-00.log",
    "2020-01-01_00-00-00",
    "error.log.2020-01-01_00-00-00",
    ".app.log.2020-01-01_00-00-00",
    ".app.log.lock.old",
    "app.log.lock",
)


def test_files_that_look_almost_like_ours_are_not_touched_by_rollover_and_retention(live: Path, tmp_path: Path) -> None:
    foreign = [live.with_name(name) for name in ALMOST_OURS]
    for path in foreign:
        path.write_bytes(f"not ours: {path.name}\n".encode())
        os.utime(path, (0, 0))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"not ours either\n")
    linked, directory = live.with_name("app.log.2020-01-01_00-00-01"), live.with_name("app.log.2020-01-01_00-00-02")
    linked.symlink_to(elsewhere)
    directory.mkdir()
    ours = [live.with_name(f"app.log.2020-01-01_00-00-{second:02}") for second in range(10, 13)]
    # Of a handler with the same file and another `when`: minutes, hours, days.
    ours += [live.with_name(f"app.log.2020-01-01{end}") for end in ("_00-00", "_00", "")]
    for path in ours:
        path.write_bytes(b"")
    before = {path: state_of(path) for path in [*foreign, elsewhere]}
    with Writers(Maker(live, backup_count=2), tmp_path / "scratch") as writers:
        wait_until(lambda: not any(path.exists() for path in ours), "our oldest backups are removed")
    assert {path: state_of(path) for path in [*foreign, elsewhere]} == before
    assert linked.is_symlink()
    assert directory.is_dir()
    assert not any(writers.reported.values()), writers.reported
