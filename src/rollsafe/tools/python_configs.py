"""Logging configurations in Python code: the settings of Django, and a dictionary in a module. The code is executed.

Call these functions in a process of its own. They leave the module path, the environment and the time zone as the code
has set them. If the code calls `dictConfig` or `fileConfig`, nothing is configured: no log is opened.
"""

from __future__ import annotations

import importlib
import logging.config
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rollsafe.errors import ConfigurationError
from rollsafe.tools.ini_logging import as_dictionary
from rollsafe.tools.logging_config import LogConfig, config_of

SETTINGS_VARIABLE = "DJANGO_SETTINGS_MODULE"
# The call in manage.py, wsgi.py and asgi.py, as `django-admin startproject` writes it.
_NAMES_SETTINGS = re.compile(rf"""["']{SETTINGS_VARIABLE}["'][\s\],]*=?\s*["']([\w.]+)["']""")
_MANAGE = "manage.py"


def settings_named_in(code: str) -> str | None:
    """The module of settings that the code of a manage.py, wsgi.py or asgi.py names; the environment comes first."""
    found = _NAMES_SETTINGS.search(code)
    return (os.environ.get(SETTINGS_VARIABLE) or found[1]) if found else None


def project_of(path: str) -> tuple[str, str]:
    """The directory on the module path from which a Python file is imported, and the dotted name of its module."""
    directory, name = os.path.split(os.path.abspath(path))
    names = [name.removesuffix(".py")]
    root = _directory_of_manage(directory)
    while directory != root and (root or os.path.exists(os.path.join(directory, "__init__.py"))):
        directory, name = os.path.split(directory)
        names.insert(0, name)
    return directory, ".".join(names)


def read_settings(module: str, root: str, shown: str) -> LogConfig:
    """Read LOGGING of a module of Django's settings.

    Args:
        module: Its dotted name.
        root: The directory from which it is imported.
        shown: The path or name that the user gave.

    Raises:
        ConfigurationError: It cannot be imported.
    """
    _search(root)
    os.environ[SETTINGS_VARIABLE] = module
    with _collected() as configured, _refused_as(f"the settings {module!r} cannot be imported"):
        settings: Any
        try:
            from django.conf import Settings
        except ImportError:
            settings = importlib.import_module(module)
        else:
            # It also gives the process the time zone of the settings.
            settings = Settings(module)
    given = getattr(settings, "LOGGING", None) or {}
    # Without this function, Django leaves LOGGING to the code of the settings, which may give it to dictConfig.
    is_read = bool(getattr(settings, "LOGGING_CONFIG", True))
    if configured and (not given or not is_read):
        given, is_read = configured[-1], True
    return config_of(shown, "Django", given, is_read=is_read)


def read_name(module: str, root: str, name: str | None, shown: str) -> LogConfig:
    """Read a dictionary of a module.

    Args:
        module: The dotted name of the module.
        root: The directory from which it is imported.
        name: The name of the dictionary; None for the only one of the module, or the one that it gives to dictConfig.
        shown: The path or name that the user gave.

    Raises:
        ConfigurationError: The module cannot be imported, or has no such dictionary.
    """
    _search(root)
    with _collected() as configured, _refused_as(f"{module!r} cannot be imported"):
        contents = vars(importlib.import_module(module))
    if name is not None:
        if name not in contents:
            raise ConfigurationError(f"{module!r} has no {name!r}; give the name of a dictionary for dictConfig")
        return config_of(shown, "", contents[name])
    found = {key: value for key, value in contents.items() if isinstance(value, dict) and "version" in value}
    distinct = {id(value): value for value in [*found.values(), *configured]}
    if not distinct:
        raise ConfigurationError(
            f"{shown!r} has no dictionary for dictConfig, and is neither a gunicorn.conf.py nor the settings of Django;"
            f" if another module has the dictionary, give MODULE:NAME"
        )
    if configured:
        return config_of(shown, "", configured[-1])
    if len(distinct) > 1:
        raise ConfigurationError(
            f"{shown!r} has several dictionaries for dictConfig, {' and '.join(sorted(found))}; name one:"
            f" {shown}:{min(found)}"
        )
    return config_of(shown, "", next(iter(distinct.values())))


def _directory_of_manage(directory: str) -> str | None:
    """The directory above that has the manage.py of a Django project, if there is one."""
    while not os.path.isfile(os.path.join(directory, _MANAGE)):
        directory, before = os.path.dirname(directory), directory
        if directory == before:
            return None
    return directory


def _search(root: str) -> None:
    """Find modules in a directory first, as Python does for the directory of its program."""
    sys.path[:] = [root, *(each for each in sys.path if each != root)]


@contextmanager
def _collected() -> Iterator[list[Mapping[str, Any]]]:
    """Collect what code gives to dictConfig and fileConfig, which would open the logs."""
    configured: list[Mapping[str, Any]] = []
    configurator = logging.config.BaseConfigurator({})

    def take_file(
        fname: Any, defaults: Any = None, disable_existing_loggers: bool = True, encoding: str | None = None
    ) -> None:
        config = as_dictionary(os.fspath(fname), defaults or {}, configurator.resolve)
        configured.append({**config, "disable_existing_loggers": disable_existing_loggers})

    real = logging.config.dictConfig, logging.config.fileConfig
    logging.config.dictConfig = lambda config: configured.append(dict(config))
    logging.config.fileConfig = take_file
    try:
        yield configured
    finally:
        logging.config.dictConfig, logging.config.fileConfig = real


@contextmanager
def _refused_as(what: str) -> Iterator[None]:
    """Raise what code raises, which may be anything, as a ConfigurationError."""
    try:
        yield
    except BaseException as error:
        raise ConfigurationError(
            f"{what}: {type(error).__name__}: {error}; run the command in the directory, with the environment and with"
            " the Python packages of the application"
        ) from error
