"""A gunicorn.conf.py with the logger and a hook of its own."""

from __future__ import annotations

from typing import Any

import rollsafe.gunicorn
from rollsafe.gunicorn import Logger, rotating_logger

logger_class: type[Logger] = rotating_logger(when="midnight", backupCount=14)
accesslog = "logs/access.log"


def post_fork(server: Any, worker: Any) -> None:
    rollsafe.gunicorn.post_fork(server, worker)
    print(worker.pid)


class Shop(Logger):
    def now(self) -> str:
        return "never"
