"""A trial of each step that a handler of a configuration will take, in a temporary directory beside its log.

A process that is the user who will write makes the handler there, with its own options, and lets it write a line, roll
over, and write the next line; then it compresses the backup and removes it, as a maintenance pass does. It calls no
function of the application: neither `on_rollover`, nor `compress`, nor a `rotator`.
"""

from __future__ import annotations

import errno
import logging
import logging.config
import os
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple

from rollsafe._backups.codecs import codec_for
from rollsafe._backups.scratch import opened, scratch_beside
from rollsafe._files.lock_files import lock_path
from rollsafe._files.places import place_of
from rollsafe.handlers import SafeTimedRotatingFileHandler
from rollsafe.locks import FileLock
from rollsafe.tools import trials
from rollsafe.tools.logging_config import LATER_WORK, ConfiguredHandler, LogConfig, enter
from rollsafe.tools.trials import User

APPEND, LOCK, RENAME, NEW_FILE, COMPRESS, REMOVE = "append", "lock", "rename", "new live file", "compress", "remove"
"""The steps, in their order."""

_NAME = "probe.log"
_LINES = ("rollsafe check: before the rollover", "rollsafe check: after the rollover")
# Also what only records need.
_LEFT_OUT = (*LATER_WORK, "archive_dir", "delay", "formatter", "filters", "class", "()")
_OF_APPLICATION = ("on_rollover", "compress", "rotator")


class Steps(NamedTuple):
    """What became of the steps of one handler."""

    done: list[str]
    failed: str | None
    """The step that was refused, after which there was none."""
    reason: str
    """Why; "" if none was refused."""
    not_called: list[str]
    """The functions of the application that a rollover would call."""


def try_steps(config: LogConfig, handler: ConfiguredHandler, directory: str, user: User | None = None) -> Steps | None:
    """Try the steps of a handler; None if it cannot be made, which a trial of its records reports.

    Args:
        config: The configuration that has the handler.
        handler: A handler of ours.
        directory: The directory of the live file, which exists.
        user: The user who will write; None is this user.

    Raises:
        TrialFailed: They could not be tried.
    """

    def attempt() -> Steps | None:
        enter(config)
        with ExitStack() as stack:
            stack.enter_context(trials.place_in(directory, clear=True))
            try:
                made = _made(config, handler)
            except OSError as error:
                return Steps([], APPEND, f"{type(error).__name__}: {error}", [])
            except Exception:
                return None
            stack.callback(made.close)
            called = {"rotator": made.rotator, **handler.options}
            not_called = [name for name in _OF_APPLICATION if callable(called.get(name))]
            return Steps(*_Trial(made, handler.options).run(), not_called)

    answer = trials.in_child(attempt, user, quiet=True)
    return None if answer is None else Steps(*answer)


def _made(config: LogConfig, handler: ConfiguredHandler) -> SafeTimedRotatingFileHandler:
    """The handler with another file, and without options that call the application or start other work."""
    configurator: Any = logging.config.DictConfigurator(dict(config.logging))
    options = {name: value for name, value in handler.options.items() if name not in _LEFT_OUT}
    made = configurator.configure_handler({**options, "()": handler.kind, "filename": os.path.realpath(_NAME)})
    assert isinstance(made, SafeTimedRotatingFileHandler)
    return made


class _Trial:
    """The steps of one handler, in the working directory."""

    def __init__(self, handler: SafeTimedRotatingFileHandler, options: Mapping[str, Any]) -> None:
        self._handler = handler
        self._options = options
        self._path = handler.baseFilename
        self._reports: list[BaseException] = []
        handler.rotator = None
        handler.handleError = self._note  # type: ignore[method-assign]  # it would go to standard error

    def run(self) -> tuple[list[str], str | None, str]:
        """Take the steps; returns those that were done, the one that failed, and why."""
        done: list[str] = []
        steps = {APPEND: self._append, LOCK: self._lock, RENAME: self._rename, NEW_FILE: self._write_on}
        if isinstance(self._options.get("compress"), str):
            steps[COMPRESS] = self._compress
        steps[REMOVE] = self._remove
        for step, take in steps.items():
            try:
                take()
            except Exception as error:
                cause = self._reports[0] if self._reports else error
                return done, step, f"{type(cause).__name__}: {cause}"
            done.append(step)
        return done, None, ""

    def _note(self, record: logging.LogRecord) -> None:
        """Note what the handler reports."""
        error = sys.exc_info()[1]
        if error is not None:
            self._reports.append(error)

    def _append(self) -> None:
        self._write(_LINES[0])

    def _lock(self) -> None:
        with FileLock(lock_path(self._path)):
            pass

    def _rename(self) -> None:
        self._handler.doRollover()
        self._backup()

    def _write_on(self) -> None:
        self._write(_LINES[1])

    def _compress(self) -> None:
        codec = codec_for(self._options["compress"], self._options.get("compress_level"))
        assert codec is not None
        with place_of(self._backup()) as place, scratch_beside(place) as scratch:
            source = os.open(place.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place.dir_fd)
            with opened(source), opened(codec.write(source, place, scratch)):
                pass

    def _remove(self) -> None:
        os.unlink(self._backup())

    def _write(self, line: str) -> None:
        """Write a line, and look whether it is the only one of the live file."""
        self._handler.write_line(line, time.time())
        with open(self._path, "rb") as file:
            found = file.read()
        if found.count(b"\n") != 1:
            raise OSError(errno.EIO, "the line is not in the live file", self._path)

    def _backup(self) -> str:
        """The backup that the rollover has made."""
        for directory, _, names in os.walk("."):
            for name in names:
                path = os.path.realpath(os.path.join(directory, name))
                if path not in (self._path, lock_path(self._path)):
                    return path
        raise OSError(errno.EIO, "there is no backup after the rollover", self._path)
