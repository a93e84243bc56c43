"""Limits that cannot be meant: refused with the remedy; 0, where it stands, is no limit."""

from __future__ import annotations

import datetime
from math import inf
from pathlib import Path
from typing import Any

import pytest

from rollsafe import ConfigurationError, SafeTimedRotatingFileHandler
from rollsafe._backups.retention import Limits, Stored, select_expired
from rollsafe._options import checked_age, checked_size


@pytest.mark.parametrize("value", [0, "0 MB", "0b"])
def test_no_room_for_any_backup_is_refused_with_the_remedy(tmp_path: Path, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"max_total_bytes=.* 1 or more.* None for no limit"):
        SafeTimedRotatingFileHandler(tmp_path / "app.log", max_total_bytes=value)


@pytest.mark.parametrize("value", ["0 days", datetime.timedelta(0), datetime.timedelta(days=-1), "9" * 400 + " days"])
def test_no_age_is_refused_with_the_remedy(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"max_age=.* None for no limit"):
        checked_age(value)


@pytest.mark.parametrize(
    "value", ["9" * 400 + " B", "9" * 300 + " TiB", 10**400, 10**5000, 1 << 63, "-" + "9" * 400], ids=range(6)
)
def test_a_size_that_nothing_has_is_refused_in_a_short_sentence(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"min_free_bytes=.* is no size") as caught:
        checked_size("min_free_bytes", value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("argument", ["maxBytes", "min_free_bytes"])
def test_where_0_means_no_bound_it_may_be_given(argument: str) -> None:
    assert checked_size(argument, 0) == 0


@pytest.mark.parametrize(
    "limits", [Limits(count=0), Limits(max_age=0), Limits(max_total_bytes=0), Limits(min_free_bytes=0)]
)
def test_0_is_no_limit(limits: Limits) -> None:
    assert not limits.any
    assert select_expired([Stored(("app.log.one",), -inf, 10)], limits, 0.0, free=0) == []
