"""New lines of a log as they come, across rollovers, each once: `tail -f` for a log that is renamed and compressed.

A file is known by its descriptor and inode, not by its name. A file that was rolled over is read until it has been
quiet for longer than a late line may take, and is then closed. It is still checked once a second, because a line that
comes even later is appended to the backup of its interval. When an archive takes the place of a file, the lines in the
archive count, because a writer whose line came too late for the archive writes it again.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from io import FileIO

from rollsafe._backups.names import ROLLED_EXTENSION
from rollsafe._files.identity import Identity, identity_of
from rollsafe._files.note import noted_identity, read_note
from rollsafe._timing import GRACE_S, LATE_S, LEASE_S
from rollsafe.errors import LogFileError
from rollsafe.tools.catalog import Log, LogFile, Recogniser, settings_now
from rollsafe.tools.lines import Complain, Snapshot, lines_of
from rollsafe.tools.reading import DAMAGED, open_log
from rollsafe.tools.several import Claims, is_file_at
from rollsafe.tools.source import Key, Owners, Source, changed_at, end_of_last_line, key_of

# Seconds after which a file that was rolled over and has not grown is closed.
QUIET = LATE_S + LEASE_S + GRACE_S + 1.0
# Seconds between looks at the files that are closed.
_ROUND = 1.0
# Seconds within which a directory may change again without a new time (the kernel's clock for files is coarse).
_COARSE = 0.1
_CHUNK = 1 << 20
# Bytes to compare at the beginning of a file and of an archive that may be its own.
_BEGINNING = 4096


class Follower:
    """The lines of one log that come from now on.

    Args:
        log: The log.
        complain: Called with a sentence about each file that could not be read.
        claims: Which of several names of a file counts, if other logs are followed with this one.
        owners: Which of several sources of a file prints its lines, if other logs are followed with this one.

    Attributes:
        snapshot: The log when following begins; its lines are not printed.
    """

    def __init__(
        self, log: Log, complain: Complain, claims: Claims | None = None, owners: Owners | None = None
    ) -> None:
        self._complain = complain
        self._claims = claims or Claims()
        self._owners = owners or Owners()
        self.snapshot: Snapshot = Snapshot(log, self._claims)
        self._live = log.live
        self._settings = self.snapshot.log.settings
        self._recogniser = Recogniser(log.live, self._settings)
        self._files: dict[str, LogFile | None] = {}
        self._sources: dict[Identity, Source] = {}
        self._archived: set[Key] = set()
        self._listed_at: dict[str, int] = {}
        self._next_round = 0.0
        for file in self.snapshot.log.files:
            self._begin(file)

    def _begin(self, file: LogFile) -> None:
        """Begin to follow a file, after the lines that it has."""
        if file.extension:
            self._archived.add(key_of(file))
            return
        try:
            if file.is_live:
                assert self.snapshot.live is not None
                stream = FileIO(os.dup(self.snapshot.live.fileno()))
            else:
                stream = FileIO(file.path)
        except FileNotFoundError:
            # Its archive may take its place.
            self._archived.add(key_of(file))
            return
        end = self.snapshot.sizes[file.path] = end_of_last_line(stream)
        if identity_of(os.fstat(stream.fileno())) in self._sources:
            stream.close()  # it is there by two names
            return
        source = self._open_source(stream, file.path, None if file.is_live else key_of(file), end)
        if not file.is_live and not file.path.endswith(ROLLED_EXTENSION):
            source.close()

    def close(self) -> None:
        """Close all files."""
        self.snapshot.close()
        for source in self._sources.values():
            source.close()

    def poll(self) -> Iterator[bytes]:
        """The whole lines that have come since the last time; rolled files before the live one."""
        now = time.monotonic()
        yield from self._look()
        everything = now >= self._next_round
        if everything:
            self._next_round = now + _ROUND
        ready = [
            source
            for source in self._sources.values()
            if source.stream is not None or (everything and source.has_grown())
        ]
        for source in sorted(ready, key=self._order):
            yield from self._owners.heard(source, self._read(source))

    def _look(self) -> Iterator[bytes]:
        """Notice new names; yields the lines that are only in archives."""
        folders = self._folders()
        changed = {folder: when for folder in folders if (when := changed_at(folder)) is not None}
        if changed == self._listed_at:
            return
        # A directory that has changed a moment ago may change again and keep the same time.
        settled = time.time_ns() - int(_COARSE * 1e9)
        self._listed_at = {folder: when for folder, when in changed.items() if when < settled}
        entries = _entries(changed)
        strangers = self._learn(entries)
        if self._folders() - folders:
            # The directory of the backups is known only now.
            return
        plain, archives = self._sort(entries, strangers)
        if self._is_archive_missed(plain, archives):
            # It was made behind the reader of the directory, and its source was removed before. Now both are done.
            plain, archives = self._sort(_entries(changed), strangers)
        self._follow_names(plain)
        yield from self._finish(plain, archives)
        self._add_new_files(plain, archives)
        yield from self._new_archives(archives)
        self._archived = {key for key in self._archived if key in archives}

    def _sort(
        self, entries: list[os.DirEntry[str]], strangers: set[str]
    ) -> tuple[dict[Identity, LogFile], dict[Key, str]]:
        """The plain files and the archives among some names."""
        plain: dict[Identity, LogFile] = {}
        archives: dict[Key, str] = {}
        for entry in entries:
            file = self._file_at(entry.path)
            if file is None:
                continue
            with suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                if not stat.S_ISREG(status.st_mode):
                    continue
                if file.extension:
                    archives[key_of(file)] = file.path
                else:
                    plain[identity_of(status)] = file
                if entry.path in strangers and identity_of(status) not in self._sources:
                    self._begin(file)
        return plain, archives

    def _is_archive_missed(self, plain: dict[Identity, LogFile], archives: dict[Key, str]) -> bool:
        """Whether a file has lost its name, and no archive was seen that might have taken its place."""
        return any(
            source.key not in archives and (source.stream is None or source.is_unlinked)
            for source in self._sources.values()
            if not _is_named(source, plain)
        )

    def _learn(self, entries: list[os.DirEntry[str]]) -> set[str]:
        """Use new settings, because the first handler may have started only now, and forget names that are gone.

        Returns the files that were there before and are backups only by the new settings: their lines are not new.
        """
        settings = settings_now(self._live, [entry.name for entry in entries])
        strangers: set[str] = set()
        if settings != self._settings:
            strangers = {path for path, file in self._files.items() if file is None}
            self._settings = settings
            self._recogniser = Recogniser(self._live, settings)
            self._files.clear()
        paths = {entry.path for entry in entries}
        self._files = {path: file for path, file in self._files.items() if path in paths}
        return strangers

    def _folders(self) -> set[str]:
        """The directories of the log."""
        home = os.path.dirname(self._live)
        return {home, self._settings.archive_dir or home}

    def _file_at(self, path: str) -> LogFile | None:
        """The file of the log that has this name, None if none has; each name is parsed once."""
        if path not in self._files:
            self._files[path] = LogFile(path, None, None) if path == self._live else self._recogniser.backup(path)
        return self._files[path]

    def _follow_names(self, plain: dict[Identity, LogFile]) -> None:
        """Give each known file its present name."""
        for identity, source in self._sources.items():
            file = plain.get(identity)
            if file is not None and source.stream is not None and source.path != file.path:
                source.rename(file.path, None if file.is_live else key_of(file))

    def _finish(self, plain: dict[Identity, LogFile], archives: dict[Key, str]) -> Iterator[bytes]:
        """Yield the rest of the files that have no name any more, and forget them."""
        for source in list(self._sources.values()):
            if _is_named(source, plain):
                continue
            if source.stream is not None and not source.is_unlinked:
                # It was moved elsewhere, and is read until it is quiet; or a rename is under way.
                source.lose_name()
                continue
            if source.stream is not None:
                archive = archives.get(source.key) if source.key else self._archive_of(source, archives)
                yield from self._owners.heard(source, self._rest(source, archive))
                if archive:
                    self._archived |= {key for key, path in archives.items() if path == archive}
            elif source.key in archives:
                yield from self._owners.heard(source, self._rest_of_archive(source, archives[source.key]))
                self._archived.add(source.key)
            source.close()
            self._forget(source)
            self._adopt_copy(source, plain)

    def _forget(self, source: Source) -> None:
        """Follow a file no longer."""
        del self._sources[source.identity]
        self._owners.forget(source)

    def _adopt_copy(self, source: Source, plain: dict[Identity, LogFile]) -> None:
        """Skip a copy that a rotator of the application has put in the place of a file: its lines were printed."""
        for identity, file in plain.items():
            if source.key and not file.is_live and identity not in self._sources and key_of(file) == source.key:
                with suppress(FileNotFoundError):
                    size = os.stat(file.path).st_size
                    self._sources[identity] = Source(identity, file.path, size, None, source.key)

    def _add_new_files(self, plain: dict[Identity, LogFile], archives: dict[Key, str]) -> None:
        """Begin to follow new files."""
        known = {source.key: source for source in self._sources.values() if source.key}
        for identity, file in plain.items():
            if identity in self._sources:
                continue
            key = None if file.is_live else key_of(file)
            if key is not None and (key in known or key in self._archived or key in archives):
                continue  # a rotator's copy, or the source of an archive that gets its final name now
            with suppress(FileNotFoundError):
                self._open_source(FileIO(file.path), file.path, key)

    def _new_archives(self, archives: dict[Key, str]) -> Iterator[bytes]:
        """Yield the lines of archives whose files were never seen, because they came and went between two looks."""
        known = {source.key for source in self._sources.values()}
        for key, path in sorted(archives.items()):
            if key not in known and key not in self._archived:
                self._archived.add(key)
                if not self._claims.take(path):
                    continue
                with suppress(FileNotFoundError), open_log(path) as stream:
                    yield from lines_of(stream, path, self._complain)

    def _archive_of(self, source: Source, archives: dict[Key, str]) -> str | None:
        """The archive of a file that was rolled over and archived between two looks; both begin with the same bytes."""
        assert source.stream is not None
        beginning = os.pread(source.stream.fileno(), _BEGINNING, 0)
        for key, path in sorted(archives.items()):
            if beginning and key not in self._archived:
                with suppress(OSError, LogFileError, *DAMAGED), open_log(path) as stream:
                    if stream.read(len(beginning)) == beginning:
                        return path
        return None

    def _rest(self, source: Source, archive: str | None) -> Iterator[bytes]:
        """The lines that were not printed yet of a file that was removed or became an archive."""
        assert source.stream is not None
        status = os.fstat(source.stream.fileno())
        # If the ledger has the size that the file has now, nothing was written after the archive was made.
        if archive is not None and not self._is_archived_wholly(status):
            yield from self._rest_of_archive(source, archive)
            return
        yield from source.lines_to(status.st_size)
        yield from source.last_line()

    def _is_archived_wholly(self, status: os.stat_result) -> bool:
        """Whether an archive was made of the whole file that has this status."""
        note = read_note(self._live)
        identities = noted_identity(status), noted_identity(status, shared=True)
        entries = note.archived if note is not None else ()
        return any(entry.identity in identities and entry.size == status.st_size for entry in entries)

    def _rest_of_archive(self, source: Source, archive: str) -> Iterator[bytes]:
        """The lines of an archive after those of its file that were printed."""
        with suppress(FileNotFoundError), open_log(archive) as stream:
            left = source.offset
            try:
                while left > 0 and (skipped := len(stream.read(min(left, _CHUNK)))):
                    left -= skipped
            except DAMAGED as error:
                self._complain(f"{archive} is damaged: {error}")
                return
            yield from lines_of(stream, archive, self._complain)

    def _read(self, source: Source) -> Iterator[bytes]:
        """The new whole lines of a file."""
        if source.stream is None and not source.reopen():
            return
        if source.is_unlinked:
            # Its writer may have written these lines again elsewhere: the next look decides.
            self._listed_at = {}
            return
        lines = source.new_lines(self._complain)
        if lines and source.is_unlinked:
            # It became an archive in this moment, perhaps without the last of these lines.
            source.take_back(lines)
            self._listed_at = {}
            return
        if lines:
            yield from lines
            return
        awaits_rotator = source.path.endswith(ROLLED_EXTENSION)
        if source.path != self._live and not awaits_rotator and time.monotonic() - source.grew_at > QUIET:
            yield from source.last_line()
            source.close()

    def _order(self, source: Source) -> tuple[object, ...]:
        """Sort key: backups in the order of time, then the live file."""
        file = self._file_at(source.path)
        if file is None or file.backup is None:
            return (1,)
        return (0, *self._recogniser.order(file))

    def _open_source(self, stream: FileIO, path: str, key: Key | None, offset: int = 0) -> Source:
        """Begin to read a file."""
        source = Source(identity_of(os.fstat(stream.fileno())), path, offset, stream, key)
        self._sources[source.identity] = source
        return source


def _is_named(source: Source, plain: dict[Identity, LogFile]) -> bool:
    """Whether a file has a name; the inode number of one that was closed and then removed may be another file's now."""
    file = plain.get(source.identity)
    is_sure = file is None or source.stream is not None or source.path == file.path
    return file is not None if is_sure else is_file_at(source.identity, source.path)


def _entries(folders: Iterable[str]) -> list[os.DirEntry[str]]:
    """All names in some directories."""
    found: list[os.DirEntry[str]] = []
    for folder in folders:
        with suppress(FileNotFoundError), os.scandir(folder) as entries:
            found += entries
    return found
