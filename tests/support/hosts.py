"""Several hosts on one machine: network namespaces joined by a bridge, and network file systems that they share.

Namespaces and servers live as long as a process of ours, which the kernel kills if the tests die (prctl(2),
PR_SET_PDEATHSIG); mounts live in the mount namespace of the test process. So nothing is left behind.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.mounts import enter_own_namespace, run
from tests.support.needs import require_command, require_file
from tests.support.servers import wait_until

_DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")
_SERVER_STOPS_WITHIN = 60.0


class Host:
    """A network namespace with an address of its own.

    Attributes:
        address: Its IPv4 address.
    """

    def __init__(self, address: str, stack: ExitStack) -> None:
        self.address = address
        self._holder = _start(["unshare", "--net", "sleep", "infinity"], stack)
        ours = os.readlink("/proc/self/ns/net")
        namespace = f"/proc/{self._holder.pid}/ns/net"
        wait_until(lambda: self._holder.poll() is not None or os.readlink(namespace) != ours, "a network namespace")
        if self._holder.poll() is not None:
            pytest.skip("no network namespace of our own: a container must be started with CAP_SYS_ADMIN")

    @property
    def pid(self) -> int:
        """A process that lives in it."""
        return self._holder.pid

    def command(self, *command: str | Path) -> list[str]:
        """What runs `command` on this host."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", *map(str, command)]

    def run(self, *command: str | Path) -> str:
        """Run a command that must succeed; returns its output."""
        return run(*self.command(*command))

    def start(self, command: Sequence[str | Path], stack: ExitStack) -> subprocess.Popen[bytes]:
        """Start a process on this host that ends with `stack` at the latest."""
        return _start(self.command(*command), stack)


@contextmanager
def network(count: int) -> Iterator[list[Host]]:
    """So many hosts that reach each other and nothing else; skips where they cannot be made."""
    for command in (*_DIES_WITH_US[:1], "unshare", "nsenter"):
        require_command(command, package="util-linux")
    require_command("ip", package="iproute2")
    enter_own_namespace()
    with ExitStack() as stack:
        hosts = [Host(f"10.77.0.{number}", stack) for number in range(1, count + 1)]
        switch = hosts[0]
        try:
            switch.run("ip", "link", "add", "bridge", "type", "bridge")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no bridge: {error.stderr.strip()}; a container must be started with CAP_NET_ADMIN")
        switch.run("ip", "address", "add", f"{switch.address}/24", "dev", "bridge")
        switch.run("ip", "link", "set", "bridge", "up")
        for number, host in enumerate(hosts[1:]):
            cable = f"host{number}"
            switch.run(*["ip", "link", "add", cable, "type", "veth", "peer", "name", "cable", "netns", str(host.pid)])
            switch.run("ip", "link", "set", cable, "master", "bridge", "up")
            host.run("ip", "address", "add", f"{host.address}/24", "dev", "cable")
            host.run("ip", "link", "set", "cable", "up")
        for host in hosts:
            host.run("ip", "link", "set", "lo", "up")
        yield hosts


@dataclass(frozen=True)
class Volume:
    """A file system that two hosts share.

    Attributes:
        mounts: Where each of them has it.
        store: Where the server has the files: what is there is true, whatever a client believes.
    """

    mounts: list[Path]
    store: Path


@contextmanager
def sshfs() -> Iterator[Volume]:
    """One directory, mounted twice by SSHFS straight from an SFTP server; skips where that cannot be had."""
    require_command("sshfs", package="sshfs")
    server = require_file("/usr/lib/openssh", "sftp-server", package="openssh-sftp-server")
    _require_fuse()
    enter_own_namespace()
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rollsafe-sshfs-")))
        store = base / "store"
        store.mkdir()
        mounts = []
        for number in (1, 2):
            point = base / f"mount{number}"
            point.mkdir()
            # What sshfs takes for ssh is told host and subsystem, and may ignore both.
            ssh = base / "ssh"
            ssh.write_text(f"#!/bin/sh\nexec {server}\n")
            ssh.chmod(0o755)
            _start(["sshfs", "-f", "-o", f"ssh_command={ssh}", f"host:{store}", str(point)], stack)
            mounts.append(_mounted(point, stack))
        yield Volume(mounts, store)


@contextmanager
def gluster(volume_options: Sequence[str] = (), mount_options: Sequence[str] = ()) -> Iterator[Volume]:
    """One GlusterFS volume of one brick, mounted by two hosts. Skips where that cannot be had.

    Args:
        volume_options: Such as "performance.stat-prefetch=off".
        mount_options: Such as "--direct-io-mode=enable".
    """
    require_command("glusterd", package="glusterfs-server")
    require_command("glusterfs", package="glusterfs-client")
    _require_fuse()
    with ExitStack() as stack:
        server, *clients = stack.enter_context(network(3))
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rollsafe-gluster-")))
        _serve_gluster(server, base, volume_options, stack)
        mounts = [
            _mount_gluster(client, server, base / f"mount{number}", mount_options, stack)
            for number, client in enumerate(clients, 1)
        ]
        yield Volume(mounts, base / "brick")


def tidy_archives(directory: Path) -> None:
    """Remove what processes have left that ended while they compressed a backup."""
    for archive in directory.glob("*.gz"):
        # What it was made of has the same lines.
        archive.with_suffix("").unlink(missing_ok=True)
    for draft in directory.glob("*.tmp"):
        # A directory with an archive that was being written.
        shutil.rmtree(draft)


def require_rsyslog() -> None:
    """Skip the test if rsyslog or its RELP is not installed."""
    require_command("rsyslogd", package="rsyslog")
    require_file("/usr/lib", "*/rsyslog/omrelp.so", package="rsyslog-relp")


def _require_fuse() -> None:
    """Skip the test where no FUSE file system can be mounted."""
    if not Path("/dev/fuse").exists():
        pytest.skip("there is no /dev/fuse: give it to the container, or load the kernel's module fuse")


def _serve_gluster(server: Host, base: Path, options: Sequence[str], stack: ExitStack) -> None:
    """Start a server with one volume, which keeps everything below `base`."""
    for directory in ("work", "run", "log", "brick"):
        (base / directory).mkdir()
    (base / "glusterd.vol").write_text(f"""volume management
  type mgmt/glusterd
  option working-directory {base}/work
  option run-directory {base}/run
  option logging-directory {base}/log
  option glusterd-sockfile {base}/socket
  option transport-type socket
  option transport.address-family inet
end-volume
""")
    # In a process namespace, so that what it starts ends with it.
    alone = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    daemon = ["glusterd", "--no-daemon", f"--volfile={base}/glusterd.vol", f"--pid-file={base}/pid"]
    server.start([*alone, *daemon, f"--log-file={base}/log/glusterd.log"], stack)
    ask = ["gluster", "--mode=script", f"--glusterd-sock={base}/socket", f"--log-file={base}/log/cli.log"]

    def answers() -> bool:
        return subprocess.run(server.command(*ask, "pool", "list"), capture_output=True).returncode == 0

    wait_until(answers, "glusterd answers")
    server.run(*ask, "volume", "create", "logs", "transport", "tcp", f"{server.address}:{base}/brick", "force")
    for option in options:
        server.run(*ask, "volume", "set", "logs", *option.split("="))
    server.run(*ask, "volume", "start", "logs")


def _mount_gluster(client: Host, server: Host, point: Path, options: Sequence[str], stack: ExitStack) -> Path:
    """Mount the volume as `client` does."""
    point.mkdir()
    volume = [f"--volfile-server={server.address}", "--volfile-id=logs"]
    client.start(["glusterfs", "--no-daemon", *volume, f"--log-file={point}.log", *options, point], stack)
    return _mounted(point, stack)


def _mounted(point: Path, stack: ExitStack) -> Path:
    """Wait until something is mounted, and see to the end of it."""
    wait_until(lambda: os.path.ismount(point), f"{point} is mounted")
    stack.callback(run, "umount", "--lazy", str(point))
    return point


def _start(command: Sequence[str], stack: ExitStack) -> subprocess.Popen[bytes]:
    """Start a process that ends with `stack`, or with us."""
    process = subprocess.Popen([*_DIES_WITH_US, *command])
    stack.callback(_end, process)
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process, by force if need be."""
    process.kill()
    process.wait(_SERVER_STOPS_WITHIN)
