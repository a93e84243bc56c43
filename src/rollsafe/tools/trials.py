"""What a file system and the system's users really allow: tried by processes of our own in a temporary directory there.

All that is made is removed again. The processes are forked, and leave by `os._exit`.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from rollsafe.locks import FileLock

PROCESSES = 4
_LINES = 60
_SIZES = (120, 900, 5000, 20000)
_COUNTS = 20
# Seconds that a trial may take; a network file system may be slow.
PATIENCE = 30.0


class TrialFailed(Exception):
    """A process of a trial could not do its part; the text says why."""


def append_faults(directory: str) -> int:
    """How many of the lines that several processes append to one file at once are lost or torn; 0 as it should be.

    Raises:
        TrialFailed: A process could not write.
    """
    with _place(directory) as place:
        path = os.path.join(place, "append")
        _together([partial(_append, path, number) for number in range(PROCESSES)])
        expected = {_line(number, row) for number in range(PROCESSES) for row in range(_LINES)}
        with open(path, "rb") as file:
            found = file.read().split(b"\n")
        return len(expected - {line + b"\n" for line in found})


def lock_faults(directory: str) -> str | None:
    """What is wrong with locks, None if they exclude.

    Raises:
        TrialFailed: A process could not lock.
    """
    with _place(directory) as place:
        lock, count = os.path.join(place, "lock"), os.path.join(place, "count")
        with FileLock(lock):
            if in_child(lambda: FileLock(lock).acquire(timeout=0.2)):
                return "two processes had the lock at once"
        with open(count, "w", encoding="ascii") as file:
            file.write("0")
        _together([partial(_count, lock, count)] * PROCESSES)
        with open(count, encoding="ascii") as file:
            counted = int(file.read() or 0)
    if counted != PROCESSES * _COUNTS:
        return f"{PROCESSES * _COUNTS - counted} of {PROCESSES * _COUNTS} steps made under the lock were lost"
    return None


def clock_difference(directory: str) -> float:
    """Seconds by which the clock that stamps files here is ahead of ours (a file server has its own)."""
    with _place(directory) as place:
        before = time.time()
        with open(os.path.join(place, "now"), "wb") as file:
            file.write(b"now")
            file.flush()
            stamp = os.fstat(file.fileno()).st_mtime
        after = time.time()
    return stamp - before if stamp < before else max(0.0, stamp - after)


def rename_refusal(directory: str, user: tuple[int, int] | None) -> str | None:
    """Why a user (uid, gid; None is ours) cannot make and rename files in a directory, None if that works."""

    def attempt() -> str | None:
        name = os.path.join(directory, f".rollsafe-check-{os.getpid()}")
        try:
            with open(name, "xb") as file:
                file.write(b"x")
            os.rename(name, f"{name}.1")
            os.unlink(f"{name}.1")
        except OSError as error:
            for left in (name, f"{name}.1"):
                with suppress(OSError):
                    os.unlink(left)
            return str(error.strerror)
        return None

    refusal: str | None = in_child(attempt, user)
    return refusal


def write_refusal(path: str, user: tuple[int, int] | None) -> str | None:
    """Why a user cannot open an existing file to append to it, None if that works."""

    def attempt() -> str | None:
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC))
        except OSError as error:
            return str(error.strerror)
        return None

    refusal: str | None = in_child(attempt, user)
    return refusal


def _append(path: str, number: int) -> None:
    """One process's lines."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for row in range(_LINES):
        os.write(descriptor, _line(number, row))


def _line(number: int, row: int) -> bytes:
    """One line that differs from all others."""
    head = b"%d %d " % (number, row)
    return head.ljust(_SIZES[row % len(_SIZES)], b"abcdefgh"[row % 8 : row % 8 + 1]) + b"\n"


def _count(lock: str, path: str) -> None:
    """One process's steps."""
    for _ in range(_COUNTS):
        with FileLock(lock), open(path, "r+", encoding="ascii") as file:
            number = int(file.read()) + 1
            file.seek(0)
            file.write(str(number))


@contextmanager
def _place(directory: str) -> Iterator[str]:
    """A temporary directory in `directory`."""
    place = tempfile.mkdtemp(prefix=".rollsafe-check-", dir=directory)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _together(attempts: Sequence[Callable[[], None]]) -> None:
    """Do each in a process of its own, all at once."""
    running = [_start(attempt) for attempt in attempts]
    answers = [_answer(*each) for each in running]
    for answer in answers:
        if "error" in answer:
            raise TrialFailed(answer["error"])


def in_child(attempt: Callable[[], Any], user: tuple[int, int] | None = None, *, quiet: bool = False) -> Any:
    """What a function returns in a process of its own, as another user if one is given.

    Args:
        attempt: What it returns has to be JSON.
        user: Who the process becomes (uid, gid).
        quiet: Whether its standard streams lead nowhere.

    Raises:
        TrialFailed: It raised, or took longer than PATIENCE.
    """
    answer = _answer(*_start(attempt, user, quiet))
    if "error" in answer:
        raise TrialFailed(answer["error"])
    return answer["result"]


def _start(attempt: Callable[[], Any], user: tuple[int, int] | None = None, quiet: bool = False) -> tuple[int, int]:
    """Fork a process; its id, and the descriptor that its answer can be read from."""
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        return pid, read
    try:
        os.close(read)
        if quiet:
            nowhere = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(nowhere, descriptor)
        if user is not None and user != (os.geteuid(), os.getegid()):
            os.setgroups([])
            os.setgid(user[1])
            os.setuid(user[0])
        answer = {"result": attempt()}
    except BaseException as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    try:
        os.write(write, json.dumps(answer).encode())
    finally:
        os._exit(0)


def _answer(pid: int, read: int) -> dict[str, Any]:
    """What a process has to say; it is killed if it takes too long."""
    text = b""
    try:
        ready, _, _ = select.select([read], [], [], PATIENCE)
        if ready:
            text = os.read(read, 1 << 16)
    finally:
        os.close(read)
        if not text:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    answer: dict[str, Any] = json.loads(text) if text else {"error": f"no answer within {PATIENCE:.0f} s"}
    return answer
