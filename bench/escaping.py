"""How fast the ways to find out whether a text has a character to escape are, by the length of the text.

    python -m bench.escaping [--rounds 50] [--out docs/figures]

Writes `escaping.md`. It takes some seconds.
"""

from __future__ import annotations

import codecs
import ctypes
import json.encoder
import re
import sys
import time
from collections.abc import Callable
from statistics import median

from bench.measuring import parser_of, shuffled, write
from bench.peers import message
from rollsafe.formatters import _KEEP_PLAIN, _LONG, _has_special

# Characters of a text, and how often each way is tried in a round.
SIZES = {80: 500, 1024: 100, 4096: 50, 65536: 5}
SEARCHES = "a search for each character (`in`, memchr)"
TRANSLATE = "`encode`, `bytes.translate`"
_TO_ESCAPE = re.compile(r"[\x00-\x1f\x7f\\]")
_PLAIN = re.compile(r"[ -\[\]-~]*")
# In glibc on x86-64 it looks for up to 16 characters by one instruction. It ends at a NUL, so that needs no search.
_strcspn = ctypes.PyDLL(None).strcspn
_strcspn.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
_strcspn.restype = ctypes.c_size_t


def _strcspn_finds(text: str) -> bool:
    """Whether `strcspn` of the C library finds a character."""
    line = text.encode()
    return any(_strcspn(line, chars) < len(line) for chars in (bytes(range(1, 17)), bytes(range(17, 32)), b"\\\x7f"))


# Those below the first two are no replacement, because they tell other characters too, or miss some. Only the last
# one before the copy can be faster than the first one for a long text, with some C libraries.
WAYS: dict[str, Callable[[str], object]] = {
    SEARCHES: _has_special,
    TRANSLATE: lambda text: text.encode().translate(_KEEP_PLAIN),
    "`str.isprintable`": str.isprintable,
    "`str.splitlines`": str.splitlines,
    "`repr`": repr,
    "`re.search`": _TO_ESCAPE.search,
    "`re.fullmatch`": _PLAIN.fullmatch,
    "`unicode_escape_encode`": codecs.unicode_escape_encode,
    "the string encoder of `json`": json.encoder.encode_basestring_ascii,
    "`encode`, `int.from_bytes`": lambda text: int.from_bytes(text.encode(), "little"),
    "`encode`, `strcspn` by `ctypes`": _strcspn_finds,
    "a copy, by `encode`": str.encode,
}


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write the table; return the exit code."""
    options = parser_of("escaping", __doc__, rounds=50).parse_args(arguments)
    taken = measure(options.rounds)
    rows = [
        f"| {way} | {' | '.join(f'{1e6 * median(taken[way, size]):.2f}' for size in SIZES)}"
        f" | {median(map(float.__truediv__, taken[way, max(SIZES)], taken[TRANSLATE, max(SIZES)])):.2f} |"
        for way in WAYS
    ]
    text = "\n".join(
        [
            "# What the search for characters to escape costs",
            "",
            f"Made by `python -m bench.escaping`, Python {sys.version.split()[0]}: microseconds of processor time for a"
            f" text of ASCII without such a character, medians of {options.rounds} rounds, the ways by turns."
            f" `LineFormatter` uses the first way from {_LONG} characters on, and the second one below.",
            "",
            f"| | {' | '.join(f'{size} characters' for size in SIZES)} | {max(SIZES)}: times the second |",
            f"|---|{'---:|' * (len(SIZES) + 1)}",
            *rows,
            "",
        ]
    )
    print(text)
    write(options.out, "escaping.md", text)
    return 0


def measure(rounds: int) -> dict[tuple[str, int], list[float]]:
    """Seconds for a text by way and number of characters, by rounds."""
    taken: dict[tuple[str, int], list[float]] = {(way, size): [] for way in WAYS for size in SIZES}
    for size, times in SIZES.items():
        text = message(size)
        for turn in range(-1, rounds):
            for way in shuffled(WAYS, turn):
                look = WAYS[way]
                begun = time.process_time()
                for _ in range(times):
                    look(text)
                elapsed = time.process_time() - begun
                if turn >= 0:
                    taken[way, size].append(elapsed / times)
    return taken


if __name__ == "__main__":
    sys.exit(main())
