"""uWSGI, uvicorn and Flask's own server, on the harness of `servers`."""

from __future__ import annotations

import shutil
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.integration.servers import ServerProcess

UWSGI = shutil.which("uwsgi", path=sysconfig.get_path("scripts"))
NO_UWSGI = "uwsgi is not installed: pip install rollsafe[uwsgi]"


class Uwsgi(ServerProcess):
    """A uWSGI with `workers` that serves the WSGI callable of `module` ("package.module:name") from `directory`."""

    def __init__(
        self,
        directory: Path,
        module: str,
        *,
        ready: str = "/line/ready/0/60",
        workers: int = 4,
        arguments: Sequence[str] = ("--master",),
        environment: Mapping[str, str] | None = None,
        echo: bool = True,
    ) -> None:
        assert UWSGI is not None, NO_UWSGI
        super().__init__(directory, workers=workers, ready=ready, environment=environment, echo=echo)
        self._arguments = ["--module", module, "--processes", str(workers), *arguments]

    def _command(self, listener: int) -> Sequence[str]:
        assert UWSGI is not None
        settings = [
            *("--virtualenv", sys.prefix, "--need-app", "--die-on-term", "--disable-logging"),
            # The http-socket closes after each answer without saying so.
            *("--add-header", "Connection: close"),
            # How long a worker may take to end by itself; uWSGI's 60 s are more than a test waits.
            *("--worker-reload-mercy", "10"),
        ]
        return [UWSGI, "--http-socket", f"fd://{listener}", *settings, *self._arguments]
