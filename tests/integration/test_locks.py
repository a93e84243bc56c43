"""FileLock: between processes, between threads, over forks, and when its file is removed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from rollsafe import FileLock, SafeTimedRotatingFileHandler
from rollsafe._files import lock_handles
from rollsafe._files.lock_handles import MAINTENANCE_BYTE, ROLLOVER_BYTE
from tests.support.crew import Child, Crew
from tests.support.descriptors import open_paths
from tests.support.needs import needs_proc


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".app.log.lock"


def in_child(question: Callable[[], object]) -> str:
    """The repr of the answer of a forked child."""
    reader, writer = os.pipe()

    def reply() -> None:
        try:
            answer = repr(question())
        except BaseException as error:
            answer = repr(error)
        os.write(writer, answer.encode())

    with os.fdopen(reader) as stream, Crew() as crew:
        child = crew.start(reply)
        os.close(writer)
        answer = stream.read()
        child.join()
    return answer


@pytest.fixture
def holder(path: Path) -> Iterator[Child]:
    """Another process that holds the lock until it is killed."""
    reader, writer = os.pipe()

    def hold() -> None:
        FileLock(path).acquire()
        os.write(writer, b".")
        signal.pause()

    with os.fdopen(reader, "rb") as stream, Crew() as crew:
        child = crew.start(hold)
        os.close(writer)
        assert stream.read(1) == b".", "it has ended without the lock"
        yield child


def test_it_excludes_another_process(path: Path) -> None:
    with FileLock(path):
        assert in_child(lambda: FileLock(path).acquire(timeout=0)) == "False"
    assert in_child(lambda: FileLock(path).acquire(timeout=0)) == "True"


def test_a_forked_child_neither_holds_nor_releases_its_parents_lock(path: Path) -> None:
    lock = FileLock(path)
    lock.acquire()

    def child() -> object:
        held = lock.locked, lock.acquire(timeout=0)
        return held

    assert in_child(child) == "(False, False)"

    def releases() -> bool:
        lock.release()
        return lock.acquire(timeout=0)

    assert in_child(releases) == "False"
    assert lock.locked
    assert in_child(lambda: FileLock(path).acquire(timeout=0)) == "False"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_lock_file_that_may_not_be_opened_is_an_error_and_not_waited_for(public_directory: Path) -> None:
    path = public_directory / "logs" / ".app.log.lock"
    path.write_bytes(b"")
    path.chmod(0o600)

    def acquire_as_nobody() -> bool:
        os.setuid(65534)
        signal.alarm(120)  # without a refusal this would never end
        return FileLock(path).acquire(timeout=0)

    assert in_child(acquire_as_nobody).startswith("PermissionError(13")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_handler_that_may_not_open_its_lock_file_writes_all_the_same(public_directory: Path) -> None:
    live = public_directory / "logs" / "app.log"
    for path in (live, live.with_name(".app.log.lock")):
        path.write_bytes(b"")
    live.chmod(0o666)
    live.with_name(".app.log.lock").chmod(0o600)

    def log_as_nobody() -> str:
        os.setuid(65534)
        signal.alarm(120)
        handler = SafeTimedRotatingFileHandler(live, when="S")
        said: list[str] = []
        handler.handleError = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
        for seconds in (0, 0, 1, 1):
            record = logging.makeLogRecord({"msg": "line", "created": time.time() + seconds})
            handler.handle(record)
        handler.close()
        return " ".join(said)

    assert "give user 65534 write permission" in in_child(log_as_nobody)
    assert live.read_text() == "line\n" * 4


def test_the_lock_survives_the_exit_of_a_forked_child(path: Path) -> None:
    with FileLock(path) as lock:
        in_child(lock.close)
        assert in_child(lambda: FileLock(path).acquire(timeout=0)) == "False"


def test_each_forked_process_opens_its_own_file_description(path: Path) -> None:
    lock = FileLock(path)
    lock.acquire()
    lock.release()

    def shares_offset_with_parent() -> bool:
        lock.read()
        handle = lock_handles.handles._by_path[lock.path]
        return os.lseek(handle.descriptor, 0, os.SEEK_CUR) == 7

    os.lseek(lock_handles.handles._by_path[lock.path].descriptor, 7, os.SEEK_SET)
    assert in_child(shares_offset_with_parent) == "False"


def test_a_fork_that_ran_no_callback_is_noticed_by_its_pid(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = FileLock(path)
    lock.acquire()
    handle = lock_handles.handles._by_path[lock.path]
    inherited = handle.descriptor
    identity = os.fstat(inherited)
    # As in a child that uWSGI has forked in C: it has all of the parent's memory, and another pid.
    monkeypatch.setattr(os, "getpid", lambda: os.getppid() + 1_000_000)
    assert not lock.locked
    assert lock.acquire(timeout=0), "the guard of the parent's thread is still there"
    assert os.fstat(handle.descriptor).st_ino == identity.st_ino


def test_all_instances_of_one_path_share_one_descriptor(path: Path) -> None:
    first, second = FileLock(path), FileLock(str(path))
    with first:
        pass
    before = len(os.listdir("/dev/fd"))
    with second:
        assert len(os.listdir("/dev/fd")) == before


def test_closing_one_instance_does_not_drop_the_lock_of_another(path: Path) -> None:
    first, second = FileLock(path), FileLock(path, byte=MAINTENANCE_BYTE)
    with first:
        with second:
            pass
        second.close()
        assert in_child(lambda: FileLock(path).acquire(timeout=0)) == "False"


def test_two_spellings_of_a_directory_are_one_lock(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "link").symlink_to("logs")
    with FileLock(tmp_path / "logs" / ".lock"):
        FileLock(tmp_path / "link" / ".lock").close()
        assert not FileLock(tmp_path / "link" / ".lock").acquire(timeout=0)
        assert in_child(lambda: FileLock(tmp_path / "logs" / ".lock").acquire(timeout=0)) == "False"


def test_it_excludes_another_thread(path: Path) -> None:
    answers = []
    with FileLock(path):
        thread = threading.Thread(target=lambda: answers.append(FileLock(path).acquire(timeout=0)))
        thread.start()
        thread.join()
    assert answers == [False]


def test_a_thread_that_waits_gets_the_lock_when_it_is_released(path: Path) -> None:
    waits, taken = threading.Event(), threading.Event()

    def go_on_waiting() -> bool:
        waits.set()
        return False

    def wait_for_it() -> None:
        lock = FileLock(path)
        lock.acquire(give_up=go_on_waiting)
        taken.set()
        lock.release()

    thread = threading.Thread(target=wait_for_it)
    with FileLock(path):
        thread.start()
        assert waits.wait(120), "it was to wait"
        assert not taken.is_set()
    thread.join()
    assert taken.is_set()


def test_bytes_do_not_exclude_each_other(path: Path) -> None:
    with FileLock(path):
        assert in_child(lambda: FileLock(path, byte=MAINTENANCE_BYTE).acquire(timeout=0)) == "True"


def test_waiting_for_oneself_ends_at_once(path: Path) -> None:
    with FileLock(path):
        assert not FileLock(path).acquire(timeout=3600)
        with pytest.raises(RuntimeError, match="this thread holds the lock"):
            FileLock(path).acquire()


def test_the_wait_is_bounded_while_the_holder_is_stopped(path: Path, holder: Child) -> None:
    os.kill(holder.pid, signal.SIGSTOP)
    assert not FileLock(path).acquire(timeout=0.05)


def test_the_lock_of_a_killed_process_is_free(path: Path, holder: Child) -> None:
    assert not FileLock(path).acquire(timeout=0)
    holder.end()
    assert FileLock(path).acquire(timeout=0)


def test_a_removed_lock_file_is_made_again_and_excludes(path: Path, holder: Child) -> None:
    path.unlink()
    with FileLock(path):
        assert path.exists()
        assert in_child(lambda: FileLock(path).acquire(timeout=0)) == "False"


def test_a_lock_file_removed_while_it_is_open_is_not_believed(path: Path) -> None:
    lock = FileLock(path)
    with lock:
        pass
    path.unlink()
    with lock:
        assert in_child(lambda: FileLock(path).acquire(timeout=0)) == "False"


def test_a_descriptor_that_a_daemon_closed_is_replaced_and_its_number_left_alone(path: Path) -> None:
    lock = FileLock(path)
    with lock:
        pass
    number = lock_handles.handles._by_path[lock.path].descriptor
    os.close(number)
    reader, writer = os.pipe()
    assert number in (reader, writer)
    with lock:
        assert in_child(lambda: FileLock(path).acquire(timeout=0)) == "False"
    os.fstat(reader), os.fstat(writer)
    os.close(reader)
    os.close(writer)


def test_a_symbolic_link_in_place_of_the_lock_file_is_refused(path: Path, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic") as caught:
        FileLock(path).acquire(timeout=0)
    assert caught.value.errno == errno.ELOOP
    assert not (tmp_path / "elsewhere").exists()


def test_releasing_what_is_not_held_is_an_error(path: Path) -> None:
    with pytest.raises(RuntimeError, match="is not held"):
        FileLock(path).release()


def test_it_works_again_after_close(path: Path) -> None:
    lock = FileLock(path)
    lock.acquire()
    lock.close()
    lock.close()
    assert not lock.locked
    assert in_child(lambda: FileLock(path).acquire(timeout=0)) == "True"
    with lock:
        assert lock.locked


def test_renewing_opens_the_handle_of_each_lock_in_use(path: Path) -> None:
    lock = FileLock(path)
    with lock:
        pass

    def child() -> bool:
        handle = lock_handles.handles._by_path[lock.path]
        closed = handle.descriptor < 0
        lock_handles.renew_handles()
        lock_handles.renew_handles()
        return closed and handle.descriptor >= 0

    assert in_child(child) == "True"


def test_an_unknown_byte_is_refused(path: Path) -> None:
    with pytest.raises(ValueError, match="byte must be"):
        FileLock(path, byte=7)


# Descriptors


def end_of_acquisition(lock: FileLock) -> bool:
    """Take the lock and give it back; whether it still excluded others in between."""
    if not lock.acquire(0.5):
        return False
    excluded = lock.excludes()
    lock.release()
    return excluded


@needs_proc
def test_two_threads_that_lock_while_the_file_is_removed_leave_one_descriptor(path: Path) -> None:
    stop = threading.Event()
    failures: list[BaseException] = []
    counts = {ROLLOVER_BYTE: 0, MAINTENANCE_BYTE: 0}

    def work(byte: int) -> None:
        lock = FileLock(path, byte=byte)
        try:
            while not stop.is_set():
                counts[byte] += end_of_acquisition(lock)
        except BaseException as error:
            failures.append(error)
        finally:
            lock.close()

    keeper = FileLock(path)
    keeper.acquire(0)
    keeper.release()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=work, args=(byte,)) for byte in counts]
    try:
        for thread in threads:
            thread.start()
        removed = 0
        while removed < 300 or min(counts.values()) < 100:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
                removed += 1
            assert not failures
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)
    assert failures == []
    assert sum(name.startswith(str(path)) for name in open_paths()) == 1
    keeper.close()
    assert not any(name.startswith(str(path)) for name in open_paths())


@pytest.mark.parametrize("use", [FileLock.read, lambda lock: lock.write(b"a note\n")], ids=["read", "write"])
def test_no_other_thread_closes_the_descriptor_between_its_look_up_and_its_use(
    path: Path, use: Callable[[FileLock], object]
) -> None:
    lock = FileLock(path)
    lock.acquire(0)
    handle = lock._hold.handle
    assert handle is not None
    other = threading.Thread(target=handle.reopen)

    def reopen_at_the_end_of_open(frame: FrameType, event: str, argument: object) -> Any:
        """A trace function."""
        if event == "return" and other.ident is None:
            path.unlink()
            other.start()
            # It ends at once, or has to wait for this thread.
            other.join(0.05)
        return reopen_at_the_end_of_open if frame.f_code is lock_handles.Handle.open.__code__ else None

    before = sys.gettrace()
    sys.settrace(reopen_at_the_end_of_open)
    try:
        use(lock)
    finally:
        sys.settrace(before)
        other.join()
        lock.close()


def test_a_lock_on_a_file_that_another_thread_has_left_excludes_nobody(path: Path) -> None:
    rollover, maintenance = FileLock(path), FileLock(path, byte=MAINTENANCE_BYTE)
    assert rollover.acquire(0)
    path.unlink()
    assert maintenance.acquire(0)
    # The handle has turned to the new file, which the path names; the lock is on the old one.
    assert in_child(lambda: FileLock(path).acquire(timeout=0)) == "True"
    assert not rollover.excludes()
    assert maintenance.excludes()
    rollover.release()
    assert rollover.acquire(0)
    assert rollover.excludes()
    assert in_child(lambda: FileLock(path).acquire(timeout=0)) == "False"
    for lock in (rollover, maintenance):
        lock.close()


@pytest.mark.parametrize("code", [errno.ESTALE, errno.EBADF])
def test_a_descriptor_that_is_of_no_use_any_more_is_replaced(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """ESTALE: another host has removed the file, and the server has forgotten it (nfs(5))."""
    lock = FileLock(path)
    lock.acquire(0)
    lock.release()
    stale = lock_handles.handles._by_path[lock.path].descriptor
    lockf, fstat = fcntl.lockf, os.fstat

    def refuse(descriptor: int, *arguments: int) -> None:
        if descriptor == stale:
            raise OSError(code, os.strerror(code))
        lockf(descriptor, *arguments)

    def refuse_look(descriptor: int) -> os.stat_result:
        if descriptor == stale:
            raise OSError(code, os.strerror(code))
        return fstat(descriptor)

    path.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "lockf", refuse)
        patch.setattr(os, "fstat", refuse_look)
        assert lock.acquire(0)
        assert lock.excludes()
        lock.release()
    lock.close()


def test_a_server_that_forgets_each_file_is_an_error_and_no_endless_loop(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, *arguments: int) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    lock = FileLock(path)
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "lockf", refuse)
        with pytest.raises(OSError, match="Stale") as caught:
            lock.acquire(0)
    assert caught.value.filename == str(path)
    assert lock.acquire(0)
    lock.close()


@needs_proc
def test_what_is_dropped_without_close_leaves_no_descriptor(tmp_path: Path) -> None:
    for number in range(20):
        handler = SafeTimedRotatingFileHandler(tmp_path / f"job{number}.log")
        handler.handle(logging.makeLogRecord({"msg": "line"}))
        lock = FileLock(tmp_path / "other.lock")
        lock.acquire()
        lock.release()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # of the live file, as of the standard library's
            del handler, lock
            gc.collect()
    # Only those of this test: the thread of a handler of a test before may be at work.
    assert not [path for path in open_paths() if path.startswith(str(tmp_path))]
    assert not [path for path in lock_handles.handles._by_path if path.startswith(str(tmp_path))]


def test_one_that_is_dropped_while_others_use_the_file_takes_nothing_from_them(path: Path) -> None:
    kept, dropped = FileLock(path), FileLock(path, byte=MAINTENANCE_BYTE)
    assert kept.acquire(0)
    assert dropped.acquire(0)
    dropped.release()
    del dropped
    gc.collect()
    assert kept.excludes()
    assert in_child(lambda: FileLock(path).acquire(timeout=0)) == "False"
    kept.close()


def test_a_lock_that_is_held_stays_held_when_it_is_dropped(path: Path) -> None:
    FileLock(path).acquire()
    gc.collect()
    assert in_child(lambda: FileLock(path).acquire(timeout=0)) == "False"
    handle = lock_handles.handles._by_path.pop(os.fspath(path))
    handle.close()


def test_dropped_between_two_steps_of_another_it_waits_for_their_end(path: Path) -> None:
    """The garbage collector may run in the middle of any step."""
    first = FileLock(path)
    assert first.acquire(0)
    first.release()
    with lock_handles.handles._changing():
        del first
        gc.collect()
        assert str(path) in lock_handles.handles._by_path
    assert str(path) not in lock_handles.handles._by_path
