"""Promise P4 over a power failure: what an archive is made of goes only when the archive is on the disk."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator

import pytest

from rollsafe.archives import CALLABLE_EXTENSION, DRAFT_EXTENSION
from tests.faults.scripts import LIVE, SCRIPTS
from tests.faults.syscalls import Laboratory, laboratory

# Of link(2) the first path, which tells what gets a second name. Some machines have the calls that end in "at" only.
_CALL = re.compile(r'^(write|fsync)\(\d+<([^>]+)>|^(link|unlink)(?:at)?\((?:AT_FDCWD[^,]*, )?"([^"]+)"', re.MULTILINE)


@pytest.fixture(scope="module")
def lab() -> Iterator[Laboratory]:
    yield from laboratory()


def steps(trace: str, draft_ending: str) -> dict[str, list[tuple[str, bool]]]:
    """For each backup the calls that are about it or its draft, repeated ones once, with whether it is the draft."""
    found: defaultdict[str, list[tuple[str, bool]]] = defaultdict(list)
    for called, opened, named, path in _CALL.findall(trace):
        name = os.path.basename(opened or path)
        if not name.startswith(f"{LIVE}."):
            continue
        step = (called or named, name.endswith(draft_ending))
        calls = found[name.removesuffix(draft_ending)]
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
    made = steps(trace, extension + DRAFT_EXTENSION)
    assert len(made) == 1 + len(SCRIPTS[script].backups), trace
    for calls in made.values():
        # The draft's own name goes when the application was told.
        assert calls == [("write", True), ("fsync", True), ("link", True), ("unlink", False), ("unlink", True)], trace
