"""uWSGI's sockets are found among others, in a process that makes its descriptors as uWSGI does."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from rollsafe._uwsgi.peers import inode_of_peer
from tests.support.needs import needs_proc
from tests.support.servers import run_program

# What uWSGI does (core/logging.c, create_logpipe), with what happens before it, within it and after it.
PROGRAM = """
import os, socket, sys
from rollsafe._uwsgi import pipes

def pair():
    return [end.detach() for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)]

def close(numbers):
    for number in numbers:
        os.close(number)

def do_not_say(inode):
    raise PermissionError

before, within, after = sys.argv[1:]
exec(before)
messages = pair()
os.dup2(messages[1], 2)
exec(within)
requests = pair()
exec(after)
found = pipes.find_pipes()
expected = pipes.LogPipes(messages[0], *requests)
print("found" if found == expected else "none" if found is None else f"{found} instead of {expected}")
"""
ALONE = ("", "", "")
# As when another process of the same processor makes a socket just then: the inodes do not follow one another.
INODES_WITH_GAPS = ("", "close(pair())", "")
MULES = ("", "", "mules = [pair() for _ in range(4)]")
# The parent has left files open, and uWSGI closes them after it has made the sockets.
ONE_GAP = ("left = [os.dup(0) for _ in range(4)]; close(left[::2])", "", "close(left[1::2]); mules = [pair(), pair()]")
DUPLICATES = ("", "os.dup(2)", "[os.dup(end) for end in (2, *messages, *requests)]")
ANOTHER_FILE_BETWEEN = ("", "os.dup(0)", "mules = [pair()]")
THE_OTHER_END_IS_ELSEWHERE = ("", "", "os.close(messages[0])")
NO_REQUESTS = ("", "", "close(requests)")
REFUSED = "pipes.inode_of_peer = do_not_say;"


@needs_proc
@pytest.mark.parametrize(
    "steps",
    [ALONE, INODES_WITH_GAPS, MULES, ONE_GAP, DUPLICATES, ANOTHER_FILE_BETWEEN],
    ids=lambda steps: "; ".join(steps),
)
def test_the_sockets_are_found(steps: tuple[str, str, str]) -> None:
    assert run_program(PROGRAM, *steps) == "found\n"


@needs_proc
@pytest.mark.parametrize("steps", [THE_OTHER_END_IS_ELSEWHERE, NO_REQUESTS], ids=lambda steps: steps[-1])
@pytest.mark.parametrize("refused", ["", REFUSED])
def test_nothing_is_guessed_if_one_is_missing(steps: tuple[str, str, str], refused: str) -> None:
    before, within, after = steps
    assert run_program(PROGRAM, refused + before, within, after) == "none\n"


@needs_proc
@pytest.mark.parametrize(
    ("steps", "result"),
    [
        (ALONE, "found"),
        (INODES_WITH_GAPS, "found"),
        (MULES, "found"),
        (ONE_GAP, "none"),
        (ANOTHER_FILE_BETWEEN, "none"),
    ],
    ids=lambda value: "; ".join(value) if isinstance(value, tuple) else value,
)
def test_where_the_kernel_does_not_say_it_only_four_numbers_in_a_row_are_taken(
    steps: tuple[str, str, str], result: str
) -> None:
    before, within, after = steps
    assert run_program(PROGRAM, REFUSED + before, within, after) == f"{result}\n"


@needs_proc
@pytest.mark.parametrize("kind", [socket.SOCK_SEQPACKET, socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_the_kernel_says_which_socket_is_the_peer(kind: int) -> None:
    one, other = socket.socketpair(socket.AF_UNIX, kind)
    with one, other:
        inodes = [os.fstat(end.fileno()).st_ino for end in (one, other)]
        assert [inode_of_peer(inode) for inode in inodes] == inodes[::-1]
        other.close()
        assert inode_of_peer(inodes[0]) is None
    with pytest.raises(OSError, match=f"which socket is the peer of socket {inodes[0]}") as caught:
        inode_of_peer(inodes[0])
    assert caught.value.errno == errno.ENOENT


@needs_proc
def test_a_socket_without_a_peer_has_none() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as alone:
        assert inode_of_peer(os.fstat(alone.fileno()).st_ino) is None
