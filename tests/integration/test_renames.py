"""A rollover replaces nothing, by the rename that spares what is there and by the one over a claim."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rollsafe._files import renames
from rollsafe._files.renames import rename_new, rename_over, try_rename
from rollsafe._live import numbers, rollover
from tests.support.crew import WatchedHandler
from tests.support.logs import set_monotonic

needs_call = pytest.mark.skipif(renames._renameat2 is None, reason="the C library has no renameat2(2)")


@pytest.fixture(params=[pytest.param("sparing", marks=needs_call), "over a claim"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How files are renamed."""
    if request.param == "over a claim":
        monkeypatch.setattr(renames, "_renameat2", None)
    return str(request.param)


def handler_with_line(live: Path) -> WatchedHandler:
    """A handler of hours that has written a line."""
    handler = WatchedHandler(live, when="H", utc=True)
    handler.handle(logging.makeLogRecord({"msg": "first"}))
    return handler


def backups(live: Path) -> dict[str, str]:
    """What the backups hold, by their numbers."""
    return {path.name[len("app.log.2026-11-25_14") :]: path.read_text() for path in live.parent.glob("app.log.*")}


@pytest.mark.skipif(sys.platform != "linux", reason="renameat2(2) is Linux's")
def test_linux_has_the_call_that_spares_what_is_there() -> None:
    assert renames._renameat2 is not None


def test_macos_is_asked_for_the_same_by_its_own_call_and_numbers() -> None:
    class LibraryOfMacOS:
        """What <sys/stdio.h> and <sys/fcntl.h> of macOS declare: RENAME_EXCL is 4, and AT_FDCWD is -2."""

        def renameatx_np(self, *asked: object) -> int:
            assert asked == (-2, b"source", 7, b"target", 4)
            return 0

    rename = renames._renameat2_of(LibraryOfMacOS())
    assert rename is not None
    assert rename(renames._AT_FDCWD, b"source", 7, b"target", renames._NOREPLACE) == 0
    assert renames._renameat2_of(object()) is None


@needs_call
def test_a_name_that_is_taken_is_refused_and_nothing_is_done(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_text("ours")
    target.write_text("theirs")
    with pytest.raises(FileExistsError, match="target"):
        rename_new(str(source), str(target))
    assert (source.read_text(), target.read_text()) == ("ours", "theirs")
    target.unlink()
    assert rename_new(str(source), str(target))
    assert target.read_text() == "ours"


@needs_call
def test_a_name_that_no_file_can_have_is_not_cut_to_one_that_it_can(tmp_path: Path) -> None:
    (tmp_path / "source").touch()
    assert not rename_new(str(tmp_path / "source"), str(tmp_path / "target\0rest"))
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP])
def test_where_the_call_is_not_to_be_had_nothing_is_done_and_that_is_said(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> int:
        ctypes.set_errno(code)
        return -1

    monkeypatch.setattr(renames, "_renameat2", refuse)
    assert not rename_new(str(tmp_path / "source"), str(tmp_path / "target"))
    live = tmp_path / "app.log"
    handler = handler_with_line(live)
    handler.doRollover()
    handler.close()
    assert backups(live) == {"": "first\n"}
    assert handler.reported == []


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EBUSY, errno.EACCES, errno.ENOSPC, errno.EROFS])
def test_what_a_plain_rename_would_be_refused_too_is_raised_and_no_name_is_claimed(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> int:
        ctypes.set_errno(code)
        return -1

    live = tmp_path / "app.log"
    handler = handler_with_line(live)
    monkeypatch.setattr(renames, "_renameat2", refuse)
    monkeypatch.setattr(rollover.Rollover, "_claim", None)
    with pytest.raises(OSError, match="target") as caught:
        rename_new(str(tmp_path / "source"), str(tmp_path / "target"))
    assert caught.value.errno == code
    handler.doRollover()
    handler.handle(logging.makeLogRecord({"msg": "second"}))
    handler.close()
    assert (backups(live), live.read_text()) == ({}, "first\nsecond\n")
    assert len(handler.reported) == 1


def test_a_claim_that_is_made_in_vain_is_made_ever_more_seldom_and_at_once_when_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in a sticky directory, on a system that has no rename that replaces nothing.
    live = tmp_path / "app.log"
    handler = handler_with_line(live)
    record = logging.makeLogRecord({"msg": "later"})
    tick = began = time.monotonic()
    attempts: list[int] = []

    def refuse(source: str, target: str) -> None:
        attempts.append(round(tick - began))
        raise PermissionError(errno.EPERM, "Operation not permitted", source, None, target)

    with monkeypatch.context() as patch:
        patch.setattr(rollover, "rename_new", lambda source, target: False)
        patch.setattr(rollover, "rename_over", refuse)
        patch.setattr(time, "monotonic", lambda: tick)
        set_monotonic(patch, lambda: tick)
        patch.setattr(handler, "shouldRollover", lambda record: True)
        for _ in range(120):
            handler._renewal.renew(record, handler._writer.pending)
            tick += 1
        assert attempts == [0, 1, 3, 7, 15, 31, 61, 91]
        handler.doRollover()
        assert len(attempts) == 9
    assert sorted(os.listdir(tmp_path)) == [".app.log.lock", "app.log"]
    assert len(handler.reported) == 1
    handler.doRollover()
    handler.close()
    assert backups(live) == {"": "first\n"}


def test_the_trial_of_a_rename_leaves_nothing_in_either_directory(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    try_rename(str(source), str(target))
    assert not [*source.iterdir(), *target.iterdir()]
    with pytest.raises(FileNotFoundError):
        try_rename(str(source), str(tmp_path / "none"))
    assert not [*source.iterdir()]


def test_a_file_that_takes_the_name_at_the_last_moment_is_not_replaced(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = tmp_path / "app.log"
    handler = handler_with_line(live)
    free = numbers.BackupNumbers.free
    taken: list[int] = []

    def take(self: numbers.BackupNumbers, *arguments: object) -> int:
        number = free(self, *arguments)  # type: ignore[arg-type]  # passed on as they are
        if not taken:
            taken.append(number)
            Path(self._naming.path(handler._file.interval.suffix, number)).write_text("theirs")  # type: ignore[union-attr]  # it has one
        return number

    monkeypatch.setattr(numbers.BackupNumbers, "free", take)
    handler.doRollover()
    handler.close()
    assert backups(live) == {"": "theirs", ".1": "first\n"}
    assert handler.reported == []


@pytest.mark.parametrize(
    ("error", "reports"), [(SystemExit(1), 0), (OSError(errno.EIO, "reported late"), 1)], ids=["sys.exit", "EIO"]
)
def test_an_exception_just_after_the_rename_does_not_remove_the_backup(
    way: str, error: BaseException, reports: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = tmp_path / "app.log"
    handler = handler_with_line(live)

    def raising(real: Callable[[str, str], object]) -> Callable[[str, str], object]:
        def rename(source: str, target: str) -> object:
            if real(source, target) is False:
                return False
            raise error  # as a signal handler's sys.exit between two steps

        return rename

    with monkeypatch.context() as patch:
        patch.setattr(rollover, "rename_over", raising(rename_over))
        patch.setattr(rollover, "rename_new", raising(rename_new))
        with contextlib.suppress(SystemExit):
            handler.doRollover()
    assert backups(live) == {"": "first\n"}
    assert ["reported late" in report for report in handler.reported] == [True] * reports
