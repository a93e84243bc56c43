"""Write lines of all kinds by the real handlers, formatters and loggers, in the directory that is the argument.

It prints a JSON object: for each path of a live file, what each of its lines says: time, level, message, and the fields
that a shipper has to find. Run it with the zone of the machine in TZ.
"""

from __future__ import annotations

import datetime
import json
import logging
import logging.config
import os
import sys
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from gunicorn.config import Config
from gunicorn.glogging import Logger

from rollsafe.formatters import escape
from rollsafe.gunicorn import rotating_logs

MESSAGES: tuple[tuple[int, str, bool], ...] = (
    (logging.INFO, "started [1] of: 2 - \"3\" 'x' $HOME ${HOME} %s", False),
    (logging.CRITICAL, "grüße\n{json: no} \\ back", False),
    (logging.ERROR, "failed", True),
    (15, "between debug and info", False),
)
REQUESTS: tuple[dict[str, Any], ...] = (
    {},
    {"RAW_URI": '/a?b="c"&d=\\', "QUERY_STRING": 'b="c"&d=\\', "status": "503 Service Unavailable", "sent": None},
    {"REMOTE_ADDR": "", "HTTP_REFERER": "http://x/\\", "HTTP_USER_AGENT": 'curl/8 "x" \\'},
    {"HTTP_USER_AGENT": '" 200 5 "-" "forged', "status": "404 Not Found"},
    {"HTTP_AUTHORIZATION": "Basic " + "am9obiBkb2U6eA=="},  # john doe:x
)
TEXT = "%(asctime)s [%(process)d] [%(levelname)s] %(name)s: %(message)s"


class Collected(logging.Handler):
    """Collects the records of a logger."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record."""
        self.records.append(record)


def log_all(logger: logging.Logger, *, is_text: bool) -> list[dict[str, Any]]:
    """Log each of the messages; returns what their lines say."""
    collected = Collected()
    logger.addHandler(collected)
    for level, message, fails in MESSAGES:
        try:
            if fails:
                raise ValueError("no\nvalue")
        except ValueError:
            logger.log(level, message.replace("%", "%%"), exc_info=True)
        else:
            logger.log(level, "%s", message)
    logger.removeHandler(collected)
    return [told_by(record, is_text) for record in collected.records]


def told_by(record: logging.LogRecord, is_text: bool) -> dict[str, Any]:
    """What the line of a record says."""
    message = record.getMessage()
    if record.exc_info and is_text:
        message += "\n" + logging.Formatter().formatException(record.exc_info)
    return {
        "time": record.created,
        "level": record.levelname,
        "message": escape(message) if is_text else message,
        "name": record.name,
    }


def serve_all(config: Mapping[str, Any], **settings: Any) -> list[dict[str, Any]]:
    """Have gunicorn log each of the requests; returns what their lines say."""
    cfg = Config()
    cfg.set("logconfig_dict", dict(config))
    for name, value in settings.items():
        cfg.set(name, value)
    logger = Logger(cfg)
    told = []
    for number, given in enumerate(REQUESTS):
        environ = {
            "REMOTE_ADDR": "192.0.2.7",
            "REQUEST_METHOD": "GET",
            "RAW_URI": "/cart/1?x=y",
            "PATH_INFO": "/cart/1",
            "QUERY_STRING": "x=y",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "HTTP_REFERER": "-",
            "HTTP_USER_AGENT": "curl/8.5",
            "rollsafe.request_id": f"request-{number}",
            **given,
        }
        status, sent = given.get("status", "200 OK"), given.get("sent", 12)
        response = SimpleNamespace(status=status, headers=[], sent=sent, response_length=sent)
        headers = [("AUTHORIZATION", environ["HTTP_AUTHORIZATION"])] if "HTTP_AUTHORIZATION" in environ else []
        before = datetime.datetime.now().timestamp()
        logger.access(response, SimpleNamespace(headers=headers), environ, datetime.timedelta(seconds=1.25))
        after = datetime.datetime.now().timestamp()
        told.append(
            {
                "time": before,
                "until": after,
                "status": int(status[:3]),
                "bytes": sent,
                "request_id": f"request-{number}",
            }
        )
        told[-1] |= {name: environ[variable] for name, variable in ACCESS_FIELDS.items()}
        told[-1]["remote_user"] = "john doe" if headers else "-"
        told[-1]["request"] = f"GET {environ['RAW_URI']} HTTP/1.1"
    return told


ACCESS_FIELDS = {
    "remote_addr": "REMOTE_ADDR",
    "method": "REQUEST_METHOD",
    "path": "PATH_INFO",
    "query": "QUERY_STRING",
    "referer": "HTTP_REFERER",
    "user_agent": "HTTP_USER_AGENT",
}


def main(directory: str) -> None:
    """Write all the logs."""
    os.chdir(directory)
    told: dict[str, list[dict[str, Any]]] = {}
    for name, preset in PRESETS.items():
        given = dict(preset)
        settings = given.pop("settings", {})
        config = rotating_logs(name, when="midnight", interval=30, backupCount=9, **given)
        told[os.path.abspath(f"{name}/access.log")] = serve_all(config, **settings)
        # Access lines go to one handler, all others to the root logger's.
        logger = logging.getLogger("shop.cart")
        logger.setLevel(1)
        told[os.path.abspath(f"{name}/app.log")] = log_all(logger, is_text=not preset.get("json"))
    os.makedirs("dict", exist_ok=True)
    logging.config.dictConfig(DICTIONARY)
    for name in DICTIONARY["handlers"]:
        logger = logging.getLogger(f"of.{name}")
        told[os.path.abspath(f"dict/{name}.log")] = log_all(logger, is_text=True)
    json.dump(told, sys.stdout)


PRESETS: dict[str, dict[str, Any]] = {
    "text": {"utc": True},
    "stamps": {"stamps": True, "tz": "America/New_York"},
    "json": {"json": True, "tz": "Asia/Kolkata"},
    "named": {
        "access_format": "%(asctime)s %(message)s",
        "datefmt": "%Y-%m-%dT%H:%M:%S%z",
        "settings": {"access_log_format": '%(h)s %(m)s "%(U)s" %(s)s %(B)s %(L)s %({rollsafe.request_id}e)s "%(a)s"'},
    },
}


def _line(fmt: str, **more: Any) -> dict[str, Any]:
    """A formatter of ours."""
    return {"()": "rollsafe.LineFormatter", "fmt": fmt, **more}


FORMATTERS: dict[str, dict[str, Any]] = {
    "celery": _line(
        "%(asctime)s [%(process)d] [%(levelname)s] %(task_name)s[%(task_id)s] %(name)s: %(message)s",
        defaults={"task_name": "shop.tasks.pay", "task_id": "3fdb8a4e-0001"},
    ),
    "django": _line("{levelname:>8} {asctime} {process:d} {thread:d} {name} {message}", style="{"),
    "dollar": _line("$levelname|$asctime|$name|$message", style="$", datefmt="[%d/%b/%Y %H:%M:%S]"),
    "request": _line(
        "%(asctime)s %(levelname)-8s [%(request_id)s] %(name)s:%(lineno)d\t%(message)s",
        defaults={"request_id": "-"},
    ),
    "bare": _line("%(message)s"),
}
DICTIONARY: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": FORMATTERS,
    "handlers": {
        name: {
            "class": "rollsafe.SafeTimedRotatingFileHandler",
            "filename": f"dict/{name}.log",
            "when": "midnight",
            "interval": 30,
            "formatter": name,
        }
        for name in FORMATTERS
    },
    "loggers": {f"of.{name}": {"handlers": [name], "level": 1, "propagate": False} for name in FORMATTERS},
}


if __name__ == "__main__":
    main(sys.argv[1])
