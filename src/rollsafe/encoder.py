"""How a record becomes the bytes of its line, and what the handler itself has to say as records and lines."""

from __future__ import annotations

import logging
from typing import Protocol

from rollsafe.stamps import UNNUMBERED, Stamps, has_stamp


class Formatting(Protocol):
    """What the encoder asks of its handler at each line, because an application may set or replace it at any moment."""

    formatter: logging.Formatter | None
    terminator: str

    def format(self, record: logging.LogRecord) -> str:
        """The text of the line."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Report the exception that is being handled."""


class LineEncoder:
    """Makes the lines of one handler.

    `SafeTimedRotatingFileHandler.emit` makes the usual line without a call of this class, from its attributes.

    Args:
        handler: Its format, formatter and terminator are asked for at each line.
        encoding: The codec of the file.
        errors: The codec's error handler.

    Attributes:
        stamps: The numbers of the lines, None if the format has no field for them.
        formatter: The formatter that `stamps` fits.
    """

    def __init__(self, handler: Formatting, encoding: str, errors: str) -> None:
        self.encoding = encoding
        self.errors = errors
        self.stamps: Stamps | None = None
        self.formatter: logging.Formatter | None = None
        self._handler = handler

    def follow_formatter(self) -> None:
        """Number the lines if the present formatter wants that."""
        formatter = self._handler.formatter
        self.stamps = Stamps() if has_stamp(formatter) else None
        self.formatter = formatter

    def encode(self, text: str) -> bytes:
        """The line of a text. Raises UnicodeError where the codec cannot express it and `errors` does not help."""
        return (text + self._handler.terminator).encode(self.encoding, self.errors)

    def encode_numbered(self, record: logging.LogRecord) -> bytes:
        """The line of a record, with a number if the format wants one; a line that cannot be made takes no number."""
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
        """Make a line whose first making has failed; None if it fails again, which is reported.

        The first time it may have been interrupted by an exception that a signal handler has raised.
        """
        try:
            return self.encode_numbered(record)
        except Exception as error:
            # The codec comes to a text only where the formatter has succeeded.
            self._handler.handleError(without_arguments(record) if isinstance(error, UnicodeError) else record)
            return None

    @property
    def end(self) -> bytes:
        """The bytes that end each line."""
        return self.encode("")

    def record_of(self, line: bytes, created: float) -> logging.LogRecord:
        """A record of a line that was made without one."""
        record = own_record(line.decode(self.encoding, "replace").removesuffix(self._handler.terminator))
        record.created = created
        return record

    def own_line(self, message: str) -> bytes:
        """A line that the handler itself has to say."""
        record = own_record(f"rollsafe: {message}")
        record.stamp = UNNUMBERED
        try:
            text = self._handler.format(record)
        except Exception:  # a format may need fields that only the application's records have
            text = record.getMessage()
        return self.encode(text)


def own_record(message: str) -> logging.LogRecord:
    """A record that the handler itself has to say."""
    return logging.LogRecord("rollsafe", logging.WARNING, __file__, 0, message, None, None)


def without_arguments(record: logging.LogRecord) -> logging.LogRecord:
    """The record to report when one that was formatted cannot be written: its text alone.

    `handleError` prints the arguments, and those of gunicorn's access line are all headers of the request.
    """
    # Not by `copy`, which imports, and so fails for a line that is logged while the interpreter ends.
    reported = logging.makeLogRecord(record.__dict__)
    try:
        reported.msg = record.getMessage()
    except Exception:  # its formatter may know better
        reported.msg = str(record.msg)
    reported.args = None
    return reported
