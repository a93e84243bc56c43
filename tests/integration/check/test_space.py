"""`rollsafe check` finds that backups will not fit; the sizes are those of sparse files."""

from __future__ import annotations

import os
import re
import resource
from pathlib import Path

import pytest

from rollsafe.tools import trials
from rollsafe.tools.findings import ERROR, OK, WARNING
from tests.support.findings import PRESET, bad, of_config, of_log, the_only, with_backups_of


def free(directory: Path) -> int:
    """Bytes that are free."""
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


def test_backups_that_will_not_fit_are_found(live: Path) -> None:
    with_backups_of(live, free(live.parent) // 5, backupCount=100)
    found = the_only(of_log(live))
    assert (found.about, found.level) == ("space", ERROR)
    with_backups_of(live, free(live.parent) // 5, backupCount=100, max_total_bytes=free(live.parent) // 2)
    assert bad(of_log(live)) == []


def test_a_file_system_that_takes_no_more_files_is_found(live: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs

    def full(path: str) -> os.statvfs_result:
        fields = list(real(path))
        fields[5], fields[7] = 1000, 3  # f_files, f_favail
        return os.statvfs_result(fields)

    monkeypatch.setattr(os, "statvfs", full)
    found = the_only(of_log(live))
    assert (found.about, found.level) == ("space", ERROR)
    assert "3 files more" in found.what


def test_a_limit_of_file_sizes_is_found(live: Path) -> None:
    def limited() -> list[dict[str, str]]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))
        return [each.as_dict() for each in of_log(live)]

    (found,) = [each for each in trials.in_child(limited) if each["level"] != OK]
    assert (found["about"], found["where"], found["level"]) == ("space", "ulimit -f", WARNING)


def test_backups_that_are_never_removed_are_found_with_the_time_that_is_left(live: Path) -> None:
    with_backups_of(live, free(live.parent) // 100)
    found = {each.about: each for each in bad(of_log(live))}
    assert set(found) == {"retention", "space"}
    assert "a day" in found["retention"].why
    assert re.search(r"full in 4\.\d days", found["space"].what)


def test_a_configuration_with_any_limit_removes_backups() -> None:
    for limit in ("max_age='30 days'", "max_total_bytes='1 GiB'", "min_free_bytes=10"):
        config = PRESET.replace("rotating_logs(", f"rotating_logs({limit}, directory=").replace("backupCount=7", "")
        assert "retention" not in [each.about for each in bad(of_config(config))], config
