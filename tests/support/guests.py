"""Virtual machines on this machine's root directory: several hosts, each with a kernel of its own.

QEMU boots the kernel that `make guests` has unpacked. A guest sees this machine's root directory, over 9p and without
the right to write, under a layer in its own memory. Guests reach each other through sockets in a directory of the test,
and nothing else. Commands go to a guest through a port of the virtual machine, so nothing listens on this machine.
The kernel ends QEMU if the tests die (prctl(2), PR_SET_PDEATHSIG).

The guests cache the files of this machine: what changes gets a new path.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
import platform
import shlex
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support import guest_agent
from tests.support.guest_parts import PARTS
from tests.support.needs import require_command
from tests.support.servers import wait_until

BOOTS_WITHIN = 240.0
"""Seconds. An emulated guest takes half a minute of a processor until its agent answers."""
PROBE_S = 15.0
"""Seconds that a kernel may take for that under KVM, which takes about one."""

_DIRECTORIES = ("bin", "dev", "machine", "modules", "own", "proc", "root", "sys")
_DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")
# A guest that panics ends, by QEMU's -no-reboot.
_KERNEL = "console=ttyS0 panic=-1"
# The first program of a guest; the kernel gives it `guest` from its command line.
_INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for module in /modules/*; do insmod $module || echo "$module was not loaded"; done
mount -t tmpfs tmpfs /own
mkdir /own/upper /own/work
mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose machine /machine
# Two layers must not lie in each other.
cp -a {programs} /own/programs
mount -t overlay -o lowerdir=/own/programs:/machine,upperdir=/own/upper,workdir=/own/work overlay /root
for directory in proc sys dev; do mount --move /$directory /root/$directory; done
mount -t tmpfs tmpfs /root/run
mount -t tmpfs tmpfs /root/dev/shm || {{ mkdir /root/dev/shm && mount -t tmpfs tmpfs /root/dev/shm; }}
hostname $guest
exec switch_root /root /bin/sh -c {start}
"""
# At the end of the agent, the guest powers off.
_START = """
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8
ip link set lo up
{python} -I {agent} /dev/vport*p1
echo o >/proc/sysrq-trigger
sleep 60
"""


class CommandError(Exception):
    """A command in a guest has failed."""


class Job:
    """A command that runs in a guest.

    Attributes:
        lines: What it has printed so far, line by line.
        status: Its exit status, None while it runs.
        errors: What it has written to its standard error; known at its end.
    """

    def __init__(self, guest: str, code: str) -> None:
        self.lines: list[str] = []
        self.status: int | None = None
        self.errors = ""
        self._what = f"{guest}: {code}"
        self._ended = threading.Event()

    def take(self, answer: dict[str, object]) -> bool:
        """Take an answer of the agent; whether it was the last one."""
        if "line" in answer:
            self.lines.append(str(answer["line"]))
            return False
        self.errors = str(answer["errors"])
        self.status = int(str(answer["status"]))
        self._ended.set()
        return True

    def abandon(self) -> None:
        """Take note that the guest is gone."""
        self.errors += "the guest has ended"
        self._ended.set()

    def has_ended(self) -> bool:
        """Whether it has ended, or its guest has."""
        return self._ended.is_set()

    def wait(self, seconds: float = 180.0) -> str:
        """What it has printed, after its end, which must be a good one."""
        if not self._ended.wait(seconds):
            raise CommandError(f"{self._what}: was still busy after {seconds:g} s; printed {self.lines[-20:]}")
        if self.status != 0:
            raise CommandError(f"{self._what}: status {self.status}: {self.errors[-4000:]}")
        return "\n".join(self.lines)


class Guest:
    """One virtual machine.

    Args:
        name: Its name as a host.
        directory: Where it has its files on this machine; it stays the same if the guest is started again.
        cards: Options of QEMU for its network.

    Attributes:
        console: A file with what its kernel says.
    """

    def __init__(self, name: str, directory: Path, initramfs: Path, cards: Sequence[str]) -> None:
        self.name = name
        self.console = directory / f"{name}.console"
        self._disk = directory / f"{name}.disk"
        self._port = directory / f"{name}.port"
        self._initramfs = initramfs
        self._cards = cards
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self._jobs: dict[int, Job] = {}
        self._sending = threading.Lock()
        with self._disk.open("wb") as disk:
            disk.truncate(256 << 20)
        subprocess.run([require_command("mkfs.ext4", package="e2fsprogs"), "-q", self._disk], check=True)

    def boot(self) -> None:
        """Start it; `await_agent` waits until it can be used."""
        self._port.unlink(missing_ok=True)
        command = [
            *_qemu(accelerator()),
            *(
                "-initrd",
                str(self._initramfs),
                "-append",
                f"console=ttyS0 quiet panic=-1 mitigations=off guest={self.name}",
            ),
            *("-serial", f"file:{self.console}"),
            *("-virtfs", "local,path=/,mount_tag=machine,security_model=none,readonly=on,multidevs=remap"),
            # What the guest has flushed is in the page cache of this machine, which outlives QEMU.
            *("-drive", f"file={self._disk},format=raw,if=virtio,cache=unsafe"),
            *("-device", "virtio-serial", "-chardev", f"socket,id=agent,path={self._port},server=on,wait=off"),
            *("-device", "virtserialport,chardev=agent,name=agent"),
            *self._cards,
        ]
        self._process = subprocess.Popen([*_DIES_WITH_US, *command])
        wait_until(lambda: self._port.exists() or not self.running, f"QEMU of {self.name}")
        assert self.running, f"QEMU of {self.name} has ended"
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self._port))
        self._connection = connection
        self._jobs = {0: Job(self.name, "boot")}
        self._booting = self._jobs[0]
        threading.Thread(target=self._receive, args=(connection, self._jobs), daemon=True).start()

    def await_agent(self) -> None:
        """Wait until it runs commands."""
        try:
            self._booting.wait(BOOTS_WITHIN)
        except CommandError as error:
            raise CommandError(f"{error}; {self.console.read_text(errors='replace')[-4000:]}") from None

    @property
    def pid(self) -> int:
        """The process of QEMU."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether QEMU runs."""
        return self._process is not None and self._process.poll() is None

    def start(self, code: str) -> Job:
        """Start a command of the shell."""
        number = next(self._numbers)
        job = self._jobs[number] = Job(self.name, code)
        with self._sending:
            self._connection.sendall(json.dumps({"id": number, "code": code}).encode("ascii") + b"\n")
        return job

    def run(self, code: str, seconds: float = 180.0) -> str:
        """Run a command of the shell, which must succeed; returns what it prints."""
        return self.start(f"set -e; {code}").wait(seconds)

    def clock_offset(self) -> float:
        """How far its clock is ahead of this machine's, in seconds: the best of some attempts."""
        best = (math.inf, 0.0)
        for _ in range(3):
            before = time.time()
            there = float(self.run("date +%s.%N"))
            after = time.time()
            best = min(best, (after - before, there - (before + after) / 2))
        return best[1]

    def set_clock(self) -> None:
        """Set its clock to this machine's."""
        step = f"time.clock_settime(time.CLOCK_REALTIME, time.time() - {self.clock_offset()})"
        self.run(f"{shlex.quote(sys.executable)} -I -c 'import time; {step}'")

    def kill(self) -> None:
        """Have it end at once, as if its plug were pulled."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._connection.close()

    def _receive(self, connection: socket.socket, jobs: dict[int, Job]) -> None:
        """Give the answers of the agent to their jobs until the guest is gone."""
        try:
            with connection.makefile("rb") as answers:
                for line in answers:
                    answer = json.loads(line)
                    if jobs[answer["id"]].take(answer):
                        del jobs[answer["id"]]
        except (OSError, ValueError):
            pass
        for job in tuple(jobs.values()):
            job.abandon()


def require_guests() -> None:
    """Skip the test where guests cannot be had."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("virtual machines run Debian's kernel for amd64, on Linux and amd64 only")
    for command, package in (("qemu-system-x86_64", "qemu-system-x86"), ("mkfs.ext4", "e2fsprogs")):
        require_command(command, package=package)
    require_command("setpriv", package="util-linux")
    if not PARTS.complete:
        pytest.skip(f"the kernel of the guests is missing below {sys.prefix}: make guests")


@functools.cache
def accelerator() -> str:
    """The string "kvm" if a kernel runs under it until it finds no root directory, else "tcg".

    It is not enough that /dev/kvm opens. QEMU may be refused a register of the processor, and a guest may hang, before
    its first words or after some.
    """
    command = [*_DIES_WITH_US, *_qemu("kvm"), "-serial", "stdio", "-append", _KERNEL]
    try:
        probe = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PROBE_S)
    except subprocess.TimeoutExpired:
        return "tcg"
    return "kvm" if b"Unable to mount root fs" in probe.stdout else "tcg"


def _qemu(accelerator: str) -> list[str]:
    """A virtual machine with nothing in it but a kernel."""
    machine = ["-accel", accelerator, "-machine", "q35", "-cpu", "max", "-smp", "1", "-m", "512"]
    nothing = ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    return ["qemu-system-x86_64", *machine, *nothing, "-kernel", str(PARTS.kernel)]


def make_initramfs(path: Path) -> None:
    """Write the root directory that a guest begins with (cpio's format "newc", which the kernel reads)."""
    programs = shlex.quote(f"/machine{PARTS.programs.resolve()}")
    python, agent = shlex.quote(sys.executable), shlex.quote(guest_agent.__file__)
    start = _START.format(python=python, agent=agent)
    files = [(name, stat.S_IFDIR | 0o755, b"") for name in _DIRECTORIES]
    files.append(("bin/busybox", stat.S_IFREG | 0o755, PARTS.shell.read_bytes()))
    files.append(("init", stat.S_IFREG | 0o755, _INIT.format(programs=programs, start=shlex.quote(start)).encode()))
    for module in sorted(PARTS.modules.iterdir()):
        files.append((f"modules/{module.name}", stat.S_IFREG | 0o644, module.read_bytes()))
    files.append(("TRAILER!!!", 0, b""))
    with path.open("wb") as archive:
        for number, (name, mode, contents) in enumerate(files):
            archive.write(b"".join(cpio_entry(number, name.encode(), mode, contents)))


def cpio_entry(number: int, name: bytes, mode: int, contents: bytes) -> Iterator[bytes]:
    """One file of the archive: a head, the name, the contents, the last two filled up to a multiple of four."""
    fields = (number, mode, 0, 0, 1, 0, len(contents), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + name + b"\0"
    yield head + bytes(-len(head) % 4)
    yield contents + bytes(-len(contents) % 4)
