"""Configurations for log shippers, made from descriptions of the logs. Pure: descriptions in, text out.

All of them read nothing that is compressed or unfinished, read no line twice because a file is renamed, begin at the
start of a file, and keep the position in it on disk.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from rollsafe.errors import ConfigurationError
from rollsafe.tools.configs import ServerConfig

ARCHIVES: Final = ("gz", "zst", "xz", "tmp")
"""Endings of files beside a log that no shipper may read; a callable of the application names its own ending."""

MAX_LINE: Final = 1 << 20
"""The length of a line in bytes beyond which shippers cut or drop it."""

COMBINED: Final = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'
"""gunicorn's own access_log_format."""

_FIELD: Final = re.compile(r"%%|%\((?P<name>\w+)\)(?P<flags>[#0+ -]*)(?P<width>\d*)(?:\.\d+)?[a-zA-Z]")
# Patterns of those fields of `logging` that cannot be just any text.
_LOOKS: Final = {
    "asctime": r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}",
    "process": r"\d+",
    "thread": r"\d+",
    "lineno": r"\d+",
    "levelname": r"\w+",
    "name": r"\S+?",
    "message": r".*",
    "stamp": r"~[0-9a-v.~]*",
}
_ACCESS: Final = (
    ("host", r"\S+"),
    ("ident", r"\S+"),
    ("user", r"\S+"),
    ("time", r"\[[^\]]+\]"),
    ("request", r'"(?:[^"\\]|\\.)*"'),
    ("status", r"\d{3}"),
    ("size", r"\S+"),
    ("referer", r'"(?:[^"\\]|\\.)*"'),
    ("agent", r'"(?:[^"\\]|\\.)*"'),
)


@dataclass(frozen=True)
class ShippedLog:
    """The description of one log for a shipper.

    Attributes:
        name: The tag of its lines; letters, digits and `_`.
        path: The live file.
        fmt: The %-style format of its lines; None if that is not known.
        default_time: Whether `asctime` has the form that `logging` gives it without a `datefmt`.
        local_time: Whether `asctime` is in the zone of the machine, as shippers read it.
        is_json: Whether each line is a JSON object.
        archive: The extension of archives that a function of the application makes; "" if there is none.
        by_size: Whether it is rolled over for its size too, which may be several times a second.
        backups: Full paths of backups that rsyslog still has to read (see `catch_up`).
    """

    name: str
    path: str
    fmt: str | None = None
    default_time: bool = True
    local_time: bool = True
    is_json: bool = False
    archive: str = ""
    by_size: bool = False
    backups: tuple[str, ...] = ()

    @property
    def combined(self) -> bool:
        """Whether its lines are gunicorn's own access lines."""
        return self.fmt == COMBINED

    @property
    def timed(self) -> bool:
        """Whether a shipper can take the time of a line from its field `asctime`."""
        has_form = self.default_time and self.local_time and "%(asctime)s" in (self.fmt or "")
        return has_form and not self.is_json and not self.combined

    def pattern(self, group: str = "(?P<{}>{})") -> str | None:
        """A regular expression (syntax of RE2) for its lines, with a group for each field; None if there is none."""
        if self.is_json or self.fmt is None:
            return None
        if self.combined:
            return "^" + " ".join(group.format(name, looks) for name, looks in _ACCESS) + "$"
        names: list[str] = []
        parts: list[str] = []
        end = 0
        for match in _FIELD.finditer(self.fmt):
            parts.append(re.escape(self.fmt[end : match.start()]))
            end = match.end()
            name = match["name"]
            if name is None:
                parts.append("%")
                continue
            looks = ".*?" if name == "asctime" and not self.default_time else _LOOKS.get(name, ".*?")
            padding = " *" if match["width"] else ""
            part = looks if name in names else group.format(name, looks)
            parts.append(part + padding if "-" in match["flags"] else padding + part)
            names.append(name)
        if not names or names == ["message"]:
            return None
        # Python escapes more characters than RE2 does; a space needs no escape.
        return "^" + "".join([*parts, re.escape(self.fmt[end:])]).replace(r"\ ", " ") + "$"


def logs_of(config: ServerConfig) -> list[ShippedLog]:
    """The logs of a gunicorn.conf.py that our handler writes."""
    found = []
    for handler in config.handlers:
        if not handler.is_ours or handler.path is None:
            continue
        name = re.sub(r"\W", "_", handler.name)
        formatter = (config.logging.get("formatters") or {}).get(handler.options.get("formatter")) or {}
        fmt = formatter.get("fmt", formatter.get("format"))
        maker = str(formatter.get("()", formatter.get("class", "")))
        if handler.loggers == ("gunicorn.access",) and fmt in (None, "%(message)s"):
            fmt = str(config.server.access_log_format)
            fmt = fmt if fmt == COMBINED else None
        found.append(
            ShippedLog(
                name,
                handler.path,
                fmt if isinstance(fmt, str) and formatter.get("style", "%") == "%" else None,
                default_time=formatter.get("datefmt") is None,
                local_time=formatter.get("tz") is None,
                is_json="json" in maker.lower(),
                archive=getattr(handler.options.get("compress"), "extension", ""),
                by_size=bool(handler.options.get("maxBytes")),
            )
        )
    return found


@dataclass(frozen=True)
class Destination:
    """The receiver of the lines: a URL such as relp://logs.example.org:2514."""

    scheme: str
    host: str
    port: int
    url: str

    @classmethod
    def read(cls, url: str, schemes: Sequence[str]) -> Destination:
        """Read a URL of one of `schemes`.

        Raises:
            ConfigurationError: It is not one.
        """
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = None
        if parts.scheme not in schemes or not parts.hostname or not port:
            raise ConfigurationError(
                f"--to {url!r} must be {' or '.join(f'{scheme}://HOST:PORT' for scheme in schemes)}"
            )
        return cls(parts.scheme, parts.hostname, port, url)


@dataclass(frozen=True)
class Engine:
    """A shipper: the function that writes its configuration, its default receiver, the directory of its positions."""

    write: Callable[[Sequence[ShippedLog], Destination, str], str]
    to: str
    schemes: tuple[str, ...]
    state: str


def configuration(engine: str, logs: Sequence[ShippedLog], to: str | None = None, state: str | None = None) -> str:
    """The text of a configuration.

    Args:
        engine: One of ENGINES.
        logs: The logs to ship.
        to: The URL of the receiver; None is an example to edit.
        state: The directory in which the shipper stores its positions.

    Raises:
        ConfigurationError: `to` is no URL for this engine, or there is nothing to ship.
    """
    if not logs:
        raise ConfigurationError("there is no rotating log in this configuration; nothing to ship")
    chosen = ENGINES[engine]
    return chosen.write(logs, Destination.read(to or chosen.to, chosen.schemes), state or chosen.state)


def _rsyslog(logs: Sequence[ShippedLog], to: Destination, state: str) -> str:
    """For rsyslog 8: imfile, and a queue on disk for the time when the receiver is down."""
    relp = to.scheme == "relp"
    if any(log.by_size for log in logs):
        module = [
            "# By inotify, because a file that is rolled for its size may come and go between two looks. From 8.2508",
            '# on, add deleteStateOnFileMove="on": or imfile may miss the beginning of a file that gets the inode of a',
            "# small one.",
            'module(load="imfile" mode="inotify")',
        ]
    else:
        module = [
            "# Not by inotify: imfile then keeps the place of a small file that was renamed by the number of its",
            "# inode. If the next file gets this number, its beginning is not read.",
            'module(load="imfile" mode="polling" pollingInterval="1")',
        ]
    lines = [
        "# In /etc/rsyslog.d/. A line that reaches a file long after its rename is not read by imfile.",
        f"global(workDirectory={_quoted(state)} maxMessageSize={_quoted(str(MAX_LINE))})",
        *module,
        *(['module(load="omrelp")'] if relp else []),
        'ruleset(name="rollsafe" queue.type="LinkedList" queue.filename="rollsafe" queue.size="100000"',
        '        queue.maxDiskSpace="1g" queue.saveOnShutdown="on") {',
        f"  action(type={_quoted('omrelp' if relp else 'omfwd')} target={_quoted(to.host)} port={_quoted(str(to.port))}"
        + ("" if relp else ' protocol="tcp" TCP_Framing="octet-counted"'),
        '         template="RSYSLOG_SyslogProtocol23Format" action.resumeRetryCount="-1" action.resumeInterval="1")',
        "}",
    ]
    for log in logs:
        for path in (*log.backups, log.path):
            lines.append(
                f'input(type="imfile" file={_quoted(path)} tag={_quoted(log.name)} facility="local0" severity="info"'
                ' ruleset="rollsafe" freshStartTail="off")'
            )
    return "\n".join(lines) + "\n"


def _vector(logs: Sequence[ShippedLog], to: Destination, state: str) -> str:
    """For Vector: it knows files by the checksum of their first line, so it reads on after a rollover."""
    lines = [f"data_dir: {_quoted(state)}", "timezone: local", "sources:"]
    for log in logs:
        lines += [
            f"  {log.name}:",
            "    type: file",
            f"    include: {_quoted_list([log.path, f'{log.path}.*'])}",
            f"    exclude: {_quoted_list(_excluded(log))}",
            "    read_from: beginning",
            f"    max_line_bytes: {MAX_LINE}",
        ]
    lines.append("transforms:")
    for log in logs:
        lines += [
            f"  {log.name}_parsed:",
            "    type: remap",
            f"    inputs: [{log.name}]",
            "    source: |",
            f"      .log = {_quoted(log.name)}",
            *(f"      {line}" for line in _vrl(log)),
        ]
    return "\n".join(
        [
            *lines,
            "sinks:",
            "  rollsafe:",
            "    type: vector",
            f"    inputs: [{', '.join(f'{log.name}_parsed' for log in logs)}]",
            f"    address: {_quoted(f'{to.host}:{to.port}')}",
            "    buffer: {type: disk, max_size: 1073741824}",
            "",
        ]
    )


def _vrl(log: ShippedLog) -> Iterator[str]:
    """The parser of a line in Vector's language; a line that does not match is shipped as it is."""
    if log.is_json:
        yield "parsed, error = parse_json(string!(.message))"
        yield "if error == null && is_object(parsed) { . = merge(., object!(parsed)) }"
        return
    pattern = log.pattern()
    if pattern is None:
        return
    pattern = pattern.replace("'", r"\x27")
    yield f"parsed, error = parse_regex(string!(.message), r'{pattern}')"
    yield "if error == null {"
    yield "  . = merge(., parsed)"
    if log.timed:
        yield '  .timestamp = parse_timestamp(.asctime, "%Y-%m-%d %H:%M:%S,%3f") ?? .timestamp'
    elif log.combined:
        yield '  .timestamp = parse_timestamp(.time, "[%d/%b/%Y:%H:%M:%S %z]") ?? .timestamp'
    yield "}"


def _fluent_bit(logs: Sequence[ShippedLog], to: Destination, state: str) -> str:
    """For Fluent Bit: the live file only, because it reads a renamed file that matches a second time."""
    lines = ["service:", "  flush: 1", "parsers:"]
    for log in logs:
        pattern = log.pattern("(?<{}>{})")
        if log.is_json:
            lines += [f"  - name: {log.name}", "    format: json"]
        elif pattern is not None:
            lines += [f"  - name: {log.name}", "    format: regex", f"    regex: {_quoted(pattern)}"]
            if log.timed:
                lines += ["    time_key: asctime", "    time_format: '%Y-%m-%d %H:%M:%S,%L'"]
                lines += ["    time_keep: true", "    time_system_timezone: true"]
            elif log.combined:
                lines += ["    time_key: time", "    time_format: '[%d/%b/%Y:%H:%M:%S %z]'", "    time_keep: true"]
    if lines[-1] == "parsers:":
        lines.pop()
    lines += ["pipeline:", "  inputs:"]
    for log in logs:
        lines += [
            "    - name: tail",
            f"      tag: {log.name}",
            f"      path: {_quoted(log.path)}",
            f"      db: {_quoted(f'{state}/{log.name}.db')}",
            "      read_from_head: true",
            # Longer than a late line may take. A file that is compressed meanwhile stays readable, because it is open.
            "      rotate_wait: 6",
            f"      buffer_max_size: {MAX_LINE}",
            "      storage.type: filesystem",
        ]
        if log.is_json or log.pattern() is not None:
            lines.append(f"      parser: {log.name}")
    lines.insert(2, f"  storage.path: {_quoted(f'{state}/buffer')}")
    lines += [
        "  outputs:",
        "    - name: forward",
        "      match: '*'",
        f"      host: {_quoted(to.host)}",
        f"      port: {to.port}",
        "      require_ack_response: true",
        "      retry_limit: no_limits",
    ]
    return "\n".join([*lines, ""])


def _otel(logs: Sequence[ShippedLog], to: Destination, state: str) -> str:
    """For the OpenTelemetry Collector (contrib): it knows files by their beginning, so it reads on after a rollover."""
    lines = [
        "extensions:",
        "  file_storage:",
        f"    directory: {_quoted(state)}",
        "    create_directory: true",
        "receivers:",
    ]
    for log in logs:
        lines += [
            f"  filelog/{log.name}:",
            f"    include: {_quoted_list([log.path, f'{log.path}.*'])}",
            f"    exclude: {_quoted_list(_excluded(log))}",
            "    start_at: beginning",
            "    storage: file_storage",
            f"    max_log_size: {MAX_LINE}",
            "    include_file_path: true",
            "    attributes:",
            f"      log: {_quoted(log.name)}",
            *(f"    {line}" for line in _otel_operators(log)),
        ]
    receivers = ", ".join(f"filelog/{log.name}" for log in logs)
    return "\n".join(
        [
            *lines,
            "exporters:",
            "  otlphttp:",
            f"    endpoint: {_quoted(to.url)}",
            "    retry_on_failure: {enabled: true, max_elapsed_time: 0}",
            "    sending_queue: {enabled: true, storage: file_storage}",
            "service:",
            "  extensions: [file_storage]",
            "  pipelines:",
            "    logs:",
            f"      receivers: [{receivers}]",
            "      exporters: [otlphttp]",
            "",
        ]
    )


def _otel_operators(log: ShippedLog) -> list[str]:
    """The parser of a line for the Collector; a line that does not match is shipped as it is."""
    pattern = log.pattern()
    if not log.is_json and pattern is None:
        return []
    lines = ["operators:", f"  - type: {'json' if log.is_json else 'regex'}_parser", "    on_error: send_quiet"]
    if pattern is not None:
        lines.append(f"    regex: {_quoted(pattern)}")
    if log.timed:
        lines += ["    timestamp:", "      parse_from: attributes.asctime", "      layout_type: strptime"]
        lines += ["      layout: '%Y-%m-%d %H:%M:%S,%L'", "      location: Local"]
    elif log.combined:
        lines += ["    timestamp:", "      parse_from: attributes.time", "      layout_type: strptime"]
        lines += ["      layout: '[%d/%b/%Y:%H:%M:%S %z]'"]
    if pattern is not None and "levelname" in pattern:
        lines += ["    severity:", "      parse_from: attributes.levelname"]
    return lines


def _filebeat(logs: Sequence[ShippedLog], to: Destination, state: str) -> str:
    """For Filebeat: its filestream knows a file by its inode here, so it reads on after a rename."""
    lines = [f"path.data: {_quoted(state)}", "filebeat.inputs:"]
    for log in logs:
        lines += [
            "  - type: filestream",
            f"    id: {_quoted(f'rollsafe-{log.name}')}",
            f"    paths: {_quoted_list([log.path, f'{log.path}.*'])}",
            f"    prospector.scanner.exclude_files: {_quoted_list(['[.](' + '|'.join(_endings(log)) + ')$'])}",
            "    prospector.scanner.fingerprint.enabled: false",
            "    file_identity.native: ~",
            "    close.on_state_change.renamed: false",
            "    clean_removed: true",
            f"    message_max_bytes: {MAX_LINE}",
            f"    fields: {{log: {_quoted(log.name)}}}",
        ]
        if log.is_json:
            lines += ["    parsers:", "      - ndjson: {target: '', overwrite_keys: true, add_error_key: true}"]
        elif log.pattern() is not None:
            lines += ["    processors:", "      - dissect:", f"          tokenizer: {_quoted(_tokenizer(log))}"]
            lines += ["          target_prefix: ''", "          ignore_failure: true"]
            if log.timed:
                lines += ["      - timestamp:", "          field: asctime", "          timezone: Local"]
                lines += ["          layouts: ['2006-01-02 15:04:05,000']", "          ignore_failure: true"]
    return "\n".join([*lines, "output.logstash:", f"  hosts: [{_quoted(f'{to.host}:{to.port}')}]", ""])


def _tokenizer(log: ShippedLog) -> str:
    """The pattern for dissect, which knows no regular expressions."""
    if log.combined:
        return '%{host} %{ident} %{user} [%{time}] "%{request}" %{status} %{size} "%{referer}" "%{agent}"'
    # `message` is the field that is parsed.
    names = {"message": "text"}

    def token(match: re.Match[str]) -> str:
        name = match["name"]
        return "%" if name is None else f"%{{{names.get(name, name)}}}"

    return _FIELD.sub(token, log.fmt or "")


def _alloy(logs: Sequence[ShippedLog], to: Destination, state: str) -> str:
    """For Grafana Alloy: the live file only, because it keeps its position by path. `state` is its --storage.path."""
    lines = [f"// alloy run --storage.path={state} FILE"]
    for log in logs:
        lines += [
            f'loki.source.file "{log.name}" {{',
            f"  targets    = [{{__path__ = {_quoted(log.path)}, log = {_quoted(log.name)}}}]",
            f"  forward_to = [loki.process.{log.name}.receiver]",
            "  tail_from_end = false",
            "}",
            f'loki.process "{log.name}" {{',
            "  forward_to = [loki.write.rollsafe.receiver]",
        ]
        pattern = log.pattern()
        if log.is_json:
            lines += ["  stage.json {", '    expressions = {levelname = ""}', "  }"]
        elif pattern is not None:
            lines += ["  stage.regex {", f"    expression = {_quoted(pattern)}", "  }"]
            if log.timed:
                lines += ["  stage.timestamp {", '    source   = "asctime"', '    format   = "2006-01-02 15:04:05,000"']
                lines += ['    location = "Local"', "  }"]
            elif log.combined:
                lines += [
                    "  stage.timestamp {",
                    '    source = "time"',
                    '    format = "[02/Jan/2006:15:04:05 -0700]"',
                    "  }",
                ]
        if log.is_json or "levelname" in (pattern or ""):
            lines += ["  stage.labels {", '    values = {levelname = ""}', "  }"]
        lines.append("}")
    return "\n".join(
        [
            *lines,
            'loki.write "rollsafe" {',
            "  endpoint {",
            f"    url = {_quoted(to.url.rstrip('/') + '/loki/api/v1/push')}",
            "  }",
            "}",
            "",
        ]
    )


ENGINES: Final[Mapping[str, Engine]] = {
    "rsyslog": Engine(_rsyslog, "relp://logs.example.org:2514", ("relp", "tcp"), "/var/spool/rsyslog"),
    "vector": Engine(_vector, "tcp://logs.example.org:6000", ("tcp",), "/var/lib/vector"),
    "fluent-bit": Engine(_fluent_bit, "tcp://logs.example.org:24224", ("tcp",), "/var/lib/fluent-bit"),
    "otel": Engine(_otel, "http://logs.example.org:4318", ("http", "https"), "/var/lib/otelcol"),
    "filebeat": Engine(_filebeat, "tcp://logs.example.org:5044", ("tcp",), "/var/lib/filebeat"),
    "alloy": Engine(_alloy, "http://logs.example.org:3100", ("http", "https"), "/var/lib/alloy/data"),
}


def _endings(log: ShippedLog) -> list[str]:
    """The endings of files beside a log that must not be read."""
    return [*ARCHIVES, *filter(None, [log.archive.removeprefix(".")])]


def _excluded(log: ShippedLog) -> list[str]:
    """Globs for these files."""
    return [f"{log.path}.*.{ending}" for ending in _endings(log)]


def _quoted(text: str) -> str:
    """A string in double quotes, as all of these languages read it."""
    return json.dumps(text, ensure_ascii=False)


def _quoted_list(texts: Sequence[str]) -> str:
    """A list of strings on one line."""
    return f"[{', '.join(map(_quoted, texts))}]"
