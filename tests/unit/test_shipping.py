"""Configurations for shippers: they read what they should, nothing twice, and understand the lines."""

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
from rollsafe.tools.shipping import COMBINED, ENGINES, ShippedLog, configuration

LOG = ShippedLog("app", "/srv/logs/app.log", LINE_FORMAT)
ACCESS = ShippedLog("access", "/srv/logs/access.log", COMBINED)
JSON = ShippedLog("json", "/srv/logs/json.log", "%(asctime)s %(message)s", is_json=True)
LOGS = [LOG, ACCESS, JSON]
PLAIN = ["app.log.2026-11-25", "app.log.2026-11-25.1", "app.log.2026-11-25_16-00-00.12"]
ARCHIVES = ["app.log.2026-11-25.gz", "app.log.2026-11-25.1.zst", "app.log.2026-11-25.xz", "app.log.2026-11-25.gz.tmp"]


def line(fmt: str, message: str = "hello [1] there: x") -> str:
    """A line of this format."""
    record = logging.LogRecord("shop.cart", logging.WARNING, "cart.py", 7, message, None, None)
    record.stamp = "~"
    return LineFormatter(fmt).format(record)


@pytest.mark.parametrize(
    "fmt",
    [
        LINE_FORMAT,
        "%(asctime)s %(levelname)-8s %(name)s:%(lineno)d %(message)s",
        "100%% (%(process)d) $%(message)s^ %(stamp)s",
    ],
)
def test_the_pattern_finds_the_fields_of_a_line(fmt: str) -> None:
    pattern = ShippedLog("app", "/app.log", fmt).pattern()
    assert pattern is not None
    match = re.search(pattern, line(fmt))
    assert match is not None, pattern
    assert match["message"] == "hello [1] there: x"
    if "levelname" in fmt:
        assert match["levelname"] == "WARNING"
        assert match["name"] == "shop.cart"


def test_the_pattern_finds_the_fields_of_gunicorns_access_line() -> None:
    text = r'127.0.0.1 - - [25/Nov/2026:17:00:00 +0000] "GET /a?b=\"c\" HTTP/1.1" 200 12 "-" "curl/8 \"x\""'
    match = re.search(str(ACCESS.pattern()), text)
    assert match is not None
    assert (match["status"], match["request"]) == ("200", r'"GET /a?b=\"c\" HTTP/1.1"')


@pytest.mark.parametrize("fmt", [None, "%(message)s", "no field"])
def test_a_format_that_tells_nothing_has_no_pattern(fmt: str | None) -> None:
    assert ShippedLog("app", "/app.log", fmt).pattern() is None


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
        (regex,) = source["prospector.scanner.exclude_files"]
        return {"include": source["paths"], "excludes": lambda path: re.search(regex, path) is not None}
    return {
        "include": source["include"],
        "excludes": lambda path: any(fnmatch.fnmatch(path, glob) for glob in source["exclude"]),
    }


@pytest.mark.parametrize("engine", ["vector", "otel", "filebeat", "fluent-bit"])
def test_the_live_file_is_read_and_nothing_compressed_or_half_made(engine: str) -> None:
    files = files_of(configuration(engine, LOGS))

    def is_read(name: str) -> bool:
        path = f"/srv/logs/{name}"
        return any(fnmatch.fnmatch(path, glob) for glob in files["include"]) and not files["excludes"](path)

    assert is_read("app.log")
    assert not any(map(is_read, [*ARCHIVES, ".app.log.lock", "access.log"]))
    # Fluent Bit would read a renamed file a second time.
    assert all(is_read(name) is (engine != "fluent-bit") for name in PLAIN)


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


def test_archives_of_the_applications_own_function_are_excluded_too() -> None:
    log = ShippedLog("app", "/srv/logs/app.log", LINE_FORMAT, archive=".lz4")
    for engine in ("vector", "otel", "filebeat"):
        assert files_of(configuration(engine, [log]))["excludes"]("/srv/logs/app.log.2026-11-25.lz4")


def test_the_time_of_a_line_in_a_zone_of_its_own_is_not_taken_for_that_of_the_machine() -> None:
    local = ShippedLog("app", "/srv/logs/app.log", "%(asctime)s %(message)s")
    assert (local.timed, replace(local, local_time=False).timed) == (True, False)


@pytest.mark.parametrize(
    "to", ["logs.example.org", "udp://logs.example.org:514", "tcp://logs.example.org", "tcp://h:x"]
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
