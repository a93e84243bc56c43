"""`rollsafe write` in a process of its own, with a pipe whose both ends the test has."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.servers import server_environment, wait_until

COMMAND = (sys.executable, "-m", "rollsafe", "write")
LIMIT_S = 120


class Writing:
    """One process of `rollsafe write`.

    Attributes:
        process: The process.
        live: The live file.
        pipe: The end of its pipe that a program would write to.
    """

    def __init__(self, process: subprocess.Popen[bytes], live: Path, source: int, pipe: int) -> None:
        self.process = process
        self.live = live
        self.source = source
        self.pipe = pipe

    def send(self, data: bytes) -> None:
        """Write all of `data` into the pipe."""
        view = memoryview(data)
        while view:
            view = view[os.write(self.pipe, view) :]

    def wait_until_read(self) -> None:
        """Wait until nothing is left in the pipe."""
        wait_until(lambda: self.unread == 0, "the pipe is empty", LIMIT_S)

    @property
    def unread(self) -> int:
        """Bytes in the pipe."""
        number: int = struct.unpack("i", fcntl.ioctl(self.source, termios.FIONREAD, b"\0\0\0\0"))[0]
        return number

    def wait_until_live_is(self, content: bytes) -> None:
        """Wait until the live file has exactly this content."""
        wait_until(lambda: self.live.exists() and self.live.read_bytes() == content, f"{content[-80:]!r} in the log")

    def wait_until_it_handles_signals(self) -> None:
        """Wait until the process has begun, by its handler of SIGTERM (proc(5))."""
        status = Path(f"/proc/{self.process.pid}/status")

        def is_caught() -> bool:
            caught = next(line for line in status.read_text().splitlines() if line.startswith("SigCgt:"))
            return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)

        wait_until(is_caught, "a handler of SIGTERM", LIMIT_S)

    def hang_up(self) -> None:
        """Send SIGHUP, and wait until the process sleeps again (proc(5))."""
        self.process.send_signal(signal.SIGHUP)
        path = Path(f"/proc/{self.process.pid}/status")

        def is_taken() -> bool:
            status = dict(line.split(":", 1) for line in path.read_text().splitlines())
            return not int(status["ShdPnd"], 16) >> (signal.SIGHUP - 1) & 1 and status["State"].strip()[0] == "S"

        wait_until(is_taken, "SIGHUP is taken", LIMIT_S)

    def close_pipe(self) -> None:
        """Close the end of the pipe that a program writes to."""
        if self.pipe >= 0:
            os.close(self.pipe)
            self.pipe = -1

    def end(self) -> tuple[int, str]:
        """Close the pipe and wait for the end: exit code, and what was said on standard error."""
        self.close_pipe()
        return self.ended()

    def ended(self) -> tuple[int, str]:
        """Wait for the end, which comes without a closed pipe: exit code, and what was said on standard error."""
        assert self.process.stderr
        said = self.process.stderr.read().decode()
        return self.process.wait(LIMIT_S), said


@contextmanager
def writing(
    live: Path, *options: str, stdout: int | None = None, setup: str = "", ends: tuple[int, int] | None = None
) -> Iterator[Writing]:
    """Start `rollsafe write` on `live`; it is killed at the end if it still runs.

    Args:
        live: The live file.
        options: The options of the command.
        stdout: Its standard output.
        setup: Python code that is run before it, with the module `write`.
        ends: The ends of the pipe, which stay open; None for a new one.
    """
    source, pipe = ends or os.pipe()
    code = f"import sys\nfrom rollsafe.tools import write, write_command\n{setup}\nwrite_command.main(sys.argv[1:])"
    process = subprocess.Popen(
        [*([sys.executable, "-c", code] if setup else COMMAND), str(live), *options],
        env=server_environment(),
        stdin=source,
        stdout=subprocess.DEVNULL if stdout is None else stdout,
        stderr=subprocess.PIPE,
    )
    started = Writing(process, live, source, pipe)
    try:
        yield started
    finally:
        process.kill()
        process.wait()
        if ends is None:
            started.close_pipe()
            os.close(source)
        with suppress(OSError):
            assert process.stderr
            process.stderr.close()


def write_all(live: Path, data: bytes, *options: str) -> subprocess.CompletedProcess[bytes]:
    """Give `rollsafe write` its whole input at once."""
    return subprocess.run(
        [*COMMAND, str(live), *options],
        env=server_environment(),
        input=data,
        capture_output=True,
        timeout=LIMIT_S,
        check=False,
    )
