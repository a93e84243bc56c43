"""rollsafe.flask on the test client: where lines go, what fields they have, which ids are taken over."""

from __future__ import annotations

import logging
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

flask = pytest.importorskip("flask", reason="flask is not installed: pip install rollsafe[flask]")

from flask import Flask  # noqa: E402  # only after the question whether it is there
from flask.logging import default_handler  # noqa: E402

from rollsafe import ConfigurationError, LineFormatter, SafeTimedRotatingFileHandler  # noqa: E402
from rollsafe.errors import LogFileError  # noqa: E402
from rollsafe.flask import RequestFields, init_app, request_id  # noqa: E402

FORMAT = (
    "%(levelname)s %(request_id)s %(request_method)s %(request_path)s %(request_endpoint)s %(remote_addr)s %(message)s"
)


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """Undo what init_app does to the root logger and Flask to the application's."""
    root, own = logging.getLogger(), logging.getLogger("shop")
    level, before = root.level, root.handlers[:]
    yield
    for handler in set(root.handlers) - set(before):
        handler.close()
    root.handlers[:] = before
    root.setLevel(level)
    own.handlers.clear()
    own.setLevel(logging.NOTSET)


def shop(**config: Any) -> Flask:
    """An application with these keys of its configuration, and init_app called."""
    app = Flask("shop")
    app.config.from_mapping(config)

    @app.get("/orders/<int:number>")
    def order(number: int) -> str:
        app.logger.info("order %d", number)
        return request_id()

    @app.get("/boom")
    def boom() -> str:
        raise ZeroDivisionError("no stock\nforged line")

    init_app(app)
    return app


def test_the_applications_and_its_libraries_lines_go_into_the_file(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "app.log"
    app = shop(ROLLSAFE_FILENAME=path, ROLLSAFE_FORMAT="%(name)s %(message)s")
    app.test_client().get("/orders/17")
    logging.getLogger("shop.models").info("from a module")
    logging.getLogger("werkzeug").info("from the development server")
    assert path.read_text().splitlines() == [
        "shop order 17",
        "shop.models from a module",
        "werkzeug from the development server",
    ]


def test_request_fields_are_on_every_line_and_have_a_default_outside_requests(tmp_path: Path) -> None:
    app = shop(ROLLSAFE_FILENAME=tmp_path / "app.log", ROLLSAFE_FORMAT=FORMAT)
    app.logger.warning("outside")
    app.test_client().get("/orders/17", headers={"X-Request-ID": "abc-1"})
    assert (tmp_path / "app.log").read_text().splitlines() == [
        "WARNING - - - - - outside",
        "INFO abc-1 GET /orders/17 order 127.0.0.1 order 17",
    ]


def test_the_ids_of_a_trace_are_on_each_line_of_its_request(tmp_path: Path) -> None:
    app = shop(ROLLSAFE_FILENAME=tmp_path / "app.log", ROLLSAFE_FORMAT="%(trace_id)s %(parent_id)s %(message)s")
    client = app.test_client()
    for given in ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-no-trace-01", ""):
        client.get("/orders/17", headers={"traceparent": given})
    app.logger.warning("outside")
    assert (tmp_path / "app.log").read_text().splitlines() == [
        "4bf92f3577b34da6a3ce929d0e0e4736 00f067aa0ba902b7 order 17",
        "- - order 17",
        "- - order 17",
        "- - outside",
    ]


@pytest.mark.parametrize(
    ("settings", "offset"), [({"ROLLSAFE_TZ": "Asia/Kolkata"}, "+0530"), ({"ROLLSAFE_UTC": True}, "+0000")]
)
def test_the_zone_of_the_rollovers_is_that_of_the_lines(tmp_path: Path, settings: dict[str, Any], offset: str) -> None:
    app = shop(ROLLSAFE_FILENAME=tmp_path / "app.log", ROLLSAFE_FORMAT="%(asctime)s", ROLLSAFE_DATEFMT="%z", **settings)
    app.logger.warning("here")
    assert (tmp_path / "app.log").read_text() == f"{offset}\n"


def test_the_header_of_the_id_may_be_another_one() -> None:
    app = shop(ROLLSAFE_REQUEST_ID_HEADER="X-Correlation-ID")
    answer = app.test_client().get("/orders/1", headers={"X-Correlation-ID": "abc-1", "X-Request-ID": "other"})
    assert (answer.text, answer.headers["X-Correlation-ID"]) == ("abc-1", "abc-1")
    assert "X-Request-ID" not in answer.headers


@pytest.mark.parametrize("header", ["", "X Request", "X\r\nForged", 7])
def test_a_header_that_is_none_is_refused_at_once(header: object) -> None:
    with pytest.raises(ConfigurationError, match="is no name of a header"):
        shop(ROLLSAFE_REQUEST_ID_HEADER=header)


def test_what_a_record_has_already_is_kept(tmp_path: Path) -> None:
    app = shop(ROLLSAFE_FILENAME=tmp_path / "app.log", ROLLSAFE_FORMAT="%(request_id)s %(message)s")
    app.logger.info("from a job", extra={"request_id": "job-9"})
    assert (tmp_path / "app.log").read_text() == "job-9 from a job\n"


@pytest.mark.parametrize("given", ["a", "x" * 128, "3f2a-11:22@host/1=~+._", "00-4bf92f3577b34da6a3ce929d0e0e4736-01"])
def test_an_acceptable_id_is_taken_over(given: str) -> None:
    answer = shop().test_client().get("/orders/1", headers={"X-Request-ID": given})
    assert answer.headers.getlist("X-Request-ID") == [given]
    assert answer.text == given


@pytest.mark.parametrize("given", ["", "x" * 129, "two words", 'quo"te', "a,b", "<b>", "na\u00efve", "a\tb", "a%0ab"])
def test_an_unacceptable_id_is_replaced(given: str) -> None:
    answer = shop().test_client().get("/orders/1", headers={"X-Request-ID": given})
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-ID"])
    assert answer.text == answer.headers["X-Request-ID"]


def test_each_request_without_an_id_is_given_one_of_its_own() -> None:
    client = shop().test_client()
    assert len({client.get("/orders/1").headers["X-Request-ID"] for _ in range(10)}) == 10
    assert request_id() == "-"


def test_an_exception_is_one_line_with_its_id_and_so_has_the_answer(tmp_path: Path) -> None:
    app = shop(ROLLSAFE_FILENAME=tmp_path / "app.log", ROLLSAFE_FORMAT="%(request_id)s %(message)s")
    answer = app.test_client().get("/boom", headers={"X-Request-ID": "abc-1"})
    (line,) = (tmp_path / "app.log").read_text().splitlines()
    assert (answer.status_code, answer.headers["X-Request-ID"]) == (500, "abc-1")
    assert line.startswith("abc-1 Exception on /boom [GET]\\nTraceback")
    assert line.endswith("ZeroDivisionError: no stock\\nforged line")


def test_a_forged_path_makes_one_line(tmp_path: Path) -> None:
    app = shop(ROLLSAFE_FILENAME=tmp_path / "app.log", ROLLSAFE_FORMAT="%(request_path)s %(message)s")

    @app.errorhandler(404)
    def missing(error: Exception) -> tuple[str, int]:
        app.logger.info("missing")
        return "missing", 404

    app.test_client().get("/%0aforged")
    assert (tmp_path / "app.log").read_text() == "/\\nforged missing\n"


def root_handler(path: Path) -> SafeTimedRotatingFileHandler:
    """A handler on the root logger, as the gunicorn preset gives it one."""
    handler = SafeTimedRotatingFileHandler(path, when="S")
    handler.setFormatter(LineFormatter(FORMAT))
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel("INFO")
    return handler


def test_a_handler_that_is_there_gets_the_fields_and_no_second_one_is_added(tmp_path: Path) -> None:
    root_handler(tmp_path / "app.log")
    app = shop(ROLLSAFE_FILENAME=tmp_path / "app.log")
    app.test_client().get("/orders/17", headers={"X-Request-ID": "abc-1"})
    assert (tmp_path / "app.log").read_text() == "INFO abc-1 GET /orders/17 order 127.0.0.1 order 17\n"


def test_a_second_file_is_not_used_and_that_is_said(tmp_path: Path) -> None:
    root_handler(tmp_path / "app.log")
    with pytest.warns(RuntimeWarning, match=r"other\.log' is not used: .*app\.log'; leave one"):
        app = shop(ROLLSAFE_FILENAME=tmp_path / "other.log")
    app.test_client().get("/orders/17")
    assert len((tmp_path / "app.log").read_text().splitlines()) == 1
    assert not (tmp_path / "other.log").exists()


def messages(path: Path) -> list[str]:
    """The lines of a file whose format is the message."""
    return path.read_text().splitlines()


def named(name: str, path: Path, **config: Any) -> Flask:
    """An application of that name whose file has the messages only, and whose request logs by a library."""
    # With a path, as there is no module of that name, for which old versions of Flask look.
    app = Flask(name, root_path=str(path.parent))
    app.config.from_mapping({"ROLLSAFE_FILENAME": path, "ROLLSAFE_FORMAT": "%(message)s"} | config)

    @app.get("/")
    def page() -> str:
        app.logger.info("%s of the application", app.config["ROLLSAFE_FILENAME"].stem)
        logging.getLogger("a.library").info("%s of a library", app.config["ROLLSAFE_FILENAME"].stem)
        return ""

    init_app(app)
    return app


def test_each_of_several_applications_has_its_own_file(tmp_path: Path) -> None:
    first = named("first", tmp_path / "first.log")
    second = named("second", tmp_path / "second.log")
    for app in (first, second):
        app.test_client().get("/")
        app.logger.info("outside, %s", app.name)
        logging.getLogger(f"{app.name}.models").info("below, %s", app.name)
        with app.app_context():
            logging.getLogger("a.job").info("job, %s", app.name)
    with second.app_context():
        first.logger.info("called from the other")
    logging.getLogger("a.library").info("nobody's")
    for name, more in (("first", "called from the other"), ("second", "nobody's")):
        assert messages(tmp_path / f"{name}.log") == [
            f"{name} of the application",
            f"{name} of a library",
            f"outside, {name}",
            f"below, {name}",
            f"job, {name}",
            more,
        ]


def test_the_application_whose_name_is_nearest_gets_a_line_of_a_module(tmp_path: Path) -> None:
    apps = [named(name, tmp_path / f"{name}.log") for name in ("shop.admin", "shop", "other")]
    logging.getLogger("shop.admin.models").info("admin")
    logging.getLogger("shop.models").info("shop")
    assert [messages(tmp_path / f"{app.name}.log") for app in apps] == [["admin"], ["shop"], []]


def test_applications_of_one_name_are_told_apart_by_their_requests_and_that_is_said(tmp_path: Path) -> None:
    first = named("shop", tmp_path / "first.log")
    with pytest.warns(RuntimeWarning, match=r"another application is named 'shop'.*first\.log'.*second\.log'; give"):
        second = named("shop", tmp_path / "second.log")
    for app in (first, second):
        app.test_client().get("/")
    first.logger.info("outside")
    assert messages(tmp_path / "first.log") == ["first of the application", "first of a library"]
    assert messages(tmp_path / "second.log") == ["second of the application", "second of a library", "outside"]


def test_applications_of_one_file_have_each_line_once(tmp_path: Path) -> None:
    apps = [named(name, tmp_path / "app.log") for name in ("first", "second", "second")]
    for app in apps:
        app.test_client().get("/")
    assert messages(tmp_path / "app.log") == ["app of the application", "app of a library"] * 3
    assert sum(isinstance(each, SafeTimedRotatingFileHandler) for each in logging.getLogger().handlers) == 1


def test_applications_of_one_file_with_other_settings_are_named(tmp_path: Path) -> None:
    first = named("first", tmp_path / "app.log")
    with pytest.warns(RuntimeWarning, match=r"app\.log' is the file of 'first', too, .*'second' are used"):
        named("second", tmp_path / "app.log", ROLLSAFE_WHEN="h")
    first.logger.info("line")
    assert messages(tmp_path / "app.log") == ["line"]


def test_an_application_that_is_gone_leaves_its_file(tmp_path: Path) -> None:
    for number in range(5):
        named("shop", tmp_path / f"{number}.log").logger.info("line %d", number)
    handlers = [each for each in logging.getLogger().handlers if isinstance(each, SafeTimedRotatingFileHandler)]
    assert [Path(each.baseFilename).name for each in handlers] == ["4.log"]
    assert [messages(tmp_path / f"{number}.log") for number in range(5)] == [[f"line {n}"] for n in range(5)]


def test_the_lowest_level_of_several_applications_counts(tmp_path: Path) -> None:
    first = named("first", tmp_path / "first.log", ROLLSAFE_LEVEL="DEBUG")
    second = named("second", tmp_path / "second.log", ROLLSAFE_LEVEL="ERROR")
    first.logger.debug("detail")
    assert messages(tmp_path / "first.log") == ["detail"]
    assert second.logger.isEnabledFor(logging.DEBUG)


def test_a_second_init_app_does_nothing_and_says_so_of_a_change(tmp_path: Path) -> None:
    app = named("shop", tmp_path / "app.log")
    init_app(app)
    app.config["ROLLSAFE_FILENAME"] = tmp_path / "other.log"
    with pytest.warns(RuntimeWarning, match=r"has changed since init_app was called for 'shop'"):
        init_app(app)
    app.logger.info("line")
    assert messages(tmp_path / "app.log") == ["line"]
    assert not (tmp_path / "other.log").exists()


def test_flasks_own_handler_does_not_repeat_the_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app = Flask("shop")
    # As Flask does itself where no other handler is; here pytest has one.
    app.logger.addHandler(default_handler)
    app.config["ROLLSAFE_FILENAME"] = tmp_path / "app.log"
    init_app(app)
    app.logger.warning("after")
    assert capsys.readouterr().err == ""
    assert (tmp_path / "app.log").read_text().endswith("shop: after\n")


def test_without_a_file_name_no_handler_is_added_and_the_level_stays() -> None:
    before = logging.getLogger().handlers[:], logging.getLogger().level
    shop()
    assert (logging.getLogger().handlers, logging.getLogger().level) == before


def test_every_parameter_of_the_handler_has_its_key(tmp_path: Path) -> None:
    keys = {"WHEN": "h", "INTERVAL": 2, "BACKUP_COUNT": 3, "UTC": True, "LEVEL": "ERROR", "DATEFMT": "%H"}
    shop(ROLLSAFE_FILENAME=tmp_path / "app.log", **{f"ROLLSAFE_{key}": value for key, value in keys.items()})
    (handler,) = (h for h in logging.getLogger().handlers if isinstance(h, SafeTimedRotatingFileHandler))
    assert (handler.when, handler.interval, handler.backupCount, handler.utc) == ("H", 7200, 3, True)
    assert (logging.getLogger().level, handler.encoding) == (logging.ERROR, "utf-8")
    assert handler.formatter is not None
    assert handler.formatter.datefmt == "%H"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"ROLLSAFE_BACKUPCOUNT": 3}, ["ROLLSAFE_BACKUPCOUNT", "ROLLSAFE_BACKUP_COUNT"]),
        ({"ROLLSAFE_FILENAME": 3}, ["ROLLSAFE_FILENAME=3", "logs/app.log"]),
        ({"ROLLSAFE_WHEN": "fortnight"}, ["app.config", "when='fortnight'"]),
        ({"ROLLSAFE_FORMAT": "{message}"}, ["fmt='{message}'"]),
        ({"ROLLSAFE_DEFAULTS": "-"}, ["defaults='-'"]),
        ({"ROLLSAFE_LEVEL": "LOUD"}, ["ROLLSAFE_LEVEL='LOUD'", "'INFO'"]),
    ],
)
def test_a_wrong_key_or_value_fails_with_a_sentence(tmp_path: Path, config: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        shop(**{"ROLLSAFE_FILENAME": tmp_path / "app.log"} | config)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_defaults_fill_fields_that_records_lack_beside_those_of_the_request(tmp_path: Path) -> None:
    config = {"FORMAT": "%(request_id)s %(trace)s %(message)s", "DEFAULTS": {"trace": "none"}}
    app = shop(ROLLSAFE_FILENAME=tmp_path / "app.log", **{f"ROLLSAFE_{key}": value for key, value in config.items()})
    app.logger.warning("hello")
    assert (tmp_path / "app.log").read_text() == "- none hello\n"


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LogFileError, match=r"its directory cannot be made: Not a directory; make it"):
        shop(ROLLSAFE_FILENAME=tmp_path / "file" / "logs" / "app.log")


def test_colours_of_the_development_server_do_not_reach_the_file(tmp_path: Path) -> None:
    shop(ROLLSAFE_FILENAME=tmp_path / "app.log", ROLLSAFE_FORMAT="%(message)s")
    logging.getLogger("werkzeug").info('%s - "%s"', "127.0.0.1", "\x1b[33mGET / HTTP/1.1\x1b[0m")
    assert (tmp_path / "app.log").read_text() == '127.0.0.1 - "GET / HTTP/1.1"\n'


def test_the_filter_serves_a_handler_of_any_kind() -> None:
    record = logging.makeLogRecord({"msg": "hello"})
    assert RequestFields().filter(record)
    assert record.__dict__["request_id"] == record.__dict__["remote_addr"] == "-"


# Settings that uWSGI's `env =` has set too late.


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable of the environment that Python has not read."""
    unseen = {b"SHOP_ROLLSAFE_FILENAME": b"logs/app.log", b"OTHER": b"1"}
    monkeypatch.setattr("rollsafe.flask.unseen_variables", lambda: unseen)


def test_settings_that_came_too_late_are_named_with_the_remedy(late: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uwsgi", types.ModuleType("uwsgi"))
    with pytest.warns(
        RuntimeWarning, match=r"^SHOP_ROLLSAFE_FILENAME came .* call rollsafe\.uwsgi\.install\(\) before"
    ):
        shop()


def test_outside_uwsgi_nothing_is_said_of_them(late: None) -> None:
    shop()


def test_nothing_is_said_where_a_file_is_opened(tmp_path: Path, late: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uwsgi", types.ModuleType("uwsgi"))
    shop(ROLLSAFE_FILENAME=str(tmp_path / "app.log"))
