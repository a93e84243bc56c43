r"""Sizes, durations, times and counts in words, for people; and text of others in characters that do nothing.

Names of files and directories, what stands in a lock file, and the lines of a log are written by others. A terminal
obeys some characters in them (ESC begins a command, a carriage return hides what stands before it, U+202E turns the
direction of the text), and a newline in a name begins a line that we did not say. **So whatever comes from a disk goes
through `printable` before it goes to a person.** Pure, but for the local zone.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence

# Controls of C0 and C1, marks that cannot be seen or turn the direction (Unicode Standard Annex 9), tags, line and
# paragraph separator, and lone surrogates: so Python has bytes that the encoding does not know (PEP 383). Left alone
# are the two joiners, of which words and emoji are made.
_UNSEEN = (
    "\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f"
)
_TO_ESCAPE = re.compile(f"[{_UNSEEN}]")
_TO_ESCAPE_IN_LINE = re.compile(rf"(?!\t|\r?\n\Z)[{_UNSEEN}]")
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def printable(text: str) -> str:
    r"""Return `text` with each character that cannot be seen, or does something, as an escape such as ``\x1b``."""
    return text if text.isprintable() else _TO_ESCAPE.sub(_escaped, text)


def printable_line(line: bytes, encoding: str) -> bytes:
    r"""Return a line of a log, for a terminal of this `encoding`: as `printable`, but tabs and the line's end stay."""
    text = line.decode(encoding, "surrogateescape")
    return _TO_ESCAPE_IN_LINE.sub(_escaped, text).encode(encoding, "backslashreplace")


def _escaped(match: re.Match[str]) -> str:
    """The escape of one character; of a byte that is no character, that of the byte."""
    char = match[0]
    if char in _SHORT:
        return _SHORT[char]
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def size_text(size: float) -> str:
    """A number of bytes in words: binary units, as retention is given in."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} TiB"


def duration_text(seconds: float) -> str:
    """A duration in its two largest units."""
    left, parts = round(seconds), []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def clock_text(instant: float, zone: datetime.tzinfo | None = None) -> str:
    """An instant (seconds since the epoch) as the wall clock of a zone; None is the local one."""
    return datetime.datetime.fromtimestamp(instant, zone).strftime("%Y-%m-%d %H:%M:%S")


def plural(number: int, noun: str, ending: str = "s") -> str:
    """A number and its noun, in the plural unless the number is 1."""
    return f"{number:,} {noun}{'' if number == 1 else ending}"


MISSING_PACKAGES = "rollsafe: the command needs click, Jinja2 and rich; install them with: pip install 'rollsafe[cli]'"
DOUBTED_CLOCK = (
    "none is removed for its age: all files were last written longer ago than max_age, or only a moment ago, so the"
    " clock may be wrong; a process that logs removes them when its clock has been right for ten minutes"
)


def uncertain_words(paths: Sequence[str], most: int = 3) -> str:
    """A sentence that files which look like backups stay, and why."""
    files = [path.rpartition("/")[2] for path in paths]
    left = f" and {plural(len(files) - most, 'other')}" if len(files) > most else ""
    one = len(files) == 1
    return (
        f"{plural(len(files), 'file')} {'looks like a backup' if one else 'look like backups'} of this log, but"
        f" {'its name does' if one else 'their names do'} not belong for certain to one interval that is over; no limit"
        f" removes {'it' if one else 'them'}: {', '.join(files[:most])}{left}"
    )
