"""Promise P6: killed before any of its system calls, a process leaves a state from which the next one carries on."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator

import pytest

from tests.support.scripts import SCRIPTS
from tests.support.syscalls import KILL, Fault, Laboratory, Outcome, explain, laboratory

KILLED = (
    *("rollover", "stale start", "late lines", "retention", "rotator", "quiet", "several hosts"),
    *(
        pytest.param(script, marks=pytest.mark.slow)
        for script in (
            "compression",
            "telling",
            "telling of archives",
            "size",
            "by hand",
            "late lines of several hosts",
        )
    ),
)


@pytest.fixture(scope="module")
def lab() -> Iterator[Laboratory]:
    yield from laboratory()


def is_healed(outcome: Outcome) -> bool:
    """Whether the next process found nothing that it could not put right, in silence."""
    return (
        outcome.report.flawless
        and not (outcome.disorder or outcome.leftovers or outcome.untold)
        and (outcome.next_status, outcome.next_reports) == (0, 0)
    )


@pytest.mark.parametrize("script", KILLED)
def test_killed_before_any_call_every_acknowledged_line_is_there_once_and_nothing_is_left_behind(
    lab: Laboratory, script: str
) -> None:
    """Nor is any log file more open than the first."""
    outcomes = lab.kill_at_each_change(script)
    assert {outcome.status for outcome in outcomes} == {-signal.SIGKILL}
    assert all(outcome.happened for outcome in outcomes)
    bad = [outcome for outcome in outcomes if not is_healed(outcome) or outcome.exposed]
    assert not bad, explain(bad, outcomes)


@pytest.mark.slow
def test_killed_before_a_call_that_only_reads_it_leaves_what_the_next_change_finds(lab: Laboratory) -> None:
    outcomes = lab.enumerate("rollover", lambda call: [KILL])
    assert {outcome.fault.call for outcome in outcomes} == set(lab.calls("rollover"))
    bad = [outcome for outcome in outcomes if not is_healed(outcome) or outcome.exposed]
    assert not bad, explain(bad, outcomes)


@pytest.mark.parametrize("script", ["retention", "rotator", "compression"])
def test_after_a_kill_the_next_process_completes_what_the_maintenance_thread_had_begun(
    lab: Laboratory, script: str
) -> None:
    untouched = lab.run(script)
    assert untouched.status == 0
    outcomes = lab.enumerate(script, lambda call: [KILL] if re.match("unlink|rename|link", call) else [])
    assert outcomes
    assert {outcome.backups for outcome in outcomes} == {untouched.backups}
    ours = 2 + len(SCRIPTS[script].backups)
    assert untouched.backups == (SCRIPTS[script].backup_count or ours), "with those of the script and the next process"
    assert {outcome.plain for outcome in outcomes} == {untouched.plain}
    assert untouched.plain == (0 if SCRIPTS[script].compress else untouched.backups)


@pytest.mark.slow
@pytest.mark.parametrize("script", ["telling", "telling of archives"])
def test_the_harness_finds_a_backup_of_which_nobody_was_told(lab: Laboratory, script: str) -> None:
    told = lab.run(script)
    assert (told.status, told.untold) == (0, ())
    outcomes = lab.kill_at_each_change(script, "ForgetfulHandler")
    assert any(outcome.untold for outcome in outcomes)


def test_an_injected_kill_comes_before_the_call(lab: Laboratory) -> None:
    outcome = lab.run("rollover", Fault("write", "2", KILL))
    assert outcome.acknowledged == {0}
    assert outcome.report.unacknowledged == 0, "the second line was written although its write was to be killed"


@pytest.mark.parametrize(
    ("script", "handler", "kind"),
    [
        ("rollover", "CopyTruncateHandler", "doubled"),
        ("rollover", "MarkingHandler", "misfiled"),
        ("rollover", "MarkingHandler", "strangers"),
        ("compression", "HastyHandler", "lost"),
    ],
)
def test_the_harness_finds_a_handler_that_does_not_survive_a_kill(
    lab: Laboratory, script: str, handler: str, kind: str
) -> None:
    assert lab.run(script, handler=handler).report.flawless, "nothing is wrong with it until it is killed"
    outcomes = lab.kill_at_each_change(script, handler)
    assert any(outcome.report.faults().get(kind) for outcome in outcomes)
