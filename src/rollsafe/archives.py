"""Archives: a backup compressed. One is final whole, or not at all, and its source goes only then.

It is written, synced and read back in a directory of its own (:mod:`rollsafe.scratch`). Then, under the lock of the
rollover:

1. the source must be what it was when it was read, and still be the file of its name;
2. the ledger notes the source, its size, and the archive's inode, so that a writer whose file has lost its name knows
   whether the archive has its line;
3. the archive gets the final name as a second one by link(2), which replaces nothing. Where the application is to be
   told of it, it gets a further name before, which ends in `.tmp` and goes when that is done;
4. the source is unlinked.

Whoever finds source and archive together knows by the ledger whether a process was killed between the last two steps:
the inode of the archive is noted there. What the ledger does not know is nobody's to remove.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from rollsafe.codecs import Codec
from rollsafe.codecs import StreamCodec as StreamCodec
from rollsafe.ledger import Changed as Changed
from rollsafe.ledger import Ledger
from rollsafe.locks import Identity, identity_of
from rollsafe.places import Looks, Place, place_of
from rollsafe.renames import rename_new_at
from rollsafe.scratch import NO_LINKS, Scratch, claimed, opened, scratch_beside

# What an archive has behind its name as a second one, until the application has been told of it.
UNANNOUNCED_EXTENSION: Final = ".tmp"

Fingerprint = tuple[int, int, int, int]
"""What changes when a file is written, renamed or replaced: device, inode, size, ctime in nanoseconds."""


def fingerprint_of(status: os.stat_result) -> Fingerprint:
    """The fingerprint of a file."""
    return status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns


def _content_of(status: os.stat_result) -> tuple[int, int]:
    """What changes when a file is written: size, mtime in nanoseconds. Our own second name of it changes the ctime."""
    return status.st_size, status.st_mtime_ns


def archive(
    source_path: str,
    final_path: str,
    fingerprint: Fingerprint,
    codec: Codec,
    ledger: Ledger,
    *,
    is_elected: Callable[[], bool] = lambda: True,
    announces: bool = False,
) -> None:
    """Make `final_path` of `source_path`, which goes.

    Args:
        source_path: A backup that was found quiet with this `fingerprint`: each process that writes to it later asks,
            under the lock of the rollover, whether it still has a name.
        final_path: The archive; nothing may have that name.
        fingerprint: Of the source.
        codec: How to compress.
        ledger: Of the log.
        is_elected: Whether this process tends the backups still. Asked before the first step that cannot be undone,
            where the source could not be claimed.
        announces: Whether the application is to be told of the archive: then it has a second name until that is done.

    Raises:
        Changed: The source has another fingerprint now, or this process is not elected any more; nothing was done.
        Taken: Another process is at it.
        FileExistsError: There is something under the final name, which is left alone.
        OSError: Anything else; the source is untouched.
    """
    with (
        place_of(source_path) as place,
        place_of(final_path) as final,
        # It stays open until the lock is released: the last close(2) of a large file takes its time.
        opened(place.open(os.O_RDONLY)) as source,
        claimed(source) as is_claimed,
    ):
        status = os.fstat(source)
        if fingerprint_of(status) != fingerprint:
            raise Changed(source_path)
        if exists(final_path):
            raise FileExistsError(errno.EEXIST, "it exists beside the file that it would be made of", final_path)
        with scratch_beside(final) as scratch, opened(_written(codec, source, place, scratch)) as draft:
            # Unless it is the source itself, which the application has only renamed.
            if identity_of(os.fstat(draft)) != identity_of(status):
                _make_like(draft, status)
            with ledger.held():
                if not (is_claimed or is_elected()) or not _is_unchanged(place, source, status):
                    raise Changed(source_path)
                _commit(place, final, source, draft, scratch, ledger, announces)


def _written(codec: Codec, source: int, place: Place, scratch: Scratch) -> int:
    """What the codec has written, open.

    Where another process has archived the source meanwhile, it has cleared the scratch directory away as well: that is
    no failure of the codec.
    """
    before = os.fstat(source)
    try:
        return codec.write(source, place, scratch)
    except OSError as error:
        if not _is_unchanged(place, source, before):
            raise Changed(place.path) from error
        raise


def _is_unchanged(place: Place, source: int, status: os.stat_result) -> bool:
    """Whether an open file is what it was, and the place names it."""
    return _content_of(os.fstat(source)) == _content_of(status) and _names(place, identity_of(status))


def _commit(
    place: Place, final: Place, source: int, draft: int, scratch: Scratch, ledger: Ledger, announces: bool
) -> None:
    """Have the archive take the place of its source; only under the lock."""
    before = os.fstat(source)
    archive = os.fstat(draft)
    name = os.path.basename(place.path) + final.path.removeprefix(place.path)
    ledger.record(before, before.st_size, archive)
    names = [_longer(final, UNANNOUNCED_EXTENSION), final] if announces else [final]
    try:
        for new in names:
            _publish(scratch, name, identity_of(archive), new, is_last=new is final)
        # The lock may be lost at any time (see `FileLock.excludes`), and a writer that has it now need not ask us.
        ledger.check_held()
        if not _is_unchanged(place, source, before):
            raise Changed(place.path)
        os.unlink(place.name, dir_fd=place.dir_fd)
    except BaseException:
        # An error may be reported though the source is gone; then the archive is all that there is.
        with suppress(OSError):
            if _names(place, identity_of(before)):
                for new in names:
                    if _names(new, identity_of(archive)):
                        os.unlink(new.name, dir_fd=new.dir_fd)
                ledger.withdraw(before)
        raise
    with suppress(OSError):
        ledger.settle(ledger.identity(before))


def _publish(scratch: Scratch, name: str, archive: Identity, new: Place, is_last: bool) -> None:
    """Give an archive a name, which nothing has.

    Where the file system has no hard links it has one name only, the last one.

    Raises:
        Changed: The archive is not there any more.
        FileExistsError: There is something under the new name.
    """
    if identity_of(os.stat(name, dir_fd=scratch.descriptor, follow_symlinks=False)) != archive:
        raise Changed(name)
    try:
        os.link(name, new.name, src_dir_fd=scratch.descriptor, dst_dir_fd=new.dir_fd, follow_symlinks=False)
    except FileExistsError:
        # A network file system may repeat what it has done.
        if not _names(new, archive):
            raise
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        if is_last:
            _rename(name, scratch.descriptor, new)


def _rename(name: str, dir_fd: int | None, new: Place) -> None:
    """Give a file, which has this name in an open directory, another one, which nothing has; only under the lock."""
    if not rename_new_at(name, dir_fd, new.name, new.dir_fd):
        try:
            new.status()
        except FileNotFoundError:
            os.rename(name, new.name, src_dir_fd=dir_fd, dst_dir_fd=new.dir_fd)
        else:
            raise FileExistsError(errno.EEXIST, "it exists", new.path)


def _longer(place: Place, extension: str) -> Place:
    """The place with this behind its name."""
    return place.beside(os.path.basename(place.path) + extension)


def _names(place: Place, identity: Identity) -> bool:
    """Whether a name is of that file."""
    try:
        return identity_of(place.status()) == identity
    except FileNotFoundError:
        return False


def _make_like(draft: int, model: os.stat_result) -> None:
    """Give a file of ours owner, mode and times of another; it is opened to nobody who could not read that one."""
    Looks(model.st_uid, model.st_gid, stat.S_IMODE(model.st_mode) & 0o777).give_to(draft)
    os.utime(draft, ns=(model.st_atime_ns, model.st_mtime_ns))


def complete_killed(source_path: str, extensions: Iterable[str], ledger: Ledger) -> None:
    """Put right what a process has left that was killed while it had an archive take the place of its source.

    Only what the ledger says of these very files: a backup beside an archive may be what somebody has unpacked.

    Args:
        source_path: A backup that is no archive.
        extensions: What its archive may have behind its name.
        ledger: Of the log.

    Raises:
        Changed: The lock excludes nobody.
        OSError: It could not be done.
    """
    with ledger.held(), place_of(source_path) as place:
        source = place.status()
        entries = [entry for entry in ledger.entries() if entry.archive and ledger.is_about(entry, source)]
        if not entries or not stat.S_ISREG(source.st_mode):
            return
        archive = source.st_dev, entries[-1].archive
        for extension in extensions:
            final = _longer(place, extension)
            if _names(final, archive):
                if (source.st_size, source.st_mtime_ns) == (entries[-1].size, final.status().st_mtime_ns):
                    os.unlink(place.name, dir_fd=place.dir_fd)
                    ledger.settle(ledger.identity(source))
                    return
                # Late lines have come to the source since: it is archived again, all of it.
                os.unlink(final.name, dir_fd=final.dir_fd)
            unannounced = _longer(final, UNANNOUNCED_EXTENSION)
            if _names(unannounced, archive):
                os.unlink(unannounced.name, dir_fd=unannounced.dir_fd)
        ledger.withdraw(source)


def give_name(path: str, final_path: str, fingerprint: Fingerprint, ledger: Ledger) -> None:
    """Give a file that was found quiet with this fingerprint a second, final name.

    Where the file system has no hard links the first name goes.

    Raises:
        Changed: It is not the file of that fingerprint any more, or the lock excludes nobody.
        FileExistsError: There is something under the final name, which is left alone.
        OSError: It was refused.
    """
    with ledger.held(), place_of(path) as place, place_of(final_path) as final:
        if fingerprint_of(place.status()) != fingerprint:
            raise Changed(path)
        try:
            os.link(place.name, final.name, src_dir_fd=place.dir_fd, dst_dir_fd=final.dir_fd, follow_symlinks=False)
        except FileExistsError:
            if not _names(final, fingerprint[:2]):
                raise
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            _rename(place.name, place.dir_fd, final)


def drop_copied(path: str, copy_path: str, size: int, ledger: Ledger) -> None:
    """Unlink a file of which the application has made `copy_path`.

    Args:
        path: The file.
        copy_path: What the application has made.
        size: What the file had before. It may be empty now, because the application has copied and truncated it.
        ledger: Of the log.

    Raises:
        OSError: It has another size: there are lines in it that came after the copy.
    """
    with ledger.held(), place_of(path) as place, place_of(copy_path) as copy:
        status = place.status()
        if status.st_size not in (0, size):
            raise OSError(errno.EBUSY, "has got lines since it was copied, and is kept", path)
        ledger.record(status, size, copy.status())
        os.unlink(place.name, dir_fd=place.dir_fd)
        with suppress(OSError):
            ledger.settle(ledger.identity(status))


@contextmanager
def claimed_file(path: str, identity: Identity) -> Iterator[None]:
    """Keep other processes off the file that `path` names (see `claimed`).

    Raises:
        Taken: Another process is at it.
        Changed: The path names another file.
        OSError: It cannot be opened.
    """
    with place_of(path) as place:
        try:
            descriptor = place.open(os.O_RDONLY)
        except PermissionError:
            # What may not be read may be removed all the same.
            yield
            return
        with opened(descriptor), claimed(descriptor):
            # Who had it before us may have been done with it.
            if not _names(place, identity):
                raise Changed(path)
            yield


def remove(path: str, identity: Identity) -> None:
    """Unlink a name of the file of this identity.

    Raises:
        Changed: It is of another one.
        FileNotFoundError: It is gone.
    """
    with place_of(path) as place:
        if identity_of(place.status()) != identity:
            raise Changed(path)
        os.unlink(place.name, dir_fd=place.dir_fd)


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
