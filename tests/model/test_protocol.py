"""Every interleaving of a small crew keeps the promises; without any one of the rules, some interleaving breaks one.

`python -m pytest tests/model -rP` prints the number of states of each exploration, and the way to each broken promise.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.model.protocol import Config, Protocol, Rules, explore

PROTOCOL = Rules()
TWO_WORKERS = Config(lines=(1, 1), started=2)
TWO_BOUNDARIES = Config(lines=(1, 2), started=1, boundaries=(1, 2), last_tick=2)

CREWS = {
    "two workers, woken up to four ticks late": TWO_WORKERS._replace(last_tick=4),
    "two processes that start": Config(lines=(1, 1)),
    "a worker, a process that starts, and a kill": Config(lines=(1, 1), started=1, kills=1),
    "two workers and a kill": TWO_WORKERS._replace(kills=1),
    "two workers and a busy lock": Config(lines=(1, 2), started=2, lock_may_be_busy=True),
    "two workers, the wall clock set forward": TWO_WORKERS._replace(clock_steps=1),
    "three workers": Config(lines=(1, 1, 1), started=3, last_tick=2),
    "a worker, a process that starts, and two boundaries": TWO_BOUNDARIES,
}
# A smaller crew with a busy lock is that of the rule writes_again_unasked.
SLOW = "two workers and a busy lock"

# Only mutants take these.
MUTANT_STEPS = {"lease"}
# Generators of `Protocol` that are no step of one process, or a part of one.
NO_STEPS = {"clock", "kill", "refused", "written_again"}


class Mutant(NamedTuple):
    """A rule left out, a crew that comes to grief without it, and the promise that it breaks."""

    rule: str
    crew: Config
    promise: str


MUTANTS = [
    Mutant("looks_after_write", TWO_WORKERS, "P4"),
    Mutant("looks_under_lock", TWO_WORKERS, "P4"),
    Mutant("writes_again_unasked", TWO_WORKERS._replace(lock_may_be_busy=True), "P4"),
    Mutant("compares_identity", TWO_WORKERS, "P3"),
    Mutant("leases_from_before_stat", Config(lines=(1, 1)), "P4"),
    Mutant("looks_when_refused", TWO_WORKERS._replace(lock_may_be_busy=True), "P4"),
    Mutant("drops_what_was_rolled", TWO_BOUNDARIES, "P3"),
    Mutant("keeps_note", Config(lines=(1, 1), started=1), "P3"),
    Mutant("waits_for_quiet", TWO_WORKERS, "P4"),
    Mutant("waits_by_monotonic_clock", TWO_WORKERS._replace(clock_steps=1), "P4"),
    Mutant("checks_size", TWO_WORKERS, "P4"),
    Mutant("notes_archived_size", TWO_WORKERS, "P1"),
    Mutant("archives_leftover_again", TWO_WORKERS._replace(kills=1), "P4"),
]

# With all rules none of these comes to grief: it is the rule that saves the crew of a mutant.
CREWS_OF_MUTANTS = {f"that of {mutant.rule}": mutant.crew for mutant in MUTANTS}


def _marked(crews: dict[str, Config]) -> Iterator[Any]:
    """Each crew once, as a parameter; the slow part has the one that takes by far the longest."""
    for crew, name in {crew: name for name, crew in reversed(crews.items())}.items():
        marks = [pytest.mark.slow] if name == SLOW else []
        yield pytest.param(crew, id=name, marks=marks)


def rule_of(mutant: Mutant) -> str:
    """The test id of a mutant."""
    return mutant.rule


def steps_of_the_model() -> set[str]:
    """The names of the steps that a writer or the archiver can be at."""
    generators = {name for name, method in vars(Protocol).items() if inspect.isgeneratorfunction(method)}
    return {name[1:] for name in generators if name[0] == "_"} - NO_STEPS


@pytest.mark.parametrize("crew", [*_marked(CREWS | CREWS_OF_MUTANTS)])
def test_every_interleaving_keeps_the_promises(crew: Config) -> None:
    result = explore(crew, PROTOCOL)
    print(result)
    assert result.broken is None, result


def test_every_step_of_the_protocol_is_taken() -> None:
    taken = explore(CREWS["two workers and a kill"], PROTOCOL).taken
    assert taken == steps_of_the_model() - MUTANT_STEPS


@pytest.mark.parametrize("mutant", MUTANTS, ids=rule_of)
def test_without_a_rule_some_interleaving_breaks_a_promise(mutant: Mutant) -> None:
    result = explore(mutant.crew, PROTOCOL._replace(**{mutant.rule: False}))
    print(result)
    assert result.broken is not None
    assert result.broken.partition(":")[0] == mutant.promise, result
    assert result.trace


def test_every_rule_has_a_mutant() -> None:
    assert [mutant.rule for mutant in MUTANTS] == list(Rules._fields)


def test_an_exploration_that_grows_too_large_is_refused() -> None:
    with pytest.raises(RuntimeError, match="more than 100 states"):
        explore(TWO_WORKERS, PROTOCOL, limit=100)
