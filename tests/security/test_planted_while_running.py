"""Who has broken into a worker puts something in the way while gunicorn runs, and root comes by."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from rollsafe._files.renames import _renameat2
from tests.support.oracle import audit
from tests.support.planted import PLANTED
from tests.support.scene import Scene, as_user
from tests.support.servers import Clients, Server, wait_until

pytest.importorskip("gunicorn", reason="gunicorn is not installed: pip install rollsafe[gunicorn]")

LIVE = ("app.log", "error.log")


def reopen(server: Server, clients: Clients, scene: Scene) -> None:
    """Have the arbiter open its files again, twice with a line of its own in between."""
    for _ in range(2):
        server.signal(signal.SIGUSR1)
        clients.wait_for(more=30)
    # A line that the arbiter logs: a worker ends, and another one is started.
    wait_until(lambda: bool(server.booted_workers), "a worker that has booted")
    worker = min(server.booted_workers)
    os.kill(worker, signal.SIGTERM)
    wait_until(lambda: worker not in server.workers, "the end of a worker")
    clients.wait_for(more=30)
    scene.assert_untouched()


def plant(what: str, path: Path, scene: Scene) -> None:
    """Put something in the place of a file of the log, which keeps a name.

    At once: in two steps, a rollover in between would have the second one destroy the new live file.
    """
    moved, draft = path.with_name(f"{path.name}.moved"), path.with_name("draft")
    PLANTED[what](draft, scene)
    as_user(partial(exchange, draft, path))
    as_user(partial(draft.rename, moved))


def exchange(one: Path, other: Path) -> None:
    """Have two names change their files (renameat2(2), RENAME_EXCHANGE), when both are there."""
    assert _renameat2 is not None
    names = os.fsencode(one), os.fsencode(other)
    # In the midst of a rollover the live file has no name.
    wait_until(lambda: _renameat2(-100, names[0], -100, names[1], 2) == 0, "both names")


def clear(path: Path) -> None:
    """Take away what was planted."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    else:
        path.rmdir()


@pytest.mark.parametrize("what", PLANTED)
def test_in_place_of_live_and_lock_files_it_gets_nothing_and_lines_go_on(scene: Scene, what: str) -> None:
    names = [*LIVE, *(f".{name}.lock" for name in LIVE)]
    if what == "a hard link":
        # With more names the file would be left alone for another reason.
        names = ["error.log"]
    with Server(scene.run, scene.config()) as server, Clients(server) as clients:
        clients.wait_for(more=30)
        for name in names:
            plant(what, scene.logs / name, scene)
        reopen(server, clients, scene)
        for name in names:
            clear(scene.logs / name)
        wait_until((scene.logs / "app.log").is_file, "a new live file")
        reopen(server, clients, scene)
        assert server.workers, "no worker is left"
    scene.assert_untouched()
    report = audit(scene.logs / "app.log", clients.acknowledged, lambda created: "")
    assert (report.lost, report.doubled, report.torn) == (0, 0, 0), report


def swap_for_link(scene: Scene) -> Callable[[], None]:
    """Move the log directory away and put a link to root's in its place; returns what takes that back."""
    inner, moved = scene.logs / "inner", scene.logs / "moved"
    as_user(lambda: inner.rename(moved))
    as_user(lambda: inner.symlink_to(scene.etc))

    def back() -> None:
        as_user(inner.unlink)
        as_user(lambda: moved.rename(inner))

    return back


def test_a_log_directory_that_is_swapped_for_a_link_is_not_entered(scene: Scene) -> None:
    inner = scene.logs / "inner"
    as_user(inner.mkdir)
    logs, scene.logs = scene.logs, inner
    config = scene.config()
    scene.logs = logs
    with Server(scene.run, config) as server, Clients(server) as clients:
        clients.wait_for(more=30)
        back = swap_for_link(scene)
        server.signal(signal.SIGUSR1)
        clients.wait_for(more=60)
        scene.assert_untouched()
        back()
        reopen(server, clients, scene)
    scene.assert_untouched()
    report = audit(inner / "app.log", clients.acknowledged, lambda created: "")
    assert (report.lost, report.doubled, report.torn) == (0, 0, 0), report


def link_all(names: list[Path], target: Path) -> None:
    """Make each name that is not there yet a link to `target`."""
    for name in names:
        # The server may make it first.
        with suppress(FileExistsError):
            name.symlink_to(target)


def test_backups_drafts_and_notes_that_are_planted_are_neither_followed_nor_replaced(scene: Scene) -> None:
    """Names of backups can be foretold."""
    with Server(scene.run, scene.config("when='S', compress='gz'")) as server, Clients(server) as clients:
        clients.wait_for(more=10)
        newest = max(scene.logs.glob("app.log.2*"), default=None)
        minute = (newest.name if newest else "app.log.2026-01-01_00-00-00")[:-2]
        planted = [scene.logs / f"{minute}{second:02}{end}" for second in range(60) for end in (".gz", ".gz.tmp")]
        as_user(partial(link_all, planted, scene.secret))
        clients.wait_for(more=200)
    scene.assert_untouched()
    report = audit(scene.logs / "app.log", clients.acknowledged, lambda created: "")
    assert (report.lost, report.torn) == (0, 0), report
