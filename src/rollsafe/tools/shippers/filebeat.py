"""For Filebeat: its filestream knows a file by its inode here, so it reads on after a rename. Pure.

The fields are in an object of their own: `host`, `agent`, `user` and `process` at the root are objects of ECS, and
Elasticsearch refuses a document with a text there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rollsafe.tools.shippers.line_formats import LineFormat
from rollsafe.tools.shippers.line_times import escaped
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

_NUMBERED = "({1})"


def _write(logs: Sequence[ShippedLog], to: Destination, state: str) -> list[str]:
    """The lines of the configuration."""
    lines = [f"path.data: {quoted(state)}", "filebeat.inputs:"]
    for log in logs:
        lines += [
            "  - type: filestream",
            f"    id: {quoted(f'rollsafe-{log.name}')}",
            f"    paths: {quoted_list(log.with_backups)}",
            f"    prospector.scanner.exclude_files: {quoted_list(_excluded(log))}",
            "    # By inode: by fingerprint, it would read no file of less than 1024 bytes.",
            "    prospector.scanner.fingerprint.enabled: false",
            "    file_identity.native: ~",
            "    close.on_state_change.renamed: false",
            "    clean_removed: true",
            f"    message_max_bytes: {MAX_LINE}",
            f"    fields: {{log: {quoted(log.name)}}}",
        ]
        if log.line is not None:
            lines += ["    processors:", *(f"      {line}" for line in _processors(log.line))]
    return [*lines, "output.logstash:", f"  hosts: [{quoted(to.address)}]"]


def _excluded(log: ShippedLog) -> list[str]:
    """Regular expressions for the paths of files that must not be read."""
    endings = "|".join(map(escaped, log.endings))
    others = [f"^{escaped(path)}([.].*)?$" for path in log.nested]
    return [f"[.]({endings})$", *others]


def _processors(line: LineFormat) -> Iterator[str]:
    """The processors that take a line apart; it stays the message."""
    if line.is_json:
        yield f"- decode_json_fields: {{fields: [message], target: {LINE}, overwrite_keys: true, max_depth: 1}}"
    else:
        # Not dissect, which ends a field at the first delimiter: a quote in a request, a blank in a name.
        yield "- script:"
        yield "    lang: javascript"
        yield "    source: |"
        for each in script(line):
            yield f"      {each}"
    if line.level is not None:
        copied = f"{{from: {quoted(f'{LINE}.{line.level}')}, to: log.level}}"
        yield f"- copy_fields: {{fields: [{copied}], ignore_missing: true, fail_on_error: false}}"
    if line.time is not None:
        yield "- timestamp:"
        yield f"    field: {quoted(f'{LINE}.{line.time.field}')}"
        yield f"    timezone: {quoted(line.time.zone or 'Local')}"
        yield f"    layouts: [{quoted(line.time.go)}]"
        yield "    ignore_missing: true"
        yield "    ignore_failure: true"


def script(line: LineFormat) -> list[str]:
    """The program for a line in ECMAScript 5.1, whose groups have no names."""
    return [
        f"var pattern = new RegExp({quoted(line.pattern(_NUMBERED))});",
        f"var names = {quoted_list(line.fields)};",
        "function process(event) {",
        '  var found = pattern.exec(event.Get("message"));',
        "  if (found === null) { return; }",
        "  for (var i = 0; i < names.length; i++) {",
        f'    event.Put("{LINE}." + names[i], found[i + 1]);',
        "  }",
        "}",
    ]


def _left_out(log: ShippedLog) -> Iterator[str]:
    """What is not shipped of a log."""
    yield from zone_of(log)
    yield archives_of(log)
    yield f"the rest of a line after {MAX_LINE} bytes"
    yield "lines of a file that gets the inode of a removed one before Filebeat has noticed the removal"


FILEBEAT = Shipper(_write, _left_out, "tcp://logs.example.org:5044", ("tcp",), "/var/lib/filebeat")
