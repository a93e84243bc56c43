"""The command `rollsafe write`. Its options are those of the handler that a text can express."""

from __future__ import annotations

import inspect
import os
import re
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import click

from rollsafe._arguments import make_directory_of
from rollsafe._options import ENVIRONMENT, PRESET
from rollsafe.handlers import SafeTimedRotatingFileHandler
from rollsafe.tools.blocks import opened
from rollsafe.tools.output import complain as complain_aloud
from rollsafe.tools.running import HELP_OPTIONS, run_command, spelling
from rollsafe.tools.write import Output, Transfer, handled_signals

Command = TypeVar("Command", bound=Callable[..., Any])

# The options whose words for the handler are not those of a command line.
_HELP = {
    "when": "S, M, H, D, MIDNIGHT, or W0 (to Monday's end) to W6; by default midnight.",
    "interval": "The number of units of --when that make one interval.",
    "backupCount": "The number of backups to keep; by default all.",
    "utc": "Align and name in UTC.",
    "tz": "The zone to align and name in, such as Europe/Paris; by default the local one.",
    "maxBytes": "Also roll over before the file grows larger: '100 MiB'.",
    "archive_dir": "The directory for the backups, on the same file system.",
    "compress": "Compress backups: gz, zst or xz.",
    "max_age": "Remove backups whose interval ended longer ago: '30 days'.",
    "max_total_bytes": "Keep the newest backups up to this size together: '2 GiB'.",
    "min_free_bytes": "Remove the oldest backups while less is free: '500 MB'.",
    "permissions": "The mode of live file, backups and lock file, such as 640.",
}


def _help_of(name: str) -> str:
    """The help of an option; of one without words here, what the handler says of it."""
    match = re.search(rf"^    {name}: (.*?)^    \S", inspect.getdoc(SafeTimedRotatingFileHandler) or "", re.M | re.S)
    return _HELP.get(name) or (" ".join(match[1].split()) if match else f"As the handler's {name}.")


def takes_options(command: Command) -> Command:
    """Give a command the options of the handler."""
    for name, (_, text) in reversed(ENVIRONMENT.items()):
        command = click.option(
            f"--{name}", name, is_flag=text.is_flag, default=None, metavar=None, help=_help_of(name)
        )(command)
    return command


def complain(sentence: str) -> None:
    """Say one sentence on standard error, whatever has become of that."""
    with suppress(OSError, ValueError):
        complain_aloud(" ".join(sentence.split()))


def _spelled(name: str) -> str:
    """The name of an option in any of its spellings."""
    return spelling(write, name)


@click.command(
    short_help="Write what a program prints into a log that rolls over.",
    context_settings={"help_option_names": HELP_OPTIONS, "max_content_width": 100, "token_normalize_func": _spelled},
)
@click.argument("file", type=click.Path())
@click.option("--tee", is_flag=True, help="Also write the bytes to standard output, as they are.")
@takes_options
def write(file: str, tee: bool, **texts: Any) -> int:
    """Write standard input into FILE, which rolls over: PROGRAM 2>&1 | rollsafe write logs/program.log

    The bytes are written as they are, in whole lines, each into the file of the interval in which it was read. Several
    processes may write one file. As long as the file cannot be written, the program waits; nothing is dropped.

    The command ends at the end of its input. SIGTERM ends it after what is in the pipe, within two seconds; SIGHUP has
    it open FILE anew. Ctrl-C ends the program, and the command writes what that still says.

    The exit code is 0 if all that was read is written, 1 if not, 2 if the command was called wrongly.
    """
    path = os.path.abspath(os.fsdecode(file))
    options = PRESET | _read(texts)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make_directory_of(path, f"FILE={path!r}")
        handler = opened(path, complain, options)
    for warning in caught:
        complain(str(warning.message))
    with handled_signals(sys.stdin.fileno()) as signals:
        output = Output(sys.stdout.fileno(), signals, complain) if tee else None
        is_written = Transfer(handler, sys.stdin.fileno(), signals, complain, output).run()
        handler.close()
    return 0 if is_written and not (output and output.has_failed) else 1


def _read(texts: dict[str, Any]) -> dict[str, Any]:
    """The options of the handler in the texts of a command line."""
    options = {}
    for name, (_, text) in ENVIRONMENT.items():
        value = texts[name]
        if value is None:
            continue
        try:
            options[name] = value if text.is_flag else text.read(value)
        except ValueError:
            raise click.UsageError(f"--{name} {value!r} cannot be read; {text.remedy}") from None
    return options


def main(arguments: list[str]) -> None:
    """Run `rollsafe write` alone."""
    run_command(write, arguments, "rollsafe write")
