"""Lean records: what is switched off, what may not be, and what a line then says."""

from __future__ import annotations

import logging
import logging.config
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from rollsafe import ConfigurationError
from rollsafe._lines.records import SWITCHES, LeanRecords, needless_switches
from rollsafe.gunicorn import rotating_logs

MOMENT = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d[,.]\d{3}")


@pytest.fixture
def restored_switches(restored_logging: None) -> Iterator[None]:
    """Put the variables of `logging` back, and the loggers."""
    before = {name: getattr(logging, name) for name in SWITCHES if hasattr(logging, name)}
    yield
    for name, value in before.items():
        setattr(logging, name, value)


@pytest.mark.usefixtures("restored_switches")
def test_the_preset_switches_off_when_it_is_applied_and_not_before(tmp_path: Path) -> None:
    config = rotating_logs(tmp_path, lean_records=True)
    assert logging.logThreads
    assert getattr(logging, "_srcfile", None)
    logging.config.dictConfig(config)
    records: list[logging.LogRecord] = []
    listener = logging.Handler()
    listener.emit = records.append  # type: ignore[method-assign,assignment]
    logging.root.addHandler(listener)
    logging.getLogger("shop").warning("hello")
    (record,) = records
    assert (record.thread, record.threadName, record.processName) == (None, None, None)
    assert record.funcName == "(unknown function)"
    assert record.process is not None, "shown by the format, to tell the workers apart"
    assert "WARNING" in (tmp_path / "app.log").read_text()


@pytest.mark.usefixtures("restored_switches")
def test_without_the_option_nothing_is_switched_off(tmp_path: Path) -> None:
    before = {name: getattr(logging, name, None) for name in SWITCHES}
    logging.config.dictConfig(rotating_logs(tmp_path))
    assert before == {name: getattr(logging, name, None) for name in SWITCHES}


@pytest.mark.parametrize("json", [False, True])
@pytest.mark.usefixtures("restored_switches")
def test_the_lines_of_the_preset_are_the_same_with_it_and_without(tmp_path: Path, json: bool) -> None:
    def lines(directory: Path, lean_records: bool) -> list[str]:
        logging.config.dictConfig(rotating_logs(directory, lean_records=lean_records, json=json))
        for name in ("shop", "gunicorn.error", "gunicorn.access"):
            try:
                raise ValueError("a reason")
            except ValueError:
                logging.getLogger(name).error("hello %s", "world", exc_info=True)
        return [MOMENT.sub("then", (directory / f"{key}.log").read_text()) for key in ("app", "error", "access")]

    usual = lines(tmp_path / "usual", False)
    assert all("hello world" in text and "ValueError: a reason" in text for text in usual)
    assert lines(tmp_path / "lean", True) == usual


@pytest.mark.usefixtures("restored_switches")
def test_each_switch_empties_the_fields_that_stand_beside_it_and_no_other() -> None:
    def record() -> dict[str, object]:
        records: list[logging.LogRecord] = []
        logger = logging.Logger("shop")
        logger.handle = records.append  # type: ignore[method-assign,assignment]
        logger.warning("hello")
        return vars(records[0])

    usual = record()
    LeanRecords([*SWITCHES, "noSuchSwitch"])
    lean = record()
    fields = {field for fields in SWITCHES.values() for field in fields if field in lean}
    for field in fields:
        assert lean[field] in (None, 0) or "unknown" in str(lean[field]), field
    changed = {field for field in usual if lean[field] != usual[field]} - {"created", "msecs", "relativeCreated"}
    assert changed == fields - {"taskName"}, "no task logs here"


def test_the_process_id_is_found_out_where_a_format_shows_it_only() -> None:
    assert "logProcesses" not in needless_switches(["%(process)d %(message)s", "%(message)s"])
    assert "logProcesses" in needless_switches(["%(message)s"])


@pytest.mark.parametrize("field", [field for fields in SWITCHES.values() for field in fields if field != "process"])
def test_a_format_that_shows_what_is_switched_off_is_refused(tmp_path: Path, field: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"leaves %\({field}\)s empty, .* leave lean_records off"):
        rotating_logs(tmp_path, format=f"%({field})s %(message)s", lean_records=True)
    rotating_logs(tmp_path, format=f"%({field})s %(message)s")
