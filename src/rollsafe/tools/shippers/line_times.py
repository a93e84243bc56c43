"""The time in a line: how it is written, as a regular expression and as a layout of Go. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

# Directive of strftime(3) -> what it looks like, and what Go's time package calls it. `%L` is a fraction of three
# digits, `%:z` an offset with a colon: rollsafe's own lines have both, and strftime has neither.
_DIRECTIVES: Final = {
    "Y": (r"\d{4}", "2006"),
    "m": (r"\d\d", "01"),
    "d": (r"\d\d", "02"),
    "b": (r"\w{3}", "Jan"),
    "a": (r"\w{3}", "Mon"),
    "e": (r"[ \d]\d", "_2"),
    "H": (r"\d\d", "15"),
    "M": (r"\d\d", "04"),
    "S": (r"\d\d", "05"),
    "L": (r"\d{3}", "000"),
    "z": (r"[+-]\d{4}", "-0700"),
    ":z": (r"(?:Z|[+-]\d\d:\d\d)", "Z07:00"),
}
_SHORT: Final = {"%F": "%Y-%m-%d", "%T": "%H:%M:%S"}
_DIRECTIVE: Final = re.compile(r"%(:?\w|%)")
# Of these, an instant needs one each; the names of months are those of the C locale.
_NEEDED: Final = ("Y", "bm", "d", "H", "M", "S")

DEFAULT: Final = "%Y-%m-%d %H:%M:%S,%L"
"""`asctime` without a `datefmt`."""
ACCESS: Final = "%d/%b/%Y:%H:%M:%S %z"
"""gunicorn's access lines."""
CTIME: Final = "%a %b %e %H:%M:%S %Y"
"""uWSGI's lines of requests, as ctime(3) writes it."""
ISO: Final = "%Y-%m-%dT%H:%M:%S.%L%:z"
"""JSON lines of `rollsafe.json_lines.JSONFormatter`."""
ISO_SECONDS: Final = "%Y-%m-%dT%H:%M:%S%:z"
"""JSON lines of other formatters, without a fraction."""


@dataclass(frozen=True)
class LineTime:
    """The time of a line.

    Attributes:
        field: The field that has it.
        layout: How it is written: directives of strftime(3), and `%L` and `%:z`.
        zone: The zone of a time without an offset: a name such as "Europe/Paris", or None for that of the machine.
    """

    field: str
    layout: str
    zone: str | None = None

    @property
    def has_offset(self) -> bool:
        """Whether the line itself has the offset of its zone."""
        return "%z" in self.layout or "%:z" in self.layout

    @property
    def go(self) -> str:
        """The layout as the Go language has it (https://pkg.go.dev/time#pkg-constants).

        After the seconds, Go takes a fraction of any length if the layout has none there.
        """
        return _DIRECTIVE.sub(lambda found: _DIRECTIVES[found[1]][1], self.layout.replace("%S.%L", "%S"))

    def written(self, **replaced: str) -> str:
        """The layout with other directives for some of these, by name; `z_colon` stands for `%:z`."""
        names = {"z_colon" if name == ":z" else name: name for name in _DIRECTIVES}
        text = self.layout
        for name, directive in replaced.items():
            text = text.replace(f"%{names[name]}", directive)
        return text


def pattern_of(layout: str) -> str:
    """A regular expression for times of a layout."""
    parts = []
    end = 0
    for found in _DIRECTIVE.finditer(layout):
        parts += [escaped(layout[end : found.start()]), _DIRECTIVES[found[1]][0]]
        end = found.end()
    return "".join([*parts, escaped(layout[end:])])


def escaped(text: str) -> str:
    """A regular expression for a text. Python escapes blanks and dashes, too, which nobody else needs."""
    return re.escape(text).replace(r"\ ", " ").replace(r"\-", "-")


def readable_layout(datefmt: str) -> str | None:
    """The layout of a `datefmt` of `logging`, None if shippers cannot read an instant from its times."""
    layout = datefmt
    for short, long in _SHORT.items():
        layout = layout.replace(short, long)
    found = [match[1] for match in _DIRECTIVE.finditer(layout)]
    known = all(name in _DIRECTIVES and name not in ("L", ":z") for name in found)
    # A literal digit or letter may be part of a layout of Go: "T" and "Z" are none.
    literal = _DIRECTIVE.sub("", layout)
    is_plain = re.fullmatch(r"[-/:., T\[\]]*", literal) is not None
    is_instant = all(sum(name in needed for name in found) == 1 for needed in _NEEDED)
    return layout if known and is_plain and is_instant else None
