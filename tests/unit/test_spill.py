"""Lines that wait in memory take no more of it than was allowed, however short they are."""

from __future__ import annotations

import time
import tracemalloc

import pytest

from rollsafe.spill import Spill

LIMIT = 1 << 20


@pytest.mark.parametrize("size", [1, 10, 100, 10_000])
def test_lines_take_no_more_memory_than_the_limit(size: int) -> None:
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        spill = Spill(LIMIT)
        number = 0
        while spill.add(b"%0*d" % (size, number), time.time()):
            number += 1
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert LIMIT / 2 < taken < 1.1 * LIMIT
    assert spill.dropped == 1


def test_what_is_taken_and_put_back_counts_as_before() -> None:
    spill = Spill(LIMIT)
    spill.add(b"x" * (LIMIT // 2), 1.0)
    for _ in range(5):
        spill.put_back(*spill.take())
    assert not spill.add(b"x" * (LIMIT // 2), 2.0)
    spill.take()
    assert spill.add(b"x" * (LIMIT // 2), 2.0)


def test_a_single_line_may_be_larger_than_the_limit() -> None:
    spill = Spill(LIMIT)
    assert spill.add(b"x" * (2 * LIMIT), 1.0)
    assert not spill.add(b"x", 1.0)
