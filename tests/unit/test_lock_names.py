"""The name of a lock file and that of its live file tell each other."""

from __future__ import annotations

import os

import pytest

from rollsafe._files.lock_files import live_name_of, lock_path


@pytest.mark.parametrize("name", ["app.log", "a", ".hidden", "app.lock", ".app.lock", "two\nlines", "..", "caf\udce9"])
def test_a_lock_file_tells_its_live_file(name: str) -> None:
    directory, lock_name = os.path.split(lock_path(f"/logs/{name}"))
    assert directory == "/logs"
    assert live_name_of(lock_name) == name


@pytest.mark.parametrize("name", ["", ".", ".lock", "..lock", "app.log", "app.log.lock", ".app.log", ".a.lock.gz"])
def test_what_no_lock_file_is_named_tells_none(name: str) -> None:
    assert live_name_of(name) is None
