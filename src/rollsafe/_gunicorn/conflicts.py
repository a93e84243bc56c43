"""Files that two handlers would roll over at different times: two of this process, or one of another server."""

from __future__ import annotations

import os
from collections.abc import Iterator

from rollsafe._files.identity import identity_of
from rollsafe._files.note import read_note
from rollsafe._gunicorn.wiring import attached
from rollsafe._settings import Settings
from rollsafe.handlers import SafeTimedRotatingFileHandler, living_handlers

# By live file: the sentence about another server that writes it.
_other_writers: dict[str, str] = {}


def conflicting_rotations() -> Iterator[str]:
    """Files that two handlers of this process would roll over at different times."""
    rotations: dict[str, dict[str, str]] = {}
    for name, handler in attached():
        rotations.setdefault(handler.baseFilename, {}).setdefault(rotation_text(handler.settings()), name)
    for path, found in rotations.items():
        if len(found) > 1:
            described = " and ".join(f"{name} ({rotation})" for rotation, name in found.items())
            yield f"{path!r} has two rotations, of {described}; give both the same, or each a file of its own"


def find_other_writers(handler: SafeTimedRotatingFileHandler) -> None:
    """Find out whether another server writes the live file of `handler` with another rotation, for `other_writers`.

    Call it before `handler` opens the file, because it then writes its own rotation into the note. It does not look
    during a reload, when this server itself has the file open, nor during an upgrade (USR2), when the arbiter before
    this one has.
    """
    path = handler.baseFilename
    known = any(other.baseFilename == path for other in living_handlers() if other is not handler)
    if known or "GUNICORN_PID" in os.environ:
        return
    note = read_note(path)
    settings = note.parse_settings() if note else None
    theirs, ours = rotation_text(settings) if settings else "", rotation_text(handler.settings())
    if theirs in ("", ours):
        return
    # Only a file with another rotation in its note needs this import.
    from rollsafe.tools.status import Openers

    for process in Openers().of({identity_of(os.stat(path)): path}, path):
        if process.writes:
            _other_writers[path] = (
                f"{path!r} is also written by process {process.pid} ({process.command}), with {theirs}, while ours has"
                f" {ours}; give both servers the same rotation, or each a directory of its own"
            )
            return


def other_writers() -> Iterator[str]:
    """The other servers that wrote our files with another rotation when this server started."""
    yield from _other_writers.values()


def rotation_text(settings: Settings) -> str:
    """The settings that decide when a handler rolls over and how it names backups; equal for equal rotations."""
    text = f"when={settings.when!r}, interval={settings.interval}"
    for name in ("atTime", "tz", "suffix"):
        value = getattr(settings, name)
        text += f", {name}={value!r}" if value is not None else ""
    return text
