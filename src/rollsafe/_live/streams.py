"""The raw file that a handler has for its `stream`, which takes text as well.

The standard library's `stream` is a text file, and applications write text to it: an overridden `emit` that calls
`logging.FileHandler.emit`, an overridden `_open` that writes a header, `print(..., file=handler.stream)`. The handler
writes such text like every line: wholly, and into the file that the path names by then. So an application that keeps a
stream beyond a rollover (`contextlib.redirect_stdout`) writes into the new file.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from io import FileIO
from typing import Any, Protocol


class Writing(Protocol):
    """The part of a handler that its stream uses."""

    lock: Any

    def write_text(self, stream: LogStream, text: bytes) -> bool:
        """Write `text` as it is; False if `stream` is being opened and has to write it itself."""


class LogStream(FileIO):
    """A raw file for appending, to which str is written in whole lines.

    Attributes:
        write_bytes: `FileIO.write`, without Python code in between.
        adopted: Whether the handler has written its lines to it, or is about to.
    """

    write_bytes: Callable[..., int] = FileIO.write
    encoding: str = "utf-8"
    errors: str = "backslashreplace"
    adopted: bool = False
    _handler: weakref.ref[Writing] | None = None
    _begun = ""

    def adopt(self) -> None:
        """The handler writes lines to it from now on."""
        self.adopted = True

    def serve(self, handler: Writing, encoding: str, errors: str) -> None:
        """Have `handler` write the text from now on, with this encoding and error handler."""
        self.encoding, self.errors = encoding, errors
        self._handler = weakref.ref(handler)

    def write(self, data: Any) -> int:
        """Write bytes at once, and of a str the whole lines; the beginning of a line waits for its end.

        `print` writes a line and its newline separately, and another process may write in between.
        """
        if not isinstance(data, str):
            return self.write_bytes(data)
        if self.closed and not self.adopted:
            raise ValueError("write to closed file")
        with self._exclusive():
            lines, newline, self._begun = (self._begun + data).rpartition("\n")
            self._write_text(lines + newline)
        return len(data)

    def flush(self) -> None:
        """Write the beginning of a line that waits for its end."""
        if not self.adopted:
            super().flush()
        if self._begun:
            with self._exclusive():
                begun, self._begun = self._begun, ""
                self._write_text(begun)

    def after_fork(self) -> None:
        """Drop the beginning of a line in a forked child, because the parent writes it."""
        self._begun = ""

    def _exclusive(self) -> AbstractContextManager[Any]:
        """The lock of the handler, because several threads may print."""
        handler = self._handler and self._handler()
        return handler.lock if handler else nullcontext()

    def _write_text(self, text: str) -> None:
        if not text:
            return
        encoded = text.encode(self.encoding, self.errors)
        handler = self._handler and self._handler()
        if not handler or not handler.write_text(self, encoded):
            self.write_bytes(encoded)


def raw_stream(stream: Any) -> FileIO | None:
    """The raw file to append to instead of `stream`, which is flushed and closed; None if it has no descriptor.

    An overridden `_open` returns such a stream, or the application assigns it. The standard streams stay open.
    """
    if isinstance(stream, FileIO):
        return stream
    try:
        stream.flush()
        descriptor = stream.fileno()
    except (AttributeError, OSError, ValueError):
        return None
    raw = LogStream(os.dup(descriptor), "a")
    if descriptor > 2:
        stream.close()
    return raw
