"""How an archive takes the place of its backup: the whole archive or none, and the backup is removed only then.

The archive is written, synced and read back in a scratch directory (`scratch`). Then, under the rollover
lock:

1. the source must be unchanged since it was read, and its path must still name it;
2. the ledger records the source, its size, and the inode of the archive, so that a writer whose file has lost its name
   finds out whether the archive has its line;
3. the archive gets the final name as a second one by link(2), which replaces nothing. If the application is to be
   notified, the archive gets another name before that one. It ends in `.tmp`, and is unlinked when the application was
   notified;
4. the source is unlinked.

A process that finds a source and its archive together asks the ledger, which has the inode of the archive, whether
another process was killed between the last two steps. No process removes files of which the ledger says nothing.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress

from rollsafe._backups.codecs import Codec
from rollsafe._backups.file_names import Fingerprint, exists, fingerprint_of, names_file, rename_to_free
from rollsafe._backups.ledger import Changed, Ledger
from rollsafe._backups.names import UNANNOUNCED_EXTENSION
from rollsafe._backups.scratch import NO_LINKS, Scratch, claimed, opened, scratch_beside
from rollsafe._files.identity import Identity, identity_of
from rollsafe._files.places import Looks, Place, place_of


def _content_of(status: os.stat_result) -> tuple[int, int]:
    """Size, and mtime in nanoseconds: they change when a file is written. The ctime changes also by our own link(2)."""
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
    """Replace the backup `source_path` by its archive `final_path`.

    Args:
        source_path: A backup that was found quiet with this `fingerprint`: each process that writes to it later asks,
            under the lock of the rollover, whether it still has a name.
        final_path: The archive; the name must be free.
        fingerprint: Of the source.
        codec: How to compress.
        ledger: Of the log.
        is_elected: Whether this process still maintains the backups. If the source could not be claimed, it is asked
            before the first step that cannot be undone.
        announces: Whether the application is to be notified of the archive: then it has a second name until that is
            done.

    Raises:
        Changed: The source has another fingerprint now, or this process is not elected any more; nothing was done.
        Taken: Another process works on it.
        FileExistsError: The final name is taken; the file there is left alone.
        OSError: Another call was refused; the source is untouched.
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
                ledger.refresh(place)
                if not (is_claimed or is_elected()) or not _is_unchanged(place, source, status):
                    raise Changed(source_path)
                _commit(place, final, source, draft, scratch, ledger, announces)


def _written(codec: Codec, source: int, place: Place, scratch: Scratch) -> int:
    """The archive that the codec has written, open.

    If another process has archived the source meanwhile, it has removed the scratch directory as well. Then the error
    is no failure of the codec.
    """
    before = os.fstat(source)
    try:
        return codec.write(source, place, scratch)
    except OSError as error:
        if not _is_unchanged(place, source, before):
            raise Changed(place.path) from error
        raise


def _is_unchanged(place: Place, source: int, status: os.stat_result) -> bool:
    """Whether an open file has not been written to since, and the place names it."""
    return _content_of(os.fstat(source)) == _content_of(status) and names_file(place, identity_of(status))


def _commit(
    place: Place, final: Place, source: int, draft: int, scratch: Scratch, ledger: Ledger, announces: bool
) -> None:
    """Replace the source by its archive; only under the lock."""
    before = os.fstat(source)
    archive = os.fstat(draft)
    name = os.path.basename(place.path) + final.path.removeprefix(place.path)
    ledger.record(before, before.st_size, archive)
    names = [_longer(final, UNANNOUNCED_EXTENSION), final] if announces else [final]
    try:
        for new in names:
            _publish(scratch, name, identity_of(archive), new, is_last=new is final)
        # The lock can be lost at any time (see `FileLock.excludes`). A writer that has it now does not wait for us.
        ledger.check_held()
        if not _is_unchanged(place, source, before):
            raise Changed(place.path)
        os.unlink(place.name, dir_fd=place.dir_fd)
    except BaseException:
        # unlink(2) may fail and yet have removed the source; then the archive is the only copy.
        with suppress(OSError):
            if names_file(place, identity_of(before)):
                for new in names:
                    if names_file(new, identity_of(archive)):
                        os.unlink(new.name, dir_fd=new.dir_fd)
                ledger.withdraw(before)
        raise
    with suppress(OSError):
        ledger.settle(ledger.identity(before))


def _publish(scratch: Scratch, name: str, archive: Identity, new: Place, is_last: bool) -> None:
    """Give an archive a name that is free.

    If the file system has no hard links, the archive gets only the last name.

    Raises:
        Changed: The archive is not there any more.
        FileExistsError: The new name is taken.
    """
    if identity_of(os.stat(name, dir_fd=scratch.descriptor, follow_symlinks=False)) != archive:
        raise Changed(name)
    try:
        os.link(name, new.name, src_dir_fd=scratch.descriptor, dst_dir_fd=new.dir_fd, follow_symlinks=False)
    except FileExistsError:
        # The client of a network file system may repeat a call that was successful.
        if not names_file(new, archive):
            raise
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        if is_last:
            rename_to_free(name, scratch.descriptor, new)


def _longer(place: Place, extension: str) -> Place:
    """The place whose name is longer by an extension."""
    return place.beside(os.path.basename(place.path) + extension)


def _make_like(draft: int, model: os.stat_result) -> None:
    """Give a file of ours owner, mode and times of another; it is readable only for users who could read that one."""
    Looks(model.st_uid, model.st_gid, stat.S_IMODE(model.st_mode) & 0o777).give_to(draft)
    os.utime(draft, ns=(model.st_atime_ns, model.st_mtime_ns))


def complete_killed(source_path: str, extensions: Iterable[str], ledger: Ledger) -> None:
    """Complete the replacement of a source by its archive, after the process that made it was killed.

    Only if the ledger has these very files: a backup beside its archive may be one that a person has unpacked.

    Args:
        source_path: A backup that is no archive.
        extensions: Those that its archive may have.
        ledger: Of the log.

    Raises:
        Changed: The lock was lost.
        OSError: A call was refused.
    """
    with ledger.held(), place_of(source_path) as place:
        ledger.refresh(place)
        source = place.status()
        entries = [entry for entry in ledger.entries() if entry.archive and ledger.is_about(entry, source)]
        if not entries or not stat.S_ISREG(source.st_mode):
            return
        archive = source.st_dev, entries[-1].archive
        for extension in extensions:
            final = _longer(place, extension)
            if names_file(final, archive):
                if (source.st_size, source.st_mtime_ns) == (entries[-1].size, final.status().st_mtime_ns):
                    os.unlink(place.name, dir_fd=place.dir_fd)
                    ledger.settle(ledger.identity(source))
                    return
                # Late lines were written to the source since: the whole of it is archived again.
                os.unlink(final.name, dir_fd=final.dir_fd)
            unannounced = _longer(final, UNANNOUNCED_EXTENSION)
            if names_file(unannounced, archive):
                os.unlink(unannounced.name, dir_fd=unannounced.dir_fd)
        ledger.withdraw(source)
