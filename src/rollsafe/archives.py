"""Archives: a backup compressed. One is final whole, or not at all, and its source goes only then.

The draft `….gz.tmp` is written, synced and read back. Then, under the lock of the rollover: the source is marked, by
its own times, as archived up to its size; it must be what it was when it was found quiet; the draft gets the final
name as a second one by link(2), which replaces nothing; the source is unlinked. A writer whose file has lost its name
knows by the mark whether the archive has its line. The draft's own name goes last. So whoever finds a draft knows what
a killed process has left:

* a draft and the source: the work was not finished, it is done again, because late lines may have come since;
* a draft that is the same file as the archive, and no source: the archive is final, its follow-up may be missing;
* a draft alone, of a compression of the application: that has removed the source, the draft is all that there is.
"""

from __future__ import annotations

import errno
import importlib
import os
import stat
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, Protocol

from rollsafe.background import Pace, sleep
from rollsafe.errors import ConfigurationError
from rollsafe.locks import FileLock, Identity, identity_of

Compress = Callable[[str, str], object]
"""Writes an archive of the file `source_path` to the new file `target_path`."""

DRAFT_EXTENSION: Final = ".tmp"
# Nanoseconds since the epoch: the mtime of a file, all of which is in its archive. A write sets another.
_MARK: Final = 0
# The atime tells the size then: its seconds count so many bytes, its nanoseconds the rest. Beyond that it is a time.
_BYTES_A_SECOND: Final = 1 << 29
_NANOSECONDS: Final = 10**9
_LAST_SECOND: Final = 1 << 20
# What a callable's archives end in, unless it has an attribute `extension`.
CALLABLE_EXTENSION: Final = ".archive"

# Bytes. How much is compressed at a time, and synced at a time: one large fsync(2) would hold up other writers.
_CHUNK: Final = 1 << 20
_SLICE: Final = 1 << 14
_SYNC: Final = 8 << 20
# Bytes, and share of the file system: so much is left free for those that write the log.
_RESERVE: Final = 16 << 20
_RESERVE_SHARE: Final = 20
# Seconds between attempts to have the lock, at first and at most.
_SHORT_PAUSE: Final = 0.001
_LONG_PAUSE: Final = 0.1


class Changed(Exception):
    """Something is not what it was: a late line came, or the source is gone."""


class _Coder(Protocol):
    """A compressor."""

    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class Codec:
    """How archives are made. Subclasses are one for each way.

    Attributes:
        extension: What the names of its archives end in.
        may_take_source: Whether a source that is gone may have been removed by it, after the archive was written.
    """

    extension: str
    may_take_source = False

    def write(self, source_path: str, descriptor: int, draft_path: str) -> Identity:
        """Write the archive of the open file `descriptor` to the new file `draft_path`, and verify it.

        Returns:
            Device and inode of what was verified.

        Raises:
            OSError: It cannot be written or read back.
        """
        raise NotImplementedError


class CallableCodec(Codec):
    """The application compresses; that it has written a file is all that can be verified."""

    may_take_source = True

    def __init__(self, compress: Compress) -> None:
        self.extension = getattr(compress, "extension", CALLABLE_EXTENSION)
        self._compress = compress

    def write(self, source_path: str, descriptor: int, draft_path: str) -> Identity:
        self._compress(source_path, draft_path)
        with _opened(draft_path, os.O_RDONLY) as draft:
            status = os.fstat(draft)
            if not stat.S_ISREG(status.st_mode) or (not status.st_size and os.fstat(descriptor).st_size):
                raise OSError(errno.EIO, f"compress={self._compress!r} has written nothing to it", draft_path)
            os.fsync(draft)
            return identity_of(status)


class StreamCodec(Codec):
    """Compression by a module of the standard library, or by one that is like it."""

    def __init__(
        self, extension: str, new_compressor: Callable[[], _Coder], new_decompressor: Callable[[], Any]
    ) -> None:
        self.extension = extension
        self._new_compressor = new_compressor
        self._new_decompressor = new_decompressor

    def write(self, source_path: str, descriptor: int, draft_path: str) -> Identity:
        # Nobody may read it before it has the mode of the source.
        with _opened(draft_path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600) as draft:
            pace = Pace()
            compressor = self._new_compressor()
            read = _Digest()
            unsynced = 0
            for chunk in _chunks(descriptor):
                read.add(chunk)
                _leave_room(draft, draft_path)
                unsynced += _write_all(draft, compressor.compress(chunk))
                if unsynced >= _SYNC:
                    os.fsync(draft)
                    unsynced = 0
                pace.rest()
            _write_all(draft, compressor.flush())
            os.fsync(draft)
            if self._digest_of(draft, pace) != read:
                raise OSError(errno.EIO, "the archive does not hold what was compressed", draft_path)
            return identity_of(os.fstat(draft))

    def _digest_of(self, draft: int, pace: Pace) -> _Digest:
        """What the archive holds when it is read back."""
        os.lseek(draft, 0, os.SEEK_SET)
        decompressor = self._new_decompressor()
        held = _Digest()
        for chunk in _chunks(draft):
            # The output of a part of a highly compressed archive may be a thousand times as large.
            for start in range(0, len(chunk), _SLICE):
                held.add(decompressor.decompress(chunk[start : start + _SLICE]))
            pace.rest()
        held.ended = decompressor.eof
        return held


class _Digest:
    """Length and checksum of what went by; both release the interpreter's lock."""

    def __init__(self) -> None:
        self.length = 0
        self.checksum = 0
        self.ended = True

    def add(self, data: bytes) -> None:
        """Take a part into account."""
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
    """gzip (RFC 1952), without name and time, so that an archive depends on nothing but the lines."""
    chosen = _checked_level("gz", level, range(10), 6)
    gzip_format = 16 + zlib.MAX_WBITS
    return StreamCodec(
        ".gz",
        lambda: zlib.compressobj(chosen, zlib.DEFLATED, gzip_format),
        lambda: zlib.decompressobj(gzip_format),
    )


def _xz(level: int | None) -> Codec:
    """xz; each level has its own need of memory (xz(1)): 9 MiB at 0, 94 at 6, 674 at 9."""
    lzma = _imported("xz", "lzma")
    chosen = _checked_level("xz", level, range(10), 6)
    return StreamCodec(".xz", lambda: lzma.LZMACompressor(preset=chosen), lzma.LZMADecompressor)


def _zst(level: int | None) -> Codec:
    """Zstandard with a checksum of the content: compression.zstd of Python 3.14, or the same for older versions."""
    zstd = _imported("zst", "compression.zstd", "backports.zstd")
    parameter = zstd.CompressionParameter
    lowest, highest = parameter.compression_level.bounds()
    chosen = _checked_level("zst", level, range(lowest, highest + 1), 3)
    options = {parameter.compression_level: chosen, parameter.checksum_flag: 1}
    return StreamCodec(".zst", lambda: zstd.ZstdCompressor(options=options), zstd.ZstdDecompressor)


def _imported(compress: str, *modules: str) -> Any:
    """The first of the modules that there is."""
    for module in modules:
        with suppress(ImportError):
            return importlib.import_module(module)
    remedy = {"zst": "install it with: pip install 'rollsafe[zstd]'"}.get(compress, "this Python was built without it")
    raise ConfigurationError(f"compress={compress!r} needs the module {modules[-1]}: {remedy}, or give compress='gz'")


def _checked_level(compress: str, level: int | None, levels: range, default: int) -> int:
    """`level`, or the default for None, if there is such a level."""
    if level is None:
        return default
    if isinstance(level, bool) or not isinstance(level, int) or level not in levels:
        raise ConfigurationError(
            f"compress_level={level!r} is no level of compress={compress!r}; give one from {levels[0]} to {levels[-1]}"
        )
    return level


Sign = tuple[int, int, int, int]
"""What changes when a file is written, renamed or replaced: device, inode, size, ctime in nanoseconds."""


def sign_of(status: os.stat_result) -> Sign:
    """The sign of a file."""
    return status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns


def archive(source_path: str, final_path: str, sign: Sign, codec: Codec, lock: FileLock) -> None:
    """Make `final_path` of `source_path`, which goes. The draft stays beside it, as a second name of the archive.

    Args:
        source_path: A backup that was found quiet with this `sign`: whoever writes to it later looks, under `lock`,
            whether it still has a name.
        final_path: The archive; nothing may have that name.
        sign: Of the source.
        codec: How to compress.
        lock: That of the rollover, not held.

    Raises:
        Changed: The source is not the file of that sign any more, or the draft was taken over by another process, or
            the lock excludes nobody; nothing was done.
        FileExistsError: There is something under the final name, which is left alone.
        OSError: Anything else; the source is untouched, and there is no draft. If the codec has taken the source, the
            draft is left to `adopt`.
    """
    draft_path = final_path + DRAFT_EXTENSION
    # The source stays open until the lock is released: the last close(2) of a large file takes its time.
    with _opened(source_path, os.O_RDONLY) as source:
        if exists(final_path):
            raise FileExistsError(errno.EEXIST, "it exists beside the file that it would be made of", final_path)
        published = False
        draft: Identity | None = None
        size = os.fstat(source).st_size
        try:
            draft = codec.write(source_path, source, draft_path)
            _make_like(draft_path, os.fstat(source))
            with _held(lock):
                if not _is_path_of(draft_path, draft):
                    raise Changed(draft_path)
                taken = codec.may_take_source and not exists(source_path)
                if not taken:
                    _mark(source, source_path, sign)
                elif not _is_path_of(draft_path, identity_of(os.fstat(source))):
                    _mark_taken(source, size)
                publish(draft_path, final_path)
                published = True
                if not taken:
                    os.unlink(source_path)
        except BaseException as error:
            if not (_is_path_of(draft_path, draft) if draft else not isinstance(error, FileExistsError)):
                # Another process is at the same work, because the lock of the election was removed: the draft is its.
                raise
            with suppress(OSError):
                # An error may be reported though the source is gone; then the archive is all that there is.
                if exists(source_path) and (published or are_one(draft_path, final_path)):
                    os.unlink(final_path)
                # Not before: the mark tells `clear_draft` that the archive was made of this source.
                _unmark(source, draft_path)
                if exists(source_path) or not (published or codec.may_take_source):
                    os.unlink(draft_path)
            raise


def _is_path_of(path: str, identity: Identity) -> bool:
    """Whether this path is of that file."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return identity_of(status) == identity


def _mark(source: int, source_path: str, sign: Sign) -> None:
    """Mark the open source, if it is still what it was."""
    if not exists(source_path) or sign_of(os.lstat(source_path)) != sign:
        raise Changed(source_path)
    mark(source, sign[2])
    status = os.fstat(source)
    if (status.st_size, status.st_mtime_ns) != (sign[2], _MARK):
        raise Changed(source_path)


def _mark_taken(source: int, size: int) -> None:
    """Mark an open source that its compression has removed: the archive has `size` bytes of it, perhaps no more.

    So the writer of a line that has come since writes it again.
    """
    mark(source, size)
    if os.fstat(source).st_size != size:
        os.utime(source, ns=(os.fstat(source).st_atime_ns, time.time_ns()))


def mark(source: int, size: int) -> None:
    """Mark an open file as archived up to `size`."""
    seconds, rest = divmod(size, _BYTES_A_SECOND)
    os.utime(source, ns=(seconds * _NANOSECONDS + rest, _MARK))


def has_archived(status: os.stat_result, end: float) -> bool:
    """Whether a file that has lost its name is marked as archived up to `end`, which was once its size.

    By the mtime if nobody has written since. Else by the atime, if nobody has read since; then the answer is no, and
    at worst a line is doubled.
    """
    if status.st_mtime_ns == _MARK:
        return True
    size = _marked_size(status)
    return size is not None and end <= size


def _marked_size(status: os.stat_result) -> int | None:
    """The size up to which the atime marks a file as archived, None if it does not.

    A file that was made while the clock stood in 1970 has a like atime, but is never as large as that would tell.
    """
    seconds, rest = divmod(status.st_atime_ns, _NANOSECONDS)
    size = seconds * _BYTES_A_SECOND + rest
    return size if seconds < _LAST_SECOND and size <= status.st_size else None


def is_marked(status: os.stat_result) -> bool:
    """Whether a file is marked as archived, though lines may have come since."""
    return status.st_mtime_ns == _MARK or _marked_size(status) is not None


def _unmark(source: int, draft_path: str) -> None:
    """Give a source that is marked the times that it had, which its draft has."""
    if os.fstat(source).st_mtime_ns == _MARK:
        times = os.lstat(draft_path)
        os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))


def give_name(path: str, final_path: str, sign: Sign, lock: FileLock) -> None:
    """Give a file that was found quiet with this sign a second, final name.

    Raises:
        Changed: It is not the file of that sign any more, or the lock excludes nobody.
        FileExistsError: There is something under the final name, which is left alone.
        OSError: It was refused.
    """
    with _held(lock):
        if sign_of(os.lstat(path)) != sign:
            raise Changed(path)
        publish(path, final_path)


def publish(draft_path: str, final_path: str) -> None:
    """Give a file a second, final name, which nothing has; only while the lock is held.

    Where the file system has no hard links the first name goes.
    """
    try:
        os.link(draft_path, final_path)
    except FileExistsError:
        # A network file system may repeat what it has done.
        if not are_one(draft_path, final_path):
            raise
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        if exists(final_path):
            raise FileExistsError(errno.EEXIST, "it exists", final_path) from error
        os.rename(draft_path, final_path)


def are_one(path: str, other: str) -> bool:
    """Whether two names are of one file."""
    try:
        first, second = os.lstat(path), os.lstat(other)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENAMETOOLONG):
            raise
        return False
    return identity_of(first) == identity_of(second)


def exists(path: str) -> bool:
    """Whether anything has this name; `os.path.lexists` says no also where it may not look."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True


def clear_draft(draft_path: str, source_path: str) -> bool:
    """Put right what a process has left that was killed while it made an archive.

    A file of the source's name that is not marked is not what the archive was made of: somebody unpacks the archive.

    Returns:
        Whether the archive is final, and the draft another name of it, which the caller has to remove at the end.
    """
    final_path = draft_path.removesuffix(DRAFT_EXTENSION)
    if are_one(draft_path, final_path):
        if not (exists(source_path) and is_marked(os.lstat(source_path))):
            return True
        # Late lines may have come to the source since: it is archived again, all of it.
        os.unlink(final_path)
    with suppress(FileNotFoundError), _opened(source_path, os.O_RDONLY) as source:
        _unmark(source, draft_path)
    os.unlink(draft_path)
    return False


def _make_like(path: str, model: os.stat_result) -> None:
    """Give a file owner, mode and times of another; it is opened to nobody who could not read that one."""
    with _opened(path, os.O_RDONLY) as descriptor:
        status = os.fstat(descriptor)
        mode = stat.S_IMODE(model.st_mode)
        if status.st_gid != model.st_gid:
            try:
                os.fchown(descriptor, -1, model.st_gid)
            except PermissionError:
                mode &= ~stat.S_IRWXG
        if status.st_uid != model.st_uid:
            with suppress(PermissionError):
                os.fchown(descriptor, model.st_uid, -1)
        os.fchmod(descriptor, mode)
        os.utime(descriptor, ns=(model.st_atime_ns, model.st_mtime_ns))


def adopt(draft_path: str, source_path: str, lock: FileLock) -> bool:
    """Publish the draft of a compression of the application that has removed the source; whether that was done."""
    with _held(lock):
        if exists(source_path) or not os.lstat(draft_path).st_size:
            return False
        # The lock file has the mode of the live file.
        os.chmod(draft_path, stat.S_IMODE(os.stat(lock.path).st_mode))
        publish(draft_path, draft_path.removesuffix(DRAFT_EXTENSION))
    return True


@contextmanager
def _held(lock: FileLock) -> Iterator[None]:
    """Hold the lock, however long it takes to have it: this is not the way of a line."""
    pause = _SHORT_PAUSE
    while not lock.acquire(timeout=0):
        sleep(pause)
        pause = min(2 * pause, _LONG_PAUSE)
    try:
        if not lock.excludes():
            # Somebody has removed the lock file in this moment; the next round takes the new one.
            raise Changed(lock.path)
        yield
    finally:
        lock.release()


@contextmanager
def _opened(path: str, flags: int, mode: int = 0o666) -> Iterator[int]:
    """A file descriptor; a symbolic link is refused."""
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _chunks(descriptor: int) -> Iterator[bytes]:
    """What is in a file from where its offset is."""
    while chunk := os.read(descriptor, _CHUNK):
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
    reserve = min(_RESERVE, status.f_blocks * status.f_frsize // _RESERVE_SHARE)
    if status.f_bavail * status.f_frsize < reserve:
        raise OSError(errno.ENOSPC, "too little space would be left for the log", path)
