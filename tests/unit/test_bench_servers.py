"""The arithmetic of the loss table: shares, what counts as a fault, the table itself."""

from __future__ import annotations

import pytest

from bench.served import HANDLERS
from bench.servers import Outcome, report

FORBIDDEN = "gunicorn root → nobody, root's directory"


def outcome(counts: dict[str, int], case: str = "gunicorn sync", handler: str = "rollsafe") -> Outcome:
    """An outcome of a thousand lines without fault but for `counts`."""
    figures = {"answered": 1000, "rollovers": 5, "lost": 0, "doubled": 0, "torn": 0, "misfiled": 0} | counts
    return Outcome(case, handler, **figures)


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ({}, "0"),
        ({"lost": 700, "misfiled": 300}, "70 % lost, 30 % misfiled"),
        ({"lost": 1}, "0.1 % lost"),
        ({"lost": 999}, "99 % lost"),
        ({"lost": 1000}, "100 % lost"),
        ({"doubled": 20, "torn": 10}, "0 lost, 2 % doubled, 1 % torn"),
    ],
)
def test_shares_are_told_and_a_small_one_is_not_rounded_away(counts: dict[str, int], text: str) -> None:
    assert str(outcome(counts)) == text


@pytest.mark.parametrize("kind", ["lost", "doubled", "torn", "misfiled"])
def test_each_kind_of_fault_counts_as_one(kind: str) -> None:
    assert not outcome({}).faulty
    assert outcome({kind: 1}).faulty


def test_lines_that_stay_in_one_file_are_no_fault_where_the_rename_is_forbidden() -> None:
    assert not outcome({"misfiled": 600}, FORBIDDEN).faulty
    assert outcome({"lost": 1}, FORBIDDEN).faulty


def test_the_table_has_a_row_for_each_case_and_a_column_for_each_handler() -> None:
    outcomes = [
        outcome({"lost": 10}, case, handler) for case in ("gunicorn sync", "uWSGI master") for handler in HANDLERS
    ]
    rows = [line for line in report(outcomes, 5).splitlines() if line.startswith("|")]
    assert rows[0] == "|  | " + " | ".join(HANDLERS) + " |"
    assert rows[2] == "| gunicorn sync | " + " | ".join(["1 % lost"] * len(HANDLERS)) + " |"
    assert [row.split(" | ")[0] for row in rows[2:]] == ["| gunicorn sync", "| uWSGI master"]
