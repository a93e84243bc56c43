"""All checks before going live. Each finds what could go wrong with a log in its place, and gives a remedy.

A check yields findings. `check_logs` collects those about logs, and `check_config` those about a configuration.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from rollsafe._files.lock_files import lock_path
from rollsafe.errors import LogFileError
from rollsafe.tools.catalog import Log, logs_at
from rollsafe.tools.check_configuration import check_loggers, check_records, check_steps
from rollsafe.tools.check_directories import check_clock, check_file_system, check_permissions, check_rollover
from rollsafe.tools.check_files import check_logrotate, check_names, check_writers, check_zone
from rollsafe.tools.check_flags import check_flags, workers_of
from rollsafe.tools.check_handlers import check_handlers
from rollsafe.tools.check_space import check_space
from rollsafe.tools.config_kinds import logs_named, read_any, read_in_child
from rollsafe.tools.configs import ServerConfig
from rollsafe.tools.findings import ERROR, WARNING, Finding, Target
from rollsafe.tools.logging_config import ConfiguredHandler, LogConfig
from rollsafe.tools.logrotate import rules
from rollsafe.tools.status import Openers
from rollsafe.tools.trials import User, tried_as, user_of

# Seconds for all checks of a configuration; each trial has a bound of its own.
_PATIENCE = 3600.0


def check_logs(logs: Iterable[Log]) -> list[Finding]:
    """The findings about logs that exist; root tries everything as the user who writes them."""
    return _check([Target(log.live, log.settings if log.told else None, _owner_of(log.live), log=log) for log in logs])


def check_path(path: str, arguments: Sequence[str] = ()) -> list[Finding]:
    """The findings about whatever a user names: a log, or a configuration, which another process reads.

    Args:
        path: A path, or the name of a module.
        arguments: Those of gunicorn.

    Raises:
        ConfigurationError: It cannot be read, or is of no kind that is understood.
        LogFileError: It does not exist.
        OSError: It may not be read.
    """

    def attempt() -> list[dict[str, Any]] | None:
        config = read_any(path, arguments)
        return None if config is None else [each.as_dict() for each in check_config(config)]

    found = read_in_child(path, attempt, done="checked", timeout=_PATIENCE)
    return check_logs(logs_named(path)) if found is None else [Finding(**each) for each in found]


def check_config(config: LogConfig) -> list[Finding]:
    """The findings about the logs that a configuration leads to, and about the configuration itself."""
    writer, loader, handed_over = None, None, False
    if isinstance(config, ServerConfig):
        writer = workers_of(config)
        handed_over = os.geteuid() == 0 and getattr(config.server.post_fork, "__module__", "") == "rollsafe.gunicorn"
        loader = None if config.server.preload_app else tried_as(writer)
    targets: list[tuple[Target, ConfiguredHandler]] = []
    for handler in config.handlers:
        if handler.is_ours and handler.path:
            path = os.path.realpath(handler.path)
            user = writer if isinstance(config, ServerConfig) else _owner_of(path)
            log = None
            with suppress(LogFileError):
                (log,) = logs_at([path])
            targets.append((Target(path, handler.settings, user, handed_over, log), handler))
    if not isinstance(config, ServerConfig):
        loader = next((target.user for target, _ in targets), None)
    findings = [
        *check_handlers(config),
        *(check_flags(config) if isinstance(config, ServerConfig) else ()),
        *check_loggers(config, loader),
        *check_records(config, loader),
    ]
    with _local_time_of(config):
        findings += _check([target for target, _ in targets])
        refused = {finding.where for finding in findings if finding.level == ERROR}
        for target, handler in targets:
            special = os.path.lexists(target.live) and not os.path.isfile(target.live)
            if not special and target.directory not in refused:
                findings += check_steps(config, handler, target)
        return findings


@contextmanager
def _local_time_of(config: LogConfig) -> Iterator[None]:
    """Give this process the local time of the server, which may set TZ for itself (raw_env)."""
    before = os.environ.get("TZ")
    variable = config.environment.get("TZ", before)
    try:
        _set_zone(variable)
        yield
    finally:
        _set_zone(before)


def _set_zone(variable: str | None) -> None:
    """Set or unset TZ."""
    if variable is None:
        os.environ.pop("TZ", None)
    else:
        os.environ["TZ"] = variable
    time.tzset()


def _check(targets: Sequence[Target]) -> list[Finding]:
    """The checks of files, each directory once."""
    findings: list[Finding] = []
    refused: set[str] = set()
    directories = {directory: target for target in targets for directory in (target.directory, target.backup_directory)}
    for directory, target in directories.items():
        if not os.path.isdir(directory):
            findings.append(
                Finding(
                    ERROR,
                    "directory",
                    directory,
                    "it does not exist",
                    "no line can be written",
                    f"make it, and give it to the user who writes: mkdir -p {shlex.quote(directory)}",
                )
            )
            continue
        allowed = list(check_permissions(directory, [each for each in targets if directory == each.directory], target))
        findings += allowed
        if any(each.level == ERROR and each.where == directory for each in allowed):
            refused.add(directory)
            continue
        findings += check_file_system(directory, tried_as(target.user))
        findings += check_clock(directory, target)
    openers = Openers()
    unread: list[str] = []
    found_rules = rules(refused=unread)
    for path in unread:
        findings.append(
            Finding(
                WARNING,
                "logrotate",
                path,
                "it may not be read",
                "it may have a rule for a log, and then two programs rotate one file",
                "run the check as root",
            )
        )
    for target in targets:
        if not refused & {target.directory, target.backup_directory}:
            findings += check_rollover(target)
        findings += check_zone(target)
        findings += check_names(target)
        findings += check_logrotate(target, found_rules)
        findings += check_writers(target, openers)
    findings += check_space(targets)
    return findings


def _owner_of(live: str) -> User | None:
    """The user who writes a log: the owner of its live file, its lock file, or its directory; None for this user."""
    if os.geteuid() != 0:
        return None
    for path in (live, lock_path(live), os.path.dirname(live)):
        with suppress(OSError):
            status = os.lstat(path)
            return user_of(status.st_uid, status.st_gid) if status.st_uid != 0 else None
    return None
