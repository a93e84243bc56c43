"""One record becomes one JSON object on one line, as python-json-logger (extra `json`) makes it, but compiled."""

from __future__ import annotations

import datetime
import json
import json.encoder
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import floor, inf
from typing import Any

from rollsafe._lines.json_objects import (
    STANDARD,
    Further,
    FurtherFields,
    Make,
    Options,
    Time,
    compile_object,
    encoder_of,
    fields_of,
)
from rollsafe._overrides import NotesChanges, is_replaced, original
from rollsafe.formatters import ZoneClock
from rollsafe.schedule import checked_tz

try:
    from pythonjsonlogger import core
    from pythonjsonlogger.core import RESERVED_ATTRS
    from pythonjsonlogger.json import JsonEncoder, JsonFormatter
except ImportError as _error:
    raise ImportError(
        "rollsafe.json_lines needs python-json-logger; install it with: pip install 'rollsafe[json]'"
    ) from _error

__all__ = ["JSONFormatter"]

# `datetime` rounds to microseconds, so a moment after this part of a second belongs to the next one.
_ROUNDED_UP = 0.9999994
_THOUSANDTHS = {float(number): f"{number:03d}" for number in range(1000)}
# The clocks that show nothing of a fraction of a second.
_CLOCKS = (time.localtime, time.gmtime)

# The methods and functions whose work is compiled: those of python-json-logger that call one another, and its encoder.
_FORMAT = original(JsonFormatter, "format")
_METHODS = {
    name: original(JsonFormatter, name)
    for name in ("add_fields", "serialize_log_record", "process_log_record", "jsonify_log_record", "_get_rename")
}
_FORMAT_TIME = original(logging.Formatter, "formatTime")
_ENCODE, _ITERENCODE = (original(JsonEncoder, name) for name in ("encode", "iterencode"))
_MERGE = core.merge_record_extra
_DUMPS = json.dumps
# Records for which the compiled object is compared with that of python-json-logger.
_PROBES: tuple[dict[str, Any], ...] = (
    {"msg": "plain", "name": "shop", "funcName": "buy", "created": 1764417600.25},
    {"msg": '"\\\u2028\x85', "name": "\n", "funcName": "", "created": 0.5, "probe": [1.5, None, {"a": b"\xff"}]},
)


@dataclass(slots=True)
class _Compiled:
    """What is compiled for a formatter.

    Attributes:
        now: The options of the formatter, which an application can change in place.
        options: Those for which this is compiled.
        make: Makes the object of a record that has no exception, no stack and no dictionary as its message; None if
            only python-json-logger can make it.
        further: Makes the fields of such a record that the format does not name.
        needs: The attributes of each record that the object shows or may show.
        usual: The attributes of the last record, and its fields that the format does not name.
    """

    now: Options
    options: Options
    make: Make | None
    further: FurtherFields
    needs: frozenset[str]
    usual: tuple[list[str], Further] = ([], [])


# Start (seconds since the epoch); what was compiled; `asctime` up to the milliseconds, or None for no time; what
# follows them, or None if there are none; the JSON text of an `asctime` that has none.
_Second = tuple[float, _Compiled, str | None, str | None, str]
_NOTHING = Options((), {}, {}, {})
_NO_SECOND: _Second = (
    inf,
    _Compiled(_NOTHING, _NOTHING, None, FurtherFields((), (), {}, repr), frozenset()),
    None,
    None,
    "",
)


class JSONFormatter(JsonFormatter, NotesChanges):
    """A `pythonjsonlogger.json.JsonFormatter` whose times are ISO 8601 with their offset, in a zone of your choice.

    It takes the arguments of that class, among them `rename_fields`, `static_fields` and `defaults`. With a `datefmt`,
    `asctime` has that format. uvicorn's `color_message` is left out, unless you give `reserved_attrs`.

    A field of `fmt` that a record lacks has the value of `defaults`, else null. (In python-json-logger up to 4.2 it is
    null in both cases.)

    The line is compiled, and has the same bytes as that of python-json-logger, which itself makes these lines: of a
    record with an exception or a stack, of one whose message is a dictionary, and all of a formatter with a
    `json_default`, `json_encoder`, `json_serializer` or `json_indent`, or with a replaced method. As with
    `LineFormatter`, a change of a class takes effect with the next second, and so does that of the local zone; a
    `format` that is replaced on a class, and any change of a formatter itself, take effect with the next record.

    Every line is one line for programs that split at newlines. With ``json_ensure_ascii=False``, JSON leaves the other
    line separators of Unicode (U+0085, U+2028, U+2029), the remaining controls from U+007F on and those of
    bidirectional text as they are.

    Args:
        args: As for `JsonFormatter`; the first ones are `fmt`, `datefmt` and `style`, as for `logging.Formatter`.
        tz: The zone of the times: a name such as "Europe/Paris" or a `tzinfo`; None is the process's local zone.
        options: As for `JsonFormatter`.

    Raises:
        ConfigurationError: `tz` is no zone (a `ValueError`).
    """

    converter: Callable[[float | None], time.struct_time]
    _compiled: _Compiled | None
    _second: _Second

    def __init__(self, *args: Any, tz: str | datetime.tzinfo | None = None, **options: Any) -> None:
        # uvicorn gives its records a second message, with the colours of a terminal.
        options.setdefault("reserved_attrs", [*RESERVED_ATTRS, "color_message"])
        super().__init__(*args, **options)
        self._zone = checked_tz(tz)
        if self._zone is not None:
            self.converter = ZoneClock(self._zone)

    def format(self, record: logging.LogRecord) -> str:
        """Return the JSON object of `record`."""
        try:
            start, compiled, asctime, rest, text = self._second
            passed = record.created - start
            # The options are compared anew, because each can be changed in place.
            if not 0.0 <= passed < _ROUNDED_UP or compiled.now != compiled.options:
                start, compiled, asctime, rest, text = self._begin_second(record.created)
                passed = record.created - start
            make = compiled.make
            if (
                make is None
                or record.exc_info
                or record.exc_text
                or record.stack_info
                or (type(record.msg) is not str and isinstance(record.msg, dict))
                or JsonFormatter.format is not _FORMAT
            ):
                return super().format(record)
            record.message = record.getMessage()
            if asctime is not None:
                if rest is not None:
                    # `datetime` rounds to microseconds, and `isoformat` cuts to milliseconds.
                    text = asctime = f"{asctime}{_THOUSANDTHS[(passed * 1e6 + 0.5) // 1000.0]}{rest}"
                record.asctime = asctime
            attributes = record.__dict__
            names, fields = compiled.usual
            # Most records of a formatter have the same attributes.
            if [*attributes] != names:
                fields = compiled.further.find(attributes, self._skip_fields)
                compiled.usual = [*attributes], fields
            return make(attributes, text, compiled.further.text(attributes, fields) if fields else "")
        except Exception:
            # A field, a value or the time is unusual: python-json-logger does the work, or raises.
            return super().format(record)

    def _object_of(self, attributes: dict[str, Any], created: float) -> str:
        """The object of a record that has these attributes, without the record; for rollsafe's own loggers.

        Args:
            attributes: Those that the object shows, without its time.
            created: The time of the record.

        Raises:
            Exception: Only `format` can make it.
        """
        start, compiled, asctime, rest, text = self._second
        passed = created - start
        if not 0.0 <= passed < _ROUNDED_UP or compiled.now != compiled.options:
            start, compiled, asctime, rest, text = self._begin_second(created)
            passed = created - start
        if (
            compiled.make is None
            or (compiled.needs and not compiled.needs <= attributes.keys())
            or JsonFormatter.format is not _FORMAT
        ):
            raise NotImplementedError
        if rest is not None:
            text = f"{asctime}{_THOUSANDTHS[(passed * 1e6 + 0.5) // 1000.0]}{rest}"
        names, fields = compiled.usual
        if [*attributes] != names:
            fields = compiled.further.find(attributes, self._skip_fields)
            compiled.usual = [*attributes], fields
        return compiled.make(attributes, text, compiled.further.text(attributes, fields) if fields else "")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        """The time of `record`: ISO 8601 with milliseconds and offset (RFC 3339), or as `datefmt` says."""
        if datefmt:
            return super().formatTime(record, datefmt)
        moment = datetime.datetime.fromtimestamp(record.created, datetime.timezone.utc)
        return moment.astimezone(self._zone).isoformat(timespec="milliseconds")

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        """Collect the fields of `record`."""
        super().add_fields(log_data, record, message_dict)
        for name, value in self.defaults.items():
            if name not in record.__dict__ and name not in message_dict:
                log_data[self._get_rename(name)] = value

    def _note_change(self, name: str) -> None:
        """Have the next record compile anew, unless the attribute `name`, set or removed, is what was compiled."""
        if name not in _CACHES:
            self._compiled = None
            self._second = _NO_SECOND

    def __getstate__(self) -> dict[str, Any]:
        """The state of a pickled formatter, which compiles anew."""
        return {name: value for name, value in self.__dict__.items() if name not in _CACHES}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled or copied formatter."""
        self.__dict__.update(state)
        self._compiled = None
        self._second = _NO_SECOND

    def _compile(self) -> _Compiled:
        """What is compiled for the present options and attributes, also kept for the next records."""
        now = Options(self._required_fields, self.rename_fields, self.static_fields, self.defaults)
        options = Options(list(now.required), dict(now.renamed), dict(now.static), dict(now.defaults))
        ascii = self.json_ensure_ascii
        quote = json.encoder.encode_basestring_ascii if ascii else json.encoder.encode_basestring
        encode = encoder_of(quote, lambda value: _DUMPS(value, cls=JsonEncoder, ensure_ascii=ascii))
        make, taken = None, frozenset[str]()
        if self._can_be_compiled():
            name = self.timestamp if isinstance(self.timestamp, str) else "timestamp"
            fields = fields_of(
                now,
                self._skip_fields,
                encode,
                Time(is_quoted=bool(self.datefmt)),
                name if self.timestamp else None,
                lambda attributes: encode(
                    datetime.datetime.fromtimestamp(attributes["created"], tz=datetime.timezone.utc)
                ),
                keep_missing=self.rename_fields_keep_missing,
            )
            if fields is not None:
                before, after = fields
                make = compile_object(self.prefix, before, after, quote, encode)
                taken = frozenset((*before, *after))
        shown = options.defaults.keys() - set(options.required)
        further = FurtherFields(shown, taken, options.renamed, encode)
        needs = STANDARD.difference(self._skip_fields).union(STANDARD.intersection((*options.required, *shown)))
        if self.timestamp:
            needs |= {"created"}
        self._compiled = compiled = _Compiled(now, options, make, further, needs - {"asctime"})
        if make is not None and not self._agrees():
            self._compiled = compiled = replace(compiled, make=None)
        self._second = _NO_SECOND
        return compiled

    def _can_be_compiled(self) -> bool:
        """Whether no option and no method of this object or of a class in between makes another text."""
        after_ours = type(self).__mro__[type(self).__mro__.index(JSONFormatter) + 1 :]
        return (
            after_ours == JSONFormatter.__mro__[1:]
            and type(self.prefix) is str
            and self.json_default is None
            and self.json_encoder is JsonEncoder
            and self.json_serializer is _DUMPS
            and self.json_indent is None
            and not is_replaced(self, "add_fields", _OUR_ADD_FIELDS)
            and not is_replaced(self, "formatTime", _OUR_FORMAT_TIME)
            and not any(is_replaced(self, name, method) for name, method in _METHODS.items() if name != "add_fields")
        )

    def _agrees(self) -> bool:
        """Whether the compiled object is that of python-json-logger, of which there may be a newer version."""
        try:
            return all(
                JSONFormatter.format(self, logging.makeLogRecord(probe))
                == JsonFormatter.format(self, logging.makeLogRecord(probe))
                for probe in _PROBES
            )
        except Exception:  # an option is at fault
            return False

    def _begin_second(self, created: float) -> _Second:
        """The entry for the second that holds `created`, also kept for the next records.

        It is one tuple, which is read and replaced as a whole: threads may race, but never mix two entries.

        Raises:
            Exception: Only python-json-logger can make the lines of that second.
        """
        second = float(floor(created))
        if created - second >= _ROUNDED_UP:
            raise NotImplementedError
        compiled = self._compiled
        if compiled is None or compiled.now != compiled.options:
            compiled = self._compile()
        texts = self._time_texts(second) if "asctime" in compiled.options.required else (None, None, "")
        if texts is None or not _is_unchanged(type(self)):
            compiled = replace(compiled, make=None)
        self._second = entry = second, compiled, *(texts or (None, None, ""))
        return entry

    def _time_texts(self, second: float) -> tuple[str, str | None, str] | None:
        """The texts of the time for a whole second, as `_Second` has them; None if they do not hold all through it."""
        start = logging.makeLogRecord({"created": second})
        if self.datefmt:
            clock = self.converter
            if not (clock in _CLOCKS or type(clock) is ZoneClock):
                return None
            asctime = self.formatTime(start, self.datefmt)
            return asctime, None, _DUMPS(asctime, ensure_ascii=self.json_ensure_ascii)
        before, point, rest = self.formatTime(start).partition(".000")
        # The offset of a zone may have a fraction of a second.
        return (f"{before}.", rest, "") if point and "." not in rest else None


_CACHES = ("_compiled", "_second")
_OUR_ADD_FIELDS = JSONFormatter.add_fields
_OUR_FORMAT_TIME = JSONFormatter.formatTime
_OUR_FORMAT = JSONFormatter.format


def _is_unchanged(cls: type[JSONFormatter]) -> bool:
    """Whether the methods of a class are ours and those of python-json-logger, as they were released."""
    return (
        cls.add_fields is _OUR_ADD_FIELDS
        and cls.formatTime is _OUR_FORMAT_TIME
        and all(getattr(cls, name) is method for name, method in _METHODS.items() if name != "add_fields")
        and JsonFormatter.add_fields is _METHODS["add_fields"]
        and logging.Formatter.formatTime is _FORMAT_TIME
        and JsonEncoder.encode is _ENCODE
        and JsonEncoder.iterencode is _ITERENCODE
        and core.merge_record_extra is _MERGE
    )
