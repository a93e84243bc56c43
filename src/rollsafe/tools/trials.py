"""Trials of what a file system and its permissions really allow, by processes of our own, in the place of the log.

A process that is the user who will write makes each trial (see `in_child`), because root may do what that user may not,
and on some network file systems root may do less. A process of root works in a directory of its own, which it keeps
open, so that no user who may write the directory of the log can put something in its way.

The trials remove everything that they make. Their processes are forked, and end by `os._exit`.
"""

from __future__ import annotations

import errno
import grp
import json
import os
import pwd
import select
import signal
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple

from rollsafe._backups.scratch import Scratch
from rollsafe._files.renames import is_mount_point, try_rename
from rollsafe.locks import FileLock

PROCESSES = 4
_LINES = 60
_SIZES = (120, 900, 5000, 20000)
_COUNTS = 20
# Seconds that a trial may take; a network file system may be slow.
TIMEOUT = 30.0
# The errors of renameat(2) for a file that may be renamed, if the new name is that of a directory.
_MAY_BE_RENAMED = (errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST)


class TrialFailed(Exception):
    """A process of a trial could not do its part; the text says why."""


class User(NamedTuple):
    """The user of a trial."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    """The other groups; a process that becomes this user leaves those that it had."""


def user_of(uid: int, gid: int, *, with_groups: bool = True) -> User:
    """A user with the groups that the system lists for it."""
    groups: list[int] = []
    if with_groups:
        with suppress(KeyError, OSError):
            groups = os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
    return User(uid, gid, tuple(group for group in groups if group != gid))


def user_name(user: User | None) -> str:
    """A user and a group as chown(1) takes them; None is this user."""
    uid, gid = (user.uid, user.gid) if user else (os.geteuid(), os.getegid())
    name, group = str(uid), str(gid)
    with suppress(KeyError):
        name = pwd.getpwuid(uid).pw_name
    with suppress(KeyError):
        group = grp.getgrgid(gid).gr_name
    return f"{name}:{group}"


def tried_as(user: User | None) -> User | None:
    """The user of a trial: only root can make it as another user."""
    return user if os.geteuid() == 0 else None


def append_faults(directory: str, user: User | None = None) -> int:
    """The number of lines that are lost or torn when several processes append to one file at once.

    Raises:
        TrialFailed: A process could not write.
    """

    def attempt() -> int:
        with place_in(directory, "append"):
            _together([partial(_append, "append", number) for number in range(PROCESSES)])
            expected = {_line(number, row) for number in range(PROCESSES) for row in range(_LINES)}
            with open("append", "rb", opener=_only_ours) as file:
                found = file.read().split(b"\n")
            return len(expected - {line + b"\n" for line in found})

    return int(in_child(attempt, user, timeout=2 * TIMEOUT))


def lock_faults(directory: str, user: User | None = None) -> str | None:
    """The fault of locks in a directory, None if they exclude.

    Raises:
        TrialFailed: A process could not lock.
    """

    def attempt() -> str | None:
        with place_in(directory, "lock", "count"):
            with FileLock("lock"):
                if in_child(lambda: FileLock("lock").acquire(timeout=0.2)):
                    return "two processes had the lock at once"
            # Bytes, because a codec is a module, and the other user may not be allowed to read it.
            with open("count", "r+b", opener=_only_ours) as file:
                file.write(b"0")
            _together([partial(_count, "lock", "count")] * PROCESSES)
            with open("count", "rb", opener=_only_ours) as file:
                counted = int(file.read() or 0)
        if counted != PROCESSES * _COUNTS:
            return f"{PROCESSES * _COUNTS - counted} of {PROCESSES * _COUNTS} steps made under the lock were lost"
        return None

    wrong: str | None = in_child(attempt, user, timeout=2 * TIMEOUT)
    return wrong


def clock_difference(directory: str, user: User | None = None) -> float:
    """The seconds by which the clock that stamps files here is ahead of ours (a file server has its own clock).

    Raises:
        TrialFailed: No file could be made.
    """

    def attempt() -> float:
        with place_in(directory, "now"):
            before = time.time()
            with open("now", "r+b", opener=_only_ours) as file:
                file.write(b"now")
                file.flush()
                stamp = os.fstat(file.fileno()).st_mtime
            after = time.time()
        return stamp - before if stamp < before else max(0.0, stamp - after)

    return float(in_child(attempt, user))


def rename_refusal(source: str, target: str, user: User | None = None) -> str | None:
    """Why a user cannot make a file in one directory and rename it to another (or the same), None if that works."""

    def attempt() -> str | None:
        try:
            try_rename(source, target)
        except OSError as error:
            return str(error.strerror)
        return None

    refusal: str | None = in_child(attempt, user)
    return refusal


def write_refusal(path: str, user: User | None = None) -> str | None:
    """Why a user cannot open an existing file to append to it, None if that works."""

    def attempt() -> str | None:
        try:
            # The open of a FIFO that no process reads would never end (fifo(7)).
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            return str(error.strerror)
        try:
            return None if stat.S_ISREG(os.fstat(descriptor).st_mode) else "it is no regular file"
        finally:
            os.close(descriptor)

    refusal: str | None = in_child(attempt, user)
    return refusal


def roll_refusal(live: str, directory: str, user: User | None = None) -> str | None:
    """Why a user cannot rename a live file that exists to a backup in a directory, None if that works.

    A rename of another file does not show it, because the live file may belong to another user in a sticky directory,
    be immutable (chattr(1)), or be mounted by itself. So the trial renames it to the name of a directory. No file can
    take that name, but the system first checks whether the file may leave its own.
    """

    def attempt() -> str | None:
        if is_mount_point(live):
            return "it is mounted by itself, as by docker run -v FILE:FILE"
        with place_in(directory) as place:
            os.mkdir("directory", dir_fd=place)
            try:
                os.rename(live, "directory", dst_dir_fd=place)
            except OSError as error:
                return None if error.errno in _MAY_BE_RENAMED else str(error.strerror)
            finally:
                with suppress(OSError):
                    os.rmdir("directory", dir_fd=place)
        return None

    refusal: str | None = in_child(attempt, user)
    return refusal


def _append(path: str, number: int) -> None:
    """Append the lines of one process."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
    for row in range(_LINES):
        os.write(descriptor, _line(number, row))


def _line(number: int, row: int) -> bytes:
    """One line that differs from all others."""
    head = b"%d %d " % (number, row)
    return head.ljust(_SIZES[row % len(_SIZES)], b"abcdefgh"[row % 8 : row % 8 + 1]) + b"\n"


def _count(lock: str, path: str) -> None:
    """Make the steps of one process."""
    for _ in range(_COUNTS):
        with FileLock(lock), open(path, "r+b", opener=_only_ours) as file:
            number = int(file.read()) + 1
            file.seek(0)
            file.write(b"%d" % number)


def _only_ours(path: str, flags: int) -> int:
    """An opener that follows no link."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


@contextmanager
def place_in(directory: str, *files: str, clear: bool = False) -> Iterator[int]:
    """A temporary directory in `directory` that becomes the working directory; for processes of a trial only.

    Its path is used only once, because a user who may write `directory` may move ours away and put another one in its
    place. The process enters it by its descriptor, and only if it is ours and no other user may write in it. It neither
    writes nor removes a file that was in it before.

    Args:
        directory: The directory to try.
        files: Names of empty files to make there, removed at the end.
        clear: Whether to remove all else at the end, too, if the directory was empty at the start.
    """
    path = tempfile.mkdtemp(prefix=".rollsafe-check-", dir=directory)
    place = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    made: list[str] = []
    emptied = False
    try:
        status = os.fstat(place)
        if os.geteuid() == 0 and (status.st_uid != 0 or status.st_mode & 0o077):
            replaced = "who has replaced it, unless the file system lets no user be root"
            raise TrialFailed(f"root has made {path!r}, and it belongs to user {status.st_uid}, {replaced}")
        os.fchdir(place)
        emptied = clear and not os.listdir(place)
        for name in files:
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=place))
            made.append(name)
        yield place
    finally:
        for name in made:
            with suppress(OSError):
                os.unlink(name, dir_fd=place)
        if emptied:
            with suppress(OSError):
                Scratch(path, place).clear()
        os.close(place)
        with suppress(OSError):
            os.rmdir(path)


def _together(attempts: Sequence[Callable[[], None]]) -> None:
    """Make several attempts at once, each in a process of its own."""
    running = [_start(attempt) for attempt in attempts]
    answers = [_answer(*each) for each in running]
    for answer in answers:
        if "error" in answer:
            raise TrialFailed(answer["error"])


def in_child(
    attempt: Callable[[], Any], user: User | None = None, *, quiet: bool = False, timeout: float = TIMEOUT
) -> Any:
    """Call a function in a process of its own, as another user if one is given, and return its value.

    Args:
        attempt: The function; its value must be JSON.
        user: The user that the process becomes; None is this user. Only root can become another one.
        quiet: Whether its standard streams go to /dev/null.
        timeout: Seconds that it may take.

    Raises:
        TrialFailed: It raised, or took longer.
    """
    answer = _answer(*_start(attempt, user, quiet), timeout)
    if "error" in answer:
        raise TrialFailed(answer["error"])
    return answer["result"]


def _start(attempt: Callable[[], Any], user: User | None = None, quiet: bool = False) -> tuple[int, int]:
    """Fork a process; returns its id, and the descriptor from which its answer is read."""
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
        if user is not None:
            os.setgroups(user.groups)
            os.setgid(user.gid)
            os.setuid(user.uid)
        answer = {"result": attempt()}
    except TrialFailed as error:
        answer = {"error": str(error)}
    except BaseException as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    try:
        rest = memoryview(json.dumps(answer).encode() + b"\n")
        while rest:
            rest = rest[os.write(write, rest) :]
    finally:
        os._exit(0)


def _answer(pid: int, read: int, timeout: float = TIMEOUT) -> dict[str, Any]:
    """The answer of a process, which is killed if it takes too long."""
    text = b""
    ready: list[int] = []
    end = time.monotonic() + timeout
    try:
        # Not until the end of the file, because a program that the process has started may keep its end open.
        while not text.endswith(b"\n"):
            ready, _, _ = select.select([read], [], [], max(0.0, end - time.monotonic()))
            part = os.read(read, 1 << 16) if ready else b""
            if not part:
                break
            text += part
    finally:
        os.close(read)
        if not text.endswith(b"\n"):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    if not text.endswith(b"\n"):
        return {"error": "its process ended without an answer" if ready else f"no answer within {timeout:.0f} s"}
    answer: dict[str, Any] = json.loads(text)
    return answer
