"""The files that logrotate rotates, by its configuration (logrotate.conf(5))."""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

PLACES = ("/etc/logrotate.conf", "/etc/logrotate.d")
"""The places where distributions have the configuration."""

# Endings of files that logrotate leaves out of a directory that it includes (logrotate.conf(5), "tabooext").
_TABOO = (
    *(",v", ".bak", ".cfsaved", ".disabled", ".rpmnew", ".rpmorig", ".rpmsave", ".swp", "~"),
    *(".dpkg-bak", ".dpkg-del", ".dpkg-dist", ".dpkg-new", ".dpkg-old", ".dpkg-tmp"),
    *(".ucf-dist", ".ucf-new", ".ucf-old"),
)

_SCRIPT = re.compile(
    r"^\s*(?:prerotate|postrotate|firstaction|lastaction|preremove)\b.*?^\s*endscript\b", re.MULTILINE | re.DOTALL
)
_COMMENT = re.compile(r"^\s*#.*$", re.MULTILINE)
_BLOCK = re.compile(r"([^{}]*)\{[^{}]*\}")
_INCLUDE = re.compile(r"^\s*include\s+(\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Rule:
    """One pattern of files that are rotated, and the configuration file that has it."""

    pattern: str
    source: str

    def matches(self, path: str) -> bool:
        """Whether the pattern takes `path`; as in a shell, `*` does not match a slash."""
        patterns, parts = self.pattern.split("/"), path.split("/")
        return len(patterns) == len(parts) and all(map(fnmatch.fnmatchcase, parts, patterns))


def rules(places: Sequence[str] | None = None, refused: list[str] | None = None) -> list[Rule]:
    """All rules of some configuration files and directories; PLACES by default.

    Args:
        places: Full paths.
        refused: Gets the paths of those that may not be read.
    """
    found: dict[Rule, None] = {}
    waiting = list(PLACES if places is None else places)
    read: set[str] = set()
    while waiting:
        try:
            for path in _files(waiting.pop(0)):
                if path not in read:
                    read.add(path)
                    text = _text_of(path)
                    found.update(dict.fromkeys(_rules_of(text, path)))
                    waiting += _INCLUDE.findall(_SCRIPT.sub("", text))
        except PermissionError as error:
            if refused is not None:
                refused.append(str(error.filename))
    return list(found)


def _files(place: str) -> list[str]:
    """A file, or the files of a directory that logrotate reads."""
    if os.path.isdir(place):
        return [os.path.join(place, name) for name in sorted(os.listdir(place)) if not name.endswith(_TABOO)]
    return [place]


def _text_of(path: str) -> str:
    """The text of a regular file; "" if there is none.

    Raises:
        PermissionError: It may not be read.
    """
    if not os.path.isfile(path) and os.path.lexists(path):
        return ""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except PermissionError:
        raise
    except OSError:
        return ""


def _rules_of(text: str, source: str) -> Iterator[Rule]:
    """The patterns before a block."""
    bare = _COMMENT.sub("", _SCRIPT.sub("", text))
    for head in _BLOCK.findall(bare):
        for line in head.splitlines():
            try:
                words = shlex.split(line)
            except ValueError:
                words = line.split()
            words = [os.path.expanduser(word) for word in words]
            # Directives for all files also stand before blocks, but patterns are absolute paths.
            if words and words[0].startswith("/"):
                yield from (Rule(word, source) for word in words if word.startswith("/"))
