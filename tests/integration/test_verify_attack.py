"""verify under attack: random damage is always found, what handlers wrote never is, and it agrees with the oracle."""

from __future__ import annotations

import gzip
import json
import logging
import os
import re
import shutil
import signal
import tempfile
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rollsafe import LineFormatter, SafeTimedRotatingFileHandler
from rollsafe._lines.stamps import FIELD, STAMP, Stamps
from rollsafe.tools.catalog import logs_at
from rollsafe.tools.page import page_of
from rollsafe.tools.verify import Report, verify
from tests.support import broken
from tests.support.gunicorn_setup import ROLLOVERS, WORKERS, config, wait_for_rollovers
from tests.support.load import Plan, run_load, suffix_of_seconds
from tests.support.oracle import LINE_FORMAT, audit
from tests.support.servers import Clients, Server

pytest.importorskip("gunicorn", reason="gunicorn is not installed: pip install rollsafe[gunicorn]")

HOUR = 3600
Draw = Callable[[st.SearchStrategy[Any]], Any]
EVERY_SECOND = suffix_of_seconds(1)
STAMPED = f"%(asctime)s %(message)s %({FIELD})s"
# Of the lines that the oracle reads: their own text with the stamp behind it.
ORACLES = re.compile(rb"(?P<created>\d+\.\d+) (?P<stream>w\S+) (?P<number>\d+) \d+ [a-z]* [0-9a-f]{8} ~\S+~")


def handler_for(live: Path, fmt: str = STAMPED) -> SafeTimedRotatingFileHandler:
    """A handler with hours in UTC."""
    handler = SafeTimedRotatingFileHandler(live, when="H", utc=True, encoding="utf-8")
    formatter = LineFormatter(fmt)
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    return handler


def found(directory: Path) -> Report:
    """What verify says of a directory."""
    return verify(logs_at([directory]))


# Damage to a clean log.


@dataclass(frozen=True)
class CleanLog:
    """A log without a fault: its directory, and the names of its plain backups, of its archive, of the live file."""

    directory: Path
    backups: tuple[str, ...]
    archive: str
    live: str

    def lines(self, name: str) -> list[bytes]:
        """The lines of one file."""
        return (self.directory / name).read_bytes().splitlines(keepends=True)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> CleanLog:
    """Three processes that write five hours in turn; the oldest file is archived."""
    directory = tmp_path_factory.mktemp("clean")
    live = directory / "app.log"
    now = time.time()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rollsafe._lines.stamps.time.time_ns", lambda: int((now - 5 * HOUR) * 1e9))
        handlers = [handler_for(live) for _ in range(3)]
        for number in range(5 * 30):
            record = {"msg": f"line {number} of many", "created": now + (number // 30 - 4) * HOUR}
            handlers[number * 7 % 11 % 3].handle(logging.makeLogRecord(record))
    for handler in handlers:
        handler.close()
    oldest, *backups = sorted(directory.glob("app.log.*"))
    archive = oldest.with_name(f"{oldest.name}.gz")
    archive.write_bytes(gzip.compress(oldest.read_bytes()))
    oldest.unlink()
    assert found(directory).clean
    return CleanLog(directory, tuple(path.name for path in backups), archive.name, live.name)


def taken_out(log: CleanLog, directory: Path, draw: Draw) -> None:
    """Lines of a backup are gone; every stream has lines before and after it."""
    name = draw(st.sampled_from(log.backups))
    lines = log.lines(name)
    begin = draw(st.integers(0, len(lines) - 1))
    end = draw(st.integers(begin + 1, len(lines)))
    (directory / name).write_bytes(b"".join(lines[:begin] + lines[end:]))


def written_again(log: CleanLog, directory: Path, draw: Draw) -> None:
    """A line is there twice, in the same file."""
    name = draw(st.sampled_from((*log.backups, log.live)))
    lines = log.lines(name)
    lines.insert(draw(st.integers(0, len(lines))), draw(st.sampled_from(lines)))
    (directory / name).write_bytes(b"".join(lines))


def moved(log: CleanLog, directory: Path, draw: Draw) -> None:
    """A line is in the file of another interval."""
    source, target = draw(st.permutations((*log.backups, log.live)))[:2]
    lines, others = log.lines(source), log.lines(target)
    line = lines.pop(draw(st.integers(0, len(lines) - 1)))
    others.insert(draw(st.integers(0, len(others))), line)
    (directory / source).write_bytes(b"".join(lines))
    (directory / target).write_bytes(b"".join(others))


def cut_out(log: CleanLog, directory: Path, draw: Draw) -> None:
    """Bytes of a backup are gone, at least one of the end of a line among them, or of the stamp before it."""
    name = draw(st.sampled_from(log.backups))
    text = (log.directory / name).read_bytes()
    ends = [at.end() for at in re.finditer(rb"\n", text)]
    end = draw(st.sampled_from(ends)) - draw(st.integers(0, 12))
    begin = draw(st.integers(max(0, end - 200), end - 1))
    (directory / name).write_bytes(text[:begin] + text[end:])


def ended_early(log: CleanLog, directory: Path, draw: Draw) -> None:
    """A backup is truncated."""
    name = draw(st.sampled_from(log.backups))
    text = (log.directory / name).read_bytes()
    (directory / name).write_bytes(text[: draw(st.integers(0, len(text) - 1))])


def zeroed(log: CleanLog, directory: Path, draw: Draw) -> None:
    """A part of a file is zero bytes, as after a power cut."""
    name = draw(st.sampled_from(log.backups))
    text = bytearray((log.directory / name).read_bytes())
    begin = draw(st.integers(0, len(text) - 1))
    length = draw(st.integers(1, len(text) - begin))
    text[begin : begin + length] = bytes(length)
    (directory / name).write_bytes(text)


def renumbered(log: CleanLog, directory: Path, draw: Draw) -> None:
    """A digit of a number is another one."""
    name = draw(st.sampled_from(log.backups))
    text = bytearray((log.directory / name).read_bytes())
    at = draw(st.sampled_from([match.span("number") for match in STAMP.finditer(text)]))
    place = draw(st.integers(at[0], at[1] - 1))
    text[place] = draw(st.sampled_from([digit for digit in b"0123456789" if digit != text[place]]))
    (directory / name).write_bytes(text)


def strange(log: CleanLog, directory: Path, draw: Draw) -> None:
    """A line of somebody else is between the lines."""
    name = draw(st.sampled_from(log.backups))
    lines = log.lines(name)
    line = draw(st.binary(min_size=1, max_size=60).filter(lambda line: line.strip(b" \r") and b"\n" not in line))
    # Before the first stamp of a file, lines are from before the upgrade.
    lines.insert(draw(st.integers(1, len(lines))), line + b"\n")
    (directory / name).write_bytes(b"".join(lines))


def gone(log: CleanLog, directory: Path, draw: Draw) -> None:
    """A file between others is gone."""
    (directory / draw(st.sampled_from(log.backups))).unlink()


def copied(log: CleanLog, directory: Path, draw: Draw) -> None:
    """A backup is there twice, as two parts of one interval."""
    name = draw(st.sampled_from(log.backups))
    shutil.copyfile(log.directory / name, directory / f"{name}.{draw(st.integers(1, 9))}")


def exchanged(log: CleanLog, directory: Path, draw: Draw) -> None:
    """Two backups have each other's name."""
    one, other = draw(st.permutations(log.backups))[:2]
    (directory / one).write_bytes((log.directory / other).read_bytes())
    (directory / other).write_bytes((log.directory / one).read_bytes())


def broken_archive(log: CleanLog, directory: Path, draw: Draw) -> None:
    """An archive is truncated, or a bit of what it holds is another one."""
    data = bytearray((log.directory / log.archive).read_bytes())
    whole = gzip.decompress(data)
    if draw(st.booleans()):
        del data[draw(st.integers(1, len(data) - 1)) :]
    else:
        # Bytes 3 to 9 are flags, time and system (RFC 1952): they say nothing of the content.
        data[draw(st.integers(10, len(data) - 1))] ^= 1 << draw(st.integers(0, 7))
    with suppress(OSError, EOFError, zlib.error):
        # Some bits of deflated data stand for nothing: the padding of the last byte, codes that are not used.
        assume(gzip.decompress(data) != whole)
    (directory / log.archive).write_bytes(data)


DAMAGES: tuple[Callable[[CleanLog, Path, Draw], None], ...] = (
    taken_out,
    written_again,
    moved,
    cut_out,
    ended_early,
    zeroed,
    renumbered,
    strange,
    gone,
    copied,
    exchanged,
    broken_archive,
)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_is_always_found(damage: Callable[[CleanLog, Path, Draw], None], clean: CleanLog) -> None:
    @settings(max_examples=20)
    @given(st.data())
    def attack(data: st.DataObject) -> None:
        with tempfile.TemporaryDirectory() as copy:
            directory = Path(copy, "logs")
            shutil.copytree(clean.directory, directory)
            damage(clean, directory, data.draw)
            report = found(directory)
            assert not report.clean
            json.dumps(report.as_dict())
            assert "Every line is there" not in page_of(report.as_dict(), time.time())

    attack()


def test_whatever_the_bytes_are_there_is_a_report(clean: CleanLog) -> None:
    @settings(max_examples=30)
    @given(st.data())
    def attack(data: st.DataObject) -> None:
        with tempfile.TemporaryDirectory() as copy:
            directory = Path(copy, "logs")
            shutil.copytree(clean.directory, directory)
            for name in (*clean.backups, clean.archive):
                text = (directory / name).read_bytes()
                begin = data.draw(st.integers(0, len(text)))
                end = data.draw(st.integers(begin, len(text)))
                (directory / name).write_bytes(text[:begin] + data.draw(st.binary(max_size=200)) + text[end:])
            page_of(found(directory).as_dict(), time.time()).encode()

    attack()


# What handlers write is clean.


@settings(max_examples=20)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(-4, 0), st.text(max_size=30)), min_size=1, max_size=40),
    st.sampled_from((STAMPED, f"%({FIELD})s %(asctime)s %(message)s", f"%(created).6f %(message)s %({FIELD})s")),
)
def test_what_handlers_write_is_clean_in_whatever_order_the_times_come(
    records: list[tuple[int, int, str]], fmt: str
) -> None:
    now = time.time()
    with tempfile.TemporaryDirectory() as directory:
        handlers = [handler_for(Path(directory, "app.log"), fmt) for _ in range(3)]
        for which, hour, message in records:
            handlers[which].handle(logging.makeLogRecord({"msg": message, "created": now + hour * HOUR}))
        for handler in handlers:
            handler.close()
        report = found(Path(directory))
        assert report.clean, (report.findings, sorted(os.listdir(directory)))
        assert report.stamped == len(records)


# It agrees with the oracle about handlers that are wrong on purpose.


class StampingFormatter(logging.Formatter):
    """The oracle's lines with a stamp behind them, for handlers that know of no stamps."""

    def __init__(self) -> None:
        super().__init__(f"{LINE_FORMAT} %({FIELD})s")
        self._stamps = Stamps()

    def format(self, record: logging.LogRecord) -> str:
        record.stamp = self._stamps.take()
        return super().format(record)


def told(live: Path) -> None:
    """A lock file that tells the settings of the broken handlers, without a live file."""
    SafeTimedRotatingFileHandler(live, when="S", utc=True).close()
    live.unlink()


KINDS = {"lost": {"gap"}, "torn": {"torn", "foreign", "gap"}, "doubled": {"doubled"}, "misfiled": {"misplaced"}}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "plan"),
    [
        pytest.param(broken.PerIntervalHandler, Plan(seconds=1.2), id="is right"),
        pytest.param(broken.OverwritingHandler, Plan(seconds=2.2), id="overwrites"),
        pytest.param(broken.TearingHandler, Plan(seconds=1, sizes=(200, 9000)), id="tears"),
        pytest.param(broken.DoublingHandler, Plan(seconds=1), id="doubles"),
        pytest.param(broken.LateHandler, Plan(seconds=1.6), id="files late lines too late"),
        pytest.param(broken.StaleNameHandler, Plan(seconds=1), id="gives an old name"),
        pytest.param(broken.NeverRollingHandler, Plan(seconds=2.2), id="never rolls over"),
    ],
)
def test_verify_finds_what_the_oracle_finds(
    make: Callable[[Path, Callable[[float], str]], logging.Handler], plan: Plan, tmp_path: Path
) -> None:
    live = tmp_path / "app.log"
    told(live)

    def stamping() -> logging.Handler:
        handler = make(live, EVERY_SECOND)
        handler.setFormatter(StampingFormatter())
        return handler

    load = run_load(stamping, live, plan)
    oracle = audit(live, load.acknowledged, EVERY_SECOND, pattern=ORACLES).faults()
    report = found(tmp_path)
    assert set(report.found) <= set().union(*(KINDS[kind] for kind in oracle)), (oracle, report.findings)
    assert report.clean is (not oracle)
    assert report.found.get("doubled", 0) == oracle.get("doubled", 0)
    # Of a live file with several intervals, the oracle takes the one that most lines have for the right one.
    if not live.exists():
        assert report.found.get("misplaced", 0) == oracle.get("misfiled", 0)


# Real servers.


def test_gunicorn_under_load_is_clean_though_workers_are_killed(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    settings = config('"logs", when="S", stamps=True')
    with Server(tmp_path, settings, workers=WORKERS) as server, Clients(server) as clients:
        for kills in range(1, ROLLOVERS + 1):
            os.kill(min(server.workers), signal.SIGKILL)
            clients.wait_for(more=50)
            server.wait_for_boots(WORKERS + kills)
            wait_for_rollovers(logs, 1)
    report = found(logs)
    assert report.clean, report.findings
    # A worker that is killed just after its answer writes no access line any more.
    for name, killed in (("app.log", 0), ("access.log", ROLLOVERS)):
        stamped = sum(file.stamped for file in report.files if Path(file.log).name == name)
        assert stamped >= clients.answered - killed > 0
        assert sum(Path(stream.log).name == name for stream in report.streams) > WORKERS
