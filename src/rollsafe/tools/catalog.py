"""The log files of a directory, for tools: the live files, and the backups of each in the order of time.

A lock file `.{name}.lock` shows that `{name}` is a live file of ours, and has its settings. If there is none (files of
another handler, a copy without hidden files), the tools infer live file and settings from the names of the backups.
This module only reads: it opens nothing for writing, and takes no lock.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf

from rollsafe._backups.names import EXTENSIONS, ROLLED_EXTENSION, Backup, Names, recognisers_of
from rollsafe._files.lock_files import live_name_of, lock_path
from rollsafe._files.note import Note, read_note
from rollsafe._files.places import kind_of
from rollsafe._remembering import MANY, RememberingSchedule
from rollsafe._settings import Settings
from rollsafe.errors import ConfigurationError, LogFileError
from rollsafe.schedule import Interval, Schedule

# Patterns of the default suffixes of each `when`, the most precise first; see `schedule`.
_SHAPES = {
    "S": re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d"),
    "M": re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d"),
    "H": re.compile(r"\d{4}-\d\d-\d\d_\d\d"),
    "D": re.compile(r"\d{4}-\d\d-\d\d"),
}
_EXTENSION = re.compile("|".join(re.escape(extension) for extension in EXTENSIONS if extension))
_BACKUP = re.compile(
    rf"(?P<live>.+?)\.(?P<suffix>{'|'.join(shape.pattern for shape in _SHAPES.values())})"
    rf"(?P<number>\.[1-9]\d*)?(?P<extension>{_EXTENSION.pattern})?",
    re.DOTALL,
)
# A directory is read again until it is the same twice, but no more often than this.
_LOOKS = 10


@dataclass(frozen=True)
class LogFile:
    """One file of a log."""

    path: str
    interval: Interval | None
    """The interval whose lines it holds; None if the name does not tell it."""
    backup: Backup | None
    """The parts of its name; None for the live file."""

    @property
    def is_live(self) -> bool:
        """Whether it is the live file."""
        return self.backup is None

    @property
    def extension(self) -> str:
        """Its compression: "", ".gz", ".zst" or ".xz"."""
        return self.backup.extension if self.backup else ""


@dataclass(frozen=True)
class Log:
    """One live file, present or not, with its backups.

    Attributes:
        live: Full path of the live file.
        settings: Those of the lock file, or those that the names of the backups suggest.
        told: Whether they are from the lock file; inferred settings lack the number of units and the zone.
        files: The backups in the order of time, then the live file if it exists.
        leftovers: Full paths of unfinished files: archives that are being written, and files that wait for a rotator
            (which are also among `files`, because their lines are nowhere else).
        made: When a handler with these settings was made; seconds since the epoch, infinity if that is not known.
            Older lines may have been written with other settings.
        unread: A sentence that says why the directory of the backups could not be read, so `files` has none of it;
            None if it was read.
    """

    live: str
    settings: Settings
    told: bool
    files: tuple[LogFile, ...]
    leftovers: tuple[str, ...]
    made: float = inf
    unread: str | None = None
    known: Schedule | None = field(default=None, repr=False, compare=False)
    """Its intervals, if they were made to read `files`; they remember what they have answered."""

    @property
    def name(self) -> str:
        """The name of the live file."""
        return os.path.basename(self.live)

    @property
    def untold(self) -> str | None:
        """A sentence that says why its lock file could not be read; None if it was read or does not exist."""
        if self.told or not os.path.lexists(self.lock_path) or os.access(self.lock_path, os.R_OK):
            return None
        return (
            f"{self.lock_path!r} may not be read, so it is not known how the log rolls over, and whether backups are in"
            " another directory; run the command as the user who writes the log, or as root"
        )

    @property
    def lock_path(self) -> str:
        """Full path of its lock file."""
        return lock_path(self.live)

    @property
    def distinct(self) -> tuple[LogFile, ...]:
        """Its files; if a backup is there both plain and archived, only the plain one, which is removed last."""
        plain = {file.path for file in self.files if not file.extension}
        return tuple(
            file for file in self.files if not file.extension or file.path.removesuffix(file.extension) not in plain
        )

    def schedule(self) -> Schedule:
        """Its intervals.

        Raises:
            ConfigurationError: The zone has no name.
        """
        return self.known or self.settings.schedule()


def logs_at(paths: Iterable[str | os.PathLike[str]]) -> list[Log]:
    """The logs of `paths`: all logs of a directory, or the log of a live file. In the order of `paths`, then by name.

    A path may also be a single backup. It is a log of that one file, unless its own log is among the others.

    Raises:
        LogFileError: A path does not exist, or there is no log at it.
        OSError: A path cannot be inspected.
    """
    logs = []
    for path in paths:
        full = os.path.realpath(path)
        status = None
        with suppress(FileNotFoundError, NotADirectoryError):
            status = os.stat(full)
        if status is not None and stat.S_ISDIR(status.st_mode):
            found = [_log(live) for live in lives_in(full)]
            if not found:
                raise LogFileError(
                    f"{os.fspath(path)!r} holds no log: neither a lock file (.NAME.lock) nor backups (NAME.2026-11-25);"
                    " give the directory of the live file, or the file itself"
                )
            logs += found
        elif status is not None and not stat.S_ISREG(status.st_mode):
            raise LogFileError(
                f"{os.fspath(path)!r} is {kind_of(status)} and no regular file: nothing that is logged there can be"
                " read again"
            )
        elif (log := _at(full)).files or status is not None or os.path.lexists(log.lock_path):
            logs.append(log)
        else:
            raise LogFileError(f"{os.fspath(path)!r} does not exist; give a log directory or a live log file")
    given_whole = {file.path for log in logs for file in log.files if file.path != log.live}
    return [log for log in logs if log.live not in given_whole]


def reread(log: Log) -> Log:
    """A log as it is now."""
    return _at(log.live)


def _at(path: str) -> Log:
    """The log of a live file, even if the file is not there, or of a single backup."""
    return _single_backup(path) or _log(path)


def lives_in(directory: str) -> Iterator[str]:
    """The live files to which the lock files and backups in `directory` belong, by name.

    Raises:
        OSError: The directory cannot be read.
    """
    entries = os.listdir(directory)
    told = {live for entry in entries if (live := live_name_of(entry))}
    inferred = {match["live"] for entry in entries if (match := _BACKUP.fullmatch(entry))}
    for name in sorted(told | {live for live in inferred if not live.startswith(".")}):
        yield os.path.join(directory, name)


def _log(live: str) -> Log:
    """The log of one live file."""
    directory = os.path.dirname(live)
    # Reading a directory gives no snapshot: if an archive is linked behind the reader, and its source is unlinked
    # before it, the reader sees neither. So the directory is read until nothing has changed meanwhile.
    for _ in range(_LOOKS):
        names = _names_in(directory)
        note = read_note(live)
        settings, told = _settings(live, names, note)
        recogniser = Recogniser(live, settings)
        entries = _candidates(directory, names, settings)
        backups, leftovers = [], []
        for folder, entry in entries:
            path = os.path.join(folder, entry)
            if not _is_plain_file(path):
                continue
            backup = recogniser.backup(path)
            if backup is not None:
                backups.append(backup)
            if recogniser.is_leftover(entry):
                leftovers.append(path)
        if entries == _candidates(directory, _names_in(directory), settings):
            break
    backups.sort(key=recogniser.order)
    files = [*backups, *_live_file(live, note, recogniser.schedule)]
    return Log(
        live, settings, told, tuple(files), tuple(leftovers), _made(note), _unread(live, settings), recogniser.schedule
    )


def _names_in(directory: str) -> list[str]:
    """The names in a directory; none if it is no directory."""
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _single_backup(path: str) -> Log | None:
    """A backup as a log of its own, None if the file is no backup of a log beside it."""
    if os.path.exists(lock_path(path)) or not _is_plain_file(path):
        return None
    directory = os.path.dirname(path)
    entries = os.listdir(directory)
    for live in lives_in(directory):
        note = read_note(live)
        settings, told = _settings(live, entries, note)
        backup = Recogniser(live, settings).backup(path)
        if live != path and backup is not None:
            return Log(path, settings, told, (backup,), (), _made(note))
    return None


class Recogniser:
    """Recognises the backups of one live file by their names, even those that were made with another `when`.

    Of those it knows the beginning of the interval, not the end, because the lock file has only the present settings.

    Attributes:
        schedule: Its intervals; None if the zone of the settings has no name or is not known here.
    """

    def __init__(self, live: str, settings: Settings) -> None:
        self.schedule: Schedule | None
        try:
            self.schedule = RememberingSchedule(settings.schedule(), MANY)
        except ConfigurationError:
            self.schedule = None
        self._settings = settings
        self._names = Names(
            live, self.schedule or Schedule(settings.when, suffix=settings.suffix), extension=settings.extension
        )
        zone = settings.zone() if self.schedule else None
        self._all = recognisers_of(self._names, live, zone, extension=settings.extension)

    def backup(self, path: str) -> LogFile | None:
        """The backup at `path`, None if its name is not one of a backup. A file that waits for a rotator is one."""
        name = os.path.basename(path).removesuffix(ROLLED_EXTENSION)
        backup = _parse(self._names, name, self._settings)
        if backup is not None:
            return LogFile(path, self._names.interval(backup) if self.schedule else None, backup)
        backup = next(filter(None, (names.parse(name) for names in self._all)), None)
        return LogFile(path, None, backup) if backup else None

    def is_leftover(self, name: str) -> bool:
        """Whether a file of this name is an archive that is being written, or a file that waits for a rotator."""
        stem, _, extension = name.rpartition(".")
        return f".{extension}" in (".tmp", ROLLED_EXTENSION) and self.backup(stem) is not None

    def order(self, file: LogFile) -> tuple[object, ...]:
        """Sort key: backups in the order of their intervals."""
        if file.backup is None:
            return ()
        own = self._names.order(file.backup, file.interval)
        if own[0]:
            return own
        return next((key for names in self._all if (key := names.order(file.backup))[0]), own)


def settings_now(live: str, names: Iterable[str]) -> Settings:
    """The settings in the lock file of a live file, else those that the `names` in its directory suggest."""
    return _settings(live, names, read_note(live))[0]


def _settings(live: str, names: Iterable[str], note: Note | None) -> tuple[Settings, bool]:
    """The settings, and whether they are from the note."""
    told = note.parse_settings() if note else None
    if told is not None:
        return told, True
    return _infer(os.path.basename(live), names), False


def _made(note: Note | None) -> float:
    """When a handler with the settings of the note was made."""
    return note.made / 1000 if note and note.made else inf


def _unread(live: str, settings: Settings) -> str | None:
    """Why the directory of the backups cannot be read, None if it can."""
    try:
        os.listdir(settings.archive_dir or os.path.dirname(live))
    except OSError as error:
        return f"{error.filename!r}, where the backups of {live!r} are, cannot be read: {error.strerror}"
    return None


def _candidates(directory: str, names: list[str], settings: Settings) -> list[tuple[str, str]]:
    """The places where backups may be: (directory, name). `names` are those of the live file's directory."""
    found = [(directory, name) for name in names]
    if settings.archive_dir and settings.archive_dir != directory:
        with suppress(OSError):
            found += [(settings.archive_dir, name) for name in sorted(os.listdir(settings.archive_dir))]
    return found


def _parse(names: Names, entry: str, settings: Settings) -> Backup | None:
    """The parts of a file name. With a namer of the application, every name with a suffix of ours in it is a backup."""
    backup = names.parse(entry)
    if backup is not None or not settings.namer:
        return backup
    match = names.suffix_pattern.search(entry)
    extension = next((end for end in names.extensions if end and entry.endswith(end)), "")
    return Backup(entry, match[0], 0, extension) if match else None


def _live_file(live: str, note: Note | None, schedule: Schedule | None) -> Iterator[LogFile]:
    """The live file, if it exists, with the interval in the note, or else that of its last write."""
    with suppress(FileNotFoundError):
        status = os.stat(live)
        if stat.S_ISREG(status.st_mode):
            yield LogFile(live, _interval_of_live(status, note, schedule) if schedule else None, None)


def _interval_of_live(status: os.stat_result, note: Note | None, schedule: Schedule) -> Interval | None:
    """The interval of the live file, found as the handlers do; None if its last write was at no date."""
    if note is not None:
        # The settings do not say whether several hosts share it.
        for shared in (False, True):
            if interval := note.believed_interval(status, schedule.interval, shared):
                return interval
    try:
        return schedule.interval(status.st_mtime)
    except (ValueError, OverflowError, OSError):
        return None


def _infer(name: str, entries: Iterable[str]) -> Settings:
    """The settings that the names of the backups suggest."""
    suffixes = [match["suffix"] for entry in entries if (match := _BACKUP.fullmatch(entry)) and match["live"] == name]
    for when, shape in _SHAPES.items():
        if suffixes and all(map(shape.fullmatch, suffixes)):
            return Settings(when=when)
    return Settings(when="D")


def _is_plain_file(path: str) -> bool:
    """Whether `path` is a regular file and no link."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False
