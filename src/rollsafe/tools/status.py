"""The status of a log: its files, its next rollover, the processes that have it open or locked, the work that is left.

This module only reads: it takes no lock, and opens nothing for writing.
"""

from __future__ import annotations

import dataclasses
import datetime
import errno
import fcntl
import os
import struct
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from rollsafe._backups.excess import Excess
from rollsafe._backups.names import ROLLED_EXTENSION
from rollsafe._files.identity import Identity, identity_of
from rollsafe._files.lock_handles import MAINTENANCE_BYTE, ROLLOVER_BYTE
from rollsafe._files.places import open_file
from rollsafe._settings import Settings
from rollsafe.errors import ConfigurationError
from rollsafe.tools.catalog import Log
from rollsafe.tools.prune import check_owner, excess_of, limits_of
from rollsafe.tools.words import printable

# struct flock of fcntl(2) and where in it type and pid are: Linux, and the BSDs with macOS.
_FLOCK, _TYPE, _PID = ("hhqqi4x", 0, 4) if sys.platform == "linux" else ("qqihh4x", 3, 2)


@dataclass(frozen=True)
class FileStatus:
    """One file of a log; times in seconds since the epoch, size in bytes."""

    name: str
    start: float | None
    """The beginning of its interval; None if its name does not tell it."""
    end: float | None
    size: int
    modified: float
    live: bool
    extension: str
    """Its compression: "", ".gz", ".zst" or ".xz"."""


@dataclass(frozen=True)
class Process:
    """A process that has files of the log open."""

    pid: int
    command: str
    writes: bool
    files: tuple[str, ...]
    """Names; those of removed files end in " (deleted)"."""


@dataclass(frozen=True)
class Lock:
    """The holder of one lock of a log."""

    held: bool | None
    """None if this user may not ask, because a reader of the lock file could block the writers of the log."""
    pid: int | None = None
    """None if it is free, or if the holder is not visible from here (another container or host)."""


@dataclass(frozen=True)
class Status:
    """A log at one moment.

    Attributes:
        live: Full path of the live file.
        settings: Those of the lock file, or those that the names of the backups suggest.
        from_note: Whether they are those of the note.
        files: Backups in the order of time, then the live file.
        next_rollover: Seconds since the epoch; None if it is not known. If it is past, the next line rolls over.
        rollover_lock, maintenance_lock: The locks of a rollover, and of the maintenance of the backups.
        processes: The processes that have files of the log open, by process id.
        unseen: The number of processes that this user may not inspect.
        backlog: The work that is left on the backups: kind -> number of files.
        uncertain: The names of files that look like backups, but that no limit removes.
        unread: A sentence that says why the directory of the backups could not be read; None if it was read.
    """

    live: str
    settings: Settings
    from_note: bool
    files: tuple[FileStatus, ...]
    next_rollover: float | None
    rollover_lock: Lock
    maintenance_lock: Lock
    processes: tuple[Process, ...]
    unseen: int
    backlog: dict[str, int]
    uncertain: tuple[str, ...] = ()
    unread: str | None = None

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: times in ISO 8601 with the offset of the local zone."""
        status = dataclasses.asdict(self)
        status |= {"settings": self.settings.as_dict(), "size": self.size, "next_rollover": iso(self.next_rollover)}
        for file in status["files"]:
            file |= {key: iso(file[key]) for key in ("start", "end", "modified")}
        return status


def iso(instant: float | None) -> str | None:
    """An instant (seconds since the epoch) as ISO 8601 with the offset of the local zone."""
    if instant is None:
        return None
    return datetime.datetime.fromtimestamp(instant).astimezone().isoformat()


def status_of(log: Log, processes: Openers) -> Status:
    """The status of one log."""
    files, identities = [], {}
    for file in log.files:
        with suppress(FileNotFoundError):
            status = os.stat(file.path)
            name = os.path.basename(file.path)
            start, end = (file.interval.start, file.interval.end) if file.interval else (None, None)
            extension = file.extension
            files.append(FileStatus(name, start, end, status.st_size, status.st_mtime, file.is_live, extension))
            identities[identity_of(status)] = name
    for path in log.leftovers:
        with suppress(FileNotFoundError):
            status = os.stat(path)
            identities[identity_of(status)] = os.path.basename(path)
    excess = _excess(log)
    return Status(
        log.live,
        log.settings,
        log.told,
        tuple(files),
        _next_rollover(log),
        lock_holder(log.lock_path, ROLLOVER_BYTE),
        lock_holder(log.lock_path, MAINTENANCE_BYTE),
        tuple(processes.of(identities, log.live)),
        processes.unseen,
        _backlog(log, excess),
        tuple(map(os.path.basename, excess.uncertain)),
        log.unread,
    )


def lock_holder(path: str, byte: int) -> Lock:
    """The holder of the lock on one byte of the lock file, by F_GETLK (fcntl(2)), which takes no lock.

    Not for processes that log, because closing the lock file here would drop a lock that this process holds on it.
    """
    try:
        descriptor = open_file(path, os.O_RDONLY)
    except PermissionError:
        return Lock(None)
    except OSError:
        return Lock(False)
    try:
        if sys.platform == "linux":
            asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
        else:
            asked = struct.pack(_FLOCK, byte, 1, 0, fcntl.F_WRLCK, os.SEEK_SET)
        answer = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            return Lock(False)
        raise
    finally:
        os.close(descriptor)
    if answer[_TYPE] == fcntl.F_UNLCK:
        return Lock(False)
    return Lock(True, answer[_PID] if answer[_PID] > 0 else None)


class Openers:
    """The processes of this machine with the regular files that they have open, at one moment (Linux: proc(5)).

    Attributes:
        unseen: The number of processes that this user may not inspect.
    """

    def __init__(self) -> None:
        self.unseen: int = 0
        self._open: defaultdict[Identity, list[tuple[int, str, str]]] = defaultdict(list)
        if not os.path.isdir("/proc/self/fd"):
            return
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                descriptors = os.listdir(f"/proc/{pid}/fd")
            except PermissionError:
                self.unseen += 1
                continue
            except OSError:  # it has ended
                continue
            for descriptor in descriptors:
                self._note(pid, descriptor)

    def of(self, identities: dict[Identity, str], live: str) -> Iterator[Process]:
        """The processes that have one of the files in `identities` open, or a removed file of the log `live`."""
        found: defaultdict[int, dict[str, bool]] = defaultdict(dict)
        for identity, openings in self._open.items():
            name = identities.get(identity)
            for pid, descriptor, path in openings:
                if name is None and path.startswith(f"{live}.") and path.endswith(" (deleted)"):
                    shown = os.path.basename(path)
                elif name is not None:
                    shown = name
                else:
                    continue
                found[pid][shown] = found[pid].get(shown, False) or _writes(pid, descriptor)
        for pid, names in sorted(found.items()):
            yield Process(pid, command_of(pid), any(names.values()), tuple(sorted(names)))

    def pids_of(self, path: str) -> set[int]:
        """The processes that have one file open."""
        try:
            status = os.stat(path)
        except FileNotFoundError:
            return set()
        return {pid for pid, _, _ in self._open.get(identity_of(status), ())}

    def _note(self, pid: str, descriptor: str) -> None:
        """Add one descriptor if it is of a regular file."""
        link = f"/proc/{pid}/fd/{descriptor}"
        with suppress(OSError):
            path = os.readlink(link)
            if path.startswith("/") and not path.startswith(("/dev/", "/proc/", "/sys/", "/memfd:")):
                status = os.stat(link)
                self._open[identity_of(status)].append((int(pid), descriptor, path))


def command_of(pid: int) -> str:
    """The command line of a process; "?" if it has ended."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read(4096).rstrip(b"\0").split(b"\0")
        if words == [b""]:
            with open(f"/proc/{pid}/comm", "rb") as file:
                words = [file.read().strip()]
    except OSError:
        return "?"
    words[0] = os.path.basename(words[0])
    return printable(os.fsdecode(b" ".join(words)))


def _writes(pid: int, descriptor: str) -> bool:
    """Whether a descriptor is open for writing (proc(5), fdinfo: flags in octal)."""
    with suppress(OSError, ValueError), open(f"/proc/{pid}/fdinfo/{descriptor}", encoding="ascii") as file:
        for line in file:
            if line.startswith("flags:"):
                return int(line.split()[1], 8) & os.O_ACCMODE != os.O_RDONLY
    return False


def _next_rollover(log: Log) -> float | None:
    """The end of the live file's interval; None if there is no live file or no schedule."""
    live = next((file for file in log.files if file.is_live), None)
    return live.interval.end if live and live.interval and log.told else None


def _backlog(log: Log, excess: Excess) -> dict[str, int]:
    """The work that is left on the backups."""
    rolled = sum(path.endswith(ROLLED_EXTENSION) for path in log.leftovers)
    plain = sum(not file.is_live and not file.extension for file in log.files) - rolled
    expired = 0
    with suppress(ConfigurationError, OSError):
        check_owner(log)
        expired = len(excess.removals)
    return {
        "awaiting_rotator": rolled,
        "unfinished": len(log.leftovers) - rolled,
        "uncompressed": plain if log.settings.compress else 0,
        "expired": expired,
    }


def _excess(log: Log) -> Excess:
    """What retention finds; nothing where it cannot tell."""
    with suppress(ConfigurationError, OSError):
        return excess_of(log, limits_of(log))
    return Excess()
