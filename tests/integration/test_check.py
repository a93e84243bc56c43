"""`rollsafe check`: each thing that can be wrong is made wrong for real, found, and told with its remedy."""

from __future__ import annotations

import json
import logging
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# Before a test changes the working directory: that of the import is gunicorn's default for each configuration, and the
# directory of a test is gone after it.
import gunicorn.config  # noqa: F401
import pytest

from rollsafe.errors import ConfigurationError
from rollsafe.settings import Settings
from rollsafe.tools import trials
from rollsafe.tools.catalog import logs_at
from rollsafe.tools.checks import (
    ERROR,
    OK,
    WARNING,
    Finding,
    Target,
    check_clock,
    check_config,
    check_file_system,
    check_logrotate,
    check_logs,
    check_permissions,
    check_rollover,
)
from rollsafe.tools.configs import read_config
from rollsafe.tools.logrotate import rules
from rollsafe.tools.trials import User
from tests.support.commands import process, run
from tests.support.faulty_fs import mounted
from tests.support.logs import write_log
from tests.support.needs import require_command
from tests.support.servers import server_environment

NOBODY = User(65534, 65534)
PRESET = """
from rollsafe.gunicorn import post_fork, rotating_logs
logconfig_dict = rotating_logs("logs", backupCount=7)
"""
APPLICATION = """
import logging.config
{does}
def app(environ, start_response):
    start_response("200 OK", [])
    return [b""]
"""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GUNICORN_CMD_ARGS", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """A log with two backups."""
    (tmp_path / "logs").mkdir()
    live = tmp_path / "logs" / "app.log"
    write_log(live, backupCount=7)
    return live


def of_config(text: str, *arguments: str) -> list[Finding]:
    """The findings about a gunicorn.conf.py."""
    Path("gunicorn.conf.py").write_text(text, encoding="utf-8")
    return check_config(read_config("gunicorn.conf.py", arguments))


def of_log(live: Path) -> list[Finding]:
    """The findings about a log."""
    return check_logs(logs_at([live]))


def bad(findings: Sequence[Finding]) -> list[Finding]:
    """What is not as it should be; it says why, and what to do."""
    found = [finding for finding in findings if finding.level != OK]
    assert all(finding.why and finding.remedy for finding in found)
    return found


def the_only(findings: Sequence[Finding]) -> Finding:
    """The one thing that is not as it should be."""
    (found,) = bad(findings)
    return found


def test_all_is_well_with_a_sound_log_and_a_sound_configuration(live: Path) -> None:
    findings = of_log(live)
    assert bad(findings) == []
    assert {finding.about for finding in findings} == {
        "file system",
        "append",
        "lock",
        "permission",
        "rollover",
        "clock",
        "zone",
        "logrotate",
        "space",
    }
    assert bad(of_config(PRESET)) == []


def test_nothing_is_left_behind(live: Path) -> None:
    before = sorted(os.listdir(live.parent))
    of_log(live)
    assert sorted(os.listdir(live.parent)) == before


# File system and clock.


def file_system(directory: Path, fault: str) -> list[Finding]:
    """What is found on a file system with a fault."""
    with mounted(directory, fault) as point:
        target = Target(str(point / "app.log"), None)
        return [*check_file_system(str(point)), *check_clock(str(point), target)]


def test_a_sound_file_system_in_user_space_is_sound(tmp_path: Path) -> None:
    assert bad(file_system(tmp_path, "none")) == []


@pytest.mark.parametrize(
    ("fault", "about", "level", "words"),
    [
        ("short writes", "append", ERROR, "were lost or torn"),
        ("no locks", "lock", ERROR, "No locks available"),
        ("deaf locks", "lock", ERROR, "two processes had the lock at once"),
        ("other clock", "clock", WARNING, "3600 s ahead"),
        ("sshfs", "file system", WARNING, "its locks may hold on one host only"),
        ("glusterfs", "file system", WARNING, "each line is written under the lock"),
    ],
)
def test_what_is_wrong_with_a_file_system_is_found(
    fault: str, about: str, level: str, words: str, tmp_path: Path
) -> None:
    found = the_only(file_system(tmp_path, fault))
    assert (found.about, found.level) == (about, level)
    assert words in found.what


def test_a_file_of_the_future_is_found(live: Path) -> None:
    later = time.time() + 7200
    os.utime(live, (later, later))
    found = the_only(of_log(live))
    assert (found.about, found.where) == ("clock", str(live))


# Permissions.


@as_root
def test_a_directory_that_the_workers_may_not_change_is_found(
    public_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(public_directory)
    found = [each for each in bad(of_config(PRESET + "user = 65534\n")) if each.about == "permission"]
    assert [(each.level, each.where) for each in found] == [(ERROR, str(public_directory / "logs"))]
    assert "Permission denied" in found[0].what
    assert str(public_directory / "logs") in found[0].remedy


@as_root
def test_files_that_the_workers_may_not_write_are_found_unless_the_hook_hands_them_over(public_directory: Path) -> None:
    logs = public_directory / "logs"
    write_log(logs / "app.log")
    shutil.chown(logs, NOBODY.uid, NOBODY.gid)
    handed_over, kept = (
        Target(str(logs / "app.log"), Settings(), NOBODY, handed_over=handed_over) for handed_over in (True, False)
    )
    assert bad(list(check_permissions(str(logs), [handed_over], handed_over))) == []
    found = bad(list(check_permissions(str(logs), [kept], kept)))
    assert {each.where for each in found} == {str(logs / "app.log"), str(logs / ".app.log.lock")}


@as_root
def test_who_is_not_root_is_told_that_it_was_not_tried(tmp_path: Path) -> None:
    target = Target(str(tmp_path / "app.log"), None, User(1, 1))
    (told,) = trials.in_child(
        lambda: [each.as_dict() for each in check_permissions(str(tmp_path), [target], target)], NOBODY
    )
    assert (told["level"], told["remedy"]) == (WARNING, "run the check as root")


# Who is root tries it as the user who writes.


def owned_by_nobody(logs: Path) -> Path:
    """A log of the user nobody, in a directory of that user."""
    write_log(logs / "app.log", backupCount=3)
    for path in (logs, *logs.iterdir()):
        shutil.chown(path, NOBODY.uid, NOBODY.gid)
    return logs / "app.log"


@as_root
def test_root_tries_a_log_as_the_user_who_owns_it(public_directory: Path) -> None:
    live = owned_by_nobody(public_directory / "logs")
    findings = of_log(live)
    assert bad(findings) == []
    said = {each.about: each.what for each in findings}
    assert said["permission"] == "user nobody:nogroup may write and roll over"
    assert said["rollover"] == "user nobody:nogroup can rename it to a backup"


@as_root
def test_root_finds_that_a_log_of_another_user_cannot_be_rolled_in_a_directory_of_root(public_directory: Path) -> None:
    live = owned_by_nobody(public_directory / "logs")
    shutil.chown(live.parent, 0, 0)
    found = the_only([each for each in of_log(live) if each.about == "permission"])
    assert (found.level, found.where) == (ERROR, str(live.parent))


@as_root
@pytest.mark.parametrize("owner", [NOBODY, User(0, 0)], ids=["of the workers", "of root"])
def test_a_live_file_in_a_sticky_directory_is_found_if_it_is_not_of_the_workers(
    owner: User, public_directory: Path
) -> None:
    live = public_directory / "logs" / "app.log"
    write_log(live, backupCount=3)
    live.parent.chmod(0o1777)
    for path in live.parent.iterdir():
        path.chmod(0o666)
        shutil.chown(path, owner.uid, owner.gid)
    found = list(check_rollover(Target(str(live), Settings(), NOBODY)))
    if owner == NOBODY:
        assert [each.level for each in found] == [OK]
    else:
        assert the_only(found).what == "user nobody:nogroup cannot rename it: Operation not permitted"
        assert "sticky" in found[0].remedy
    assert live.is_file()


def a_directory_with_links(place: Path, victim: Path) -> None:
    """What another user has made to take the place of a trial's directory."""
    place.mkdir(mode=0o700)
    for name in TRIED:
        (place / name).symlink_to(victim)
    shutil.chown(place, NOBODY.uid, NOBODY.gid)


def a_link(place: Path, victim: Path) -> None:
    """A link to a directory of root's, which has files of these names."""
    a_directory_of_root(victim.parent / "private", victim)
    place.symlink_to(victim.parent / "private")


def a_directory_of_root(place: Path, victim: Path) -> None:
    """A directory of root's that lay there, and was moved."""
    place.mkdir(mode=0o700)
    for name in TRIED:
        shutil.copy(victim, place / name)


TRIED = ("append", "lock", "count", "now")
TRIALS = (trials.append_faults, trials.lock_faults, trials.clock_difference)


@as_root
@pytest.mark.parametrize("trap", [a_directory_with_links, a_link, a_directory_of_root])
@pytest.mark.parametrize("trial", TRIALS)
def test_trials_of_root_write_nothing_that_another_user_has_put_in_their_way(
    trial: Callable[[str], object],
    trap: Callable[[Path, Path], None],
    public_directory: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logs, victim = public_directory / "logs", public_directory / "victim"
    victim.write_text("precious")
    shutil.chown(logs, NOBODY.uid, NOBODY.gid)
    make = tempfile.mkdtemp

    def replaced(*arguments: Any, **keywords: Any) -> str:
        path: str = make(*arguments, **keywords)
        os.rename(path, logs / ".gone")
        trap(Path(path), victim)
        return path

    monkeypatch.setattr(tempfile, "mkdtemp", replaced)
    with pytest.raises(trials.TrialFailed):
        trial(str(logs))
    assert victim.read_text() == "precious"
    for place in (*logs.glob(".rollsafe-check-*"), *public_directory.glob("private")):
        assert {name: (place / name).read_text() for name in TRIED} == dict.fromkeys(TRIED, "precious")


def test_a_directory_that_is_missing_is_found(tmp_path: Path) -> None:
    found = the_only(
        of_config(
            "logconfig_dict = {'loggers': {}, 'root': {'handlers': ['file']}, 'handlers': {'file': {"
            "'class': 'rollsafe.SafeTimedRotatingFileHandler', 'filename': 'none/app.log', 'backupCount': 3}}}"
        )
    )
    assert (found.about, found.where) == ("directory", str(tmp_path / "none"))


# Zone.


@pytest.mark.parametrize(("tz", "level"), [("Mars/Olympus", ERROR), ("unnamed", WARNING)])
def test_a_zone_that_is_not_known_here_is_found(tz: str, level: str, live: Path) -> None:
    lock = live.parent / ".app.log.lock"
    identity = lock.read_bytes().partition(b"\n")[0]
    lock.write_bytes(identity + b"\n" + Settings("H", tz=tz, backupCount=7).line() + b"\n")
    found = the_only(of_log(live))
    assert (found.about, found.level) == ("zone", level)


@pytest.mark.parametrize(
    ("variable", "level"),
    [("Europe/Pari", ERROR), ("Europe/Paris", OK), (":Asia/Tokyo", OK), ("EST5EDT,M3.2.0,M11.1.0", OK), ("UTC", OK)],
)
def test_a_zone_in_the_environment_that_does_not_exist_is_found(variable: str, level: str, live: Path) -> None:
    live.unlink()
    (live.parent / ".app.log.lock").unlink()
    write_log(live, utc=False, backupCount=7)
    command = [sys.executable, "-m", "rollsafe.cli", "check", "--json", str(live)]
    ran = subprocess.run(command, env=server_environment({"TZ": variable}), capture_output=True, text=True)
    levels = {told["about"]: told["level"] for told in json.loads(ran.stdout)}
    assert levels["zone"] == level


@pytest.mark.parametrize(("variable", "level"), [("Europe/Pari", ERROR), ("Asia/Tokyo", OK)])
def test_a_zone_that_the_configuration_sets_for_the_server_counts(
    variable: str, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Europe/Paris" if level == ERROR else "Nowhere/Atall")
    found = [each for each in of_config(PRESET + f"raw_env = ['TZ={variable}']\n") if each.about == "zone"]
    assert {each.level for each in found} == {level}
    assert level == ERROR or "JST" in found[0].what
    assert os.environ["TZ"] != variable


# Others at the same files.

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
def test_a_rule_that_may_not_be_read_is_told_instead_of_called_none(
    public_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = owned_by_nobody(public_directory / "logs")
    closed = public_directory / "closed"
    closed.write_text("/logs/*.log {\n}\n")
    closed.chmod(0o600)
    monkeypatch.setattr("rollsafe.tools.logrotate.PLACES", (str(closed),))
    told = trials.in_child(lambda: [each.as_dict() for each in check_logs(logs_at([live]))], NOBODY)
    assert [(each["about"], each["where"]) for each in told if each["level"] != OK] == [("logrotate", str(closed))]


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


# Space: the sizes are those of sparse files.


def with_backups_of(live: Path, size: int, **retention: Any) -> None:
    """Give each backup a size, and the log some retention settings."""
    for backup in live.parent.glob("app.log.*"):
        os.truncate(backup, size)
    lock = live.parent / ".app.log.lock"
    identity = lock.read_bytes().partition(b"\n")[0]
    lock.write_bytes(identity + b"\n" + Settings("H", tz="UTC", **retention).line() + b"\n")


def free(directory: Path) -> int:
    """Bytes that are free."""
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


def test_backups_that_will_not_fit_are_found(live: Path) -> None:
    with_backups_of(live, free(live.parent) // 5, backupCount=100)
    found = the_only(of_log(live))
    assert (found.about, found.level) == ("space", ERROR)
    with_backups_of(live, free(live.parent) // 5, backupCount=100, max_total_bytes=free(live.parent) // 2)
    assert bad(of_log(live)) == []


def test_a_file_system_that_takes_no_more_files_is_found(live: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs

    def full(path: str) -> os.statvfs_result:
        fields = list(real(path))
        fields[5], fields[7] = 1000, 3  # f_files, f_favail
        return os.statvfs_result(fields)

    monkeypatch.setattr(os, "statvfs", full)
    found = the_only(of_log(live))
    assert (found.about, found.level) == ("space", ERROR)
    assert "3 files more" in found.what


def test_a_limit_of_file_sizes_is_found(live: Path) -> None:
    def limited() -> list[dict[str, str]]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))
        return [each.as_dict() for each in of_log(live)]

    (found,) = [each for each in trials.in_child(limited) if each["level"] != OK]
    assert (found["about"], found["where"], found["level"]) == ("space", "ulimit -f", WARNING)


def test_backups_that_are_kept_for_ever_are_found_with_the_time_that_is_left(live: Path) -> None:
    with_backups_of(live, free(live.parent) // 100)
    found = {each.about: each for each in bad(of_log(live))}
    assert set(found) == {"retention", "space"}
    assert "a day" in found["retention"].why
    assert re.search(r"full in 4\.\d days", found["space"].what)


def test_a_configuration_that_limits_by_anything_keeps_nothing_for_ever() -> None:
    for limit in ("max_age='30 days'", "max_total_bytes='1 GiB'", "min_free_bytes=10"):
        config = PRESET.replace("rotating_logs(", f"rotating_logs({limit}, directory=").replace("backupCount=7", "")
        assert "retention" not in [each.about for each in bad(of_config(config))], config


# The configuration.


@pytest.mark.parametrize(
    ("text", "arguments", "about", "level", "words"),
    [
        ("", (), "handlers", ERROR, "no logger has a handler of rollsafe"),
        (
            PRESET
            + "logconfig_dict['handlers']['again'] = {'class': 'logging.FileHandler', 'filename': 'logs/app.log'}\n"
            "logconfig_dict['root']['handlers'].append('again')\n",
            (),
            "handlers",
            ERROR,
            "app (SafeTimedRotatingFileHandler) and again (FileHandler)",
        ),
        (
            PRESET + "logconfig_dict['handlers']['again'] = logconfig_dict['handlers']['app'] | {'when': 'h'}\n"
            "logconfig_dict['root']['handlers'].append('again')\n",
            (),
            "handlers",
            ERROR,
            "several handlers",
        ),
        (
            PRESET + "logconfig_dict['handlers']['sql'] = logconfig_dict['handlers']['app'] | {\n"
            "    'filename': 'app.log', 'archive_dir': 'old'}\n"
            "logconfig_dict['handlers']['app']['archive_dir'] = 'old'\n"
            "logconfig_dict['loggers']['sql'] = {'handlers': ['sql']}\n",
            (),
            "handlers",
            ERROR,
            "it is the archive_dir of several logs of one name",
        ),
        (
            PRESET + "workers = 2\nlogconfig_dict['handlers']['sql'] = {\n"
            "    'class': 'logging.handlers.RotatingFileHandler', 'filename': 'logs/sql.log'}\n"
            "logconfig_dict['loggers']['sql'] = {'handlers': ['sql']}\n",
            (),
            "handlers",
            ERROR,
            "handler sql is a RotatingFileHandler, in 2 workers",
        ),
        (PRESET, ("--access-logfile", "a.log"), "flags", WARNING, "--access-logfile a.log beside"),
        (PRESET, ("--error-logfile", "e.log"), "flags", WARNING, "--error-logfile e.log beside"),
        (PRESET, ("--access-logfile", "-"), "flags", WARNING, "--access-logfile - beside"),
        (PRESET, ("--error-logfile", "-"), "flags", WARNING, "--error-logfile - beside"),
        (PRESET + "accesslog = '-'\n", (), "flags", WARNING, "--access-logfile - beside"),
        (PRESET, ("--log-syslog",), "flags", WARNING, "--log-syslog beside"),
        (PRESET + "syslog = True\n", (), "flags", WARNING, "--log-syslog beside"),
        (PRESET, ("--capture-output",), "flags", WARNING, "does nothing without --error-logfile"),
        (PRESET, ("--capture-output", "--error-logfile", "logs/error.log"), "flags", ERROR, "which is rotated"),
        (PRESET + "logconfig_json = 'log.json'\n", (), "flags", WARNING, "only logconfig_dict counts"),
        (
            PRESET + "logconfig_dict['disable_existing_loggers'] = True\n",
            (),
            "loggers",
            WARNING,
            "disables every logger that exists",
        ),
        (PRESET, ("no_such_module:app",), "loggers", WARNING, "No module named 'no_such_module'"),
    ],
)
def test_what_is_wrong_with_a_configuration_is_found(
    text: str, arguments: tuple[str, ...], about: str, level: str, words: str
) -> None:
    found = [each for each in bad(of_config(text, *arguments)) if words in each.what]
    assert [(each.about, each.level) for each in found] == [(about, level)]


def flags_of(text: str, *arguments: str) -> list[str]:
    """The settings that have no effect."""
    return [each.where for each in bad(of_config(text, *arguments)) if each.about == "flags"]


def test_flags_from_the_environment_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--access-logfile - --log-syslog")
    assert flags_of(PRESET) == ["--access-logfile", "--log-syslog"]


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        (PRESET, ()),
        (PRESET.replace("backupCount=7", "backupCount=7, error=None"), ("--error-logfile", "-")),
        (PRESET, ("--access-logfile", "logs/access.log")),
        (
            PRESET + "logconfig_dict['loggers']['gunicorn.access'] = "
            "{'handlers': ['access', 'console'], 'propagate': False}\n",
            ("--access-logfile", "-"),
        ),
        (
            PRESET.replace("backupCount=7", "backupCount=7, app=None")
            + "logconfig_dict['loggers']['gunicorn.access'] = "
            "{'handlers': ['access'], 'propagate': True}\n",
            ("--access-logfile", "-"),
        ),
        (
            PRESET + "logconfig_dict['handlers']['syslog'] = {'class': 'logging.handlers.SysLogHandler'}\n"
            "for logger in logconfig_dict['loggers'].values(): logger['handlers'].append('syslog')\n",
            ("--log-syslog",),
        ),
        (PRESET + "del logconfig_dict['loggers']['gunicorn.access']\n", ("--access-logfile", "-")),
    ],
    ids=["none", "console", "same file", "second handler", "propagation", "syslog", "logger not named"],
)
def test_a_flag_that_the_configuration_heeds_is_no_fault(text: str, arguments: tuple[str, ...]) -> None:
    assert flags_of(text, *arguments) == []


INI = """
[loggers]
keys = root, access
[handlers]
keys = file, console
[formatters]
keys = line
[logger_root]
handlers = file
[logger_access]
qualname = gunicorn.access
handlers = console
propagate = 0
[handler_file]
class = {kind}
args = ('{directory}/app.log', 'midnight')
kwargs = {kwargs}
formatter = line
[handler_console]
class = StreamHandler
args = (sys.stdout,)
[formatter_line]
class = rollsafe.LineFormatter
format = {format}
"""


def of_ini(tmp_path: Path, **changed: str) -> list[Finding]:
    """The findings about a logging configuration in a file, which gunicorn is given by --log-config."""
    parts = {"kind": "rollsafe.SafeTimedRotatingFileHandler", "kwargs": "{'backupCount': 3}", "format": "%(message)s"}
    (tmp_path / "log.ini").write_text(INI.format(directory=tmp_path, **{**parts, **changed}))
    return of_config("", "--log-config", "log.ini", "--access-logfile", "-")


def test_a_logging_configuration_in_a_file_is_looked_at_like_one_in_a_dict(tmp_path: Path) -> None:
    assert bad(of_ini(tmp_path)) == []
    (found,) = bad(of_ini(tmp_path, format="%(trace)s"))
    assert (found.about, found.where) == ("records", str(tmp_path / "app.log"))
    (found,) = bad(of_ini(tmp_path, kind="logging.handlers.TimedRotatingFileHandler"))
    assert "no logger has a handler of rollsafe" in found.what


@pytest.mark.parametrize("kwargs", ["{", "1 / 0", "{'a': 1, 'a': }"])
def test_a_logging_configuration_in_a_file_that_cannot_be_read_is_refused_in_a_sentence(
    kwargs: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=r"'log.ini' is no logging configuration: "):
        of_ini(tmp_path, kwargs=kwargs)


@pytest.mark.parametrize(
    "broken",
    [
        "logconfig_dict = {'handlers': {'a': 'b'}, 'root': {'handlers': ['a']}}",
        "logconfig_dict = {'handlers': ['a'], 'root': {'handlers': ['a']}}",
        "logconfig_dict = {'root': ['a']}",
        "logconfig_dict = {'loggers': 'a'}",
    ],
)
def test_a_logging_configuration_that_is_none_is_refused_in_a_sentence(broken: str) -> None:
    with pytest.raises(ConfigurationError, match=r"the logging configuration of .* is none that dictConfig takes: "):
        of_config(broken)


@as_root
def test_workers_of_another_user_without_the_hook_are_found() -> None:
    found = [each for each in bad(of_config(PRESET.replace("post_fork, ", "") + "user = 65534\n"))]
    assert ("flags", "post_fork") in [(each.about, each.where) for each in found]
    assert ("flags", "post_fork") not in [
        (each.about, each.where) for each in of_config(PRESET + "user = 65534\n") if each.level != OK
    ]


@pytest.mark.parametrize(
    ("does", "found"),
    [
        ("", []),
        ("logging.basicConfig(level='DEBUG')", []),
        (
            "logging.config.dictConfig({'version': 1})",
            [("gunicorn.access", "disabled"), ("gunicorn.error", "disabled")],
        ),
        ("logging.basicConfig(force=True)", [("root", "without its handler")]),
    ],
)
def test_what_importing_the_application_does_to_the_loggers_is_found(
    does: str, found: list[tuple[str, str]], tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(APPLICATION.format(does=does))
    told = [each for each in of_config(PRESET, "shop:app") if each.about == "loggers"]
    assert [(each.where, each.what.partition(" leaves it ")[2]) for each in bad(told)] == found
    assert bool(found) != any(each.level == OK for each in told)
    assert logging.getLogger("gunicorn.access").disabled is False


# Records: each handler is given one.

TRACED = PRESET.replace("backupCount=7", "backupCount=7, format='%(otelTraceID)s %(message)s'")


def test_a_format_with_a_field_that_records_lack_is_found_for_each_handler_that_has_it() -> None:
    found = bad(of_config(TRACED))
    assert [(each.level, each.about, os.path.basename(each.where)) for each in found] == [
        (ERROR, "records", "error.log"),
        (ERROR, "records", "app.log"),
    ]
    assert all("'otelTraceID'" in each.what and "defaults" in each.remedy for each in found)
    assert not any(file.stat().st_size for file in Path("logs").iterdir())


@pytest.mark.parametrize(
    "cure",
    [
        "logconfig_dict['formatters']['app']['defaults'] = logconfig_dict['formatters']['error']['defaults']"
        " = {'otelTraceID': '-'}\n",
        "logconfig_dict['filters']['trace'] = {'()': 'tracing.Filter'}\n"
        "for name in ('app', 'error'): logconfig_dict['handlers'][name]['filters'] = ['trace']\n",
        "wsgi_app = 'tracing:app'\n",
    ],
    ids=["defaults", "filter", "record factory of the application"],
)
def test_a_field_that_something_fills_is_no_fault(cure: str, tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "tracing.py").write_text("""
import logging
class Filter(logging.Filter):
    def filter(self, record):
        record.otelTraceID = "4bf9"
        return True
make = logging.getLogRecordFactory()
def traced(*args, **kwargs):
    record = make(*args, **kwargs)
    record.otelTraceID = "4bf9"
    return record
logging.setLogRecordFactory(traced)
def app(environ, start_response): ...
""")
    found = of_config("import os, sys\nsys.path.insert(0, os.path.abspath('lib'))\n" + TRACED + cure)
    assert bad(found) == []
    assert [each.what for each in found if each.about == "records"] == ["each of 3 handlers took a record"]


def test_a_filter_of_the_root_logger_does_not_help_what_other_loggers_hand_on() -> None:
    text = TRACED.replace("backupCount=7", "backupCount=7, error=None, access=None") + (
        "import logging\nclass Filter(logging.Filter):\n"
        "    def filter(self, record):\n        record.otelTraceID = '4bf9'\n        return True\n"
        "logconfig_dict['filters']['trace'] = {'()': Filter}\n"
        "logconfig_dict['root']['filters'] = ['trace']\n"
    )
    assert {os.path.basename(each.where) for each in bad(of_config(text))} == {"app.log", "error_console"}


OF_OURS = """
logconfig_dict = {{'loggers': {{}}, 'root': {{'handlers': ['file']}}, 'handlers': {{'file': {{
    'class': 'rollsafe.SafeTimedRotatingFileHandler', 'filename': 'app.log', 'backupCount': 3, {options}}}}}}}
"""


@pytest.mark.parametrize(
    ("options", "words", "remedy"),
    [
        ("'max_age': '30 dayz'", "max_age='30 dayz' is no age", "give it what its class takes"),
        ("'when': 'fortnight'", "when='fortnight'", "give it what its class takes"),
        ("'colour': 'red'", "unexpected keyword argument 'colour'", "give it what its class takes"),
        ("'formatter': 'none'", "formatter 'none'", "give it what its class takes"),
        ("'encoding': 'ascii', 'errors': 'strict'", "can't encode character", "leave errors out"),
    ],
)
def test_a_handler_that_cannot_be_made_or_would_lose_lines_is_found(options: str, words: str, remedy: str) -> None:
    found = [each for each in bad(of_config(OF_OURS.format(options=options))) if each.about == "records"]
    assert [each.level for each in found] == [ERROR], found
    assert words in found[0].what
    assert remedy in found[0].remedy


def test_a_subclass_that_formats_by_itself_is_tried_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "shop_handlers.py").write_text("""
from rollsafe import SafeTimedRotatingFileHandler
class Handler(SafeTimedRotatingFileHandler):
    def format(self, record):
        return record.tenant
""")
    text = OF_OURS.format(options="").replace("rollsafe.SafeTimedRotatingFileHandler", "shop_handlers.Handler")
    found = [each for each in bad(of_config(f"import sys; sys.path.insert(0, '.')\n{text}")) if each.about == "records"]
    assert [each.level for each in found] == [ERROR]
    assert "no attribute 'tenant'" in found[0].what


# The command.


@pytest.mark.parametrize(
    ("retention", "size", "code"), [({"backupCount": 7}, 5, 0), ({}, 5, 1), ({"backupCount": 100}, 1 << 43, 2)]
)
def test_the_exit_code_tells_the_worst(retention: dict[str, int], size: int, code: int, live: Path) -> None:
    try:
        with_backups_of(live, size, **retention)
    except OSError as error:
        pytest.skip(f"no file of {size} bytes can be made here: {error}")
    ran = run("check", str(live.parent))
    assert (ran.returncode, ran.stderr) == (code, "")
    assert ("why" in ran.stdout) == ("remedy" in ran.stdout) == (code > 0)


def test_arguments_of_gunicorn_follow_after_two_dashes(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(PRESET)
    environment = server_environment()
    command = [sys.executable, "-m", "rollsafe.cli", "check", "--json"]
    ran = subprocess.run([*command, "gunicorn.conf.py"], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout
    flags = ["gunicorn.conf.py", "--", "--access-logfile", "a.log"]
    ran = subprocess.run([*command, *flags], env=environment, capture_output=True, text=True)
    assert ran.returncode == 1
    assert [told["what"] for told in json.loads(ran.stdout) if told["level"] == WARNING] == [
        "--access-logfile a.log beside a logging configuration"
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["none.py"], "does not exist"), (["none"], "does not exist"), ([".", "--", "-w", "2"], "is no gunicorn.conf.py")],
)
def test_what_cannot_be_checked_is_refused_in_a_sentence(arguments: list[str], words: str) -> None:
    ran = run("check", *arguments)
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (2, "", 1)
    assert words in ran.stderr
