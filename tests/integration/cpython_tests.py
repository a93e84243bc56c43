"""Runs CPython's own tests of `logging` with our classes in the place of its own; a program, for a fresh interpreter.

Prints a JSON object: what each test failed with, by its name; null if it passed. Tests that the interpreter skips are
left out.
"""

from __future__ import annotations

import gc
import importlib
import json
import logging
import logging.handlers
import os
import sys
import tempfile
import unittest
from typing import Any

from rollsafe import LineFormatter, SafeTimedRotatingFileHandler

# By class of tests: the tests that fit, None for all. Those that are left out are about another class, or no file.
FITTING: dict[str, tuple[str, ...] | None] = {
    "TimedRotatingFileHandlerTest": None,
    "FileHandlerTest": None,
    "RotatingFileHandlerTest": ("test_should_not_rollover", "test_should_not_rollover_non_file", "test_file_created"),
    "HandlerTest": ("test_path_objects", "test_pathlike_objects"),
    "FormatterTest": None,
    "EncodingTest": ("test_encoding_plain_file",),
    "ConfigFileTest": ("test_config8_ok",),
    "ConfigDictTest": ("test_config15_ok",),
    "BasicConfigTest": None,
    "LogRecordFactoryTest": None,
    "ShutdownTest": None,
}


class OurFileHandler(SafeTimedRotatingFileHandler):
    """Made as a `FileHandler` or a `RotatingFileHandler` is; its mode is always to append."""

    def __init__(self, filename: Any, mode: str = "a", maxBytes: int = 0, **arguments: Any) -> None:
        super().__init__(filename, maxBytes=maxBytes, **arguments)


def main() -> None:
    """Run the tests that fit, each in a temporary directory that all share."""
    theirs = importlib.import_module("test.test_logging")

    for module, name, ours in (
        (logging.handlers, "TimedRotatingFileHandler", SafeTimedRotatingFileHandler),
        (logging.handlers, "RotatingFileHandler", OurFileHandler),
        # Its base class is the next one.
        (logging.handlers, "WatchedFileHandler", OurFileHandler),
        (logging, "FileHandler", OurFileHandler),
        (logging, "Formatter", LineFormatter),
    ):
        setattr(module, name, ours)
    outcomes: dict[str, str | None] = {}
    for group, fitting in FITTING.items():
        tests = getattr(theirs, group)
        for name in unittest.defaultTestLoader.getTestCaseNames(tests):
            if fitting is not None and name not in fitting:
                continue
            result = unittest.TestResult()
            tests(name).run(result)
            # A test that failed has left handlers open, of which the next one's look for such would find.
            gc.collect()
            if not result.skipped:
                failed = [text for _, text in result.errors + result.failures]
                outcomes[f"{group}.{name}"] = failed[0] if failed else None
    json.dump(outcomes, sys.stdout)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        tempfile.tempdir = directory
        os.chdir(directory)
        main()
