"""Parts of all measurements: the command line, rounds in changing order, the time of a line, the result files."""

from __future__ import annotations

import argparse
import logging
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from rollsafe import LineFormatter, SafeTimedRotatingFileHandler

_Thing = TypeVar("_Thing")


def parser_of(module: str, text: str | None, rounds: int | None = None, of: str = "rounds") -> argparse.ArgumentParser:
    """A command line of `python -m bench.<module>`, described by the first sentence of `text`.

    It has `--out`, and `--rounds` if there is a default for it; `of` says what these count.
    """
    parser = argparse.ArgumentParser(prog=f"python -m bench.{module}", description=(text or "").split("\n\n")[0])
    if rounds is not None:
        parser.add_argument("--rounds", type=int, default=rounds, help=f"{of} (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("docs/figures"), help="directory (default: %(default)s)")
    return parser


def write(out: Path, name: str, text: str) -> None:
    """Write one result into the directory `out`, which is made if it is missing, and say so."""
    out.mkdir(parents=True, exist_ok=True)
    (out / name).write_text(text, encoding="utf-8")
    print(f"Written: {out / name}")


def shuffled(things: Iterable[_Thing], seed: object) -> list[_Thing]:
    """The things in another order, so that none always runs with the caches that the same other one has left."""
    listed = list(things)
    return random.Random(str(seed)).sample(listed, len(listed))


def microseconds_of_a_line(fmt: str, lines: int) -> float:
    """Log `lines` lines of one process, and return the microseconds of processor time that one took."""
    with tempfile.TemporaryDirectory() as directory:
        handler = SafeTimedRotatingFileHandler(Path(directory, "app.log"), when="H", encoding="utf-8")
        handler.setFormatter(LineFormatter(fmt))
        logger = logging.Logger("bench")
        logger.addHandler(handler)
        logger.info("warmed up")
        begun = time.process_time()
        for number in range(lines):
            logger.info("GET /items/%d 200", number)
        seconds = time.process_time() - begun
        handler.close()
    return seconds / lines * 1e6


def in_a_process(module: str, *arguments: object) -> float:
    """The result of `bench.<module>.microseconds_per_line(*arguments)` in a fresh interpreter."""
    code = f"from bench.{module} import microseconds_per_line; print(microseconds_per_line(*{arguments!r}))"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
