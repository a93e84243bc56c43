"""Maintenance where no process lives long: cron jobs, management commands, workers that are recycled all the time."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from rollsafe._backups import quiet
from rollsafe._backups.file_names import fingerprint_of
from tests.support.logs import read_archive
from tests.support.needs import needs_proc
from tests.support.servers import run_program

PROGRAM = """
import logging, sys, time
from rollsafe import SafeTimedRotatingFileHandler
from rollsafe._backups import maintenance_thread
from tests.support.constants import set_constants

# However busy the machine is.
set_constants(maintenance_thread, _EXIT_BEGIN_S=60.0, _EXIT_END_S=60.0)
handler = SafeTimedRotatingFileHandler(sys.argv[1], when="S", utc=True, **eval(sys.argv[2]))
logging.getLogger().addHandler(handler)
logging.warning("one")
until = int(time.time()) + 1.05
while time.time() < until:
    time.sleep(0.01)
logging.warning("two")
"""


def made(live: Path) -> list[str]:
    """The backups."""
    return sorted(path.name for path in live.parent.glob("app.log.*"))


@pytest.mark.parametrize("turns", [3])
def test_processes_that_end_at_once_remove_what_exceeds_the_limits(live: Path, turns: int) -> None:
    for _ in range(turns):
        run_program(PROGRAM, live, "dict(backupCount=1)")
    assert len(made(live)) == 1


def test_a_process_that_ends_at_once_compresses_what_it_has_rolled(live: Path) -> None:
    run_program(PROGRAM, live, "dict(compress='gz')")
    (name,) = made(live)
    assert read_archive(live.with_name(name)) == b"one\n"


@pytest.mark.parametrize("way", ["fork", "spawn", "forkserver"])
def test_processes_of_multiprocessing_that_end_at_once_compress_what_they_have_rolled(
    live: Path, tmp_path: Path, way: str
) -> None:
    """They end by os._exit, as far as they are forked."""
    program = tmp_path / "program.py"
    program.write_text(
        """
import logging, multiprocessing, sys
from rollsafe import SafeTimedRotatingFileHandler
from rollsafe._backups import maintenance_thread
from tests.support.constants import set_constants

def work():
    set_constants(maintenance_thread, _EXIT_BEGIN_S=60.0, _EXIT_END_S=60.0)
    handler = SafeTimedRotatingFileHandler(sys.argv[1], when="H", compress="gz")
    logging.getLogger().addHandler(handler)
    logging.warning("one")
    handler.doRollover()

if __name__ == "__main__":
    process = multiprocessing.get_context(sys.argv[2]).Process(target=work)
    process.start()
    process.join()
    sys.exit(process.exitcode)
"""
    )
    run_program(
        "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')",
        program,
        live,
        way,
    )
    (name,) = made(live)
    assert read_archive(live.with_name(name)) == b"one\n"


def test_an_exit_waits_for_a_compression_that_has_begun_as_far_as_it_ends_soon(live: Path, tmp_path: Path) -> None:
    program = """
import logging, pathlib, sys, time
from rollsafe import SafeTimedRotatingFileHandler
from rollsafe._backups import maintenance_thread
from tests.support.constants import set_constants

set_constants(maintenance_thread, _EXIT_END_S=60.0)

def compress(source, target):
    pathlib.Path(sys.argv[2]).touch()
    time.sleep(0.5)
    pathlib.Path(target).write_bytes(pathlib.Path(source).read_bytes())

handler = SafeTimedRotatingFileHandler(sys.argv[1], when="H", compress=compress)
logging.getLogger().addHandler(handler)
logging.warning("first")
handler.doRollover()
while not pathlib.Path(sys.argv[2]).exists():
    time.sleep(0.01)
"""
    run_program(program, live, tmp_path / "begun")
    assert [path.read_text() for path in live.parent.glob("*.archive")] == ["first\n"]


def test_an_exit_waits_for_nothing_where_another_process_does_the_work(live: Path) -> None:
    program = """
import logging, os, sys, time
from rollsafe import FileLock, SafeTimedRotatingFileHandler
from rollsafe._backups import maintenance_thread
from rollsafe._files.lock_handles import MAINTENANCE_BYTE
from tests.support.constants import set_constants

lock = FileLock(os.path.join(os.path.dirname(sys.argv[1]), ".app.log.lock"), byte=MAINTENANCE_BYTE)
ready, go = os.pipe()
child = os.fork()
if not child:
    lock.acquire()
    os.write(go, b"x")
    time.sleep(60)
    os._exit(0)
os.read(ready, 1)
handler = SafeTimedRotatingFileHandler(sys.argv[1], when="H", compress="gz")
logging.getLogger().addHandler(handler)
logging.warning("first")
handler.doRollover()
while not handler._live.maintenance.is_waiting_for_election:
    time.sleep(0.01)
waits = []
set_constants(maintenance_thread, sleep=waits.append)
maintenance_thread._finish()
os.kill(child, 9)
os._exit(0 if not waits else 1)
"""
    run_program(program, live)


def seconds_until_quiet(source: Path) -> float:
    """How long a process that sees a file for the first time waits until the file is quiet."""
    return quiet.QuietFiles().seconds_until_quiet(str(source), fingerprint_of(source.lstat()), 2.0)


@pytest.mark.parametrize("old", [False, True])
def test_what_was_changed_minutes_ago_is_quiet_at_first_sight(
    source: Path, monkeypatch: pytest.MonkeyPatch, old: bool
) -> None:
    # Nobody can set a ctime, so the clock goes.
    now = time.time() + (quiet._OLD_S + 1 if old else quiet._OLD_S - 60)
    monkeypatch.setattr(time, "time", lambda: now)
    wait = seconds_until_quiet(source)
    assert (wait <= 0) is old


def test_where_the_clock_was_seen_being_set_nothing_is_quiet_at_first_sight(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, now = quiet.QuietFiles(), time.time() + quiet._OLD_S + 1
    monkeypatch.setattr(time, "time", lambda: now)
    assert files.seconds_until_quiet(str(source), fingerprint_of(source.lstat()), 2.0) == 2.0


def test_a_change_of_the_future_is_not_quiet(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert seconds_until_quiet(source) == pytest.approx(2.0)


def test_a_process_that_ends_at_once_notifies_of_a_rolled_file_of_an_earlier_run(live: Path, tmp_path: Path) -> None:
    program = """
import logging, pathlib, sys, time
from rollsafe import SafeTimedRotatingFileHandler
from rollsafe._backups import maintenance_thread, quiet
from tests.support.constants import set_constants

set_constants(quiet, _OLD_S=-1.0)
set_constants(maintenance_thread, _EXIT_BEGIN_S=60.0, _EXIT_END_S=60.0)

def tell(path, interval):
    pathlib.Path(sys.argv[2]).write_text(path)

logging.getLogger().addHandler(SafeTimedRotatingFileHandler(sys.argv[1], when="H", on_rollover=tell))
logging.warning("first")
"""
    rolled = live.with_name("app.log.2020-01-01_00.rolled")
    rolled.write_text("of an earlier run\n")
    run_program(program, live, tmp_path / "notified")
    assert (tmp_path / "notified").read_text() == str(rolled.with_suffix(""))
    assert not rolled.exists()


# The thread.


def test_a_handle_error_that_raises_does_not_end_the_maintenance(live: Path, tmp_path: Path) -> None:
    program = """
import logging, sys, time, threading
from rollsafe import SafeTimedRotatingFileHandler
from rollsafe._backups import maintenance_pass
from tests.support.constants import set_constants

set_constants(maintenance_pass, QUIET_S=0.1, UNUSED_S=0.15)
notified = []

class Strict(SafeTimedRotatingFileHandler):
    def handleError(self, record):
        raise

class Timeout(BaseException):
    "As that of gevent."

def tell(path, interval):
    notified.append(path)
    if len(notified) <= 2:
        raise Timeout("no network") if len(notified) == 1 else ConnectionError("no network")

handler = Strict(sys.argv[1], when="H", on_rollover=tell)
logging.getLogger().addHandler(handler)
for turn in range(4):
    logging.warning("a line")
    handler.doRollover()
    deadline = time.monotonic() + 30
    while len(notified) <= turn and time.monotonic() < deadline:
        time.sleep(0.01)
sys.exit(0 if len(notified) >= 4 else f"notified {notified}")
"""
    run_program(program, live)


@pytest.mark.parametrize("started", [False, True])
def test_an_exception_of_a_signal_handler_where_the_thread_is_started_does_not_end_the_maintenance(
    live: Path, started: bool
) -> None:
    program = f"""
import logging, os, sys, time
from rollsafe import SafeTimedRotatingFileHandler
from rollsafe import _background
from tests.support.constants import set_constants

start = _background.start_thread

def interrupted(*arguments):
    set_constants(_background, start_thread=start)
    if {started}:
        start(*arguments)
    raise KeyboardInterrupt

handler = SafeTimedRotatingFileHandler(sys.argv[1], when="H", backupCount=1)
set_constants(_background, start_thread=interrupted)
try:
    handler._live.maintenance.wake()
except KeyboardInterrupt:
    pass
else:
    raise AssertionError
for _ in range(3):
    handler.handle(logging.makeLogRecord({{"msg": "a line", "created": time.time()}}))
    handler.doRollover()
deadline = time.monotonic() + 60
while len(os.listdir(os.path.dirname(sys.argv[1]))) > 3 and time.monotonic() < deadline:
    time.sleep(0.01)
assert len(os.listdir(os.path.dirname(sys.argv[1]))) == 3, "live and lock file, and one backup"
"""
    run_program(program, live)


@needs_proc
def test_one_thread_serves_all_handlers_of_a_process_with_two_descriptors_each(tmp_path: Path) -> None:
    program = """
import logging, os, sys, time
from rollsafe import SafeTimedRotatingFileHandler
from rollsafe._backups import maintenance_pass
from tests.support.constants import set_constants

def descriptors():
    return len(os.listdir("/proc/self/fd"))

def threads():
    return len(os.listdir("/proc/self/task"))

COUNT = 60
before = descriptors(), threads()
handlers = [
    SafeTimedRotatingFileHandler(f"{sys.argv[1]}/{number}.log", when="H", backupCount=1, compress="gz")
    for number in range(COUNT)
]
most = 0, 0
for turn in range(3):
    for handler in handlers:
        handler.handle(logging.makeLogRecord({"msg": "a line", "created": time.time()}))
        handler.doRollover()
        most = max(most[0], descriptors()), max(most[1], threads())
print(before, most)
assert most[1] - before[1] <= 1, most
# Live and lock file of each handler, and a few more at a time for an archive.
assert most[0] - before[0] <= 2 * COUNT + 12, (before, most)
os._exit(0)
"""
    run_program(program, tmp_path)


@needs_proc
def test_a_silent_process_lets_go_of_a_file_that_was_rolled_and_removed(live: Path, tmp_path: Path) -> None:
    program = """
import logging, os, pathlib, sys, time
from rollsafe import SafeTimedRotatingFileHandler
from rollsafe._backups import watch
from rollsafe._live import late
from tests.support.constants import set_constants
from tests.support.descriptors import open_paths

set_constants(watch, _SHORTEST_PAUSE_S=0.05)
set_constants(late, KEPT_S=0.05)
silent = SafeTimedRotatingFileHandler(sys.argv[1], when="S", backupCount=1)
never = SafeTimedRotatingFileHandler(sys.argv[1] + "2", when="S", backupCount=1)
silent.handle(logging.makeLogRecord({"msg": "boot", "created": time.time()}))

def opened():
    return [path for path in open_paths() if path.startswith(sys.argv[1])]

assert len(opened()) == 2, opened()
for path in opened():
    os.remove(path)
deadline = time.monotonic() + 50
while (left := opened()) and time.monotonic() < deadline:
    time.sleep(0.05)
silent.handle(logging.makeLogRecord({"msg": "again", "created": time.time()}))
text = pathlib.Path(sys.argv[1]).read_text()
assert (left, text) == ([], "again\\n"), (left, text)
os._exit(0)
"""
    run_program(program, live)


def test_a_handler_that_is_dropped_is_not_kept_by_the_thread(live: Path) -> None:
    program = """
import gc, logging, os, sys, time, weakref
from rollsafe import SafeTimedRotatingFileHandler

handler = SafeTimedRotatingFileHandler(sys.argv[1], when="H", backupCount=1)
handler.handle(logging.makeLogRecord({"msg": "a line", "created": time.time()}))
while not handler._live.maintenance.is_idle:
    time.sleep(0.01)
dropped = weakref.ref(handler)
del handler
deadline = time.monotonic() + 30
while dropped() is not None and time.monotonic() < deadline:
    gc.collect()
    time.sleep(0.01)
os._exit(0 if dropped() is None else 1)
"""
    run_program(program, live)


def test_no_idle_thread_lives_while_a_process_forks_and_one_goes_on_afterwards(live: Path) -> None:
    """A child lacks it, and what it held; Python 3.12 and later warn of each fork of a process with threads."""
    program = """
import os, sys, threading, time, warnings

if sys.version_info >= (3, 12):
    # 3.12 counts the threads of the system, and a thread that was joined may still be about to end as one of these.
    # Early ones of 3.13 and later count after the hooks of the parent, when there is a thread again (gh-137109).
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
threads = []
# Called after those of the package, which are registered later (os.register_at_fork).
os.register_at_fork(before=lambda: threads.append(threading.active_count()))
import logging
from rollsafe import SafeTimedRotatingFileHandler
from rollsafe._backups import maintenance_thread
from tests.support.constants import set_constants

set_constants(maintenance_thread, _END_AT_FORK_S=30.0)
handler = SafeTimedRotatingFileHandler(sys.argv[1], when="H", backupCount=1)
logging.getLogger().addHandler(handler)
logging.warning("a line")
while not handler._live.maintenance.is_idle:
    time.sleep(0.01)
assert threading.active_count() == 2
for _ in range(3):
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
assert threads == [1, 1, 1], threads
for _ in range(2):
    handler.doRollover()
    logging.warning("a line")
deadline = time.monotonic() + 60
while len(os.listdir(os.path.dirname(sys.argv[1]))) > 3 and time.monotonic() < deadline:
    time.sleep(0.01)
assert len(os.listdir(os.path.dirname(sys.argv[1]))) == 3, "live and lock file, and one backup"
os._exit(0)
"""
    run_program(program, live)
