"""The harness: run a script with one fault at one system call, let the next process carry on, and audit the files.

strace attaches to the process (or the one thread) that waits to be traced, so that only the script's own calls are
counted. It injects the fault *instead of* the call: a process is killed before the call is made, and a call that fails
has done nothing. Calls that touch neither a file nor a descriptor are left out: nobody else can see their effect.
"""

from __future__ import annotations

import fcntl
import gzip
import itertools
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType

import pytest

from tests.support.needs import require_command
from tests.support.oracle import Report, audit
from tests.support.scripts import LIVE, SCRIPTS, SEED_MODE, Request, Tally, suffix_of

ROOT = Path(__file__).parents[2]
WORKERS = 2
SHOWN = 12
"""How many outcomes the message of a failed test describes."""
KILL = "signal=KILL"

# The strace classes are all calls that take a path or a descriptor. mmap is the allocator's; poll waits for the tracer;
# pselect6 without a descriptor is time.sleep in Python 3.10.
_TRACED = "%file,%desc"
_LEFT_OUT = frozenset({"mmap", "poll", "ppoll", "pselect6", "restart_syscall"})
_CALL = re.compile(r"^(?:\d+ +)?(\w+)\((.*)", re.MULTILINE)
# Calls after which the files are what they were before. The locks of a process (fcntl, close) end with it.
_READS = re.compile(
    r"f?access.*|close|fcntl|f?getxattr|getdents64|ioctl|lseek|.*stat(at|x|fs)?|p?read(v|64)?|readlink.*"
)
_DROPPED = re.compile(r"^\S+ rollsafe: (\d+) lines were dropped because the log could not be written\n", re.MULTILINE)


class CannotTrace(Exception):
    """strace may not attach."""


@dataclass(frozen=True)
class Fault:
    """What happens at which calls."""

    call: str
    when: str
    """Which of the calls: "3", "3+" or "3..5"."""
    effect: str
    """What strace injects: "signal=KILL", "error=EIO"."""

    def __str__(self) -> str:
        return f"{self.call}-{self.when}-{self.effect.partition('=')[2]}"


Faults = tuple[Fault, ...]
"""The faults of one run; no two of one call, because strace heeds the last only."""


@dataclass(frozen=True)
class Outcome:
    """What became of one run and of the process that carried on after it."""

    faults: Faults
    status: int
    """The exit status of the script, negative for a signal."""
    happened: bool
    """Whether a call was made that the last of the faults is for."""
    acknowledged: frozenset[int]
    reports: int
    """Calls of `handleError` until the handler was closed."""
    farewells: int
    """Calls of `handleError` by its `close`."""
    waited: bool
    """Whether an emit has returned while its line waited in memory."""
    text: str
    next_status: int
    next_reports: int
    report: Report
    dropped: int
    """The lines that the log itself says were dropped."""
    notices: int
    """The lines that say so."""
    disorder: tuple[str, ...]
    """Files in which a line of the script stands before an earlier one."""
    leftovers: tuple[str, ...]
    """Files that do not belong there, the lock file if it is not free."""
    exposed: tuple[str, ...]
    """Files that more people may read or write than the first live file."""
    backups: int
    untold: tuple[str, ...]
    """Backups of which the application was never told, though it wants to be."""
    plain: int
    """Backups that are no archives."""

    @property
    def fault(self) -> Fault:
        """The last of the faults, which is the one that is enumerated."""
        return self.faults[-1]

    def __str__(self) -> str:
        notes = [
            f"{word} {', '.join(names)}"
            for word, names in (
                ("disorder", self.disorder),
                ("left over", self.leftovers),
                ("exposed", self.exposed),
                ("untold", self.untold),
            )
            if names
        ]
        return "; ".join(
            [
                f"{'+'.join(map(str, self.faults))}: exit {self.status}, then {self.next_status}",
                f"{self.reports} and {self.farewells} reports, then {self.next_reports}",
                "lines waited" if self.waited else "no line waited",
                str(self.report),
                *notes,
                self.text.strip().replace("\n", "; "),
            ]
        )


class Tracer:
    """A server of scripts (see `tests.support.scripts`), and strace for what it forks."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.support.scripts"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            text=True,
        )

    def close(self) -> None:
        """End the server."""
        self._server.communicate()

    def run(self, request: Request, options: list[str]) -> tuple[int, str]:
        """Run a script, traced with `options` if the request says so; its exit status and the trace."""
        self._write(request.line())
        trace = ""
        answer = self._read()
        if answer[0] == "ready":
            trace = self._trace(answer[1], options)
            answer = self._read()
        return int(answer[1]), trace

    def _trace(self, task: str, options: list[str]) -> str:
        """Attach to the task, start it, and wait until it is over."""
        output = self._directory / f"trace-{task}"
        command = ["strace", "-o", str(output), "-p", task, *options]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
            assert strace.stderr is not None
            said = strace.stderr.readline()
            self._write("\n")
            strace.stderr.read()
        if "attached" not in said:
            raise CannotTrace(said.strip())
        trace = output.read_text()
        output.unlink()
        return trace

    def _write(self, text: str) -> None:
        """To the server or the process that waits."""
        assert self._server.stdin is not None
        self._server.stdin.write(text)
        self._server.stdin.flush()

    def _read(self) -> list[str]:
        """The words of the next answer."""
        assert self._server.stdout is not None
        answer = self._server.stdout.readline().split()
        if not answer:
            raise RuntimeError("the server of the scripts has ended; standard error tells why")
        return answer


class Laboratory:
    """Runs scripts with faults, several at a time."""

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="rollsafe-faults-"))
        self._numbers = itertools.count()
        self._pool = ThreadPoolExecutor(WORKERS)
        self._all = [Tracer(self._directory) for _ in range(WORKERS)]
        self._idle: SimpleQueue[Tracer] = SimpleQueue()
        for tracer in self._all:
            self._idle.put(tracer)

    def __enter__(self) -> Laboratory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.shutdown()
        for tracer in self._all:
            tracer.close()
        shutil.rmtree(self._directory)

    def run(self, script: str, *faults: Fault, handler: str = Request.handler) -> Outcome:
        """One run of the script with the faults, and the process that carries on."""
        with self._case(script, handler) as case:
            return case.run(faults)

    def calls(self, script: str, handler: str = Request.handler) -> list[str]:
        """The names of the calls that a script makes when nothing goes wrong, once each."""
        with self._case(script, handler) as case:
            return list(dict.fromkeys(name for name, _ in case.calls()))

    def trace(self, script: str, *options: str) -> str:
        """What strace shows with these options of a script with which nothing goes wrong."""
        with self._case(script, Request.handler) as case:
            return case.trace(options)

    @contextmanager
    def _case(self, script: str, handler: str) -> Iterator[_Case]:
        """A directory and a tracer."""
        directory = self._directory / f"case-{next(self._numbers)}"
        directory.mkdir()
        tracer = self._idle.get()
        try:
            yield _Case(directory, script, handler, tracer)
        finally:
            self._idle.put(tracer)
            shutil.rmtree(directory)

    def enumerate(
        self,
        script: str,
        effects: Callable[[str], Iterable[str]],
        *,
        when: str = "{}",
        before: Faults = (),
        handler: str = Request.handler,
    ) -> list[Outcome]:
        """One run for each call of the script and each of `effects(name of the call)`.

        `when` makes the strace expression out of a number: "{}" for one call, "{}+" for it and all after it. For each
        name the number goes up until the script ends untouched; that run is not among the outcomes. The faults
        `before` happen in every run.
        """
        series = [(call, effect) for call in self.calls(script, handler) for effect in effects(call)]

        def run_series(one: tuple[str, str]) -> list[Outcome]:
            faults = (Fault(one[0], when.format(n), one[1]) for n in itertools.count(1))
            outcomes = (self.run(script, *before, fault, handler=handler) for fault in faults)
            return list(itertools.takewhile(lambda outcome: outcome.happened, outcomes))

        return [outcome for outcomes in self._pool.map(run_series, series) for outcome in outcomes]

    def each(
        self, script: str, effects: Callable[[str], Sequence[str]], *, handler: str = Request.handler
    ) -> list[Outcome]:
        """One run for each call that the script makes when nothing goes wrong, with one of its effects in turn."""
        faults = []
        with self._case(script, handler) as case:
            for name, number, _ in _numbered(case.calls()):
                if possible := effects(name):
                    faults.append(Fault(name, str(number), possible[number % len(possible)]))
        return self.run_all(script, faults, handler)

    def every(self, script: str, effects: Callable[[str], Sequence[str]]) -> list[Outcome]:
        """One run for each call that the script makes when nothing goes wrong and each of its effects.

        On the way to a directory (`rollsafe._files.places`) all calls fail alike: one of the effects in turn for these.
        """
        faults = []
        with self._case(script, Request.handler) as case:
            was_on_the_way = False
            for name, number, arguments in _numbered(case.calls()):
                possible = effects(name)
                is_on_the_way = "O_PATH" in arguments
                if is_on_the_way or (was_on_the_way and "stat" in name):
                    possible = possible[number % len(possible) :][:1]
                was_on_the_way = is_on_the_way
                faults += [Fault(name, str(number), effect) for effect in possible]
        return self.run_all(script, faults)

    def kill_at_each_change(self, script: str, handler: str = Request.handler) -> list[Outcome]:
        """One run for each call that may change a file, killed before it.

        Killed before another call, a process leaves what it leaves when it is killed before the next change; unless it
        tells the application in between, which is no call on a file: then also before the call after each change.
        """
        faults = []
        with self._case(script, handler) as case:
            was_change = False
            for name, number, arguments in _numbered(case.calls()):
                is_change = not (_READS.fullmatch(name) or (name == "openat" and "O_CREAT" not in arguments))
                if is_change or (was_change and SCRIPTS[script].tells):
                    faults.append(Fault(name, str(number), KILL))
                was_change = is_change
        return self.run_all(script, faults, handler)

    def run_all(self, script: str, faults: Iterable[Fault], handler: str = Request.handler) -> list[Outcome]:
        """One run for each of the faults."""
        return list(self._pool.map(lambda fault: self.run(script, fault, handler=handler), faults))


def explain(bad: list[Outcome], outcomes: list[Outcome]) -> str:
    """The message of a failed test."""
    more = [str(outcome.fault) for outcome in bad[SHOWN:]]
    cases = [*map(str, bad[:SHOWN]), *(["also " + ", ".join(more)] if more else [])]
    return f"{len(bad)} of {len(outcomes)} faults:\n" + "\n".join(cases)


def laboratory() -> Iterator[Laboratory]:
    """A fixture; skips where strace is missing or may not trace."""
    require_command("strace", package="strace")
    try:
        with Laboratory() as laboratory:
            laboratory.calls("rollover")
            yield laboratory
    except CannotTrace as error:
        pytest.skip(f"no system call can be made to fail here: {error}")


class _Case:
    """One script in one directory."""

    def __init__(self, directory: Path, script: str, handler: str, tracer: Tracer) -> None:
        self._directory = directory
        self._logs = directory / "logs"
        self._live = self._logs / LIVE
        self._script = script
        self._handler = handler
        self._tracer = tracer
        self._now = time.time()

    def calls(self) -> list[tuple[str, str]]:
        """The calls, by name and arguments, when nothing goes wrong."""
        trace = self.trace(["-e", f"trace={_TRACED}"])
        return [call for call in _CALL.findall(trace) if call[0] not in _LEFT_OUT]

    def trace(self, options: Iterable[str]) -> str:
        """What strace shows with these options when nothing goes wrong."""
        status, trace = self._run_script([*options])
        assert status == 0, self._tally("script").text
        return trace

    def run(self, faults: Faults) -> Outcome:
        """The script with the faults, then the process that carries on, then the audit."""
        status, trace = self._run_script(_options(faults))
        self._let_time_pass()
        next_status, _ = self._tracer.run(self._request("next"), [])
        first, second = self._tally("script"), self._tally("next")
        acknowledged: dict[str, int | Collection[int]] = {
            "seed": 1,
            "script": first.acknowledged,
            "next": second.acknowledged,
        }
        dropped = self._take_out_notices()
        return Outcome(
            faults=faults,
            status=status,
            happened=bool(faults) and _happened(faults[-1], trace),
            acknowledged=first.acknowledged,
            reports=first.reports,
            farewells=first.farewells,
            waited=first.waited,
            text=first.text + second.text,
            next_status=next_status,
            next_reports=second.reports + second.farewells,
            report=audit(self._live, acknowledged, suffix_of),
            dropped=sum(dropped),
            notices=len(dropped),
            disorder=tuple(self._disorder()),
            leftovers=tuple(self._leftovers()),
            exposed=tuple(self._exposed()),
            backups=len(list(self._logs.glob(f"{LIVE}.*"))),
            untold=tuple(self._untold(first.text + second.text)),
            plain=len([path for path in self._logs.glob(f"{LIVE}.*") if path.suffix != ".gz"]),
        )

    def _run_script(self, options: list[str]) -> tuple[int, str]:
        """Prepare the files and run the script, traced."""
        script = SCRIPTS[self._script]
        script.prepare(self._logs, self._now)
        return self._tracer.run(self._request("script", script.traced), options)

    def _request(self, stream: str, traced: str = "") -> Request:
        tally = self._directory / f"tally-{stream}"
        return Request(self._script, str(self._logs), str(tally), self._now, traced, self._handler, stream)

    def _tally(self, stream: str) -> Tally:
        return Tally(self._directory / f"tally-{stream}")

    def _let_time_pass(self) -> None:
        """Give the live file the time stamp that it would have if its last line were as old as it says."""
        lines = self._live.read_text().splitlines() if self._live.exists() else []
        if lines:
            created = float(lines[-1].split()[0])
            os.utime(self._live, (created, created))

    def _take_out_notices(self) -> list[int]:
        """Remove the lines that tell of dropped lines, which are no self-checking ones; the numbers they tell."""
        found = []
        for path in self._logs.glob(f"{LIVE}*"):
            text = _text_of(path)
            found += [int(number) for number in _DROPPED.findall(text)]
            if path.suffix != ".gz":
                path.write_text(_DROPPED.sub("", text))
        return found

    def _disorder(self) -> Iterator[str]:
        """The files in which the lines of the script are not in the order of their numbers."""
        for path in self._logs.glob(f"{LIVE}*"):
            numbers = [int(number) for number in re.findall(r" script (\d+) ", _text_of(path))]
            if numbers != sorted(numbers):
                yield f"{path.name}: {numbers}"

    def _leftovers(self) -> Iterator[str]:
        """What is there beside log files and a free lock file; the audit has an eye on what is named like a backup."""
        lock = self._logs / f".{LIVE}.lock"
        for path in self._logs.iterdir():
            if path != lock and not path.name.startswith(LIVE):
                yield path.name
        if not _is_free(lock):
            yield f"{lock.name} is locked"

    def _untold(self, text: str) -> Iterator[str]:
        """The backups that the tallies do not speak of."""
        if SCRIPTS[self._script].tells:
            for path in self._logs.glob(f"{LIVE}.*"):
                if f"told {path.name}\n" not in text:
                    yield path.name

    def _exposed(self) -> Iterator[str]:
        """The files with more permissions than `Script.prepare` gives."""
        for path in self._logs.glob(f"{LIVE}*"):
            mode = stat.S_IMODE(path.stat().st_mode)
            # The sticky bit, which marks a full file, opens it to nobody.
            if mode & 0o777 & ~SEED_MODE:
                yield f"{path.name}: {mode:o}"


def _numbered(calls: Iterable[tuple[str, str]]) -> Iterator[tuple[str, int, str]]:
    """Each call with its number among those of its name, as strace counts them from 1."""
    made: Counter[str] = Counter()
    for name, arguments in calls:
        made[name] += 1
        yield name, made[name], arguments


def _text_of(path: Path) -> str:
    """What is in a log file, compressed or not."""
    try:
        return (gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()).decode()
    except (EOFError, gzip.BadGzipFile, zlib.error):
        return ""  # the audit says so


def _options(faults: Faults) -> list[str]:
    """The faults as arguments of strace."""
    options = ["-e", "trace=" + ",".join(fault.call for fault in faults)] if faults else []
    for fault in faults:
        options += ["-e", f"inject={fault.call}:{fault.effect}:when={fault.when}"]
    return options


def _happened(fault: Fault, trace: str) -> bool:
    """Whether the trace shows the fault."""
    lines = trace.splitlines()
    if fault.effect == KILL:
        return lines[-1] == "+++ killed by SIGKILL +++"
    return any(line.startswith(f"{fault.call}(") and line.endswith("(INJECTED)") for line in lines)


def _is_free(lock: Path) -> bool:
    """Whether nobody holds any byte of the lock file."""
    with lock.open("r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True
