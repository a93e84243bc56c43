"""Lines that are logged in `__del__` while the interpreter ends, when modules and builtins are taken apart."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import ast, builtins, logging, sys
from rollsafe import LineFormatter, SafeTimedRotatingFileHandler

live, keeper, arguments = sys.argv[1:]
arguments = ast.literal_eval(arguments)
handler = SafeTimedRotatingFileHandler(live, **{"when": "H", **arguments})
handler.setFormatter(LineFormatter("%(asctime)s %(message)s"))
log = logging.getLogger("shop")
log.addHandler(handler)
log.propagate = False
if not arguments.get("delay"):
    log.warning("first")

class Logs:
    def __init__(self):
        self.log = log
    def __del__(self):
        self.log.warning("from __del__")
        self.log.warning("and another one")

if keeper == "global":
    kept = Logs()
elif keeper == "cycle":
    kept = Logs()
    kept.itself = kept
elif keeper == "class":
    Logs.kept = Logs()
else:
    builtins.kept = Logs()
"""


@pytest.mark.parametrize("keeper", ["global", "cycle", "class", "builtins"])
@pytest.mark.parametrize(
    "arguments",
    [
        "{}",
        "{'delay': True}",
        "{'compress': 'gz', 'backupCount': 3}",
        "{'tz': 'Europe/Paris', 'max_age': '3 days'}",
        "{'maxBytes': 40, 'when': 'S'}",
        "{'lock_writes': True}",
    ],
)
def test_lines_that_are_logged_while_the_interpreter_ends_are_kept(tmp_path: Path, keeper: str, arguments: str) -> None:
    live = tmp_path / "app.log"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(live), keeper, arguments],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    text = "".join(path.read_text() for path in tmp_path.glob("app.log*"))
    first = [] if "delay" in arguments else ["first"]
    expected = [*first, "from __del__", "and another one"]
    assert sorted(line.partition(",")[2][4:] for line in text.splitlines()) == sorted(expected)
