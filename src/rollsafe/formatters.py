"""One record, one physical line: control characters escaped, the text of the current second formatted once."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Mapping
from typing import Any, Literal

from rollsafe.errors import ConfigurationError

_CONTROL = "\x00-\x1f\x7f-\x9f\u2028\u2029"
_TO_ESCAPE = re.compile(rf"[{_CONTROL}]|\\(?=[\\nrtxu{_CONTROL}])")
_ESCAPED = re.compile(r"\\(?:[\\nrt]|x[0-9a-f]{2}|u[0-9a-f]{4})")
_SHORT_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_SHORT_MEANINGS = {escaped: char for char, escaped in _SHORT_ESCAPES.items()}


def escape(text: str) -> str:
    r"""Return `text` with no control character and no line separator in it, so that it fills one line (CWE-117).

    Escaped are C0 (tab and newline too), DEL, C1 (NEL too), U+2028 and U+2029: as ``\n``, ``\r``, ``\t``, else as
    ``\xhh`` or ``\uhhhh`` with lower-case hex digits. A backslash is doubled only where it would be misread: before a
    backslash, before one of ``n r t x u``, and before a character that is escaped. Any other backslash stays
    single, so ``\"`` in gunicorn's access lines is left as it is.

    `unescape` is the inverse for every string. Escaping twice is not the same as escaping once.
    """
    if text.isprintable() and "\\" not in text:
        return text
    return _TO_ESCAPE.sub(_escaped, text)


def unescape(text: str) -> str:
    """Return the string of which `text` is the `escape`; a backslash that begins no escape stands for itself."""
    return _ESCAPED.sub(_meaning, text)


def _escaped(match: re.Match[str]) -> str:
    """The escape for one matched character."""
    char = match[0]
    code = ord(char)
    return _SHORT_ESCAPES.get(char) or (f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}")


def _meaning(match: re.Match[str]) -> str:
    """The character for one matched escape."""
    return _SHORT_MEANINGS.get(match[0]) or chr(int(match[0][2:], 16))


class LineFormatter(logging.Formatter):
    """A `logging.Formatter` that makes one physical line of every record, traceback and stack included.

    Takes the arguments of `logging.Formatter`. With ``escape=False`` it also gives the same text, and a record
    may then fill several lines; otherwise the whole text passes through `escape`.

    The time text is made once for each second, so `converter` is called with whole seconds since the epoch.

    Raises `ConfigurationError` for an unknown `style` and for a `fmt` that does not fit it (with ``validate=False``
    such a `fmt` is found out only when a record is formatted).
    """

    def __init__(
        self,
        fmt: str | None = None,
        datefmt: str | None = None,
        style: Literal["%", "{", "$"] = "%",
        validate: bool = True,
        *,
        defaults: Mapping[str, Any] | None = None,
        escape: bool = True,
    ) -> None:
        if style not in ("%", "{", "$"):
            raise ConfigurationError(f"style={style!r} is unknown; use '%', '{{' or '$'")
        try:
            super().__init__(fmt, datefmt, style, validate, defaults=defaults)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"fmt={fmt!r} does not fit style={style!r} ({error}); "
                "write the fields in that style, for example '%(message)s', '{message}' or '${message}'"
            ) from error
        self._escape = escape
        self._uses_time = self.usesTime()
        self._second: tuple[object, str] = (None, "")

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of `record`; the traceback that is cached in ``record.exc_text`` stays unescaped."""
        if record.exc_info or record.exc_text or record.stack_info:
            text = super().format(record)
        else:
            # What the base class does for a record without traceback, less the questions whose answers do not change.
            record.message = record.getMessage()
            if self._uses_time:
                record.asctime = self.formatTime(record, self.datefmt)
            text = self.formatMessage(record)
        if not self._escape or (text.isprintable() and "\\" not in text):
            return text
        return escape(text)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        """Return the creation time of `record` as text, as `logging.Formatter` does."""
        text = self._second_text(math.floor(record.created), datefmt or self.default_time_format)
        if datefmt or not self.default_msec_format:
            return text
        return self.default_msec_format % (text, record.msecs)

    def _second_text(self, second: int, datefmt: str) -> str:
        """The text for `second`, made anew when the second, the format or the converter is another one.

        Key and text are one tuple, read once and replaced whole: threads may race, but never mix two entries.
        """
        converter = self.converter
        key = (second, datefmt, converter)
        cached_key, text = self._second
        if cached_key != key:
            text = time.strftime(datefmt, converter(second))
            self._second = (key, text)
        return text
