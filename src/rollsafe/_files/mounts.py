"""The file systems that several hosts can share, by the mount table. Pure: the caller passes the table as text.

On these, an append is not atomic between hosts, so each line is written under the lock.
docs/reference/file-systems.md says what each of them guarantees.
"""

from __future__ import annotations

import re

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

_ESCAPE = re.compile(r"\\([0-7]{3})")


def type_of(path: str, mountinfo: str) -> str | None:
    """The type of the file system of `path`, None if the table does not show it.

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
            longest, found = point, source.split(" ")[0]
    return found
