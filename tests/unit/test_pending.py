"""Lines that wait in memory take no more of it than was allowed, however short they are."""

from __future__ import annotations

import time
import tracemalloc

import pytest

from rollsafe._live.pending import PendingLines

LIMIT = 1 << 20


@pytest.mark.parametrize("size", [1, 10, 100, 10_000])
def test_lines_take_no_more_memory_than_the_limit(size: int) -> None:
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        pending = PendingLines(LIMIT)
        number = 0
        while pending.add(b"%0*d" % (size, number), time.time()):
            number += 1
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert LIMIT / 2 < taken < 1.1 * LIMIT
    assert pending.dropped == 1


def test_what_is_removed_makes_room_once_however_often_that_is_asked_for() -> None:
    pending = PendingLines(LIMIT)
    pending.add(b"x" * (LIMIT // 2), 1.0)
    pending.add(b"x" * (LIMIT // 4), 2.0)
    first = pending.lines[0]
    for _ in range(3):
        pending.remove(first)
    assert [created for _, created in pending.lines] == [2.0]
    assert pending.add(b"x" * (LIMIT // 2), 3.0)
    assert not pending.add(b"x" * (LIMIT // 2), 4.0)


def test_a_line_that_is_put_first_is_the_oldest_whether_it_fits_or_not() -> None:
    pending = PendingLines(LIMIT)
    pending.add(b"x" * LIMIT, 1.0)
    pending.put_first(b"first", 2.0)
    assert pending.lines[0] == (b"first", 2.0)
    assert pending.holds(pending.lines[0][0])
    assert not pending.holds(b"x")


def test_a_single_line_may_be_larger_than_the_limit() -> None:
    pending = PendingLines(LIMIT)
    assert pending.add(b"x" * (2 * LIMIT), 1.0)
    assert not pending.add(b"x", 1.0)
