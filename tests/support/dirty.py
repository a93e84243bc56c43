"""The application that gunicorn's dirty workers run."""

from __future__ import annotations

from gunicorn.dirty import DirtyApp

from tests.support.apps import line


class Lines(DirtyApp):  # type: ignore[misc]  # gunicorn publishes no types
    """Logs what the web workers ask for."""

    def line(self, stream: str, number: str, size: str) -> str:
        """Log one line that checks itself, and answer the process id."""
        return line(stream, number, size)
