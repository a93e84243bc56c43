"""The errors that a wrong configuration raises, and the one for a file that another user may have put in the way."""

from __future__ import annotations


class ConfigurationError(ValueError):
    """An argument that cannot work; the message names it, its value and the remedy."""


class LogFileError(ConfigurationError, OSError):
    """A path that cannot be logged to; also an OSError, because code written for the standard handlers catches that."""


class NotOurs(OSError):
    """A path names a file that is not to be used: another user may have put it there, or it is no regular file.

    `strerror` says why and what to do; the path comes before it.
    """

    def __str__(self) -> str:
        return f"{self.filename!r} {self.strerror}"
