"""What the handler reports of its own troubles: through `handleError`, and into the log where nobody sees that."""

from __future__ import annotations

import logging
import os
import sys
from collections import deque
from typing import Any, Protocol

from rollsafe.encoder import own_record
from rollsafe.remedies import remedy_for

# Reports at most that wait to become lines of the log.
_MOST_UNSEEN = 20


class Reporting(Protocol):
    """What reports ask of their handler."""

    @property
    def baseFilename(self) -> str:
        """The live file."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Report the exception that is being handled; an application may set it on the instance, too."""


class Reports:
    """The reports of one handler.

    Any thread may call it.
    """

    def __init__(self, handler: Reporting) -> None:
        self._handler = handler
        self._said: set[str] = set()
        self._unseen: deque[str] = deque(maxlen=_MOST_UNSEEN)

    def report(self, sentence: str, error: BaseException | None) -> None:
        """Hand what belongs to no record of the application to `handleError`, as the exception being handled.

        A daemon's standard error is /dev/null. There a report becomes a line of the log, as long as it can be written.
        """
        if isinstance(error, SystemExit):
            error = RuntimeError(f"sys.exit({error.code!r}) was called")
        try:
            raise error or RuntimeError(sentence)
        except Exception:
            self._handler.handleError(own_record(sentence))
        method = getattr(self._handler.handleError, "__func__", None)
        if method is logging.Handler.handleError and _is_nowhere(sys.stderr):
            self._unseen.append(f"{sentence}: {error}" if error else sentence)

    def report_once(self, step: str, error: Exception) -> None:
        """Report that a step was refused, once until `forget` is called."""
        if step not in self._said:
            self._said.add(step)
            sentence = f"{step} of {self._handler.baseFilename} was refused; lines go on into the open file"
            remedy = remedy_for(error)
            self.report(f"{sentence}; {remedy}" if remedy else sentence, error)

    def forget(self) -> None:
        """A rollover works again: report the next refusal."""
        self._said.clear()

    def take_unseen(self) -> str | None:
        """The oldest report that nobody could see, None if there is none; it is not given again."""
        try:
            return self._unseen.popleft()
        except IndexError:
            return None

    def drop_unseen(self) -> None:
        """In a forked child: they are the parent's to write."""
        self._unseen.clear()


def _is_nowhere(stream: Any) -> bool:
    """Whether nobody sees what is written to a standard stream, as that of a daemon."""
    try:
        return stream is None or os.path.samestat(os.fstat(stream.fileno()), os.stat(os.devnull))
    except (AttributeError, OSError, ValueError):
        # Something else stands in for it (a test's capture, a GUI's window).
        return False
