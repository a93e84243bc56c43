"""What others have written (names, lock files, lines) does nothing to the terminal of whoever looks at it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rollsafe.tools.words import printable, printable_line
from tests.support.commands import ENVIRONMENT, run_raw
from tests.support.logs import write_log

TRICK = "\x1b]0;owned\x07\x1b[2J\r\x9b31m\u202e\u2028\udcff\n"
SHOWN = r"\x1b]0;owned\x07\x1b[2J\r\x9b31m\u202e\u2028\xff\n"
FORBIDDEN = tuple(TRICK.replace("\n", "").replace("]0;owned", "").replace("[2J", "").replace("31m", ""))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a log of a tricky name, and one with tricky settings."""
    live = tmp_path / f"app{TRICK}"
    write_log(live)
    (tmp_path / f"{live.name}.2026-11-25_10.gz").write_bytes(b"\x1f\x8bno gzip")
    settings = {
        "when": "H",
        "tz": TRICK,
        "archive_dir": f"/none/{TRICK}",
        "extension": f".[red]{TRICK}",
        "backupCount": 1,
    }
    (tmp_path / ".noted.log.lock").write_text(f"1 2 1764000000\n{json.dumps(settings)}\n1\n")
    (tmp_path / "noted.log").write_text("line\n")
    return tmp_path


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """The two ends of a terminal: ours, and that of the program in it."""
    ends = pty.openpty()
    try:
        yield ends
    finally:
        for end in ends:
            os.close(end)


def in_terminal(*arguments: str, lines: int) -> str:
    """What the command writes to a terminal that shows so many lines of it."""
    with terminal() as (ours, its):
        subprocess.run(
            [sys.executable, "-m", "rollsafe.cli", *arguments],
            env=ENVIRONMENT | {"TERM": "xterm"},
            stdout=its,
            stderr=its,
        )
        written = b""
        while written.count(b"\n") < lines:
            written += os.read(ours, 4096)
    return written.decode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("verify",),
        ("prune", "--dry-run", "--backupCount", "1"),
        ("check",),
        ("cat", "-H"),
        ("tail", "-H"),
        ("status", "--json"),
        ("verify", "--json"),
        ("check", "--json"),
    ],
    ids=" ".join,
)
def test_no_name_and_no_setting_gets_through_as_it_is(arguments: tuple[str, ...], place: Path) -> None:
    ran = run_raw(*arguments, str(place))
    assert b"Traceback" not in ran.stderr
    written = (ran.stdout + ran.stderr).decode("utf-8", "surrogateescape")
    assert not [char for char in FORBIDDEN if char in written]
    assert "owned" in written
    if "--json" in arguments:
        json.loads(ran.stdout)
    elif "prune" not in arguments:
        assert SHOWN in written


def test_a_path_that_is_refused_is_shown_in_one_sentence_that_does_nothing(tmp_path: Path) -> None:
    ran = run_raw("cat", str(tmp_path / f"none{TRICK}"))
    assert (ran.returncode, ran.stdout, ran.stderr.count(b"\n")) == (2, b"", 1)
    assert not [char for char in FORBIDDEN if char in ran.stderr.decode("utf-8", "surrogateescape")]


def test_the_page_of_verify_shows_names_and_lines_as_escapes(place: Path) -> None:
    with (place / f"app{TRICK}").open("ab") as file:
        file.write(f"{TRICK}<script>\n".encode("utf-8", "surrogateescape"))
    run_raw("verify", "--html", str(place / "page.html"), str(place))
    page = (place / "page.html").read_text(encoding="utf-8")
    assert not [char for char in FORBIDDEN if char in page]
    assert "<script>" not in page
    assert SHOWN in page


LINE = b"\tcaf\xc3\xa9 \x1b[31mred\x1b[0m \xe2\x80\xae\xff \\n\r\n"


@pytest.mark.parametrize("command", ["cat", "tail"])
def test_lines_are_escaped_for_a_terminal_and_raw_for_a_pipe_or_if_asked_for(command: str, tmp_path: Path) -> None:
    live = tmp_path / "app.log"
    live.write_bytes(LINE)
    # The terminal itself writes each newline as CR LF.
    assert in_terminal(command, str(live), lines=1) == "\tcafé \\x1b[31mred\\x1b[0m \\u202e\\xff \\n\r\r\n"
    for option in ("-r", "--raw-control-chars"):
        raw = in_terminal(command, option, str(live), lines=1)
        assert raw.encode("utf-8", "surrogateescape") == LINE[:-1] + b"\r\n"
    ran = run_raw(command, str(live))
    assert ran.stdout == LINE


def test_a_line_for_a_terminal_of_another_encoding_has_no_byte_of_its_controls() -> None:
    # In ISO 8859-1, which such a terminal has, the second byte of this letter is the control CSI.
    assert printable_line("\u00db\n".encode(), "latin-1") == rb"\xc3\x9b".replace(rb"\xc3", b"\xc3") + b"\n"
    assert printable_line("\u00db\n".encode(), "ascii") == rb"\xc3\x9b" + b"\n"


def test_words_of_every_language_and_emoji_stay() -> None:
    for text in ("日本\u3000語", "\u0645\u06cc\u200c\u062e", "👩\u200d💻", "a\u00a0b", "\ue0b0"):
        assert printable(text) == text
    assert printable("\U000e0041\u00ad\ufeff") == r"\U000e0041\xad\ufeff"
