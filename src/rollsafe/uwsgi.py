"""For applications under uWSGI: prepare each process that it forks, and keep our threads out of the master.

uWSGI forks in C, and calls no at-fork callback of Python unless `--py-call-uwsgi-fork-hooks` is set. So a lock that a
thread of the master holds at that moment is never released in the worker, and the same is true of the interpreter's own
lock, if that thread held it. The handler works under uWSGI without this module, but this module removes both risks.

pyuwsgi (uWSGI in wheels) is started by a Python that copies its environment before uWSGI reads `env =`. `os.environ`
lacks those variables (https://github.com/unbit/uwsgi/issues/1980), and this module adds them.
"""

from __future__ import annotations

import logging
import os
import types
import warnings
from collections.abc import Callable
from typing import Any

from rollsafe._backups.maintenance_thread import forbid_thread
from rollsafe._environment import unseen_variables
from rollsafe._files.lock_handles import renew_handles
from rollsafe.handlers import end_leases, watch_logs

__all__ = ["install"]

_HOOK = "post_fork_hook"

_prepared_in = os.getpid()


def install() -> bool:
    """Have uWSGI prepare each worker, mule and spooler that it forks.

    Call it before you set up logging, and before you read settings from the environment: it adds the variables of
    uWSGI's `env =` that did not reach `os.environ`.

    You may call it anywhere, and repeatedly; it does nothing outside uWSGI. The application's own hooks
    (`uwsgi.post_fork_hook`, `uwsgidecorators.postfork`) still run, after ours, whether they are set earlier or later.
    With `--lazy-apps`, each worker imports the application itself, and needs no preparation.

    The process that imports the application does not maintain backups before uWSGI has forked, because a Python thread
    that runs during the fork can block the child. The workers maintain them.

    Returns:
        Whether this process runs under uWSGI.

    Warns:
        RuntimeWarning: uWSGI runs without threads, so its processes neither archive nor remove backups.
    """
    try:
        import uwsgi
    except ImportError:
        return False
    if isinstance(uwsgi, _ChainingModule):
        return True
    os.environb.update(unseen_variables())
    if not uwsgi.has_threads:
        warnings.warn(
            "uWSGI runs without threads, so its processes do not remove or archive old log files;"
            " set enable-threads = true",
            RuntimeWarning,
            stacklevel=2,
        )
    forbid_thread(not uwsgi.has_threads or not _is_forked(uwsgi))
    previous = getattr(uwsgi, _HOOK, None)
    uwsgi.__class__ = _ChainingModule
    setattr(uwsgi, _HOOK, previous)
    return True


class _ChainingModule(types.ModuleType):
    """The module `uwsgi`, whose `post_fork_hook` always calls ours first, even if other code sets it.

    uWSGI looks the hook up in the module's dictionary, and importing uwsgidecorators replaces the hook that is there.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, _chained(value) if name == _HOOK else value)


def _chained(hook: Callable[[], Any] | None) -> Callable[[], None]:
    """A hook that prepares the process, and then calls `hook`."""

    def prepare_and_call() -> None:
        _prepare()
        if hook is not None:
            hook()

    return prepare_and_call


def _prepare() -> None:
    """Make a process that uWSGI has forked independent of its parent; a second call does nothing more."""
    import uwsgi

    global _prepared_in
    forbid_thread(not uwsgi.has_threads)
    if _prepared_in == os.getpid():
        return
    _prepared_in = os.getpid()
    # `logging` registers this with os.register_at_fork. No thread is left that could hold one of its locks.
    logging._after_at_fork_child_reinit_locks()  # type: ignore[attr-defined]  # no public way
    end_leases()
    renew_handles()
    watch_logs()


def _is_forked(uwsgi: Any) -> bool:
    """Whether this process is a worker or a mule already; with --lazy-apps it is, when it imports the application."""
    return bool(uwsgi.worker_id() or uwsgi.mule_id())
