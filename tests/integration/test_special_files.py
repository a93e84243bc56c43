"""What is no regular file: one that was given is written and left alone, one that comes in the way is refused."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rollsafe import FileLock, LineFormatter, SafeTimedRotatingFileHandler
from rollsafe._files.lock_files import lock_path
from rollsafe._files.note import read_note
from rollsafe._files.special_files import is_special, resolve_live_path
from rollsafe.errors import LogFileError, NotOurs
from tests.support.crew import WatchedHandler
from tests.support.logs import Make
from tests.support.needs import needs_proc

WATCHDOG = 120
"""Seconds after which a call that does not return is interrupted."""


@pytest.fixture(autouse=True)
def watchdog() -> Iterator[None]:
    """A test that waits for ever in an open(2) fails."""

    def fail(*_: object) -> None:
        raise AssertionError(f"a call has not returned for {WATCHDOG} s")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(WATCHDOG)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


class Spoken(WatchedHandler):
    """Keeps its reports as people read them."""

    def handleError(self, record: logging.LogRecord) -> None:
        self.reported.append(f"{record.msg}: {sys.exc_info()[1]}")


def say(handler: logging.Handler, text: str) -> None:
    """Log a line."""
    handler.handle(logging.makeLogRecord({"msg": text}))


def put_socket(path: Path) -> None:
    """Put a socket there."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


PUT: dict[str, Callable[[Path], None]] = {
    "FIFO": os.mkfifo,
    "socket": put_socket,
    "directory": Path.mkdir,
    "symbolic link": lambda path: path.symlink_to(path.parent / "elsewhere"),
}


@pytest.mark.parametrize("what", PUT)
@pytest.mark.parametrize("how", ["moved away", "removed", "closed and reopened"])
def test_in_place_of_the_live_file_it_stops_nobody_and_no_line_is_lost(
    live: Path, make: Make, what: str, how: str
) -> None:
    handler = make(live, kind=Spoken, when="H")
    say(handler, "first")
    moved = live.with_name("moved")
    live.rename(moved)
    if how == "removed":
        moved.unlink()
    PUT[what](live)
    if how == "closed and reopened":
        handler.close()
        handler.stream = handler._open()
        assert handler.stream is None
    handler._file.expire_lease()
    for text in ("second", "third"):
        say(handler, text)
    (report,) = handler.take_reports()
    assert str(live) in report
    live.rmdir() if live.is_dir() and not live.is_symlink() else live.unlink()
    handler.flush()
    say(handler, "fourth")
    kept = "".join(path.read_text() for path in (moved, live) if path.exists())
    assert kept.removeprefix("first\n") == "second\nthird\nfourth\n"
    assert not live.with_name("elsewhere").exists()


@pytest.mark.parametrize("what", PUT)
def test_in_place_of_the_lock_file_it_stops_nobody(live: Path, make: Make, what: str) -> None:
    lock = Path(lock_path(str(live)))
    PUT[what](lock)
    handler = make(live, kind=Spoken, when="H")
    say(handler, "first")
    handler.doRollover()
    (report,) = handler.take_reports()
    assert str(lock) in report
    with pytest.raises(OSError, match="lock"):
        FileLock(lock).acquire(0)
    assert read_note(str(live)) is None
    lock.rmdir() if lock.is_dir() and not lock.is_symlink() else lock.unlink()
    handler.doRollover()
    assert len(list(live.parent.glob("app.log.*"))) == 1
    assert handler.reported == []


def test_a_fifo_that_nobody_reads_yet_gets_the_lines_when_somebody_does(tmp_path: Path, make: Make) -> None:
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    handler = make(fifo, kind=Spoken, delay=False)
    say(handler, "waits")
    (report,) = handler.take_reports()
    assert str(fifo) in report
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    handler.flush()
    say(handler, "comes after it")
    assert os.read(reader, 100) == b"waits\ncomes after it\n"
    assert not fcntl.fcntl(handler.stream.fileno(), fcntl.F_GETFL) & os.O_NONBLOCK
    os.close(reader)


def test_a_fifo_that_is_removed_is_not_replaced_by_a_file(tmp_path: Path, make: Make) -> None:
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    handler = make(fifo, kind=Spoken)
    say(handler, "first")
    assert os.read(reader, 100) == b"first\n"
    os.close(reader)
    fifo.unlink()
    handler.close()
    say(handler, "second")
    assert os.listdir(tmp_path) == []
    assert len(handler.take_reports()) == 1
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    handler.flush()
    assert os.read(reader, 100) == b"second\n"
    os.close(reader)


def test_the_live_file_is_not_left_open_without_waiting(live: Path, make: Make) -> None:
    """Whoever inherits the descriptor would not expect it."""
    handler = make()
    say(handler, "first")
    assert not fcntl.fcntl(handler.stream.fileno(), fcntl.F_GETFL) & os.O_NONBLOCK


def test_an_entry_of_dev_fd_is_special_where_it_is_no_link_as_on_the_bsds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os.path, "realpath", os.path.abspath)
    monkeypatch.setattr(os.path, "islink", lambda path: False)
    with (tmp_path / "output").open("w") as file:
        path = f"/dev/fd/{file.fileno()}"
        assert is_special(path)
        assert resolve_live_path(path) == path


@pytest.mark.parametrize(
    "target", ["/dev/stdout", pytest.param("/proc/self/fd/1", marks=needs_proc), "another link", "relative"]
)
def test_a_link_to_standard_output_is_written_and_what_a_shell_has_opened_is_not_renamed(
    tmp_path: Path, target: str
) -> None:
    (tmp_path / "logs").mkdir()
    live = tmp_path / "logs" / "app.log"
    if target == "another link":
        (tmp_path / "stdout").symlink_to("/dev/stdout")
        target = "../stdout"
    elif target == "relative":
        target = os.path.relpath("/dev/stdout", live.parent)
    live.symlink_to(target)
    program = (
        "import logging, sys, time; from rollsafe import SafeTimedRotatingFileHandler\n"
        "handler = SafeTimedRotatingFileHandler(sys.argv[1], when='S')\n"
        "for name in 'abc':\n"
        "    handler.handle(logging.makeLogRecord({'msg': name, 'created': time.time()}))\n"
        "    handler.doRollover()\n"
    )
    with open(tmp_path / "out", "w") as out:
        subprocess.run([sys.executable, "-c", program, str(live)], stdout=out, check=True)
    assert (tmp_path / "out").read_text() == "a\nb\nc\n"
    assert os.listdir(tmp_path / "logs") == ["app.log"]
    assert not list(tmp_path.glob("out?*"))
    assert not list(tmp_path.glob(".*"))


def test_what_is_special(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    assert [is_special(path) for path in ("/dev/null", "/dev/stdout", "/dev/fd/1")] == [True] * 3
    assert [is_special(str(tmp_path / name)) for name in ("file", "link", "missing")] == [False] * 3
    assert not is_special(str(tmp_path))
    assert resolve_live_path("/dev/fd/1") == "/dev/fd/1"
    assert resolve_live_path(str(tmp_path / "link")) == str(tmp_path / "file")
    assert resolve_live_path(str(tmp_path / "missing" / "app.log")) == str(tmp_path / "missing" / "app.log")


def test_a_link_below_proc_that_is_no_descriptor_is_an_ordinary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to("real.log")
    monkeypatch.chdir(tmp_path)
    assert resolve_live_path("/proc/self/cwd/link") == str(tmp_path / "real.log")


def test_links_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    with pytest.raises(LogFileError, match="one"):
        SafeTimedRotatingFileHandler(tmp_path / "one")


def test_a_fifo_in_place_of_a_backup_is_passed_over(live: Path, make: Make) -> None:
    handler = make(when="S")
    handler.setFormatter(LineFormatter("%(message)s"))
    say(handler, "first")
    interval = handler._file.interval
    assert interval is not None
    os.mkfifo(live.with_name(f"app.log.{interval.suffix}"))
    handler.doRollover()
    assert live.with_name(f"app.log.{interval.suffix}.1").read_text() == "first\n"
    assert stat.S_ISFIFO(live.with_name(f"app.log.{interval.suffix}").stat().st_mode)


def test_the_refusal_names_what_is_there(live: Path) -> None:
    os.mkfifo(live)
    handler = WatchedHandler(live.with_name("other.log"))
    handler._live.rollover.live.path = str(live)
    with pytest.raises(NotOurs, match=r"'/.*/app\.log' is a FIFO and no regular file; remove it$"):
        handler._live.rollover.live.open_stream()
    handler.close()
