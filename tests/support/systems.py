"""A load in interpreters from which `elsewhere/sitecustomize.py` has taken what other systems lack."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

from rollsafe import SafeTimedRotatingFileHandler
from rollsafe._files import renames
from tests.support.load import Plan, run_load, suffix_of_seconds
from tests.support.oracle import audit
from tests.support.servers import server_environment

SYSTEMS = ("macos", "freebsd", "netbsd", "openbsd")
PLAN = Plan(seconds=2.5, kills_per_second=2, stops_per_second=2, rate=1000, sizes=(200, 200, 9_000))
_TAKES_AWAY = Path(__file__).parent / "elsewhere"


def environment_of(system: str) -> dict[str, str]:
    """The environment of an interpreter that finds what `system` has: one of SYSTEMS, or "kernel"."""
    environment = server_environment({"ROLLSAFE_SYSTEM": system})
    return environment | {"PYTHONPATH": f"{_TAKES_AWAY}{os.pathsep}{environment['PYTHONPATH']}"}


def make(live: Path) -> SafeTimedRotatingFileHandler:
    """The handler under load; it rolls each second, and compresses."""
    return SafeTimedRotatingFileHandler(live, when="S", utc=True, compress="gz", backupCount=100)


def main(live: Path, lacking: str) -> None:
    """Run the load, and audit what it has left; exits with a sentence if anything is wrong."""
    if "proc" in lacking:
        assert not os.path.exists("/proc/self"), "/proc is still there"
    if "rename" in lacking:
        (live.parent / "probe").touch()
        renamed = renames.rename_new(str(live.parent / "probe"), str(live.parent / "renamed"))
        assert not renamed, "the rename that replaces nothing is still there"
        (live.parent / "probe").unlink()
    load = run_load(partial(make, live), live, PLAN)
    report = audit(live, load.acknowledged, suffix_of_seconds(1), kills=load.kills)
    print(f"{load.lines} lines, {load.kills} kills: {report}")
    if not report.flawless or load.errors or not load.kills:
        sys.exit(f"{load}\n{report}\n{report.examples}")
    if len([*live.parent.glob("app.log.*")]) < 2:
        sys.exit("nothing was rolled")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
