"""Log files opened for reading, compressed or not."""

from __future__ import annotations

import gzip
import importlib
import io
import lzma
import os
import zlib
from contextlib import suppress
from typing import Any, BinaryIO, cast

from rollsafe.errors import LogFileError

_ZSTD: Any = None
for _module in ("compression.zstd", "backports.zstd"):  # from Python 3.14 in the standard library; else its backport
    with suppress(ImportError):
        _ZSTD = importlib.import_module(_module)
        break

DAMAGED: tuple[type[Exception], ...] = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError)
"""The exceptions of reading a damaged or truncated archive."""
if _ZSTD is not None:
    DAMAGED += (_ZSTD.ZstdError,)


def open_log(path: str | os.PathLike[str]) -> BinaryIO:
    """Open the file for reading bytes; the end of its name (.gz, .zst, .xz) tells its compression.

    Reading a damaged archive raises one of DAMAGED.

    Raises:
        OSError: It cannot be opened.
        LogFileError: Its compression cannot be read here.
    """
    name = os.fspath(path)
    if name.endswith(".gz"):
        return cast(BinaryIO, gzip.open(name))
    if name.endswith(".xz"):
        return cast(BinaryIO, lzma.open(name))
    if name.endswith(".zst"):
        if _ZSTD is None:
            raise LogFileError(f"{name!r} cannot be read without zstd; install it with: pip install 'rollsafe[zstd]'")
        return cast(BinaryIO, _ZSTD.open(name))
    return open(name, "rb")


def length_of(path: str) -> int:
    """How many bytes a file is when it is decompressed; raises the errors of `open_log`, or one of DAMAGED."""
    length = 0
    with open_log(path) as stream:
        if isinstance(stream, io.BufferedReader):
            return os.fstat(stream.fileno()).st_size
        while block := stream.read(1 << 20):
            length += len(block)
    return length
