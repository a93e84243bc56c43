"""Who is inside a write(2): the one moment at which a SIGKILL can leave a piece of a line.

The kernel gives up a killed write between two pages (measured on ext4, tmpfs, xfs and overlay: each piece ends on a
multiple of 4096 bytes of the file, also of lines of 200 bytes that cross it). The next line is then glued to the piece,
and nobody who is alive knows of it. So each writer raises a flag in memory that it shares with its relatives while it
is inside a write, and a dead one's flag stays up. Who sees another's flag after its own write looks at the byte
before its own line, and overwrites a piece that ends there by an empty line.

The memory is shared with the processes forked after this module was imported (gunicorn's workers, when the preset is
imported by gunicorn.conf.py). It is anonymous, so that nobody can truncate it under us (SIGBUS).
"""

from __future__ import annotations

import mmap
import os
import struct
from itertools import count

SLOTS = 256

_PIDS = struct.Struct(f"{SLOTS}i")
_memory = mmap.mmap(-1, SLOTS + _PIDS.size)
_instances = count()


class Flag:
    """One writer's flag among those of its relatives.

    Attributes:
        flags: The shared memory; `flags[slot]` is 1 while this writer is inside a write, else 0.
        slot: This writer's place in it. Two writers that share one by chance cost only some of the protection.
        alone: What `flags[:SLOTS]` is while this writer alone is inside a write.
    """

    __slots__ = ("_dead", "_number", "alone", "flags", "slot")

    def __init__(self) -> None:
        self._number = next(_instances)
        self._dead: list[tuple[int, int]] = []
        self.flags = _memory
        self.claim()

    def claim(self) -> None:
        """Take the slot of this process: once, and again after a fork."""
        # Relatives have neighbouring pids; handlers of one process are kept apart by a step that is prime to SLOTS.
        self.slot = (os.getpid() + 37 * self._number) % SLOTS
        self.alone = bytes(int(slot == self.slot) for slot in range(SLOTS))
        struct.pack_into("i", _memory, SLOTS + 4 * self.slot, os.getpid())

    def notice_the_dead(self) -> None:
        """Before a write of one's own: note whose flags are up though they are dead."""
        pids = _PIDS.unpack_from(_memory, SLOTS)
        self._dead = [(slot, pids[slot]) for slot in self._others_up() if not _is_alive(pids[slot])]

    def lower_the_dead(self) -> None:
        """After that write, and the look before it: lower the flags that were noted.

        What the dead have left lies before a line of somebody who has looked, or whose own flag is still up: hence
        nothing is lowered while any living writer is inside a write.
        """
        if not self._dead:
            return
        pids = _PIDS.unpack_from(_memory, SLOTS)
        if not any(_is_alive(pids[slot]) for slot in self._others_up()):
            for slot, pid in self._dead:
                if pids[slot] == pid:
                    _memory[slot] = 0
            self._dead = []

    def _others_up(self) -> list[int]:
        """The slots of the other flags that are up."""
        return [slot for slot, up in enumerate(_memory[:SLOTS]) if up and slot != self.slot]


def _is_alive(pid: int) -> bool:
    """Whether a process has this number (kill(2), signal 0)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
