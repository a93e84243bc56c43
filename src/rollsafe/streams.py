"""The raw file that a handler has for its `stream`, which takes text as well.

The standard library's `stream` is a text file, and people hand text to it: an overridden `emit` that calls
`logging.FileHandler.emit`, a header that is written in an overridden `_open`, `print(..., file=handler.stream)`. Text
takes the way of every line, so that it is written wholly, and into the file that the path names by then. So who keeps
a stream beyond a rollover (`contextlib.redirect_stdout`) writes into the new file.
"""

from __future__ import annotations

import os
import weakref
from contextlib import AbstractContextManager, nullcontext
from io import FileIO
from typing import Any, Protocol


class Writing(Protocol):
    """What a stream needs of its handler."""

    lock: Any

    def write_text(self, stream: LogStream, text: bytes) -> bool:
        """Write text as it is; False if it is to go straight into `stream`, which is being opened."""


class LogStream(FileIO):
    """A raw file for appending, to which str is written in whole lines.

    Attributes:
        write_bytes: `FileIO.write`, without a step of Python in between.
        adopted: Whether the handler has written lines to it, or is about to.
    """

    write_bytes = FileIO.write
    encoding = "utf-8"
    errors = "backslashreplace"
    adopted = False
    _handler: weakref.ref[Writing] | None = None
    _begun = ""

    def serve(self, handler: Writing, encoding: str, errors: str) -> None:
        """Have `handler` write the text."""
        self.encoding, self.errors = encoding, errors
        self._handler = weakref.ref(handler)

    def write(self, data: Any) -> int:
        """Write bytes at once; of a str the lines that it ends, while the beginning of one waits for its end.

        `print` writes a line and its newline apart, and another process may write in between.
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

    def forked(self) -> None:
        """In a child: the beginning of a line is the parent's to write."""
        self._begun = ""

    def _exclusive(self) -> AbstractContextManager[Any]:
        """The lock of the handler: threads may print."""
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

    For what an overridden `_open` returns, or an application assigns. The standard streams stay open.
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
