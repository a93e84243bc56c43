"""For rsyslog 8: imfile, and a queue on disk for the time when the receiver is down. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rollsafe.tools.shippers.logs import MAX_LINE, Destination, ShippedLog, Shipper, quoted


def _write(logs: Sequence[ShippedLog], to: Destination, state: str) -> list[str]:
    """The lines of the configuration."""
    relp = to.scheme == "relp"
    if any(log.by_size for log in logs):
        module = [
            "# By inotify, because a file that is rolled for its size may come and go between two looks. From 8.2508",
            '# on, add deleteStateOnFileMove="on": or imfile may miss the beginning of a file that gets the inode of a',
            "# small one.",
            'module(load="imfile" mode="inotify")',
        ]
    else:
        module = [
            "# Not by inotify: imfile then keeps the place of a small file that was renamed by the number of its",
            "# inode. If the next file gets this number, its beginning is not read.",
            'module(load="imfile" mode="polling" pollingInterval="1")',
        ]
    lines = [
        "# In /etc/rsyslog.d/. A line that reaches a file long after its rename is not read by imfile.",
        f"global(workDirectory={quoted(state)} maxMessageSize={quoted(str(MAX_LINE))})",
        *module,
        *(['module(load="omrelp")'] if relp else []),
        'ruleset(name="rollsafe" queue.type="LinkedList" queue.filename="rollsafe" queue.size="100000"',
        '        queue.maxDiskSpace="1g" queue.saveOnShutdown="on") {',
        f"  action(type={quoted('omrelp' if relp else 'omfwd')} target={quoted(to.host)} port={quoted(str(to.port))}"
        + ("" if relp else ' protocol="tcp" TCP_Framing="octet-counted"'),
        '         template="RSYSLOG_SyslogProtocol23Format" action.resumeRetryCount="-1" action.resumeInterval="1")',
        "}",
    ]
    for log in logs:
        for path in (*log.backups, log.path):
            lines.append(
                f'input(type="imfile" file={quoted(path)} tag={quoted(log.name)} facility="local0" severity="info"'
                ' ruleset="rollsafe" freshStartTail="off")'
            )
    return lines


def _left_out(log: ShippedLog) -> Iterator[str]:
    """What is not shipped of a log."""
    yield "its backups, as rsyslog looks for a file under one name; after a stop, it reads them with --catch-up"
    yield (
        "fields, level and time of a line; the receiver gets the line as it is, with severity info and the time at"
        " which rsyslog has read it"
    )
    yield f"the rest of a line after {MAX_LINE} bytes"


RSYSLOG = Shipper(_write, _left_out, "relp://logs.example.org:2514", ("relp", "tcp"), "/var/spool/rsyslog")
