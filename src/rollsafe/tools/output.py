"""The standard streams of the command: its output, its complaints, and whether a process still reads the output."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

import click

from rollsafe.tools.words import printable


def open_standard_streams() -> None:
    """Open the streams that a shell has closed (`>&-`); a log file would get such a number, and would be written to."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            setattr(sys, name, open(number, mode, closefd=False))


class OutputClosedError(Exception):
    """The reader of standard output has ended (`| head`). That is no error, and no reason to continue."""


@contextmanager
def standard_output() -> Iterator[BinaryIO]:
    """Standard output, for bytes; it is flushed at the end.

    Raises:
        OutputClosedError: No process reads it any more.
        OSError: It cannot be written. The error has a file name, which that of a write(2) lacks.
    """
    try:
        yield sys.stdout.buffer
        sys.stdout.flush()
    except OSError as error:
        if error.filename is not None:
            raise
        # The interpreter would complain at its end of text that is left, so the text goes to /dev/null.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise OutputClosedError from error
        raise OSError(error.errno, error.strerror, "standard output") from error


def echo(text: str) -> None:
    """Write a text as it is. If no process reads it, the command still continues to its exit code."""
    with suppress(OutputClosedError):
        write([text.encode("utf-8", "surrogateescape")])


def write(texts: Iterable[bytes]) -> None:
    """Write some texts to standard output, and flush it."""
    with standard_output() as output:
        output.writelines(texts)


def is_output_closed(seconds: float) -> bool:
    """Whether no process reads standard output any more; waits for that for some seconds.

    A write would show it too, but there may be no line to write for days (poll(2): POLLERR for a pipe without reader).
    """
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    asked = time.monotonic()
    closed = any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(1000 * seconds))
    if not closed:
        # A descriptor that cannot be polled, such as a closed one, is answered at once.
        time.sleep(max(0.0, asked + seconds - time.monotonic()))
    return closed


def complain(sentence: str) -> None:
    """Report on standard error what could not be read; the rest is printed all the same."""
    click.echo(f"rollsafe: {printable(sentence)}", err=True)
