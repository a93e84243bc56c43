"""The loss table on one real server: rollsafe loses nothing where the standard library does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("concurrent_log_handler", reason="concurrent-log-handler is not installed (group bench)")

from bench import servers  # only after the question whether it can run


@pytest.mark.slow
def test_the_table_tells_what_others_lose_and_that_we_do_not(tmp_path: Path) -> None:
    assert servers.main(["--seconds", "3", "--case", "gunicorn sync", "--out", str(tmp_path)]) == 0
    outcomes = json.loads((tmp_path / "servers.json").read_text(encoding="utf-8"))["outcomes"]
    by_handler = {outcome["handler"]: outcome for outcome in outcomes}
    ours, standard = by_handler["rollsafe"], by_handler["standard library"]
    assert (ours["lost"], ours["doubled"], ours["torn"], ours["misfiled"]) == (0, 0, 0, 0)
    assert ours["rollovers"] >= 2
    assert standard["lost"] + standard["misfiled"] > 0
    assert "| gunicorn sync | 0 |" in (tmp_path / "servers.md").read_text(encoding="utf-8")
