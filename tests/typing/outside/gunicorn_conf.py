"""A gunicorn.conf.py with the preset and both hooks, under another name because this one is no name of a module."""

from __future__ import annotations

import datetime

from rollsafe.gunicorn import on_reload, post_fork, rotating_logs
from rollsafe.schedule import Interval


def upload(path: str, interval: Interval) -> None:
    started = datetime.datetime.fromtimestamp(interval.start, datetime.timezone.utc)
    print(path, started.isoformat(), interval.suffix)


bind = "127.0.0.1:8000"
workers = 4
logconfig_dict = rotating_logs(
    "logs",
    when="midnight",
    backupCount=14,
    tz="Europe/Paris",
    maxBytes="1 GiB",
    compress="gz",
    max_age=datetime.timedelta(days=30),
    on_rollover=upload,
    stamps=True,
)
logconfig_dict["formatters"]["app"]["fmt"] += " %(request_id)s"

__all__ = ["bind", "logconfig_dict", "on_reload", "post_fork", "workers"]
