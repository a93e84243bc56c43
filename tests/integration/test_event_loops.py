"""Lines of the event loop of gevent and eventlet, in which nothing can wait."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rollsafe import FileLock
from tests.support.needs import needs_package
from tests.support.servers import backups, run_program, server_environment

CALLING = {
    "gevent": """
from gevent import monkey; monkey.patch_all()
import gevent
hub = gevent.get_hub()
def call(function):
    hub.loop.run_callback(function)
def is_loop():
    return gevent.getcurrent() is hub
from gevent import sleep as switch
""",
    "eventlet": """
import warnings; warnings.simplefilter("ignore")
import eventlet; eventlet.monkey_patch()
hub = eventlet.hubs.get_hub()
def call(function):
    hub.schedule_call_global(0, function)
def is_loop():
    return eventlet.getcurrent() is hub.greenlet
from eventlet import sleep as switch
""",
}
"""Each library, with its `call` from its event loop, and its `switch` to other greenlets."""

PROGRAM = """
import json, logging, sys, time
from pathlib import Path
from rollsafe import SafeTimedRotatingFileHandler

arguments = json.loads(sys.argv[2])
handler = SafeTimedRotatingFileHandler(sys.argv[1], **arguments)
logger = logging.Logger("app")
logger.addHandler(handler)
raised = []

def log(message, *values):
    assert is_loop()
    try:
        logger.warning(message, *values)
    except BaseException as error:
        raised.append(error)
"""
pytestmark = pytest.mark.parametrize(
    "library", [pytest.param(each, marks=needs_package(each)) for each in ("gevent", "eventlet")]
)


def lines_of(live: Path) -> list[str]:
    """All lines of a log, oldest file first."""
    return "".join(path.read_text() for path in [*backups(live), live]).splitlines()


def run(library: str, code: str, live: Path, **arguments: object) -> None:
    """Run a program with a handler of these arguments, which the library has patched."""
    run_program(CALLING[library] + PROGRAM + code, live, json.dumps(arguments))


def test_lines_at_each_moment_of_an_interval_raise_nothing_and_are_kept(library: str, tmp_path: Path) -> None:
    code = """
number = 0
end = int(time.time()) + 3.5
while time.time() < end:
    call(lambda: log("%d", number))
    switch(0.0005)
    number += 1
handler.close()
assert not raised, raised
Path(sys.argv[1]).with_name("count").write_text(str(number))
"""
    run(library, code, tmp_path / "app.log", when="S")
    count = int((tmp_path / "count").read_text())
    assert lines_of(tmp_path / "app.log") == [str(number) for number in range(count)]
    assert len(backups(tmp_path / "app.log")) >= 3


def test_a_full_file_is_rolled(library: str, tmp_path: Path) -> None:
    code = """
for number in range(20):
    call(lambda: log("%d %s", number, "x" * 40))
    switch()
handler.close()
assert not raised, raised
"""
    run(library, code, tmp_path / "app.log", when="W0", utc=True, maxBytes=100)
    assert {line.split()[0] for line in lines_of(tmp_path / "app.log")} == set(map(str, range(20)))
    assert len(backups(tmp_path / "app.log")) == 9


def test_a_rollover_that_another_process_holds_up_does_not_stop_the_loop(library: str, tmp_path: Path) -> None:
    code = """
call(lambda: log("before"))
switch(1.1)
call(lambda: log("after"))
switch(0.1)
handler.close()
assert not raised, raised
"""
    program = CALLING[library] + PROGRAM + code
    with FileLock(tmp_path / ".app.log.lock"):
        ran = subprocess.run(
            [sys.executable, "-c", program, tmp_path / "app.log", '{"when": "S"}'],
            env=server_environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert ran.returncode == 0, ran.stderr
    assert "could not be locked" in ran.stderr
    assert lines_of(tmp_path / "app.log") == ["before", "after"]


def test_a_line_waits_for_the_greenlet_that_has_the_lock(library: str, tmp_path: Path) -> None:
    code = """
handler.acquire()
call(lambda: log("of the loop"))
switch(0.01)
handler.release()
logger.warning("the next one")
handler.close()
assert not raised, raised
"""
    run(library, code, tmp_path / "app.log", when="W0", utc=True)
    assert sorted(lines_of(tmp_path / "app.log")) == ["of the loop", "the next one"]
