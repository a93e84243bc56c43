"""rollsafe.uwsgi.install where no uWSGI is, and on one without threads, which current releases cannot be made to be."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Iterator

import pytest

import rollsafe.uwsgi
from rollsafe._backups import maintenance_thread


@pytest.fixture
def uwsgi(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """A stand-in for the module that uWSGI's master finds, of a release that runs no threads by default."""
    module = types.ModuleType("uwsgi")
    module.__dict__.update(has_threads=0, worker_id=lambda: 0, mule_id=lambda: 0)
    monkeypatch.setitem(sys.modules, "uwsgi", module)
    yield module
    maintenance_thread.forbid_thread(False)


def test_it_does_nothing_outside_uwsgi() -> None:
    assert rollsafe.uwsgi.install() is False


def test_without_threads_it_says_that_nobody_tends_the_backups(uwsgi: types.ModuleType) -> None:
    with pytest.warns(RuntimeWarning, match="set enable-threads = true"):
        assert rollsafe.uwsgi.install() is True
    uwsgi.post_fork_hook()
    assert maintenance_thread._threadless_pid == os.getpid()


def test_a_second_call_adds_no_second_hook(uwsgi: types.ModuleType) -> None:
    uwsgi.__dict__["has_threads"] = 1
    calls: list[str] = []
    uwsgi.post_fork_hook = lambda: calls.append("own")  # type: ignore[attr-defined]
    assert rollsafe.uwsgi.install() is True
    hook = uwsgi.post_fork_hook
    assert rollsafe.uwsgi.install() is True
    assert uwsgi.post_fork_hook is hook
    hook()
    assert calls == ["own"]


def test_the_master_tends_nothing_and_the_forked_process_does(uwsgi: types.ModuleType) -> None:
    uwsgi.__dict__["has_threads"] = 1
    rollsafe.uwsgi.install()
    assert maintenance_thread._threadless_pid == os.getpid()
    uwsgi.post_fork_hook()
    assert maintenance_thread._threadless_pid is None
