"""`rollsafe write`: the output of any program, from a pipe into a log that rolls over.

It reads blocks and writes the whole lines of each at once; only the beginning of an unfinished line stays in memory. As
long as lines wait to be written it reads nothing, so the pipe fills, and the program waits.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from math import ceil, inf
from types import FrameType
from typing import Final

from rollsafe._live.writer import RETRY_S
from rollsafe.tools.blocks import BlockHandler
from rollsafe.tools.words import plural

BLOCK: Final = 1 << 16
"""Bytes that are read at once; a pipe holds so many (pipe(7))."""
LONGEST: Final = 256 << 20
"""Bytes of one line that are kept in memory until its end comes. A longer line is cut into several."""
STOP_S: Final = 2.0
"""Seconds that a SIGTERM leaves the program to end, too, when both have got it, as from systemd."""

# The longest wait. The clock of the intervals may be set meanwhile, or stand still with a suspended machine.
_LONG_S: Final = 60.0


class Signals:
    """What signals ask for, and a descriptor that wakes poll(2) when one comes.

    Attributes:
        stop_at: When to stop reading; seconds of the monotonic clock.
        looks_again: Whether to look at the path of the log again.
        wakes: Readable when a signal has come.
    """

    def __init__(self, wakes: int, ends_by_interrupt: bool) -> None:
        self.stop_at: float = inf
        self.looks_again: bool = False
        self.wakes = wakes
        self._ends_by_interrupt = ends_by_interrupt

    def stop(self, number: int, frame: FrameType | None) -> None:
        """End soon; at once if it is asked for twice."""
        now = time.monotonic()
        self.stop_at = now if self.stop_at < inf else now + STOP_S

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """Outlive the program, which has got the same Ctrl-C; the second one ends this process as well."""
        if self._ends_by_interrupt:
            self.stop(number, frame)
        self._ends_by_interrupt = True

    def look_again(self, number: int, frame: FrameType | None) -> None:
        """Look at the path again."""
        self.looks_again = True

    def forget_wake(self) -> None:
        """Make `wakes` unreadable until the next signal."""
        with suppress(BlockingIOError):
            os.read(self.wakes, 512)


@contextmanager
def handled_signals(source: int) -> Iterator[Signals]:
    """Handle the signals, unless the parent has had them ignored (`nohup`, `trap '' TERM`)."""
    wakes, waker = os.pipe()
    os.set_blocking(wakes, False)
    os.set_blocking(waker, False)
    signals = Signals(wakes, os.isatty(source))
    handlers = {signal.SIGTERM: signals.stop, signal.SIGINT: signals.interrupt, signal.SIGHUP: signals.look_again}
    before = {number: signal.getsignal(number) for number in handlers}
    before_waker = signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    for number, handler in handlers.items():
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, handler)
    try:
        yield signals
    finally:
        for number, former in before.items():
            if former is not None:
                signal.signal(number, former)
        signal.set_wakeup_fd(before_waker)
        os.close(wakes)
        os.close(waker)


class Lines:
    """The bytes that were read, as blocks of whole lines."""

    def __init__(self) -> None:
        self._begun: list[bytes] = []
        self._size = 0

    def take(self, data: bytes) -> bytes:
        """Add what was read; returns the lines that are whole by now."""
        end = data.rfind(b"\n") + 1
        whole, rest = (data, b"") if end == len(data) else (data[:end], data[end:])
        if end and self._begun:
            whole = self._joined(whole)
        if rest:
            self._begun.append(rest)
            self._size += len(rest)
            if self._size >= LONGEST:
                return whole + self.finish()
        return whole

    def finish(self) -> bytes:
        """The unfinished line, ended; empty if there is none."""
        return self._joined(b"\n") if self._begun else b""

    @property
    def begun(self) -> int:
        """Bytes of the unfinished line."""
        return self._size

    def _joined(self, end: bytes) -> bytes:
        line = b"".join((*self._begun, end))
        self._begun, self._size = [], 0
        return line


class Output:
    """Standard output, to which the bytes also go (`--tee`).

    Attributes:
        has_failed: Whether it could not be written for another reason than that no process reads it.
    """

    def __init__(self, target: int, signals: Signals, complain: Callable[[str], None]) -> None:
        self.has_failed: bool = False
        self._target: int | None = target
        self._signals = signals
        self._complain = complain
        self._ready = select.poll()
        self._ready.register(target, select.POLLOUT)
        self._ready.register(signals.wakes, select.POLLIN)

    def write(self, data: bytes) -> None:
        """Write what was read, as it is; waits for a slow reader, but not for ever if the process is to end."""
        rest = memoryview(data)
        while rest and self._target is not None:
            is_ready = self._is_ready()
            if time.monotonic() >= self._signals.stop_at:
                return
            if not is_ready:
                continue
            try:
                # After poll(2), so many bytes do not block.
                rest = rest[os.write(self._target, rest[: select.PIPE_BUF]) :]
            except BlockingIOError:
                continue
            except OSError as error:
                self._target = None
                if not isinstance(error, BrokenPipeError):
                    self.has_failed = True
                    self._complain(f"standard output cannot be written: {error.strerror}; the log goes on without it")

    def _is_ready(self) -> bool:
        """Wait until it can be written, or a signal comes; whether it can be written."""
        left = self._signals.stop_at - time.monotonic()
        ready = dict(self._ready.poll(ceil(1000 * min(max(left, 0.0), _LONG_S))))
        if self._signals.wakes in ready:
            self._signals.forget_wake()
        return self._target in ready


class Transfer:
    """All that `rollsafe write` does after its start.

    Args:
        handler: Writes the log.
        source: The descriptor that is read.
        signals: Ask for an end.
        complain: Takes one sentence about what went wrong.
        output: Gets the bytes as well, if it is not None.
    """

    def __init__(
        self,
        handler: BlockHandler,
        source: int,
        signals: Signals,
        complain: Callable[[str], None],
        output: Output | None = None,
    ) -> None:
        self._handler = handler
        self._source = source
        self._signals = signals
        self._complain = complain
        self._output = output
        self._lines = Lines()
        self._wake = select.poll()
        self._wake.register(signals.wakes, select.POLLIN)
        self._ready = select.poll()
        self._ready.register(signals.wakes, select.POLLIN)
        self._ready.register(source, select.POLLIN)
        self._only_source = [(source, select.POLLIN)]
        self._roll_at = -inf

    def run(self) -> bool:
        """Write all that comes, until the end of the input or a signal; whether all that was read is written."""
        is_written = self._read_to_end() and self._read_what_is_there()
        is_written = self._write(self._lines.finish()) if is_written else False
        if not is_written:
            self._report_loss()
        return is_written

    def _read_to_end(self) -> bool:
        """Read and write until the end of the input, or until a signal ends that; False if lines are left."""
        while self._has_input():
            data = self._read(BLOCK)
            if data is None:
                continue
            if not data:
                return True
            if not self._write_data(data):
                return False
        return True

    def _has_input(self) -> bool:
        """Wait for input, and roll the file over at its boundaries meanwhile; False if the process is to end."""
        signals = self._signals
        if signals.stop_at == inf and not signals.looks_again and self._ready.poll(0) == self._only_source:
            # The usual case under load, without a look at the clocks.
            return True
        while True:
            now, tick = time.time(), time.monotonic()
            if tick >= signals.stop_at:
                return False
            if now >= self._roll_at:
                self._roll_at = self._handler.roll_if_over()
            wait = min(self._roll_at - now, signals.stop_at - tick, _LONG_S)
            ready = dict(self._ready.poll(ceil(1000 * max(wait, 0.0))))
            if signals.wakes in ready or signals.looks_again:
                self._heed_signal()
            if self._source in ready:
                return True

    def _heed_signal(self) -> None:
        """Do what a signal asks for, if that is not the end."""
        self._signals.forget_wake()
        if self._signals.looks_again:
            self._signals.looks_again = False
            self._handler.look_again()

    def _read(self, most: int) -> bytes | None:
        """Read what is there; None if there is nothing, empty at the end of the input."""
        try:
            return os.read(self._source, most)
        except BlockingIOError:
            return None
        except OSError as error:
            # A terminal that was closed (EIO), a connection that was reset: no more can come.
            self._complain(f"standard input cannot be read any more: {error.strerror}")
            return b""

    def _read_what_is_there(self) -> bool:
        """Read and write what is in the pipe now, though the program goes on; False if lines are left."""
        try:
            answer = fcntl.ioctl(self._source, termios.FIONREAD, struct.pack("i", 0))
            left = struct.unpack("i", answer)[0] if self._signals.stop_at < inf else 0
        except OSError:
            return True
        while left > 0 and self._source in dict(self._ready.poll(0)):
            data = self._read(min(left, BLOCK))
            if not data:
                return True
            left -= len(data)
            if not self._write_data(data):
                return False
        return True

    def _write_data(self, data: bytes) -> bool:
        """Write the lines that are whole by now; False if they cannot be written before the end."""
        is_written = self._write(self._lines.take(data))
        if self._output is not None:
            self._output.write(data)
        return is_written

    def _write(self, block: bytes) -> bool:
        """Write whole lines, and wait as long as they cannot be written; False if the process is to end meanwhile."""
        if block:
            self._handler.write_block(block, time.time())
        while self._handler.is_waiting():
            left = self._signals.stop_at - time.monotonic()
            if left <= 0:
                return False
            if self._wake.poll(ceil(1000 * min(RETRY_S, left))):
                self._heed_signal()
            self._handler.flush()
        return True

    def _report_loss(self) -> None:
        """Say how much of what was read is lost."""
        lines, size = self._handler.waiting
        begun = self._lines.begun
        self._handler.give_up()
        self._complain(
            f"what was read from the program could not be written to {self._handler.baseFilename!r}, and is lost:"
            f" {plural(lines + bool(begun), 'line')}, {plural(size + begun, 'byte')}"
        )
