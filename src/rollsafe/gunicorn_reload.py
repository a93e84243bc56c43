"""The hook that lets the logging of gunicorn 22 to 26.0 follow a reload (SIGHUP); newer versions do so themselves."""

from __future__ import annotations

import os
import signal
from typing import Any


def on_reload(server: Any) -> None:
    """gunicorn's hook in the arbiter after a reload (SIGHUP), for gunicorn 22 to 26.0.

    Those versions read the configuration again and leave the logging as it was at the start. With this hook the logging
    follows a reload as it does from gunicorn 26.1 on, where the hook does nothing. Use it as the hook, or call it from
    one of your own.

    Where the new logging cannot be set up, the former goes on, and the error log says why.
    """
    log, cfg = server.log, server.cfg
    before = log.cfg
    if before is cfg:
        return
    # gunicorn 22 and 23 log in their handler of SIGCHLD, whose lines would find no handler of ours. To block the signal
    # is not enough: the kernel gives it to another thread then, and Python runs the handler in this one all the same.
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
    """What gunicorn 26.1 and newer do in a reload: have gunicorn's logger follow another configuration."""
    made = [
        (logger, handler)
        for logger in (log.error_log, log.access_log)
        for handler in logger.handlers
        # gunicorn's own mark. The older versions take off one handler of each logger, and a second one would stay
        # (--log-syslog) and log each line once more.
        if getattr(handler, "_gunicorn", False)
    ]
    for logger, handler in made:
        logger.removeHandler(handler)
        handler.close()
    log.cfg = cfg
    log.setup(cfg)
