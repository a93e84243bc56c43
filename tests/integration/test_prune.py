"""`rollsafe prune`: the same decision as the handler's, shown with its reasons, or carried out."""

from __future__ import annotations

import json
import logging
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from rollsafe import FileLock, SafeTimedRotatingFileHandler
from rollsafe._backups.retention import Limits, Removal
from rollsafe._files.lock_handles import MAINTENANCE_BYTE
from rollsafe._settings import Settings
from rollsafe.errors import LogFileError
from rollsafe.tools import prune, trials
from rollsafe.tools.catalog import logs_at
from rollsafe.tools.prune import limits_of, removals, remove
from tests.support.commands import HOLDER, process, run
from tests.support.logs import backup_of, touch, write_log
from tests.support.servers import backups, wait_until


def names(paths: list[Path]) -> list[str]:
    """Their names."""
    return [path.name for path in paths]


def make_log(live: Path) -> Path:
    """A log with ten backups of 10 bytes, three of them archives, whose lock file says to keep four."""
    write_log(live, range(1))
    # Noted by hand, because a handler with limits would remove the backups itself.
    lock = live.parent / ".app.log.lock"
    identity = lock.read_bytes().partition(b"\n")[0]
    lock.write_bytes(identity + b"\n" + Settings("H", tz="UTC", backupCount=4).line() + b"\n")
    for days in range(1, 11):
        backup_of(live, days, ".gz" if days > 7 else "")
    touch(live.parent, "app.log.access.log.2026-01-01_00", "app.log.2026-01-01_00.bak", "notes")
    return live


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """Such a log."""
    return make_log(tmp_path / "app.log")


def test_dry_run_tells_what_would_go_and_why_and_removes_nothing(live: Path) -> None:
    before = sorted(os.listdir(live.parent))
    ran = run("prune", "--dry-run", str(live))
    assert (ran.returncode, ran.stderr) == (0, "")
    lines = ran.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:7]] == names(backups(live))[1:7]
    assert all(line.endswith("10 B: one of 10 backups, backupCount=4") for line in lines[1:7])
    assert lines[7] == "  6 backups, 60 B would be removed"
    assert sorted(os.listdir(live.parent)) == before


def test_what_would_go_goes_and_nothing_else(live: Path) -> None:
    before = sorted(os.listdir(live.parent))
    ran = run("prune", str(live))
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "6 backups, 60 B removed" in ran.stdout
    gone = set(before) - set(os.listdir(live.parent))
    assert gone == {line.split()[0] for line in ran.stdout.splitlines()[1:7]}
    assert "nothing exceeds its limits" in run("prune", str(live)).stdout


def test_the_decision_is_that_of_the_handler(live: Path) -> None:
    (log,) = logs_at([live])
    limits: dict[str, Any] = {"backupCount": 8, "max_age": "5 days", "max_total_bytes": 35}
    handler = SafeTimedRotatingFileHandler(live, when="H", utc=True, delay=True, **limits)
    expected = handler.getFilesToDelete()
    handler.close()
    found = removals(log, Limits(8, 5 * 86400.0, 35))
    assert [path for removal in found for path in removal.backup.paths] == expected
    assert {removal.reason.partition("=")[0].split()[-1] for removal in found} == {
        "backupCount",
        "max_age",
        "max_total_bytes",
    }


def test_options_take_the_place_of_the_limits_of_the_handler(live: Path) -> None:
    for options, count in (
        (["--backupCount", "9"], 1),
        (["--backupCount", "99", "--max_age", "9.5 days"], 1),
        (["--max_total_bytes", "20"], 8),
        (["--backupCount", "99", "--min_free_bytes", "999 TiB"], 10),
    ):
        ran = run("prune", "--dry-run", *options, str(live))
        assert f"{count} backup" in ran.stdout.splitlines()[-1], ran.stdout
    assert limits_of(logs_at([live])[0]) == Limits(4)


def test_an_archive_directory_is_pruned(tmp_path: Path) -> None:
    live = tmp_path / "app.log"
    write_log(live, range(-3, 1), archive_dir=tmp_path / "old")
    ran = run("prune", "--backupCount", "1", str(live))
    assert "2 backups" in ran.stdout
    assert len(list((tmp_path / "old").iterdir())) == 1


def test_a_log_without_limits_keeps_all(tmp_path: Path) -> None:
    write_log(tmp_path / "app.log")
    assert "all backups are kept: there is no limit" in run("prune", str(tmp_path)).stdout


def test_a_file_that_a_writer_is_at_goes_only_when_it_is_quiet(live: Path) -> None:
    (log,) = logs_at([live])
    paths = [Path(path) for removal in removals(log, Limits(4)) for path in removal.backup.paths]
    busy, *others = paths
    gone: list[Removal] = []
    remover = threading.Thread(target=lambda: gone.extend(remove(log, Limits(4), lambda sentence: None)))
    remover.start()

    def others_are_gone() -> bool:
        with busy.open("ab") as writer:
            writer.write(b"late\n")
        return not any(path.exists() for path in others)

    wait_until(others_are_gone, "the others are gone")
    assert busy.exists()
    remover.join(60)
    assert len(gone) == len(paths)
    assert not busy.exists()


def test_while_another_process_maintains_the_backups_nothing_is_removed(
    live: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prune, "LOCK_TIMEOUT", 0.1)
    before = sorted(os.listdir(live.parent))
    with (
        process(HOLDER, live.parent / ".app.log.lock", MAINTENANCE_BYTE),
        pytest.raises(LogFileError, match="maintained by another process"),
    ):
        remove(logs_at([live])[0], Limits(1), lambda sentence: None)
    assert sorted(os.listdir(live.parent)) == before
    assert FileLock(live.parent / ".app.log.lock", byte=MAINTENANCE_BYTE).acquire(timeout=0)


def test_names_that_only_the_application_knows_are_left_alone(tmp_path: Path) -> None:
    live = tmp_path / "app.log"
    handler = SafeTimedRotatingFileHandler(live, when="H", utc=True)
    handler.namer = lambda name: name + ".txt"
    handler.handle(logging.makeLogRecord({"msg": "line"}))
    handler.doRollover()
    handler.close()
    ran = run("prune", "--dry-run", str(live))
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
    assert "only the application knows it" in ran.stderr


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [("--max_age", "soon", "'soon' is no age"), ("--max_total_bytes", "much", "'much' is no size")],
)
def test_limits_that_cannot_be_are_refused(option: str, value: str, words: str, live: Path) -> None:
    ran = run("prune", option, value, str(live))
    assert (ran.returncode, ran.stdout) == (2, "")
    assert words in ran.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="root may remove everything, so it has to become somebody else")
def test_what_cannot_be_removed_is_said(public_directory: Path) -> None:
    live = make_log(public_directory / "logs" / "app.log")
    (live.parent / ".app.log.lock").chmod(0o666)

    def attempt() -> tuple[int, list[str]]:
        sentences: list[str] = []
        gone = remove(logs_at([live])[0], Limits(4), sentences.append)
        return len(gone), sentences

    gone, sentences = trials.in_child(attempt, trials.User(65534, 65534))
    assert gone == 0
    assert len(sentences) == 6
    assert all("Permission denied" in sentence for sentence in sentences)


@pytest.mark.parametrize(
    ("suffix", "names"),
    [
        (None, ["app.log.2036-01-01_00", "app.log.2026-13-01_00.gz"]),
        ("%H", ["app.log.07", "app.log.07.1.gz"]),
        ("%Y-%m-%d", ["app.log.2020-01-01"]),
    ],
)
def test_what_is_kept_because_nothing_of_it_is_certain_is_said(
    tmp_path: Path, suffix: str | None, names: list[str]
) -> None:
    live = tmp_path / "app.log"
    write_log(live, range(1), suffix=suffix, delay=True)
    lock = tmp_path / ".app.log.lock"
    settings = Settings("H", tz="UTC", suffix=suffix, backupCount=1, max_age=1.0, max_total_bytes=1)
    lock.write_bytes(lock.read_bytes().partition(b"\n")[0] + b"\n" + settings.line() + b"\n")
    touch(tmp_path, *names, "app.log.access.log.2026-01-01_00", "app.log.07.bak")
    shown = ", ".join(sorted(names))
    for command in (["prune", "--dry-run"], ["prune"], ["status"], ["check"]):
        ran = run(*command, str(tmp_path))
        if command == ["check"] and suffix:
            assert f"suffix={suffix!r} does not tell to which interval a backup belongs" in ran.stdout
        else:
            assert f"no limit removes {'it' if len(names) == 1 else 'them'}: {shown}\n" in ran.stdout, ran
    assert json.loads(run("status", "--json", str(tmp_path)).stdout)[0]["uncertain"] == sorted(names)
    assert set(names) <= set(os.listdir(tmp_path))
