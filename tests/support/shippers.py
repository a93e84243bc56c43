"""Lines of a log, parsed as the shippers do by the configurations that are printed for them.

Vector's programs run in Vector's own compiler (vrl-python), patterns for programs in Go in RE2 (google-re2), whose
syntax Go's package regexp accepts (https://pkg.go.dev/regexp/syntax), and Filebeat's script in Duktape (dukpy), an
ECMAScript 5.1 as Filebeat's goja is. The rest is done again here, by the documentation of the shipper that each
function names.
"""

from __future__ import annotations

import datetime
import json
import re
import zoneinfo
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pytest
import yaml

from tests.support.go_times import parse_go_time


class Parsed(NamedTuple):
    """What a shipper makes of a line."""

    raw: str | None
    """The line itself, None if the record does not have it."""
    fields: Mapping[str, Any]
    time: float | None
    """Seconds since the epoch, None if the record has the time at which the line was read."""
    level: str | None


Parse = Callable[[str], Parsed]


def by_vector(configuration: str, log: str, zone: str) -> Parse:
    """Vector: its own compiler of VRL, after the replacement of variables in the file.

    https://vector.dev/docs/reference/environment_variables/: `$$` is a dollar sign.
    """
    vrl = pytest.importorskip("vrl_python", reason="vrl-python, Vector's compiler of VRL, is not installed")
    replaced = re.sub(r"\$\$|\$\{?\w", lambda found: "$" if found[0] == "$$" else "<a variable>", configuration)
    config = yaml.safe_load(replaced)
    assert config["timezone"] == "local"
    (program,) = [each["source"] for each in config["transforms"].values() if each["inputs"] == [log]]

    def parse(line: str) -> Parsed:
        event = {"message": line, "timestamp": "when it was read"}
        made = vrl.VRLRuntime.run(program, event, zone).processed_event
        assert made["log"] == log
        time = None
        if made["timestamp"] != event["timestamp"]:
            time = datetime.datetime.fromisoformat(made["timestamp"].replace(" UTC", "+00:00")).timestamp()
        return Parsed(made["message"], made.get("line", {}), time, made.get("level"))

    return parse


def by_fluent_bit(configuration: str, log: str, zone: str) -> Parse:
    """Fluent Bit, by https://docs.fluentbit.io/manual/data-pipeline/parsers/configuring-parser and its subpages.

    `%L` is a fraction of a second, `%e` a day that may begin with a blank, `%z` an offset, with or without a colon;
    `time_offset` is that of a time without an offset, UTC by default, and `time_system_timezone` takes the zone of the
    machine. A line that does not match is the value of the key `log`.
    """
    config = yaml.safe_load(configuration)
    (source,) = [each for each in config["pipeline"]["inputs"] if each["tag"] == log]
    assert source["name"] == "tail"
    parser = next((each for each in config.get("parsers", ()) if each["name"] == source.get("parser")), None)
    if parser is None:
        return lambda line: Parsed(line, {}, None, None)

    def time_of(text: str) -> float | None:
        if "time_format" not in parser:
            return None
        layout = parser["time_format"].replace("%L", "%f").replace("%e", "%d")
        try:
            moment = datetime.datetime.strptime(text, layout)
        except ValueError:
            return None
        if moment.tzinfo is None:
            local = parser.get("time_system_timezone", False)
            assert local or parser["time_offset"] == "+0000"
            moment = moment.replace(tzinfo=zoneinfo.ZoneInfo(zone) if local else datetime.timezone.utc)
        return moment.timestamp()

    def parse(line: str) -> Parsed:
        fields: Any
        if parser["format"] == "json":
            fields = json.loads(line)
        else:
            # The syntax of Onigmo (doc/RE) is that of Python here, but for the name of a group.
            found = re.search(parser["regex"].replace("(?<", "(?P<"), line)
            if found is None:
                return Parsed(line, {}, None, None)
            fields = found.groupdict()
        assert parser.get("time_keep", True)
        return Parsed(None, fields, time_of(str(fields.get(parser.get("time_key")))), fields.get("levelname"))

    return parse


def by_filebeat(configuration: str, log: str, zone: str) -> Parse:
    """Filebeat, by https://www.elastic.co/docs/reference/beats/filebeat/ (script, decode_json_fields, timestamp).

    A field of the processors is a path with dots. A timestamp that has none of the layouts is left alone.
    """
    dukpy = pytest.importorskip("dukpy", reason="dukpy, an ECMAScript 5.1, is not installed")
    config = yaml.safe_load(configuration)
    (source,) = [each for each in config["filebeat.inputs"] if each["fields"] == {"log": log}]

    def parse(line: str) -> Parsed:
        event: dict[str, Any] = {"message": line}
        time = None
        for processor in source.get("processors", ()):
            ((kind, options),) = processor.items()
            if kind == "script":
                assert options["lang"] == "javascript"
                event |= dukpy.evaljs(options["source"] + RUN_SCRIPT, message=line)
            elif kind == "decode_json_fields":
                assert options["fields"] == ["message"]
                event |= {f"{options['target']}.{name}": value for name, value in json.loads(line).items()}
            elif kind == "copy_fields":
                (copied,) = options["fields"]
                if copied["from"] in event:
                    event[copied["to"]] = event[copied["from"]]
            else:
                assert kind == "timestamp"
                zone_of_time = zone if options["timezone"] == "Local" else options["timezone"]
                (layout,) = options["layouts"]
                time = parse_go_time(layout, str(event.get(options["field"])), zone_of_time)
        fields = {name.removeprefix("line."): value for name, value in event.items() if name.startswith("line.")}
        # Nothing of a line is at the root, where ECS has objects.
        assert set(event) <= {"message", "log.level", *(f"line.{name}" for name in fields)}
        return Parsed(event["message"], fields, time, event.get("log.level"))

    return parse


RUN_SCRIPT = """
var made = {};
process({Get: function (name) { return dukpy[name]; }, Put: function (name, value) { made[name] = value; }});
made
"""


def by_alloy(configuration: str, log: str, zone: str) -> Parse:
    """Alloy, by https://grafana.com/docs/alloy/latest/reference/components/loki/loki.process/.

    `stage.regex` and `stage.json` extract values, `stage.timestamp` takes the time from one, `stage.labels` and
    `stage.structured_metadata` give an entry those that they name. The line stays as it is.
    """
    re2 = pytest.importorskip("re2", reason="google-re2 is not installed")
    (block,) = re.findall(rf'^loki\.process "{log}" \{{$(.*?)^\}}$', configuration, re.MULTILINE | re.DOTALL)
    stages = {
        name: body for name, body in re.findall(r"^  stage\.(\w+) \{$(.*?)^  \}$", block, re.MULTILINE | re.DOTALL)
    }

    def option(stage: str, name: str) -> str | None:
        found = re.search(rf'^    {name} += ("(?:[^"\\]|\\.)*")$', stages[stage], re.MULTILINE)
        return None if found is None else str(json.loads(found[1]))

    def names(stage: str, option: str) -> list[str]:
        found = re.search(rf"^    {option} = \{{(.*)\}}$", stages[stage], re.MULTILINE)
        assert found is not None
        return [part.removesuffix(' = ""') for part in found[1].split(", ")]

    def parse(line: str) -> Parsed:
        values: dict[str, Any] = {}
        if "regex" in stages:
            found = re2.search(str(option("regex", "expression")), line)
            values = {} if found is None else found.groupdict()
        elif "json" in stages:
            told = json.loads(line)
            values = {name: told[name] for name in names("json", "expressions") if name in told}
        time = None
        if "timestamp" in stages:
            location = option("timestamp", "location")
            time = parse_go_time(
                str(option("timestamp", "format")),
                str(values.get(str(option("timestamp", "source")))),
                zone if location in (None, "Local") else location,
            )
        level = None
        if "labels" in stages:
            (label,) = names("labels", "values")
            level = values.get(label)
        kept = names("structured_metadata", "values") if "structured_metadata" in stages else []
        return Parsed(line, {name: values[name] for name in kept if name in values}, time, level)

    return parse
