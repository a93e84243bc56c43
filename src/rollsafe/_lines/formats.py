"""Functions made of the format strings of `logging`: one f-string instead of a `%` over the record's dictionary.

Pure. `logging` itself formats everything for which an f-string would not give exactly the same result.
"""

from __future__ import annotations

import keyword
import re
import string
from collections.abc import Callable, Iterator, Mapping
from logging import LogRecord
from typing import Any

Compiled = Callable[[LogRecord], str]

_PERCENT = re.compile(r"%(?:(?P<escaped>%)|\((?P<name>\w+)\)(?P<how>[#0+ -]*\d*(?:\.\d+)?[diouxXeEfFgGcrsa]))")
_DOLLAR = string.Template.pattern
# The format specifications of `str.format` without quotes, backslashes and nested fields, which the source cannot have.
_SPECIFICATION = re.compile(r"[\w <>=^+\-#,.%*/:]*", re.ASCII)

_CONVERSIONS = (None, "r", "s", "a")

Part = str | tuple[str, str]
"""Literal text, or a field: its name, and the text after it in the f-string, or its %-conversion."""


def compile_format(fmt: str, style: str, defaults: Mapping[str, Any]) -> Compiled | None:
    """The function that gives the same text as `logging` with `fmt`, or None if that needs `logging` itself.

    Fields are attributes of the record; `message` and `asctime` must be made before. The function raises AttributeError
    if one is missing.

    Args:
        fmt: A format string.
        style: "%", "{" or "$".
        defaults: Values for fields that a record lacks; read for each record, because they may change.
    """
    try:
        parts = parts_of(fmt, style)
    except ValueError:
        return None
    names: dict[str, Any] = {"__builtins__": {}, "getattr": getattr, "defaults": defaults}
    source = []
    for part in parts:
        if isinstance(part, str):
            source.append(part.replace("{", "{{").replace("}", "}}"))
            continue
        field, how = part
        if not _is_plain(field):
            return None
        value = f"record.{field}"
        if field in defaults:
            names[name := f"name{len(names)}"] = field
            value = f"getattr(record, {name}, defaults[{name}])"
        if how.startswith("%"):
            names[f"how{len(names)}"], value, how = how, f"how{len(names)} % ({value},)", ""
        source.append(f"{{{value}{how}}}")
    # repr() quotes the literal text; the fields between have no character that it would change.
    try:
        function: Compiled = eval(f"lambda record: f{''.join(source)!r}", names)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        # `logging` accepts some formats until a record comes (validate=False); others have too many fields to compile.
        return None
    return function


def parts_of(fmt: str, style: str) -> list[Part]:
    """The literal text and the fields of a format string, in their order.

    Args:
        fmt: A format string.
        style: "%", "{" or "$".

    Raises:
        ValueError: It has a part that is neither.
    """
    return list({"%": _percent_parts, "{": _brace_parts, "$": _dollar_parts}[style](fmt))


def _is_plain(field: str) -> bool:
    """Whether `field` can be read as an attribute of the record that its class does not have."""
    return field.isidentifier() and not keyword.iskeyword(field) and not hasattr(LogRecord, field)


def _percent_parts(fmt: str) -> Iterator[Part]:
    """The parts of a %-format; ValueError if it has a `%` that the documentation of `logging` does not explain."""
    end = 0
    for match in _PERCENT.finditer(fmt):
        yield _without("%", fmt[end : match.start()])
        end = match.end()
        if match["escaped"]:
            yield "%"
        else:
            yield match["name"], "!s" if match["how"] == "s" else f"%{match['how']}"
    yield _without("%", fmt[end:])


def _brace_parts(fmt: str) -> Iterator[Part]:
    """The parts of a {-format; ValueError if a field is not a plain one."""
    for literal, field, specification, conversion in string.Formatter().parse(fmt):
        yield literal
        if field is not None:
            if not _SPECIFICATION.fullmatch(specification or "") or conversion not in _CONVERSIONS:
                raise ValueError(field)
            yield field, (f"!{conversion}" if conversion else "") + (f":{specification}" if specification else "")


def _dollar_parts(fmt: str) -> Iterator[Part]:
    """The parts of a $-format; ValueError if it has a `$` that `string.Template` refuses."""
    end = 0
    for match in _DOLLAR.finditer(fmt):
        yield fmt[end : match.start()]
        end = match.end()
        if match["invalid"] is not None:
            raise ValueError(match[0])
        yield "$" if match["escaped"] else (match["named"] or match["braced"], "!s")
    yield fmt[end:]


def _without(char: str, literal: str) -> str:
    """`literal`, or a ValueError if `char` is in it."""
    if char in literal:
        raise ValueError(literal)
    return literal
