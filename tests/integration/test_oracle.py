"""The oracle is proven: it finds every kind of fault, in hand-made files and in those of handlers that are wrong."""

from __future__ import annotations

import gzip
import logging
import lzma
import multiprocessing
import re
import time
from collections.abc import Callable
from logging.handlers import TimedRotatingFileHandler
from pathlib import Path

import pytest

from tests.support import broken
from tests.support.load import Plan, run_load, suffix_of_seconds
from tests.support.oracle import ARCHIVES, LARGEST, LINE_FORMAT, audit, make_line, read_line

SUFFIX_OF = suffix_of_seconds(10)
FIRST = 1_700_000_000.0
SECOND = FIRST + 10
THIRD = FIRST + 20


def line(created: float, number: int, stream: str = "w0t0", size: int = 80) -> bytes:
    """One whole line."""
    return f"{created:.9f} {make_line(stream, number, size)}\n".encode()


def backup(live: Path, start: float, more: str = "") -> Path:
    """The path of the backup of the interval that begins at `start`."""
    return live.with_name(f"{live.name}.{SUFFIX_OF(start)}{more}")


class TestLines:
    @pytest.mark.parametrize("size", [0, 30, 80, 4096, 65536, LARGEST])
    def test_a_line_is_as_long_as_asked_or_as_short_as_possible_and_is_read_back(self, size: int) -> None:
        message = make_line("w12signal", 345, size)
        assert len(message) == max(size, len("w12signal 345 00000  01234567"))
        assert message.isascii()
        assert "\n" not in message
        assert read_line(f"{FIRST:.6f} {message}\n".encode()) == (b"1700000000.000000", b"w12signal", b"345")

    def test_a_size_that_its_field_cannot_hold_is_refused(self) -> None:
        with pytest.raises(ValueError, match=f"at most {LARGEST}"):
            make_line("w0t0", 0, LARGEST + 1)

    def test_the_format_gives_the_creation_time_without_rounding_it_into_the_next_second(self) -> None:
        record = logging.LogRecord("load", logging.INFO, __file__, 0, make_line("w0t0", 0, 80), None, None)
        record.created = 1_700_000_009.9999998
        text = logging.Formatter(LINE_FORMAT).format(record)
        stamp = read_line(text.encode() + b"\n")
        assert stamp is not None
        assert int(float(stamp[0])) == 1_700_000_009

    def test_no_part_of_a_line_and_no_line_with_one_byte_changed_is_read_as_a_whole_one(self) -> None:
        whole = line(FIRST, 7)
        time_stamp = whole.index(b" ")
        for cut in range(1, len(whole)):
            assert read_line(whole[cut:]) is None
            assert read_line(whole[:cut]) is None
        for place in range(time_stamp, len(whole)):
            changed = bytearray(whole)
            changed[place] ^= 1
            assert read_line(bytes(changed)) is None

    def test_two_lines_glued_together_are_not_a_line(self) -> None:
        assert read_line(line(FIRST, 7)[:-1] + line(FIRST, 8)) is None


class TestHandMadeFiles:
    def test_each_line_once_in_its_own_file_is_flawless(self, live: Path) -> None:
        backup(live, FIRST).write_bytes(line(FIRST, 0) + line(FIRST + 9.9, 1))
        backup(live, SECOND, ".1").write_bytes(line(SECOND, 2))
        backup(live, SECOND).write_bytes(line(SECOND + 1, 3))
        live.write_bytes(line(THIRD, 4) + line(THIRD, 0, stream="other"))
        live.with_name(".app.log.lock").touch()
        report = audit(live, {"w0t0": 5, "other": 1}, SUFFIX_OF)
        assert report.flawless
        assert (report.files, report.lines, report.unacknowledged) == (4, 6, 0)
        assert str(report).startswith("flawless: 6 lines in 4 files, 0 lost, 0 doubled")

    def test_compressed_backups_are_read(self, live: Path) -> None:
        backup(live, FIRST, ".gz").write_bytes(gzip.compress(line(FIRST, 0)))
        backup(live, SECOND, ".2.xz").write_bytes(lzma.compress(line(SECOND, 1)))
        live.write_bytes(line(THIRD, 2))
        assert audit(live, {"w0t0": 3}, SUFFIX_OF).flawless

    @pytest.mark.parametrize("ending", [".bz2", ".zst"])
    def test_other_archives_are_read_and_judged_too(self, live: Path, ending: str) -> None:
        if ending not in ARCHIVES:
            pytest.skip("needs backports.zstd")
        backup(live, FIRST, ending).write_bytes(ARCHIVES[ending].compress(line(FIRST, 0)))
        backup(live, FIRST, f".1{ending}").write_bytes(line(FIRST, 1))
        assert audit(live, {"w0t0": 1}, SUFFIX_OF).faults() == {"torn": 1}

    def test_acknowledged_lines_in_no_file_are_lost(self, live: Path) -> None:
        live.write_bytes(line(FIRST, 0) + line(FIRST, 2))
        report = audit(live, {"w0t0": 5, "other": [7]}, SUFFIX_OF)
        assert report.faults() == {"lost": 4}
        assert report.examples["lost"][0] == "stream w0t0 number 1"

    def test_without_any_file_everything_is_lost(self, live: Path) -> None:
        report = audit(live, {"w0t0": 2}, SUFFIX_OF)
        assert report.faults() == {"lost": 2}
        assert report.files == 0

    def test_lines_that_were_never_acknowledged_are_counted_and_allowed_once(self, live: Path) -> None:
        live.write_bytes(line(FIRST, 0) + line(FIRST, 1) + line(FIRST, 0, stream="other"))
        report = audit(live, {"w0t0": [0]}, SUFFIX_OF)
        assert report.flawless
        assert report.unacknowledged == 2

    @pytest.mark.parametrize("acknowledged", [1, 0])
    def test_a_line_that_is_there_again_is_doubled_acknowledged_or_not(self, live: Path, acknowledged: int) -> None:
        backup(live, FIRST).write_bytes(line(FIRST, 0))
        backup(live, FIRST, ".1").write_bytes(line(FIRST, 0) * 2)
        report = audit(live, {"w0t0": acknowledged}, SUFFIX_OF)
        assert report.faults() == {"doubled": 2}
        assert report.examples["doubled"][0] == f"app.log.{SUFFIX_OF(FIRST)}.1:1: stream w0t0 number 0"

    def test_interleaved_lines_are_torn_and_not_also_lost(self, live: Path) -> None:
        interleaved = line(FIRST, 0)[:40] + line(FIRST, 1) + line(FIRST, 0)[40:]
        live.write_bytes(interleaved + line(FIRST, 2))
        assert audit(live, {"w0t0": 3}, SUFFIX_OF).faults() == {"torn": 2}

    def test_two_lines_glued_together_are_torn_and_not_also_lost(self, live: Path) -> None:
        live.write_bytes(line(FIRST, 0)[:-1] + line(FIRST, 1) + b"\n" + line(FIRST, 2))
        report = audit(live, {"w0t0": 3}, SUFFIX_OF)
        assert report.faults() == {"torn": 1, "blank": 1}

    @pytest.mark.parametrize("blank", [b"\n", b" \n", b" " * 9000 + b"\n"], ids=["empty", "one space", "long"])
    def test_a_line_of_spaces_only_is_a_fault_but_where_a_disk_was_full(self, live: Path, blank: bytes) -> None:
        live.write_bytes(line(FIRST, 0) + blank + line(FIRST, 1) + blank)
        report = audit(live, {"w0t0": 2}, SUFFIX_OF, kills=2)
        assert report.faults() == {"blank": 2}
        assert report.examples["blank"][0] == f"app.log:2: {len(blank)} bytes"
        report = audit(live, {"w0t0": 2}, SUFFIX_OF, full_disk=True)
        assert report.flawless
        assert (report.lines, report.blanked) == (2, 2)
        assert "2 blanked" in str(report)

    @pytest.mark.parametrize("cut", [3, 12, 20, 25, 28, 32, 60, 79], ids=str)
    @pytest.mark.parametrize("end", [b"\n", b"      \n", b""], ids=["alone", "before spaces", "at the end"])
    def test_a_fragment_of_a_line_that_was_not_acknowledged_is_allowed_once_a_kill(
        self, live: Path, cut: int, end: bytes
    ) -> None:
        live.write_bytes(line(FIRST, 0) + line(FIRST, 1)[:cut] + end)
        assert audit(live, {"w0t0": 1}, SUFFIX_OF).faults() == {"torn": 1}
        report = audit(live, {"w0t0": 1}, SUFFIX_OF, kills=1)
        assert report.flawless
        assert (report.lines, report.fragments) == (1, 1)
        backup(live, FIRST, ".1").write_bytes(live.read_bytes()[len(line(FIRST, 0)) :])
        assert audit(live, {"w0t0": 1}, SUFFIX_OF, kills=1).faults() == {"torn": 1}

    @pytest.mark.parametrize(
        "piece",
        [
            pytest.param(line(FIRST, 0)[:60] + b"\n", id="of an acknowledged line"),
            pytest.param(line(FIRST, 7)[:60] + line(FIRST, 0), id="glued to an acknowledged line"),
            pytest.param(line(FIRST, 7)[:15] + line(FIRST, 0), id="glued to an acknowledged line in its head"),
            pytest.param(line(FIRST, 7)[20:], id="the end of a line"),
        ],
    )
    def test_kills_excuse_nothing_else(self, live: Path, piece: bytes) -> None:
        live.write_bytes(piece + line(FIRST, 1))
        report = audit(live, {"w0t0": 2}, SUFFIX_OF, kills=5)
        assert report.faults().keys() <= {"torn", "lost"}
        assert report.torn == 1

    def test_a_line_glued_to_spaces_is_torn_and_not_blanked(self, live: Path) -> None:
        live.write_bytes(b"   " + line(FIRST, 0) + line(FIRST, 1) + b"  ")
        report = audit(live, {"w0t0": 2}, SUFFIX_OF, kills=5, full_disk=True)
        assert report.faults() == {"torn": 2}
        assert report.blanked == 0

    def test_lines_that_the_handler_is_expected_to_write_are_counted_and_only_whole_ones(self, live: Path) -> None:
        live.write_bytes(b"3 lines were dropped\n" + line(FIRST, 0) + b"3 lines were dropped !\n4 lines were dropped")
        report = audit(live, {"w0t0": 1}, SUFFIX_OF, notices=re.compile(rb"\d lines were dropped"))
        assert report.faults() == {"torn": 2}
        assert report.notices == 1

    @pytest.mark.parametrize(
        "fragment",
        [
            pytest.param(bytes(100) + b"\n", id="zeros"),
            pytest.param(b"some other text\n", id="other text"),
            pytest.param(line(FIRST, 9)[:50] + b"\n", id="fragment of a line in flight"),
            pytest.param(line(FIRST, 9)[:-1], id="no newline at the end"),
        ],
    )
    def test_anything_that_is_not_a_whole_line_is_torn(self, live: Path, fragment: bytes) -> None:
        live.write_bytes(line(FIRST, 0) + fragment)
        report = audit(live, {"w0t0": 1}, SUFFIX_OF)
        assert report.faults() == {"torn": 1}
        assert report.examples["torn"][0].startswith("app.log:2: ")

    def test_a_fragment_beside_the_whole_line_is_torn_and_not_doubled(self, live: Path) -> None:
        live.write_bytes(line(FIRST, 0)[:60] + b"\n" + line(FIRST, 0))
        assert audit(live, {"w0t0": 1}, SUFFIX_OF).faults() == {"torn": 1}

    @pytest.mark.parametrize(("ending", "compress"), [(".gz", gzip.compress), (".xz", lzma.compress)])
    def test_an_archive_that_breaks_off_is_torn(
        self, live: Path, ending: str, compress: Callable[[bytes], bytes]
    ) -> None:
        whole = compress(b"".join(line(FIRST, number) for number in range(1000)))
        backup(live, FIRST, ending).write_bytes(whole[: len(whole) // 2])
        report = audit(live, {}, SUFFIX_OF)
        assert report.faults()["torn"] >= 1
        assert "end-of-stream" in report.examples["torn"][-1]

    def test_a_file_that_is_no_archive_but_is_named_so_is_torn(self, live: Path) -> None:
        backup(live, FIRST, ".gz").write_bytes(line(FIRST, 0))
        assert audit(live, {}, SUFFIX_OF).faults() == {"torn": 1}

    @pytest.mark.parametrize("created", [FIRST - 0.001, SECOND, THIRD])
    def test_a_line_in_the_backup_of_another_interval_is_misfiled(self, live: Path, created: float) -> None:
        backup(live, FIRST).write_bytes(line(FIRST, 0) + line(created, 1) + line(FIRST, 2))
        report = audit(live, {"w0t0": 3}, SUFFIX_OF)
        assert report.faults() == {"misfiled": 1}
        assert report.examples["misfiled"][0].startswith(f"app.log.{SUFFIX_OF(FIRST)}:2: 1 lines of ")

    @pytest.mark.parametrize("home", [FIRST, SECOND])
    def test_a_time_that_was_rounded_up_to_a_boundary_belongs_to_either_side(self, live: Path, home: float) -> None:
        rounded = f"{SECOND:.6f} {make_line('w0t0', 0, 80)}\n".encode()
        backup(live, home).write_bytes(rounded)
        assert audit(live, {"w0t0": 1}, SUFFIX_OF).flawless

    def test_a_rounded_time_is_misfiled_anywhere_else(self, live: Path) -> None:
        rounded = f"{THIRD:.6f} {make_line('w0t0', 0, 80)}\n".encode()
        backup(live, FIRST).write_bytes(rounded)
        assert audit(live, {"w0t0": 1}, SUFFIX_OF).faults() == {"misfiled": 1}

    def test_lines_in_the_live_file_of_other_intervals_than_most_are_misfiled(self, live: Path) -> None:
        lines = [line(SECOND, 0), line(FIRST, 1), line(SECOND, 2), line(THIRD, 3), line(SECOND, 4)]
        live.write_bytes(b"".join(lines))
        report = audit(live, {"w0t0": 5}, SUFFIX_OF)
        assert report.faults() == {"misfiled": 2}
        assert report.examples["misfiled"][0] == f"app.log:2: 1 lines of {SUFFIX_OF(FIRST)}"

    def test_a_live_file_older_than_a_backup_is_misfiled(self, live: Path) -> None:
        backup(live, SECOND).write_bytes(line(SECOND, 0))
        live.write_bytes(line(FIRST, 1) + line(FIRST + 1, 2))
        assert audit(live, {"w0t0": 3}, SUFFIX_OF).faults() == {"misfiled": 2}

    def test_a_live_file_of_the_newest_backup_s_interval_is_right(self, live: Path) -> None:
        backup(live, SECOND).write_bytes(line(SECOND + 5, 0))
        live.write_bytes(line(SECOND + 4, 1))
        assert audit(live, {"w0t0": 2}, SUFFIX_OF).flawless

    @pytest.mark.parametrize(
        "name", ["1", "tmp", "2023-11-14", "2023-11-14_22-13-20.gz.tmp", "2023-11-14_22-13-20.zip"]
    )
    def test_a_file_with_another_name_is_a_stranger_and_still_read(self, live: Path, name: str) -> None:
        live.with_name(f"app.log.{name}").write_bytes(line(FIRST, 0))
        report = audit(live, {"w0t0": 1}, SUFFIX_OF)
        assert report.faults() == {"strangers": 1}
        assert report.examples["strangers"] == (f"app.log.{name}",)

    def test_directories_and_links_are_strangers(self, live: Path) -> None:
        live.write_bytes(line(FIRST, 0))
        backup(live, FIRST).symlink_to(live)
        backup(live, SECOND).mkdir()
        assert audit(live, {"w0t0": 1}, SUFFIX_OF).faults() == {"strangers": 2}

    def test_files_that_are_not_named_after_the_log_are_none_of_its_business(self, live: Path) -> None:
        live.write_bytes(line(FIRST, 0))
        for name in (".app.log.lock", "app.logs", "access.log", "app.log-old"):
            live.with_name(name).write_bytes(b"anything\n")
        report = audit(live, {"w0t0": 1}, SUFFIX_OF)
        assert report.flawless
        assert report.files == 1

    def test_lines_of_other_applications_are_read_by_a_pattern(self, live: Path) -> None:
        pattern = re.compile(rb'(?P<created>[\d.]+) "GET /(?P<stream>\w+)/(?P<number>\d+)" 200')
        lines = [f'{FIRST + number:.3f} "GET /client/{number}" 200\n' for number in (0, 1, 1, 3)]
        live.write_text("".join(lines) + '1700000000.5 "GET /client/4" 500\n' + lines[0][:-1])
        report = audit(live, {"client": 4}, SUFFIX_OF, pattern=pattern)
        assert report.faults() == {"lost": 1, "doubled": 1, "torn": 2}

    def test_a_few_examples_of_each_kind_are_kept_and_the_first_is_shown(self, live: Path) -> None:
        live.write_bytes(b"rubbish\n" * 50)
        report = audit(live, {"w0t0": 50}, SUFFIX_OF)
        assert report.faults() == {"lost": 50, "torn": 50}
        assert len(report.examples["torn"]) == len(report.examples["lost"]) < 10
        assert str(report).startswith("FAULTY: 0 lines in 1 files, 50 lost, 0 doubled, 50 torn")
        assert "; lost: stream w0t0 number 0; torn: app.log:1: 8 bytes" in str(report)


EVERY_SECOND = suffix_of_seconds(1)
MakeBroken = Callable[[Path, Callable[[float], str]], logging.Handler]


class TestWrongHandlers:
    @pytest.mark.parametrize(
        ("make", "kind", "plan"),
        [
            pytest.param(broken.OverwritingHandler, "lost", Plan(seconds=2.2), id="overwrites"),
            pytest.param(broken.TearingHandler, "torn", Plan(seconds=1, sizes=(200, 9000)), id="tears"),
            pytest.param(broken.BlankingHandler, "blank", Plan(seconds=1), id="leaves blank lines"),
            pytest.param(broken.DoublingHandler, "doubled", Plan(seconds=1), id="doubles"),
            pytest.param(broken.LateHandler, "misfiled", Plan(seconds=1.6), id="files late lines too late"),
            pytest.param(broken.StaleNameHandler, "misfiled", Plan(seconds=1), id="gives an old name"),
            pytest.param(broken.NeverRollingHandler, "misfiled", Plan(seconds=2.2), id="never rolls over"),
            pytest.param(broken.LitteringHandler, "strangers", Plan(seconds=1), id="leaves a file"),
        ],
    )
    def test_each_is_found_guilty_of_its_own_fault_and_no_other(
        self, live: Path, make: MakeBroken, kind: str, plan: Plan
    ) -> None:
        load = run_load(lambda: make(live, EVERY_SECOND), live, plan)
        report = audit(live, load.acknowledged, EVERY_SECOND)
        assert list(report.faults()) == [kind], report
        assert load.errors == 0

    def test_the_standard_handler_is_found_guilty(self, live: Path) -> None:
        load = run_load(lambda: TimedRotatingFileHandler(live, when="S", utc=True), live, Plan(seconds=3.2))
        report = audit(live, load.acknowledged, EVERY_SECOND)
        # Its second worker removes the first one's backup; since CPython 3.13 it goes on writing to it instead.
        assert {"lost", "misfiled"} & report.faults().keys(), report
        assert report.strangers == 0

    # Not kills with large lines: Linux abandons the write(2) of a killed process between two pages, and the next
    # line is glued to the fragment. Few short lines a second make that rare enough; no handler without a lock is safe.
    @pytest.mark.parametrize(
        "plan",
        [
            pytest.param(Plan(seconds=3.2, kills_per_second=3, stops_per_second=3, rate=500), id="kills and stops"),
            pytest.param(
                Plan(seconds=3.2, threads=2, handlers=2, sizes=(200, 5000, 65536), signal_hz=100, stops_per_second=3,
                     rate=500),
                id="threads, signals, stops and large lines",
            ),
        ],
    )  # fmt: skip
    def test_a_right_handler_is_flawless(self, live: Path, plan: Plan) -> None:
        load = run_load(lambda: broken.PerIntervalHandler(live, EVERY_SECOND), live, plan)
        report = audit(live, load.acknowledged, EVERY_SECOND)
        assert report.flawless, report
        assert report.files >= 3
        assert load.lines == report.lines - report.unacknowledged > 1000
        assert load.errors == 0


class TestHarness:
    def test_it_counts_kills_stops_and_the_streams_of_replaced_writers_too(self, live: Path) -> None:
        plan = Plan(processes=2, seconds=2, threads=2, signal_hz=50, kills_per_second=2, stops_per_second=2)
        load = run_load(lambda: broken.PerIntervalHandler(live, EVERY_SECOND), live, plan)
        assert 0 < load.kills <= 4
        assert 0 < load.stops <= 4
        streams = {f"w{writer}{stream}" for writer in range(2 + 4) for stream in ("t0", "t1", "signal")}
        assert load.acknowledged.keys() == streams
        assert sum(count for stream, count in load.acknowledged.items() if stream.endswith("signal")) > 0

    def test_it_counts_reported_errors(self, live: Path) -> None:
        plan = Plan(processes=2, seconds=0.5)
        load = run_load(lambda: broken.ReportingHandler(live, EVERY_SECOND), live, plan)
        assert load.errors == sum(count // 100 for count in load.acknowledged.values()) > 0

    def test_a_rate_is_not_exceeded(self, live: Path) -> None:
        plan = Plan(processes=2, seconds=1, rate=20)
        load = run_load(lambda: broken.PerIntervalHandler(live, EVERY_SECOND), live, plan)
        assert 0 < load.lines <= 2 * 20

    def test_a_handler_made_before_the_fork_is_made_once(self, live: Path) -> None:
        made = []

        def make() -> logging.Handler:
            made.append(broken.PerIntervalHandler(live, EVERY_SECOND))
            return made[-1]

        load = run_load(make, live, Plan(processes=3, seconds=0.3, handler_made="before fork"))
        assert len(made) == 1
        assert len([count for count in load.acknowledged.values() if count]) == 3

    def test_writers_can_be_spawned(self, live: Path) -> None:
        load = run_load(Maker(live), live, Plan(processes=2, seconds=0.5, start="spawn"))
        report = audit(live, load.acknowledged, EVERY_SECOND)
        assert report.flawless, report
        assert load.lines > 0

    def test_a_handler_made_before_the_fork_cannot_be_spawned(self) -> None:
        with pytest.raises(ValueError, match="needs start='fork'"):
            Plan(handler_made="before fork", start="spawn")

    @pytest.mark.parametrize("threads", [1, 2])
    def test_a_handler_that_raises_fails_the_run(
        self, live: Path, threads: int, capfd: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(RuntimeError, match="writer 0 ended with exit code 1"):
            run_load(lambda: broken.RaisingHandler(live, EVERY_SECOND), live, Plan(seconds=0.2, threads=threads))
        assert "raised on purpose" in capfd.readouterr().err

    def test_a_handler_that_cannot_be_made_fails_the_run(self, live: Path, capfd: pytest.CaptureFixture[str]) -> None:
        def make() -> logging.Handler:
            raise OSError("not made on purpose")

        with pytest.raises(RuntimeError, match="writer 1 ended with exit code 1"):
            run_load(make, live, Plan(processes=2, seconds=0.2))
        assert "not made on purpose" in capfd.readouterr().err

    def test_time_runs_from_the_moment_when_every_writer_is_ready(self, live: Path) -> None:
        def make() -> logging.Handler:
            time.sleep(1)
            return broken.PerIntervalHandler(live, EVERY_SECOND)

        load = run_load(make, live, Plan(processes=2, seconds=0.5, rate=20))
        assert min(load.acknowledged.values()) > 1

    def test_a_writer_that_never_gets_ready_fails_the_run_and_no_process_is_left(self, live: Path) -> None:
        def make() -> logging.Handler:
            time.sleep(60)
            raise AssertionError("never reached")

        with pytest.raises(RuntimeError, match="not every writer was ready"):
            run_load(make, live, Plan(processes=2, seconds=0.2, patience=0.3))
        assert multiprocessing.active_children() == []

    def test_a_handler_that_hangs_fails_the_run_and_no_process_is_left(self, live: Path) -> None:
        plan = Plan(processes=2, seconds=0.2, patience=0.3, stops_per_second=10)
        with pytest.raises(RuntimeError, match="writer 1 was still busy"):
            run_load(lambda: broken.StuckHandler(live, EVERY_SECOND), live, plan)
        assert multiprocessing.active_children() == []


class Maker:
    """A function that makes a right handler and that a spawned process can be sent."""

    def __init__(self, live: Path) -> None:
        self.live = live

    def __call__(self) -> logging.Handler:
        return broken.PerIntervalHandler(self.live, EVERY_SECOND)
