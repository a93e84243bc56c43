"""The arithmetic of the speed comparison: pairs within a round, lost lines, counts, the generated sentences."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections import Counter
from pathlib import Path

import pytest

from bench.backups import WINDOWS, table
from bench.peers import CONCURRENT, FLOOR, NULL, OURS, OURS_STANDARD, PEERS, PLAIN, STANDARD, WRITE, Peer, Setting, line
from bench.profile import OTHER, REST, part_of
from bench.speed import (
    BATCHES,
    CROWDS,
    FEW,
    LARGE,
    MANY,
    MIDDLE,
    SMALL,
    Run,
    Spread,
    Turn,
    calls_per_line,
    cpu_per_line,
    goals,
    kept_pace,
    logged_and_lost,
    measure_alone,
    ratios,
    read_strace_table,
    run_once,
    share,
    slower,
    spread,
    where_we_lose,
)

TABLE = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 61.00    0.000610           3       200           write
 39.00    0.000390           1       300        12 newfstatat
------ ----------- ----------- --------- --------- ----------------
100.00    0.001000           2       500        12 total
"""


def runs_of(rates: dict[str, list[float]], lost: int = 0, processes: int = FEW, size: int = SMALL) -> list[Run]:
    """Runs with these rates; each lost `lost` of 1000 lines."""
    return [
        Run(turn, processes, size, peer, rate, cpu=0.5, logged=1000, found=1000 - lost)
        for peer, figures in rates.items()
        for turn, rate in enumerate(figures)
    ]


def turns_of(seconds: dict[str, list[float]], size: int = SMALL) -> list[Turn]:
    """Turns with these seconds for a line."""
    return [Turn(turn, size, peer, figure) for peer, figures in seconds.items() for turn, figure in enumerate(figures)]


def test_ratios_are_taken_within_each_round() -> None:
    runs = runs_of({OURS: [30.0, 400.0], STANDARD: [10.0, 200.0]})
    assert ratios(runs, OURS, STANDARD, FEW) == [3.0, 2.0]


def test_ratios_pair_rounds_by_number_whatever_the_order_of_the_runs() -> None:
    runs = runs_of({OURS: [30.0, 400.0]}) + runs_of({STANDARD: [10.0, 200.0]})[::-1]
    assert ratios(runs, OURS, STANDARD, FEW) == [3.0, 2.0]


def test_ratios_mix_neither_numbers_of_processes_nor_lengths() -> None:
    runs = [
        *runs_of({OURS: [10.0], STANDARD: [5.0]}, processes=2),
        *runs_of({OURS: [9.0], STANDARD: [1.0]}),
        *runs_of({OURS: [8.0], STANDARD: [2.0]}, size=1024),
    ]
    assert ratios(runs, OURS, STANDARD, 2) == [2.0]
    assert ratios(runs, OURS, STANDARD, FEW) == [9.0]
    assert ratios(runs, OURS, STANDARD, FEW, 1024) == [4.0]


def test_a_line_is_compared_with_several_others_together_within_a_round() -> None:
    turns = turns_of({OURS: [6.0, 70.0, 8.0], NULL: [4.0, 30.0, 4.0], WRITE: [1.0, 5.0, 1.0]})
    assert slower(turns, OURS, NULL) == 2.0
    assert slower(turns, OURS, NULL, WRITE) == 1.6


def test_pace_is_that_of_many_processes_by_that_of_few_in_the_same_round() -> None:
    runs = runs_of({OURS: [100.0, 10.0, 8.0]}) + runs_of({OURS: [90.0, 5.0, 8.0]}, processes=MANY)
    assert kept_pace(runs, OURS) == 0.9


def test_spread_is_median_minimum_and_maximum() -> None:
    assert spread([5.0, 1.0, 3.0]) == Spread(3.0, 1.0, 5.0)


def test_cpu_per_line_is_the_median_of_the_rounds() -> None:
    runs = [
        dataclasses.replace(run, cpu=cpu, logged=100)
        for run, cpu in zip(runs_of({STANDARD: [1.0, 1.0, 1.0]}), [1.0, 9.0, 2.0], strict=True)
    ]
    assert cpu_per_line(runs, STANDARD, FEW) == 0.02


def test_lost_lines_are_summed_over_the_rounds() -> None:
    runs = runs_of({STANDARD: [1.0, 1.0], CONCURRENT: [1.0]}, lost=250)
    assert logged_and_lost(runs, STANDARD) == (2000, 500)
    assert logged_and_lost(runs, STANDARD, MANY) == (0, 0)


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 10, "0.0 %"),
        (1, 3, "33.3 %"),
        (10, 10, "100.0 %"),
        (1, 100_000, "less than 0.1 %"),
        (99_999, 100_000, "more than 99.9 %"),
        (0, 0, "0.0 %"),
    ],
)
def test_share_never_rounds_to_nothing_or_to_all(part: int, whole: int, text: str) -> None:
    assert share(part, whole) == text


def test_sentence_says_that_no_peer_was_faster() -> None:
    assert where_we_lose(turns_of({OURS: [1.0], PLAIN: [1.0]}), []) == "No peer was faster than rollsafe."


def test_sentence_names_each_peer_that_was_faster_by_the_median_of_the_rounds_and_where() -> None:
    turns = turns_of({OURS_STANDARD: [10.0, 10.0, 10.0], PLAIN: [9.0, 9.0, 11.0]}, size=1024)
    runs = runs_of({OURS_STANDARD: [80.0, 90.0, 120.0], STANDARD: [100.0, 100.0, 100.0]})
    assert where_we_lose(turns, runs) == (
        f"{OURS_STANDARD} was slower than {PLAIN} by 10.0 % in 1 process at 1024 characters,"
        f" {STANDARD} by 10.0 % in 4 processes at 80 characters."
    )


def test_sentence_does_not_take_a_bound_for_a_peer() -> None:
    assert where_we_lose(turns_of({OURS: [2.0], FLOOR: [1.0], NULL: [0.5]}), []) == "No peer was faster than rollsafe."


def test_goals_are_told_with_whether_they_were_reached() -> None:
    turns = [
        *turns_of({OURS: [7.0], OURS_STANDARD: [9.0], FLOOR: [6.0], NULL: [4.0], WRITE: [1.0], PLAIN: [10.0]}),
        *turns_of({OURS: [12.0], PLAIN: [10.0]}, size=LARGE),
    ]
    runs = [
        *runs_of({OURS: [140.0], STANDARD: [100.0], CONCURRENT: [21.0], PLAIN: [100.0]}),
        *runs_of({OURS: [140.0], PLAIN: [90.0]}, processes=MANY),
        *runs_of({OURS: [100.0], PLAIN: [90.0], STANDARD: [105.0]}, processes=2, size=MIDDLE),
        *runs_of({OURS: [100.0], PLAIN: [200.0]}, size=LARGE),
    ]
    found = goals(turns, runs)
    assert [round(goal.figure, 2) for goal in found] == [1.4, 1.2, 1.05, 0.9, 6.67, 1.4, 1.0]
    assert [goal.reached for goal in found] == [False, False, False, True, False, True, True]
    assert f"worst in 2 processes at {MIDDLE} characters, {STANDARD}" in found[2].what


def test_strace_table_is_read_with_and_without_errors_and_without_its_total() -> None:
    assert read_strace_table(TABLE) == Counter(write=200, newfstatat=300)


def test_calls_per_line_cancel_the_start_and_leave_out_what_is_rare() -> None:
    once = Counter(write=110, read=500, brk=40)
    twice = Counter(write=210, read=700, brk=41, openat=0)
    assert calls_per_line(once, twice, 100) == {"read": 2.0, "write": 1.0}


@pytest.mark.parametrize(
    ("frames", "part"),
    [
        (["app (app.py:7)", "Logger.info (logging/__init__.py:1)"], OTHER),
        (["app (app.py:7)", "Logger.info (logging/__init__.py:1)", "Logger.handle (logging/__init__.py:2)"], OTHER),
        (["LogRecord.__init__ (logging/__init__.py:326)", "basename (<frozen posixpath>:145)"], "making the record"),
        (["StreamHandler.emit (logging/__init__.py:1)", "Formatter.format (logging/__init__.py:2)"], "formatting"),
        (["emit (logging/__init__.py:1)", "format (logging/__init__.py:2)"], "formatting"),
        (["SafeTimedRotatingFileHandler._append (rollsafe/handlers.py:317)"], "handler"),
        (["Logger.access (gunicorn/glogging.py:386)", "SafeAtoms.__init__ (gunicorn/glogging.py:100)"], "the fields"),
        (["SyncWorker.handle (gunicorn/workers/sync.py:141)", "app (app.py:7)"], REST),
    ],
)
def test_a_sample_belongs_to_the_part_of_its_innermost_frame(frames: list[str], part: str) -> None:
    assert part_of(["main (gunicorn:1)", *frames]).startswith(part)


@pytest.mark.parametrize("peer", PEERS.values(), ids=lambda peer: peer.name)
def test_every_peer_writes_the_line_that_all_write(tmp_path: Path, peer: Peer) -> None:
    if why := peer.missing():
        pytest.skip(why)
    logging_ = peer.start(Setting(tmp_path / "app.log"))
    logging_.info("a message of 21 chars")
    logging_.settle()
    logging_.end()
    written = b"".join(file.read_bytes() for file in tmp_path.glob("app.log"))
    if peer.name == NULL:
        assert written == b""
    elif peer.competes:
        stamp, _, rest = written.partition(b" INFO ")
        assert re.fullmatch(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(,\d{3})?", stamp)
        assert rest == b"shop.orders a message of 21 chars\n"
    else:
        assert written.partition(b" INFO ")[2] == line(80).partition(b" INFO ")[2]


def test_peers_alone_take_turns_in_one_process() -> None:
    turns = list(measure_alone([PEERS[NULL], PEERS[FLOOR]], rounds=2))
    assert {(turn.round, turn.peer) for turn in turns} == {(turn, peer) for turn in (0, 1) for peer in (NULL, FLOOR)}
    assert all(turn.seconds > 0 for turn in turns)


@pytest.mark.parametrize("name", [FLOOR, "QueueHandler + listener"])
def test_run_counts_what_was_logged_and_what_is_in_the_files(name: str) -> None:
    run = run_once(PEERS[name], processes=2, seconds=0.01)
    assert run.logged == run.found > 0
    assert logging.raiseExceptions, "set in the children of a run only"


def test_run_that_fails_is_an_error_and_no_figure(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    peer = PEERS[FLOOR]
    broken = Peer("broken", lambda setting: peer.start(Setting(tmp_path / "missing" / "app.log")))
    with pytest.raises(RuntimeError, match="'broken' did not come to its end"):
        run_once(broken, processes=1, seconds=0.01)
    assert "FileNotFoundError" in capfd.readouterr().err


def test_what_is_compared_are_the_numbers_of_processes_that_the_goals_need() -> None:
    assert {(processes, size) for processes in (2, FEW, 16, MANY) for size in (SMALL, MIDDLE)} <= set(CROWDS)
    assert {(1, SMALL), (1, MIDDLE), (1, LARGE)} == {(1, size) for size in BATCHES}


def test_the_table_of_backups_compares_within_a_round() -> None:
    def run(milliseconds: float) -> dict[str, float]:
        return {f"{figure}{window}": milliseconds for window in WINDOWS for figure in ("max", "p999_")}

    runs = {"no compression": [run(1.0), run(10.0), run(2.0)], "compress='gz'": [run(2.0), run(10.0), run(6.0)]}
    lines = table(runs, 3, 200).splitlines()
    assert "| no compression | 2.00 | 2.00 | 2.00 | 2.00 |" in lines
    assert "| compress='gz' |" + 4 * " 6.00 (2.00 \N{MULTIPLICATION SIGN}) |" in lines
