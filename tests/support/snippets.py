"""The fenced blocks of a page in Markdown."""

from __future__ import annotations

import re
from dataclasses import dataclass

FENCE = re.compile(
    r"^(?P<indent> *)(?P<fence>`{3,}|~{3,}) *(?P<info>[^`\n]*)\n(?P<code>.*?)^ *(?P=fence)[`~]* *$",
    re.MULTILINE | re.DOTALL,
)
NOT_RUN = re.compile(r"<!-- not run:(?P<reason>.*)-->")


@dataclass(frozen=True)
class Snippet:
    """One fenced block: where it stands, its info string, its code, and the reason for which it is not run."""

    place: str
    info: str
    code: str
    not_run: str | None = None

    @property
    def is_python(self) -> bool:
        """Whether it is Python by any of the names that highlighters know: py, python3, pycon."""
        return self.info.lower().startswith("py")

    @property
    def is_shell(self) -> bool:
        """Whether it shows commands."""
        return self.info.split(" ")[0] in {"console", "sh", "bash", "shell"}


def snippets_in(text: str, name: str) -> list[Snippet]:
    """The fenced blocks of a page, in order."""
    found = []
    for match in FENCE.finditer(text):
        before = text[: match.start()]
        comment = NOT_RUN.search(before.rstrip("\n").rpartition("\n")[2])
        code = re.sub(f"^{match['indent']}", "", match["code"], flags=re.MULTILINE)
        reason = comment["reason"].strip() if comment else None
        found.append(Snippet(f"{name}:{before.count(chr(10)) + 1}", match["info"].strip(), code, reason))
    return found
