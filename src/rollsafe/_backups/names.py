"""The names of backups: made, recognised, put in the order of time. Strings only: no file is touched."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from rollsafe._remembering import remembering
from rollsafe._suffixes import reader_of
from rollsafe._values import Value
from rollsafe.schedule import Interval, Schedule

EXTENSIONS: Final = ("", ".gz", ".zst", ".xz")
# The end of the name of a rolled file, which waits for the application's rotator or `on_rollover`.
ROLLED_EXTENSION: Final = ".rolled"
# The end of the second name that an archive has until the application was notified of it.
UNANNOUNCED_EXTENSION: Final = ".tmp"

_SEQUENCE: Final = re.compile(r"(?<![0-9])[1-9][0-9]{0,17}(?![0-9])")
_SEQUENCE_AT_END: Final = re.compile(rf"\.{_SEQUENCE.pattern}\Z")


class Backup(Value):
    """The parts of the name of a backup."""

    name: str
    """The file name, without directory."""
    suffix: str
    """The suffix of its interval, as in :class:`rollsafe.schedule.Interval`."""
    sequence: int
    """The number of a part; 0 for the first backup of its suffix, whose name has no number."""
    extension: str
    """One of ``Names.extensions``: "" for a plain file, else the compression."""

    def __init__(self, name: str, suffix: str, sequence: int, extension: str) -> None:
        # Thousands are made in one pass.
        vars(self).update(name=name, suffix=suffix, sequence=sequence, extension=extension)


class Names:
    """The names of the backups of one live file.

    Args:
        filename: The path of the live file.
        schedule: Its intervals.
        namer: As the standard library has it: it gets the default path of a backup, and returns the path to use.
        extMatch: As the standard library has it: a suffix may be where it matches in a name. None looks for the
            schedule's own suffixes.
        extension: One that archives may have besides EXTENSIONS.
        directory: The directory to which `within` has bound the names, if it has.
    """

    def __init__(
        self,
        filename: str,
        schedule: Schedule,
        *,
        namer: Callable[[str], str] | None = None,
        extMatch: re.Pattern[str] | None = None,
        extension: str = "",
        directory: str | None = None,
    ) -> None:
        self.extensions: Final = tuple(dict.fromkeys((*EXTENSIONS, extension)))
        self._filename: Final = filename
        self._schedule: Final = remembering(schedule)
        self._namer: Final = namer
        self._ext_match: Final = extMatch
        self._directory: Final = directory
        self._beginning: Final = f"{_base(filename)}."
        self.suffix_pattern: Final = re.compile(reader_of(schedule.suffix_format).pattern)

    @property
    def live_name(self) -> str:
        """The name of the live file, without directory."""
        return _base(self._filename)

    def path(self, suffix: str, sequence: int = 0, extension: str = "") -> str:
        """The path of a backup. Raises TypeError if the namer returns no str, and whatever the namer raises.

        A namer that was written for the standard library knows no numbers. If it raises an exception for a default name
        with a number, the number is added to the name that it makes without one.
        """
        try:
            path = self._named(f"{suffix}.{sequence}" if sequence else suffix)
        except Exception:
            if not sequence:
                raise
            path = f"{self._named(suffix)}.{sequence}"
        return path + extension

    def _named(self, ending: str) -> str:
        """The path that the namer makes of a default name with this ending."""
        default = f"{self._filename}.{ending}"
        path = default if self._namer is None else self._namer(default)
        if not isinstance(path, str):
            raise TypeError(f"namer returned {path!r} for {default!r}; it must return a path as str or PathLike")
        return path

    def within(self, directory: str) -> Names:
        """The same names, but `parse` accepts only those for which `path` gives this very directory.

        For namers that put the backups of each month, or of each day, into a directory of their own.
        """
        return Names(
            self._filename,
            self._schedule,
            namer=self._namer,
            extMatch=self._ext_match,
            extension=self.extensions[-1],
            directory=directory,
        )

    def parse(self, name: str) -> Backup | None:
        """The parts of a file name, or None if ``path`` does not make exactly this name of them.

        The suffix must be that of an interval of the schedule, unless a given ``extMatch`` has found it.
        """
        strange = None
        for backup in self._guesses(name):
            if self._makes(backup):
                if self._schedule.has(backup.suffix):
                    return backup
                strange = strange or backup
        return strange if self._ext_match is not None else None

    def is_asked_for(self, backup: Backup) -> bool:
        """Whether this is a backup only by the application's `extMatch`: no interval has its suffix."""
        return self._ext_match is not None and not self._schedule.has(backup.suffix)

    def resembles(self, name: str) -> bool:
        """Whether a name that `parse` does not accept looks like a backup's: with a suffix, but of no interval.

        The suffix must be at its place; only if the application has a namer, it may be anywhere.
        """
        if self._namer is not None:
            stem = _base(self._filename).partition(".")[0]
            return name.startswith(stem) and self.suffix_pattern.search(name.removeprefix(stem)) is not None
        ends = f"(?:\\.{_SEQUENCE.pattern})?(?:{'|'.join(map(re.escape, self.extensions))})"
        rest = name.removeprefix(f"{_base(self._filename)}.")
        return rest != name and re.fullmatch(self.suffix_pattern.pattern + ends, rest) is not None

    def interval(self, backup: Backup) -> Interval | None:
        """The interval whose lines the backup holds, None if its name does not tell that for certain.

        **The rule for all code that removes or sorts**: a name tells an interval if that interval has this very name,
        and no other interval has it. Each year has the same `%m-%d`, and each hour of a day has the same `%Y-%m-%d`:
        such backups are made and compressed, but never removed, and the tools say so. See `order` for folds.
        """
        instants = self._schedule.certain_instants(backup.suffix)
        return self._schedule.interval(instants[min(backup.sequence, len(instants) - 1)]) if instants else None

    def interval_near(self, backup: Backup, written: float) -> Interval:
        """The interval of a backup whose last line was written at `written`; a guess if its name does not tell it.

        It informs people and the application. No file may be removed because of it.
        """
        at = self._schedule.interval(written)
        before = self._schedule.interval(at.start - 1)
        return self.interval(backup) or (before if before.suffix == backup.suffix != at.suffix else at)

    def order(self, backup: Backup, interval: Interval | None = None) -> tuple[bool, float, str, int, str]:
        """Sort key: backups in the order of their intervals; first those without a known interval, by suffix.

        `interval` is that of the backup if the caller has it already.

        If a suffix names two intervals, sequence 0 is the first interval and the others are the second, because a
        rollover begins to number at Interval.fold. A part that was numbered in the first interval, for its size, counts
        as one of the second.
        """
        interval = interval or self.interval(backup)
        start = interval.start if interval else 0.0
        return interval is not None, start, backup.suffix, backup.sequence, backup.extension

    def _makes(self, backup: Backup) -> bool:
        """Whether ``path`` makes the backup's name."""
        try:
            directory, _, name = self.path(backup.suffix, backup.sequence, backup.extension).rpartition("/")
            return name == backup.name and self._directory in (None, directory)
        except Exception:  # The namer is the application's. A file that it cannot name is no backup.
            return False

    def _guesses(self, name: str) -> Iterator[Backup]:
        """All possible parts of a name. A namer may put them anywhere, so only remaking the name decides."""
        for extension in self.extensions:
            if name.endswith(extension):
                stem = name.removesuffix(extension)
                if self._namer is None and self._ext_match is None:
                    yield from self._guesses_at_place(name, stem, extension)
                    continue
                for suffix in self._suffixes(stem):
                    yield Backup(name, suffix, 0, extension)
                    for number in _SEQUENCE.findall(stem.replace(suffix, "/", 1)):
                        yield Backup(name, suffix, int(number), extension)

    def _guesses_at_place(self, name: str, stem: str, extension: str) -> Iterator[Backup]:
        """The parts of a default name: the suffix, and a number if there is one, follow the live file's name."""
        if not stem.startswith(self._beginning):
            return
        match = self.suffix_pattern.match(stem, len(self._beginning))
        if match is None or not match[0]:
            return
        rest = stem[match.end() :]
        if not rest:
            yield Backup(name, match[0], 0, extension)
        elif _SEQUENCE_AT_END.fullmatch(rest):
            yield Backup(name, match[0], int(rest[1:]), extension)

    def _suffixes(self, stem: str) -> Iterator[str]:
        """All possible suffixes in a name without its extension."""
        if self._ext_match is None:
            yield from _matches(self.suffix_pattern, stem)
            return
        # Patterns for older Pythons are anchored to the rest after the live file's name, or to a part between dots.
        for text in (stem, stem.removeprefix(f"{_base(self._filename)}."), *stem.split(".")):
            for match in _matches(self._ext_match, text):
                yield match
                yield _SEQUENCE_AT_END.sub("", match)


def spread_of(directory: str, home: str, suffix: str) -> tuple[str, int]:
    """Where to look for the backups of a namer that puts them into directories by date: (directory, levels below it).

    The numbers in the names of the directories tell it. The namer cannot be asked for other dates, because it may make
    their directories.

    Args:
        directory: The directory of the backup of the interval that has `suffix`.
        home: The directory of backups without the namer. Numbers in its path are no dates.
        suffix: A number in the name of a directory is one of a date if it is in this suffix.
    """
    digits = "".join(re.findall("[0-9]+", suffix))
    parts, usual = directory.split("/"), home.split("/")
    for index, part in enumerate(parts):
        dated = any(len(number) > 1 and number in digits for number in re.findall("[0-9]+", part))
        # Never the whole file system.
        if dated and index > 1 and parts[: index + 1] != usual[: index + 1]:
            return "/".join(parts[:index]), len(parts) - index
    return directory, 0


def recognisers_of(own: Names, base: str, zone: datetime.tzinfo | str | None, **arguments: Any) -> list[Names]:
    """The names of the backups of a handler, and of one with another `when` and the default suffix.

    Args:
        own: The names that the handler makes.
        base: The path with which the paths of backups begin.
        zone: As `Schedule` takes it.
        arguments: Other arguments of `Names`.
    """
    return [own, *(Names(base, Schedule(when, tz=zone), **arguments) for when in ("S", "M", "H", "D"))]


def _matches(pattern: re.Pattern[str], text: str) -> Iterator[str]:
    """The matches of the pattern in the text, overlapping ones too, without empty ones."""
    match = pattern.search(text)
    while match:
        if match[0]:
            yield match[0]
        elif match.start() == len(text):
            return  # The next search would find the same empty match again.
        match = pattern.search(text, match.start() + 1)


def _base(path: str) -> str:
    """The path's last part."""
    return path.rpartition("/")[2]
