"""One record becomes one JSON object on one line, by python-json-logger (extra `json`)."""

from __future__ import annotations

import datetime
import logging
from typing import Any

from rollsafe.formatters import ZoneClock
from rollsafe.schedule import checked_tz

try:
    from pythonjsonlogger.core import RESERVED_ATTRS
    from pythonjsonlogger.json import JsonFormatter
except ImportError as error:
    raise ImportError(
        "rollsafe.json_lines needs python-json-logger; install it with: pip install 'rollsafe[json]'"
    ) from error

__all__ = ["JSONFormatter"]


class JSONFormatter(JsonFormatter):
    """A `pythonjsonlogger.json.JsonFormatter` whose times are ISO 8601 with their offset, in a zone of your choice.

    It takes the arguments of that class, among them `rename_fields`, `static_fields` and `defaults`. With a `datefmt`,
    `asctime` has that format. uvicorn's `color_message` is left out, unless you give `reserved_attrs`.

    A field of `fmt` that a record lacks has the value of `defaults`, else null. (In python-json-logger up to 4.2 it is
    null in both cases.)

    Args:
        args: As for `JsonFormatter`; the first ones are `fmt`, `datefmt` and `style`, as for `logging.Formatter`.
        tz: The zone of the times: a name such as "Europe/Paris" or a `tzinfo`; None is the process's local zone.
        options: As for `JsonFormatter`.

    Raises:
        ConfigurationError: `tz` is no zone (a `ValueError`).
    """

    def __init__(self, *args: Any, tz: str | datetime.tzinfo | None = None, **options: Any) -> None:
        # uvicorn gives its records a second message, with the colours of a terminal.
        options.setdefault("reserved_attrs", [*RESERVED_ATTRS, "color_message"])
        super().__init__(*args, **options)
        self._zone = checked_tz(tz)
        if self._zone is not None:
            self.converter = ZoneClock(self._zone)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        """The time of `record`: ISO 8601 with milliseconds and offset (RFC 3339), or as `datefmt` says."""
        if datefmt:
            return super().formatTime(record, datefmt)
        moment = datetime.datetime.fromtimestamp(record.created, datetime.timezone.utc)
        return moment.astimezone(self._zone).isoformat(timespec="milliseconds")

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        """Collect the fields of `record`."""
        super().add_fields(log_data, record, message_dict)
        for name, value in self.defaults.items():
            if name not in record.__dict__ and name not in message_dict:
                log_data[self._get_rename(name)] = value
