"""The `logger_class` for gunicorn: its log files rotate, and an access line costs less.

This module needs gunicorn, so `rollsafe.gunicorn` imports it on demand.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from gunicorn import glogging
from gunicorn.instrument import statsd

from rollsafe._gunicorn.access import AccessFormatter, AccessLineFormatter, Line, compile_format, one_line
from rollsafe._gunicorn.access_objects import object_maker
from rollsafe._gunicorn.conflicts import find_other_writers
from rollsafe._listeners import FINISHES, FORMATS, Shortcut
from rollsafe._options import PRESET, options_in
from rollsafe._overrides import original
from rollsafe.errors import ConfigurationError, LogFileError
from rollsafe.formatters import is_plain
from rollsafe.handlers import SafeTimedRotatingFileHandler

# The methods that make gunicorn's lines; a subclass that has its own gets gunicorn's way.
OVERRIDABLE = ("atoms", "now", "atoms_wrapper_class")
# The formatters of an access log whose work can be done without a record.
KNOWN_FORMATS: dict[type, Any] = {
    **FORMATS,
    AccessFormatter: original(AccessFormatter, "format"),
    AccessLineFormatter: original(AccessLineFormatter, "format"),
}
KNOWN_FINISHES = (*FINISHES, one_line)


class Logger(glogging.Logger):  # type: ignore[misc]  # gunicorn publishes no types
    """gunicorn's logger, whose `--access-logfile` and `--error-logfile` are rotated, and whose access lines cost less.

    Everything else works as in gunicorn: `-`, syslog, `logconfig*`, and `capture_output`, which redirects the standard
    streams to a file that is then never rotated. If `statsd_host` is set, an instance also is a
    `gunicorn.instrument.statsd.Statsd`.

    Attributes:
        rotation: Options of `SafeTimedRotatingFileHandler`, set by `rollsafe.gunicorn.rotating_logger`. All others come
            from the environment (first `raw_env`, then that of the process).
    """

    rotation: Mapping[str, Any] = {}

    def __new__(cls, cfg: Any) -> Logger:
        """An instance of `cls`, or of a subclass that also sends metrics."""
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
        self._shortcut = AccessShortcut()
        before = [handler for handler in self._handlers() if getattr(handler, "_gunicorn", False)]
        super().setup(cfg)
        for handler in before:
            # gunicorn takes them off and forgets them, and would lose the lines that wait in their memory.
            if isinstance(handler, SafeTimedRotatingFileHandler) and handler not in self._handlers():
                handler.close()

    def access(self, resp: Any, req: Any, environ: Mapping[str, Any], request_time: timedelta) -> None:
        """Log one access line, byte for byte as gunicorn makes it.

        If only a file of ours gets it, no record is made. Every other handler and filter gets gunicorn's record.
        """
        if not self._access_log_enabled or not self.access_log.isEnabledFor(logging.INFO):
            return
        shortcut = self._shortcut
        handler = shortcut.find(self.access_log)
        if handler is not None:
            now = time.time()
            try:
                text = self._text(resp, req, environ, request_time, now)
            except Exception:
                # The format does not fit its values, and gunicorn reports that in its own way.
                text = None
            if text is not None:
                handler.write_line(text, now)
                return
        # Not `super()`, which is Statsd in the subclass with metrics, and would measure the request twice.
        glogging.Logger.access(self, resp, req, environ, request_time)

    def _text(self, resp: Any, req: Any, environ: Mapping[str, Any], request_time: timedelta, now: float) -> str | None:
        """The line of a request for the handler that was found; None if only gunicorn can make it."""
        shortcut = self._shortcut
        if shortcut.object_of is not None:
            return shortcut.object_of(resp, req, environ, request_time, now)
        access_log_format = self.cfg.settings["access_log_format"].value
        if access_log_format is not self._line_of:
            self._compile_line(access_log_format)
        if self._line is None:
            return None
        text = self._line(resp, req, environ, request_time, now)
        # No formatter that is known here changes a plain text.
        return text if is_plain(text) else shortcut.finish(text)

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
            # gunicorn prints a RuntimeError as one sentence.
            raise RuntimeError(str(error)) from error
        previous = self._get_gunicorn_handler(log)
        if previous is not None:
            log.removeHandler(previous)
        if os.geteuid() == 0 and (self.cfg.uid, self.cfg.gid) != (0, os.getegid()):
            # If the system refuses that, the hook `post_fork` warns; without the hook, each worker reports its writes.
            with contextlib.suppress(OSError):
                handler.hand_over(self.cfg.uid, self.cfg.gid)
        handler.setFormatter(fmt)
        handler._gunicorn = True  # type: ignore[attr-defined]  # gunicorn's mark for the handlers that a reload takes off
        log.addHandler(handler)

    def _is_captured(self, output: str) -> bool:
        """Whether gunicorn redirects the standard streams to that file; they would stay on its backup."""
        captured = self.cfg.capture_output and self.cfg.errorlog != "-"
        return bool(captured) and os.path.realpath(output) == os.path.realpath(self.cfg.errorlog)

    def _compile_line(self, access_log_format: str) -> None:
        """Set the function that makes the lines of a format, None if only gunicorn can make them."""
        ours = all(getattr(type(self), name) is getattr(glogging.Logger, name) for name in OVERRIDABLE)
        by_header = getattr(self._get_user, "__func__", None) is glogging.Logger._get_user
        self._line = compile_format(access_log_format, self._get_user, by_header=by_header) if ours else None
        self._line_of = access_log_format


class AccessShortcut(Shortcut):
    """The way of an access line past its record, also for JSON lines with the fields of requests.

    Attributes:
        object_of: Makes the JSON line of a request; None if the lines are no JSON.
    """

    def __init__(self) -> None:
        super().__init__(KNOWN_FORMATS, KNOWN_FINISHES)
        self.object_of: Line | None = None

    def _learn(self, handler: SafeTimedRotatingFileHandler) -> bool:
        """Whether the work of the formatter and of the filters of this handler is known, which is then kept."""
        self.object_of = None
        if super()._learn(handler):
            return True
        self.object_of = object_maker(handler)
        if self.object_of is None:
            return False
        self._keep(handler, type(handler.formatter).format)  # type: ignore[union-attr]  # it makes JSON
        return True


class _Measuring:
    """A mixin before a `Logger` class: it has gunicorn's `Statsd` measure the requests, but not log them."""

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


def _rotation(cfg: Any, of_class: Mapping[str, Any]) -> dict[str, Any]:
    """The options of rotation: of the configured class, else of `raw_env`, else of the environment, else each midnight.

    Raises:
        RuntimeError: A variable cannot be read; the sentence names it.
    """
    # A reload keeps the logger object, so the options of the class that the configuration names count.
    given = getattr(cfg.settings["logger_class"].get(), "rotation", of_class)
    rotation = {"when": PRESET["when"]}
    try:
        rotation |= options_in(lambda variable: cfg.env.get(variable, os.environ.get(variable)), given)
    except ConfigurationError as error:
        raise RuntimeError(str(error)) from None
    return {**rotation, **given}
