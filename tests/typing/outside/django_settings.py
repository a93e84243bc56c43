"""Django's settings with our classes, by name and as objects."""

from __future__ import annotations

from typing import Any

from rollsafe import LineFormatter, SafeTimedRotatingFileHandler
from rollsafe.json_lines import JSONFormatter
from rollsafe.request_ids import RequestFields

SECRET_KEY = "secret"
MIDDLEWARE: list[str] = []

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"request": {"()": RequestFields}},
    "formatters": {
        "line": {"()": LineFormatter, "fmt": "%(asctime)s %(levelname)s %(message)s", "tz": "UTC"},
        "named": {"()": "rollsafe.LineFormatter", "fmt": "%(message)s", "defaults": {"user": "-"}},
        "json": {"()": JSONFormatter, "fmt": "%(asctime)s %(message)s"},
    },
    "handlers": {
        "file": {
            "class": "rollsafe.SafeTimedRotatingFileHandler",
            "filename": "logs/django.log",
            "when": "midnight",
            "backupCount": 14,
            "formatter": "named",
            "filters": ["request"],
        },
        "json": {"()": SafeTimedRotatingFileHandler, "filename": "logs/django.json", "formatter": "json"},
    },
    "root": {"level": "INFO", "handlers": ["file", "json"]},
}
