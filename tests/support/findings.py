"""The findings of `rollsafe check` about a configuration or a log, and faults that tests make."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rollsafe._settings import Settings
from rollsafe.tools.catalog import logs_at
from rollsafe.tools.checks import check_config, check_logs
from rollsafe.tools.configs import read_config
from rollsafe.tools.findings import OK, Finding
from rollsafe.tools.trials import User
from tests.support.logs import write_log

NOBODY = User(65534, 65534)
PRESET = """
from rollsafe.gunicorn import post_fork, rotating_logs
logconfig_dict = rotating_logs("logs", backupCount=7)
"""
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")


def of_config(text: str, *arguments: str) -> list[Finding]:
    """The findings about a gunicorn.conf.py."""
    Path("gunicorn.conf.py").write_text(text, encoding="utf-8")
    return check_config(read_config("gunicorn.conf.py", arguments))


def of_log(live: Path) -> list[Finding]:
    """The findings about a log."""
    return check_logs(logs_at([live]))


def bad(findings: Sequence[Finding]) -> list[Finding]:
    """The findings about faults; each says why it matters, and what to do."""
    found = [finding for finding in findings if finding.level != OK]
    assert all(finding.why and finding.remedy for finding in found)
    return found


def the_only(findings: Sequence[Finding]) -> Finding:
    """The only finding about a fault."""
    (found,) = bad(findings)
    return found


def owned_by_nobody(logs: Path) -> Path:
    """A log of the user nobody, in a directory of that user."""
    write_log(logs / "app.log", backupCount=3)
    for path in (logs, *logs.iterdir()):
        shutil.chown(path, NOBODY.uid, NOBODY.gid)
    return logs / "app.log"


def with_backups_of(live: Path, size: int, **retention: Any) -> None:
    """Give each backup a size, and the log some retention settings."""
    for backup in live.parent.glob("app.log.*"):
        os.truncate(backup, size)
    lock = live.parent / ".app.log.lock"
    identity = lock.read_bytes().partition(b"\n")[0]
    lock.write_bytes(identity + b"\n" + Settings("H", tz="UTC", **retention).line() + b"\n")
