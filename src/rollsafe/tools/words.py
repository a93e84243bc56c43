"""Sizes, durations, times and counts in words, for people. Pure, but for the local zone."""

from __future__ import annotations

import datetime


def size_text(size: float) -> str:
    """A number of bytes in words: binary units, as retention is given in."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} TiB"


def duration_text(seconds: float) -> str:
    """A duration in its two largest units."""
    left, parts = round(seconds), []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def clock_text(instant: float) -> str:
    """An instant (seconds since the epoch) as the local wall clock."""
    return datetime.datetime.fromtimestamp(instant).strftime("%Y-%m-%d %H:%M:%S")


def counted(number: int, noun: str, plural: str = "s") -> str:
    """A number of things."""
    return f"{number:,} {noun}{'' if number == 1 else plural}"
