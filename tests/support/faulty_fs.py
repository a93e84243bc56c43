"""A real file system (FUSE) that passes everything on to a directory, but for one fault. Run as a program, it serves.

python -m tests.support.faulty_fs ROOT MOUNT_POINT FAULT
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.needs import is_missing
from tests.support.servers import server_environment, wait_until

FAULTS = {
    "none": "",
    "short writes": "a write takes 4096 bytes at most",
    "no locks": "a lock is refused: ENOLCK",
    "deaf locks": "every lock is granted to everybody",
    "other clock": "the clock that stamps files is an hour ahead",
    "sshfs": "it calls itself sshfs",
    "glusterfs": "it calls itself glusterfs",
}


@contextmanager
def mounted(directory: Path, fault: str) -> Iterator[Path]:
    """A mounted file system with a fault; its mount point."""
    try:
        import mfusepy
    except ImportError:
        pytest.skip("mfusepy is missing: pip install mfusepy")
    except OSError:
        pytest.skip(is_missing("libfuse", "fuse3"))
    del mfusepy
    if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
        pytest.skip("only root can mount a FUSE file system, and only where /dev/fuse is")
    root, point = directory / "root", directory / "mounted"
    root.mkdir()
    point.mkdir()
    command = [sys.executable, "-m", "tests.support.faulty_fs", str(root), str(point), fault]
    with subprocess.Popen(command, env=server_environment(), stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_until(lambda: os.path.ismount(point) or process.poll() is not None, "the file system is mounted")
            if process.poll() is not None:
                assert process.stderr
                pytest.skip(f"no FUSE file system can be mounted here: {process.stderr.read()[-200:]}")
            yield point
        finally:
            subprocess.run(["umount", "--lazy", str(point)], check=False, capture_output=True)
            process.kill()


def serve(root: str, point: str, fault: str) -> None:
    """Serve until unmounted."""
    import mfusepy

    class Passing(mfusepy.Operations):  # type: ignore[misc]  # it publishes no types that mypy would take
        """Passes everything on."""

        use_ns = True

        def _at(self, path: str) -> str:
            return root + path

        def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
            try:
                status = os.fstat(fh) if fh is not None else os.lstat(self._at(path))
            except FileNotFoundError:
                raise mfusepy.FuseOSError(errno.ENOENT) from None
            names = ("st_mode", "st_nlink", "st_size", "st_uid", "st_gid", "st_ino")
            ahead = 3600 if fault == "other clock" else 0
            times = {
                f"st_{name}": int((getattr_(status, f"st_{name}") + ahead) * 1e9)
                for name in ("atime", "mtime", "ctime")
            }
            return {name: getattr_(status, name) for name in names} | times

        def readdir(self, path: str, fh: int) -> list[str]:
            return [".", "..", *os.listdir(self._at(path))]

        def mkdir(self, path: str, mode: int) -> None:
            os.mkdir(self._at(path), mode)

        def rmdir(self, path: str) -> None:
            os.rmdir(self._at(path))

        def open(self, path: str, flags: int) -> int:
            return os.open(self._at(path), flags & ~os.O_APPEND)

        def create(self, path: str, mode: int, fi: Any = None) -> int:
            return os.open(self._at(path), os.O_RDWR | os.O_CREAT, mode)

        def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
            return os.pread(fh, size, offset)

        def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
            return os.pwrite(fh, data[:4096] if fault == "short writes" else data, offset)

        def truncate(self, path: str, length: int, fh: int | None = None) -> None:
            os.truncate(self._at(path), length)

        def rename(self, old: str, new: str) -> None:
            os.rename(self._at(old), self._at(new))

        def unlink(self, path: str) -> None:
            os.unlink(self._at(path))

        def release(self, path: str, fh: int) -> None:
            os.close(fh)

        def flush(self, path: str, fh: int) -> None:
            pass

    if fault in ("no locks", "deaf locks"):

        def lock(self: Any, path: str, fh: int, command: int, lock: Any) -> int:
            if fault == "no locks":
                raise mfusepy.FuseOSError(errno.ENOLCK)
            return 0

        Passing.lock = lock
    options = {"subtype": fault} if fault in ("sshfs", "glusterfs") else {}
    mfusepy.FUSE(Passing(), point, foreground=True, direct_io=True, attr_timeout=0, entry_timeout=0, **options)


getattr_ = getattr

if __name__ == "__main__":
    serve(*sys.argv[1:])
