"""Containers without an engine: what the kernel makes one of, by unshare(1), mount(8), chroot(1) and setpriv(1).

A container has a root file system of its own that nobody can write, with the interpreter and this repository in it, its
own process ids, its own host name, a user without a name, and one directory that is not its own: the volume. It shares
the network of the test.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.needs import require_command
from tests.support.servers import GUNICORN, ROOT, STOP_SECONDS, ServerProcess, wait_until

USER = 1_000_770_000
"""A user of OpenShift's kind, whom no file knows; its group is that of root."""
VOLUME = "/var/log/shop"
"""Where the container has its volume."""

# The arguments: an empty directory, the host name, the working directory, the directory of the volume, the user, the
# paths that the container has from here, and after "--" the command.
_START = f"""
set -e
root=$1 name=$2 work=$3 volume=$4 user=$5
shift 5
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$root"
while [ "$1" != -- ]; do
    if [ -L "$1" ]; then
        cp -P "$1" "$root$1"
    else
        mkdir -p "$root$1"
        mount --rbind "$1" "$root$1"
        mount -o remount,bind,ro "$root$1"
    fi
    shift
done
shift
mkdir -p "$root/proc" "$root/dev" "$root{VOLUME}" "$root$work"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --bind "$work" "$root$work"
mount -o remount,bind,ro "$root$work"
mount --bind "$volume" "$root{VOLUME}"
mount -o remount,ro "$root"
hostname "$name"
cd /
exec chroot "$root" setpriv --reuid "$user" --regid 0 --clear-groups env --chdir="$work" HOME=/ "$@"
"""
_SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/etc")


def container_command(directory: Path, name: str, volume: Path, command: Sequence[str], user: int = USER) -> list[str]:
    """The command that runs `command` as the first process of a container; skips where there can be none.

    Args:
        directory: Its working directory, which it cannot write.
        name: Its host name.
        volume: The directory that it has as VOLUME.
        command: As in the container.
        user: The user id, whose group is 0.
    """
    if os.geteuid() != 0:
        pytest.skip("only root can make namespaces: run the tests as root, or in a container")
    unshare = require_command("unshare", package="util-linux")
    spaces = [unshare, "--mount", "--pid", "--uts", "--fork", "--kill-child"]
    if subprocess.run([*spaces, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("unshare is refused; a container must be started with the right to mount (CAP_SYS_ADMIN)")
    root = directory / f"root-{name}"
    root.mkdir()
    own = [sys.base_prefix, sys.prefix, str(ROOT)]
    # A path below one that is there already comes with it.
    paths = [path for path in (*_SYSTEM, *own) if os.path.lexists(path)]
    kept = [path for path in dict.fromkeys(paths) if not any(path.startswith(f"{other}/") for other in paths)]
    start = [
        "sh",
        "-c",
        _START,
        "start",
        str(root),
        name,
        str(directory),
        str(volume),
        str(user),
        *kept,
        "--",
        *command,
    ]
    return [*spaces, *start]


class Container(ServerProcess):
    """A gunicorn that is the first process of a container; the end of the block stops it as `docker stop` does.

    `before` is what the command begins with, such as a program that sets limits. After the block, `status` is the exit
    status.
    """

    status: int | None = None

    def __init__(
        self,
        directory: Path,
        config: str,
        volume: Path,
        name: str,
        *,
        user: int = USER,
        app: str = "tests.support.apps:application",
        ready: str = "/line/ready/0/60",
        before: Sequence[str] = (),
    ) -> None:
        super().__init__(directory, ready=ready, echo=False)
        self._before = before
        self._name = name
        self._volume = volume
        self._user = user
        self._app = app
        (directory / "gunicorn.conf.py").write_text(config, encoding="utf-8")

    @property
    def arbiter(self) -> int:
        """The process id, outside of the container, of its first process."""
        unshare = self._process.pid
        children = Path(f"/proc/{unshare}/task/{unshare}/children").read_text(encoding="ascii").split()
        return int(children[0])

    def _command(self, listener: int) -> Sequence[str]:
        gunicorn = [*self._before, *GUNICORN, "--bind", f"fd://{listener}", self._app]
        return container_command(self.directory, self._name, self._volume, gunicorn, self._user)

    def _stop(self) -> None:
        with suppress(IndexError, OSError):
            os.kill(self.arbiter, signal.SIGTERM)
        with suppress(AssertionError):
            wait_until(lambda: self._process.poll() is not None, "the end of the container", STOP_SECONDS)
            self.status = self._process.returncode
        super()._stop()
