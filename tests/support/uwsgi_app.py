"""The application of the uWSGI tests: logs through a handler of its own, in the way that its environment says.

UWSGI_APP_HOOKS says which hooks are set, and in which order: "install" is ours, "plain" and "decorated" are the
application's own; with "hold" a thread of the importing process holds the handler's lock for ever.
UWSGI_APP_HANDLER has the keyword arguments of the handler as JSON.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import uwsgi

import rollsafe.uwsgi
from rollsafe import SafeTimedRotatingFileHandler
from tests.support.apps import ACTIONS, pid
from tests.support.apps import application as application
from tests.support.oracle import LINE_FORMAT, make_line


def note(hook: str) -> Callable[[], None]:
    """A post-fork hook that leaves a file in the working directory: its name and the process."""
    return lambda: Path(f"{hook}-{os.getpid()}").touch()


def decorated() -> None:
    """Set a hook as uwsgidecorators does: over whatever is there."""
    from uwsgidecorators import postfork

    postfork(note("decorated"))


def plain() -> None:
    """Set a hook by hand, over whatever is there."""
    uwsgi.post_fork_hook = note("plain")


HOOKS = {"install": rollsafe.uwsgi.install, "decorated": decorated, "plain": plain}

words = os.environ.get("UWSGI_APP_HOOKS", "install").split()
for word in words:
    if word in HOOKS:
        HOOKS[word]()

arguments = {"when": "S"} | json.loads(os.environ.get("UWSGI_APP_HANDLER", "{}"))
Path("logs").mkdir(exist_ok=True)
handler = SafeTimedRotatingFileHandler("logs/app.log", **arguments)
handler.setFormatter(logging.Formatter(LINE_FORMAT))
logging.basicConfig(level="INFO", handlers=[handler])
logger = logging.getLogger(__name__)
logger.info(make_line(f"import{time.time_ns()}", 0, 60))


def hold() -> None:
    """Hold the handler's lock as long as this process lives."""
    handler.acquire()
    held.set()
    time.sleep(3600)


held = threading.Event()
if "hold" in words:
    threading.Thread(target=hold, daemon=True).start()
    held.wait()


def spool(request: dict[bytes, bytes]) -> int:
    """The spooler: log the line that was asked for."""
    logger.info(make_line("spooler", int(request[b"number"]), 200))
    return int(uwsgi.SPOOL_OK)


uwsgi.spooler = spool


def ask_spooler(number: str) -> str:
    """Hand a line to the spooler."""
    uwsgi.spool({b"number": number.encode()})
    return pid()


ACTIONS["spool"] = ask_spooler
