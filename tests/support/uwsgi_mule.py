"""A mule: logs a number of lines, about a hundred in a second, leaves the file `mule-done`, and stays.

Staying, because uWSGI 2.0.31 on Python 3.13 crashes when a mule's program ends, and starts it again.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path

from tests.support.oracle import make_line
from tests.support.uwsgi_app import logger

LINES = 300

for number in range(LINES):
    logger.info(make_line("mule", number, 200))
    time.sleep(0.01)
Path("mule-done").touch()
while True:
    signal.pause()
