"""Takes from an interpreter of Linux what another system lacks; `ROLLSAFE_SYSTEM` says which (tests.support.systems).

An interpreter imports this module when it starts, if its directory is on the path. The calls themselves are those of
Linux. So this shows that we go on without what is missing; it does not show what the other system does.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import functools
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any

# What CPython has on Linux, and not on macOS or on some BSD (the "Availability" notes of its documentation).
OF_LINUX = (
    (os, "O_PATH O_TMPFILE O_DIRECT O_NOATIME O_LARGEFILE O_RSYNC getresuid getresgid setresuid setresgid"),
    (os, "posix_fadvise posix_fallocate memfd_create eventfd pidfd_open copy_file_range splice getrandom pipe2"),
    (os, "setxattr getxattr listxattr removexattr fdatasync unshare setns sched_setaffinity sched_getaffinity"),
    (fcntl, "F_OFD_SETLK F_OFD_SETLKW F_OFD_GETLK F_SETPIPE_SZ F_GETPIPE_SZ F_ADD_SEALS F_GET_SEALS F_NOTIFY"),
    (select, "epoll"),
    (signal, "sigtimedwait sigwaitinfo SIGRTMIN SIGRTMAX SIGPWR SIGSTKFLT SIGPOLL pidfd_send_signal"),
    (socket, "SO_PEERCRED SOCK_CLOEXEC SOCK_NONBLOCK AF_NETLINK"),
)
# The error of open(2) with O_NOFOLLOW for a link (the manual pages): EMLINK of FreeBSD, EFTYPE of NetBSD (its number).
ERROR_FOR_LINK = {"macos": errno.ELOOP, "openbsd": errno.ELOOP, "freebsd": errno.EMLINK, "netbsd": 79}
EFTYPE = 79


def take_away(system: str) -> None:
    """Have this interpreter find what `system` has."""
    for module, names in OF_LINUX:
        for name in names.split():
            if hasattr(module, name):
                delattr(module, name)
    if system != "macos":
        # NetBSD and OpenBSD have it, FreeBSD since 13; it is missing in older ones.
        del os.O_DSYNC
    errno.EFTYPE = EFTYPE  # type: ignore[attr-defined]
    _take_away_renames()
    _take_away_proc()
    _take_away_flags(system)


def _take_away_renames() -> None:
    """The C library has no rename that replaces nothing."""
    found = ctypes.CDLL.__getattr__

    def getattr_without_renames(library: ctypes.CDLL, name: str) -> object:
        if name in ("renameat2", "renameatx_np"):
            raise AttributeError(name)
        return found(library, name)

    ctypes.CDLL.__getattr__ = getattr_without_renames  # type: ignore[assignment,method-assign]


def _take_away_proc() -> None:
    """There is no /proc, for calls of Python; the tests' own harness may ask for it by `open_of_linux`."""

    def is_missing(path: object) -> bool:
        path = os.fspath(path) if isinstance(path, os.PathLike) else path
        name = os.fsdecode(path) if isinstance(path, (str, bytes)) else ""
        return name == "/proc" or name.startswith("/proc/")

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        if event in ("open", "os.listdir", "os.scandir", "os.chdir") and is_missing(arguments[0]):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), arguments[0])

    sys.addaudithook(audit)

    # These raise no audit event.
    for name in ("stat", "lstat", "readlink", "access"):
        setattr(os, name, _refusing(getattr(os, name), is_missing))


def _refusing(call: Callable[..., Any], is_missing: Callable[[object], bool]) -> Callable[..., Any]:
    """The call, which finds nothing in /proc."""

    def refuse_or_call(path: Any, *arguments: Any, **named: Any) -> Any:
        if is_missing(path):
            if call.__name__ == "access":
                return False
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return call(path, *arguments, **named)

    # Python 3.10 makes it an attribute of a class, where a function would become a method.
    unbound = functools.partial(refuse_or_call)
    for known in (os.supports_dir_fd, os.supports_follow_symlinks, os.supports_fd, os.supports_effective_ids):
        if call in known:
            known.add(unbound)
    return unbound


def _take_away_flags(system: str) -> None:
    """Open a link as the system does, and /dev/fd; and refuse the sticky bit of a file, as FreeBSD does."""
    open_of_linux, fchmod_of_linux = os.open, os.fchmod

    def open_elsewhere(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        name = os.fsdecode(path)
        if name.startswith("/dev/fd/"):
            if system != "macos":
                # Without fdescfs there are only the first three.
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            return os.dup(int(name[len("/dev/fd/") :]))
        try:
            return open_of_linux(path, flags, mode, dir_fd=dir_fd)
        except OSError as error:
            if flags & os.O_NOFOLLOW and error.errno in (errno.ELOOP, errno.ENOTDIR):
                found = os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
                if found.st_mode & 0o170000 == 0o120000:
                    code = ERROR_FOR_LINK[system]
                    raise OSError(code, os.strerror(code), path) from None
            raise

    def fchmod_elsewhere(fd: int, mode: int) -> None:
        if mode & 0o1000 and system == "freebsd":
            raise OSError(EFTYPE, "Inappropriate file type or format")
        fchmod_of_linux(fd, mode)

    os.open = open_elsewhere
    os.fchmod = fchmod_elsewhere
    os.supports_dir_fd.add(open_elsewhere)


# The numbers of renameat2, fadvise64, {f,l,}{set,get}xattr; of x86-64 and of arm64.
NUMBERS = {"x86_64": (316, 221, *range(188, 194)), "aarch64": (276, 223, *range(5, 11))}


def refuse_calls() -> None:
    """Have the kernel answer ENOSYS to calls that it has, in this process and its children (seccomp(2)).

    It needs no rights, because the process gives up those of set-user-id programs first.
    """

    def instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
        return struct.pack("HBBI", code, if_true, if_false, value)

    numbers = NUMBERS[os.uname().machine]
    load_number, jump_if_equal, answer = 0x20, 0x15, 0x06  # BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_RET|BPF_K
    allow, error = 0x7FFF0000, 0x00050000  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO
    jumps = [instruction(jump_if_equal, number, len(numbers) - at) for at, number in enumerate(numbers)]
    program = instruction(load_number, 0) + b"".join(jumps) + instruction(answer, allow)
    program += instruction(answer, error | errno.ENOSYS)
    code = ctypes.create_string_buffer(program, len(program))
    filter_ = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    for asked in ((38, 1, 0, 0, 0), (22, 2, filter_, 0, 0)):  # PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP
        arguments = [ctypes.c_ulong(value) if isinstance(value, int) else value for value in asked[1:]]
        if prctl(asked[0], *arguments) != 0:
            raise OSError(ctypes.get_errno(), "prctl(2) was refused")


SYSTEM = os.environ.get("ROLLSAFE_SYSTEM")
if SYSTEM == "kernel":
    refuse_calls()
elif SYSTEM:
    take_away(SYSTEM)
