"""The files of the Flask applications of one process; each application may have its own."""

from __future__ import annotations

import gc
import logging
import warnings
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

from flask import Flask, current_app, has_app_context

from rollsafe._options import variable_of
from rollsafe.handlers import SafeTimedRotatingFileHandler

HANDLER_NAME = "rollsafe.flask"
FILENAME = variable_of("filename")


class OwnLines(logging.Filter):
    """A filter for the handler of an application's file that passes the records which belong in that file.

    For each record it looks at the handlers of the root logger, because other applications may add theirs later.
    """

    def __init__(self, apps: Iterable[Flask], settings: Mapping[str, Any]) -> None:
        """For the applications that log to the file, without keeping them alive, and the settings of its handler."""
        super().__init__()
        self._apps = [weakref.ref(app) for app in apps]
        self.settings = settings
        self.names = {app.name for app in apps}

    def apps(self) -> list[Flask]:
        """The applications that are still in use."""
        return [app for app in (each() for each in self._apps) if app is not None]

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether `record` belongs in this file."""
        files = [own for _, own in open_files()]
        return len(files) < 2 or self not in files or file_of(record.name, files) is self


def open_files() -> list[tuple[SafeTimedRotatingFileHandler, OwnLines]]:
    """The handlers that init_app has given the root logger, in the order of their applications."""
    return [
        (handler, own)
        for handler in logging.getLogger().handlers
        if handler.name == HANDLER_NAME and isinstance(handler, SafeTimedRotatingFileHandler)
        for own in handler.filters
        if isinstance(own, OwnLines)
    ]


def file_of(name: str, files: list[OwnLines]) -> OwnLines:
    """The one of several files that a new record of the logger of that name belongs in."""
    named = [own for own in files if name in own.names]
    if len(named) == 1:
        return named[0]
    if has_app_context():
        here = current_app._get_current_object()  # type: ignore[attr-defined]  # of the proxy
        for own in named or files:
            if here in own.apps():
                return own
    if named:
        return named[-1]
    # The nearest parent logger decides. If several are as near, or none is a parent, the last application gets it.
    above = [(len(each), at) for at, own in enumerate(files) for each in own.names if name.startswith(each + ".")]
    return files[max(above)[1] if above else -1]


def other_files(
    app: Flask, path: str, settings: Mapping[str, Any]
) -> tuple[list[Flask], list[SafeTimedRotatingFileHandler]]:
    """The other applications that log to the file of `app`, and the handlers that its new handler replaces.

    Warns if two applications that are still in use ask for things that exclude each other.
    """
    # Tests make one application after another, and one that is not used any longer waits for the garbage collector.
    if any(handler.baseFilename == path or app.name in own.names for handler, own in open_files()):
        gc.collect()
    same: list[Flask] = []
    gone = []
    for handler, own in open_files():
        apps = own.apps()
        names = ", ".join(repr(each.name) for each in apps)
        if handler.baseFilename == path:
            same += apps
            gone.append(handler)
            if apps and own.settings != settings:
                warnings.warn(
                    f"{FILENAME}={path!r} is the file of {names}, too, with other settings;"
                    f" those of {app.name!r} are used for all; give all the same, or each its own file",
                    RuntimeWarning,
                    stacklevel=4,
                )
        elif not apps:
            gone.append(handler)
        elif app.name in (each.name for each in apps):
            warnings.warn(
                f"another application is named {app.name!r}, and logs to {handler.baseFilename!r}; lines of their"
                f" logger outside requests and application contexts go to {path!r}; give each its own name",
                RuntimeWarning,
                stacklevel=4,
            )
    return same, gone
