"""Promise P7: whichever system call fails, `emit` does not raise, the outage is reported once, and the lines come."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.support.scripts import REFUSED_TO_START
from tests.support.syscalls import Fault, Laboratory, Outcome, explain, laboratory

QUICK = ("rotator",)
LONG = (
    "several hosts",
    "late lines of several hosts",
    "rollover",
    "retention",
    "stale start",
    "late lines",
    "compression",
    "telling",
    "telling of archives",
    "size",
    "quiet",
    "by hand",
)

# The errors that the manual pages name, by the calls that may give them. Any call on a broken disk or an NFS server
# that is gone may give EIO.
ERRORS = {
    "EIO": r"",
    "ENOSPC": r"write|open|rename",
    "EACCES": r"open|stat|access|rename|unlink|fcntl",
    "EROFS": r"open|write|rename|unlink|truncate|chmod|chown",
    "EPERM": r"rename|unlink|chmod|chown",
    "EINTR": r"open|read|write|fcntl|truncate|close",
    "ENOLCK": r"fcntl",
    "EMFILE": r"open",
}


@pytest.fixture(scope="module")
def lab() -> Iterator[Laboratory]:
    yield from laboratory()


def errors_of(call: str) -> list[str]:
    """What strace is to inject for this call."""
    return [f"error={error}" for error, calls in ERRORS.items() if re.search(calls, call)]


def eio(_: str) -> list[str]:
    """EIO for every call."""
    return ["error=EIO"]


def has_run(outcome: Outcome) -> bool:
    """Whether nothing was raised into the application, except a `LogFileError` when the handler was made."""
    return outcome.status == 0 or (outcome.status == REFUSED_TO_START and not outcome.acknowledged)


def is_in_order(outcome: Outcome) -> bool:
    """Whether the files are as they should be, except that lines may be missing or in the file of another interval."""
    report = outcome.report
    misplaced = outcome.disorder or outcome.leftovers
    return (report.doubled, report.torn, report.strangers) == (0, 0, 0) and not misplaced


def carried_on(outcome: Outcome) -> bool:
    """Whether the next process had no trouble."""
    return (outcome.next_status, outcome.next_reports) == (0, 0)


def is_mastered(outcome: Outcome) -> bool:
    """What one failure may do at most: be reported once. Lines of a new interval stay in the old file only then."""
    return (
        has_run(outcome)
        and is_in_order(outcome)
        and carried_on(outcome)
        and outcome.report.lost == 0
        and outcome.reports + outcome.farewells <= 1
        and (outcome.reports == 1 or not (outcome.waited or outcome.report.misfiled))
    )


@pytest.mark.parametrize("script", ["quiet", "by hand"])
def test_without_a_fault_a_file_is_rolled_without_a_line_and_by_hand(lab: Laboratory, script: str) -> None:
    outcome = lab.run(script)
    # The next process rolls once more.
    assert (outcome.status, outcome.reports, outcome.backups) == (0, 0, 2)


@pytest.mark.parametrize("script", [*QUICK, pytest.param("rollover", marks=pytest.mark.slow)])
def test_whichever_call_fails_once_all_lines_come_once_and_in_order(lab: Laboratory, script: str) -> None:
    """Nor is any log file more open than the first. Each call fails with one of the errors that it may give in turn."""
    outcomes = lab.each(script, errors_of)
    assert {outcome.fault.call for outcome in outcomes} == set(lab.calls(script))
    bad = [outcome for outcome in outcomes if not is_mastered(outcome) or outcome.exposed]
    assert not bad, explain(bad, outcomes)


@pytest.mark.slow
@pytest.mark.parametrize("script", [*QUICK, *LONG])
def test_whatever_error_whichever_call_gives_all_lines_come_once_and_in_order(lab: Laboratory, script: str) -> None:
    """Nor is any log file more open than the first."""
    outcomes = lab.every(script, errors_of)
    assert {outcome.fault.call for outcome in outcomes} == set(lab.calls(script))
    bad = [outcome for outcome in outcomes if not is_mastered(outcome) or outcome.exposed]
    assert not bad, explain(bad, outcomes)


@pytest.mark.parametrize("script", [*QUICK, *(pytest.param(script, marks=pytest.mark.slow) for script in LONG)])
def test_whichever_call_fails_for_ever_nothing_is_raised_and_no_loss_is_silent(lab: Laboratory, script: str) -> None:
    outcomes = lab.enumerate(script, eio, when="{}+")
    bad = [
        outcome
        for outcome in outcomes
        if not (has_run(outcome) and is_in_order(outcome) and carried_on(outcome))
        or (outcome.reports == 0 and (outcome.waited or outcome.report.lost or outcome.report.misfiled))
        # The line that waits, the rollover that is refused, and the late line that has no file of its own.
        or outcome.reports > 3
    ]
    assert not bad, explain(bad, outcomes)


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
def test_lines_of_an_outage_wait_and_are_written_in_order_and_one_report_is_made(lab: Laboratory, error: str) -> None:
    faults = [
        Fault("write", f"{first}..{first + more}", f"error={error}") for first in range(1, 9) for more in (1, 2, 4, 6)
    ]
    outcomes = lab.run_all("outage", faults)
    assert all(outcome.happened for outcome in outcomes)
    assert sum(outcome.waited for outcome in outcomes) > len(outcomes) // 2
    bad = [
        outcome
        for outcome in outcomes
        if not (is_mastered(outcome) and outcome.report.flawless and outcome.reports == outcome.waited)
    ]
    assert not bad, explain(bad, outcomes)


def test_an_outage_to_the_end_is_reported_once(lab: Laboratory) -> None:
    outcomes = lab.run_all("outage", [Fault("write", f"{first}+", "error=ENOSPC") for first in range(1, 9)])
    assert all(outcome.waited and outcome.report.lost for outcome in outcomes)
    bad = [outcome for outcome in outcomes if not (has_run(outcome) and outcome.reports == 1 and carried_on(outcome))]
    assert not bad, explain(bad, outcomes)


@pytest.mark.parametrize("outage", [Fault("write", "1..2", "error=ENOSPC"), Fault("write", "1..3", "error=ENOSPC")])
def test_the_number_of_lines_that_could_not_wait_is_written_to_the_log(lab: Laboratory, outage: Fault) -> None:
    outcome = lab.run("overflow", outage)
    assert 0 < outcome.dropped == outcome.report.lost, outcome
    assert (outcome.notices, outcome.reports) == (1, 1), outcome
    assert has_run(outcome), outcome
    assert carried_on(outcome), outcome


def test_the_number_of_dropped_lines_is_written_whichever_write_fails_then(lab: Laboratory) -> None:
    opened = lab.trace("overflow", "-e", "trace=openat").splitlines()
    first = next(number for number, call in enumerate(opened, 1) if "O_APPEND" in call)
    # It is tried to make the file, and then to open it.
    no_file = Fault("openat", f"{first}..{first + 1}", "error=EMFILE")
    outcomes = lab.enumerate("overflow", lambda call: ["error=ENOSPC"] if call == "write" else [], before=(no_file,))
    assert len(outcomes) > 2
    bad = [
        outcome
        for outcome in outcomes
        if not (0 < outcome.dropped == outcome.report.lost) or (outcome.notices, outcome.reports) != (1, 1)
    ]
    assert not bad, explain(bad, outcomes)


@pytest.mark.parametrize("handler", ["ForgettingHandler", "RaisingHandler"])
def test_the_harness_finds_a_handler_that_does_not_master_a_failure(lab: Laboratory, handler: str) -> None:
    assert is_mastered(lab.run("rollover", handler=handler)), "nothing is wrong with it until a call fails"
    outcomes = lab.each(
        "rollover", lambda call: ["error=EIO"] if call in ("write", "renameat2") else [], handler=handler
    )
    assert not all(is_mastered(outcome) for outcome in outcomes)


def test_the_harness_finds_a_handler_that_reports_each_line_of_an_outage(lab: Laboratory) -> None:
    outcome = lab.run("outage", Fault("write", "1..9", "error=ENOSPC"), handler="ComplainingHandler")
    assert outcome.reports > 1
