"""A log directory that belongs to a second user, and files of root's that this user would like to get at.

The second user is the one that gunicorn's workers are: who breaks into a worker may do all that this user may. Its
steps are taken by forked children rather than programs, because neither the interpreter nor this repository need lie
where that user can read.
"""

from __future__ import annotations

import os
import stat
import subprocess
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.oracle import LINE_FORMAT
from tests.support.servers import COMMON_SETTINGS, GUNICORN, server_environment

INTRUDER = 54_321
"""The second user, and its group; nobody has to know them."""
BYSTANDER = 54_322
"""A third user."""
WATCHDOG = 180.0
"""Seconds after which a server that should have refused to start is ended."""


def as_user(act: Callable[[], object], user: int = INTRUDER) -> None:
    """Do something as another user, who is in no other group; an exception there is one here."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
            act()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "the second user could not do it; see above"


State = tuple[object, ...]


def state_of(path: Path) -> State:
    """All of a file that no one but its owner may change."""
    status = path.lstat()
    content: object = None
    if stat.S_ISREG(status.st_mode):
        content = path.read_bytes()
    elif stat.S_ISDIR(status.st_mode):
        content = sorted(os.listdir(path))
    return content, status.st_ino, status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)


@dataclass
class Scene:
    """Directories of one test.

    Attributes:
        top: Root's; anybody may enter it.
        run: Where the server runs; the second user's.
        logs: The second user's.
        etc: Root's, and what is in it.
    """

    top: Path
    run: Path = field(init=False)
    logs: Path = field(init=False)
    etc: Path = field(init=False)

    def __post_init__(self) -> None:
        self.run, self.logs, self.etc = (self.top / name for name in ("run", "logs", "etc"))
        for directory in (self.run, self.logs, self.etc):
            directory.mkdir(mode=0o755)
        os.chown(self.run, INTRUDER, INTRUDER)
        os.chown(self.logs, INTRUDER, INTRUDER)
        self.secret = self._victim("shadow", b"root:secret\n", 0o600, 0)
        self.theirs = self._victim("diary", b"of a third user\n", 0o600, BYSTANDER)
        self._before = {path: state_of(path) for path in (self.etc, self.secret, self.theirs)}

    def _victim(self, name: str, content: bytes, mode: int, owner: int) -> Path:
        path = self.etc / name
        path.write_bytes(content)
        path.chmod(mode)
        os.chown(path, owner, owner)
        return path

    def assert_untouched(self) -> None:
        """Nothing of root's or of a third user's is other than it was."""
        for path, before in self._before.items():
            assert state_of(path) == before, path

    def config(self, preset: str = 'when="S"', more: str = "") -> str:
        """A gunicorn.conf.py of root's: the workers become the second user."""
        return (
            "import hashlib  # on 3.13 a worker imports it after it has become another user\n"
            "from rollsafe.gunicorn import post_fork, rotating_logs\n"
            f"user = group = {INTRUDER}\n"
            "preload_app = True  # the workers may not be allowed to read the application\n"
            f"logconfig_dict = rotating_logs({str(self.logs)!r}, {preset}, format={LINE_FORMAT!r},"
            f" access_format={LINE_FORMAT!r})\n{more}"
        )

    def refused_start(self, config: str) -> str:
        """What a gunicorn says that does not start."""
        (self.run / "gunicorn.conf.py").write_text(COMMON_SETTINGS + config, encoding="utf-8")
        ran = subprocess.run(
            [*GUNICORN, "--bind", "127.0.0.1:0", "tests.support.apps:application"],
            cwd=self.run,
            env=server_environment(),
            capture_output=True,
            text=True,
            timeout=WATCHDOG,
            check=False,
        )
        assert ran.returncode != 0, "it has started and ended"
        return ran.stdout + ran.stderr
