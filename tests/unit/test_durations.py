"""Lengths of time as people write them, for limits and for the times of the command."""

from __future__ import annotations

import pytest

from rollsafe._durations import EXACT_UNITS, UNITS, seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10s", 10.0),
        ("1 second", 1.0),
        ("90 min", 5400.0),
        ("1.5h", 5400.0),
        ("30 days", 30 * 86400.0),
        (" 2 \t Weeks\n", 14 * 86400.0),
    ],
)
def test_a_number_and_a_unit_is_a_length_of_time(text: str, seconds: float) -> None:
    assert seconds_of(text, EXACT_UNITS) == seconds_of(text, UNITS) == seconds


@pytest.mark.parametrize("text", ["5 m", "1 month", "2 years", "30 sec", "3 hrs"])
def test_a_limit_knows_no_unit_that_may_mean_two_things_and_no_short_form_of_another(text: str) -> None:
    assert seconds_of(text, EXACT_UNITS) is None
    assert seconds_of(text, UNITS) is not None


@pytest.mark.parametrize(
    "text",
    ["", "5", "days", "1 h 30 min", "-1 h", "+1 h", "1, h", "1. h", ".5 h", "1e3 s", "5 ago", "2 day\u017f", "1 _"],
)
def test_what_is_no_number_with_a_unit_is_no_length_of_time(text: str) -> None:
    assert seconds_of(text, UNITS) is None


def test_every_unit_of_a_limit_means_the_same_in_a_time() -> None:
    assert EXACT_UNITS.items() <= UNITS.items()
