"""The parts of virtual machines that Debian has: a kernel, and the programs of an NFS server and its clients.

`make guests` runs this module. It downloads packages and unpacks them into the virtual environment. It installs
nothing: the package of a kernel would change how the machine boots, and that of a server would start one.
"""

from __future__ import annotations

import lzma
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

KERNEL = "linux-image-amd64"
PROGRAMS = ("nfs-kernel-server", "nfs-common", "rpcbind")
SHELL = "busybox-static"
MODULES = (
    *("virtio_pci", "virtio_net", "virtio_blk", "virtio_console"),
    *("9pnet_virtio", "9p", "overlay", "ext4"),
    *("nfs", "nfsv3", "nfsv4", "nfsd"),
)
"""Modules of the kernel that a guest needs; those that they need in turn are found."""


class Parts:
    """What `make guests` has unpacked.

    Attributes:
        kernel: The compressed kernel.
        shell: A busybox without libraries.
        modules: A directory of modules, whose names begin with a number: the order in which to load them.
        programs: A directory with the layout of a root directory: packages that the machine does not have.
    """

    def __init__(self, directory: Path) -> None:
        self.kernel = directory / "kernel"
        self.shell = directory / "busybox"
        self.modules = directory / "modules"
        self.programs = directory / "programs"

    @property
    def complete(self) -> bool:
        """Whether all of them are there; the last one is made last."""
        return self.programs.is_dir()


PARTS = Parts(Path(sys.prefix) / "guests")


def unpack(directory: Path) -> None:
    """Download the packages, and have `directory` contain their parts and nothing else."""
    with tempfile.TemporaryDirectory(prefix="rollsafe-guests-") as scratch:
        downloads = Path(scratch)
        made = downloads / "parts"
        made.mkdir()
        parts = Parts(made)
        # The package of that name has nothing but a dependency on the present version.
        (kernel,) = re.findall(r"Depends: (linux-image-\S+)", _output("apt-cache", "depends", KERNEL))
        for package in (kernel, SHELL):
            _unpack(package, downloads, downloads / package)
        (compressed,) = (downloads / kernel / "boot").glob("vmlinuz-*")
        shutil.copyfile(compressed, parts.kernel)
        shutil.copy(downloads / SHELL / "bin/busybox", parts.shell)
        _copy_modules(downloads / kernel, parts.modules)
        programs = downloads / "programs"
        (programs / "usr").mkdir(parents=True)
        for package in _missing(PROGRAMS):
            _unpack(package, downloads, programs)
        # /sbin is a link to /usr/sbin in the root directory, and a directory would hide it.
        for name in ("bin", "lib", "sbin"):
            if (programs / name).is_dir():
                shutil.copytree(programs / name, programs / "usr" / name, symlinks=True, dirs_exist_ok=True)
        shutil.copytree(programs / "usr", parts.programs / "usr", symlinks=True)
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(made, directory, symlinks=True)


def _missing(packages: Sequence[str]) -> list[str]:
    """Those of these packages and of their dependencies that are not installed."""
    plan = _output("apt-get", "--simulate", "--no-install-recommends", "install", *packages)
    # One that is installed, and would be upgraded, has its version in brackets before the new one.
    return re.findall(r"^Inst (\S+) \(", plan, re.MULTILINE)


def _unpack(package: str, downloads: Path, target: Path) -> None:
    """Unpack the present version of a package."""
    # As a user of its own, apt could not write here, and would warn that it writes as root.
    command = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", package]
    subprocess.run(command, check=True, cwd=downloads)
    (archive,) = downloads.glob(f"{package}_*.deb")
    subprocess.run(["dpkg", "--extract", archive, target], check=True)


def _copy_modules(tree: Path, target: Path) -> None:
    """Copy the modules that a guest needs, uncompressed, in the order in which to load them."""
    found = {path.name.partition(".")[0].replace("-", "_"): path for path in sorted(tree.rglob("*.ko*"))}
    target.mkdir()
    loaded: list[str] = []

    def load(name: str) -> None:
        # One that is not found is built into the kernel.
        if name in loaded or name not in found:
            return
        path = found[name]
        code = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
        for other in _dependencies(code):
            load(other)
        loaded.append(name)
        (target / f"{len(loaded):03}-{name}.ko").write_bytes(code)

    for name in MODULES:
        load(name)


def _dependencies(code: bytes) -> Iterator[str]:
    """The names of the modules that a module says it needs: by name, or by an algorithm (ext4: "crypto-crc32c")."""
    for names in re.findall(rb"\0depends=([^\0]+)", code):
        yield from names.decode("ascii").replace("-", "_").split(",")
    for names in re.findall(rb"\0softdep=pre: crypto-([^\0 ]+)", code):
        yield f"{names.decode('ascii')}_generic"


def _output(*command: str) -> str:
    """What a command prints that must succeed."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main(directory: Path) -> None:
    """Unpack the parts; root brings the lists of packages up to date if that fails."""
    try:
        unpack(directory)
    except subprocess.CalledProcessError as error:
        # The lists may be missing, or too old: a server has no package but those of the present lists.
        if os.geteuid() != 0:
            sys.exit(f"{error}; `sudo apt-get update` may help: {error.stderr or ''}")
        subprocess.run(["apt-get", "-qq", "update"], check=False)
        unpack(directory)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
