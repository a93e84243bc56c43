"""A laboratory: an NFS server and two clients, each in a virtual machine of its own."""

from __future__ import annotations

import base64
import io
import json
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.support.guests import Guest, Job, make_initramfs, require_guests
from tests.support.host_writers import Task
from tests.support.servers import ROOT, wait_until

VERSIONS = ("3", "4.2")
LEASE_S = 10
"""How long the server keeps what belongs to a host of NFS 4 that is silent: its smallest value; 90 by default."""
EXPORT = "/srv/logs"

# Users that the packages would make at their installation.
_USERS = """
for user in statd _rpc; do
    grep -q ^$user: /etc/passwd || echo $user:x:997:65534::/run:/usr/sbin/nologin >>/etc/passwd
done
"""
# What statd knows outlives the host: after a boot it tells the servers that the locks of this host are free.
_STATE = """
mkdir -p /disk /run/rpcbind; mount -t ext4 /dev/vda /disk
mkdir -p /disk/state/sm /disk/state/sm.bak /var/lib/nfs; mount --bind /disk/state /var/lib/nfs
chown -R statd /var/lib/nfs
"""
_SERVE = f"""
mkdir -p /disk/logs {EXPORT} /run/rpc_pipefs /var/lib/nfs/v4recovery
mount --bind /disk/logs {EXPORT}; chmod 777 {EXPORT}
touch /var/lib/nfs/etab /var/lib/nfs/rmtab; mount -t nfsd nfsd /proc/fs/nfsd
echo {LEASE_S} >/proc/fs/nfsd/nfsv4leasetime; echo {LEASE_S} >/proc/fs/nfsd/nfsv4gracetime
echo '{EXPORT} *(rw,sync,no_subtree_check,no_root_squash,fsid=0)' >/etc/exports
echo 1 >/proc/sys/fs/nfs/nlm_grace_period
exportfs -a; rpc.mountd; rpc.nfsd 4
"""


class Laboratory:
    """The three hosts while they run."""

    def __init__(self, directory: Path, sources: Path) -> None:
        self.sources = sources
        initramfs = directory / "initramfs"
        make_initramfs(initramfs)
        self._cables = [directory / f"cable{number}" for number in (1, 2)]
        cards: list[str] = []
        self.clients = []
        for number, path in enumerate(self._cables, 1):
            cable = f"stream,id=cable{number},addr.type=unix,addr.path={path}"
            mac = f"mac=52:54:00:77:{number:02}"
            cards += ["-netdev", f"{cable},server=on", "-device", f"virtio-net-pci,netdev=cable{number},{mac}:01"]
            card = ["-netdev", f"{cable},server=off", "-device", f"virtio-net-pci,netdev=cable{number},{mac}:02"]
            self.clients.append(Guest(f"client{number}", directory, initramfs, card))
        self.server = Guest("server", directory, initramfs, cards)
        self.hosts = [self.server, *self.clients]

    def boot(self) -> None:
        """Boot all of them."""
        self.server.boot()
        # A client that finds no socket is never connected.
        wait_until(lambda: all(cable.is_socket() for cable in self._cables), "the network of the server")
        for client in self.clients:
            client.boot()
        for host in self.hosts:
            host.await_agent()
        self.set_up(self.server)
        for client in self.clients:
            self.set_up(client)

    def make_directory(self, name: str) -> None:
        """Make a directory below the export, for all users."""
        self.server.run(f"mkdir {EXPORT}/{name}; chmod 777 {EXPORT}/{name}")

    def write(self, version: str, task: Task) -> list[Job]:
        """Start the writers of both clients; `task` has a path below the export, and the beginning of their names."""
        jobs = []
        for client in self.clients:
            theirs = replace(task, path=f"/mnt/{version}/{task.path}", host=f"{task.host}{client.name}-")
            jobs.append(client.start(theirs.code(self.sources)))
        return jobs

    def fetch(self, directory: str, target: Path) -> Path:
        """Copy a directory below the export from the disk of the server to this machine."""
        packed = self.server.run(f"cd {EXPORT}/{directory} && tar -cz . | base64")
        with tarfile.open(fileobj=io.BytesIO(base64.b64decode(packed))) as archive:
            archive.extractall(target, filter="data")
        return target

    def set_up(self, host: Guest) -> None:
        """Do on a host that has booted what an administrator would do."""
        host.set_clock()
        for card, (address, _) in enumerate(self._addresses(host)):
            host.run(f"ip address add {address}/24 dev eth{card}; ip link set eth{card} up")
        host.run(f"{_USERS}{_STATE}rpcbind -w; rpc.statd")
        if host is self.server:
            host.run(_SERVE)
            return
        # The export is the root of what NFS 4 shows: the root directory of the server, an overlay, cannot be exported.
        for version, exported in (("3", EXPORT), ("4.2", "/")):
            ((_, server),) = self._addresses(host)
            host.run(f"mkdir -p /mnt/{version}; mount -t nfs -o vers={version} {server}:{exported} /mnt/{version}")

    def _addresses(self, host: Guest) -> list[tuple[str, str]]:
        """For each network of a host: its address there, and that of the other end."""
        cables = [(f"10.77.{number}.1", f"10.77.{number}.2") for number in (1, 2)]
        if host is self.server:
            return cables
        here, there = cables[self.clients.index(host)]
        return [(there, here)]


@contextmanager
def laboratory(sources: Path | None = None) -> Iterator[Laboratory]:
    """Three hosts that have booted; skips where they cannot be had."""
    require_guests()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rollsafe-nfs-")))
        hosts = Laboratory(directory, copy_sources(directory / "sources"))
        for host in hosts.hosts:
            stack.callback(host.kill)
        hosts.boot()
        yield hosts


def copy_sources(target: Path, root: Path = ROOT) -> Path:
    """Copy the package and the tests to a place that no guest has looked at; returns the place."""
    for part in ("src", "tests"):
        shutil.copytree(root / part, target / part)
    return target


@dataclass(frozen=True)
class Written:
    """What the writers of all hosts have done."""

    acknowledged: dict[str, int]
    reported: list[str]


def results(jobs: Iterable[Job], seconds: float = 180.0) -> Written:
    """Wait for the writers to end, and read what they print."""
    written = Written({}, [])
    for job in jobs:
        for line in job.wait(seconds).splitlines():
            if line.startswith("{"):
                result = json.loads(line)
                written.acknowledged[result["stream"]] = result["logged"]
                written.reported.extend(result["reported"])
    return written
