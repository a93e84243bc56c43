"""Which log files there are, for tools: the live files of a directory, and the backups of each in the order of time.

A lock file `.{name}.lock` tells that `{name}` is a live file of ours, and its settings. Where there is none (files of
another handler, a copy without hidden files), live file and settings are inferred from the names of the backups.
Reading only: nothing is opened for writing, and no lock is taken.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from math import inf

from rollsafe.errors import ConfigurationError, LogFileError
from rollsafe.locks import live_name_of, lock_path
from rollsafe.names import EXTENSIONS, ROLLED_EXTENSION, Backup, Names, recognisers_of
from rollsafe.note import Note, read_note
from rollsafe.places import kind_of
from rollsafe.schedule import Interval, Schedule
from rollsafe.settings import Settings

# What the default suffix of each `when` looks like, the most precise first; see `schedule`.
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
# How often a directory is read at most until it is the same twice.
_LOOKS = 10


@dataclass(frozen=True)
class LogFile:
    """One file of a log."""

    path: str
    interval: Interval | None
    """The interval whose lines it holds; None where the name does not tell."""
    backup: Backup | None
    """What its name says; None for the live file."""

    @property
    def is_live(self) -> bool:
        """Whether it is the live file."""
        return self.backup is None

    @property
    def extension(self) -> str:
        """How it is compressed: "", ".gz", ".zst" or ".xz"."""
        return self.backup.extension if self.backup else ""


@dataclass(frozen=True)
class Log:
    """One live file, present or not, with its backups.

    Attributes:
        live: Full path of the live file.
        settings: What the lock file says, or what the names of the backups suggest.
        told: Whether the lock file said it; inferred settings know neither the number of units nor the zone.
        files: The backups in the order of time, then the live file if it exists.
        leftovers: Full paths of what is unfinished: archives being written, files that await a rotator (which are among
            `files` too, because their lines are nowhere else).
        made: When a handler with these settings was made; seconds since the epoch, infinity where that is not known.
            What is older may have been written with other settings.
        unread: Why the directory of the backups could not be read, in a sentence, so that `files` has none of it; None
            if it was read.
    """

    live: str
    settings: Settings
    told: bool
    files: tuple[LogFile, ...]
    leftovers: tuple[str, ...]
    made: float = inf
    unread: str | None = None

    @property
    def name(self) -> str:
        """The name of the live file."""
        return os.path.basename(self.live)

    @property
    def untold(self) -> str | None:
        """Why its settings are not known though there is a lock file, in a sentence; None if that is not so."""
        if self.told or not os.path.lexists(self.lock_path) or os.access(self.lock_path, os.R_OK):
            return None
        return (
            f"{self.lock_path!r} may not be read, so that it is not known how the log rolls over, and whether backups"
            " are in another directory; ask as the user who writes it, or as root"
        )

    @property
    def lock_path(self) -> str:
        """Full path of its lock file."""
        return lock_path(self.live)

    @property
    def distinct(self) -> tuple[LogFile, ...]:
        """Its files; of a backup that is there plain and archived, the plain one, which is removed last."""
        plain = {file.path for file in self.files if not file.extension}
        return tuple(
            file for file in self.files if not file.extension or file.path.removesuffix(file.extension) not in plain
        )

    def schedule(self) -> Schedule:
        """Its intervals.

        Raises:
            ConfigurationError: The zone has no name.
        """
        return self.settings.schedule()


def logs_at(paths: Iterable[str | os.PathLike[str]]) -> list[Log]:
    """The logs of `paths`: all those of a directory, or the one of a live file. In the order of `paths`, then by name.

    A path may also be a single backup: a log of that one file, unless the log that it belongs to is among the others.

    Raises:
        LogFileError: A path does not exist, or there is no log at it.
        OSError: It cannot be looked at.
    """
    logs = []
    for path in paths:
        full = os.path.realpath(path)
        status = None
        with suppress(FileNotFoundError, NotADirectoryError):
            status = os.stat(full)
        if status is not None and stat.S_ISDIR(status.st_mode):
            found = [_log(live) for live in _lives_in(full)]
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
    """The log of a live file, be it there or not, or of a single backup."""
    return _single_backup(path) or _log(path)


def _lives_in(directory: str) -> Iterator[str]:
    """The live files that lock files or backups in `directory` speak of, by name."""
    entries = os.listdir(directory)
    told = {live for entry in entries if (live := live_name_of(entry))}
    inferred = {match["live"] for entry in entries if (match := _BACKUP.fullmatch(entry))}
    for name in sorted(told | {live for live in inferred if not live.startswith(".")}):
        yield os.path.join(directory, name)


def _log(live: str) -> Log:
    """The log of one live file."""
    directory = os.path.dirname(live)
    # Reading a directory is no snapshot: an archive that is linked behind the reader, and whose source is unlinked
    # before it, would not be seen either way. So until nothing has changed meanwhile, within reason.
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
    return Log(live, settings, told, tuple(files), tuple(leftovers), _made(note), _unread(live, settings))


def _names_in(directory: str) -> list[str]:
    """The names in a directory, none if it is none."""
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
    for live in _lives_in(directory):
        note = read_note(live)
        settings, told = _settings(live, entries, note)
        backup = Recogniser(live, settings).backup(path)
        if live != path and backup is not None:
            return Log(path, settings, told, (backup,), (), _made(note))
    return None


class Recogniser:
    """Tells the backups of one live file by their names, those that it got under another `when` included.

    Of the latter the beginning is known, and not the end: the lock file tells only the settings of today.

    Attributes:
        schedule: Its intervals; None where the zone of the settings has no name, or is not known here.
    """

    def __init__(self, live: str, settings: Settings) -> None:
        self.schedule: Schedule | None
        try:
            self.schedule = settings.schedule()
        except ConfigurationError:
            self.schedule = None
        self._settings = settings
        self._names = Names(
            live, self.schedule or Schedule(settings.when, suffix=settings.suffix), extension=settings.extension
        )
        zone = settings.zone() if self.schedule else None
        self._all = recognisers_of(self._names, live, zone, extension=settings.extension)

    def backup(self, path: str) -> LogFile | None:
        """The backup at `path`, None if its name is not one. A file that awaits a rotator is one already."""
        name = os.path.basename(path).removesuffix(ROLLED_EXTENSION)
        backup = _parse(self._names, name, self._settings)
        if backup is not None:
            return LogFile(path, self._names.interval(backup) if self.schedule else None, backup)
        backup = next(filter(None, (names.parse(name) for names in self._all)), None)
        return LogFile(path, None, backup) if backup else None

    def is_leftover(self, name: str) -> bool:
        """Whether a file of this name is unfinished: an archive being written, or a file that awaits a rotator."""
        stem, _, extension = name.rpartition(".")
        return f".{extension}" in (".tmp", ROLLED_EXTENSION) and self.backup(stem) is not None

    def order(self, file: LogFile) -> tuple[object, ...]:
        """Sort key: backups in the order of the time that they hold."""
        if file.backup is None:
            return ()
        own = self._names.order(file.backup)
        if own[0]:
            return own
        return next((key for names in self._all if (key := names.order(file.backup))[0]), own)


def settings_now(live: str, names: Iterable[str]) -> Settings:
    """What the lock file of a live file says now, else what the `names` in its directory suggest; see `read_note`."""
    return _settings(live, names, read_note(live))[0]


def _settings(live: str, names: Iterable[str], note: Note | None) -> tuple[Settings, bool]:
    """The settings, and whether the note tells them."""
    told = note.parse_settings() if note else None
    if told is not None:
        return told, True
    return _infer(os.path.basename(live), names), False


def _made(note: Note | None) -> float:
    """When a handler with the noted settings was made."""
    return note.made / 1000 if note and note.made else inf


def _unread(live: str, settings: Settings) -> str | None:
    """Why the directory of the backups cannot be read, None if it can."""
    try:
        os.listdir(settings.archive_dir or os.path.dirname(live))
    except OSError as error:
        return f"{error.filename!r}, where the backups of {live!r} are, cannot be read: {error.strerror}"
    return None


def _candidates(directory: str, names: list[str], settings: Settings) -> list[tuple[str, str]]:
    """Where backups may be: (directory, name). `names` are those of the live file's directory."""
    found = [(directory, name) for name in names]
    if settings.archive_dir and settings.archive_dir != directory:
        with suppress(OSError):
            found += [(settings.archive_dir, name) for name in sorted(os.listdir(settings.archive_dir))]
    return found


def _parse(names: Names, entry: str, settings: Settings) -> Backup | None:
    """What a file name says; with a namer of the application, whatever has a suffix of ours in it is a backup."""
    backup = names.parse(entry)
    if backup is not None or not settings.namer:
        return backup
    match = names.suffix_pattern.search(entry)
    extension = next((end for end in names.extensions if end and entry.endswith(end)), "")
    return Backup(entry, match[0], 0, extension) if match else None


def _live_file(live: str, note: Note | None, schedule: Schedule | None) -> Iterator[LogFile]:
    """The live file, if it exists: of the noted interval, else of that of its last write."""
    with suppress(FileNotFoundError):
        status = os.stat(live)
        if stat.S_ISREG(status.st_mode):
            yield LogFile(live, _interval_of_live(status, note, schedule) if schedule else None, None)


def _interval_of_live(status: os.stat_result, note: Note | None, schedule: Schedule) -> Interval | None:
    """The interval of the live file, as the handlers tell it; None if its last write was at no date."""
    if note is not None:
        # The settings do not tell whether several hosts share it.
        for shared in (False, True):
            if interval := note.believed_interval(status, schedule.interval, shared):
                return interval
    try:
        return schedule.interval(status.st_mtime)
    except (ValueError, OverflowError, OSError):
        return None


def _infer(name: str, entries: Iterable[str]) -> Settings:
    """Settings by the look of the backups' names."""
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
