"""Reloads (SIGHUP) of gunicorn 22 to 26.0, which do not set up the changed logging, as newer versions do.

The hook `on_reload` does it for them. Without the hook, the first worker warns that the change has no effect.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from rollsafe._options import VARIABLE_PREFIX

# When gunicorn.conf.py first imported this; a reload does not import it again.
_STARTED = time.time()


def on_reload(server: Any) -> None:
    """gunicorn's hook in the arbiter after a reload (SIGHUP), for gunicorn 22 to 26.0.

    Those versions read the configuration again, but leave the logging as it was at the start. With this hook, the
    logging follows a reload. Newer versions do that by themselves, and there the hook does nothing. Use it as the hook,
    or call it from your own.

    If the new logging cannot be set up, the old one stays, and the error log says why.
    """
    log, cfg = server.log, server.cfg
    before = log.cfg
    if before is cfg:
        return
    # gunicorn 22 and 23 log in their handler of SIGCHLD, and such a line would find no handler of ours. Blocking the
    # signal is not enough: the kernel then gives it to another thread, and Python still runs the handler in this one.
    arrived = []
    handler = signal.signal(signal.SIGCHLD, lambda number, frame: arrived.append(number))
    try:
        _set_up(log, cfg)
    except Exception as error:
        _set_up(log, before)
        log.error("the logging of the reloaded configuration cannot be set up, and the former goes on: %s", error)
    finally:
        signal.signal(signal.SIGCHLD, handler)
        if arrived:
            os.kill(os.getpid(), signal.SIGCHLD)


def _set_up(log: Any, cfg: Any) -> None:
    """Have gunicorn's logger follow another configuration, as gunicorn 26.1 and newer do in a reload."""
    made = [
        (logger, handler)
        for logger in (log.error_log, log.access_log)
        for handler in logger.handlers
        # gunicorn marks its own handlers. The older versions take off only one handler of each logger; a second one
        # (--log-syslog) would stay, and log each line once more.
        if getattr(handler, "_gunicorn", False)
    ]
    for logger, handler in made:
        logger.removeHandler(handler)
        handler.close()
    log.cfg = cfg
    log.setup(cfg)


def ignored_reload(worker: Any) -> Iterator[str]:
    """A sentence if a reload has changed the logging settings and this version of gunicorn ignores that."""
    # From 26.1 on, gunicorn's logger follows a reload; an older one keeps the configuration of the start.
    before, now = worker.log.cfg, worker.cfg
    if before is now or (_logging_of(before) == _logging_of(now) and not _is_edited(now)):
        return
    from gunicorn import __version__, version_info

    if version_info < (26, 1):
        yield (
            f"gunicorn {__version__} does not set up logging again on a reload, so the change has no effect before"
            " the next start; let gunicorn.conf.py import on_reload from rollsafe.gunicorn, as it imports post_fork,"
            " or use gunicorn 26.1 or newer"
        )


def _logging_of(cfg: Any) -> list[Any]:
    """The settings of a configuration that are about log files, in a form that can be compared."""
    rotation = getattr(cfg.settings["logger_class"].get(), "rotation", None)
    variables = {name: value for name, value in cfg.env.items() if name.startswith(VARIABLE_PREFIX)}
    given = [cfg.logconfig_dict, cfg.logconfig_json, cfg.logconfig, cfg.accesslog, cfg.errorlog, rotation, variables]
    return [_comparable(value) for value in given]


def _is_edited(cfg: Any) -> bool:
    """Whether a file of logging settings was written after the arbiter started."""
    for path in (cfg.logconfig_json, cfg.logconfig):
        with suppress(OSError, TypeError):
            if os.stat(path).st_mtime > _STARTED:
                return True
    return False


def _comparable(value: Any) -> Any:
    """A setting that stays equal when the configuration file is read again and defines its functions anew."""
    if isinstance(value, Mapping):
        return {key: _comparable(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_comparable(each) for each in value]
    return getattr(value, "__qualname__", "a function") if callable(value) else value
