"""The arithmetic of the comparison of access logs, and that every way of it can be measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("gunicorn", reason="gunicorn is not installed: pip install rollsafe[gunicorn]")

from bench import access
from bench.measuring import in_a_process

SLICES = [
    access.Slice(0, "off", 1000.0, 100e-6),
    access.Slice(0, "gunicorn", 800.0, 180e-6),
    access.Slice(0, "rollsafe", 960.0, 120e-6),
    access.Slice(1, "rollsafe", 480.0, 220e-6),
    access.Slice(1, "gunicorn", 400.0, 280e-6),
    access.Slice(1, "off", 500.0, 200e-6),
]


def test_differences_are_taken_within_a_turn() -> None:
    assert access.extra(SLICES, "gunicorn") == pytest.approx([250e-6, 500e-6])
    assert access.extra(SLICES, "off") == [0, 0]
    assert access.extra_cpu(SLICES, "rollsafe") == pytest.approx([20e-6, 20e-6])


def test_the_report_has_the_ratios_of_medians_within_a_round() -> None:
    costs = [dict.fromkeys(access.WAYS, 10.0) | {"rollsafe": 2.0}, dict.fromkeys(access.WAYS, 30.0) | {"rollsafe": 9.0}]
    text = access.report(costs, SLICES, lines=5, seconds=0.5)
    assert "| `rollsafe.gunicorn.Logger` | --access-logfile | 5.5 | 0.25 (0.20 to 0.30) | at most 0.18: no |" in text
    assert "| gunicorn | 600 | +375 | +80 |" in text
    assert "adds 17% of gunicorn's by the clock (at most 0.35: yes), 25% in processor time (at most 0.35: yes)" in text


@pytest.mark.parametrize("way", access.WAYS)
def test_every_way_of_writing_a_line_is_measured(way: str) -> None:
    assert in_a_process("access", way, 10) > 0


@pytest.mark.slow
def test_the_servers_are_measured_and_the_files_written(tmp_path: Path) -> None:
    access.main(["--rounds", "1", "--lines", "100", "--slices", "2", "--seconds", "0.1", "--out", str(tmp_path)])
    figures = json.loads((tmp_path / "access.json").read_text(encoding="utf-8"))
    assert len(figures["slices"]) == 2 * len(access.SERVERS)
    assert (tmp_path / "access.md").read_text(encoding="utf-8").count("\n| ") == 2 + len(access.WAYS) + 3
