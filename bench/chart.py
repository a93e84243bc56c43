"""The chart of the speed comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench.peers import CONCURRENT, FLOOR, OURS, OURS_STANDARD, PEERS, PLAIN
from bench.speed import FEW, SMALL, Run, Turn, in_processes, logged_and_lost, rates, seconds_of, share, spread

COLOURS = {"ours": "#1f5fa8", "others": "#8a929c", "bounds": "#d5d9de"}
INK, LOSS = "#1b1f24", "#b3261e"
# The lines of the last panel; a reader could not distinguish more of them.
LINES = {
    OURS: ("#1f5fa8", "o"),
    OURS_STANDARD: ("#6fa3dc", "s"),
    PLAIN: ("#30363d", "^"),
    CONCURRENT: ("#8a929c", "D"),
}


def draw(turns: Sequence[Turn], runs: Sequence[Run], path: Path) -> None:
    """Draw bars of one process, bars of several, and how the speed changes with their number, as SVG."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"font.size": 12, "svg.hashsalt": "rollsafe"})
    from matplotlib import pyplot

    alone = {peer: spread([1 / s for s in seconds_of(turns, peer, SMALL).values()]).middle for peer in _peers(turns)}
    together = {peer: spread(list(rates(runs, peer, FEW).values())).middle for peer in _peers(runs)}
    figure, panels = pyplot.subplots(
        3, 1, figsize=(10, 14), facecolor="white", height_ratios=(len(alone), len(together), 10)
    )
    _draw_bars(panels[0], alone, {}, f"1 process, messages of {SMALL} characters")
    notes = {}
    for peer in together:
        logged, lost = logged_and_lost(runs, peer, FEW)
        if lost:
            notes[peer] = f"lost {share(lost, logged)} of its lines"
    _draw_bars(panels[1], together, notes, f"{in_processes(FEW)} on one file, a rollover each second")
    _draw_lines(panels[2], runs)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None, "Title": "Lines a second by handler and number of processes"})
    pyplot.close(figure)


def _peers(measured: Sequence[Turn] | Sequence[Run]) -> list[str]:
    """The peers that were measured, in the order of the tables; a bare write is no line of a log."""
    names = {one.peer for one in measured}
    return [peer.name for peer in PEERS.values() if peer.name in names and (peer.competes or peer.name == FLOOR)]


def _draw_bars(panel: Any, figures: dict[str, float], notes: dict[str, str], title: str) -> None:
    """One bar for each peer, with its figure, and a note where it has one."""
    for row, (name, figure) in enumerate(figures.items()):
        peer = PEERS[name]
        panel.barh(row, figure, color=COLOURS["ours" if peer.ours else "others" if peer.competes else "bounds"])
        note = f" {figure:,.0f}" + (f", {notes[name]}" if name in notes else "")
        panel.text(figure, row, note, va="center", color=LOSS if name in notes else INK)
    panel.set_yticks(range(len(figures)), list(figures))
    # Room for the text at the end of the longest bar.
    panel.set_xlim(0, 1.35 * max(figures.values()))
    panel.set_xlabel("lines a second")
    panel.invert_yaxis()
    _finish(panel, title)
    panel.xaxis.set_major_formatter("{x:,.0f}")


def _draw_lines(panel: Any, runs: Sequence[Run]) -> None:
    """Lines a second over the number of processes."""
    counts = sorted({run.processes for run in runs if run.size == SMALL})
    for name, (colour, marker) in LINES.items():
        if name in {run.peer for run in runs}:
            points = [median(rates(runs, name, count).values()) for count in counts]
            panel.plot(counts, points, color=colour, marker=marker, label=name)
    panel.set_xscale("log", base=2)
    panel.set_xticks(counts, [str(count) for count in counts])
    panel.set_ylim(0)
    panel.set_xlabel("processes on one file")
    panel.set_ylabel("lines a second")
    panel.yaxis.set_major_formatter("{x:,.0f}")
    panel.legend(frameon=False)
    _finish(panel, "by number of processes")


def _finish(panel: Any, title: str) -> None:
    """Give a panel the parts that all panels have."""
    panel.set_title(title, loc="left", fontweight="bold")
    panel.spines[["top", "right"]].set_visible(False)
