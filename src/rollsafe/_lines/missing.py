"""A record that lacks a field of the format, for which `logging` itself would lose the line."""

from __future__ import annotations

import logging
from collections.abc import Callable


class MissingField(ValueError):
    """A record lacks a field of the format; its line has a dash there."""


class _Dash(str):
    """The value of a field that a record lacks: a dash in every format, but 0 where `%` needs a number."""

    __slots__ = ()

    def __index__(self) -> int:
        return 0

    def __format__(self, specification: str) -> str:
        try:
            return super().__format__(specification)
        except ValueError:  # the specification is one for numbers
            return str(self)


DASH = _Dash("-")


def format_filled(
    record: logging.LogRecord, error: Exception, encode: Callable[[logging.LogRecord], bytes]
) -> tuple[bytes, list[str]]:
    """Make the line of a record with a dash for each field that it lacks; returns the line and those fields.

    Args:
        record: It has the fields only during the call, because other handlers get it too.
        error: The error of the first attempt.
        encode: Makes the line.

    Raises:
        Exception: The line cannot be made for another reason.
    """
    fields: list[str] = []
    try:
        while True:
            field = _missing_in(error)
            if field is None or field in record.__dict__:
                raise error
            record.__dict__[field] = DASH
            fields.append(field)
            try:
                return encode(record), fields
            except Exception as next_error:
                error = next_error
    finally:
        for field in fields:
            record.__dict__.pop(field, None)


def _missing_in(error: Exception) -> str | None:
    """The field that the record lacks, if that is the reason of an error of a formatter of `logging`."""
    cause = error.__context__
    # `PercentStyle.format` and the like make a ValueError of the KeyError. A message whose arguments do not fit raises
    # a KeyError of its own.
    if isinstance(error, ValueError) and isinstance(cause, KeyError) and cause.args:
        field = cause.args[0]
        return field if isinstance(field, str) else None
    return None
