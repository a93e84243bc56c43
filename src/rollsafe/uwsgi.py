"""For applications under uWSGI: three files that rotate safely, and processes that are prepared when it forks them.

uWSGI forks in C, and calls no at-fork callback of Python unless `--py-call-uwsgi-fork-hooks` is set. So a lock that a
thread of the master holds at that moment is never released in the worker, and the same is true of the interpreter's own
lock, if that thread held it. The handler works under uWSGI without this module, but this module removes both risks.

pyuwsgi (uWSGI in wheels) is started by a Python that copies its environment before uWSGI reads `env =`. `os.environ`
lacks those variables (https://github.com/unbit/uwsgi/issues/1980), and this module adds them.
"""

from __future__ import annotations

import atexit
import logging
import logging.config
import os
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rollsafe._backups.maintenance_thread import forbid_thread
from rollsafe._environment import unseen_variables
from rollsafe._files.lock_handles import renew_handles
from rollsafe._preset import Server, logging_config, with_parameters_of
from rollsafe._uwsgi.contradictions import contradictions, may_read_messages, may_read_requests
from rollsafe._uwsgi.exit import finish_logs
from rollsafe._uwsgi.loggers import ACCESS, ERROR, MessageLogger, RequestLogger, make_logger
from rollsafe._uwsgi.pipes import find_pipes, wait_when_full
from rollsafe.handlers import end_leases, watch_logs

__all__ = ["install", "set_up_logs"]

_HOOK = "post_fork_hook"

_prepared_in = os.getpid()
_is_set_up = False


@with_parameters_of(logging_config)
def set_up_logs(*arguments: Any, **options: Any) -> bool:
    """Set up three files in `directory` that rotate safely: uWSGI's request log, its messages, and the root logger.

    Call it in a module of its own, and have uWSGI import that module and use its loggers:

        shared-pyimport = that_module
        req-logger = python:uwsgi.access
        logger = python:uwsgi.error

    It calls `install()`. Outside uWSGI it does nothing and returns False.

    uWSGI's `log-format` and its options that choose requests keep their meaning. An option of uWSGI that contradicts
    these files gets a warning in the error log, and uWSGI starts all the same. The two loggers ignore `disabled`, which
    a `dictConfig` of the application sets. A record of theirs has level INFO, whatever it says. With `error=None`,
    leave the line `logger` out; uWSGI's messages then go where they went before.
    """
    global _is_set_up
    if not install():
        return False
    config = logging_config(Server("uwsgi"), *arguments, **options)
    requests, messages = make_logger(ACCESS, RequestLogger), make_logger(ERROR, MessageLogger)
    files = {key: config["handlers"][key]["filename"] for key in ("access", "error") if key in config["handlers"]}
    if "error" not in files:
        # Standard error leads back to this logger.
        config["loggers"][ERROR] |= {"handlers": [], "level": "CRITICAL"}
    for logger in config["loggers"].values():
        logger.setdefault("level", "INFO")
    logging.config.dictConfig(config)
    import uwsgi

    requests.may_read, messages.may_read = may_read_requests(uwsgi.opt), may_read_messages(uwsgi.opt)
    pipes = find_pipes()
    if requests.may_read and pipes is not None:
        wait_when_full(pipes.requests_end)
    if not _is_set_up:
        atexit.register(finish_logs)
    for sentence in _faults(uwsgi, files):
        logging.getLogger(ERROR if "error" in files else None).warning("%s", sentence)
    _is_set_up = True
    return True


def _faults(uwsgi: Any, files: Mapping[str, str]) -> Iterator[str]:
    """What keeps the files from getting all that they should; said by one process."""
    if not _is_forked(uwsgi):
        yield from contradictions(uwsgi.opt, files)
    elif not _is_set_up and uwsgi.worker_id() == 1:
        yield (
            "set_up_logs was called in a worker, and the master, which logs, has no files (lazy-apps); call it in a"
            " module of its own, and name that in shared-pyimport"
        )


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
