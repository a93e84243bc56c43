"""The checks that the gunicorn preset makes of its arguments, before gunicorn applies its dict."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from rollsafe._arguments import checked_path, naming_argument
from rollsafe._files.places import make_directory
from rollsafe._gunicorn.conflicts import find_other_writers
from rollsafe._remedies import READ_ONLY, is_read_only
from rollsafe.errors import ConfigurationError, LogFileError
from rollsafe.handlers import SafeTimedRotatingFileHandler


def checked_paths(directory: str | os.PathLike[str], names: dict[str, str | None]) -> dict[str, str]:
    """The path of each file that is wanted, in a directory that exists and may be written."""
    folder = os.path.abspath(os.fspath(directory))
    wanted = {key: name for key, name in names.items() if name is not None}
    for key, name in wanted.items():
        if not isinstance(name, str) or not name or name != os.path.basename(name) or name in (".", ".."):
            raise ConfigurationError(f"{key}={name!r} must be a file name without directory, or None for no file")
    if len(set(wanted.values())) < len(wanted):
        raise ConfigurationError(f"two of {wanted} are the same file; give each its own name")
    with naming_argument(f"directory={folder!r}"):
        make_directory(folder, None)
    if is_read_only(folder):
        raise LogFileError(f"directory={folder!r} is on a read-only file system; {READ_ONLY}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise LogFileError(
            f"directory={folder!r} cannot be written by user {os.geteuid()}; rollover renames files in it,"
            " so give that user write permission on it"
        )
    return {key: os.path.join(folder, name) for key, name in wanted.items()}


def check_handlers(paths: Mapping[str, str], rotation: Mapping[str, Any]) -> None:
    """Raise what is wrong with the handlers of these files: dictConfig would say "Unable to configure handler" only."""
    for path in paths.values():
        handler = SafeTimedRotatingFileHandler(path, delay=True, **rotation)
        checked_path(path, delay=False)
        find_other_writers(handler)
        handler.close()


def json_formatter() -> str:
    """The name of the class that writes a record as JSON, or a ConfigurationError if it is not installed."""
    try:
        import pythonjsonlogger.json  # noqa: F401
    except ImportError as error:
        raise ConfigurationError(
            "json=True needs python-json-logger; install it with: pip install 'rollsafe[json]'"
        ) from error
    return "pythonjsonlogger.json.JsonFormatter"


def checked_level(level: int | str) -> int | str:
    """`level` if `logging` knows it, else a ConfigurationError."""
    if isinstance(level, bool) or not isinstance(level, (int, str)):
        known = False
    else:
        known = isinstance(level, int) or isinstance(logging.getLevelName(level), int)
    if not known:
        raise ConfigurationError(f"level={level!r} is not a logging level; give one such as 'INFO' or 20")
    return level
