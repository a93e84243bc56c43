"""Before going live: what could go wrong with a log where it is to be, tried and looked up; each with a remedy.

A check yields findings; `check_logs` and `check_config` collect those of a directory and of a gunicorn.conf.py.
"""

from __future__ import annotations

import dataclasses
import datetime
import grp
import logging.handlers
import os
import pwd
import re
import resource
import shlex
import time
import zoneinfo
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from rollsafe.errors import ConfigurationError, LogFileError
from rollsafe.locks import lock_path
from rollsafe.mounts import LOCKED_ON_ONE_HOST, SHARED, type_of
from rollsafe.renames import is_mount_point
from rollsafe.settings import Settings
from rollsafe.tools import rehearsal, trials
from rollsafe.tools.catalog import Log, logs_at
from rollsafe.tools.configs import ROOT, ConfiguredHandler, ServerConfig
from rollsafe.tools.logrotate import Rule, rules
from rollsafe.tools.prune import limits_in, uncertain
from rollsafe.tools.status import Openers, status_of
from rollsafe.tools.trials import TrialFailed, User, user_of
from rollsafe.tools.words import counted, size_text, uncertain_words

OK, WARNING, ERROR = "ok", "warning", "error"
LEVELS = (OK, WARNING, ERROR)
"""From good to bad; the place of the worst is the exit code."""

# Seconds by which clocks may differ before it is worth a word.
_CLOCKS_AGREE = 2.0
_DAY = 86400.0
# Files that can be made yet, below which it is worth a word.
_FEW_FILES = 100
# Days until a disk is full that are worth a word.
_SOON = 30
_POSIX_ZONE = re.compile(r"<?[A-Za-z0-9+-]{3,}>?[+-]?\d")  # tzset(3): EST5EDT, <+03>-3


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: One of LEVELS.
        about: Which check, in one or two words.
        where: The path, logger or setting that it is about.
        what: What is so.
        why: Why it matters; "" where all is well.
        remedy: What to do; "" where all is well.
    """

    level: str
    about: str
    where: str
    what: str
    why: str = ""
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Target:
    """A log that is to be checked.

    Attributes:
        live: Full path of the live file.
        settings: Its settings; None if nothing tells them.
        user: Who will write; None is the user who checks.
        handed_over: Whether live and lock file are given to that user when the server starts.
        log: What is there already, None for nothing.
    """

    live: str
    settings: Settings | None
    user: User | None = None
    handed_over: bool = False
    log: Log | None = None

    @property
    def directory(self) -> str:
        """Where the live file is."""
        return os.path.dirname(self.live)

    @property
    def backup_directory(self) -> str:
        """Where the backups are."""
        return (self.settings.archive_dir if self.settings else None) or self.directory


def check_logs(logs: Iterable[Log]) -> list[Finding]:
    """The findings about logs that exist; for root, as the user who writes them."""
    return _check([Target(log.live, log.settings if log.told else None, _owner_of(log), log=log) for log in logs])


def check_config(config: ServerConfig) -> list[Finding]:
    """The findings about the logs that a gunicorn.conf.py leads to, and about the configuration itself."""
    server = config.server
    user = _user_of(config)
    handed_over = os.geteuid() == 0 and getattr(server.post_fork, "__module__", "") == "rollsafe.gunicorn"
    targets = []
    for handler in config.handlers:
        if handler.is_ours and handler.path:
            path = os.path.realpath(handler.path)
            log = None
            with suppress(LogFileError):
                (log,) = logs_at([path])
            targets.append(Target(path, handler.settings, user, handed_over, log))
    findings = [*check_handlers(config), *check_flags(config), *check_loggers(config), *check_records(config)]
    with _local_time_of(config):
        return [*findings, *_check(targets)]


@contextmanager
def _local_time_of(config: ServerConfig) -> Iterator[None]:
    """Have this process the local time that the server will have, which may set TZ for itself (raw_env)."""
    before = os.environ.get("TZ")
    variable = config.server.env.get("TZ", before)
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
        findings += check_file_system(directory, _tried_as(target.user))
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
                "it may have a rule that takes a log too: then two programs rotate one file",
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


def check_file_system(directory: str, user: User | None = None) -> Iterator[Finding]:
    """Whether appends are whole and locks exclude there, tried by several processes."""
    kind = None
    with suppress(OSError), open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        kind = type_of(os.path.realpath(directory), file.read())
    shown = kind or "of unknown kind"
    if kind in LOCKED_ON_ONE_HOST:
        yield Finding(
            WARNING,
            "file system",
            directory,
            f"{shown}: its locks may hold on one host only",
            "two hosts that share this log would both roll it, and tear each other's lines",
            "let no other host write here; see the reference page on file systems",
        )
    elif kind in SHARED:
        yield Finding(
            WARNING,
            "file system",
            directory,
            f"{shown}, which several hosts can share: each line is written under the lock",
            "a line costs milliseconds instead of microseconds",
            "log to a local disk and ship the files; or say lock_writes=False if no other host writes here",
        )
    else:
        yield Finding(OK, "file system", directory, f"{shown}, none that several hosts share")
    try:
        torn = trials.append_faults(directory, user)
        if torn and kind in SHARED:
            yield Finding(OK, "append", directory, f"{torn} appended lines were torn, hence the lock for each line")
        elif torn:
            yield Finding(
                ERROR,
                "append",
                directory,
                f"{torn} lines that {trials.PROCESSES} processes appended at once were lost or torn",
                "lines of different workers would tear each other",
                "log to a local disk, or say lock_writes=True to write each line under the lock",
            )
        else:
            yield Finding(
                OK, "append", directory, f"{trials.PROCESSES} processes appended at once, and no line was torn"
            )
        wrong = trials.lock_faults(directory, user)
    except (TrialFailed, OSError) as error:
        wrong = str(error)
    if wrong:
        yield Finding(
            ERROR,
            "lock",
            directory,
            f"locks do not exclude: {wrong}",
            "two processes would roll the same file at the same time",
            "log to a local disk; for NFS see that the lock daemon runs (rpc.statd, and no mount option nolock)",
        )
    else:
        yield Finding(OK, "lock", directory, "a lock of one process excludes the others")


def check_permissions(directory: str, targets: Sequence[Target], of: Target) -> Iterator[Finding]:
    """Whether the user who writes may roll over in a directory, and write the files that are there."""
    user = of.user
    who = _user_name(user)
    if user is not None and os.geteuid() != 0:
        yield Finding(
            WARNING,
            "permission",
            directory,
            f"whether user {who} may write here was not tried",
            "only root can try it as another user",
            "run the check as root",
        )
        return
    refusal = _refusal(trials.rename_refusal, directory, directory, user)
    if refusal:
        yield Finding(
            ERROR,
            "permission",
            directory,
            f"user {who} may not make and rename files in it: {refusal}",
            "a rollover renames the file; without it the live file grows for ever",
            f"give the directory to that user: chown {who} {shlex.quote(directory)}",
        )
        return
    refused = False
    for target in targets:
        if target.handed_over:
            continue
        for path in (target.live, lock_path(target.live)):
            if os.path.lexists(path) and (reason := _refusal(trials.write_refusal, path, user)):
                refused = True
                yield Finding(
                    ERROR,
                    "permission",
                    path,
                    f"user {who} may not write it: {reason}",
                    "the lines of that user wait in memory until it may, and are lost when the process ends",
                    f"give the file to that user: chown {who} {shlex.quote(path)}",
                )
    if not refused:
        yield Finding(OK, "permission", directory, f"user {who} may write and roll over")


def check_rollover(target: Target) -> Iterator[Finding]:
    """Whether the live file can be renamed to a backup: tried, because no look at files and directories tells."""
    user = target.user
    if (user is not None and os.geteuid() != 0) or not all(
        map(os.path.isdir, (target.directory, target.backup_directory))
    ):
        return  # said by others
    who = _user_name(user)
    why = "no rollover can be made; the live file grows for ever"
    if target.directory != target.backup_directory:
        refusal = _refusal(trials.rename_refusal, target.directory, target.backup_directory, user)
        if refusal:
            yield Finding(
                ERROR,
                "rollover",
                target.live,
                f"user {who} cannot rename a file from its directory to {target.backup_directory}: {refusal}",
                why,
                "give an archive_dir on the same file system and on the same mount of it, which that user may write; or"
                " move backups there in on_rollover",
            )
            return
    refusal = None
    if os.path.isfile(target.live):
        as_root = target.handed_over and not is_mount_point(target.live)
        refusal = None if as_root else _refusal(trials.roll_refusal, target.live, target.backup_directory, user)
    if refusal:
        yield Finding(
            ERROR,
            "rollover",
            target.live,
            f"user {who} cannot rename it: {refusal}",
            why,
            "mount its directory instead of the file; in a sticky directory (such as /tmp) give the file to that user;"
            " take off the attributes that chattr has set (lsattr shows them)",
        )
        return
    yield Finding(OK, "rollover", target.live, f"user {who} can rename it to a backup")


def _refusal(trial: Callable[..., str | None], *arguments: Any) -> str | None:
    """Why something is refused, None if it is not; also where it could not be tried to its end."""
    try:
        return trial(*arguments)
    except TrialFailed as error:
        return str(error)


def check_clock(directory: str, target: Target) -> Iterator[Finding]:
    """Whether the clock that stamps files agrees with ours, and no file is of the future."""
    try:
        difference = trials.clock_difference(directory, _tried_as(target.user))
    except TrialFailed as error:
        yield Finding(
            WARNING,
            "clock",
            directory,
            f"the clock that stamps files there was not asked: {error}",
            "a file that an earlier run has left is given the interval of its last write, by that clock",
            "see what else is said of this directory",
        )
        return
    if abs(difference) > _CLOCKS_AGREE:
        side = "ahead" if difference > 0 else "behind"
        yield Finding(
            WARNING,
            "clock",
            directory,
            f"the clock that stamps files there is {abs(difference):.0f} s {side} of this machine's",
            "a file that an earlier run has left is given the interval of its last write, by that clock",
            "run NTP on both machines",
        )
        return
    now = time.time()
    with suppress(OSError):
        ahead = os.stat(target.live).st_mtime - now
        if ahead > _CLOCKS_AGREE:
            yield Finding(
                WARNING,
                "clock",
                target.live,
                f"it was last written {ahead:.0f} s in the future",
                "lines go to the file of a later interval until the clock has caught up",
                "see that the clock of this machine is right; then the next line rolls the file",
            )
            return
    yield Finding(OK, "clock", directory, "files are stamped with this machine's time")


def check_zone(target: Target) -> Iterator[Finding]:
    """Whether the zone that intervals follow is what it is thought to be."""
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
            f"TZ={variable!r} is no zone, so that local time is UTC",
            "days begin at the wrong hour, and times in the lines are wrong",
            "set TZ to a name such as Europe/Paris, or give the handler tz=",
        )
        return
    zone = settings.tz or f"local time, {'/'.join(dict.fromkeys(time.tzname))}"
    shown = datetime.datetime.fromtimestamp(end).astimezone().isoformat(" ", "seconds")
    yield Finding(OK, "zone", target.live, f"{zone}; the next rollover is at {shown}")


def check_names(target: Target) -> Iterator[Finding]:
    """Whether limits reach the backups: the names have to tell for certain of which interval they are."""
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
                f"suffix={settings.suffix!r} does not tell of which interval a backup is",
                "no limit removes a backup of which that is not certain, and the disk fills up sooner or later",
                "let the suffix have the year and all else down to `when`, such as '%Y-%m-%d' for days",
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
            "they take room until somebody removes them",
            "look what they are, and remove or rename them by hand",
        )


def check_logrotate(target: Target, found: Iterable[Rule]) -> Iterator[Finding]:
    """Whether logrotate rotates the same file, or the backups."""
    hit = False
    for rule in found:
        for name, what in ((target.live, "the live file"), (f"{target.live}.2026-11-25", "the backups")):
            if rule.matches(name):
                hit = True
                yield Finding(
                    ERROR,
                    "logrotate",
                    rule.source,
                    f"its pattern {rule.pattern} takes {what} of {target.live}",
                    "two programs rotate one file: with copytruncate lines are lost, without it backups are scattered",
                    f"remove the pattern from {rule.source}, or let rollsafe leave the file alone",
                )
                break
    if not hit:
        yield Finding(OK, "logrotate", target.live, "no rule of logrotate that can be read takes it")


def check_writers(target: Target, openers: Openers) -> Iterator[Finding]:
    """Whether processes write the live file that do not use our lock: another handler, a shell's redirection."""
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
                "it seems to be another handler: after a rollover it goes on in the renamed file, or renames it itself",
                "give every process that writes this file a SafeTimedRotatingFileHandler, or another file",
            )


def check_space(targets: Sequence[Target]) -> Iterator[Finding]:
    """Whether what retention will keep fits, by the sizes of the backups that there are; each file system once."""
    by_device: defaultdict[int, list[Target]] = defaultdict(list)
    for target in targets:
        if os.path.isdir(target.backup_directory):
            by_device[os.stat(target.backup_directory).st_dev].append(target)
    for group in by_device.values():
        where = group[0].backup_directory
        status = os.statvfs(where)
        free = float(status.f_bavail * status.f_frsize)
        yield from _space(group, free)
        # Some file systems (btrfs) have no such number, and say 0 of 0.
        if status.f_files and status.f_favail < _FEW_FILES:
            yield Finding(
                ERROR,
                "space",
                where,
                f"there is room for {counted(status.f_favail, 'file')} more (inodes), however small",
                "a rollover needs one; without it, no new live file can be made",
                "remove files there, or make the file system with more inodes (df -i shows them)",
            )
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if targets and limit != resource.RLIM_INFINITY:
        yield Finding(
            WARNING,
            "space",
            "ulimit -f",
            f"no file of a process that is started from here may be larger than {size_text(limit)}",
            "a live file that has grown so large is rolled over before its interval ends, and a longer line is lost",
            "lift the limit (ulimit -f unlimited; LimitFSIZE= of systemd), unless such parts are wanted",
        )


def _space(group: Sequence[Target], free: float) -> Iterator[Finding]:
    """The findings about one file system with so many bytes free."""
    needed = 0.0
    growth = 0.0
    known = False
    for target in group:
        volume = _volume(target)
        settings = target.settings
        if settings is not None and not limits_in(settings).any:
            yield Finding(
                WARNING,
                "retention",
                target.live,
                "backups are kept for ever",
                "the disk fills up sooner or later"
                + (f"; this log grows by {size_text(volume.per_second * _DAY)} a day" if volume else ""),
                "give backupCount, max_age, max_total_bytes or min_free_bytes",
            )
            growth += volume.per_second if volume else 0.0
        elif volume is not None:
            needed += max(0.0, volume.kept - volume.now) + volume.largest
        known = known or volume is not None
    where = group[0].backup_directory
    if not known:
        yield Finding(
            OK, "space", where, f"{size_text(free)} free; there are no backups yet to tell how much will be needed"
        )
    elif needed > free:
        yield Finding(
            ERROR,
            "space",
            where,
            f"{size_text(free)} free, and the backups that are to be kept will need {size_text(needed)} more",
            "when the disk is full, lines wait in memory and are lost beyond 1 MiB",
            "keep less (backupCount, max_total_bytes, min_free_bytes), compress, or give more space",
        )
    elif growth and (free - needed) / growth < _SOON * _DAY:
        yield Finding(
            WARNING,
            "space",
            where,
            f"{size_text(free)} free, which is full in {(free - needed) / growth / _DAY:.1f} days",
            "when the disk is full, lines wait in memory and are lost beyond 1 MiB",
            "limit what is kept (backupCount, max_total_bytes, min_free_bytes), compress, or give more space",
        )
    else:
        yield Finding(OK, "space", where, f"{size_text(free)} free, {size_text(needed)} more will be needed")


@dataclass(frozen=True)
class _Volume:
    """How much a log takes: bytes, and bytes a second."""

    now: float
    """All backups."""
    kept: float
    """All backups when retention is in its steady state."""
    largest: float
    """Of one interval."""
    per_second: float


def _volume(target: Target) -> _Volume | None:
    """By the backups that there are; None if there are none."""
    if target.log is None or target.settings is None:
        return None
    sizes: defaultdict[float, int] = defaultdict(int)
    for file in target.log.files:
        if file.interval and not file.is_live:
            with suppress(FileNotFoundError):
                sizes[file.interval.start] += os.stat(file.path).st_size
    if not sizes:
        return None
    try:
        length = target.settings.schedule().length
    except ConfigurationError:
        return None
    settings = target.settings
    now, mean = float(sum(sizes.values())), sum(sizes.values()) / len(sizes)
    kept = [mean * settings.backupCount] if settings.backupCount else []
    kept += [mean * settings.max_age / length] if settings.max_age else []
    kept += [float(settings.max_total_bytes)] if settings.max_total_bytes else []
    return _Volume(now, min(kept, default=now), float(max(sizes.values())), mean / length)


def check_handlers(config: ServerConfig) -> Iterator[Finding]:
    """Whether the handlers of a configuration are ours, and no two of them are at one file."""
    ours = [handler for handler in config.handlers if handler.is_ours]
    if not ours:
        yield Finding(
            ERROR,
            "handlers",
            config.path,
            "no logger has a handler of rollsafe",
            "nothing of what rollsafe promises holds",
            'logconfig_dict = rotating_logs("logs"); or logger_class = "rollsafe.gunicorn.Logger" and --access-logfile,'
            " which is to be given here too, behind --",
        )
    by_path: defaultdict[str, list[ConfiguredHandler]] = defaultdict(list)
    for handler in config.handlers:
        if handler.path:
            by_path[os.path.realpath(handler.path)].append(handler)
    for path, handlers in by_path.items():
        differ = len({handler.settings for handler in handlers if handler.is_ours}) > 1
        if len(handlers) > 1 and (differ or not all(handler.is_ours for handler in handlers)):
            names = " and ".join(f"{handler.name} ({_class_name(handler)})" for handler in handlers)
            yield Finding(
                ERROR,
                "handlers",
                path,
                f"it has several handlers: {names}",
                "each rolls it its own way, or goes on in the file that another has renamed",
                "give each its own file, or all loggers the same handler",
            )
    by_backups: defaultdict[str, set[str]] = defaultdict(set)
    for handler in ours:
        if handler.path and handler.settings and handler.settings.archive_dir:
            path = os.path.realpath(handler.path)
            directory = os.path.realpath(handler.settings.archive_dir)
            by_backups[os.path.join(directory, os.path.basename(path))].add(path)
    for backup, paths in by_backups.items():
        if len(paths) > 1:
            yield Finding(
                ERROR,
                "handlers",
                os.path.dirname(backup),
                f"it is the archive_dir of several logs of one name: {' and '.join(sorted(paths))}",
                "nothing tells their backups apart, and the second handler is refused when the server starts",
                "give each log an archive_dir or a name of its own",
            )
    for handler in config.handlers:
        kind = handler.kind
        rotates = isinstance(kind, type) and issubclass(kind, logging.handlers.BaseRotatingHandler)
        if rotates and not handler.is_ours and config.server.workers > 1:
            yield Finding(
                ERROR,
                "handlers",
                handler.path or handler.name,
                f"handler {handler.name} is a {_class_name(handler)}, in {config.server.workers} workers",
                "each worker rotates the file on its own: most lines of a rollover are lost or in a wrong file",
                'use "rollsafe.SafeTimedRotatingFileHandler"',
            )


def check_flags(config: ServerConfig) -> Iterator[Finding]:
    """Whether settings of gunicorn get into each other's way."""
    server = config.server
    yield from _replaced_outputs(config)
    if server.capture_output and server.errorlog == "-":
        yield Finding(
            WARNING,
            "flags",
            "--capture-output",
            "it does nothing without --error-logfile",
            "what the application prints goes to standard output and error as without it",
            "give --error-logfile a file of its own, which nobody rotates, or leave --capture-output out",
        )
    if server.capture_output and server.errorlog != "-":
        path = os.path.realpath(os.path.join(server.chdir, server.errorlog))
        if any(handler.is_ours and os.path.realpath(handler.path or "") == path for handler in _beside(config)):
            yield Finding(
                ERROR,
                "flags",
                "--capture-output",
                f"standard output and error go to {path}, which is rotated",
                "they stay on the file after its rollover: what is printed goes to a backup, and not to its archive",
                "give --error-logfile a file of its own",
            )
    given = [name for name in ("logconfig_dict", "logconfig_json", "logconfig") if getattr(server, name)]
    if len(given) > 1:
        yield Finding(
            WARNING,
            "flags",
            " and ".join(given),
            f"only {given[0]} counts",
            "gunicorn reads the first of logconfig_dict, logconfig_json and logconfig that is given",
            f"leave out {', '.join(given[1:])}",
        )
    changes_user = (server.uid, server.gid) != (os.geteuid(), os.getegid())
    is_default = getattr(server.post_fork, "__module__", "").startswith("gunicorn.")
    if changes_user and is_default and any(handler.is_ours for handler in config.handlers):
        yield Finding(
            ERROR,
            "flags",
            "post_fork",
            f"workers become user {_user_name(User(server.uid, server.gid))}, and the hook of rollsafe is missing",
            "log and lock files stay the property of the user who starts gunicorn, and workers cannot write them",
            "from rollsafe.gunicorn import post_fork",
        )


def _replaced_outputs(config: ServerConfig) -> Iterator[Finding]:
    """Where flags want lines to go and the logging configuration, whose handlers replace theirs, does not bring them.

    The running server says the same of its handlers; see `rollsafe.flags`.
    """
    server = config.server
    captures = server.capture_output and server.errorlog != "-"
    asked = [("--access-logfile", server.accesslog, "gunicorn.access")] if server.accesslog else []
    # `-` is what gunicorn has for --error-logfile where nobody gives it.
    if not captures and (server.errorlog != "-" or "errorlog" in config.given):
        asked.append(("--error-logfile", server.errorlog, "gunicorn.error"))
    for flag, output, logger in asked:
        reached = config.reached(logger)
        if reached is None or any(_writes(handler, output, config) for handler in reached):
            continue
        yield Finding(
            WARNING,
            "flags",
            flag,
            f"{flag} {output} beside a logging configuration",
            f"no line goes there: {logger} gets the handlers of the configuration instead"
            + ("" if output == "-" else ", and the file stays empty"),
            f"leave {flag} out, or put a handler for it into the logging configuration (with logger_class = "
            '"rollsafe.gunicorn.Logger" instead of a configuration, the flags rotate by themselves)',
        )
    if server.syslog:
        loggers = ["gunicorn.error"] + ["gunicorn.access"] * (not server.disable_redirect_access_to_syslog)
        silent = [
            logger
            for logger in loggers
            if (reached := config.reached(logger)) is not None
            and not any(_is_kind(handler, logging.handlers.SysLogHandler) for handler in reached)
        ]
        if silent:
            yield Finding(
                WARNING,
                "flags",
                "--log-syslog",
                "--log-syslog beside a logging configuration",
                f"nothing of {' and '.join(silent)} is sent: the handlers of the configuration replace its own",
                "leave --log-syslog out, or put a logging.handlers.SysLogHandler into the logging configuration",
            )


def _writes(handler: ConfiguredHandler, output: str, config: ServerConfig) -> bool:
    """Whether a handler writes to what a flag names: a file, or `-` for a standard stream."""
    if output != "-":
        return os.path.realpath(handler.path or "") == os.path.realpath(os.path.join(config.server.chdir, output))
    return _is_kind(handler, logging.StreamHandler) and not _is_kind(handler, logging.FileHandler)


def _is_kind(handler: ConfiguredHandler, kind: type[logging.Handler]) -> bool:
    """Whether a handler is of a class."""
    return isinstance(handler.kind, type) and issubclass(handler.kind, kind)


def _beside(config: ServerConfig) -> list[ConfiguredHandler]:
    """The handlers that the logging configuration makes, not the flags."""
    return [handler for handler in config.handlers if not handler.of_flag]


def check_loggers(config: ServerConfig) -> Iterator[Finding]:
    """Whether loggers are, or will be, disabled or robbed of their handlers."""
    if config.logging.get("disable_existing_loggers") is True:
        yield Finding(
            WARNING,
            "loggers",
            "disable_existing_loggers",
            "the logging configuration disables every logger that exists and that it does not name",
            "modules that made their logger before are silent, without a word",
            "'disable_existing_loggers': False",
        )
    if config.application is None:
        return
    names = sorted({logger for handler in config.handlers if handler.is_ours for logger in handler.loggers})
    if not names:
        return
    try:
        changed = rehearsal.loggers_after_import(config, names, _loads_as(config))
    except TrialFailed as error:
        yield Finding(
            WARNING,
            "loggers",
            config.application,
            f"it could not be imported: {error}",
            "what it does to the loggers was not tried",
            "run the check where the application can be imported, with its environment",
        )
        return
    for name, what in sorted(changed.items()):
        yield Finding(
            ERROR,
            "loggers",
            name,
            f"importing {config.application} leaves it {'disabled' if what == 'disabled' else 'without its handler'}",
            "its lines get into no file of rollsafe",
            "in the application's dictConfig: 'disable_existing_loggers': False, and leave this logger out"
            if what == "disabled" or name != ROOT
            else "let the application leave the root logger to the server's configuration"
            " (no root in its dictConfig, no basicConfig(force=True))",
        )
    if not changed:
        yield Finding(OK, "loggers", config.application, "importing it leaves the loggers as they are configured")


_REMEDIES = {
    rehearsal.UNMADE: ("gunicorn does not start with it", "give it what its class takes"),
    rehearsal.FIELD: (
        "every record that lacks it is lost",
        "give the formatter defaults={...} with a value for it, as rotating_logs and LineFormatter take, or the handler"
        " a filter that sets it",
    ),
    rehearsal.ENCODING: (
        "a line with such a character is lost",
        'leave errors out, which writes such characters as escapes, or give encoding="utf-8"',
    ),
}


def check_records(config: ServerConfig) -> Iterator[Finding]:
    """Whether each handler can be made, and takes a record: it is tried, because no look at a format tells."""
    try:
        faults = rehearsal.faults(config, _loads_as(config))
    except TrialFailed as error:
        yield Finding(
            WARNING,
            "records",
            config.path,
            f"no record could be tried: {error}",
            "a handler with a format that no record fits loses every line",
            "run the check where the server runs",
        )
        return
    for handler in config.handlers:
        if handler.name in faults:
            kind, what = faults[handler.name]
            where = handler.path or handler.name
            yield Finding(ERROR, "records", where, f"handler {handler.name}: {what}", *_REMEDIES[kind])
    if not faults:
        yield Finding(OK, "records", config.path, f"each of {counted(len(config.handlers), 'handler')} took a record")


def _user_of(config: ServerConfig) -> User | None:
    """Who the workers will be, None if they stay who asks; see gunicorn.util.set_owner_process."""
    server = config.server
    if (server.uid, server.gid) == (os.geteuid(), os.getegid()):
        return None
    return user_of(server.uid, server.gid, with_groups=server.initgroups)


def _owner_of(log: Log) -> User | None:
    """Who writes a log: the owner of its live file, else of its lock file, else of the directory; None if we do."""
    if os.geteuid() != 0:
        return None
    for path in (log.live, log.lock_path, os.path.dirname(log.live)):
        with suppress(OSError):
            status = os.lstat(path)
            return user_of(status.st_uid, status.st_gid) if status.st_uid != 0 else None
    return None


def _tried_as(user: User | None) -> User | None:
    """Who can be tried: another user by root only."""
    return user if os.geteuid() == 0 else None


def _loads_as(config: ServerConfig) -> User | None:
    """Who loads the application: with preload_app, gunicorn's arbiter does."""
    return None if config.server.preload_app else _tried_as(_user_of(config))


def _is_zone(variable: str) -> bool:
    """Whether TZ names a zone: a name, a file, or a rule of tzset(3)."""
    name = variable.removeprefix(":")
    if name.startswith("/"):
        return os.path.isfile(name)
    with suppress(ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        zoneinfo.ZoneInfo(name)
        return True
    return bool(_POSIX_ZONE.match(name)) or name in ("UTC", "UTC0", "GMT")


def _user_name(user: User | None) -> str:
    """A user and a group as chown(1) takes them."""
    uid, gid = (user.uid, user.gid) if user else (os.geteuid(), os.getegid())
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    try:
        group = grp.getgrgid(gid).gr_name
    except KeyError:
        group = str(gid)
    return f"{name}:{group}"


def _class_name(handler: ConfiguredHandler) -> str:
    """What a handler is, in a word."""
    kind: Any = handler.kind
    return getattr(kind, "__name__", None) or "unknown class"
