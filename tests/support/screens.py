"""What the command prints for people."""

from __future__ import annotations

import io
import time

from rich.console import Console

from rollsafe.tools import screen
from rollsafe.tools.status import Status


def shown(status: Status, now: float | None = None, *, terminal: bool = False) -> str:
    """What is printed for people."""
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100, highlight=False, no_color=True)
    screen.show_status(console, [status], time.time() if now is None else now)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()
