"""`rollsafe check` finds other programs that rotate or write the same files."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from rollsafe.tools import trials
from rollsafe.tools.catalog import logs_at
from rollsafe.tools.check_files import check_logrotate
from rollsafe.tools.checks import check_logs
from rollsafe.tools.findings import ERROR, OK, WARNING, Target
from rollsafe.tools.logrotate import rules
from tests.support.commands import process
from tests.support.findings import NOBODY, as_root, bad, of_log, owned_by_nobody, the_only
from tests.support.needs import require_command

LOGROTATE = """
# "/commented/out.log" {{ }}
weekly
rotate 4
/elsewhere/*.log "{directory}/*.log" {{
    daily
    postrotate
        if [ -f /x ]; then kill -HUP $(cat /x); fi; {{ true; }}
    endscript
}}
/elsewhere/other {{
}}
"""


def test_a_rule_of_logrotate_that_takes_the_file_is_found(tmp_path: Path) -> None:
    configuration = tmp_path / "logrotate.d"
    configuration.mkdir()
    (configuration / "shop").write_text(LOGROTATE.format(directory=tmp_path / "logs"))
    (tmp_path / "logrotate.conf").write_text(f"include {configuration}\n")
    found_rules = rules([str(tmp_path / "logrotate.conf")])
    assert [rule.pattern for rule in found_rules] == ["/elsewhere/*.log", f"{tmp_path}/logs/*.log", "/elsewhere/other"]
    target = Target(str(tmp_path / "logs" / "app.log"), None)
    found = the_only(list(check_logrotate(target, found_rules)))
    assert (found.level, found.where) == (ERROR, str(configuration / "shop"))
    assert bad(list(check_logrotate(Target(str(tmp_path / "logs" / "deeper" / "app.log"), None), found_rules))) == []


def test_rules_are_read_as_logrotate_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    configuration = tmp_path / "logrotate.d"
    configuration.mkdir()
    block = "{pattern} {{\n}}\n"
    (configuration / "home").write_text(block.format(pattern="~/logs/*.log") + f"include {tmp_path}/logrotate.conf\n")
    for left_out in ("old.dpkg-old", "old~", "old.rpmsave", "old.bak"):
        (configuration / left_out).write_text(block.format(pattern="/left/out"))
    os.mkfifo(configuration / "fifo")
    (tmp_path / "logrotate.conf").write_text(f"include {configuration}\ninclude {tmp_path}/logrotate.conf\n")
    found_rules = rules([str(tmp_path / "logrotate.conf")])
    assert [rule.pattern for rule in found_rules] == [f"{tmp_path}/home/logs/*.log"]


@as_root
def test_a_rule_that_may_not_be_read_is_reported_instead_of_called_none(
    public_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = owned_by_nobody(public_directory / "logs")
    closed = public_directory / "closed"
    closed.write_text("/logs/*.log {\n}\n")
    closed.chmod(0o600)
    monkeypatch.setattr("rollsafe.tools.logrotate.PLACES", (str(closed),))
    reported = trials.in_child(lambda: [each.as_dict() for each in check_logs(logs_at([live]))], NOBODY)
    assert [(each["about"], each["where"]) for each in reported if each["level"] != OK] == [("logrotate", str(closed))]


def test_logrotate_itself_takes_the_same_files(tmp_path: Path) -> None:
    logrotate = require_command("logrotate", package="logrotate")
    (tmp_path / "logs").mkdir(mode=0o755)
    for name in ("app.log", "app.log.2026-11-25", "other"):
        (tmp_path / "logs" / name).write_text("line\n")
    configuration = tmp_path / "logrotate.conf"
    configuration.write_text(LOGROTATE.format(directory=tmp_path / "logs").replace("daily", "daily\n    missingok"))
    configuration.chmod(0o644)
    ran = subprocess.run(
        [logrotate, "--debug", "--state", str(tmp_path / "state"), str(configuration)], capture_output=True, text=True
    )
    considered = {path for path in re.findall(r"considering log (\S+)", ran.stderr) if os.path.exists(path)}
    ours = {
        str(path)
        for path in (tmp_path / "logs").iterdir()
        if any(rule.matches(str(path)) for rule in rules([str(configuration)]))
    }
    assert considered == ours == {str(tmp_path / "logs" / "app.log")}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")
def test_a_process_that_writes_the_file_with_another_handler_is_found(live: Path) -> None:
    stranger = "import logging, sys; handler = logging.FileHandler(sys.argv[1])"
    ours = (
        "import logging, sys; from rollsafe import SafeTimedRotatingFileHandler\n"
        "handler = SafeTimedRotatingFileHandler(sys.argv[1], when='H', utc=True, backupCount=7)\n"
        "handler.handle(logging.makeLogRecord({'msg': 'line'}))"
    )
    with process(stranger, live) as pid, process(ours, live):
        found = the_only(of_log(live))
    assert (found.about, found.level) == ("writers", WARNING)
    assert f"process {pid} " in found.what
