"""The names of backups: make them, recognise them, put them in the order of time. Strings only, no file is touched."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from rollsafe.schedule import Interval, Schedule
from rollsafe.suffixes import reader_of

EXTENSIONS: Final = ("", ".gz", ".zst", ".xz")
# A rolled file that still awaits the application's rotator has its backup name and this.
ROLLED_EXTENSION: Final = ".rolled"

_SEQUENCE: Final = re.compile(r"(?<![0-9])[1-9][0-9]{0,17}(?![0-9])")
_SEQUENCE_AT_END: Final = re.compile(rf"\.{_SEQUENCE.pattern}\Z")


@dataclass(frozen=True, slots=True)
class Backup:
    """What the name of a backup says."""

    name: str
    """The file name, without directory."""
    suffix: str
    """The suffix of its interval, as in :class:`rollsafe.schedule.Interval`."""
    sequence: int
    """Counts the further backups of one suffix: 0 for the first, whose name shows no number."""
    extension: str
    """One of ``Names.extensions``: "" for a plain file, else the compression."""


class Names:
    """The names of the backups of one live file.

    ``filename`` is the path of the live file. ``namer`` is the standard library's: it gets the default path of a backup
    and returns the path to use. ``extMatch`` is the standard library's too: where it matches in a name there may be a
    suffix; None looks for the schedule's own suffixes. ``extension`` is one more that archives may have, beside
    EXTENSIONS. ``directory`` is where the names that are parsed stand, if that says something too: see `within`.
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
        self._schedule: Final = schedule
        self._namer: Final = namer
        self._ext_match: Final = extMatch
        self._directory: Final = directory
        self.suffix_pattern: Final = re.compile(reader_of(schedule.suffix_format).pattern)

    @property
    def live_name(self) -> str:
        """The name of the live file, without directory."""
        return _base(self._filename)

    def path(self, suffix: str, sequence: int = 0, extension: str = "") -> str:
        """The path of a backup. Raises TypeError if the namer returns no str, and whatever the namer raises.

        A namer that was written for the standard library knows no numbers. Where it raises for a default name with a
        number, the number is put behind the name without one.
        """
        try:
            path = self._named(f"{suffix}.{sequence}" if sequence else suffix)
        except Exception:
            if not sequence:
                raise
            path = f"{self._named(suffix)}.{sequence}"
        return path + extension

    def _named(self, ending: str) -> str:
        """What the namer makes of a default name with this ending."""
        default = f"{self._filename}.{ending}"
        path = default if self._namer is None else self._namer(default)
        if not isinstance(path, str):
            raise TypeError(f"namer returned {path!r} for {default!r}; it must return a path as str or PathLike")
        return path

    def within(self, directory: str) -> Names:
        """The same names, where only those count that `path` makes in this very directory.

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
        """What the file name ``name`` says, or None if ``path`` does not make exactly this name.

        A suffix must be that of an interval of the schedule. One that a given ``extMatch`` finds need not.
        """
        strange = None
        for backup in self._guesses(name):
            if self._makes(backup):
                if self._schedule.has(backup.suffix):
                    return backup
                strange = strange or backup
        return strange if self._ext_match is not None else None

    def is_asked_for(self, backup: Backup) -> bool:
        """Whether only the application's `extMatch` says that this is a backup: no interval has its suffix."""
        return self._ext_match is not None and not self._schedule.has(backup.suffix)

    def resembles(self, name: str) -> bool:
        """Whether `name`, which `parse` does not know, has the looks of a backup's: a suffix, but of no interval.

        The suffix stands where it has to, or the application's namer may have put it anywhere.
        """
        if self._namer is not None:
            stem = _base(self._filename).partition(".")[0]
            return name.startswith(stem) and self.suffix_pattern.search(name.removeprefix(stem)) is not None
        ends = f"(?:\\.{_SEQUENCE.pattern})?(?:{'|'.join(map(re.escape, self.extensions))})"
        rest = name.removeprefix(f"{_base(self._filename)}.")
        return rest != name and re.fullmatch(self.suffix_pattern.pattern + ends, rest) is not None

    def interval(self, backup: Backup) -> Interval | None:
        """The interval whose lines it holds, None if its name does not tell that for certain. See `order` for folds.

        **The rule for everything that removes or sorts**: a name tells an interval if the name that is made for that
        interval is this very name, and no other interval has it. `%m-%d` is of each year, and `%Y-%m-%d` of each hour
        of a day: such backups are made and compressed, but never removed, and the tools say so.
        """
        instants = self._schedule.certain_instants(backup.suffix)
        return self._schedule.interval(instants[min(backup.sequence, len(instants) - 1)]) if instants else None

    def interval_near(self, backup: Backup, written: float) -> Interval:
        """The interval of a backup whose last line was written at `written`; a guess where its name does not tell it.

        For telling people. Nothing may be removed by it.
        """
        at = self._schedule.interval(written)
        before = self._schedule.interval(at.start - 1)
        return self.interval(backup) or (before if before.suffix == backup.suffix != at.suffix else at)

    def order(self, backup: Backup) -> tuple[bool, float, str, int, str]:
        """Sort key: backups in the order of the time that they hold, those without a known time first, by suffix.

        Where a suffix names two intervals, sequence 0 is the first and the others are the second, because a rollover
        begins to number at Interval.fold. A backup that was numbered in the first, for its size, counts as the second.
        """
        interval = self.interval(backup)
        start = interval.start if interval else 0.0
        return interval is not None, start, backup.suffix, backup.sequence, backup.extension

    def _makes(self, backup: Backup) -> bool:
        """Whether ``path`` makes the backup's name."""
        try:
            directory, _, name = self.path(backup.suffix, backup.sequence, backup.extension).rpartition("/")
            return name == backup.name and self._directory in (None, directory)
        except Exception:  # the namer is the user's; what it cannot name is not a backup
            return False

    def _guesses(self, name: str) -> Iterator[Backup]:
        """All that ``name`` might say. A namer may put the parts anywhere, so that only remaking the name decides."""
        for extension in self.extensions:
            if name.endswith(extension):
                stem = name.removesuffix(extension)
                for suffix in self._suffixes(stem):
                    yield Backup(name, suffix, 0, extension)
                    for number in _SEQUENCE.findall(stem.replace(suffix, "/", 1)):
                        yield Backup(name, suffix, int(number), extension)

    def _suffixes(self, stem: str) -> Iterator[str]:
        """All that might be the suffix in ``stem``."""
        if self._ext_match is None:
            yield from _matches(self.suffix_pattern, stem)
            return
        # Patterns for older Pythons are anchored to what follows the live file's name, or to a part between dots.
        for text in (stem, stem.removeprefix(f"{_base(self._filename)}."), *stem.split(".")):
            for match in _matches(self._ext_match, text):
                yield match
                yield _SEQUENCE_AT_END.sub("", match)


def spread_of(directory: str, home: str, suffix: str) -> tuple[str, int]:
    """Where to look for the backups of a namer that puts them into directories by date: (directory, levels below it).

    Told by the numbers in the names of directories, because a namer that is asked for other dates may make directories
    for them.

    Args:
        directory: Where the backup of the interval of `suffix` goes.
        home: Where backups go without the namer, whose own parts are no dates.
        suffix: What the numbers are looked for in.
    """
    digits = "".join(re.findall("[0-9]+", suffix))
    parts, usual = directory.split("/"), home.split("/")
    for index, part in enumerate(parts):
        dated = any(len(number) > 1 and number in digits for number in re.findall("[0-9]+", part))
        # Never all of the file system.
        if dated and index > 1 and parts[: index + 1] != usual[: index + 1]:
            return "/".join(parts[:index]), len(parts) - index
    return directory, 0


def recognisers_of(own: Names, base: str, zone: datetime.tzinfo | str | None, **arguments: Any) -> list[Names]:
    """What tells the backups of a handler, and those of one with another `when` and the default suffix.

    Args:
        own: The names that the handler makes.
        base: Path that backup names begin with.
        zone: As `Schedule` takes it.
        arguments: More for `Names`.
    """
    return [own, *(Names(base, Schedule(when, tz=zone), **arguments) for when in ("S", "M", "H", "D"))]


def _matches(pattern: re.Pattern[str], text: str) -> Iterator[str]:
    """What the pattern matches in the text, overlapping matches too; nothing empty."""
    match = pattern.search(text)
    while match:
        if match[0]:
            yield match[0]
        elif match.start() == len(text):
            return  # it would be found there for ever
        match = pattern.search(text, match.start() + 1)


def _base(path: str) -> str:
    """The path's last part."""
    return path.rpartition("/")[2]
