"""Which socket of a pair belongs to which: the kernel says so, to any user, by sock_diag(7)."""

from __future__ import annotations

import socket
import struct
from typing import Final

# linux/netlink.h, linux/sock_diag.h, linux/unix_diag.h
_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST: Final = 1
_UDIAG_SHOW_PEER: Final = 4
_UNIX_DIAG_PEER: Final = 2
_ALL: Final = 0xFFFFFFFF

# Of `struct nlmsghdr`: length, type, flags, sequence number, port. Of `struct unix_diag_req`: family, protocol, states,
# inode, what to show, cookie. An answer has a `struct unix_diag_msg`, and then attributes: length, type, value.
_HEADER: Final = struct.Struct("=IHHII")
_REQUEST: Final = struct.Struct("=BBHIIIII")
_MESSAGE: Final = struct.Struct("=BBBBIII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_INODE: Final = struct.Struct("=I")


def inode_of_peer(inode: int) -> int | None:
    """The inode of the socket that is connected to the Unix socket with this inode; None if there is none.

    Raises:
        OSError: The kernel does not say: the socket is of another network namespace, the kernel has no unix_diag, or
            the process may have no netlink socket (`RestrictAddressFamilies` of systemd).
    """
    request = _REQUEST.pack(socket.AF_UNIX, 0, 0, _ALL, inode, _UDIAG_SHOW_PEER, _ALL, _ALL)
    header = _HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
        # The answer is there when the request is sent.
        kernel.setblocking(False)
        kernel.sendto(header + request, (0, 0))
        answer = kernel.recv(4096)
    length, kind, *_ = _HEADER.unpack_from(answer)
    if kind != _SOCK_DIAG_BY_FAMILY:
        number = -struct.unpack_from("=i", answer, _HEADER.size)[0]
        raise OSError(number, f"the kernel does not say which socket is the peer of socket {inode}")
    position = _HEADER.size + _MESSAGE.size
    while position < length:
        size, attribute = _ATTRIBUTE.unpack_from(answer, position)
        if attribute == _UNIX_DIAG_PEER:
            # 0 if the peer was closed.
            return _INODE.unpack_from(answer, position + _ATTRIBUTE.size)[0] or None
        position += (size + 3) & ~3
    return None
