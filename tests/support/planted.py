"""What an intruder plants at a path at which root's server is about to make a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tests.support.scene import Scene, as_user


def link_to(victim: Callable[[Scene], Path]) -> Callable[[Path, Scene], None]:
    """Plants a symbolic link."""
    return lambda path, scene: as_user(lambda: path.symlink_to(victim(scene)))


def hard_link(path: Path, scene: Scene) -> None:
    """Plant a second name of root's file; who owns a directory may do so where fs.protected_hardlinks is 0."""
    os.link(scene.secret, path)


def fifo(path: Path, scene: Scene) -> None:
    """Plant a FIFO that nobody reads."""
    as_user(lambda: os.mkfifo(path))


def directory(path: Path, scene: Scene) -> None:
    """Plant a directory."""
    as_user(lambda: path.mkdir())


PLANTED = {
    "a link to root's file": link_to(lambda scene: scene.secret),
    "a link to a third user's file": link_to(lambda scene: scene.theirs),
    "a link into root's directory": link_to(lambda scene: scene.etc / "new"),
    "a hard link": hard_link,
    "a FIFO": fifo,
    "a directory": directory,
}
