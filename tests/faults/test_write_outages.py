"""`rollsafe write` while its file cannot be written: the program waits, nothing that was read is dropped."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from rollsafe import FileLock
from rollsafe._live.writer import PENDING_BYTES
from rollsafe.tools.blocks import BlockHandler
from rollsafe.tools.write import BLOCK
from tests.support.mounts import mounted
from tests.support.servers import wait_until
from tests.support.writing import Writing, writing

SIZE = 4 << 20
LEFT_FREE = 1 << 20


def numbered(size: int) -> bytes:
    """Lines of some bytes together, which are not blank."""
    return b"".join(b"%08d %s\n" % (number, b"x" * 90) for number in range(size // 100))


def written(live: Path) -> bytes:
    """The lines of the log, without those that stand in the place of a fragment that did not fit."""
    return b"".join(line for line in live.read_bytes().splitlines(keepends=True) if line.strip())


class Sender(threading.Thread):
    """A program that writes all of `data` into the pipe; how far it is."""

    def __init__(self, program: Writing, data: bytes) -> None:
        super().__init__()
        self.sent = 0
        self._program = program
        self._data = data

    def run(self) -> None:
        while self.sent < len(self._data):
            try:
                self.sent += os.write(self._program.pipe, self._data[self.sent : self.sent + 4096])
            except OSError:
                return


def wait_until_it_waits(program: Writing, sender: Sender) -> None:
    """Wait until the pipe is full, so that the program waits."""
    seen = -1

    def is_still() -> bool:
        nonlocal seen
        before, seen = seen, sender.sent
        return seen == before and program.unread >= 60_000

    wait_until(is_still, "the pipe is full")


def said_so_far(program: Writing) -> str:
    """Read the sentence that is about to be said."""
    assert program.process.stderr
    return program.process.stderr.readline().decode()


@pytest.mark.parametrize("kind", ["tmpfs", pytest.param("ext4", marks=pytest.mark.slow)])
def test_a_full_disk_makes_the_program_wait_and_then_each_line_is_there_in_order(kind: str) -> None:
    data = numbered(SIZE)
    with mounted(kind) as disk:
        live = disk.logs / "app.log"
        disk.fill(leave=LEFT_FREE)
        with writing(live) as program:
            sender = Sender(program, data)
            sender.start()
            sentence = said_so_far(program)
            assert sentence.startswith(f"rollsafe: {str(live)!r}: No space left on device; the program waits")
            wait_until_it_waits(program, sender)
            disk.release()
            sender.join()
            assert program.end() == (0, "")
        assert written(live) == data


def test_sigterm_on_a_full_disk_says_how_much_is_lost_and_leaves_the_rest_in_the_pipe() -> None:
    data = numbered(SIZE)
    with mounted("tmpfs") as disk:
        live = disk.logs / "app.log"
        disk.fill(leave=LEFT_FREE)
        with writing(live) as program:
            sender = Sender(program, data)
            sender.start()
            said_so_far(program)
            wait_until_it_waits(program, sender)
            program.process.send_signal(signal.SIGTERM)
            code, sentence = program.ended()
            match = re.fullmatch(
                r"rollsafe: what was read .* could not be written to .*, and is lost: (\d+) lines, ([\d,]+) bytes\n",
                sentence,
            )
            assert (code, bool(match)) == (1, True), sentence
            assert match
            lost = int(match[2].replace(",", ""))
            # It has read no more than a block, however often it has tried again since.
            assert lost <= BLOCK + 100
            kept = written(live)
            assert data.startswith(kept)
            assert len(kept) + lost + program.unread == sender.sent
            assert int(match[1]) == -(-lost // 100)
            disk.release()
            # The next writer reads what is left in the pipe.
            with writing(live, ends=(program.source, program.pipe)) as following:
                sender.join()
                assert following.end() == (0, "")
                program.pipe = -1
        lost = lost
        rest = written(live)[len(kept) :]
        assert rest.endswith(data[len(kept) + lost :].partition(b"\n")[2])


def test_a_file_that_may_not_grow_is_followed_by_another_and_keeps_its_whole_lines(live: Path) -> None:
    data = numbered(200_000)

    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, {resource.RLIM_INFINITY}))"
    with writing(live, "--utc", setup=limit) as program:
        program.send(data)
        assert program.end() == (0, "")
    files = sorted(live.parent.glob("app.log*"))
    assert len(files) > 6
    lines = [line for path in files for line in path.read_bytes().splitlines(keepends=True) if line.strip()]
    assert b"".join(sorted(lines)) == data


def test_lines_wait_for_a_directory_that_is_gone(live: Path) -> None:
    with writing(live) as program:
        program.send(b"first\n")
        program.wait_until_live_is(b"first\n")
        shutil.rmtree(live.parent)
        program.hang_up()
        program.send(b"second\n")
        said = said_so_far(program)
        assert said.startswith(f"rollsafe: {str(live.parent)!r}: No such file or directory; the program waits")
        live.parent.mkdir()
        program.wait_until_live_is(b"second\n")
        assert program.end() == (0, "")


def test_a_line_of_several_megabytes_waits_as_well(live: Path) -> None:
    long = b"x" * (3 << 20) + b"\n"
    with writing(live) as program:
        program.send(b"first\n")
        program.wait_until_live_is(b"first\n")
        shutil.rmtree(live.parent)
        program.hang_up()
        program.send(long)
        assert "the program waits" in said_so_far(program)
        live.parent.mkdir()
        program.wait_until_live_is(long)
        assert program.end() == (0, "")


def test_any_number_of_lines_waits_however_long(live: Path) -> None:
    refusals: list[str] = []
    handler = BlockHandler(str(live), refusals.append, delay=True)
    shutil.rmtree(live.parent)
    blocks = [b"short\n" + b"x" * PENDING_BYTES + b"\n", b"after\n"]
    for block in blocks:
        handler.write_block(block, time.time())
    assert handler.waiting == (3, len(b"".join(blocks)))
    assert len(refusals) == 1
    live.parent.mkdir()
    while handler.is_waiting():
        handler.write_block(b"last\n", time.time())
    handler.close()
    assert live.read_bytes().startswith(b"".join(blocks))


def test_a_shared_file_waits_for_the_lock(live: Path) -> None:
    lock = FileLock(live.with_name(".app.log.lock"))
    setup = (
        "from rollsafe.handlers import SafeTimedRotatingFileHandler as handler;"
        " handler.__init__.__kwdefaults__['lock_writes'] = True"
    )
    with writing(live, setup=setup) as program:
        program.send(b"first\n")
        program.wait_until_live_is(b"first\n")
        assert lock.acquire(timeout=60)
        program.send(b"second\nthird\n")
        assert "the program waits" in said_so_far(program)
        lock.release()
        program.wait_until_live_is(b"first\nsecond\nthird\n")
        assert program.end() == (0, "")
    lock.close()
