"""Whether anything but our file wants the record of an access line; if not, the line is written without a record.

Every access line asks this, or every few lines that come together, because an application may add a listener at any
time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from rollsafe._overrides import is_replaced, original
from rollsafe.formatters import LineFormatter, escape
from rollsafe.handlers import SafeTimedRotatingFileHandler

MESSAGE_ONLY = "%(message)s"

# The known formatters treat these messages differently.
PROBES = ("line\nline", r"no\newline")
# The parts of `logging` that tracing libraries and applications replace to see every record.
_THROUGH = {
    name: original(logging.Logger, name)
    for name in ("callHandlers", "filter", "handle", "info", "isEnabledFor", "makeRecord", "_log")
}
_CALL_HANDLERS, _FILTER, _HANDLE, _INFO, _IS_ENABLED_FOR, _MAKE_RECORD, _LOG = _THROUGH.values()
_HANDLER_HANDLE, _HANDLER_EMIT, _HANDLER_FORMAT = (
    original(SafeTimedRotatingFileHandler, name) for name in ("handle", "emit", "format")
)
FORMATS: Final[Mapping[type, Any]] = {each: original(each, "format") for each in (logging.Formatter, LineFormatter)}
"""The formatters whose work `finish_of` knows, with their methods."""
FINISHES: Final[tuple[Callable[[str], str], ...]] = (str, escape)
"""What one of them may do to a message."""
_LINE_FORMAT = FORMATS[LineFormatter]
# The class of the records, and its methods. An application may have put a class of its own in its place before.
_RECORD: Any = logging.LogRecord if logging.LogRecord.__module__ == "logging" else None
_INIT, _GET_MESSAGE = original(logging.LogRecord, "__init__"), original(logging.LogRecord, "getMessage")


class Shortcut:
    """The way of a line past its record, to the handler that alone wants it.

    Args:
        formats: The formatters that are known, with their methods.
        finishes: What one of them may do to a message.

    Attributes:
        finish: What the formatter of the last handler that was found does to a message.
    """

    def __init__(
        self, formats: Mapping[type, Any] = FORMATS, finishes: tuple[Callable[[str], str], ...] = FINISHES
    ) -> None:
        self.finish: Callable[[str], str] = str
        self._formats = formats
        self._finishes = finishes
        self._handler: logging.Handler | None = None
        self._formatter: logging.Formatter | None = None
        self._format: object = None
        self._filters: list[Any] = []

    def find(self, log: logging.Logger) -> SafeTimedRotatingFileHandler | None:
        """The handler that alone listens to a logger, if it is ours and its formatter adds nothing to a message."""
        handlers = log.handlers
        if len(handlers) != 1 or log.filters or log.propagate or is_observed(log):
            return None
        handler = handlers[0]
        if type(handler) is not SafeTimedRotatingFileHandler or handler.level > logging.INFO:
            return None
        formatter = handler.formatter
        is_known = (
            handler is self._handler and formatter is self._formatter and handler.filters == self._filters
        ) or self._learn(handler)
        try:
            if (
                is_known
                and handler.handle.__func__ is _HANDLER_HANDLE  # type: ignore[attr-defined]  # of a bound method
                and handler.emit.__func__ is _HANDLER_EMIT  # type: ignore[attr-defined]
                and handler.format.__func__ is _HANDLER_FORMAT  # type: ignore[attr-defined]
                and (formatter is None or formatter.format.__func__ is self._format)  # type: ignore[attr-defined]
                # The formatter of a preset may call it.
                and LineFormatter.format is _LINE_FORMAT
            ):
                return handler
        except AttributeError:
            pass  # One of them is no method: the application has replaced it.
        return None

    def _learn(self, handler: SafeTimedRotatingFileHandler) -> bool:
        """Whether the work of the formatter and of the filters of this handler is known, which is then kept."""
        self._handler = None
        if handler.filters or not self._learn_finish(handler.formatter):
            return False
        self._keep(handler, self._formats.get(type(handler.formatter)))
        return True

    def _learn_finish(self, formatter: logging.Formatter | None) -> bool:
        """Whether it is known what a formatter does to a message."""
        finish = finish_of(formatter, self._formats, self._finishes)
        if finish is None:
            return False
        self.finish = finish
        return True

    def _keep(self, handler: SafeTimedRotatingFileHandler, method: object) -> None:
        """Keep a handler whose work is known, with the method of its formatter."""
        self._formatter, self._format, self._filters = handler.formatter, method, list(handler.filters)
        self._handler = handler


def is_observed(log: logging.Logger) -> bool:
    """Whether a part of `logging` that handles a record was replaced, on the logger, its class or the record class."""
    if not (
        logging._logRecordFactory is _RECORD  # type: ignore[attr-defined]  # a call of getLogRecordFactory takes longer
        and logging.LogRecord is _RECORD
        and _RECORD.__init__ is _INIT
        and _RECORD.getMessage is _GET_MESSAGE
    ):
        return True
    try:
        # Each access line comes here. Written out, it costs about a fifth of the loop below.
        if (
            log.callHandlers.__func__ is _CALL_HANDLERS  # type: ignore[attr-defined]  # of a bound method
            and log.filter.__func__ is _FILTER  # type: ignore[attr-defined]
            and log.handle.__func__ is _HANDLE  # type: ignore[attr-defined]
            and log.info.__func__ is _INFO  # type: ignore[attr-defined]
            and log.isEnabledFor.__func__ is _IS_ENABLED_FOR  # type: ignore[attr-defined]
            and log.makeRecord.__func__ is _MAKE_RECORD  # type: ignore[attr-defined]
            and log._log.__func__ is _LOG  # type: ignore[attr-defined]
        ):
            return False
    except AttributeError:
        pass  # One of them is no method of the standard library; the loop finds out whether it can be called.
    # An object that cannot be called observes nothing.
    return any(is_replaced(log, name, method) and callable(getattr(log, name)) for name, method in _THROUGH.items())


def finish_of(
    formatter: logging.Formatter | None, formats: Mapping[type, Any], finishes: tuple[Callable[[str], str], ...]
) -> Callable[[str], str] | None:
    """The function that does to a message what the formatter does; None if the formatter adds text or is not known."""
    if formatter is None:
        return str
    if type(formatter) not in formats or formatter._fmt != MESSAGE_ONLY:
        return None
    for finish in finishes:
        if all(finish(text) == formatter.format(logging.makeLogRecord({"msg": text})) for text in PROBES):
            return finish
    return None
