"""The file of `logging.config.fileConfig` as the dictionary that `dictConfig` takes for the same loggers and handlers.

As `fileConfig` does, this evaluates the arguments of handlers, which are Python expressions. It opens nothing.
"""

from __future__ import annotations

import configparser
import inspect
import logging
import logging.handlers
from collections.abc import Callable, Mapping
from typing import Any

from rollsafe.errors import ConfigurationError


def as_dictionary(path: str, defaults: Mapping[str, Any], resolve: Callable[[str], Any]) -> dict[str, Any]:
    """The configuration in a file.

    Args:
        path: The file.
        defaults: Values that its expressions may refer to, as `fileConfig` takes them.
        resolve: Gives the object of a dotted name.

    Raises:
        ConfigurationError: The file is no logging configuration.
        OSError: It cannot be read.
    """
    parser = configparser.ConfigParser(defaults)
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file)
        return {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {name: _formatter(parser, name) for name in _names(parser, "formatters", "keys")},
            "handlers": {name: _handler(parser, name, resolve) for name in _names(parser, "handlers", "keys")},
            "root": {"handlers": _names(parser, "logger_root", "handlers")},
            "loggers": {
                parser[f"logger_{name}"]["qualname"]: {
                    "handlers": _names(parser, f"logger_{name}", "handlers"),
                    "propagate": parser.getboolean(f"logger_{name}", "propagate", fallback=True),
                }
                for name in _names(parser, "loggers", "keys")
                if name != "root"
            },
        }
    except OSError:
        raise
    except Exception as error:  # an expression may raise anything
        raise ConfigurationError(f"{path!r} is no logging configuration: {type(error).__name__}: {error}") from error


def _names(parser: configparser.ConfigParser, section: str, key: str) -> list[str]:
    """The names in a list with commas."""
    return [name.strip() for name in parser[section].get(key, "").split(",") if name.strip()]


def _formatter(parser: configparser.ConfigParser, name: str) -> dict[str, Any]:
    """One formatter."""
    section = f"formatter_{name}"
    options = {
        "class": parser.get(section, "class", fallback=None) or "logging.Formatter",
        "format": parser.get(section, "format", raw=True, fallback=None),
        "datefmt": parser.get(section, "datefmt", raw=True, fallback=None),
        "style": parser.get(section, "style", raw=True, fallback="%"),
    }
    return {key: value for key, value in options.items() if value is not None}


def _handler(parser: configparser.ConfigParser, name: str, resolve: Callable[[str], Any]) -> dict[str, Any]:
    """One handler; the names of its positional arguments are those of its class."""
    section = parser[f"handler_{name}"]
    known = vars(logging)
    try:
        kind = eval(section["class"], known)
    except (AttributeError, NameError):
        kind = resolve(section["class"])
    arguments, keywords = eval(section.get("args", "()"), known), eval(section.get("kwargs", "{}"), known)
    given = inspect.signature(kind).bind_partial(*arguments, **keywords).arguments
    options = {"()": kind, **given.pop("kwargs", {}), **given}
    if section.get("formatter"):
        options["formatter"] = section["formatter"]
    return options
