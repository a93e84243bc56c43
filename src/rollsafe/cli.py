"""The `rollsafe` command. Each command is a thin function: read the arguments, call a room, print what it returns."""

from __future__ import annotations

import dataclasses
import errno
import functools
import itertools
import json
import os
import re
import select
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from math import inf
from typing import Any, BinaryIO, TypeVar

from rollsafe._options import checked_age, checked_size
from rollsafe.errors import ConfigurationError
from rollsafe.tools import checks
from rollsafe.tools.catalog import Log, logs_at
from rollsafe.tools.catch_up import unread_backups
from rollsafe.tools.configs import read_config
from rollsafe.tools.follow import Follower
from rollsafe.tools.lines import Entry, Snapshot, merged
from rollsafe.tools.prune import doubts_clock, limits_of, removals_by_author, remove, uncertain
from rollsafe.tools.shipping import ENGINES, configuration, logs_of
from rollsafe.tools.status import Openers, status_of
from rollsafe.tools.times import moment
from rollsafe.tools.verify import verify as verify_logs
from rollsafe.tools.words import (
    DOUBTED_CLOCK,
    clock_text,
    duration_text,
    printable,
    printable_line,
    uncertain_words,
)

try:
    import click
    from click.shell_completion import get_completion_class

    from rollsafe.tools import screen
    from rollsafe.tools.page import page_of
except ImportError:
    sys.exit("rollsafe: the command needs click, Jinja2 and rich; install them with: pip install 'rollsafe[cli]'")

USAGE_ERROR = 2
"""The exit code of everything that could not be done as it was asked for."""

# Seconds between looks for new lines.
_POLL = 0.1
# Bytes of lines that are written at once.
_BATCH = 1 << 16
_HELP_OPTIONS = ["-h", "--help"]

Command = TypeVar("Command", bound=Callable[..., Any])


def _moment(context: click.Context, option: click.Parameter, value: str | None) -> float | None:
    """The time that an option gives."""
    if value is None:
        return None
    now = time.time()
    instant = moment(value, now)
    if option.name == "since" and instant > now:
        shown = f"{clock_text(instant)}, in {duration_text(instant - now)}"
        _complain(
            f"--since {value!r} is yet to come ({shown}), so that no line is as late; give a date for another day"
        )
    return instant


def _spelling(name: str) -> str:
    """The name of an option for any spelling of it: --max-age is --max_age, and --backup-count is --backupCount."""
    return _spellings().get(_bare(name), name)


@functools.cache
def _spellings() -> dict[str, str]:
    """The names of all long options, by what is the same in all their spellings."""
    options = (option for command in rollsafe.commands.values() for each in command.params for option in each.opts)
    return {_bare(option[2:]): option[2:] for option in options if option.startswith("--")}


def _bare(name: str) -> str:
    """A name without what its spellings differ by; one letter is an option of its own in either case."""
    return name if len(name) == 1 else name.replace("-", "").replace("_", "").lower()


def reads_lines(command: Command) -> Command:
    """Give a command what it takes to choose lines."""
    for option in (
        click.option(
            "-r",
            "--raw-control-chars",
            "raw",
            is_flag=True,
            help="Write control characters to a terminal as they are, not as escapes. Pipes get them in any case.",
        ),
        click.option("-H", "--with-name", is_flag=True, help="Put the path of its log before each line."),
        click.option("--until", metavar="TIME", callback=_moment, help="Only lines of before this time."),
        click.option(
            "--since",
            metavar="TIME",
            callback=_moment,
            help="Only lines of this time or later: '2026-11-25 16:14', '16:14', '2026-11-25T16:14Z', yesterday,"
            " '2 hours ago'.",
        ),
        click.argument("paths", nargs=-1, required=True, type=click.Path()),
    ):
        command = option(command)
    return command


@click.group(
    context_settings={
        "help_option_names": _HELP_OPTIONS,
        "max_content_width": 100,
        "token_normalize_func": _spelling,
    }
)
@click.version_option(package_name="rollsafe", message="%(prog)s %(version)s")
def rollsafe() -> None:
    """Questions about log files that several processes write, answered."""


@rollsafe.command(short_help="Print the script that completes commands in your shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that makes SHELL complete the commands and options of rollsafe.

    For bash: rollsafe completion bash > ~/.local/share/bash-completion/completions/rollsafe
    """
    complete = get_completion_class(shell)
    assert complete is not None
    click.echo(complete(rollsafe, {}, "rollsafe", "_ROLLSAFE_COMPLETE").source())


@rollsafe.command(short_help="Show files, sizes, the next rollover, and who has them open.")
@click.argument("paths", nargs=-1, required=True, type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list, an object for each log.")
def status(paths: tuple[str, ...], as_json: bool) -> None:
    """Show files, sizes, the next rollover, and who has the log open and locked.

    PATHS are log directories, or live files. No lock is taken, and nothing is changed. Processes of other users are
    seen by root only.
    """
    openers = Openers()
    found = [status_of(log, openers) for log in logs_at(paths)]
    if as_json:
        _echo(json.dumps([each.as_dict() for each in found], indent=2) + "\n")
    else:
        with _output():
            screen.show_status(screen.Screen(), found, time.time())


@rollsafe.command()
@click.argument("path", type=click.Path(), default="gunicorn.conf.py")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- GUNICORN ARGUMENTS]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list, an object for each finding.")
def check(path: str, arguments: tuple[str, ...], as_json: bool) -> int:
    """Look for what could go wrong, before going live.

    PATH is a gunicorn.conf.py, which is executed as by gunicorn, a log directory, or a live file. What gunicorn is
    started with beside the file follows after two dashes: rollsafe check gunicorn.conf.py -- --user www-data shop:app

    Appends, locks, renames and permissions are tried by several processes in a temporary directory beside the log. If
    root asks, they are the user that the workers will be, or who owns the live file. Each handler of a configuration is
    made and given a record; an application that is named is imported; both in a process of its own.

    The exit code is 0 if all is well, 1 if there are warnings, 2 if there are errors.
    """
    if path.endswith(".py"):
        findings = checks.check_config(read_config(path, arguments))
    elif arguments:
        raise click.UsageError(f"{path!r} is no gunicorn.conf.py, so that nothing may follow it")
    else:
        findings = checks.check_logs(logs_at([path]))
    if as_json:
        _echo(json.dumps([each.as_dict() for each in findings], indent=2) + "\n")
    else:
        with _output():
            screen.show_findings(screen.Screen(), findings)
    return max(checks.LEVELS.index(each.level) for each in findings)


@rollsafe.command(short_help="Print all lines in the order of time.")
@reads_lines
def cat(paths: tuple[str, ...], since: float | None, until: float | None, with_name: bool, raw: bool) -> int:
    """Print the lines of logs in the order of time: backups, archives, live file.

    PATHS are log directories, live files, or single backups. Several logs, for instance the directories of several
    hosts, are merged by the times of their lines; lines that tell no time stay with the one before. The exit code is 1
    if something could not be read.
    """
    _check_range(since, until)
    complaints = _Complaints()
    snapshots = [Snapshot(log) for log in logs_at(paths)]
    complaints.of(snapshots)
    if len(snapshots) == 1 and since is None and until is None:
        streams = [snapshots[0].lines(complaints)]
    else:
        streams = [each.entries(complaints, _or(since, -inf), _or(until, inf)) for each in snapshots]
    _print(merged(_named(streams, snapshots, with_name)), raw)
    return 1 if complaints.any else 0


@rollsafe.command(short_help="Print the last lines, and follow the logs.")
@click.option(
    "-n", "--lines", "count", type=click.IntRange(0, sys.maxsize), help="How many lines; 10, or all with --since."
)
@click.option("-f", "--follow", is_flag=True, help="Go on with the lines that come, across rollovers, each once.")
@reads_lines
def tail(
    paths: tuple[str, ...],
    since: float | None,
    until: float | None,
    with_name: bool,
    raw: bool,
    count: int | None,
    follow: bool,
) -> int:
    """Print the last lines of logs, across backups and archives; go on with new ones.

    PATHS are as for cat, which also says how several logs are merged, and what the exit code is.
    """
    if follow and until is not None:
        raise click.UsageError("--follow and --until exclude each other; leave one out")
    _check_range(since, until)
    logs = logs_at(paths)
    complaints = _Complaints()
    followers = [Follower(log, complaints) for log in logs] if follow else []
    snapshots = [each.snapshot for each in followers] or [Snapshot(log) for log in logs]
    complaints.of(snapshots)
    streams: list[Iterable[Entry]]
    if since is None and until is None:
        count = 10 if count is None else count
        streams = [each.last_entries(count, complaints) for each in snapshots]
    else:
        streams = [each.entries(complaints, _or(since, -inf), _or(until, inf)) for each in snapshots]
    lines = (line for _, text in merged(_named(streams, snapshots, with_name)) for line in _split(text))
    _print(((0.0, line) for line in (lines if count is None else deque(lines, maxlen=count))), raw)
    # Control-C is how one leaves.
    with suppress(KeyboardInterrupt):
        while followers:
            new = [[(0.0, line) for line in each.poll()] for each in followers]
            _print(itertools.chain.from_iterable(_named(new, snapshots, with_name)), raw)
            if _is_forsaken(_POLL):
                break
    return 1 if complaints.any else 0


@rollsafe.command(short_help="Prove that no line is missing, doubled, torn or misplaced.")
@click.argument("paths", nargs=-1, required=True, type=click.Path())
@click.option("--html", type=click.Path(dir_okay=False, writable=True), help="Write a page with pictures to this file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def verify(paths: tuple[str, ...], html: str | None, as_json: bool) -> int:
    """Read logs and prove that no line is missing, doubled, torn or in the file of a wrong interval.

    PATHS are log directories, live files, or single backups. Missing and doubled lines are found by the stamps of the
    lines: the format field stamp, or stamps=True of rotating_logs. The exit code is 0 if nothing is amiss, 1 if
    something is, 2 if it could not be looked at.
    """
    logs = logs_at(paths)
    total = sum(os.path.getsize(file.path) for log in logs for file in log.files if os.path.exists(file.path))
    with click.progressbar(length=total, label="reading", file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        report = verify_logs(logs, bar.update, jobs=os.cpu_count() or 1)
    if as_json:
        _echo(json.dumps(report.as_dict(), indent=2) + "\n")
    else:
        with _output():
            screen.show_report(screen.Screen(), report)
    if html is not None:
        with open(html, "w", encoding="utf-8") as file:
            file.write(page_of(report.as_dict(), time.time()))
    return 0 if report.clean else 1


@rollsafe.command(short_help="Remove the backups that exceed the limits, and say why.")
@click.argument("paths", nargs=-1, required=True, type=click.Path())
@click.option("--dry-run", is_flag=True, help="Only tell what would be removed, and why.")
@click.option("--backupCount", "backup_count", type=click.IntRange(1), help="Keep so many backups.")
@click.option("--max_age", metavar="AGE", help="Keep no backup whose interval ended longer ago: '30 days'.")
@click.option("--max_total_bytes", metavar="SIZE", help="Keep the newest backups of so many bytes together: '2 GiB'.")
@click.option("--min_free_bytes", metavar="SIZE", help="Remove the oldest while less is free: '500 MB'.")
def prune(
    paths: tuple[str, ...],
    dry_run: bool,
    backup_count: int | None,
    max_age: str | None,
    max_total_bytes: str | None,
    min_free_bytes: str | None,
) -> int:
    """Remove the backups that retention would remove, and say why each goes.

    PATHS are log directories or live files. The limits are those of the handler, as the lock file tells them; an option
    takes the place of the limit of its name. The exit code is 1 if something could not be removed.
    """
    given: dict[str, Any] = {
        "count": backup_count,
        "max_age": checked_age(max_age),
        "max_total_bytes": checked_size("max_total_bytes", _number(max_total_bytes), least=1),
        "min_free_bytes": checked_size("min_free_bytes", _number(min_free_bytes)),
    }
    failures: list[str] = []

    def complain(sentence: str) -> None:
        failures.append(sentence)
        _complain(sentence)

    logs = logs_at(paths)
    for log in logs:
        limits = dataclasses.replace(
            limits_of(log), **{name: value for name, value in given.items() if value is not None}
        )
        try:
            gone = removals_by_author(log, limits) if dry_run else remove(log, limits, complain)
            kept = [uncertain_words(files)] if (files := uncertain(log)) else []
            kept += [DOUBTED_CLOCK] if doubts_clock(log, limits) else []
        except (ConfigurationError, OSError) as error:
            if len(logs) == 1 or isinstance(error, BrokenPipeError):
                raise
            # One log of a directory keeps no other one from its limits.
            complain(_sentence(error))
            continue
        with _output():
            screen.show_removals(screen.Screen(), log, limits, gone, kept, dry_run=dry_run)
    return 1 if failures else 0


@rollsafe.command(short_help="Print a configuration for a log shipper.")
@click.argument("engine", type=click.Choice(list(ENGINES)))
@click.argument("config", type=click.Path(dir_okay=False))
@click.option("--to", metavar="URL", help="Where to send the lines; without it, an example that has to be edited.")
@click.option("--state", metavar="DIRECTORY", help="Where the shipper keeps the place that it has reached.")
@click.option(
    "--catch-up",
    is_flag=True,
    help="rsyslog only, while it is down: have it read the backups of that time too, by the places in --state.",
)
def ship(engine: str, config: str, to: str | None, state: str | None, catch_up: bool) -> None:
    """Print a configuration for a log shipper, from the logs of CONFIG, a gunicorn.conf.py.

    It reads the live files, and the backups where the shipper knows them again after a rename; nothing compressed.
    """
    logs = logs_of(read_config(config))
    if catch_up:
        if engine != "rsyslog":
            raise ConfigurationError(f"--catch-up is for rsyslog; {engine} keeps its place in renamed files by itself")
        places = state or ENGINES[engine].state
        logs = [
            dataclasses.replace(log, backups=tuple(unread_backups(found, places)))
            for log in logs
            for found in logs_at([log.path])
        ]
    _echo(configuration(engine, logs, to, state))


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; what cannot be done ends with one sentence on standard error and exit code 2."""
    _open_standard_streams()
    try:
        code = rollsafe.main(arguments, prog_name="rollsafe", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        code = USAGE_ERROR
    except click.ClickException as error:
        code = _refused(error.format_message())
    except click.Abort:
        code = _refused("interrupted")
    except _ForsakenError:
        code = 0
    except (ConfigurationError, OSError) as error:
        code = _refused(_sentence(error))
    sys.exit(code)


def _open_standard_streams() -> None:
    """Open what a shell has closed (`>&-`): a log file that is opened would get its number, and be written."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            setattr(sys, name, open(number, mode, closefd=False))


class _ForsakenError(Exception):
    """Who reads standard output has seen enough (`| head`): no error, and no reason to go on."""


@contextmanager
def _output() -> Iterator[BinaryIO]:
    """Standard output, for bytes; all is written at the end.

    Raises:
        _ForsakenError: Nobody reads it any more.
        OSError: It cannot be written; with a name, which the error of a write(2) does not have.
    """
    try:
        yield sys.stdout.buffer
        sys.stdout.flush()
    except OSError as error:
        if error.filename is not None:
            raise
        # What is left goes nowhere: the interpreter would complain of it when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise _ForsakenError from error
        raise OSError(error.errno, error.strerror, "standard output") from error


def _echo(text: str) -> None:
    """Write a text, as it is; if nobody reads it, the command still has its exit code to give."""
    with suppress(_ForsakenError):
        _write([text.encode("utf-8", "surrogateescape")])


def _sentence(error: Exception) -> str:
    """What is wrong; of what the system refused, the path, the cause and, where it is known, the remedy."""
    if not isinstance(error, OSError) or error.errno is None or error.filename is None:
        return str(error)
    remedies = {
        errno.EACCES: "; ask as root, or as the user who owns it",
        errno.ENOENT: "; the file was removed meanwhile, or the directory of one to be written does not exist",
    }
    return f"{error.filename!r}: {error.strerror}{remedies.get(error.errno, '')}"


def help_pages() -> str:
    """The help of every command as Markdown, for the reference page."""
    pages = []
    for name, command in [("", rollsafe), *sorted(rollsafe.commands.items())]:
        path = f"rollsafe {name}".strip()
        context = click.Context(command, info_name=path, terminal_width=100, help_option_names=_HELP_OPTIONS)
        pages.append(f"\n## {path}\n\n```text\n{command.get_help(context)}\n```\n")
    return "".join(pages)


def _named(streams: Iterable[Iterable[Entry]], snapshots: list[Snapshot], with_name: bool) -> list[Iterable[Entry]]:
    """The streams, each line with the path of its log before it if that is wanted."""
    if not with_name:
        return list(streams)
    return [_with_name(stream, snapshot.log) for stream, snapshot in zip(streams, snapshots, strict=True)]


def _with_name(stream: Iterable[Entry], log: Log) -> Iterable[Entry]:
    """One stream with the path of its log before each line."""
    name = f"{printable(os.path.relpath(log.live))}: ".encode()
    for when, text in stream:
        yield when, b"".join(name + line for line in _split(text))


def _split(text: bytes) -> list[bytes]:
    """The lines of an entry."""
    return [line + b"\n" for line in text[:-1].split(b"\n")]


def _print(entries: Iterable[Entry], raw: bool) -> None:
    """Write lines to standard output; to a terminal, which would obey them, as `printable_line`."""
    encoding = sys.stdout.encoding if sys.stdout.isatty() and not raw else None
    batch: list[bytes] = []
    size = 0
    # Reading is done outside of `_output`, which takes each error without a name for one of writing.
    try:
        for _, text in entries:
            batch.append(
                text if encoding is None else b"".join(printable_line(line, encoding) for line in _split(text))
            )
            size += len(text)
            if size >= _BATCH:
                taken, batch, size = batch, [], 0
                _write(taken)
    finally:
        _write(batch)


def _write(texts: Iterable[bytes]) -> None:
    """Write some texts to standard output, and see them off."""
    with _output() as output:
        output.writelines(texts)


def _is_forsaken(seconds: float) -> bool:
    """Whether nobody reads standard output any more, asked for so many seconds.

    A write would tell too, but there may be no line to write for days (poll(2): POLLERR for a pipe without reader).
    """
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    asked = time.monotonic()
    forsaken = any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(1000 * seconds))
    if not forsaken:
        # What cannot be polled (a closed descriptor) is answered at once.
        time.sleep(max(0.0, asked + seconds - time.monotonic()))
    return forsaken


def _complain(sentence: str) -> None:
    """Say on standard error what could not be read; what can be read is printed all the same."""
    click.echo(f"rollsafe: {printable(sentence)}", err=True)


class _Complaints:
    """Says what could not be read; what can be read is printed all the same.

    Attributes:
        any: Whether there was something.
    """

    def __init__(self) -> None:
        self.any = False

    def __call__(self, sentence: str) -> None:
        self.any = True
        _complain(sentence)

    def of(self, snapshots: Iterable[Snapshot]) -> None:
        """Say which directories of backups could not be read, and of which logs that is not known."""
        for snapshot in snapshots:
            if snapshot.log.unread:
                self(snapshot.log.unread)
            if snapshot.log.untold:
                _complain(snapshot.log.untold)


def _number(text: str | None) -> int | str | None:
    """A number that somebody typed, if it is one; digits without end are none."""
    return int(text) if text and re.fullmatch(r"[0-9]{1,19}", text) else text


def _check_range(since: float | None, until: float | None) -> None:
    """Refuse a range in which no line can be."""
    if since is not None and until is not None and since >= until:
        raise click.UsageError(
            f"--since {clock_text(since)} is not before --until {clock_text(until)}, so that no line is between them"
        )


def _or(value: float | None, default: float) -> float:
    """`value`, or the default for None."""
    return default if value is None else value


def _refused(sentence: str) -> int:
    """Say why something was not done."""
    click.echo(f"rollsafe: {printable(' '.join(sentence.split()))}", err=True)
    return USAGE_ERROR


if __name__ == "__main__":
    main()
