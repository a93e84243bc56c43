"""A mule: logs a number of lines, about a hundred in a second, and leaves the file `mule-done`."""

from __future__ import annotations

import time
from pathlib import Path

from tests.integration.uwsgi_app import logger
from tests.oracle import make_line

LINES = 300

for number in range(LINES):
    logger.info(make_line("mule", number, 200))
    time.sleep(0.01)
Path("mule-done").touch()
