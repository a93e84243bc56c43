"""Bad configuration fails at construction, by a ValueError that names the argument, its value and the remedy."""

from __future__ import annotations

import datetime
import logging.handlers
import os
from pathlib import Path
from typing import Any

import pytest

from rollsafe import ConfigurationError, SafeTimedRotatingFileHandler
from rollsafe._preset import checked_paths
from rollsafe.errors import LogFileError


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"when": "fortnight"}, ["when='fortnight'", "MIDNIGHT"]),
        ({"when": "W7"}, ["when='W7'", "W0 to W6"]),
        ({"interval": 0}, ["interval=0", "positive"]),
        ({"interval": -1}, ["interval=-1", "positive"]),
        ({"interval": 1.5}, ["interval=1.5", "int"]),
        ({"backupCount": -1}, ["backupCount=-1", "0 (keep all)"]),
        ({"backupCount": "7"}, ["backupCount='7'", "whole number"]),
        ({"backupCount": True}, ["backupCount=True", "whole number"]),
        ({"permissions": 0o1777}, ["permissions=0o1777", "0o640"]),
        ({"permissions": 0o440}, ["permissions=0o440", "lets the owner write"]),
        ({"permissions": "0640"}, ["permissions='0640'", "0o640"]),
        ({"tz": "Mars/Olympus"}, ["tz='Mars/Olympus'", "Europe/Paris", "tzdata"]),
        ({"tz": 3}, ["tz=3", "tzinfo"]),
        ({"utc": True, "tz": "Europe/Paris"}, ["utc=True", "tz='Europe/Paris'", "one of them"]),
        ({"when": "h", "atTime": datetime.time(3)}, ["atTime=", "no meaning"]),
        ({"when": "midnight", "atTime": "03:00"}, ["atTime='03:00'", "datetime.time"]),
        ({"encoding": "utf-9"}, ["encoding='utf-9'", "'utf-8'"]),
        ({"encoding": "rot13"}, ["encoding='rot13'", "text encoding"]),
        ({"encoding": "utf-16"}, ["encoding='utf-16'", "mark", "'utf-8'"]),
        ({"encoding": "utf-16-le"}, ["encoding='utf-16-le'", "ends lines with", "'utf-8'"]),
        ({"encoding": "cp037"}, ["encoding='cp037'", "ends lines with", "'utf-8'"]),
        ({"encoding": "utf-8", "errors": "shrug"}, ["errors='shrug'", "shrug"]),
    ],
)
def test_a_wrong_argument_is_named_with_its_value_and_the_remedy(
    tmp_path: Path, arguments: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        SafeTimedRotatingFileHandler(tmp_path / "app.log", **arguments)
    assert isinstance(caught.value, ValueError)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("delay", [False, True])
def test_a_directory_that_does_not_exist(tmp_path: Path, delay: bool) -> None:
    path = tmp_path / "missing" / "app.log"
    with pytest.raises(LogFileError, match="does not exist; create it first") as caught:
        SafeTimedRotatingFileHandler(path, delay=delay)
    assert str(path) in str(caught.value)
    assert isinstance(caught.value, OSError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("delay", [False, True])
def test_a_path_that_is_a_directory(tmp_path: Path, delay: bool) -> None:
    with pytest.raises(LogFileError, match="is a directory; give the path of a file in it"):
        SafeTimedRotatingFileHandler(tmp_path, delay=delay)


def test_a_directory_that_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # access(2) as seen by another user; root, who runs CI, may write everywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: not (path == str(tmp_path) and mode & os.W_OK))
    with pytest.raises(LogFileError, match="cannot be written by user"):
        SafeTimedRotatingFileHandler(tmp_path / "app.log")
    SafeTimedRotatingFileHandler(tmp_path / "app.log", delay=True).close()


def test_the_signature_begins_as_the_standard_librarys(tmp_path: Path) -> None:
    positional = (tmp_path / "app.log", "midnight", 2, 3, "latin-1", True, True, datetime.time(4, 30), "strict")
    ours = SafeTimedRotatingFileHandler(*positional)
    theirs = logging.handlers.TimedRotatingFileHandler(*positional)
    for attribute in (
        "baseFilename", "when", "interval", "backupCount", "delay", "utc", "atTime", "errors", "encoding",
        "suffix", "stream", "mode", "terminator", "namer", "rotator",
    ):  # fmt: skip
        assert getattr(ours, attribute) == getattr(theirs, attribute), attribute
    assert isinstance(ours, logging.handlers.TimedRotatingFileHandler)


@pytest.mark.parametrize("when", ["s", "M", "h", "D", "midnight", "W0", "w6"])
def test_every_when_of_the_standard_library_is_taken(tmp_path: Path, when: str) -> None:
    ours = SafeTimedRotatingFileHandler(tmp_path / "app.log", when, delay=True)
    theirs = logging.handlers.TimedRotatingFileHandler(tmp_path / "app.log", when, delay=True)
    assert (ours.when, ours.interval, ours.suffix) == (theirs.when, theirs.interval, theirs.suffix)


def test_a_read_only_file_system_is_said_to_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writable = os.statvfs(tmp_path)
    read_only = os.statvfs_result([*writable[:8], writable.f_flag | os.ST_RDONLY, writable.f_namemax])
    monkeypatch.setattr(os, "statvfs", lambda path: read_only)
    monkeypatch.setattr(os, "access", lambda path, mode, **options: False)
    for attempt in (
        lambda: SafeTimedRotatingFileHandler(tmp_path / "app.log"),
        lambda: checked_paths(tmp_path, {"app": "app.log"}),
    ):
        with pytest.raises(
            LogFileError, match=r"is on a read-only file system; log .* LogsDirectory= or ReadWritePaths="
        ):
            attempt()
