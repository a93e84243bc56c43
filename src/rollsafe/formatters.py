"""One record becomes one physical line: control characters are escaped, the text of a second is made once."""

from __future__ import annotations

import datetime
import logging
import re
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from math import floor, inf
from typing import Any, Literal

from rollsafe._lines.formats import Compiled, compile_format
from rollsafe._lines.stamps import FIELD, ends_with_stamp
from rollsafe._overrides import NotesChanges, is_replaced, original
from rollsafe.errors import ConfigurationError
from rollsafe.schedule import checked_tz

# The format characters that change the order in which the characters of a line are shown, so that a reader sees another
# line than the one that was written (CVE-2021-42574): marks, embeddings, overrides and isolates of bidirectional text.
_CONTROL = "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
# `re` compiles each pattern at its first use, because to compile them here would lengthen every import.
_CONTROLS = rf"[{_CONTROL}]"
_TO_ESCAPE = rf"[{_CONTROL}]|\\(?=[\\nrtxu{_CONTROL}])"
_ESCAPED = r"\\(?:[\\nrt]|x[0-9a-f]{2}|u[0-9a-f]{4})"
# For bytes.translate: printable ASCII without backslash stays, so a text that comes out unchanged needs no escape.
_KEEP_PLAIN = bytes(byte if 0x20 <= byte < 0x7F and byte != 0x5C else 0 if byte else 1 for byte in range(256))
# A search for one character is so fast, because memchr(3) looks at 32 of them at a time, that in a text of more than
# this many characters all searches together take less time than one `translate`.
_LONG = 1500
# As much of a text as stays in the fastest cache of the processor, usually 32 KiB, from one search to the next.
_SLICE = 24 * 1024
# All these searches. One expression, as a loop would take longer.
_search: Callable[[str], bool] = eval(
    "lambda text: " + " or ".join(f"{char!r} in text" for char in map(chr, [*range(0x20), 0x7F, 0x5C]))
)
_SHORT_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_SHORT_MEANINGS = {escaped: char for char, escaped in _SHORT_ESCAPES.items()}


def escape(text: str) -> str:
    r"""Return `text` with no control character and no line separator in it, so that it fills one line (CWE-117).

    It escapes C0 (with tab and newline), DEL, C1 (with NEL), U+2028 and U+2029, and the controls of bidirectional text
    (U+061C, U+200E, U+200F, U+202A to U+202E, U+2066 to U+2069): as ``\n``, ``\r``, ``\t``, else as ``\xhh`` or
    ``\uhhhh`` with lower-case hex digits. A backslash is doubled only where it would be misread: before a
    backslash, before one of ``n r t x u``, and before a character that is escaped. Any other backslash stays
    single, so ``\"`` in gunicorn's access lines does not change.

    `unescape` is the inverse for every string. Escaping twice is not the same as escaping once.
    """
    if text.isprintable() and "\\" not in text:
        return text
    return re.sub(_TO_ESCAPE, _escaped, text)


def unescape(text: str) -> str:
    """Return the string whose `escape` is `text`; a backslash that begins no escape stands for itself."""
    return re.sub(_ESCAPED, _meaning, text)


def is_plain(text: str) -> bool:
    """Whether `text` is printable ASCII without a backslash, as most lines are; then `escape` does not change it."""
    if not text.isascii():
        return False
    if len(text) > _LONG:
        return not _has_special(text)
    characters = text.encode()
    # It is the same object if nothing was replaced, so the bytes need not be compared.
    return characters.translate(_KEEP_PLAIN) is characters


def _has_special(text: str) -> bool:
    """Whether an ASCII text has a character that `escape` may change; fast for long texts."""
    if len(text) <= _SLICE:
        return _search(text)
    return any(_search(text[start : start + _SLICE]) for start in range(0, len(text), _SLICE))


def has_control(text: str) -> bool:
    """Whether `text` has a character, other than a backslash, that `escape` would change."""
    return not text.isprintable() and re.search(_CONTROLS, text) is not None


def _escaped(match: re.Match[str]) -> str:
    """The escape for one matched character."""
    char = match[0]
    code = ord(char)
    return _SHORT_ESCAPES.get(char) or (f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}")


def _meaning(match: re.Match[str]) -> str:
    """The character for one matched escape."""
    return _SHORT_MEANINGS.get(match[0]) or chr(int(match[0][2:], 16))


class ZoneClock:
    """A `converter` of a `logging.Formatter`: the wall clock of a zone, with its offset for `%z` and its name for `%Z`.

    Args:
        zone: The zone.
    """

    def __init__(self, zone: datetime.tzinfo) -> None:
        self._zone = zone

    def __call__(self, seconds: float | None = None) -> time.struct_time:
        """The wall clock at an instant in seconds since the epoch; None is now, as for `time.localtime`."""
        moment = datetime.datetime.fromtimestamp(time.time() if seconds is None else seconds, self._zone)
        offset = moment.utcoffset() or datetime.timedelta()
        *date_and_clock, is_dst = moment.timetuple()
        # Without name and offset, strftime(3) takes those of the local zone. It writes no offset where it is not known
        # whether the time is summer time, as for a `datetime.timezone`.
        return time.struct_time((*date_and_clock, max(is_dst, 0), moment.tzname() or "", int(offset.total_seconds())))


# What a record of one second is formatted with: the start of that second (seconds since the epoch), the function that
# makes the text, or None if the base class must, the text of the time, or None if the format has none, and the text
# that follows it for each millisecond, or None for nothing.
_Second = tuple[float, Compiled | None, str | None, Mapping[float, str] | None]
_NO_SECOND: _Second = (inf, None, None, None)

# The methods of the base class whose work a compiled format does.
_Formatter = logging.Formatter
_FORMAT = original(_Formatter, "format")
_FORMAT_MESSAGE = original(_Formatter, "formatMessage")
_FORMAT_TIME = original(_Formatter, "formatTime")
_USES_TIME = original(_Formatter, "usesTime")
_STYLE_METHODS = {
    (style, name): original(style, name)
    for style in (logging.PercentStyle, logging.StrFormatStyle, logging.StringTemplateStyle)
    for name in ("format", "_format")
}
# Attributes that change how a record is formatted.
_INFLUENCES = frozenset(
    {"converter", "datefmt", "default_time_format", "default_msec_format"}
    | {"formatMessage", "formatTime", "usesTime", "_style"}
)


class LineFormatter(logging.Formatter, NotesChanges):
    """A `logging.Formatter` that makes one physical line of every record, traceback and stack included.

    Takes the arguments of `logging.Formatter`. `tz` is the zone of the times: a name such as "Europe/Paris" or a
    `tzinfo`; None is the process's local zone. With ``escape=False`` it makes the same text as the base class, and a
    record may then fill several lines. Otherwise the whole text passes through `escape`, and a `stamp` that ends the
    format also ends a line with a traceback or stack, so that a line without its stamp is known to be cut off.

    The time text is made once for each second, so `converter` is called with whole seconds since the epoch. A change
    of a class takes effect with the next second: of `logging.Formatter.converter` and the like, of `formatMessage`,
    `formatTime` or `usesTime`, and of a method of the style. A `format` that is replaced on a class, and any change of
    a formatter itself, take effect with the next record.

    Raises `ConfigurationError` for an unknown `style` or `tz`, for `defaults` that are no mapping, and for a `fmt` that
    does not fit its style (with ``validate=False``, only the formatting of a record shows that). A field that neither
    the record nor `defaults` has is an error, as in the base class; a handler of rollsafe writes a dash for it.
    """

    converter: Callable[[float | None], time.struct_time]
    # Assigned when an attribute is set, and no class attributes, because CPython 3.11 reads those slowly.
    _second: _Second
    _changed: object

    def __init__(
        self,
        fmt: str | None = None,
        datefmt: str | None = None,
        style: Literal["%", "{", "$"] = "%",
        validate: bool = True,
        *,
        defaults: Mapping[str, Any] | None = None,
        escape: bool = True,
        tz: str | datetime.tzinfo | None = None,
    ) -> None:
        zone = checked_tz(tz)
        if style not in ("%", "{", "$"):
            raise ConfigurationError(f"style={style!r} is unknown; use '%', '{{' or '$'")
        if defaults is not None and not isinstance(defaults, Mapping):
            # The base class would fail with each record, and lose it.
            raise ConfigurationError(f"defaults={defaults!r} is no mapping; give one such as {{'trace': '-'}}")
        # The base class needs a dict. It is the same one, because the application may change it.
        values = defaults if defaults is None or isinstance(defaults, dict) else dict(defaults)
        try:
            super().__init__(fmt, datefmt, style, validate, defaults=values)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"fmt={fmt!r} does not fit style={style!r} ({error}); "
                "write the fields in that style, for example '%(message)s', '{message}' or '${message}'"
            ) from error
        self._escape = escape
        if zone is not None:
            self.converter = ZoneClock(zone)
        self._stamp_is_last = ends_with_stamp(self._style._fmt)
        self._compiled_fmt = self._style._fmt
        self._compiled = compile_format(self._style._fmt, style, {} if values is None else values)
        self._note_change("_style")

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of `record`; the traceback that is cached in ``record.exc_text`` stays unescaped."""
        try:
            since, make, second, thousandths = self._second
            if not 0.0 <= record.created - since < 1.0:
                _, make, second, thousandths = self._begin_second(record.created)
        except Exception:
            # The time is unusual: the base class does the work, or raises.
            return self._text_by_base(record)
        if (
            make is None
            or record.exc_info
            or record.exc_text
            or record.stack_info
            or _Formatter.format is not _FORMAT
            # Recipes for a format by level change it.
            or self._style._fmt is not self._compiled_fmt
        ):
            return self._text_by_base(record)
        record.message = record.getMessage()
        try:
            if second is not None:
                record.asctime = second if thousandths is None else second + thousandths[record.msecs]
            text = make(record)
        except (AttributeError, LookupError, TypeError):
            # A field is missing, or the milliseconds are unusual.
            return self._text_by_base(record)
        return text if not self._escape or is_plain(text) else escape(text)

    def _text_by_base(self, record: logging.LogRecord) -> str:
        """The text of the base class, with traceback and stack, as one line."""
        text = super().format(record)
        if not self._escape:
            return text
        if self._stamp_is_last:
            text = self._with_stamp_last(record, text)
        return escape(text)

    def _with_stamp_last(self, record: logging.LogRecord, text: str) -> str:
        """The text with the stamp after the traceback and stack, which the base class puts at the very end."""
        line = self.formatMessage(record)
        stamp = getattr(record, FIELD, None)
        if not (isinstance(stamp, str) and line.endswith(stamp) and text.startswith(line) and len(line) < len(text)):
            return text
        return f"{line.removesuffix(stamp).rstrip()}{text[len(line) :]} {stamp}"

    def _note_change(self, name: str) -> None:
        """Have the next record begin its second anew if the text depends on the attribute `name`, set or removed."""
        if name in _INFLUENCES:
            # In this order, for a thread that begins a second at this moment.
            self._changed = object()
            self._second = _NO_SECOND

    def _has_known_style(self) -> bool:
        """Whether the style object is still the one of `logging` that was compiled."""
        style = self._style
        known = [(name, method) for (owner, name), method in _STYLE_METHODS.items() if owner is type(style)]
        return bool(known) and not any(is_replaced(style, name, method) for name, method in known)

    def __getstate__(self) -> dict[str, Any]:
        """The state of a pickled formatter, without the compiled format, so `logging` does its work."""
        return {**self.__dict__, "_compiled": None, "_second": _NO_SECOND, "_changed": None}

    def _begin_second(self, created: float) -> _Second:
        """The entry for the second that holds `created`, also kept for the next records.

        It is one tuple, which is read and replaced as a whole: threads may race, but never mix two entries.
        """
        changed = self._changed
        second = floor(created)
        make = text = thousandths = None
        if self._is_compiled():
            make = self._compiled
            if self.usesTime():
                text = time.strftime(self.datefmt or self.default_time_format, self.converter(second))
                milliseconds = None if self.datefmt else self.default_msec_format
                thousandths = _thousandths(milliseconds) if milliseconds else None
        self._second = entry = float(second), make, text, thousandths
        if self._changed is not changed:
            # Another thread has changed an attribute, and this entry may have the old one.
            self._second = _NO_SECOND
        return entry

    def _is_compiled(self) -> bool:
        """Whether the compiled format does the work of the methods that this object has at present."""
        return self._has_known_style() and not (
            is_replaced(self, "formatMessage", _FORMAT_MESSAGE)
            or is_replaced(self, "formatTime", _FORMAT_TIME)
            or is_replaced(self, "usesTime", _USES_TIME)
        )


@lru_cache(maxsize=8)
def _thousandths(msec_format: str) -> Mapping[float, str]:
    """The text that `msec_format` puts after that of a second, by millisecond; empty if it puts it elsewhere too."""
    if not msec_format.startswith("%s"):
        return {}
    return {float(milliseconds): msec_format % ("", milliseconds) for milliseconds in range(1000)}
