"""The description of a log for a shipper, and pieces of text that several shippers have in common. Pure."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from rollsafe.errors import ConfigurationError
from rollsafe.tools.shippers.line_formats import LineFormat
from rollsafe.tools.words import printable

ARCHIVES: Final = ("gz", "zst", "xz", "tmp")
"""Endings of files beside a log that no shipper may read; a callable of the application names its own ending."""

MAX_LINE: Final = 1 << 20
"""The length of a line in bytes beyond which shippers cut or drop it."""

LINE: Final = "line"
"""The object that has the fields of a line, where a shipper has fields of its own at the root."""

# A path with another character than these may mean something to a configuration: a pattern of names, a variable, the
# end of a text. Paths of other scripts mean nothing.
_SPECIAL: Final = re.compile(r"""[*?\[\]{}\\$%"'`,\x00-\x1f\x7f]""")


@dataclass(frozen=True)
class ShippedLog:
    """The description of one log for a shipper.

    Attributes:
        name: The tag of its lines; letters, digits and `_`.
        path: The live file.
        line: How its lines are made; None if that is not known, or tells nothing about them.
        by_size: Whether it is rolled over for its size too, which may be several times a second.
        archive_dir: The directory of its backups, if it is not that of the live file.
        archive: The extension of archives that a function of the application makes; "" if there is none.
        namer: Whether a function of the application names the backups.
        nested: Paths of other logs whose names begin as those of its backups do.
        left_out: Sentences that say which part of the log no shipper takes, and why.
        backups: Full paths of backups that rsyslog still has to read (see `catch_up`).
    """

    name: str
    path: str
    line: LineFormat | None = None
    by_size: bool = False
    archive_dir: str | None = None
    archive: str = ""
    namer: bool = False
    nested: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    backups: tuple[str, ...] = ()

    @property
    def endings(self) -> tuple[str, ...]:
        """The endings of files beside it that must not be read."""
        return tuple(dict.fromkeys([*ARCHIVES, *filter(None, [self.archive.removeprefix(".")])]))

    @property
    def with_backups(self) -> list[str]:
        """Patterns of names for the live file and its backups."""
        return [self.path] if self.namer else [self.path, f"{self.backup_base}.*"]

    @property
    def excluded(self) -> list[str]:
        """Patterns of names for files that those match, and that must not be read."""
        if self.namer:
            return []
        others = [pattern for path in self.nested for pattern in (path, f"{path}.*")]
        return [*(f"{self.backup_base}.*.{ending}" for ending in self.endings), *others]

    @property
    def backup_base(self) -> str:
        """The path with which those of its backups begin."""
        return os.path.join(self.archive_dir, os.path.basename(self.path)) if self.archive_dir else self.path

    @property
    def is_special(self) -> bool:
        """Whether a path of it has a character that means something to a configuration."""
        return any(_SPECIAL.search(path) for path in (self.path, self.archive_dir or "", *self.nested, *self.backups))


class LeftOut(NamedTuple):
    """Something that a configuration does not ship."""

    subject: str
    reason: str


@dataclass(frozen=True)
class Destination:
    """The receiver of the lines: a URL such as relp://logs.example.org:2514."""

    scheme: str
    host: str
    port: int
    url: str

    @classmethod
    def read(cls, url: str, schemes: Sequence[str]) -> Destination:
        """Read a URL of one of `schemes`.

        Raises:
            ConfigurationError: It is not one.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            port = None
        if not port or parts.scheme not in schemes or not parts.hostname or _SPECIAL.search(url):
            raise ConfigurationError(
                f"--to {url!r} must be {' or '.join(f'{scheme}://HOST:PORT' for scheme in schemes)}"
            )
        return cls(parts.scheme, parts.hostname, port, url)

    @property
    def address(self) -> str:
        """Host and port as one text; an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Shipper:
    """A log shipper.

    Attributes:
        write: The function that writes its configuration: logs, receiver, directory of positions.
        left_out: Sentences that say which part of a log its configuration leaves out, and why.
        to: The receiver of an example.
        schemes: Those of the URL of a receiver.
        state: The directory in which it stores its positions.
        comment: What begins a comment.
    """

    write: Callable[[Sequence[ShippedLog], Destination, str], list[str]]
    left_out: Callable[[ShippedLog], Iterator[str]]
    to: str
    schemes: tuple[str, ...]
    state: str
    comment: str = "#"


def quoted(text: str) -> str:
    """A string in double quotes, as all of these languages read it."""
    return json.dumps(text, ensure_ascii=False)


def quoted_list(texts: Sequence[str]) -> str:
    """A list of strings on one line."""
    return f"[{', '.join(map(quoted, texts))}]"


def archives_of(log: ShippedLog) -> str:
    """A sentence that says what becomes of archives."""
    if log.namer:
        return "its backups, as a function of the application names them"
    return f"its archives ({', '.join(log.endings)}); their lines were read before, unless the shipper was down"


def zone_of(log: ShippedLog) -> Iterator[str]:
    """A sentence about times without an offset, if the lines have such times."""
    if log.line is None or log.line.time is None or log.line.time.has_offset or log.line.time.zone == "UTC":
        return
    same_zone = "" if log.line.time.zone else "the shipper's machine must be in the same zone, and "
    yield (
        f"the offset of its times: {same_zone}the hour that comes twice in autumn cannot be told from the one before"
        " (utc=True, or a datefmt with %z, avoids that)"
    )


def comments(left_out: Sequence[LeftOut], start: str) -> list[str]:
    """The comment that says what a configuration leaves out."""
    if not left_out:
        return [f"{start} Nothing of these logs is left out."]
    lines = [f"{start} Left out, and why:"]
    for subject, reason in left_out:
        lines.append(f"{start} - {printable(subject)}: {printable(reason)}")
    return lines
