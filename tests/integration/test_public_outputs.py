"""The command ends with the exit codes that the page of what is public has, and its JSON is as its schemas say."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rollsafe import LineFormatter, SafeTimedRotatingFileHandler
from tests.support import public
from tests.support.commands import run
from tests.support.logs import backup_of, log, write_log
from tests.support.servers import server_environment
from tests.support.writing import COMMAND

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed: pip install jsonschema")


def sound(directory: Path) -> str:
    """A log of three hours, without a fault."""
    write_log(directory / "app.log", backupCount=7)
    return str(directory)


def damaged(directory: Path) -> str:
    """A log with an archive that is none."""
    backup_of(directory / "app.log", 1, ".gz")
    return sound(directory)


def unlimited(directory: Path) -> str:
    """A log whose backups nothing removes."""
    write_log(directory / "app.log")
    return str(directory)


def named(directory: Path) -> str:
    """Two logs, and only the application knows the names of the backups of one."""
    handler = SafeTimedRotatingFileHandler(directory / "named.log", when="H", utc=True)
    handler.namer = lambda name: f"{name}.txt"
    log(handler, "line")
    handler.close()
    return sound(directory)


def live(directory: Path) -> str:
    """The path of a live file."""
    return str(directory / "app.log")


def missing(directory: Path) -> str:
    """A path that is not there."""
    return str(directory / "none")


# Of each exit code in the table: what the command is given besides its name; a function makes a log and gives its path.
Given = tuple[str | Callable[[Path], str], ...]
SCENARIOS: dict[tuple[str, int], Given] = {
    ("cat", 0): (sound,),
    ("cat", 1): (damaged,),
    ("cat", 2): (missing,),
    ("check", 0): ("--json", sound),
    ("check", 1): ("--json", unlimited),
    ("check", 2): (missing,),
    ("completion", 0): ("bash",),
    ("completion", 2): ("tcsh",),
    ("prune", 0): ("--dry-run", sound),
    ("prune", 1): ("--dry-run", named),
    ("prune", 2): (missing,),
    ("roll", 0): ("--now", sound),
    ("roll", 1): (named,),
    ("roll", 2): (missing,),
    ("ship", 0): ("vector", sound),
    ("ship", 2): ("vector", missing),
    ("status", 0): ("--json", sound),
    ("status", 2): (missing,),
    ("tail", 0): (sound,),
    ("tail", 1): (damaged,),
    ("tail", 2): (missing,),
    ("verify", 0): ("--json", sound),
    ("verify", 1): ("--json", damaged),
    ("verify", 2): (missing,),
    ("write", 0): (live,),
    ("write", 2): ("--when", "never", live),
}
FULL = Path("/dev/full")


def test_each_exit_code_of_the_page_is_tried() -> None:
    listed = {(command, code) for command, codes in public.exit_codes().items() for code in codes}
    assert SCENARIOS.keys() | {("write", 1)} == listed


# `check` tries everything with several processes; other tests have its exit codes, too.
TRIED = [
    pytest.param(*each, marks=pytest.mark.slow if SCENARIOS[each] != (missing,) and each[0] == "check" else ())
    for each in SCENARIOS
]


@pytest.mark.parametrize(("command", "code"), TRIED)
def test_a_command_ends_with_the_exit_code_that_the_page_has(command: str, code: int, tmp_path: Path) -> None:
    given = [part if isinstance(part, str) else part(tmp_path) for part in SCENARIOS[command, code]]
    ran = run(command, *given)
    assert ran.returncode == code, (
        f"`rollsafe {command}` has ended with {ran.returncode}; if that is meant, change the table of exit codes in"
        f" docs/reference/public.md, and name the change in CHANGELOG.md\n{ran.stdout}{ran.stderr}"
    )
    if "--json" in given:
        conform(command, json.loads(ran.stdout))


@pytest.mark.skipif(not FULL.exists(), reason=f"there is no {FULL}")
def test_write_ends_with_1_if_its_standard_output_is_full(tmp_path: Path) -> None:
    with FULL.open("wb") as output:
        ran = subprocess.run(
            [*COMMAND, "--tee", live(tmp_path)],
            env=server_environment(),
            input=b"line\n",
            stdout=output,
            stderr=subprocess.PIPE,
            timeout=120,
        )
    assert ran.returncode == 1, ran.stderr
    assert Path(live(tmp_path)).read_text() == "line\n"


def conform(command: str, output: Any) -> None:
    """Hold what a command has printed against its schema, which here allows no other keys."""
    kind = jsonschema.Draft202012Validator
    error = next(kind(closed(public.schemas()[command]), format_checker=kind.FORMAT_CHECKER).iter_errors(output), None)
    assert error is None, (
        f"`rollsafe {command} --json`, {error.json_path}: {error.message}; if that is meant, change"
        f" src/rollsafe/schemas/{command}.schema.json, and name the change in CHANGELOG.md"
    )


def closed(schema: Any) -> Any:
    """The schema without the freedom to have more keys, which it leaves to later versions."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(value) for key, value in schema.items()}
    return inner | {"additionalProperties": False} if isinstance(inner.get("required"), list) else inner


@pytest.mark.parametrize("command", public.schemas())
def test_a_schema_is_one(command: str) -> None:
    jsonschema.Draft202012Validator.check_schema(public.schemas()[command])


def test_the_json_of_a_log_in_use_is_as_its_schema_says(tmp_path: Path) -> None:
    file, old = tmp_path / "app.log", tmp_path / "old"
    with closing(
        SafeTimedRotatingFileHandler(
            file, when="H", compress="gz", max_age="3 days", max_total_bytes=1, archive_dir=old
        )
    ) as handler:
        handler.setFormatter(LineFormatter("%(asctime)s %(message)s %(stamp)s"))
        for number in range(4):
            log(handler, f"line {number}")
        lines = file.read_bytes().splitlines(keepends=True)
        file.write_bytes(b"".join([lines[0], lines[2], lines[2], lines[3]]))
        ran = run("status", "--json", str(tmp_path))
        assert ran.returncode == 0
        status = json.loads(ran.stdout)
        conform("status", status)
        assert status[0]["processes"] or sys.platform != "linux"
        ran = run("verify", "--json", str(tmp_path))
        assert ran.returncode == 1
        report = json.loads(ran.stdout)
        conform("verify", report)
        assert report["streams"]
        assert report["found"] == {"gap": 1, "doubled": 1}


@pytest.fixture(scope="module")
def printed_status(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The JSON of a sound log."""
    return run("status", "--json", sound(tmp_path_factory.mktemp("logs"))).stdout


@pytest.mark.parametrize(
    "break_it",
    [
        lambda log: log.pop("live"),
        lambda log: log.update(told=True),
        lambda log: log["files"][0].update(modified=1.5),
        lambda log: log["rollover_lock"].update(held="yes"),
        lambda log: log["settings"].update(more=1),
    ],
)
def test_an_output_that_breaks_its_schema_is_noticed(break_it: Callable[[Any], object], printed_status: str) -> None:
    output = json.loads(printed_status)
    break_it(output[0])
    with pytest.raises(AssertionError, match="if that is meant, change"):
        conform("status", output)
