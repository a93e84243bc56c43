"""Lines of real formatters, taken apart by each shipper as the printed configuration says."""

from __future__ import annotations

import gzip
import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rollsafe.tools.ship_sources import logs_of
from rollsafe.tools.shippers.line_formats import text_format
from rollsafe.tools.shippers.logs import ShippedLog
from rollsafe.tools.shipping import configuration
from tests.support.needs import require_command
from tests.support.otlp import OtlpSink, collector, json_of, require_collector, without_storage
from tests.support.servers import run_program, wait_until
from tests.support.shipped_program import DICTIONARY, PRESETS
from tests.support.shippers import Parsed, by_alloy, by_filebeat, by_fluent_bit, by_vector

ZONE = "Europe/Paris"
"""The zone of the machine."""
ENGINES = {"vector": by_vector, "fluent-bit": by_fluent_bit, "filebeat": by_filebeat, "alloy": by_alloy}
PROGRAM = (Path(__file__).parents[1] / "support" / "shipped_program.py").read_text(encoding="utf-8")
CONFIG = """
from rollsafe.gunicorn import rotating_logs

given = dict({preset!r})
globals().update(given.pop("settings", {{}}))
logconfig_dict = rotating_logs({name!r}, when="midnight", interval=30, backupCount=9, **given)
"""

Told = Mapping[str, Any]


class Written:
    """The logs that the program has written, and what each line says.

    Attributes:
        logs: Their descriptions, by the configurations with which they were written.
        told: For each path, what its lines say.
    """

    def __init__(self, directory: Path) -> None:
        self.told: dict[str, list[Told]] = json.loads(run_program(PROGRAM, directory))
        (directory / "dict.json").write_text(json.dumps(DICTIONARY))
        self.logs: list[ShippedLog] = []
        before = os.getcwd()
        os.chdir(directory)
        try:
            found = []
            for name, preset in PRESETS.items():
                config = directory / f"{name}.conf.py"
                config.write_text(CONFIG.format(name=name, preset=preset))
                found += [(name, log) for log in logs_of(str(config))[0] if log.name != "error"]
            found += [("dict", log) for log in logs_of("dict.json")[0]]
        finally:
            os.chdir(before)
        self.logs = [replace(log, name=f"{name}_{log.name}") for name, log in found]

    def lines(self, log: ShippedLog) -> Iterator[tuple[str, Told]]:
        """The lines of a log, each with what it says."""
        texts = [
            line
            for path in sorted(Path(log.path).parent.glob(f"{Path(log.path).name}*"), reverse=True)
            for line in path.read_text(encoding="utf-8").splitlines()
        ]
        yield from zip(texts, self.told[log.path], strict=True)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Written]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", ZONE)
        time.tzset()
        yield Written(tmp_path_factory.mktemp("shipped"))
    time.tzset()


def assert_right(parsed: Parsed, line: str, told: Told, log: ShippedLog, engine: str) -> None:
    """A shipper has understood a line."""
    what = f"{engine}, {log.name}: {line!r} is {parsed}"
    assert parsed.raw in (line, None), what
    if log.name == "dict_bare":
        assert (parsed.time, parsed.level, dict(parsed.fields)) == (None, None, {}), what
        return
    is_access = log.name.endswith("access")
    if (
        engine == "fluent-bit"
        and log.line is not None
        and log.line.time is not None
        and log.line.time.zone == "America/New_York"
    ):
        assert parsed.time is None, what
    else:
        # Milliseconds are cut, or there are none. gunicorn asks time(2), which is up to 10 ms behind at a new second.
        precision = 1.1 if is_access or "named" in log.name or "dollar" in log.name else 0.0011
        assert parsed.time is not None, what
        assert told["time"] - precision <= parsed.time <= told.get("until", told["time"]) + 0.0011, what
    if not is_access:
        assert parsed.level == told["level"], what
    for name, value in told.items():
        # Alloy leaves out what the line, a label or the time has.
        if name in ("time", "until", "level") or (name == "message" and engine == "alloy"):
            continue
        assert log.line is not None
        if name not in log.line.fields:
            continue
        found = parsed.fields[name]
        if log.line.is_json:
            missing = None if value == "-" else value
            assert found == missing, what
        else:
            text = "-" if value is None and "named" not in log.name else str(value)
            assert _unquoted(found) == text, what


def _unquoted(text: str) -> str:
    """A text without the backslash that gunicorn puts before each quote."""
    return text.replace('\\"', '"')


@pytest.mark.parametrize("engine", ENGINES)
def test_a_shipper_finds_time_level_and_fields_of_each_line(written: Written, engine: str) -> None:
    text = configuration(engine, written.logs)
    for log in written.logs:
        parse = ENGINES[engine](text, log.name, ZONE)
        for line, told in written.lines(log):
            assert_right(parse(line), line, told, log, engine)
        if log.line is not None and not log.line.is_json:
            # A line of something else.
            other = parse("Traceback (most recent call last):")
            assert (other.raw, other.time) == ("Traceback (most recent call last):", None)
            assert not any(value for value in other.fields.values())


def test_the_collector_finds_time_level_and_fields_of_each_line(written: Written, tmp_path: Path) -> None:
    program = require_collector()
    expected = {(log.name, line): (log, told) for log in written.logs for line, told in written.lines(log)}
    with OtlpSink() as sink:
        text = without_storage(configuration("otel", written.logs, sink.url))
        with collector(program, text, tmp_path, {"TZ": ZONE}):
            wait_until(lambda: len(sink.records) >= len(expected), "all lines have arrived")
    assert len(sink.records) == len(expected), json_of(sink.records)
    for record in sink.records:
        log, told = expected.pop((record.log, record.body))
        fields = {name: value for name, value in record.attributes.items() if not name.startswith("log.file.")}
        assert_right(
            Parsed(record.body, fields, record.time, record.severity_text or None), record.body, told, log, "otel"
        )
        if not log.name.endswith("access") and log.name != "dict_bare":
            # https://opentelemetry.io/docs/specs/otel/logs/data-model/#field-severitynumber
            assert record.severity == {"INFO": 9, "ERROR": 17, "CRITICAL": 21}.get(told["level"], 0)
        if log.name == "json_access":
            assert isinstance(fields["status"], int)
    assert not expected


@pytest.mark.slow
def test_the_collector_takes_no_piece_of_a_line_and_no_line_of_a_renamed_file_twice(tmp_path: Path) -> None:
    program = require_collector()
    live, backup = tmp_path / "app.log", tmp_path / "app.log.2026-11-25"
    line = text_format("%(levelname)s %(message)s")
    with OtlpSink() as sink:
        text = without_storage(configuration("otel", [ShippedLog("app", str(live), line)], sink.url))

        def wait_for(count: int) -> None:
            wait_until(lambda: len(sink.records) >= count, f"{count} lines have arrived")

        with collector(program, text, tmp_path, {}):
            live.write_bytes(b"INFO one\n  INFO two \xff\nINFO a long line whose end")
            wait_for(2)
            # By default it would ship what has no end after half a second.
            time.sleep(0.8)
            with live.open("ab") as file:
                file.write(b" comes late\n")
            wait_for(3)
            live.rename(backup)
            live.write_bytes(b"INFO one\n")
            with backup.open("ab") as file:
                file.write(b"INFO after the rename\n")
            wait_for(5)
            with gzip.open(tmp_path / f"{backup.name}.gz", "wb") as archive:
                archive.write(backup.read_bytes())
            backup.unlink()
            with live.open("ab") as file:
                file.write(b"INFO last\n")
            wait_for(6)
    assert sorted(record.body for record in sink.records) == sorted(
        [
            *("INFO one", "  INFO two \ufffd", "INFO a long line whose end comes late"),
            *("INFO one", "INFO after the rename", "INFO last"),
        ]
    )


def test_rsyslog_sends_each_line_as_it_is(written: Written, tmp_path: Path) -> None:
    program = require_command("rsyslogd", package="rsyslog")
    expected = sorted((log.name, line) for log in written.logs for line, _ in written.lines(log))
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as stack:
        port = server.getsockname()[1]
        config = tmp_path / "rsyslog.conf"
        config.write_text(configuration("rsyslog", written.logs, f"tcp://127.0.0.1:{port}", str(tmp_path)))
        process = subprocess.Popen([program, "-n", "-i", tmp_path / "pid", "-f", config])
        stack.callback(process.wait)
        stack.callback(process.terminate)
        server.settimeout(120)
        connection = stack.enter_context(server.accept()[0])
        connection.settimeout(120)
        frames = stack.enter_context(connection.makefile("rb"))
        # RFC 6587, section 3.4.1, and RFC 5424, section 6.
        received = []
        for _ in expected:
            length = b"".join(iter(lambda: frames.read(1), b" "))
            found = re.fullmatch(rb"<134>1 \S+ \S+ (\S+) \S+ \S+ \S+ (.*)\n", frames.read(int(length)))
            assert found is not None
            received.append((found[1].decode(), found[2].decode()))
    assert sorted(received) == expected
