"""What is wrong with the wiring of gunicorn's logs, in sentences that one worker says for all."""

from __future__ import annotations

import logging
import os
import pwd
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from rollsafe._options import VARIABLE_PREFIX
from rollsafe.arguments import checked_path
from rollsafe.errors import LogFileError
from rollsafe.handlers import SafeTimedRotatingFileHandler, living_handlers
from rollsafe.locks import identity_of
from rollsafe.note import read_note
from rollsafe.places import is_special
from rollsafe.settings import Settings

# When gunicorn.conf.py first imported this; a reload does not import again.
_STARTED = time.time()
# By live file: what is to be said of another server that writes it.
_neighbours: dict[str, str] = {}


def is_first(server: Any, worker: Any) -> bool:
    """Whether `worker` is the first of its configuration: of all, or after a reload, which makes a new one."""
    others = [other.cfg for other in server.WORKERS.values() if other is not worker]
    return worker.age == 1 or (bool(others) and all(cfg is not worker.cfg for cfg in others))


def unheeded_reload(worker: Any) -> Iterator[str]:
    """Whether a reload has changed the logging, and this gunicorn has left it as it was."""
    # From 26.1 on gunicorn's logger follows the configuration of a reload; before, it keeps that of the start.
    before, now = worker.log.cfg, worker.cfg
    if before is now or (_logging_of(before) == _logging_of(now) and not _is_edited(now)):
        return
    from gunicorn import __version__, version_info

    if version_info < (26, 1):
        yield (
            f"gunicorn {__version__} does not set up logging again on a reload, so what was changed of it counts from"
            " the next start on; let gunicorn.conf.py import on_reload from rollsafe.gunicorn beside post_fork, or use"
            " gunicorn 26.1 or newer"
        )


def _logging_of(cfg: Any) -> list[Any]:
    """What a configuration says of the log files, comparable with what another one says."""
    rotation = getattr(cfg.settings["logger_class"].get(), "rotation", None)
    variables = {name: value for name, value in cfg.env.items() if name.startswith(VARIABLE_PREFIX)}
    given = [cfg.logconfig_dict, cfg.logconfig_json, cfg.logconfig, cfg.accesslog, cfg.errorlog, rotation, variables]
    return [_comparable(value) for value in given]


def _is_edited(cfg: Any) -> bool:
    """Whether a file of logging settings was written after the arbiter has started."""
    for path in (cfg.logconfig_json, cfg.logconfig):
        with suppress(OSError, TypeError):
            if os.stat(path).st_mtime > _STARTED:
                return True
    return False


def _comparable(value: Any) -> Any:
    """A setting in which a function that the configuration file defines is the same one after it was read again."""
    if isinstance(value, Mapping):
        return {key: _comparable(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_comparable(each) for each in value]
    return getattr(value, "__qualname__", "a function") if callable(value) else value


def quarrels() -> Iterator[str]:
    """Files that two handlers of this process would roll at different times."""
    ways: dict[str, dict[str, str]] = {}
    for name, handler in attached():
        ways.setdefault(handler.baseFilename, {}).setdefault(_way(handler.settings()), name)
    for path, found in ways.items():
        if len(found) > 1:
            described = " and ".join(f"{name} ({way})" for way, name in found.items())
            yield f"{path!r} has two rotations, of {described}; give both the same, or each a file of its own"


def look_for_neighbours(handler: SafeTimedRotatingFileHandler) -> None:
    """Note whether another server writes the live file of `handler` with another rotation.

    To be called before `handler` has opened it, for that notes the rotation of its own. Not looked at are a reload, in
    which this server itself has the file open, and an upgrade (USR2), in which the arbiter before this one has.
    """
    path = handler.baseFilename
    known = any(other.baseFilename == path for other in living_handlers() if other is not handler)
    if known or "GUNICORN_PID" in os.environ:
        return
    note = read_note(path)
    settings = note.told_settings() if note else None
    theirs, ours = _way(settings) if settings else "", _way(handler.settings())
    if theirs in ("", ours):
        return
    # Needed where somebody else was here before, and only there.
    from rollsafe.tools.status import Openers

    for process in Openers().of({identity_of(os.stat(path)): path}, path):
        if process.writes:
            _neighbours[path] = (
                f"{path!r} is also written by process {process.pid} ({process.command}), with {theirs}, while ours has"
                f" {ours}; give both servers the same rotation, or each a directory of its own"
            )
            return


def neighbours() -> Iterator[str]:
    """Other servers that write our files with another rotation, as far as they were there before us."""
    yield from _neighbours.values()


def _way(settings: Settings) -> str:
    """When a handler of these settings rolls over, and what its backups are named after."""
    way = f"when={settings.when!r}, interval={settings.interval}"
    for name in ("atTime", "tz", "suffix"):
        value = getattr(settings, name)
        way += f", {name}={value!r}" if value is not None else ""
    return way


def unrollable(cfg: Any) -> Iterator[str]:
    """Directories of log files in which the workers of a root arbiter will not be allowed to rename.

    To be called in a worker that is still root's: it becomes the other user for this question, and root again.
    """
    if os.geteuid() != 0 or cfg.uid == 0 or os.access not in os.supports_effective_ids:
        return
    handlers = [handler for handler in living_handlers() if not is_special(handler.baseFilename)]
    places = {os.path.dirname(handler.baseFilename) for handler in handlers}
    places |= {handler.archive_dir for handler in handlers if handler.archive_dir}
    with _as_worker(cfg):
        refused = [place for place in sorted(places) if not os.access(place, os.W_OK | os.X_OK, effective_ids=True)]
    for place in refused:
        yield (
            f"the log files in {place!r} will not be rolled over, because the workers become user {cfg.uid}, who may"
            f" not rename files there; give that user write permission on it: chown {cfg.uid} {place}"
        )


@contextmanager
def _as_worker(cfg: Any) -> Iterator[None]:
    """Have the rights of the workers, as gunicorn gives them: the groups of root stay, unless `initgroups` is set."""
    group, groups = os.getegid(), os.getgroups()
    try:
        if cfg.initgroups:
            with suppress(KeyError):
                os.initgroups(pwd.getpwuid(cfg.uid).pw_name, cfg.gid)
        os.setegid(cfg.gid)
        os.seteuid(cfg.uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def silenced() -> Iterator[str]:
    """gunicorn's loggers, where a configuration of the application has switched them off."""
    names = [name for name in ("gunicorn.access", "gunicorn.error") if logging.getLogger(name).disabled]
    if names:
        yield (
            f"{' and '.join(names)} {'were' if len(names) > 1 else 'was'} switched off, as a dictConfig or fileConfig"
            " does to loggers that it does not name; give the application's configuration"
            " 'disable_existing_loggers': False"
        )


def given_files(cfg: Any) -> dict[str, str]:
    """The live files that gunicorn's settings give to loggers, each with a logger's name, before the application loads.

    With `preload_app` it has loaded already, and what it has taken off only the settings still tell.
    """
    config = cfg.logconfig_dict or {}
    files = {handler.baseFilename: name for name, handler in attached()}
    for name, logger in {"root": config.get("root"), **config.get("loggers", {})}.items():
        for key in (logger or {}).get("handlers", ()):
            options = config.get("handlers", {}).get(key, {})
            if options.get("class") == "rollsafe.SafeTimedRotatingFileHandler":
                with suppress(LogFileError):
                    files.setdefault(checked_path(options["filename"], delay=True), name)
    return files


def removed(given: Mapping[str, str]) -> Iterator[str]:
    """Files of `given` whose handlers the application has taken off its loggers, and closed.

    One that is still open may be wrapped in another handler, such as that of a queue.
    """
    kept = {handler.baseFilename for handler in living_handlers() if not getattr(handler, "_closed", False)}
    kept |= {handler.baseFilename for _, handler in attached()}
    for path, name in given.items():
        if path not in kept:
            yield (
                f"{path!r} is not written any more, because the application has taken its handler off {name}, as a"
                " dictConfig, fileConfig or basicConfig(force=True) does that names this logger; leave the logger out"
                " there, or give it a handler of this file there"
            )


def attached() -> Iterator[tuple[str, SafeTimedRotatingFileHandler]]:
    """Our handlers that records reach, each with the name of its logger."""
    loggers = [logging.root, *map(logging.getLogger, tuple(logging.root.manager.loggerDict))]
    for logger in loggers:
        for handler in logger.handlers:
            if isinstance(handler, SafeTimedRotatingFileHandler):
                yield logger.name, handler


def warn(log: Any, sentences: Iterable[str], said: set[str]) -> None:
    """Log each sentence that is not `said` yet, even if gunicorn's error log is switched off."""
    for sentence in sentences:
        if sentence not in said:
            said.add(sentence)
            if log.error_log.disabled:
                made = log.error_log.makeRecord("gunicorn.error", logging.WARNING, __file__, 0, sentence, (), None)
                log.error_log.callHandlers(made)
            else:
                log.warning("%s", sentence)
