"""Real gunicorn workers under load while a clock of their own crosses midnight and the end of summer time."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.clock import Clock, instant, needs_libfaketime
from tests.support.oracle import LINE_FORMAT, audit
from tests.support.servers import Clients, Server, backups, wait_until

pytest.importorskip("gunicorn", reason="gunicorn is not installed: pip install rollsafe[gunicorn]")

pytestmark = needs_libfaketime


@dataclass(frozen=True)
class Night:
    """
    A stretch of time in a zone: the intervals that it touches, and the moments that the clock crosses.

    `intervals` are (begin, suffix, file): the file that their lines must be in, beside app.log, or app.log itself.
    `moments` are crossed in seconds, what lies between two of them is skipped.
    """

    zone: str
    when: str
    intervals: tuple[tuple[str, str, str], ...]
    moments: tuple[str, ...]

    @property
    def begins(self) -> list[float]:
        """The begins of the intervals, in seconds since the epoch."""
        return [instant(begin) for begin, _, _ in self.intervals]

    def suffix_of(self, created: float) -> str:
        """The suffix of the interval that holds this time; of the first one for any time before it."""
        return self.intervals[max(0, bisect_right(self.begins, created) - 1)][1]


NIGHTS = {
    # At 03:00 the clocks of Paris go back to 02:00, so there are two hours of that name.
    "hours in Paris": Night(
        zone="Europe/Paris",
        when="h",
        intervals=(
            ("2026-10-25T02:00:00+02:00", "2026-10-25_02", "app.log.2026-10-25_02"),
            ("2026-10-25T02:00:00+01:00", "2026-10-25_02", "app.log.2026-10-25_02.1"),
            ("2026-10-25T03:00:00+01:00", "2026-10-25_03", "app.log"),
        ),
        moments=("2026-10-25T02:00:00+01:00", "2026-10-25T03:00:00+01:00"),
    ),
    # A day of 25 hours, in one file.
    "days in Paris": Night(
        zone="Europe/Paris",
        when="midnight",
        intervals=(
            ("2026-10-24T00:00:00+02:00", "2026-10-24", "app.log.2026-10-24"),
            ("2026-10-25T00:00:00+02:00", "2026-10-25", "app.log.2026-10-25"),
            ("2026-10-26T00:00:00+01:00", "2026-10-26", "app.log"),
        ),
        moments=("2026-10-25T00:00:00+02:00", "2026-10-25T02:00:00+01:00", "2026-10-26T00:00:00+01:00"),
    ),
    # At 02:00 the clocks of Lord Howe go back to 01:30: the hour 01 has 90 minutes.
    "hours in Lord Howe": Night(
        zone="Australia/Lord_Howe",
        when="h",
        intervals=(
            ("2026-04-05T01:00:00+11:00", "2026-04-05_01", "app.log.2026-04-05_01"),
            ("2026-04-05T02:00:00+10:30", "2026-04-05_02", "app.log"),
        ),
        moments=("2026-04-05T01:30:00+10:30", "2026-04-05T02:00:00+10:30"),
    ),
}


@pytest.mark.parametrize("way", ["TZ", "tz="])
@pytest.mark.parametrize("night", NIGHTS.values(), ids=NIGHTS.keys())
def test_lines_are_kept_in_the_files_of_their_intervals(tmp_path: Path, night: Night, way: str) -> None:
    clock = Clock(tmp_path / "clock", instant(night.moments[0]) - 60)
    environment = clock.environment | {"TZ": night.zone if way == "TZ" else "UTC"}
    with Server(tmp_path, config(night, way), environment=environment) as server, Clients(server) as clients:
        clients.wait_for(more=50)
        for moment in night.moments:
            cross(moment, clock, clients)

    live = tmp_path / "logs" / "app.log"
    report = audit(live, clients.acknowledged, night.suffix_of)
    assert clients.refused == []
    assert report.flawless, report
    assert server.output == ""
    assert [path.name for path in [*backups(live), live]] == [file for _, _, file in night.intervals]
    for (_, _, file), begin, end in zip(night.intervals, night.begins, [*night.begins[1:], clock.now()], strict=True):
        times = created_times(live.with_name(file))
        assert begin <= min(times)
        assert max(times) < end
    for moment in night.moments:
        assert has_lines_on_both_sides(live, instant(moment))


def config(night: Night, way: str) -> str:
    """A gunicorn.conf.py that names the zone, or leaves it to the environment."""
    zone = f", tz={night.zone!r}" if way == "tz=" else ""
    return f"""
from rollsafe.gunicorn import post_fork, rotating_logs
logconfig_dict = rotating_logs("logs", when={night.when!r}{zone}, format="{LINE_FORMAT}")
"""


def cross(moment: str, clock: Clock, clients: Clients) -> None:
    """Set the clock a second before the moment, and see requests answered before and after it."""
    clock.set(instant(moment) - 1)
    clients.wait_for(more=10)
    wait_until(lambda: clock.now() > instant(moment), f"the clock passes {moment}")
    clients.wait_for(more=50)


def created_times(path: Path) -> list[float]:
    """When the lines of a file were created; who opens it while a line is being written may leave an empty one."""
    return [float(line.split(b" ", 1)[0]) for line in path.read_bytes().splitlines() if line.strip()]


def has_lines_on_both_sides(live: Path, moment: float) -> bool:
    """Whether lines were created in the second before and in the second after a moment."""
    times = [created for path in [*backups(live), live] for created in created_times(path)]
    return any(moment - 1 <= created < moment for created in times) and any(moment <= t < moment + 1 for t in times)
