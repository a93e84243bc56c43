"""Promises P1 and P6 when a signal handler raises: Celery's soft time limit, KeyboardInterrupt in a notebook.

Python runs signal handlers between two calls: at the entry of a function of Python, and when a call has returned. The
exception is raised at each of these places in turn, once; afterwards the lock is free, and no line is lost or doubled.
"""

from __future__ import annotations

import dis
import fcntl
import functools
import itertools
import json
import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import pytest

from rollsafe import FileLock, SafeTimedRotatingFileHandler, formatters, schedule
from rollsafe import _settings as settings
from rollsafe._backups import names
from rollsafe._files import note
from rollsafe._files.walk import Walk
from rollsafe._lines import formats
from rollsafe._live import renewal
from rollsafe._live.open_file import OpenFile
from rollsafe._live.rollover import Rollover
from rollsafe.schedule import Interval
from tests.support.crew import Child, Crew, WatchedHandler, lock_path
from tests.support.logs import log
from tests.support.modules import module_of

CALLS = ("CALL", "CALL_FUNCTION_EX", "CALL_KW", "CALL_FUNCTION", "CALL_METHOD", "CALL_FUNCTION_KW")
PURE = {module.__name__ for module in (schedule, names, formatters, formats, settings, note)}
"""Where nothing is done to files or lines: to be interrupted there is to be interrupted at the call."""
WALK = {value.__code__ for value in vars(Walk).values() if isinstance(value, FunctionType)}
"""The same of a walk, root's way to a directory, which is most of what root does."""
HOUR = 3600.0


class SoftTimeLimit(Exception):
    """As Celery's SoftTimeLimitExceeded."""


@functools.cache
def after_calls(code: CodeType) -> frozenset[int]:
    """The offsets at which a signal handler may run because a call has returned."""
    instructions = dis.get_instructions(code)
    return frozenset(after.offset for call, after in itertools.pairwise(instructions) if call.opname in CALLS)


class Interruption:
    """Raises at the n-th place of the package, while it is on."""

    def __init__(self, kind: type[BaseException], place: int) -> None:
        self._kind = kind
        self._left = place
        self.where = ""
        self.modules: set[str] = set()
        """The modules whose code was executed while it was on."""
        # CPython 3.11 was seen to call other objects in their place, as if it had freed them.
        self._tracers = self._enter, self._step

    @contextmanager
    def on(self) -> Iterator[None]:
        """Raise in this block."""
        before = sys.gettrace()
        sys.settrace(self._tracers[0])
        try:
            yield
        finally:
            sys.settrace(before)

    def _enter(self, frame: FrameType, event: str, argument: object) -> Any:
        code = frame.f_code
        module = module_of(code)
        if module is None or module in PURE or code in WALK:
            return None
        self.modules.add(module)
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        self._come_by(frame)
        return self._tracers[1]

    def _step(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "opcode" and frame.f_lasti in after_calls(frame.f_code):
            self._come_by(frame)
        return self._tracers[1]

    def _come_by(self, frame: FrameType) -> None:
        self._left -= 1
        if self._left == 0:
            self.where = f"{module_of(frame.f_code)}:{frame.f_lineno} {frame.f_code.co_name}"
            raise self._kind("from a signal handler")


class Locksmith:
    """Another process, which finds out whether the lock is free."""

    def __init__(self) -> None:
        self._asked, self._answers = os.pipe(), os.pipe()
        self._child = Child(self._work)

    def is_free(self, path: Path) -> bool:
        """Whether another process can have the rollover lock now."""
        os.write(self._asked[1], os.fsencode(path) + b"\n")
        return os.read(self._answers[0], 1) == b"y"

    def _work(self) -> None:
        signal.alarm(0)  # it lives as long as the tests, whose own processes have a watchdog
        os.close(self._asked[1])
        with os.fdopen(self._asked[0], "rb") as asked:
            for path in asked:
                descriptor = os.open(path[:-1], os.O_RDWR | os.O_CREAT, 0o600)
                try:
                    fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0)
                    os.write(self._answers[1], b"y")
                except OSError:
                    os.write(self._answers[1], b"n")
                finally:
                    os.close(descriptor)

    def end(self) -> None:
        """Let it go."""
        self._child.end()


@pytest.fixture(scope="module")
def locksmith() -> Iterator[Locksmith]:
    smith = Locksmith()
    yield smith
    smith.end()


def make_over(handler: WatchedHandler) -> None:
    """Make the open file one of an interval that has just ended."""
    file, now = handler._file, time.time()
    start = now // HOUR * HOUR - 2 * HOUR
    suffix = time.strftime("%Y-%m-%d_%H", time.gmtime(start))
    file.interval = Interval(start, now - 1, suffix, 0)
    file.start, file.lease_expires, handler.rolloverAt = start, float("-inf"), now - 1
    if file.shared:
        # There the note counts, and not the number of the inode.
        rollover = handler._live.rollover
        with rollover.lock:
            rollover._note.write(os.fstat(file.stream.fileno()), file.interval, None)


def end_lease(handler: WatchedHandler) -> None:
    """Have the next line renew the lease."""
    handler._file.expire_lease()


def leave_fragment(handler: WatchedHandler) -> None:
    """Have the next line stand behind a fragment."""
    live = Path(handler.baseFilename)
    with live.open("ab") as file:
        file.write(b" " * (4096 - live.stat().st_size % 4096))
    end_lease(handler)


def cut_short(handler: WatchedHandler) -> None:
    """Have the next write end early, as on a full disk."""
    write = handler._file.write

    def short(line: bytes) -> int | None:
        handler._file.write = write
        return write(line[:2])

    handler._file.write = short


def nothing(handler: WatchedHandler) -> None:
    """The lease lasts."""


LATE = -30 * HOUR
SITUATIONS: dict[str, tuple[dict[str, Any], Callable[[WatchedHandler], None], float]] = {
    "a rollover": ({}, make_over, 0.0),
    "the lease lasts": ({}, nothing, 0.0),
    "the lease is over": ({}, end_lease, 0.0),
    "a late line": ({}, end_lease, LATE),
    "a fragment before it": ({}, leave_fragment, 0.0),
    "a write cut short": ({}, cut_short, 0.0),
    "a rollover for size": ({"maxBytes": 8}, end_lease, 0.0),
    "a file that is shared": ({"lock_writes": True}, end_lease, 0.0),
    "a rollover of a file that is shared": ({"lock_writes": True}, make_over, 0.0),
}
QUICK = "the lease lasts"
ROLLS = ("a rollover", "a rollover for size", "a rollover of a file that is shared")
PASSED = {SafeTimedRotatingFileHandler, OpenFile}
ROLL = {Rollover, FileLock}
"""Classes whose modules every line passes through, and those that a rollover passes through besides."""
VARIANTS = ("a rollover for size", "a rollover of a file that is shared")


def step_of(situation: str, kind: type[BaseException]) -> int:
    """At every how many places a situation is interrupted."""
    # What no `except Exception` catches takes fewer ways than what is caught. No even number: the entry of a call and
    # the place after it often take turns.
    return 5 if kind is KeyboardInterrupt else 3 if situation in VARIANTS else 1


# A file that was just opened when the exception came is closed by the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("situation", "kind", "step"),
    [
        pytest.param("a rollover", SoftTimeLimit, 9, id="some of a rollover"),
        *(
            pytest.param(
                name,
                kind,
                1 if name == QUICK else step_of(name, kind),
                marks=[] if name == QUICK else pytest.mark.slow,
                id=f"{name}-{kind.__name__}",
            )
            for name in SITUATIONS
            for kind in (SoftTimeLimit, KeyboardInterrupt)
        ),
    ],
)
def test_an_exception_at_any_call_boundary_leaves_no_lock_and_loses_and_doubles_no_line(
    tmp_path: Path,
    locksmith: Locksmith,
    monkeypatch: pytest.MonkeyPatch,
    situation: str,
    kind: type[BaseException],
    step: int,
) -> None:
    """At each of them, or at every `step`th."""
    monkeypatch.setattr(renewal, "SIZE_LINGER_S", 0.0)
    faults: list[str] = []
    directory = tmp_path / "one"
    for place in itertools.count(1, step):
        # A process for each: after exceptions of trace functions at several places, Python 3.11 crashes.
        reached, modules, found = in_child(lambda place=place: interrupt(directory, locksmith, situation, kind, place))  # type: ignore[misc]
        shutil.rmtree(directory)
        faults += found
        if not reached:
            break
    print(f"{situation}, {kind.__name__}: {place} places")
    assert modules >= {passed.__module__ for passed in PASSED | (ROLL if situation in ROLLS else set())}
    assert place > (1 if situation == "the lease lasts" else 30)
    assert not faults, "\n".join(faults[:40])


def in_child(work: Callable[[], tuple[bool, set[str], list[str]]]) -> tuple[bool, set[str], list[str]]:
    """What a process of its own comes to."""
    answer, told = os.pipe()
    with Crew() as crew:
        child = crew.start(lambda: os.write(told, json.dumps(work(), default=sorted).encode()))
        os.close(told)
        with os.fdopen(answer, "rb") as file:
            text = file.read()
        child.join()
    reached, modules, found = json.loads(text)
    return reached, set(modules), found


def interrupt(
    directory: Path, locksmith: Locksmith, situation: str, kind: type[BaseException], place: int
) -> tuple[bool, set[str], list[str]]:
    """Interrupt a situation at a place; whether it came there, the modules it passed, and what is wrong afterwards."""
    arguments, prepare, created = SITUATIONS[situation]
    directory.mkdir()
    live = directory / "app.log"
    handler = WatchedHandler(live, **{"when": "H", "utc": True, **arguments})
    log(handler, "before")
    prepare(handler)
    interruption = Interruption(kind, place)
    told = False
    with interruption.on():
        try:
            log(handler, "mid", time.time() + created)
            told = True
        except kind:
            pass
    found = []
    if not locksmith.is_free(lock_path(live)):
        found.append("the lock is held by nobody")
    handler._writer.pending.retry_at = float("-inf")
    log(handler, "after")
    if handler._file.interval:
        make_over(handler)
    before = len(list(directory.iterdir()))
    log(handler, "later")
    handler.close()
    if len(list(directory.iterdir())) != before + 1:
        found.append("the next rollover did not work")
    lines = Counter(line.strip() for path in directory.glob("app.log*") for line in path.read_text().splitlines())
    found += [
        f"{line!r} is there {lines[line]} times"
        for line in ("before", "mid", "after", "later")
        if lines[line] != 1 and not (line == "mid" and not told and lines[line] == 0)
    ]
    return bool(interruption.where), interruption.modules, [f"{place} {interruption.where}: {fault}" for fault in found]
