"""The floor of a line: handlers that do one part more each, from a bare write up to a line of rollsafe.

    python -m bench.parts [--rounds 100] [--out docs/figures]

Writes `parts.md`. It takes half a minute.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import time
from io import FileIO
from pathlib import Path
from statistics import median

from bench.measuring import parser_of, shuffled, write
from bench.peers import FORMAT, NAME, NULL, OURS, PEERS, WRITE, Setting, line, message
from rollsafe import LineFormatter

LINES = 500
# Rounds between two truncations of the files.
KEEP = 20


class Finished(logging.Handler):
    """Writes a line that was made before, as the floor of the comparison does."""

    def __init__(self, file: FileIO) -> None:
        super().__init__()
        self.setFormatter(LineFormatter(FORMAT))
        self._write, self._tell = file.write, file.tell
        self._line = line(Setting.size)

    def handle(self, record: logging.LogRecord) -> bool:
        """Write the line."""
        self._write(self._line)
        return True


class Formatted(Finished):
    """Makes the text, too, and leaves it."""

    def handle(self, record: logging.LogRecord) -> bool:
        """Make the text, and write the line."""
        assert self.formatter
        self.formatter.format(record)
        self._write(self._line)
        return True


class Encoded(Finished):
    """Writes the text that it has made."""

    def handle(self, record: logging.LogRecord) -> bool:
        """Make the text, and write it."""
        assert self.formatter
        text = self.formatter.format(record)
        text += "\n"
        self._write(text.encode())
        return True


class Emitting(Encoded):
    """Does that in `emit`, and takes the lock for it, as `logging` demands."""

    def handle(self, record: logging.LogRecord) -> bool:
        """Emit the record under the lock."""
        lock = self.lock
        assert lock
        try:
            lock.acquire()
            self.emit(record)
        finally:
            lock.release()
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Make the text, and write it."""
        assert self.formatter
        text = self.formatter.format(record)
        text += "\n"
        self._write(text.encode())


class Located(Emitting):
    """Asks where the line ended, too, by lseek(2), and when."""

    def emit(self, record: logging.LogRecord) -> None:
        """Make the text, write it, and ask where and when that ended."""
        assert self.formatter
        text = self.formatter.format(record)
        text += "\n"
        self._write(text.encode())
        self._tell()
        time.monotonic()


STEPS = {
    "a handler that writes a finished line": Finished,
    "and makes the text by `LineFormatter`": Formatted,
    "and writes that, as bytes": Encoded,
    "in `emit`, under the lock": Emitting,
    "and asks where and when the write ended": Located,
}


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write the table; return the exit code."""
    options = parser_of("parts", __doc__, rounds=100, of="batches of each").parse_args(arguments)
    taken = measure(options.rounds)
    bounds = [null + bare for null, bare in zip(taken[NULL], taken[WRITE], strict=True)]
    rows = [
        f"| {name} | {1e6 * median(seconds):.2f}"
        f" | {median(one / bound for one, bound in zip(seconds, bounds, strict=True)):.2f} |"
        for name, seconds in taken.items()
    ]
    text = "\n".join(
        [
            "# The floor of a line",
            "",
            f"Made by `python -m bench.parts`, Python {sys.version.split()[0]}: processor time, {Setting.size}"
            f" characters, the handlers by turns, {options.rounds} batches of {LINES} lines.",
            "Each handler below the first two does what the one above it does, and one thing more.",
            "",
            "| | µs for a line | times the first two together |",
            "|---|---:|---:|",
            *rows,
            "",
        ]
    )
    print(text)
    write(options.out, "parts.md", text)
    return 0


def measure(rounds: int) -> dict[str, list[float]]:
    """Seconds of processor time for a line by handler, by rounds."""
    text = message(Setting.size)
    with tempfile.TemporaryDirectory(prefix="parts-") as directory:
        peers = {name: PEERS[name].start(Setting(Path(directory, f"{name}.log"))) for name in (NULL, WRITE)}
        ours = PEERS[OURS].start(Setting(Path(directory, "ours.log")))
        files = {name: FileIO(f"{directory}/{number}.log", "a") for number, name in enumerate(STEPS)}
        crew = {name: peer.info for name, peer in peers.items()}
        for name, kind in STEPS.items():
            logger = logging.Logger(NAME, logging.INFO)
            logger.addHandler(kind(files[name]))
            crew[name] = logger.info
        crew[OURS] = ours.info
        taken: dict[str, list[float]] = {name: [] for name in crew}
        for turn in range(-1, rounds):
            for name in shuffled(crew, turn):
                info = crew[name]
                begun = time.process_time()
                for _ in range(LINES):
                    info(text)
                elapsed = time.process_time() - begun
                if turn >= 0:  # the one before warms up
                    taken[name].append(elapsed / LINES)
            if turn % KEEP == 0:
                for file in Path(directory).glob("[0-9o]*.log"):
                    os.truncate(file, 0)
        for peer in (*peers.values(), ours):
            peer.end()
        for stream in files.values():
            stream.close()
    return taken


if __name__ == "__main__":
    sys.exit(main())
