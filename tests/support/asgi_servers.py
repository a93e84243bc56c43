"""hypercorn and granian, on the harness of `servers`, by the commands that the guide shows."""

from __future__ import annotations

import http.client
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support.servers import ServerProcess, get, wait_until

# These servers make their socket themselves, so ours is closed first.
_GIVE_WAY = "import os, sys; os.closerange(3, 256); os.execv(sys.argv[1], sys.argv[1:])"


class DocumentedServer(ServerProcess):
    """A server that a line of shell starts.

    Args:
        directory: Where it starts.
        command: The line: the name of a module that is the server, and its arguments.
        bind: The arguments that make it listen, with `{port}`.
        ready: A path that it answers.
        workers: How many workers the command starts.
    """

    def __init__(self, directory: Path, command: str, bind: str, *, ready: str, workers: int = 4) -> None:
        super().__init__(directory, workers=workers, ready=ready)
        self._arguments = shlex.split(command)
        self._bind = bind

    def _command(self, listener: int) -> Sequence[str]:
        program, *arguments = self._arguments
        bind = self._bind.format(port=self.port).split()
        return [sys.executable, "-c", _GIVE_WAY, sys.executable, "-m", program, *bind, *arguments]

    def _wait_until_listening(self) -> None:
        def listening() -> bool:
            connection = self.connect()
            try:
                get(connection, "/up")
            except (OSError, http.client.HTTPException):
                return False
            finally:
                connection.close()
            return True

        wait_until(listening, f"{self._arguments[0]} answers")
