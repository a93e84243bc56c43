"""The mount table: which file system a path is on, and which of them several hosts can share."""

from __future__ import annotations

from pathlib import Path

import pytest

from rollsafe import _arguments
from rollsafe._files.mounts import LOCKED_ON_ONE_HOST, SHARED, Mount, mount_of

TABLE = r"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:5 / /proc rw,nosuid - proc proc rw
60 22 0:50 / /srv/logs rw,relatime shared:30 master:2 - nfs4 server:/export rw,vers=4.2
61 60 8:2 / /srv/logs/local rw - xfs /dev/sdb1 rw
62 22 0:51 / /mnt/with\040space\134x rw - fuse.sshfs me@host:/ rw
63 22 0:52 / /data rw - ext4 /dev/sdc1 rw
64 63 0:53 / /data rw - fuse.glusterfs 10.0.0.1:v rw
65 22 0:54 / /srv/logs-old rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/app.log", "ext4"),
        ("/", "ext4"),
        ("/srv/logs", "nfs4"),
        ("/srv/logs/app.log", "nfs4"),
        ("/srv/logs/not/there/yet.log", "nfs4"),
        ("/srv/logs/local/app.log", "xfs"),
        ("/srv/logs-old/app.log", "tmpfs"),
        ("/srv/logs-older/app.log", "ext4"),
        ("/mnt/with space\\x/app.log", "fuse.sshfs"),
        ("/data/app.log", "fuse.glusterfs"),
    ],
)
def test_a_path_is_on_the_file_system_of_the_longest_mount_point_that_leads_to_it(path: str, kind: str) -> None:
    mount = mount_of(path, TABLE)
    assert mount is not None
    assert mount.type == kind


@pytest.mark.parametrize(
    "table", ["", "\n", "nonsense", "1 2 3 - ext4", "22 1 8:1 / /elsewhere rw - ext4 /dev/sda1 rw"]
)
def test_a_table_that_does_not_tell_gives_none(table: str) -> None:
    assert mount_of("/app.log", table) is None


def test_the_file_systems_of_one_machine_are_not_shared() -> None:
    local = {"ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs", "f2fs", "fuseblk", "fuse.mergerfs", "bcachefs"}
    assert not local & SHARED


def test_where_locks_do_not_reach_other_hosts_is_shared_too() -> None:
    assert LOCKED_ON_ONE_HOST < SHARED


@pytest.mark.parametrize(
    ("source", "shown", "is_shared", "is_on_one_host"),
    [
        ("nfs4 a:/b rw,vers=4.2,hard,local_lock=none,addr=10.0.0.1", "nfs4", True, False),
        ("nfs a:/b rw,vers=3,nolock,local_lock=all", "nfs mounted with local_lock=all,nolock", True, True),
        ("nfs a:/b rw,vers=3,local_lock=posix", "nfs mounted with local_lock=posix", True, True),
        # Only flock(2) stays on the host then.
        ("nfs a:/b rw,vers=3,local_lock=flock", "nfs", True, False),
        ("cifs //a/b rw,nobrl", "cifs mounted with nobrl", True, True),
        ("fuse.sshfs a:/ rw,user_id=0", "fuse.sshfs", True, True),
        ("ext4 /dev/sda1 rw,nolock", "ext4", False, False),
        ("nfs4", "nfs4", True, False),
    ],
)
def test_an_option_may_keep_the_locks_of_a_shared_file_system_on_one_host(
    source: str, shown: str, is_shared: bool, is_on_one_host: bool
) -> None:
    mount = mount_of("/logs/app.log", f"60 22 0:50 / /logs rw,relatime shared:30 - {source}\n")
    assert mount is not None
    assert (mount.shown, mount.is_shared, mount.is_locked_on_one_host) == (shown, is_shared, is_on_one_host)


def test_a_lock_that_stays_on_its_host_gets_a_warning_unless_lock_writes_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text("60 22 0:50 / /logs rw - nfs a:/b rw,nolock\n")
    monkeypatch.setattr(_arguments, "open", lambda _, **how: table.open(**how), raising=False)
    with pytest.warns(RuntimeWarning, match="'/logs/app.log' is on nfs mounted with nolock, where a lock does not"):
        assert _arguments.decided_lock_writes(None, "/logs/app.log")
    assert not _arguments.decided_lock_writes(False, "/logs/app.log")


def test_without_options_the_type_decides() -> None:
    assert [Mount(kind).is_locked_on_one_host for kind in ("nfs4", "9p", "ext4")] == [False, True, False]
