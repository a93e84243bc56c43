"""`rollsafe check` finds what is wrong with a configuration: handlers, flags, and loggers."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from rollsafe.errors import ConfigurationError
from rollsafe.tools.findings import ERROR, OK, WARNING, Finding
from tests.support.findings import PRESET, as_root, bad, of_config

APPLICATION = """
import logging.config
{does}
def app(environ, start_response):
    start_response("200 OK", [])
    return [b""]
"""


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
        (PRESET, ("--access-logfile", "a.log"), "flags", WARNING, "--access-logfile a.log together with"),
        (PRESET, ("--error-logfile", "e.log"), "flags", WARNING, "--error-logfile e.log together with"),
        (PRESET, ("--access-logfile", "-"), "flags", WARNING, "--access-logfile - together with"),
        (PRESET, ("--error-logfile", "-"), "flags", WARNING, "--error-logfile - together with"),
        (PRESET + "accesslog = '-'\n", (), "flags", WARNING, "--access-logfile - together with"),
        (PRESET, ("--log-syslog",), "flags", WARNING, "--log-syslog together with"),
        (PRESET + "syslog = True\n", (), "flags", WARNING, "--log-syslog together with"),
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
def test_a_fault_of_a_configuration_is_found(
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


def test_a_logging_configuration_in_a_file_is_checked_like_one_in_a_dict(tmp_path: Path) -> None:
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
def test_the_effect_of_importing_the_application_on_the_loggers_is_found(
    does: str, found: list[tuple[str, str]], tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(APPLICATION.format(does=does))
    reported = [each for each in of_config(PRESET, "shop:app") if each.about == "loggers"]
    assert [(each.where, each.what.partition(" leaves it ")[2]) for each in bad(reported)] == found
    assert bool(found) != any(each.level == OK for each in reported)
    assert logging.getLogger("gunicorn.access").disabled is False
