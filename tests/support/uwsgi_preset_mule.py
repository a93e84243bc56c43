"""A mule: logs lines as the application does, leaves the file `mule-done`, and stays (see `uwsgi_mule`)."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from tests.support.uwsgi_preset_app import own

LINES = 100

for number in range(LINES):
    own("mule", str(number), "60")
    time.sleep(0.01)
Path("mule-done").touch()
while True:
    signal.pause()
