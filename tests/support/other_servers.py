"""uWSGI, uvicorn and Flask's own server, on the harness of `servers`."""

from __future__ import annotations

import http.client
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from tests.support.servers import ServerProcess, get, wait_until

PYUWSGI = shutil.which("uwsgi", path=sysconfig.get_path("scripts"))
"""uWSGI as a wheel, or whatever of its name is installed beside the tests."""
UWSGI = shutil.which("uwsgi", path=str(Path(sys.prefix) / "uwsgi" / "bin"))
"""uWSGI as users build it, where `make slow` has."""
NO_PYUWSGI = "uWSGI is missing: pip install pyuwsgi"
NO_UWSGI = "uwsgi is not built: apt-get install gcc libc6-dev python3-dev, then make slow"


@cache
def _options_for_threads(program: str) -> Sequence[str]:
    """The option without which a uWSGI before 2.0.27 runs no thread of Python."""
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    return () if [int(number) for number in re.findall(r"\d+", version)] >= [2, 0, 27] else ("--enable-threads",)


class Uwsgi(ServerProcess):
    """A uWSGI that serves the WSGI callable of `module` ("package.module:name"), or what `arguments` name."""

    def __init__(
        self,
        directory: Path,
        module: str | None,
        *,
        ready: str = "/line/ready/0/60",
        workers: int = 4,
        arguments: Sequence[str] = ("--master",),
        environment: Mapping[str, str] | None = None,
        echo: bool = True,
        program: str | None = PYUWSGI,
    ) -> None:
        assert program is not None, NO_PYUWSGI
        self._program = program
        super().__init__(directory, workers=workers, ready=ready, environment=environment, echo=echo)
        application = [] if module is None else ["--module", module, "--processes", str(workers)]
        self._arguments = [*application, *arguments]

    def wait_until_it_can_be_reloaded(self) -> None:
        """Wait until the master handles SIGHUP (proc(5), SigCgt), which it does some time after its workers answer."""

        def handles() -> bool:
            status = Path(f"/proc/{self.arbiter}/status").read_text(encoding="ascii")
            return bool(int(status.split("SigCgt:")[1].split()[0], 16) >> signal.SIGHUP - 1 & 1)

        wait_until(handles, "the master handles SIGHUP")

    def _command(self, listener: int) -> Sequence[str]:
        settings = [
            *("--virtualenv", sys.prefix, "--need-app", "--die-on-term", "--disable-logging"),
            # The http-socket closes after each answer without saying so.
            *("--add-header", "Connection: close"),
            # How long a worker may take to end by itself; uWSGI's 60 s are more than a test waits.
            *("--worker-reload-mercy", "10"),
            *_options_for_threads(self._program),
        ]
        return [self._program, "--http-socket", f"fd://{listener}", *settings, *self._arguments]


class FlaskRun(ServerProcess):
    """Flask's development server for `app` ("package.module:name"), with the reloader: two processes."""

    def __init__(
        self, directory: Path, app: str, *, ready: str, environment: Mapping[str, str] | None = None, echo: bool = True
    ) -> None:
        super().__init__(directory, workers=1, ready=ready, environment=environment, echo=echo)
        self._arguments = ["--app", app, "run", "--reload"]

    def _command(self, listener: int) -> Sequence[str]:
        # It makes its socket itself, so ours is closed first.
        give_way = "import os, sys; os.closerange(3, 256); os.execv(sys.argv[1], sys.argv[1:])"
        flask = [sys.executable, "-m", "flask", *self._arguments, "--host", "127.0.0.1", "--port", str(self.port)]
        return [sys.executable, "-c", give_way, *flask]

    def _wait_until_listening(self) -> None:
        def listening() -> bool:
            connection = self.connect()
            try:
                get(connection, "/favicon.ico")
            except (OSError, http.client.HTTPException):
                return False
            finally:
                connection.close()
            return True

        wait_until(listening, "flask run answers")


class Uvicorn(ServerProcess):
    """A uvicorn with `workers` that serves the ASGI application `app` ("package.module:name")."""

    def __init__(
        self,
        directory: Path,
        app: str,
        *,
        ready: str,
        workers: int = 2,
        arguments: Sequence[str] = (),
        echo: bool = True,
    ) -> None:
        super().__init__(directory, workers=workers, ready=ready, echo=echo)
        self._arguments = [app, "--workers", str(workers), *arguments]

    def _command(self, listener: int) -> Sequence[str]:
        return [sys.executable, "-m", "uvicorn", "--fd", str(listener), *self._arguments]
