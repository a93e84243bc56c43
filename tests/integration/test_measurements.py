"""Every measurement comes to its end and writes its table."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.servers import ROOT

MEASUREMENTS = {
    "access": ["--rounds", "1", "--lines", "100", "--slices", "1"],
    "backups": ["--rounds", "1", "--size", "1"],
    "escaping": ["--rounds", "2"],
    "faults": ["--seconds", "1"],
    "json_lines": ["--rounds", "2"],
    "metrics": ["--rounds", "1", "--lines", "1000"],
    "parts": ["--rounds", "2"],
    "profile": ["--rounds", "1", "--seconds", "1"],
    "rollover": ["--rounds", "1"],
    "switches": ["--rounds", "2"],
    "verify": ["--rounds", "1", "--lines", "10000"],
}


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("concurrent_log_handler") is None, reason="the dependency group bench is not installed"
)
@pytest.mark.parametrize("name", MEASUREMENTS)
def test_a_short_measurement_writes_its_table(name: str, tmp_path: Path) -> None:
    if name == "profile" and os.geteuid() != 0:
        pytest.skip("py-spy needs root")
    command = [sys.executable, "-m", f"bench.{name}", *MEASUREMENTS[name], "--out", str(tmp_path / "figures")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert f"`python -m bench.{name}`" in (tmp_path / "figures" / f"{name}.md").read_text()
