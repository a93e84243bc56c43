"""Promise P4 over a power failure: what an archive is made of goes only when the archive is on the disk."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator

import pytest

from rollsafe._backups.codecs import CALLABLE_EXTENSION
from tests.support.scripts import LIVE, SCRIPTS
from tests.support.syscalls import Laboratory, laboratory

# Each with the path of the descriptor that it is about, or that the name is relative to, if there is one.
_CALL = re.compile(
    r'^(write|fsync)\(\d+<([^>]+)>|^(link|unlink)(?:at)?\((?:(?:AT_FDCWD|\d+)<([^>]+)>, )?"([^"]+)"', re.MULTILINE
)


@pytest.fixture(scope="module")
def lab() -> Iterator[Laboratory]:
    yield from laboratory()


def steps(trace: str, extension: str) -> dict[str, list[str]]:
    """For each backup what is done to it ("unlink source") and to its archive ("write archive"), repeated steps once.

    Both have names in a directory of their own too; what that loses afterwards is left out.
    """
    found: defaultdict[str, list[str]] = defaultdict(list)
    for called, opened, named, directory, name in _CALL.findall(trace):
        path = opened or os.path.join(directory, name)
        is_scratch = os.path.basename(os.path.dirname(path)).endswith(".tmp")
        name = os.path.basename(path)
        if not name.startswith(f"{LIVE}.") or (named == "unlink" and is_scratch):
            continue
        step = f"{called or named} {'archive' if name.endswith(extension) else 'source'}"
        calls = found[name.removesuffix(extension)]
        if not calls or calls[-1] != step:
            calls.append(step)
    return found


@pytest.mark.parametrize(
    ("script", "extension"), [("compression", ".gz"), ("compression by the application", CALLABLE_EXTENSION)]
)
def test_an_archive_is_synced_before_it_is_final_and_its_source_goes_last(
    lab: Laboratory, script: str, extension: str
) -> None:
    trace = lab.trace(script, "-y", "-e", "trace=/^(write|fsync|link|linkat|unlink|unlinkat)$")
    made = steps(trace, extension)
    assert len(made) == 1 + len(SCRIPTS[script].backups), trace
    for calls in made.values():
        # A compression of the application is given a second name of the backup.
        given = [] if extension == ".gz" else ["link source"]
        assert calls == [*given, "write archive", "fsync archive", "link archive", "unlink source"], trace
