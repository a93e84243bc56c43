"""Promise P7 on disks that are really full: several processes write until nothing fits, space is freed, they go on."""

from __future__ import annotations

import errno
import gzip
import itertools
import logging
import mmap
import os
import re
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from rollsafe import SafeTimedRotatingFileHandler
from rollsafe._backups import failures
from rollsafe._files.note import read_note
from rollsafe._live import bounded_lock
from rollsafe._live.writer import PENDING_BYTES
from tests.support.crew import Crew, WatchedHandler, suffix_of_day
from tests.support.load import suffix_of_seconds
from tests.support.mounts import KINDS, Disk, mounted
from tests.support.oracle import LINE_FORMAT, Report, audit, make_line
from tests.support.servers import wait_until

WRITERS = 4
FIELDS = 4
SIZES = (*[200] * 9, 5000, 200, 200, 9000)
LEFT_FREE = 8 << 20
DROPPED = re.compile(rb"\d+\.\d+ rollsafe: (?P<lines>\d+) lines were dropped because the log could not be written")
SUFFIX_OF = suffix_of_seconds(1)


class OutageHandler(SafeTimedRotatingFileHandler):
    """The handler under test, which counts the records that it reports as not written."""

    def __init__(self, live: Path, when: str = "S") -> None:
        self.reports = 0
        self.refusals = 0
        super().__init__(live, when=when, utc=True)
        self.setFormatter(logging.Formatter(LINE_FORMAT))

    def handleError(self, record: logging.LogRecord) -> None:
        assert isinstance(sys.exc_info()[1], OSError)
        # What the handler says of itself is another matter.
        self.reports += record.name != "rollsafe"
        self.refusals += "was refused" in record.getMessage()


class StayingHandler(OutageHandler):
    """It never rolls over, so a file that is full by `Limit` stops it as a full disk does, with such short writes."""

    def doRollover(self) -> None:
        """Stay."""


class Outages:
    """What the processes of one test tell each other, in shared memory."""

    def __init__(self) -> None:
        self._memory = memoryview(mmap.mmap(-1, 8 * (1 + FIELDS * WRITERS))).cast("Q")

    @property
    def is_over(self) -> bool:
        """Whether space was freed."""
        return bool(self._memory[0])

    def end(self) -> None:
        """Tell that space was freed."""
        self._memory[0] = 1

    def note(self, writer: int, *values: int) -> None:
        """Set down how far a writer is: the values that `logged` and so on return, in their order."""
        for field, value in enumerate(values):
            self._memory[1 + FIELDS * writer + field] = value

    def logged(self, writer: int) -> int:
        """Lines whose emit returned."""
        return self._memory[1 + FIELDS * writer]

    def outages(self, writer: int) -> int:
        """How often lines began to wait."""
        return self._memory[2 + FIELDS * writer]

    def reports(self, writer: int) -> int:
        """How often handleError was called with a record that could not be written."""
        return self._memory[3 + FIELDS * writer]

    def refusals(self, writer: int) -> int:
        """How often it was told of a rollover that was refused, so that lines go on into the open file."""
        return self._memory[4 + FIELDS * writer]

    def are_everywhere(self) -> bool:
        """Whether every writer has found the disk full."""
        return all(map(self.reports, range(WRITERS)))


class Writer:
    """One process: writes until the disk is full, a while longer, and a while after space was freed."""

    def __init__(self, number: int, make: Callable[[], OutageHandler], outages: Outages, lines_in_outage: int) -> None:
        self._number = number
        self._make = make
        self._shared = outages
        self._lines_in_outage = lines_in_outage
        self._numbers = itertools.count()
        self._outages = 0
        self._waits = False

    def __call__(self) -> None:
        self._handler = self._make()
        while not self._handler.reports:
            self._log()
        for _ in range(self._lines_in_outage):
            self._log()
        self._log_across_boundaries(1)
        self._note(self._log())
        while not self._shared.is_over:
            time.sleep(0.001)
        self._log_across_boundaries(2)
        # A flush tries again, whenever the last try was.
        self._handler.flush()
        logged = self._log()
        self._handler.close()
        self._note(logged)

    def _log_across_boundaries(self, boundaries: int) -> None:
        """Log at leisure until so many seconds have begun."""
        end = int(time.time()) + boundaries
        while time.time() < end:
            self._log()
            time.sleep(0.002)

    def _log(self) -> int:
        """Log the next line; returns how many there are now."""
        number = next(self._numbers)
        message = make_line(f"w{self._number}", number, SIZES[number % len(SIZES)])
        self._handler.handle(logging.makeLogRecord({"name": "test", "msg": message}))
        waited, self._waits = self._waits, bool(self._handler._writer.pending.lines)
        self._outages += self._waits and not waited
        return number + 1

    def _note(self, logged: int) -> None:
        """Tell the test."""
        self._shared.note(self._number, logged, self._outages, self._handler.reports, self._handler.refusals)


LOCK_TIMEOUT_S = 60.0


@pytest.fixture(autouse=True)
def long_lock_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a line wait for the lock, however long its holder is kept from running: a full disk is what is tested."""
    monkeypatch.setattr(bounded_lock, "LOCK_WAIT_S", LOCK_TIMEOUT_S)


@pytest.fixture(params=KINDS)
def disk(request: pytest.FixtureRequest) -> Iterator[Disk]:
    with mounted(request.param) as disk:
        yield disk


@contextmanager
def maker(make: Callable[[], OutageHandler], made: str) -> Iterator[Callable[[], OutageHandler]]:
    """What gives each process its handler: one made by itself, or the one made here, before the fork."""
    if made == "after fork":
        yield make
    else:
        with closing(make()) as inherited:
            yield lambda: inherited


def more_than_may_wait() -> int:
    """So many lines that a part of them must be dropped."""
    return 2 * PENDING_BYTES * len(SIZES) // sum(SIZES)


def dropped_lines(live: Path) -> int:
    """The sum of what the files say was dropped."""
    return sum(
        int(match["lines"]) for path in live.parent.glob("app.log*") for match in DROPPED.finditer(path.read_bytes())
    )


def run_out_of_space(disk: Disk, make: Callable[[], OutageHandler], lines_in_outage: list[int]) -> Outages:
    """Have the writers fill the disk, free space, and see them to their end."""
    outages = Outages()
    disk.fill(leave=LEFT_FREE)
    with Crew() as crew:
        writers = [crew.start(Writer(number, make, outages, lines)) for number, lines in enumerate(lines_in_outage)]
        wait_until(outages.are_everywhere, "every writer has found the disk full")
        disk.release()
        outages.end()
        for writer in writers:
            writer.join()
    return outages


def audited(live: Path, outages: Outages, writers: range) -> Report:
    """The judgement about the lines of some of the writers."""
    acknowledged = {f"w{writer}": outages.logged(writer) for writer in writers}
    return audit(live, acknowledged, SUFFIX_OF, notices=DROPPED, full_disk=True)


@pytest.mark.parametrize(
    ("disk", "made"),
    [
        # What differs by the file system is how a write ends, not when the handler is made.
        pytest.param(kind, made, marks=[] if made == "after fork" or kind == KINDS[0] else [pytest.mark.slow])
        for kind in KINDS
        for made in ("after fork", "before fork")
    ],
    indirect=["disk"],
)
def test_what_fits_in_memory_is_kept_whole_and_once_and_what_does_not_is_counted(disk: Disk, made: str) -> None:
    live = disk.logs / "app.log"
    lines_in_outage = [more_than_may_wait()] * 2 + [50] * (WRITERS - 2)
    with maker(lambda: OutageHandler(live), made) as make:
        outages = run_out_of_space(disk, make, lines_in_outage)

    dropped = dropped_lines(live)
    assert dropped > 0, "less waited than may"
    report = audited(live, outages, range(WRITERS))
    print(f"{disk.kind}: {report}; {dropped} dropped in {report.notices} notices")
    faults = report.faults()
    if any(map(outages.refusals, range(WRITERS))):
        # No space for a rename, or a lock held for too long while the disk looks for some.
        faults.pop("misfiled", None)
    assert faults == {"lost": dropped}, f"{report}\n{report.examples}"
    assert audited(live, outages, range(2, WRITERS)).lost == 0, "a line was lost though fewer waited than may"
    assert report.files > 3, "there were no rollovers"
    for writer in range(WRITERS):
        assert outages.reports(writer) == outages.outages(writer) > 0, "one report for each outage"


def test_no_line_is_written_before_it_is_noted_of_which_interval_the_file_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    live = tmp_path / "app.log"
    monkeypatch.setattr(os, "pwrite", refuse)
    with closing(OutageHandler(live, when="W0")) as handler:
        handler.handle(logging.makeLogRecord({"msg": "a line"}))
        assert (live.read_bytes(), handler.reports, handler._writer.pending.waits) == (b"", 1, True)
        monkeypatch.undo()
        handler.flush()
        assert live.read_text().endswith(" a line\n")
        note = read_note(str(live))
        assert note is not None
        assert note.is_about(live.stat(), shared=False)


class Limit:
    """A limit of the file size, which cuts the write that crosses it short and refuses later ones (setrlimit(2))."""

    def __init__(self) -> None:
        self._usual, self._hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def set(self, size: int) -> None:
        """Let no file of this process grow beyond `size` bytes."""
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, self._hard))

    def lift(self) -> None:
        """As before."""
        resource.setrlimit(resource.RLIMIT_FSIZE, (self._usual, self._hard))


class Turns:
    """Two processes that take turns."""

    def __init__(self) -> None:
        self._ways = (os.pipe(), os.pipe())

    def give(self, way: int) -> None:
        """Let the other process have its turn."""
        os.write(self._ways[way][1], b"x")

    def take(self, way: int) -> None:
        """Wait for one's turn."""
        assert os.read(self._ways[way][0], 1) == b"x"


TO_OTHER, TO_LIMITED = 0, 1


def log(handler: logging.Handler, stream: str, number: int, size: int) -> None:
    """Log one self-checking line."""
    handler.handle(logging.makeLogRecord({"name": "test", "msg": make_line(stream, number, size)}))


@pytest.fixture
def daily(tmp_path: Path) -> Callable[[], OutageHandler]:
    """Makes handlers of one file that is never rolled."""
    return lambda: StayingHandler(tmp_path / "app.log", when="D")


# The size of the line and how much of it still fits: one byte, one page and a bit, all but the newline.
@pytest.mark.parametrize(("size", "fits"), [(200, 1), (200, 100), (9000, 4100), (9000, 9020), (200, 220)])
@pytest.mark.parametrize("moment", ["before the fragment is blanked", "after it is blanked"])
@pytest.mark.parametrize("made", ["after fork", "before fork"])
def test_a_line_of_another_process_just_after_a_short_write_is_not_glued_to_the_fragment(
    tmp_path: Path, daily: Callable[[], OutageHandler], size: int, fits: int, moment: str, made: str
) -> None:
    live = tmp_path / "app.log"
    turns = Turns()

    def limited() -> None:
        handler = make()
        limit = Limit()
        # Its first line takes it to a description of its own, should the handler have come over the fork. The limit
        # is to be larger than a line, because one that fits no file at all is dropped.
        log(handler, "limited", 0, size)
        turns.give(TO_OTHER)
        turns.take(TO_LIMITED)
        limit.set(live.stat().st_size + fits)
        if moment.startswith("before"):
            write = handler._file.write

            def write_and_give_way(line: bytes) -> int | None:
                written = write(line)
                assert written == fits, "the write was to be cut short"
                handler._file.write = write
                turns.give(TO_OTHER)
                turns.take(TO_LIMITED)
                return written

            handler._file.write = write_and_give_way
            log(handler, "limited", 1, size)
        else:
            log(handler, "limited", 1, size)
            turns.give(TO_OTHER)
            turns.take(TO_LIMITED)
        assert handler.reports == 1
        log(handler, "limited", 2, 200)
        limit.lift()
        log(handler, "limited", 3, 200)
        handler.close()
        assert handler.reports == 1

    def other() -> None:
        handler = make()
        turns.take(TO_OTHER)
        log(handler, "other", 0, 200)
        turns.give(TO_LIMITED)
        turns.take(TO_OTHER)
        log(handler, "other", 1, 200)
        turns.give(TO_LIMITED)
        handler.close()

    with maker(daily, made) as make, Crew() as crew:
        for process in [crew.start(other), crew.start(limited)]:
            process.join()
    report = audit(live, {"limited": 4, "other": 2}, suffix_of_day, full_disk=True)
    assert not report.faults(), f"{report}\n{report.examples}"
    # Where each of the two takes care of the fragment, there is an empty line more.
    assert report.blanked >= 1
    assert report.lines == 6


def test_an_outage_is_reported_once_and_the_next_one_again(tmp_path: Path, daily: Callable[[], OutageHandler]) -> None:
    live = tmp_path / "app.log"

    def work() -> None:
        handler, limit = daily(), Limit()
        numbers = itertools.count()
        for outage in (1, 2):
            for _ in range(10):
                log(handler, "w0", next(numbers), 200)
            limit.set(live.stat().st_size + 300)
            for _ in range(50):
                log(handler, "w0", next(numbers), 200)
            handler.flush()
            assert handler.reports == outage
            limit.lift()
            handler.flush()
        handler.close()

    with Crew() as crew:
        crew.start(work).join()
    report = audit(live, {"w0": 120}, suffix_of_day, full_disk=True)
    assert not report.faults(), f"{report}\n{report.examples}"
    assert (report.lines, report.blanked) == (120, 2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_a_compression_for_which_there_is_no_space_keeps_the_backup_and_succeeds_later(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "_RETRY_S", 0.2)
    with mounted(kind) as disk:
        live = disk.logs / "app.log"
        backup = disk.logs / "app.log.2020-01-01_00-00-00"
        # Nothing that could be made smaller.
        content = os.urandom(16 << 20)
        backup.write_bytes(content)
        disk.fill(leave=20 << 20)
        handler = WatchedHandler(live, when="S", utc=True, compress="gz")

        def log_line() -> None:
            handler.handle(logging.makeLogRecord({"msg": "a line"}))

        def has_failed() -> bool:
            log_line()
            return bool(handler.reported)

        wait_until(has_failed, "the compression has failed")
        assert backup.read_bytes() == content
        disk.release()
        archive = backup.with_name(f"{backup.name}.gz")

        def is_archived() -> bool:
            log_line()
            return archive.exists() and not backup.exists()

        wait_until(is_archived, "it was tried again")
        assert gzip.decompress(archive.read_bytes()) == content
        handler.close()
        assert len(handler.reported) == 1
        assert "too little space would be left" in handler.reported[0]
