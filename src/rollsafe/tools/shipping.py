"""Configurations for log shippers.

All of them read nothing that is compressed or unfinished, read no line twice because a file is renamed, begin at the
start of a file, and keep the position in it on disk.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Final

from rollsafe.errors import ConfigurationError, LogFileError
from rollsafe.tools.catalog import logs_at
from rollsafe.tools.catch_up import unread_backups
from rollsafe.tools.config_kinds import read_in_child
from rollsafe.tools.ship_sources import logs_of
from rollsafe.tools.shippers.alloy import ALLOY
from rollsafe.tools.shippers.filebeat import FILEBEAT
from rollsafe.tools.shippers.fluent_bit import FLUENT_BIT
from rollsafe.tools.shippers.logs import Destination, LeftOut, ShippedLog, Shipper, comments
from rollsafe.tools.shippers.otel import OTEL
from rollsafe.tools.shippers.rsyslog import RSYSLOG
from rollsafe.tools.shippers.vector import VECTOR

ENGINES: Final[Mapping[str, Shipper]] = {
    "rsyslog": RSYSLOG,
    "vector": VECTOR,
    "fluent-bit": FLUENT_BIT,
    "otel": OTEL,
    "filebeat": FILEBEAT,
    "alloy": ALLOY,
}

# Seconds for the import of an application's settings.
_PATIENCE: Final = 600.0


def configuration(
    engine: str,
    logs: Sequence[ShippedLog],
    to: str | None = None,
    state: str | None = None,
    left_out: Sequence[LeftOut] = (),
) -> str:
    """The text of a configuration. Pure.

    Args:
        engine: One of ENGINES.
        logs: The logs to ship.
        to: The URL of the receiver; None is an example to edit.
        state: The directory in which the shipper stores its positions.
        left_out: What else is not shipped, for the comment that begins the text.

    Raises:
        ConfigurationError: `to` is no URL for this engine, or there is nothing to ship.
    """
    chosen = ENGINES[engine]
    destination = Destination.read(to or chosen.to, chosen.schemes)
    told = list(left_out)
    shipped = []
    for log in logs:
        if log.is_special:
            told.append(LeftOut(log.name, f"a path of it has characters with a meaning to {engine}: {log.path!r}"))
        else:
            shipped.append(log)
    told += _together(shipped, chosen)
    if not shipped:
        why = "; ".join(f"{subject}: {reason}" for subject, reason in told)
        raise ConfigurationError(f"there is no log here that rollsafe rotates; nothing to ship{why and f' ({why})'}")
    lines = [*comments(told, chosen.comment), *chosen.write(shipped, destination, state or chosen.state)]
    return "\n".join([*lines, ""])


def _together(logs: Sequence[ShippedLog], shipper: Shipper) -> list[LeftOut]:
    """What is left out of each log; the same sentence about several logs once."""
    subjects: dict[str, list[str]] = {}
    for log in logs:
        for sentence in (*log.left_out, *shipper.left_out(log)):
            subjects.setdefault(sentence, []).append(log.name)
    return [LeftOut(", ".join(names), sentence) for sentence, names in subjects.items()]


def printed_configuration(
    engine: str,
    path: str,
    arguments: Sequence[str] = (),
    *,
    to: str | None = None,
    state: str | None = None,
    catch_up: bool = False,
) -> str:
    """The text of a configuration for the logs of whatever a user names, which another process reads.

    Args:
        engine: One of ENGINES.
        path: A path, or the name of a module.
        arguments: Those of gunicorn.
        to: The URL of the receiver; None is an example to edit.
        state: The directory in which the shipper stores its positions.
        catch_up: Whether to name the backups that rsyslog has missed, too.

    Raises:
        ConfigurationError: It cannot be read, there is nothing to ship, or an option does not fit.
        LogFileError: It does not exist.
        OSError: It may not be read.
    """
    if catch_up and engine != "rsyslog":
        raise ConfigurationError(f"--catch-up is for rsyslog; {engine} keeps its place in renamed files by itself")

    def attempt() -> str:
        logs, left_out = logs_of(path, arguments)
        if catch_up:
            logs = [with_unread(log, state or ENGINES[engine].state) for log in logs]
        return configuration(engine, logs, to, state, left_out)

    return str(read_in_child(path, attempt, done="read", timeout=_PATIENCE))


def with_unread(log: ShippedLog, places: str) -> ShippedLog:
    """The same log with the backups that an rsyslog has missed, which keeps its positions in the directory `places`."""
    try:
        (found,) = logs_at([log.path])
    except LogFileError:
        # Nothing has been logged yet.
        return log
    return dataclasses.replace(log, backups=tuple(unread_backups(found, places)))
