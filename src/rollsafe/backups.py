"""What happens to backups after the rollover: off the path of every line, in one process at a time, restartable."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Iterable

from rollsafe.locks import GRACE, LATE, LEASE, TENDING_BYTE, FileLock
from rollsafe.names import ROLLED_EXTENSION, Names

Report = Callable[[str, BaseException], None]

# Seconds between attempts to become the process that tends the backups.
_ELECTION_PAUSE = 0.25


# The process in which no keeper may start, if there is one.
_standing_back: int | None = None


def stand_back(wanted: bool) -> None:
    """Let no keeper start in this process, though in those that it forks; or, if that is not wanted, allow it again."""
    global _standing_back
    _standing_back = os.getpid() if wanted else None


class Keeper:
    """A short-lived thread that does rounds over the backups of one live file, elected by a lock.

    Args:
        lock_path: The lock file; the byte for tending is locked during the rounds.
        do_round: Does what can be done now; returns the seconds after which there is more to do, None for nothing.
        report: Told of what a round could not do: (sentence, error).
    """

    def __init__(self, lock_path: str, do_round: Callable[[], float | None], report: Report) -> None:
        self._lock_path = lock_path
        self._do_round = do_round
        self._report = report
        self._asked = False
        self._running_in: int | None = None

    def wake(self) -> None:
        """Have the backups tended soon; returns at once."""
        self._asked = True
        if os.getpid() in (self._running_in, _standing_back):
            return
        self._running_in = os.getpid()
        try:
            threading.Thread(target=self._run, name="rollsafe-keeper", daemon=True).start()
        except RuntimeError:
            # The interpreter is going down or out of threads; the next rollover of any process makes up for it.
            self._running_in = None

    def _run(self) -> None:
        """Tend until nobody asks any more."""
        while self._asked:
            self._asked = False
            self._tend()
            # Before the last look at `_asked`: who asks after that look starts a new thread.
            self._running_in = None

    def _tend(self) -> None:
        """Wait to be elected, then do rounds until nothing is left."""
        lock = FileLock(self._lock_path, byte=TENDING_BYTE)
        try:
            while not lock.acquire(timeout=0):
                time.sleep(_ELECTION_PAUSE)
            try:
                while (wait := self._do_round()) is not None:
                    time.sleep(wait)
            finally:
                lock.release()
        except Exception as error:
            self._report(f"the backups beside {self._lock_path} could not be tended", error)
        finally:
            lock.close()


def remove_expired(paths: Iterable[str], report: Report) -> float | None:
    """Remove `paths`, except those that a writer may still be at. Seconds until those may go, None if none are left."""
    return _when_quiet(paths, LEASE + GRACE, os.unlink, report)


def finish_rolled(directory: str, names: Names, rotate: Callable[[str, str], None], report: Report) -> float | None:
    """Hand each rolled file that awaits the application's rotator to it. Seconds until the rest is due, or None.

    Later than compression or retention, because a rotator takes no lock: nobody must have the file open any more.
    """
    rolled = [
        os.path.join(directory, name)
        for name in sorted(os.listdir(directory))
        if name.endswith(ROLLED_EXTENSION) and names.parse(name.removesuffix(ROLLED_EXTENSION))
    ]

    def finish(path: str) -> None:
        rotate(path, path.removesuffix(ROLLED_EXTENSION))

    return _when_quiet(rolled, LATE + LEASE + GRACE, finish, report)


def _when_quiet(paths: Iterable[str], seconds: float, act: Callable[[str], None], report: Report) -> float | None:
    """Do `act` to each of the regular files `paths` that was not changed for so many seconds.

    Renaming a file sets its ctime too (measured on ext4, xfs, btrfs, tmpfs and overlay), so a file is neither the live
    file nor one that a writer may use without looking, when LEASE + GRACE have passed since.

    Returns:
        Seconds until the last of the others may be due, None if there are none.
    """
    waits = []
    for path in paths:
        try:
            status = os.lstat(path)
            if not stat.S_ISREG(status.st_mode):
                continue
            # A change in the future is a clock that was set back; then the full time is waited.
            wait = min(status.st_ctime + seconds - time.time(), seconds)
            if wait > 0:
                waits.append(wait)
            else:
                act(path)
        except FileNotFoundError:
            continue
        except Exception as error:
            report(f"the backup {path} could not be tended", error)
    return max(waits, default=None)
