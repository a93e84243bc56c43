"""Small real file systems for one test: tmpfs, ext4, xfs and btrfs on loop devices, overlay on xfs.

They are mounted in a mount namespace that the test process makes for itself, so nobody else sees them, and the kernel
takes mounts and loop devices down with the last process that lives in it, even if the tests are killed.
"""

from __future__ import annotations

import ctypes
import functools
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from rollsafe._backups import maintenance_thread
from rollsafe.handlers import living_handlers
from tests.support.needs import require_command
from tests.support.servers import wait_until

KINDS = ("tmpfs", "ext4", "xfs", "btrfs", "overlay")
SMALLEST = 320 << 20
"""Bytes. mkfs.xfs refuses less than 300 MiB; the images are sparse."""

_CLONE_NEWNS = 0x00020000  # unshare(2)
_REMEDY = "a container must be started with the right to mount (CAP_SYS_ADMIN)"
# What makes a file system, and the package that has it.
_MAKE = {
    # No blocks set aside for root, who writes here.
    "ext4": (["mkfs.ext4", "-q", "-m", "0"], "e2fsprogs"),
    "xfs": (["mkfs.xfs", "-q"], "xfsprogs"),
    "btrfs": (["mkfs.btrfs", "-q"], "btrfs-progs"),
}


@dataclass(frozen=True)
class Disk:
    """A mounted file system.

    Attributes:
        kind: One of KINDS.
        root: Where it is mounted.
        logs: An empty directory in it.
    """

    kind: str
    root: Path
    logs: Path

    def fill(self, leave: int) -> None:
        """Take all space but about `leave` bytes."""
        with self._ballast.open("ab") as file:
            # btrfs needs some of what it calls free for itself: by halves, until no more is to be had.
            while (surplus := self._free() - leave) > leave // 4:
                try:
                    os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), surplus // 2)
                except OSError:
                    break

    def release(self) -> None:
        """Give that space back."""
        self._ballast.unlink()
        self._sync()

    @property
    def _ballast(self) -> Path:
        """The file that takes the space."""
        return self.root / "ballast"

    def _free(self) -> int:
        """Bytes that are free by now."""
        self._sync()
        status = os.statvfs(self.root)
        return status.f_bavail * status.f_frsize

    def _sync(self) -> None:
        """Have what was freed counted (btrfs, xfs: at the next commit)."""
        run("sync", "--file-system", str(self.root))


@contextmanager
def mounted(kind: str, size: int = SMALLEST) -> Iterator[Disk]:
    """Make and mount a file system of `kind` and `size` (bytes), and take it down again; skips where it cannot."""
    enter_own_namespace()
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"rollsafe-{kind}-")))
        root = _mount_overlay(base, size, stack) if kind == "overlay" else _mount(kind, base, size, stack)
        logs = root / "logs"
        logs.mkdir()
        yield Disk(kind, root, logs)


@functools.cache
def enter_own_namespace() -> None:
    """Move this process into a mount namespace of its own; skips where it may not."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount file systems: run the tests as root, or in a container")
    require_command("mount", package="mount")
    # unshare(2) moves the calling thread only: one that maintains backups would not see what is mounted from now on.
    for handler in living_handlers():
        handler.close()
    wait_until(lambda: not maintenance_thread._thread.is_alive, "no thread maintains backups")
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS) != 0:
        pytest.skip(f"no mount namespace of our own: {os.strerror(ctypes.get_errno())}; {_REMEDY}")
    mount("--make-rprivate", "/")


def mount(*arguments: str) -> None:
    """Run mount(8); skips where it is refused, as a container's guard may do that allows unshare(2)."""
    result = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if result.returncode != 0:
        pytest.skip(f"mount {' '.join(arguments)} was refused: {result.stderr.strip()}; {_REMEDY}")


def _mount(kind: str, base: Path, size: int, stack: ExitStack) -> Path:
    """Mount a fresh file system of `kind` below `base`."""
    root = base / kind
    root.mkdir()
    if kind == "tmpfs":
        return _attach(root, stack, "-t", "tmpfs", "-o", f"size={size}", "tmpfs")
    (program, *options), package = _MAKE[kind]
    command = [require_command(program, package=package), *options]
    image = base / f"{kind}.img"
    image.touch()
    os.truncate(image, size)
    run(*command, str(image))
    # The loop device goes with the mount (losetup(8), "autoclear").
    return _attach(root, stack, "-t", kind, "-o", "loop", str(image))


def _mount_overlay(base: Path, size: int, stack: ExitStack) -> Path:
    """Mount an overlay whose layers all lie on a fresh xfs."""
    xfs = _mount("xfs", base, size, stack)
    for layer in ("lower", "upper", "work"):
        (xfs / layer).mkdir()
    root = base / "overlay"
    root.mkdir()
    layers = f"lowerdir={xfs / 'lower'},upperdir={xfs / 'upper'},workdir={xfs / 'work'}"
    return _attach(root, stack, "-t", "overlay", "-o", layers, "overlay")


def _attach(root: Path, stack: ExitStack, *options: str) -> Path:
    """Mount at `root`, and see to the end of it; skips where it is refused."""
    mount(*options, str(root))
    # Lazily: a process that still has a file open there must not keep the tests from taking it out of the tree.
    stack.callback(run, "umount", "--lazy", str(root))
    return root


def run(*command: str) -> str:
    """Run a command that must succeed; returns its output."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
