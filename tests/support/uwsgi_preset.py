"""What uWSGI imports in the tests of `set_up_logs`: it sets up three files with a rollover each second.

UWSGI_PRESET has further arguments as JSON. Each record that observers of the two loggers see is written to `observed`,
if a file of that name is there.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

from rollsafe.uwsgi import set_up_logs
from tests.support.oracle import LINE_FORMAT


class Observer(logging.Handler):
    """Writes name, level and text of a record as JSON, and no more."""

    def emit(self, record: logging.LogRecord) -> None:
        """Append a line to `observed`."""
        with open("observed", "a", encoding="utf-8") as observed:
            observed.write(json.dumps([record.name, record.levelname, record.getMessage(), record.args]) + "\n")


set_up_logs("logs", **{"when": "S", "format": LINE_FORMAT, **json.loads(os.environ.get("UWSGI_PRESET", "{}"))})
if Path("observed").exists():
    for name in ("uwsgi.access", "uwsgi.error"):
        logging.getLogger(name).addHandler(Observer())
