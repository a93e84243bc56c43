"""The states of an open file, each reached by the method that the table in `open_file` names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path

import pytest

from rollsafe._files.identity import identity_of
from rollsafe._live.open_file import OpenFile, State
from rollsafe._live.streams import LogStream
from rollsafe._timing import GRACE_S, LEASE_S
from rollsafe.schedule import Interval

HOUR = Interval(3600.0, 7200.0, "1970-01-01_01", 0)
NOW, TICK = 4000.0, 100.0


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., OpenFile]]:
    files: list[OpenFile] = []

    def make(shared: bool = False) -> OpenFile:
        path = tmp_path / "app.log"
        files.append(OpenFile(LogStream(path, "a"), identity_of(path.stat()), HOUR, shared=shared))
        return files[-1]

    yield make
    for file in files:
        file.close()


def leased(file: OpenFile) -> OpenFile:
    file.grant_lease(NOW, TICK, HOUR.end)
    return file


def test_a_file_that_was_just_opened_permits_no_line(opened: Callable[..., OpenFile]) -> None:
    file = opened()
    assert (file.state(NOW), file.was_leased()) == (State.UNLEASED, False)
    file.assert_consistent()


def test_a_lease_ends_by_itself_and_never_after_the_interval(opened: Callable[..., OpenFile]) -> None:
    file = leased(opened())
    assert file.state(NOW) is State.LEASED
    assert file.state(NOW + LEASE_S) is State.EXPIRED
    assert file.recheck_after == TICK + LEASE_S + GRACE_S
    file.grant_lease(HOUR.end - LEASE_S / 2, TICK, HOUR.end)
    assert (file.lease_expires, file.state(HOUR.end)) == (HOUR.end, State.EXPIRED)
    file.assert_consistent()


@pytest.mark.parametrize("expire", [OpenFile.expire_lease, OpenFile.end_lease])
def test_a_lease_is_taken_back_and_granted_again(
    opened: Callable[..., OpenFile], expire: Callable[[OpenFile], None]
) -> None:
    file = leased(opened())
    expire(file)
    assert file.state(NOW) is (State.EXPIRED if expire is OpenFile.expire_lease else State.UNLEASED)
    file.assert_consistent()
    assert leased(file).state(NOW) is State.LEASED


def test_a_retired_file_is_kept_for_late_lines_alone(opened: Callable[..., OpenFile]) -> None:
    for file in (opened(), leased(opened())):
        file.retire(TICK + 5)
        assert (file.state(NOW), file.lease_expires, file.forget_at) == (State.LATE, -inf, TICK + 5)
        file.assert_consistent()


def test_a_closed_file_has_no_lease(opened: Callable[..., OpenFile]) -> None:
    file = leased(opened())
    file.close()
    assert (file.state(NOW), file.lease_expires) == (State.CLOSED, -inf)
    file.assert_consistent()


def test_a_shared_file_is_never_leased(opened: Callable[..., OpenFile]) -> None:
    file = leased(opened(shared=True))
    assert file.state(NOW) is State.EXPIRED
    file.assert_consistent()


def test_an_assignment_by_hand_is_found(opened: Callable[..., OpenFile]) -> None:
    file = opened()
    file.lease_expires = HOUR.end
    with pytest.raises(AssertionError):
        file.assert_consistent()
