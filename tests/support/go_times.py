"""Times as the package `time` of the Go language parses them: Filebeat, Alloy and the Collector have it.

The rule is that of https://pkg.go.dev/time#pkg-constants and https://pkg.go.dev/time#Parse: "When parsing (only), the
input may contain a fractional second field immediately after the seconds field, even if the layout does not signify its
presence. In that case either a comma or a decimal point followed by a maximal series of digits is parsed as a
fractional second."
"""

from __future__ import annotations

import datetime
import re
import zoneinfo

_PIECES = {
    "2006": r"(?P<Y>\d{4})",
    "01": r"(?P<m>\d\d)",
    "02": r"(?P<d>\d\d)",
    "_2": r"(?P<d>[ \d]\d)",
    "Mon": r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)",
    "Jan": r"(?P<b>Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)",
    "15": r"(?P<H>\d\d)",
    "04": r"(?P<M>\d\d)",
    "05": r"(?P<S>\d\d)(?:[.,](?P<fraction>\d+))?",
    "-0700": r"(?P<offset>[+-]\d{4})",
    "Z07:00": r"(?P<offset>Z|[+-]\d\d:\d\d)",
}
# A fraction in the layout has as many digits as in the time; behind the seconds it is theirs.
_LAYOUT = re.compile("05[.,]0+|" + "|".join(re.escape(piece) for piece in sorted(_PIECES, key=len, reverse=True)))
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


def parse_go_time(layout: str, text: str, location: str) -> float | None:
    """The instant in seconds since the epoch, None if the text does not have the layout.

    Args:
        layout: The layout.
        text: The time.
        location: The name of the zone of a time without an offset.
    """
    pattern = ""
    end = 0
    for piece in _LAYOUT.finditer(layout):
        pattern += re.escape(layout[end : piece.start()])
        end = piece.end()
        if len(piece[0]) > 3 and piece[0].startswith("05"):
            digits = len(piece[0]) - 3
            pattern += rf"(?P<S>\d\d)[.,](?P<fraction>\d{{{digits}}})"
        else:
            pattern += _PIECES[piece[0]]
    found = re.fullmatch(pattern + re.escape(layout[end:]), text)
    if found is None:
        return None
    part = found.groupdict()
    month = int(part["m"]) if part.get("m") else _MONTHS.index(part["b"]) + 1
    year, day, hour, minute, second = (int(part[name]) for name in "YdHMS")
    moment = datetime.datetime(year, month, day, hour, minute, second)
    offset = part.get("offset")
    if offset is None:
        zone: datetime.tzinfo = zoneinfo.ZoneInfo(location)
    elif offset == "Z":
        zone = datetime.timezone.utc
    else:
        sign, hours, minutes = offset[0], int(offset[1:3]), int(offset[-2:])
        zone = datetime.timezone(datetime.timedelta(minutes=int(f"{sign}1") * (60 * hours + minutes)))
    return moment.replace(tzinfo=zone).timestamp() + float(f"0.{part.get('fraction') or 0}")
