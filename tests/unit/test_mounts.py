"""The mount table: which file system a path is on, and which of them several hosts can share."""

from __future__ import annotations

import pytest

from rollsafe._files.mounts import LOCKED_ON_ONE_HOST, SHARED, type_of

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
    assert type_of(path, TABLE) == kind


@pytest.mark.parametrize(
    "table", ["", "\n", "nonsense", "1 2 3 - ext4", "22 1 8:1 / /elsewhere rw - ext4 /dev/sda1 rw"]
)
def test_a_table_that_does_not_tell_gives_none(table: str) -> None:
    assert type_of("/app.log", table) is None


def test_the_file_systems_of_one_machine_are_not_shared() -> None:
    local = {"ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs", "f2fs", "fuseblk", "fuse.mergerfs", "bcachefs"}
    assert not local & SHARED


def test_where_locks_do_not_reach_other_hosts_is_shared_too() -> None:
    assert LOCKED_ON_ONE_HOST < SHARED
