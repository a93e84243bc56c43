"""The program that runs in a virtual machine: it runs commands that come through a port of the machine.

Each line from the port is a request, a JSON object: {"id": 1, "code": "..."} runs code of the shell. Each line to the
port is a JSON object with the id of its request: one for each line of output, as it comes, and one with the exit
status and the errors. It imports nothing of the project.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from typing import Any

_sending = threading.Lock()


def serve(port: int) -> None:
    """Run what is asked for until the other side is gone."""
    _send(port, {"id": 0, "status": 0, "errors": ""})
    with open(port, "rb", closefd=False) as requests:
        for request in requests:
            threading.Thread(target=_run, args=(port, json.loads(request)), daemon=True).start()


def _run(port: int, request: dict[str, Any]) -> None:
    """Run one command to its end."""
    with tempfile.TemporaryFile() as errors:
        command = ["/bin/sh", "-c", request["code"]]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors) as process:
            assert process.stdout is not None
            for line in process.stdout:
                _send(port, {"id": request["id"], "line": line.decode(errors="replace").removesuffix("\n")})
        errors.seek(0)
        text = errors.read().decode(errors="replace")
    _send(port, {"id": request["id"], "status": process.returncode, "errors": text})


def _send(port: int, answer: dict[str, Any]) -> None:
    """Send one answer."""
    rest = json.dumps(answer).encode("ascii") + b"\n"
    with _sending:
        while rest:
            rest = rest[os.write(port, rest) :]


if __name__ == "__main__":
    # A port can be opened once.
    serve(os.open(sys.argv[1], os.O_RDWR))
