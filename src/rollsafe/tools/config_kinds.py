"""Which kind of configuration a path or a name is, and how each kind is read. Some kinds are executed."""

from __future__ import annotations

import ast
import importlib.util
import json
import logging.config
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from rollsafe._files.lock_files import lock_path
from rollsafe.errors import ConfigurationError, LogFileError
from rollsafe.tools.catalog import Log, logs_at
from rollsafe.tools.configs import read_config
from rollsafe.tools.ini_logging import as_dictionary
from rollsafe.tools.logging_config import LogConfig, config_of
from rollsafe.tools.python_configs import SETTINGS_VARIABLE, project_of, read_name, read_settings, settings_named_in
from rollsafe.tools.trials import TrialFailed, in_child

UNDERSTOOD = (
    "a log directory, a live file, a gunicorn.conf.py, a settings module or the manage.py of Django, a logging"
    " configuration in a file (.json, .yaml, .toml, .ini), or MODULE:NAME of a dictionary for dictConfig"
)

# Names in Django's settings that no gunicorn.conf.py has.
_OF_DJANGO = frozenset({"INSTALLED_APPS", "ROOT_URLCONF", "WSGI_APPLICATION", "MIDDLEWARE", "DATABASES"})
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_NAMED = re.compile(rf"(?P<module>{_MODULE.pattern}|.+\.py):(?P<name>[^\W\d]\w*)")
# hypercorn's `logconfig` says of which kind the file is.
_PREFIXED = re.compile(r"(json|toml):(.+)")
_INI = (".ini", ".conf", ".cfg", ".config")


def read_any(path: str, arguments: Sequence[str] = ()) -> LogConfig | None:
    """Read a configuration; None if the path is that of a log: of a directory, or of a live file.

    Call it in a process of its own, because it may execute code.

    Args:
        path: The path or name, as a user gives it.
        arguments: Arguments of gunicorn.

    Raises:
        ConfigurationError: It cannot be read, or is none that is understood.
        LogFileError: It does not exist.
    """
    read = _reader_of(path)
    if read is read_config or (arguments and read is _refuse):
        return read_config(path, arguments)
    if arguments:
        raise ConfigurationError(f"{path!r} is no gunicorn.conf.py, so no arguments may follow it")
    return None if read is None else read(path)


def read_in_child(path: str, attempt: Callable[[], Any], *, done: str, timeout: float) -> Any:
    """Call a function that reads what a user has named, and may execute it, in a quiet process of its own.

    Args:
        path: The path or name, as the user gave it.
        attempt: The function; its value must be JSON.
        done: What it does, as a participle for the sentence about a process that fails.
        timeout: Seconds that it may take.

    Raises:
        ConfigurationError: It raised this, or it failed otherwise.
        OSError: It raised this.
    """

    def answer() -> dict[str, Any]:
        try:
            return {"result": attempt()}
        except OSError as error:
            return {"refused": str(error), "system": [error.errno, error.strerror, error.filename]}
        except ConfigurationError as error:
            return {"refused": str(error)}

    try:
        told = in_child(answer, quiet=True, timeout=timeout)
    except TrialFailed as error:
        raise ConfigurationError(f"{path!r} could not be {done}: {error}") from error
    if "refused" in told:
        system = told.get("system", [None])
        raise ConfigurationError(told["refused"]) if system[0] is None else OSError(*system)
    return told["result"]


def logs_named(path: str) -> list[Log]:
    """The logs of a directory, or of a live file, if `read_any` has found no configuration.

    Raises:
        LogFileError: It does not exist, or there is no log at it.
        OSError: It cannot be inspected.
    """
    try:
        return logs_at([path])
    except LogFileError as error:
        what = str(error) if os.path.lexists(path) else f"{path!r} does not exist"
        raise LogFileError(f"{what}; the command understands {UNDERSTOOD}") from error


def _reader_of(path: str) -> Callable[[str], LogConfig] | None:
    """The function that reads a configuration; None for a log."""
    if os.path.isdir(path):
        manage = os.path.join(path, "manage.py")
        return (lambda _: _read_project(manage, path)) if os.path.isfile(manage) else None
    if not os.path.exists(path):
        return _reader_of_name(path)
    ending = os.path.splitext(path)[1].lower()
    if ending == ".py":
        return _reader_of_python(path)
    if os.path.lexists(lock_path(path)):
        return None
    if ending in _INI:
        return _read_ini
    return _read_file if ending in _PARSERS else None


def _reader_of_name(name: str) -> Callable[[str], LogConfig] | None:
    """The function that reads something that is no path of a file; None for a log that may not exist yet."""
    if _PREFIXED.fullmatch(name):
        return _read_logconfig
    if found := _NAMED.fullmatch(name):
        if found["module"].endswith(".py"):
            root, module = project_of(found["module"])
        else:
            root, module = os.getcwd(), found["module"]
        member = found["name"]
        return lambda _: read_name(module, root, member, name)
    if name.endswith(".py"):
        raise LogFileError(f"{name!r} does not exist; the command understands {UNDERSTOOD}")
    is_module = "." in name or name == os.environ.get(SETTINGS_VARIABLE)
    if not is_module or not _MODULE.fullmatch(name) or name.endswith(".log") or os.path.lexists(lock_path(name)):
        return None
    # A module of a project that names the settings, such as shop.wsgi.
    source = f"{name.replace('.', os.sep)}.py"
    if os.path.isfile(source) and settings_named_in(_code_of(source)):
        return lambda _: _read_project(source, name)
    # The first part of the name of a file, such as app.log, may be that of a module.
    top = name.partition(".")[0]
    if not os.path.exists(top) and not os.path.exists(f"{top}.py") and importlib.util.find_spec(top) is None:
        return None
    return lambda _: read_settings(name, os.getcwd(), name)


def _reader_of_python(path: str) -> Callable[[str], LogConfig]:
    """The function that reads a Python file, by the names that it sets. It is not executed for that."""
    code = _code_of(path)
    try:
        module = ast.parse(code)
    except (SyntaxError, ValueError):
        return read_config  # gunicorn says what is wrong with it
    base = os.path.basename(path)
    if base == "manage.py" or settings_named_in(code):
        return lambda _: _read_project(path, path)
    names = _names_set_in(module)
    directory = os.path.basename(os.path.dirname(os.path.abspath(path)))
    if "settings" in (directory, base.removesuffix(".py")) or names & _OF_DJANGO or _continues_another(module):
        root, name = project_of(path)
        return lambda _: read_settings(name, root, path)
    if base.endswith(".conf.py") or base.startswith("gunicorn") or names & _settings_of_gunicorn():
        return read_config
    if "LOGGING" in names:
        root, name = project_of(path)
        return lambda _: read_settings(name, root, path)
    if any(isinstance(node, ast.Constant) and node.value == "version" for node in ast.walk(module)):
        root, name = project_of(path)
        return lambda _: read_name(name, root, None, path)
    return read_config if "*" in names or not _settings_of_gunicorn() else _refuse


def _refuse(path: str) -> LogConfig:
    """Refuse a Python file of no kind that is understood."""
    raise ConfigurationError(
        f"{path!r} has no setting of gunicorn or Django, and no dictionary for dictConfig; the command understands"
        f" {UNDERSTOOD}"
    )


def _read_project(path: str, shown: str) -> LogConfig:
    """Read the settings that a manage.py, wsgi.py or asgi.py names, which is not executed."""
    module = settings_named_in(_code_of(path)) or os.environ.get(SETTINGS_VARIABLE)
    if not module:
        raise ConfigurationError(
            f"{path!r} names no settings; give the module of Django's settings, or set {SETTINGS_VARIABLE}"
        )
    return read_settings(module, project_of(path)[0], shown)


def _code_of(path: str) -> str:
    """The text of a Python file."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def _continues_another(module: ast.Module) -> bool:
    """Whether a module takes over all of a neighbour, as split settings do; gunicorn.conf.py is in no package."""
    imports = (node for node in module.body if isinstance(node, ast.ImportFrom) and node.level)
    return any(alias.name == "*" for node in imports for alias in node.names)


def _names_set_in(module: ast.Module) -> set[str]:
    """The names that the top level of a module assigns, defines or imports."""
    names = set()
    waiting: list[ast.AST] = [module]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.ImportFrom):
            names.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
            continue
        waiting += ast.iter_child_nodes(node)
    return names


def _settings_of_gunicorn() -> frozenset[str]:
    """The names of gunicorn's settings that only its own file sets; none without gunicorn."""
    try:
        from gunicorn.config import KNOWN_SETTINGS
    except ImportError:
        return frozenset()
    # Other modules have a `config`, too.
    return frozenset(setting.name for setting in KNOWN_SETTINGS) - {"config"}


def _read_file(path: str, ending: str | None = None) -> LogConfig:
    """Read a file with a dictionary, or one of hypercorn that names such a file."""
    parse = _PARSERS[ending or os.path.splitext(path)[1].lower()]
    with open(path, "rb") as file:
        text = file.read()
    try:
        contents = parse(text.decode())
    except ConfigurationError:
        raise
    except Exception as error:  # each parser has errors of its own
        raise ConfigurationError(
            f"{path!r} cannot be read: {' '.join(str(error).split())}; the command understands {UNDERSTOOD}"
        ) from error
    if isinstance(contents, dict) and isinstance(contents.get("logconfig"), str) and "version" not in contents:
        return _read_logconfig(contents["logconfig"])
    found = _configurations_in(contents)
    if len(found) != 1:
        raise ConfigurationError(f"{path!r} is no logging configuration; the command understands {UNDERSTOOD}")
    return config_of(path, "", found[0])


def _configurations_in(contents: Any) -> list[dict[str, Any]]:
    """The logging configurations in the contents of a file: the whole, or its parts, such as [logging] in TOML."""
    if not isinstance(contents, dict):
        return []
    if {"handlers", "loggers", "root"} & contents.keys():
        return [contents]
    return [each for each in contents.values() if isinstance(each, dict) and "handlers" in each and "version" in each]


def _read_logconfig(named: str) -> LogConfig:
    """Read the file that hypercorn's `logconfig` names."""
    if found := _PREFIXED.fullmatch(named):
        return _read_file(found[2], f".{found[1]}")
    return _read_ini(named)


def _read_ini(path: str) -> LogConfig:
    """Read a file for fileConfig, as uvicorn and hypercorn do."""
    with open(path, encoding="utf-8", errors="replace") as file:
        sections = set(re.findall(r"^\[(\w+)\]", file.read(), re.MULTILINE))
    if not {"loggers", "handlers"} <= sections:
        raise ConfigurationError(
            f"{path!r} is no logging configuration, because it has no [loggers] and [handlers]"
            + ("; uWSGI itself configures no logging of Python" if "uwsgi" in sections else "")
            + f"; the command understands {UNDERSTOOD}"
        )
    here = {"__file__": path, "here": os.path.dirname(path)}
    return config_of(path, "", as_dictionary(path, here, logging.config.BaseConfigurator({}).resolve))


def _from_yaml(text: str) -> Any:
    """The contents of a YAML file."""
    try:
        import yaml
    except ImportError as error:
        raise ConfigurationError(
            "a YAML file cannot be read without PyYAML; install it with: pip install pyyaml"
        ) from error
    return yaml.safe_load(text)


def _from_toml(text: str) -> Any:
    """The contents of a TOML file."""
    for name in ("tomllib", "tomli"):
        with suppress(ImportError):
            return importlib.import_module(name).loads(text)
    raise ConfigurationError(
        "a TOML file cannot be read before Python 3.11 without tomli; install it: pip install tomli"
    )


_PARSERS: dict[str, Callable[[str], Any]] = {
    ".json": json.loads,
    ".yaml": _from_yaml,
    ".yml": _from_yaml,
    ".toml": _from_toml,
}
