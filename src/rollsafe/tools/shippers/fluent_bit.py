"""For Fluent Bit: the live file only, because it reads a renamed file that matches a second time. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rollsafe.tools.shippers.line_times import LineTime
from rollsafe.tools.shippers.logs import MAX_LINE, Destination, ShippedLog, Shipper, quoted, zone_of

# Its regular expressions are those of Onigmo.
GROUP = "(?<{}>{})"


def _write(logs: Sequence[ShippedLog], to: Destination, state: str) -> list[str]:
    """The lines of the configuration."""
    lines = ["service:", "  flush: 1", f"  storage.path: {quoted(f'{state}/buffer')}"]
    parsers = [line for log in logs for line in _parser(log)]
    if parsers:
        lines += ["parsers:", *parsers]
    lines += ["pipeline:", "  inputs:"]
    for log in logs:
        lines += [
            "    - name: tail",
            f"      tag: {log.name}",
            f"      path: {quoted(log.path)}",
            f"      db: {quoted(f'{state}/{log.name}.db')}",
            "      # A new file may get the inode of one that is gone, and would be read from where that one ended.",
            "      db.compare_filename: true",
            "      read_from_head: true",
            "      # Longer than a late line may take. A file that is compressed meanwhile stays readable.",
            "      rotate_wait: 6",
            f"      buffer_max_size: {MAX_LINE}",
            "      # Without this, it reads nothing more of a file that has a line of more bytes than that.",
            "      skip_long_lines: on",
            "      storage.type: filesystem",
        ]
        if log.line is not None:
            lines.append(f"      parser: {log.name}")
    return [
        *lines,
        "  outputs:",
        "    - name: forward",
        "      match: '*'",
        f"      host: {quoted(to.host)}",
        f"      port: {to.port}",
        "      require_ack_response: true",
        "      retry_limit: no_limits",
    ]


def _parser(log: ShippedLog) -> list[str]:
    """The parser of the lines of a log; one that does not match becomes a record with the key `log`."""
    line = log.line
    if line is None:
        return []
    lines = [f"  - name: {log.name}"]
    if line.is_json:
        lines.append("    format: json")
    else:
        # A variable would be ${NAME}; no pattern has one.
        lines += ["    format: regex", f"    regex: {quoted(line.pattern(GROUP))}"]
    if line.time is not None and _can_read(line.time):
        lines += [
            f"    time_key: {quoted(line.time.field)}",
            f"    time_format: {quoted(line.time.written(z_colon='%z'))}",
            "    time_keep: true",
        ]
        if not line.time.has_offset:
            lines.append('    time_offset: "+0000"' if line.time.zone else "    time_system_timezone: true")
    return lines


def _can_read(time: LineTime) -> bool:
    """Whether Fluent Bit knows the zone: it knows offsets and the zone of the machine."""
    return time.has_offset or time.zone in (None, "UTC")


def _left_out(log: ShippedLog) -> Iterator[str]:
    """What is not shipped of a log."""
    yield "backups of the time when Fluent Bit was down; it would read each file a second time after its rename"
    yield f"lines of more than {MAX_LINE} bytes"
    if log.line is not None and log.line.time is not None and not _can_read(log.line.time):
        yield (
            f"the times of its lines, which are in the zone {log.line.time.zone}: Fluent Bit knows no zones by name; a"
            " record has the time at which its line was read"
        )
    else:
        yield from zone_of(log)


FLUENT_BIT = Shipper(_write, _left_out, "tcp://logs.example.org:24224", ("tcp",), "/var/lib/fluent-bit")
