"""Several interpreters in one process, as mod_wsgi has them, exclude each other, and keep every line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.logs import suffix_of
from tests.support.oracle import audit
from tests.support.servers import server_environment
from tests.support.versions import PYTHONS, Missing, interpreter

# Three names for one module: nobody promises to keep it until `concurrent.interpreters` of Python 3.14.
SUB_INTERPRETERS = """
import os, sys, threading

try:
    import _interpreters as interpreters
    create = lambda: interpreters.create("legacy")
except ImportError:
    import _xxsubinterpreters as interpreters
    # Python 3.12 lets fewer extension modules into an isolated one; mod_wsgi's are not.
    create = (lambda: interpreters.create(isolated=False)) if sys.version_info >= (3, 9) else interpreters.create

path = sys.argv[1]

def run(made, code):
    failure = interpreters.run_string(made, f"path = {path!r}\\n" + code)
    assert failure is None, failure
"""

# What each answers goes to standard output by os.write: print() of two interpreters, which have a buffer each, mixes.
EXCLUDE = (
    SUB_INTERPRETERS
    + """
import subprocess
from rollsafe import FileLock

TRY = '''
import os
from rollsafe import FileLock
lock = FileLock(path)
os.write(1, b"%d" % lock.acquire(0))
lock.close()
'''

def another_process():
    os.write(1, subprocess.check_output([sys.executable, "-c", f"path = {path!r}\\n" + TRY]))

first, second = create(), create()
lock = FileLock(path)
lock.acquire()
for _ in range(2):
    run(first, TRY)
    another_process()
lock.release()
os.write(1, b" ")
run(first, "from rollsafe import FileLock\\nlock = FileLock(path)\\nassert lock.acquire(0)")
run(second, TRY)
os.write(1, b"%d" % lock.acquire(0))
lock.close()
another_process()
run(first, "assert lock.excludes()\\nlock.close()")
os.write(1, b" ")
run(second, TRY)
os.write(1, b"%d" % lock.acquire(0))
"""
)

FORK = (
    SUB_INTERPRETERS
    + """
import ctypes, subprocess
from rollsafe import FileLock

TRY = '''
import os
from rollsafe import FileLock
os.write(1, b"%d" % FileLock(path).acquire(0))
'''

made = create()
# The descriptor of this one comes over the fork.
run(made, "from rollsafe import FileLock\\nlock = FileLock(path)\\nassert lock.acquire(0)\\nlock.release()")
# As uWSGI does: os.fork() would take the other interpreters away from the child.
if child := ctypes.PyDLL(None).fork():
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
lock = FileLock(path)
lock.acquire()
run(made, "assert not lock.acquire(0)")
os.write(1, subprocess.check_output([sys.executable, "-c", f"path = {path!r}\\n" + TRY]))
lock.release()
run(made, "assert lock.acquire(0)")
os._exit(0)
"""
)

SECONDS = 5
LOAD = (
    SUB_INTERPRETERS
    + """
WRITE = '''
import logging, os, time
from rollsafe import SafeTimedRotatingFileHandler
from tests.support.oracle import LINE_FORMAT, make_line

handler = SafeTimedRotatingFileHandler(path, when="S", utc=True)
handler.setFormatter(logging.Formatter(LINE_FORMAT))
number = 0
end = time.monotonic() + seconds
while time.monotonic() < end:
    handler.handle(logging.makeLogRecord({"msg": make_line(stream, number, 200)}))
    number += 1
    time.sleep(0.0005)
handler.close()
os.write(1, f"{stream} {number} ".encode())
'''

def write(made, stream):
    code = f"stream, seconds = {stream!r}, %d\\n" % int(sys.argv[2]) + WRITE
    exec(f"path = {path!r}\\n" + code, {}) if made is None else run(made, code)

writers = [None, *(create() for _ in range(3))]
threads = [threading.Thread(target=write, args=(made, f"writer{n}")) for n, made in enumerate(writers)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
# CPython aborts a process in which a thread of a sub-interpreter runs when it ends; mod_wsgi takes them away before.
os._exit(0)
"""
)


def ran(python: Path, code: str, *arguments: object) -> str:
    """What a program prints that makes interpreters."""
    program = subprocess.run(
        [python, "-W", "ignore", "-c", code, *map(str, arguments)],
        env=server_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (program.returncode, program.stderr) == (0, "")
    return program.stdout


@pytest.fixture(params=[None, *(pytest.param(version, marks=pytest.mark.slow) for version in PYTHONS)])
def python(request: pytest.FixtureRequest) -> Path:
    """The Python that runs, and each of the others."""
    try:
        return Path(sys.executable) if request.param is None else interpreter(request.param)
    except Missing as reason:
        pytest.skip(str(reason))


def test_interpreters_of_one_process_exclude_each_other(tmp_path: Path, python: Path) -> None:
    answers = ran(python, EXCLUDE, tmp_path / ".app.log.lock")
    assert answers == "0000 000 11"


def test_after_a_fork_no_interpreter_drops_the_lock_of_another(tmp_path: Path, python: Path) -> None:
    """uWSGI forks its workers after it has made an interpreter for each application."""
    assert ran(python, FORK, tmp_path / ".app.log.lock") == "0"


def test_interpreters_of_one_process_keep_every_line_in_its_file(tmp_path: Path, python: Path) -> None:
    live = tmp_path / "app.log"
    words = ran(python, LOAD, live, SECONDS).split()
    written = dict(zip(words[::2], map(int, words[1::2]), strict=True))
    assert len(written) == 4
    report = audit(live, written, suffix_of)
    assert report.flawless, report
    assert report.files >= SECONDS - 1


def test_an_interpreter_that_ends_leaves_no_thread_to_abort_the_process_for(tmp_path: Path, python: Path) -> None:
    """Py_EndInterpreter calls the functions of `atexit`, and then aborts the process if there are two threads."""
    code = (
        SUB_INTERPRETERS
        + """
made = create()
run(made, '''
import atexit, logging
from rollsafe import SafeTimedRotatingFileHandler

logging.getLogger().addHandler(handler := SafeTimedRotatingFileHandler(path, when="H", backupCount=1, compress="gz"))
logging.warning("a line")
handler.doRollover()
atexit._run_exitfuncs()
''')
interpreters.destroy(made)  # raises where the end of the interpreter would abort
print("alive")
"""
    )
    assert ran(python, code, tmp_path / "app.log") == "alive\n"
