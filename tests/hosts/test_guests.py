"""The virtual machines themselves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.crew import state_of_process
from tests.support.guests import require_guests
from tests.support.servers import ROOT, wait_until

PROGRAM = """
import sys
from pathlib import Path
from tests.support.guests import Guest, make_initramfs
directory = Path(sys.argv[1])
make_initramfs(directory / "initramfs")
guest = Guest("guest", directory, directory / "initramfs", [])
guest.boot()
print(guest.pid, flush=True)
guest.await_agent()
"""


@pytest.mark.slow
def test_a_guest_ends_with_the_process_that_started_it_even_if_that_is_killed(tmp_path: Path) -> None:
    require_guests()
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as starter:
        assert starter.stdout is not None
        guest = int(starter.stdout.readline())
        assert state_of_process(guest) != "Z"
        starter.kill()
    wait_until(lambda: not Path(f"/proc/{guest}").exists() or state_of_process(guest) == "Z", "QEMU has ended")
