"""Which file a name or a descriptor means. Pure."""

from __future__ import annotations

import os

Identity = tuple[int, int]
"""Device and inode of a file: the same for all its names, and different for each file."""


def identity_of(status: os.stat_result) -> Identity:
    """The identity of a file."""
    return status.st_dev, status.st_ino
