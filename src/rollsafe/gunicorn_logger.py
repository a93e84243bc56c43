"""The `logger_class` for gunicorn: its log files rotate, and an access line costs less. Needs gunicorn.

`rollsafe.gunicorn` names the class and imports this when it is asked for it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from gunicorn import glogging
from gunicorn.instrument import statsd

from rollsafe._options import PRESET, options_in
from rollsafe.access import AccessFormatter, Line, compiled, one_line
from rollsafe.conflicts import find_other_writers
from rollsafe.errors import ConfigurationError, LogFileError
from rollsafe.formatters import LineFormatter, escape
from rollsafe.handlers import SafeTimedRotatingFileHandler
from rollsafe.overrides import is_replaced, original

MESSAGE_ONLY = "%(message)s"
# What makes gunicorn's lines, and has to be called where a subclass has its own.
OVERRIDABLE = ("atoms", "now", "atoms_wrapper_class")

# Messages by which the formatters that are known differ.
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
_FORMATS = {each: original(each, "format") for each in (logging.Formatter, LineFormatter, AccessFormatter)}
_RECORD = (original(logging.LogRecord, "__init__"), original(logging.LogRecord, "getMessage"))


class Logger(glogging.Logger):  # type: ignore[misc]  # gunicorn publishes no types
    """gunicorn's logger, whose `--access-logfile` and `--error-logfile` are rotated, and whose access lines cost less.

    Everything else is gunicorn's own: `-`, syslog, `logconfig*`, `capture_output` (whose file, on which gunicorn puts
    the standard streams, is never rotated). Where `statsd_host` is set, an instance also is a
    `gunicorn.instrument.statsd.Statsd`.

    Attributes:
        rotation: Options of `SafeTimedRotatingFileHandler`, set by `rollsafe.gunicorn.rotating_logger`; what it does
            not name is taken from the environment (`raw_env` before the process's).
    """

    rotation: Mapping[str, Any] = {}

    def __new__(cls, cfg: Any) -> Logger:
        """An instance of `cls`, or of its twin that measures."""
        if cfg.statsd_host is not None and not issubclass(cls, statsd.Statsd):
            cls = type(cls.__name__, (_Measuring, cls, statsd.Statsd), {"__doc__": cls.__doc__})
        made: Logger = super().__new__(cls)
        return made

    def setup(self, cfg: Any) -> None:
        """Make the handlers of a configuration; called again by each reload.

        Raises:
            RuntimeError: A log file or an option of rotation cannot work; gunicorn prints the sentence and ends.
        """
        self._rotation = _rotation(cfg, self.rotation)
        to_syslog = cfg.syslog and not cfg.disable_redirect_access_to_syslog
        configured = cfg.logconfig_dict or cfg.logconfig_json or cfg.logconfig
        self._access_log_enabled = bool(cfg.accesslog or configured or to_syslog)
        self._line: Line | None = None
        self._line_of: str | None = None
        self._direct: tuple[logging.Handler, logging.Formatter | None, Callable[[str], str]] | None = None
        before = [handler for handler in self._handlers() if getattr(handler, "_gunicorn", False)]
        super().setup(cfg)
        for handler in before:
            # gunicorn takes them off and forgets them; lines that wait in one would be lost with it.
            if isinstance(handler, SafeTimedRotatingFileHandler) and handler not in self._handlers():
                handler.close()

    def access(self, resp: Any, req: Any, environ: Mapping[str, Any], request_time: timedelta) -> None:
        """Log one access line, byte for byte as gunicorn makes it.

        Where a file of ours is all that listens, no record is made; what anybody else sees is gunicorn's record.
        """
        if not self._access_log_enabled or not self.access_log.isEnabledFor(logging.INFO):
            return
        handler = self._direct_handler()
        line = None if handler is None else self._compiled_line()
        if handler is None or line is None:
            # Not `super()`: in the twin that is Statsd, which would measure the request a second time.
            glogging.Logger.access(self, resp, req, environ, request_time)
            return
        now = time.time()
        try:
            text = line(resp, req, environ, request_time, now)
        except Exception:
            # A format that does not fit its values: gunicorn has its own way to say so.
            glogging.Logger.access(self, resp, req, environ, request_time)
            return
        assert self._direct is not None
        handler.write_line(self._direct[2](text), now)

    def _handlers(self) -> list[logging.Handler]:
        """The handlers of gunicorn's two loggers."""
        return [*self.error_log.handlers, *self.access_log.handlers]

    def _set_handler(self, log: logging.Logger, output: str | None, fmt: logging.Formatter, stream: Any = None) -> None:
        """Give `log` the handler for what `--error-logfile` or `--access-logfile` says."""
        if log is self.access_log:
            fmt = AccessFormatter(self.access_fmt)
        if output is None or output == "-" or self._is_captured(output):
            super()._set_handler(log, output, fmt, stream)
            return
        try:
            find_other_writers(SafeTimedRotatingFileHandler(output, **{**self._rotation, "delay": True}))
            handler = SafeTimedRotatingFileHandler(output, **self._rotation)
        except (ConfigurationError, LogFileError) as error:
            # What gunicorn prints as one sentence.
            raise RuntimeError(str(error)) from error
        previous = self._get_gunicorn_handler(log)
        if previous is not None:
            log.removeHandler(previous)
        if os.geteuid() == 0 and (self.cfg.uid, self.cfg.gid) != (0, os.getegid()):
            # Where that is refused the hook `post_fork` says so; without it the workers' refused writes do.
            with contextlib.suppress(OSError):
                handler.hand_over(self.cfg.uid, self.cfg.gid)
        handler.setFormatter(fmt)
        handler._gunicorn = True  # type: ignore[attr-defined]  # gunicorn's own mark for what a reload takes off
        log.addHandler(handler)

    def _is_captured(self, output: str) -> bool:
        """Whether the standard streams are put on that file, and would stay on its backup."""
        captured = self.cfg.capture_output and self.cfg.errorlog != "-"
        return bool(captured) and os.path.realpath(output) == os.path.realpath(self.cfg.errorlog)

    def _direct_handler(self) -> SafeTimedRotatingFileHandler | None:
        """The handler that alone listens to the access log, if it is ours and its formatter adds nothing."""
        log = self.access_log
        if len(log.handlers) != 1 or log.filters or log.propagate or _somebody_listens(log):
            return None
        handler = log.handlers[0]
        if type(handler) is not SafeTimedRotatingFileHandler or handler.filters or handler.level > logging.INFO:
            return None
        if _decides_itself(handler):
            return None
        if self._direct is None or self._direct[0] is not handler or self._direct[1] is not handler.formatter:
            finish = _finish(handler.formatter)
            if finish is None:
                return None
            self._direct = (handler, handler.formatter, finish)
        return handler

    def _compiled_line(self) -> Line | None:
        """What makes the lines of the present format; None where a subclass or the format wants gunicorn's own way."""
        access_log_format = self.cfg.settings["access_log_format"].value
        if access_log_format is not self._line_of:
            ours = all(getattr(type(self), name) is getattr(glogging.Logger, name) for name in OVERRIDABLE)
            self._line = compiled(access_log_format, self._get_user) if ours else None
            self._line_of = access_log_format
        return self._line


class _Measuring:
    """What the twin of a `Logger` class has before it: gunicorn's `Statsd` measures the requests, and logs none."""

    def __init__(self: Any, cfg: Any) -> None:
        """Make the logger, and a `Statsd` with the same socket whose access log is off in every version of gunicorn."""
        super().__init__(cfg)  # type: ignore[call-arg]  # of the class that it is mixed into
        self._meter = statsd.Statsd.__new__(statsd.Statsd)
        self._meter.__dict__ |= self.__dict__ | {"cfg": _Nothing(), "_access_log_enabled": False}

    def access(self: Any, resp: Any, req: Any, environ: Mapping[str, Any], request_time: timedelta) -> None:
        """Log one access line, and send the request's duration and status."""
        super().access(resp, req, environ, request_time)  # type: ignore[misc]  # of the class that it is mixed into
        self._meter.access(resp, req, environ, request_time)


class _Nothing:
    """A configuration in which nothing is set."""

    def __getattr__(self, name: str) -> None:
        """No setting has a value."""
        return None


def _somebody_listens(log: logging.Logger) -> bool:
    """Whether somebody has replaced, on the logger or its class, a part of `logging` through which a record goes."""
    factory = logging.getLogRecordFactory()
    if (
        factory is not logging.LogRecord
        or factory.__module__ != "logging"
        or (factory.__init__, factory.getMessage) != _RECORD
    ):
        return True
    try:
        # Each access line asks this; written out it costs about a fifth of the loop below.
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
        pass  # There is no method of the standard library's; the loop says whether it can be called.
    # What cannot be called listens to nothing.
    return any(is_replaced(log, name, method) and callable(getattr(log, name)) for name, method in _THROUGH.items())


def _decides_itself(handler: SafeTimedRotatingFileHandler) -> bool:
    """Whether the application has put something in the place of a method that makes or writes the handler's text."""
    formatter = handler.formatter
    try:
        return not (
            handler.handle.__func__ is _HANDLER_HANDLE  # type: ignore[attr-defined]  # of a bound method
            and handler.emit.__func__ is _HANDLER_EMIT  # type: ignore[attr-defined]
            and handler.format.__func__ is _HANDLER_FORMAT  # type: ignore[attr-defined]
            and (formatter is None or formatter.format.__func__ is _FORMATS.get(type(formatter)))  # type: ignore[attr-defined]
        )
    except AttributeError:
        return True


def _finish(formatter: logging.Formatter | None) -> Callable[[str], str] | None:
    """What a formatter does to a message, or None if it adds something to it or is not known."""
    if formatter is None:
        return str
    if type(formatter) not in (logging.Formatter, LineFormatter, AccessFormatter) or formatter._fmt != MESSAGE_ONLY:
        return None
    for finish in (str, one_line, escape):
        if all(finish(text) == formatter.format(logging.makeLogRecord({"msg": text})) for text in PROBES):
            return finish
    return None


def _rotation(cfg: Any, of_class: Mapping[str, Any]) -> dict[str, Any]:
    """The options of rotation: those of the configured class, else `raw_env`, else the environment, else each midnight.

    Raises:
        RuntimeError: A variable cannot be read; the sentence names it.
    """
    # A reload keeps the logger, so the class that its configuration names is asked rather than our own.
    given = getattr(cfg.settings["logger_class"].get(), "rotation", of_class)
    rotation = {"when": PRESET["when"]}
    try:
        rotation |= options_in(lambda variable: cfg.env.get(variable, os.environ.get(variable)), given)
    except ConfigurationError as error:
        raise RuntimeError(str(error)) from None
    return {**rotation, **given}
