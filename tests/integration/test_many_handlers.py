"""What each handler costs a process with many: two descriptors, and a share in one maintenance thread."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rollsafe import FileLock
from tests.support.clock import StandingClock
from tests.support.crew import Crew, stop_myself
from tests.support.logs import Make, log, suffix_of

needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs proc(5) to see open files")


def opened(directory: Path) -> list[str]:
    """The names of the files of a directory that this process has open, each as often as it has, sorted."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            path = Path(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:  # that of the listing itself
            continue
        if path.parent == directory:
            found.append(path.name)
    return sorted(found)


# Descriptors.


@needs_proc
@pytest.mark.parametrize("rolled_by", ["itself", "another process"])
def test_a_handler_has_its_live_file_and_its_lock_file_open_after_a_rollover_and_no_more(
    live: Path, make: Make, standing_clock: StandingClock, rolled_by: str
) -> None:
    handler = make()
    first = log(handler, "first")
    standing_clock.go_on(1)
    if rolled_by == "another process":
        with Crew() as crew:
            crew.start(lambda: log(make(), "second")).join()
    log(handler, "third")
    assert opened(live.parent) == [".app.log.lock", "app.log"]
    log(handler, "late", first)
    assert live.with_name(f"app.log.{suffix_of(first)}").read_text() == "first\nlate\n"


@needs_proc
def test_a_file_that_a_late_line_has_opened_is_closed_a_second_after_the_last_one(
    live: Path, make: Make, standing_clock: StandingClock
) -> None:
    handler = make()
    first = log(handler, "first")
    standing_clock.go_on(1)
    log(handler, "second")
    log(handler, "late", first)
    assert len(opened(live.parent)) == 3
    kept = handler._live.late.kept
    assert kept is not None
    # A second later; the lease lasts no longer either.
    kept.forget_at -= 1
    handler._file.expire_lease()
    log(handler, "third")
    assert opened(live.parent) == [".app.log.lock", "app.log"]


@needs_proc
def test_a_late_line_gets_into_its_file_though_a_process_is_stopped_with_the_lock_just_after_the_rollover(
    live: Path, make: Make, standing_clock: StandingClock
) -> None:
    handler = make()
    first = log(handler, "first")
    standing_clock.go_on(1)

    def roll_and_stop() -> None:
        other = make()
        release = other._live.rollover.lock.release

        def stop_before_release() -> None:
            if live.with_name(f"app.log.{suffix_of(first)}").exists():
                stop_myself()
            release()

        other._live.rollover.lock.release = stop_before_release  # type: ignore[method-assign]  # and is stopped there
        log(other, "second")

    with Crew() as crew:
        stopped = crew.start(roll_and_stop)
        stopped.wait_until_stopped()
        log(handler, "third")
        log(handler, "late", first)
        assert live.with_name(f"app.log.{suffix_of(first)}").read_text() == "first\nlate\n"
        assert handler.take_reports() == []
        stopped.go_on()
        stopped.join()
    kept = handler._live.late.kept
    assert kept is not None
    kept.forget_at -= 1
    handler._file.expire_lease()
    log(handler, "fourth")
    assert opened(live.parent) == [".app.log.lock", "app.log"]


@needs_proc
def test_a_late_line_gets_into_its_file_though_the_process_may_not_use_the_lock_file(
    live: Path, make: Make, standing_clock: StandingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = make()
    first = log(handler, "first")
    standing_clock.go_on(1)
    with Crew() as crew:
        crew.start(lambda: log(make(), "second")).join()

    def refuse(*_: object, **__: object) -> bool:
        raise PermissionError("the lock file of another user")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    log(handler, "third")
    log(handler, "late", first)
    assert live.with_name(f"app.log.{suffix_of(first)}").read_text() == "first\nlate\n"
