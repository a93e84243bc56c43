"""A uWSGI with the files of `set_up_logs`, and what it has written there."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.support.other_servers import Uwsgi

WIRING = (
    "--shared-pyimport=tests.support.uwsgi_preset",
    "--req-logger=python:uwsgi.access",
    "--logger=python:uwsgi.error",
)
WORKERS = 3


class LoggingUwsgi(Uwsgi):
    """A uWSGI whose requests and messages go where `set_up_logs` has them, or where the arguments say."""

    def __init__(
        self,
        directory: Path,
        *arguments: str,
        program: str | None,
        wiring: Sequence[str] = WIRING,
        workers: int = WORKERS,
        log_format: str = "%(uri)",
        **preset: object,
    ) -> None:
        super().__init__(
            directory,
            "tests.support.uwsgi_preset_app:application",
            workers=workers,
            arguments=[*wiring, "--log-format", log_format, *arguments],
            environment={"UWSGI_PRESET": json.dumps(preset)},
            program=program,
            echo=False,
        )

    def _command(self, listener: int) -> Sequence[str]:
        command = [*super()._command(listener)]
        # Of the harness; a test may give it again.
        command.remove("--disable-logging")
        return command


def lines_of(directory: Path, name: str) -> list[str]:
    """The lines of a log and its backups, in no order."""
    found = []
    for path in (directory / "logs").glob(f"{name}*"):
        text = path.read_text(encoding="utf-8")
        assert text.endswith("\n") or not text
        found += text.splitlines()
    return found


def requests_in(directory: Path) -> Counter[str]:
    """How often the access log has each request."""
    return Counter(line for line in lines_of(directory, "access.log"))


def own_messages_in(directory: Path) -> Counter[tuple[str, int]]:
    """How often the error log has each message that the application has had uWSGI say."""
    found = re.findall(r"^\d+\.\d+ own message (\w+) (\d+)$", "\n".join(lines_of(directory, "error.log")), re.MULTILINE)
    return Counter((stream, int(number)) for stream, number in found)


def asked(acknowledged: dict[str, set[int]], sizes: Sequence[int]) -> set[str]:
    """The requests of clients that were answered, as the access log has them."""
    return {
        f"/own/{stream}/{number}/{sizes[number % len(sizes)]}"
        for stream, numbers in acknowledged.items()
        for number in numbers
    }


def is_running(pid: int) -> bool:
    """Whether a process has not ended."""
    try:
        return b") Z " not in Path(f"/proc/{pid}/stat").read_bytes()
    except FileNotFoundError:
        return False
