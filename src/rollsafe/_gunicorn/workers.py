"""The steps of the hook `post_fork` in a new gunicorn worker: it gets its files, and the first one warns of faults."""

from __future__ import annotations

import logging
import os
import pwd
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rollsafe._files.special_files import is_special
from rollsafe._gunicorn.conflicts import conflicting_rotations, other_writers
from rollsafe._gunicorn.flags import ignored_flags
from rollsafe._gunicorn.reload import ignored_reload
from rollsafe._gunicorn.wiring import configured_files, disabled_loggers, removed_handlers
from rollsafe.handlers import living_handlers


def hand_over_files(server: Any, worker: Any) -> None:
    """Give log and lock files to the user that the worker becomes, if root has started gunicorn."""
    if os.geteuid() != 0 or (worker.cfg.uid, worker.cfg.gid) == (0, os.getegid()):
        return
    for handler in living_handlers():
        try:
            handler.hand_over(worker.cfg.uid, worker.cfg.gid)
        except OSError as error:
            server.log.warning(
                "%s cannot be given to user %s: %s; if it is a log, chown it",
                handler.baseFilename,
                worker.cfg.uid,
                error,
            )


def warn_of_faults(worker: Any) -> None:
    """Warn of faults in the wiring of the logs: now, and again when the application has set up its logging."""
    said: set[str] = set()
    flags = ignored_flags(worker.cfg, worker.log)
    settings = [*ignored_reload(worker), *flags, *unwritable_directories(worker.cfg), *other_writers()]
    _warn(worker.log, [*settings, *conflicting_rotations(), *disabled_loggers()], said)
    files = configured_files(worker.cfg)
    loaded = worker.cfg.post_worker_init

    def post_worker_init(worker: Any) -> None:
        """Look again after the application was loaded, then call the hook of the configuration."""
        _warn(worker.log, [*conflicting_rotations(), *disabled_loggers(), *removed_handlers(files)], said)
        loaded(worker)

    worker.cfg.set("post_worker_init", post_worker_init)


def is_first(server: Any, worker: Any) -> bool:
    """Whether `worker` is the first one of its configuration; a reload makes a new configuration."""
    others = [other.cfg for other in server.WORKERS.values() if other is not worker]
    return worker.age == 1 or (bool(others) and all(cfg is not worker.cfg for cfg in others))


def unwritable_directories(cfg: Any) -> Iterator[str]:
    """The directories of log files in which the workers of a root arbiter will not be allowed to rename files.

    Call it in a worker that is still root: it becomes the other user to find out, and then root again.
    """
    if os.geteuid() != 0 or cfg.uid == 0 or os.access not in os.supports_effective_ids:
        return
    handlers = [handler for handler in living_handlers() if not is_special(handler.baseFilename)]
    places = {os.path.dirname(handler.baseFilename) for handler in handlers}
    places |= {handler.archive_dir for handler in handlers if handler.archive_dir}
    with _as_worker(cfg):
        refused = [place for place in sorted(places) if not os.access(place, os.W_OK | os.X_OK, effective_ids=True)]
    for place in refused:
        yield (
            f"the log files in {place!r} will not be rolled over, because the workers become user {cfg.uid}, who may"
            f" not rename files there; give that user write permission on it: chown {cfg.uid} {place}"
        )


@contextmanager
def _as_worker(cfg: Any) -> Iterator[None]:
    """Have the rights of the workers, as gunicorn gives them: the groups of root stay, unless `initgroups` is set."""
    group, groups = os.getegid(), os.getgroups()
    try:
        if cfg.initgroups:
            with suppress(KeyError):
                os.initgroups(pwd.getpwuid(cfg.uid).pw_name, cfg.gid)
        os.setegid(cfg.gid)
        os.seteuid(cfg.uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def _warn(log: Any, sentences: Iterable[str], said: set[str]) -> None:
    """Log each sentence that is not `said` yet, even if gunicorn's error log is switched off."""
    for sentence in sentences:
        if sentence not in said:
            said.add(sentence)
            if log.error_log.disabled:
                made = log.error_log.makeRecord("gunicorn.error", logging.WARNING, __file__, 0, sentence, (), None)
                log.error_log.callHandlers(made)
            else:
                log.warning("%s", sentence)
