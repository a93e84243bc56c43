"""How archives are made: by the codecs of the standard library and others like it, or by a function of the application.

Each codec writes into a scratch directory, and returns the archive that it has verified as an open file.
"""

from __future__ import annotations

import errno
import importlib
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final, Protocol

from rollsafe._background import Pace
from rollsafe._backups.scratch import Scratch
from rollsafe._files.places import Place
from rollsafe.errors import ConfigurationError

Compress = Callable[[str, str], object]
"""Writes an archive of the file `source_path` to the new file `target_path`."""

# The extension of a callable's archives, unless it has an attribute `extension`.
CALLABLE_EXTENSION: Final = ".archive"

# How many bytes are compressed, decompressed and synced at a time: one large fsync(2) would hold up other writers.
_CHUNK_BYTES: Final = 1 << 20
_SLICE_BYTES: Final = 1 << 14
_SYNC_BYTES: Final = 8 << 20
# Free space that is left for the processes that write the log: bytes, or one part in 20 of the disk if that is less.
_RESERVE_BYTES: Final = 16 << 20
_RESERVE_SHARE: Final = 20


class _Coder(Protocol):
    """A compressor."""

    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class Codec:
    """One way to make archives.

    Attributes:
        extension: The end of the names of its archives.
    """

    extension: str

    def write(self, source: int, place: Place, scratch: Scratch) -> int:
        """Write the archive of an open file into a new file, verify it, and sync it.

        Args:
            source: The file.
            place: Its name.
            scratch: Where to write. There the archive has the name of the source and the extension.

        Returns:
            The descriptor of the verified archive, which the caller closes.

        Raises:
            OSError: It cannot be written or read back.
        """
        raise NotImplementedError


class CallableCodec(Codec):
    """The application compresses. Only that it has written a file can be verified.

    It gets names in the scratch directory for both files. Command-line programs remove their source: here they remove
    another name of it, and never the backup itself.
    """

    def __init__(self, compress: Compress) -> None:
        self.extension = getattr(compress, "extension", CALLABLE_EXTENSION)
        self._compress = compress

    def write(self, source: int, place: Place, scratch: Scratch) -> int:
        source_path = scratch.take_in(source, place)
        self._compress(source_path, source_path + self.extension)
        name = os.path.basename(source_path) + self.extension
        try:
            draft = scratch.open(name)
        except FileNotFoundError as error:
            raise OSError(
                errno.EIO, f"compress={self._compress!r} has written nothing to it", error.filename
            ) from error
        try:
            status = os.fstat(draft)
            if not stat.S_ISREG(status.st_mode) or (not status.st_size and os.fstat(source).st_size):
                raise OSError(errno.EIO, f"compress={self._compress!r} has written nothing to it", name)
            os.fsync(draft)
        except BaseException:
            os.close(draft)
            raise
        return draft


class StreamCodec(Codec):
    """Compression by a module of the standard library, or by one with the same interface."""

    def __init__(
        self, extension: str, new_compressor: Callable[[], _Coder], new_decompressor: Callable[[], Any]
    ) -> None:
        self.extension = extension
        self._new_compressor = new_compressor
        self._new_decompressor = new_decompressor

    def write(self, source: int, place: Place, scratch: Scratch) -> int:
        name = os.path.basename(place.path) + self.extension
        draft = scratch.create(name)
        try:
            self._compress(source, draft, name)
        except BaseException:
            os.close(draft)
            raise
        return draft

    def _compress(self, source: int, draft: int, name: str) -> None:
        """Compress the one open file into the other, and read it back."""
        pace = Pace()
        compressor = self._new_compressor()
        read = _Digest()
        unsynced = 0
        for chunk in _chunks(source):
            read.add(chunk)
            _leave_room(draft, name)
            unsynced += _write_all(draft, compressor.compress(chunk))
            if unsynced >= _SYNC_BYTES:
                os.fsync(draft)
                unsynced = 0
            pace.rest()
        _write_all(draft, compressor.flush())
        os.fsync(draft)
        if self._digest_of(draft, pace) != read:
            raise OSError(errno.EIO, "the archive does not hold what was compressed", name)

    def _digest_of(self, draft: int, pace: Pace) -> _Digest:
        """The digest of the lines in the archive, which is read back."""
        os.lseek(draft, 0, os.SEEK_SET)
        decompressor = self._new_decompressor()
        held = _Digest()
        for chunk in _chunks(draft):
            # A part of a highly compressed archive may become a thousand times as large.
            for start in range(0, len(chunk), _SLICE_BYTES):
                held.add(decompressor.decompress(chunk[start : start + _SLICE_BYTES]))
            pace.rest()
        held.ended = decompressor.eof
        return held


class _Digest:
    """Length and checksum of a stream. To compute the checksum releases the interpreter's lock."""

    def __init__(self) -> None:
        self.length = 0
        self.checksum = 0
        self.ended = True

    def add(self, data: bytes) -> None:
        """Add the next part of the stream."""
        self.length += len(data)
        self.checksum = zlib.crc32(data, self.checksum)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Digest) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]  # it changes


def codec_for(compress: str | Compress | None, level: int | None) -> Codec | None:
    """The codec of the handler's arguments `compress` and `compress_level`; None for no compression.

    Raises:
        ConfigurationError: There is no such compression here, or no such level.
    """
    if compress is None:
        if level is not None:
            raise ConfigurationError(f"compress_level={level!r} means nothing without compress; give compress='gz'")
        return None
    if callable(compress):
        if level is not None:
            raise ConfigurationError(
                f"compress_level={level!r} means nothing to a callable; leave it out, or give compress='gz'"
            )
        codec = CallableCodec(compress)
        if not isinstance(codec.extension, str) or not codec.extension.startswith(".") or "/" in codec.extension:
            raise ConfigurationError(
                f"compress={compress!r} has extension={codec.extension!r}; give one that begins with a dot, as '.bz2'"
            )
        return codec
    makers = {"gz": _gz, "xz": _xz, "zst": _zst}
    if not isinstance(compress, str) or compress not in makers:
        raise ConfigurationError(
            f"compress={compress!r} is not known; give 'gz', 'zst', 'xz', a callable(source_path, target_path), or None"
        )
    return makers[compress](level)


def _gz(level: int | None) -> Codec:
    """gzip (RFC 1952), without name and time, so that an archive depends only on the lines."""
    chosen = _checked_level("gz", level, range(10), 6)
    gzip_format = 16 + zlib.MAX_WBITS
    return StreamCodec(
        ".gz",
        lambda: zlib.compressobj(chosen, zlib.DEFLATED, gzip_format),
        lambda: zlib.decompressobj(gzip_format),
    )


def _xz(level: int | None) -> Codec:
    """xz. The memory that it needs depends on the level (xz(1)): 9 MiB at 0, 94 MiB at 6, 674 MiB at 9."""
    lzma = _imported("xz", "lzma")
    chosen = _checked_level("xz", level, range(10), 6)
    return StreamCodec(".xz", lambda: lzma.LZMACompressor(preset=chosen), lzma.LZMADecompressor)


def _zst(level: int | None) -> Codec:
    """Zstandard with a checksum of the content: compression.zstd of Python 3.14, or its backport."""
    zstd = _imported("zst", "compression.zstd", "backports.zstd")
    parameter = zstd.CompressionParameter
    lowest, highest = parameter.compression_level.bounds()
    chosen = _checked_level("zst", level, range(lowest, highest + 1), 3)
    options = {parameter.compression_level: chosen, parameter.checksum_flag: 1}
    return StreamCodec(".zst", lambda: zstd.ZstdCompressor(options=options), zstd.ZstdDecompressor)


def _imported(compress: str, *modules: str) -> Any:
    """The first of the modules that is installed."""
    for module in modules:
        with suppress(ImportError):
            return importlib.import_module(module)
    remedy = {"zst": "install it with: pip install 'rollsafe[zstd]'"}.get(compress, "this Python was built without it")
    raise ConfigurationError(f"compress={compress!r} needs the module {modules[-1]}: {remedy}, or give compress='gz'")


def _checked_level(compress: str, level: int | None, levels: range, default: int) -> int:
    """`level`, or the default for None; an error if there is no such level."""
    if level is None:
        return default
    if isinstance(level, bool) or not isinstance(level, int) or level not in levels:
        raise ConfigurationError(
            f"compress_level={level!r} is no level of compress={compress!r}; give one from {levels[0]} to {levels[-1]}"
        )
    return level


def _chunks(descriptor: int) -> Iterator[bytes]:
    """The rest of a file from its offset."""
    while chunk := os.read(descriptor, _CHUNK_BYTES):
        yield chunk


def _write_all(descriptor: int, data: bytes) -> int:
    """Write all of `data`; returns its length."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    return len(data)


def _leave_room(descriptor: int, path: str) -> None:
    """Refuse to take the last free space from those that write the log."""
    status = os.fstatvfs(descriptor)
    reserve = min(_RESERVE_BYTES, status.f_blocks * status.f_frsize // _RESERVE_SHARE)
    if status.f_bavail * status.f_frsize < reserve:
        raise OSError(errno.ENOSPC, "too little space would be left for the log", path)
