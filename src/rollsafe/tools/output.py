"""The standard streams of the command: what it writes, what it complains of, and whether anybody still reads it."""

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
    """Open what a shell has closed (`>&-`): a log file that is opened would get its number, and be written."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            setattr(sys, name, open(number, mode, closefd=False))


class OutputClosedError(Exception):
    """Who reads standard output has seen enough (`| head`): no error, and no reason to go on."""


@contextmanager
def standard_output() -> Iterator[BinaryIO]:
    """Standard output, for bytes; all is written at the end.

    Raises:
        OutputClosedError: Nobody reads it any more.
        OSError: It cannot be written; with a name, which the error of a write(2) does not have.
    """
    try:
        yield sys.stdout.buffer
        sys.stdout.flush()
    except OSError as error:
        if error.filename is not None:
            raise
        # What is left goes nowhere: the interpreter would complain of it when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise OutputClosedError from error
        raise OSError(error.errno, error.strerror, "standard output") from error


def echo(text: str) -> None:
    """Write a text, as it is; if nobody reads it, the command still has its exit code to give."""
    with suppress(OutputClosedError):
        write([text.encode("utf-8", "surrogateescape")])


def write(texts: Iterable[bytes]) -> None:
    """Write some texts to standard output, and see them off."""
    with standard_output() as output:
        output.writelines(texts)


def is_output_closed(seconds: float) -> bool:
    """Whether nobody reads standard output any more, asked for so many seconds.

    A write would tell too, but there may be no line to write for days (poll(2): POLLERR for a pipe without reader).
    """
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    asked = time.monotonic()
    closed = any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(1000 * seconds))
    if not closed:
        # What cannot be polled (a closed descriptor) is answered at once.
        time.sleep(max(0.0, asked + seconds - time.monotonic()))
    return closed


def complain(sentence: str) -> None:
    """Say on standard error what could not be read; what can be read is printed all the same."""
    click.echo(f"rollsafe: {printable(sentence)}", err=True)
