"""Promises P2 and P6 when a writer is killed inside write(2): the fragment of a line that stays spoils no other line.

The kernel gives up the write of a killed process between two pages, so the longer the line, the likelier the fragment.
"""

from __future__ import annotations

import itertools
import logging
import mmap
import os
import random
import signal
import time
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest

from tests.support.crew import Child, Crew, Maker, WatchedHandler, suffix_of_day
from tests.support.load import suffix_of_seconds
from tests.support.mounts import mounted
from tests.support.oracle import audit, make_line

KILLS = 60
SMALL_WRITERS = 2
SMALL = 150
PAUSE = 0.0003
"""Seconds between two lines of a small writer; it leaves a processor to those that are killed."""
LONGEST_LIFE = 0.004
"""Seconds that a writer of large lines lives at most once it has written a line."""
OPENINGS = 150
ROOM = 2 << 30
PAGE = 4096


class Counts:
    """How many lines each of the processes of one test has logged, in shared memory, and whether they are to end."""

    def __init__(self, processes: int) -> None:
        self.logged = memoryview(mmap.mmap(-1, 8 * (processes + 1))).cast("Q")
        self._end = processes

    @property
    def is_over(self) -> bool:
        """Whether the test wants no more lines."""
        return bool(self.logged[self._end])

    def end(self) -> None:
        """Ask for no more lines."""
        self.logged[self._end] = 1

    def wait_for(self, process: int, line: int) -> None:
        """Wait until a process has logged so many lines."""
        deadline = time.monotonic() + 30
        while self.logged[process] < line:
            assert time.monotonic() < deadline, f"process {process} does not get on"
            time.sleep(0.0002)


def log(handler: logging.Handler, stream: str, number: int, size: int) -> None:
    """Log one self-checking line."""
    handler.handle(logging.makeLogRecord({"msg": make_line(stream, number, size)}))


def write_lines(make: Callable[[], WatchedHandler], counts: Counts, process: int, size: int, pause: float) -> None:
    """Log lines of one size until the test is over."""
    handler = make()
    for number in itertools.count():
        log(handler, f"w{process}", number, size)
        counts.logged[process] = number + 1
        if counts.is_over:
            break
        time.sleep(pause)
    handler.close()
    assert handler.reported == []


SIZES = {"9 kB": 9_000, "64 KiB": 65_536, "1 MiB": 1 << 20}
# Of each file system one size, and of each size one file system at least; the slow part has the others.
QUICK = {("tmpfs", "64 KiB"), ("xfs", "1 MiB"), ("overlay", "9 kB"), ("ext4", "64 KiB")}


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        pytest.param(kind, size, id=f"{kind}-{name}", marks=[] if (kind, name) in QUICK else [pytest.mark.slow])
        for kind in ("tmpfs", "xfs", "overlay", "ext4")
        for name, size in SIZES.items()
    ],
)
def test_lines_of_others_are_whole_when_writers_are_killed_at_random_moments(kind: str, size: int) -> None:
    chance = random.Random(f"{kind} {size}")
    counts = Counts(SMALL_WRITERS + KILLS)
    with mounted(kind, ROOM) as disk, Crew() as crew:
        live = disk.logs / "app.log"
        small = [
            crew.start(partial(write_lines, Maker(live), counts, process, SMALL, PAUSE))
            for process in range(SMALL_WRITERS)
        ]
        for process in range(SMALL_WRITERS, SMALL_WRITERS + KILLS):
            victim = crew.start(partial(write_lines, Maker(live), counts, process, size, 0.0))
            counts.wait_for(process, 1)
            time.sleep(chance.uniform(0, LONGEST_LIFE))
            victim.end()
        counts.end()
        for child in small:
            child.join()
        acknowledged = {f"w{process}": counts.logged[process] for process in range(SMALL_WRITERS + KILLS)}
        report = audit(live, acknowledged, suffix_of_seconds(1), kills=KILLS)
    print(f"{kind}, {size} bytes, {KILLS} kills: {report}")
    assert report.flawless, f"{report}\n{report.examples}"


def die_inside_a_write(live: Path, size: int, fragment: int) -> NoReturn:
    """Log a line of `size` of which `fragment` bytes get into the file before this process is killed."""
    handler = Maker(live, when="D")()
    log(handler, "victim", 0, SMALL)
    write = handler._file.write

    def write_a_fragment(line: bytes) -> NoReturn:
        write(line[:fragment])
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("never reached")

    handler._file.write = write_a_fragment
    log(handler, "victim", 1, size)
    raise AssertionError("never reached")


def wait_for_death(victim: Child) -> None:
    """Wait until a process has been killed; the crew reaps it."""
    end = os.waitid(os.P_PID, victim.pid, os.WEXITED | os.WNOWAIT)
    assert end is not None
    assert (end.si_code, end.si_status) == (os.CLD_KILLED, signal.SIGKILL)


def fragment_to_the_end_of_a_page(live: Path, pages: int) -> int:
    """The length of a fragment that ends with a page of the file, as those do that the kernel leaves."""
    return PAGE * pages - (live.stat().st_size + SMALL + len("1700000000.123456789 \n")) % PAGE


@pytest.mark.parametrize("pages", [1, 2, 16, 250])
@pytest.mark.parametrize("next_size", [SMALL, 9_000, 300_000])
def test_the_next_line_of_a_process_that_has_the_file_open_is_whole(tmp_path: Path, pages: int, next_size: int) -> None:
    live = tmp_path / "app.log"
    handler = Maker(live, when="D")()
    log(handler, "w0", 0, SMALL)
    with Crew() as crew:
        fragment = fragment_to_the_end_of_a_page(live, pages)
        wait_for_death(crew.start(lambda: die_inside_a_write(live, PAGE * (pages + 1), fragment)))
    for number in range(1, 4):
        log(handler, "w0", number, next_size)
    handler.close()

    report = audit(live, {"w0": 4, "victim": 1}, suffix_of_day, kills=1)
    assert report.flawless, f"{report}\n{report.examples}"
    assert (report.lines, report.fragments) == (5, 1)
    assert handler.reported == []


def test_the_bytes_of_the_fragment_stay_and_its_line_ends_where_the_next_one_was_blanked(tmp_path: Path) -> None:
    live = tmp_path / "app.log"
    handler = Maker(live, when="D")()
    log(handler, "w0", 0, SMALL)
    with Crew() as crew:
        fragment = fragment_to_the_end_of_a_page(live, 1)
        wait_for_death(crew.start(lambda: die_inside_a_write(live, 9000, fragment)))
    before = live.read_bytes()
    log(handler, "w0", 1, SMALL)
    handler.close()
    after = live.read_bytes()
    assert after.startswith(before)
    blank, line = after[len(before) :].splitlines(keepends=True)
    assert blank == b" " * (len(line) - 1) + b"\n"


def test_fragments_of_two_writers_that_were_killed_one_after_the_other_stand_in_one_line(tmp_path: Path) -> None:
    live = tmp_path / "app.log"
    handler = Maker(live, when="D")()
    log(handler, "w0", 0, SMALL)
    with Crew() as crew:
        wait_for_death(crew.start(lambda: die_inside_a_write(live, 9000, fragment_to_the_end_of_a_page(live, 1))))
        with live.open("ab") as file:
            file.write(make_line("second", 0, 9000).encode()[:PAGE])
    log(handler, "w0", 1, SMALL)
    handler.close()
    whole = [line for line in live.read_bytes().splitlines() if b" w0 1 " in line]
    assert len(whole) == 1
    assert whole[0].endswith(b" %08x" % zlib.crc32(whole[0].partition(b" ")[2][:-9]))


def test_a_writer_killed_between_blanking_its_line_and_writing_it_again_costs_only_that_line(tmp_path: Path) -> None:
    live = tmp_path / "app.log"
    handler = Maker(live, when="D")()
    log(handler, "w0", 0, SMALL)

    def die_after_blanking() -> NoReturn:
        other = Maker(live, when="D")()
        log(other, "other", 0, SMALL)
        with live.open("ab") as file:
            file.write(
                b"1700000000.1 foreign 0 09000 "[: PAGE - live.stat().st_size % PAGE].ljust(
                    PAGE - live.stat().st_size % PAGE, b"x"
                )
            )
        pwrite = os.pwrite

        def blank_and_die(descriptor: int, data: bytes, offset: int) -> NoReturn:
            pwrite(descriptor, data, offset)
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError("never reached")

        os.pwrite = blank_and_die  # type: ignore[assignment]
        log(other, "other", 1, SMALL)
        raise AssertionError("never reached")

    with Crew() as crew:
        wait_for_death(crew.start(die_after_blanking))
    log(handler, "w0", 1, SMALL)
    handler.close()
    report = audit(live, {"w0": 2, "other": 1}, suffix_of_day, kills=1)
    assert report.flawless, f"{report}\n{report.examples}"
    assert (report.lines, report.fragments) == (3, 1)


def test_a_fragment_in_one_file_is_isolated_after_lines_went_into_another(tmp_path: Path) -> None:
    live, other = tmp_path / "app.log", tmp_path / "access.log"
    handler, other_handler = Maker(live, when="D")(), Maker(other, when="D")()
    log(handler, "w0", 0, SMALL)
    with Crew() as crew:
        fragment = fragment_to_the_end_of_a_page(live, 1)
        wait_for_death(crew.start(lambda: die_inside_a_write(live, 9000, fragment)))
    for number in range(3):
        other_handler._file.expire_lease()
        log(other_handler, "other", number, SMALL)
    log(handler, "w0", 1, SMALL)
    handler.close()
    other_handler.close()

    report = audit(live, {"w0": 2, "victim": 1}, suffix_of_day, kills=1)
    assert report.flawless, f"{report}\n{report.examples}"
    assert audit(other, {"other": 3}, suffix_of_day).flawless


def test_the_next_line_of_a_process_that_starts_later_is_whole(tmp_path: Path) -> None:
    live = tmp_path / "app.log"
    with Crew() as crew:
        wait_for_death(crew.start(lambda: die_inside_a_write(live, 9000, PAGE)))
    handler = Maker(live, when="D")()
    log(handler, "w0", 0, SMALL)
    handler.close()
    report = audit(live, {"w0": 1, "victim": 1}, suffix_of_day, kills=1)
    assert report.flawless, f"{report}\n{report.examples}"
    assert (report.lines, report.fragments) == (2, 1)


def test_a_process_that_opens_a_file_while_others_write_leaves_no_blank_line(tmp_path: Path) -> None:
    live = tmp_path / "app.log"
    counts = Counts(2)
    with Crew() as crew:
        writers = [
            crew.start(partial(write_lines, Maker(live, when="D"), counts, process, 1 << 20, 0.0))
            for process in range(2)
        ]
        counts.wait_for(0, 1)
        for number in range(OPENINGS):
            handler = Maker(live, when="D")()
            log(handler, "opening", number, SMALL)
            handler.close()
        counts.end()
        for writer in writers:
            writer.join()
    acknowledged = {"opening": OPENINGS, **{f"w{process}": counts.logged[process] for process in range(2)}}
    report = audit(live, acknowledged, suffix_of_day)
    assert report.flawless, f"{report}\n{report.examples}"
