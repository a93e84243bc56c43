"""For how long a process writes without a look at the path, and for how long the others leave a file alone.

A process that was suspended between its look and its write rechecks the line if more than lease and grace have passed.
So after a file was unchanged for lease and grace, a process that still writes to it rechecks, and finds out that the
file was archived or removed. A `rotator` of the application takes no lock, so no recheck could find that out. Therefore
it gets a file only when no process has it open any more, even for late lines.
"""

from __future__ import annotations

from typing import Final

# For how long a process writes to a file without a lock, and without a look whether the path still names it.
LEASE_S: Final = 1.0
# How much longer a write may take before its writer rechecks the line.
GRACE_S: Final = 1.0
# For how long after the end of an interval its late lines are mostly written.
LATE_S: Final = 5.0
# For how long after a late line its file stays open for the next one. It takes a third descriptor of its handler, and a
# later line only has to open the file again.
KEPT_S: Final = LEASE_S
# A file that was seen unchanged for so long is quiet: each process that writes to it from then on rechecks.
QUIET_S: Final = LEASE_S + GRACE_S
# After so long without a change, no process has a file open that is not the live one.
UNUSED_S: Final = LATE_S + QUIET_S
