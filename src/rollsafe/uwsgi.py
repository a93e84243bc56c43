"""For applications under uWSGI: prepare each process that it forks, and keep our threads out of the master.

uWSGI forks in C and, unless asked to by `--py-call-uwsgi-fork-hooks`, calls no at-fork callback of Python: locks that a
thread of the master holds at that moment stay locked for ever in the worker, and so does the interpreter itself if
that thread is inside it. The handler works there without this module; this module removes those two risks.

pyuwsgi, which is uWSGI in wheels, is started by a Python that has copied its environment before uWSGI reads `env =`, so
`os.environ` lacks those variables (https://github.com/unbit/uwsgi/issues/1980); this module adds them.
"""

from __future__ import annotations

import logging
import os
import types
import warnings
from collections.abc import Callable
from typing import Any

from rollsafe.environment import unseen_variables
from rollsafe.handlers import end_leases
from rollsafe.locks import renew_handles
from rollsafe.maintenance_thread import forbid_thread

__all__ = ["install"]

_HOOK = "post_fork_hook"

_prepared_in = os.getpid()


def install() -> bool:
    """Have uWSGI prepare each worker, mule and spooler that it forks; call it before logging is set up.

    Call it before settings are read too: variables that uWSGI's `env =` has set, and that did not reach `os.environ`,
    are there afterwards.

    May be called anywhere, and repeatedly: it does nothing outside uWSGI. Hooks of the application's own
    (`uwsgi.post_fork_hook`, `uwsgidecorators.postfork`) run too, after ours, whether they are set before or later.
    With `--lazy-apps` each worker imports the application itself, and there is nothing to prepare.

    Until uWSGI has forked, the process that imports the application tends no backups: a Python thread that runs while
    uWSGI forks can leave the child waiting for ever. The workers do it.

    Returns:
        Whether this process runs under uWSGI.

    Warns:
        RuntimeWarning: uWSGI runs without threads, so that backups are neither archived nor removed by its processes.
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
    """The module `uwsgi`: whoever sets its `post_fork_hook`, ours is called before.

    uWSGI looks the hook up in the module's dictionary, and importing uwsgidecorators sets it without a look at what is
    there.
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
    """Make a process that uWSGI has just forked independent of its parent; twice does nothing more."""
    import uwsgi

    global _prepared_in
    forbid_thread(not uwsgi.has_threads)
    if _prepared_in == os.getpid():
        return
    _prepared_in = os.getpid()
    # What `logging` registers with os.register_at_fork: no thread is left that could hold its locks.
    logging._after_at_fork_child_reinit_locks()  # type: ignore[attr-defined]  # no public way
    end_leases()
    renew_handles()


def _is_forked(uwsgi: Any) -> bool:
    """Whether this process is a worker or a mule already, as it is when it imports the application with --lazy-apps."""
    return bool(uwsgi.worker_id() or uwsgi.mule_id())
