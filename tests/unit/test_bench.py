"""The arithmetic of the speed comparison: pairs within a round, lost lines, system calls, the generated sentences."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from bench.speed import (
    CONCURRENT,
    PEERS,
    PROCESSES,
    STANDARD,
    Run,
    Spread,
    calls_per_line,
    cpu_per_line,
    logged_and_lost,
    ratios,
    read_strace_table,
    run_once,
    share,
    spread,
    what_the_speed_cost,
    where_we_lose,
)

FLOOR = next(peer.name for peer in PEERS.values() if not peer.competes)
TABLE = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 61.00    0.000610           3       200           write
 39.00    0.000390           1       300        12 newfstatat
------ ----------- ----------- --------- --------- ----------------
100.00    0.001000           2       500        12 total
"""


def runs_of(rates: dict[str, list[float]], lost: int = 0) -> list[Run]:
    """Runs with these rates, the same for each number of processes; each lost `lost` of 1000 lines."""
    return [
        Run(turn, processes, peer, rate, cpu=0.5, logged=1000, found=1000 - lost)
        for peer, figures in rates.items()
        for processes in PROCESSES
        for turn, rate in enumerate(figures)
    ]


def equal_rates(**others: list[float]) -> dict[str, list[float]]:
    """Three rounds in which all peers are equally fast, but those named by `others`."""
    return {peer: [100.0, 100.0, 100.0] for peer in PEERS} | others


def test_ratios_are_taken_within_each_round() -> None:
    runs = runs_of({"rollsafe": [30.0, 400.0], STANDARD: [10.0, 200.0]})
    assert ratios(runs, "rollsafe", STANDARD, 4) == [3.0, 2.0]


def test_ratios_pair_rounds_by_number_whatever_the_order_of_the_runs() -> None:
    runs = runs_of({"rollsafe": [30.0, 400.0]}) + runs_of({STANDARD: [10.0, 200.0]})[::-1]
    assert ratios(runs, "rollsafe", STANDARD, 4) == [3.0, 2.0]


def test_ratios_do_not_mix_numbers_of_processes() -> None:
    runs = [
        Run(0, processes, peer, rate, cpu=1.0, logged=1, found=1)
        for processes, peer, rate in [
            (1, "rollsafe", 10.0),
            (1, STANDARD, 5.0),
            (4, "rollsafe", 9.0),
            (4, STANDARD, 1.0),
        ]
    ]
    assert (ratios(runs, "rollsafe", STANDARD, 1), ratios(runs, "rollsafe", STANDARD, 4)) == ([2.0], [9.0])


def test_spread_is_median_minimum_and_maximum() -> None:
    assert spread([5.0, 1.0, 3.0]) == Spread(3.0, 1.0, 5.0)


def test_cpu_per_line_is_the_median_of_the_rounds() -> None:
    runs = [Run(turn, 4, STANDARD, 1.0, cpu, logged=100, found=100) for turn, cpu in enumerate([1.0, 9.0, 2.0])]
    assert cpu_per_line(runs, STANDARD, 4) == 0.02


def test_lost_lines_are_summed_over_the_rounds() -> None:
    runs = runs_of({STANDARD: [1.0, 1.0], CONCURRENT: [1.0]}, lost=250)
    assert logged_and_lost(runs, STANDARD, 4) == (2000, 500)


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
    assert where_we_lose(runs_of(equal_rates())) == "No peer was faster than rollsafe."


def test_sentence_names_each_peer_that_was_faster_by_the_median_of_the_rounds() -> None:
    sentence = where_we_lose(runs_of(equal_rates(rollsafe=[80.0, 90.0, 120.0])))
    assert f"rollsafe was slower than {STANDARD} by 10.0 % in 1 process (behind in 2 of 3 rounds)" in sentence
    assert f"rollsafe was slower than {CONCURRENT} by 10.0 % in 4 processes" in sentence


def test_sentence_leaves_out_a_peer_that_was_faster_in_one_round_only() -> None:
    runs = runs_of(equal_rates(rollsafe=[90.0, 101.0, 102.0]))
    assert where_we_lose(runs) == "No peer was faster than rollsafe."


def test_sentence_does_not_take_the_floor_for_a_peer() -> None:
    runs = runs_of(equal_rates() | {FLOOR: [900.0, 900.0, 900.0]})
    assert where_we_lose(runs) == "No peer was faster than rollsafe."


def test_sentence_tells_what_the_standard_handler_lost() -> None:
    assert "lost 25.0 % of its lines" in what_the_speed_cost(runs_of(equal_rates(), lost=250))
    assert "lost no line" in what_the_speed_cost(runs_of(equal_rates()))


def test_strace_table_is_read_with_and_without_errors_and_without_its_total() -> None:
    assert read_strace_table(TABLE) == Counter(write=200, newfstatat=300)


def test_calls_per_line_cancel_the_start_and_leave_out_what_is_rare() -> None:
    once = Counter(write=110, read=500, brk=40)
    twice = Counter(write=210, read=700, brk=41, openat=0)
    assert calls_per_line(once, twice, 100) == {"read": 2.0, "write": 1.0}


def test_run_counts_what_was_logged_and_what_is_in_the_files() -> None:
    run = run_once(PEERS[FLOOR], processes=2, seconds=0.01)
    assert run.logged == run.found > 0


def test_run_that_fails_is_an_error_and_no_figure(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    peer = PEERS[FLOOR]
    broken = type(peer)("broken", lambda live, when: peer.make(tmp_path / "missing" / "app.log", when))
    with pytest.raises(RuntimeError, match="'broken' did not come to its end"):
        run_once(broken, processes=1, seconds=0.01)
    assert "FileNotFoundError" in capfd.readouterr().err
