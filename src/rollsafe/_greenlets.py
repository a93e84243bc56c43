"""The event loop of gevent and of eventlet logs too, and it cannot wait: no greenlet can run while it does.

gevent prints the exceptions of its callbacks to standard error, and Celery makes records of what is printed there. In
the greenlet of the loop, `time.sleep` and a lock that another greenlet has raise an error: an AssertionError
(`gevent.exceptions.BlockingSwitchOutError` is one), or eventlet's RuntimeError.
"""

from __future__ import annotations

import sys
import time

from rollsafe._background import sleep


def pause(seconds: float) -> None:
    """Sleep while other greenlets run; in the event loop none can run, so there the whole thread sleeps."""
    try:
        time.sleep(seconds)
    except Exception as error:
        if not is_refusal(error):
            raise
        sleep(seconds)


def is_refusal(error: Exception) -> bool:
    """Whether `error` may be what the event loop gets instead of a wait."""
    has_loop = "gevent" in sys.modules or "eventlet" in sys.modules
    return has_loop and isinstance(error, AssertionError | RuntimeError)
