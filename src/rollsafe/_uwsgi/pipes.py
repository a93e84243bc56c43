"""The sockets through which uWSGI's processes send what they log to the master, found without any help of uWSGI.

uWSGI makes two socket pairs, one right after the other (core/logging.c, `create_logpipe`): the first one has standard
output and standard error at its writing end, the second one is for the requests. Each message is a packet of its own.
The master reads one packet in each turn of its loop; it reads none of the requests any more when the last worker has
ended (`uwsgi_master_check_death`, `uwsgi_reload`), and a worker throws away what the socket does not take at once.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import struct
import termios
import time
from collections.abc import Iterator
from typing import Final, NamedTuple

SEND_TIMEOUT_S: Final = 10
"""How long the write of one line waits for a master that does not read. Then uWSGI throws the line away.

The master sleeps for two seconds when workers die in quick succession (`forkbomb-delay`; core/master.c,
`master_loop`)."""

# The most seconds that the exit of a worker waits for the master, which on a busy machine gets no time for a while.
EXIT_WAIT_S: Final = 5.0
EXIT_PAUSE_S: Final = 0.001

PACKET_BYTES: Final = 120_000
"""The rest of a longer packet is lost. The line of a request, whose headers have 64 KiB at most, is shorter.

From 128 KiB on, the C library would map memory for each packet."""


class LogPipes(NamedTuple):
    """File descriptors of this process."""

    messages: int
    """Here the master reads what uWSGI says, and what the processes print."""
    requests: int
    """Here it reads the request log."""
    requests_end: int
    """Here the workers write the request log."""


def find_pipes() -> LogPipes | None:
    """The sockets of uWSGI's two logs; None if they are not certainly found.

    The kernel numbers the sockets of one process in the order in which they are made, so those of the requests are the
    two after that of standard error. Where they are not (another process has made one in between), nothing is guessed.
    """
    try:
        standard_error = os.fstat(2).st_ino
        found = dict(_packet_sockets())
    except OSError:
        return None
    try:
        messages, _, requests, requests_end = (found[standard_error + distance] for distance in (-1, 0, 1, 2))
    except KeyError:
        return None
    return LogPipes(messages, requests, requests_end)


def wait_when_full(end: int) -> None:
    """Have the writers of this socket wait if it is full; the setting is one for all processes.

    Only the workers write requests, and only the master reads them, so no process waits for itself.
    """
    with _socket_of(end) as writer:
        writer.setblocking(True)
        writer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_TIMEOUT_S, 0))


def wait_until_read(end: int, reader: int) -> bool:
    """In a child of the reader: wait a moment until it has read what was written here; False if it is dead."""
    give_up = time.monotonic() + EXIT_WAIT_S
    while os.getppid() == reader:
        unread = bytearray(4)
        try:
            # unix(7): SIOCOUTQ, which has the same number.
            fcntl.ioctl(end, termios.TIOCOUTQ, unread)
        except OSError:
            return True
        if not any(unread) or time.monotonic() > give_up:
            return True
        time.sleep(EXIT_PAUSE_S)
    return False


def packets(pipe: int, count: int) -> Iterator[bytes]:
    """The packets that wait in a socket, no more than `count`."""
    for _ in range(count):
        try:
            packet = os.read(pipe, PACKET_BYTES)
        except OSError:
            # BlockingIOError: there are no more.
            return
        if not packet:
            return
        yield packet


def _packet_sockets() -> Iterator[tuple[int, int]]:
    """(number of the inode, descriptor) of each socket that has packets and no name."""
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        try:
            status = os.fstat(number)
            if not stat.S_ISSOCK(status.st_mode):
                continue
            with _socket_of(number) as found:
                kind = (found.family, found.type & socket.SOCK_SEQPACKET)
                if kind == (socket.AF_UNIX, socket.SOCK_SEQPACKET) and not found.getsockname():
                    yield status.st_ino, number
        except OSError:
            # The descriptor of the listing itself, or one that another thread has closed.
            continue


def _socket_of(number: int) -> socket.socket:
    """A socket with a descriptor of its own, to be closed."""
    return socket.socket(fileno=os.dup(number))
