"""`rollsafe write`: bytes in, the same bytes out; signals, the end of the input, its options and its sentences."""

from __future__ import annotations

import fcntl
import gzip
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest

from rollsafe._options import ENVIRONMENT
from rollsafe.tools.blocks import BlockHandler
from rollsafe.tools.write_command import main, write
from tests.support.clock import StandingClock
from tests.support.logs import suffix_of
from tests.support.servers import backups, server_environment, wait_until
from tests.support.writing import COMMAND, LIMIT_S, write_all, writing

BYTES = b"\xff\xfe invalid \xc3\n\0\0 NUL \0\ndos\r\n\x1b[31mred\x85\x1c\x0b\x0c\n\n\n"
BLOCKS = b"".join(b"%d\n" % number for number in range(60_000))


def test_the_bytes_are_written_as_they_are_and_only_an_unfinished_line_is_ended(live: Path) -> None:
    ran = write_all(live, BYTES + BLOCKS + b"half")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")
    assert live.read_bytes() == BYTES + BLOCKS + b"half\n"


def test_an_empty_input_makes_an_empty_file(live: Path) -> None:
    ran = write_all(live, b"")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")
    assert live.read_bytes() == b""


@pytest.mark.slow
def test_a_line_of_64_mib_is_written_whole_by_one_call(live: Path) -> None:
    line = b"x" * (64 << 20) + b"\n"
    ran = write_all(live, b"before\n" + line + b"after\n")
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert live.read_bytes() == b"before\n" + line + b"after\n"


@pytest.mark.slow
def test_a_line_longer_than_the_bound_is_cut_into_lines_and_no_byte_is_lost(live: Path) -> None:
    data = b"a\n" + b"x" * 450_000 + b"\nb\n"
    with writing(live, setup="write.LONGEST = 100_000") as program:
        program.send(data)
        assert program.end() == (0, "")
    lines = live.read_bytes().splitlines()
    assert (lines[0], b"".join(lines[1:-1]), lines[-1]) == (b"a", b"x" * 450_000, b"b")
    assert len(lines) > 4


def test_lines_are_written_at_once_and_the_beginning_of_a_line_waits_for_its_end(live: Path) -> None:
    with writing(live) as program:
        program.send(b"one\npass")
        program.wait_until_live_is(b"one\n")
        program.send(b"word: \ntwo")
        program.wait_until_live_is(b"one\npassword: \n")
        assert program.end() == (0, "")
    assert live.read_bytes() == b"one\npassword: \ntwo\n"


def test_the_end_of_the_input_ends_it_though_the_program_was_killed_in_a_line(live: Path) -> None:
    code = "import os, signal; os.write(1, b'whole\\nha'); os.kill(os.getpid(), signal.SIGKILL)"
    with (
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as program,
        subprocess.Popen([*COMMAND, str(live)], env=server_environment(), stdin=program.stdout) as ours,
    ):
        assert ours.wait(LIMIT_S) == 0
    assert program.returncode == -signal.SIGKILL
    assert live.read_bytes() == b"whole\nha\n"


def test_sigterm_writes_what_is_in_the_pipe_and_ends_it_with_0_though_the_program_goes_on(live: Path) -> None:
    with writing(live, setup="write.STOP_S = 0") as program:
        # More than it reads at once.
        fcntl.fcntl(program.pipe, fcntl.F_SETPIPE_SZ, 1 << 20)
        program.send(b"first\n")
        program.wait_until_live_is(b"first\n")
        # Both are there before it can heed one of them.
        program.process.send_signal(signal.SIGSTOP)
        program.send(BLOCKS + b"half")
        program.process.send_signal(signal.SIGTERM)
        program.process.send_signal(signal.SIGCONT)
        assert program.ended() == (0, "")
        assert program.unread == 0
    assert live.read_bytes() == b"first\n" + BLOCKS + b"half\n"


@pytest.mark.slow
def test_sigterm_lets_a_program_that_has_got_it_too_say_its_last_words(live: Path) -> None:
    with writing(live, setup="write.STOP_S = 3600") as program:
        program.wait_until_it_handles_signals()
        program.process.send_signal(signal.SIGTERM)
        program.send(b"bye\n")
        program.wait_until_live_is(b"bye\n")
        assert program.end() == (0, "")


def test_sighup_writes_what_is_in_the_pipe_looks_at_the_path_again_and_goes_on(live: Path) -> None:
    with writing(live) as program:
        program.send(b"first\n")
        program.wait_until_live_is(b"first\n")
        live.rename(live.with_name("moved"))
        program.hang_up()
        program.send(b"second\n")
        program.wait_until_live_is(b"second\n")
        program.send(b"third\n")
        assert program.end() == (0, "")
    assert live.read_bytes() == b"second\nthird\n"
    assert live.with_name("moved").read_bytes() == b"first\n"


def test_an_interrupt_of_the_pipeline_ends_only_the_program(live: Path) -> None:
    with writing(live, setup="write.STOP_S = 0") as program:
        program.wait_until_it_handles_signals()
        program.process.send_signal(signal.SIGINT)
        program.send(b"interrupted\n")
        program.wait_until_live_is(b"interrupted\n")
        program.send(b"the end\n")
        assert program.end() == (0, "")
    assert live.read_bytes() == b"interrupted\nthe end\n"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_that_the_parent_has_had_ignored_stays_ignored(live: Path, number: signal.Signals) -> None:
    name = number.name.removeprefix("SIG")
    shell = ["sh", "-c", f"trap '' {name}; exec \"$@\"", "sh", *COMMAND, str(live)]
    with subprocess.Popen(shell, env=server_environment(), stdin=subprocess.PIPE) as ours:
        assert ours.stdin
        ours.stdin.write(b"one\n")
        ours.stdin.flush()
        wait_until(lambda: live.exists() and live.read_bytes() == b"one\n", "the line")
        status = dict(line.split(":", 1) for line in Path(f"/proc/{ours.pid}/status").read_text().splitlines())
        assert int(status["SigIgn"], 16) >> (number - 1) & 1
        ours.send_signal(number)
        ours.stdin.write(b"two\n")
        ours.stdin.close()
        assert ours.wait(LIMIT_S) == 0
    assert live.read_bytes() == b"one\ntwo\n"


def is_empty(path: Path) -> bool:
    """Whether there is such a file, without content."""
    try:
        return path.stat().st_size == 0
    except FileNotFoundError:
        return False


def test_a_log_without_traffic_is_rolled_at_its_boundary(live: Path) -> None:
    with writing(live, "--when", "S", "--utc", "--compress", "gz") as program:
        program.send(b"only\n")
        wait_until(lambda: len(backups(live)) == 1 and is_empty(live), "the rollover of a silent log")
        wait_until(lambda: backups(live)[0].suffix == ".gz", "the archive")
        assert program.end() == (0, "")
    assert gzip.decompress(backups(live)[0].read_bytes()) == b"only\n"


def test_a_file_of_an_earlier_interval_is_rolled_at_the_start(live: Path) -> None:
    live.write_bytes(b"old\n")
    os.utime(live, (1_790_000_000, 1_790_000_000))
    with writing(live, "--utc") as program:
        wait_until(lambda: bool(backups(live)), "the rollover")
        assert program.end() == (0, "")
    assert [path.name for path in backups(live)] == ["app.log.2026-09-21"]


def test_the_size_of_a_file_is_bounded_though_blocks_are_larger(live: Path) -> None:
    data = b"".join(b"%09d\n" % number for number in range(3000))
    ran = write_all(live, data, "--maxBytes", "4000")
    assert (ran.returncode, ran.stderr) == (0, b"")
    files = [*sorted(backups(live), key=lambda path: int(path.suffix[1:] if path.suffix[1:].isdigit() else 0)), live]
    assert max(path.stat().st_size for path in files) <= 4000
    assert b"".join(sorted(path.read_bytes() for path in files)) == data


def test_tee_copies_the_bytes_and_outlives_its_reader(live: Path) -> None:
    reader, target = os.pipe()
    with writing(live, "--tee", stdout=target) as program:
        os.close(target)
        program.send(b"one\nprompt> ")
        read = b""
        while len(read) < len(b"one\nprompt> "):
            read += os.read(reader, 100)
        assert read == b"one\nprompt> "
        os.close(reader)
        program.send(b"two\nthree\n")
        program.wait_until_live_is(b"one\nprompt> two\nthree\n")
        program.send(b"four\n")
        assert program.end() == (0, "")
    assert live.read_bytes() == b"one\nprompt> two\nthree\nfour\n"


@pytest.mark.slow
def test_tee_to_a_reader_that_reads_nothing_does_not_stop_sigterm(live: Path) -> None:
    reader, target = os.pipe()
    data = b"".join(b"%07d\n" % number for number in range(20_000))
    with writing(live, "--tee", stdout=target) as program:
        os.close(target)
        program.send(data[:65536])
        program.send(b"")
        program.wait_until_live_is(data[:65536])
        program.send(data[65536:131072])
        program.wait_until_live_is(data[:131072])
        program.process.send_signal(signal.SIGTERM)
        assert program.ended() == (0, "")
    os.close(reader)
    assert live.read_bytes() == data[:131072]


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["<&-", ">&- 2>&-", "</dev/null", "<&- >&- 2>&-"])
def test_closed_standard_streams_do_no_harm(live: Path, closed: str) -> None:
    ran = subprocess.run(
        ["sh", "-c", f'echo line | (exec "$@" --tee {closed})', "sh", *COMMAND, str(live)],
        env=server_environment(),
        capture_output=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert live.read_bytes() == (b"" if "<" in closed else b"line\n")


@pytest.mark.slow
def test_a_file_as_standard_input_is_read_to_its_end(live: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"one\ntwo\n" * 50_000)
    with source.open("rb") as file:
        subprocess.run([*COMMAND, str(live)], env=server_environment(), stdin=file, check=True, timeout=LIMIT_S)
    assert live.read_bytes() == source.read_bytes()


@pytest.mark.slow
def test_a_terminal_as_standard_input_is_read_until_an_interrupt(live: Path) -> None:
    terminal, ours = pty.openpty()
    with subprocess.Popen([*COMMAND, str(live)], env=server_environment(), stdin=ours) as process:
        os.write(terminal, b"typed\n")
        wait_until(lambda: live.exists() and live.read_bytes() == b"typed\n", "the line that was typed")
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT_S) == 0
    os.close(ours)
    os.close(terminal)


def said(sentence: str) -> None:
    raise AssertionError(sentence)


@pytest.mark.parametrize("options", [{}, {"lock_writes": True}, {"maxBytes": 30}], ids=["local", "shared", "bounded"])
def test_a_block_goes_into_the_file_of_the_interval_in_which_it_was_read(
    live: Path, options: dict[str, Any], standing_clock: StandingClock
) -> None:
    now = time.time()
    handler = BlockHandler(str(live), said, when="H", utc=True, **options)
    for number in range(2):
        handler.write_block(b"now %d\nand\n" % number, now)
        handler.write_block(b"late %d\nand\n" % number, now - 3600)
        handler.write_block(b"older %d\n" % number, now - 7200)
    handler.close()
    for ago, lines in (
        (2, b"older 0\nolder 1\n"),
        (1, b"late 0\nand\nlate 1\nand\n"),
        (0, b"now 0\nand\nnow 1\nand\n"),
    ):
        suffix = suffix_of(now - 3600 * ago, "H")
        files = sorted(live.parent.glob(f"app.log.{suffix}*"))
        if not ago and live.stat().st_size:
            files.append(live)
        assert b"".join(path.read_bytes() for path in files) == lines


def test_of_a_block_that_was_cut_short_the_whole_lines_stay(live: Path, standing_clock: StandingClock) -> None:
    now = time.time()
    handler = BlockHandler(str(live), said, when="H", utc=True)
    handler.write_block(b"first\n", now)
    file = handler._file
    file.write = lambda line: file.append(line[:9])
    handler.write_block(b"one\ntwo\nthree\nfour\n", now)
    handler.close()
    assert live.read_bytes() == b"first\none\ntwo\n\nthree\nfour\n"


def test_special_files_are_written_and_left_alone(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    data = b"".join(b"%05d\n" % number for number in range(20_000))
    with subprocess.Popen(["cat", str(fifo)], stdout=subprocess.PIPE) as reader:
        ran = write_all(fifo, data)
        assert reader.stdout
        assert reader.stdout.read() == data
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert write_all(Path("/dev/null"), data).returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["fifo"]


@pytest.mark.slow
def test_two_writers_of_a_fifo_keep_their_lines_whole(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    streams = {name: b"".join(b"%s %06d %s\n" % (name, n, name * 80) for n in range(40_000)) for name in (b"a", b"b")}
    # Held open: a FIFO without reader is not opened, and its reader ends when no writer has it open.
    held = os.open(fifo, os.O_RDWR)
    target = tmp_path / "target"
    writers: list[subprocess.Popen[bytes]] = []
    for name, data in streams.items():
        source = tmp_path / name.decode()
        source.write_bytes(data)
        with source.open("rb") as file:
            writers.append(subprocess.Popen([*COMMAND, str(fifo)], env=server_environment(), stdin=file))
    for writer in writers:
        # Both are inside a write that waits for room.
        wchan = Path(f"/proc/{writer.pid}/wchan")
        wait_until(lambda wchan=wchan: "pipe_write" in wchan.read_text(), "it waits")  # type: ignore[misc]
    with target.open("wb") as output, subprocess.Popen(["cat", str(fifo)], stdout=output):
        assert [writer.wait(LIMIT_S) for writer in writers] == [0, 0]
        os.close(held)
    found = target.read_bytes().splitlines(keepends=True)
    for name, data in streams.items():
        assert b"".join(line for line in found if line.startswith(name)) == data
    assert len(found) == 80_000


def test_the_directory_is_made_and_the_host_is_named(tmp_path: Path) -> None:
    ran = write_all(tmp_path / "logs" / "{hostname}.log", b"line\n", "--permissions", "640")
    assert (ran.returncode, ran.stderr) == (0, b"")
    live = tmp_path / "logs" / f"{os.uname().nodename}.log"
    assert live.read_bytes() == b"line\n"
    assert live.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Missing argument 'FILE'"),
        (["a.log", "b.log"], "unexpected extra argument (b.log)"),
        (["--interval", "x", "a.log"], "--interval 'x' cannot be read; give a whole number"),
        (["--permissions", "999", "a.log"], "--permissions '999' cannot be read; give a mode such as 640"),
        (["--when", "Q", "a.log"], "when='Q' is not known"),
        (["--backup-count", "-3", "a.log"], "backupCount=-3 must be"),
        (["--max-bytes", "many", "a.log"], "maxBytes='many' is no size"),
        (["--backup", "3", "a.log"], "No such option '--backup'"),
        (["--tz", "Mars/Olympus", "a.log"], "tz='Mars/Olympus'"),
        (["/dev/null/a.log"], "'/dev/null"),
        (["."], "is a directory"),
    ],
)
def test_a_wrong_call_ends_with_one_sentence_and_exit_code_2(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    out, said = capfd.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert said.startswith("rollsafe: ")
    assert said.count("\n") == 1
    assert words in said


def test_each_option_that_a_text_can_express_is_an_option_of_the_command() -> None:
    given = {option.name: option for option in write.params if isinstance(option, click.Option)}
    assert set(ENVIRONMENT) == set(given) - {"tee"}
    assert all(f"--{name}" in given[name].opts and given[name].help for name in ENVIRONMENT)
    assert {name for name in ENVIRONMENT if given[name].is_flag} == {"utc"}


def test_it_imports_nothing_that_only_other_commands_need() -> None:
    code = (
        "import sys; sys.argv = ['rollsafe', 'write', '/dev/null']\n"
        "import atexit; from rollsafe import __main__\n"
        "atexit.register(lambda: print(*sorted({'jinja2', 'rich', 'rollsafe.cli', 'click'} & sys.modules.keys())))\n"
        "__main__.main()"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], env=server_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "click\n", "")
