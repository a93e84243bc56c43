"""Checks of one log: its time zone, the names of its backups, and other programs that rotate or write it."""

from __future__ import annotations

import datetime
import os
import re
import time
import zoneinfo
from collections.abc import Iterable, Iterator
from contextlib import suppress

from rollsafe.errors import ConfigurationError
from rollsafe.tools.findings import ERROR, OK, WARNING, Finding, Target
from rollsafe.tools.logrotate import Rule
from rollsafe.tools.prune import limits_in, uncertain
from rollsafe.tools.status import Openers, status_of
from rollsafe.tools.words import uncertain_words

_POSIX_ZONE = re.compile(r"<?[A-Za-z0-9+-]{3,}>?[+-]?\d")  # tzset(3): EST5EDT, <+03>-3


def check_zone(target: Target) -> Iterator[Finding]:
    """Check that the zone of the intervals is known and valid."""
    settings = target.settings
    if settings is None:
        return
    try:
        schedule = settings.schedule()
        end = schedule.interval(time.time()).end
    except ConfigurationError as error:
        yield Finding(
            WARNING if settings.tz == "unnamed" else ERROR,
            "zone",
            target.live,
            str(error),
            "the command rollsafe cannot tell the intervals of the backups",
            "give tz the name of a zone; where the system has no zone data, install the package tzdata",
        )
        return
    variable = os.environ.get("TZ", "")
    if settings.tz is None and variable and not _is_zone(variable):
        yield Finding(
            ERROR,
            "zone",
            "TZ",
            f"TZ={variable!r} is no zone, so local time is UTC",
            "days begin at the wrong hour, and times in the lines are wrong",
            "set TZ to a name such as Europe/Paris, or give the handler tz=",
        )
        return
    zone = settings.tz or f"local time, {'/'.join(dict.fromkeys(time.tzname))}"
    shown = datetime.datetime.fromtimestamp(end).astimezone().isoformat(" ", "seconds")
    yield Finding(OK, "zone", target.live, f"{zone}; the next rollover is at {shown}")


def check_names(target: Target) -> Iterator[Finding]:
    """Check that limits can remove the backups: each name must belong to exactly one interval."""
    settings = target.settings
    if settings is None or not limits_in(settings).any:
        return
    with suppress(ConfigurationError):
        schedule = settings.schedule()
        if not schedule.tells_intervals():
            yield Finding(
                WARNING,
                "names",
                target.live,
                f"suffix={settings.suffix!r} does not tell to which interval a backup belongs",
                "no limit removes such a backup, and the disk fills up sooner or later",
                "give the suffix the year and everything else down to `when`, such as '%Y-%m-%d' for days",
            )
            return
    files: list[str] = []
    if target.log is not None:
        with suppress(ConfigurationError, OSError):
            files = uncertain(target.log)
    if files:
        yield Finding(
            WARNING,
            "names",
            target.live,
            uncertain_words(files),
            "they take space until you remove them",
            "find out what they are, and remove or rename them by hand",
        )


def check_logrotate(target: Target, found: Iterable[Rule]) -> Iterator[Finding]:
    """Check that logrotate rotates neither the live file nor the backups."""
    hit = False
    for rule in found:
        for name, what in ((target.live, "the live file"), (f"{target.live}.2026-11-25", "the backups")):
            if rule.matches(name):
                hit = True
                yield Finding(
                    ERROR,
                    "logrotate",
                    rule.source,
                    f"its pattern {rule.pattern} matches {what} of {target.live}",
                    "two programs rotate one file: with copytruncate lines are lost, without it backups are scattered",
                    f"remove the pattern from {rule.source}, or let rollsafe leave the file alone",
                )
                break
    if not hit:
        yield Finding(OK, "logrotate", target.live, "no rule of logrotate that can be read matches it")


def check_writers(target: Target, openers: Openers) -> Iterator[Finding]:
    """Check that no process writes the live file without our lock: another handler, or a shell's redirection."""
    if target.log is None:
        return
    lock_users = openers.pids_of(target.log.lock_path)
    for process in status_of(target.log, openers).processes:
        if process.writes and os.path.basename(target.live) in process.files and process.pid not in lock_users:
            yield Finding(
                WARNING,
                "writers",
                target.live,
                f"process {process.pid} ({process.command}) writes it and has no lock file open",
                "it seems to be another handler, which stays in the renamed file after a rollover or renames it itself",
                "give every process that writes this file a SafeTimedRotatingFileHandler, or another file",
            )


def _is_zone(variable: str) -> bool:
    """Whether TZ names a zone: a name, a file, or a rule of tzset(3)."""
    name = variable.removeprefix(":")
    if name.startswith("/"):
        return os.path.isfile(name)
    with suppress(ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        zoneinfo.ZoneInfo(name)
        return True
    return bool(_POSIX_ZONE.match(name)) or name in ("UTC", "UTC0", "GMT")
