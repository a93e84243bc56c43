"""set_up_logs on real uWSGI servers: each request and each message counted, in every way in which processes end."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Collection, Sequence
from pathlib import Path

import pytest

from rollsafe._uwsgi.pipes import SEND_TIMEOUT_S
from tests.support.gunicorn_setup import suffix_of
from tests.support.oracle import audit
from tests.support.other_servers import NO_PYUWSGI, NO_UWSGI, PYUWSGI, UWSGI
from tests.support.servers import ROOT, Clients, backups, wait_until
from tests.support.uwsgi_logs import (
    WIRING,
    WORKERS,
    LoggingUwsgi,
    asked,
    is_running,
    lines_of,
    own_messages_in,
    requests_in,
)

needs_uwsgi = pytest.mark.skipif(UWSGI is None, reason=NO_UWSGI)
MULE = str(ROOT / "tests" / "support" / "uwsgi_preset_mule.py")
MULE_LINES = 100


@pytest.fixture(
    params=[
        pytest.param(PYUWSGI, id="pyuwsgi", marks=pytest.mark.skipif(PYUWSGI is None, reason=NO_PYUWSGI)),
        pytest.param(UWSGI, id="uwsgi", marks=[pytest.mark.slow, needs_uwsgi]),
    ]
)
def program(request: pytest.FixtureRequest) -> str:
    """uWSGI as a wheel, and as users build it."""
    return str(request.param)


def wait_for_rollovers(directory: Path, count: int = 2) -> None:
    """Wait for so many more backups of the access log."""
    live = directory / "logs" / "access.log"
    goal = len(backups(live)) + count
    wait_until(lambda: len(backups(live)) >= goal, f"{count} more rollovers")


def settle(directory: Path, clients: Clients, lost: int = 0) -> None:
    """Wait for the last requests: a worker logs one after its answer, and SIGTERM does not wait for that."""
    wanted = asked(clients.acknowledged, Clients.SIZES)

    def missing() -> list[str]:
        return sorted(wanted - requests_in(directory).keys())

    try:
        wait_until(lambda: len(missing()) <= lost, "the line of each request")
    except AssertionError:
        raise AssertionError(f"{lost} lines may be lost, but these are: {missing()}") from None


def all_answer(uwsgi: LoggingUwsgi, clients: Clients) -> bool:
    """Whether there are all workers, and each has answered."""
    workers = uwsgi.workers
    return len(workers) >= WORKERS and workers <= clients.answering


def stands_still(clients: Clients) -> bool:
    """Whether no request is answered for a moment."""
    before = clients.answered
    time.sleep(0.3)
    return clients.answered == before


def check(directory: Path, clients: Clients, kills: int = 0, mule: Collection[int] = ()) -> None:
    """Each request that was answered has its line, each message its own, and so has each line of the application.

    A worker that is killed may have answered a request and not logged it yet.
    """
    wanted = asked(clients.acknowledged, Clients.SIZES)
    found = requests_in(directory)
    assert {request for request, count in found.items() if count > 1} == set()
    assert len(wanted - found.keys()) <= kills
    logged = {**clients.acknowledged, **({"mule": set(mule)} if mule else {})}
    said = {(stream, number) for stream, numbers in logged.items() for number in numbers if number % 5 == 0}
    messages = own_messages_in(directory)
    assert {message for message, count in messages.items() if count > 1} == set()
    assert said - messages.keys() == set()
    report = audit(directory / "logs" / "app.log", logged, suffix_of, kills=kills)
    assert report.flawless, report


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        pytest.param(["--lazy-apps"], marks=pytest.mark.slow),
        pytest.param(["--enable-threads", "--threads", "2"], marks=pytest.mark.slow),
        pytest.param(["--max-requests", "50", "--min-worker-lifetime", "1"], marks=pytest.mark.slow),
        pytest.param(["--mule=" + MULE, "--mule"], marks=pytest.mark.slow),
        pytest.param(["--log-req-encoder", "prefix "], marks=pytest.mark.slow),
    ],
    ids=lambda arguments: " ".join(argument.replace(str(ROOT), "") for argument in arguments) or "master",
)
def test_each_request_and_each_message_has_one_line(program: str, tmp_path: Path, arguments: Sequence[str]) -> None:
    with LoggingUwsgi(tmp_path, *arguments, program=program) as uwsgi:
        with Clients(uwsgi, action="own", pause=0.001) as clients:
            wait_for_rollovers(tmp_path)
            if "--max-requests" in arguments:
                wait_until(lambda: len(clients.answering) > WORKERS, "an answer from a further worker")
        settle(tmp_path, clients)
        assert clients.refused == []
        mule: set[int] = set()
        if MULE in str(arguments):
            wait_until((tmp_path / "mule-done").exists, "the mule's last line")
            mule = set(range(MULE_LINES))
    check(tmp_path, clients, mule=mule)
    # Nothing but what was said before Python could be asked goes where it went without these loggers.
    assert "own message" not in uwsgi.output
    assert "goodbye to uWSGI." in "\n".join(lines_of(tmp_path, "error.log"))


# pyuwsgi in a virtual environment starts again with the Python that the environment was made from.
@needs_uwsgi
@pytest.mark.slow
@pytest.mark.parametrize("lazy", [[], ["--lazy-apps"]], ids=["imported by the master", "lazy-apps"])
def test_reloads_lose_nothing(tmp_path: Path, lazy: list[str]) -> None:
    with LoggingUwsgi(tmp_path, *lazy, program=UWSGI) as uwsgi:
        with Clients(uwsgi, action="own", pause=0.001) as clients:
            for _ in range(3):
                uwsgi.wait_until_it_can_be_reloaded()
                before = uwsgi.workers
                uwsgi.signal(signal.SIGHUP)
                wait_until(lambda before=before: len(uwsgi.workers - before) >= WORKERS, "new workers")  # type: ignore[misc]
                # uWSGI does not end a worker that imports, and kills it after a while.
                wait_until(lambda: all_answer(uwsgi, clients), "an answer from each of them")
            wait_for_rollovers(tmp_path)
        kills = "\n".join(lines_of(tmp_path, "error.log")).count("NO MERCY")
        settle(tmp_path, clients, lost=kills)
        opened = [os.readlink(entry) for entry in Path(f"/proc/{uwsgi.arbiter}/fd").iterdir() if entry.is_symlink()]
    check(tmp_path, clients, kills=kills)
    # The live file, and that of the interval before; none of an earlier image of the master.
    assert len([path for path in opened if "/access.log" in path]) <= 2


@pytest.mark.slow
def test_killed_workers_lose_only_the_line_that_they_had_not_written(program: str, tmp_path: Path) -> None:
    with LoggingUwsgi(tmp_path, program=program) as uwsgi:
        with Clients(uwsgi, action="own", pause=0.001) as clients:
            for _ in range(5):
                killed = min(uwsgi.workers)
                os.kill(killed, signal.SIGKILL)
                wait_until(lambda killed=killed: killed not in uwsgi.workers, "the death of a worker")  # type: ignore[misc]
                wait_until(lambda: len(uwsgi.workers) >= WORKERS, "another worker in its place")
                clients.wait_for(more=50)
            wait_for_rollovers(tmp_path, 1)
        settle(tmp_path, clients, lost=5)
    check(tmp_path, clients, kills=5)


@pytest.mark.slow
def test_harakiri_loses_only_the_lines_of_the_workers_that_it_ends(program: str, tmp_path: Path) -> None:
    def ended() -> int:
        return "\n".join(lines_of(tmp_path, "error.log")).count("HARAKIRI ON WORKER")

    with LoggingUwsgi(tmp_path, "--harakiri", "3", program=program) as uwsgi:
        with Clients(uwsgi, action="own", pause=0.001) as clients:
            uwsgi.ask_in_vain("/sleep/60")
            wait_until(lambda: len(uwsgi.workers) >= WORKERS, "another worker in its place")
            clients.wait_for(more=50)
        wait_until(lambda: ended() > 0, "the message about it")
        # On a busy machine, it also ends one that has answered, and not logged that yet.
        settle(tmp_path, clients, lost=ended() - 1)
    check(tmp_path, clients, kills=ended() - 1)


@pytest.mark.slow
def test_workers_wait_for_a_master_that_is_held_up(program: str, tmp_path: Path) -> None:
    """The socket has room for some 280 lines, and uWSGI by itself would throw away the others."""
    with LoggingUwsgi(tmp_path, program=program) as uwsgi:
        with Clients(uwsgi, action="own") as clients:
            clients.wait_for(more=50)
            stopped = time.monotonic()
            uwsgi.signal(signal.SIGSTOP)
            try:
                wait_until(lambda: stands_still(clients), "workers that wait")
            finally:
                uwsgi.signal(signal.SIGCONT)
            # On a machine that stalls, each worker may have given up.
            lost = WORKERS * int((time.monotonic() - stopped) / SEND_TIMEOUT_S)
            clients.wait_for(more=50)
        settle(tmp_path, clients, lost)
    assert max(requests_in(tmp_path).values()) == 1


@pytest.mark.slow
def test_workers_log_what_a_killed_master_has_left(program: str, tmp_path: Path) -> None:
    """uWSGI ends them then. What the master has read and not written is lost, so here it has read nothing."""
    with LoggingUwsgi(tmp_path, program=program) as uwsgi:
        workers = uwsgi.workers
        wait_until(lambda: requests_in(tmp_path).total() == 1, "the line of the first request")
        uwsgi.signal(signal.SIGSTOP)
        with Clients(uwsgi, action="own") as clients:
            clients.wait_for(more=100)
        uwsgi.signal(signal.SIGKILL)
        wait_until(lambda: not any(map(is_running, workers)), "the end of the workers")
    wanted = asked(clients.acknowledged, Clients.SIZES)
    assert requests_in(tmp_path) == dict.fromkeys([*wanted, "/line/ready/0/60"], 1)


def test_a_request_with_any_byte_is_one_line(tmp_path: Path) -> None:
    if PYUWSGI is None:
        pytest.skip(NO_PYUWSGI)
    # Those that end the request line, or a header.
    raw = [byte for byte in range(256) if byte not in b"\r\n "]
    with LoggingUwsgi(tmp_path, program=PYUWSGI, workers=1, log_format="%(uri) %(uagent) %(var.PATH_INFO)") as uwsgi:
        for byte in raw:
            with socket.create_connection(("127.0.0.1", uwsgi.port), 120) as connection:
                head = b"GET /sleep/0/%03d-%c HTTP/1.0\r\nUser-Agent: a%cz\r\n\r\n" % (byte, byte, byte)
                connection.sendall(head)
                while connection.recv(4096):
                    pass
        uwsgi.get("/sleep/0?last%0a%1b%ff")
        wait_until(lambda: any("last" in line for line in requests_in(tmp_path)), "the last line")
    found = requests_in(tmp_path)
    assert all(line.isprintable() for line in found)
    for byte in raw:
        assert sum(line.startswith(f"/sleep/0/{byte:03d}-") for line in found) == 1, byte
    assert len(found) == len(raw) + 2


def test_observers_see_a_record_of_level_info_without_a_newline(program: str, tmp_path: Path) -> None:
    (tmp_path / "observed").touch()
    with LoggingUwsgi(tmp_path, program=program, workers=1) as uwsgi:
        uwsgi.get("/own/observed/0/60?100%25s")
        wait_until(lambda: "/own/observed" in (tmp_path / "observed").read_text(encoding="utf-8"), "the request's line")
    seen = [json.loads(line) for line in (tmp_path / "observed").read_text(encoding="utf-8").splitlines()]
    assert ["uwsgi.access", "INFO", "/own/observed/0/60?100%25s", []] in seen
    assert ["uwsgi.error", "INFO", "own message observed 0", []] in seen
    assert {level for _, level, _, _ in seen} == {"INFO"}


@pytest.mark.slow
def test_an_applications_own_dictconfig_does_not_silence_them(tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text(
        "import logging.config\nlogging.config.dictConfig({'version': 1})\n", encoding="utf-8"
    )
    with LoggingUwsgi(tmp_path, "--import", "late.py", program=PYUWSGI, workers=1) as uwsgi:
        uwsgi.get("/sleep/0")
        wait_until(lambda: requests_in(tmp_path)["/sleep/0"] == 1, "the request's line")


@pytest.mark.slow
def test_with_a_larger_buffer_uwsgi_cuts_no_line(tmp_path: Path) -> None:
    sizes = [100, 4000, 7000, 20000]
    with LoggingUwsgi(
        tmp_path, "--buffer-size", "65535", "--log-master-bufsize", "65536", program=PYUWSGI, workers=1
    ) as uwsgi:
        for size in sizes:
            uwsgi.get(f"/sleep/0?{'x' * size}")
        wanted = {f"/sleep/0?{'x' * size}" for size in sizes}
        wait_until(lambda: wanted <= requests_in(tmp_path).keys(), "the whole lines")


CONTRADICTIONS = [
    (["--logto", "own.log"], "logto = own.log gets only"),
    (["--log-maxsize", "1000000"], "log-maxsize does nothing"),
    (["--touch-logrotate", "touched"], "touch-logrotate does nothing"),
    (["--disable-logging"], "disable-logging leaves"),
    (["--log-master-req-stream"], "log-master-req-stream joins and cuts"),
    (["--log-req-encoder", "gzip"], "log-req-encoder = gzip makes bytes"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"), CONTRADICTIONS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_an_option_that_contradicts_gets_one_sentence(tmp_path: Path, arguments: list[str], words: str) -> None:
    with LoggingUwsgi(tmp_path, *arguments, program=PYUWSGI, workers=2) as uwsgi:
        uwsgi.get("/own/a/0/60")
    assert len([line for line in lines_of(tmp_path, "error.log") if words in line]) == 1
    assert len([line for line in lines_of(tmp_path, "app.log") if " a 0 " in line]) == 1


@pytest.mark.slow
def test_threaded_logger_ends_the_server_and_leaves_a_sentence(tmp_path: Path) -> None:
    LoggingUwsgi(tmp_path, "--threaded-logger", program=PYUWSGI, workers=2).run_to_its_end()
    assert len([line for line in lines_of(tmp_path, "error.log") if "threaded-logger ends uWSGI" in line]) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wiring", "words"),
    [
        (WIRING[:1], "access.log' gets nothing from uWSGI"),
        ((WIRING[0], "--req-logger=python", WIRING[2]), "req-logger = python does not write"),
        ((*WIRING[:2], "--logger=file:own.log"), "error.log' gets nothing from uWSGI"),
    ],
    ids=["neither", "no name", "a file"],
)
def test_loggers_that_are_not_named_get_one_sentence(tmp_path: Path, wiring: Sequence[str], words: str) -> None:
    with LoggingUwsgi(tmp_path, "--master", program=PYUWSGI, wiring=wiring, workers=2) as uwsgi:
        uwsgi.get("/own/a/0/60")
    assert len([line for line in lines_of(tmp_path, "error.log") if words in line]) == 1
