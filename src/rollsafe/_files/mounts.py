"""The file systems that several hosts can share, by the mount table. Pure: the caller passes the table as text.

On these, an append is not atomic between hosts, so each line is written under the lock.
docs/reference/file-systems.md says what each of them guarantees.
"""

from __future__ import annotations

import re

from rollsafe._values import Value

# Types as in the ninth field of /proc/self/mountinfo. On these the lock of one host excludes the others.
LOCKABLE = frozenset(
    {
        "beegfs",
        "ceph",
        "cifs",
        "fuse.ceph",
        "fuse.glusterfs",
        "fuse.juicefs",
        "fuse.mfs",
        "gfs2",
        "glusterfs",
        "gpfs",
        "lustre",
        "nfs",
        "nfs4",
        "ocfs2",
        "smb3",
    }
)
# On these a lock excludes only the processes of its own host, or the options of the server decide.
LOCKED_ON_ONE_HOST = frozenset(
    {
        "9p",
        "afs",
        "fuse.gcsfuse",
        "fuse.goofys",
        "fuse.mount-s3",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.sshfs",
        "orangefs",
        "pvfs2",
        "vboxsf",
        "virtiofs",
    }
)
SHARED = LOCKABLE | LOCKED_ON_ONE_HOST
# Options with which a lock stays on its own host: nfs(5), mount.cifs(8), gfs2(5), mount.lustre(8).
LOCAL_LOCKS = frozenset({"local_lock=all", "local_lock=posix", "localflock", "localflocks", "nobrl", "nolock"})

_ESCAPE = re.compile(r"\\([0-7]{3})")


class Mount(Value):
    """A mounted file system.

    Attributes:
        type: Its type, such as "nfs4".
        options: Those of the file system (proc(5), the last field), such as "nolock".
    """

    type: str
    options: frozenset[str] = frozenset()

    @property
    def is_shared(self) -> bool:
        """Whether several hosts can share it."""
        return self.type in SHARED

    @property
    def is_locked_on_one_host(self) -> bool:
        """Whether several hosts can share it, and a lock excludes only the processes of its own host."""
        return self.type in LOCKED_ON_ONE_HOST or bool(self._local)

    @property
    def shown(self) -> str:
        """Its type, and the options that keep its locks on one host."""
        return f"{self.type} mounted with {','.join(sorted(self._local))}" if self._local else self.type

    @property
    def _local(self) -> frozenset[str]:
        """The options that keep its locks on one host."""
        return self.options & LOCAL_LOCKS if self.type in LOCKABLE else frozenset()


def mount_of(path: str, mountinfo: str) -> Mount | None:
    """The file system of `path`, None if the table does not show it.

    Args:
        path: An absolute path without symbolic links; it need not exist.
        mountinfo: The text of /proc/self/mountinfo (proc(5)).
    """
    longest, found = "", None
    for line in mountinfo.splitlines():
        mount, separator, source = line.partition(" - ")
        fields = mount.split(" ")
        if not separator or len(fields) < 5:
            continue
        # Spaces and the like in a mount point are octal escapes.
        point = _ESCAPE.sub(lambda match: chr(int(match[1], 8)), fields[4]).rstrip("/")
        # If two mounts have one mount point, the later one hides the earlier one.
        if len(point) >= len(longest) and (path == point or path.startswith(f"{point}/")):
            longest, found = point, source
    if found is None:
        return None
    return Mount(found.split(" ")[0], frozenset(found.rpartition(" ")[2].split(",")))
