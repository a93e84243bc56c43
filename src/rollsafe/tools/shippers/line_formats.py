"""How the lines of a log are made, and so how a shipper takes them apart. Pure.

A pattern has the syntax that RE2, Rust, Onigmo, Python and ECMAScript have in common, but for the name of a group. No
pattern can be matched in more than a few ways by one line, so that a client who chooses parts of an access line does
not keep a backtracking engine busy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from rollsafe._lines.formats import parts_of
from rollsafe._lines.stamps import FIELD
from rollsafe.formatters import escape
from rollsafe.tools.shippers.line_times import ACCESS, CTIME, DEFAULT, LineTime, escaped, pattern_of, readable_layout

COMBINED: Final = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'
"""gunicorn's own access_log_format."""
CELERY: Final = "%(asctime)s [%(process)d] [%(levelname)s] %(task_name)s[%(task_id)s] %(name)s: %(message)s"
"""The format of `rollsafe.celery`, which is not imported here because it needs Celery."""
LEVEL: Final = "levelname"
MESSAGE: Final = "message"

GROUP: Final = "(?P<{}>{})"
"""A group with a name in RE2, Rust and Python."""


@dataclass(frozen=True)
class Field:
    """A field in a line: its name, and its pattern; without a name, characters that nobody wants, such as blanks."""

    name: str
    looks: str


# Patterns of those fields that cannot be just any text. A field that a record lacks is a dash.
_LOOKS: Final = {
    "process": r"\d+|-",
    "thread": r"\d+|-",
    "lineno": r"\d+|-",
    "levelno": r"\d+",
    # A level without a name is "Level 15".
    LEVEL: r"\w+(?: \d+)?",
    "name": r"\S+?",
    "request_id": r"\S+?",
    "trace_id": r"\S+?",
    MESSAGE: r".*",
    FIELD: r"~[0-9a-v.~]*",
}
# Of a formatter that does not escape newlines: no line of a traceback may look like one with a level.
_CAPITAL_LEVEL: Final = r"[A-Z]+|Level \d+"
_TEXT: Final = r".*?"
_BLANKS: Final = Field("", " *")
_WIDTH: Final = re.compile(r"[1-9]")
# Conversions that change nothing but the width, and the form of a whole number.
_KEEPS: Final = re.compile(r"[%!:]?[<>-]?\d*[sd]?")

_ATOM: Final = re.compile(r"%%|%\((?P<name>(?:[^()]|\([^()]*\))*)\)(?P<how>[#0\- +]*\d*(?:\.\d*)?[a-zA-Z])")
_HEADER: Final = re.compile(r"\{(?P<name>.*)\}(?P<kind>[ioe])", re.DOTALL)
# gunicorn's atoms: the name of the field, which is that of JSON access lines where they have it, and its pattern. An
# address is empty if the client came by a Unix socket; a user's name may have spaces.
_ATOMS: Final = {
    "h": ("remote_addr", r"\S*"),
    "l": ("ident", r"\S+"),
    "u": ("remote_user", _TEXT),
    "t": ("time", pattern_of(ACCESS)),
    "r": ("request", _TEXT),
    "m": ("method", r"\S*"),
    "U": ("path", _TEXT),
    "q": ("query", r"\S*"),
    "H": ("protocol", r"\S*"),
    "s": ("status", r"\d+"),
    "b": ("bytes", r"\d+|-"),
    "B": ("bytes", r"\d+|None"),
    "f": ("referer", _TEXT),
    "a": ("user_agent", _TEXT),
    "T": ("duration_s", r"\d+"),
    "M": ("duration_ms", r"\d+"),
    "D": ("duration_us", r"\d+"),
    "L": ("duration", r"\d+\.\d+"),
    "p": ("process", r"\d+"),
}
# gunicorn writes a quote in a value as \", but a backslash as it is. So a value that ends in a backslash seems to end
# later; the last part takes it.
_IN_QUOTES: Final = r'(?:[^"\\]|\\.)*'
_MAY_END_IN_BACKSLASH: Final = r"\\?"


@dataclass(frozen=True)
class LineFormat:
    """How the lines of a log are made.

    Attributes:
        parts: Literal text and fields, in their order; of a JSON line, only its known fields.
        is_json: Whether a line is a JSON object.
        time: The time of a line, if a shipper can read it.
        level: The field with the name of the level, if there is one.
    """

    parts: tuple[str | Field, ...]
    is_json: bool = False
    time: LineTime | None = None
    level: str | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of its fields, each once."""
        return tuple(dict.fromkeys(part.name for part in self.parts if isinstance(part, Field) and part.name))

    def pattern(self, group: str = GROUP) -> str:
        """A regular expression for its lines, with a group for each field where it stands first."""
        seen: set[str] = set()
        texts = []
        for part in self.parts:
            if isinstance(part, str):
                texts.append(escaped(part))
            elif not part.name or part.name in seen:
                texts.append(f"(?:{part.looks})")
            else:
                texts.append(group.format(part.name, part.looks))
                seen.add(part.name)
        return f"^{''.join(texts)}$"


def uwsgi_format(*, stamped: bool) -> LineFormat:
    """The format of uWSGI's lines of requests without a `log-format` (core/logging.c, uwsgi_logit_simple).

    Args:
        stamped: Whether a stamp follows.
    """
    parts = (
        *("[pid: ", Field("process", r"\d+"), "|app: ", Field("", r"-?\d+"), "|req: ", Field("", r"-?\d+/\d+"), "] "),
        *(
            Field("remote_addr", r"\S*"),
            " (",
            Field("remote_user", r"[^)]*"),
            ") {",
            Field("", r"\d+ vars in \d+ bytes"),
        ),
        *("} [", Field("time", pattern_of(CTIME)), "] ", Field("method", r"\S*"), " ", Field("uri", r"\S*")),
        *(" => generated ", Field("bytes", r"\d+"), " bytes in ", Field("duration_ms", r"\d+"), " msecs "),
        *(Field("", r"(?:via \w+\(\) )?"), "(", Field("protocol", r"\S*"), " ", Field("status", r"\d+"), ") "),
        *(Field("", r"\d+ headers in \d+ bytes"), " (", Field("", r"\d+ switches on core -?\d+"), ")"),
        *((" ", Field(FIELD, _LOOKS[FIELD])) if stamped else ()),
    )
    return LineFormat(parts, time=LineTime("time", CTIME))


def text_format(
    fmt: str,
    style: str = "%",
    datefmt: str | None = None,
    zone: str | None = None,
    *,
    access: str | None = None,
    escapes: bool = True,
) -> LineFormat | None:
    """The format of lines that a `logging.Formatter` makes; None if the format tells nothing about a line.

    Args:
        fmt: As for the formatter; also `style` and `datefmt`.
        style: "%", "{" or "$".
        datefmt: None is that of `logging`.
        zone: The zone of `asctime`; None for that of the machine.
        access: The access_log_format that makes the message; None if something else makes it.
        escapes: Whether control characters are escaped, also in the literal text.
    """
    try:
        given = parts_of(fmt, style)
    except (ValueError, KeyError):
        return None
    layout = DEFAULT if datefmt is None else readable_layout(datefmt)
    if escapes:
        given = [escape(part) if isinstance(part, str) else part for part in given]
    elif any("\n" in part for part in given if isinstance(part, str)):
        return None
    parts: list[str | Field] = []
    is_whole = True
    for part in given:
        if isinstance(part, str):
            parts.append(part)
        elif part[0] == MESSAGE and access is not None:
            parts += _access_parts(access)
        else:
            is_whole = is_whole and not (part[0] == "asctime" and _is_cut(part[1]))
            parts += _field_parts(part, layout)
    if not escapes:
        parts = [
            replace(part, looks=_CAPITAL_LEVEL) if isinstance(part, Field) and part.name == LEVEL else part
            for part in parts
        ]
    made = _last_takes_all(_joined(parts))
    names = [part.name for part in made if isinstance(part, Field)]
    if not set(names) - {MESSAGE}:
        return None
    time = None
    if "asctime" in names and is_whole and layout is not None:
        time = LineTime("asctime", layout, zone)
    elif "time" in names and access is not None:
        time = LineTime("time", ACCESS)
    return LineFormat(tuple(made), time=time, level=LEVEL if LEVEL in names else None)


def json_format(fields: Sequence[str], time: LineTime | None, level: str | None) -> LineFormat:
    """The format of lines that are JSON objects."""
    return LineFormat(tuple(Field(name, _TEXT) for name in fields), is_json=True, time=time, level=level)


def _is_cut(how: str) -> bool:
    """Whether a conversion may shorten its value, or change it."""
    return not _KEEPS.fullmatch(how) or how.endswith("d")


def _field_parts(part: tuple[str, str], layout: str | None) -> Iterator[str | Field]:
    """The field of a record, with blanks where it has a width."""
    name, how = part
    looks = _LOOKS.get(name, _TEXT)
    if name == "asctime" and layout is not None and not _is_cut(how):
        looks = pattern_of(layout)
    elif name == "levelprefix":
        # uvicorn's: the level, a colon, and blanks up to a width.
        yield from (Field(LEVEL, r"\w+"), ":", _BLANKS)
        return
    elif not _KEEPS.fullmatch(how):
        looks = _TEXT
    blanks = [_BLANKS] if _WIDTH.search(how) else []
    yield from (*blanks, Field(name, looks), *blanks)


def _access_parts(access_log_format: str) -> Iterator[str | Field]:
    """The parts of gunicorn's access_log_format."""
    end = 0
    for found in _ATOM.finditer(access_log_format):
        yield access_log_format[end : found.start()]
        end = found.end()
        if found["name"] is None:
            yield "%"
            continue
        before = access_log_format[: found.start()]
        name, looks = _atom(found["name"])
        if before.endswith('"') and access_log_format[end : end + 1] == '"' and looks == _TEXT:
            looks = _IN_QUOTES + ("" if name == "request" else _MAY_END_IN_BACKSLASH)
        brackets = {"t": "[]", "p": "<>"}.get(found["name"], "")
        blanks: list[str | Field] = [_BLANKS] if _WIDTH.search(found["how"]) else []
        yield from (*blanks, brackets[:1], Field(name, looks), brackets[1:], *blanks)
    yield access_log_format[end:]


def _atom(atom: str) -> tuple[str, str]:
    """The name and the pattern of the field that an atom gives."""
    header = _HEADER.fullmatch(atom)
    if header is not None:
        name = re.sub(r"[^a-z0-9]+", "_", header["name"].lower()).strip("_") or "header"
        # The id of a request, wherever it is found.
        if name in ("x_request_id", "rollsafe_request_id"):
            return "request_id", _TEXT
        return (f"response_{name}" if header["kind"] == "o" else name), _TEXT
    return _ATOMS.get(atom, ("unknown", _TEXT))


def _joined(parts: Sequence[str | Field]) -> list[str | Field]:
    """The same parts without empty text, and neighbouring texts as one."""
    joined: list[str | Field] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        elif part != "":
            joined.append(part)
    return joined


def _last_takes_all(parts: list[str | Field]) -> list[str | Field]:
    """The same parts; the last field, if it is in quotes that end the line, ends there and nowhere before."""
    if len(parts) > 1 and parts[-1] == '"':
        last = parts[-2]
        if isinstance(last, Field) and last.looks.startswith(_IN_QUOTES):
            return [*parts[:-2], replace(last, looks=".*"), '"']
    return parts
