"""For the OpenTelemetry Collector (contrib): it knows files by their beginning, so it reads on after a rename. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rollsafe.tools.shippers.logs import (
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
    lines = [
        "extensions:",
        "  # The positions in the files, and the lines that wait for the receiver.",
        "  file_storage:",
        f"    directory: {quoted(state)}",
        "    create_directory: true",
        "receivers:",
    ]
    for log in logs:
        lines += [
            f"  filelog/{log.name}:",
            f"    include: {quoted_list(log.with_backups)}",
            f"    exclude: {quoted_list(log.excluded)}",
            "    start_at: beginning",
            "    storage: file_storage",
            f"    max_log_size: {MAX_LINE}",
            "    include_file_path: true",
            "    # A line whose end is not there yet is no line, however long that takes.",
            "    force_flush_period: 0s",
            "    preserve_leading_whitespaces: true",
            "    preserve_trailing_whitespaces: true",
            "    # Without this, lines are dropped while the queue of the exporter is full.",
            "    retry_on_failure: {enabled: true, max_elapsed_time: 0}",
            f"    resource: {{log: {quoted(log.name)}}}",
            *(f"    {line}" for line in _operators(log)),
        ]
    receivers = ", ".join(f"filelog/{log.name}" for log in logs)
    return [
        *lines,
        "exporters:",
        "  otlphttp:",
        f"    endpoint: {quoted(to.url)}",
        "    retry_on_failure: {enabled: true, max_elapsed_time: 0}",
        "    sending_queue: {enabled: true, storage: file_storage}",
        "service:",
        "  extensions: [file_storage]",
        "  pipelines:",
        "    logs:",
        f"      receivers: [{receivers}]",
        "      exporters: [otlphttp]",
    ]


def _operators(log: ShippedLog) -> list[str]:
    """The parser of a line, which stays the body; one that does not match is shipped without attributes."""
    line = log.line
    if line is None:
        return []
    if line.is_json:
        lines = ["operators:", "  - type: json_parser", "    parse_ints: true", "    if: 'body startsWith \"{\"'"]
    else:
        # The Collector replaces ${NAME}, and reads "$$" as a dollar sign.
        lines = ["operators:", "  - type: regex_parser", f"    regex: {quoted(line.pattern().replace('$', '$$'))}"]
    lines.append("    on_error: send_quiet")
    if line.time is not None:
        lines += [
            "    timestamp:",
            f"      parse_from: {_attribute(line.time.field)}",
            "      layout_type: gotime",
            f"      layout: {quoted(line.time.go)}",
            f"      location: {quoted(line.time.zone or 'Local')}",
        ]
    if line.level is not None:
        lines += [
            "    severity:",
            f"      parse_from: {_attribute(line.level)}",
            # The Collector knows the other names of Python's levels.
            "      mapping: {fatal: CRITICAL}",
        ]
    return lines


def _attribute(name: str) -> str:
    """The path of an attribute."""
    return f"attributes.{name}" if name.isidentifier() else quoted(f"attributes[{quoted(name)}]")


def _left_out(log: ShippedLog) -> Iterator[str]:
    """What is not shipped of a log."""
    yield from zone_of(log)
    yield archives_of(log)
    yield f"the end of a line of more than {MAX_LINE} bytes, which arrives as a record of its own"
    yield "a file that begins with the whole, or with the first 1000 bytes, of another one, which it is taken for"


OTEL = Shipper(_write, _left_out, "http://logs.example.org:4318", ("http", "https"), "/var/lib/otelcol")
