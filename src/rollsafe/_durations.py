"""A length of time as people write it: a number and a unit, such as "30 days" or "1.5h". Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final


def _by_word(units: Mapping[str, float]) -> dict[str, float]:
    """The seconds of each word of these units."""
    return {word: seconds for words, seconds in units.items() for word in words.split()}


EXACT_UNITS: Final = _by_word(
    {
        "s second seconds": 1.0,
        "min mins minute minutes": 60.0,
        "h hour hours": 3600.0,
        "d day days": 86400.0,
        "w week weeks": 7 * 86400.0,
    }
)
"""The seconds of each unit that means one thing. Limits know these only, as a limit that is misread removes files."""
UNITS: Final = EXACT_UNITS | _by_word(
    {
        "sec secs": 1.0,
        "m": 60.0,
        "hr hrs": 3600.0,
        "month months": 30.44 * 86400,
        "y year years": 365.25 * 86400,
    }
)
"""The seconds of each unit by which a time is told, as in systemd.time(7)."""

SPAN: Final = r"\d+(?:\.\d+)? *[a-z]+(?![a-z])"
"""The pattern of a number and a word, in lower case; whether that word is a unit, `seconds_of` says."""
_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)")


def seconds_of(text: str, units: Mapping[str, float]) -> float | None:
    """The seconds of a number and one of these units, in any case; None if the text is none such."""
    match = _SPAN.fullmatch(text.strip().lower())
    return float(match[1]) * units[match[2]] if match and match[2] in units else None
