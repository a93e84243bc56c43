"""The preset on a gunicorn under load: its configuration, and what is asked of its logs afterwards."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path

from tests.support.oracle import LINE_FORMAT, Report, audit
from tests.support.servers import Clients, backups, wait_until

WORKERS = 4
ROLLOVERS = 4

ACCESS_LINE = re.compile(
    rb"(?P<created>\d+\.\d+) 127\.0\.0\.1 - - \[[^]]+\] "
    rb'"GET /line/(?P<stream>\w+)/(?P<number>\d+)/\d+ HTTP/1\.1" 200 .*'
)

# The files of gunicorn's own flags rotate.
FLAGS = """
from rollsafe.gunicorn import post_fork, rotating_logger

logger_class = rotating_logger(when="S")
"""
# Lines of gunicorn's own making, with the second in which they are placed.
FLAGS_FORMAT = "%(t)s %(U)s"
FLAGS_LINE = re.compile(rb"\[(?P<created>[^]]+)\] /line/(?P<stream>\w+)/(?P<number>\d+)/\d+")

# The new arbiter inherits the sockets of the old one: a descriptor on its command line would be another one's. And the
# path of gunicorn's __main__.py in place of -m would put its directory, which has an http, before the standard library.
INHERIT_SOCKETS = """
def pre_exec(server):
    arguments = server.START_CTX["args"]
    arguments[1:2] = ["-m", "gunicorn"]
    bind = arguments.index("--bind")
    del arguments[bind : bind + 2]

"""

HOOKS = {
    "used directly": "from rollsafe.gunicorn import post_fork, rotating_logs\n",
    "called from the user's own hook": """
import rollsafe.gunicorn
from rollsafe.gunicorn import rotating_logs

def post_fork(server, worker):
    rollsafe.gunicorn.post_fork(server, worker)
    worker.log.info("the user's own hook ran in %d", worker.pid)
""",
}


def config(preset: str = '"logs", when="S"', *, hook: str = "used directly", **settings: object) -> str:
    """A gunicorn.conf.py: the arguments of rotating_logs, how post_fork is used, more settings."""
    formats = f'format="{LINE_FORMAT}", access_format="{LINE_FORMAT}"'
    lines = [f"{name} = {value!r}\n" for name, value in settings.items()]
    return HOOKS[hook] + "".join(lines) + f"logconfig_dict = rotating_logs({preset}, {formats})\n"


def suffix_of(created: float) -> str:
    """The backup suffix of when="S"."""
    return time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(created))


def wait_for_rollovers(logs: Path, count: int, names: Sequence[str] = ("app.log", "access.log")) -> None:
    """Wait for so many more backups of each of the logs, which are written under load."""
    lives = [logs / name for name in names]
    goals = [len(backups(live)) + count for live in lives]

    def reached() -> bool:
        return all(len(backups(live)) >= goal for live, goal in zip(lives, goals, strict=True))

    wait_until(reached, f"{count} more rollovers of {lives}")


def audit_both(logs: Path, clients: Clients, notices: re.Pattern[bytes] | None = None) -> tuple[Report, Report]:
    """What the oracle says of app.log and of access.log; `notices` are lines of other requests in the latter."""
    return (
        audit(logs / "app.log", clients.acknowledged, suffix_of),
        audit(logs / "access.log", clients.acknowledged, suffix_of, pattern=ACCESS_LINE, notices=notices),
    )


def audit_flags(access: Path, clients: Clients) -> Report:
    """What the oracle says of an access log of gunicorn's own lines."""
    return audit(access, clients.acknowledged, suffix_of, pattern=FLAGS_LINE, moment=_moment_of)


def _moment_of(text: bytes) -> float:
    """The time of gunicorn's atom `t`, in seconds since the epoch."""
    return time.mktime(time.strptime(text.decode().partition(" +")[0].partition(" -")[0], "%d/%b/%Y:%H:%M:%S"))


def error_log(directory: Path) -> str:
    """All of the error log: the backups in order, then the live file."""
    live = directory / "logs" / "error.log"
    return "".join(path.read_text(encoding="utf-8") for path in [*backups(live), live])
