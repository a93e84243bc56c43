"""The contract of the constructor and of the points to override: what they mean in the standard library."""

from __future__ import annotations

import logging
import logging.config
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

from rollsafe import LineFormatter
from tests.support.crew import WatchedHandler
from tests.support.logs import Make, log, suffix_of, wait_for_second_after
from tests.support.servers import wait_until
from tests.support.texts import all_lines, backups


def test_the_new_live_file_keeps_the_mode_of_the_old_one(live: Path, make: Make) -> None:
    handler = make()
    live.chmod(0o640)
    log(handler, "first")
    handler.doRollover()
    assert live.stat().st_mode & 0o777 == 0o640


def test_permissions_are_those_of_every_file_whatever_the_umask(live: Path, make: Make) -> None:
    before = os.umask(0o077)
    try:
        handler = make(permissions=0o664)
        first = log(handler, "first")
        handler.doRollover()
        log(handler, "late", first - 1)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in live.parent.iterdir()}
    assert len(modes) == 4
    # A user who may not write the log may not read the lock file, either, because a reader could hold the lock.
    assert modes.pop(".app.log.lock") == 0o660
    assert set(modes.values()) == {0o664}, modes


def test_a_closed_handler_does_not_take_its_name_back_from_a_newer_one(make: Make) -> None:
    old = make(when="H")
    old.name = "app"
    old.close()
    new = make(when="H")
    new.name = "app"
    log(old, "a straggler")
    assert logging._handlers["app"] is new  # type: ignore[attr-defined]  # what dictConfig reads


def test_close_keeps_no_file_open(live: Path, make: Make) -> None:
    before = set(os.listdir("/dev/fd"))
    handler = make()
    first = log(handler, "first")
    wait_for_second_after(first)
    log(handler, "second")
    log(handler, "late", first)
    handler.close()
    assert set(os.listdir("/dev/fd")) == before


def test_delay_opens_the_file_at_the_first_line(live: Path, make: Make) -> None:
    handler = make(delay=True)
    assert handler.stream is None
    assert not list(live.parent.iterdir())
    log(handler, "first")
    assert all_lines(live) == ["first"]


def test_what_overrides_the_way_to_the_formatter_is_not_passed_over(live: Path, make: Make) -> None:
    class Loud(WatchedHandler):
        def format(self, record: logging.LogRecord) -> str:
            return super().format(record).upper()

    class Starred(LineFormatter):
        def format(self, record: logging.LogRecord) -> str:
            return f"* {super().format(record)}"

    loud = make(live, Loud, when="H")
    loud.setFormatter(LineFormatter())
    log(loud, "loud")
    handler = make(live, when="H")
    handler.setFormatter(Starred())
    log(handler, "starred")
    handler.setFormatter(LineFormatter())
    handler.formatter = logging.Formatter("<%(message)s>")
    log(handler, "set without setFormatter")
    assert live.read_text() == "LOUD\n* starred\n<set without setFormatter>\n"


def test_namer_suffix_and_extMatch_mean_what_they_mean_in_the_standard_library(live: Path, make: Make) -> None:
    handler = make(backupCount=1)
    handler.suffix = "%Y%m%dT%H%M%S"
    handler.extMatch = re.compile(r"\d{8}T\d{6}")
    handler.namer = lambda default: default.replace("app.log.", "app-") + ".log"
    stranger = live.with_name("app-19990101T000000.log.keep")
    stranger.touch()
    expired = live.with_name("app-19990101T000000.log")
    expired.touch()
    first = log(handler, "first")
    handler.doRollover()
    backup = live.with_name(time.strftime("app-%Y%m%dT%H%M%S.log", time.gmtime(first)))
    assert backup.read_text() == "first\n"
    wait_until(lambda: not expired.exists(), "the expired backup is removed")
    assert stranger.exists()
    assert backup.exists()


def test_the_rotator_gets_source_and_destination_once_nobody_writes_there_any_more(live: Path, make: Make) -> None:
    handler = make()
    calls = []

    def rotator(source: str, dest: str) -> None:
        calls.append((source, dest))
        Path(dest).write_text(Path(source).read_text().upper())
        os.remove(source)

    handler.rotator = rotator
    handler.namer = lambda default: default + ".upper"
    first = log(handler, "first")
    wait_for_second_after(first)
    log(handler, "second")
    log(handler, "late", first)
    wait_until(lambda: bool(calls) and not os.path.exists(calls[0][0]), "the rotator has run")
    assert [dest for _, dest in calls] == [f"{live}.{suffix_of(first)}.upper"]
    assert Path(calls[0][1]).read_text() == "FIRST\nLATE\n"


def test_an_overridden_shouldRollover_is_asked_for_each_record(live: Path, make: Make) -> None:
    class Small(WatchedHandler):
        def shouldRollover(self, record: logging.LogRecord) -> bool:
            return super().shouldRollover(record) or live.stat().st_size > 10

    handler = make(kind=Small, when="H")
    for name in ("first-line", "second", "third"):
        first = log(handler, name)
    assert backups(live) == {suffix_of(first, "H"): "first-line\n"}
    assert live.read_text() == "second\nthird\n"


def test_an_overridden_computeRollover_sets_the_boundaries(live: Path, make: Make) -> None:
    class EveryTwo(WatchedHandler):
        def computeRollover(self, currentTime: float) -> int:
            return int(currentTime // 2 + 1) * 2

    handler = make(kind=EveryTwo)
    first = log(handler, "first")
    assert handler.rolloverAt == (first // 2 + 1) * 2
    wait_until(lambda: time.time() >= handler.rolloverAt, "the boundary")
    log(handler, "second")
    assert list(backups(live).values()) == ["first\n"]


def test_an_overridden_doRollover_is_called_and_may_call_ours(live: Path, make: Make) -> None:
    calls = []

    class Counting(WatchedHandler):
        def doRollover(self) -> None:
            calls.append(self.baseFilename)
            super().doRollover()

    handler = make(kind=Counting)
    first = log(handler, "first")
    wait_for_second_after(first)
    log(handler, "second")
    assert calls == [str(live)]
    assert backups(live) == {suffix_of(first): "first\n"}


def test_an_overridden_getFilesToDelete_decides_what_is_removed(live: Path, make: Make) -> None:
    doomed = live.with_name("doomed")
    doomed.touch()

    class Own(WatchedHandler):
        def getFilesToDelete(self) -> list[str]:
            return [str(doomed)] if doomed.exists() else []

    handler = make(kind=Own)
    log(handler, "first")
    handler.doRollover()
    wait_until(lambda: not doomed.exists(), "the file is removed")


def test_a_filter_may_replace_the_record_or_drop_it(live: Path, make: Make) -> None:
    handler = make(when="H")

    def shout(record: logging.LogRecord) -> Any:
        if record.getMessage() == "drop":
            return False
        return logging.makeLogRecord({"msg": record.getMessage().upper()}) if sys.version_info >= (3, 12) else True

    handler.addFilter(shout)
    assert not handler.handle(logging.makeLogRecord({"msg": "drop"}))
    assert handler.handle(logging.makeLogRecord({"msg": "keep"}))
    assert live.read_text() == ("KEEP\n" if sys.version_info >= (3, 12) else "keep\n")


def test_an_overridden_filter_is_asked(live: Path, make: Make) -> None:
    class Picky(WatchedHandler):
        def filter(self, record: logging.LogRecord) -> bool:
            return "drop" not in record.getMessage()

    handler = make(kind=Picky, when="H")
    log(handler, "drop")
    log(handler, "keep")
    assert live.read_text() == "keep\n"


def test_it_works_from_dictConfig(live: Path) -> None:
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"line": {"()": "rollsafe.LineFormatter", "fmt": "%(message)s"}},
            "handlers": {
                "file": {"class": "rollsafe.SafeTimedRotatingFileHandler", "formatter": "line", "filename": str(live)}
            },
            "loggers": {"rollsafe.test": {"handlers": ["file"], "level": "INFO", "propagate": False}},
        }
    )
    logger = logging.getLogger("rollsafe.test")
    logger.info("two\nlines")
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
        handler.close()
    assert live.read_text() == "two\\nlines\n"
