"""For Vector: it knows files by the checksum of their first line, so it reads on after a rollover. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rollsafe.tools.shippers.line_formats import GROUP
from rollsafe.tools.shippers.line_times import LineTime
from rollsafe.tools.shippers.logs import (
    LINE,
    MAX_LINE,
    Destination,
    ShippedLog,
    Shipper,
    archives_of,
    quoted,
    quoted_list,
    zone_of,
)


def _write(logs: Sequence[ShippedLog], to: Destination, state: str) -> list[str]:
    """The lines of the configuration."""
    lines = [f"data_dir: {quoted(state)}", "timezone: local", "sources:"]
    for log in logs:
        lines += [
            f"  {log.name}:",
            "    type: file",
            f"    include: {quoted_list(log.with_backups)}",
            f"    exclude: {quoted_list(log.excluded)}",
            "    read_from: beginning",
            f"    max_line_bytes: {MAX_LINE}",
        ]
    lines.append("transforms:")
    for log in logs:
        # Vector replaces variables in the whole file before it reads it, and "$$" is a dollar sign.
        program = [line.replace("$", "$$") for line in vrl(log)]
        lines += [
            f"  {log.name}_parsed:",
            "    type: remap",
            f"    inputs: [{log.name}]",
            "    source: |",
            *(f"      {line}" for line in program),
        ]
    return [
        *lines,
        "sinks:",
        "  rollsafe:",
        "    type: vector",
        f"    inputs: [{', '.join(f'{log.name}_parsed' for log in logs)}]",
        f"    address: {quoted(to.address)}",
        "    buffer: {type: disk, max_size: 1073741824}",
    ]


def vrl(log: ShippedLog) -> Iterator[str]:
    """The program for a line in Vector's language; a line that does not match is shipped without fields."""
    yield f".log = {quoted(log.name)}"
    if log.line is None:
        return
    if log.line.is_json:
        yield "parsed, error = parse_json(string!(.message))"
        condition = "error == null && is_object(parsed)"
    else:
        # In a raw string no character has a meaning but the quote that ends it.
        pattern = log.line.pattern(GROUP).replace("'", r"\x27")
        yield f"parsed, error = parse_regex(string!(.message), r'{pattern}')"
        condition = "error == null"
    yield f"if {condition} {{"
    yield f"  .{LINE} = object!(parsed)"
    if log.line.time is not None:
        yield f"  .timestamp = {_parsed_time(log.line.time)} ?? .timestamp"
    if log.line.level is not None:
        yield f"  .level = .{LINE}.{quoted(log.line.level)}"
    yield "}"


def _parsed_time(time: LineTime) -> str:
    """The expression for the time of a line; the layouts are those of the Rust crate chrono."""
    layout = "%+" if "%:z" in time.layout else time.written(L="%3f")
    zone = f", timezone: {quoted(time.zone)}" if time.zone and not time.has_offset else ""
    return f'parse_timestamp(string(.{LINE}.{quoted(time.field)}) ?? "", {quoted(layout)}{zone})'


def _left_out(log: ShippedLog) -> Iterator[str]:
    """What is not shipped of a log."""
    yield from zone_of(log)
    yield archives_of(log)
    yield f"lines of more than {MAX_LINE} bytes, which Vector drops"
    yield "a file whose first line is that of another file, as Vector takes it for that file"


VECTOR = Shipper(_write, _left_out, "tcp://logs.example.org:6000", ("tcp",), "/var/lib/vector")
