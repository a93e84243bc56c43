"""Which files logrotate rotates, by its configuration (logrotate.conf(5))."""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

PLACES = ("/etc/logrotate.conf", "/etc/logrotate.d")
"""Where the configuration is, as distributions have it."""

_SCRIPT = re.compile(
    r"^\s*(?:prerotate|postrotate|firstaction|lastaction|preremove)\b.*?^\s*endscript\b", re.MULTILINE | re.DOTALL
)
_COMMENT = re.compile(r"^\s*#.*$", re.MULTILINE)
_BLOCK = re.compile(r"([^{}]*)\{[^{}]*\}")
_INCLUDE = re.compile(r"^\s*include\s+(\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Rule:
    """One pattern of files that are rotated, and the file that says so."""

    pattern: str
    source: str

    def matches(self, path: str) -> bool:
        """Whether the pattern takes `path`; as in a shell, `*` does not match a slash."""
        patterns, parts = self.pattern.split("/"), path.split("/")
        return len(patterns) == len(parts) and all(map(fnmatch.fnmatchcase, parts, patterns))


def rules(places: Sequence[str] | None = None) -> list[Rule]:
    """All rules of some configuration files and directories; PLACES by default. What cannot be read is left out."""
    found: dict[Rule, None] = {}
    for place in PLACES if places is None else places:
        for path in _files(place):
            with suppress(OSError):
                with open(path, encoding="utf-8", errors="replace") as file:
                    text = file.read()
                found.update(dict.fromkeys(_rules_of(text, path)))
                for included in _INCLUDE.findall(_SCRIPT.sub("", text)):
                    if included not in (place, os.path.dirname(path)):
                        found.update(dict.fromkeys(rules([included])))
    return list(found)


def _files(place: str) -> list[str]:
    """A file, or the files of a directory."""
    if os.path.isdir(place):
        return [os.path.join(place, name) for name in sorted(os.listdir(place))]
    return [place]


def _rules_of(text: str, source: str) -> Iterator[Rule]:
    """The patterns that stand before a block."""
    bare = _COMMENT.sub("", _SCRIPT.sub("", text))
    for head in _BLOCK.findall(bare):
        for line in head.splitlines():
            try:
                words = shlex.split(line)
            except ValueError:
                words = line.split()
            # Directives for all files stand before blocks too; patterns are absolute paths.
            if words and words[0].startswith("/"):
                yield from (Rule(word, source) for word in words if word.startswith("/"))
