"""How long `import rollsafe` takes, and the commands on a directory of thousands of backups.

    python -m bench.tools [--rounds 15] [--backups 10000] [--out docs/figures]

The figures are processor times of whole processes, which run in turn. It takes some minutes, and writes tools.md.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from bench.measuring import parser_of, shuffled, write
from rollsafe import LineFormatter, SafeTimedRotatingFileHandler
from rollsafe.schedule import Schedule

NOTHING, PEER = "pass", "import logging.handlers"
IMPORTS = (
    NOTHING,
    PEER,
    "import rollsafe",
    "import rollsafe.gunicorn",
    "import flask",
    "import rollsafe.flask",
    "import rollsafe.cli",
)
COMMANDS = (("status",), ("status", "--json"), ("prune", "--dry-run"), ("cat",), ("verify",))
WANTED_RATIO, WANTED_MS = 2.0, 0.2
# The commands run so many times less often than the imports.
SELDOM = 5
ZONE = "Europe/Paris"


def main(arguments: list[str] | None = None) -> None:
    """Measure, and write the tables."""
    parser = parser_of("tools", __doc__, rounds=15, of="how often each import runs")
    parser.add_argument("--backups", type=int, default=10_000, help="files of the large log (default: %(default)s)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="bench-tools-") as scratch:
        started = _measure_imports(Path(scratch, "bytecode"), options.rounds)
        commands = _measure_commands(Path(scratch), options.backups, max(1, options.rounds // SELDOM))
    write(options.out, "tools.md", table(started, commands, options.rounds, options.backups))


def seconds_of(arguments: list[str], bytecode: Path) -> float:
    """The processor time of a whole process, whose bytecode is kept in a directory."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(bytecode)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    process = subprocess.Popen(
        [sys.executable, *arguments], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode < 0:
        raise RuntimeError(f"{arguments} was killed by signal {-process.returncode}")
    return usage.ru_utime + usage.ru_stime


def _measure_imports(bytecode: Path, rounds: int) -> dict[str, list[float]]:
    """Statement -> the seconds of a process that executes it, in each round."""
    seconds: dict[str, list[float]] = {code: [] for code in IMPORTS}
    for code in IMPORTS:
        seconds_of(["-c", code], bytecode)
    for turn in range(rounds):
        for code in shuffled(IMPORTS, turn):
            seconds[code].append(seconds_of(["-c", code], bytecode))
    return seconds


def _measure_commands(scratch: Path, backups: int, rounds: int) -> dict[str, dict[str, tuple[float, float]]]:
    """Command -> kind of names -> seconds for a tenth of the backups, and for all of them."""
    taken: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for when, name in (("H", "hourly"), ("D", "daily")):
        small, large = (make_log(scratch / f"{when}-{count}", when, count) for count in (backups // 10, backups))
        for turn in range(rounds):
            for command in shuffled(COMMANDS, turn):
                pair = [
                    seconds_of(["-m", "rollsafe", *command, str(log)], scratch / "bytecode") for log in (small, large)
                ]
                taken.setdefault(" ".join(command), {}).setdefault(name, []).append((pair[0], pair[1]))
    return {
        command: {
            name: (median(pair[0] for pair in pairs), median(pair[1] for pair in pairs)) for name, pairs in by.items()
        }
        for command, by in taken.items()
    }


def make_log(directory: Path, when: str, count: int) -> Path:
    """A log with `count` empty archives in a zone with summer time, half of them too many."""
    directory.mkdir()
    live = directory / "app.log"
    handler = SafeTimedRotatingFileHandler(live, when=when, tz=ZONE, backupCount=count // 2, compress="gz")
    handler.setFormatter(LineFormatter("%(asctime)s %(message)s %(stamp)s"))
    handler.emit(logging.makeLogRecord({"msg": "a line"}))
    handler.close()
    schedule = Schedule(when, tz=ZONE)
    moment = schedule.interval(time.time()).start
    for _ in range(count):
        interval = schedule.interval(moment - 1)
        live.with_name(f"app.log.{interval.suffix}.gz").touch()
        moment = interval.start
    return directory


def table(
    started: dict[str, list[float]], commands: dict[str, dict[str, tuple[float, float]]], rounds: int, backups: int
) -> str:
    """The results as Markdown."""
    imports = []
    for code, seconds in started.items():
        whole = median(one / other for one, other in zip(seconds, started[PEER], strict=True))
        more = median(
            (one - nothing) / (other - nothing)
            for one, other, nothing in zip(seconds, started[PEER], started[NOTHING], strict=True)
        )
        imports.append(f"| `{code}` | {1e3 * median(seconds):.0f} | {whole:.2f} | {more:.2f} |")
    rows = []
    for command, by_name in commands.items():
        cells = []
        for few, all_of_them in by_name.values():
            each = 1e3 * (all_of_them - few) / (backups - backups // 10)
            cells.append(f"{few:.2f} | {all_of_them:.2f} | {each:.3f}")
        rows.append(f"| `rollsafe {command}` | {' | '.join(cells)} |")
    tenth = f"{backups // 10:,}"
    return "\n".join(
        [
            "# How long imports and commands take",
            "",
            f"Processor times of whole processes with their bytecode cached, medians; Python {sys.version.split()[0]},"
            f" {os.cpu_count()} processors; made by `python -m bench.tools`.",
            "",
            f"## Imports: {rounds} rounds",
            "",
            f"The first ratio is that of the processes, and is to be {WANTED_RATIO:.0f} at most for `import rollsafe`;"
            " the second one is that of what each adds to a process that does nothing.",
            "",
            f"| | ms | / `{PEER}` | what it adds, / the same |",
            "|---|---:|---:|---:|",
            *imports,
            "",
            f"## Commands on {tenth} and {backups:,} backups",
            "",
            f"Empty archives of a log in the zone {ZONE}, half of them beyond `backupCount`."
            " Milliseconds for a file are the slope between the two sizes, without the start of the command; wanted are"
            f" {WANTED_MS} at most for `status` and `prune --dry-run`.",
            "",
            f"| | hourly, {tenth}: s | {backups:,}: s | a file: ms | daily, {tenth}: s | {backups:,}: s | a file: ms |",
            "|---|---:|---:|---:|---:|---:|---:|",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    main()
