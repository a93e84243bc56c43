"""The handler's reports of its own failures: through `handleError`, and as lines of the log if stderr is /dev/null."""

from __future__ import annotations

import logging
import os
import sys
from collections import deque
from typing import Any, Protocol

from rollsafe._lines.encoder import own_record
from rollsafe._remedies import remedy_for

# How many reports may wait to become lines of the log.
_MOST_UNSEEN = 20


class Reporting(Protocol):
    """The part of a handler that its reports use."""

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
        """Hand a failure that belongs to no record of the application to `handleError`, as the exception being handled.

        The standard error of a daemon is /dev/null. There the report also becomes a line of the log.
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
        """Report the next refusal of each step again, because a rollover has succeeded."""
        self._said.clear()

    def take_unseen(self) -> str | None:
        """Remove and return the oldest report that stderr did not show, None if there is none."""
        try:
            return self._unseen.popleft()
        except IndexError:
            return None

    def drop_unseen(self) -> None:
        """Drop the reports in a forked child, because the parent writes them."""
        self._unseen.clear()


def _is_nowhere(stream: Any) -> bool:
    """Whether a standard stream is /dev/null or missing, as in a daemon."""
    try:
        return stream is None or os.path.samestat(os.fstat(stream.fileno()), os.stat(os.devnull))
    except (AttributeError, OSError, ValueError):
        # Another object stands in for it (the capture of a test, the window of a GUI).
        return False
