"""What nobody thought of, given to each command: one sentence, the documented exit code, and never a traceback."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.commands import ENVIRONMENT
from tests.support.commands import run_raw as run
from tests.support.logs import write_log

COMMANDS = (
    ("check",),
    ("status",),
    ("verify",),
    ("cat",),
    ("tail",),
    ("prune", "--dry-run", "--backupCount", "1"),
)


def run_in_shell(*arguments: str, redirection: str) -> subprocess.CompletedProcess[bytes]:
    """Run the command with the redirections of a shell."""
    command = ["bash", "-c", f'set -o pipefail; "$@" {redirection}', "bash", sys.executable, "-m", "rollsafe.cli"]
    return subprocess.run([*command, *arguments], env=ENVIRONMENT, capture_output=True, timeout=120)


def codes_of(path: Path) -> dict[str, int]:
    """The exit code of each command about a path; none of them may end with a traceback or in silence."""
    codes = {}
    for name, *options in COMMANDS:
        ran = run(name, *options, str(path))
        codes[name] = ran.returncode
        assert b"Traceback" not in ran.stderr, ran.stderr
        if ran.returncode == 2 and not ran.stdout:
            assert ran.stderr.startswith(b"rollsafe: ")
            assert ran.stderr.count(b"\n") == 1
    return codes


REFUSED = dict.fromkeys((command[0] for command in COMMANDS), 2)


def a_fifo(path: Path) -> None:
    os.mkfifo(path)


def a_loop(path: Path) -> None:
    path.symlink_to(path)


def a_device(path: Path) -> None:
    path.symlink_to("/dev/null")


@pytest.mark.parametrize("make", [a_fifo, a_loop, a_device])
def test_a_path_that_can_be_no_log_is_refused_by_each_command(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "app.log")
    assert codes_of(tmp_path / "app.log") == REFUSED


def test_an_empty_directory_is_refused_by_each_command(tmp_path: Path) -> None:
    assert codes_of(tmp_path) == REFUSED


def a_fifo_as_backup(logs: Path) -> None:
    os.mkfifo(logs / "app.log.2026-01-01_00")
    os.mkfifo(logs / "app.log.2026-01-01_01.gz")


def a_fifo_as_lock_file(logs: Path) -> None:
    (logs / ".app.log.lock").unlink()
    os.mkfifo(logs / ".app.log.lock")


def a_directory_as_backup(logs: Path) -> None:
    (logs / "app.log.2026-01-01_00.gz").mkdir()


def a_loop_as_lock_file_of_another_log(logs: Path) -> None:
    (logs / ".x.lock").symlink_to(".x.lock")


def names_of_other_programs(logs: Path) -> None:
    for name in ("app.log.1", "app.log.2.gz", "app.log.2026-13-45_99", "app.log.2026-01-01_00.gz.gz", "app.log.bak"):
        (logs / name).write_text("line\n")


@pytest.mark.parametrize(
    "add",
    [
        a_fifo_as_backup,
        a_fifo_as_lock_file,
        a_directory_as_backup,
        a_loop_as_lock_file_of_another_log,
        names_of_other_programs,
    ],
)
def test_what_lies_beside_a_log_keeps_nobody_from_reading_it(add: Callable[[Path], None], tmp_path: Path) -> None:
    write_log(tmp_path / "app.log")
    add(tmp_path)
    codes_of(tmp_path)
    ran = run("cat", str(tmp_path))
    assert (ran.returncode, ran.stdout) == (0, b"hour -2\nhour -1\nhour 0\n")


@pytest.mark.parametrize("name", [b"app\xff\xfe.log", b"app\nx.log", b"app \x1b[2J.log", b"-r"])
def test_a_log_of_any_name_is_read(name: bytes, tmp_path: Path) -> None:
    live = tmp_path / os.fsdecode(name)
    write_log(live)
    assert codes_of(live)["verify"] == codes_of(tmp_path)["cat"] == 0


DAMAGED = {
    "truncated": gzip.compress(b"line\n" * 1000)[:30],
    "empty": b"",
    "no archive": b"plain text",
    "garbage behind": gzip.compress(b"line\n") + b"garbage",
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize("extension", ["gz", "xz"])
def test_an_archive_that_cannot_be_read_is_said_and_the_rest_is_printed(
    content: bytes, extension: str, tmp_path: Path
) -> None:
    write_log(tmp_path / "app.log", range(-1, 1))
    archive = tmp_path / f"app.log.2026-01-01_00.{extension}"
    archive.write_bytes(content)
    ran = run("cat", str(tmp_path))
    assert ran.stdout.endswith(b"hour -1\nhour 0\n")
    # Python reads an empty gzip file as one of no bytes.
    if (extension, content) != ("gz", b""):
        assert ran.returncode == 1
        assert ran.stderr.startswith(f"rollsafe: {archive} is damaged".encode())


def gone(old: Path) -> None:
    shutil.rmtree(old)


def a_file_instead(old: Path) -> None:
    shutil.rmtree(old)
    old.touch()


def a_loop_instead(old: Path) -> None:
    shutil.rmtree(old)
    old.symlink_to(old)


@pytest.mark.parametrize("change", [gone, a_file_instead, a_loop_instead])
def test_backups_that_cannot_be_looked_at_are_not_passed_over(change: Callable[[Path], None], tmp_path: Path) -> None:
    write_log(tmp_path / "app.log", archive_dir=tmp_path / "old")
    change(tmp_path / "old")
    codes = codes_of(tmp_path)
    assert (codes["verify"], codes["cat"], codes["tail"], codes["prune"]) == (2, 1, 1, 2)
    ran = run("cat", str(tmp_path))
    assert ran.stdout == b"hour 0\n"
    assert f"{str(tmp_path / 'old')!r}, where the backups of".encode() in ran.stderr
    assert b"cannot be read: " in run("status", str(tmp_path)).stdout


def test_a_log_that_cannot_be_pruned_keeps_no_other_from_its_limits(tmp_path: Path) -> None:
    for name in ("first", "last"):
        write_log(tmp_path / f"{name}.log")
    (tmp_path / ".first.log.lock").unlink()
    (tmp_path / ".first.log.lock").symlink_to(".first.log.lock")
    ran = run("prune", "--dry-run", "--backupCount", "1", str(tmp_path))
    assert ran.returncode == 1
    assert b".first.log.lock" in ran.stderr
    assert b"last.log\n" in ran.stdout
    assert b"1 backup, " in ran.stdout


@pytest.mark.parametrize("command", [*COMMANDS, ("status", "--json"), ("verify", "--json")], ids=" ".join)
@pytest.mark.parametrize(
    ("redirection", "code", "said"),
    [
        (">/dev/full", 2, b"rollsafe: 'standard output': No space left on device\n"),
        ("| true", None, b""),
        (">&-", None, b""),
        ("2>&- >/dev/null", None, b""),
    ],
    ids=["full", "nobody reads", "closed", "errors closed"],
)
def test_an_output_that_takes_nothing_changes_no_verdict(
    command: tuple[str, ...], redirection: str, code: int | None, said: bytes, tmp_path: Path
) -> None:
    write_log(tmp_path / "app.log", backupCount=3)
    expected = run(*command, str(tmp_path)).returncode if code is None else code
    ran = run_in_shell(*command, str(tmp_path), redirection=redirection)
    assert (ran.returncode, ran.stderr) == (expected, said)


@pytest.mark.parametrize(
    "arguments",
    [
        ("tail", "-n", "9" * 20),
        ("prune", "--max_total_bytes", "9" * 5000),
        ("prune", "--max_total_bytes", "\u00b2"),
        ("cat", "--since", "+99999999 years"),
        ("cat", "--since", "99999999 years ago"),
        ("cat", "--since", "9" * 400 + "h"),
    ],
    ids=range(6),
)
def test_numbers_beyond_all_measure_are_refused_in_a_short_sentence(arguments: tuple[str, ...], tmp_path: Path) -> None:
    write_log(tmp_path / "app.log")
    ran = run(*arguments, str(tmp_path))
    assert (ran.returncode, ran.stderr.count(b"\n")) == (2, 1)
    assert len(ran.stderr) < 400


def test_what_grows_while_it_is_read_is_read_as_it_was(tmp_path: Path) -> None:
    from rollsafe.tools.catalog import logs_at
    from rollsafe.tools.lines import Snapshot

    live = tmp_path / "app.log"
    live.write_bytes(b"one\ntwo")
    snapshot = Snapshot(logs_at([live])[0])
    lines = snapshot.lines(lambda sentence: None)
    with live.open("ab") as file:
        file.write(b" and more\nthree\n")
    assert [line for _, line in lines] == [b"one\n", b"two\n"]
    snapshot.close()
