"""The application of the tests of `set_up_logs`: /own/… logs a line, and has uWSGI say one of its own."""

from __future__ import annotations

import time

import uwsgi

from tests.support.apps import ACTIONS, line
from tests.support.apps import application as application


def own(stream: str, number: str, size: str) -> str:
    """Log a line, and have uWSGI say that it did, one time in five."""
    if int(number) % 5 == 0:
        uwsgi.log(f"own message {stream} {number}")
    return line(stream, number, size)


def sleep(seconds: str) -> str:
    """Answer late."""
    time.sleep(float(seconds))
    return ""


ACTIONS["own"] = own
ACTIONS["sleep"] = sleep
