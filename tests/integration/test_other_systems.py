"""A load where a system lacks what Linux has: macOS, the BSDs, a container without /proc, a kernel that refuses calls.

The first two are interpreters of Linux from which it was taken (`tests/support/elsewhere`), so these tests show that
every line is kept without it. What the other system does itself only a run on that system shows.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.needs import is_missing
from tests.support.servers import server_environment
from tests.support.systems import SYSTEMS, environment_of

ROOT = Path(__file__).parents[2]
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="what is taken away here is Linux's")
pytestmark = on_linux


def run(environment: dict[str, str], live: Path, lacking: str, *wrapper: str) -> None:
    """Run the load in an interpreter of that environment; it must end well."""
    command = [*wrapper, sys.executable, "-m", "tests.support.systems", str(live), lacking]
    ran = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120)
    print(ran.stdout)
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stdout + ran.stderr


@pytest.mark.parametrize(
    "system", [SYSTEMS[0], *(pytest.param(other, marks=pytest.mark.slow) for other in SYSTEMS[1:])]
)
def test_no_line_is_lost_doubled_torn_or_misfiled_without_what_linux_has(system: str, live: Path) -> None:
    run(environment_of(system), live, "proc, rename")


@pytest.mark.slow
@pytest.mark.skipif(os.uname().machine not in ("x86_64", "aarch64"), reason="the numbers of calls differ here")
def test_no_line_is_lost_where_the_kernel_refuses_the_calls_of_linux(live: Path) -> None:
    run(environment_of("kernel"), live, "rename")


@pytest.mark.slow
def test_no_line_is_lost_where_proc_is_not_mounted(live: Path) -> None:
    wrapper = ["unshare", "--mount", *(() if os.geteuid() == 0 else ("--user", "--map-root-user"))]
    hidden = [*wrapper, "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]
    tried = subprocess.run([*hidden, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no mount namespace can be had: {tried.stderr.strip() or is_missing('unshare', 'util-linux')}")
    run(server_environment(), live, "proc", *hidden)
