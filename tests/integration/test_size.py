"""Rollover by size within an interval: parts in order, a bound that holds, nothing lost."""

from __future__ import annotations

import functools
import logging
import time
from pathlib import Path
from typing import Any

import pytest

from rollsafe import ConfigurationError, SafeTimedRotatingFileHandler
from rollsafe.tools.catalog import logs_at
from tests.support.clock import StandingClock
from tests.support.crew import WatchedHandler, lock_path
from tests.support.load import Plan, run_load, suffix_of_seconds
from tests.support.logs import Make, log, read_archive, suffix_of
from tests.support.oracle import LINE_FORMAT, audit, make_line
from tests.support.servers import wait_until

PROCESSES = 4
LINE = 200
BOUND = 20_000


@pytest.fixture
def usual() -> dict[str, Any]:
    """An hour is long, and a file is full after ten bytes."""
    return {"when": "H", "utc": True, "maxBytes": 10}


def parts(live: Path) -> list[str]:
    """What is in the backups, in the order in which tools show them."""
    while True:
        try:
            return [Path(file.path).read_text() for file in logs_at([live])[0].files if not file.is_live]
        except FileNotFoundError:
            # Retention has removed one since it was listed.
            continue


def test_parts_of_an_interval_are_numbered_in_the_order_of_time(live: Path, make: Make) -> None:
    handler = make()
    for message in ("aaaa", "bbbb", "cccc", "dddd", "eeee"):
        created = log(handler, message)
    suffix = suffix_of(created, "H")
    assert live.with_name(f"app.log.{suffix}").read_text() == "aaaa\nbbbb\n"
    assert live.with_name(f"app.log.{suffix}.1").read_text() == "cccc\ndddd\n"
    assert live.read_text() == "eeee\n"
    assert parts(live) == ["aaaa\nbbbb\n", "cccc\ndddd\n"]


def test_a_line_that_is_too_large_has_a_file_of_its_own(live: Path, make: Make) -> None:
    handler = make()
    for message in ("x" * 30, "y" * 30, "z"):
        log(handler, message)
    assert parts(live) == ["x" * 30 + "\n", "y" * 30 + "\n"]
    assert live.read_text() == "z\n"


def test_a_new_interval_begins_with_the_name_without_number(
    live: Path, make: Make, standing_clock: StandingClock
) -> None:
    handler = make(when="S")
    first = log(handler, "aaaa")
    for message in ("bbbb", "cccc"):
        log(handler, message)
    standing_clock.go_on(1)
    second = log(handler, "dddd")
    for message in ("eeee", "ffff"):
        log(handler, message)
    standing_clock.go_on(1)
    log(handler, "gggg")
    names = [path.name for path in live.parent.glob("app.log.*")]
    assert sorted(names) == sorted(
        f"app.log.{suffix_of(created)}{number}" for created in (first, second) for number in ("", ".1")
    )


def test_a_worker_with_a_short_line_follows_a_rollover_for_size_at_once_though_its_line_would_fit(
    live: Path, make: Make
) -> None:
    one, other = make(maxBytes=20), make(maxBytes=20)
    log(one, "aaaa")
    log(other, "bbbb")
    log(one, "a line of no room")
    log(other, "c")
    assert parts(live) == ["aaaa\nbbbb\n"]
    assert live.read_text() == "a line of no room\nc\n"


def test_in_a_file_that_is_about_to_be_rolled_nobody_begins_a_line_and_nothing_of_the_mark_stays(
    live: Path, make: Make
) -> None:
    handler = make(maxBytes=1000)
    log(handler, "aaaa")
    mode = live.stat().st_mode
    # What a process that is killed between mark and rename leaves.
    handler._file.mark_full()
    assert live.stat().st_mode != mode
    log(handler, "bbbb")
    assert parts(live) == ["aaaa\n"]
    assert live.read_text() == "bbbb\n"
    modes = {path.stat().st_mode for path in (live, *live.parent.glob("app.log.*"))}
    assert modes == {mode}
    assert lock_path(live).stat().st_mode & 0o7777 == (mode & 0o222) * 3


@pytest.mark.slow
def test_retention_removes_the_first_parts_and_no_number_is_given_again(live: Path, make: Make) -> None:
    handler = make(backupCount=2)
    for number in range(6):
        log(handler, f"{number:09d}")
    wait_until(lambda: len(parts(live)) == 2, "the first parts are removed")
    handler.close()
    lock_path(live).unlink()
    again = make(backupCount=2)
    for number in range(6, 8):
        log(again, f"{number:09d}")
    wait_until(lambda: len(parts(live)) == 2, "the older parts are removed")
    assert [int(part) for part in parts(live)] == [5, 6]


def test_without_the_hint_of_the_lock_file_the_numbers_go_on_too(live: Path, make: Make) -> None:
    handler = make()
    created = log(handler, "first")
    suffix = suffix_of(created, "H")
    for number in (7, 9):
        live.with_name(f"app.log.{suffix}.{number}.gz").touch()
    lock_path(live).write_bytes(b"")
    log(handler, "second line")
    assert live.with_name(f"app.log.{suffix}.10").read_text() == "first\n"


def test_where_the_rollover_is_refused_lines_go_on_into_the_open_file(live: Path, make: Make) -> None:
    handler = make()

    def refuse(default: str) -> str:
        raise PermissionError("refused")

    handler.namer = refuse
    for number in range(20):
        log(handler, f"line {number}")
    handler.namer = None
    assert live.read_text().split("\n")[:-1] == [f"line {number}" for number in range(20)]
    assert len(handler.take_reports()) == 1


def test_where_the_rollover_is_refused_lines_that_have_waited_do_not_each_ask_for_it(live: Path, make: Make) -> None:
    handler = make()
    log(handler, "full already")
    asked = []

    def refuse(default: str) -> str:
        asked.append(default)
        raise PermissionError("refused")

    handler.namer = refuse
    for number in range(50):
        handler._writer.pending.add(b"line %d\n" % number, time.time())
    handler._file.expire_lease()
    log(handler, "last")
    handler.namer = None
    assert live.read_text().split("\n")[1:-1] == [f"line {number}" for number in range(50)] + ["last"]
    assert len(asked) <= 2
    assert len(handler.take_reports()) == 1


def test_without_a_bound_the_write_is_the_system_call_alone(live: Path, make: Make) -> None:
    handler = make(maxBytes=0)
    log(handler, "first")
    assert handler._file.write is handler._file.append


def test_late_lines_of_an_earlier_interval_go_to_its_last_part(
    live: Path, make: Make, standing_clock: StandingClock
) -> None:
    handler = make(when="S")
    first = log(handler, "aaaa")
    for message in ("bbbb", "cccc"):
        log(handler, message)
    standing_clock.go_on(1)
    log(handler, "dddd")
    handler._live.late.close()
    log(handler, "late", first)
    assert live.with_name(f"app.log.{suffix_of(first)}.1").read_text() == "cccc\nlate\n"


@pytest.mark.parametrize("value", [-1, "ten", 1.5, True])
def test_what_is_no_size_is_refused(live: Path, value: Any) -> None:
    with pytest.raises(ConfigurationError, match="maxBytes="):
        WatchedHandler(live, maxBytes=value)


def make_bound(live: Path, compress: str | None) -> logging.Handler:
    """The handler of the load."""
    return SafeTimedRotatingFileHandler(live, when="S", interval=10, utc=True, maxBytes=BOUND, compress=compress)


@pytest.mark.parametrize("compress", [None, pytest.param("gz", marks=pytest.mark.slow)])
def test_several_processes_keep_every_line_and_pass_the_bound_by_one_line_each_at_most(
    live: Path, compress: str | None
) -> None:
    plan = Plan(processes=PROCESSES, seconds=4.0, sizes=(LINE,), rate=400, kills_per_second=1, stops_per_second=1)
    load = run_load(functools.partial(make_bound, live, compress), live, plan)
    after = WatchedHandler(live, when="S", interval=10, utc=True, maxBytes=BOUND, compress=compress, delay=True)
    while (wait := after._live.maintenance.make_pass()) is not None:
        time.sleep(wait)
    assert after.reported == []
    report = audit(live, load.acknowledged, suffix_of_seconds(10), kills=load.kills)
    assert not report.faults(), f"{report}\n{report.examples}"
    files = live.parent.glob("app.log*")
    sizes = [len(read_archive(path)) if path.suffix == ".gz" else path.stat().st_size for path in files]
    line = LINE_FORMAT % {"created": time.time(), "message": make_line("w0t0", 0, LINE)} + "\n"
    assert max(sizes) <= BOUND + PROCESSES * len(line)
    assert len(list(live.parent.glob("app.log.*"))) >= load.lines * LINE / BOUND / 2
