"""rollsafe.celery on an application of Celery without a broker: handlers, formats, fields, and refusals."""

from __future__ import annotations

import io
import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("celery", reason="celery is not installed: pip install rollsafe[celery]")

from billiard.exceptions import SoftTimeLimitExceeded
from billiard.pool import soft_timeout_sighandler
from celery import Celery, signals
from celery.app.log import Logging, TaskFormatter
from celery.utils.log import get_multiprocessing_logger, get_task_logger

import rollsafe.celery
from rollsafe import ConfigurationError, SafeTimedRotatingFileHandler
from rollsafe._celery import time_limits
from rollsafe.celery import TaskFields, install

SIGNALS = [
    *(signals.after_setup_logger, signals.after_setup_task_logger, signals.setup_logging, signals.task_prerun),
    *(signals.worker_process_shutdown, signals.celeryd_after_setup, signals.beat_init),
]
NAMES = (None, "celery", "celery.task", "celery.redirected", "multiprocessing")
SHORT = "%(levelname)s %(task_name)s %(task_id)s %(name)s %(message)s"

own = logging.getLogger("shop")
of_tasks = get_task_logger("shop.tasks")


@pytest.fixture(autouse=True)
def restored_celery(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo what `install` and Celery do to loggers, signals and the environment."""
    loggers = [logging.getLogger(name) for name in NAMES]
    states = [(each.level, each.handlers[:], each.propagate) for each in loggers]
    receivers = [each.receivers[:] for each in SIGNALS]
    environment = dict(os.environ)
    monkeypatch.setattr(Logging, "_setup", False)
    monkeypatch.setattr(rollsafe.celery, "_installed", None)
    for logger in loggers:
        logger.handlers[:] = []
    yield
    for logger, (level, handlers, propagate) in zip(loggers, states, strict=True):
        for handler in logger.handlers:
            handler.close()
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.propagate = propagate
    for each, before in zip(SIGNALS, receivers, strict=True):
        each.receivers[:] = before
        each.sender_receivers_cache.clear()
    os.environ.clear()
    os.environ.update(environment)


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """The file of -f."""
    return tmp_path / "celery.log"


def application(**settings: Any) -> Celery:
    """An application with two tasks."""
    app = Celery("shop", set_as_current=False, fixups=[])
    app.conf.update(settings)

    @app.task(bind=True, name="order", shared=False)  # type: ignore[untyped-decorator]
    def order(self: Any, text: str = "sent") -> None:
        own.info(text)
        of_tasks.info("by the logger of tasks")

    @app.task(name="outer", shared=False)  # type: ignore[untyped-decorator]
    def outer() -> None:
        order("called")
        app.tasks["order"].apply(task_id="inner")
        own.info("after")

    return app


def set_up(app: Celery, logfile: Path | None = None, level: int = logging.INFO, **options: Any) -> None:
    """Have Celery set up logging, as a worker and beat do."""
    app.log.setup_logging_subsystem(level, None if logfile is None else str(logfile), **options)


def handlers() -> list[logging.Handler]:
    """The handlers of all loggers that Celery sets up, but for kombu's that do nothing."""
    found = dict.fromkeys(handler for name in NAMES for handler in logging.getLogger(name).handlers)
    return [handler for handler in found if not isinstance(handler, logging.NullHandler)]


def test_one_handler_of_ours_takes_the_place_of_all_of_celerys(live: Path) -> None:
    install(when="h", backupCount=3)
    set_up(application(), live)
    [handler] = handlers()
    assert isinstance(handler, SafeTimedRotatingFileHandler)
    assert (handler.baseFilename, handler.when, handler.backupCount, handler.encoding) == (str(live), "H", 3, "utf-8")
    for logger in (logging.getLogger(), logging.getLogger("celery.task"), get_multiprocessing_logger()):
        assert handler in logger.handlers


def test_each_line_of_a_task_has_its_name_and_id_and_any_other_line_dashes(live: Path) -> None:
    install(format=SHORT)
    app = application()
    set_up(app, live)
    own.info("outside")
    app.tasks["outer"].apply(task_id="first")
    app.tasks["order"]("alone")
    of_tasks.info("outside, by the logger of tasks")
    logging.getLogger("celery.worker.strategy").info("received", extra={"data": {"name": "order", "id": "second"}})
    own.info("kept", extra={"task_id": "given"})
    assert [line for line in live.read_text().splitlines() if " celery.app" not in line] == [
        "INFO - - shop outside",
        "INFO order first shop called".replace("order", "outer"),
        "INFO outer first shop.tasks by the logger of tasks",
        "INFO order inner shop sent",
        "INFO order inner shop.tasks by the logger of tasks",
        "INFO outer first shop after",
        "INFO order - shop alone",
        "INFO order - shop.tasks by the logger of tasks",
        "INFO - - shop.tasks outside, by the logger of tasks",
        "INFO order second celery.worker.strategy received",
        "INFO - given shop kept",
    ]


def test_the_level_of_the_command_line_counts(live: Path) -> None:
    install(format=SHORT)
    set_up(application(), live, logging.WARNING)
    own.info("not this")
    own.warning("this")
    assert live.read_text() == "WARNING - - shop this\n"


def test_the_file_of_install_is_for_a_process_without_one_on_its_command_line(tmp_path: Path) -> None:
    install(tmp_path / "logs" / "own.log", format="%(message)s")
    set_up(application())
    own.info("hello")
    assert (tmp_path / "logs" / "own.log").read_text() == "hello\n"
    assert len(handlers()) == 1


def test_the_file_of_the_command_line_goes_before_that_of_install(tmp_path: Path, live: Path) -> None:
    install(tmp_path / "logs" / "own.log", format="%(message)s")
    set_up(application(), live)
    own.info("hello")
    assert live.read_text() == "hello\n"
    assert not (tmp_path / "logs").exists()


def test_a_line_is_not_doubled_in_a_file_that_is_named_by_a_link(tmp_path: Path, live: Path) -> None:
    (tmp_path / "link.log").symlink_to(live)
    install(format="%(message)s")
    set_up(application(), tmp_path / "link.log")
    own.info("hello")
    assert live.read_text() == "hello\n"


def test_a_line_is_not_doubled_on_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    install(format="%(message)s")
    set_up(application(), Path("/dev/stdout"))
    own.info("hello")
    assert capfd.readouterr().out == "hello\n"


def test_without_any_file_celery_writes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    install()
    set_up(application())
    assert {type(handler) for handler in handlers()} == {logging.StreamHandler}


def test_another_file_for_a_child_of_the_pool_gets_a_handler_of_its_own(tmp_path: Path, live: Path) -> None:
    install(format="%(message)s")
    app = application()
    set_up(app, tmp_path / "%n.log", hostname="w1@localhost")
    own.info("one")
    app.log.already_setup = False
    set_up(app, tmp_path / "%n.log", hostname="w2@localhost")
    own.info("two")
    assert len(handlers()) == 1
    assert [(tmp_path / name).read_text() for name in ("w1.log", "w2.log")] == ["one\n", "two\n"]


@pytest.mark.parametrize(
    ("settings", "outside", "inside"),
    [
        ({"worker_log_format": "W %(message)s"}, "W outside", "/MainProcess] order[1]: sent"),
        ({"worker_task_log_format": "T %(task_id)s %(message)s"}, " -[-] shop: outside", "T 1 sent"),
        (
            {"worker_log_format": "W %(message)s", "worker_task_log_format": "T %(task_name)s %(message)s"},
            "W outside",
            "T order sent",
        ),
        ({}, " [INFO] -[-] shop: outside", " [INFO] order[1] shop: sent"),
    ],
    ids=["for all", "for tasks", "both", "none"],
)
def test_the_formats_of_the_application_count(live: Path, settings: dict[str, str], outside: str, inside: str) -> None:
    install()
    app = application(**settings)
    set_up(app, live)
    own.info("outside")
    app.tasks["order"].apply(task_id="1")
    lines = live.read_text().splitlines()
    assert lines[0].endswith(outside)
    assert lines[1].endswith(inside)


def test_the_format_of_install_goes_before_those_of_the_application(live: Path) -> None:
    install(format="I %(message)s")
    app = application(worker_log_format="W %(message)s", worker_task_log_format="T %(message)s")
    set_up(app, live)
    app.tasks["order"].apply()
    assert live.read_text().splitlines()[:2] == ["I sent", "I by the logger of tasks"]


@pytest.mark.parametrize("first", [True, False], ids=["before ours", "after ours"])
def test_a_formatter_that_a_receiver_of_the_application_sets_counts(live: Path, first: bool) -> None:
    def set_formatters(logger: logging.Logger, **_: Any) -> None:
        for handler in logger.handlers:
            handler.setFormatter(TaskFormatter("mine %(task_id)s %(message)s", use_color=False))

    if first:
        signals.after_setup_logger.connect(set_formatters)
        install()
    else:
        install()
        signals.after_setup_logger.connect(set_formatters)
    set_up(application(), live)
    own.info("hello")
    assert live.read_text() == "mine - hello\n"


def test_handlers_of_the_application_stay_if_celery_leaves_the_root_logger_alone(live: Path) -> None:
    stream = io.StringIO()
    logging.getLogger().addHandler(logging.StreamHandler(stream))
    install(format="%(message)s")
    set_up(application(worker_hijack_root_logger=False), live)
    own.info("hello")
    of_tasks.info("of a task")
    assert live.read_text() == "hello\nof a task\n"
    assert stream.getvalue() == "hello\n"


def test_a_rollsafe_handler_of_the_application_for_the_same_file_doubles_no_line(live: Path) -> None:
    logging.getLogger().addHandler(SafeTimedRotatingFileHandler(live))
    install(format="%(message)s")
    set_up(application(worker_hijack_root_logger=False), live)
    own.info("hello")
    of_tasks.info("of a task")
    assert live.read_text() == "hello\nof a task\n"


def test_a_record_without_a_field_has_a_dash_there(live: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(format="%(order)s %(message)s")
    set_up(application(), live)
    own.info("hello")
    own.info("hello", extra={"order": 17})
    assert live.read_text() == "- hello\n17 hello\n"
    assert "lacks the field 'order'" in capsys.readouterr().err


def test_a_file_that_cannot_be_opened_is_one_sentence_and_celery_writes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "__stderr__", sys.stderr)
    (tmp_path / "file").touch()
    install(tmp_path / "file" / "celery.log")
    set_up(application())
    own.info("hello")
    first, second = capsys.readouterr().err.splitlines()
    assert "the log of Celery does not rotate: filename=" in first
    assert second.endswith("hello")


def test_a_second_call_does_nothing_more_and_warns_if_it_differs(live: Path) -> None:
    install(format="%(message)s")
    install(format="%(message)s")
    with pytest.warns(RuntimeWarning, match="called before with other arguments"):
        install(format="other %(message)s")
    set_up(application(), live)
    own.info("hello")
    assert live.read_text() == "hello\n"


def test_a_call_after_celery_has_set_up_logging_changes_nothing_and_says_so(live: Path) -> None:
    set_up(application(), live)
    with pytest.warns(RuntimeWarning, match="has set up logging in this process already"):
        install()
    assert {type(handler) for handler in handlers()} == {WatchedFileHandler}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"filename": 7}, "filename=7 is no path"),
        ({"filename": "logs/%n.log"}, "only Celery's -f replaces %n"),
        ({"when": "fortnight"}, "when='fortnight'"),
        ({"backup_count": 3}, "backup_count"),
        ({"format": "no field"}, "fmt='no field'"),
        ({"defaults": 7}, "defaults=7 is no mapping"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_work_is_refused_at_once(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        install(**arguments)
    assert rollsafe.celery._installed is None


@pytest.mark.parametrize(("zone", "offset"), [({"tz": "Asia/Kolkata"}, "+0530"), ({"utc": True}, "+0000")])
def test_the_zone_of_the_rollovers_is_that_of_the_lines(live: Path, zone: dict[str, Any], offset: str) -> None:
    install(format="%(asctime)s %(message)s", datefmt="%z", **zone)
    set_up(application(), live)
    own.warning("here")
    assert f"{offset} here\n" in live.read_text()


def test_a_setup_of_the_applications_own_is_left_alone_and_a_warning_says_so(live: Path) -> None:
    def set_up_otherwise(**_: Any) -> None:
        logging.getLogger().addHandler(logging.FileHandler(live))

    signals.setup_logging.connect(set_up_otherwise)
    install()
    set_up(application(), live)
    signals.celeryd_after_setup.send(sender="w1@localhost", instance=None, conf=None)
    assert live.read_text().startswith("rollsafe.celery.install has no effect")
    assert live.read_text().count("\n") == 1


def test_a_soft_time_limit_waits_until_the_line_is_written(live: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(format="%(message)s")
    app = application()
    set_up(app, live)
    monkeypatch.setattr(time_limits, "_limit", None)
    before = signal.signal(signal.SIGUSR1, soft_timeout_sighandler)
    factory = logging.getLogRecordFactory()
    try:
        app.tasks["order"].apply(args=["first"])
        with pytest.raises(SoftTimeLimitExceeded):
            own.info("%s", Interrupting())
        own.info("after it")
        with monkeypatch.context() as patch:
            patch.setattr(multiprocessing, "current_process", Interrupting)
            # `logging` swallows what is raised here.
            with pytest.raises(SoftTimeLimitExceeded):
                own.info("not logged")
        with pytest.raises(SoftTimeLimitExceeded):
            os.kill(os.getpid(), signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
        logging.setLogRecordFactory(factory)
    assert [line for line in live.read_text().splitlines() if "Task" not in line] == [
        "first",
        "by the logger of tasks",
        "interrupted",
        "after it",
    ]


class Interrupting:
    """What is logged while the time limit comes."""

    @property
    def name(self) -> str:
        """The name of the process, where this stands for it."""
        return str(self)

    def __str__(self) -> str:
        os.kill(os.getpid(), signal.SIGUSR1)
        return "interrupted"


def test_the_filter_rejects_no_record() -> None:
    record = logging.makeLogRecord({})
    assert TaskFields().filter(record)
    assert (vars(record)["task_name"], vars(record)["task_id"]) == ("-", "-")
