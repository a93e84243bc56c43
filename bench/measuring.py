"""What all measurements share: the command line, rounds in changing order, the files that they write."""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

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
    """The same in another order, so that what one does to the caches is not always the same other's to bear."""
    listed = list(things)
    return random.Random(str(seed)).sample(listed, len(listed))


def in_a_process(module: str, *arguments: object) -> float:
    """What `bench.<module>.microseconds_per_line(*arguments)` gives in a fresh interpreter."""
    code = f"from bench.{module} import microseconds_per_line; print(microseconds_per_line(*{arguments!r}))"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
