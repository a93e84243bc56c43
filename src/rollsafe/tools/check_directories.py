"""Checks of the directory of a log: file system, permissions, renames and clock. Each is tried in that directory."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from rollsafe._files.lock_files import lock_path
from rollsafe._files.mounts import mount_of
from rollsafe._files.renames import is_mount_point
from rollsafe.tools import trials
from rollsafe.tools.findings import ERROR, OK, WARNING, Finding, Target
from rollsafe.tools.trials import TrialFailed, User, tried_as, user_name

# Seconds by which clocks may differ without a warning.
_CLOCKS_AGREE = 2.0


def check_file_system(directory: str, user: User | None = None) -> Iterator[Finding]:
    """Check with several processes that appends are whole, and that locks exclude."""
    mount = None
    with suppress(OSError), open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        mount = mount_of(os.path.realpath(directory), file.read())
    shown = mount.shown if mount is not None else "of unknown kind"
    is_shared = mount is not None and mount.is_shared
    if mount is not None and mount.is_locked_on_one_host:
        yield Finding(
            WARNING,
            "file system",
            directory,
            f"{shown}: its locks may hold on one host only",
            "two hosts that share this log would both roll it, and tear each other's lines",
            "let no other host write here; see the reference page on file systems",
        )
    elif is_shared:
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
        if torn and is_shared:
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
            "log to a local disk; for NFS, run the lock daemon (rpc.statd), without the mount option nolock",
        )
    else:
        yield Finding(OK, "lock", directory, "a lock of one process excludes the others")


def check_permissions(directory: str, targets: Sequence[Target], of: Target) -> Iterator[Finding]:
    """Check that the user who writes may roll over in a directory, and may write the files in it."""
    user = of.user
    who = user_name(user)
    if user is not None and os.geteuid() != 0:
        yield Finding(
            WARNING,
            "permission",
            directory,
            f"it was not tried whether user {who} may write here",
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
            "a rollover renames the file; without rollovers the live file only grows",
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
    """Check that the live file can be renamed to a backup. It is tried, because permissions alone do not tell."""
    user = target.user
    if (user is not None and os.geteuid() != 0) or not all(
        map(os.path.isdir, (target.directory, target.backup_directory))
    ):
        return  # another finding says why
    who = user_name(user)
    why = "no rollover can be made, and the live file only grows"
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
    """The reason for which a trial was refused or failed, None if it was not."""
    try:
        return trial(*arguments)
    except TrialFailed as error:
        return str(error)


def check_clock(directory: str, target: Target) -> Iterator[Finding]:
    """Check that the clock that stamps files agrees with ours, and that no file is of the future."""
    try:
        difference = trials.clock_difference(directory, tried_as(target.user))
    except TrialFailed as error:
        yield Finding(
            WARNING,
            "clock",
            directory,
            f"the clock that stamps files there could not be read: {error}",
            "a file that an earlier run has left is given the interval of its last write, by that clock",
            "see the other findings about this directory",
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
                "set the clock of this machine right; then the next line rolls the file over",
            )
            return
    yield Finding(OK, "clock", directory, "files are stamped with this machine's time")
