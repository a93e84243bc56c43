"""What the tests of the how-to guides share: the snippets of a page by their info strings, and logs read back."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.servers import ROOT, backups
from tests.support.snippets import snippets_in

OTHER_LINES = re.compile(rb"\d+\.\d+ (?!\w+ \d+ \d{5,7} ).*")
"""What servers and frameworks log beside the lines of the load, in the oracle's format."""


def documented(page: str, info: str) -> str:
    """The code of the fence with that info string on a page of the how-to guides."""
    text = (ROOT / "docs" / "how-to" / page).read_text(encoding="utf-8")
    (snippet,) = (snippet for snippet in snippets_in(text, page) if snippet.info == info)
    return snippet.code


def everything(live: Path) -> str:
    """The backups and the live file, in order."""
    return "".join(path.read_text(encoding="utf-8") for path in [*backups(live), live])
