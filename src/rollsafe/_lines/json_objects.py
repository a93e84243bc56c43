"""Functions made of the fields of a JSON object: one join of its parts instead of a dictionary and its encoder.

Pure. The text is that of `json.dumps` with its usual separators. python-json-logger itself makes every object for which
the text would not be exactly the same.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from itertools import filterfalse
from math import inf
from typing import Any, NamedTuple

Encode = Callable[[Any], str]
"""A value -> its JSON text."""
Make = Callable[[dict[str, Any], str, str], str]
"""(attributes of a record, text of its time, text of further fields) -> the object."""

# The fields of every record whose values are texts, as good as always.
_TEXTS = frozenset({"filename", "funcName", "levelname", "message", "module", "name", "pathname"})
Further = list[tuple[str, str]]
"""Fields that the format does not name: the text up to its value, and the name of the attribute."""

STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}
"""The fields that each record has."""
# For bytes.translate: it returns the same object if it has only characters that stand for themselves in a JSON string.
# Not DEL, because `json.dumps` escapes it if `ensure_ascii` is set.
_KEEP_PLAIN = bytes(byte if 0x20 <= byte < 0x7F and byte not in b'"\\' else 0 if byte else 1 for byte in range(256))


# How many names of further fields are kept. An application that makes up names would fill the memory.
_KNOWN_NAMES = 500


class Field(NamedTuple):
    """A field whose value an attribute of the record has; a KeyError if the record lacks it."""

    name: str


class OptionalField(NamedTuple):
    """The same, and the value of a mapping for a record that lacks the attribute; null if the mapping lacks it, too."""

    name: str
    otherwise: Mapping[str, Any]


class Entry(NamedTuple):
    """A field whose value a mapping has; it is read for each record, because it may change."""

    mapping: Mapping[str, Any]
    name: str


class Made(NamedTuple):
    """A field whose JSON text a function makes of the attributes of the record."""

    text: Callable[[dict[str, Any]], str]


class Time(NamedTuple):
    """The field with the text of the time."""

    is_quoted: bool
    """Whether the text is JSON already; else it has no character that needs an escape."""


Source = str | Field | OptionalField | Entry | Made | Time
"""The JSON text of a value that never changes, or where the value of a field comes from."""


class Options(NamedTuple):
    """The options of a formatter of python-json-logger that decide about the fields of an object."""

    required: Sequence[str]
    """The fields of its format."""
    renamed: Mapping[str, str]
    static: Mapping[str, Any]
    defaults: Mapping[str, Any]


def fields_of(
    options: Options,
    reserved: Container[str],
    encode: Encode,
    time: Time,
    timestamp: str | None,
    stamp: Callable[[dict[str, Any]], str],
    *,
    keep_missing: bool,
) -> tuple[dict[str, Source], dict[str, Source]] | None:
    """The fields of an object in their order, those before and those after the attributes that no field names.

    None if two of them would have the same name in the object, or one has a name that is no string.

    Args:
        options: The options.
        reserved: The attributes that no object shows unless a field names them.
        encode: A value -> its JSON text.
        time: What the text of `asctime` is.
        timestamp: The field with the time of the record in UTC, None for none.
        stamp: Makes its JSON text.
        keep_missing: Whether each new name of a field is in the object.
    """
    required, renamed, static, defaults = options
    before: dict[str, Source] = {}
    after: dict[str, Source] = {}

    def add(name: str, source: Source, fields: dict[str, Source] = before) -> None:
        """Add a field under its new name."""
        key = renamed.get(name, name)
        if type(key) is not str or key in before or key in after:
            raise LookupError(key)
        fields[key] = source

    try:
        for name in dict.fromkeys((*defaults, *required)):
            if name == "asctime" and name in required:
                add(name, time)
            elif name in required or not (name in reserved or name.startswith("_")):
                add(name, OptionalField(name, defaults) if name in defaults or name not in STANDARD else Field(name))
            else:
                add(name, Entry(defaults, name))
        for name, value in static.items():
            add(name, encode(value) if type(value) is str else Entry(static, name))
        if timestamp is not None:
            add(timestamp, Made(stamp), after)
    except (AttributeError, LookupError, TypeError):
        return None
    if keep_missing:
        after |= {name: "null" for name in renamed.values() if name not in before and name not in after}
    return before, after


def compile_object(
    prefix: str, before: Mapping[str, Source], after: Mapping[str, Source], quote: Callable[[str], str], encode: Encode
) -> Make | None:
    """The function that makes the objects with these fields; None if it cannot be compiled.

    It raises an exception for a record that lacks a `Field`, or where one that should be a text is none.

    Args:
        prefix: Text before the object.
        before, after: The fields before and after the further ones, by their names in the object.
        quote: A string -> its JSON text.
        encode: A value -> its JSON text.
    """
    if not before:
        return None
    names: dict[str, Any] = {"__builtins__": {}, "join": "".join, "type": type, "int": int, "repr": repr}
    names |= {"str": str, "quote": quote, "encode": encode, "KEEP_PLAIN": _KEEP_PLAIN}
    texts: list[str] = []
    # The same object twice: if no text needs an escape, and otherwise.
    plain, exact = _Parts(), _Parts()

    def add(start: str, name: str, source: Source) -> None:
        """Add a field, and what stands before it, to both."""
        for parts in (plain, exact):
            parts.add_literal(f"{start}{quote(name)}: ")
        if isinstance(source, str):
            for parts in (plain, exact):
                parts.add_literal(source)
        elif isinstance(source, Field) and source.name in _TEXTS:
            texts.append(f"text{len(texts)} := attributes[{source.name!r}]")
            variable = f"text{len(texts) - 1}"
            plain.add_literal('"')
            plain.append(variable)
            plain.add_literal('"')
            exact.append(f"encode({variable})")
        elif isinstance(source, Time) and not source.is_quoted:
            for parts in (plain, exact):
                parts.add_literal('"')
                parts.append("time")
                parts.add_literal('"')
        else:
            for parts in (plain, exact):
                parts.append(_expression(source, names))

    for number, (name, source) in enumerate(before.items()):
        add(", " if number else f"{prefix}{{", name, source)
    for parts in (plain, exact):
        parts.append("more")
    for name, source in after.items():
        add(", ", name, source)
    for parts in (plain, exact):
        parts.add_literal("}")
    code = exact.joined()
    if texts:
        check = f"(chars := join(({', '.join(texts)},))).isascii() and (line := chars.encode()).translate(KEEP_PLAIN)"
        code = f"{plain.joined()} if {check} is line else {code}"
    try:
        function: Make = eval(f"lambda attributes, time, more: {code}", names)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        # Too many fields to compile.
        return None
    return function


class _Parts(list[str]):
    """Expressions whose texts make up an object."""

    _literal = ""

    def add_literal(self, text: str) -> None:
        """Add a text as it is, to the one before it if that is a literal, too."""
        if self and self[-1] == repr(self._literal):
            text = self._literal + text
            self.pop()
        self.append(repr(text))
        self._literal = text

    def joined(self) -> str:
        """One expression for all."""
        return f"join(({', '.join(self)}))"


def _expression(source: Source, names: dict[str, Any]) -> str:
    """The expression for the JSON text of a value; objects that it needs are added to `names`."""

    def named(thing: object) -> str:
        """The name of an object in the expression."""
        names[name := f"name{len(names)}"] = thing
        return name

    match source:
        case Field(field):
            return f"repr(value) if type(value := attributes[{field!r}]) is int else encode(value)"
        case OptionalField(field, otherwise):
            value = f"attributes[{field!r}] if {field!r} in attributes else {named(otherwise.get)}({field!r})"
            return f"quote(value) if type(value := {value}) is str else 'null' if value is None else encode(value)"
        case Entry(mapping, name):
            return f"encode({named(mapping)}[{name!r}])"
        case Made(text):
            return f"{named(text)}(attributes)"
    return "time"


class FurtherFields:
    """The attributes that were given to a record by `extra` or a filter, as fields of its object.

    Args:
        shown: Attributes that the object has although the format does not name them.
        taken: The names in the object.
        renamed: The name in the object for that of an attribute.
        encode: A value -> its JSON text.
    """

    def __init__(
        self, shown: Container[str], taken: Container[str], renamed: Mapping[str, str], encode: Encode
    ) -> None:
        self._shown = shown
        self._taken = taken
        self._renamed = renamed
        self._encode = encode
        self._starts: dict[str, str] = {}

    def find(self, attributes: Iterable[str], known: set[str]) -> Further:
        """The further fields among the attributes of a record.

        Args:
            attributes: Those of the record.
            known: The names of attributes that the object has already or leaves out.

        Raises:
            LookupError: A field would replace another one.
            TypeError: The name of one is no string.
        """
        starts = self._starts
        found = [
            (starts.get(name) or self._start_of(name), name) for name in filterfalse(known.__contains__, attributes)
        ]
        found = [each for each in found if each[0]]
        if self._renamed and len({start for start, _ in found}) < len(found):
            raise LookupError(found)
        return found

    def text(self, attributes: dict[str, Any], fields: Further) -> str:
        """The text of these fields of a record, with a comma before each."""
        encode = self._encode
        return "".join([start + encode(attributes[name]) for start, name in fields])

    def _start_of(self, name: str) -> str:
        """The text of a field up to its value, also kept for the next records; empty if the object leaves it out."""
        if type(name) is not str:
            raise TypeError(name)
        if name.startswith("_") or name in self._shown:
            return ""
        key = self._renamed.get(name, name)
        if type(key) is not str:
            raise TypeError(key)
        if key in self._taken:
            raise LookupError(key)
        start = f", {self._encode(key)}: "
        if len(self._starts) < _KNOWN_NAMES:
            self._starts[name] = start
        return start


def encoder_of(quote: Callable[[str], str], otherwise: Encode) -> Encode:
    """A function that makes the JSON text of any value, without `otherwise` for plain ones.

    Args:
        quote: A string -> its JSON text.
        otherwise: Any other value -> its JSON text.
    """

    def encode(value: Any) -> str:
        """The JSON text of a value. The exact types only: a subclass may have another text."""
        kind = type(value)
        if kind is str:
            return quote(value)
        if kind is int:
            return repr(value)
        if value is None:
            return "null"
        if kind is bool:
            return "true" if value else "false"
        if kind is float and -inf < value < inf:
            return repr(value)
        return otherwise(value)

    return encode
