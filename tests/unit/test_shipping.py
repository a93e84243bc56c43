"""Configurations for shippers: they read what they should, nothing twice, and say what they leave out."""

from __future__ import annotations

import fnmatch
import logging
import re
from dataclasses import replace
from typing import Any

import pytest
import yaml

from rollsafe import ConfigurationError, LineFormatter
from rollsafe._preset import LINE_FORMAT
from rollsafe.tools.catch_up import unread
from rollsafe.tools.shippers.line_formats import COMBINED, LineFormat, json_format, text_format, uwsgi_format
from rollsafe.tools.shippers.line_times import ISO, LineTime, readable_layout
from rollsafe.tools.shippers.logs import LeftOut, ShippedLog
from rollsafe.tools.shipping import ENGINES, configuration

LOG = ShippedLog("app", "/srv/logs/app.log", text_format(LINE_FORMAT))
ACCESS = ShippedLog("access", "/srv/logs/access.log", text_format("%(message)s", access=COMBINED))
JSON = ShippedLog("json", "/srv/logs/json.log", json_format(["asctime", "message"], LineTime("asctime", ISO), None))
LOGS = [LOG, ACCESS, JSON]
PLAIN = ["app.log.2026-11-25", "app.log.2026-11-25.1", "app.log.2026-11-25_16-00-00.12"]
ARCHIVES = ["app.log.2026-11-25.gz", "app.log.2026-11-25.1.zst", "app.log.2026-11-25.xz", "app.log.2026-11-25.gz.tmp"]
WITH_BACKUPS = ["vector", "otel", "filebeat"]


def pattern_of(fmt: str, **more: Any) -> str:
    """The pattern for a format."""
    made = text_format(fmt, **more)
    assert made is not None
    return made.pattern()


def line(fmt: str, message: str = "hello [1] there: x", style: Any = "%") -> str:
    """A line of this format."""
    record = logging.LogRecord("shop.cart", logging.WARNING, "cart.py", 7, message, None, None)
    record.stamp = "~"
    return LineFormatter(fmt, style=style).format(record)


@pytest.mark.parametrize(
    ("fmt", "style"),
    [
        (LINE_FORMAT, "%"),
        ("%(asctime)s %(levelname)-8s %(name)s:%(lineno)d %(message)s", "%"),
        ("100%% (%(process)d) $%(message)s^ %(stamp)s", "%"),
        ("%(levelname)s\t%(name)s\t%(message)s", "%"),
        ("{levelname:<9}{asctime} {name} {process:d} {{}} {message}", "{"),
        ("${levelname} $$ $name: $message", "$"),
        ("%(levelno)03d %(levelname).4s %(message)s", "%"),
    ],
)
def test_the_pattern_finds_the_fields_of_a_line(fmt: str, style: str) -> None:
    pattern = pattern_of(fmt, style=style)
    match = re.search(pattern, line(fmt, style=style))
    assert match is not None, pattern
    assert match["message"] == "hello [1] there: x"
    if "levelname" in fmt:
        assert match["levelname"] == ("WARN" if ".4s" in fmt else "WARNING")
    if "name)" in fmt.replace("levelname)", ""):
        assert match["name"] == "shop.cart"


def test_the_pattern_finds_the_fields_of_gunicorns_access_line() -> None:
    text = r'127.0.0.1 - - [25/Nov/2026:17:00:00 +0000] "GET /a?b=\"c\" HTTP/1.1" 200 12 "-" "curl/8 \"x\""'
    match = re.search(pattern_of("%(message)s", access=COMBINED), text)
    assert match is not None
    assert (match["status"], match["request"]) == ("200", r"GET /a?b=\"c\" HTTP/1.1")


def test_the_pattern_finds_the_fields_of_uwsgis_line_of_a_request() -> None:
    # As uWSGI 2.0.30 has written it.
    text = (
        "[pid: 31928|app: 0|req: 1/1] 127.0.0.1 () {24 vars in 255 bytes} [Sun Nov 29 18:59:59 2026] GET /a?b=c =>"
        " generated 1 bytes in 7 msecs (HTTP/1.1 200) 1 headers in 45 bytes (1 switches on core 0)"
    )
    for stamp in ("", " ~1lgosrid6rml.1~"):
        made = uwsgi_format(stamped=bool(stamp))
        match = re.search(made.pattern(), text + stamp)
        assert match is not None
        assert (match["status"], match["uri"], match["duration_ms"]) == ("200", "/a?b=c", "7")
        assert made.time is not None
        assert match["time"] == "Sun Nov 29 18:59:59 2026"
        assert made.time.go == "Mon Jan _2 15:04:05 2006"


def test_a_line_of_access_with_many_backslashes_takes_no_time() -> None:
    text = f'- - - [25/Nov/2026:17:00:00 +0000] "{chr(92) * 4000}" 200 12 "{chr(92) * 4001}x" "{chr(92) * 4000}'
    for more in ({}, {"access": COMBINED}):
        assert re.search(pattern_of("%(message)s %(stamp)s", **more), text) is None


def test_no_line_of_a_traceback_is_taken_for_one_with_a_level() -> None:
    pattern = pattern_of("%(levelname)s %(message)s", escapes=False)
    assert re.search(pattern, "Traceback (most recent call last):") is None
    assert re.search(pattern, '  File "x.py", line 1, in f') is None
    for text in ("WARNING hello", "Level 15 hello"):
        match = re.search(pattern, text)
        assert match is not None
        assert match["message"] == "hello"


@pytest.mark.parametrize(
    ("fmt", "style"),
    [("%(message)s", "%"), ("no field", "%"), ("%(asctime", "%"), ("{message!x}", "{"), ("$", "$")],
)
def test_a_format_that_tells_nothing_has_no_pattern(fmt: str, style: str) -> None:
    assert text_format(fmt, style) is None


@pytest.mark.parametrize(
    ("datefmt", "layout"),
    [
        ("%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S%z"),
        ("[%d/%b/%Y %T]", "[%d/%b/%Y %H:%M:%S]"),
        ("%F %T", "%Y-%m-%d %H:%M:%S"),
        ("%H:%M:%S", None),
        ("%c", None),
        ("%d.%m.%y %H:%M:%S", None),
        ("%Y-%m-%d %I:%M:%S %p", None),
        ("at 5 %F %T", None),
        ("", None),
    ],
)
def test_a_time_is_read_only_if_it_tells_an_instant(datefmt: str, layout: str | None) -> None:
    assert readable_layout(datefmt) == layout


def test_a_cut_time_is_not_read() -> None:
    made = text_format("%(asctime).19s %(levelname)s %(message)s")
    assert made is not None
    assert made.time is None


def files_of(text: str) -> dict[str, Any]:
    """Includes, and the test for what is excluded, of the log "app" in a YAML configuration."""
    config = yaml.safe_load(text)
    if "sources" in config:
        source = config["sources"]["app"]
    elif "receivers" in config:
        source = config["receivers"]["filelog/app"]
    elif "pipeline" in config:
        source = {"include": [config["pipeline"]["inputs"][0]["path"]], "exclude": []}
    else:
        source = config["filebeat.inputs"][0]
        regexes = source["prospector.scanner.exclude_files"]
        return {
            "include": source["paths"],
            "excludes": lambda path: any(re.search(regex, path) is not None for regex in regexes),
        }
    return {
        "include": source["include"],
        "excludes": lambda path: any(fnmatch.fnmatch(path, glob) for glob in source["exclude"]),
    }


def is_read(engine: str, log: ShippedLog, path: str) -> bool:
    """Whether a file is read as one of the log."""
    files = files_of(configuration(engine, [log]))
    return any(fnmatch.fnmatch(path, glob) for glob in files["include"]) and not files["excludes"](path)


@pytest.mark.parametrize("engine", [*WITH_BACKUPS, "fluent-bit"])
def test_the_live_file_is_read_and_nothing_compressed_or_half_made(engine: str) -> None:
    assert is_read(engine, LOG, "/srv/logs/app.log")
    assert not any(is_read(engine, LOG, f"/srv/logs/{name}") for name in [*ARCHIVES, ".app.log.lock", "access.log"])
    # Fluent Bit would read a renamed file a second time.
    assert all(is_read(engine, LOG, f"/srv/logs/{name}") is (engine != "fluent-bit") for name in PLAIN)


@pytest.mark.parametrize("engine", WITH_BACKUPS)
def test_backups_are_read_in_the_archive_dir(engine: str) -> None:
    log = replace(LOG, archive_dir="/srv/old")
    assert all(is_read(engine, log, f"/srv/old/{name}") for name in PLAIN)
    assert not any(is_read(engine, log, f"/srv/old/{name}") for name in ARCHIVES)


@pytest.mark.parametrize("engine", WITH_BACKUPS)
def test_another_log_is_not_read_as_a_backup(engine: str) -> None:
    log = replace(LOG, nested=("/srv/logs/app.log.err",))
    assert not is_read(engine, log, "/srv/logs/app.log.err")
    assert not is_read(engine, log, "/srv/logs/app.log.err.2026-11-25")
    assert is_read(engine, log, "/srv/logs/app.log.2026-11-25")


@pytest.mark.parametrize("engine", ENGINES)
def test_every_log_is_read_from_its_beginning_and_each_place_is_kept(engine: str) -> None:
    text = configuration(engine, LOGS, state="/var/lib/places")
    assert "/var/lib/places" in text
    from_the_beginning = {
        "rsyslog": 'freshStartTail="off"',
        "vector": "read_from: beginning",
        "fluent-bit": "read_from_head: true",
        "otel": "start_at: beginning",
        # Its default.
        "filebeat": "type: filestream",
        "alloy": "tail_from_end = false",
    }[engine]
    assert text.count(from_the_beginning) == len(LOGS)


@pytest.mark.parametrize("engine", WITH_BACKUPS)
def test_archives_of_the_applications_own_function_are_excluded_too(engine: str) -> None:
    log = replace(LOG, archive=".lz4")
    assert not is_read(engine, log, "/srv/logs/app.log.2026-11-25.lz4")
    assert "archives (gz, zst, xz, tmp, lz4)" in configuration(engine, [log])


@pytest.mark.parametrize("engine", ENGINES)
def test_comments_say_what_is_left_out(engine: str) -> None:
    log = replace(LOG, left_out=("something,\nbecause",))
    text = configuration(engine, [log, JSON], left_out=[LeftOut("console", "it writes to no file")])
    comment = "//" if engine == "alloy" else "#"
    lines = text.splitlines()
    assert lines[0] == f"{comment} Left out, and why:"
    assert f"{comment} - console: it writes to no file" in lines
    assert rf"{comment} - app: something,\nbecause" in lines
    assert sum(line.startswith(f"{comment} - app, json: ") for line in lines) >= 1
    if engine not in ("alloy", "rsyslog"):
        assert yaml.safe_load(text) == yaml.safe_load("\n".join(line for line in lines if line[:1] != "#"))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("path", ["/srv/[old]/app.log", "/srv/a*.log", "/srv/${HOME}.log", '/srv/"app".log', "/a\nb"])
def test_a_path_that_means_something_to_a_configuration_is_left_out_and_said_so(engine: str, path: str) -> None:
    text = configuration(engine, [LOG, replace(ACCESS, path=path)])
    assert "- access: a path of it has characters" in text
    assert "remote_addr" not in text
    with pytest.raises(ConfigurationError, match=r"nothing to ship .*access"):
        configuration(engine, [replace(ACCESS, path=path)])


def test_fluent_bit_does_not_stop_at_a_long_line() -> None:
    # https://docs.fluentbit.io/manual/data-pipeline/inputs/tail: by default it stops monitoring that file.
    config = yaml.safe_load(configuration("fluent-bit", LOGS))
    assert all(source["skip_long_lines"] for source in config["pipeline"]["inputs"])


def test_fluent_bit_reads_a_file_with_the_inode_of_another_one_from_its_beginning() -> None:
    # https://github.com/fluent/fluent-bit/issues/8025
    config = yaml.safe_load(configuration("fluent-bit", LOGS))
    assert all(source["db.compare_filename"] for source in config["pipeline"]["inputs"])


def test_a_zone_that_fluent_bit_does_not_know_is_said_so() -> None:
    made = text_format(LINE_FORMAT, zone="Europe/Paris")
    text = configuration("fluent-bit", [replace(LOG, line=made)])
    assert "the zone Europe/Paris: Fluent Bit knows no zones by name" in text
    assert "time_format" not in text


@pytest.mark.parametrize("engine", sorted(ENGINES.keys() - {"rsyslog"}))
@pytest.mark.parametrize(
    ("zone", "datefmt", "told"),
    [
        (None, None, "the offset of its times: the shipper's machine must be in the same zone"),
        ("America/Lima", None, "the offset of its times: the hour that comes twice"),
        ("UTC", None, None),
        (None, "%Y-%m-%d %H:%M:%S %z", None),
    ],
)
def test_times_without_an_offset_are_said_so(
    engine: str, zone: str | None, datefmt: str | None, told: str | None
) -> None:
    text = configuration(engine, [replace(LOG, line=text_format(LINE_FORMAT, datefmt=datefmt, zone=zone))])
    if engine == "fluent-bit" and zone == "America/Lima":
        told = "Fluent Bit knows no zones by name"
    assert told in text if told else "the offset of its times" not in text


def test_a_json_line_may_have_fields_of_any_name() -> None:
    made = json_format(["@timestamp", "log.level", "message"], LineTime("@timestamp", ISO), "log.level")
    for engine in ENGINES:
        text = configuration(engine, [replace(LOG, line=made)])
        if engine not in ("alloy", "rsyslog"):
            yaml.safe_load(text)
        if engine == "alloy":
            assert "- app: the fields @timestamp, log.level" in text
            assert "stage.timestamp" not in text


@pytest.mark.parametrize(
    "to",
    [
        "logs.example.org",
        "udp://logs.example.org:514",
        "tcp://logs.example.org",
        "tcp://h:x",
        "tcp://[::1",
        'tcp://"h":1',
    ],
)
def test_a_destination_that_is_none_is_refused(to: str) -> None:
    with pytest.raises(ConfigurationError, match=r"must be relp://HOST:PORT or tcp://HOST:PORT"):
        configuration("rsyslog", LOGS, to)


def test_rsyslog_looks_each_second_unless_a_file_may_be_full_sooner() -> None:
    assert 'mode="polling"' in configuration("rsyslog", LOGS)
    assert 'mode="inotify"' in configuration("rsyslog", [*LOGS, ShippedLog("big", "/srv/logs/big.log", by_size=True)])


def test_nothing_to_ship_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="nothing to ship"):
        configuration("rsyslog", [])


def test_the_fields_of_a_line_are_named_once() -> None:
    made = text_format("%(levelname)s %(levelname)s %(message)s")
    assert isinstance(made, LineFormat)
    assert made.fields == ("levelname", "message")
    re.compile(made.pattern())


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ({}, []),
        ({14: 900.0}, []),
        ({12: 250.0}, ["b", "c"]),
        ({11: 150.0, 12: 250.0}, ["b", "c"]),
        ({13: 350.0}, ["c"]),
        ({12: 199.0}, []),
    ],
    ids=[
        "never ran",
        "nothing was rolled",
        "rolled twice",
        "rolled before too",
        "rolled once",
        "an older file's place",
    ],
)
def test_what_was_rolled_while_rsyslog_was_down_is_unread(places: dict[int, float], expected: list[str]) -> None:
    files = [("a", 11, 100.0), ("b", 12, 200.0), ("c", 13, 300.0), ("live", 14, 400.0)]
    assert unread(files, "live", places) == expected
