"""Processes stopped for as long as it takes: nobody waits for them, and they lose nothing when they go on.

Nothing here is timed. What "meanwhile" means is told by the order of events: others log all their lines and end while
the process is still stopped (proc(5), state T).
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from rollsafe import FileLock, SafeTimedRotatingFileHandler, formatters, schedule
from rollsafe import _settings as settings
from rollsafe._backups import archives as rollsafe_archives
from rollsafe._backups import names
from rollsafe._backups.codecs import codec_for
from rollsafe._backups.file_names import fingerprint_of
from rollsafe._backups.ledger import Ledger
from rollsafe._lines import formats, stamps
from rollsafe._live import pending
from rollsafe._live.live_file import LiveFile
from rollsafe._live.open_file import OpenFile
from rollsafe._live.renewal import Renewal
from rollsafe._live.rollover import Rollover
from rollsafe._live.writer import Writer
from rollsafe._timing import LEASE_S, QUIET_S
from tests.support.constants import set_constants
from tests.support.crew import (
    LINES,
    Child,
    Crew,
    Maker,
    WatchedHandler,
    lock_path,
    log_across_rollovers,
    log_lines,
    stop_myself,
    suffix_of_hour,
    wait_for_next_second,
)
from tests.support.load import suffix_of_seconds
from tests.support.modules import module_of
from tests.support.oracle import Report, audit
from tests.support.servers import backups, wait_until

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs the /proc of Linux")

WRITERS = 3
ROLLOVERS = 1
LINES_OF_A_WRITER = LINES * (ROLLOVERS + 1)
suffix_of_second = suffix_of_seconds(1)


def archive(live: Path) -> list[Path]:
    """Compress each backup that is a plain file as the maintenance thread does, once it is quiet; returns the archives.

    Where the lock is held by a process that is stopped, nothing is done.
    """
    made = []
    codec = codec_for("gz", None)
    assert codec is not None
    lock = FileLock(lock_path(live))
    for backup in [path for path in backups(live) if path.suffix != ".gz"]:
        wait_until(lambda backup=backup: backup.stat().st_ctime + QUIET_S < time.time(), "it is quiet")  # type: ignore[misc]
        if lock.acquire(timeout=0):
            lock.release()
            final = backup.with_name(f"{backup.name}.gz")
            rollsafe_archives.archive(str(backup), str(final), fingerprint_of(backup.stat()), codec, Ledger(lock))
            made.append(final)
    lock.close()
    return made


def created_in_wrong_files(live: Path) -> list[float]:
    """When the lines were created that stand in the backup of another second."""
    times = []
    for path in backups(live):
        for line in path.read_bytes().splitlines():
            created = float(line.split(b" ", 1)[0])
            if not path.name.startswith(f"{live.name}.{suffix_of_second(created)}"):
                times.append(created)
    return times


# A process that is stopped inside a rollover.


def stop_before_rename(handler: WatchedHandler) -> None:
    """Have the handler stop its process at its next rollover: the lock is held, the file not yet renamed."""

    def namer(default: str) -> str:
        handler.namer = None
        stop_myself()
        return default

    handler.namer = namer


def stop_after_rename(handler: WatchedHandler) -> None:
    """Have the handler stop its process at its next rollover: the file is renamed, and no new one made."""

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        if module_of(frame.f_code) is None:
            return None
        if event == "line" and not os.path.exists(handler.baseFilename):
            sys.settrace(None)
            frame.f_trace = None
            stop_myself()
            return None
        return trace

    sys.settrace(trace)


@pytest.mark.parametrize("stop", [stop_before_rename, stop_after_rename])
def test_lines_go_on_while_a_process_is_stopped_inside_the_rollover(
    live: Path, tmp_path: Path, stop: Callable[[WatchedHandler], None]
) -> None:
    opened, go = tmp_path / "opened", tmp_path / "go"
    opened.mkdir()

    def be_stopped() -> None:
        handler = Maker(live)()
        log_lines(handler, "stopped", range(LINES))
        stop(handler)
        log_across_rollovers(handler, "stopped", ROLLOVERS, first=LINES)
        assert handler.reported == []

    def write(stream: str, early: bool) -> None:
        handler = Maker(live)() if early else None
        if handler is not None:
            log_lines(handler, stream, range(LINES))
        (opened / stream).touch()
        wait_until(go.exists, "the other process is stopped")
        handler = handler or Maker(live)()
        first = LINES if early else log_across_rollovers(handler, stream, 0)
        log_across_rollovers(handler, stream, ROLLOVERS, first)
        assert len(handler.reported) <= 1, "it is said once"
        assert all("LockBusy" in error for error in handler.reported), handler.reported

    streams = {**{f"writer{number}": True for number in range(WRITERS)}, "starter": False}
    with Crew() as crew:
        writers = [crew.start(functools.partial(write, stream, early)) for stream, early in streams.items()]
        wait_until(lambda: len(list(opened.iterdir())) == len(writers), "the writers have the file open")
        stopped = crew.start(be_stopped)
        stopped.wait_until_stopped()
        since = int(time.time())
        assert not FileLock(lock_path(live)).acquire(timeout=0), "it was not stopped inside the critical section"
        go.touch()
        for writer in writers:
            writer.join()
        assert stopped.stopped, "the others were to come to their end before it goes on"
        meanwhile = audit(live, dict.fromkeys(streams, LINES + LINES_OF_A_WRITER), suffix_of_second)
        assert (meanwhile.lost, meanwhile.doubled, meanwhile.torn, meanwhile.strangers) == (0, 0, 0, 0), meanwhile
        stopped.go_on()
        until = time.time()
        stopped.join()

    last = Maker(live)()
    log_across_rollovers(last, "last", ROLLOVERS)
    last.close()
    assert last.reported == []
    acknowledged = dict.fromkeys([*streams, "stopped"], LINES + LINES_OF_A_WRITER) | {"last": LINES_OF_A_WRITER}
    report = audit(live, acknowledged, suffix_of_second)
    assert report.faults().keys() <= {"misfiled"}, f"{report}\n{report.examples}"
    # The lines of a new interval stand in the file of the old one while nobody can roll; afterwards that is over.
    assert all(since <= created <= until for created in created_in_wrong_files(live))


# A writer that is stopped on its way to the file.


def stop_before_write(handler: WatchedHandler) -> None:
    """Have the handler stop its process between its check and its write."""
    file = handler._file
    write = file.write

    def stop_and_write(line: bytes) -> int | None:
        file.write = write
        stop_myself()
        return write(line)

    file.write = stop_and_write


@pytest.mark.parametrize("fate", ["archived", "deleted"])
def test_a_writer_stopped_before_its_write_loses_nothing_though_its_file_is_gone_when_it_goes_on(
    live: Path, fate: str
) -> None:
    def write_late() -> None:
        handler = Maker(live)()
        wait_for_next_second()
        log_lines(handler, "late", range(1))
        stop_before_write(handler)
        log_lines(handler, "late", range(1, 2))
        log_across_rollovers(handler, "late", first=2)
        assert handler.reported == []

    with Crew() as crew:
        late = crew.start(write_late)
        late.wait_until_stopped()
        first_line = live.read_bytes()
        assert first_line.count(b"\n") == 1, "the writer was to stop before its second line"
        created = float(first_line.split(b" ", 1)[0])
        backup = live.with_name(f"{live.name}.{suffix_of_second(created)}")
        others = Maker(live, backup_count=0 if fate == "archived" else 1)()
        written = log_across_rollovers(others, "others", 1 if fate == "archived" else 2)
        if fate == "archived":
            assert backup.with_name(f"{backup.name}.gz") in archive(live)
        else:
            wait_until(lambda: not backup.exists(), "the oldest backup is deleted")
        assert late.stopped
        late.go_on()
        late.join()
    others.close()
    assert others.reported == []

    report = audit(live, {"late": range(1, 2 + 2 * LINES)}, suffix_of_second)
    assert not report.faults(), f"{report}\n{report.examples}"
    if fate == "archived":
        report = audit(live, {"late": 2 + 2 * LINES, "others": written}, suffix_of_second)
        assert report.flawless, f"{report}\n{report.examples}"
        assert b"late 1 " in backup.with_name(f"{backup.name}.1").read_bytes()
    else:
        assert b"late 1 " in backup.read_bytes()


# A writer that is stopped anywhere.


PURE = {module.__name__ for module in (schedule, names, formatters, formats, settings, stamps, pending)}
"""Where nothing happens between processes: to be stopped there is to be stopped at the call."""


@dataclass
class Traced:
    """What `stop_at` has seen: how many lines of code, and the modules that they are from."""

    steps: int = 0
    modules: set[str] = field(default_factory=set)


@contextmanager
def stop_at(step: int) -> Iterator[Traced]:
    """Stop this process before the `step`-th line of code that the package executes; counts them.

    A line counts once for each chain of calls that leads to it, so that a loop is not gone through again and again.
    """
    seen: set[tuple[object, ...]] = set()
    traced = Traced()

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        module = module_of(frame.f_code)
        if module is None or module in PURE:
            return None
        if event == "line" and (place := calls_to(frame)) not in seen:
            seen.add(place)
            traced.modules.add(module)
            traced.steps += 1
            if traced.steps == step:
                stop_myself()
        return trace

    sys.settrace(trace)
    try:
        yield traced
    finally:
        sys.settrace(None)


def calls_to(frame: FrameType | None) -> tuple[object, ...]:
    """The lines of the package that are being executed, innermost first."""
    lines: list[object] = []
    while frame is not None:
        if module_of(frame.f_code) is not None:
            lines += [frame.f_code, frame.f_lineno]
        frame = frame.f_back
    return tuple(lines)


EARLY, LATER = 1, 5
AT_A_TIME = 48
"""How many writers are stopped at the same time; all of them would keep a small machine busy beyond the watchdog."""


def end_of_lease() -> None:
    """Wait until a lease that began before is over."""
    begun = time.time()
    wait_until(lambda: time.time() > begun + LEASE_S, "the lease is over")


SITUATIONS: dict[str, tuple[str, Callable[[], None], Callable[[float], str]]] = {
    "the lease lasts": ("H", lambda: None, suffix_of_hour),
    "the lease is over": ("H", end_of_lease, suffix_of_hour),
    "the interval is over": ("S", wait_for_next_second, suffix_of_second),
}

SLOW_PATH: set[type] = {SafeTimedRotatingFileHandler, Writer, Renewal, LiveFile, OpenFile}
PASSED: dict[str, set[type]] = {
    "the lease lasts": {SafeTimedRotatingFileHandler, OpenFile},
    "the lease is over": SLOW_PATH,
    "the interval is over": SLOW_PATH | {Rollover, FileLock},
}
"""Classes whose modules a line passes through."""


@pytest.mark.parametrize(
    "situation", ["the lease lasts", *(pytest.param(name, marks=pytest.mark.slow) for name in [*SITUATIONS][1:])]
)
def test_a_writer_stopped_at_any_line_of_code_loses_and_doubles_nothing_though_its_file_is_archived(
    live: Path, situation: str
) -> None:
    when, wait_for_situation, suffix_of = SITUATIONS[situation]

    def directory(step: int) -> Path:
        (live.parent / f"{step}").mkdir(exist_ok=True)
        return live.parent / f"{step}" / live.name

    def write(step: int) -> None:
        handler = Maker(directory(step), when)()
        log_lines(handler, "writer", range(EARLY))
        wait_for_situation()
        with stop_at(step) as traced:
            log_lines(handler, "writer", range(EARLY, EARLY + 1))
        # At once, that is within the lease that it took before or after it was stopped.
        log_lines(handler, "writer", range(EARLY + 1, LATER))
        handler.close()
        (live.parent / f"{step}" / "traced").write_text(json.dumps([traced.steps, sorted(traced.modules)]))

    def roll_and_archive(step: int) -> None:
        others = Maker(directory(step), when)()
        log_lines(others, "others", range(EARLY))
        others.doRollover()
        log_lines(others, "others", range(EARLY, LATER))
        # A hundred processes that sync at once would take longer than the watchdog allows.
        set_constants(os, fsync=lambda descriptor: None)
        archive(directory(step))
        others.close()
        (live.parent / f"{step}" / "refused").write_text("".join(others.reported))

    def judge(step: int) -> tuple[Report, str]:
        refused = (live.parent / f"{step}" / "refused").read_text()
        return audit(directory(step), {"writer": LATER, "others": LATER}, suffix_of), refused

    with Crew() as crew:
        crew.start(functools.partial(write, 0)).join()
        last, modules = json.loads((live.parent / "0" / "traced").read_text())
        assert set(modules) >= {passed.__module__ for passed in PASSED[situation]}
        stopped: list[int] = []
        for first in range(1, last + 1, AT_A_TIME):
            steps = range(first, min(first + AT_A_TIME, last + 1))
            writers = {step: crew.start(functools.partial(write, step)) for step in steps}
            held = {step: writer for step, writer in writers.items() if is_stopped_or_ends(writer)}
            others = [crew.start(functools.partial(roll_and_archive, step)) for step in held]
            for other in others:
                other.join()
            for writer in held.values():
                assert writer.stopped
                writer.go_on()
                writer.join()
            stopped += held

    assert len(stopped) > last / 2
    faults = {}
    archived = 0
    for step in stopped:
        report, refused = judge(step)
        archived += any(path.suffix == ".gz" for path in backups(directory(step)))
        # While nobody can roll, lines of a new interval stand in the file of the old one.
        allowed = {"misfiled"} if refused else set()
        if report.faults().keys() - allowed:
            faults[step] = f"{report}"
    assert faults == {}
    assert archived > 0


def is_stopped_or_ends(writer: Child) -> bool:
    """Wait until it has stopped itself (true) or come to its end, having fewer lines of code to execute."""

    def settled() -> bool:
        return writer.ended or writer.stopped

    wait_until(settled, "the writer is stopped or at its end")
    return not writer.ended
