"""One list of the options of rotation: whatever else has to spell them out says the same as `Options`."""

from __future__ import annotations

import datetime
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from rollsafe import ConfigurationError, SafeTimedRotatingFileHandler
from rollsafe._backups.retention import Limits
from rollsafe._gunicorn.conflicts import rotation_text
from rollsafe._options import ENVIRONMENT, OPTIONS, PRESET, Options, options_in, variable_of
from rollsafe._settings import Settings
from rollsafe._values import fields
from rollsafe.gunicorn import rotating_logger, rotating_logs
from rollsafe.tools.logging_config import ConfiguredHandler
from rollsafe.tools.prune import limits_in

DEFAULTS = {field.name: field.default for field in fields(Options)}


def give_nothing(*given: object) -> None:
    """A callable of the application."""


# Of each option: what is given for it, the attribute that the handler has then, and a text of the environment.
GIVEN: dict[str, tuple[Any, Any, str]] = {
    "when": ("w2", "W2", "w2"),
    "interval": (2, 7200, "2"),  # the attribute has seconds, as in the standard library
    "backupCount": (7, 7, "7"),
    "encoding": ("latin-1", "latin-1", ""),
    "delay": (True, True, ""),
    "utc": (1, True, "True"),
    "atTime": (datetime.time(4, 30), datetime.time(4, 30), ""),
    "errors": ("strict", "strict", ""),
    "tz": ("Europe/Paris", "Europe/Paris", "Europe/Paris"),
    "maxBytes": ("1 KiB", 1024, "1 KiB"),
    "suffix": ("%Y%m%d", "%Y%m%d", ""),
    "archive_dir": ("/old", "/old", "/old"),
    "compress": ("gz", "gz", "gz"),
    "compress_level": (3, 3, ""),
    "on_rollover": (give_nothing, give_nothing, ""),
    "max_age": ("2 days", 172800.0, "2 days"),
    "max_total_bytes": ("2 KiB", 2048, "2 KiB"),
    "min_free_bytes": ("3 KiB", 3072, "3 KiB"),
    "permissions": (0o640, 0o640, "640"),
    "lock_writes": (True, True, ""),
}
# What only works together with another option.
WITH: dict[str, dict[str, Any]] = {"compress_level": {"compress": "gz"}, "atTime": {"when": "midnight"}}


def made(directory: Path, option: str) -> SafeTimedRotatingFileHandler:
    """A handler that was given one option."""
    value = directory / "old" if option == "archive_dir" else GIVEN[option][0]
    arguments = {"delay": True, option: value, **WITH.get(option, {})}
    return SafeTimedRotatingFileHandler(directory / "app.log", **arguments)


def configured_with(options: dict[str, Any]) -> ConfiguredHandler:
    """A handler of a configuration that has these options."""
    return ConfiguredHandler(name="app", kind=None, path=None, options=options, loggers=())


def defaults_of(function: Any) -> dict[str, Any]:
    """The parameters of a function, in order, with their defaults."""
    return {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}


def test_this_test_has_a_value_of_each_option() -> None:
    assert list(GIVEN) == list(DEFAULTS)


def test_the_handlers_signature_has_exactly_these_options_in_this_order_with_these_defaults() -> None:
    given = defaults_of(SafeTimedRotatingFileHandler)
    assert next(iter(given.items())) == ("filename", inspect.Parameter.empty)
    assert [*given.items()][1:] == [*DEFAULTS.items()]


def test_the_presets_signature_has_its_options_with_these_defaults() -> None:
    in_preset = {name for name, option in OPTIONS.items() if option.in_preset}
    given = defaults_of(rotating_logs)
    assert given.keys() & DEFAULTS.keys() == in_preset
    assert {name: given[name] for name in in_preset} == {name: {**DEFAULTS, **PRESET}[name] for name in in_preset}


def test_the_note_has_the_options_that_say_so_and_some_facts() -> None:
    noted = {name for name, option in OPTIONS.items() if option.is_noted}
    assert {field.name for field in fields(Settings)} == noted | {"namer", "rotator", "extension", "codec"}
    assert Settings.of(DEFAULTS | {"encoding": "utf-8"}) == Settings() == Settings.of({})


@pytest.mark.parametrize("option", GIVEN)
def test_each_option_is_checked_and_is_an_attribute_of_the_handler(tmp_path: Path, option: str) -> None:
    expected = str(tmp_path / "old") if option == "archive_dir" else GIVEN[option][1]
    handler = made(tmp_path, option)
    assert getattr(handler, option) == expected
    handler.close()


@pytest.mark.parametrize("option", [name for name, option in OPTIONS.items() if option.is_noted or name == "utc"])
def test_each_noted_option_is_in_the_settings_of_the_handler_and_of_its_configuration(
    tmp_path: Path, option: str
) -> None:
    handler = made(tmp_path, option)
    plain = SafeTimedRotatingFileHandler(tmp_path / "app.log", **{"delay": True, **WITH.get(option, {})})
    settings, base = handler.settings(), plain.settings()
    handler.close()
    plain.close()
    # The note says in two settings whether and how backups are compressed.
    noted_as = {"utc": ["tz"], "compress": ["compress", "codec"]}.get(option, [option])
    assert all(getattr(settings, setting) != getattr(base, setting) for setting in noted_as)
    assert settings.replace(**{setting: getattr(base, setting) for setting in noted_as}) == base
    value = str(tmp_path / "old") if option == "archive_dir" else GIVEN[option][0]
    configured = configured_with({option: value, **WITH.get(option, {})})
    assert configured.settings.replace(encoding=settings.encoding) == settings
    assert Settings.read(settings.line()) == settings


def test_what_a_configuration_gives_and_no_handler_takes_is_not_in_its_settings() -> None:
    wrong = {"backupCount": "7", "max_age": "soon", "maxBytes": -1, "max_total_bytes": 0, "min_free_bytes": "x", "z": 1}
    assert configured_with(wrong).settings == Settings()


@pytest.mark.parametrize("limit", ["backupCount", "max_age", "max_total_bytes", "min_free_bytes"])
def test_each_limit_reaches_the_handlers_retention_and_that_of_the_command(tmp_path: Path, limit: str) -> None:
    handler = made(tmp_path, limit)
    name = {"backupCount": "count"}.get(limit, limit)
    expected = Limits(**{name: GIVEN[limit][1]})
    assert handler._live.maintenance.duties.limits() == limits_in(handler.settings()) == expected
    assert expected.any
    handler.close()


def test_every_limit_is_an_option() -> None:
    limits = {"backupCount" if field.name == "count" else field.name for field in fields(Limits)}
    assert limits <= OPTIONS.keys()
    click = pytest.importorskip("click", reason="click is not installed: pip install rollsafe[cli]")
    from rollsafe.cli import prune

    assert isinstance(prune, click.Command)
    offered = {name.removeprefix("--") for each in prune.params for name in each.opts}
    assert limits <= offered


@pytest.mark.parametrize("option", ["when", "interval", "atTime", "tz", "suffix"])
def test_two_handlers_that_roll_at_different_times_are_told_apart_by_each_option_that_decides_it(
    tmp_path: Path, option: str
) -> None:
    plain = SafeTimedRotatingFileHandler(tmp_path / "app.log", **{"delay": True, **WITH.get(option, {})})
    other = made(tmp_path, option)
    assert rotation_text(plain.settings()) != rotation_text(other.settings())
    plain.close()
    other.close()


@pytest.mark.parametrize("option", [name for name, (_, _, text) in GIVEN.items() if text])
def test_a_variable_means_what_the_option_means(option: str) -> None:
    text = GIVEN[option][2]
    options = options_in({variable_of(option): text}.get, ())
    assert options.keys() == {option}
    assert OPTIONS[option].check(option, options[option]) == OPTIONS[option].check(option, GIVEN[option][0])
    assert options_in({variable_of(option): text}.get, {option}) == options_in({variable_of(option): ""}.get, ()) == {}


@pytest.mark.parametrize("option", ["maxBytes", "max_total_bytes", "min_free_bytes"])
def test_a_variable_of_a_size_may_be_a_number_of_bytes(option: str) -> None:
    assert options_in({variable_of(option): "1048576"}.get, ()) == {option: 1 << 20}
    assert OPTIONS[option].check(option, 1 << 20) == 1 << 20


def test_the_environment_has_exactly_the_options_that_a_text_can_give() -> None:
    assert list(ENVIRONMENT) == [name for name, (_, _, text) in GIVEN.items() if text]
    assert variable_of("backupCount") == ENVIRONMENT["backupCount"][0] == "ROLLSAFE_BACKUP_COUNT"
    assert variable_of("max_total_bytes") == "ROLLSAFE_MAX_TOTAL_BYTES"


def test_the_logger_class_says_which_options_the_environment_may_set() -> None:
    documented = rotating_logger.__doc__ or ""
    listed = documented[documented.index("for `when`") : documented.index("Args:")]
    assert re.findall(r"`(\w+)`", listed) == [*ENVIRONMENT]


def test_flask_has_a_key_for_each_parameter_of_the_handler() -> None:
    pytest.importorskip("flask", reason="flask is not installed: pip install rollsafe[flask]")
    from rollsafe.flask import _HANDLER_KEYS

    assert list(_HANDLER_KEYS.values()) == list(inspect.signature(SafeTimedRotatingFileHandler).parameters)
    assert all(key == variable_of(name) for key, name in _HANDLER_KEYS.items())


@pytest.mark.parametrize(
    ("variable", "text", "remedy"),
    [
        ("ROLLSAFE_INTERVAL", "many", "give a whole number"),
        ("ROLLSAFE_BACKUP_COUNT", "1.5", "give a whole number"),
        ("ROLLSAFE_UTC", "yes", "give 1, true, 0 or false"),
        ("ROLLSAFE_PERMISSIONS", "888", "give a mode such as 640"),
    ],
)
def test_a_text_that_cannot_be_read_is_named_with_its_variable_and_the_remedy(
    variable: str, text: str, remedy: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        options_in({variable: text}.get, ())
    assert str(caught.value) == f"{variable}={text!r} cannot be read; {remedy}"
