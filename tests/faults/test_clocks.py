"""Clocks that jump: steps of an hour back and forth, leaps over 2038 and 2106, and a change of the zone.

The wall clock is libfaketime's, real system calls apart; the monotonic clock stays real. The kernel stamps files by its
own clock, so the writers translate these stamps into what a kernel with the stepped clock would have written.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path

import pytest

from rollsafe._backups.names import Names
from rollsafe.schedule import Schedule
from tests.support.clock import Clock, instant, needs_libfaketime
from tests.support.crew import Crew, Maker, WatchedHandler, Writers, log_across_rollovers, suffix_of_hour
from tests.support.load import suffix_of_seconds
from tests.support.oracle import audit
from tests.support.servers import backups, wait_until

HOUR = 3600.0
NOON = instant("2030-06-01T12:00:00+00:00")
STEPS = (+HOUR, -2 * HOUR, +HOUR, -HOUR)
# When the seconds since the epoch pass 2**31 and 2**32.
LEAPS = (instant("2038-01-19T03:14:07+00:00"), instant("2106-02-07T06:28:15+00:00"))
WRITERS = 4
ROLLOVERS = 3
LATEST = 0.8
"""The part of a second before which the clock is stepped, so that nobody is just crossing into the next one."""
TAIL = 1 << 16


class SteppedClock(Clock):
    """A wall clock that keeps a history of its steps, so that the kernel's stamps can be translated.

    Nobody may write while it is set: the kernel stamps files by a clock that is some milliseconds behind, and which
    offset belongs to a stamp of that time could not be told.
    """

    def __init__(self, directory: Path, seconds: float) -> None:
        self.history = directory / "history"
        super().__init__(directory / "clock", seconds)

    def set(self, seconds: float) -> None:
        """Let it be `seconds` since the epoch now."""
        self._wait_for_tick()
        super().set(seconds)
        with self.history.open("a") as file:
            file.write(f"{time.time():.6f} {self._offset:.6f}\n")
        self._wait_for_tick()

    def _wait_for_tick(self) -> None:
        """Wait until the kernel's stamps are later than this moment."""
        begun, probe = time.time(), self.history.with_name("probe")

        def ticked() -> bool:
            probe.write_bytes(b"")
            return probe.stat().st_mtime > begun

        wait_until(ticked, "the kernel's clock for stamps ticks")


@dataclass(frozen=True)
class ClockedMaker:
    """A picklable function that has the process see the stamps of files as its stepped clock would have made them."""

    make: Maker
    history: Path

    def __call__(self) -> WatchedHandler:
        os.fstat = self._translating(os.fstat)
        os.lstat = self._translating(os.lstat)
        os.stat = self._translating(os.stat)
        return self.make()

    def _translating(self, real: Callable[..., os.stat_result]) -> Callable[..., os.stat_result]:
        """A function like `real` that translates mtime and ctime."""

        def translated(*arguments: object, **keywords: object) -> os.stat_result:
            status = real(*arguments, **keywords)
            steps = [tuple(map(float, line.split())) for line in self.history.read_text().splitlines()]
            moments = [moment for moment, _ in steps]

            def fake(stamp: float) -> float:
                return stamp + steps[max(0, bisect_right(moments, stamp) - 1)][1]

            times = {"st_mtime": fake(status.st_mtime), "st_ctime": fake(status.st_ctime)}
            nanoseconds = {f"{name}_ns": int(seconds * 1e9) for name, seconds in times.items()}
            return os.stat_result(tuple(status)[:10], {"st_atime": status.st_atime} | times | nanoseconds)

        return translated


SUFFIX_OF: dict[str, Callable[[float], str]] = {"S": suffix_of_seconds(1), "H": suffix_of_hour}


def created_times(path: Path) -> list[float]:
    """When the lines of a file were created; who opens it while a line is being written may leave an empty one."""
    return [created_of(line) for line in path.read_bytes().splitlines() if line.strip()]


def assert_order_of_files_is_order_of_time(live: Path, when: str) -> None:
    """In the order of names, no file has lines of an earlier interval than the one before; the live file is last."""
    names = Names(str(live), Schedule(when, tz="UTC"))
    parsed = [backup for backup in (names.parse(path.name) for path in backups(live)) if backup is not None]
    assert len(parsed) == len(backups(live))
    files = [live.with_name(backup.name) for backup in sorted(parsed, key=names.order)] + [live]
    length = {"S": 1, "H": HOUR}[when]
    intervals = [sorted({created // length for created in created_times(path)}) for path in files]
    assert all(len(found) <= 1 for found in intervals)
    in_order = [found[0] for found in intervals if found]
    assert in_order == sorted(in_order)


@needs_libfaketime
@pytest.mark.parametrize("when", ["S", "H"])
def test_nothing_is_lost_misfiled_or_overwritten_when_the_clock_is_stepped(
    live: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    clock = SteppedClock(tmp_path, NOON)
    resource_tracker.ensure_running()  # by the real clock
    for name, value in clock.environment.items():
        monkeypatch.setenv(name, value)
    with Writers(ClockedMaker(Maker(live, when), clock.history), tmp_path / "scratch", WRITERS, "spawn") as writers:
        for step in (*STEPS, *LEAPS):
            wait_until(lambda: all_write_in_this_second(live, clock), "all write in one second")
            with writers.stopped():
                clock.set(step - 0.5 if step in LEAPS else clock.now() + step)
            passed = clock.now() + 1
            wait_until(lambda passed=passed: clock.now() > passed, "a boundary is crossed")  # type: ignore[misc]
        wait_until(lambda: all_write_in_this_second(live, clock), "all write in one second")
    report = audit(live, writers.acknowledged, SUFFIX_OF[when])
    assert report.flawless, f"{report}\n{report.examples}"
    assert not any(writers.reported.values()), writers.reported
    assert_order_of_files_is_order_of_time(live, when)
    times = [created for path in [*backups(live), live] for created in created_times(path)]
    assert min(times) < NOON
    assert max(times) > LEAPS[-1]


def all_write_in_this_second(live: Path, clock: Clock) -> bool:
    """Whether each of the writers has written a line that was created in this second, which is not yet about to end.

    So none is just inside a rollover: a record that is made in a new interval, and handled when the clock was set back
    to before it, would be one from the future.
    """
    streams: set[bytes] = set()
    second = int(clock.now())
    for path in [*backups(live), live]:
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:  # renamed just now
            file.seek(max(0, path.stat().st_size - TAIL))
            lines = file.read().split(b"\n")[1:-1]
            streams |= {line.split(b" ", 2)[1] for line in lines if line.strip() and int(created_of(line)) == second}
    return len(streams) == WRITERS and clock.now() < second + LATEST


def created_of(line: bytes) -> float:
    """When the line was created."""
    return float(line.split(b" ", 1)[0])


# The zone.


def move_to(zone: str) -> None:
    """Change the zone of this process."""
    os.environ["TZ"] = zone
    time.tzset()


def test_a_process_that_changes_its_zone_goes_on_rolling_and_overwrites_nothing(live: Path, tmp_path: Path) -> None:
    before, after = "UTC+0", "XXX+01:00"  # an hour to the west: the names of the hour before come again
    ready, go = tmp_path / "ready", tmp_path / "go"
    ready.mkdir()
    old = {live.with_name(f"{live.name}.{suffix_of_seconds(1)(time.time() - HOUR + ahead)}") for ahead in range(12)}
    for path in old:
        path.write_bytes(f"of the hour before: {path.name}\n".encode())

    def write(stream: str) -> None:
        move_to(before)
        handler = Maker(live, local=True)()
        number = log_across_rollovers(handler, stream)
        (ready / stream).touch()
        wait_until(go.exists, "all have rolled in the old zone")
        move_to(after)
        number = log_across_rollovers(handler, stream, ROLLOVERS, first=number)
        (ready / stream).write_text(str(number))
        assert handler.reported == []

    streams = [f"writer{number}" for number in range(WRITERS)]
    with Crew() as crew:
        children = [crew.start(functools.partial(write, stream)) for stream in streams]
        wait_until(lambda: len(list(ready.iterdir())) == WRITERS, "all have rolled in the old zone")
        go.touch()
        for child in children:
            child.join()
    assert {path: path.read_bytes() for path in old} == {
        path: f"of the hour before: {path.name}\n".encode() for path in old
    }
    for path in old:
        path.unlink()
    acknowledged = {stream: int((ready / stream).read_text()) for stream in streams}
    report = audit(live, acknowledged, suffix_of_seconds(1))
    assert report.faults().keys() <= {"misfiled"}, f"{report}\n{report.examples}"
    # Each file has the lines of one second; its name says that second in the zone of then.
    seconds = {path: {int(created) for created in created_times(path)} for path in backups(live)}
    assert all(len(found) == 1 for found in seconds.values()), seconds
    in_new_zone = [path for path, (second,) in seconds.items() if suffix_of_seconds(1)(second - HOUR) in path.name]
    in_old_zone = [path for path, (second,) in seconds.items() if suffix_of_seconds(1)(second) in path.name]
    assert len(in_new_zone) >= ROLLOVERS - 1
    assert in_old_zone
    assert len(in_new_zone) + len(in_old_zone) == len(seconds)
    assert all(path.name.endswith(".1") for path in in_new_zone), "those names were taken"
