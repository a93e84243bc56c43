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
from collections.abc import Iterator, Mapping
from operator import itemgetter
from typing import Final, NamedTuple

from rollsafe._uwsgi.peers import inode_of_peer

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
    """The sockets of uWSGI's two logs; None if they are not certainly found."""
    numbers: dict[int, int] = {}
    try:
        standard_error = os.fstat(2).st_ino
        for number, inode in sorted(_packet_sockets()):
            # An application may duplicate a descriptor; uWSGI's own is the lowest.
            numbers.setdefault(inode, number)
    except OSError:
        return None
    end = numbers.get(standard_error)
    if end is None:
        return None
    try:
        return _pipes_by_peers(numbers, end)
    except OSError:
        return _pipes_in_a_row(numbers, end)


def _pipes_by_peers(numbers: Mapping[int, int], end: int) -> LogPipes | None:
    """The sockets, if the kernel says which belong together.

    The pair of the requests is made just after that of the messages, and each new descriptor gets the lowest number
    that is free. So of the pairs above `end` it is the one whose higher number is the lowest: a later pair could have
    lower numbers only if two files were closed that uWSGI's parent had left open there.

    Args:
        numbers: Inode of a socket -> its descriptor.
        end: The descriptor where messages are written.

    Raises:
        OSError: The kernel does not say.
    """
    peers = {number: numbers.get(inode_of_peer(inode) or 0) for inode, number in numbers.items()}
    messages = peers[end]
    later = [(peer, number) for number, peer in peers.items() if peer is not None and end < peer < number]
    if messages is None or not later:
        return None
    requests, requests_end = min(later, key=itemgetter(1))
    return LogPipes(messages, requests, requests_end)


def _pipes_in_a_row(numbers: Mapping[int, int], end: int) -> LogPipes | None:
    """The sockets, if those beside `end` have successive descriptors, in the order of their inodes.

    They usually have, but not always, because each processor takes inode numbers from a stock of its own.
    """
    row = [number for _, number in sorted(numbers.items()) if end - 1 <= number <= end + 2]
    if row != [end - 1, end, end + 1, end + 2]:
        return None
    return LogPipes(end - 1, end + 1, end + 2)


def wait_when_full(end: int) -> None:
    """Have the writers of this socket wait if it is full; the setting is one for all processes.

    Only the workers write requests, and only the master reads them, so no process waits for itself.
    """
    with _socket_of(end) as writer:
        writer.setblocking(True)
        writer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_TIMEOUT_S, 0))


def wait_until_read(end: int, reader: int) -> None:
    """In a child of the reader: wait a moment until it has read what was written here, or is dead."""
    give_up = time.monotonic() + EXIT_WAIT_S
    while os.getppid() == reader:
        unread = bytearray(4)
        try:
            # unix(7): SIOCOUTQ, which has the same number.
            fcntl.ioctl(end, termios.TIOCOUTQ, unread)
        except OSError:
            return
        if not any(unread) or time.monotonic() > give_up:
            return
        time.sleep(EXIT_PAUSE_S)


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
    """(descriptor, inode) of each socket that has packets and no name; no standard stream."""
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        if number <= 2:
            continue
        try:
            status = os.fstat(number)
            if not stat.S_ISSOCK(status.st_mode):
                continue
            with _socket_of(number) as found:
                kind = (found.family, found.type & socket.SOCK_SEQPACKET)
                if kind == (socket.AF_UNIX, socket.SOCK_SEQPACKET) and not found.getsockname():
                    yield number, status.st_ino
        except OSError:
            # The descriptor of the listing itself, or one that another thread has closed.
            continue


def _socket_of(number: int) -> socket.socket:
    """A socket with a descriptor of its own, to be closed."""
    return socket.socket(fileno=os.dup(number))
