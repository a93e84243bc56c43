"""The loggers that uWSGI's `python:` logger writes to: its request log, and its own messages.

The master calls `error` with each message, in C, without a frame of Python (plugins/python/python_plugin.c,
`uwsgi_python_logger`). The message ends in a newline. If it is not UTF-8, the call fails before it begins, and uWSGI
forgets the error and the line.
"""

from __future__ import annotations

import codecs
import logging
import os
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from rollsafe._listeners import Shortcut
from rollsafe._uwsgi.pipes import LogPipes, find_pipes, packets

ACCESS: Final = "uwsgi.access"
ERROR: Final = "uwsgi.error"

# Requests that are taken at a time, so that the master also gets to its other work. The socket has some 280 of them.
_AT_ONCE: Final = 500
# While requests come faster than they are taken, the master lets some gather for so long: to be woken for each of them
# costs more than to write it. A full socket holds the workers up.
_GATHER_S: Final = 0.005


class MessageLogger(logging.Logger):
    """Logs a message of uWSGI as a record of level INFO, whose text does not end in a newline.

    So an observer such as Sentry does not take each request for an error. Other calls do what they do on any logger.
    """

    may_read = False
    """Whether all messages come here unchanged, so that they may be read where uWSGI reads them."""
    _is_called = False
    """Whether uWSGI has looked up `error`, and not called it yet."""

    @property
    def disabled(self) -> bool:  # an attribute in the standard library
        """False, whatever is set.

        An application's `dictConfig` switches off every logger that it does not name, unless
        `disable_existing_loggers` is False.
        """
        return False

    @disabled.setter
    def disabled(self, value: bool) -> None:
        pass

    @property
    def error(self) -> Callable[..., None]:  # a method in the standard library
        """What uWSGI calls with each message, after it has decoded it."""
        _accept_any_text()
        MessageLogger._is_called = True
        return self._take

    def _take(self, message: object, *arguments: Any, **named: Any) -> None:
        """Log a message of uWSGI; or an error, if only Python code can have called this."""
        MessageLogger._is_called = False
        if arguments or named or not isinstance(message, str):
            super().error(message, *arguments, **{"stacklevel": 2, **named})
        else:
            self.log_messages([message.removesuffix("\n")])

    def log_messages(self, texts: Iterable[str]) -> None:
        """Log messages, each without the newline at its end."""
        for text in texts:
            # uWSGI sets some of its messages apart by empty lines.
            if text:
                self.info(text)


class RequestLogger(MessageLogger):
    """Logs requests: all that wait at a time, and with one write if only a file of ours wants them."""

    _are_many = False
    """Whether further requests waited when the last one came."""
    _pipes: LogPipes | None = None
    _pipes_of = 0
    # Of the class, because a logger is given this class when it exists already, and there is only one.
    _shortcut = Shortcut()

    def log_messages(self, texts: Iterable[str]) -> None:
        """Log requests, each without the newline at its end, and those that wait in the socket."""
        if not self.isEnabledFor(logging.INFO):
            return
        lines = [text for text in (*texts, *self.waiting()) if text]
        handler = self._shortcut.find(self)
        if handler is None:
            for line in lines:
                self.info(line)
        elif lines:
            # All of them in one write: it is as whole as that of one line.
            handler.write_line(handler.terminator.join(map(self._shortcut.finish, lines)), time.time())

    def waiting(self) -> list[str]:
        """The requests that wait in the socket."""
        if not self.may_read:
            return []
        if self._pipes_of != os.getpid():
            self._pipes, self._pipes_of = find_pipes(), os.getpid()
        if self._pipes is None:
            return []
        if self._are_many:
            time.sleep(_GATHER_S)
        texts = [text_of(packet) for packet in packets(self._pipes.requests, _AT_ONCE)]
        self._are_many = bool(texts)
        return texts


def text_of(packet: bytes) -> str:
    """The text of a message, without the newline at its end; what is not UTF-8 as it is shown in a bytes literal."""
    return packet.decode("utf-8", "backslashreplace").removesuffix("\n")


def make_logger(name: str, kind: type[MessageLogger]) -> MessageLogger:
    """The logger of that name, of that kind. uWSGI, or the application, may have asked for it before."""
    logger = logging.getLogger(name)
    logger.__class__ = kind
    assert isinstance(logger, MessageLogger)
    return logger


def _accept_any_text() -> None:
    """Have Python decode messages that are not UTF-8, too. Only the process that uWSGI logs in comes here."""
    global _is_lenient
    if not _is_lenient:
        _is_lenient = True
        # C code that decodes without naming an error handler asks for this one (PyCodec_LookupError).
        codecs.register_error("strict", _decoding_error)


_is_lenient = False


def _decoding_error(error: UnicodeError) -> tuple[str | bytes, int]:
    """Raise, as always, unless it is a message that uWSGI is about to hand over."""
    if MessageLogger._is_called and isinstance(error, UnicodeDecodeError):
        return codecs.backslashreplace_errors(error)
    return codecs.strict_errors(error)
