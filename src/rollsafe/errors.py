"""The two errors that a wrong configuration raises."""

from __future__ import annotations


class ConfigurationError(ValueError):
    """An argument that cannot work; the message names it, its value and the remedy."""


class LogFileError(ConfigurationError, OSError):
    """A path that cannot be logged to; also an OSError, because code written for the standard handlers catches that."""
