"""The encoding of a record as the bytes of its line, and the records and lines of the handler's own messages."""

from __future__ import annotations

import codecs
import logging
from typing import Protocol

from rollsafe._lines.missing import MissingField, format_filled
from rollsafe._lines.stamps import UNNUMBERED, Stamps, has_stamp


class Formatting(Protocol):
    """The part of a handler that its encoder uses anew at each line, because an application may replace it any time."""

    formatter: logging.Formatter | None
    terminator: str

    def format(self, record: logging.LogRecord) -> str:
        """The text of the line."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Report the exception that is being handled."""


class Reporting(Protocol):
    """Reports of the handler's own troubles."""

    def report(self, sentence: str, error: BaseException | None) -> None:
        """Report a failure that belongs to no record of the application."""


class LineEncoder:
    """Makes the lines of one handler.

    `SafeTimedRotatingFileHandler.emit` makes the usual line without a call of this class, from its attributes.

    Args:
        handler: Its `format`, `formatter` and `terminator` are read at each line.
        encoding: The codec of the file.
        errors: The codec's error handler.
        reports: Told once of each field of the format that a record lacks.

    Attributes:
        is_utf8: Whether the codec is UTF-8.
        stamps: The stamps of the lines, None if the format has no field for them.
        formatter: The formatter for which `stamps` was set.
    """

    def __init__(self, handler: Formatting, encoding: str, errors: str, reports: Reporting) -> None:
        self.encoding = encoding
        self.errors = errors
        self.is_utf8 = codecs.lookup(encoding).name == "utf-8"
        self.stamps: Stamps | None = None
        self.formatter: logging.Formatter | None = None
        self._handler = handler
        self._reports = reports
        self._reported: set[str] = set()

    def follow_formatter(self) -> None:
        """Stamp the lines from now on if the format of the present formatter has the field `stamp`."""
        formatter = self._handler.formatter
        self.stamps = Stamps() if has_stamp(formatter) else None
        self.formatter = formatter

    def encode(self, text: str) -> bytes:
        """The line of a text. Raises UnicodeError if the codec cannot express it and `errors` does not help."""
        return (text + self._handler.terminator).encode(self.encoding, self.errors)

    def encode_numbered(self, record: logging.LogRecord) -> bytes:
        """The line of a record, stamped if the format wants that; a line that cannot be made uses up no number."""
        if self.stamps is None:
            return self.encode(self._handler.format(record))
        stamp = ""
        try:
            record.stamp = stamp = self.stamps.take()
            return self.encode(self._handler.format(record))
        except BaseException:
            self.stamps.give_back(stamp)
            raise

    def encode_again(self, record: logging.LogRecord) -> bytes | None:
        """Make a line again after the first attempt has failed; None if this one fails too, which is reported.

        A signal handler may have interrupted the first attempt by an exception. A field that the record lacks becomes a
        dash, because the line counts for more than its form.
        """
        try:
            try:
                return self.encode_numbered(record)
            except ValueError as error:
                line, fields = format_filled(record, error, self.encode_numbered)
        except Exception as error:
            # A UnicodeError is the codec's, so the formatter has succeeded, and the text can be reported.
            self._handler.handleError(without_arguments(record) if isinstance(error, UnicodeError) else record)
            return None
        for field in fields:
            self._report_missing(field, record)
        return line

    @property
    def end(self) -> bytes:
        """The bytes that end each line."""
        return self.encode("")

    def record_of(self, line: bytes, created: float) -> logging.LogRecord:
        """Make a record for a line that was made without one; `created` is in seconds since the epoch."""
        record = own_record(line.decode(self.encoding, "replace").removesuffix(self._handler.terminator))
        record.created = created
        return record

    def _report_missing(self, field: str, record: logging.LogRecord) -> None:
        """Report once that a record lacks a field."""
        if field not in self._reported:
            self._reported.add(field)
            error = MissingField(f"the record has no field {field!r}")
            # The tracebacks of the attempts tell nothing.
            error.__suppress_context__ = True
            self._reports.report(
                f"a record of logger {record.name} lacks the field {field!r} of the format, so its line has a dash "
                f"there; give the formatter defaults={{{field!r}: '-'}}",
                error,
            )

    def own_line(self, message: str) -> bytes:
        """Make the line of a message of the handler itself."""
        record = own_record(f"rollsafe: {message}")
        record.stamp = UNNUMBERED
        try:
            text = self._handler.format(record)
        except Exception as error:  # a format may need fields that only the application's records have
            try:
                return format_filled(record, error, lambda filled: self.encode(self._handler.format(filled)))[0]
            except Exception:
                text = record.getMessage()
        return self.encode(text)


def own_record(message: str) -> logging.LogRecord:
    """Make the record of a message of the handler itself."""
    return logging.LogRecord("rollsafe", logging.WARNING, __file__, 0, message, None, None)


def without_arguments(record: logging.LogRecord) -> logging.LogRecord:
    """A copy of a record that has only its text, to report that the record could not be written.

    `handleError` prints the arguments, and those of gunicorn's access line are all headers of the request.
    """
    # Not by the module `copy`, which imports, and so fails for a line that is logged while the interpreter ends.
    reported = logging.makeLogRecord(record.__dict__)
    try:
        reported.msg = record.getMessage()
    except Exception:  # the formatter may have its own way to make the text
        reported.msg = str(record.msg)
    reported.args = None
    return reported
