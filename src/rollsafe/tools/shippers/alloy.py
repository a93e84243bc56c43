"""For Grafana Alloy: the live file only, because it keeps its position by path. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rollsafe.tools.shippers.line_formats import MESSAGE, LineFormat
from rollsafe.tools.shippers.logs import Destination, ShippedLog, Shipper, quoted, zone_of


def _write(logs: Sequence[ShippedLog], to: Destination, state: str) -> list[str]:
    """The lines of the configuration. `state` is the --storage.path of the program."""
    lines = [f"// alloy run --storage.path={state} FILE"]
    for log in logs:
        lines += [
            f'loki.source.file "{log.name}" {{',
            f"  targets    = [{{__path__ = {quoted(log.path)}, log = {quoted(log.name)}}}]",
            f"  forward_to = [loki.process.{log.name}.receiver]",
            "  tail_from_end = false",
            "}",
            f'loki.process "{log.name}" {{',
            "  forward_to = [loki.write.rollsafe.receiver]",
            *([] if log.line is None else _stages(log.line)),
            "}",
        ]
    return [
        *lines,
        'loki.write "rollsafe" {',
        "  endpoint {",
        f"    url = {quoted(to.url.rstrip('/') + '/loki/api/v1/push')}",
        "  }",
        "}",
    ]


def _stages(line: LineFormat) -> Iterator[str]:
    """The stages for a line, which stays as it is; only the level is a label, as each value of one is a stream."""
    # A name that is no identifier can be neither a name here nor an expression of JMESPath.
    fields = [name for name in line.fields if _is_identifier(name)]
    if line.is_json:
        found = ", ".join(f'{name} = ""' for name in fields)
        yield from ("  stage.json {", f"    expressions = {{{found}}}", "  }")
    else:
        yield from ("  stage.regex {", f"    expression = {quoted(line.pattern())}", "  }")
    if line.time is not None and line.time.field in fields:
        yield from ("  stage.timestamp {", f"    source   = {quoted(line.time.field)}")
        yield f"    format   = {quoted(line.time.go)}"
        if not line.time.has_offset:
            yield f"    location = {quoted(line.time.zone or 'Local')}"
        yield "  }"
    if line.level in fields:
        yield from ("  stage.labels {", f'    values = {{{line.level} = ""}}', "  }")
    not_kept = {MESSAGE, line.level, line.time and line.time.field}
    kept = ", ".join(f'{name} = ""' for name in fields if name not in not_kept)
    if kept:
        yield from ("  stage.structured_metadata {", f"    values = {{{kept}}}", "  }")


def _left_out(log: ShippedLog) -> Iterator[str]:
    """What is not shipped of a log."""
    yield from zone_of(log)
    yield "backups of the time when Alloy was down; it keeps a position by path, and would read a backup once more"
    unnamed = [] if log.line is None else [name for name in log.line.fields if not _is_identifier(name)]
    if unnamed:
        yield f"the fields {', '.join(unnamed)}, whose names are no identifiers; the line has them"


def _is_identifier(name: str) -> bool:
    """Whether a name can stand without quotes."""
    return name.isascii() and name.isidentifier()


ALLOY = Shipper(
    _write, _left_out, "http://logs.example.org:3100", ("http", "https"), "/var/lib/alloy/data", comment="//"
)
