"""The fields that `logging` computes for each record even if no format shows them, and the switches that stop it.

The switches are those of "Optimization" in the logging HOWTO of the standard library. They are variables of the module
`logging`, so they hold for all loggers and handlers of the process.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable

from rollsafe.errors import ConfigurationError

# The variables of `logging`, each with the fields that are empty or say "unknown" without it.
SWITCHES = {
    "_srcfile": ("pathname", "filename", "module", "lineno", "funcName"),
    "logThreads": ("thread", "threadName"),
    "logMultiprocessing": ("processName",),
    "logAsyncioTasks": ("taskName",),
    "logProcesses": ("process",),
}
_FIELD = re.compile(r"%\((\w+)\)")


def needless_switches(formats: Iterable[str]) -> list[str]:
    """The variables of `logging` to switch off for lean records, which none of `formats` (%-style) shows.

    `process` distinguishes the workers, so a format may show it; then its variable is not switched off.

    Raises:
        ConfigurationError: A format shows another field that lean records do not have.
    """
    shown = {field for text in formats for field in _FIELD.findall(text)}
    lacking = [field for name, fields in SWITCHES.items() if name != "logProcesses" for field in fields]
    if wanted := [f"%({field})s" for field in lacking if field in shown]:
        raise ConfigurationError(
            f"lean_records=True leaves {', '.join(wanted)} empty, which a format shows;"
            " take it out of the format, or leave lean_records off"
        )
    return [name for name, fields in SWITCHES.items() if not shown.intersection(fields)]


class LeanRecords(logging.Filter):
    """Switches variables of `logging` off when it is made. It filters nothing; as a filter, `dictConfig` can make it.

    Args:
        switches: Names of the variables; those that this version of Python lacks are ignored.
    """

    def __init__(self, switches: Iterable[str]) -> None:
        super().__init__()
        for name in switches:
            if hasattr(logging, name):
                setattr(logging, name, None if name == "_srcfile" else False)
