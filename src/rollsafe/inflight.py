"""Who is inside a write(2): the one moment at which a SIGKILL can leave a fragment of a line.

The kernel gives up a killed write between two pages (measured on ext4, tmpfs, xfs and overlay: each fragment ends on a
multiple of 4096 bytes of the file, also of lines of 200 bytes that cross it). The next line is then glued to it, and
nobody who is alive knows of it. So each writer raises a flag in memory that it shares with its relatives while it is
inside a write, and a dead one's flag stays up. Who sees another's flag after its own write, and whose line begins on
such a multiple, looks at the byte before it, and overwrites a fragment that ends there by an empty line.

The memory is shared with the processes forked after this module was imported (gunicorn's workers, when the preset is
imported by gunicorn.conf.py). It is anonymous, so that nobody can truncate it under us (SIGBUS).
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from itertools import count

SLOTS = 256
# What a file's offset has to be zero under for a fragment to end there; a larger page is a multiple of this one.
IN_PAGE = 4095

# Behind the flags: whose each slot is, a pid and a hash of the live file's path.
_OWNER = struct.Struct("iI")
_memory = mmap.mmap(-1, SLOTS + SLOTS * _OWNER.size)
_instances = count()


class Flag:
    """One writer's flag among those of its relatives.

    Args:
        path: The live file that it writes.

    Attributes:
        flags: The shared memory; `flags[slot]` is 1 while this writer is inside a write, else 0.
        everyone: Where all flags are in it.
        slot: This writer's place in it. Two writers that share one by chance cost only some of the protection.
        alone: What `flags[everyone]` is while this writer alone is inside a write.
    """

    __slots__ = ("_dead", "_file", "_number", "alone", "everyone", "flags", "slot")

    def __init__(self, path: str) -> None:
        self._file = zlib.crc32(os.fsencode(path))
        self._number = next(_instances)
        self._dead: list[tuple[int, int]] = []
        self.flags = _memory
        self.everyone = slice(SLOTS)
        self.claim()

    def claim(self) -> None:
        """Take the slot of this process: once, and again after a fork."""
        # Relatives have neighbouring pids; handlers of one process are kept apart by a step that is prime to SLOTS.
        self.slot = (os.getpid() + 37 * self._number) % SLOTS
        self.alone = bytes(int(slot == self.slot) for slot in range(SLOTS))
        _OWNER.pack_into(_memory, SLOTS + self.slot * _OWNER.size, os.getpid(), self._file)

    def notice_the_dead(self) -> None:
        """Before a write of one's own: note whose flags are up though they are dead."""
        self._dead = [(slot, pid) for slot, pid in self._others_up() if not _is_alive(pid)]

    def lower_the_dead(self) -> None:
        """After that write, and the look before it: lower the flags that were noted.

        What the dead have left lies before a line of somebody who has looked, or whose own flag is still up: hence
        nothing is lowered while any living writer is inside a write.
        """
        if not self._dead:
            return
        up = self._others_up()
        if not any(_is_alive(pid) for _, pid in up):
            for slot, pid in self._dead:
                if (slot, pid) in up:
                    _memory[slot] = 0
            self._dead = []

    def _others_up(self) -> list[tuple[int, int]]:
        """Slot and pid of the other flags that are up for our live file."""
        owners = list(_OWNER.iter_unpack(_memory[SLOTS:]))
        return [
            (slot, owners[slot][0])
            for slot, up in enumerate(_memory[:SLOTS])
            if up and slot != self.slot and owners[slot][1] == self._file
        ]


def _is_alive(pid: int) -> bool:
    """Whether a process has this number (kill(2), signal 0)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
