"""What the handler accepts: each argument checked before anything is opened."""

from __future__ import annotations

import codecs
import datetime
import errno
import locale
import math
import os
import re
import stat
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from rollsafe.errors import ConfigurationError, LogFileError
from rollsafe.mounts import LOCKED_ON_ONE_HOST, SHARED, type_of
from rollsafe.places import NotOurs, is_special, live_path, make_directory, place_of, resolved
from rollsafe.renames import is_mount_point, try_rename


def checked_count(argument: str, value: int) -> int:
    """`value` if it is a count, else a ConfigurationError that names `argument`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigurationError(f"{argument}={value!r} must be a whole number, 0 (keep all) or more")
    return value


def checked_flag(argument: str, value: bool) -> bool:
    """`value` if it is True, False, 1 or 0, else a ConfigurationError that names `argument`.

    A text from the environment or a file of settings would be true whatever it says, "false" too.
    """
    if not isinstance(value, int) or value not in (0, 1):
        raise ConfigurationError(f"{argument}={_shortened(value)} must be True or False")
    return bool(value)


def checked_permissions(value: int | None) -> int | None:
    """`value` if it is a file mode that lets the owner write, or None, else a ConfigurationError."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 0o777 or not value & 0o200:
        shown = oct(value) if isinstance(value, int) else repr(value)
        raise ConfigurationError(
            f"permissions={shown} must be a mode that lets the owner write, such as 0o640, or None"
        )
    return value


def checked_lock_writes(value: bool | None, path: str) -> bool:
    """Whether each line of the live file `path` is to be written under the lock; None lets the mount table decide.

    Warns (RuntimeWarning) where that cannot exclude other hosts and nobody has decided.
    """
    if value is not None:
        if not isinstance(value, bool):
            raise ConfigurationError(f"lock_writes={value!r} must be True, False, or None to go by the file system")
        return value
    try:
        # Only Linux has it.
        mountinfo = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return False
    kind = type_of(path, mountinfo)
    if kind in LOCKED_ON_ONE_HOST:
        warnings.warn(
            f"{path!r} is on {kind}, where a lock does not exclude other hosts: let each host write a file of its"
            " own, and then say lock_writes=False",
            RuntimeWarning,
            stacklevel=3,
        )
    return kind in SHARED


_Called = TypeVar("_Called", bound=Callable[..., object])

_AGE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(second|minute|hour|day|week|s|min|h|d|w)s?\s*", re.IGNORECASE)
_SECONDS = {"s": 1, "second": 1, "min": 60, "minute": 60, "h": 3600, "hour": 3600, "d": 86400, "day": 86400}
_SECONDS |= {"w": 604800, "week": 604800}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?))?b\s*", re.IGNORECASE)


# Bytes that no file has.
_NO_SIZE = 1 << 63


def _shortened(value: object) -> str:
    """A value as a message shows it."""
    try:
        shown = repr(value)
    except ValueError:
        # An int of thousands of digits.
        return "..."
    return shown if len(shown) < 80 else f"{shown[:40]}...{shown[-20:]}"


def checked_age(value: str | datetime.timedelta | None) -> float | None:
    """Seconds of `max_age`, None for no limit, else a ConfigurationError."""
    if value is None:
        return None
    seconds = 0.0
    if isinstance(value, datetime.timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, str) and (match := _AGE.fullmatch(value)):
        seconds = float(match[1]) * _SECONDS[match[2].lower()]
    if not 0 < seconds < math.inf:
        raise ConfigurationError(
            f"max_age={_shortened(value)} is no age; give a positive timedelta, or text such as '30 days', or None for"
            " no limit"
        )
    return seconds


def checked_size(argument: str, value: int | str | None, least: int = 0) -> int | None:
    """Bytes, None for no limit, else a ConfigurationError that names `argument`. kB is 1000 bytes, KiB is 1024.

    Args:
        argument: The name of the argument.
        value: What was given.
        least: The smallest size that makes sense.
    """
    if value is None:
        return None
    size = -1
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        power = "kmgt".index(match[2].lower()) + 1 if match[2] else 0
        number = float(match[1]) * (1024 if match[3] else 1000) ** power
        size = int(min(number, _NO_SIZE))
    if not least <= size < _NO_SIZE:
        raise ConfigurationError(
            f"{argument}={_shortened(value)} is no size; give a number of bytes, {least} or more, or text such as"
            " '2 GiB', or None for no limit"
        )
    return size


def checked_archive_dir(value: str | os.PathLike[str] | None, live: str) -> str | None:
    """The absolute path of the directory of the backups of `live`, made if it is missing, or None.

    Raises:
        LogFileError: It cannot be made, or a rename from the live file to it cannot work.
    """
    if value is None:
        return None
    directory = os.path.abspath(os.fspath(value))
    beside = os.path.dirname(live)
    try:
        directory = resolved(directory)
        # With owner and mode of the other one: who logs there rolls over.
        make_directory(directory, os.stat(beside))
        apart = _are_apart(beside, directory)
    except NotOurs as error:
        raise LogFileError(f"archive_dir={directory!r} cannot be used: {error}") from error
    except OSError as error:
        raise LogFileError(
            f"archive_dir={directory!r} cannot be made: {error.strerror}; make it, or give another"
        ) from error
    if apart:
        raise LogFileError(
            f"archive_dir={directory!r} is on another file system than {beside!r}, or another mount of it, so that a"
            " rollover could not rename the live file to it; give a directory on the same one, or move backups there in"
            " on_rollover"
        )
    return directory


def _are_apart(source: str, target: str) -> bool:
    """Whether no file can be renamed from one directory to another, whoever asks; tried, see `renames`.

    Raises:
        OSError: One of them cannot be looked at.
    """
    if os.path.samefile(source, target):
        return False
    try:
        try_rename(source, target)
    except OSError as error:
        # Another refusal may be over when the rollover comes: permission is given later, or the workers have it.
        return error.errno == errno.EXDEV or os.stat(source).st_dev != os.stat(target).st_dev
    return False


def checked_callable(argument: str, value: _Called | None) -> _Called | None:
    """`value` if it can be called or is None, else a ConfigurationError that names `argument`."""
    if value is not None and not callable(value):
        raise ConfigurationError(f"{argument}={value!r} cannot be called; give a function, or None")
    return value


def checked_codec(encoding: str | None, errors: str | None) -> tuple[str, str]:
    """The codec and the error handler to encode lines with, or a ConfigurationError."""
    name = locale.getpreferredencoding(False) if encoding is None or encoding == "locale" else encoding
    handler = "backslashreplace" if errors is None else errors
    try:
        codecs.lookup(name)
        codecs.lookup_error(handler)
        once, twice = "line\n".encode(name), "line\nline\n".encode(name)
    except (LookupError, TypeError) as error:
        raise ConfigurationError(
            f"encoding={encoding!r}, errors={errors!r}: {error}; give the name of a text encoding such as 'utf-8'"
        ) from error
    if twice != 2 * once:
        raise ConfigurationError(
            f"encoding={encoding!r} puts a mark before each line; use 'utf-8', or another one without mark"
        )
    # A fragment of a line is told from a line by that byte, and so it is by everything else that reads logs.
    end = once.removeprefix("line".encode(name))
    if end != b"\n":
        raise ConfigurationError(
            f"encoding={encoding!r} ends lines with {end!r}; use one that ends them with b'\\n', such as 'utf-8'"
        )
    return name, handler


def checked_path(filename: str | os.PathLike[str], delay: bool) -> str:
    """The absolute path of the live file, links followed, or a LogFileError that says what is wrong with it.

    `{hostname}` in it is replaced. With `delay` the permission is not asked for: it may come later.
    """
    given = os.fspath(filename)
    if "{hostname}" in given:
        host = os.uname().nodename
        # Who sets it may be a DHCP server.
        if "/" in host or host in ("", ".", ".."):
            raise LogFileError(f"filename={given!r}: the name of this host, {host!r}, can be no part of a file name")
        given = given.replace("{hostname}", host)
    given = os.path.abspath(given)
    try:
        path = live_path(given)
        with suppress(FileNotFoundError), place_of(path) as place:
            status = place.status()
            if is_special(path):
                place.check_special(status)
                return path
            if not stat.S_ISDIR(status.st_mode):
                place.check(status)
    except OSError as error:
        raise LogFileError(f"filename={given!r} cannot be used: {error}") from error
    directory = os.path.dirname(path)
    if os.path.isdir(path):
        raise LogFileError(f"filename={path!r} is a directory; give the path of a file in it")
    if not os.path.isdir(directory):
        raise LogFileError(f"filename={path!r}: the directory {directory!r} does not exist; create it first")
    if not delay and not os.access(path if os.path.exists(path) else directory, os.W_OK):
        raise LogFileError(
            f"filename={path!r} cannot be written by user {os.geteuid()}; give that user write permission"
            f" on {directory!r} (and on the file if it exists)"
        )
    if is_mount_point(path):
        raise LogFileError(
            f"filename={path!r} is mounted by itself, as by docker run -v FILE:FILE, so that a rollover could not"
            " rename it; mount its directory instead"
        )
    return path
